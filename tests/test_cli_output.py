"""What the command prints: objects, fewer lines, pictures, and where nothing can be printed."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import typing

import pytest

from commands import COMMAND, LONGEST, ROOT, interrupt, next_line, run, running
from http3_parallel.cli import command
from servers import Site

#: The command does not differ between Pythons; what starts it is in test_cli.
pytestmark = pytest.mark.once

KEYS = [
    "url",
    "method",
    "tag",
    "place",
    "ok",
    "skipped",
    "status",
    "reason",
    "final_url",
    "history",
    "headers",
    "elapsed",
    "timings",
    "size",
    "body",
    "body_encoding",
    "path",
    "error",
]


def objects(*arguments: str, given: str | None = None) -> list[dict[str, typing.Any]]:
    shown = [json.loads(line) for line in run("--jsonl", *arguments, given=given).lines]
    assert all(list(one) == KEYS for one in shown)
    return shown


def test_an_object_says_all_of_a_response(server: Site) -> None:
    page = server.answer("/page", "héllo", headers={"X-A": "1", "Set-Cookie": "a=b"})
    old = server.answer("/old", status=302, headers={"Location": "/page?to=there"})
    line = json.dumps({"url": old + "?key=value", "tag": [1, "a"], "method": "POST", "body": "x"})
    [shown] = objects("-", given=line)
    assert shown["url"] == old + "?key=value"
    assert (shown["method"], shown["tag"], shown["place"]) == (
        "POST",
        [1, "a"],
        "standard input, line 1",
    )
    assert (shown["status"], shown["reason"], shown["ok"]) == (200, "OK", True)
    assert shown["final_url"] == page + "?to=there"
    assert shown["history"] == [{"status": 302, "url": old + "?key=value"}]
    assert shown["headers"]["x-a"] == ["1"]
    assert shown["headers"]["set-cookie"] == ["a=b"]
    assert (shown["body"], shown["body_encoding"], shown["size"]) == ("héllo", "text", 6)
    assert 0 < shown["elapsed"] < 60
    assert list(shown["timings"]) == [
        "queued",
        "resolved",
        "connected",
        "tls",
        "sent",
        "first_byte",
        "done",
    ]
    assert shown["error"] is None


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (bytes(range(256)), "application/octet-stream"),
        (b"\xff", "text/plain"),
        (b"a\0b", "text/plain"),
        (b"\xff", "text/plain; charset=utf-8"),
        (b"\xff", "text/plain; charset=no-such"),
    ],
)
def test_a_body_that_is_no_text_is_in_base64(server: Site, body: bytes, content_type: str) -> None:
    url = server.answer("/page", body, headers={"Content-Type": content_type})
    [shown] = objects(url)
    assert shown["body_encoding"] == "base64"
    assert base64.b64decode(shown["body"]) == body


@pytest.mark.parametrize(
    ("body", "content_type", "text"),
    [
        (b"h\xe9llo", "text/plain; charset=iso-8859-1", "héllo"),
        (b"h\xc3\xa9llo\x1b[0m", "application/octet-stream", "héllo\x1b[0m"),
        (b"", "text/plain", ""),
    ],
)
def test_a_body_that_is_text_is_that(
    server: Site, body: bytes, content_type: str, text: str
) -> None:
    url = server.answer("/page", body, headers={"Content-Type": content_type})
    result = run("--jsonl", url)
    assert all(line.isascii() and line.isprintable() for line in result.lines)
    [shown] = map(json.loads, result.lines)
    assert (shown["body"], shown["body_encoding"]) == (text, "text")


def test_an_object_says_what_went_wrong(refused_url: str) -> None:
    refused, no_url, no_line = objects("-", given=f"{refused_url}\nno url\n{{}}\n")[:3]
    by_place = {one["place"][-1]: one for one in (refused, no_url, no_line)}
    assert by_place["1"]["error"]["type"] == "ConnectError"
    assert by_place["2"]["error"]["type"] == "InvalidURL"
    assert by_place["3"]["error"] == {"type": "BadLine", "message": '"url" is missing'}
    assert all(one["error"]["message"] and not one["ok"] for one in by_place.values())


def test_objects_have_whole_urls_but_no_passwords(server: Site) -> None:
    server.answer("/page")
    url = f"{server.url.replace('://', '://alice:hunter2@')}/page?a=b"
    given = f"{url}\nhttp://alice:hunter2@[bad/?a=b\n"
    result = run("--jsonl", "-", given=given)
    assert "hunter2" not in "".join(result.lines) + result.errors
    assert any(json.loads(line)["url"] == f"{server.url}/page?a=b" for line in result.lines)


def test_objects_may_be_without_bodies(server: Site) -> None:
    url = server.answer("/page", b"page")
    [shown] = objects("--no-body", url)
    assert (shown["body"], shown["body_encoding"], shown["size"]) == (None, None, 4)
    assert run("--no-body", url).status == 2


def test_the_summary_of_objects_is_on_standard_error(server: Site) -> None:
    url = server.answer("/page")
    result = run("--jsonl", url)
    assert len(result.lines) == 1
    assert result.errors.startswith("1 fetched, 0 failed, ")
    assert run("--jsonl", "-s", url).errors == ""


def test_objects_come_as_requests_complete_and_end_with_ctrl_c(server: Site) -> None:
    quick = server.answer("/quick")
    with running("--jsonl", quick, server.url + "/wait/slow") as process:
        assert json.loads(next_line(process))["url"] == quick
        assert server.wait_for_request("/wait/slow")
        result, seconds = interrupt(process)
    assert (result.status, result.lines) == (130, [])
    assert result.errors.startswith("interrupted after")
    assert len(result.errors.splitlines()) == 1
    assert seconds < 3


def test_quiet_shows_what_failed(server: Site) -> None:
    good, bad = server.answer("/good"), server.answer("/bad", status=404)
    for letter in ("-q", "-s", "--quiet", "--silent"):
        result = run(letter, good, bad)
        assert (result.status, result.errors) == (1, "")
        assert [line.rpartition("/")[2] for line in result.lines] == ["bad"]
    assert run("-q", good) == (0, [], "")


def test_tags_and_methods_are_in_lines(server: Site) -> None:
    url = server.answer("/page")
    lines = run("-X", "DELETE", "-", given=json.dumps({"url": url, "tag": "first"})).lines
    assert lines[0].endswith(f"  DELETE {url}  [first]")


def test_a_log_is_on_standard_error(server: Site) -> None:
    result = run("-v", server.answer("/page") + "?key=value")
    assert result.status == 0
    assert len(result.lines) == 2
    assert " ms  " in result.errors
    assert "value" not in result.errors


# The waterfall.


def test_the_waterfall_is_saved(server: Site, tmp_path: pathlib.Path) -> None:
    quick, hanging = server.answer("/quick"), server.url + "/wait/never"
    har = tmp_path / "a.har"
    assert run("--waterfall", str(har), quick).status == 0
    [entry] = json.loads(har.read_text("utf-8"))["log"]["entries"]
    assert entry["request"]["url"] == quick
    page = tmp_path / "a.html"
    assert run("--waterfall", str(page), quick).status == 0
    assert page.read_text("utf-8").startswith("<!DOCTYPE html>")
    text = tmp_path / "a.txt"
    with running("--waterfall", str(text), quick, hanging) as process:  # after Ctrl-C, too
        assert next_line(process).endswith("/quick")
        assert server.wait_for_request("/wait/never")
        assert interrupt(process)[0].status == 130
    assert re.search(r"^/wait/never +cancelled ", text.read_text("utf-8"), re.MULTILINE)


def test_a_waterfall_that_cannot_be_is_wrong_usage(server: Site, tmp_path: pathlib.Path) -> None:
    url = server.answer("/page")
    for file, message in (
        ("a.png", "ends neither in .html nor in .har"),
        ("missing/a.har", "there is no directory"),
    ):
        result = run("--waterfall", str(tmp_path / file), url)
        assert (result.status, result.lines) == (2, [])
        assert message in result.errors
    assert server.requests == []


# Where nothing can be printed.


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no full device")
@pytest.mark.parametrize("more", [[], ["--jsonl"]])
def test_a_full_disk_is_told_in_a_line(server: Site, more: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        process = subprocess.run(
            [*COMMAND, *more, server.answer("/page"), server.url + "/wait/never"],
            stdout=full,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": ROOT},
            text=True,
            timeout=LONGEST,
            check=False,
        )
    assert process.returncode == 1
    assert re.fullmatch(r"\S.*: the output cannot be written: .*No space left.*\n", process.stderr)


def test_ctrl_c_while_nobody_reads_the_output(server: Site, tmp_path: pathlib.Path) -> None:
    url = server.answer("/page", b"x" * 1000)
    path = tmp_path / "urls"
    path.write_text("\n".join([url + "?" + "x" * 1000 + "="] * 3000))
    with running("-i", str(path)) as process:
        # It has stopped when what it prints has filled the pipe.
        count = -1
        while count != (count := len(server.requests)) or not count:
            time.sleep(0.3)
        assert count < 3000
        assert press_until_it_ends(process) == 130
        assert server.wait_all_closed()


def press_until_it_ends(process: subprocess.Popen[str]) -> int:
    """Where the first Ctrl-C is stuck, the second helps. Returns the exit status."""
    for _ in range(100):
        os.killpg(process.pid, signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(0.3)
    raise AssertionError("it does not end")


def test_a_second_ctrl_c_ends_it_at_once() -> None:
    code = """
