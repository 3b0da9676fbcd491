"""
One request of an asynchronous block: a handle of the synchronous side, awaited.

Threads know the handle there, `LoopHandle`. The loop knows this one, which has ended when the loop
was told so, or when it was cancelled here: at once, whatever the threads are still about.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Generator

import anyio

from ..exceptions import HTTPError
from ..models import Request
from ..pending import CANCELLED, PendingResponse
from .responses import AsyncResponse

if typing.TYPE_CHECKING:
    from .completions import AsyncCompletions

__all__ = ["AsyncPendingResponse", "LoopHandle"]


class LoopHandle(PendingResponse):
    """The handle that threads know. It tells the loop when it has ended."""

    __slots__ = ()

    def _wake(self) -> None:
        typing.cast("AsyncCompletions", self._completions).post(self)


class AsyncPendingResponse:
    """
    A request that was submitted to an asynchronous block: the handle to wait for it, or to end it.

    Made by the block's methods, at once. It may be awaited, which waits for room if the block has
    a `window`, and gives the handle itself: ``pending = await parallel.get(url)``. It belongs to
    the event loop it was made in.
    """

    __slots__ = (
        "__weakref__",
        "_cancelled_by",
        "_completions",
        "_error",
        "_events",
        "_handle",
        "_has_ended",
        "_response",
        "_was_had",
    )

    def __init__(self, handle: LoopHandle, completions: AsyncCompletions) -> None:
        self._handle = handle
        self._completions = completions
        self._has_ended = False
        # Whether get_response() has returned it, or raised.
        self._was_had = False
        # By the loop; the handle may have ended otherwise by then.
        self._cancelled_by: Callable[[PendingResponse], HTTPError] | None = None
        self._error: HTTPError | None = None
        self._response: AsyncResponse | None = None
        # Those who wait in get_response(). While there are any, it is claimed.
        self._events: list[anyio.Event] = []

    @property
    def tag(self) -> typing.Any:
        """The object given as ``tag=``; also on the response, and on the error."""
        return self._handle.tag

    @property
    def request(self) -> Request | None:
        """The `Request` as submitted; None if its URL was invalid, so that there is none."""
        return self._handle.request

    def __await__(self) -> Generator[typing.Any, typing.Any, AsyncPendingResponse]:
        return self._completions.admit(self).__await__()

    async def get_response(self, timeout: float | None = None) -> AsyncResponse:
        """
        The response. Waits for it at most `timeout` seconds (None: until it is there, which
        the request's own timeouts and deadline bound).

        While it waits, and once it has returned or raised, `next_response()` passes this
        request over. May be called again: it returns the same response, or raises the same
        error, each time.

        If the task is cancelled while it waits, and no other waits for this request, the request
        is cancelled, also in flight. When `timeout` runs out, it goes on.

        Raises the request's own error, an `HTTPError`; `RequestCancelled` if it was cancelled;
        `WaitTimeout` if the wait ran out: the request goes on, and `next_response()` may
        have it.
        """
        try:
            await self._completions.wait_for(self, timeout)
            return self._result()
        finally:
            # What is raised refers to this frame: it must not keep the handle alive.
            del self

    def done(self) -> bool:
        """Whether it has ended: with a response, an error, or cancelled."""
        return self._has_ended

    def cancelled(self) -> bool:
        """Whether it was cancelled, by `cancel()` or by leaving the block."""
        return self._cancelled_by is not None or (
            self._has_ended and self._handle._state == CANCELLED
        )

    def cancel(self) -> bool:
        """
        End the request now, also in flight: its connection is closed. Returns whether it is
        cancelled, which it is not if it had already completed. Does not wait.

        A request cancelled this way is handed out by nobody; `get_response()` raises
        `RequestCancelled`.
        """
        self._completions.check_loop()
        self._completions.cancel([self])
        return self.cancelled()

    def _wake(self) -> None:
        for event in self._events:
            event.set()

    def _result(self) -> AsyncResponse:
        if self._response is not None:
            return self._response
        try:
            if self._cancelled_by is not None:
                if self._error is None:
                    self._error = self._cancelled_by(self._handle)
                raise self._error.with_traceback(None)
            response = self._completions.received(self._handle._result())
            self._response = response
            return response
        finally:
            del self

    def __repr__(self) -> str:
        state = CANCELLED if self.cancelled() else self._handle._state
        what = repr(self._handle).partition(":")[2]
        return f"<AsyncPendingResponse {state}:{what}"

    if not typing.TYPE_CHECKING:

        def __getattr__(self, name: str) -> typing.Any:
            if hasattr(AsyncResponse, name):
                raise AttributeError(
                    f"a handle has no {name!r}, its response has: `await pending.get_response()`; "
                    "or `await client.get(...)`, for a request that is awaited at once"
                )
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
