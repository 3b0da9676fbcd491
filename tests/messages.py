"""
Responses that are nearly valid, and what must hold of whoever reads them: for `test_http11_fuzz`,
and for `fuzz/wire.py`, which runs for as long as one likes.

`check` looks whether `ResponseReader`

1. reads a stream the same, or refuses it for the same reason, however it was cut on its way;
2. stops at the end of the message to the byte, and waits for nothing after it;
3. takes no beginning of a message for a whole one, unless it goes to the end of the connection,
   which with TLS must be told;
4. raises nothing but what it documents, and asks its socket once for each piece and its end;
5. agrees with h11 wherever both accept; accepts what h11 refuses only for one of the reasons in
   `MORE_TOLERANT`, and refuses what h11 and `http.client` accept, and read the same, only for
   one of those in `STRICTER`.
"""

from __future__ import annotations

import http.client
import io
import random
import re
import ssl
import typing
from collections.abc import Callable, Sequence

import h11

from http3_parallel.dispatch.http11 import (
    BadMessage,
    Disconnected,
    ResponseReader,
    TruncatedMessage,
)

__all__ = ["METHODS", "Cut", "Verdict", "check", "mutated", "nearly_valid", "random_cut", "read"]

METHODS = ("GET", "HEAD", "POST")


# How it is read.


class Pieces:
    """A socket that gives these pieces, one with each call, and then the end, once: raises it."""

    def __init__(self, pieces: Sequence[bytes], end: Callable[[], OSError] | None) -> None:
        self._pieces = [piece for piece in reversed(pieces) if piece]
        self.most_calls = len(self._pieces) + 1
        self._end = end
        self.calls = 0
        self.given = 0

    def recv(self, size: int) -> bytes:
        self.calls += 1
        assert self.calls <= self.most_calls, "it reads after the end of the connection"
        if not self._pieces:
            if self._end is not None:
                raise self._end()
            return b""
        piece = self._pieces.pop()
        if len(piece) > size:
            self._pieces.append(piece[size:])
            self.most_calls += 1
            piece = piece[:size]
        self.given += len(piece)
        return piece

    def recv_into(self, buffer: memoryview) -> int:
        piece = self.recv(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)


class Cut(typing.NamedTuple):
    """
    How a stream comes: cut at `places`, or at all if they are None; its body is read by pieces
    of these `sizes` in turn, or, as far as it has come with the head, in one step. `into` a place
    of the reader's, if its length is known. Before that, there are so many `looks` at what has
    come, or it is asked for until there is no other 100 (Continue).
    """

    places: Sequence[int] | None = ()
    sizes: Sequence[int] = (65536,)
    in_one_step: bool = True
    into: bool = False
    looks: int = 0
    asks: bool = False

    def pieces(self, data: bytes) -> list[bytes]:
        places = range(len(data)) if self.places is None else self.places
        inner = sorted({place for place in places if 0 < place < len(data)})
        return [data[a:b] for a, b in zip([0, *inner], [*inner, len(data)], strict=True)]


def random_cut(rng: random.Random, size: int) -> Cut:
    places = [rng.randrange(size + 1) for _ in range(rng.choice((0, 1, 1, 2, 4, 8)))]
    sizes = [rng.choice((1, 2, 3, 5, 100, 65536)) for _ in range(rng.choice((1, 1, 2)))]
    in_one_step, into, asks = rng.random() < 0.5, rng.random() < 0.5, rng.random() < 0.2
    return Cut(places, sizes, in_one_step, into, rng.choice((0, 0, 1, 3)), asks)


class Message(typing.NamedTuple):
    status: int
    version: int
    fields: tuple[tuple[bytes, bytes], ...]
    body: bytes
    will_close: bool


class Reading(typing.NamedTuple):
    """What `ResponseReader` made of a stream: a message, or its reason to refuse it."""

    message: Message | None
    refusal: type[Exception] | None
    #: Bytes that the socket gave, and how often it was asked.
    given: int
    calls: int
    has_surplus: bool = False
    #: Whether the end of the connection was that of the message.
    to_the_end: bool = False


#: Once a byte at a time, so that no byte is given that is not asked for.
SINGLY = Cut(places=None)


def ragged() -> OSError:
    """TLS that ends without its close_notify."""
    return ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "EOF occurred in violation of protocol")


