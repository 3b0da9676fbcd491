"""
The machine inside a block: it takes requests in, has workers run them, and hands them out.

What it guarantees, and how:

1. *Completion order at flat cost*: see `Completions`.
2. *Every response is handed out once*: see `Completions`.
3. *Nothing outlives the block.* `_pending` holds every handle that has not ended, `_executing`
   those a worker is at, `_streams` the delivered bodies that are still open. Closing ends the
   first and the last, and waits for the second, but for those in code of the user's.
4. *An exception of a signal handler, anywhere, loses at worst a handle.* Critical sections
   change sets and deques by single operations, in an order that makes each step harmless if
   the next never comes: a request is in `_pending` before it is in line, and in `open` last.
   What an interrupt left undone (a worker not asked for) is made up for before each wait.

What its workers do is in `running`; this is what its callers do. The lock is reentrant, since a
signal handler of the user's may well call `cancel()`. No other lock is taken under it, and no code
of the user's runs under it.

After a fork, all of this belongs to the parent: the child must not touch it, not even the lock,
which a thread that no longer exists may hold.
"""

from __future__ import annotations

import contextvars
import functools
import os
import time
import typing

from .aborting import Expiry, Signal
from .completions import Completions
from .exceptions import HTTPError, ParallelClosed, redacted_text
from .models import Request, Response, URLTypes
from .pending import CANCELLED, DONE, ENDED, HandleFuture, PendingResponse, Place
from .running import Engine, Runner, Running, cancelled, close_quietly, left, unavailable
from .stats import Stats
from .timeline import Timeline
from .workers import Clock, Timer, Workers

__all__ = ["Block", "Engine"]

#: How long closing waits, in seconds, for workers that were aborted. They need microseconds;
#: this bounds what nobody has thought of.
_DRAIN_SECONDS = 5.0


