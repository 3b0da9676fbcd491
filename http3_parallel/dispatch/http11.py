"""
HTTP/1.1 messages on a socket (RFC 9112): the head of a request as it is sent, and a response as it
is read.

The guarantees:

1. *Nobody's line becomes another's*: nothing with a line break in it is sent as a part of a head.
2. *Where a message ends is never guessed* (section 6.3). What leaves room for two opinions is
   refused: lengths that differ, signs and spaces in a size, a coding that is not chunked last, a
   control character in the head. What real servers send and is clear is taken: lines that end with
   a line feed alone, folded fields, no reason.
3. *What is cut is an error*, wherever it is cut, unless only the connection's end tells the end.
   With TLS that end must be told too, by a close_notify (RFC 9112, section 9.8).
4. *Nothing is endless, or larger than anyone needs*: see the limits below. Nothing is allocated
   from what the peer merely claims.
5. *How the bytes were cut on their way makes no difference.*
6. *Nothing is read past the caller's back.* All reading is in `_receive`, one call of the socket's.
   What came after the end of a message shows in `has_surplus`.

Why not `http.client`, which was here before: its parser of fields is that of e-mail, and took a
quarter of a small request's time; and it had to be made strict in seven places. Why not httptools:
it has no limits, takes `HTTP/2.0`, refuses line feeds alone and folded fields, which real servers
send, and parses a second response in silence.
"""

from __future__ import annotations

import re
import ssl
import time
import typing

__all__ = [
    "BadMessage",
    "BadStatusLine",
    "BrokenHead",
    "Disconnected",
    "OversizedMessage",
    "ResponseReader",
    "TruncatedMessage",
    "request_head",
]

#: Interim responses before the final one. Servers send a few; an endless row is an attack.
MAX_INTERIM = 32

#: Bytes of all heads of a response together. Browsers take 256 KiB.
MAX_HEAD = 256 * 1024

#: Bytes of one line of a head, as `http.client` has it.
MAX_LINE = 64 * 1024

#: Header fields, as `http.client` has it.
MAX_FIELDS = 100

#: Bytes of all trailers.
MAX_TRAILERS = 64 * 1024

#: Bytes of the line with a chunk's size, extensions included. Few servers send any.
MAX_CHUNK_LINE = 4096

#: Bytes per read: as many as the system tends to have at once, and TLS records are 16 KiB.
_READ_SIZE = 64 * 1024

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_TARGET = re.compile(r"[\x21-\x7e]+")
#: The blank line that ends a head, and the line feed before it.
_HEAD_END = re.compile(rb"\n\r?\n")
_STATUS_LINE = re.compile(rb"HTTP/1\.([0-9])[ \t]+([1-9][0-9]{2})(?:[ \t][^\r\n]*)?\r?\n")
_FIELD = re.compile(rb"^(" + _TOKEN + rb"):[ \t]*([^\r\n]*)\r?\n", re.MULTILINE)
_NAME = re.compile(_TOKEN)
#: At most 15 digits, without the zeros in front: some servers write all 16 of 64 bits.
_CHUNK_SIZE = re.compile(rb"(0*[1-9A-Fa-f][0-9A-Fa-f]{0,14}|0+)[ \t]*(?:;[^\r\n]*)?\r?\n")


class BadMessage(Exception):
    """What came is no HTTP/1.1 message."""


class BadStatusLine(BadMessage):
    """It does not even begin as one."""


class OversizedMessage(BadMessage):
    """Something in it is larger than anyone needs."""


class TruncatedMessage(Exception):
    """The connection ended before the message did."""


class Disconnected(ConnectionError):
    """The connection ended before the message began."""


class BrokenHead(OSError):
    """The connection broke after the first byte of the message: by its type unlike before it."""


# What is sent.


def request_head(method: str, target: str, fields: typing.Iterable[tuple[bytes, bytes]]) -> bytes:
    """
    The request line and the field lines (RFC 9112, section 3), with the blank line after them.
    ValueError for what would be more lines than that, or is no request target.
    """
    if not _TARGET.fullmatch(target):
        raise ValueError("the request target has characters that a URL must escape")
    lines = [b"%s %s HTTP/1.1" % (method.encode("ascii"), target.encode("ascii"))]
    lines += [b"%s: %s" % field for field in fields]
    breaks = len(lines) + 1
    lines += (b"", b"")
    head = b"\r\n".join(lines)
    if head.count(b"\n") != breaks or head.count(b"\r") != breaks or b"\0" in head:
        raise ValueError("a header has a control character")
    return head


# What is read.