def read(data: bytes, method: str, cut: Cut, end: Callable[[], OSError] | None = None) -> Reading:
    sock = Pieces(cut.pieces(data), end)
    reader = ResponseReader(sock, method)
    try:
        for _ in range(cut.looks):
            try:
                if reader.look():
                    break
            except (TruncatedMessage, Disconnected):
                sock.most_calls += 1
                break  # `begin` meets the end again, and says more of what had come by then
        while cut.asks and not reader.has_begun and reader.may_continue():
            pass
        reader.begin()
        to_the_end = reader.length is None and not reader.chunked
        body = _read_body(reader, cut)
    except (BadMessage, TruncatedMessage, Disconnected) as exc:
        return Reading(None, type(exc), sock.given, sock.calls)
    calls = sock.calls
    assert reader.isclosed()
    assert reader.read_piece(1) == b""
    assert sock.calls == calls, "it reads after the end of the message"
    unclean = reader.will_close or reader.has_surplus or reader.status == 101
    assert reader.may_reuse == (not unclean)
    fields = tuple(reader.raw_headers)
    message = Message(reader.status, reader.version, fields, body, reader.will_close)
    return Reading(message, None, sock.given, calls, reader.has_surplus, to_the_end)


def _read_body(reader: ResponseReader, cut: Cut) -> bytes:
    whole = reader.take_whole() if cut.in_one_step else None
    if whole is not None:
        return whole
    body: list[bytes] = []
    while True:
        size = cut.sizes[len(body) % len(cut.sizes)]
        if cut.into and reader.length and hasattr(reader, "read_into"):
            piece = _read_into(reader, min(size, reader.length))
        else:
            piece = reader.read_piece(size)
        assert len(piece) <= size
        if not piece:
            return b"".join(body)
        body.append(piece)


def _read_into(reader: typing.Any, size: int) -> bytes:
    room = bytearray(size)
    with memoryview(room) as view:
        count = reader.read_into(view)
    assert count > 0
    assert not any(room[count:]), "it wrote more than it says"
    return bytes(room[:count])


# How others read it.


class Theirs(typing.NamedTuple):
    status: int
    #: Names in lower case, and of values, which each of them folds in its own way, the words.
    #: Without those that say where the body ends, of which some keep what they made of them.
    fields: tuple[tuple[bytes, bytes], ...]
    body: bytes
    #: Where the message ends.
    end: int
    #: Whether the connection may be used again; None if it does not tell.
    may_reuse: bool | None


def _normal(fields: typing.Iterable[tuple[bytes, bytes]]) -> tuple[tuple[bytes, bytes], ...]:
    return tuple(
        (name.lower(), b" ".join(value.split()))
        for name, value in fields
        if name.lower() not in (b"content-length", b"transfer-encoding")
    )


