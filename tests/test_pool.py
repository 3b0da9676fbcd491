"""The connection pool with connections that are only counted."""

from __future__ import annotations

import functools
import gc
import inspect
import random
import signal
import sys
import threading
import time
import types
import typing
import weakref

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from holding import held_by_another_thread
from http3_parallel.aborting import Abort
from http3_parallel.config import PoolLimits
from http3_parallel.dispatch import pool as pool_module
from http3_parallel.dispatch.pool import IDLE_SECONDS, ConnectionPool, Lease
from http3_parallel.exceptions import ClientClosed, PoolTimeout, RequestCancelled
from scenarios import wait_until

#: Seconds. How long a test waits for what should take milliseconds.
PATIENCE = 10.0


class Connection:
    """Counts how many are open, and notices when it is closed in use."""

    open_now: typing.ClassVar[int] = 0
    most_open: typing.ClassVar[int] = 0
    _count_lock = threading.Lock()

    def __init__(self) -> None:
        self.usable = True
        self.closed = False
        self.forgotten = False
        self.in_use = True
        with self._count_lock:
            Connection.open_now += 1
            Connection.most_open = max(Connection.most_open, Connection.open_now)

    def close(self) -> None:
        with self._count_lock:
            if not self.closed:
                self.closed = True
                Connection.open_now -= 1

    def forget(self) -> None:
        self.forgotten = True

    def is_usable(self) -> bool:
        return self.usable and not self.closed


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


Pool = ConnectionPool[Connection]


@pytest.fixture(autouse=True)
def count_anew() -> None:
    Connection.open_now = Connection.most_open = 0


def make_pool(
    soft: int | None = 10,
    hard: int | None = 10,
    timeout: float | None = None,
    clock: typing.Callable[[], float] = time.monotonic,
) -> Pool:
    limits = PoolLimits(soft_limit=soft, hard_limit=hard, pool_timeout=timeout)
    return ConnectionPool(limits, clock=clock)


def take(pool: Pool, key: str = "a", abort: Abort | None = None) -> Lease[Connection]:
    lease = pool.acquire(key, abort or Abort())
    if lease.connection is None:
        lease.connection = Connection()
    lease.connection.in_use = True
    return lease


def connection_of(lease: Lease[Connection]) -> Connection:
    assert lease.connection is not None
    return lease.connection


class Waiter:
    """Acquires in a thread."""

    def __init__(self, pool: Pool, key: str = "a") -> None:
        self.abort = Abort()
        self.lease: Lease[Connection] | None = None
        self.error: BaseException | None = None
        waiting = pool.waiting_count
        self._thread = threading.Thread(target=self._run, args=(pool, key))
        self._thread.start()
        end = time.monotonic() + PATIENCE
        while pool.waiting_count == waiting and self._thread.is_alive():
            assert time.monotonic() < end
            time.sleep(0.001)

    def _run(self, pool: Pool, key: str) -> None:
        try:
            self.lease = take(pool, key, self.abort)
        except BaseException as exc:
            self.error = exc

    def cancel(self) -> None:
        self.abort.abort(lambda: RequestCancelled("cancelled"))

    def join(self) -> Waiter:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        return self

    @property
    def waits(self) -> bool:
        return self._thread.is_alive()


# Reuse.


def test_what_is_given_back_is_reused_newest_first() -> None:
    pool = make_pool()
    first, second = take(pool), take(pool)
    older, newer = connection_of(first), connection_of(second)
    first.give_back(reusable=True)
    second.give_back(reusable=True)
    assert (pool.idle_count, pool.open_count) == (2, 2)
    assert take(pool).connection is newer
    assert take(pool).connection is older


def test_what_is_not_reusable_is_closed() -> None:
    pool = make_pool()
    lease = take(pool)
    connection = connection_of(lease)
    lease.give_back(reusable=False)
    assert connection.closed
    assert pool.open_count == 0


def test_keys_do_not_share() -> None:
    pool = make_pool()
    take(pool, "a").give_back(reusable=True)
    lease = pool.acquire("b", Abort())
    assert lease.connection is None
    lease.give_back(reusable=False)


