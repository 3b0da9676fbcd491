"""
How a thread that waits is woken by one that does not want it to wait any longer.

The guarantees:

1. *After* `Abort.abort()` *returns, the aborted thread is awake, or will not block*: it was
   woken from what it waited on, and every later wait of the same request raises at once.
2. *Who was not aborted is never disturbed.* A wake-up can only reach what is registered, or was
   until the same thread registered something else; and `release()` takes it back before a socket
   changes hands: both happen under the handle's lock.
3. *The flag is set first.* Cancelling can look like success (an aborted reader sees a clean
   end of the body), so whoever reads must `check()` after each read and before believing it.
4. *A wait can be interrupted by a signal, soon, and without leaving anything locked.* All waits
   are a ``Lock.acquire`` in C. ``threading.Event`` and ``Condition`` enter their lock in Python
   code, where a `KeyboardInterrupt` can strike between the acquire and the ``with``.

An abort is never a file descriptor's business: ``close()`` from another thread wakes nobody,
and the number may belong to someone else by then. Only the owner closes.
"""

from __future__ import annotations

import contextlib
import functools
import socket
import threading
import time
import typing

from .exceptions import DeadlineExceeded, HTTPError

__all__ = ["Abort", "Expiry", "Signal", "Waiting", "shutdown_socket"]


#: Seconds for which the main thread waits without a look at its signals. One that comes just as
#: the thread is about to sleep in the system does not wake it, and on Windows none does.
_SLICE = 0.1


class Signal:
    """
    Something to wait for, once. Setting it is one C call: safe from any thread, any number
    of times, also from a finalizer or a signal handler.
    """

    __slots__ = ("_lock", "is_set")

    def __init__(self) -> None:
        #: Whether it was, for those who do not wait; a moment later than who waits knows it.
        self.is_set: bool = False
        self._lock = threading.Lock()
        self._lock.acquire()

    def set(self) -> None:
        with contextlib.suppress(RuntimeError):  # it was set already
            self._lock.release()
        self.is_set = True

    def wait(self, timeout: float | None = None) -> bool:
        """Wait at most `timeout` seconds (None: until set). Returns whether it was set."""
        if threading.current_thread() is threading.main_thread():
            return self._wait_in_slices(timeout)
        if timeout is None:
            return self._lock.acquire()
        return self._lock.acquire(timeout=min(max(timeout, 0.0), threading.TIMEOUT_MAX))

    def _wait_in_slices(self, timeout: float | None) -> bool:
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            left = _SLICE if end is None else min(_SLICE, max(0.0, end - time.monotonic()))
            if self._lock.acquire(timeout=left):
                return True
            if end is not None and time.monotonic() >= end:
                return False


def shutdown_socket(sock: socket.socket) -> None:
    """
    Wake whoever waits on `sock`, and let the peer see its end.

    By way of ``socket.socket``, since ``SSLSocket.shutdown()`` drops the TLS layer and the
    next ``recv`` would return ciphertext.
    """
    with contextlib.suppress(OSError):  # not connected, or already gone
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


class Waiting(typing.Protocol):
    """How long a wait takes, where it is not the system's clock that tells."""

    def wait(self, signal: Signal, timeout: float | None) -> bool:
        """As `Signal.wait`."""

    def wait_outside(self, signal: Signal, timeout: float | None) -> bool:
        """The same in real time: for what does not go by this clock."""

    def end(self) -> None:
        """The request is over, if it was made in the calling thread."""


