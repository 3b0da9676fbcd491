"""
Who may use which connection, and who has to wait. Knows nothing of HTTP or of sockets.

The guarantees:

1. *A connection in use is never closed by anyone but its user.*
2. *At most* `hard_limit` *connections are open at any time*, those being closed included: a
   permit is passed on only after the connection it stood for is closed.
3. *At most* `soft_limit` *are idle.* The oldest is closed first. None is reused after
   `IDLE_SECONDS`: whoever next takes or gives back a connection, of any key, closes it.
4. *Reuse first.* The newest idle connection of the key; then a free permit; then the permit
   of the oldest idle connection of another key, which is closed. Only then does anyone wait.
5. *Waiters are served in the order they came*, by direct grant: what comes free belongs to
   the first of them, and nobody who comes later can take it. A waiter that is aborted at
   the instant of its grant passes it on.
6. *Waiting its turn never fails.* `pool_timeout` runs only while the user holds every
   connection, by a delivered stream or inside the iterator of a request's body, that is,
   while nothing here can make progress by itself: what the user's code does may be to wait
   for a connection.
7. *No permit is ever lost*, wherever a `KeyboardInterrupt` strikes: whatever holds a permit is
   a `Lease`, and one that is garbage-collected without having been given back is found by
   the next operation, or by a waiter that it wakes. The same holds for a stream that its
   owner dropped unread. The finalizer takes no lock: it appends to a queue and sets signals.

How: permits are tokens in a set, so giving one back twice is harmless, and `Lease._done` is
set last. Everybody waits in line, most of them for no time: one place, `_serve_locked`, gives
out. The lock is held for a few dictionary operations; nothing is closed, called or waited for
under it.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import math
import threading
import time
import typing
import weakref

from ..aborting import Abort, Signal
from ..config import PoolLimits
from ..exceptions import ClientClosed, PoolTimeout

__all__ = ["IDLE_SECONDS", "ConnectionPool", "Lease", "Poolable"]

#: Longer than most pauses between two requests of one program, and within the 60 to 75
#: seconds after which common servers and load balancers close an idle connection themselves
#: (nginx 75, AWS load balancers 60), so that few requests meet one that is just closing.
IDLE_SECONDS = 60.0


class Poolable(typing.Protocol):
    """What the pool needs to know of a connection."""

    def close(self) -> None:
        """Close it. Must not raise, nor block."""

    def forget(self) -> None:
        """Let go of it in a forked child, so that the parent's peer notices nothing."""

    def is_usable(self) -> bool:
        """Whether an idle one still stands, as far as one can tell without blocking."""


C = typing.TypeVar("C", bound=Poolable)


class Lease(typing.Generic[C]):
    """
    The right to have one connection open, from `ConnectionPool.acquire` to `give_back`.

    `connection` is the one to reuse, or None: then whoever holds the lease makes one and
    sets it.
    """

    __slots__ = (
        "_done",
        "_evicted",
        "_granted",
        "_idle_since",
        "_key",
        "_pool",
        "_signal",
        "_token",
        "_waiting_since",
        "connection",
    )

    def __init__(self, pool: ConnectionPool[C], key: typing.Hashable, token: int) -> None:
        self._pool = pool
        self._key = key
        self._token = token
        self.connection: C | None = None
        # To be closed first: its permit is now this one.
        self._evicted: C | None = None
        self._idle_since = 0.0
        # For the time in line.
        self._granted = False
        self._signal: Signal | None = None
        self._waiting_since = 0.0
        self._done = False

    def delivered(self) -> None:
        """From now on the user's code holds this: who waits may wait in vain."""
        self._pool._mark_delivered(self)

    def resumed(self) -> None:
        """The user's code has come back."""
        self._pool._mark_resumed(self)

    def give_back(self, *, reusable: bool) -> None:
        """
        Give the connection back: to be kept if `reusable`, else it is closed. Only the first
        call counts. To be called by one thread at a time.
        """
        if not self._done:
            self._pool._take_back(self, reusable)

    def __del__(self) -> None:
        # An interrupt may have struck inside __init__: then there is nothing to give back.
        if not getattr(self, "_done", True):
            self._pool._note_abandoned((self._token, self.connection, self._evicted))


