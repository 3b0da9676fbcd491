"""Forks: each process has its own answers, and leaves the other's connections alone."""

from __future__ import annotations

import contextlib
import gc
import os
import pathlib
import signal
import ssl
import subprocess
import sys
import threading
import time
import typing

import pytest
from urllib3.util.wait import wait_for_read

import http3_parallel as http3
from holding import held_by_another_thread
from scripted import PATIENCE, ScriptedDispatch
from servers import Gate, Peer, RawServer, response_bytes

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork"),
    # Python 3.12 warns of any fork in a process with threads. That is what is tested.
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]

TESTS = pathlib.Path(__file__).parent
PROGRAM = TESTS / "programs" / "forking.py"
ENVIRONMENT = {"PYTHONPATH": f"{TESTS.parent}:{TESTS}", "PATH": ""}


class EchoServer(RawServer):
    """
    Answers with the path: ``/hang/...`` once ``/release`` was asked for, ``/arrived`` once eight
    of those hang.
    """

    def __init__(self) -> None:
        super().__init__(self._answer)
        self._gate = Gate()

    def _answer(self, peer: Peer) -> None:
        while (request := peer.read_request()) is not None:
            if request.target == "/release":
                self._gate.open()
            if request.target == "/arrived":
                assert self.wait_until(lambda: self._hanging() >= 8)
            if request.target.startswith("/hang/") and not peer.wait_gate(self._gate):
                return
            peer.send(response_bytes(body=request.target.encode()))

    def _hanging(self) -> int:
        return sum(request.target.startswith("/hang/") for request in self.requests)


@pytest.fixture
def echo() -> typing.Iterator[EchoServer]:
    with EchoServer() as server:
        yield server
    server._gate.close()


@pytest.mark.parametrize("where", ["outside", "inside"])
@pytest.mark.parametrize("way", ["os", "exit", "libc"])
def test_each_process_gets_its_own_answers(way, where, echo):
    run_program(way, where, echo.url)
    assert echo.wait_all_closed()


def test_multiprocessing_forks_with_a_warm_client(echo):
    run_program("multiprocessing", "outside", echo.url)


