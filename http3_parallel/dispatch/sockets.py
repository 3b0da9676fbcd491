"""
Making a TCP connection within a time budget, in a way that can be aborted at any moment.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import select
import selectors
import socket
import sys
import threading
import time
import typing

from ..aborting import Abort, shutdown_socket
from ..exceptions import ConnectError, ConnectTimeout

__all__ = ["Address", "Budget", "PolledSocket", "Wake", "open_socket"]

#: One result of ``socket.getaddrinfo``.
Address = tuple[
    int, int, int, str, typing.Union[tuple[str, int], tuple[str, int, int, int], tuple[int, bytes]]
]

#: Whether ``shutdown()`` wakes a thread in ``connect()``. Elsewhere it fails with ENOTCONN.
SHUTDOWN_WAKES_CONNECT = sys.platform == "linux"

#: Seconds that each of several addresses gets at least, as far as the budget goes: a share
#: too small for a distant server would make every address fail.
LEAST_SHARE = 2.0


class Budget:
    """The seconds that are left of `seconds` for several steps together; None is no limit."""

    __slots__ = ("_end", "seconds")

    def __init__(self, seconds: float | None) -> None:
        self.seconds: float | None = seconds
        self._end = None if seconds is None else time.monotonic() + seconds

    def remaining(self) -> float | None:
        """At least 0."""
        return None if self._end is None else max(0.0, self._end - time.monotonic())

    def share(self, parts: int) -> float | None:
        """What one of `parts` steps that are still to come may take."""
        remaining = self.remaining()
        if remaining is None:
            return None
        return max(remaining / parts, min(LEAST_SHARE, remaining))

    def limit(self, sock: socket.socket, what: str) -> None:
        """Give the next call on `sock` what remains, or raise `ConnectTimeout`."""
        remaining = self.remaining()
        if remaining is not None and remaining <= 0:
            raise self.exceeded(what)
        sock.settimeout(remaining)

    def exceeded(self, what: str) -> ConnectTimeout:
        return ConnectTimeout(f"{what}: not done within {self.seconds} s")


class Wake:
    """
    What to shut down in order to wake the thread that uses a connection.

    Called by an aborting thread, while the owner connects, wraps, reads or closes. Closing
    goes through here too, so that no shutdown can reach a descriptor that is being reused.

    In a forked child it shuts nothing down and takes no lock: both are the parent's.
    """

    __slots__ = ("_lock", "_pid", "_sockets")

    def __init__(self) -> None:
        # Reentrant, for a signal handler that aborts what its own thread is just closing.
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self._sockets: tuple[socket.socket, ...] = ()

    def watch(self, *sockets: socket.socket) -> None:
        """From now on these, instead of those before."""
        with self._lock:
            self._sockets = sockets

    def drop(self, sock: socket.socket) -> None:
        """No longer this one, which its owner is about to close."""
        with self._lock:
            self._sockets = tuple(other for other in self._sockets if other is not sock)

    def __call__(self) -> None:
        if os.getpid() != self._pid:
            return
        with self._lock:
            for sock in self._sockets:
                shutdown_socket(sock)

    def close(self, *others: typing.Callable[[], object]) -> None:
        """
        Shut down and close what is watched, and call `others`, which close more of it.

        The shutdown is for the peer: a forked child may hold a copy of the descriptor, and
        closing ours alone would not end the connection.
        """
        if os.getpid() != self._pid:
            self.forget(*others)
            return
        with self._lock:
            sockets, self._sockets = self._sockets, ()
            for sock in sockets:
                shutdown_socket(sock)
            _close(sockets, others)

    def forget(self, *others: typing.Callable[[], object]) -> None:
        """Close without a shutdown and without the lock: in a forked child."""
        sockets, self._sockets = self._sockets, ()
        _close(sockets, others)


class PolledSocket:
    """
    A connected TCP socket, used as one with a timeout is, at less cost: that would ask the system
    whether it can be written to before each write, and to change the timeout costs three calls.
    """

    __slots__ = ("_milliseconds", "_poll", "_seconds", "_sock")

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self._seconds: float | None = None
        self._milliseconds: int | None = None

    @staticmethod
    def fits(sock: typing.Any) -> bool:
        """Not where there is no `poll`, nor for TLS, nor for what gevent has in its place."""
        return (
            type(sock) is socket.socket
            and socket.socket.__module__ == "socket"
            and hasattr(select, "poll")
        )

    def fileno(self) -> int:
        return self._sock.fileno()

    def gettimeout(self) -> float | None:
        return self._seconds

    def settimeout(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._milliseconds = None if seconds is None else _milliseconds(seconds)

    def is_readable(self) -> bool:
        """Whether there is something to read, or the end, now."""
        return bool(self._poll.poll(0))

    def recv(self, size: int) -> bytes:
        while True:
            # What an answer has to say is mostly not there yet when it is waited for.
            if not self._poll.poll(self._milliseconds):
                raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
            try:
                return self._sock.recv(size)
            except BlockingIOError:  # there was nothing, after all
                continue

    def recv_into(self, view: memoryview) -> int:
        while True:
            if not self._poll.poll(self._milliseconds):
                raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
            try:
                return self._sock.recv_into(view)
            except BlockingIOError:
                continue

    def send(self, data: bytes | memoryview) -> int:
        try:
            return self._sock.send(data)
        except BlockingIOError:
            return self._send_patiently(data, Budget(self._seconds))

    def sendall(self, data: bytes | memoryview) -> None:
        """Within the timeout, all of it."""
        budget = Budget(self._seconds)
        left = memoryview(data)
        while left:
            left = left[self._send_patiently(left, budget) :]

    def _send_patiently(self, data: bytes | memoryview, budget: Budget) -> int:
        while True:
            try:
                return self._sock.send(data)
            except BlockingIOError:
                remaining = budget.remaining()
                poll = select.poll()
                poll.register(self._sock, select.POLLOUT)
                if not poll.poll(None if remaining is None else _milliseconds(remaining)):
                    raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)) from None


def _milliseconds(seconds: float) -> int:
    """For `poll`, which takes no more than an int of C."""
    return min(math.ceil(seconds * 1000), 0x7FFFFFFF)


S = typing.TypeVar("S", bound=socket.socket)


def _close(
    sockets: tuple[socket.socket, ...], others: tuple[typing.Callable[[], object], ...]
) -> None:
    for close in (*others, *(sock.close for sock in sockets)):
        with contextlib.suppress(OSError):  # a connection that is dead already
            close()


def open_socket(
    addresses: typing.Sequence[Address],
    where: str,
    *,
    budget: Budget,
    abort: Abort,
    wake: Wake,
    make_socket: typing.Callable[..., S],
    error: type[ConnectError] = ConnectError,
) -> S:
    """
    Connect to the first address that answers. An abort calls `wake` from now on, also after
    this has returned.

    Each address has its share of the budget, so that one that swallows packets does not
    take all of it from the others. `where` names the place in errors.

    Raises `error`, `ConnectTimeout`, and the abort's error.
    """
    abort.blocked_on(wake)
    failure: OSError | None = None
    for index, (family, kind, proto, _, address) in enumerate(addresses):
        share = budget.share(len(addresses) - index)
        if share is not None and share <= 0:
            break
        sock: S | None = None
        try:
            sock = make_socket(family, kind, proto)
            _connect(sock, address, share, wake, abort)
            abort.check()
            _set_options(sock)
            return sock
        except BaseException as exc:
            if sock is not None:
                wake.close(sock.close)
            abort.check()
            if not isinstance(exc, OSError):
                raise
            failure = exc
    try:
        if failure is None or (isinstance(failure, TimeoutError) and budget.remaining() == 0):
            raise budget.exceeded(f"connecting to {where}") from failure
        if isinstance(failure, TimeoutError):
            raise ConnectTimeout(f"{where} does not answer, and the system gave up") from failure
        raise error(f"cannot connect to {where}: {failure.strerror or failure}") from failure
    finally:
        # It refers to this frame, by its traceback: the frame must not refer back.
        del failure


def _connect(
    sock: socket.socket, address: typing.Any, timeout: float | None, wake: Wake, abort: Abort
) -> None:
    if SHUTDOWN_WAKES_CONNECT:
        wake.watch(sock)
        abort.check()  # one that came before had nothing to wake
        sock.settimeout(timeout)
        # May return as if connected when it was woken: the caller looks at the abort flag.
        socket.socket.connect(sock, address)
        return
    waker, wakee = socket.socketpair()
    with waker, wakee, selectors.DefaultSelector() as selector:
        wake.watch(sock, waker)
        abort.check()
        sock.setblocking(False)
        code = socket.socket.connect_ex(sock, address)
        if code in (errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EAGAIN):
            selector.register(sock, selectors.EVENT_WRITE)
            selector.register(wakee, selectors.EVENT_READ)
            if not selector.select(timeout):
                raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        wake.watch(sock)
        if code:
            raise OSError(code, os.strerror(code))


def _set_options(sock: socket.socket) -> None:
    # Requests are written whole: waiting to fill a packet only costs time.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # A peer that vanished is noticed even while nothing is sent, e.g. in a long poll.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