def test_giving_back_counts_once() -> None:
    pool = make_pool(hard=1)
    lease = take(pool)
    lease.give_back(reusable=True)
    other = take(pool)
    lease.give_back(reusable=False)
    lease.give_back(reusable=True)
    assert not connection_of(other).closed
    assert pool.open_count == 1
    assert pool.idle_count == 0


def test_a_lease_without_a_connection_can_be_given_back() -> None:
    pool = make_pool(hard=1)
    pool.acquire("a", Abort()).give_back(reusable=True)
    assert pool.open_count == 0


def test_what_did_not_survive_its_rest_is_closed_and_the_next_one_tried() -> None:
    pool = make_pool()
    leases = [take(pool) for _ in range(3)]
    connections = [connection_of(lease) for lease in leases]
    for lease in leases:
        lease.give_back(reusable=True)
    connections[1].usable = connections[2].usable = False
    lease = pool.acquire("a", Abort())
    assert lease.connection is connections[0]
    assert [connection.closed for connection in connections] == [False, True, True]
    assert pool.open_count == 1


def test_idle_connections_expire() -> None:
    clock = Clock()
    pool = make_pool(clock=clock)
    lease = take(pool)
    old = connection_of(lease)
    lease.give_back(reusable=True)
    clock.now += IDLE_SECONDS - 1
    lease = take(pool)
    assert lease.connection is old
    lease.give_back(reusable=True)
    clock.now += IDLE_SECONDS
    lease = take(pool)
    assert lease.connection is not old
    assert old.closed


def test_expired_connections_of_other_keys_are_closed_by_the_way() -> None:
    clock = Clock()
    pool = make_pool(clock=clock)
    leases = [take(pool, key) for key in "bcd"]
    connections = [connection_of(lease) for lease in leases]
    for lease in leases:
        lease.give_back(reusable=True)
    clock.now += IDLE_SECONDS
    take(pool, "a").give_back(reusable=True)
    assert all(connection.closed for connection in connections)
    assert pool.open_count == pool.idle_count == 1


def test_who_takes_a_connection_closes_expired_ones_of_other_keys() -> None:
    clock = Clock()
    pool = make_pool(clock=clock)
    lease = take(pool, "b")
    expired = connection_of(lease)
    lease.give_back(reusable=True)
    clock.now += IDLE_SECONDS
    take(pool, "a")
    assert expired.closed
    assert pool.idle_count == 0


# Limits.


def test_the_oldest_idle_connection_is_closed_above_the_soft_limit() -> None:
    pool = make_pool(soft=2)
    leases = [take(pool, key) for key in "abc"]
    connections = [connection_of(lease) for lease in leases]
    for lease in leases:
        lease.give_back(reusable=True)
    assert [connection.closed for connection in connections] == [True, False, False]
    assert pool.open_count == pool.idle_count == 2


def test_a_soft_limit_of_0_keeps_nothing() -> None:
    pool = make_pool(soft=0)
    lease = take(pool)
    connection = connection_of(lease)
    lease.give_back(reusable=True)
    assert connection.closed
    assert pool.open_count == 0


def test_an_idle_connection_of_another_key_is_closed_before_anyone_waits() -> None:
    pool = make_pool(hard=2)
    used = take(pool, "used")
    idle = take(pool, "idle")
    connection = connection_of(idle)
    idle.give_back(reusable=True)
    lease = take(pool, "new")
    assert connection.closed
    assert not connection_of(used).closed
    assert Connection.most_open == 2
    assert pool.open_count == 2
    lease.give_back(reusable=True)


def test_without_limits_nobody_waits() -> None:
    pool = make_pool(soft=None, hard=None)
    leases = [take(pool) for _ in range(500)]
    for lease in leases:
        lease.give_back(reusable=True)
    assert pool.idle_count == 500
    pool.close()


# Waiting.


def test_waiters_are_served_in_the_order_they_came() -> None:
    pool = make_pool(hard=1)
    lease = take(pool)
    waiters = [Waiter(pool, key) for key in "abab"]
    for number, waiter in enumerate(waiters):
        assert all(other.waits for other in waiters[number:])
        lease.give_back(reusable=True)
        waiter.join()
        assert waiter.lease is not None
        lease = waiter.lease
    assert Connection.most_open == 1


