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
import functools
import importlib
import logging
import sys
import threading
import typing
import weakref
from collections.abc import Awaitable, Callable

import anyio
import anyio.lowlevel

__all__ = ["Loop", "RootTask", "finish", "is_interrupt"]

_logger = logging.getLogger("http3_parallel")

#: So many turns of asyncio's loop in which no task is ready: between one task's end and the next
#: one's turn, there may be callbacks (of ``gather``, say), each in a turn of its own.
_QUIET_TURNS = 5

#: Calls in one turn of the loop. Each takes some microseconds.
_CALLS_PER_TURN = 64


class Loop:
    """An event loop that runs, for as long as it does."""

    __slots__ = (
        "__weakref__",
        "_calls",
        "_looks",
        "_native",
        "_scheduled",
        "_tasks",
        "over",
        "thread",
    )

    def __init__(self, native: typing.Any) -> None:
        self._native = native
        self._calls: collections.deque[Callable[[], object]] = collections.deque()
        self._scheduled = False
        #: Of asyncio, which itself keeps none alive.
        self._tasks: set[asyncio.Task[None]] = set()
        self._looks: dict[Callable[[], object], None] = {}
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
        # Those of a thread: it may go from one to another and back.
        loops = _local.__dict__.setdefault("loops", weakref.WeakValueDictionary())
        loop: Loop | None = loops.get(id(native))
        if loop is None or loop._native is not native:
            loops[id(native)] = loop = Loop(native)
        return loop

    # Called from any thread, also by finalizers and signal handlers.

    def post(self, function: Callable[[], object]) -> None:
        """Have it called by the loop, in the order of posting, once `flush()` is called."""
        self._calls.append(function)

    def flush(self) -> None:
        if self._calls and not self._scheduled:
            try:
                self._scheduled = True
                self._wake()
            except BaseException:
                self._scheduled = False  # interrupted: once too often does no harm
                raise

    def call_soon(self, function: Callable[[], object]) -> None:
        self.post(function)
        self.flush()

    def when_quiet(self, function: Callable[[], object]) -> None:
        """
        Have it called by the loop, once every task there waits for something. For tests: it looks
        at all tasks.
        """
        if function not in self._looks:
            self._looks[function] = None
            self.call_soon(functools.partial(self._look, function, 4 * _QUIET_TURNS))

    def _look(self, function: Callable[[], object], turns: int) -> None:
        if self.is_trios:
            testing: typing.Any = importlib.import_module("trio.testing")

            async def look() -> None:
                try:
                    await testing.wait_all_tasks_blocked()
                finally:
                    self._looks.pop(function, None)
                function()

            sys.modules["trio"].lowlevel.spawn_system_task(look)
            return
        # Private use, listed in docs/: asyncio's own loops have what is ready there, this call no
        # longer among it. Others (uvloop's) have to be asked for the state of each task.
        ready = getattr(self._native, "_ready", None)
        if ready is None:
            turns = min(turns, _QUIET_TURNS)
        asks = turns <= _QUIET_TURNS
        if asks and any(map(_is_ready, asyncio.all_tasks(self._native))):
            turns = _QUIET_TURNS
        if turns and (ready is None or ready):
            self._native.call_soon(self._look, function, turns - 1)
        else:
            # In this order: what changes after the call has it called again.
            self._looks.pop(function, None)
            function()

    @property
    def is_trios(self) -> bool:
        return not hasattr(self._native, "call_soon_threadsafe")

    def is_over(self) -> bool:
        """Whether it has ended. Wakes it, if not."""
        self._wake()
        return self.over

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
        if not self.is_trios:
            # Before Python 3.11, create_task() takes no context, but copies the current one.
            task = context.run(self._native.create_task, root._run())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            # One that is cancelled before its first step never gets to any of its own.
            task.add_done_callback(root._end)
        else:
            trio: typing.Any = sys.modules["trio"]
            trio.lowlevel.spawn_system_task(root._run, context=context)
        return root


_local = threading.local()


def _is_ready(task: asyncio.Task[typing.Any]) -> bool:
    # Private use, listed in docs/, as anyio has it, too. Without it, none is taken for ready.
    waiter: typing.Any = getattr(task, "_fut_waiter", _UNKNOWN)
    return waiter is not _UNKNOWN and (waiter is None or waiter.done())


_UNKNOWN = object()


class RootTask:
    """
    A task of its own. It can be cancelled, and is when its loop ends. What it raises is logged:
    who has use for that catches it inside.

    `on_end` is called when it has ended, even if it never ran.
    """

    __slots__ = ("_cancelled", "_function", "_scope", "_waiters", "ended", "on_end")

    def __init__(self, function: Callable[[], Awaitable[None]]) -> None:
        self._function: Callable[[], Awaitable[None]] | None = function
        self._cancelled = False
        self.ended: bool = False
        self.on_end: Callable[[], object] | None = None
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
        if not self.ended:
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
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException as error:
            if is_interrupt(error):
                raise
            # Also those that would end the loop, which is not ours to end.
            _logger.exception("an exception that nobody asks for, in a task of http3_parallel")
        finally:
            self._end()
            del function

    def _end(self, task: object = None) -> None:
        if not self.ended:
            self.ended, self._scope = True, None
            for event in self._waiters:
                event.set()
            on_end, self.on_end = self.on_end, None
            if on_end is not None:
                on_end()


def is_interrupt(error: BaseException) -> bool:
    """
    Whether it is a Ctrl-C that struck in a task of ours, as it may in asyncio before Python 3.11:
    it is the loop's. trio keeps it from such tasks, and would not bear it.
    """
    return (
        sys.version_info < (3, 11)
        and isinstance(error, KeyboardInterrupt)
        and not Loop.current().is_trios
    )


async def finish(function: Callable[[], Awaitable[None]]) -> None:
    """
    Await it to its end, whatever cancels the calling task meanwhile: that is raised after, or else
    what it raises. It bounds itself.
    """
    failures: list[Exception] = []

    async def run() -> None:
        try:
            await function()
        except Exception as error:
            failures.append(error)

    loop = Loop.current()
    task = loop.spawn(run, contextvars.copy_context())
    await (_protected() if loop.is_trios else _wait_shielded)(task)
    if failures:
        raise failures.pop()


async def _wait_shielded(task: RootTask) -> None:
    interruption: BaseException | None = None
    with anyio.CancelScope(shield=True):
        while not task.ended:
            try:
                await task.wait()
            except BaseException as error:  # asyncio's own cancel() minds no shield
                interruption = error
    if interruption is not None:
        try:
            raise interruption
        finally:
            del interruption


@functools.lru_cache(None)
def _protected() -> Callable[[RootTask], Awaitable[None]]:
    """The same, for trio: a KeyboardInterrupt comes after, not while it enters its scope."""

    async def wait_protected(task: RootTask) -> None:
        await _wait_shielded(task)

    trio: typing.Any = sys.modules["trio"]
    protected: Callable[[RootTask], Awaitable[None]]
    protected = trio.lowlevel.enable_ki_protection(wait_protected)
    return protected
