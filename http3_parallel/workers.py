"""
A bounded pool of threads, with a clock. It knows nothing of HTTP.

The threads are a `ThreadPoolExecutor`'s; each runs one long job, `_work`, that takes what is
submitted from a queue of our own. That keeps three promises which ``executor.submit`` per
request could not:

1. *A signal handler's exception cannot break it.* `KeyboardInterrupt` may strike the main
   thread at any bytecode of `submit`. What the executor and ``Thread.start`` do there in
   Python (conditions, semaphores, bookkeeping around a started thread) would be left half
   done; so the main thread only puts messages into queues, each a single C call, and a daemon
   thread, the foreman, which no signal interrupts, starts the workers.
2. *Nobody waits behind a worker that is not there.* Whether another thread is needed is
   decided from levels, not events: jobs waiting against workers idle, looked at again after
   each submit and each time a worker stops being idle, and by `ensure()` before a long wait.
   Asking once too often does nothing; a missed request is made up for by the next. If threads
   are started and never run, `wait()` finds out.
3. *The interpreter's exit does not run the queue first*, as an executor's does: see
   `end_at_exit`.

The foreman also keeps the time (`schedule`), and runs what finalizers may not (`call_soon`).
It is started when first needed, and ends with the pool.
"""

from __future__ import annotations

import _thread
import contextlib
import functools
import heapq
import logging
import queue
import threading
import time
import typing
import weakref
from concurrent.futures import ThreadPoolExecutor

from .aborting import Abort, Signal, Waiting

__all__ = [
    "Job",
    "Lifeless",
    "Registry",
    "Timer",
    "Workers",
    "end_at_exit",
    "guarded",
    "guarded_all",
]

_T = typing.TypeVar("_T")

#: The longest single wait of the foreman: what a C wait takes is less than what a float can say.
_LONGEST_WAIT = 3600.0

#: A thread that waits for a job looks so many times, for so many seconds each, for a sign of life
#: of the pool's. Counted, not timed: while the whole process stands still, nobody can give one.
_LOOKS, _LOOK = 50, 0.1

#: Seconds between two looks at whether the interpreter exits, where nothing tells.
_EXIT_POLL = 0.1


class Lifeless(RuntimeError):
    """Threads can be started, and do not run."""

    def __init__(self) -> None:
        super().__init__(
            "no thread has come to life in this process, which may have been forked from one "
            "with threads without Python's knowledge; under uWSGI, give it --enable-threads, and "
            "--lazy-apps or --py-call-uwsgi-fork-hooks"
        )


class Job(typing.Protocol):
    def __call__(self) -> None:
        """Run on a worker. Must not raise."""

    def refused(self, error: BaseException) -> None:
        """Called in place of running: there is no thread, and none can be started."""


class Expirable(typing.Protocol):
    def _expire(self) -> None:
        """Called on the foreman's thread when the time has come. Must be quick, and not raise."""


class Timer:
    """One appointment with the foreman. Cancelling it lets go of its target at once."""

    __slots__ = ("_target", "when")

    def __init__(self, when: float, target: Expirable) -> None:
        self.when: float = when
        self._target: Expirable | None = target

    def __lt__(self, other: Timer) -> bool:
        return self.when < other.when

    @property
    def cancelled(self) -> bool:
        return self._target is None

    def cancel(self) -> None:
        self._target = None

    def fire(self) -> None:
        target, self._target = self._target, None
        if target is not None:
            target._expire()


#: Whose worker a thread is. By thread, not in a `threading.local`: one made before gevent replaced
#: the threads would be the same for all of its.
_serving: weakref.WeakKeyDictionary[threading.Thread, Workers] = weakref.WeakKeyDictionary()
_logger = logging.getLogger("http3_parallel")


class Registry(typing.Generic[_T]):
    """
    Objects that are alive, without keeping them so. Unlike a WeakSet's, its copying and its
    forgetting are single calls in C, which other threads and signals cannot come between.
    """

    def __init__(self) -> None:
        self._references: dict[int, weakref.ref[_T]] = {}

    def add(self, item: _T) -> None:
        forget = functools.partial(self._references.pop, id(item))
        self._references[id(item)] = weakref.ref(item, forget)

    def alive(self) -> list[_T]:
        references = list(self._references.values())
        return [item for reference in references if (item := reference()) is not None]