class ResponseReader:
    """
    Reads one response from `sock`: `begin()` its head, then `read_piece()` its body.

    * `status`; `version`: 10 or 11; `raw_headers`: name and value of each field, as they came.
    * `length`: bytes of the body that are still to come, None if that is not known.
    * `begun_at`: when its first byte was there, by `time.perf_counter`.
    * `will_close`: whether the connection ends with it.
    * `has_surplus`: whether bytes came after its end, so that the connection is not clean.
    """

    __slots__ = (
        "_buffer",
        "_chunk_left",
        "_ended",
        "_is_answer_to_head",
        "_owes_chunk_end",
        "_place",
        "_size",
        "_was_cut",
        "begun_at",
        "chunked",
        "has_surplus",
        "length",
        "raw_headers",
        "sock",
        "status",
        "version",
        "will_close",
    )

    def __init__(self, sock: typing.Any, method: str) -> None:
        self.sock: typing.Any = sock
        self._is_answer_to_head = method == "HEAD"
        # What has come, and up to where it was used.
        self._buffer = b""
        self._place = 0
        self._size = 0  # of all heads so far
        self._ended = False
        self._was_cut = False
        self._chunk_left = 0
        self._owes_chunk_end = False
        self.status: int = 0
        self.version: int = 11
        self.raw_headers: list[tuple[bytes, bytes]] = []
        self.length: int | None = None
        self.chunked: bool = False
        self.will_close: bool = False
        self.has_surplus: bool = False
        self.begun_at: float | None = None

    @property
    def has_body(self) -> bool:
        """RFC 9112, section 6.3, rules 1 and 2."""
        status = self.status
        return not (self._is_answer_to_head or status < 200 or status in (204, 304))

    # The head.

    def begin(self) -> None:
        """
        Read the head of the final response. Raises `Disconnected` where nothing came, what the
        socket raises before the first byte, `BrokenHead` after it, `TruncatedMessage` and
        `BadMessage`.
        """
        for _ in range(MAX_INTERIM + 1):
            head, fields_at = self._read_head()
            # Those of an interim response too, by the same rules, and forgotten.
            fields = _parse_fields(head, fields_at)
            status = self.status
            if status >= 200 or status == 101:
                self.raw_headers = fields
                self._frame()
                return
        raise OversizedMessage(f"more than {MAX_INTERIM} interim responses")

    def _read_head(self) -> tuple[bytes, int]:
        """One head, and where its fields begin."""
        self.status = 0
        searched = self._place
        lines = 0
        while True:
            buffer, place = self._buffer, self._place
            if not self.status and len(buffer) > place:
                self._read_status(buffer, place)
            end = _HEAD_END.search(buffer, max(place, searched - 2))
            if end is not None:
                break
            lines += buffer.count(b"\n", searched)
            searched = len(buffer)
            if searched - place + self._size > MAX_HEAD:
                raise OversizedMessage(f"a head of more than {MAX_HEAD} bytes")
            if searched - max(buffer.rfind(b"\n", place) + 1, place) > MAX_LINE:
                raise OversizedMessage(f"a line of more than {MAX_LINE} bytes")
            if lines > MAX_FIELDS + 1:
                raise OversizedMessage(f"more than {MAX_FIELDS} header lines")
            searched -= place
            self._receive_head()  # which moves what is left to the front
        stop = end.end()
        self._size += stop - place
        if self._size > MAX_HEAD:
            raise OversizedMessage(f"a head of more than {MAX_HEAD} bytes")
        self._place = stop
        head = buffer if place == 0 and stop == len(buffer) else buffer[place:stop]
        if b"\0" in head or head.count(b"\r") != head.count(b"\r\n"):
            raise BadMessage("a control character in the head")
        return head, head.index(b"\n") + 1

    def _read_status(self, buffer: bytes, place: int) -> None:
        """The status line, as soon as it is there; what cannot become one is refused at once."""
        start = buffer[place : place + 7]
        if b"HTTP/1."[: len(start)] != start:
            if start.startswith(b"HTTP/"):
                raise BadMessage(f"the answer is not HTTP/1.1 but {_shown(buffer, place)}")
            raise BadStatusLine(_shown(buffer, place))
        stop = buffer.find(b"\n", place) + 1
        if not stop:
            return
        if stop - 1 - place > MAX_LINE:
            raise OversizedMessage(f"a line of more than {MAX_LINE} bytes")
        line = _STATUS_LINE.fullmatch(buffer, place, stop)
        if line is None:
            raise BadStatusLine(_shown(buffer, place))
        self.version = 10 if line[1] == b"0" else 11
        self.status = int(line[2])

    def _receive_head(self) -> None:
        begun = self.begun_at is not None
        try:
            has_more = self._receive()
        except ConnectionError as exc:
            if not begun:
                raise
            raise BrokenHead(exc.errno, exc.strerror) from exc
        if not begun:
            self.begun_at = time.perf_counter()
        if not has_more:
            if not begun:
                self.begun_at = None
                raise Disconnected("the server closed the connection without an answer")
            if self._buffer:
                raise TruncatedMessage("the connection ended within the head of the response")
            raise TruncatedMessage("the connection ended after an interim response")

    def _receive(self) -> bool:
        """Wait for more. False at the end of the connection."""
        try:
            # urllib3's TLS within TLS ends in a 0.
            data: bytes = self.sock.recv(_READ_SIZE) or b""
        except ssl.SSLEOFError:
            # The end, but anyone on the way can have made it.
            self._was_cut = True
            data = b""
        if self._place == len(self._buffer):
            self._buffer = data
        else:
            self._buffer = self._buffer[self._place :] + data
        self._place = 0
        return bool(data)

    def _frame(self) -> None:
        """Where the body ends, by RFC 9112, section 6.3."""
        codings: list[bytes] = []
        lengths: set[bytes] = set()
        options: list[bytes] = []
        for name, value in self.raw_headers:
            size = len(name)
            if size == 14 and name.lower() == b"content-length":
                lengths.update(_elements(value))
            elif size == 17 and name.lower() == b"transfer-encoding":
                codings += _elements(value)
            elif size == 10:
                lowered = name.lower()
                if lowered == b"connection":
                    options += _elements(value)
                elif lowered == b"keep-alive" and self.version == 10:
                    options.append(b"keep-alive")
        if b"close" in options:
            self.will_close = True
        elif self.version == 10:
            self.will_close = b"keep-alive" not in options
        if not self.has_body:
            self.length = 0
        elif codings:
            if codings != [b"chunked"]:
                raise BadMessage("a Transfer-Encoding other than chunked")
            if lengths or self.version == 10:
                # Allowed, but the work of a confused intermediary: nothing after it is trusted.
                self.will_close = True
            self.chunked = True
        elif lengths:
            length = lengths.pop()
            if lengths or not (length.isdigit() and len(length) < 19):
                raise BadMessage("a Content-Length that is not one number")
            self.length = int(length)
        else:
            self.will_close = True

    # The body.

    def isclosed(self) -> bool:
        """Whether the end was reached, or the rest given up."""
        return self._ended

    def close(self) -> None:
        """Give up what is left: the connection is not clean."""
        self._ended = self.will_close = True
        self._buffer = b""
        self._place = 0

    @property
    def may_reuse(self) -> bool:
        """Whether, as far as it tells, its connection can serve again. After its end."""
        return not (self.will_close or self.has_surplus or self.status == 101)

    def take_whole(self) -> bytes | None:
        """The body, if there is none, or all of it has come with the head; then this is its end."""
        length, place = self.length, self._place
        if length is None or len(self._buffer) - place < length:
            return None
        self._place = place + length
        data = self._buffer[place : self._place]
        self.length = 0
        self._end()
        return data

    def read_piece(self, size: int) -> bytes:
        """The next bytes of the body as they come, at most `size`; none at its end."""
        if self._ended:
            return b""
        if self.chunked:
            return self._read_chunks(size)
        length = self.length
        if length is not None and length < size:
            size = length
        data = self._take(size) if size else b""
        if length is None:
            if not data:
                if self._was_cut:
                    raise TruncatedMessage("TLS was closed without a close_notify")
                self._end()
            return data
        if size and not data:
            raise TruncatedMessage(f"the body ended {length} bytes early")
        self.length = length = length - len(data)
        if not length:
            self._end()
        return data

    def _take(self, size: int) -> bytes:
        """At least one byte, at most `size`, without waiting for more; none at the end."""
        if self._place == len(self._buffer) and not self._receive():
            return b""
        buffer, place = self._buffer, self._place
        if place == 0 and len(buffer) <= size:
            self._buffer = b""
            return buffer
        self._place = min(place + size, len(buffer))
        return buffer[place : self._place]

    def _read_chunks(self, size: int) -> bytes:
        """What has come of one or more chunks. Waits for nothing once there is something."""
        pieces: list[bytes] = []
        while size:
            if not self._chunk_left:
                if pieces and not self._has_next_chunk():
                    break
                if self._owes_chunk_end:
                    self._read_chunk_end()
                self._chunk_left = self._read_chunk_size()
                if not self._chunk_left:
                    self._read_trailers()
                    self._end()
                    break
            if pieces and self._place == len(self._buffer):
                break
            piece = self._take(min(size, self._chunk_left))
            if not piece:
                raise TruncatedMessage("the connection ended within a chunk")
            pieces.append(piece)
            size -= len(piece)
            self._chunk_left -= len(piece)
            self._owes_chunk_end = not self._chunk_left
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _has_next_chunk(self) -> bool:
        """Whether its size has come, and if it may be the last, all of the end."""
        start = self._place + 2 if self._owes_chunk_end else self._place
        stop = self._buffer.find(b"\n", start) + 1
        if not stop:
            return False
        size = _CHUNK_SIZE.fullmatch(self._buffer, start, stop)
        if size is None or size[1].strip(b"0"):
            return True
        return _HEAD_END.search(self._buffer, stop - 1) is not None

    def _read_line(self, limit: int, where: str) -> bytes:
        searched = self._place
        while True:
            stop = self._buffer.find(b"\n", searched) + 1
            if (stop or len(self._buffer)) - self._place > limit:
                raise OversizedMessage(f"a line of more than {limit} bytes {where}")
            if stop:
                line = self._buffer[self._place : stop]
                self._place = stop
                return line
            searched = len(self._buffer) - self._place
            if not self._receive():
                raise TruncatedMessage(f"the connection ended {where}")

    def _read_chunk_size(self) -> int:
        line = self._read_line(MAX_CHUNK_LINE, "between two chunks")
        match = _CHUNK_SIZE.fullmatch(line)
        if match is None:
            raise BadMessage("a chunk without a valid size")
        return int(match[1], 16)

    def _read_chunk_end(self) -> None:
        while len(self._buffer) - self._place < 2:
            if self._buffer[self._place :] not in (b"", b"\r"):
                break
            if not self._receive():
                raise TruncatedMessage("the connection ended between two chunks")
        if not self._buffer.startswith(b"\r\n", self._place):
            raise BadMessage("a chunk longer than its size")
        self._place += 2
        self._owes_chunk_end = False

    def _read_trailers(self) -> None:
        """They are dropped, and never become header fields (RFC 9110, section 6.5.1)."""
        left = MAX_TRAILERS
        while (line := self._read_line(left, "within the trailers")) not in (b"\r\n", b"\n"):
            left -= len(line)

    def _end(self) -> None:
        self._ended = True
        self.has_surplus = self._place < len(self._buffer)
        self._buffer = b""
        self._place = 0


