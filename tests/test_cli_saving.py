"""Bodies in a folder: names that stay in it, whole files, and going on where a run ended."""

from __future__ import annotations

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import typing

import hypothesis
import pytest
from hypothesis import strategies

from commands import LONGEST, ROOT, Terminal, end, interrupt, run, running
from http3_parallel import Request
from http3_parallel.cli.folder import Folder, file_name
from servers import Peer, RawServer, Site

#: The command does not differ between Pythons; what starts it is in test_cli.
pytestmark = pytest.mark.once

PART = re.compile(r"\.http3-parallel-[0-9a-f]{16}\.part")


def name(url: str, method: str = "GET", body: bytes | None = None, **more: typing.Any) -> str:
    return file_name(Request(method, url, data=body), more.get("headers"), more.get("tag"))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://example.com", "example.com"),
        ("https://example.com/", "example.com"),
        ("https://EXAMPLE.com:443/a/b-c.tar.gz", "example.com_a_b-c.tar.gz"),
        ("https://example.com/a/../b#x", "example.com_b"),
        ("http://example.com/a", "http+example.com_a"),
        ("https://example.com:8443/a", "example.com+8443_a"),
    ],
)
def test_a_plain_url_has_a_plain_name(url: str, expected: str) -> None:
    assert name(url) == expected


@pytest.mark.parametrize(
    ("url", "pattern"),
    [
        ("https://example.com/a?b=c", r"example.com_a_b_c~HASH"),
        ("https://example.com/a?", r"example.com_a~HASH"),
        ("https://example.com/a_b.html", r"example.com_a_b~HASH\.html"),
        ("https://example.com/A.PDF", r"example.com_A~HASH\.pdf"),
        ("https://example.com/a/", r"example.com_a~HASH"),
        ("https://example.com/a.", r"example.com_a~HASH"),
        ("https://example.com/%2e%2e/%2Fetc%2Fpasswd", r"example.com_etc_passwd~HASH"),
        ("https://con/", r"_con~HASH"),
        ("https://nul.example.com/x.txt", r"_nul.example.com_x~HASH\.txt"),
        ("https://[::1]/", r"1~HASH"),
        ("https://example.com/" + "x" * 5000 + ".html", r"example.com_x{108}~HASH\.html"),
    ],
)
def test_any_other_has_a_hash(url: str, pattern: str) -> None:
    assert re.fullmatch(pattern.replace("HASH", "[0-9a-f]{16}"), name(url))


def test_different_requests_have_different_names() -> None:
    url = "https://example.com/a"
    names = [
        name(url),
        name(url + "/"),
        name(url + "?"),
        name("http://example.com/a"),
        name("https://example.com:8443/a"),
        name("https://example.com/A"),
        name("https://example.com/a?b"),
        name("https://example.com/a?B"),
        name(url, "POST"),
        name(url, "POST", b"1"),
        name(url, "POST", b"2"),
        name(url, "HEAD"),
        name(url, headers=[("Accept", "text/html")]),
        name(url, headers=[("Accept", "image/png")]),
        name(url, tag=1),
        name(url, tag="1"),
        name("https://example.com/a_b"),
        name("https://example.com/a/b"),
    ]
    assert len({one.lower() for one in names}) == len(names)
    assert name(url, tag={"a": 1, "b": 2}) == name(url, tag={"b": 2, "a": 1})


@hypothesis.given(
    strategies.sampled_from(["http", "https"]),
    strategies.text(max_size=300),
    strategies.text(max_size=30),
)
def test_no_name_leads_out_of_the_folder(scheme: str, path: str, query: str) -> None:
    try:
        made = name(f"{scheme}://example.com/{path}?{query}")
    except ValueError:
        hypothesis.reject()
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._+~-]*", made)
    assert len(made) <= 150
    assert not made.endswith(".")
    assert made == name(f"{scheme}://example.com/{path}?{query}")


@hypothesis.given(strategies.lists(strategies.sampled_from("aA/._-~+%?b1"), max_size=8))
def test_names_differ_as_urls_do(characters: list[str]) -> None:
    """Whatever is in a path, that of another is not its name, also without regard to case."""
    path = "".join(characters)
    try:
        request = Request("GET", f"https://h/{path}")
    except ValueError:
        return
    made = file_name(request, None, None)
    known = SEEN.setdefault(made.lower(), request.url.full_path)
    assert known == request.url.full_path


SEEN: dict[str, str] = {}


# Saving.


