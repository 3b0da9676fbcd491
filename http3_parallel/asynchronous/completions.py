"""
Where the handles of an asynchronous block go as they end, and who waits for them there.

All of this belongs to one event loop, and is touched by its thread alone: it takes no lock. Threads
only post to it. The guarantees:

1. *Completion order at flat cost.* A handle that ends goes to the end of a queue, and whoever
   takes next takes the first.
2. *Every response is handed out once.* `_open` holds what nobody has claimed or taken. Taking is
   one step between two awaits: a task that is cancelled while it waits has taken nothing.
3. *Wake-ups are never lost.* One handle wakes one taker. Who is woken, and leaves without having
   taken it, wakes the next.
4. *Who does not wait lets others run*, after so many steps.
5. *The loop's word counts.* What was cancelled here has ended, whatever its thread brings; that is
   closed.
"""

from __future__ import annotations

import collections
import functools
import time
import typing
from collections.abc import Callable, Iterable

import anyio
import anyio.lowlevel

from ..exceptions import HTTPError, NoPendingResponses, WaitTimeout
from ..models import Response
from ..pending import CANCELLED, PendingResponse
from ..running import cancelled
from .bridge import Caller
from .loops import Loop
from .pending import AsyncPendingResponse, LoopHandle
from .responses import AsyncResponse

if typing.TYPE_CHECKING:
    from .block import AsyncBlock

__all__ = ["AsyncCompletions"]

#: Steps without a wait, after which another task has its turn. Each takes some 20 us.
_STEPS_PER_TURN = 16

_Receive = Callable[[Response], AsyncResponse]


