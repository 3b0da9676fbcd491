"""What many requests wait for together: the guarantees of `auth.sharing`, one by one."""

from __future__ import annotations

import contextvars
import functools
import gc
import os
import signal
import sys
import threading
import traceback
import types
import typing
import weakref

import pytest

import http3_parallel as http3
from http3_parallel.auth import sharing
from http3_parallel.auth.sharing import Share, Shared
from scripted import PATIENCE


def cancelled() -> http3.HTTPError:
    return http3.RequestCancelled("by the test")


class Watched(http3.Abort):
    """Tells when its request waits for another's call."""

    __slots__ = ("waits",)

    def __init__(self) -> None:
        super().__init__()
        self.waits = threading.Event()

    def wait(self, signal: http3.Signal, timeout: float | None = None) -> bool:
        self.waits.set()
        return super().wait(signal, timeout)


class Runner:
    """A request in a thread of its own, which performs a `Share`. What came of it is `result`."""

    def __init__(self, share: Share) -> None:
        self.abort = Watched()
        self.result: typing.Any = None
        self._thread = threading.Thread(target=self._run, args=(share,), daemon=True)
        self._thread.start()

    def _run(self, share: Share) -> None:
        try:
            self.result = share.perform(self.abort)
        except BaseException as error:
            self.result = error

    def wait_until_it_waits(self) -> None:
        assert self.abort.waits.wait(PATIENCE)

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def outcome(self) -> typing.Any:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        return self.result


class Visit:
    """A call of the function, held until the test ends it."""

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._made: object = None

    def give(self, made: object) -> None:
        """What it returns; an exception is raised."""
        self._made = made
        self._ended.set()

    def _outcome(self) -> object:
        assert self._ended.wait(PATIENCE)
        if isinstance(self._made, BaseException):
            raise self._made
        return self._made


class Held:
    """A function whose calls are `visits`."""

    def __init__(self) -> None:
        self.visits: list[Visit] = []
        self._changed = threading.Condition()

    def __call__(self) -> object:
        visit = Visit()
        with self._changed:
            self.visits.append(visit)
            self._changed.notify_all()
        return visit._outcome()

    def visit(self, number: int) -> Visit:
        """That call; waits until it has been made."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.visits) > number, PATIENCE)
            return self.visits[number]


def make(function: typing.Callable[[], object], value: object = None) -> Shared[object]:
    return Shared(function, value, doing="getting a new token")


def lead_and_follow(
    shared: Shared[object], held: Held, followers: int, number: int = 0
) -> list[Runner]:
    """The one that is in the function, and those that wait for it."""
    share = shared.instead_of(shared.value)
    leader = Runner(share)
    held.visit(number)
    waiting = [Runner(share) for _ in range(followers)]
    for runner in waiting:
        runner.wait_until_it_waits()
    return [leader, *waiting]


# One call for all.


def test_one_calls_and_all_others_wait_for_it() -> None:
    held = Held()
    shared = make(held)
    runners = lead_and_follow(shared, held, 50)
    assert shared.value is None
    held.visit(0).give("new")
    assert [runner.outcome() for runner in runners] == ["new"] * 51
    assert shared.value == "new"
    assert len(held.visits) == 1


def test_who_brings_back_what_was_replaced_gets_the_new_one_without_a_call() -> None:
    made = iter(["second", "third"])
    shared = make(functools.partial(next, made), "first")
    first = shared.value
    for expected in ("second", "second"):
        assert shared.instead_of(first).perform(http3.Abort()) == expected
    assert shared.instead_of(shared.value).perform(http3.Abort()) == "third"
    assert shared.instead_of(first).perform(http3.Abort()) == "third"


def test_values_are_told_apart_by_identity() -> None:
    class Token:
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = None  # type: ignore[assignment]  # equal to anything

    shared = make(Token)
    first = shared.instead_of(None).perform(http3.Abort())
    second = shared.instead_of(first).perform(http3.Abort())
    assert second is not first
    assert shared.instead_of(first).perform(http3.Abort()) is second


def test_a_request_tells_what_it_is_doing() -> None:
    held = Held()
    runners = lead_and_follow(make(held), held, 1)
    assert [runner.abort.phase for runner in runners] == ["getting a new token"] * 2
    held.visit(0).give("new")
    for runner in runners:
        runner.outcome()


def test_each_value_is_replaced_by_one_call_whatever_threads_do(switch_interval: None) -> None:
    calls: list[object] = []

    def function() -> object:
        made = object()
        calls.append(made)
        return made

    shared = make(function)
    replaced: list[object] = []

    def run() -> None:
        for _ in range(200):
            value = shared.value
            replaced.append(value)
            assert shared.instead_of(value).perform(http3.Abort()) is not value

    runners = [Runner(_Run(run)) for _ in range(8)]
    assert [runner.outcome() for runner in runners] == [None] * 8
    assert len(calls) == len(set(map(id, replaced)))


class _Run(Share):
    """Runs a function of the test's."""

    def __init__(self, function: typing.Callable[[], object]) -> None:
        self._function = function

    def perform(self, abort: http3.Abort) -> typing.Any:
        return self._function()


