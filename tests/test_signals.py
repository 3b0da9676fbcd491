"""
Signals, at any instant: what comes out, what is left behind, and whether one can go on.

Two ways of looking for the worst instant: real signals at random ones (`programs/interrupted.py`);
and, one after the other, all there are: Python runs signal handlers where a function is entered
and where a call of a C function returns, and a profiling function is called at the same places.
"""

from __future__ import annotations

import contextlib
import pathlib
import subprocess
import sys
import threading
import time
import types
import typing

import pytest

import http3_parallel as http3
from scripted import PATIENCE, InstantDispatch
from servers import Peer, RawServer, response_bytes

pytestmark = pytest.mark.slow

URL = "http://example.com"
TESTS = pathlib.Path(__file__).parent
PROGRAM = TESTS / "programs" / "interrupted.py"
ENVIRONMENT = {"PYTHONPATH": f"{TESTS.parent}:{TESTS}", "PATH": ""}

LIBRARY = str(pathlib.Path(http3.__file__).parent)

#: What is waited for takes a millisecond; a request that was lost is never there.
SOON = 2.0


# Real signals.


def run_program(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(PROGRAM), *map(str, arguments)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.parametrize(
    "scenario",
    [
        "submit",
        "next_response",
        "hanging",
        "get_response",
        "as_completed",
        "map",
        "cancel",
        "leave",
    ],
)
def test_interrupted_at_random_instants(scenario):
    program = run_program("sigint", scenario, 60, len(scenario))
    assert (program.returncode, program.stdout, program.stderr) == (0, "", "")


@pytest.mark.parametrize("scenario", ["next_response", "get_response", "leave"])
def test_system_exit_from_a_signal_handler_at_random_instants(scenario):
    program = run_program("sigalrm", scenario, 60, 7)
    assert (program.returncode, program.stdout, program.stderr) == (0, "", "")


def test_a_signal_handler_may_cancel_at_random_instants():
    program = run_program("cancel", "any", 300, 11)
    assert (program.returncode, program.stdout, program.stderr) == (0, "", "")


def answer_all_but_hanging(peer: Peer) -> None:
    while (request := peer.read_request()) is not None:
        if "hang" in request.target:
            peer.wait_closed()
            return
        peer.send(response_bytes(body=request.target.encode()))


@pytest.mark.parametrize("scenario", ["next_response", "leave", "plain"])
def test_interrupted_on_real_connections(scenario):
    with RawServer(answer_all_but_hanging) as server:
        program = run_program("sigint", scenario, 40, 3, server.url)
        assert (program.returncode, program.stdout, program.stderr) == (0, "", "")
        assert server.wait_all_closed()


@pytest.mark.parametrize("scenario", ["open", "hanging"])
def test_an_interrupt_that_nobody_catches_ends_the_process_at_once(scenario):
    started = time.monotonic()
    program = run_program("uncaught", scenario)
    assert time.monotonic() - started < 3
    assert program.stdout == ""
    assert program.stderr.endswith("\nKeyboardInterrupt\n")
    assert program.stderr.count("Traceback (most recent call last)") == 1
    assert program.returncode in (-2, 130)


# Every instant.


class Strike:
    """Calls `act` at the instant of that number, counted from `start()`."""

    def __init__(self, number: int, act: typing.Callable[[], None]) -> None:
        self._left = number
        self._act = act
        self.where: str | None = None

    def start(self) -> None:
        sys.setprofile(self)

    @staticmethod
    def stop() -> None:
        sys.setprofile(None)

    def __call__(self, frame: types.FrameType, event: str, argument: typing.Any) -> None:
        if event not in ("call", "c_return") or not _is_of_the_library(frame):
            return
        self._left -= 1
        if self._left < 0:
            self.stop()
            self.where = f"{event} in {frame.f_code.co_name}, line {frame.f_lineno}"
            self._act()


def _is_of_the_library(frame: types.FrameType | None) -> bool:
    """Whether it runs in the library, or for it; not in a finalizer, which swallows exceptions."""
    found = False
    while frame is not None and frame.f_code.co_filename != __file__:
        if frame.f_code.co_name in ("__del__", "_remove"):
            return False
        found = found or frame.f_code.co_filename.startswith(LIBRARY)
        frame = frame.f_back
    return found


def interrupt() -> None:
    raise KeyboardInterrupt


def every_instant(
    trial: typing.Callable[[Strike], None], act: typing.Callable[[], None] = interrupt
) -> None:
    number, struck = 0, True
    while struck:
        strike = Strike(number, act)
        try:
            trial(strike)
        except BaseException as error:
            raise AssertionError(f"after a strike at instant {number}: {strike.where}") from error
        finally:
            strike.stop()
        struck = strike.where is not None
        number += 1
    assert number > 30, "the profiling function was not called"


class Quick(InstantDispatch):
    """Answers after a moment, in which other threads get their turn."""

    def __init__(self) -> None:
        super().__init__()
        self.in_flight: set[http3.Abort] = set()

    def send(self, request: http3.Request, context: http3.Context) -> http3.Response:
        try:
            self.in_flight.add(context.abort)
            context.abort.sleep(PATIENCE if "hang" in request.url.full_path else 0.0001)
            return super().send(request, context)
        finally:
            self.in_flight.discard(context.abort)

    def wait_until_idle(self) -> None:
        end = time.monotonic() + SOON
        while self.in_flight:
            assert time.monotonic() < end, "a request was left in flight"
            time.sleep(0.0001)


def submit(parallel: http3.Parallel) -> None:
    for number in range(4):
        parallel.get(f"{URL}/{number}", deadline=60 if number == 2 else None)


def next_response(parallel: http3.Parallel) -> None:
    submit(parallel)
    for _ in range(4):
        parallel.next_response(SOON)


def get_response(parallel: http3.Parallel) -> None:
    handles = [parallel.get(f"{URL}/{number}") for number in range(4)]
    for handle in handles:
        handle.get_response(SOON)


def as_completed(parallel: http3.Parallel) -> None:
    submit(parallel)
    for handle in parallel.as_completed(SOON):
        handle.get_response()


def map_(parallel: http3.Parallel) -> None:
    for handle in parallel.map([f"{URL}/{number}" for number in range(5)], window=3):
        handle.get_response()


def cancel(parallel: http3.Parallel) -> None:
    handles = [parallel.get(f"{URL}/{number}") for number in range(6)]
    handles[0].cancel()
    handles[3].cancel()
    parallel.cancel()


def cancel_some(parallel: http3.Parallel) -> None:
    handles = [parallel.get(f"{URL}/{number}") for number in range(6)]
    handles[0].cancel()
    handles[1].cancel()


def give_up_waiting(parallel: http3.Parallel) -> None:
    handles = [parallel.get(f"{URL}/{number}") for number in range(2)]
    for wait in (parallel.next_response, handles[1].get_response):
        with contextlib.suppress(http3.WaitTimeout):
            wait(timeout=0)


USES = [
    submit,
    next_response,
    get_response,
    as_completed,
    map_,
    cancel,
    cancel_some,
    give_up_waiting,
]


def use_further(parallel: http3.Parallel) -> None:
    """What is left comes to its end, and so does what is new."""
    more = {f"/more/{number}" for number in range(3)}
    texts = set()
    for paths in ((), more):
        for path in paths:
            parallel.get(URL + path)
        while parallel.has_pending_responses:
            # What was being cancelled when the interrupt came may be handed out as such.
            with contextlib.suppress(http3.RequestCancelled):
                texts.add(parallel.next_response(SOON).text)
    assert texts >= more


@pytest.mark.parametrize("limits", [{}, {"max_per_host": 1}, {"max_workers": 1}], ids=str)
@pytest.mark.parametrize("use", USES)
def test_a_block_interrupted_at_any_instant_can_be_used_further(use, limits):
    with http3.Client(dispatch=Quick(), max_workers=2) as client:

        def trial(strike: Strike) -> None:
            with client.parallel(**limits) as parallel:
                strike.start()
                try:
                    use(parallel)
                except KeyboardInterrupt:
                    pass
                finally:
                    strike.stop()
                use_further(parallel)

        every_instant(trial)


@pytest.mark.parametrize("limits", [{}, {"max_per_host": 1}], ids=str)
@pytest.mark.parametrize("use", USES)
def test_a_signal_handler_may_cancel_at_any_instant(use, limits):
    with http3.Client(dispatch=Quick(), max_workers=2) as client:
        blocks = []

        def trial(strike: Strike) -> None:
            with client.parallel(**limits) as parallel:
                blocks[:] = [parallel]
                strike.start()
                try:
                    use(parallel)
                except (http3.RequestCancelled, http3.NoPendingResponses):
                    pass
                finally:
                    strike.stop()
                use_further(parallel)

        every_instant(trial, lambda: blocks[0].cancel())


def test_the_first_use_of_a_client_may_be_interrupted_at_any_instant():
    def trial(strike: Strike) -> None:
        with http3.Client(dispatch=Quick(), max_workers=2) as client:
            with client.parallel() as parallel:
                strike.start()
                try:
                    submit(parallel)
                except KeyboardInterrupt:
                    pass
                finally:
                    strike.stop()
                use_further(parallel)

    every_instant(trial)


def test_leaving_the_block_may_be_interrupted_at_any_instant():
    dispatch = Quick()

    def trial(strike: Strike) -> None:
        try:
            with client.parallel() as parallel:
                for number in range(3):
                    parallel.get(f"{URL}/hang/{number}")
                strike.start()
        except KeyboardInterrupt:
            pass
        finally:
            strike.stop()
        if strike.where is not None and strike.where.startswith("call in __exit__"):
            # The one instant that Python keeps from us: before the first line of __exit__.
            parallel.close()
        dispatch.wait_until_idle()
        with client.parallel() as parallel:
            use_further(parallel)

    with http3.Client(dispatch=dispatch, max_workers=4) as client:
        every_instant(trial)


def test_closing_the_client_may_be_interrupted_at_any_instant():
    threads = threading.active_count()

    def trial(strike: Strike) -> None:
        dispatch = Quick()
        try:
            with http3.Client(dispatch=dispatch, max_workers=4) as client:
                blocks = [client.parallel() for _ in range(2)]
                for parallel in blocks:
                    parallel.get(f"{URL}/hang/0")
                strike.start()
        except KeyboardInterrupt:
            pass
        finally:
            strike.stop()
        if strike.where is not None and strike.where.startswith("call in __exit__"):
            client.close()
        dispatch.wait_until_idle()

    every_instant(trial)
    end = time.monotonic() + PATIENCE
    while threading.active_count() > threads:
        assert time.monotonic() < end, threading.enumerate()
        time.sleep(0.001)


@pytest.mark.parametrize("use", [submit, next_response, map_])
def test_an_interrupt_leaves_a_block_of_its_own_at_any_instant(use):
    def trial(strike: Strike) -> None:
        dispatch = Quick()
        try:
            with http3.parallel(dispatch=dispatch, max_workers=2) as parallel:
                strike.start()
                use(parallel)
        except KeyboardInterrupt:
            pass
        finally:
            strike.stop()
        if strike.where is not None and strike.where.startswith("call in __exit__"):
            parallel.close()
        dispatch.wait_until_idle()

    every_instant(trial)
