"""
What many requests wait for together: a token, which one of them gets for all.

The guarantees of `Shared`:

1. *One call at a time.* Who needs a value while the function is being called waits for that
   call; who brings back a value that was replaced meanwhile gets the new one, without a call.
2. *A leader that is ended does not hold up the others.* The thread that calls the function
   leads. When its request is aborted, another one that waits calls the function at once, although
   the first call may go on for as long as it likes. Its result, if it comes before that of the
   others, is used all the same: it is as good; what comes later is dropped.
3. *A failure is everybody's, once.* All who waited for that call raise the same exception, of
   an `HTTPError` a copy, which gets their tag. Who comes later has the function called anew.
4. *No lock.* A child forked at any instant, an exception of a signal handler at any instant,
   leave nothing locked and nobody waiting for a leader that is gone.

How: calls form a chain, in which each is linked behind its predecessor by one
`dict.setdefault`. Whose call that is leads; who finds another there waits for its outcome. The
first outcome of a call counts, whether the leader gives it or somebody else.
"""

from __future__ import annotations

import contextvars
import functools
import os
import typing

from ..aborting import Abort, Signal
from ..exceptions import HTTPError

if typing.TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Share", "Shared"]

T = typing.TypeVar("T")


class Share:
    """What the steps of an `Auth` may yield in place of a request: something to wait for."""

    __slots__ = ()

    def perform(self, abort: Abort) -> typing.Any:
        """
        The value, which the generator is sent. Runs in the thread of the request, and blocks;
        `abort` ends that. What it raises ends the request.
        """
        raise NotImplementedError


class _Success:
    """A value that was made."""

    __slots__ = ("value",)

    def __init__(self, value: typing.Any) -> None:
        self.value = value

    def result(self) -> typing.Any:
        return self.value


class _Failure:
    """An exception to be raised by all who waited, in several threads."""

    __slots__ = ("_error", "_traceback")

    def __init__(self, error: Exception, traceback: TracebackType | None) -> None:
        self._error = error
        self._traceback = traceback

    def result(self) -> typing.Any:
        error = self._error
        if isinstance(error, HTTPError):  # it will have the tag of the request that raises it
            error = error._copy()
        try:
            # Back to what it was in the function: raised repeatedly, it would grow.
            raise error.with_traceback(self._traceback)
        finally:
            del error, self  # the traceback refers to this frame


class _PassedOn:
    """The leader is gone: somebody else is to lead."""


_PASSED_ON = _PassedOn()

_Result = typing.Union[_Success, _Failure]
_Outcome = typing.Union[_Result, _PassedOn]


class _Call:
    """
    One call of the function, from the moment it is linked until it has an outcome.

    * `before`: the value from before it.
    """

    __slots__ = ("_following", "_outcomes", "_pid", "_signals", "before")

    def __init__(self, before: typing.Any = None) -> None:
        self.before = before
        self._pid = os.getpid()
        self._outcomes: list[_Outcome] = []
        self._following: dict[None, _Call] = {}
        self._signals: list[Signal] = []

    @property
    def outcome(self) -> _Outcome | None:
        return self._outcomes[0] if self._outcomes else None

    @property
    def is_running(self) -> bool:
        """Without an outcome so far. Those of the parent, after a fork, will never have one."""
        return not self._outcomes and self._pid == os.getpid()

    @property
    def value(self) -> typing.Any:
        """The value from now on."""
        outcome = self.outcome
        return outcome.value if isinstance(outcome, _Success) else self.before

    @property
    def following(self) -> _Call | None:
        return self._following.get(None)

    def link(self, call: _Call) -> _Call:
        """Put `call` behind this one, which is over. Returns what is there: the first one is."""
        return self._following.setdefault(None, call)

    def end(self, outcome: _Outcome) -> _Outcome:
        """
        Returns the first outcome, which counts. Whoever waits is woken, again if that was
        interrupted.
        """
        self._outcomes.append(outcome)
        for signal in self._signals.copy():
            signal.set()
        return self._outcomes[0]

    def wait(self, abort: Abort) -> _Outcome:
        signal = Signal()
        self._signals.append(signal)
        if not self._outcomes:  # those that come after this see the signal
            abort.wait(signal)
        return self._outcomes[0]


class _Visit:
    """That a thread is in the function. Outlived by the contexts that were copied meanwhile."""

    __slots__ = ("shared",)

    def __init__(self, shared: Shared[typing.Any]) -> None:
        self.shared: Shared[typing.Any] | None = shared