# Ended requests.


def test_when_the_leader_is_ended_another_calls_at_once_though_the_first_call_goes_on() -> None:
    held = Held()
    shared = make(held)
    leader, *followers = lead_and_follow(shared, held, 5)
    assert not leader.abort.abort(cancelled), "it is in code of the user's"
    held.visit(1).give("second")
    assert [runner.outcome() for runner in followers] == ["second"] * 5
    assert leader.is_alive
    held.visit(0).give("first")
    assert isinstance(leader.outcome(), http3.RequestCancelled)
    assert shared.value == "second", "what came later is dropped"
    assert len(held.visits) == 2


def test_leaders_may_be_ended_one_after_the_other() -> None:
    held = Held()
    shared = make(held)
    runners = lead_and_follow(shared, held, 4)
    ended = []
    for number in range(4):
        held.visit(number)
        (leader,) = [
            runner for runner in runners if runner not in ended and runner.abort._in_user_code
        ]
        leader.abort.abort(cancelled)
        ended.append(leader)
    held.visit(4).give("last")
    (last,) = [runner for runner in runners if runner not in ended]
    assert last.outcome() == "last"
    for number in range(4):
        held.visit(number).give("late")
    for leader in ended:
        assert isinstance(leader.outcome(), http3.RequestCancelled)
    assert shared.value == "last"


def test_what_an_ended_leader_makes_is_used_if_it_is_there_first() -> None:
    held = Held()
    shared = make(held)
    leader, *followers = lead_and_follow(shared, held, 3)
    leader.abort.abort(cancelled)
    held.visit(1)
    held.visit(0).give("first")
    # Those who wait have it at once. The new leader is still in the function.
    done = [runner for runner in followers if not runner.abort._in_user_code]
    assert [runner.outcome() for runner in done] == ["first"] * 2
    assert shared.value == "first"
    held.visit(1).give("second")
    assert {runner.outcome() for runner in followers} == {"first"}
    assert shared.value == "first"


@pytest.mark.parametrize("made", [ValueError("failed"), "second"])
def test_a_new_leader_that_fails_has_what_the_ended_one_made(made: object) -> None:
    held = Held()
    shared = make(held)
    leader, follower = lead_and_follow(shared, held, 1)
    leader.abort.abort(cancelled)
    visit = held.visit(1)
    held.visit(0).give("first")
    assert isinstance(leader.outcome(), http3.RequestCancelled)
    visit.give(made)
    assert follower.outcome() == "first"


def test_what_an_ended_leader_makes_serves_the_next_if_nobody_waited() -> None:
    held = Held()
    shared = make(held, "old")
    (leader,) = lead_and_follow(shared, held, 0)
    leader.abort.abort(cancelled)
    held.visit(0).give("late")
    assert isinstance(leader.outcome(), http3.RequestCancelled)
    assert shared.value == "late"
    assert shared.instead_of("old").perform(http3.Abort()) == "late"


def test_the_failure_of_an_ended_leader_is_nobodys() -> None:
    held = Held()
    shared = make(held, "old")
    leader, follower = lead_and_follow(shared, held, 1)
    leader.abort.abort(cancelled)
    held.visit(1)
    held.visit(0).give(ValueError("failed"))
    assert isinstance(leader.outcome(), http3.RequestCancelled)
    assert shared.value == "old"
    held.visit(1).give("new")
    assert follower.outcome() == "new"