class _Foreman(threading.Thread):
    def __init__(self, work: typing.Callable[[], None], *, daemon: bool) -> None:
        super().__init__(target=work, name="http3_parallel foreman", daemon=daemon)
        self.launched = Signal()

    def end(self, when: float) -> None:
        """Wait for its end, until `when` on the clock of `time.monotonic`."""
        if self.launched.wait(when - time.monotonic()):
            self.launched.set()  # for who comes next
            if self.ident is not None:
                self.join(max(0.0, when - time.monotonic()))


class LoopOfCaller(typing.Protocol):
    """An event loop whose tasks wait by a `Clock`."""

    def call_soon(self, function: typing.Callable[[], object]) -> None:
        """Have it called by the loop."""

    def when_quiet(self, function: typing.Callable[[], object]) -> None:
        """The same, once every task there waits for something."""


class Fillable(typing.Protocol):
    """A block, to a `Clock`."""

    @property
    def is_awaited(self) -> bool:
        """Whether there are requests in it that have not ended."""


class Clock(typing.Protocol):
    """What tells the time in place of the system: see `testing`."""

    def time(self) -> float:
        """Seconds."""

    def wait(self, signal: Signal, timeout: float | None, *, block: object = None) -> bool:
        """As `Signal.wait`. `block`: that for whose requests the calling thread waits."""

    async def wait_async(self, event: typing.Any, loop: LoopOfCaller, end: float | None) -> bool:
        """For a task that waits for `event`, until `end`, by `time`. As `wait`."""

    def submits(self, block: Fillable) -> None:
        """The calling thread submits a request to `block`."""

    def holding(self, function: typing.Callable[[], object]) -> typing.Callable[[], object]:
        """The same, for an event loop to call; until then, something is happening."""

    def schedule(self, workers: Workers, timer: Timer) -> None:
        """Have it fired when its time has come, by the foreman of `workers`."""

    def waiting_of(
        self, order: float, abort: Abort, tag: object, workers: Workers | None = None
    ) -> Waiting:
        """
        For the request that was submitted at `order`, with that `tag`, and is run by one of
        `workers`, or else in the calling thread.
        """

    def has_begun(self, workers: Workers, job: Job) -> None:
        """It is on its way, as long as somebody has it. May be said again before it has ended."""

    def is_over(self, job: Job) -> None:
        """It has ended, once."""


