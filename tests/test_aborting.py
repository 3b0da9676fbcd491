"""The guarantees of `aborting`, one by one."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import typing

import pytest

from http3_parallel import Abort, HTTPError, RequestCancelled, Signal
from http3_parallel.aborting import shutdown_socket
from scripted import PATIENCE


def cancelled() -> HTTPError:
    return RequestCancelled("by the test")


def start(function: typing.Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


# Signal.


def test_a_signal_is_waited_for():
    signal, woken = Signal(), Signal()
    start(lambda: signal.wait() and woken.set())
    assert not woken.wait(0.01)
    signal.set()
    assert woken.wait(PATIENCE)


def test_a_signal_may_be_set_before_and_any_number_of_times():
    signal = Signal()
    for _ in range(3):
        signal.set()
    assert signal.wait(0)
    assert not signal.wait(0), "it is for one wait"


@pytest.mark.parametrize("timeout", [0, -1, 0.01])
def test_a_signals_wait_gives_up(timeout):
    assert not Signal().wait(timeout)


@pytest.mark.parametrize("timeout", [None, 1e300, float("inf")])
def test_a_signals_wait_may_be_as_long_as_one_likes(timeout):
    for wait_here in (True, False):
        signal, woken = Signal(), Signal()

        def wait(signal: Signal = signal, woken: Signal = woken) -> None:
            assert signal.wait(timeout)
            woken.set()

        if wait_here:
            start(signal.set)
            wait()
        else:
            start(wait)
            signal.set()
        assert woken.wait(PATIENCE)


# Abort.


def test_an_abort_raises_at_the_next_check():
    abort = Abort()
    abort.check()
    assert not abort.aborted
    assert abort.abort(cancelled)
    assert abort.aborted
    with pytest.raises(RequestCancelled, match="by the test"):
        abort.check()


def test_the_first_abort_counts():
    abort = Abort()
    abort.abort(cancelled)
    abort.abort(lambda: HTTPError("too late"))
    with pytest.raises(RequestCancelled):
        abort.check()


def test_each_check_raises_an_error_of_its_own():
    abort = Abort()
    abort.abort(cancelled)
    errors = []
    for _ in range(2):
        with pytest.raises(RequestCancelled) as caught:
            abort.check()
        errors.append(caught.value)
    assert errors[0] is not errors[1]


def test_an_abort_wakes_what_is_registered():
    abort, woken = Abort(), []
    abort.blocked_on(lambda: woken.append(1))
    abort.blocked_on(lambda: woken.append(2))
    abort.abort(cancelled)
    assert woken == [2]


def test_the_flag_is_set_before_the_wake_up():
    abort, seen = Abort(), []
    abort.blocked_on(lambda: seen.append(abort.aborted))
    abort.abort(cancelled)
    assert seen == [True]


def test_after_release_an_abort_touches_nothing():
    abort, woken = Abort(), []
    abort.blocked_on(lambda: woken.append(1))
    abort.release()
    abort.abort(cancelled)
    assert woken == []


def test_release_raises_if_an_abort_has_been():
    abort = Abort()
    abort.blocked_on(lambda: None)
    abort.abort(cancelled)
    with pytest.raises(RequestCancelled):
        abort.release()
    # It was taken back all the same.
    assert abort._wake is None


def test_once_aborted_nothing_blocks():
    abort = Abort()
    abort.abort(cancelled)
    for wait in (
        lambda: abort.wait(Signal()),
        lambda: abort.sleep(60),
        lambda: abort.blocked_on(lambda: None),
        abort.release,
    ):
        with pytest.raises(RequestCancelled):
            wait()


def test_release_waits_for_a_wake_up_that_is_under_way():
    """Else the wake-up could reach a socket that is another's by then."""
    abort = Abort()
    waking, go_on, released = Signal(), Signal(), Signal()

    def wake() -> None:
        waking.set()
        go_on.wait(PATIENCE)

    def release() -> None:
        with pytest.raises(RequestCancelled):
            abort.release()
        released.set()

    abort.blocked_on(wake)
    start(lambda: abort.abort(cancelled))
    assert waking.wait(PATIENCE)
    start(release)
    assert not released.wait(0.02)
    go_on.set()
    assert released.wait(PATIENCE)