def test_who_comes_later_cannot_take_what_a_waiter_was_granted() -> None:
    pool = make_pool(hard=1)
    lease = take(pool)
    waiter = Waiter(pool)
    with pool._lock:
        pool._in_use.discard(lease._token)
        pool._serve_locked()
    # Granted, whether its thread has run or not.
    late = Waiter(pool)
    waiter.join()
    assert late.waits
    assert waiter.lease is not None
    waiter.lease.give_back(reusable=True)
    late.join()


def test_a_waiter_that_is_aborted_leaves_the_line() -> None:
    pool = make_pool(hard=1)
    lease = take(pool)
    first, second = Waiter(pool), Waiter(pool)
    first.cancel()
    first.join()
    assert isinstance(first.error, RequestCancelled)
    assert pool.waiting_count == 1
    lease.give_back(reusable=True)
    assert second.join().lease is not None


def test_an_abort_before_acquiring_is_raised() -> None:
    pool = make_pool()
    abort = Abort()
    abort.abort(lambda: RequestCancelled("cancelled"))
    with pytest.raises(RequestCancelled):
        pool.acquire("a", abort)
    assert pool.open_count == 0


def test_a_grant_that_meets_an_abort_is_passed_on(switch_interval: None) -> None:
    pool = make_pool(hard=1)
    for _ in range(200):
        lease = take(pool)
        first, second = Waiter(pool), Waiter(pool)
        canceller = threading.Thread(target=first.cancel)
        canceller.start()
        lease.give_back(reusable=True)
        canceller.join()
        first.join()
        if first.lease is not None:
            first.lease.give_back(reusable=True)
        second.join()
        assert second.lease is not None
        second.lease.give_back(reusable=True)
        assert (pool.open_count, pool.idle_count, pool.waiting_count) == (1, 1, 0)


def test_waiting_ones_turn_does_not_fail_whatever_the_pool_timeout() -> None:
    clock = Clock()
    pool = make_pool(hard=1, timeout=0.001, clock=clock)
    lease = take(pool)
    waiter = Waiter(pool)
    clock.now += 3600
    pool._wake_line()
    lease.give_back(reusable=True)
    assert waiter.join().lease is not None


def test_unread_streams_that_hold_everything_are_a_pool_timeout() -> None:
    pool = make_pool(hard=2, timeout=0.05)
    streams = [take(pool), take(pool)]
    for stream in streams:
        stream.delivered()
    started = time.monotonic()
    with pytest.raises(PoolTimeout, match=r"all 2 connections for 0\.05 s"):
        take(pool)
    assert time.monotonic() - started >= 0.05
    assert pool.waiting_count == 0
    streams[0].give_back(reusable=True)
    take(pool).give_back(reusable=True)


def test_the_clock_runs_only_while_streams_hold_everything() -> None:
    pool = make_pool(hard=2, timeout=0.05)
    stream, working = take(pool), take(pool)
    stream.delivered()
    waiter = Waiter(pool)
    time.sleep(0.15)  # three times the pool timeout, in which nothing may happen
    assert waiter.waits
    # The waiter is told when it begins to run.
    working.delivered()
    assert isinstance(waiter.join().error, PoolTimeout)


def test_a_stream_that_ends_stops_the_clock() -> None:
    clock = Clock()
    pool = make_pool(hard=1, timeout=5.0, clock=clock)
    stream = take(pool)
    stream.delivered()
    assert pool._stuck_since == clock.now
    stream.give_back(reusable=True)
    assert pool._stuck_since is None
    stream.delivered()  # too late to count
    assert pool._stuck_since is None


def test_user_code_that_comes_back_stops_the_clock() -> None:
    clock = Clock()
    pool = make_pool(hard=1, timeout=5.0, clock=clock)
    lease = take(pool)
    lease.delivered()
    assert pool._stuck_since == clock.now
    lease.resumed()
    assert pool._stuck_since is None
    lease.give_back(reusable=True)
    lease.resumed()  # too late to matter
    assert pool.idle_count == 1


# What nobody gave back.


def test_a_lease_that_is_dropped_is_found_by_the_next_operation() -> None:
    pool = make_pool(hard=1)
    lease = take(pool)
    connection = connection_of(lease)
    del lease
    assert take(pool).connection is not connection
    assert connection.closed
    assert Connection.most_open == 1


