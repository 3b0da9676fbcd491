"""
One request of a block, from the call to its end.

The states, and all the moves there are:

    QUEUED ──────→ RUNNING ─────→ DONE
       │              │
       │              └─────────→ CANCELLED
       ├────────────────────────→ DONE        its URL is invalid, its deadline passed in line
       └────────────────────────→ CANCELLED

Only the block moves a handle, under its lock, and what the new state promises (the response,
the error) is there before the state is. So DONE and CANCELLED can be read without the lock, and
the first move to one of them wins: what comes later, a response for a cancelled request say,
has nowhere to go.
"""

from __future__ import annotations

import contextlib
import contextvars
import threading
import typing
from concurrent.futures import Future
from types import TracebackType

from .aborting import Abort, Signal
from .exceptions import DeadlineExceeded, HTTPError
from .models import Request, Response
from .stats import Tally
from .timeline.records import Record
from .workers import Timer, Workers, guarded

if typing.TYPE_CHECKING:
    from .block import Block
    from .completions import Completions

__all__ = [
    "CANCELLED",
    "DONE",
    "ENDED",
    "MOVES",
    "QUEUED",
    "RUNNING",
    "HandleFuture",
    "PendingResponse",
    "Place",
]

QUEUED = "queued"
RUNNING = "running"
DONE = "done"
CANCELLED = "cancelled"

MOVES: dict[str, frozenset[str]] = {
    QUEUED: frozenset({RUNNING, DONE, CANCELLED}),
    RUNNING: frozenset({DONE, CANCELLED}),
    DONE: frozenset(),
    CANCELLED: frozenset(),
}
ENDED = frozenset({DONE, CANCELLED})


class Place:
    """
    A handle's place in line. It is let go of where it stands, so that a request that was
    cancelled there does not stay, with its body, until a worker comes by.
    """

    __slots__ = ("handle", "host")

    def __init__(self, handle: PendingResponse, host: typing.Hashable) -> None:
        self.handle: PendingResponse | None = handle
        self.host: typing.Hashable = host


class PendingResponse:
    """
    A request that was submitted to a block: the handle to wait for it, or to end it.

    Made by the block's methods. It may be used from any thread.
    """

    __slots__ = (
        "__weakref__",
        "_abort",
        "_began",
        "_block",
        "_cancelled_by",
        "_completions",
        "_context",
        "_deadline",
        "_error",
        "_expires",
        "_future",
        "_place",
        "_record",
        "_request",
        "_response",
        "_settings",
        "_state",
        "_submitted",
        "_tally",
        "_timer",
        "_traceback",
        "_waiters",
        "tag",
    )

    def __init__(
        self,
        block: Block,
        completions: Completions,
        request: Request | None,
        settings: typing.Any,
        tag: typing.Any,
    ) -> None:
        #: The object given as ``tag=``; also on the response, and on the error.
        self.tag: typing.Any = tag
        self._block = block
        self._completions = completions
        self._request = request
        self._settings = settings
        self._context: contextvars.Context | None = None
        self._place: Place | None = None
        self._state = QUEUED
        self._submitted = 0.0
        #: When a worker took it up.
        self._began = 0.0
        self._tally: Tally | None = None
        # Where it is noted what it does, for a timeline.
        self._record: Record | None = None
        self._response: Response | None = None
        self._error: BaseException | None = None
        self._cancelled_by: typing.Callable[[PendingResponse], HTTPError] | None = None
        self._traceback: TracebackType | None = None
        self._abort: Abort | None = None
        self._deadline: float | None = None
        self._expires: float | None = None
        self._timer: Timer | None = None
        # Those who wait in get_response(). While there are any, the handle is claimed.
        self._waiters: list[Signal] | None = None
        self._future: HandleFuture | None = None

    @property
    def request(self) -> Request | None:
        """The `Request` as submitted; None if its URL was invalid, so that there is none."""
        return self._request

    def get_response(self, timeout: float | None = None) -> Response:
        """
        The response. Waits for it at most `timeout` seconds (None: until it is there, which
        the request's own timeouts and deadline bound).

        While it waits, and once it has returned or raised, `next_response()` passes this
        request over. May be called again: it returns the same response, or raises the same
        error, each time.

        Raises the request's own error, an `HTTPError`; `RequestCancelled` if it was cancelled;
        `WaitTimeout` if the wait ran out: the request goes on, and `next_response()` may
        have it.
        """
        try:
            self._completions.wait_for(self, timeout)
            return self._result()
        finally:
            # An error that is being raised refers to this frame. It must not keep the handle
            # alive, which keeps the error alive.
            del self

    def done(self) -> bool:
        """Whether it has ended: with a response, an error, or cancelled."""
        return self._state in ENDED

    def cancelled(self) -> bool:
        """Whether it was cancelled, by `cancel()` or by leaving the block."""
        return self._state == CANCELLED

    def cancel(self) -> bool:
        """
        End the request now, also in flight: its connection is closed. Returns whether it is
        cancelled, which it is not if it had already completed.

        A request cancelled this way is handed out by nobody; `get_response()` raises
        `RequestCancelled`.
        """
        self._block.cancel([self])
        return self._state == CANCELLED

    @property
    def future(self) -> Future[Response]:
        """
        A standard `concurrent.futures.Future` of the response, for code that wants one: made
        at first access, the same one each time. It stays pending until the request ends; its
        `cancel()` is this handle's. Waiting for it claims nothing: `next_response()` still
        returns this request's response.
        """
        future = self._future
        if future is None:
            future = self._block.make_future(self)
        return future

    def _expire(self) -> None:
        """Called by the clock when the deadline has passed."""
        self._block.expire_handle(self)

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, None
        if waiters is not None:
            for signal in waiters:
                signal.set()

    def _deadline_error(self) -> HTTPError:
        doing = "it waited in line" if self._abort is None else self._abort.phase
        return DeadlineExceeded(
            f"the deadline of {self._deadline} s passed while {doing}",
            request=self._request,
            tag=self.tag,
        )

    def _result(self) -> Response:
        if self._state == CANCELLED and self._error is None:
            # Not made before someone asks: ten thousand may be cancelled on leaving a block.
            assert self._cancelled_by is not None
            self._error = self._cancelled_by(self)
        error = self._error
        if error is None:
            assert self._response is not None
            return self._response
        try:
            # Back to what it was when the request failed: raised repeatedly, it would grow.
            raise error.with_traceback(self._traceback)
        finally:
            del error, self

    def __repr__(self) -> str:
        what = "invalid URL" if self._request is None else repr(self._request)[1:-1]
        return f"<PendingResponse {self._state}: {what}>"