@pytest.mark.parametrize("wait", [lambda a: a.sleep(60), lambda a: a.wait(Signal())])
def test_an_abort_ends_a_wait(wait):
    abort, waiting, errors = Abort(), Signal(), []

    def run() -> None:
        waiting.set()
        try:
            wait(abort)
        except HTTPError as error:
            errors.append(error)

    thread = start(run)
    assert waiting.wait(PATIENCE)
    abort.abort(cancelled)
    thread.join(PATIENCE)
    assert [type(error) for error in errors] == [RequestCancelled]


def test_a_wait_returns_whether_it_was_signalled():
    abort, signal = Abort(), Signal()
    assert not abort.wait(signal, 0.001)
    signal.set()
    assert abort.wait(signal, 0)
    abort.sleep(0.001)


def test_code_of_the_users_is_not_waited_for():
    abort = Abort()
    with pytest.raises(RequestCancelled), abort.user_code():
        assert not abort.abort(cancelled)
    assert abort.abort(cancelled), "afterwards it is sure to end soon"


def test_what_is_registered_is_woken_while_code_of_the_users_runs():
    abort, woken = Abort(), []
    abort.blocked_on(lambda: woken.append(1))
    with pytest.raises(RequestCancelled), abort.user_code():
        assert not abort.abort(cancelled)
        assert woken == [1]


def test_code_of_the_users_may_be_nested():
    abort = Abort()
    with abort.user_code():
        with abort.user_code():
            pass
    assert abort.abort(cancelled)


def test_an_aborted_request_starts_no_more_code_of_the_users():
    abort, ran = Abort(), []
    abort.abort(cancelled)
    with pytest.raises(RequestCancelled), abort.user_code():
        ran.append(1)
    assert ran == []


def test_an_abort_between_two_nested_ones_is_still_inside_the_users_code():
    abort = Abort()
    with pytest.raises(RequestCancelled), abort.user_code():
        with abort.user_code():
            pass
        assert not abort.abort(cancelled)


def test_an_exception_of_the_users_code_comes_out():
    abort = Abort()
    with pytest.raises(ZeroDivisionError), abort.user_code():
        raise ZeroDivisionError
    assert abort.abort(cancelled)


def test_the_time_left_until_the_deadline():
    assert Abort().remaining() is None
    assert Abort(time.monotonic() - 5).remaining() == 0
    remaining = Abort(time.monotonic() + 100).remaining()
    assert remaining is not None
    assert 90 < remaining <= 100


def test_a_shutdown_wakes_a_reader_and_does_not_close():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        got: list[bytes] = []
        thread = start(lambda: got.append(ours.recv(1)))
        shutdown_socket(ours)
        thread.join(PATIENCE)
        assert got == [b""]
        assert theirs.recv(1) == b""
        assert ours.fileno() >= 0
        shutdown_socket(ours)
    shutdown_socket(ours)


def test_who_was_not_aborted_is_never_disturbed(switch_interval):
    """
    Two requests take turns with one thing to wait on, as with a pooled connection, while the
    one that let go of it is being aborted.
    """
    disturbed = []

    class Connection:
        owner: Abort | None = None

        def wake(self) -> None:
            owner = self.owner
            if owner is None or not owner.aborted:
                disturbed.append(owner)

    connection = Connection()
    for _ in range(300):
        first, second = Abort(), Abort()
        connection.owner = first
        first.blocked_on(connection.wake)
        thread = start(lambda first=first: first.abort(cancelled))
        with contextlib.suppress(RequestCancelled):
            first.release()
        connection.owner = second
        second.blocked_on(connection.wake)
        thread.join(PATIENCE)
        second.release()
    assert disturbed == []


def test_an_abort_is_never_slept_through(switch_interval):
    for _ in range(300):
        abort, ended = Abort(), Signal()

        def run(abort: Abort = abort, ended: Signal = ended) -> None:
            with pytest.raises(RequestCancelled):
                while True:
                    abort.sleep(60)
            ended.set()

        start(run)
        abort.abort(cancelled)
        assert ended.wait(PATIENCE)
