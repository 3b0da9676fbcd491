"""
The requests of a block while they run: what its workers do, and how a request ends.

A worker runs the block's requests one after the other, as a `Runner`, of which the client's
workers see at most `max_workers` at a time; it goes to the end of their queue when another
block waits there. What is guaranteed, and how, stands in `block`.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
import os
import threading
import time
import types
import typing
import weakref

from .aborting import Abort, Expiry, Signal
from .exceptions import HTTPError, RequestCancelled, WorkersUnavailable
from .line import Line
from .models import Request, Response, URLTypes
from .pending import CANCELLED, DONE, ENDED, MOVES, QUEUED, RUNNING, PendingResponse, Place
from .stats import Counts, Stats, Tally
from .stats import Running as _Counted
from .timeline.records import Record
from .workers import Lifeless, Workers, guarded_all

__all__ = ["Engine", "Runner", "Running", "cancelled", "close_quietly", "left", "unavailable"]

_logger = logging.getLogger("http3_parallel")


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
        record: Record | None = None,
    ) -> Response:
        """
        Run one request to its end, in the calling thread. `submitted`: when the call was made,
        by `time.perf_counter`. `record`: where what it does is noted, if anywhere.
        """


class Runner:
    """The block's stake in one worker: runs its requests there, one after the other."""

    __slots__ = ("__weakref__", "_block")

    def __init__(self, block: Running) -> None:
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


def left(handle: PendingResponse | None = None) -> HTTPError:
    return cancelled(handle, "the block was left before this was complete")


def cancelled(
    handle: PendingResponse | None, message: str = "the request was cancelled before it completed"
) -> HTTPError:
    if handle is None:  # a stream, whose reader knows its request
        return RequestCancelled(message)
    return RequestCancelled(message, request=handle.request, tag=handle.tag)