class AsyncCompletions:
    """
    * `receive`: makes of a `Response` what is handed out.
    * `window`: how many there may be that were not handed out, for who awaits a submission.
    """

    def __init__(
        self,
        block: AsyncBlock,
        loop: Loop,
        receive: _Receive,
        window: int | None = None,
        depth: int = 0,
    ) -> None:
        self._block = block
        self.loop: Loop = loop
        self.caller: Caller = Caller(loop, depth)
        self.received: _Receive = receive
        self._window = window
        #: Neither handed out nor claimed, whatever their state. A dict, as an ordered set.
        self._open: dict[AsyncPendingResponse, None] = {}
        # Those of them that have ended, in the order they did. See `completions.Completions`.
        self._finished: collections.OrderedDict[AsyncPendingResponse, None] = (
            collections.OrderedDict()
        )
        #: Those that have not ended.
        self._live: dict[PendingResponse, AsyncPendingResponse] = {}
        self._takers: dict[anyio.Event, None] = {}
        self._waiting_for_room: dict[anyio.Event, None] = {}
        self._steps = 0
        #: Whether more may be submitted although nothing is open: there is something to wait for.
        self.expecting: bool = False
        block.completions.add(self)

    # Called by the block, from any thread: what the synchronous side does in place of this is
    # done when the loop gets what `post` has posted.

    def add(self, handle: PendingResponse) -> None:
        pass

    def finish(self, handle: PendingResponse) -> None:
        pass

    def add_finished(self, handle: PendingResponse) -> None:
        pass

    def remove(self, handle: PendingResponse) -> None:
        pass

    def post(self, handle: LoopHandle) -> None:
        """It has ended. May be under the block's lock: `AsyncBlock._notify` wakes the loop."""
        receive: Callable[[], object] = functools.partial(self._receive, handle)
        clock = self._block.clock
        self.loop.post(receive if clock is None else clock.holding(receive))
        self._block.posted(self.loop)

    def closed(self) -> None:
        """The block was."""
        self._wake_all()

    # Called by the loop.

    def _receive(self, handle: PendingResponse) -> None:
        pending = self._live.pop(handle, None)
        if pending is None:
            if handle._response is not None:  # cancelled here meanwhile
                self._block.let_go(handle._response)
            return
        pending._has_ended = True
        if handle._state == CANCELLED:
            self._remove(pending)
        elif pending in self._open:
            self._finished[pending] = None
            self._wake_taker()
        pending._wake()
        self._make_room()

    def _remove(self, pending: AsyncPendingResponse) -> None:
        """Nobody is to take it from here on."""
        self._open.pop(pending, None)
        self._finished.pop(pending, None)
        if not self._open:
            self._wake_all()

    def _wake_taker(self) -> None:
        event = next(iter(self._takers), None)
        if event is not None and self._finished:
            del self._takers[event]
            event.set()

    def _wake_all(self) -> None:
        for event in self._takers:
            event.set()
        self._takers.clear()
        self._wake_waiting_for_room()

    def _wake_waiting_for_room(self) -> None:
        for event in self._waiting_for_room:
            event.set()
        self._waiting_for_room.clear()

    def _make_room(self) -> None:
        if self._waiting_for_room and self.has_room:
            event = next(iter(self._waiting_for_room))
            del self._waiting_for_room[event]
            event.set()

    # Called by the tasks.

    @property
    def outstanding(self) -> int:
        """How many were not handed out."""
        return len(self._live) + len(self._finished)

    @property
    def has_room(self) -> bool:
        return self._window is None or self.outstanding <= self._window

    def time(self) -> float:
        return self._block.time()

    @property
    def open(self) -> int:
        return len(self._open)

    def submitted(self, handle: PendingResponse) -> AsyncPendingResponse:
        pending = AsyncPendingResponse(typing.cast(LoopHandle, handle), self)
        self._live[handle] = pending
        self._open[pending] = None
        return pending

    def check_loop(self) -> None:
        """What waits here is woken by that loop only."""
        if Loop.current() is not self.loop:
            raise RuntimeError(
                "an asynchronous block, and its handles, belong to the event loop in which the "
                "block was first used; open another here: an AsyncClient may be used from several"
            )

    async def admit(self, pending: AsyncPendingResponse) -> AsyncPendingResponse:
        """Wait until there is room for it. If that is cancelled, so is the request."""
        self.check_loop()
        try:
            await self._pace()
            while not (self.has_room or pending._has_ended) and self._block.usable:
                event = anyio.Event()
                self._waiting_for_room[event] = None
                try:
                    await self._sleep(event, None)
                finally:
                    self._waiting_for_room.pop(event, None)
            self._make_room()  # for the next, if there is more
        except BaseException:
            self._make_room()
            pending.cancel()
            raise
        return pending

    async def wait_for_room(self) -> None:
        """Wait until one more may be submitted."""
        await self._pace()
        assert self._window is not None
        while self.outstanding >= self._window:
            self._block.check_usable()
            event = anyio.Event()
            self._waiting_for_room[event] = None
            try:
                await event.wait()
            finally:
                self._waiting_for_room.pop(event, None)

    async def take(self, timeout: float | None, end: float | None = None) -> AsyncPendingResponse:
        """
        The next one to complete; see `AsyncParallel.next_response`. `end`, on the clock of
        `Block.time`, is when `timeout` runs out, if that does not begin now.
        """
        self.check_loop()
        if timeout is not None and end is None:
            end = self._block.time() + timeout
        await self._pace()
        waiting = True
        while True:
            self._block.check_usable()
            pending = next(iter(self._finished), None)
            if pending is not None:
                self._remove(pending)
                self._wake_taker()
                self._make_room()
                return pending
            if not (self._open or self.expecting):
                raise NoPendingResponses("nothing is pending: every response was handed out")
            if not waiting:
                raise WaitTimeout(
                    f"no response completed within {timeout} s; the requests go on: wait again, "
                    "or cancel() them"
                )
            event = anyio.Event()
            self._takers[event] = None
            try:
                waiting = await self._sleep(event, end)
            except BaseException:
                if self._takers.pop(event, event) is event:  # it was woken: that is for the next
                    self._wake_taker()
                raise
            finally:
                self._takers.pop(event, None)

    async def wait_for(self, pending: AsyncPendingResponse, timeout: float | None) -> None:
        """Claim `pending`, and wait until it has ended; see its `get_response`."""
        self.check_loop()
        if pending._has_ended:
            await self._pace()
        else:
            await self._wait_for_end(pending, timeout)
        pending._was_had = True
        if pending in self._open:
            self._remove(pending)
            self._make_room()

    async def _wait_for_end(self, pending: AsyncPendingResponse, timeout: float | None) -> None:
        end = None if timeout is None else self._block.time() + timeout
        event = anyio.Event()
        pending._events.append(event)
        self._remove(pending)
        try:
            await self._pace()
            await self._sleep(event, end)
        except BaseException:
            pending._events.remove(event)
            if not pending._events:
                self._give_back(pending)
                if not pending._has_ended:
                    pending.cancel()
            raise
        pending._events.remove(event)
        if not pending._has_ended:
            if not pending._events:
                self._give_back(pending)
            raise WaitTimeout(
                f"the response did not complete within {timeout} s; the request goes on: wait "
                "again, or cancel() it"
            )

    def _give_back(self, pending: AsyncPendingResponse) -> None:
        """Who claimed it does not have it, and nobody else does."""
        if pending.cancelled() or pending._was_had:
            return
        self._open[pending] = None
        if pending._has_ended:
            self._finished[pending] = None
            self._wake_taker()

    def cancel(
        self,
        pendings: Iterable[AsyncPendingResponse],
        error: Callable[[PendingResponse], HTTPError] = cancelled,
    ) -> None:
        """End them, at once for the loop, and soon for the threads."""
        handles: list[PendingResponse] = []
        for pending in pendings:
            if not pending._has_ended:
                self._live.pop(pending._handle, None)
                pending._has_ended, pending._cancelled_by = True, error
                handles.append(pending._handle)
                self._remove(pending)
                pending._wake()
        if handles:
            self._wake_waiting_for_room()
            self._block.cancel_soon(handles)

    def cancel_all(self, error: Callable[[PendingResponse], HTTPError] = cancelled) -> None:
        self.cancel(list(self._live.values()), error)

    async def _pace(self) -> None:
        self._steps += 1
        if self._steps >= _STEPS_PER_TURN:
            self._steps = 0
            await anyio.lowlevel.checkpoint()

    async def _sleep(self, event: anyio.Event, end: float | None) -> bool:
        """Wait for `event`, until `end`. Returns whether it was set."""
        self._steps = 0
        block = self._block
        block.staff()
        if block.clock is not None:
            return await block.clock.wait_async(event, self.loop, end)
        if not block.alive:
            await self._look_for_life(event, end)
        if end is None:
            await event.wait()
        elif not event.is_set():
            with anyio.move_on_after(end - time.monotonic()):
                await event.wait()
        return event.is_set()

    async def _look_for_life(self, event: anyio.Event, end: float | None) -> None:
        """As `Workers.wait` does it."""
        block = self._block
        for seconds in block.looks():
            if event.is_set() or block.alive:
                return
            left = seconds if end is None else min(seconds, end - time.monotonic())
            with anyio.move_on_after(left):
                await event.wait()
            if left < seconds:
                return
        if not (event.is_set() or block.alive):
            block.give_up()