class Workers:
    """
    At most `max_workers` threads, started when there is work and none is idle.

    `clock`: what tells the time in place of the system, if anything. It is told of each job.
    """

    def __init__(self, max_workers: int, clock: Clock | None = None) -> None:
        self.max_workers = max_workers
        self.clock: Clock | None = clock
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._messages: queue.SimpleQueue[typing.Any] = queue.SimpleQueue()
        # Guards the two counts. Taken by workers and the foreman only: no signal strikes there.
        self._lock = threading.Lock()
        self._threads = 0
        self._idle = 0
        self._foremen: list[_Foreman] = []
        self._stopped = False
        # Whether a worker has ever run, and what to refuse jobs with while none has for too long.
        self._alive = False
        self._lifeless: Lifeless | None = None

    @staticmethod
    def current() -> Workers | None:
        """The pool whose worker the calling thread is."""
        return _serving.get(threading.current_thread())

    @staticmethod
    def on_foreman() -> bool:
        """Whether the calling thread is a foreman, which others wait for: nothing slow here."""
        return isinstance(threading.current_thread(), _Foreman)

    # Called from any thread.

    def submit(self, job: Job) -> None:
        """Run `job` on a worker, in the order of submission."""
        if self.clock is not None:
            self.clock.has_begun(self, job)
        self._jobs.put(job)
        if self._stopped:
            self._refuse(RuntimeError("the workers were stopped"))
        elif self._lifeless is not None and not self._alive:
            self._refuse(self._lifeless)
        else:
            self.ensure()
            if self._stopped:  # meanwhile: nobody may be there any more to take it
                self._refuse(RuntimeError("the workers were stopped"))

    def ensure(self) -> None:
        """Have a thread started if one is needed. Makes up for a submit that was interrupted."""
        if self._jobs.qsize() > self._idle and self._threads < self.max_workers:
            self._tell_foreman(self._grow)

    def wait(self, signal: Signal, timeout: float | None, block: object = None) -> bool:
        """
        `signal.wait(timeout)`, for those who wait for a job. If no worker comes to life while
        they do, all jobs are refused, rather than waited for in vain.
        """
        if self.clock is not None:
            return self.clock.wait(signal, timeout, block=block)
        end = None if timeout is None else time.monotonic() + timeout
        for _ in range(_LOOKS):
            if self._alive:
                break
            left = _LOOK if end is None else min(_LOOK, end - time.monotonic())
            if signal.wait(left):
                return True
            if left < _LOOK:
                return False
        else:
            self.give_up()
        return signal.wait(None if end is None else end - time.monotonic())

    def time(self) -> float:
        """What `schedule` goes by: that of `time.monotonic`, unless there is a clock of its own."""
        return time.monotonic() if self.clock is None else self.clock.time()

    @property
    def alive(self) -> bool:
        """Whether one of its threads has ever run."""
        return self._alive

    def looks(self) -> typing.Iterator[float]:
        """Seconds to wait until each look at `alive`. After the last, it is time to `give_up()`."""
        for _ in range(_LOOKS):
            yield _LOOK

    def give_up(self) -> None:
        """None has come to life for too long: refuse all jobs, until one does."""
        self._lifeless = Lifeless()
        self._refuse(self._lifeless)

    @property
    def stopped(self) -> bool:
        """Whether nothing is run any more."""
        return self._stopped

    @property
    def crowded(self) -> bool:
        """Whether jobs wait for a worker."""
        return not self._jobs.empty()

    def schedule(self, when: float, target: Expirable) -> Timer:
        """
        Have ``target._expire()`` called at `when`, on the clock of `time.monotonic`. Raises
        `RuntimeError` if there is no thread to keep the time, and none can be started.
        """
        if self._lifeless is not None:
            raise Lifeless
        timer = Timer(when, target)
        if self.clock is not None:
            self.clock.schedule(self, timer)
            return timer
        self._tell_foreman(timer)
        if not self._foremen:
            raise RuntimeError("no thread can be started to keep the deadline")
        return timer

    def call_soon(self, callback: typing.Callable[[], object]) -> None:
        """
        Have `callback` called on the foreman's thread, or where that has ended, on one of its own.
        Takes no lock: for finalizers. If there is no thread, and it is a `Job`, it is refused.
        """
        self._tell_foreman(callback)
        if self._stopped:
            try:
                _thread.start_new_thread(self._call_left, ())
            except RuntimeError as error:
                self._refuse_calls(error)

    def stop_soon(self) -> None:
        """End all threads once they are idle, without waiting. Takes no lock: for finalizers."""
        self._stopped = True
        self._jobs.put(None)
        self._messages.put(None)

    def stop(self, timeout: float) -> None:
        """End all threads; wait for them at most `timeout` seconds. May be called again."""
        self.stop_soon()
        if Workers.current() is not self and self._lifeless is None:
            end = time.monotonic() + timeout
            for foreman in list(self._foremen):
                if foreman is not threading.current_thread():
                    foreman.end(end)

    def _tell_foreman(self, message: typing.Any) -> None:
        self._messages.put(message)
        if not self._foremen:
            try:
                self._start_foreman()
            except RuntimeError as error:
                self._refuse(error)
                self._refuse_calls(error)

    def _start_foreman(self) -> None:
        try:
            foreman = _Foreman(self._foreman, daemon=True)
        except RuntimeError:  # a subinterpreter has no daemon threads
            foreman = _Foreman(self._foreman, daemon=False)
            end_at_exit(self)
        try:
            self._foremen.append(foreman)
            # ``Thread.start()`` waits in Python code of the standard library: an exception of a
            # signal handler would leave that half done, and come out as another. So a thread
            # that no signal interrupts calls it; starting this one is a single call in C.
            _thread.start_new_thread(self._launch, (foreman,))
        except BaseException:
            # Interrupted, this is done again: two foremen work as well as one.
            self._foremen.clear()
            raise

    def _launch(self, foreman: _Foreman) -> None:
        try:
            foreman.start()
        except RuntimeError as error:
            self._foremen.clear()
            self._refuse(error)
            self._refuse_calls(error)
        finally:
            foreman.launched.set()

    def _call_left(self) -> None:
        """Do what the foreman may have left. It may still be about to end, for which None is."""
        for callback in self._take_calls():
            guarded(callback)
            del callback

    def _refuse_calls(self, error: BaseException) -> None:
        for callback in self._take_calls():
            refused = getattr(callback, "refused", None)
            if refused is not None:
                refused(error)

    def _take_calls(self) -> typing.Iterator[typing.Callable[[], object]]:
        ends = 0
        with contextlib.suppress(queue.Empty):
            while True:
                message = self._messages.get_nowait()
                if message is None:
                    ends += 1
                elif callable(message) and message != self._grow:
                    yield message
                del message
        for _ in range(ends):
            self._messages.put(None)

    def end_now(self) -> None:
        self.stop_soon()

    # The foreman's thread.

    def _foreman(self) -> None:
        self._lifeless = None  # it only took long
        executor = ThreadPoolExecutor(self.max_workers, thread_name_prefix="http3_parallel")
        timers: list[Timer] = []
        sweep_at = 64
        while True:
            message = self._next_message(timers)
            if message is None:
                break
            if isinstance(message, Timer):
                heapq.heappush(timers, message)
                if len(timers) >= sweep_at:
                    # Most requests end long before their deadline: without this, what is
                    # left of them would pile up until then.
                    timers = [timer for timer in timers if not timer.cancelled]
                    heapq.heapify(timers)
                    sweep_at = 64 + 2 * len(timers)
            elif message == self._grow:
                self._grow(executor)
            elif message is not _TIME:
                guarded(message)
            del message
            while timers and timers[0].when <= time.monotonic():
                guarded(heapq.heappop(timers).fire)
        self._messages.put(None)  # in case there are two foremen
        self._call_left()
        executor.shutdown(wait=True)

    def _next_message(self, timers: list[Timer]) -> typing.Any:
        if not timers:
            return self._messages.get()
        wait = min(max(0.0, timers[0].when - time.monotonic()), _LONGEST_WAIT)
        try:
            return self._messages.get(timeout=wait)
        except queue.Empty:
            return _TIME

    def _grow(self, executor: ThreadPoolExecutor) -> None:
        while True:
            with self._lock:
                if self._jobs.qsize() <= self._idle or self._threads >= self.max_workers:
                    return
                # Counted as idle from here on, although it is only about to start.
                self._threads += 1
                self._idle += 1
            try:
                executor.submit(self._work)
            except RuntimeError as error:  # "can't start new thread", or the interpreter exits
                with self._lock:
                    self._threads -= 1
                    self._idle -= 1
                    alone = self._threads == 0
                if alone:
                    self._refuse(error)
                return

    def _refuse(self, error: BaseException) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                job = self._jobs.get_nowait()
                if job is not None:
                    job.refused(error)
                    if self.clock is not None:
                        self.clock.is_over(job)
        if self._stopped:
            self._jobs.put(None)

    # A worker's thread.

    def _work(self) -> None:
        _serving[threading.current_thread()] = self
        self._alive = True
        while True:
            job = self._jobs.get()
            if job is None:
                self._jobs.put(None)  # for the next worker
                return
            with self._lock:
                self._idle -= 1
            # Who submitted meanwhile took this thread for idle.
            self.ensure()
            guarded(job)
            if self.clock is not None:
                self.clock.is_over(job)
            # The thread outlives the job: what the job refers to must not.
            del job
            with self._lock:
                self._idle += 1


