"""The body of a response while it is on its way, and what becomes of its connection."""

from __future__ import annotations

import contextlib
import io
import os
import threading
import typing

from ..aborting import Abort
from ..exceptions import DeadlineExceeded, HTTPError, ResponseClosed
from ..models import Request, Timings
from .connections import Connection
from .exchange import read_error, set_timeout
from .http11 import ResponseReader
from .pool import Lease

__all__ = ["ResponseBody", "let_go"]

#: Bytes per read at most: as many as the system tends to have at once, and TLS records are
#: 16 KiB. What has come is returned without waiting for more.
READ_SIZE = 64 * 1024

#: Bytes that are made room for at first where a body is read as a whole; then so many times what is
#: here, as far as the body goes. Few steps, since with each of them what is here is copied.
_ROOM = 1024 * 1024
_GROWTH = 16
#: Beyond so many bytes, no more than twice what is here.
_MOST_ROOM = 256 * _ROOM

_In = typing.TypeVar("_In")
_Out = typing.TypeVar("_Out", bytes, int)


def let_go(lease: Lease[Connection], abort: Abort, *, reusable: bool) -> None:
    """
    Give the connection back. First, aborts are told to leave it alone: one that has come
    already is raised, after the connection is closed.
    """
    try:
        abort.release()
    except BaseException:
        lease.give_back(reusable=False)
        raise
    lease.give_back(reusable=reusable)


def _too_late(request: Request) -> HTTPError:
    return DeadlineExceeded("the deadline passed while reading the body", request=request)


class ResponseBody:
    """
    An iterator over the bytes as they come. At the end, and only if all was clean, the
    connection goes back to be reused; otherwise it is closed.

    Not a generator, since `close` may be called by one thread while another is reading: then
    the reader is woken and raises `ResponseClosed`. Dropped without being closed, it gives its
    connection back through the finalizer of its lease.

    It belongs to the process that made it: reading it in a forked child is `ResponseClosed`, and
    closing it there leaves that of the parent as it is.
    """

    __slots__ = (
        "_abort",
        "_lease",
        "_lock",
        "_may_reuse",
        "_pid",
        "_reader",
        "_request",
        "_seconds",
        "_timings",
        "_whole",
    )

    def __init__(
        self,
        reader: ResponseReader,
        lease: Lease[Connection],
        abort: Abort,
        request: Request,
        seconds: float | None,
        timings: Timings,
        *,
        may_reuse: bool,
    ) -> None:
        self._reader = reader
        self._lease: Lease[Connection] | None = lease
        self._abort = abort
        self._request = request
        self._seconds = seconds
        self._timings = timings
        self._may_reuse = may_reuse
        self._whole = False
        self._pid = os.getpid()
        self._lock = threading.Lock()

    def __iter__(self) -> typing.Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        self._check_process()
        with self._lock:
            return self._next_piece()

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise ResponseClosed(
                "this body is on its way to the process that was forked, which alone can read it"
            )

    def limit(self, seconds: float) -> None:
        """Wait at most `seconds` for each of the next pieces, if that is less than before."""
        with self._lock:
            if self._lease is not None and (self._seconds is None or seconds < self._seconds):
                self._seconds = seconds
                set_timeout(self._reader.sock, seconds)

    def close(self) -> None:
        """Give it up, wherever it stands. Idempotent; safe from any thread."""
        if self._lease is None:
            return
        if self._lock.acquire(blocking=False):
            try:
                if os.getpid() == self._pid:
                    self._give_up()
                else:
                    self._forget()
            finally:
                self._lock.release()
        else:
            self.wake()

    def wake(self) -> None:
        """
        End the read of another thread, which then closes: the connection is the reader's. By
        way of its abort handle, which touches the connection only while that is so.
        """
        if os.getpid() != self._pid:
            # A thread of the parent is reading, and took the locks that closing needs with it.
            return
        self._abort.abort(lambda: ResponseClosed("the response was closed while its body was read"))

    def read_whole(self) -> bytes | None:
        """
        All that is left at once, as its pieces joined, with one copy of it in memory; None if its
        length is not known. Room is made as bytes arrive, not as the server announces them.
        """
        self._check_process()
        with self._lock:
            length = self._reader.length
            if length is None or self._lease is None:
                return None
            whole, here = io.BytesIO(), 0
            while here < length:
                more = min(_GROWTH * here, here + _MOST_ROOM)
                size = min(length, max(_ROOM, 2 * here, more))
                # It takes these zeros over, and gives them out in the end, without a copy. As long
                # as nothing is written there, the system has no memory to find for them.
                larger = io.BytesIO(bytes(size))
                larger.write(whole.getbuffer())
                whole = larger
                with whole.getbuffer() as buffer:
                    while here < size:
                        # Released at once: an error refers to it, by its traceback.
                        with buffer[here:size] as room:
                            here += self._read(self._reader.read_into, room)
            return whole.getvalue()

    def _next_piece(self) -> bytes:
        if self._lease is None:
            if self._whole:
                raise StopIteration
            raise ResponseClosed("the response was closed before its body was read")
        data = self._read(self._reader.read_piece, READ_SIZE)
        if not data:
            raise StopIteration
        return data

    def _read(self, read: typing.Callable[[_In], _Out], argument: _In) -> _Out:
        try:
            # The client's clock aborts what is late, but a stream outlives its client.
            self._limit_by_deadline()
            data = read(argument)
            self._abort.check()
        except BaseException as exc:
            self._give_up()
            self._abort.check()
            if isinstance(exc, HTTPError) or not isinstance(exc, Exception):
                raise
            if self._abort.remaining() == 0:
                raise _too_late(self._request) from exc
            raise read_error(exc, self._seconds, self._request) from exc
        self._abort.received += data if isinstance(data, int) else len(data)
        if self._reader.isclosed():
            self._finish()
        return data

    def _limit_by_deadline(self) -> None:
        remaining = self._abort.remaining()
        if remaining is None:
            return
        if remaining == 0:
            raise _too_late(self._request)
        seconds = remaining if self._seconds is None else min(self._seconds, remaining)
        set_timeout(self._reader.sock, seconds)

    def _finish(self) -> None:
        self._timings.mark("done")
        self._whole = True
        lease, self._lease = self._lease, None
        if lease is not None:
            reusable = self._may_reuse and self._reader.may_reuse
            let_go(lease, self._abort, reusable=reusable)

    def _give_up(self) -> None:
        self._timings.mark("done")
        lease, self._lease = self._lease, None
        if lease is not None:
            self._reader.close()
            with contextlib.suppress(HTTPError):  # the abort's: it has come to its end
                let_go(lease, self._abort, reusable=False)

    def _forget(self) -> None:
        """Give it up in a forked child: without the locks of the lease and of the abort."""
        lease, self._lease = self._lease, None
        if lease is not None and lease.connection is not None:
            self._reader.close()
            lease.connection.forget()
