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
_SLOTS = {moment: f"_{moment}" for moment in _MOMENTS}


class Timings:
    """
    When each step of a request was done: seconds, as a float, since the call that made it.

    ``timings.first_byte - timings.sent`` is what the server took; what has not happened is
    None. With redirects, authentication and retries these are the moments of the last exchange,
    the one that the response came from, still counted from the call.

    * `started`: when the call was made, by `time.perf_counter`; now, if not given.

    Equal when all moments are. A copy, also a pickled one, has the moments alone, and cannot be
    marked.
    """

    __slots__ = ("_started", *_SLOTS.values())

    _started: float | None
    _queued: float | None
    _resolved: float | None
    _connected: float | None
    _tls: float | None
    _sent: float | None
    _first_byte: float | None
    _done: float | None

    def __init__(self, started: float | None = None) -> None:
        self._started = perf_counter() if started is None else started
        self._queued = None
        self._clear()

    @property
    def queued(self) -> float | None:
        """The request left the line, and a worker took it up; near 0 in a plain call."""
        return self._queued

    @property
    def resolved(self) -> float | None:
        """
        The name was resolved, to which an IP address is the answer itself. With a proxy it is
        the proxy's name, and `connected` is the connection to the proxy.

        None, as `connected` and `tls` are, where a connection was used again.
        """
        return self._resolved

    @property
    def connected(self) -> float | None:
        """The TCP connection was made, to the first address that answered."""
        return self._connected

    @property
    def tls(self) -> float | None:
        """The TLS handshake with the server was done, through a proxy's tunnel if need be."""
        return self._tls

    @property
    def sent(self) -> float | None:
        """The system had taken the whole request. None if the server did not take it whole."""
        return self._sent

    @property
    def first_byte(self) -> float | None:
        """The answer began, be it with an interim response (status 1xx)."""
        return self._first_byte

    @property
    def done(self) -> float | None:
        """The last byte of the body was read, or the body was given up."""
        return self._done

    def mark(self, moment: _Moment, at: float | None = None) -> None:
        """
        It happened `at` that value of `time.perf_counter`, now if None; unless it is marked
        already, when this does nothing. For dispatchers.

        Raises `ValueError` for a name that is none, and for a copy.
        """
        slot = _SLOTS.get(moment)
        if slot is None:
            raise ValueError(f"{moment!r} is none of {', '.join(_MOMENTS)}")
        if getattr(self, slot) is None:
            started = self._started
            if started is None:
                raise ValueError("a copy of timings, or unpickled ones, cannot be marked")
            setattr(self, slot, (perf_counter() if at is None else at) - started)

    def as_dict(self) -> dict[str, float | None]:
        """All moments by name, in the order in which they come."""
        return {moment: getattr(self, slot) for moment, slot in _SLOTS.items()}

    def _for_exchange(self) -> Timings:
        """Those of one more exchange for the same call: what came before it is marked."""
        timings = Timings(self._started)
        timings._queued = self._queued
        return timings

    def _restart(self) -> None:
        """Forget the exchange so far: a dispatcher begins anew, and nobody saw what came before."""
        self._clear()

    def _clear(self) -> None:
        self._resolved = self._connected = self._tls = None
        self._sent = self._first_byte = self._done = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Timings) and self.as_dict() == other.as_dict()

    def __getstate__(self) -> dict[str, float | None]:
        return self.as_dict()

    def __setstate__(self, state: dict[str, float | None]) -> None:
        # The clock that they were counted by may be that of another machine.
        self._started = None
        for moment, slot in _SLOTS.items():
            setattr(self, slot, state.get(moment))

    def __repr__(self) -> str:
        marked = [
            f"{moment} {seconds * 1000:.2f}"
            for moment, seconds in self.as_dict().items()
            if seconds is not None
        ]
        return f"<Timings in ms: {', '.join(marked) or 'none'}>"
