"""
Interrupts itself, many times, while it uses a block; ends with status 0 and no output if each
trial went as promised. ``python interrupted.py WAY SCENARIO TRIALS SEED [URL]``

The ways: ``sigint`` is sent by another process, so that it comes at any instant, whoever has the
interpreter's lock; ``sigalrm`` comes from a timer, to a handler that raises `SystemExit` as
gunicorn's does; ``cancel`` to one that calls ``parallel.cancel()``.
"""

from __future__ import annotations

import faulthandler
import functools
import os
import random
import select
import signal
import socket
import sys
import time
import typing

import http3_parallel as http3
from scripted import InstantDispatch, ScriptedDispatch

#: Seconds in which a trial must come to its end.
PATIENCE = 20.0
#: Seconds after which it is interrupted, at most.
LONGEST = 0.005

#: Seconds after which it is interrupted again. Python swallows what a signal handler raises while
#: a finalizer runs, and one presses Ctrl-C again then.
AGAIN = 3.0

BASE = "http://example.com"


class Pausing(InstantDispatch):
    """Answers after half a millisecond; counts what is in flight."""

    def __init__(self) -> None:
        super().__init__()
        self.in_flight: set[http3.Abort] = set()

    def send(self, request: http3.Request, context: http3.Context) -> http3.Response:
        try:
            self.in_flight.add(context.abort)
            context.abort.sleep(30.0 if "hang" in request.url.full_path else 0.0005)
            return super().send(request, context)
        finally:
            self.in_flight.discard(context.abort)


last_opened: list[http3.Parallel] = []


def opening(client: http3.Client, **options: typing.Any) -> http3.Parallel:
    last_opened[:] = [client.parallel(**options)]
    return last_opened[0]


# What is interrupted. Each goes on until it is.


def submit(client: http3.Client, base: str) -> None:
    while True:
        with opening(client, max_workers=4) as parallel:
            for number in range(40):
                parallel.get(f"{base}/{number}", deadline=30 if number % 3 else None)


def next_response(client: http3.Client, base: str) -> None:
    while True:
        with opening(client, max_workers=4) as parallel:
            for number in range(8):
                parallel.get(f"{base}/{number}")
            while parallel.has_pending_responses:
                parallel.next_response()


def hanging(client: http3.Client, base: str) -> None:
    with opening(client, max_workers=4) as parallel:
        for number in range(8):
            parallel.get(f"{base}/hang/{number}")
        parallel.next_response()


def get_response(client: http3.Client, base: str) -> None:
    while True:
        with opening(client, max_workers=4, max_per_host=2) as parallel:
            handles = [parallel.get(f"{base}/{number}") for number in range(8)]
            for handle in handles:
                handle.get_response()


def as_completed(client: http3.Client, base: str) -> None:
    while True:
        with opening(client, max_workers=4) as parallel:
            for number in range(8):
                parallel.get(f"{base}/{number}")
            for handle in parallel:
                handle.get_response()


def map_(client: http3.Client, base: str) -> None:
    while True:
        with opening(client, max_workers=4) as parallel:
            for handle in parallel.map((f"{base}/{number}" for number in range(30)), window=6):
                handle.get_response()


def cancel(client: http3.Client, base: str) -> None:
    while True:
        with opening(client, max_workers=4, max_per_host=2) as parallel:
            handles = [parallel.get(f"{base}/hang/{number}") for number in range(8)]
            for handle in handles[:4]:
                handle.cancel()
            parallel.cancel()


def leave(client: http3.Client, base: str) -> None:
    while True:
        with opening(client, max_workers=4) as parallel:
            for number in range(4):
                parallel.get(f"{base}/hang/{number}")


def plain(client: http3.Client, base: str) -> None:
    while True:
        client.get(f"{base}/plain")


SCENARIOS: dict[str, typing.Callable[[http3.Client, str], None]] = {
    "submit": submit,
    "next_response": next_response,
    "hanging": hanging,
    "get_response": get_response,
    "as_completed": as_completed,
    "map": map_,
    "cancel": cancel,
    "leave": leave,
    "plain": plain,
}


class Interrupter:
    """
    Another process, which sends SIGINT to this one when it is told after how long, and again
    every `AGAIN` seconds until it is told that this one has noticed.
    """

    def __init__(self) -> None:
        parent = os.getpid()
        read_end, self._write_end = os.pipe()
        self._child = os.fork()
        if self._child == 0:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            os.close(self._write_end)
            while line := os.read(read_end, 8):
                end = time.perf_counter() + int(line) * 1e-6
                while int(line) and time.perf_counter() < end:
                    pass
                while int(line) and not select.select([read_end], [], [], 0)[0]:
                    os.kill(parent, signal.SIGINT)
                    select.select([read_end], [], [], AGAIN)
            os._exit(0)
        os.close(read_end)

    def after(self, seconds: float) -> None:
        os.write(self._write_end, b"%08d" % (seconds * 1e6))

    def noticed(self) -> None:
        os.write(self._write_end, b"%08d" % 0)

    def end(self) -> None:
        os.close(self._write_end)
        os.waitpid(self._child, 0)