class _Idle(typing.Generic[C]):
    __slots__ = ("connection", "key", "since")

    def __init__(self, key: typing.Hashable, connection: C, since: float) -> None:
        self.key = key
        self.connection = connection
        self.since = since


class ConnectionPool(typing.Generic[C]):
    """
    Connections by key, within `limits`. Safe to use from any number of threads.

    `clock` is `time.monotonic`, for tests to replace.
    """

    def __init__(
        self, limits: PoolLimits, *, clock: typing.Callable[[], float] = time.monotonic
    ) -> None:
        self._limits = limits
        self._clock = clock
        # Reentrant, for a signal handler that closes a stream while its thread is in here.
        self._lock = threading.RLock()
        self._tokens = itertools.count()
        # The permits of connections in use. With the idle ones, all that may be open.
        self._in_use: set[int] = set()
        # Those of them that the user's code holds.
        self._delivered: set[int] = set()
        # Since when that is all there are.
        self._stuck_since: float | None = None
        # Oldest first, and the same by key.
        self._idle: dict[int, _Idle[C]] = {}
        self._idle_by_key: dict[typing.Hashable, dict[int, _Idle[C]]] = {}
        # Not before this is any of them too old.
        self._look_at = -math.inf
        self._line: collections.deque[Lease[C]] = collections.deque()
        # Filled by finalizers: permits and connections of leases that nobody gave back.
        self._abandoned: collections.deque[_Abandoned[C]] = collections.deque()
        self._closed = False
        # With a client that is dropped, rather than closed, what is idle goes too.
        weakref.finalize(self, _forget_all, self._idle).atexit = False

    def acquire(self, key: typing.Hashable, abort: Abort) -> Lease[C]:
        """
        A lease for a connection of `key`; waits for one if need be.

        Raises `PoolTimeout`, `ClientClosed` once the pool is closed, and the abort's error.
        """
        abort.check()
        if self._abandoned:
            self._sweep()
        lease = Lease(self, key, next(self._tokens))
        with self._lock:
            if self._closed:
                raise ClientClosed("the client is closed and opens no more connections")
            now = lease._waiting_since = self._clock()
            if not self._line and self._provide_locked(lease):
                lease._granted = True
            else:
                self._line.append(lease)
                self._serve_locked()
            victims = self._surplus_locked(now) if now >= self._look_at else None
        if victims:
            _close_all(victims)
        if not lease._granted:
            try:
                self._wait(lease, abort)
            except BaseException:
                self._leave_line(lease)
                raise
            now = self._clock()
        self._settle(lease, now)
        return lease

    def close(self) -> None:
        """
        Close what is idle. Connections in use are closed when they are given back, and who
        waits, or comes later, meets `ClientClosed`.
        """
        self._sweep()
        with self._lock:
            self._closed = True
            victims = self._surplus_locked(self._clock())
            self._serve_locked()
        _close_all(victims)

    def forget(self) -> None:
        """
        Let go of everything in a child after ``fork()``, without a lock and without a byte
        on the wire: the connections are the parent's.
        """
        _forget_all(self._idle)

    @property
    def open_count(self) -> int:
        """Connections open, being opened or being closed."""
        with self._lock:
            return len(self._in_use) + len(self._idle)

    @property
    def idle_count(self) -> int:
        with self._lock:
            return len(self._idle)

    @property
    def waiting_count(self) -> int:
        with self._lock:
            return len(self._line)

    # Taking.

    def _wait(self, lease: Lease[C], abort: Abort) -> None:
        while True:
            # First a new signal, then a look at the state: whoever changes the state after
            # this look finds the new signal.
            signal = lease._signal = Signal()
            self._sweep()
            with self._lock:
                self._serve_locked()
                if lease._granted:
                    return
                if self._closed:
                    raise ClientClosed("the client was closed while this request waited")
                timeout = self._time_left_locked(lease)
            if timeout is not None and timeout <= 0:
                raise PoolTimeout(
                    "streamed responses, and requests inside the iterators of their bodies, held "
                    f"all {self._limits.hard_limit} connections for {self._limits.pool_timeout} s:"
                    " read or close the responses, or raise hard_limit"
                )
            abort.wait(signal, timeout)

    def _time_left_locked(self, lease: Lease[C]) -> float | None:
        if self._limits.pool_timeout is None or self._stuck_since is None:
            return None
        since = max(self._stuck_since, lease._waiting_since)
        return since + self._limits.pool_timeout - self._clock()

    def _leave_line(self, lease: Lease[C]) -> None:
        with self._lock:
            if not lease._granted:
                lease._done = True
            self._serve_locked()
            with contextlib.suppress(ValueError):
                self._line.remove(lease)
        # Was it granted at that instant? Then another may have it, unused as it is.
        lease.give_back(reusable=True)
        self._sweep()

    def _settle(self, lease: Lease[C], now: float) -> None:
        """Close what the lease replaces, and what did not survive its rest."""
        evicted = lease._evicted
        if evicted is not None:
            lease._evicted = None
            evicted.close()
        connection = lease.connection
        while connection is not None:
            if now - lease._idle_since < IDLE_SECONDS and connection.is_usable():
                break
            lease.connection = None
            connection.close()
            with self._lock:
                # Another may have survived. Its own permit comes free by that.
                self._pop_newest_locked(lease)
                self._serve_locked()
            connection = lease.connection

    def _serve_locked(self) -> None:
        """Give out what there is, first come first served."""
        # Step by step in a way that bears to be entered again, by a signal handler, in between.
        while self._line:
            try:
                lease = self._line[0]
            except IndexError:
                break
            if not lease._granted and not lease._done:
                if self._closed:
                    self._wake_line()
                    break
                # An interrupt may have struck after the permit was given.
                if lease._token not in self._in_use and not self._provide_locked(lease):
                    break
                lease._granted = True
            # Only when it knows does it leave the line: an interrupt in between must not
            # leave it asleep.
            if lease._signal is not None:
                lease._signal.set()
            with contextlib.suppress(ValueError):
                self._line.remove(lease)
        self._watch_streams_locked()

    def _provide_locked(self, lease: Lease[C]) -> bool:
        """Give it a permit, with a connection to use, or to close, if there is one."""
        lease.connection = None  # an interrupt may have left it with one that has no permit
        if not self._pop_newest_locked(lease):
            hard_limit = self._limits.hard_limit
            if hard_limit is not None and len(self._in_use) + len(self._idle) >= hard_limit:
                oldest = next(iter(self._idle.items()), None)
                if oldest is None:
                    return False
                self._pop_locked(*oldest)
                lease._evicted = oldest[1].connection
        self._in_use.add(lease._token)
        return True

    def _pop_newest_locked(self, lease: Lease[C]) -> bool:
        entries = self._idle_by_key.get(lease._key)
        if not entries:
            return False
        # In this order, so that an interrupt in between leaves it counted, or in nobody's hands,
        # but never in the hands of two.
        token, entry = entries.popitem()
        if not entries:
            self._idle_by_key.pop(entry.key, None)
        self._idle.pop(token, None)
        lease.connection = entry.connection
        lease._idle_since = entry.since
        return True

    def _pop_locked(self, token: int, entry: _Idle[C]) -> None:
        # In this order, so that an interrupt in between leaves it counted.
        entries = self._idle_by_key.get(entry.key)
        if entries is not None:
            entries.pop(token, None)
            if not entries:
                self._idle_by_key.pop(entry.key, None)
        self._idle.pop(token, None)

    # Giving back.

    def _take_back(self, lease: Lease[C], reusable: bool) -> None:
        evicted, lease._evicted = lease._evicted, None
        if evicted is not None:
            evicted.close()
        connection, lease.connection = lease.connection, None
        if connection is not None and not reusable:
            connection.close()
            connection = None
        with self._lock:
            now = self._clock()
            self._in_use.discard(lease._token)
            self._delivered.discard(lease._token)
            if connection is not None:
                self._add_idle_locked(lease._key, connection, now)
            if self._line:
                self._serve_locked()
            elif self._stuck_since is not None:
                self._watch_streams_locked()
            most = 0 if self._closed else self._limits.soft_limit
            if now >= self._look_at or (most is not None and len(self._idle) > most):
                victims = self._surplus_locked(now)
            else:
                victims = None
        lease._done = True
        if victims:
            _close_all(victims)
        if self._abandoned:
            self._sweep()

    def _add_idle_locked(self, key: typing.Hashable, connection: C, now: float) -> None:
        token = next(self._tokens)
        entry = _Idle(key, connection, now)
        self._idle[token] = entry
        entries = self._idle_by_key.get(key)
        if entries is None:
            entries = self._idle_by_key.setdefault(key, {})
        entries[token] = entry

    def _surplus_locked(self, now: float) -> list[Lease[C]]:
        """
        The idle connections too many or too old, each with a permit of its own until it is
        closed.
        """
        limit = 0 if self._closed else self._limits.soft_limit
        stale = now - IDLE_SECONDS
        victims: list[Lease[C]] = []
        self._look_at = now + IDLE_SECONDS
        while self._idle:
            token, entry = next(iter(self._idle.items()))
            if entry.since > stale and (limit is None or len(self._idle) <= limit):
                self._look_at = entry.since + IDLE_SECONDS
                break
            victim = Lease(self, entry.key, next(self._tokens))
            victim.connection = entry.connection
            self._in_use.add(victim._token)
            self._pop_locked(token, entry)
            victims.append(victim)
        return victims

    # In the user's hands.

    def _mark_delivered(self, lease: Lease[C]) -> None:
        with self._lock:
            if lease._token in self._in_use:
                self._delivered.add(lease._token)
                self._watch_streams_locked()

    def _mark_resumed(self, lease: Lease[C]) -> None:
        with self._lock:
            self._delivered.discard(lease._token)
            self._watch_streams_locked()

    def _watch_streams_locked(self) -> None:
        hard_limit = self._limits.hard_limit
        if hard_limit is None or len(self._delivered) < hard_limit:
            self._stuck_since = None
        elif self._stuck_since is None:
            self._stuck_since = self._clock()
            # Their clocks run from now on.
            self._wake_line()

    def _wake_line(self) -> None:
        # By index, since a finalizer calls this without the lock.
        with contextlib.suppress(IndexError):
            for index in range(len(self._line)):
                signal = self._line[index]._signal
                if signal is not None:
                    signal.set()

    # What nobody gave back.

    def _note_abandoned(self, abandoned: _Abandoned[C]) -> None:
        """Called by finalizers, at any time, in any thread: no lock."""
        self._abandoned.append(abandoned)
        self._wake_line()

    def _sweep(self) -> None:
        while self._abandoned:
            try:
                abandoned = self._abandoned[0]
            except IndexError:  # another thread was faster
                break
            token, *connections = abandoned
            for connection in connections:
                if connection is not None:
                    connection.close()
            with self._lock:
                self._in_use.discard(token)
                self._delivered.discard(token)
                self._serve_locked()
            # Last, so that an interrupt cannot lose it. Two threads may have done it twice.
            with contextlib.suppress(ValueError, IndexError):
                self._abandoned.remove(abandoned)


#: A permit, the connection it stands for, and the one that was to be closed for it.
_Abandoned = tuple[int, typing.Optional[C], typing.Optional[C]]


def _forget_all(idle: dict[int, _Idle[C]]) -> None:
    """Without a lock: for finalizers, and forked children."""
    for entry in list(idle.values()):
        entry.connection.forget()


def _close_all(leases: list[Lease[C]]) -> None:
    for lease in leases:
        lease.give_back(reusable=False)