class Abort:
    """
    One running request: what it waits on at this moment, and how to end that.

    The request's own thread calls `check`, `blocked_on`, `release`, `sleep`, `wait` and
    `user_code`; any thread may call `abort`.
    """

    __slots__ = (
        "__weakref__",
        "_error",
        "_in_user_code",
        "_lock",
        "_of_user",
        "_wake",
        "after",
        "clock",
        "deadline",
        "phase",
        "received",
    )

    def __init__(self, deadline: float | None = None) -> None:
        # Reentrant, for a signal handler that ends a block whose thread is just doing so.
        self._lock = threading.RLock()
        self._wake: typing.Callable[[], object] | None = None
        self._error: typing.Callable[[], HTTPError] | None = None
        self._in_user_code = False
        #: The `id` of an exception. Not itself, whose traceback may refer to this.
        self._of_user = 0
        #: On the clock of `time.monotonic`. Told to dispatchers, kept by the client's timer.
        self.deadline: float | None = deadline
        #: What the request is doing, in words that fit after "while": for messages.
        self.phase: str = "starting"
        #: What it waits by in place of the system's clock, if anything: see `testing`.
        self.clock: Waiting | None = None
        #: Bytes of its bodies that have come, for statistics.
        self.received: int = 0
        #: Code of the user's that is left to be called once the request has ended. Its thread
        #: does, when nobody waits for it any more.
        self.after: typing.Sequence[typing.Callable[[], object]] = ()

    @property
    def aborted(self) -> bool:
        return self._error is not None

    @property
    def is_abandoned(self) -> bool:
        """Whether it was aborted, and nobody waits for the code of the user's that it is in."""
        return self._error is not None and self._in_user_code

    def abort(self, error: typing.Callable[[], HTTPError]) -> bool:
        """
        End the request; `error` makes what its thread will raise. The first one counts.

        Returns whether the thread is sure to end soon, which it is not while it runs
        code of the user's.
        """
        with self._lock:
            if self._error is None:
                self._error = error
            if self._wake is not None:
                self._wake()
            return not self._in_user_code

    def mark(self, error: typing.Callable[[], HTTPError]) -> None:
        """
        The first half of `abort`: wakes nobody, but whatever the request does next raises. For
        those who end several, before they wake the first.
        """
        with self._lock:
            if self._error is None:
                self._error = error

    def check(self) -> None:
        """Raise if the request was aborted."""
        if self._error is not None:
            raise self._error()

    def remaining(self) -> float | None:
        """Seconds until the deadline, at least 0; None without one."""
        if self.deadline is None:
            return None
        return max(0.0, self.deadline - time.monotonic())

    def blocked_on(self, wake: typing.Callable[[], object]) -> None:
        """
        From now until `release()`, an abort calls `wake`. It runs in the aborting thread and
        must neither block nor raise. Replaces what was registered before.
        """
        # Without the lock: who aborts sets the flag first, and looks here after that.
        self._wake = wake
        self.check()

    def release(self) -> None:
        """
        Take the wake-up back: after this, an abort touches nothing. Raises if there has been
        one, since what it woke (a socket, most likely) must then not be used again.
        """
        with self._lock:
            self._wake = None
        self.check()

    @contextlib.contextmanager
    def user_code(self) -> typing.Iterator[None]:
        """
        Around code of the user's, which cannot be interrupted and is not waited for. An abort calls
        the wake-up that is registered all the same: for those who rely on its outcome.
        """
        with self._lock:
            outer = self._in_user_code
            self._in_user_code = outer or self._error is None
        self.check()
        try:
            yield
        finally:
            with self._lock:
                self._in_user_code = outer
        self.check()

    def begin_user_code(self) -> bool:
        """
        The same without raising: whether it may run now, until `end_user_code()`. Not once the
        request was aborted: somebody may wait for its end.
        """
        with self._lock:
            self._in_user_code = self._error is None
            return self._in_user_code

    def end_user_code(self) -> None:
        with self._lock:
            self._in_user_code = False

    def blame_user(self, error: BaseException | None) -> None:
        """What is about to be raised comes from code of the user's: it is no failure of ours."""
        self._of_user = id(error)

    def is_of_user(self, error: BaseException) -> bool:
        return self._of_user == id(error)

    def wait(self, signal: Signal, timeout: float | None = None) -> bool:
        """
        Wait for `signal` at most `timeout` seconds. Returns whether it was set; raises if the
        request was aborted, which sets it too.
        """
        self.blocked_on(signal.set)
        try:
            if self.clock is None:
                return signal.wait(timeout)
            return self.clock.wait(signal, timeout)
        finally:
            self.release()

    def wait_besides(self, signal: Signal, timeout: float | None = None) -> bool:
        """
        As `wait`, within code that is aborted by another wake-up already: both are called, and
        that other one stays registered.
        """
        with self._lock:
            outer = self._wake
            self._wake = (
                signal.set if outer is None else functools.partial(_both, outer, signal.set)
            )
        try:
            self.check()
            if self.clock is None:
                was_set = signal.wait(timeout)
            else:
                was_set = self.clock.wait_outside(signal, timeout)
        finally:
            with self._lock:
                self._wake = outer
        self.check()
        return was_set

    def sleep(self, seconds: float) -> None:
        """Wait, unless aborted."""
        self.wait(Signal(), seconds)


def _both(one: typing.Callable[[], object], other: typing.Callable[[], object]) -> None:
    one()
    other()


class Expiry:
    """What happens when a deadline passes: a scheduled abort."""

    __slots__ = ("_abort", "_seconds")

    def __init__(self, abort: Abort, seconds: float | None) -> None:
        self._abort = abort
        self._seconds = seconds

    def _expire(self) -> None:
        doing = self._abort.phase
        self._abort.abort(
            lambda: DeadlineExceeded(f"the deadline of {self._seconds} s passed while {doing}")
        )