def test_a_lease_that_is_dropped_wakes_a_waiter() -> None:
    pool = make_pool(hard=1)
    lease = take(pool)
    lease.delivered()
    waiters = [Waiter(pool), Waiter(pool)]
    del lease
    waiters[0].join()
    assert waiters[0].lease is not None
    waiters[0].lease = None
    waiters[1].join()
    assert waiters[1].lease is not None


def test_dropping_a_lease_takes_no_lock() -> None:
    pool = make_pool(hard=1)
    lease = take(pool)
    with held_by_another_thread(pool._lock):
        started = time.monotonic()
        del lease
        assert time.monotonic() - started < PATIENCE / 2
    take(pool).give_back(reusable=True)


def test_the_pool_does_not_keep_a_lease_alive() -> None:
    gc.disable()
    try:
        pool = make_pool()
        lease = take(pool)
        connection = weakref.ref(connection_of(lease))
        lease.give_back(reusable=False)
        del lease
        assert connection() is None
    finally:
        gc.enable()


class Interrupted(BaseException):
    pass


@pytest.mark.slow  # traces each line itself
@pytest.mark.parametrize("operation", ["acquire", "give_back", "evict", "wait"])
def test_an_interrupt_at_any_line_loses_no_permit(operation: str) -> None:
    """As `KeyboardInterrupt` may: at every line of the pool, in turn."""
    step = 0
    while True:
        pool = make_pool(soft=1, hard=1)
        prepared = None
        if operation in ("give_back", "wait"):
            prepared = take(pool)
        elif operation == "evict":
            take(pool, "other").give_back(reusable=True)
        operate = functools.partial(_operate, operation, pool, prepared)
        interrupted = _interrupt_at(step, operate)
        del prepared, operate
        # Whatever happened: the next one gets its connection, and never two are open.
        lease = take(pool, abort=_impatient())
        assert pool.open_count == 1
        lease.give_back(reusable=True)
        pool.close()
        assert pool.open_count == 0
        if not interrupted:
            assert step > 10
            return
        step += 1


def _operate(operation: str, pool: Pool, prepared: Lease[Connection] | None) -> None:
    if operation == "give_back":
        assert prepared is not None
        prepared.give_back(reusable=True)
    elif operation == "wait":
        assert prepared is not None
        giver = threading.Thread(target=_give_back_to_waiter, args=(pool, prepared))
        del prepared
        giver.start()
        try:
            take(pool).give_back(reusable=True)
        finally:
            giver.join()
    else:
        take(pool).give_back(reusable=True)


def _give_back_to_waiter(pool: Pool, lease: Lease[Connection]) -> None:
    end = time.monotonic() + 0.02  # the one to wait may have been interrupted before that
    while not pool.waiting_count and time.monotonic() < end:
        time.sleep(0)
    lease.give_back(reusable=True)


def _impatient() -> Abort:
    """Ends the test, rather than to let it hang."""
    abort = Abort()
    timer = threading.Timer(PATIENCE, lambda: abort.abort(lambda: RequestCancelled("stuck")))
    timer.daemon = True
    timer.start()
    weakref.finalize(abort, timer.cancel)
    return abort


#: Where a signal cannot strike: entering and leaving a lock is one instruction.
_WITH_LINES = frozenset(
    number
    for number, line in enumerate(inspect.getsource(pool_module).splitlines(), 1)
    if line.strip() == "with self._lock:"
)


def _interrupt_at(step: int, function: typing.Callable[[], object]) -> bool:
    """Raise `Interrupted` before one line of the pool's code; False if there are fewer."""
    remaining = step
    struck = False

    def trace(frame: types.FrameType, event: str, arg: object) -> typing.Any:
        nonlocal remaining, struck
        code = frame.f_code
        if struck or code.co_filename != pool_module.__file__ or code.co_name == "__del__":
            return None
        if event == "line" and frame.f_lineno not in _WITH_LINES:
            if remaining == 0:
                struck = True
                raise Interrupted
            remaining -= 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    except Interrupted:
        pass
    finally:
        sys.settrace(before)
    return struck


