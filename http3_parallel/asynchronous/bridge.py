"""
What a thread has done on the event loop of its caller: the opposite of an errand.

A `Conversation` is a task on the loop that tells a thread one thing after another. The guarantees:

1. *The thread waits no longer than its request lives.* When that is aborted, the task is cancelled,
   and not waited for.
2. *The task is not far ahead*: what it has told waits to be taken before it may tell more than one
   thing further.
3. *However the task ends, the thread knows*: it gets what was told before, and then the end, or
   what the task raised.
"""

from __future__ import annotations

import collections
import contextvars
import functools
import threading
import typing
from collections.abc import AsyncIterable, Awaitable, Callable, Iterator

import anyio

from ..aborting import Abort, Signal
from ..exceptions import RequestCancelled, ResponseClosed, StreamError
from .loops import Loop, RootTask, is_interrupt

__all__ = [
    "CLEANUP_SECONDS",
    "END",
    "Caller",
    "Conversation",
    "caller",
    "close_iterator",
    "iterate",
]

END = object()

#: Seconds between two looks at whether the event loop still is, while a thread waits for it.
_LOOK = 1.0

#: Seconds for code of the user's to clean up after an asynchronous iterator that was left early.
CLEANUP_SECONDS = 5.0


class Caller:
    """Who makes requests: the loop, and what runs there for them."""

    __slots__ = ("depth", "loop", "tasks")

    def __init__(self, loop: Loop, depth: int = 0) -> None:
        self.loop: Loop = loop
        #: How many requests wait for this one to be made, by code that answers them.
        self.depth: int = depth
        #: Touched by the loop alone.
        self.tasks: set[RootTask] = set()

    def spawn(
        self,
        function: Callable[[], Awaitable[None]],
        context: contextvars.Context,
        on_end: Callable[[], object] | None = None,
    ) -> RootTask:
        """
        As `Loop.spawn`, of a task that is one of `tasks` until it has ended. `on_end` is called
        then, unless it has by the time this returns.
        """
        task = self.loop.spawn(function, context)

        def ended() -> None:
            self.tasks.discard(task)
            if on_end is not None:
                on_end()

        if not task.ended:  # it may have run at once
            self.tasks.add(task)
            task.on_end = ended
        return task


#: Who made the request that this thread, or this task, is at.
caller: contextvars.ContextVar[Caller] = contextvars.ContextVar("http3_parallel_caller")


class Conversation:
    """
    `speak` is called on the loop, with this, and tells.

    The thread calls `begin`, `take` and `close`, the task calls `tell`. `close` may come from
    anywhere.
    """

    __slots__ = (
        "__weakref__",
        "_caller",
        "_closed",
        "_ended",
        "_error",
        "_loop",
        "_signal",
        "_speak",
        "_taken",
        "_task",
        "_told",
    )

    def __init__(self, whose: Caller, speak: Callable[[Conversation], Awaitable[None]]) -> None:
        self._caller = whose
        self._loop = whose.loop
        self._speak: Callable[[Conversation], Awaitable[None]] | None = speak
        self._told: collections.deque[typing.Any] = collections.deque()
        self._error: BaseException | None = None
        self._ended = self._closed = False
        self._signal: Signal | None = None
        self._taken: anyio.Event | None = None
        self._task: RootTask | None = None

    # The thread.

    def begin(self) -> None:
        if threading.get_ident() == self._loop.thread:
            raise StreamError(
                "what runs on this event loop cannot be waited for in its own thread: await it"
            )
        # Not the context that this thread is in, which cannot be in another as well.
        self._loop.call_soon(functools.partial(self._start, contextvars.copy_context()))
        if self._loop.over:
            raise _loop_ended()

    def take(self, abort: Abort) -> typing.Any:
        """What was told next, or `END`. Raises what the task raised, and when aborted."""
        try:
            while True:
                # In this order: what was told before the end is there once that is.
                ended = self._ended
                if self._told:
                    try:
                        item = self._told.popleft()
                    except IndexError:  # closed meanwhile, by another thread
                        continue
                    taken = self._taken
                    if taken is not None:
                        self._loop.call_soon(taken.set)
                    return item
                if self._closed:
                    raise _closed()
                if ended:
                    return self._end()
                self._signal = signal = Signal()
                if self._told or self._ended or self._closed:
                    continue
                if not abort.wait_besides(signal, _LOOK) and self._loop.is_over():
                    raise _loop_ended()
        except BaseException:
            self.close()
            raise
        finally:
            del self  # what is raised refers to this frame

    def _end(self) -> object:
        error, self._error = self._error, None
        if error is None:
            return END
        try:
            raise error
        finally:
            del error, self

    def close(self) -> None:
        """Nobody takes any more. Does not wait, and takes no lock."""
        if not self._closed:
            self._closed = True
            self._error = None  # it may refer to frames that refer to this
            self._wake()
            self._loop.call_soon(self._stop)

    def _wake(self) -> None:
        signal = self._signal
        if signal is not None:
            signal.set()

    # The loop.

    def _start(self, context: contextvars.Context) -> None:
        if not self._closed:
            try:
                self._task = self._caller.spawn(self._run, context, self._task_ended)
            except BaseException:
                self._end_with(_loop_ended())
                raise

    def _task_ended(self) -> None:
        if not self._ended:  # it never ran
            self._end_with(_loop_ended())

    def _end_with(self, error: BaseException | None) -> None:
        if not self._closed:
            self._error = error
        self._ended = True
        self._wake()

    def _stop(self) -> None:
        self._told.clear()
        self._speak = None
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        speak, self._speak = self._speak, None
        failure: BaseException | None = None
        try:
            if speak is not None:
                await speak(self)
        except anyio.get_cancelled_exc_class() as error:
            failure = RequestCancelled("what ran on the event loop was cancelled there")
            failure.__cause__ = error
            raise
        except BaseException as error:  # whatever it is, it is the request's
            failure = error
            if is_interrupt(error):
                raise
        finally:
            self._end_with(failure)
            del speak, failure

    async def tell(self, item: typing.Any) -> None:
        """Wait until all that was told before has been taken."""
        while self._told:
            self._taken = taken = anyio.Event()
            if self._told:
                await taken.wait()
        self._told.append(item)
        self._wake()


def _closed() -> ResponseClosed:
    return ResponseClosed("the response was closed while its body was being read")


def _loop_ended() -> RequestCancelled:
    return RequestCancelled("the event loop that this was to run on has ended")


async def close_iterator(iterator: object) -> None:
    """Have it clean up, if it can be closed. Bounds itself; is not cancelled meanwhile."""
    close = getattr(iterator, "aclose", None)
    if close is not None:
        with anyio.move_on_after(CLEANUP_SECONDS, shield=True):
            await close()


def iterate(abort: Abort, items: AsyncIterable[typing.Any]) -> Iterator[typing.Any]:
    """The items, for the thread of a request. They are made on the loop of its caller."""

    async def speak(conversation: Conversation) -> None:
        iterator = items.__aiter__()
        try:
            async for item in iterator:
                await conversation.tell(item)
        finally:
            await close_iterator(iterator)

    conversation = Conversation(caller.get(), speak)
    conversation.begin()
    try:
        while (item := conversation.take(abort)) is not END:
            yield item
    finally:
        conversation.close()