def interrupted(
    run: typing.Callable[[], None],
    arm: typing.Callable[[], None],
    disarm: typing.Callable[[], None],
) -> str:
    """The name of what came out."""
    try:
        arm()
        run()
    except (KeyboardInterrupt, SystemExit) as error:
        disarm()
        return type(error).__name__
    return "nothing"


def check_usable(client: http3.Client, base: str) -> None:
    with client.parallel(max_workers=8) as parallel:
        for number in range(8):
            parallel.get(f"{base}/again/{number}")
        texts = sorted(parallel.next_response(PATIENCE).text for _ in range(8))
    assert texts == sorted(f"/again/{number}" for number in range(8)), texts


def wait_until_nothing_in_flight(dispatch: Pausing) -> None:
    end = time.monotonic() + PATIENCE
    while dispatch.in_flight:
        assert time.monotonic() < end, "requests were left in flight"
        time.sleep(0.0005)


def check_raising(way: str, name: str, trials: int, seed: int, base: str | None) -> None:
    rng = random.Random(seed)
    scenario = SCENARIOS[name]
    expected = "KeyboardInterrupt" if way == "sigint" else "SystemExit"
    interrupter = Interrupter() if way == "sigint" else None

    def arm() -> None:
        delay = rng.uniform(20e-6, LONGEST)
        if interrupter is not None:
            interrupter.after(delay)
        else:
            signal.setitimer(signal.ITIMER_REAL, delay, AGAIN)

    def disarm() -> None:
        if interrupter is not None:
            interrupter.noticed()
        else:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def report(unraisable: typing.Any) -> None:
        # socket.makefile(), interrupted, leaves an object without its socket, which its finalizer
        # misses: the library's own, and harmless.
        half_made = isinstance(unraisable.object, socket.SocketIO) and "_sock" in str(
            unraisable.exc_value
        )
        if unraisable.exc_type.__name__ != expected and not half_made:
            sys.__unraisablehook__(unraisable)

    sys.unraisablehook = report

    client = None
    for trial in range(trials):
        faulthandler.dump_traceback_later(PATIENCE, exit=True)
        if client is None or trial % 10 == 0:
            if client is not None:
                client.close()
            dispatch = None if base else Pausing()
            client = http3.Client(dispatch=dispatch, max_workers=8)
        what = interrupted(functools.partial(scenario, client, base or BASE), arm, disarm)
        assert what == expected, f"{what} came out of trial {trial}"
        # The one instant that Python keeps from the library is before the first line of
        # __exit__: what it means is a block that nobody has left.
        for parallel in last_opened:
            if parallel._block.usable:
                parallel.close()
        if dispatch is not None:
            wait_until_nothing_in_flight(dispatch)
        check_usable(client, base or BASE)
    # The last one: closing the client is interrupted too.
    for _ in range(trials // 10):
        faulthandler.dump_traceback_later(PATIENCE, exit=True)
        dispatch = Pausing()

        def open_and_close(dispatch: Pausing = dispatch) -> None:
            while True:
                with http3.Client(dispatch=dispatch, max_workers=8) as client:
                    for number in range(3):
                        client.parallel().get(f"{BASE}/hang/{number}")

        what = interrupted(open_and_close, arm, disarm)
        assert what == expected, f"{what} came out of closing"
    if client is not None:
        client.close()
    if interrupter is not None:
        interrupter.end()


def check_cancelling(trials: int, seed: int) -> None:
    """A handler may cancel what the main thread is about to submit, or to wait for."""
    rng = random.Random(seed)
    dispatch = Pausing()
    with http3.Client(dispatch=dispatch, max_workers=8) as client:
        for trial in range(trials):
            faulthandler.dump_traceback_later(PATIENCE, exit=True)
            with client.parallel(max_workers=4, max_per_host=trial % 3 or None) as parallel:
                signal.signal(signal.SIGALRM, lambda *_: parallel.cancel())
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(20e-6, LONGEST))
                for number in range(12):
                    parallel.get(f"{BASE}/{number}")
                while parallel.has_pending_responses:
                    try:
                        parallel.next_response()
                    except http3.NoPendingResponses:
                        break
                signal.setitimer(signal.ITIMER_REAL, 0)
        check_usable(client, BASE)


def end_uncaught(name: str) -> None:
    """One that nobody catches."""
    dispatch = ScriptedDispatch()
    client = http3.Client(dispatch=dispatch, max_workers=4)
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    if name == "open":  # no block is left, nothing is closed
        parallel = client.parallel()
        for number in range(20):
            parallel.get(f"{BASE}/{number}")
        parallel.next_response()
    else:
        SCENARIOS[name](client, BASE)


def main() -> None:
    way, name = sys.argv[1:3]
    if way == "uncaught":
        end_uncaught(name)
    trials, seed = int(sys.argv[3]), int(sys.argv[4])
    if way == "cancel":
        check_cancelling(trials, seed)
    else:
        signal.signal(signal.SIGALRM, lambda *_: sys.exit(1))
        check_raising(way, name, trials, seed, sys.argv[5] if len(sys.argv) > 5 else None)


if __name__ == "__main__":
    main()