class Block(Running):
    """What callers do with a block."""

    def __init__(
        self,
        engine: Engine,
        workers: Workers,
        *,
        own_workers: bool = False,
        max_workers: int,
        max_per_host: int | None = None,
        deadline: float | None = None,
        timeline: Timeline | None = None,
    ) -> None:
        super().__init__(engine, workers, max_workers, max_per_host)
        self.timeline: Timeline | None = timeline
        self.deadline: float | None = deadline
        self.expires: float | None = None if deadline is None else self.time() + deadline
        self._own_workers = own_workers
        self._limits_hosts = max_per_host is not None
        self._closed = False
        self._expired = False
        self._timer: Timer | None = None

    @property
    def clock(self) -> Clock | None:
        """What tells the time in place of the system, if anything."""
        return self._workers.clock

    @property
    def is_awaited(self) -> bool:
        """Whether there are requests in it that have not ended. For a `Clock`."""
        return bool(self._pending) and not self._closed

    def time(self) -> float:
        """What deadlines and the ends of waits go by, in seconds."""
        return self._workers.time()

    @property
    def usable(self) -> bool:
        return not self._closed and os.getpid() == self.pid

    def check_usable(self) -> None:
        if os.getpid() != self.pid:
            raise ParallelClosed(
                "this block belongs to the process that this one was forked from; open another"
            )
        if self._closed:
            raise ParallelClosed(
                "this block was closed: by leaving it, by close() in another thread, or because "
                "the process ends; open another"
            )

    # Taking requests in.

    def check_options(self, options: typing.Mapping[str, typing.Any]) -> None:
        """Raise what these would at each request."""
        given = {name: value for name, value in options.items() if name not in ("tag", "deadline")}
        self._engine.settings(given)

    def _new_handle(
        self, completions: Completions, request: Request | None, settings: typing.Any, tag: object
    ) -> PendingResponse:
        return PendingResponse(self, completions, request, settings, tag)

    def request(
        self,
        completions: Completions,
        method: str,
        url: URLTypes,
        options: typing.Mapping[str, typing.Any],
        *,
        tag: object = None,
        deadline: float | None = None,
        wrap: typing.Callable[[PendingResponse], typing.Any] | None = None,
    ) -> PendingResponse:
        """`wrap`: makes the settings for `Engine.perform`, in place of the engine's."""
        self.check_usable()
        try:
            request, settings = self._engine.prepare(method, url, options)
        except HTTPError as error:
            error.tag = tag
            handle = self._new_handle(completions, None, None, tag)
            if self.timeline is not None:
                handle._record = self.timeline._add(method, redacted_text(url), tag)
            self._submit_failed(handle, error)
            return handle
        handle = self._new_handle(completions, request, settings, tag)
        if wrap is not None:
            handle._settings = wrap(handle)
        return self._submit(handle, request, deadline)

    def send(
        self,
        completions: Completions,
        request: Request,
        options: typing.Mapping[str, typing.Any],
        *,
        tag: object = None,
        deadline: float | None = None,
    ) -> PendingResponse:
        self.check_usable()
        return self.submit(completions, request, self._engine.settings(options), tag, deadline)

    def submit(
        self,
        completions: Completions,
        request: Request,
        settings: typing.Any,
        tag: object,
        deadline: float | None,
    ) -> PendingResponse:
        return self._submit(
            self._new_handle(completions, request, settings, tag), request, deadline
        )

    def _submit(
        self, handle: PendingResponse, request: Request, deadline: float | None
    ) -> PendingResponse:
        self._address(handle, request, deadline)
        clock = self._workers.clock
        if clock is not None:
            clock.submits(self)
        with self.lock:
            entered = self._enter(handle)
        self._settle(handle, entered)
        return handle

    def _address(self, handle: PendingResponse, request: Request, deadline: float | None) -> None:
        """Give it what it needs in line."""
        handle._submitted = time.perf_counter()
        handle._deadline, handle._expires = self.deadline, self.expires
        if deadline is not None:
            expires = self.time() + deadline
            if self.expires is None or expires < self.expires:
                handle._deadline, handle._expires = deadline, expires
        handle._context = contextvars.copy_context()
        if self.timeline is not None:
            handle._record = self.timeline._add(request.method, request.url, handle.tag)
        host = (request.url.host, request.url.port) if self._limits_hosts else None
        handle._place = Place(handle, host)

    def _enter(self, handle: PendingResponse) -> bool:
        """Put it in line. Under the lock. False if it comes too late."""
        if self._closed or self._expired:
            return False
        assert handle._place is not None
        self._pending.add(handle)
        self._line.add(handle._place)
        handle._completions.add(handle)
        handle._tally = self._counts.submit(handle._request)
        return True

    def _settle(self, handle: PendingResponse, entered: bool) -> None:
        """What is to be done when it is in line, or is not."""
        if not entered:
            self.check_usable()
            self._submit_failed(handle, handle._deadline_error())
            return
        if handle._expires is not None:
            self._schedule(handle)
        if self._line and len(self._runners) < self.max_workers:
            self._add_runner()

    def _schedule(self, handle: PendingResponse) -> None:
        """Only once it is in line: the deadline may have passed by the time it is known."""
        assert handle._expires is not None
        try:
            if handle._expires != self.expires:
                timer = handle._timer = self._workers.schedule(handle._expires, handle)
                if handle._state in ENDED:
                    timer.cancel()
            elif self._timer is None:
                self._timer = self._workers.schedule(handle._expires, self)
        except RuntimeError as error:
            self._end([handle], DONE, functools.partial(unavailable, error))

    def _submit_failed(self, handle: PendingResponse, error: HTTPError) -> None:
        handle._error, handle._state = error, DONE
        handle._context = handle._settings = None
        if handle._record is not None:
            handle._record.end("failed", error)
        self._announce_failed(handle)

    def _announce_failed(self, handle: PendingResponse) -> None:
        """It has ended before it was in line: nothing else knows it."""
        with self.lock:
            self._counts.submit_failed()
            handle._completions.add_finished(handle)

    def _add_runner(self) -> None:
        runner = Runner(self)
        try:
            self._runners.add(runner)
            self._workers.submit(runner)
        except BaseException:
            # If it was submitted all the same, it will count itself in again.
            self._runners.discard(runner)
            raise

    def staff(self) -> None:
        """See to it that workers are on their way. Makes up for an interrupted submit."""
        # Not for as long as it takes: if there is no thread, each is refused at once.
        for _ in range(self.max_workers - len(self._runners)):
            if len(self._runners) - len(self._executing) >= len(self._line):
                break  # as many wait for a worker, or look for a request
            self._add_runner()
        self._workers.ensure()

    def wait(self, signal: Signal, timeout: float | None) -> bool:
        """Wait for a request to end; see `Workers.wait`."""
        self.staff()
        return self._workers.wait(signal, timeout, self)

    def make_future(self, handle: PendingResponse) -> HandleFuture:
        if os.getpid() != self.pid:
            self.check_usable()
        with self.lock:
            future = handle._future
            if future is None:
                future = handle._future = HandleFuture(handle)
        if handle._state in ENDED:
            future.follow()
        return future

    def exact_stats(self) -> Stats:
        """For threads. Raises `ParallelClosed` in a forked child."""
        if os.getpid() != self.pid:
            self.check_usable()  # the parent has the lock
        with self.lock:
            return self.stats()

    # Ending.

    def cancel(self, handles: typing.Iterable[PendingResponse] | None = None) -> None:
        """End `handles`, or all that are pending."""
        if os.getpid() == self.pid:
            self._end(self._all_pending() if handles is None else handles, CANCELLED, cancelled)
            self.staff()

    def cancel_soon(self, handles: list[PendingResponse]) -> None:
        """As `cancel`, by the foreman: takes no lock, for finalizers."""
        if os.getpid() == self.pid:
            self._workers.call_soon(lambda: self.cancel(handles))

    def expire_handle(self, handle: PendingResponse) -> None:
        """The deadline of one has passed. On the clock's thread."""
        self._end([handle], DONE, PendingResponse._deadline_error)
        self.staff()

    def _expire(self) -> None:
        """The block's deadline has passed. On the clock's thread."""
        with self.lock:
            self._expired = True
            streams = list(self._streams)
        self._end(self._all_pending(), DONE, PendingResponse._deadline_error)
        for abort in streams:
            Expiry(abort, self.deadline)._expire()

    def close(self) -> bool:
        """
        End everything, and wait until no worker is busy for the block. Returns whether that is
        so: it is not while code of the user's runs.
        """
        if os.getpid() != self.pid:
            return True  # a shutdown() here would end the parent's connections
        clean = False
        try:
            clean = self._drain(self.end_now())
        except BaseException:
            self.end_now()  # an interrupt must not leave anything running
            raise
        finally:
            if self._own_workers:
                self._workers.stop(_DRAIN_SECONDS if clean else 0.0)
        return clean

    def end_now(self) -> set[PendingResponse]:
        """
        End everything, without waiting. Returns those in a worker that are not sure to end
        soon, since code of the user's runs there.
        """
        if os.getpid() != self.pid:
            return set()
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._end(self._all_pending(), CANCELLED, self._left)
        with self.lock:
            self._line.clear()
            executing = list(self._executing)
            streams = list(self._streams.copy().items())  # finalizers remove from it
        # Also those that had ended before: an interrupt may have come before their abort.
        stuck = set()
        for handle in executing:
            abort = handle._abort
            if abort is not None and not abort.abort(self._left):
                stuck.add(handle)
        for abort, reference in streams:
            abort.abort(left)
            response = reference()
            if response is not None:
                self._let_go(response)
        return stuck

    def _left(self, handle: PendingResponse | None = None) -> HTTPError:
        return left(handle)

    def _let_go(self, response: Response) -> None:
        """Close a stream that was aborted."""
        close_quietly(response)

    def _drain(self, stuck: set[PendingResponse]) -> bool:
        end = time.monotonic() + _DRAIN_SECONDS
        waiting = True
        while waiting:
            with self.lock:
                if self._executing <= stuck:
                    return not self._executing and not self._calling_back
                signal = Signal()
                self._drained.append(signal)
            waiting = signal.wait(end - time.monotonic())
        return False

    def __del__(self) -> None:
        if getattr(self, "_own_workers", False):  # not there if __init__ was interrupted
            self._workers.stop_soon()
