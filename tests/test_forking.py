"""Forks: each process has its own answers, and leaves the other's connections alone."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import typing

import pytest

import http3_parallel as http3
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
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_the_parents_idle_connection_outlives_what_the_child_does(echo):
    with http3.Client() as client:
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
