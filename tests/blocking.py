"""
Finds what an event loop's thread waits for, or could have to: a lock that other threads take as
well, a queue, a socket that blocks, the resolver, a file, a thread, a sleep.

Only what is done by the package is counted, directly or by way of the standard library: there must
be a frame of `http3_parallel` on the stack. Locks are those that the package makes meanwhile.
"""

from __future__ import annotations

import builtins
import contextlib
import functools
import io
import os
import queue
import socket
import subprocess
import sys
import threading
import time
import traceback
import typing

import pytest

_PACKAGE = "http3_parallel"
_IMPORTING = ("importlib._bootstrap", "importlib._bootstrap_external")
_SOCKET_METHODS = ("recv", "recv_into", "send", "sendall", "connect", "connect_ex", "accept")


class Watch:
    """What was found, each with the stack."""

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.found: list[str] = []

    def note(self, what: str) -> None:
        if threading.get_ident() != self.thread:
            return
        frames = [frame for frame, _ in traceback.walk_stack(sys._getframe(2))]
        if any(frame.f_globals.get("__name__") in _IMPORTING for frame in frames):
            return  # of what is imported at first use, once
        if any(map(_is_ours, frames)):
            # Without the lines themselves, which would take opening files.
            places = [
                f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}"
                for frame in frames[:10]
            ]
            self.found.append("\n  ".join([what, *places]))


def _is_ours(frame: typing.Any) -> bool:
    return str(frame.f_globals.get("__name__", "")).startswith(_PACKAGE)


_watches: list[Watch] = []


class WatchedLock:
    """A lock of the package's. To take one that another thread has ever taken may be to wait."""

    def __init__(self, make: typing.Callable[[], typing.Any]) -> None:
        self._lock = make()
        self._threads: set[int] = set()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        here = threading.get_ident()
        if blocking and self._threads - {here}:
            for watch in _watches:
                watch.note("a lock")
        taken: bool = self._lock.acquire(blocking, timeout)
        if taken:
            self._threads.add(here)
        return taken

    def release(self) -> None:
        self._lock.release()

    def _is_owned(self) -> bool:
        owned: bool = self._lock._is_owned()
        return owned

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *exc_info: object) -> None:
        self.release()


def _noting(watch: Watch, name: str, function: typing.Any) -> typing.Any:
    @functools.wraps(function)
    def noted(*args: typing.Any, **kwargs: typing.Any) -> typing.Any:
        watch.note(name)
        return function(*args, **kwargs)

    return noted


def _noting_socket(watch: Watch, name: str, function: typing.Any) -> typing.Any:
    def noted(self: socket.socket, *args: typing.Any) -> typing.Any:
        if self.gettimeout() != 0:
            watch.note(f"socket.{name}")
        return function(self, *args)

    return noted


@contextlib.contextmanager
def watching() -> typing.Iterator[Watch]:
    """Watch the calling thread, and what the package makes from here on."""
    watch = Watch()

    class WatchedQueue(queue.SimpleQueue):  # type: ignore[type-arg]  # of anything
        def get(self, block: bool = True, timeout: float | None = None) -> typing.Any:
            if block:
                watch.note("a queue")
            return super().get(block, timeout)

    def lock_maker(make: typing.Callable[[], typing.Any]) -> typing.Callable[[], typing.Any]:
        return lambda: WatchedLock(make) if _is_ours(sys._getframe(1)) else make()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(queue, "SimpleQueue", WatchedQueue)
        patch.setattr(threading, "Lock", lock_maker(threading.Lock))
        patch.setattr(threading, "RLock", lock_maker(threading.RLock))
        # Not by an audit hook: there is no way to take one back, and in Python 3.10 threads that
        # are traced for coverage do not bear one in Python code.
        for owner, name in (
            (builtins, "open"),
            (io, "open"),
            (os, "open"),
            (os, "listdir"),
            (os, "scandir"),
            (socket, "getaddrinfo"),
            (subprocess, "Popen"),
            (time, "sleep"),
            (threading.Thread, "start"),
            (threading.Thread, "join"),
            (threading.Event, "wait"),
            (threading.Condition, "wait"),
        ):
            function = getattr(owner, name)
            noting = _noting(watch, f"{owner.__name__}.{name}", function)
            patch.setattr(owner, name, noting)
        for name in _SOCKET_METHODS:
            patch.setattr(
                socket.socket, name, _noting_socket(watch, name, getattr(socket.socket, name))
            )
        _watches.append(watch)
        try:
            yield watch
        finally:
            _watches.remove(watch)
