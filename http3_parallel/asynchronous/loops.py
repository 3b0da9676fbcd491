"""
The event loops of callers, and how threads reach them.

1. *Nothing here waits*, in whichever thread. What threads have for a loop goes into a deque, which
   the loop empties.
2. *A hundred calls wake the loop once*: until it has looked, nobody wakes it again.
3. *No turn is long*: after so many calls, the loop does something else first.
4. *A loop that is over is told apart.* Who needs it is told; what others post to it is dropped.

asyncio, with whatever loop, and trio, by way of anyio. What anyio leaves to each is here, and
nowhere else: how a thread wakes the loop without waiting for it, and how a task is started that no
other waits for.
"""

from __future__ import annotations

import asyncio
import collections
import contextvars
import logging
import sys
import threading
import typing
import weakref
from collections.abc import Awaitable, Callable

import anyio
import anyio.lowlevel

__all__ = ["Loop", "RootTask"]

_logger = logging.getLogger("http3_parallel")

#: Calls in one turn of the loop. Each takes some microseconds.
_CALLS_PER_TURN = 64


class Loop:
    """An event loop that runs, for as long as it does."""

    __slots__ = ("__weakref__", "_calls", "_native", "_scheduled", "_tasks", "over", "thread")

    def __init__(self, native: typing.Any) -> None:
        self._native = native
        self._calls: collections.deque[Callable[[], object]] = collections.deque()
        self._scheduled = False
        #: Of asyncio, which itself keeps none alive.
        self._tasks: set[asyncio.Task[None]] = set()
        self.over: bool = False
        self.thread: int = threading.get_ident()

    @staticmethod
    def current() -> Loop:
        """That of the calling task. RuntimeError where none is running."""
        try:
            native = anyio.lowlevel.current_token().native_token
        except RuntimeError as error:  # anyio's NoEventLoopError is one
            raise RuntimeError(
                "no event loop is running: an AsyncClient is used within one, of asyncio or trio; "
                "elsewhere there is Client"
            ) from error
        reference: weakref.ref[Loop] | None = getattr(_local, "loop", None)
        loop = None if reference is None else reference()
        if loop is None or loop._native is not native:
            loop = Loop(native)
            _local.loop = weakref.ref(loop)
        return loop

    # Called from any thread, also by finalizers and signal handlers.

    def post(self, function: Callable[[], object]) -> None:
        """Have it called by the loop, in the order of posting, once `flush()` is called."""
        self._calls.append(function)

    def flush(self) -> None:
        if self._calls and not self._scheduled:
            self._scheduled = True
            self._wake()

    def call_soon(self, function: Callable[[], object]) -> None:
        self.post(function)
        self.flush()

    def _wake(self) -> None:
        native = self._native
        wake = getattr(native, "call_soon_threadsafe", None) or native.run_sync_soon
        try:
            wake(self._turn)
        except RuntimeError:  # it is closed; trio's RunFinishedError is one, too
            self.over = True
            self._calls.clear()

    # Called by the loop.

    def _turn(self) -> None:
        # In this order: what comes after the last look wakes the loop again.
        self._scheduled = False
        calls = self._calls
        for _ in range(_CALLS_PER_TURN):
            try:
                function = calls.popleft()
            except IndexError:
                return
            try:
                function()
            except Exception:
                _logger.exception("an exception that nobody asks for, in an event loop's call")
            del function
        self.flush()

    def spawn(
        self, function: Callable[[], Awaitable[None]], context: contextvars.Context
    ) -> RootTask:
        """Start a task in `context`, a copy for it alone. Nobody has to wait for it."""
        root = RootTask(function)
        if hasattr(self._native, "call_soon_threadsafe"):
            # Before Python 3.11, create_task() takes no context, but copies the current one.
            task = context.run(self._native.create_task, root._run())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            trio: typing.Any = sys.modules["trio"]
            trio.lowlevel.spawn_system_task(root._run, context=context)
        return root


_local = threading.local()


class RootTask:
    """
    A task of its own. It can be cancelled, and is when its loop ends. What it raises is logged:
    who has use for that catches it inside.
    """

    __slots__ = ("_cancelled", "_ended", "_function", "_scope", "_waiters")

    def __init__(self, function: Callable[[], Awaitable[None]]) -> None:
        self._function: Callable[[], Awaitable[None]] | None = function
        self._cancelled = self._ended = False
        # Made in the task: where this is made there may be none, and then anyio knows no loop.
        self._scope: anyio.CancelScope | None = None
        self._waiters: list[anyio.Event] = []

    def cancel(self) -> None:
        """Called by the loop. It may take its time to end."""
        self._cancelled = True
        if self._scope is not None:
            self._scope.cancel()

    async def wait(self) -> None:
        """Until it has ended."""
        if not self._ended:
            event = anyio.Event()
            self._waiters.append(event)
            await event.wait()

    async def _run(self) -> None:
        function, self._function = self._function, None
        assert function is not None
        try:
            with anyio.CancelScope() as self._scope:
                if not self._cancelled:
                    await function()
        except Exception:
            _logger.exception("an exception that nobody asks for, in a task of http3_parallel")
        finally:
            self._ended, self._scope = True, None
            for event in self._waiters:
                event.set()
            del function
