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

A worker runs the block's requests one after the other, as a `_Runner`, of which the client's
workers see at most `max_workers` at a time; it goes to the end of their queue when another
block waits there. The lock is reentrant, since a signal handler of the user's may well call
`cancel()`. No other lock is taken under it, and no code of the user's runs under it.

After a fork, all of this belongs to the parent: the child must not touch it, not even the lock,
which a thread that no longer exists may hold.
"""

from __future__ import annotations

import contextvars
import functools
import logging
import os
import threading
import time
import traceback
import typing
import weakref

from .aborting import Abort, Expiry, Signal
from .completions import Completions
from .exceptions import (
    HTTPError,
    ParallelClosed,
    RequestCancelled,
    WorkersUnavailable,
)
from .line import Line
from .models import Request, Response, URLTypes
from .pending import (
    CANCELLED,
    DONE,
    ENDED,
    MOVES,
    QUEUED,
    RUNNING,
    HandleFuture,
    PendingResponse,
    Place,
)
from .workers import Lifeless, Timer, Workers, guarded

__all__ = ["Block", "Engine"]

_logger = logging.getLogger("http3_parallel")

#: How long closing waits, in seconds, for workers that were aborted. They need microseconds;
#: this bounds what nobody has thought of.
_DRAIN_SECONDS = 5.0


class Engine(typing.Protocol):
    """What a block needs of its client."""

    def prepare(
        self, method: str, url: URLTypes, options: typing.Mapping[str, typing.Any]
    ) -> tuple[Request, typing.Any]:
        """The request, and settings for `perform`. Raises an `HTTPError` if there can be none."""

    def settings(self, options: typing.Mapping[str, typing.Any]) -> typing.Any:
        """The settings alone, for a request that is there already."""

    def perform(
        self,
        request: Request,
        settings: typing.Any,
        abort: Abort,
        submitted: float,
        tag: object,
    ) -> Response:
        """
        Run one request to its end, in the calling thread. `submitted`: when the call was made,
        by `time.perf_counter`.
        """


class _Runner:
    """The block's stake in one worker: runs its requests there, one after the other."""

    __slots__ = ("_block",)

    def __init__(self, block: Block) -> None:
        self._block = block

    def __call__(self) -> None:
        block = self._block
        while (handle := block._begin(self)) is not None:
            block._execute(handle)
            del handle
            if block._line and block._workers.crowded:
                block._workers.submit(self)
                return

    def refused(self, error: BaseException) -> None:
        self._block._refused(self, error)


def _left(handle: PendingResponse | None = None) -> HTTPError:
    return _cancelled(handle, "the block was left before this was complete")


def _cancelled(
    handle: PendingResponse | None, message: str = "the request was cancelled before it completed"
) -> HTTPError:
    if handle is None:  # a stream, whose reader knows its request
        return RequestCancelled(message)
    return RequestCancelled(message, request=handle.request, tag=handle.tag)


