"""
Where handles go as they end, and who waits for them there.

1. *Completion order at flat cost.* A handle that ends goes to the end of a queue, and whoever
   takes next takes the first: nothing is ever searched or scanned.
2. *Every response is handed out once.* `open` holds the handles nobody has claimed or taken;
   claiming and taking remove from it. Who takes waits while there are any, and is woken when
   the last one goes another way.
3. *Wake-ups are never lost*: whatever may satisfy a waiter wakes all of them, and they look
   again. Nobody waits in a lock.

All of it under the block's lock. A block has one for its own methods and one for each `map`.
"""

from __future__ import annotations

import collections
import os
import typing

from .aborting import Signal
from .exceptions import NoPendingResponses, WaitTimeout
from .pending import CANCELLED, ENDED, PendingResponse

if typing.TYPE_CHECKING:
    from .block import Block

__all__ = ["Completions"]


class Completions:
    __slots__ = ("_block", "_finished", "_waiters", "open")

    def __init__(self, block: Block) -> None:
        self._block = block
        #: Neither handed out nor claimed, whatever their state.
        self.open: set[PendingResponse] = set()
        # Those of them that are DONE, in the order they came to be. Not a plain dict, in which
        # finding the first key becomes slow after many deletions.
        self._finished: collections.OrderedDict[PendingResponse, None] = collections.OrderedDict()
        self._waiters: list[Signal] = []

    # Called by the block, under its lock.

    def add(self, handle: PendingResponse) -> None:
        self.open.add(handle)
        # By a signal handler, for which the lock is none, since it was submitted.
        if handle._state == CANCELLED:
            self.open.discard(handle)

    def finish(self, handle: PendingResponse) -> None:
        """It is DONE: next in line to be taken, unless it was claimed."""
        if handle in self.open:
            self._finished[handle] = None
            self._wake()

    def add_finished(self, handle: PendingResponse) -> None:
        # In this order: in `open` alone it would be waited for, if an interrupt came between.
        self._finished[handle] = None
        self.open.add(handle)
        self._wake()

    def remove(self, handle: PendingResponse) -> None:
        """Nobody is to take it from here on."""
        self.open.discard(handle)
        self._finished.pop(handle, None)
        if not self.open:
            self._wake()

    def _wake(self) -> None:
        for signal in self._waiters:
            signal.set()
        self._waiters.clear()

    # Called by whoever wants a response.

    @property
    def has_finished(self) -> bool:
        return bool(self._finished)

    def take(self, timeout: float | None, end: float | None = None) -> PendingResponse:
        """
        The next handle to complete; see `Parallel.next_response`. `end`, on the clock of
        `Block.time`, is when `timeout` runs out, if that does not begin now.
        """
        block = self._block
        if timeout is not None and end is None:
            end = block.time() + timeout
        waiting = True
        while True:
            block.check_usable()
            with block.lock:
                handle = next(iter(self._finished), None)
                if handle is not None:
                    self.remove(handle)
                    return handle
                if not self.open:
                    raise NoPendingResponses("nothing is pending: every response was handed out")
                signal = Signal()
                if waiting:
                    self._waiters.append(signal)
                    # A signal handler, for which the lock is none, may have cancelled the last.
                    if not self.open:
                        signal.set()
            if not waiting:
                raise WaitTimeout(
                    f"no response completed within {timeout} s; the requests go on: wait again, "
                    "or cancel() them"
                )
            try:
                waiting = block.wait(signal, None if end is None else end - block.time())
            finally:
                with block.lock:
                    _forget(signal, self._waiters)

    def wait_for(self, handle: PendingResponse, timeout: float | None) -> None:
        """Claim `handle`, and wait until it has ended; see `PendingResponse.get_response`."""
        if handle._state not in ENDED:
            if os.getpid() != self._block.pid:
                self._block.check_usable()
            self._wait_for_end(handle, timeout)
        # In a forked child, the lock may be held by a thread that is not there.
        if handle in self.open and os.getpid() == self._block.pid:
            with self._block.lock:
                self.remove(handle)

    def _wait_for_end(self, handle: PendingResponse, timeout: float | None) -> None:
        block = self._block
        signal = Signal()
        try:
            with block.lock:
                waiters = handle._waiters
                if waiters is None:
                    waiters = handle._waiters = []
                waiters.append(signal)
                self.remove(handle)
            if handle._state not in ENDED:
                block.wait(signal, timeout)
        finally:
            with block.lock:
                _forget(signal, handle._waiters or [])
                if handle._state not in ENDED and not handle._waiters:
                    self.add(handle)  # the claim is given back
        if handle._state not in ENDED:
            raise WaitTimeout(
                f"the response did not complete within {timeout} s; the request goes on: wait "
                "again, or cancel() it"
            )


def _forget(signal: Signal, waiters: list[Signal]) -> None:
    if signal in waiters:
        waiters.remove(signal)
