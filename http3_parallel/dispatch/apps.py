"""What WSGI and ASGI apps have in common: an answer, and bodies that have a Content-Length."""

from __future__ import annotations

import collections
import logging
import re

from ..exceptions import IncompleteRead, WriteError

__all__ = ["Answer", "kind_of", "left_after", "parse_length"]

_logger = logging.getLogger("http3_parallel")

_LENGTH = re.compile(r"[0-9]{1,18}")

_SERVER_ERROR = b"Internal Server Error"


def kind_of(value: object) -> str:
    """What it is, for a message."""
    return "None" if value is None else type(value).__name__


def parse_length(value: str) -> int | None:
    """Bytes, of a Content-Length; None if it is none."""
    return int(value) if _LENGTH.fullmatch(value) else None


def left_after(piece: bytes | memoryview, left: int) -> int:
    """
    Bytes of a request's body that are to come after `piece`, which is empty at the end, if `left`
    were before. `WriteError` if that cannot be.
    """
    if len(piece) > left:
        raise WriteError("the request's body is longer than its Content-Length")
    if left and not piece:
        raise WriteError(f"the request's body is {left} bytes shorter than its Content-Length")
    return left - len(piece)


class Answer:
    """What an app has said so far: the head, and what its client gets of the body."""

    __slots__ = ("_is_answer_to_head", "fields", "is_cut", "missing", "pieces", "status")

    def __init__(self, method: str) -> None:
        self._is_answer_to_head = method == "HEAD"
        #: 0 until the app has told it.
        self.status: int = 0
        self.fields: list[tuple[bytes, bytes]] = []
        #: What has come of the body and was not taken yet; none of them empty.
        self.pieces: collections.deque[bytes] = collections.deque()
        #: Bytes still to come, by the Content-Length; None without one.
        self.missing: int | None = None
        #: Whether more came than that.
        self.is_cut: bool = False

    @property
    def has_body(self) -> bool:
        return not (self._is_answer_to_head or self.status in (204, 304))

    def start(self, status: int, fields: list[tuple[bytes, bytes]], length: int | None) -> None:
        """The head. `length`: its Content-Length."""
        self.status, self.fields, self.missing = status, fields, length

    def add(self, data: bytes) -> bool:
        """A part of the body. Returns whether there is something of it for the client."""
        if not self.has_body:
            return False
        if self.missing is not None:
            if len(data) > self.missing:
                if not self.is_cut:
                    _logger.warning("the body of an app is longer than its Content-Length: cut")
                self.is_cut = True
                data = data[: self.missing]
            self.missing -= len(data)
        if data:
            self.pieces.append(data)
        return bool(data)

    def fail(self) -> None:
        """Answer as servers do for an app that failed."""
        length = b"%d" % len(_SERVER_ERROR)
        fields = [(b"content-type", b"text/plain"), (b"content-length", length)]
        self.start(500, fields, None)
        self.add(_SERVER_ERROR)

    def cut_short(self) -> IncompleteRead:
        """What it is, if the body ends with bytes missing."""
        return IncompleteRead(
            f"the app's body ended {self.missing} bytes short of its Content-Length"
        )
