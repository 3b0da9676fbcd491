"""
What threads do for a task that must not wait itself: it waits for them as for anything else.

A task that is cancelled meanwhile leaves at once. The thread is told to give up, and what it
brings all the same is given up too.
"""

from __future__ import annotations

import _thread
import contextvars
import functools
import threading
import typing
from collections.abc import Callable

import anyio
import anyio.to_thread

from ..exceptions import WorkersUnavailable
from ..workers import Workers, guarded
from .loops import Loop

__all__ = ["Errand", "Threads", "in_own_thread"]

_T = typing.TypeVar("_T")


class Errand(typing.Generic[_T]):
    """
    One call, by a thread that is not here. A `Job` for `Workers`, or a call for their foreman.

    * `give_up`: called in a thread, without waiting for anything, when the task has been cancelled:
      while `function` runs, which it should wake, or else after.
    """

    __slots__ = (
        "_abandoned",
        "_begun",
        "_context",
        "_error",
        "_event",
        "_function",
        "_give_up",
        "_loop",
        "_result",
        "was_refused",
    )

    def __init__(
        self,
        loop: Loop,
        function: Callable[[], _T],
        give_up: Callable[[], object] | None = None,
    ) -> None:
        self._loop = loop
        self._function: Callable[[], _T] | None = function
        self._give_up = give_up
        self._context = contextvars.copy_context()
        self._event = anyio.Event()
        self._begun = self._abandoned = False
        self._result: _T | None = None
        #: Whether there was no thread for it.
        self.was_refused = False
        self._error: BaseException | None = None

    # In a thread.

    def __call__(self) -> None:
        # First this, then a look at whether it was abandoned; the task does the opposite.
        self._begun = True
        function, self._function = self._function, None
        try:
            if not self._abandoned and function is not None:
                self._result = self._context.run(function)
        except BaseException as error:
            self._error = error
        finally:
            del function
            self._end()

    def refused(self, error: BaseException) -> None:
        self.was_refused = True
        self._error = error
        self._end()

    def _end(self) -> None:
        self._loop.call_soon(self._event.set)
        if self._abandoned and self._give_up is not None:
            guarded(self._give_up)

    # In the task.

    async def wait(self, workers: Workers) -> _T:
        """`workers`: whose foreman is there to wake others."""
        try:
            await self._event.wait()
        except BaseException:
            self._abandoned = True
            if self._begun and self._give_up is not None:
                workers.call_soon(self._give_up)
            raise
        error, self._error = self._error, None
        if error is None:
            return typing.cast(_T, self._result)
        try:
            raise error
        finally:
            del error, self  # what is raised refers to this frame


class Threads:
    """Those of a client that wait for whoever must not."""

    __slots__ = ("_readers", "_workers")

    def __init__(self, readers: Workers, workers: Workers) -> None:
        self._readers = readers
        self._workers = workers

    async def call(
        self, function: Callable[[], _T], give_up: Callable[[], object] | None = None
    ) -> _T:
        """`function()`, in a thread; see `Errand`."""
        errand = Errand(Loop.current(), function, give_up)
        self._readers.submit(errand)
        try:
            return await errand.wait(self._workers)
        except RuntimeError as error:
            if not errand.was_refused:
                raise
            if not self._readers.stopped:
                raise WorkersUnavailable(f"no thread could be started: {error}") from error
        # The client is closed, and what it delivered can still be read.
        return await anyio.to_thread.run_sync(function, abandon_on_cancel=True)

    async def call_quick(self, function: Callable[[], _T]) -> _T:
        """The same for what does not wait, but takes locks."""
        errand = Errand(Loop.current(), function)
        self._workers.call_soon(errand)
        return await errand.wait(self._workers)


async def in_own_thread(function: Callable[[], _T]) -> _T:
    """`function()`, in a thread made for it: for what ends all others. Cannot be cancelled."""
    errand = Errand(Loop.current(), function)
    thread = threading.Thread(target=errand, name="http3_parallel closing", daemon=True)
    # ``Thread.start()`` waits until it runs; so another one, which nothing waits for, calls it.
    _thread.start_new_thread(functools.partial(_start, thread, errand), ())
    with anyio.CancelScope(shield=True):
        await errand._event.wait()
    error = errand._error
    if error is not None:
        try:
            raise error
        finally:
            del error
    return typing.cast(_T, errand._result)


def _start(thread: threading.Thread, errand: Errand[typing.Any]) -> None:
    try:
        thread.start()
    except RuntimeError:  # no more threads: this one is
        errand()