def test_who_waits_can_be_ended_and_the_others_go_on() -> None:
    held = Held()
    leader, ended, other = lead_and_follow(make(held), held, 2)
    assert ended.abort.abort(cancelled)
    assert isinstance(ended.outcome(), http3.RequestCancelled)
    held.visit(0).give("new")
    assert (leader.outcome(), other.outcome()) == ("new", "new")


def test_leader_and_followers_of_a_block_end_together_and_others_go_on() -> None:
    held = Held()
    runners = lead_and_follow(make(held), held, 6)
    block, others = runners[:4], runners[4:]
    for runner in block:
        runner.abort.mark(cancelled)
    for runner in block:
        runner.abort.abort(cancelled)
    held.visit(1).give("new")
    assert [runner.outcome() for runner in others] == ["new"] * 3
    held.visit(0).give("late")
    assert all(isinstance(runner.outcome(), http3.RequestCancelled) for runner in block)
    assert len(held.visits) == 2


def test_who_is_ended_before_it_leads_calls_nothing() -> None:
    held = Held()
    shared = make(held)
    abort = http3.Abort()
    abort.abort(cancelled)
    with pytest.raises(http3.RequestCancelled):
        shared.instead_of(None).perform(abort)
    assert held.visits == []
    (leader,) = lead_and_follow(shared, held, 0)
    held.visit(0).give("new")
    assert leader.outcome() == "new"


# Failures.


def fail(error: BaseException) -> object:
    raise error


def test_all_who_waited_raise_the_same_exception_and_the_next_calls_anew() -> None:
    held = Held()
    shared = make(held, "old")
    runners = lead_and_follow(shared, held, 10)
    error = ValueError("failed")
    held.visit(0).give(error)
    assert all(runner.outcome() is error for runner in runners)
    assert shared.value == "old"
    (again,) = lead_and_follow(shared, held, 0, number=1)
    held.visit(1).give("new")
    assert again.outcome() == "new"


def test_an_exception_keeps_its_traceback_and_gathers_none() -> None:
    error = ValueError("failed")
    failure = make(functools.partial(fail, error))
    lengths = []
    for _ in range(3):
        with pytest.raises(ValueError, match="failed") as caught:
            failure.instead_of(None).perform(http3.Abort())
        assert caught.value is error
        lengths.append([frame.name for frame in traceback.extract_tb(error.__traceback__)])
    assert lengths[0][-1] == "fail"

    held = Held()
    runners = lead_and_follow(make(held), held, 40)
    error = ValueError("failed")
    held.visit(0).give(error)
    for runner in runners:
        runner.outcome()
    with pytest.raises(ValueError, match="failed"):
        sharing._Failure(error, None).result()
    assert len(traceback.extract_tb(error.__traceback__)) == 2


def test_a_failure_is_not_kept() -> None:
    class Failed(Exception):
        pass

    def function() -> object:
        raise Failed

    shared = make(function)
    gc.collect()
    gc.disable()
    try:
        try:
            shared.instead_of(None).perform(http3.Abort())
        except Failed as error:
            reference = weakref.ref(error)
        assert reference() is None, "without the help of the garbage collector"
    finally:
        gc.enable()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(), GeneratorExit()])
def test_what_ends_a_thread_is_its_own_and_another_leads(error: BaseException) -> None:
    held = Held()
    leader, follower = lead_and_follow(make(held), held, 1)
    held.visit(0).give(error)
    assert leader.outcome() is error
    held.visit(1).give("new")
    assert follower.outcome() == "new"


# Within the function.


def test_who_runs_for_the_function_knows_it() -> None:
    seen: list[bool] = []
    copies: list[contextvars.Context] = []

    def function() -> object:
        seen.append(shared.is_within)
        context = contextvars.copy_context()
        copies.append(context)
        runner = Runner(_Run(lambda: context.run(lambda: shared.is_within)))
        seen.append(runner.outcome())
        seen.append(other.is_within)
        seen.append(other.instead_of(None).perform(http3.Abort()))
        seen.append(shared.is_within)
        return "new"

    def function_of_other() -> object:
        return shared.is_within and other.is_within

    shared, other = make(function), make(function_of_other)
    assert not shared.is_within
    shared.instead_of(None).perform(http3.Abort())
    assert seen == [True, True, False, True, True]
    assert not shared.is_within
    assert not copies[0].run(lambda: shared.is_within), "the function has returned"


