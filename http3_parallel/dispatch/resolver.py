"""
Names to addresses, without ever waiting longer than the caller allows.

``getaddrinfo`` can be neither interrupted nor given a timeout. So it runs in threads of its
own, which nobody waits for:

1. *Who asks waits at most for its connect budget*, and can be aborted meanwhile.
2. *At most* `MAX_THREADS` *threads per process.* When look-ups hang in all of them, others
   wait in line, each under its own budget.
3. *A hung look-up holds nothing of any request*, and does not delay the interpreter's exit:
   the threads are not `threading.Thread`s, which would be joined.
4. *Concurrent look-ups of one name are one*; what it found is kept for `KEEP_SECONDS`. A
   failure is told to those who waited, and forgotten.
5. *A forked child starts afresh*, also when ``fork`` was called from C: the process id is
   compared at each use, and nothing of the parent's, locks included, is touched.

Literal addresses need no look-up. If the system refuses every thread, the look-up runs in the
calling thread: late, and for once not bounded, is better than never.
"""

from __future__ import annotations

import _thread
import collections
import contextlib
import os
import socket
import threading
import time
import typing
import weakref

from ..aborting import Abort, Signal
from ..exceptions import NameResolutionError
from .sockets import Address, Budget

__all__ = ["resolve"]

#: As many names as may hang at once without delaying another. A look-up that works takes
#: milliseconds: 16 threads resolve more names per second than anything can connect to.
MAX_THREADS = 16

#: Seconds for which a thread without work stays, so that a burst of names shares few threads.
IDLE_SECONDS = 5.0

#: Seconds for which addresses are kept: bursts look a name up once, and a change in the DNS,
#: the least TTL of which is hardly ever shorter, is soon seen.
KEEP_SECONDS = 5.0

#: Names kept at most, about 1 KB each.
MAX_KEPT = 1024

#: Host, port, family, and the function: programs that replace it expect to be asked at once.
_Key = tuple[str, int, int, typing.Callable[..., typing.Any]]


class _Lookup:
    __slots__ = ("addresses", "error", "key", "waiting")

    def __init__(self, key: _Key) -> None:
        self.key = key
        self.addresses: list[Address] | None = None
        self.error: Exception | None = None
        self.waiting: list[Signal] = []


class _Worker:
    """A thread, alive as long as this object is: so nothing can upset their count."""

    __slots__ = ("__weakref__", "lookup", "signal")

    def __init__(self) -> None:
        self.lookup: _Lookup | None = None
        self.signal = Signal()