def run_program(*arguments: str) -> None:
    program = subprocess.run(
        [sys.executable, str(PROGRAM), *arguments],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (program.returncode, program.stdout, program.stderr) == (0, "", "")


def in_child(work: typing.Callable[[], object]) -> int:
    """The status of a child that did `work` and ended without cleaning up."""
    child = os.fork()
    if child == 0:
        signal.alarm(int(2 * PATIENCE))  # rather than to hang
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class Wrapping(http3.Dispatcher):
    """A user's own, around the network."""

    abortable = True

    def __init__(self) -> None:
        self._network = http3.NetworkDispatch()

    def send(self, request: http3.Request, context: http3.Context) -> http3.Response:
        return self._network.send(request, context)

    def close(self) -> None:
        self._network.close()


@pytest.mark.parametrize("dispatch", [None, http3.NetworkDispatch, Wrapping])
def test_the_parents_idle_connection_outlives_what_the_child_does(echo, dispatch):
    with contextlib.ExitStack() as stack:
        dispatcher = dispatch and dispatch()
        if dispatcher is not None:
            stack.callback(dispatcher.close)
        client = stack.enter_context(http3.Client(dispatch=dispatcher))
        assert client.get(f"{echo.url}/1").text == "/1"

        def work() -> None:
            assert client.get(f"{echo.url}/child").text == "/child"
            client.close()

        assert in_child(work) == 0
        assert client.get(f"{echo.url}/2").text == "/2"
    parents, childs = echo.connections
    assert [request.target for request in parents.requests] == ["/1", "/2"]
    assert [request.target for request in childs.requests] == ["/child"]


@pytest.mark.parametrize("leave", ["with", "close", "cancel", "drop"])
def test_leaving_the_block_in_the_child_does_nothing_to_the_parents(leave):
    dispatch = ScriptedDispatch()
    with http3.Client(dispatch=dispatch, max_workers=2) as client:
        parallel = client.parallel()
        handles = [parallel.get(f"http://example.com/{number}") for number in range(4)]
        exchange = dispatch.wait_for_arrivals(2)[0]

        def work() -> None:
            nonlocal parallel, handles
            if leave == "with":
                with parallel:
                    pass
            elif leave == "close":
                parallel.close()
            elif leave == "cancel":
                parallel.cancel()
            else:
                del parallel, handles

        assert in_child(work) == 0
        assert not exchange.ended.is_set()
        for number in range(4):
            dispatch.exchange(f"/{number}").respond(content=b"answer")
        for handle in handles:
            assert handle.get_response(PATIENCE).text == "answer"
        parallel.close()


def test_what_finished_before_the_fork_can_be_had_in_the_child():
    dispatch = ScriptedDispatch()
    with http3.Client(dispatch=dispatch) as client, client.parallel() as parallel:
        pending = parallel.get("http://example.com/a")
        dispatch.exchange("/a").respond(content=b"a")
        assert pending.get_response(PATIENCE).text == "a"

        def work() -> None:
            assert pending.get_response().text == "a"

        assert in_child(work) == 0


def test_a_block_of_the_parent_says_whose_it_is():
    with http3.Client(dispatch=ScriptedDispatch()) as client, client.parallel() as parallel:
        pending = parallel.get("http://example.com/a")

        def work() -> None:
            for use in (parallel.next_response, pending.get_response):
                with pytest.raises(http3.ParallelClosed, match="forked"):
                    use()
            assert not parallel.has_pending_responses

        assert in_child(work) == 0
        assert not pending.done()


class HalfServer(RawServer):
    """Answers with a body of ten bytes: five at once, and five when it is told to."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(self._answer, tls=tls)
        self.gate = Gate()

    def _answer(self, peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")
        if peer.wait_gate(self.gate):
            peer.send(b"67890")
            peer.wait_closed()


@pytest.fixture(params=["plain", "tls"])
def half(request: pytest.FixtureRequest) -> typing.Iterator[HalfServer]:
    tls = request.getfixturevalue("server_tls") if request.param == "tls" else None
    with HalfServer(tls) as server:
        yield server
    server.gate.close()


@pytest.mark.parametrize("leave", ["close", "with", "drop", "read"])
@pytest.mark.parametrize("timeout", [PATIENCE, None])
def test_the_parent_reads_on_whatever_the_child_does_to_its_stream(leave, timeout, half, ca_path):
    with http3.Client(verify=ca_path, timeout=timeout) as client:
        response = client.get(half.url, stream=True)
        pieces = response.raw()
        assert next(pieces) == b"12345"

        def work() -> None:
            nonlocal response, pieces
            if leave == "close":
                response.close()
            elif leave == "with":
                with response:
                    pass
            elif leave == "read":
                with pytest.raises(http3.ResponseClosed, match="forked"):
                    next(pieces)
            else:
                # The rest is there: none of it may be taken away.
                half.gate.open()
                assert wait_for_read(response._stream._content._reader.sock, PATIENCE)
                del response, pieces
                gc.collect()

        with held_by_another_thread(*locks_of(response)):
            assert in_child(work) == 0
        half.gate.open()
        assert b"".join(pieces) == b"67890"


def test_a_child_closes_a_stream_that_a_thread_of_the_parent_reads(half, ca_path):
    with http3.Client(verify=ca_path, timeout=PATIENCE) as client:
        response = client.get(half.url, stream=True)
        pieces = response.raw()
        assert next(pieces) == b"12345"
        rest: list[bytes] = []
        reader = threading.Thread(target=lambda: rest.extend(pieces))
        reader.start()
        wait_until(response._stream._content._lock.locked)
        assert in_child(response.close) == 0
        half.gate.open()
        reader.join(PATIENCE)
        assert rest == [b"67890"]


def wait_until(condition: typing.Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def locks_of(response: http3.Response) -> list[typing.Any]:
    """What a thread of the parent may be in just as it forks."""
    stream: typing.Any = response._stream
    body = stream._content
    lease = body._lease
    return [body._abort._lock, lease._pool._lock, lease.connection.wake._lock]
