"""
A clock that stands still while anything can happen.

The guarantees:

1. *Time passes only when nothing else can happen*: when every worker that has a job waits for a
   time, or for another that does, every job that is still in line has no worker to take it, and
   somebody waits for a response. Then it jumps to the next moment for which somebody waits.
2. *One at a time.* Only one wait ends at each jump, and what follows from it happens before the
   next one. Of several that end at the same moment, the request that was submitted first is first.
3. So the order in which the requests of one thread complete depends on the latencies alone, not on
   which thread the system runs when.

Who was woken is on his way from that moment on, not only once he runs. Code of the user's
in a worker, which waits for something else, holds the clock, as it should: what it will do is not
known.

Nobody waits in the lock, and nobody else's code runs under it.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
import typing
import weakref

from ..aborting import Signal, Waiting
from ..workers import Timer, Workers

__all__ = ["VirtualClock"]


class _Wait:
    """Somebody waits."""

    __slots__ = ("expired", "is_over", "is_set", "poke_there", "set", "workers")

    def __init__(
        self,
        workers: Workers | None,
        is_set: typing.Callable[[], bool],
        set_it: typing.Callable[[], object],
        poke_there: typing.Callable[[typing.Callable[[], object]], object] | None = None,
    ) -> None:
        #: Of which pool a worker waits; None for a caller.
        self.workers: Workers | None = workers
        self.is_set: typing.Callable[[], bool] = is_set
        self.set: typing.Callable[[], object] = set_it
        #: Where an event loop waits: has it look at the clock, after all that is ready there.
        self.poke_there: typing.Callable[[typing.Callable[[], object]], object] | None = poke_there
        self.expired: bool = False
        self.is_over: bool = False


class _Alarm(typing.NamedTuple):
    """An end of a wait, or a deadline, in the order in which they come."""

    when: float
    order: float
    number: int
    wait: _Wait | None
    timer: Timer | None
    workers: Workers | None

    def __lt__(self, other: typing.Any) -> bool:
        # Not by the rest, which has no order.
        return (self.when, self.order, self.number) < (other.when, other.order, other.number)

    @property
    def is_void(self) -> bool:
        if self.timer is not None:
            return self.timer.cancelled
        assert self.wait is not None
        return self.wait.is_over or self.wait.is_set()


class VirtualClock:
    """
    What tells the time of a `MockDispatch`, in seconds.

    * `callers`: how many threads, or tasks, must wait for responses before time begins to pass.
      From then on one is enough.
    """

    def __init__(self, callers: int = 1) -> None:
        self._callers = callers
        # Deadlines are compared with `time.monotonic` by those who do not know this clock.
        self._origin = time.monotonic()
        self._now = 0.0
        # Reentrant, for a signal handler that ends a block.
        self._lock = threading.RLock()
        self._waits: set[_Wait] = set()
        self._alarms: list[_Alarm] = []
        self._numbers = itertools.count()
        #: Jobs on their way or running.
        self._jobs: weakref.WeakKeyDictionary[Workers, int] = weakref.WeakKeyDictionary()
        #: What event loops are about to be told. Gone with a loop that ends before.
        self._messages: weakref.WeakSet[_Message] = weakref.WeakSet()
        # Deadlines that are being kept at this moment.
        self._firing = 0

    @property
    def now(self) -> float:
        """Seconds since the beginning."""
        return self._now

    def advance(self, seconds: float) -> None:
        """
        Have so many seconds pass, with all that happens in them. For code that does not wait for
        responses, but looks at ``done()``, say. Returns once nothing more can happen before then.
        """
        if not seconds >= 0:
            raise ValueError(f"time passes forwards: not by {seconds!r} s")
        # As a caller who waits for that long.
        self.wait(Signal(), seconds)

    # As `Clock`.

    def time(self) -> float:
        return self._origin + self._now

    def wait(self, signal: Signal, timeout: float | None, order: float = float("inf")) -> bool:
        wait = _Wait(Workers.current(), _asker(signal), signal.set)
        self._begin(wait, timeout, order)
        try:
            self._poke()
            signal.wait()
        finally:
            self._end(wait)
        return not wait.expired

    async def wait_async(
        self,
        event: typing.Any,
        call_soon: typing.Callable[[typing.Callable[[], object]], object],
        end: float | None,
    ) -> bool:
        """As `wait`, for a task. `end`: by `time`."""

        def expire() -> None:
            call_soon(event.set)

        wait = _Wait(None, event.is_set, expire, call_soon)
        self._begin(wait, None if end is None else end - self.time(), float("inf"))
        try:
            self._poke()
            await event.wait()
        finally:
            self._end(wait)
        return not wait.expired

    def holding(self, function: typing.Callable[[], object]) -> typing.Callable[[], object]:
        message = _Message(self, function)
        with self._lock:
            self._messages.add(message)
        return message

    def schedule(self, workers: Workers, timer: Timer) -> None:
        with self._lock:
            self._push(timer.when - self._origin, float("-inf"), None, timer, workers)

    def waiting_of(self, order: float) -> Waiting:
        return _OfRequest(self, order)

    def has_begun(self, workers: Workers) -> None:
        with self._lock:
            self._jobs[workers] = self._jobs.get(workers, 0) + 1

    def is_over(self, workers: Workers) -> None:
        with self._lock:
            self._jobs[workers] -= 1
        self._poke()

    # Time.

    def _begin(self, wait: _Wait, timeout: float | None, order: float) -> None:
        with self._lock:
            if timeout is not None:
                self._push(self._now + max(0.0, timeout), order, wait, None, None)
            self._waits.add(wait)

    def _end(self, wait: _Wait) -> None:
        with self._lock:
            wait.is_over = True
            self._waits.discard(wait)
            others = bool(self._waits)
        if others:  # it may be that nothing else happens here
            self._poke()

    def _push(
        self,
        when: float,
        order: float,
        wait: _Wait | None,
        timer: Timer | None,
        workers: Workers | None,
    ) -> None:
        alarm = _Alarm(when, order, next(self._numbers), wait, timer, workers)
        heapq.heappush(self._alarms, alarm)

    def _poke(self) -> None:
        """Something has changed: let time pass, if nothing else can happen."""
        with self._lock:
            loops = {wait.poke_there for wait in self._waits if wait.poke_there is not None}
        if not loops:
            self._advance()
        for poke_there in loops:
            poke_there(self._advance)

    def _advance(self) -> None:
        with self._lock:
            if not self._is_quiet():
                return
            alarm = self._next_alarm()
            if alarm is None:
                return
            self._now = max(self._now, alarm.when)
            if alarm.wait is not None:
                alarm.wait.expired = True
                alarm.wait.set()
                return
            self._firing += 1
        timer, workers = alarm.timer, alarm.workers
        assert timer is not None
        assert workers is not None

        def fire() -> None:
            try:
                timer.fire()
            finally:
                with self._lock:
                    self._firing -= 1
                self._poke()

        workers.call_soon(fire)

    def _is_quiet(self) -> bool:
        if self._firing or self._messages:
            return False
        callers = 0
        waiting: dict[Workers, int] = {}
        for wait in self._waits:
            if wait.expired or wait.is_set():
                return False  # it is on its way
            if wait.workers is None or wait.workers not in self._jobs:
                callers += 1
            else:
                waiting[wait.workers] = waiting.get(wait.workers, 0) + 1
        if callers < self._callers:
            return False
        self._callers = 1
        return all(
            jobs == waiting.get(workers, 0) or waiting.get(workers, 0) >= workers.max_workers
            for workers, jobs in self._jobs.items()
        )

    def _next_alarm(self) -> _Alarm | None:
        while self._alarms:
            alarm = heapq.heappop(self._alarms)
            if not alarm.is_void:
                return alarm
        return None


class _Message:
    """A function that the clock stands still for until it was called."""

    def __init__(self, clock: VirtualClock, function: typing.Callable[[], object]) -> None:
        self._clock = clock
        self._function = function

    def __call__(self) -> None:
        try:
            self._function()
        finally:
            with self._clock._lock:
                self._clock._messages.discard(self)
            self._clock._poke()


def _asker(signal: Signal) -> typing.Callable[[], bool]:
    return lambda: signal.is_set


class _OfRequest:
    """What one request waits by: its place among those that wait for the same moment."""

    __slots__ = ("_clock", "_order")

    def __init__(self, clock: VirtualClock, order: float) -> None:
        self._clock = clock
        self._order = order

    def wait(self, signal: Signal, timeout: float | None) -> bool:
        return self._clock.wait(signal, timeout, self._order)