def _elements(value: bytes) -> list[bytes]:
    """Of a comma-separated list, in lower case."""
    value = value.lower()
    if b"," not in value:
        return [value]
    return [element.strip(b" \t") for element in value.split(b",")]


def _shown(buffer: bytes, place: int) -> str:
    return repr(buffer[place : place + 80].partition(b"\n")[0].rstrip(b"\r").decode("latin-1"))


def _parse_fields(head: bytes, start: int) -> list[tuple[bytes, bytes]]:
    fields = _FIELD.findall(head, start)
    count = head.count(b"\n", start) - 1
    if count > MAX_FIELDS:
        raise OversizedMessage(f"more than {MAX_FIELDS} header lines")
    if len(fields) != count or len(head) > MAX_LINE:
        return _parse_lines(head[start:])
    if b" \r\n" in head or b"\t\r\n" in head or b" \n" in head or b"\t\n" in head:
        return [(name, value.rstrip(b" \t")) for name, value in fields]
    return typing.cast("list[tuple[bytes, bytes]]", fields)


def _parse_lines(lines: bytes) -> list[tuple[bytes, bytes]]:
    """The same line by line, where there is something to be said about one."""
    fields: list[tuple[bytes, bytes]] = []
    for line in lines.split(b"\n")[:-2]:
        if len(line) > MAX_LINE:
            raise OversizedMessage(f"a line of more than {MAX_LINE} bytes")
        line = line.removesuffix(b"\r")
        if line[:1] in (b" ", b"\t"):
            # RFC 9112, section 5.2: obsolete folding is replaced with a space.
            if not fields:
                raise BadMessage("a header that begins with a space")
            name, value = fields[-1]
            fields[-1] = (name, (value + b" " + line.strip(b" \t")).strip(b" \t"))
            continue
        name, colon, value = line.partition(b":")
        if not colon or not _NAME.fullmatch(name):
            raise BadMessage("a header line without a valid name")
        fields.append((name, value.strip(b" \t")))
    return fields