class Block:
    def __init__(
        self,
        engine: Engine,
        workers: Workers,
        *,
        own_workers: bool = False,
        max_workers: int,
        max_per_host: int | None = None,
        deadline: float | None = None,
    ) -> None:
        self.max_workers = max_workers
        self.deadline = deadline
        self.expires: float | None = None if deadline is None else time.monotonic() + deadline
        self._engine = engine
        self._workers = workers
        self._own_workers = own_workers
        self._limits_hosts = max_per_host is not None
        self.pid: int = os.getpid()
        self.lock: threading.RLock = threading.RLock()
        self._closed = False
        self._expired = False
        self._timer: Timer | None = None
        self._pending: set[PendingResponse] = set()
        self._executing: set[PendingResponse] = set()
        self._streams: dict[Abort, weakref.ref[Response]] = {}
        self._runners: set[_Runner] = set()
        self._drained: list[Signal] = []
        # Workers whose request has ended, and who are at the callbacks of its future.
        self._calling_back: set[PendingResponse] = set()
        self._line: Line[Place] = Line(
            max_per_host,
            host_of=lambda place: place.host,
            waits=lambda place: place.handle is not None and place.handle._state is QUEUED,
        )

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

    def request(
        self,
        completions: Completions,
        method: str,
        url: URLTypes,
        options: typing.Mapping[str, typing.Any],
        *,
        tag: object = None,
        deadline: float | None = None,
    ) -> PendingResponse:
        self.check_usable()
        try:
            request, settings = self._engine.prepare(method, url, options)
        except HTTPError as error:
            error.tag = tag
            handle = PendingResponse(self, completions, None, None, tag)
            self._submit_failed(handle, error)
            return handle
        return self._submit(
            PendingResponse(self, completions, request, settings, tag), request, deadline
        )

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
        settings = self._engine.settings(options)
        return self._submit(
            PendingResponse(self, completions, request, settings, tag), request, deadline
        )

    def _submit(
        self, handle: PendingResponse, request: Request, deadline: float | None
    ) -> PendingResponse:
        handle._submitted = time.perf_counter()
        handle._deadline, handle._expires = self.deadline, self.expires
        if deadline is not None:
            expires = time.monotonic() + deadline
            if self.expires is None or expires < self.expires:
                handle._deadline, handle._expires = deadline, expires
        handle._context = contextvars.copy_context()
        host = (request.url.host, request.url.port) if self._limits_hosts else None
        place = handle._place = Place(handle, host)
        with self.lock:
            refused = self._closed
            expired = self._expired
            if not refused and not expired:
                self._pending.add(handle)
                self._line.add(place)
                handle._completions.add(handle)
        if refused or expired:
            self.check_usable()
            self._submit_failed(handle, handle._deadline_error())
            return handle
        if handle._expires is not None:
            self._schedule(handle)
        if self._line and len(self._runners) < self.max_workers:
            self._add_runner()
        return handle

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
            self._end([handle], DONE, functools.partial(_unavailable, error))

    def _submit_failed(self, handle: PendingResponse, error: HTTPError) -> None:
        handle._error, handle._state = error, DONE
        handle._context = handle._settings = None
        with self.lock:
            handle._completions.add_finished(handle)

    def _add_runner(self) -> None:
        runner = _Runner(self)
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
            if self._line:
                self._add_runner()
        self._workers.ensure()

    def wait(self, signal: Signal, timeout: float | None) -> bool:
        """Wait for a request to end; see `Workers.wait`."""
        self.staff()
        return self._workers.wait(signal, timeout)

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

    # Ending.

    def cancel(self, handles: typing.Iterable[PendingResponse] | None = None) -> None:
        """End `handles`, or all that are pending."""
        if os.getpid() == self.pid:
            self._end(self._all_pending() if handles is None else handles, CANCELLED, _cancelled)
            self.staff()

    def cancel_soon(self, handles: list[PendingResponse]) -> None:
        """As `cancel`, by the foreman: takes no lock, for finalizers."""
        if os.getpid() == self.pid:
            self._workers.call_soon(lambda: self.cancel(handles))

    def expire_handle(self, handle: PendingResponse) -> None:
        """The deadline of one has passed. On the clock's thread."""
        self._end([handle], DONE, PendingResponse._deadline_error)
        self.staff()

    def expire(self) -> None:
        """The block's deadline has passed. On the clock's thread."""
        with self.lock:
            self._expired = True
            streams = list(self._streams)
        self._end(self._all_pending(), DONE, PendingResponse._deadline_error)
        for abort in streams:
            Expiry(abort, self.deadline).expire()

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
        self._end(self._all_pending(), CANCELLED, _left)
        with self.lock:
            self._line.clear()
            executing = list(self._executing)
            streams = list(self._streams.copy().items())  # finalizers remove from it
        # Also those that had ended before: an interrupt may have come before their abort.
        stuck = set()
        for handle in executing:
            abort = handle._abort
            if abort is not None and not abort.abort(_left):
                stuck.add(handle)
        for abort, reference in streams:
            abort.abort(_left)
            response = reference()
            if response is not None:
                _close(response)
        return stuck

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

    def _all_pending(self) -> list[PendingResponse]:
        with self.lock:
            return list(self._pending)

    def _end(
        self,
        handles: typing.Iterable[PendingResponse],
        state: str,
        error: typing.Callable[[PendingResponse], HTTPError],
    ) -> None:
        """Move `handles` to `state` from outside their worker, and wake that."""
        # First everything is ended, then the first one woken: the worker or the connection that
        # this sets free must not go to another of them, which would be sent on the way out.
        aborts: list[tuple[Abort, typing.Callable[[], HTTPError]]] = []
        followed: list[PendingResponse] = []
        try:
            for handle in handles:
                with self.lock:
                    if state not in MOVES[handle._state]:
                        continue
                    if handle._future is not None:
                        followed.append(handle)
                    abort = handle._abort
                    if state is DONE:
                        handle._error = error(handle)
                    else:
                        handle._cancelled_by = error
                    self._move(handle, state)
                    if abort is None:  # it was in line
                        handle._context = handle._settings = None
                        if handle._place is not None:
                            handle._place.handle = None
                if abort is not None:
                    aborts.append((abort, functools.partial(error, handle)))
            for abort, reason in aborts:
                abort.mark(reason)
            for abort, reason in aborts:
                abort.abort(reason)
        finally:  # whoever waits for a future would wait for ever
            _follow_all(followed)

    def _move(self, handle: PendingResponse, state: str) -> None:
        """One move of the table, with all that hangs on it. Under the lock."""
        if state is DONE:
            handle._state = state
            handle._completions.finish(handle)
        else:
            # In this order: a cancelled handle that is still open would be waited for, if an
            # interrupt came between.
            handle._completions.remove(handle)
            handle._state = state
        handle.wake()
        self._pending.discard(handle)
        if handle._timer is not None:
            handle._timer.cancel()
            handle._timer = None

    def __del__(self) -> None:
        if getattr(self, "_own_workers", False):  # not there if __init__ was interrupted
            self._workers.stop_soon()

    # On a worker.

    def _begin(self, runner: _Runner) -> PendingResponse | None:
        """The next request to run; None if the runner is not needed any more."""
        with self.lock:
            self._runners.add(runner)
            if len(self._runners) <= self.max_workers:
                place = self._line.take()
                handle = None if place is None else place.handle
                if place is not None and handle is not None:
                    place.handle = None  # which refers to the place
                    handle._abort = Abort(handle._expires)
                    self._executing.add(handle)
                    handle._state = RUNNING
                    return handle
            self._runners.discard(runner)
            return None

    def _execute(self, handle: PendingResponse) -> None:
        abort, context, request = handle._abort, handle._context, handle._request
        assert abort is not None
        assert context is not None
        assert request is not None
        settings = handle._settings
        handle._context = handle._settings = None
        response = error = None
        try:
            response = context.run(
                self._engine.perform, request, settings, abort, handle._submitted, handle.tag
            )
        except BaseException as raised:
            error = _without_locals(raised)
        try:
            self._complete(handle, abort, response, error)
        finally:
            after: list[typing.Callable[[], object]] = [
                functools.partial(context.run, function) for function in abort.after
            ]
            # The frames of an error's traceback refer to this one, and it to what it has in hand.
            del request, response, error, context, settings
            with self.lock:
                future = handle._future
                if future is not None or after:
                    self._calling_back.add(handle)
                self._executing.discard(handle)
                if handle._place is not None:
                    self._line.done(handle._place)
                handle._abort = None
                for signal in self._drained:
                    signal.set()
                self._drained.clear()
            if future is not None:
                after.insert(0, future.follow)
            for function in after:
                guarded(function)
            self._calling_back.discard(handle)
            del handle, after, abort

    def _complete(
        self,
        handle: PendingResponse,
        abort: Abort,
        response: Response | None,
        error: BaseException | None,
    ) -> None:
        if response is not None:
            response.tag = handle.tag
        if isinstance(error, HTTPError):
            if error.request is None:
                error.request = handle._request
            if error.tag is None:
                error.tag = handle.tag
        with self.lock:
            won = DONE in MOVES[handle._state]
            if won:
                handle._response = response
                if error is not None:
                    handle._error, handle._traceback = error, error.__traceback__
                if response is not None and not response.is_closed:
                    self._keep_stream(handle, abort, response)
                self._move(handle, DONE)
        if not won and response is not None:
            _close(response)

    def _keep_stream(self, handle: PendingResponse, abort: Abort, response: Response) -> None:
        """The block goes on to answer for a body that is delivered unread."""
        forget, timer = self._streams.pop, None
        if handle._expires is not None and handle._expires != self.expires:
            timer = self._workers.schedule(handle._expires, Expiry(abort, handle._deadline))
        call_soon, pid = self._workers.call_soon, self.pid

        def closed() -> None:
            forget(abort, None)
            if timer is not None:
                timer.cancel()

        def dropped(_: object) -> None:  # called by a finalizer: takes no lock
            closed()
            if os.getpid() == pid:
                # The server is to see it now, not when the pool next looks.
                call_soon(lambda: abort.abort(_left))

        self._streams[abort] = weakref.ref(response, dropped)
        response._add_on_close(closed)

    def _refused(self, runner: _Runner, error: BaseException) -> None:
        """No thread runs `runner`, and none will."""
        with self.lock:
            self._runners.discard(runner)
            alone = not self._runners
        if alone:
            self._end(self._all_pending(), DONE, functools.partial(_unavailable, error))
            with self.lock:
                self._line.clear()


