"""
How far a block is: counted as its requests go along, and read whenever somebody asks.

Counting costs each request a few additions. What is in line and in flight is not counted but
looked at, so that `submitted` is at all times the sum of the others.
"""

from __future__ import annotations

import collections
import time
import typing

from .aborting import Abort
from .models import Request

__all__ = ["Counts", "HostStats", "InFlight", "Running", "Stats", "Tally"]

#: So many hosts are counted apart; then half of them are forgotten, if nothing is pending there.
_MAX_HOSTS = 1024

#: How many of the slowest are told.
_MOST_SLOWEST = 5

_PORTS = {"http": "80", "https": "443"}


class InFlight(typing.NamedTuple):
    """A request that a worker is at."""

    request: Request
    tag: typing.Any
    #: Since the worker took it up.
    seconds: float


class HostStats(typing.NamedTuple):
    """The part of `Stats` that is one host's. Redirects count where they began."""

    submitted: int
    queued: int
    in_flight: int
    done: int
    failed: int
    cancelled: int
    bytes: int


class Stats(typing.NamedTuple):
    """
    How far a block is. At all times ``submitted == queued + in_flight + done + failed +
    cancelled``.

    * `submitted`: requests, those of `map` and those with an invalid URL included.
    * `queued`: they wait for a worker.
    * `in_flight`: a worker is at them.
    * `done`: they have a response, whatever its status.
    * `failed`: they ended with an error, a deadline's included.
    * `cancelled`: by `cancel()`, or by leaving the block.
    * `bytes`: of responses' bodies, as they came (under their Content-Encoding), those that are on
      their way and those of redirects included.
    * `per_host`: the same by ``"host:port"``. Of the 512 latest hosts at least; of older ones with
      nothing pending, there may be nothing.
    * `slowest`: those in flight that began first, at most 5: `request`, `tag` and `seconds`.
    """

    submitted: int
    queued: int
    in_flight: int
    done: int
    failed: int
    cancelled: int
    bytes: int
    per_host: dict[str, HostStats]
    slowest: tuple[InFlight, ...]


class Tally:
    """What is counted: of one host, or of all."""

    __slots__ = ("bytes", "cancelled", "done", "failed", "submitted")

    def __init__(self) -> None:
        self.submitted: int = 0
        self.done: int = 0
        self.failed: int = 0
        self.cancelled: int = 0
        self.bytes: int = 0

    @property
    def pending(self) -> int:
        return self.submitted - self.done - self.failed - self.cancelled

    def read(self, in_flight: int, arriving: int) -> HostStats:
        """`arriving`: bytes of bodies that are not all here."""
        # Each is read once: where there is no lock, they may change meanwhile.
        submitted, done, failed, cancelled = self.submitted, self.done, self.failed, self.cancelled
        pending = max(0, submitted - done - failed - cancelled)
        in_flight = min(in_flight, pending)
        return HostStats(
            done + failed + cancelled + pending,
            pending - in_flight,
            in_flight,
            done,
            failed,
            cancelled,
            self.bytes + arriving,
        )


class Running(typing.NamedTuple):
    """What a worker is at."""

    tally: Tally | None
    #: Bytes of its bodies so far.
    received: int
    #: When the worker took it up, by `time.perf_counter`; None if it has ended.
    began: float | None
    request: Request | None
    tag: typing.Any


_Origin = tuple[typing.Optional[str], ...]


class Counts:
    """All of a block's. Changed under its lock, but for `has_closed`."""

    __slots__ = ("_closed", "_room", "hosts", "streams", "total")

    def __init__(self) -> None:
        self._room = _MAX_HOSTS
        self.total: Tally = Tally()
        #: By scheme, host and port.
        self.hosts: dict[_Origin, Tally] = {}
        #: Streams that are open, by their aborts: their bytes are not counted yet.
        self.streams: dict[Abort, Tally | None] = {}
        # Those that were closed since somebody counted. One may be in both for a moment.
        self._closed: collections.deque[tuple[Abort, Tally | None, int]] = collections.deque()

    def submit(self, request: Request | None) -> Tally | None:
        """One more. Returns the tally of its host."""
        self._count_closed()
        self.total.submitted += 1
        if request is None:
            return None
        parts = request.url._parts
        origin = (parts[0], parts[2], parts[3])
        tally = self.hosts.get(origin)
        if tally is None:
            if len(self.hosts) >= self._room:
                self._forget_some()
            tally = self.hosts[origin] = Tally()
        tally.submitted += 1
        return tally

    def submit_failed(self) -> None:
        """One that has ended before it was in line. It is counted for no host."""
        self.total.submitted += 1
        self.total.failed += 1

    def _forget_some(self) -> None:
        more = len(self.hosts) - _MAX_HOSTS // 2
        for origin in [key for key, tally in self.hosts.items() if not tally.pending][:more]:
            del self.hosts[origin]
        # Not again for each new one, however many are pending.
        self._room = max(_MAX_HOSTS, 2 * len(self.hosts))

    def has_closed(self, abort: Abort) -> None:
        """A stream has come to its end. Takes no lock: finalizers call it. May be repeated."""
        if abort in self.streams:
            self._closed.append((abort, self.streams[abort], abort.received))
            self.streams.pop(abort, None)

    def add_bytes(self, tally: Tally | None, received: int) -> None:
        self._count_closed()
        self.total.bytes += received
        if tally is not None:
            tally.bytes += received

    def _count_closed(self) -> None:
        # Not those that are just on their way here.
        while self._closed and self._closed[0][0] not in self.streams:
            _, tally, received = self._closed.popleft()
            self.total.bytes += received
            if tally is not None:
                tally.bytes += received

    def read(self, running: typing.Sequence[Running]) -> Stats:
        in_flight: dict[Tally | None, int] = collections.Counter()
        arriving: dict[Tally | None, int] = collections.Counter()
        for one in running:
            in_flight[one.tally] += one.began is not None
            arriving[one.tally] += one.received
        # First those that are open, for they may be closed meanwhile; then each is there once.
        streams = {abort: (tally, abort.received) for abort, tally in self.streams.copy().items()}
        streams.update((abort, (tally, received)) for abort, tally, received in list(self._closed))
        for tally, received in streams.values():
            arriving[tally] += received
        by_name: dict[str, HostStats] = {}
        for (scheme, host, port), tally in self.hosts.copy().items():
            name = f"{host}:{port or _PORTS.get(scheme or '', '')}"
            host_stats = tally.read(in_flight[tally], arriving[tally])
            other = by_name.get(name)  # of the other scheme, on the same port
            if other is not None:
                host_stats = HostStats(*map(sum, zip(host_stats, other, strict=True)))
            by_name[name] = host_stats
        now = time.perf_counter()
        slowest = sorted(
            [(one.began, one) for one in running if one.began is not None], key=_first
        )[:_MOST_SLOWEST]
        return Stats(
            *self.total.read(sum(in_flight.values()), sum(arriving.values())),
            by_name,
            tuple(
                [
                    InFlight(one.request, one.tag, max(0.0, now - began))
                    for began, one in slowest
                    if one.request is not None
                ]
            ),
        )


def _first(pair: tuple[float, Running]) -> float:
    return pair[0]