class HandleFuture(Future[Response]):
    """Follows a handle, and never runs anything itself."""

    def __init__(self, handle: PendingResponse) -> None:
        super().__init__()
        self._handle: PendingResponse | None = handle
        self._once = threading.Lock()
        self._has_callbacks = False

    def add_done_callback(self, fn: typing.Callable[[Future[Response]], object]) -> None:
        """
        Call `fn` with this future when the request ends: on a worker, in the thread that cancels
        it, or, if its deadline passes, in a thread for the purpose.
        """
        self._has_callbacks = True
        super().add_done_callback(fn)

    def result(self, timeout: float | None = None) -> Response:
        return super().result(self._wait(timeout))

    def exception(self, timeout: float | None = None) -> BaseException | None:
        return super().exception(self._wait(timeout))

    def _wait(self, timeout: float | None) -> float | None:
        """Where it is not the system's clock that tells, wait by that. Returns what is left."""
        handle = self._handle
        block = None if handle is None else handle._block
        clock = None if block is None else block.clock
        if clock is None or self.done():
            return timeout
        signal = Signal()
        self.add_done_callback(lambda _: signal.set())
        return timeout if clock.wait(signal, timeout, block=block) else 0.0

    def cancel(self) -> bool:
        """Cancel the request, also in flight. Returns whether it is cancelled."""
        handle = self._handle
        if handle is not None:
            handle.cancel()
        return self.cancelled()

    def follow(self) -> None:
        """Take over what the handle has ended with, and notify. Once, whoever comes first."""
        if not self._once.acquire(blocking=False):
            return
        if self._has_callbacks and Workers.on_foreman():
            # They may take any time, and every deadline would wait for them.
            with contextlib.suppress(RuntimeError):  # no more threads
                threading.Thread(target=guarded, args=(self._follow,), daemon=True).start()
                return
        self._follow()

    def _follow(self) -> None:
        # Nothing of the handle is needed from here on, and it refers to this future.
        handle, self._handle = self._handle, None
        assert handle is not None
        if handle._state == CANCELLED:
            super().cancel()
            self.set_running_or_notify_cancel()
        elif handle._error is not None:
            self.set_exception(handle._error)
        else:
            assert handle._response is not None
            self.set_result(handle._response)
