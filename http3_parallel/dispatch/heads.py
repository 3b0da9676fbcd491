"""
The head of a response and the framing of its body: `http.client`'s reader, made stricter.

`http.client` takes a 103 for the final answer, headers cut off by the connection's end for all
of them, ``+5`` for a chunk size, and any number of trailers. Here it is refused wherever taking
it would mean to guess where the message ends (RFC 9112, section 6.3), or where it is endless.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import time
import typing

__all__ = ["BadMessage", "BrokenHead", "OversizedMessage", "ResponseReader", "TruncatedMessage"]

#: Interim responses before the final one. Servers send a few; an endless row is an attack.
MAX_INTERIM = 32

#: Bytes of all heads of a response together. Browsers take 256 KiB.
MAX_HEAD = 256 * 1024

#: Header lines, as `http.client` has it.
MAX_FIELDS = 100

#: Bytes of all trailers.
MAX_TRAILERS = 64 * 1024

_BLANK = (b"\r\n", b"\n")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r?\n")
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


class BadMessage(http.client.HTTPException):
    """What came is no HTTP/1.1 message."""


class OversizedMessage(BadMessage):
    """Something in it is larger than anyone needs."""


class TruncatedMessage(http.client.HTTPException):
    """The connection ended before the message did."""


class BrokenHead(OSError):
    """The connection broke after the first byte of the message: by its type unlike before it."""


class _Lines:
    """Reads lines for `http.client`, and keeps them."""

    __slots__ = ("_fp", "_size", "fields", "last")

    def __init__(self, fp: typing.Any) -> None:
        self._fp = fp
        self._size = 0
        self.fields: list[bytes] = []
        self.last = b""

    def readline(self, limit: int) -> bytes:
        line: bytes = self._fp.readline(limit)
        self._size += len(line)
        if self._size > MAX_HEAD:
            raise OversizedMessage(f"a head of more than {MAX_HEAD} bytes")
        if b"\r" in line[:-2] or b"\0" in line:
            raise BadMessage("a control character in the head")
        self.last = line
        if line not in _BLANK:
            self.fields.append(line)
        if len(self.fields) > MAX_FIELDS:
            raise OversizedMessage(f"more than {MAX_FIELDS} header lines")
        return line

    def close(self) -> None:
        self._fp.close()


class ResponseReader(http.client.HTTPResponse):
    """
    Reads one response: `begin()` its head, then `read_piece()` its body.

    * `raw_headers`: name and value of each field line.
    * `begun_at`: when its first byte was there, by `time.perf_counter`.
    * `has_surplus`: whether bytes came after its end, so that the connection is not clean.
    """

    # There before __init__ sets it: an interrupt in between would trip the base's finalizer.
    fp: typing.Any = None
    chunk_left: int | None
    length: int | None
    chunked: bool
    will_close: bool
    _method: str | None

    def __init__(self, sock: typing.Any, *args: typing.Any, **kwargs: typing.Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.sock = sock
        self.raw_headers: list[tuple[bytes, bytes]] = []
        self.begun_at: float | None = None
        self.has_surplus: bool = False

    @property
    def has_body(self) -> bool:
        """RFC 9112, section 6.3, rules 1 and 2."""
        status = self.status
        return not (self._method == "HEAD" or status < 200 or status in (204, 304))

    def begin(self) -> None:
        if self.headers is not None:
            return
        fp = self.fp
        begun = bool(fp.peek(1))
        self.begun_at = time.perf_counter()
        self.fp = lines = typing.cast(typing.Any, _Lines(fp))
        try:
            super().begin()
        except http.client.RemoteDisconnected as exc:
            if not begun:
                raise
            raise TruncatedMessage("the connection ended after an interim response") from exc
        except ConnectionError as exc:
            raise BrokenHead(exc.errno, exc.strerror) from exc
        finally:
            if self.fp is lines:
                self.fp = fp
        if lines.last not in _BLANK:
            raise TruncatedMessage("the connection ended within the head of the response")
        self.raw_headers = _parse_fields(lines.fields)
        self._frame()

    def finish_empty(self) -> None:
        """End a response whose head says that there is no body."""
        self._close_conn()

    def close(self) -> None:
        # Given up, perhaps by the finalizer. Then what is there is not looked at: in a forked
        # child that would take bytes from the parent.
        self.will_close = True
        super().close()

    def read_piece(self, size: int) -> bytes:
        """The next bytes of the body as they come, at most `size`; none at its end."""
        if self.fp is None:
            return b""
        if self.chunked:
            return self.read1(size)
        # Not by read1(), which does not count in Python 3.10.
        data: bytes = self.fp.read1(size if self.length is None else min(size, self.length))
        if self.length is not None:
            if self.length and not data:
                raise TruncatedMessage(f"the body ended {self.length} bytes early")
            self.length -= len(data)
        if self.length == 0 or not data:
            self._close_conn()
        return data

    def _read_status(self) -> tuple[str, int, str]:
        lines = typing.cast(_Lines, self.fp)
        for _ in range(MAX_INTERIM):
            version, status, reason = super()._read_status()  # type: ignore[misc]  # not in typeshed
            lines.fields.clear()
            if status == 101 or status >= 200:
                return version, status, reason
            while (line := lines.readline(65537)) not in _BLANK:
                if not line:
                    raise TruncatedMessage("the connection ended after an interim response")
        raise OversizedMessage(f"more than {MAX_INTERIM} interim responses")

    def _frame(self) -> None:
        """Where the body ends, by RFC 9112, section 6.3, without the leniency of the base."""
        codings = self._values(b"transfer-encoding")
        lengths = set(self._values(b"content-length"))
        if not self.has_body:
            self.chunked, self.length = False, 0
            return
        if codings:
            if codings != ["chunked"]:
                raise BadMessage("a Transfer-Encoding other than chunked")
            if lengths or self.version == 10:
                # Allowed, but the work of a confused intermediary: nothing after it is trusted.
                self.will_close = True
            self.chunked, self.chunk_left, self.length = True, None, None
        elif lengths:
            length = lengths.pop()
            if lengths or not (length.isascii() and length.isdigit() and len(length) < 19):
                raise BadMessage("a Content-Length that is not one number")
            self.length = int(length)

    def _values(self, name: bytes) -> list[str]:
        return [
            item.strip().lower()
            for key, value in self.raw_headers
            if key.lower() == name
            for item in value.decode("latin-1").split(",")
        ]

    def _read_next_chunk_size(self) -> int:
        line = self.fp.readline(4096)
        match = _CHUNK_SIZE.fullmatch(line)
        if match is None:
            if not line.endswith(b"\n") and len(line) < 4096:
                raise TruncatedMessage("the connection ended between two chunks")
            raise BadMessage("a chunk without a valid size")
        return int(match[1], 16)

    def _read_and_discard_trailer(self) -> None:
        size = 0
        while (line := self.fp.readline(MAX_TRAILERS + 1)) not in _BLANK:
            if not line:
                raise TruncatedMessage("the connection ended within the trailers")
            size += len(line)
            if size > MAX_TRAILERS:
                raise OversizedMessage(f"trailers of more than {MAX_TRAILERS} bytes")

    def _safe_read(self, amt: int) -> bytes:
        data: bytes = super()._safe_read(amt)  # type: ignore[misc]  # not in typeshed
        # read1() uses it for nothing but the end of a chunk.
        if self.chunked and data != b"\r\n":
            raise BadMessage("a chunk longer than its size")
        return data

    def _close_conn(self) -> None:
        # The file object's buffer goes with it, and with that the traces of what a server
        # sent after the end of this response.
        if self.fp is not None and not self.will_close:
            with contextlib.suppress(OSError, ValueError):
                self.sock.settimeout(0)
                self.has_surplus = bool(self.fp.peek(1))
        super()._close_conn()  # type: ignore[misc]  # not in typeshed


def _parse_fields(lines: list[bytes]) -> list[tuple[bytes, bytes]]:
    fields: list[tuple[bytes, bytes]] = []
    for line in lines:
        if line[:1] in b" \t":
            # RFC 9112, section 5.2: obsolete folding is replaced with a space.
            if not fields:
                raise BadMessage("a header that begins with a space")
            name, value = fields[-1]
            fields[-1] = (name, (value + b" " + line.strip()).strip())
            continue
        name, colon, value = line.partition(b":")
        if not colon or not _NAME.fullmatch(name):
            raise BadMessage("a header line without a valid name")
        fields.append((name, value.strip()))
    return fields
