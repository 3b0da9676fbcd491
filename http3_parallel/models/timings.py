"""
When what happened, in the course of one request.

There is one `Timings` for each exchange, not one for each call: a redirect, a challenge or a
retry begins another. So the responses of a history keep theirs, and one that is closed late
marks nothing of what came after it.

Whoever makes something happen marks it. The first mark of a moment counts: who comes later, to
mark what a dispatcher may have left out, need not ask whether it has.
"""

from __future__ import annotations

import typing
from time import perf_counter

__all__ = ["Timings"]

_Moment = typing.Literal["queued", "resolved", "connected", "tls", "sent", "first_byte", "done"]

#: In the order in which they come, as a rule: a server may answer before it has all of a request.
_MOMENTS: tuple[_Moment, ...] = typing.get_args(_Moment)
_KNOWN = frozenset(_MOMENTS)


class Seen:
    """What a dispatcher tells of an exchange besides, where somebody wants to know."""

    __slots__ = ("acquired", "connection", "failure", "reused")

    def __init__(self) -> None:
        #: There was room for a connection: by `time.perf_counter`.
        self.acquired: float | None = None
        #: Its ends, ``"local -> peer"``.
        self.connection: str | None = None
        self.reused: bool | None = None
        #: What broke the body: the name of its type, and its message.
        self.failure: tuple[str, str] | None = None


class Timings:
    """
    When each step of a request was done: seconds, as a float, since the call that made it.

    ``timings.first_byte - timings.sent`` is what the server took; what has not happened is
    None. With redirects, authentication and retries these are the moments of the last exchange,
    the one that the response came from, still counted from the call.

    * `started`: when the call was made, by `time.perf_counter`; now, if not given.

    Equal when all moments are. A copy, pickled or not, has the moments alone: it cannot be
    marked.
    """

    __slots__ = ("_marks", "_seen", "_started")

    def __init__(self, started: float | None = None) -> None:
        self._started: float | None = perf_counter() if started is None else started
        self._marks: dict[str, float] = {}
        # None where nobody wants to know.
        self._seen: Seen | None = None

    @property
    def queued(self) -> float | None:
        """The request left the line, and a worker took it up; near 0 in a plain call."""
        return self._marks.get("queued")

    @property
    def resolved(self) -> float | None:
        """
        The name was resolved: at once, where it is an IP address, or was resolved a moment ago.
        With a proxy it is the proxy's name, and `connected` is the connection to the proxy.

        None, as `connected` and `tls` are, where a connection was used again.
        """
        return self._marks.get("resolved")

    @property
    def connected(self) -> float | None:
        """The TCP connection was made, to the first address that answered."""
        return self._marks.get("connected")

    @property
    def tls(self) -> float | None:
        """The TLS handshake with the server was done, through a proxy's tunnel if need be."""
        return self._marks.get("tls")

    @property
    def sent(self) -> float | None:
        """The system had taken the whole request. None if the server did not take it whole."""
        return self._marks.get("sent")

    @property
    def first_byte(self) -> float | None:
        """The answer began, be it with an interim response (status 1xx)."""
        return self._marks.get("first_byte")

    @property
    def done(self) -> float | None:
        """The last byte of the body was read, or the body was given up."""
        return self._marks.get("done")

    def mark(self, moment: _Moment, at: float | None = None) -> None:
        """
        It happened `at` that value of `time.perf_counter`, or now. Does nothing if it is marked
        already. For dispatchers.

        Raises `ValueError` for any other name, and on a copy.
        """
        marks = self._marks
        if moment in marks:
            return
        if moment not in _KNOWN:
            raise ValueError(f"{moment!r} is none of {', '.join(_MOMENTS)}")
        started = self._started
        if started is None:
            raise ValueError("a copy of timings cannot be marked")
        marks[moment] = (perf_counter() if at is None else at) - started

    def as_dict(self) -> dict[str, float | None]:
        """All moments by name, in the order in which they come."""
        return {moment: self._marks.get(moment) for moment in _MOMENTS}

    def _for_exchange(self) -> Timings:
        """Those of one more exchange for the same call: what came before it is marked."""
        timings = Timings(self._started)
        timings._marks = self._before_exchange()
        return timings

    def _restart(self) -> None:
        """Forget the exchange so far: a dispatcher begins anew, and nobody saw what came before."""
        if len(self._marks) > ("queued" in self._marks):
            self._marks = self._before_exchange()

    def _observe(self) -> None:
        """Somebody wants to know what `Seen` has."""
        self._seen = Seen()

    def _before_exchange(self) -> dict[str, float]:
        queued = self._marks.get("queued")
        return {} if queued is None else {"queued": queued}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Timings) and self._marks == other._marks

    def __getstate__(self) -> dict[str, float | None]:
        return self.as_dict()

    def __setstate__(self, state: dict[str, float | None]) -> None:
        # The clock that they were counted by may be that of another machine.
        self._started = self._seen = None
        self._marks = {moment: at for moment, at in state.items() if at is not None}

    def __repr__(self) -> str:
        marked = [
            f"{moment} {self._marks[moment] * 1000:.2f}"
            for moment in _MOMENTS
            if moment in self._marks
        ]
        return f"<Timings in ms: {', '.join(marked) or 'none'}>"