def test_bodies_are_saved(server: Site, tmp_path: pathlib.Path) -> None:
    page = server.answer("/page", b"page" * 100_000)
    other = server.answer("/other", b"")
    old = server.answer("/old", status=302, headers={"Location": "/page"})
    folder = tmp_path / "new" / "folder"
    status, lines, errors = run("-o", str(folder), page, other, old)
    assert (status, errors) == (0, "")
    host = f"http+127.0.0.1+{server.port}"
    contents = {path.name: path.read_bytes() for path in folder.iterdir()}
    body = b"page" * 100_000
    assert contents == {f"{host}_page": body, f"{host}_other": b"", f"{host}_old": body}
    assert any(line.endswith(f"{page}  in {folder / host}_page") for line in lines)
    assert any(re.match("200 +400000 B", line) for line in lines)
    assert lines[-1].startswith("3 fetched, 0 failed, 800000 bytes in")


def test_what_failed_is_not_saved(server: Site, tmp_path: pathlib.Path) -> None:
    def cut_off(peer: Peer) -> None:
        if peer.read_request() is not None:
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx")

    missing = server.answer("/missing", b"not here", status=404)
    broken = server.answer("/broken", b"x" * 200_000, status=500)
    with RawServer(cut_off) as other:
        result = run("-o", str(tmp_path), missing, broken, other.url + "/cut")
        assert result.status == 1
    assert list(tmp_path.iterdir()) == []
    assert any("  IncompleteRead: " in line for line in result.lines)
    # The body of an error is in the object instead.
    result = run("-o", str(tmp_path), "--jsonl", missing)
    [shown] = map(json.loads, result.lines)
    assert (shown["body"], shown["path"], shown["ok"]) == ("not here", None, False)
    assert list(tmp_path.iterdir()) == []


def test_a_link_in_the_folder_is_not_followed(server: Site, tmp_path: pathlib.Path) -> None:
    page = server.answer("/page", b"page")
    folder, outside = tmp_path / "folder", tmp_path / "outside"
    folder.mkdir()
    outside.write_text("mine")
    link = folder / name(page)
    link.symlink_to(outside)
    # It is nothing that is complete, either.
    assert run("-o", str(folder), "--resume", page).status == 0
    assert outside.read_text() == "mine"
    assert not link.is_symlink()
    assert link.read_bytes() == b"page"


def test_a_folder_in_the_way_is_a_failure_of_that_one(server: Site, tmp_path: pathlib.Path) -> None:
    page, other = server.answer("/page", b"page"), server.answer("/other", b"other")
    (tmp_path / name(page)).mkdir()
    result = run("-o", str(tmp_path), page, other)
    assert result.status == 1
    assert any(
        f"IsADirectoryError: Is a directory: {tmp_path / name(page)}" in line
        for line in result.lines
    )
    assert (tmp_path / name(other)).read_bytes() == b"other"
    assert not [path for path in tmp_path.iterdir() if PART.fullmatch(path.name)]


def test_what_a_run_cannot_save_in_is_wrong_usage(server: Site, tmp_path: pathlib.Path) -> None:
    page = server.answer("/page")
    file = tmp_path / "file"
    file.write_text("mine")
    for arguments, message in (
        (["-o", str(file)], "it is a file, and must be a folder"),
        (["-o", str(file / "folder")], "Not a directory"),
        (["-o", ""], "-o needs a folder"),
        (["--resume"], "--resume needs -o DIR"),
        (["-I", "-o", str(tmp_path)], "-I asks for none"),
    ):
        result = run(*arguments, page)
        assert (result.status, result.lines) == (2, [])
        assert message in result.errors
    assert server.requests == []


# Going on.


def test_resuming_passes_over_what_is_complete(server: Site, tmp_path: pathlib.Path) -> None:
    first, second = server.answer("/first", b"first"), server.answer("/second", status=503)
    assert run("-o", str(tmp_path), first, second).status == 1
    server.answer("/second", b"second")
    status, lines, _ = run("-o", str(tmp_path), "--resume", second, first)
    assert status == 0
    assert len(lines) == 2
    assert lines[-1].startswith("1 skipped, 1 fetched, 0 failed, 6 bytes in")
    assert len(server.requests_for("/first")) == 1
    assert len(server.requests_for("/second")) == 2
    # Without it, all of it is fetched again.
    assert run("-o", str(tmp_path), second, first).lines[-1].startswith("2 fetched")
    status, lines, _ = run("-o", str(tmp_path), "--resume", "--jsonl", second, first)
    shown = [json.loads(line) for line in lines]
    assert [one["skipped"] for one in shown] == [True, True]
    assert all(pathlib.Path(one["path"]).exists() for one in shown)


