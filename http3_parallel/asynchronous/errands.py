"""
What threads do for a task that must not wait itself: it waits for them as for anything else.

A task that is cancelled meanwhile leaves at once. The thread is told to give up, and what it
brings all the same is given up too.
"""

from __future__ import annotations

import _thread
import contextvars
import threading
import typing
from collections.abc import Callable

import anyio

from ..exceptions import WorkersUnavailable
from ..workers import Clock, Job, Workers, guarded
from .loops import Loop

__all__ = ["Errand", "Threads", "call_apart", "run_apart", "start_thread"]

_T = typing.TypeVar("_T")


class Errand(typing.Generic[_T]):
    """
    One call, by a thread that is not here. A `Job` for `Workers`, or a call for their foreman.

    * `clock`: stands still from the call's end until the loop was told of it; with `holds`, from
      its beginning.
    * `give_up`: called in another thread when the task has been cancelled: while `function` runs,
      which it should wake, or after. Without it, `function` is called even if nobody waits for it
      any more.
    """

    __slots__ = (
        "__weakref__",
        "_abandoned",
        "_begun",
        "_clock",
        "_context",
        "_error",
        "_event",
        "_function",
        "_give_up",
        "_is_held",
        "_loop",
        "_result",
        "_tell",
        "was_refused",
    )

    def __init__(
        self,
        loop: Loop,
        function: Callable[[], _T],
        give_up: Callable[[], object] | None = None,
        *,
        clock: Clock | None = None,
        holds: bool = False,
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._function: Callable[[], _T] | None = function
        self._give_up = give_up
        self._context = contextvars.copy_context()
        self._event = anyio.Event()
        self._tell: Callable[[], object] = self._event.set
        self._is_held = clock is not None and holds
        if clock is not None and holds:
            self._tell = clock.holding(self._tell)
        self._begun = self._abandoned = False
        self._result: _T | None = None
        #: Whether there was no thread for it.
        self.was_refused: bool = False
        self._error: BaseException | None = None

    # In a thread.

    def __call__(self) -> None:
        # First this, then a look at whether it was abandoned; the task does the opposite.
        self._begun = True
        function, self._function = self._function, None
        try:
            if function is not None and not (self._abandoned and self._give_up is not None):
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
        clock, tell = self._clock, self._tell
        self._loop.call_soon(tell if clock is None or self._is_held else clock.holding(tell))
        if self._abandoned and self._give_up is not None:
            guarded(self._give_up)

    # In the task.

    async def wait(self) -> _T:
        try:
            if self._clock is None:
                await self._event.wait()
            else:
                await self._clock.wait_async(self._event, self._loop, None)
        except BaseException:
            self._abandoned = True
            if self._begun and self._give_up is not None:
                run_apart(self._give_up)
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

    __slots__ = ("_readers",)

    def __init__(self, readers: Workers) -> None:
        self._readers = readers

    @property
    def clock(self) -> Clock | None:
        return self._readers.clock

    async def call(self, function: Callable[[], _T], give_up: Callable[[], object]) -> _T:
        """`function()`, which reads a stream; see `Errand`."""
        errand = Errand(Loop.current(), function, give_up, clock=self.clock)
        self._readers.submit(errand)
        try:
            return await _outcome(errand)
        except WorkersUnavailable:
            if not (errand.was_refused and self._readers.stopped):
                raise
        # The client is closed, and what it delivered can still be read.
        return await call_apart(function, give_up)


async def call_apart(
    function: Callable[[], _T],
    give_up: Callable[[], object] | None = None,
    *,
    clock: Clock | None = None,
) -> _T:
    """
    The same in a thread of its own, which need not wait until others have read their streams.
    `clock` stands still meanwhile.
    """
    errand = Errand(Loop.current(), function, give_up, clock=clock, holds=True)
    start_thread(errand)
    return await _outcome(errand)


async def _outcome(errand: Errand[_T]) -> _T:
    try:
        return await errand.wait()
    except RuntimeError as error:
        if not errand.was_refused:
            raise
        raise WorkersUnavailable(f"no thread could be started: {error}") from error


class _Call:
    """A `Job` that nobody waits for. Without a thread, it is done at once: it must be done."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[[], object]) -> None:
        self._function = function

    def __call__(self) -> None:
        guarded(self._function)

    def refused(self, error: BaseException) -> None:
        guarded(self._function)


def run_apart(function: Callable[[], object]) -> None:
    """Have a thread call it."""
    start_thread(_Call(function))


def start_thread(job: Job) -> None:
    """Run it in a thread made for it. Waits for nothing; refused if there is none to be had."""
    thread = threading.Thread(target=job, name="http3_parallel errand", daemon=True)
    try:
        # ``Thread.start()`` waits until it runs; so another one, which nothing waits for, calls it.
        _thread.start_new_thread(_start, (thread, job))
    except RuntimeError as error:
        job.refused(error)


def _start(thread: threading.Thread, job: Job) -> None:
    try:
        thread.start()
    except RuntimeError:  # no more threads: this one is
        job()