import time
from http3_parallel.cli.command import _Signals
with _Signals():
    try:
        print("ready", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        print("first", flush=True)
        time.sleep(60)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": ROOT},
        text=True,
        start_new_session=True,
    ) as process:
        assert next_line(process) == "ready"
        os.killpg(process.pid, signal.SIGINT)
        assert next_line(process) == "first"
        assert press_until_it_ends(process) == 130


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_is_ignored_stays_so(number: signal.Signals) -> None:
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with command._Signals():
            signal.raise_signal(number)
    finally:
        signal.signal(number, before)


def test_a_waterfall_has_the_tag_and_nothing_else_of_a_line(
    server: Site, tmp_path: pathlib.Path
) -> None:
    server.answer("/page", b"")
    url = server.url.replace("://", "://ada:secret-password-of-some-length@") + "/page"
    lines = [
        {"url": url, "tag": "mine"},
        {"url": url, "tag": {"n": 1}, "json": {"password": "hunter2"}},
        {"url": url, "headers": {"Authorization": "t0ken"}, "body": "b0dy"},
    ]
    for ending in ("har", "html", "txt"):
        path = tmp_path / f"waterfall.{ending}"
        given = "".join(json.dumps(line) + "\n" for line in lines)
        assert run("--waterfall", str(path), "-", given=given).status == 0
        text = path.read_text("utf-8")
        for secret in ("secret-pass", "hunter2", "t0ken", "b0dy", "Item("):
            assert secret not in text
    har = json.loads((tmp_path / "waterfall.har").read_text("utf-8"))
    tags = {entry.get("_tag") for entry in har["log"]["entries"]}
    assert tags == {"mine", '{"n": 1}', None}


@pytest.mark.parametrize(("limits", "ahead"), [((), 1), (("-m", "30"), 0)])
def test_time_for_each_request_is_not_spent_in_line(
    server: Site, limits: tuple[str, ...], ahead: int
) -> None:
    """As with curl's -m: what the command has read ahead would wait for its turn."""
    server.answer("/last", b"")
    with running("-c", "2", *limits, "-", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        lines = [f"{server.url}/wait/{n}" for n in range(2)]
        # A line that is bad is told as soon as it is read.
        process.stdin.write("\n".join([*lines, "no url", f"{server.url}/last"]) + "\n")
        process.stdin.flush()
        assert all(server.wait_for_request(f"/wait/{n}") for n in range(2))
        if ahead:
            assert next_line(process).startswith("ERR")
        server.release("0")
        line = next_line(process)
        assert line.startswith("200")
        assert line.endswith("/wait/0")
        server.release("1")
        process.communicate(timeout=LONGEST)


def test_what_curl_has_besides_is_taken(server: Site) -> None:
    page = server.answer("/page", b"")
    assert run("-fsSL", page).status == 0
    wrong = run("-o", "-", page)
    assert wrong.status == 2
    assert "-o is a folder here" in wrong.errors
