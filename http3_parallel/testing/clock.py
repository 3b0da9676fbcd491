"""
A clock that stands still while anything can happen.

The guarantees:

1. *Time passes only when nothing else can happen*: when every worker that has a job waits for a
   time, or for another that does; every job that is still in line has no worker to take it;
   somebody waits for a response; and who has submitted requests to a block that nobody waits for
   waits, too, if for other requests. Then it jumps to the next moment for which somebody waits.
2. *One at a time.* Only one wait ends at each jump, and what follows from it happens before the
   next one. Of several that end at the same moment, the request that was submitted first is first;
   deadlines are before that, and the ends of waits for a response after.
3. So the order in which the requests of one thread, or of the tasks of one event loop, complete
   depends on the latencies alone, not on which thread the system runs when. What is undetermined is
   when one thread makes its requests, as seen by another.

Who was woken is on his way from that moment on, not only once he runs. An event loop is on its way
until each of its tasks waits for something.

Code of the user's in a worker, which waits for something else, holds the clock, as it should: what
it will do is not known. It does so no more once its request was ended, and nobody waits for it.

A thread that has submitted requests, and waits for something that this clock knows nothing of (for
another thread, say), would hold it for ever: after some time in which nothing happens, it is passed
over, with a warning in the log. What else has the clock stand still for long is logged, too.

Nobody waits in the lock, and nobody else's code runs under it. What is going on is known by objects
that whoever is at it has, and by nothing that would stay if a KeyboardInterrupt came between.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import logging
import operator
import os
import sys
import threading
import time
import typing
import weakref

from ..aborting import Abort, Signal, Waiting
from ..workers import Fillable, Job, LoopOfCaller, Registry, Timer, Workers

__all__ = ["VirtualClock"]

_logger = logging.getLogger("http3_parallel")

#: Real seconds from one look to the next of who waits, at whether time stands still. Counted, not
#: timed: while the whole process stands still, nobody does anything.
_LOOK = 0.25
#: Looks at a clock that stood still all the while, after which who does not wait is passed over,
#: and after which it is told why it stands still.
_LOOKS_TO_PASS_OVER = 8
_LOOKS_TO_TELL = 20

#: Decimals of a moment, in seconds. What is due at the same time is, whatever sums it comes from.
_DECIMALS = 6

_NEVER = float("inf")


class _Wait:
    """Somebody waits."""

    __slots__ = (
        "__weakref__",
        "block",
        "expired",
        "is_over",
        "is_set",
        "loop",
        "set",
        "thread",
        "workers",
    )

    def __init__(
        self,
        is_set: typing.Callable[[], bool],
        set_it: typing.Callable[[], object],
        *,
        workers: Workers | None = None,
        loop: LoopOfCaller | None = None,
        block: object = None,
    ) -> None:
        self.is_set: typing.Callable[[], bool] = is_set
        self.set: typing.Callable[[], object] = set_it
        #: Of which pool a worker waits; None for a caller.
        self.workers: Workers | None = workers
        #: Whose task waits, if one does.
        self.loop: LoopOfCaller | None = loop
        self.thread: threading.Thread | None = None if loop else threading.current_thread()
        #: That for whose requests it waits.
        self.block: object = block
        self.expired: bool = False
        self.is_over: bool = False


class _Alarm(typing.NamedTuple):
    """An end of a wait, or a deadline, in the order in which they come."""

    #: Exactly, and as far as it counts.
    when: float
    moment: float
    order: float
    number: int
    wait: weakref.ref[_Wait] | None
    timer: Timer | None
    workers: Workers | None

    def __lt__(self, other: typing.Any) -> bool:
        # Not by the rest, which has no order.
        return (self.moment, self.order, self.number) < (other.moment, other.order, other.number)

    @property
    def is_void(self) -> bool:
        if self.timer is not None:
            return self.timer.cancelled
        wait = None if self.wait is None else self.wait()
        return wait is None or wait.is_over or wait.is_set()


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
        self._begin_anew()
        _clocks.add(self)

    def _begin_anew(self) -> None:
        """Nothing is going on. Also in a forked child, which has none of its parent's threads."""
        # Reentrant, for a signal handler that ends a block.
        self._lock = threading.RLock()
        self._all_waits: Registry[_Wait] = Registry()
        self._alarms: list[_Alarm] = []
        self._sweep_at = 64
        self._numbers = itertools.count()
        #: Jobs on their way or running.
        self._jobs: weakref.WeakKeyDictionary[Job, tuple[Workers, int]] = (
            weakref.WeakKeyDictionary()
        )
        #: Requests that have begun, with their workers.
        self._requests: weakref.WeakKeyDictionary[Abort, Workers] = weakref.WeakKeyDictionary()
        #: And those that callers make themselves.
        self._calls: weakref.WeakKeyDictionary[_OfRequest, threading.Thread] = (
            weakref.WeakKeyDictionary()
        )
        #: Which threads submit to a block, and take from it.
        self._fillers: weakref.WeakKeyDictionary[Fillable, weakref.WeakSet[threading.Thread]] = (
            weakref.WeakKeyDictionary()
        )
        #: Those of them that are not waited for, until they do something.
        self._passed_over: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
        #: What event loops are about to be told, and deadlines that are about to be kept. Gone with
        #: a loop that ends before.
        self._messages: weakref.WeakSet[_Message] = weakref.WeakSet()
        # Counts all that happens, and tells what was told about the clock's standing still.
        self._happened = 0
        self._told_at = -1

    @property
    def now(self) -> float:
        """Seconds since the beginning, to the microsecond."""
        return round(self._now, _DECIMALS)

    def advance(self, seconds: float) -> None:
        """
        Have so many seconds pass, with all that happens in them. For code that does not wait for
        responses, but looks at ``done()``, say. Returns once nothing more can happen before then.

        RuntimeError where an event loop is running, which would wait for itself. There, ``await
        parallel.next_response(timeout=...)`` is as good.
        """
        if not seconds >= 0:
            raise ValueError(f"time passes forwards: not by {seconds!r} s")
        if _is_in_event_loop():
            raise RuntimeError(
                "advance() would have the event loop of this thread wait for itself: wait for a "
                "response there, with a timeout, say"
            )
        # As a caller who waits for that long.
        self.wait(Signal(), seconds)

    # As `Clock`.

    def time(self) -> float:
        return self._origin + self._now

    def wait(
        self,
        signal: Signal,
        timeout: float | None,
        order: float = _NEVER,
        *,
        block: object = None,
    ) -> bool:
        wait = _Wait(_asker(signal), signal.set, workers=Workers.current(), block=block)
        self._begin(wait, timeout, order)
        try:
            self._poke()
            looks = _Looks()
            while not signal.wait(_LOOK):
                self._look(looks)
        finally:
            self._end(wait)
        return not wait.expired

    def wait_outside(self, signal: Signal, timeout: float | None) -> bool:
        wait = _Wait(_asker(signal), signal.set, workers=Workers.current())
        self._begin(wait, None, _NEVER)
        try:
            self._poke()
            return signal.wait(timeout)
        finally:
            self._end(wait)

    async def wait_async(self, event: typing.Any, loop: LoopOfCaller, end: float | None) -> bool:
        def expire() -> None:
            loop.call_soon(event.set)

        wait = _Wait(event.is_set, expire, loop=loop)
        self._begin(wait, None if end is None else end - self.time(), _NEVER)
        try:
            self._poke()
            await event.wait()
        finally:
            self._end(wait)
        return not wait.expired

    def submits(self, block: Fillable) -> None:
        if Workers.current() is None:  # a worker is known by its job
            with self._lock:
                self._happened += 1
                self._add_filler(block, threading.current_thread())

    def holding(self, function: typing.Callable[[], object]) -> typing.Callable[[], object]:
        message = _Message(self, function)
        with self._lock:
            self._messages.add(message)
        return message

    def schedule(self, workers: Workers, timer: Timer) -> None:
        with self._lock:
            self._push(timer.when - self._origin, -_NEVER, None, timer, workers)

    def waiting_of(
        self, order: float, abort: Abort, tag: object, workers: Workers | None = None
    ) -> Waiting:
        waiting = _OfRequest(self, order, tag)
        with self._lock:
            self._happened += 1
            if workers is not None:
                self._requests[abort] = workers
            elif Workers.current() is None:
                thread = threading.current_thread()
                self._calls[waiting] = thread
                self._passed_over.discard(thread)
        return waiting

    def end(self, waiting: _OfRequest) -> None:
        """A request of the calling thread is over."""
        with self._lock:
            self._happened += 1
            self._calls.pop(waiting, None)
            others = bool(self._waits)
        if others:
            self._poke()

    def has_begun(self, workers: Workers, job: Job) -> None:
        with self._lock:
            self._happened += 1
            _, before = self._jobs.get(job, (workers, 0))
            self._jobs[job] = workers, before + 1

    def is_over(self, job: Job) -> None:
        with self._lock:
            self._happened += 1
            workers, before = self._jobs.pop(job, (None, 0))
            if workers is not None and before > 1:
                self._jobs[job] = workers, before - 1
        self._poke()

    # Time.

    def _begin(self, wait: _Wait, timeout: float | None, order: float) -> None:
        with self._lock:
            self._happened += 1
            if timeout is not None:
                when = self._now + max(0.0, timeout)
                self._push(when, order, weakref.ref(wait), None, None)
            self._all_waits.add(wait)
            thread = wait.thread
            if thread is not None and wait.workers is None:
                self._passed_over.discard(thread)
                if wait.block is not None:
                    self._add_filler(typing.cast(Fillable, wait.block), thread)

    def _end(self, wait: _Wait) -> None:
        wait.is_over = True  # first, and alone: a KeyboardInterrupt may come before the rest
        with self._lock:
            self._happened += 1
            others = bool(self._waits)
        if others:  # it may be that nothing else happens here
            self._poke()

    @property
    def _waits(self) -> list[_Wait]:
        return [wait for wait in self._all_waits.alive() if not wait.is_over]

    def _add_filler(self, block: Fillable, thread: threading.Thread) -> None:
        self._passed_over.discard(thread)
        threads = self._fillers.get(block)
        if threads is None:
            threads = self._fillers[block] = weakref.WeakSet()
        threads.add(thread)

    def _push(
        self,
        when: float,
        order: float,
        wait: weakref.ref[_Wait] | None,
        timer: Timer | None,
        workers: Workers | None,
    ) -> None:
        number = next(self._numbers)
        alarm = _Alarm(when, round(when, _DECIMALS), order, number, wait, timer, workers)
        heapq.heappush(self._alarms, alarm)
        if len(self._alarms) >= self._sweep_at:
            # Most requests end long before their deadline.
            self._alarms = [alarm for alarm in self._alarms if not alarm.is_void]
            heapq.heapify(self._alarms)
            self._sweep_at = 64 + 2 * len(self._alarms)

    def _poke(self) -> None:
        """Something has changed: let time pass, if nothing else can happen."""
        # Without the lock. (And no loop stands in a block that has it, not even a comprehension:
        # CPython 3.13.0 does not leave it where an interrupt strikes as the loop jumps back.)
        loops = {wait.loop for wait in self._waits if wait.loop is not None}
        if not loops:
            self._advance()
        for loop in loops:
            loop.when_quiet(self._advance)

    def _advance(self) -> None:
        with self._lock:
            if self._what_holds() is not None:
                return
            self._callers = 1
            alarm = self._next_alarm()
            if alarm is None:
                return
            self._happened += 1
            self._now = max(self._now, alarm.when)
            wait = None if alarm.wait is None else alarm.wait()
            if wait is not None:
                wait.expired = True
                wait.set()
                return
            if alarm.timer is None or alarm.workers is None:
                return
            fire = self.holding(alarm.timer.fire)
        alarm.workers.call_soon(fire)

    def _what_holds(self) -> str | None:
        """Why no time may pass now, for a message; None if it may. Under the lock."""
        if self._messages:
            return "something is being told"
        callers = 0
        waiting: dict[Workers, int] = {}
        all_jobs: dict[Workers, int] = {}
        for workers, count in list(self._jobs.values()):
            all_jobs[workers] = all_jobs.get(workers, 0) + count
        for wait in self._waits:
            if wait.expired or wait.is_set():
                return "somebody has been woken"
            if wait.workers is None or wait.workers not in all_jobs:
                callers += 1
            else:
                waiting[wait.workers] = waiting.get(wait.workers, 0) + 1
        for workers, jobs in all_jobs.items():
            there = waiting.get(workers, 0)
            if there < workers.max_workers and there < jobs:
                busy = jobs - there - self._count_abandoned(workers)
                if busy > 0:
                    return (
                        f"{busy} of its workers are in code that it knows nothing of: in a hook, "
                        "an auth callable, the iterator of a body"
                    )
        if callers < self._callers:
            return (
                "nobody waits for a response: if nobody is to, have time pass by advance()"
                if callers == 0
                else f"{callers} wait for responses, of the {self._callers} who are to begin"
            )
        busy_threads = self._busy_threads()
        if busy_threads:
            names = ", ".join(sorted({thread.name for thread in busy_threads}))
            return f"who has requests does not wait for responses: {names}"
        return None

    def _count_abandoned(self, workers: Workers) -> int:
        requests = list(self._requests.items())
        return sum(abort.is_abandoned for abort, whose in requests if whose is workers)

    def _busy_threads(self) -> list[threading.Thread]:
        """
        Those that have requests in a block that nobody waits for, or are at one of their own, and
        do not wait themselves.
        """
        attended = {id(wait.block) for wait in self._waits if wait.block is not None}
        waiting = {wait.thread for wait in self._waits if wait.thread is not None}
        busy = list(self._calls.values())
        for block, threads in list(self._fillers.items()):
            if id(block) not in attended and block.is_awaited:
                busy += threads
        return [
            thread
            for thread in busy
            if thread not in waiting and thread not in self._passed_over and thread.is_alive()
        ]

    def _next_alarm(self) -> _Alarm | None:
        while self._alarms:
            alarm = heapq.heappop(self._alarms)
            if not alarm.is_void:
                return alarm
        return None

    # Standing still.

    def _look(self, looks: _Looks) -> None:
        """By who waits, now and then."""
        with self._lock:
            if looks.happened != self._happened:
                looks.happened, looks.count = self._happened, 0
                return
            looks.count += 1
            if looks.count < _LOOKS_TO_PASS_OVER or self._told_at == self._happened:
                return
            why = self._what_holds()
            passed_over = bool(why) and self._pass_over()
            if not passed_over and looks.count < _LOOKS_TO_TELL:
                return
            is_due = any(not alarm.is_void for alarm in self._alarms)
            self._told_at = self._happened
        if passed_over:
            _logger.warning("a MockDispatch's clock goes on although %s", why)
            self._poke()
        elif is_due:
            # It would go on, if it were asked to.
            why = why or "a task goes on without ever waiting, by sleep(0), say"
            _logger.warning("a MockDispatch's clock stands still: %s", why)

    def _pass_over(self) -> bool:
        """Whether nothing else holds the clock than threads that do not wait. Under the lock."""
        threads = self._busy_threads()
        for thread in threads:
            self._passed_over.add(thread)
        if threads and self._what_holds() is None:
            return True
        for thread in threads:
            self._passed_over.discard(thread)
        return False