class _State:
    """All there is, for one process."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        # Reentrant, for a signal handler that makes a request of its own.
        self.lock = threading.RLock()
        self.pending: dict[_Key, _Lookup] = {}
        self.line: collections.deque[_Lookup] = collections.deque()
        self.workers: weakref.WeakSet[_Worker] = weakref.WeakSet()
        self.idle: list[_Worker] = []
        self.kept: dict[_Key, tuple[float, list[Address]]] = {}


_state = _State()


def _current() -> _State:
    global _state
    state = _state
    if state.pid != os.getpid():
        state = _state = _State()
    return state


def resolve(
    host: str, port: int, *, budget: Budget, abort: Abort, family: int = socket.AF_UNSPEC
) -> list[Address]:
    """
    The addresses of `host`, in the order of the system's preference; never an empty list.

    Raises `NameResolutionError`, `ConnectTimeout`, and the abort's error.
    """
    literal = _literal(host, port)
    if literal is not None:
        return literal
    state = _current()
    key = (host, port, family, socket.getaddrinfo)
    addresses = _kept(state, key)
    if addresses is not None:
        return addresses
    signal = Signal()
    with state.lock:
        lookup = state.pending.get(key)
        if lookup is None:
            lookup = state.pending[key] = _Lookup(key)
            state.line.append(lookup)
        lookup.waiting.append(signal)
        has_threads = _assign_locked(state)
    if not has_threads:
        _perform(state, lookup)
    try:
        if not abort.wait(signal, budget.remaining()):
            raise budget.exceeded(f"resolving {host}")
    except BaseException:
        _leave(state, lookup, signal)
        raise
    if lookup.error is not None:
        reason = getattr(lookup.error, "strerror", None) or str(lookup.error)
        raise NameResolutionError(
            f"{host!r} cannot be resolved: {reason}; check the name, and the DNS of this machine"
        ) from lookup.error
    if not lookup.addresses:
        raise NameResolutionError(f"{host!r} has no address; check the name")
    return lookup.addresses


def _leave(state: _State, lookup: _Lookup, signal: Signal) -> None:
    """Nobody looks up for long what nobody waits for any more."""
    with state.lock:
        if signal in lookup.waiting:
            lookup.waiting.remove(signal)
        if not lookup.waiting and lookup in state.line:
            state.line.remove(lookup)
            state.pending.pop(lookup.key, None)


def _literal(host: str, port: int) -> list[Address] | None:
    stream = int(socket.SOCK_STREAM)
    with contextlib.suppress(OSError, ValueError):
        if ":" not in host:
            socket.inet_pton(socket.AF_INET, host)
            return [(int(socket.AF_INET), stream, socket.IPPROTO_TCP, "", (host, port))]
        if "%" not in host:
            socket.inet_pton(socket.AF_INET6, host)
            return [(int(socket.AF_INET6), stream, socket.IPPROTO_TCP, "", (host, port, 0, 0))]
        # A scoped address: the system knows the number of the interface, and asks nobody.
        flags = socket.AI_NUMERICHOST
        return list(socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM, 0, flags))
    return None


def _kept(state: _State, key: _Key) -> list[Address] | None:
    found = state.kept.get(key)
    if found is None or found[0] < time.monotonic():
        return None
    return found[1]


def _assign_locked(state: _State) -> bool:
    """Give the look-ups in line to threads. False if there is none, nor can be."""
    while state.line:
        if state.idle:
            worker = state.idle.pop()
            worker.lookup = state.line.popleft()
            worker.signal.set()
        elif len(state.workers) < MAX_THREADS:
            worker = _Worker()
            state.workers.add(worker)
            try:
                _thread.start_new_thread(_work, (state, worker))
            except RuntimeError:  # no more threads
                state.workers.discard(worker)
                return len(state.workers) > 0
            # The thread takes from the line by itself; it waits for the lock held here.
            break
        else:
            break
    return True


def _work(state: _State, worker: _Worker) -> None:
    while True:
        with state.lock:
            lookup, worker.lookup = worker.lookup, None
            if lookup is None and state.line:
                lookup = state.line.popleft()
            if lookup is None:
                worker.signal = Signal()
                state.idle.append(worker)
        if lookup is not None:
            _perform(state, lookup)
            lookup = None
        elif not worker.signal.wait(IDLE_SECONDS):
            with state.lock:
                if worker in state.idle:
                    state.idle.remove(worker)
                if worker.lookup is None:
                    state.workers.discard(worker)
                    return


def _perform(state: _State, lookup: _Lookup) -> None:
    host, port, family, getaddrinfo = lookup.key
    try:
        lookup.addresses = list(getaddrinfo(host, port, family, socket.SOCK_STREAM))
    except Exception as exc:  # also UnicodeError, and whatever a replacement raises
        lookup.error = exc.with_traceback(None)
    with state.lock:
        if lookup in state.line:  # it was made without a thread
            state.line.remove(lookup)
        if state.pending.get(lookup.key) is lookup:
            del state.pending[lookup.key]
        if lookup.addresses:
            state.kept.pop(lookup.key, None)
            if len(state.kept) >= MAX_KEPT:
                del state.kept[next(iter(state.kept))]
            state.kept[lookup.key] = (time.monotonic() + KEEP_SECONDS, lookup.addresses)
        waiting, lookup.waiting = lookup.waiting, []
    for signal in waiting:
        signal.set()