@pytest.mark.slow  # also since an interrupt within what measures the tests would lock that up
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs setitimer()")
def test_signals_at_random_instants_lose_no_permit() -> None:
    def strike(number: int, frame: types.FrameType | None) -> None:
        # Not in what a tracer does in between; and what is raised in a finalizer is not
        # raised at all. Then a little later.
        spared = frame is None or frame.f_code.co_filename not in places
        while frame is not None:
            spared = spared or frame.f_code.co_name == "__del__"
            frame = frame.f_back
        if not spared:
            raise Interrupted
        signal.setitimer(signal.ITIMER_REAL, 1e-4)

    def work() -> None:
        # Bounded, since what is raised where Python ignores exceptions is lost. And a function,
        # since CPython 3.13.0 skips the handlers around a loop that is struck at its end.
        end = time.monotonic() + 0.02
        while time.monotonic() < end:
            take(pool, rng.choice("ab")).give_back(reusable=True)

    places = {pool_module.__file__, __file__}
    pool = make_pool(soft=1, hard=1)
    rng = random.Random(3)
    struck = 0
    before = signal.signal(signal.SIGALRM, strike)
    try:
        for _ in range(300):
            try:
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-5, 5e-4))
                work()
            except Interrupted:
                struck += 1
            lease = take(pool, abort=_impatient())
            assert pool.open_count == 1
            lease.give_back(reusable=True)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert struck > 250
    pool.close()
    assert pool.open_count == 0


# Closing.


def test_close_closes_what_is_idle_and_later_what_is_given_back() -> None:
    pool = make_pool()
    used, idle = take(pool), take(pool)
    resting = connection_of(idle)
    idle.give_back(reusable=True)
    pool.close()
    pool.close()
    assert resting.closed
    working = connection_of(used)
    assert not working.closed
    used.give_back(reusable=True)
    assert working.closed
    assert pool.open_count == 0
    with pytest.raises(ClientClosed):
        take(pool)


def test_close_ends_those_who_wait() -> None:
    pool = make_pool(hard=1)
    lease = take(pool)
    waiters = [Waiter(pool), Waiter(pool)]
    pool.close()
    for waiter in waiters:
        assert isinstance(waiter.join().error, ClientClosed)
    lease.give_back(reusable=True)
    assert pool.open_count == 0


def test_forget_touches_idle_connections_without_the_lock() -> None:
    pool = make_pool()
    used, idle = take(pool), take(pool)
    resting = connection_of(idle)
    idle.give_back(reusable=True)
    with held_by_another_thread(pool._lock):  # as by one of the parent's
        started = time.monotonic()
        pool.forget()
        assert time.monotonic() - started < PATIENCE / 2
    assert resting.forgotten
    assert not resting.closed
    assert not connection_of(used).forgotten


# All together.


def test_limits_hold_and_nothing_is_lost_under_stress(switch_interval: None) -> None:
    soft, hard = 3, 5
    pool = make_pool(soft=soft, hard=hard)
    done: list[int] = []

    def work(seed: int) -> None:
        for number in range(150):
            step = (seed * 31 + number * 17) % 10
            abort = Abort()
            if step == 0:
                threading.Thread(
                    target=abort.abort, args=(lambda: RequestCancelled("cancelled"),)
                ).start()
            try:
                lease = take(pool, f"key{(seed + number) % 3}", abort)
            except RequestCancelled:
                continue
            connection = connection_of(lease)
            assert not connection.closed
            assert pool.idle_count <= soft
            if step == 1:
                connection.usable = False
            if step == 2:
                lease.delivered()
            assert not connection.closed
            if step == 3:
                del lease
                continue
            lease.give_back(reusable=step != 4)
        done.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(done) == 12
    # Those that were dropped were closed, but by the garbage collector's leave.
    assert Connection.most_open <= hard
    take(pool).give_back(reusable=True)
    assert pool.open_count == pool.idle_count == Connection.open_now <= soft
    assert pool.waiting_count == 0
    pool.close()
    assert Connection.open_now == 0


