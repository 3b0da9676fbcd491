"""``python -m http3_parallel URL...``, as a person runs it."""

from __future__ import annotations

import io
import os
import pathlib
import re
import select
import signal
import subprocess
import sys

import pytest

import http3_parallel
from commands import end, interrupt, next_line, running
from commands import run_apart as run
from http3_parallel import cli
from http3_parallel.cli import command
from servers import Peer, RawServer, Site, hang_before_response


def test_a_line_for_each_and_a_summary(server: Site) -> None:
    page = server.answer("/page", b"x" * 1234)
    status, lines, errors = run(page)
    assert (status, errors) == (0, "")
    assert re.fullmatch(rf"200 +1234 B +\d+\.\d{{3}} s  {re.escape(page)}", lines[0])
    assert re.fullmatch(r"1 fetched, 0 failed, 1234 bytes in \d+\.\d\d s", lines[1])
    assert len(lines) == 2


def test_lines_come_as_requests_complete(server: Site) -> None:
    quick = server.answer("/quick", b"quick")
    with running(server.url + "/wait/slow", quick) as process:
        assert next_line(process).endswith(quick)
        server.release("slow")
        assert next_line(process).endswith("/wait/slow")
        assert end(process).status == 0


@pytest.mark.parametrize("code", [404, 500])
def test_an_error_status_counts_as_failed(server: Site, code: int) -> None:
    good, bad = server.answer("/good"), server.answer("/bad", status=code)
    status, lines, _ = run(good, bad)
    assert status == 1
    assert any(line.startswith(str(code)) and line.endswith(bad) for line in lines)
    assert lines[-1].startswith("1 fetched, 1 failed, ")


def test_a_failure_is_told_by_name_and_message() -> None:
    def cut_off(peer: Peer) -> None:
        if peer.read_request() is not None:
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx")

    with RawServer(cut_off) as server:
        url = server.url + "/page"
        status, lines, errors = run(url, "-", given="no-url\n")
    assert (status, errors) == (1, "")
    by_url = {line.split()[3]: line for line in lines[:2]}
    assert by_url[url].startswith("ERR ")
    assert re.search(r"  IncompleteRead: .+", by_url[url])
    assert re.search(r"  InvalidURL: .+", by_url["no-url"])
    assert lines[2].startswith("0 fetched, 2 failed, 0 bytes")


def test_a_redirect_shows_the_way(server: Site) -> None:
    target = server.answer("/new")
    old = server.answer("/old", status=302, headers={"Location": "/new"})
    assert run(old).lines[0].endswith(f"{old} -> {target}")


def test_timeouts_and_deadlines_are_failures() -> None:
    with RawServer(hang_before_response) as server:
        assert "  ReadTimeout: " in run("--timeout", "0.1", server.url).lines[0]
        status, lines, _ = run("--deadline", "0.1", server.url)
        assert "  DeadlineExceeded: " in lines[0]
        assert status == 1


def test_per_host_leaves_a_host_alone_but_not_the_others(server: Site) -> None:
    with Site() as other:
        slow, later = server.url + "/wait/slow", server.answer("/later")
        with running("--per-host", "1", slow, later, other.answer("/other")) as process:
            assert next_line(process).endswith("/other")
            assert server.wait_for_request("/wait/slow")
            assert server.requests_for("/later") == []
            server.release("slow")
            assert end(process).status == 0


def test_concurrency_is_a_limit(server: Site) -> None:
    with running("-c", "1", server.url + "/wait/first", server.answer("/second")) as process:
        assert server.wait_for_request("/wait/first")
        assert server.requests_for("/second") == []
        server.release("first")
        assert next_line(process).endswith("/wait/first")
        assert end(process).status == 0


# What is not shown.

SECRETS = ("hunter2", "s3cret", "alice")


def test_credentials_and_values_are_not_shown(server: Site) -> None:
    server.answer("/page")
    server.answer("/old", status=302, headers={"Location": "/page?key=s3cret"})
    with_user = server.url.replace("://", "://alice:hunter2@")
    urls = [
        f"{with_user}/page?key=s3cret",
        f"{with_user}/old?key=s3cret",
        f"{with_user}/missing?s3cret#s3cret",
        "http://alice:hunter2@127.0.0.1:1/?key=s3cret",
        "http://alice:hunter2@[bad/?key=s3cret#s3cret",
        "http://alice:hunt/er2@[bad/",
        "ftp://alice:hunter2@host/?key=s3cret",
        "alice:hunter2@host/?key=s3cret",
        "//alice:hunter2@host",
    ]
    status, lines, errors = run("-", given="\n".join(urls))
    for url in urls[4:]:  # what is no URL at all is refused as an argument
        refused = run(url)
        assert refused.status == 2
        errors += refused.errors
    output = "\n".join(lines) + errors
    assert status == 1
    assert "/page?key=…" in output
    assert [secret for secret in (*SECRETS, "hunt", "er2") if secret in output] == []


def test_a_url_cannot_command_the_terminal_nor_break_the_line() -> None:
    status, lines, errors = run("-", given="http://a\x1b[31mb/\nhttp://\x07\udcff\r\n")
    assert status == 1
    assert len(lines) == 3
    assert all(line.isprintable() for line in lines)
    assert errors == ""
    status, lines, errors = run("http://a\x1b[31m\nb/")
    assert (status, lines) == (2, [])
    assert errors[:-1].isprintable()