_visits: contextvars.ContextVar[tuple[_Visit, ...]] = contextvars.ContextVar(
    "http3_parallel_shared", default=()
)


class Shared(typing.Generic[T]):
    """
    A value that `function` makes, again whenever somebody finds that it is no longer good.

    * `value`: the first one; None if there is none.
    * `doing`: what who waits for it is doing, in words that fit after "while".

    Values are compared by identity: each call must return another object.
    """

    def __init__(
        self, function: typing.Callable[[], T], value: T | None = None, *, doing: str
    ) -> None:
        self._function = function
        self._doing = doing
        self._last = _over(value)

    @property
    def value(self) -> T | None:
        call = self._last
        while (following := call.following) is not None:
            call = following
        return typing.cast("T | None", call.value)

    @property
    def is_within(self) -> bool:
        """
        Whether the caller runs for the function, in its thread or in its context: waiting for
        the value would then never end.
        """
        return any(visit.shared is self for visit in _visits.get())

    def instead_of(self, value: T | None) -> Share:
        """A `Share` of the value that replaces `value`."""
        return _SharedValue(self, value)

    def _make(self, replaced: T | None, abort: Abort) -> T:
        abort.phase = self._doing
        mine = _Call()
        try:
            result = self._wait(mine, replaced, abort)
            if result is None:
                result = self._lead(mine, abort)
        finally:
            # If it led, and was ended before it had a result, somebody else is to.
            mine.end(_PASSED_ON)
            del self, abort, mine  # what is raised refers to this frame
        try:
            return typing.cast(T, result.result())
        finally:
            del result

    def _wait(self, mine: _Call, replaced: T | None, abort: Abort) -> _Result | None:
        """What others have made; None if `mine` is the call to make."""
        while True:
            found = self._join(mine, replaced)
            if found is mine:
                return None
            outcome = found if isinstance(found, _Success) else found.wait(abort)
            if not isinstance(outcome, _PassedOn):
                return outcome

    def _join(self, mine: _Call, replaced: T | None) -> _Call | _Success:
        """
        The call to wait for: one that is running, or `mine`. If the value was replaced already,
        the new one.
        """
        call = self._last
        while not call.is_running:
            following = call.following
            if following is None:
                if call.value is not replaced:
                    return _Success(call.value)
                mine.before = call.value
                following = call.link(mine)
            call = following
        return call

    def _lead(self, mine: _Call, abort: Abort) -> _Result:
        self._last = mine  # what is behind is of no more use
        abort.blocked_on(functools.partial(mine.end, _PASSED_ON))
        try:
            with abort.user_code():
                # Within, so that it is used even if nobody waits for this thread any more.
                return self._deliver(mine, self._call())
        finally:
            del self, mine  # what the function raised refers to its callers' frames
            abort.release()

    def _call(self) -> _Result:
        visit, before = _Visit(self), _visits.get()
        try:
            _visits.set((*before, visit))
            return _Success(self._function())
        except Exception as error:  # of the user's code: any
            traceback = error.__traceback__
            return _Failure(error, traceback and traceback.tb_next)
        finally:
            visit.shared = None
            _visits.set(before)

    def _deliver(self, mine: _Call, result: _Result) -> _Result:
        """Give `result` to those who wait. Returns what counts for this call."""
        first = mine.end(result)
        if isinstance(first, _PassedOn):
            # Ended meanwhile. A value is good for those who wait for another call, or the next.
            if isinstance(result, _Success):
                call = mine
                while isinstance(call.outcome, _PassedOn):
                    call = call.link(_over(result.value))
                call.end(result)
            return result
        if isinstance(result, _Failure) and first is result:
            # Who waited has it: it must not live until the value is next needed.
            self._last = mine.link(_over(mine.before))
        return first


def _over(value: typing.Any) -> _Call:
    """A call that has ended, and left this value."""
    call = _Call()
    call.end(_Success(value))
    return call


class _SharedValue(Share):
    __slots__ = ("_replaced", "_shared")

    def __init__(self, shared: Shared[T], replaced: T | None) -> None:
        self._shared: Shared[typing.Any] = shared
        self._replaced = replaced

    def perform(self, abort: Abort) -> typing.Any:
        return self._shared._make(self._replaced, abort)