def by_h11(data: bytes, method: str) -> Theirs | None:
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    connection.send(h11.Request(method=method, target="/", headers=[("host", "a")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    response: h11.Response | None = None
    body = b""
    ended = not data  # which it takes for the end
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError:
            return None
        if event is h11.NEED_DATA and not ended:
            ended = True
            connection.receive_data(b"")
        elif isinstance(event, h11.Response):
            response = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            assert response is not None
            fields = _normal(response.headers.raw_items())
            end = len(data) - len(connection.trailing_data[0])
            may_reuse = connection.their_state is h11.DONE
            return Theirs(response.status_code, fields, body, end, may_reuse)
        elif not isinstance(event, h11.InformationalResponse):
            return None


class _File(io.BytesIO):
    """Stands in for a socket, and for what `http.client` makes of it, whose place it keeps."""

    def makefile(self, mode: str) -> io.BytesIO:
        return self

    def close(self) -> None:
        """Not yet: its place is looked at."""


def by_http_client(data: bytes, method: str) -> Theirs | None:
    file = _File(data)
    response = http.client.HTTPResponse(typing.cast(typing.Any, file), method=method)
    try:
        response.begin()
        body = response.read()
    except (http.client.HTTPException, ValueError, OverflowError):
        return None
    fields = [
        (name.encode("latin-1"), value.encode("latin-1")) for name, value in response.msg.items()
    ]
    return Theirs(response.status, _normal(fields), body, file.tell(), None)


# What must hold.


#: What h11 and `http.client` both take, and we refuse.
STRICTER = (
    # HTTP/0.9 has no status line, and what speaks of 2.0 in one is not HTTP/2.
    re.compile(rb"(?:\A|\n)HTTP/(?!1\.)"),
    # A carriage return alone is the end of a line to some, and so what follows it a chunk's data.
    re.compile(rb"[0-9A-Fa-f][ \t]*;[^\n]*\r[^\n]"),
)

#: What h11 refuses, and we take in a message with a body; in one without, where it ends is clear.
MORE_TOLERANT = (
    # What an interim response says of a body, which it has not.
    re.compile(rb"(?is)\AHTTP/1\.[0-9] 1.*?(?:content-length|transfer-encoding).*\nHTTP/1"),
    # A length that is none beside chunked, which counts. The connection is closed after that.
    re.compile(rb"(?is)content-length.*transfer-encoding|transfer-encoding.*content-length"),
    # More space in the status line than one.
    re.compile(rb"HTTP/1\.[0-9](?:[ \t]{2}|\t| [0-9]{3}\t)"),
    # Controls that are no end of a line to anyone who reads bytes.
    re.compile(rb"[\v\f]"),
    # Space before a chunk's extension, as in the grammar of RFC 9112, section 7.1.1.
    re.compile(rb"[0-9A-Fa-f][ \t]+;"),
    # More zeros in front of a chunk's size than h11 counts digits.
    re.compile(rb"0[0-9A-Fa-f]{20}"),
    # A line feed alone after a chunk's size, as anywhere else.
    re.compile(rb"[0-9A-Fa-f][ \t]*(?:;[^\n]*[^\r\n]|;)?\n"),
    # Whatever there is for trailers: they are dropped.
    re.compile(rb"\n0+[ \t]*(?:;[^\n]*)?\r?\n(?!\r\n)"),
)


class Verdict(typing.NamedTuple):
    """Who accepted the stream."""

    ours: bool
    h11: bool
    http_client: bool


def check(data: bytes, method: str, cuts: Sequence[Cut]) -> Verdict:
    """Raises AssertionError where one of the above does not hold."""
    singly = read(data, method, SINGLY)
    if singly.message is not None:
        assert singly.message.will_close >= _ends_connection(singly.message, method), singly
    fixed = (Cut(), Cut(in_one_step=False, sizes=(1,)), Cut(in_one_step=False, into=True))
    for cut in (*fixed, *cuts):
        _check_same(data, singly, read(data, method, cut), cut)
    _check_end(data, method, singly)
    return _check_agreement(data, method, singly)


def _check_same(data: bytes, singly: Reading, other: Reading, cut: Cut) -> None:
    same = (other.message, other.refusal) == (singly.message, singly.refusal)
    assert same, f"cut as {cut}: {other}, and singly: {singly}"
    # A piece is larger than a call takes.
    largest = min(cut.sizes) if cut.into else 65536
    # Where it looked, it may meet the end twice.
    assert other.calls <= len(cut.pieces(data)) + 1 + bool(cut.looks) + other.given // largest
    if other.message is not None:
        assert other.has_surplus == (other.given > singly.given), f"cut as {cut}: {other}"


def _ends_connection(message: Message, method: str) -> bool:
    """What RFC 9112, sections 6.1 and 9.3, do not let stay open."""
    words: dict[bytes, list[bytes]] = {}
    for name, value in message.fields:
        values = [word.strip(b" \t") for word in value.lower().split(b",")]
        words.setdefault(name.lower(), []).extend(values)
    options = words.get(b"connection", [])
    if b"close" in options:
        return True
    has_body = method != "HEAD" and message.status not in (101, 204, 304)
    codings, lengths = words.get(b"transfer-encoding"), words.get(b"content-length")
    if message.version == 10:
        return (b"keep-alive" not in options and b"keep-alive" not in words) or (
            has_body and codings is not None
        )
    return has_body and (codings is None) == (lengths is None)


def _check_end(data: bytes, method: str, singly: Reading) -> None:
    cutoff = singly.given
    if singly.message is None:
        # What is refused was refused at its last byte: no beginning of it is a message.
        places = {*range(0, cutoff, max(1, cutoff // 4)), cutoff - 1} - {-1, cutoff}
    elif singly.to_the_end:
        cut = read(data, method, Cut(), ragged)
        assert cut.refusal is TruncatedMessage, f"its end is no end of TLS: {cut}"
        return
    else:
        assert singly.calls == cutoff, "it waited for something after the end"
        exact = read(data[:cutoff], method, Cut(), ragged)
        assert (exact.message, exact.has_surplus) == (singly.message, False)
        assert exact.calls == 1 + (cutoff - 1) // 65536
        places = {*range(0, cutoff, max(1, cutoff // 4)), cutoff - 1}
    for place in places:
        part = read(data[:place], method, Cut(), ragged if place % 2 else None)
        assert part.refusal in (TruncatedMessage, Disconnected), f"cut off at {place}: {part}"


def _check_agreement(data: bytes, method: str, singly: Reading) -> Verdict:
    ours, h11s, clients = singly.message, by_h11(data, method), by_http_client(data, method)
    agreed = (
        h11s is not None
        and clients is not None
        and (h11s.status, h11s.body, h11s.end) == (clients.status, clients.body, clients.end)
    )
    if ours is None:
        excused = any(pattern.search(data) for pattern in STRICTER)
        assert not agreed or excused, f"{singly.refusal} for what others take for {h11s}"
    elif h11s is None:
        bodiless = method == "HEAD" or ours.status in (101, 204, 304)
        excused = bodiless or any(pattern.search(data) for pattern in MORE_TOLERANT)
        assert excused, f"{ours}, which h11 refuses"
    else:
        mine = (ours.status, _normal(ours.fields), ours.body, singly.given)
        assert mine == h11s[:4], f"{mine}, and to h11 {h11s}"
        # h11 keeps no connection of HTTP/1.0.
        assert ours.version == 10 or ours.will_close or h11s.may_reuse is not False
    return Verdict(ours is not None, h11s is not None, clients is not None and agreed)


# What is read.


def nearly_valid(rng: random.Random, method: str) -> bytes:
    """A response as servers send it, or a little otherwise, and perhaps something after it."""
    parts = [_interim(rng) for _ in range(rng.choice((0, 0, 0, 0, 0, 1, 2)))]
    status = rng.choice((200, 200, 200, 200, 206, 301, 404, 500, 204, 304, 101, 205, 999))
    version = rng.choice(("1.1", "1.1", "1.1", "1.1", "1.0", "1.0", "1.2", "2.0", "0.9"))
    if rng.random() < 0.7:
        version = "1.1"
    reason = rng.choice((" OK", " OK", " ", "", " Not at all \xe9", " a\tb"))
    end = rng.choice((b"\r\n",) * 7 + (b"\n",))
    parts.append(f"HTTP/{version} {status}{reason}".encode("latin-1") + end)
    body = rng.randbytes(rng.choice((0, 1, 2, 5, 17, 200)))
    framing, body = rng.choice(_FRAMINGS)(rng, body)
    fields = [_field(rng) for _ in range(rng.choice((0, 1, 2, 4)))]
    if rng.random() < 0.2:
        fields.append(rng.choice(_CONNECTION))
    for field in framing:
        fields.insert(rng.randrange(len(fields) + 1), field)
    parts += [field + end for field in fields]
    parts.append(end)
    if method != "HEAD" and status not in (101, 204, 304):
        parts.append(body)
    if rng.random() < 0.2:
        parts.append(
            rng.choice((b"\r\n", b"x", b"\n", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
        )
    return b"".join(parts)


_CONNECTION = (
    b"Connection: close",
    b"Connection: Keep-Alive",
    b"connection: foo, Close",
    b"Connection: keep-alive\r\nKeep-Alive: timeout=5",
    b"Keep-Alive: timeout=5",
)


def _interim(rng: random.Random) -> bytes:
    status = rng.choice((b"100 Continue", b"100 Continue", b"102 ", b"103 Early Hints", b"199"))
    fields = rng.choice((b"", b"", b"Link: </a>; rel=preload\r\n", b"Content-Length: 5\r\n"))
    return b"HTTP/1.1 " + status + b"\r\n" + fields + b"\r\n"


def _field(rng: random.Random) -> bytes:
    name = rng.choice((b"Server", b"x-a", b"ETag", b"Set-Cookie", b"!#$%&'*+-.^_`|~", b"Date"))
    before = rng.choice((b"", b" ", b" ", b" ", b"\t", b"  \t "))
    value = rng.choice(
        (
            b"",
            b"nginx",
            b'W/"abc"',
            b"a=b; Path=/; HttpOnly",
            b"Fri, 01 Jan 2021 00:00:00 GMT",
            b"two  words\tand more",
            b"caf\xe9 \xff",
            b"a: b: c",
            b"one\r\n two",
            b"one \r\n\t  two\r\n three ",
            b"\r\n folded at once",
            b"\x01\x7f",
        )
    )
    after = rng.choice((b"", b"", b"", b" ", b" \t"))
    return name + b":" + before + value + after


_Framing = tuple[list[bytes], bytes]


def _by_length(rng: random.Random, body: bytes) -> _Framing:
    size = b"%d" % len(body)
    name = rng.choice((b"Content-Length", b"Content-Length", b"content-length", b"CONTENT-LENGTH"))
    value = rng.choice((b"%s",) * 12 + (b"0%s", b"%s, %s", b"%s,%s", b"+%s", b"%s.", b"-%s", b""))
    value = value.replace(b"%s", size)
    lines = [name + rng.choice((b": ", b": ", b": ", b":", b":\t")) + value]
    if rng.random() < 0.1:
        lines.append(b"Content-Length: " + rng.choice((size, size, b"0" + size, b"3", b"1" * 20)))
    if rng.random() < 0.05:
        body = body[:-1]
    return lines, body


def _chunked(rng: random.Random, body: bytes) -> _Framing:
    coding = rng.choice((b"chunked",) * 9 + (b"Chunked", b"gzip, chunked", b"chunked, chunked"))
    lines = [b"Transfer-Encoding: " + coding]
    if rng.random() < 0.1:
        lines.append(b"Content-Length: " + rng.choice((b"%d" % len(body), b"3")))
    parts = []
    while body:
        size = rng.randint(1, len(body))
        parts += [_chunk_size(rng, size), body[:size], _line_end(rng)]
        body = body[size:]
    parts.append(_chunk_size(rng, 0))
    parts += [
        rng.choice((b"X-T: a\r\n", b"Content-Length: 4\r\n", b"x: \r\n\ty\r\n", b"x:y\n", b"?\r\n"))
        for _ in range(rng.choice((0, 0, 0, 1, 2)))
    ]
    parts.append(_line_end(rng))
    return lines, b"".join(parts)


def _chunk_size(rng: random.Random, size: int) -> bytes:
    number = b"%x" % size
    if rng.random() < 0.25:
        number = rng.choice(
            (
                number.upper(),
                number.rjust(8, b"0"),
                number.rjust(16, b"0"),
                number + b" ",
                number + b"\t ",
                b" " + number,
                b"0x" + number,
                b"+" + number,
                b"-" + number,
                number + b"_0",
                b"",
            )
        )
    extension = rng.choice((b"",) * 8 + (b";a=b", b'; a="b;c"', b";", b" ;a", b";a\rb", b";\xff"))
    return number + extension + _line_end(rng)


def _line_end(rng: random.Random) -> bytes:
    return rng.choice((b"\r\n",) * 30 + (b"\n", b"\r", b"\r\r\n", b"", b" \r\n"))


def _to_the_end(rng: random.Random, body: bytes) -> _Framing:
    return rng.choice(([], [b"Connection: close"], [b"Transfer-Encoding: identity"])), body


_FRAMINGS: tuple[Callable[[random.Random, bytes], _Framing], ...] = (
    _by_length,
    _by_length,
    _chunked,
    _chunked,
    _to_the_end,
)

#: What is put in somewhere, or in the place of something.
_BITS = (
    *(bytes([byte]) for byte in b'\0\t\n\v\f\r \x7f\x85\xff:;,0159aAfF+-_"HTP/.'),
    b"\r\n",
    b"\n\n",
    b"\r\n\r\n",
    b"0\r\n\r\n",
    b"\r\n ",
    b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.0 200\n",
    b"f" * 15,
    b"0" * 15,
)


def mutated(rng: random.Random, data: bytes) -> bytes:
    """`data` with a small damage to its bytes, or its lines."""
    if not data:
        return rng.choice(_BITS)
    kind = rng.randrange(6)
    if kind < 3:
        place = rng.randrange(len(data) + 1)
        skipped = (0, 1, rng.randrange(8))[kind]
        bit = b"" if kind == 2 else rng.choice(_BITS)
        return data[:place] + bit + data[place + skipped :]
    if kind == 3:
        return data[: rng.randrange(len(data))]
    lines = data.splitlines(keepends=True)
    one, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    if kind == 4:
        lines.insert(other, lines[one])
    else:
        lines[one], lines[other] = lines[other], lines[one]
    return b"".join(lines)
