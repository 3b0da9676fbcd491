"""A process ends within a second, whatever is open, with the status it wanted to end with."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import time
import typing

import pytest

from servers import PATIENCE, RawServer, hang_before_response, lengthless_body_then_hang

TESTS = pathlib.Path(__file__).parent
PROGRAM = TESTS / "programs" / "ending.py"
ENVIRONMENT = {"PYTHONPATH": f"{TESTS.parent}:{TESTS}", "PATH": ""}

#: Seconds. What is promised is one; the machine may be busy with other tests.
AT_ONCE = 3.0


class Ended(typing.NamedTuple):
    status: int
    output: str
    errors: str
    seconds: float


def run(*arguments: str) -> Ended:
    with subprocess.Popen(
        [sys.executable, str(PROGRAM), *arguments],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        started = time.monotonic()
        try:
            output, errors = process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        seconds = time.monotonic() - started
    assert first == "open\n", errors
    return Ended(process.returncode, output, errors, seconds)


@pytest.fixture
def hanging() -> typing.Iterator[RawServer]:
    with RawServer(hang_before_response) as server:
        yield server


@pytest.mark.parametrize("work", ["queued", "daemon", "resolver", "own"])
@pytest.mark.parametrize(("way", "status"), [("end", 0), ("exit3", 3), ("fallback", 0)])
def test_with_requests_that_never_end(way, status, work):
    ended = run(way, work)
    assert (ended.status, ended.output, ended.errors) == (status, "", "")
    assert ended.seconds < AT_ONCE


@pytest.mark.parametrize(("way", "status"), [("end", 0), ("exit3", 3), ("fallback", 0)])
def test_with_servers_that_hang(way, status, hanging):
    ended = run(way, "hanging", hanging.url)
    assert (ended.status, ended.output, ended.errors) == (status, "", "")
    assert ended.seconds < AT_ONCE
    # The system has accepted them all; the server may not have come to it yet.
    assert hanging.wait_until(lambda: len(hanging.connections) == 30)
    assert hanging.wait_all_closed()


@pytest.mark.parametrize(("way", "status"), [("end", 0), ("exit3", 3), ("fallback", 0)])
def test_with_streams_that_nobody_reads(way, status):
    with RawServer(lengthless_body_then_hang) as server:
        ended = run(way, "streams", server.url)
        assert (ended.status, ended.output, ended.errors) == (status, "", "")
        assert ended.seconds < AT_ONCE
        assert server.wait_all_closed()


@pytest.mark.parametrize("work", ["queued", "own"])
def test_an_exception_that_nobody_catches_is_all_that_is_said(work):
    ended = run("raise", work)
    assert ended.status == 1
    assert ended.errors.endswith("\nValueError: nobody catches this\n")
    assert ended.errors.count("Traceback") == 1
    assert ended.seconds < AT_ONCE


@pytest.mark.parametrize("way", ["atexit", "atexit fallback"])
def test_a_client_used_by_an_atexit_handler_works_or_says_why_not(way, server):
    server.answer("/plain", b"plain")
    server.answer("/block", b"block")
    ended = run(way, "none", server.url)
    assert (ended.status, ended.errors) == (0, "")
    lines = ended.output.splitlines()
    assert lines[0] == "plain 200"
    assert [line.split()[0] for line in lines[1:]] == ["new", "old"]
    assert all(line.split()[1] in ("200", "unavailable") for line in lines[1:])
    assert ended.seconds < PATIENCE