def begin_then_hang(peer: Peer) -> None:
    """Half of a body. Its path says how much."""
    if peer.read_request() is not None:
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + b"x" * 100_000)
        peer.wait_closed()


def wait_for_part(folder: pathlib.Path, process: subprocess.Popen[str]) -> pathlib.Path:
    end = time.monotonic() + 20
    while time.monotonic() < end and process.poll() is None:
        for path in folder.iterdir():
            if PART.fullmatch(path.name):
                return path
        time.sleep(0.01)
    raise AssertionError("no temporary file")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_was_ended_can_be_gone_on_with(
    number: signal.Signals, server: Site, tmp_path: pathlib.Path
) -> None:
    page = server.answer("/page", b"page")
    with RawServer(begin_then_hang) as hanging:
        half = hanging.url + "/half"
        with running("--timeout", "60", "-o", str(tmp_path), page, half) as process:
            assert process.stdout is not None
            assert process.stdout.readline().endswith(f"in {tmp_path / name(page)}\n")
            part = wait_for_part(tmp_path, process)
            began = time.monotonic()
            os.killpg(process.pid, number)
            result = end(process)
            assert time.monotonic() - began < 3
            assert hanging.wait_all_closed()
    if number == signal.SIGKILL:
        assert result.status == -signal.SIGKILL
        assert {path.name for path in tmp_path.iterdir()} == {name(page), part.name}
        an_hour_ago = time.time() - 3600
        os.utime(part, (an_hour_ago, an_hour_ago))
    else:
        assert result.status == 128 + number
        assert result.errors == ""
        word = "interrupted" if number == signal.SIGINT else "terminated"
        assert re.fullmatch(
            rf"{word} after .* s: 1 fetched, 0 failed, 4 bytes; the rest was cancelled",
            result.lines[-1],
        )
        assert [path.name for path in tmp_path.iterdir()] == [name(page)]

    now = server.answer("/half", b"whole")
    status, lines, _ = run("-o", str(tmp_path), "--resume", page, now)
    assert status == 0
    assert lines[-1].startswith("1 skipped, 1 fetched")
    assert {path.name for path in tmp_path.iterdir()} == {name(page), name(now)}


def test_what_a_living_run_writes_is_left_alone(server: Site, tmp_path: pathlib.Path) -> None:
    with RawServer(begin_then_hang) as hanging:
        with running("--timeout", "60", "-o", str(tmp_path), hanging.url + "/half") as process:
            part = wait_for_part(tmp_path, process)
            an_hour_ago = time.time() - 3600
            os.utime(part, (an_hour_ago, an_hour_ago))
            Folder(tmp_path).remove_remains()
            assert part.exists()
            interrupt(process)
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_on_a_terminal_while_saving(tmp_path: pathlib.Path) -> None:
    with RawServer(begin_then_hang) as hanging:
        url = hanging.url + "/half"
        with Terminal("--timeout", "60", "-o", str(tmp_path), url) as terminal:
            assert terminal.wait_for("0 done   0 failed   1 in flight")
            terminal.press(b"\x03")
            assert terminal.wait() == 130
    assert not terminal.screen.cursor.hidden
    assert "Traceback" not in terminal.text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="how much memory is not told")
def test_bodies_are_not_held_in_memory(tmp_path: pathlib.Path) -> None:
    size = 200 * 1024 * 1024

    def large(peer: Peer) -> None:
        if peer.read_request() is not None:
            peer.send(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode())
            for _ in range(size // 2**20):
                peer.send(bytes(2**20))

    with RawServer(large) as server:
        code = (
            "import sys; from http3_parallel.cli import main; status = main();"
            "print(*[l for l in open('/proc/self/status') if l.startswith('VmHWM:')]);"
            "sys.exit(status)"
        )
        process = subprocess.run(
            [sys.executable, "-c", code, "-o", str(tmp_path), server.url + "/large"],
            env={**os.environ, "PYTHONPATH": ROOT},
            capture_output=True,
            text=True,
            timeout=LONGEST,
            check=True,
        )
    assert (tmp_path / name(server.url + "/large")).stat().st_size == size
    assert int(process.stdout.split()[-2]) < 100 * 1024  # kB