_TIME = object()


def guarded(function: typing.Callable[[], object]) -> None:
    """Whatever it raises, the thread that many others rely on goes on."""
    try:
        function()
    except BaseException:
        _logger.exception("an exception that nobody asks for, in a thread of http3_parallel")


def guarded_all(functions: typing.Iterable[typing.Callable[[], object]]) -> None:
    """Each of them. A loop in the caller would keep the last one, and what it refers to."""
    for function in functions:
        guarded(function)


class Ending(typing.Protocol):
    def end_now(self) -> None:
        """End all work at once, without waiting. Called while the interpreter exits."""


_ending: Registry[Ending] = Registry()


def end_at_exit(owner: Ending) -> None:
    """
    Call ``owner.end_now()`` when the interpreter exits, before it waits for its threads.

    `atexit` is too late for that: `concurrent.futures` joins its threads earlier.
    """
    _ending.add(owner)


def _end_all() -> None:
    for owner in _ending.alive():
        guarded(owner.end_now)


def _end_all_once_executors_refuse() -> None:
    # They do from the moment when concurrent.futures is about to wait for its threads. The end of
    # the main thread would be too late: since Python 3.13 that comes after the wait.
    executor = ThreadPoolExecutor(1)
    with contextlib.suppress(RuntimeError):
        while True:
            executor.submit(int)
            time.sleep(_EXIT_POLL)
    _end_all()


def _watch_for_exit() -> None:
    # Private use, listed in docs/: `threading._register_atexit`, whose callbacks run last
    # registered first, and so before that of concurrent.futures, imported above.
    register = getattr(threading, "_register_atexit", None)
    if register is not None:
        with contextlib.suppress(RuntimeError):  # imported while the interpreter exits
            register(_end_all)
    else:
        threading.Thread(target=_end_all_once_executors_refuse, daemon=True).start()


_watch_for_exit()