def test_output_that_cannot_be_encoded_is_escaped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    output = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(output, encoding="ascii"))
    urls = tmp_path / "urls.txt"
    urls.write_text("http://[é?x=y", encoding="utf-8")
    assert cli.main(["-i", str(urls)]) == 1
    assert b"?\\u2026" in output.getvalue()


# Standard input.


def test_urls_come_from_standard_input_too(server: Site) -> None:
    urls = [server.answer(f"/{number}") for number in range(4)]
    status, lines, errors = run(urls[0], "-", urls[3], given=f"{urls[1]}\n\n  {urls[2]}\r\n")
    assert (status, errors) == (0, "")
    assert sorted(line.split()[-1] for line in lines[:-1]) == urls


def test_empty_input_is_no_failure() -> None:
    status, lines, _ = run("-", given="")
    assert status == 0
    assert lines[0].startswith("0 fetched, 0 failed")


def test_input_is_read_as_it_comes(server: Site) -> None:
    url = server.answer("/page", b"page")
    with running("-c", "1", "-", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(f"{url}\n" * 3)
        process.stdin.flush()
        assert next_line(process).endswith(url)
        process.stdin.write(f"{url}\n" * 3)
        process.stdin.close()
        result = end(process)
    assert result.status == 0
    assert result.lines[-1].startswith("6 fetched")


def test_what_has_finished_is_printed_while_input_has_nothing_to_say(server: Site) -> None:
    slow, quick = server.url + "/wait/slow", server.answer("/quick")
    with running("-", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(f"{slow}\n{quick}\n")
        process.stdin.flush()
        assert next_line(process).endswith("/quick")
        server.release("slow")
        assert next_line(process).endswith("/wait/slow")
        process.stdin.write("{\n")  # a bad line, too
        process.stdin.flush()
        assert process.stderr is not None
        assert "standard input, line 3: not JSON" in process.stderr.readline()
        process.stdin.close()
        assert end(process).status == 1


def test_input_is_not_read_ahead(server: Site) -> None:
    """As long as nothing of what was read is through, the writer of a pipe is made to wait."""
    url = server.url + "/wait/page"
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    # Of which no more than 64 KiB are read, and 64 KiB are in the pipe.
    line = f"{url}#{'x' * 1000}\n".encode()
    with running("-c", "2", "-", stdin=reader) as process:
        os.close(reader)
        written = 0
        while True:
            try:
                written += os.write(writer, line)
            except BlockingIOError:
                if server.wait_for_requests(2) and not writable(writer):
                    break
        assert written < 400 * len(line)
        assert len(server.requests) == 2
        os.set_blocking(writer, True)
        os.close(writer)
        server.release("page")
        result = end(process)
    # So short a write is done whole or not at all.
    assert result.lines[-1].startswith(f"{written // len(line)} fetched, 0 failed")


def writable(descriptor: int) -> bool:
    """Within half a second."""
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return bool(poll.poll(500))


# Ends that come early.


def test_ctrl_c_cancels_and_sums_up(server: Site) -> None:
    quick = server.answer("/quick", b"quick")
    hanging = [f"{server.url}/wait/{number}" for number in range(20)]
    with running(quick, *hanging) as process:
        assert next_line(process).endswith(quick)
        assert server.wait_for_requests(21)
        result, seconds = interrupt(process)
        assert server.wait_all_closed()
    assert result.status == 130
    assert result.errors == ""
    assert len(result.lines) == 1
    assert re.fullmatch(
        r"interrupted after .* s: 1 fetched, 0 failed, 5 bytes; the rest was cancelled",
        result.lines[0],
    )
    assert seconds < 3


def test_ctrl_c_while_input_is_awaited(server: Site) -> None:
    url = server.answer("/page")
    with running("-c", "1", "-", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(f"{url}\n" * 2)
        process.stdin.flush()
        assert next_line(process).endswith(url)
        os.killpg(process.pid, signal.SIGINT)
        result = end(process)
    assert (result.status, result.errors) == (130, "")
    assert result.lines[-1].startswith("interrupted after")


def test_a_closed_pipe_ends_it_quietly(server: Site) -> None:
    quick = server.answer("/quick")
    with running(quick, server.url + "/wait/next", server.url + "/wait/never") as process:
        assert next_line(process).endswith(quick)
        assert process.stdout is not None
        process.stdout.close()
        server.release("next")
        result = end(process)
        assert server.wait_all_closed()
    assert (result.status, result.errors) == (141, "")


# Usage.


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--unknown", "http://host/"],
        ["-c", "0", "http://host/"],
        ["-c", "many", "http://host/"],
        ["--per-host", "-1", "http://host/"],
        ["--timeout", "0", "http://host/"],
        ["--timeout", "soon", "http://host/"],
        ["--deadline", "nan", "http://host/"],
        ["demo", "--unknown"],
    ],
)
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert len(errors.splitlines()[-1:]) == 1
    assert re.search(r"^\S.*: .+ \(see --help\)$", errors.splitlines()[-1])


def test_wrong_usage_of_the_real_command() -> None:
    status, lines, errors = run()
    assert (status, lines) == (2, [])
    assert errors.startswith("usage: python -m http3_parallel [options] URL...")


def test_the_version_is_told() -> None:
    assert run("--version") == (0, [f"http3-parallel {http3_parallel.__version__}"], "")


def test_the_help_fits_a_terminal() -> None:
    status, lines, _ = run("--help")
    assert status == 0
    assert max(map(len, lines)) <= 80
    assert any("--concurrency" in line for line in lines)


def test_interrupted_before_anything_was_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "run_demo", interrupted)
    assert cli.main(["demo"]) == 130