#: For a forked child.
_clocks: weakref.WeakSet[VirtualClock] = weakref.WeakSet()


def _begin_all_anew() -> None:
    for clock in list(_clocks):
        clock._begin_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_all_anew)


class _Looks:
    """How often somebody has looked at the clock since something has happened."""

    __slots__ = ("count", "happened")

    def __init__(self) -> None:
        self.count = 0
        self.happened = -1


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


def _is_in_event_loop() -> bool:
    # By those that are loaded: nobody else's loop is running.
    for module, ask in (("asyncio", "get_running_loop"), ("trio", "lowlevel.current_trio_token")):
        if module in sys.modules:
            with contextlib.suppress(RuntimeError):
                operator.attrgetter(ask)(sys.modules[module])()
                return True
    return False


def _asker(signal: Signal) -> typing.Callable[[], bool]:
    return lambda: signal.is_set


class _OfRequest:
    """What one request waits by: its place among those that wait for the same moment."""

    __slots__ = ("__weakref__", "_clock", "_order", "tag")

    def __init__(self, clock: VirtualClock, order: float, tag: object) -> None:
        self._clock = clock
        self._order = order
        self.tag: object = tag

    def wait(self, signal: Signal, timeout: float | None) -> bool:
        return self._clock.wait(signal, timeout, self._order)

    def wait_outside(self, signal: Signal, timeout: float | None) -> bool:
        return self._clock.wait_outside(signal, timeout)

    def end(self) -> None:
        self._clock.end(self)