class PoolMachine(RuleBasedStateMachine):
    """Any sequence of what one thread can do without waiting."""

    @initialize(soft=st.integers(0, 4), hard=st.integers(1, 5))
    def start(self, soft: int, hard: int) -> None:
        Connection.open_now = Connection.most_open = 0
        self.clock = Clock()
        self.soft, self.hard = soft, hard
        self.pool = make_pool(soft, hard, clock=self.clock)
        self.leases: list[Lease[Connection]] = []
        self.closed = False

    @precondition(lambda self: len(self.leases) < self.hard and not self.closed)
    @rule(key=st.sampled_from("abc"))
    def acquire(self, key: str) -> None:
        self.leases.append(take(self.pool, key))

    @precondition(lambda self: self.leases)
    @rule(reusable=st.booleans(), data=st.data())
    def give_back(self, reusable: bool, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.leases) - 1))
        self.leases.pop(index).give_back(reusable=reusable)

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        self.leases.pop(data.draw(st.integers(0, len(self.leases) - 1)))

    @precondition(lambda self: self.leases)
    @rule()
    def deliver(self) -> None:
        self.leases[-1].delivered()

    @rule(seconds=st.sampled_from([1.0, 59.0, 61.0]))
    def let_time_pass(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule()
    def spoil_what_is_idle(self) -> None:
        for entry in self.pool._idle.values():
            entry.connection.usable = False

    @precondition(lambda self: not self.closed)
    @rule()
    def close(self) -> None:
        self.pool.close()
        self.closed = True

    @invariant()
    def limits_hold(self) -> None:
        if not hasattr(self, "pool"):
            return
        assert Connection.most_open <= self.hard
        assert self.pool.idle_count <= (0 if self.closed else self.soft)
        for lease in self.leases:
            assert not connection_of(lease).closed
        self.pool._sweep()
        assert self.pool.open_count == Connection.open_now
        assert self.pool.open_count - self.pool.idle_count == len(self.leases)
        by_key = [t for entries in self.pool._idle_by_key.values() for t in entries]
        assert sorted(by_key) == sorted(self.pool._idle)


TestPoolMachine = PoolMachine.TestCase
TestPoolMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_a_pool_that_is_dropped_lets_go_of_what_is_idle() -> None:
    pool, connection = make_pool(), Connection()
    lease = pool.acquire("a", Abort())
    lease.connection = connection
    lease.give_back(reusable=True)
    assert not connection.forgotten
    del lease, pool
    gc.collect()
    assert connection.forgotten


def test_an_interrupt_while_a_connection_is_handed_over_leaves_it_in_no_two_hands() -> None:
    """Wherever it strikes in the step: who waits gets a connection that no one else closes."""
    step = ConnectionPool._pop_newest_locked.__code__
    first = step.co_firstlineno
    lines = sorted({line for _, _, line in step.co_lines() if line is not None and line > first})
    struck = 0
    for line in lines:
        pool: ConnectionPool[typing.Any] = ConnectionPool(PoolLimits(hard_limit=2, soft_limit=2))
        mine = pool.acquire("a", Abort())
        mine.connection = connection = Connection()
        other = pool.acquire("b", Abort())
        other.connection = Connection()
        granted: list[typing.Any] = []
        waiter = threading.Thread(target=lambda: granted.append(pool.acquire("a", Abort())))  # noqa: B023
        waiter.start()
        assert wait_until(lambda: pool.waiting_count == 1)  # noqa: B023

        def strike(frame: typing.Any, event: str, _: object) -> typing.Any:
            if frame.f_code is step and event == "line" and frame.f_lineno == line:  # noqa: B023
                sys.settrace(None)
                raise KeyboardInterrupt
            return strike

        before = sys.gettrace()
        sys.settrace(strike)
        try:
            mine.give_back(reusable=True)
        except KeyboardInterrupt:
            struck += 1
        finally:
            sys.settrace(before)
        other.give_back(reusable=False)
        waiter.join(PATIENCE)
        (lease,) = granted
        idle = [entry.connection for entry in pool._idle.values()]
        assert lease.connection is None or lease.connection not in idle
        for key in ("c", "d"):  # of other hosts: what is idle gives way to them
            another = pool.acquire(key, Abort())
            another.give_back(reusable=False)
        assert lease.connection is not connection or not connection.closed
    assert struck > 3