def test_an_ended_leader_is_still_within() -> None:
    seen: list[bool] = []

    def function() -> object:
        abort.abort(cancelled)
        seen.append(shared.is_within)
        return "new"

    shared, abort = make(function), http3.Abort()
    with pytest.raises(http3.RequestCancelled):
        shared.instead_of(None).perform(abort)
    assert seen == [True]
    assert not shared.is_within


# Interrupts and forks.


class Strike:
    """Raises a `KeyboardInterrupt` at the instant of that number: where signals are handled."""

    def __init__(self, number: int) -> None:
        self._left = number
        self.struck = False

    def __call__(self, frame: types.FrameType, event: str, argument: typing.Any) -> None:
        if event in ("call", "c_return") and _in_library(frame):
            self._left -= 1
            if self._left < 0:
                sys.setprofile(None)
                self.struck = True
                raise KeyboardInterrupt


def _in_library(frame: types.FrameType | None) -> bool:
    library = os.path.dirname(http3.__file__)
    while frame is not None and frame.f_code.co_filename != __file__:
        if frame.f_code.co_filename.startswith(library):
            return True
        frame = frame.f_back
    return False


def every_instant(trial: typing.Callable[[Strike], None]) -> None:
    number, struck = 0, True
    while struck:
        strike = Strike(number)
        try:
            trial(strike)
        finally:
            sys.setprofile(None)
        struck = strike.struck
        number += 1
    assert number > 15, "the profiling function was not called"


def interrupted(strike: Strike, share: Share, abort: http3.Abort) -> None:
    sys.setprofile(strike)
    try:
        share.perform(abort)
    except KeyboardInterrupt:
        assert strike.struck
    finally:
        sys.setprofile(None)


def test_a_leader_interrupted_at_any_instant_leaves_nobody_waiting() -> None:
    def trial(strike: Strike) -> None:
        followers: list[Runner] = []

        def function() -> object:
            if threading.current_thread() is threading.main_thread():
                followers.extend([Runner(share), Runner(share)])
                for runner in followers:
                    runner.wait_until_it_waits()
            return object()

        shared = make(function)
        share = shared.instead_of(None)
        interrupted(strike, share, http3.Abort())
        assert not shared.is_within
        assert None not in [runner.outcome() for runner in followers]
        value = shared.value
        assert Runner(shared.instead_of(value)).outcome() is not value

    every_instant(trial)


def test_a_follower_interrupted_at_any_instant_leaves_nobody_waiting() -> None:
    def trial(strike: Strike) -> None:
        held = Held()
        shared = make(held)
        (leader,) = lead_and_follow(shared, held, 0)
        abort = Watched()

        def end() -> None:
            abort.waits.wait(PATIENCE)
            held.visit(0).give("new")

        thread = threading.Thread(target=end, daemon=True)
        thread.start()
        interrupted(strike, shared.instead_of(None), abort)
        abort.waits.set()
        thread.join(PATIENCE)
        assert leader.outcome() == "new"
        assert shared.value == "new"

    every_instant(trial)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
# Python 3.12 warns of any fork in a process with threads. That is what is tested.
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_waits_for_nobody_of_its_parent() -> None:
    held = Held()
    shared = make(held, "old")
    runners = lead_and_follow(shared, held, 2)
    pid = os.fork()
    if not pid:
        try:
            signal.alarm(int(PATIENCE))
            shared._function = lambda: "the child's"
            made = shared.instead_of("old").perform(http3.Abort())
            os._exit(0 if made == shared.value == "the child's" else 1)
        finally:
            os._exit(2)
    _, status = os.waitpid(pid, 0)
    assert status == 0
    held.visit(0).give("the parent's")
    assert [runner.outcome() for runner in runners] == ["the parent's"] * 3