class Running:
    """What workers do for a block."""

    #: Seconds, and the value of `time.monotonic` when they are over.
    deadline: float | None
    expires: float | None

    def __init__(
        self,
        engine: Engine,
        workers: Workers,
        max_workers: int,
        max_per_host: int | None,
    ) -> None:
        self.max_workers = max_workers
        self._engine = engine
        self._workers = workers
        self.pid: int = os.getpid()
        self.lock: threading.RLock = threading.RLock()
        self._pending: set[PendingResponse] = set()
        self._executing: set[PendingResponse] = set()
        self._streams: dict[Abort, weakref.ref[Response]] = {}
        self._runners: set[Runner] = set()
        self._counts = Counts()
        self._drained: list[Signal] = []
        # Workers whose request has ended, and who are at the callbacks of its future.
        self._calling_back: set[PendingResponse] = set()
        self._line: Line[Place] = Line(
            max_per_host,
            host_of=lambda place: place.host,
            waits=lambda place: place.handle is not None and place.handle._state is QUEUED,
        )

    def _begin(self, runner: Runner) -> PendingResponse | None:
        """The next request to run; None if the runner is not needed any more."""
        with self.lock:
            self._runners.add(runner)
            if len(self._runners) <= self.max_workers:
                place = self._line.take()
                handle = None if place is None else place.handle
                if place is not None and handle is not None:
                    place.handle = None  # which refers to the place
                    handle._abort = Abort(handle._expires)
                    handle._began = time.perf_counter()
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
        clock = self._workers.clock
        if clock is not None:
            abort.clock = clock.waiting_of(handle._submitted, abort, handle.tag, self._workers)
        settings = handle._settings
        handle._context = handle._settings = None
        response = error = None
        try:
            response = context.run(
                self._engine.perform,
                request,
                settings,
                abort,
                handle._submitted,
                handle.tag,
                handle._record,
            )
        except BaseException as raised:
            error = _without_locals(raised)
        after: list[typing.Callable[[], object]] = []
        if abort.after:
            after += [functools.partial(context.run, function) for function in abort.after]
            abort.after = ()  # it may refer to the error, and that to the abort
        try:
            self._complete(handle, abort, response, error, after)
        finally:
            # The frames of an error's traceback refer to this one, and it to what it has in hand.
            del request, response, error, context, settings
            self._notify()
            if after:
                guarded_all(after)
                self._calling_back.discard(handle)
            del handle, after, abort

    def _complete(
        self,
        handle: PendingResponse,
        abort: Abort,
        response: Response | None,
        error: BaseException | None,
        after: list[typing.Callable[[], object]],
    ) -> None:
        """`after`: what is to be called in the end, to which the future's callbacks are added."""
        if response is not None:
            response.tag = handle.tag
        elif isinstance(error, HTTPError):
            if error.request is None:
                error.request = handle._request
            if error.tag is None:
                error.tag = handle.tag
        won = counted = False
        with self.lock:
            try:
                won = DONE in MOVES[handle._state]
                if won:
                    handle._response = response
                    if error is not None:
                        handle._error, handle._traceback = error, error.__traceback__
                    elif response is not None and not response.is_closed:
                        counted = True
                        self._keep_stream(handle, abort, response)
                    self._move(handle, DONE)
            finally:
                if not counted:
                    self._counts.add_bytes(handle._tally, abort.received)
                unwanted = None if won else response
                if unwanted is None:
                    self._has_executed(handle, after)
        if unwanted is not None:
            try:
                close_quietly(unwanted)
            finally:
                with self.lock:
                    self._has_executed(handle, after)

    def _has_executed(
        self, handle: PendingResponse, after: list[typing.Callable[[], object]]
    ) -> None:
        """Its worker is through with it, but for callbacks. Under the lock."""
        if handle._future is not None:
            after.insert(0, handle._future.follow)
        if after:
            self._calling_back.add(handle)
        self._executing.discard(handle)
        if handle._place is not None:
            self._line.done(handle._place)
        handle._abort = None
        if self._drained:
            for signal in self._drained:
                signal.set()
            self._drained.clear()

    def _keep_stream(self, handle: PendingResponse, abort: Abort, response: Response) -> None:
        """The block goes on to answer for a body that is delivered unread."""
        forget, timer = self._streams.pop, None
        has_closed = self._counts.has_closed
        self._counts.streams[abort] = handle._tally
        if handle._expires is not None and handle._expires != self.expires:
            timer = self._workers.schedule(handle._expires, Expiry(abort, handle._deadline))
        call_soon, pid = self._workers.call_soon, self.pid

        def closed() -> None:
            forget(abort, None)
            has_closed(abort)
            if timer is not None:
                timer.cancel()

        def dropped(_: object) -> None:  # called by a finalizer: takes no lock
            closed()
            if os.getpid() == pid:
                # The server is to see it now, not when the pool next looks.
                call_soon(lambda: abort.abort(left))

        self._streams[abort] = weakref.ref(response, dropped)
        response._add_on_close(closed)

    def _refused(self, runner: Runner, error: BaseException) -> None:
        """No thread runs `runner`, and none will."""
        with self.lock:
            self._runners.discard(runner)
            alone = not self._runners
        if alone:
            self._end(self._all_pending(), DONE, functools.partial(unavailable, error))
            with self.lock:
                self._line.clear()

    def _notify(self) -> None:
        """Handles have ended: called without a lock, for those who do not wait in a thread."""

    def stats(self) -> Stats:
        """Exact under the lock; near enough without."""
        running = []
        for handle in list(self._executing):
            abort, is_running = handle._abort, handle._state is RUNNING
            if abort is not None:
                began = handle._began if is_running else None
                running.append(
                    _Counted(handle._tally, abort.received, began, handle._request, handle.tag)
                )
        return self._counts.read(running)

    # Ending, from wherever.

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
            self._notify()
            _follow_all(followed)

    def _move(self, handle: PendingResponse, state: str) -> None:
        """One move of the table, with all that hangs on it. Under the lock."""
        total, tally = self._counts.total, handle._tally or Tally()
        if state is CANCELLED:
            total.cancelled += 1
            tally.cancelled += 1
        elif handle._error is None:
            total.done += 1
            tally.done += 1
        else:
            total.failed += 1
            tally.failed += 1
        if state is DONE:
            handle._state = state
            handle._completions.finish(handle)
        else:
            # In this order: a cancelled handle that is still open would be waited for, if an
            # interrupt came between.
            handle._completions.remove(handle)
            handle._state = state
        handle._wake()
        self._pending.discard(handle)
        if handle._record is not None:
            handle._record.end("failed" if handle._error is not None else state, handle._error)
        if handle._timer is not None:
            handle._timer.cancel()
            handle._timer = None


def unavailable(error: BaseException, handle: PendingResponse) -> HTTPError:
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


def close_quietly(response: Response) -> None:
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


#: Coroutines, and what else may have raised this, caught it, and gone on. Before Python 3.13,
#: clearing the frame of one that is suspended closes it.
_MAY_GO_ON = inspect.CO_COROUTINE | inspect.CO_ITERABLE_COROUTINE | inspect.CO_ASYNC_GENERATOR


def _clear_frames(raised: types.TracebackType | None) -> None:
    while raised is not None:
        if not raised.tb_frame.f_code.co_flags & _MAY_GO_ON:
            with contextlib.suppress(RuntimeError):  # it is still running
                raised.tb_frame.clear()
        raised = raised.tb_next


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
            _clear_frames(link.__traceback__)
            chain += (link.__cause__, link.__context__)
    return error