def _unavailable(error: BaseException, handle: PendingResponse) -> HTTPError:
    advice = "lower max_workers, or the number of threads of the process"
    failure = WorkersUnavailable(
        f"no thread runs the request: {error}"
        if isinstance(error, Lifeless)
        else f"no thread could be started to run the request: {error}; {advice}",
        request=handle.request,
        tag=handle.tag,
    )
    failure.__cause__ = error
    return failure


def _close(response: Response) -> None:
    try:
        response.close()
    except Exception:  # of a dispatcher of the user's: nobody waits for it
        _logger.warning("closing a response failed", exc_info=True)


def _follow_all(handles: list[PendingResponse]) -> None:
    """All of them, whatever a callback raises; that comes out after."""
    failure: BaseException | None = None
    for handle in handles:
        if handle._future is not None and handle._state in ENDED:
            try:
                handle._future.follow()
            except BaseException as error:
                failure = failure or error
    if failure is not None:
        raise failure


def _without_locals(error: BaseException) -> BaseException:
    """
    `error`, with a traceback that keeps its places but none of the values there: the request,
    the connection, the body must not live as long as somebody keeps the error.
    """
    raised = error.__traceback__  # read once: other threads may be raising it as well
    if raised is not None:  # the frame that caught it, still running
        error.__traceback__ = raised.tb_next
    seen: set[int] = set()
    chain: list[BaseException | None] = [error]
    while chain:
        link = chain.pop()
        if link is not None and id(link) not in seen:
            seen.add(id(link))
            traceback.clear_frames(link.__traceback__)
            chain += (link.__cause__, link.__context__)
    return error
