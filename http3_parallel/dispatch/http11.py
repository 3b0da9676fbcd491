"""
HTTP/1.1 messages on a socket (RFC 9112): the head of a request as it is sent, and a response as it
is read.

The guarantees:

1. *Nobody's line becomes another's*: nothing with a line break in it is sent as a part of a head.
2. *Where a message ends is never guessed* (section 6.3). What leaves room for two opinions is
   refused: lengths that differ, a sign or a space before a size, a coding other than chunked, a
   control character in the head. What real servers send and is clear is taken: lines that end with
   a line feed alone, folded fields, no reason.
3. *What is cut is an error*, wherever it is cut, unless only the connection's end tells the end.
   With TLS that end must be told too, by a close_notify (RFC 9112, section 9.8).
4. *Nothing is endless, or larger than anyone needs*: see the limits below. Nothing is allocated
   here from what the peer merely claims.
5. *How the bytes were cut on their way makes no difference.*
6. *Nothing is read past the caller's back*: one call of the socket's, where there is to be waited.
   What came after the end of a message shows in `has_surplus`.

Why not `http.client`, which was here before: its parser of fields is that of e-mail, and took a
quarter of a small request's time; and it had to be made strict in seven places. Why not httptools:
it has no limits, takes `HTTP/2.0`, refuses line feeds alone and folded fields, which real servers
send, and parses a second response in silence. And what it would save is a microsecond: a response
with eight fields takes it 2.9, this module 3.8 if it has seen such lines before, as it mostly has,
else 9.7; `http.client` takes 31, and h11, which is strict too, 43.
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
    "FieldLines",
    "OversizedMessage",
    "ResponseReader",
    "TruncatedMessage",
    "request_line",
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

_T = typing.TypeVar("_T")

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST_LINE = re.compile(_TOKEN.decode("ascii") + r" [\x21-\x7e]+ HTTP/1\.1\r\n")
#: The blank line that ends a head, and the line feed before it.
_HEAD_END = re.compile(rb"\n\r?\n")
_STATUS_LINE = re.compile(rb"HTTP/1\.([0-9])[ \t]+([1-9][0-9]{2})(?:[ \t][^\r\n]*)?\r?\n")
_NAME = re.compile(_TOKEN)
#: The first line of a final response, and a field line, as nearly all servers write them.
_PLAIN_STATUS = re.compile(rb"HTTP/1\.([01]) ([2-9][0-9]{2}) [^\r\n\0]*")
_PLAIN_FIELD = re.compile(rb"(" + _TOKEN + rb"):[ \t]*([^\r\n\0]*)")
#: At most 15 digits, without the zeros in front: some servers write all 16 of 64 bits.
_CHUNK_SIZE = re.compile(rb"(0*[1-9A-Fa-f][0-9A-Fa-f]{0,14}|0+)[ \t]*(?:;[^\r\n]*)?\r?\n")


#: The fields that tell where a message, and a connection, ends.
_FRAMING = frozenset({b"connection", b"content-length", b"transfer-encoding"})

#: Fields that a server sends again and again as they were, and that are nobody's secret.
_STEADY = frozenset(
    {
        b"accept-ranges",
        b"access-control-allow-origin",
        b"age",
        b"alt-svc",
        b"cache-control",
        b"connection",
        b"content-encoding",
        b"content-length",
        b"content-type",
        b"date",
        b"etag",
        b"expires",
        b"keep-alive",
        b"last-modified",
        b"server",
        b"strict-transport-security",
        b"transfer-encoding",
        b"vary",
        b"via",
        b"x-content-type-options",
        b"x-frame-options",
        b"x-powered-by",
    }
)
#: So many of their lines are remembered, of at most so many bytes each.
_MAX_KNOWN = 1024
_LONGEST_KNOWN = 128


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


class FieldLines(typing.NamedTuple):
    """
    The field lines of a request (RFC 9112, section 5) as they go out, with the blank line after
    them, and what they say about the message.

    * `chunked`, `length`: how the body ends, if the fields announce one.
    * `closes`: whether they ask for the end of the connection.
    * `expects`: whether they ask the server to be told before the body comes (RFC 9110, section
      10.1.1).
    """

    data: bytes
    chunked: bool
    length: int | None
    closes: bool
    expects: bool

    @classmethod
    def of(cls, fields: typing.Sequence[tuple[bytes, bytes]]) -> FieldLines:
        """Names are in lower case. ValueError for what would be other lines than these."""
        data = b"".join([b"%s: %s\r\n" % field for field in fields])
        count = len(fields)
        if data.count(b"\n") != count or data.count(b"\r") != count or b"\0" in data:
            raise ValueError("a header has a control character")
        known = dict(fields)
        chunked = b"transfer-encoding" in known
        length = None if chunked else known.get(b"content-length")
        return cls(
            data + b"\r\n",
            chunked,
            None if length is None else int(length),
            any(name == b"connection" and b"close" in value.lower() for name, value in fields),
            known.get(b"expect", b"").lower() == b"100-continue",
        )


def request_line(method: str, target: str) -> bytes:
    """RFC 9112, section 3. ValueError for what would be more than one, or is no request target."""
    line = f"{method} {target} HTTP/1.1\r\n"
    if not _REQUEST_LINE.fullmatch(line):
        raise ValueError("its target has characters that a URL must escape, or it has no method")
    return line.encode("ascii")


# What is read.


class ResponseReader:
    """
    Reads one response from `sock`: `begin()` its head, then `read_piece()` its body.

    * `status`; `version`: 10 or 11.
    * `raw_headers`: name, in lower case, and value of each field.
    * `length`: bytes of the body that are still to come, None if that is not known.
    * `begun_at`: when its first byte was there, by `time.perf_counter`.
    * `has_begun`: whether its head is here.
    * `is_bare`: whether that has neither a Set-Cookie nor a Content-Encoding.
    * `will_close`: whether the connection ends with it.
    * `has_surplus`: whether bytes came after its end, so that the connection is not clean.
    """

    # In the class, since few responses change more than a few of them.

    status: int = 0
    version: int = 11
    raw_headers: list[tuple[bytes, bytes]]  # once it has begun
    length: int | None = None
    chunked: bool = False
    will_close: bool = False
    has_surplus: bool = False
    begun_at: float | None = None
    has_begun: bool = False
    is_bare: bool = False
    # What has come, and up to where it was used.
    _buffer: bytes = b""
    _place: int = 0
    _size: int = 0  # of all heads so far
    _interim: int = 0
    _ended: bool = False
    _was_cut: bool = False
    _chunk_left: int = 0
    _owes_chunk_end: bool = False

    def __init__(self, sock: typing.Any, method: str) -> None:
        self.sock: typing.Any = sock
        self._is_answer_to_head = method == "HEAD"

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
        if self.has_begun:
            return
        if self.begun_at is None:
            self._receive_head()
            if self._take_plain_head():
                return
        while not self._read_message():
            pass

    def may_continue(self) -> bool:
        """
        Wait for a 100 (Continue), or for the final response: then, returns False. What the socket
        raises comes through, and nothing of what had come by then is lost.
        """
        while not self._read_message():
            if self.status == 100:
                return True
        return False

    def look(self) -> bool:
        """
        Take what has come, at most one call of the socket's. Returns whether the head of the final
        response is here by now; what is there of it is kept for `begin`.
        """
        self._receive_head()
        while _HEAD_END.search(self._buffer, self._place):
            if self._read_message():
                return True
        if len(self._buffer) - self._place > MAX_HEAD:
            raise OversizedMessage(f"a head of more than {MAX_HEAD} bytes")
        return False

    def _read_message(self) -> bool:
        """The head of one. Returns whether it is the final response."""
        head, fields_at = self._read_head()
        # Those of an interim response too, by the same rules, and forgotten.
        fields = _parse_fields(head[fields_at:])
        if self.status >= 200 or self.status == 101:
            self.raw_headers = fields
            self._frame()
            return True
        self._interim += 1
        if self._interim > MAX_INTERIM:
            raise OversizedMessage(f"more than {MAX_INTERIM} interim responses")
        return False

    def _take_plain_head(self) -> bool:
        """
        Nearly always, all of the head has come at once, is the final one, and has nothing in it
        that would take a second look. Whatever else it is, is left to `_read_head`.
        """
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        status = _known_status.get(lines[0]) or _plain_status(lines[0])
        if not end or status is None or len(head) > MAX_LINE or len(lines) > MAX_FIELDS + 1:
            return False
        del lines[0]
        fields = [_known_fields.get(line) or _plain_field(line) for line in lines]
        if None in fields:
            return False
        self.raw_headers = fields  # type: ignore[assignment]  # None is not in it
        self.version, self.status = status
        self._buffer = rest
        self._frame()
        return True

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
            # The line that goes on, or did until now: one within what has come is no longer than
            # that.
            start = max(buffer.rfind(b"\n", place, searched) + 1, place)
            stop = buffer.find(b"\n", searched)
            searched = len(buffer)
            if searched - place + self._size > MAX_HEAD:
                raise OversizedMessage(f"a head of more than {MAX_HEAD} bytes")
            if (searched if stop < 0 else stop) - start > MAX_LINE:
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
        # What was looked at while it was not whole comes first, for who has it at once.
        if head.count(b"\n") - 2 > MAX_FIELDS:
            raise OversizedMessage(f"more than {MAX_FIELDS} header lines")
        if len(head) > MAX_LINE and max(map(len, head.split(b"\n"))) > MAX_LINE:
            raise OversizedMessage(f"a line of more than {MAX_LINE} bytes")
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
        fields = dict(self.raw_headers)
        self.is_bare = b"set-cookie" not in fields and b"content-encoding" not in fields
        if len(fields) < len(self.raw_headers):
            # RFC 9110, section 5.3: several are one list.
            for name in _FRAMING.intersection(fields):
                fields[name] = b",".join([v for key, v in self.raw_headers if key == name])
        connection = fields.get(b"connection")
        if self.version == 11:
            if connection is not None and connection != b"keep-alive":
                self.will_close = b"close" in _elements(connection)
        else:
            options = [] if connection is None else _elements(connection)
            # The field of that name alone says so too, as servers older than the option have it.
            stays = b"keep-alive" in options or b"keep-alive" in fields
            self.will_close = b"close" in options or not stays
        coding = fields.get(b"transfer-encoding")
        length = fields.get(b"content-length")
        if not self.has_body:
            self.length = 0
        elif coding is not None:
            if coding.lower() != b"chunked":
                raise BadMessage("a Transfer-Encoding other than chunked")
            if length is not None or self.version == 10:
                # Allowed, but the work of a confused intermediary: nothing after it is trusted.
                self.will_close = True
            self.chunked = True
        elif length is not None:
            if b"," in length:
                length, *others = set(_elements(length))
                if others:
                    raise BadMessage("a Content-Length that is not one number")
            if not (length.isdigit() and len(length) < 19):
                raise BadMessage("a Content-Length that is not one number")
            self.length = int(length)
        else:
            self.will_close = True
        self.has_begun = True  # not before: what is refused has not

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
        length, place, data = self.length, self._place, self._buffer
        if length is None or len(data) - place < length:
            return None
        if not place and len(data) == length:
            self.length, self._ended, self._buffer = 0, True, b""
            return data
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

    def read_into(self, view: memoryview) -> int:
        """
        The same of a body whose `length` is known, into `view`, which is no larger than that.
        Returns how many bytes it were, at least one.
        """
        length = self.length
        assert length is not None
        if self._place < len(self._buffer):
            data = self._take(len(view))
            count = len(data)
            view[:count] = data
        else:
            try:
                count = self.sock.recv_into(view)
            except ssl.SSLEOFError:
                count = 0
        if not count:
            raise TruncatedMessage(f"the body ended {length} bytes early")
        self.length = length = length - count
        if not length:
            self._end()
        return count

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


#: What was made of lines before.
_known_status: dict[bytes, tuple[int, int]] = {}
_known_fields: dict[bytes, tuple[bytes, bytes]] = {}


def _plain_status(line: bytes) -> tuple[int, int] | None:
    """The version and the status; None if the line takes a second look."""
    match = _PLAIN_STATUS.fullmatch(line)
    if match is None:
        return None
    status = (10 if match[1] == b"0" else 11, int(match[2]))
    _remember(_known_status, line, status)
    return status


def _plain_field(line: bytes) -> tuple[bytes, bytes] | None:
    """The name, in lower case, and the value; None if the line takes a second look."""
    match = _PLAIN_FIELD.fullmatch(line)
    if match is None:
        return None
    field = (match[1].lower(), match[2].rstrip(b" \t"))
    if field[0] in _STEADY:
        _remember(_known_fields, line, field)
    return field


def _remember(known: dict[bytes, _T], line: bytes, meaning: _T) -> None:
    if len(line) <= _LONGEST_KNOWN:
        if len(known) >= _MAX_KNOWN:
            known.clear()
        known[line] = meaning


def _elements(value: bytes) -> list[bytes]:
    """Of a comma-separated list, in lower case."""
    value = value.lower()
    if b"," not in value:
        return [value]
    return [element.strip(b" \t") for element in value.split(b",")]


def _shown(buffer: bytes, place: int) -> str:
    return repr(buffer[place : place + 80].partition(b"\n")[0].rstrip(b"\r").decode("latin-1"))


def _parse_fields(lines: bytes) -> list[tuple[bytes, bytes]]:
    """Of all field lines, and the blank one after them."""
    fields: list[tuple[bytes, bytes]] = []
    for line in lines.split(b"\n")[:-2]:
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
        fields.append((name.lower(), value.strip(b" \t")))
    return fields
