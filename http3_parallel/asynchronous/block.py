"""
A block of the synchronous side, used from event loops: the same machine, without a wait.

The lock of a block is held for a few operations at a time, but a thread that holds it may have to
wait for the interpreter's. So a loop only tries it, and has the foreman of the workers do what it
could not. Ending is the foreman's anyway, since that takes the locks of all that is ended.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import importlib
import os
import typing

import anyio

from ..aborting import Abort, Expiry, Signal
from ..block import Block
from ..completions import Completions
from ..exceptions import HTTPError, ParallelClosed
from ..models import Request, Response
from ..pending import PendingResponse
from ..running import cancelled, close_quietly
from ..workers import Registry
from .bridge import caller
from .errands import Errand, run_apart
from .loops import Loop
from .pending import LoopHandle

if typing.TYPE_CHECKING:
    from .completions import AsyncCompletions

__all__ = ["AsyncBlock", "PlainBlock"]

try:
    #: anyio and others look there, where it is installed.
    _sniffio: typing.Any = importlib.import_module("sniffio")
except ImportError:
    _sniffio = None


class AsyncBlock(Block):
    """Called by event loops, unless it says otherwise."""

    def __init__(self, *args: typing.Any, **kwargs: typing.Any) -> None:
        super().__init__(*args, **kwargs)
        #: Where its handles go.
        self.completions: Registry[AsyncCompletions] = Registry()
        self._entering: collections.deque[PendingResponse] = collections.deque()
        self._posted: collections.deque[Loop] = collections.deque()

    # Taking requests in.

    def _new_handle(
        self, completions: Completions, request: Request | None, settings: typing.Any, tag: object
    ) -> PendingResponse:
        return LoopHandle(self, completions, request, settings, tag)

    def _submit(
        self, handle: PendingResponse, request: Request, deadline: float | None
    ) -> PendingResponse:
        self._address(handle, request, deadline)
        context = handle._context
        assert context is not None
        context.run(caller.set, typing.cast("AsyncCompletions", handle._completions).caller)
        if _sniffio is not None:  # in the worker there is no event loop
            context.run(_sniffio.current_async_library_cvar.set, None)
        self._entering.append(handle)
        entered = None
        try:
            if self.lock.acquire(blocking=False):
                entered = self._enter_all()
        finally:
            # Tried, not remembered, nor asked: a KeyboardInterrupt can come as soon as it is taken,
            # and after each call, but not before this one.
            try:  # noqa: SIM105  # that would be a call
                self.lock.release()
            except RuntimeError:  # it was not taken
                pass
        if entered is None:
            self._workers.call_soon(self._enter_late)
        else:
            self._settle_all(entered)
        return handle

    def _announce_failed(self, handle: PendingResponse) -> None:
        self._counts.submit_failed()  # without the lock, it may miss one
        handle._wake()
        self._notify()

    def _enter_late(self) -> None:
        """By the foreman."""
        with self.lock:
            entered = self._enter_all()
        self._settle_all(entered)

    def _enter_all(self) -> list[tuple[PendingResponse, bool]]:
        entered = []
        while self._entering:
            handle = self._entering[0]
            entered.append((handle, self._enter(handle)))
            del self._entering[0]  # not before: see `is_idle`
        return entered

    def _settle_all(self, entered: list[tuple[PendingResponse, bool]]) -> None:
        for handle, is_in in entered:
            try:
                self._settle(handle, is_in)
            except ParallelClosed:  # meanwhile
                self._submit_failed(handle, self._left(handle))

    @property
    def alive(self) -> bool:
        return self._workers.alive

    def looks(self) -> typing.Iterator[float]:
        return self._workers.looks()

    def give_up(self) -> None:
        self._workers.give_up()

    # Telling loops. By whatever thread.

    def posted(self, loop: Loop) -> None:
        """`loop` is to be woken, once no lock is held."""
        self._posted.append(loop)

    def _notify(self) -> None:
        with contextlib.suppress(IndexError):
            while True:
                self._posted.popleft().flush()

    # Ending.

    @property
    def is_idle(self) -> bool:
        """Whether, once closed, nothing is left to be ended."""
        return not (self._entering or self._pending or self._executing or self._streams)

    def end_soon(self) -> None:
        """End everything, by the foreman. May be repeated."""
        if os.getpid() == self.pid:
            self._closed = True
            self._workers.call_soon(self.end_now)

    def end_at_once(self) -> bool:
        """Close it. Returns whether that was all: there was nothing to end, and to wait for."""
        self._closed = True
        if not self.is_idle:
            return False
        self.tell_closed()
        if self._timer is not None:
            self._timer.cancel()
        if self._own_workers:
            self._workers.stop_soon()
        return True

    async def aclose(self, loop: Loop) -> None:
        """
        As `close`: end everything, and wait until no worker is busy for the block, but for those
        in code of the user's. Whoever calls this is not cancelled, and bounds it.
        """
        try:
            ending = Errand(loop, self.end_now)
            self._workers.call_soon(ending)
            stuck = await ending.wait()
            while True:
                drained = anyio.Event()
                watching = Errand(loop, functools.partial(self._watch, stuck, loop, drained))
                self._workers.call_soon(watching)
                if await watching.wait():
                    break
                await drained.wait()
        finally:
            if self._own_workers:
                self._workers.stop_soon()

    def _watch(self, stuck: set[PendingResponse], loop: Loop, drained: anyio.Event) -> bool:
        """By the foreman. Returns whether there is nothing to wait for; else sets `drained`."""
        with self.lock:
            if self._executing <= stuck:
                return True
            self._drained.append(_Drained(self, loop, drained))
            return False

    def end_now(self) -> set[PendingResponse]:
        stuck = super().end_now()
        self.tell_closed()
        return stuck

    def tell_closed(self) -> None:
        """Whoever waits looks again."""
        for completions in self.completions.alive():
            completions.loop.call_soon(completions.closed)

    def _let_go(self, response: Response) -> None:
        self.let_go(response)

    def let_go(self, response: Response) -> None:
        """
        Close it. It is closed at once; what that takes is done in a thread, since it may be code
        of the user's, which is not waited for.
        """
        stream = response._stream
        if stream is not None and not stream.closed:
            stream.closed = True
            run_apart(functools.partial(close_quietly, response))


class PlainBlock(AsyncBlock):
    """Of a client's plain calls. What they deliver is their callers', and outlives the client."""

    def _left(self, handle: PendingResponse | None = None) -> HTTPError:
        return cancelled(handle, "the client was closed before this was complete")

    def _keep_stream(self, handle: PendingResponse, abort: Abort, response: Response) -> None:
        if handle._expires is not None:
            timer = self._workers.schedule(handle._expires, Expiry(abort, handle._deadline))
            response._add_on_close(timer.cancel)


class _Drained(Signal):
    """One that an event loop waits for."""

    __slots__ = ("_block", "_event", "_loop")

    def __init__(self, block: AsyncBlock, loop: Loop, event: anyio.Event) -> None:
        super().__init__()
        self._block = block
        self._loop = loop
        self._event = event

    def set(self) -> None:
        self._loop.post(self._event.set)
        self._block.posted(self._loop)
