"""
The body of a response while it comes in.

The guarantees:

1. *It is read once, by one thread at a time*; who comes second gets `StreamConsumed`, not half
   of the bytes.
2. *It is closed exactly once*: at its end, by `close()`, or by whatever ends a read (an error,
   a `KeyboardInterrupt`). Then the source is closed, and the callbacks are called and dropped.
   Only where a `KeyboardInterrupt` strikes in the middle of that is a call repeated, by the
   next `close()`: done twice is better than never, so callbacks must bear it.
3. *It never ends early in silence.* After an error, or a `close()` from elsewhere, the next
   step raises.
4. *It does not know its response.* That would be a cycle, and the body would be kept until the
   garbage collector finds it.
"""

from __future__ import annotations

import threading
import typing
from collections.abc import Callable, Iterable, Iterator

from ..exceptions import HTTPError, ResponseClosed, StreamConsumed
from .decoding import decode_body, too_large

__all__ = ["ResponseStream"]


class ResponseStream:
    """
    * `content`: where the body comes from. If it has a `close()`, that is called at the end; if
      it has a `wake()`, that is called where another thread closes while this one waits for
      its next bytes, and must not block. If it has a `limit(seconds)`, that says how long it
      may wait for its next bytes from then on.
    """

    __slots__ = (
        "_callbacks",
        "_content",
        "_finishing",
        "_lock",
        "_pieces",
        "begun",
        "closed",
        "meter",
        "seen",
    )

    def __init__(self, content: Iterable[bytes]) -> None:
        if isinstance(content, str) or not isinstance(content, Iterable):
            raise TypeError(
                "the content of a response is bytes or an iterable of them, "
                f"not {type(content).__name__}"
            )
        self._content: Iterable[bytes] | None = content
        self._pieces: Iterator[bytes] | None = None
        close = getattr(content, "close", None)
        self._callbacks: list[Callable[[], object]] = [] if close is None else [close]
        self._finishing = False
        # Only ever tried, never waited for. Reentrant, since a KeyboardInterrupt right after
        # acquire() leaves it locked, and this thread must then still be able to close.
        self._lock = threading.RLock()
        self.begun: bool = False
        self.closed: bool = False
        #: Where its bytes are counted, as `received`, unless the source does that itself.
        self.meter: typing.Any = None
        #: Where it is noted, as `failure`, what broke it, if anywhere: the type and the message.
        self.seen: typing.Any = None

    def on_close(self, callback: Callable[[], object]) -> None:
        """Call `callback` once, when the body ends or is given up; now if it already has."""
        self._callbacks.append(callback)
        if self.closed:
            self.close()

    def begin(
        self, codings: list[str], max_size: int | None = None, size: int | None = None
    ) -> None:
        """
        Claim the body. Its pieces come out with `codings` undone, at most `max_size` bytes of
        them. If it is known to have more, from `size`, nothing is read at all.
        """
        self._acquire()
        try:
            if self.begun:
                raise StreamConsumed("the body was already iterated over, and was not kept")
            if self.closed:
                raise ResponseClosed("the response was closed before its body was read")
            assert self._content is not None
            try:
                self.begun = True
                if max_size is not None and size is not None and size > max_size:
                    raise too_large(max_size)
                pieces = (
                    self._content if self.meter is None else _metered(self._content, self.meter)
                )
                self._pieces = decode_body(pieces, codings, max_size=max_size)
            except BaseException as error:
                self._note(error)
                self._finish()
                raise
        finally:
            self._release()

    def next_piece(self) -> bytes | None:
        """The next bytes, at least one; None at the end, where the body is closed."""
        self._acquire()
        try:
            if self.closed or self._pieces is None:
                raise ResponseClosed("the response was closed while its body was being read")
            try:
                piece = next(self._pieces, None)
            except BaseException as error:
                self._note(error)
                self._finish()
                raise
            if piece is None:
                self._finish()
            return piece
        finally:
            self._release()

    def read_whole(self, max_size: int | None = None, size: int | None = None) -> bytes | None:
        """
        All of it, as it comes, if the source has a `read_whole()` that can give that; else None,
        and nothing is begun. Otherwise as `begin` and `next_piece`.
        """
        read_whole = getattr(self._content, "read_whole", None)
        if read_whole is None or (max_size is not None and size is None):
            return None
        self.begin([], max_size, size)
        self._acquire()
        try:
            if self.closed:
                raise ResponseClosed("the response was closed while its body was being read")
            try:
                data: bytes | None = read_whole()
            except BaseException as error:
                self._note(error)
                self._finish()
                raise
            if data is None:
                self.begun = False
            else:
                self._finish()
            return data
        finally:
            self._release()

    def _note(self, error: BaseException) -> None:
        if self.seen is not None:
            message = error.message if isinstance(error, HTTPError) else ""
            self.seen.failure = type(error).__name__, message

    def limit(self, seconds: float) -> None:
        """Wait at most so long for its next bytes, where the source knows how to."""
        limit = getattr(self._content, "limit", None)
        if limit is not None:
            limit(seconds)

    def close(self) -> None:
        """End it. If another thread is in the middle of a step, that thread will, right after."""
        self.closed = True
        if self._lock.acquire(blocking=False):
            try:
                self._finish()
            finally:
                self._lock.release()
        else:
            wake = getattr(self._content, "wake", None)
            if wake is not None:
                wake()

    def _acquire(self) -> None:
        if not self._lock.acquire(blocking=False):
            if self.closed:  # at this moment, perhaps
                raise ResponseClosed("the response was closed before its body was read")
            raise StreamConsumed("another thread is reading the body at this moment")

    def _release(self) -> None:
        self._lock.release()
        # Only now: a close() that comes later finds the lock free.
        if self.closed and self._callbacks:
            self.close()

    def _finish(self) -> None:
        self.closed = True
        self._content = self._pieces = None
        if self._finishing:  # a callback closes what is being closed
            return
        try:
            self._finishing = True
            # The loop is in a function of its own: CPython 3.13.0 leaves a try block without its
            # `finally` when an interrupt strikes as a while loop in it jumps back.
            self._call_back()
        finally:
            self._finishing = False

    def _call_back(self) -> None:
        failure: Exception | None = None
        try:
            while self._callbacks:
                try:
                    self._callbacks[0]()
                except Exception as error:
                    failure = failure or error
                # Not before: what an interrupt keeps from running is called the next time.
                del self._callbacks[0]
            if failure is not None:
                raise failure
        finally:
            del failure  # its traceback knows this frame


def _metered(pieces: Iterable[bytes], meter: typing.Any) -> Iterator[bytes]:
    for piece in pieces:
        if isinstance(piece, bytes):  # or else it is refused further on
            meter.received += len(piece)
        yield piece
