"""HTTP/1.1 on the wire: where messages end, what is refused, and however they are cut."""

from __future__ import annotations

import http.client
import io
import ssl
import typing
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from http3_parallel.dispatch import http11
from http3_parallel.dispatch.http11 import (
    BadMessage,
    BadStatusLine,
    BrokenHead,
    Disconnected,
    FieldLines,
    OversizedMessage,
    ResponseReader,
    TruncatedMessage,
    request_line,
)


class Script:
    """A socket that gives these pieces, one with each call, and then the end; or raises them."""

    def __init__(self, pieces: Iterable[bytes | Exception]) -> None:
        self._pieces = list(pieces)
        self.calls = 0

    def recv(self, size: int) -> bytes:
        self.calls += 1
        if not self._pieces:
            return b""
        piece = self._pieces.pop(0)
        if isinstance(piece, Exception):
            raise piece
        if len(piece) > size:
            self._pieces.insert(0, piece[size:])
        return piece[:size]


class Read(typing.NamedTuple):
    status: int
    version: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    may_reuse: bool


def read(*pieces: bytes | Exception, method: str = "GET", size: int = 65536) -> Read:
    reader = ResponseReader(Script(pieces), method)
    reader.begin()
    body = []
    if (whole := reader.take_whole()) is not None:
        body.append(whole)
    while piece := reader.read_piece(size):
        assert len(piece) <= size
        body.append(piece)
    assert reader.isclosed()
    return Read(
        reader.status,
        reader.version,
        tuple(reader.raw_headers),
        b"".join(body),
        reader.may_reuse,
    )


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"

#: A whole response, the method of its request, its body, and whether its connection is clean.
COMPLETE: dict[str, tuple[bytes, str, bytes, bool]] = {
    "a length": (OK + b"Content-Length: 5\r\n\r\nhello", "GET", b"hello", True),
    "no body": (OK + b"Content-Length: 0\r\n\r\n", "GET", b"", True),
    "the same length twice": (
        OK + b"Content-Length: 5, 5\r\ncontent-length: 5\r\n\r\nhello",
        "GET",
        b"hello",
        True,
    ),
    "to the end": (OK + b"\r\nhello", "GET", b"hello", False),
    "to the end, close": (OK + b"Connection: close\r\n\r\nhello", "GET", b"hello", False),
    "a length and close": (
        OK + b"Content-Length: 5\r\nConnection: Foo, Close\r\n\r\nhello",
        "GET",
        b"hello",
        False,
    ),
    "HEAD": (OK + b"Content-Length: 5\r\n\r\n", "HEAD", b"", True),
    "HEAD, chunked": (CHUNKED, "HEAD", b"", True),
    "204": (b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", "GET", b"", True),
    "304": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", "GET", b"", True),
    "101": (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", "GET", b"", False),
    "interim": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"
        + OK
        + b"Content-Length: 5\r\n\r\nhello",
        "GET",
        b"hello",
        True,
    ),
    "chunked": (CHUNKED + b"5\r\nhello\r\n0\r\n\r\n", "GET", b"hello", True),
    "chunked, empty": (CHUNKED + b"0\r\n\r\n", "GET", b"", True),
    "several chunks": (
        CHUNKED + b"1\r\nh\r\n0003;a=b\r\nell\r\n01 \r\no\r\n00\r\n\r\n",
        "GET",
        b"hello",
        True,
    ),
    "padded sizes": (
        CHUNKED + b"5".rjust(16, b"0") + b"\r\nhello\r\n" + b"0" * 32 + b"\r\n\r\n",
        "GET",
        b"hello",
        True,
    ),
    "trailers": (CHUNKED + b"5\r\nhello\r\n0\r\nA: b\r\nC: d\r\n\r\n", "GET", b"hello", True),
    "hexadecimal": (CHUNKED + b"aB\r\n" + b"x" * 171 + b"\r\n0\r\n\r\n", "GET", b"x" * 171, True),
    "chunked and a length": (
        OK + b"Content-Length: 3\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "GET",
        b"hello",
        False,
    ),
    "surplus": (OK + b"Content-Length: 5\r\n\r\nhello, world", "GET", b"hello", False),
    "a second response": (
        OK + b"Content-Length: 0\r\n\r\n" + OK + b"Content-Length: 0\r\n\r\n",
        "GET",
        b"",
        False,
    ),
    "1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", "GET", b"hello", False),
    "1.0, kept": (
        b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: Keep-Alive\r\n\r\nhello",
        "GET",
        b"hello",
        True,
    ),
    "1.0, chunked": (
        CHUNKED.replace(b"1.1", b"1.0", 1).replace(b"OK", b"OK\r\nConnection: keep-alive", 1)
        + b"5\r\nhello\r\n0\r\n\r\n",
        "GET",
        b"hello",
        False,
    ),
    "line feeds alone": (b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", "GET", b"hello", True),
    "no reason": (b"HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello", "GET", b"hello", True),
    "an empty reason": (b"HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\nhello", "GET", b"hello", True),
    "folded": (OK + b"Content-Length:\r\n 5\r\n\r\nhello", "GET", b"hello", True),
}


@pytest.mark.parametrize("name", COMPLETE)
def test_a_message_ends_where_it_ends(name: str) -> None:
    data, method, body, may_reuse = COMPLETE[name]
    result = read(data, method=method)
    assert (result.body, result.may_reuse) == (body, may_reuse)


@pytest.mark.parametrize("name", COMPLETE)
def test_how_it_was_cut_makes_no_difference(name: str) -> None:
    data, method, body, _ = COMPLETE[name]
    whole = read(data, method=method)
    for place in range(1, len(data)):
        assert read(data[:place], data[place:], method=method).body == body, place
    single = read(*[data[place : place + 1] for place in range(len(data))], method=method, size=2)
    assert single.body == body
    assert (single.status, single.headers) == (whole.status, whole.headers)


@pytest.mark.parametrize("name", [name for name in COMPLETE if "to the end" not in name])
def test_what_is_cut_off_is_an_error_wherever_it_is(name: str) -> None:
    data, method, _, _ = COMPLETE[name]
    if name in ("surplus", "a second response"):
        return
    for place in range(len(data)):
        with pytest.raises((TruncatedMessage, Disconnected)):
            read(data[:place], method=method)


def test_nothing_is_held_back_until_more_comes() -> None:
    """As a stream of events needs it: what is there is handed out."""
    script = Script([CHUNKED + b"3\r\none\r\n", b"3\r\ntwo\r\n3", b"\r\nthree"[:5], b""])
    reader = ResponseReader(script, "GET")
    reader.begin()
    assert reader.read_piece(1000) == b"one"
    assert script.calls == 1
    assert reader.read_piece(1000) == b"two"
    assert script.calls == 2
    ended = ResponseReader(Script([CHUNKED + b"3\r\none\r\n0\r\n"]), "GET")
    ended.begin()
    assert ended.read_piece(1000) == b"one"
    assert not ended.isclosed()
    at_once = ResponseReader(Script([CHUNKED + b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"]), "GET")
    at_once.begin()
    assert at_once.read_piece(1000) == b"onetwo"
    assert at_once.isclosed()


def test_sizes_that_begin_with_a_zero_cost_no_more_than_others() -> None:
    for size in (b"1", b"0001"):
        script = Script([CHUNKED + (size + b"\r\nx\r\n") * 5_000])
        reader = ResponseReader(script, "GET")
        reader.begin()
        assert reader.read_piece(65536) == b"x" * 5_000, "all that is there, at once"


def test_the_end_of_tls_within_tls_is_an_end() -> None:
    class Ended(Script):
        def recv(self, size: int) -> bytes:
            return super().recv(size) or typing.cast(bytes, 0)

    reader = ResponseReader(Ended([OK + b"\r\nhello"]), "GET")
    reader.begin()
    assert reader.read_piece(100) == b"hello"
    assert reader.read_piece(100) == b""
    with pytest.raises(TruncatedMessage):
        ResponseReader(Ended([OK]), "GET").begin()


RAGGED = ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "EOF occurred in violation of protocol")


def test_tls_that_ends_without_a_close_notify_ends_no_body() -> None:
    with pytest.raises(TruncatedMessage, match="close_notify"):
        read(OK + b"\r\nhello", RAGGED)
    for data in (
        b"HTTP/1.1 2",
        CHUNKED + b"5\r\nhello\r\n0\r\n",
        OK + b"Content-Length: 1\r\n\r\n",
    ):
        with pytest.raises(TruncatedMessage):
            read(data, RAGGED)
    with pytest.raises(Disconnected):
        read(RAGGED)


def test_what_was_whole_before_it_is_whole() -> None:
    for data in (CHUNKED + b"5\r\nhello\r\n0\r\n\r\n", OK + b"Content-Length: 5\r\n\r\nhello"):
        assert read(data, RAGGED).body == b"hello"


REFUSED: dict[str, tuple[bytes, type[Exception]]] = {
    "another protocol": (b"SSH-2.0-OpenSSH_9.2\r\n", BadStatusLine),
    "HTTP/2": (b"HTTP/2.0 200 OK\r\n\r\n", BadMessage),
    "HTTP/0.9": (b"<html>", BadStatusLine),
    "no status": (b"HTTP/1.1 OK\r\n\r\n", BadStatusLine),
    "a long status": (b"HTTP/1.1 2000 OK\r\n\r\n", BadStatusLine),
    "a status below 100": (b"HTTP/1.1 099 OK\r\n\r\n", BadStatusLine),
    "a blank line first": (b"\r\n" + OK + b"\r\n", BadStatusLine),
    "lengths that differ": (OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n", BadMessage),
    "a list of lengths": (OK + b"Content-Length: 5, 6\r\n\r\n", BadMessage),
    "a signed length": (OK + b"Content-Length: +5\r\n\r\n", BadMessage),
    "a negative length": (OK + b"Content-Length: -5\r\n\r\n", BadMessage),
    "a length with _": (OK + b"Content-Length: 1_0\r\n\r\n", BadMessage),
    "an empty length": (OK + b"Content-Length:\r\n\r\n", BadMessage),
    "a huge length": (OK + b"Content-Length: " + b"9" * 19 + b"\r\n\r\n", BadMessage),
    "a length in other digits": (OK + b"Content-Length: \xb2\r\n\r\n", BadMessage),
    "gzip": (OK + b"Transfer-Encoding: gzip\r\n\r\n", BadMessage),
    "chunked, then gzip": (OK + b"Transfer-Encoding: chunked, gzip\r\n\r\n", BadMessage),
    "chunked twice": (OK + b"Transfer-Encoding: chunked, chunked\r\n\r\n", BadMessage),
    "a space before the colon": (OK + b"Content-Length : 5\r\n\r\n", BadMessage),
    "no colon": (OK + b"Content-Length\r\n\r\n", BadMessage),
    "no name": (OK + b": 5\r\n\r\n", BadMessage),
    "folded at once": (OK + b" X: 5\r\n\r\n", BadMessage),
    "a carriage return": (OK + b"X: a\rContent-Length: 5\r\n\r\n", BadMessage),
    "a NUL": (OK + b"X: a\0b\r\n\r\n", BadMessage),
    "a chunk of 0x5": (CHUNKED + b"0x5\r\nhello\r\n", BadMessage),
    "a chunk of +5": (CHUNKED + b"+5\r\nhello\r\n", BadMessage),
    "a chunk of -5": (CHUNKED + b"-5\r\nhello\r\n", BadMessage),
    "a chunk of 0_5": (CHUNKED + b"0_5\r\nhello\r\n", BadMessage),
    "a chunk without a size": (CHUNKED + b"\r\nhello\r\n", BadMessage),
    "a huge chunk": (CHUNKED + b"1" * 16 + b"\r\nhello\r\n", BadMessage),
    "a huge chunk, padded": (CHUNKED + b"0" * 9 + b"1" * 16 + b"\r\nhello\r\n", BadMessage),
    "padding without an end": (CHUNKED + b"0" * 5_000, OversizedMessage),
    "a long chunk": (CHUNKED + b"4\r\nhello\r\n0\r\n\r\n", BadMessage),
    "a chunk's end without a carriage return": (CHUNKED + b"5\r\nhello\n0\r\n\r\n", BadMessage),
    "many fields": (OK + b"X: y\r\n" * 101 + b"\r\n", OversizedMessage),
    "a long line": (OK + b"X: " + b"y" * 70_000, OversizedMessage),
    "a long line that ends": (OK + b"X: " + b"y" * 70_000 + b"\r\n\r\n", OversizedMessage),
    "a long status line": (b"HTTP/1.1 200 " + b"y" * 70_000, OversizedMessage),
    "a large head": (OK + (b"X: " + b"y" * 60_000 + b"\r\n") * 5, OversizedMessage),
    "interim responses": (b"HTTP/1.1 100 Continue\r\n\r\n" * 34, OversizedMessage),
    "a long chunk line": (CHUNKED + b"5;" + b"x" * 5_000, OversizedMessage),
    "large trailers": (CHUNKED + b"0\r\n" + b"X: y\r\n" * 20_000, OversizedMessage),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_leaves_room_for_two_opinions_or_is_endless_is_refused(name: str) -> None:
    data, error = REFUSED[name]
    with pytest.raises(error):
        read(data)
    if len(data) < 1000:
        with pytest.raises(error):
            read(*[data[place : place + 1] for place in range(len(data))])


EMPTY = b"Content-Length: 0\r\n\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\n"


def large_head(size: int) -> bytes:
    head = OK + (b"X: ".ljust(60_000, b"x") + b"\n") * 4
    return head + b"X: ".ljust(size - len(head) - len(EMPTY) - 1, b"x") + b"\n" + EMPTY


#: What may have so much of something and no more, and how to make one with a given measure.
LIMITED: dict[str, tuple[int, typing.Callable[[int], bytes]]] = {
    "a status line": (
        http11.MAX_LINE,
        lambda size: OK[:13].ljust(size, b"x") + b"\n" + EMPTY,
    ),
    "a field": (http11.MAX_LINE, lambda size: OK + b"X: ".ljust(size, b"x") + b"\n" + EMPTY),
    "the last field": (
        http11.MAX_LINE,
        lambda size: OK + EMPTY[:-2] + b"X: ".ljust(size, b"x") + b"\n\n",
    ),
    "a field of an interim response": (
        http11.MAX_LINE,
        lambda size: HINTS + b"X: ".ljust(size, b"x") + b"\n\n" + OK + EMPTY,
    ),
    "fields": (http11.MAX_FIELDS, lambda size: OK + b"X: y\r\n" * (size - 1) + EMPTY),
    "fields of an interim response": (
        http11.MAX_FIELDS,
        lambda size: HINTS + b"X: y\r\n" * size + b"\r\n" + OK + EMPTY,
    ),
    "a head": (http11.MAX_HEAD, large_head),
    "two heads": (http11.MAX_HEAD, lambda size: HINTS + b"\r\n" + large_head(size - 28)),
    "interim responses": (
        http11.MAX_INTERIM,
        lambda size: (HINTS + b"\r\n") * size + OK + EMPTY,
    ),
    "the line of a chunk": (
        http11.MAX_CHUNK_LINE,
        lambda size: CHUNKED + b"1;".ljust(size - 1, b"x") + b"\nx\r\n0\r\n\r\n",
    ),
    "trailers": (
        http11.MAX_TRAILERS,
        lambda size: CHUNKED + b"0\r\n" + b"X:".ljust(size - 3, b"x") + b"\n\r\n",
    ),
}


@pytest.mark.parametrize("name", LIMITED)
def test_a_limit_is_the_same_however_the_bytes_were_cut(name: str) -> None:
    limit, make = LIMITED[name]
    for size, fits in [(limit, True), (limit + 1, False)]:
        data = make(size)
        lengths = [1_000, 50_000, 65_536]
        cuts = [[data[i : i + length] for i in range(0, len(data), length)] for length in lengths]
        # Around the end of the message, and of each of its last lines.
        for place in range(len(data) - 100, len(data)):
            head = data[:place]
            cuts.append([*(head[i : i + 65_536] for i in range(0, place, 65_536)), data[place:]])
        for pieces in cuts:
            if fits:
                assert read(*pieces).may_reuse
            else:
                with pytest.raises(OversizedMessage):
                    read(*pieces)


#: Two faults, of which the second is that something is too large.
TWO_FAULTS: dict[str, bytes] = {
    "a bad line, and many": OK + b"?\r\n" + b"X: y\r\n" * 101 + b"\r\n",
    "a control, and many lines": OK + b"X: \0\r\n" + b"X: y\r\n" * 101 + b"\r\n",
    "a bad line, and a long one": OK + b"?\n" + b"X: ".ljust(70_000, b"x") + b"\n\n",
    "a control, and a long line": OK + b"X: \0\n" + b"X: ".ljust(70_000, b"x") + b"\n\n",
    "a long line, and no end": OK + b"X: ".ljust(70_000, b"x") + b"\nX: y\n",
    "a long status line, and no end": OK[:13].ljust(70_000, b"x") + b"\nX: y\n",
    "many lines, and no end": OK + b"X: y\r\n" * 102,
}


@pytest.mark.parametrize("name", TWO_FAULTS)
def test_which_of_two_faults_is_told_does_not_depend_on_the_cuts(name: str) -> None:
    data = TWO_FAULTS[name]
    for length in (100, 1_000, 40_000, 65_536, 100_000):
        with pytest.raises(OversizedMessage):
            read(*[data[i : i + length] for i in range(0, len(data), length)])


def test_it_is_refused_as_soon_as_it_can_be_told() -> None:
    for data in (b"SSH-2.0-x", b"\x15\x03\x01\x00", b"HTTP/2", b"HTTP/1.1 xyz\r\n"):
        script = Script([data, AssertionError("it waits for more")])
        with pytest.raises(BadMessage):
            ResponseReader(script, "GET").begin()


def test_trailers_never_become_header_fields() -> None:
    result = read(CHUNKED + b"1\r\nx\r\n0\r\nX-Trailer: y\r\nContent-Length: 9\r\n\r\n")
    assert result.headers == ((b"transfer-encoding", b"chunked"),)


def test_fields_are_as_they_came_but_for_case_and_the_space_around_them() -> None:
    data = OK + b"X-A:b\r\nx-a: \t c d \t\r\nEmpty:\r\n"
    data += b"Fold: a\r\n  b\r\n\tc \r\nContent-Length: 0\r\n\r\n"
    assert read(data).headers == (
        (b"x-a", b"b"),
        (b"x-a", b"c d"),
        (b"empty", b""),
        (b"fold", b"a b c"),
        (b"content-length", b"0"),
    )


@pytest.mark.parametrize("begun", [b"H", OK + b"X: y\r\n", b"HTTP/1.1 103 Early Hints\r\n\r\n"])
def test_a_reset_before_the_first_byte_is_told_from_one_after_it(begun: bytes) -> None:
    with pytest.raises(ConnectionResetError):
        read(ConnectionResetError())
    with pytest.raises(BrokenHead) as caught:
        read(begun, ConnectionResetError())
    assert not isinstance(caught.value, ConnectionError)
    with pytest.raises(Disconnected):
        read(b"")


def test_a_body_that_comes_with_its_head_takes_one_call() -> None:
    script = Script([OK + b"Content-Length: 5\r\n\r\nhello", AssertionError("one too many")])
    reader = ResponseReader(script, "GET")
    reader.begin()
    assert reader.take_whole() == b"hello"
    assert reader.may_reuse


NAMES = st.from_regex(rb"\A[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,10}\Z")
VALUES = st.binary(max_size=20).map(
    lambda value: bytes(byte for byte in value if byte >= 0x21 and byte != 0x7F)
)


class File(io.BytesIO):
    def makefile(self, mode: str) -> io.BytesIO:
        return self


@given(
    # For want of a body, http.client still looks for the chunks of it.
    status=st.integers(200, 599).filter(lambda status: status not in (204, 304)),
    fields=st.lists(st.tuples(NAMES, VALUES), max_size=8),
    chunks=st.lists(st.binary(min_size=1, max_size=40), max_size=6),
    is_chunked=st.booleans(),
    cuts=st.lists(st.integers(0, 600), max_size=6),
)
def test_what_http_client_takes_too_is_read_the_same(
    status: int,
    fields: list[tuple[bytes, bytes]],
    chunks: list[bytes],
    is_chunked: bool,
    cuts: list[int],
) -> None:
    framing = {b"content-length", b"transfer-encoding", b"connection", b"keep-alive"}
    fields = [field for field in fields if field[0].lower() not in framing]
    body = b"".join(chunks)
    head = b"HTTP/1.1 %d Reason\r\n" % status
    head += b"".join(b"%s: %s\r\n" % field for field in fields)
    if is_chunked:
        data = head + b"Transfer-Encoding: chunked\r\n\r\n"
        data += b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
        data += b"0\r\n\r\n"
    else:
        data = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    theirs = http.client.HTTPResponse(typing.cast(typing.Any, File(data)), method="GET")
    theirs.begin()
    places = sorted({cut for cut in cuts if cut < len(data)})
    pieces = [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]
    ours = read(*[piece for piece in pieces if piece])
    assert (ours.status, ours.body) == (theirs.status, theirs.read())
    assert ours.body == body
    assert ours.may_reuse
    assert ours.headers[: len(fields)] == tuple((n.lower(), v) for n, v in fields)


# The head of a request.


def head_of(method: str, target: str, fields: list[tuple[bytes, bytes]]) -> bytes:
    return request_line(method, target) + FieldLines.of(fields).data


def test_the_head_of_a_request_is_written_as_it_is() -> None:
    head = head_of("GET", "/a?b=c", [(b"host", b"example.com"), (b"x-utf", b"\xc3\xa9")])
    assert head == b"GET /a?b=c HTTP/1.1\r\nhost: example.com\r\nx-utf: \xc3\xa9\r\n\r\n"


@pytest.mark.parametrize("bad", ["\r", "\n", "\r\n", "\0"])
@pytest.mark.parametrize("where", ["method", "target", "name", "value"])
def test_no_part_of_it_makes_another_line(where: str, bad: str) -> None:
    parts = {"method": "GET", "target": "/a", "name": "x-a", "value": "b"}
    parts[where] += bad + "x"
    field = (parts["name"].encode(), parts["value"].encode())
    with pytest.raises(ValueError, match="character"):
        head_of(parts["method"], parts["target"], [field])


@pytest.mark.parametrize("target", ["", "/a b", "/ä", "/a\x7f", "/a\t"])
def test_a_target_with_what_a_url_must_escape_is_refused(target: str) -> None:
    with pytest.raises(ValueError, match="target"):
        request_line("GET", target)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([], (False, None, False, False)),
        ([(b"content-length", b"12")], (False, 12, False, False)),
        ([(b"transfer-encoding", b"gzip, chunked")], (True, None, False, False)),
        ([(b"connection", b"a"), (b"connection", b"Close, b")], (False, None, True, False)),
        ([(b"expect", b"100-Continue")], (False, None, False, True)),
    ],
)
def test_the_fields_of_a_request_say_how_it_ends(
    fields: list[tuple[bytes, bytes]], expected: tuple[object, ...]
) -> None:
    assert FieldLines.of(fields)[1:] == expected


def test_the_limits_are_those_that_the_documentation_names() -> None:
    assert (http11.MAX_HEAD, http11.MAX_FIELDS, http11.MAX_INTERIM) == (256 * 1024, 100, 32)
    assert (http11.MAX_LINE, http11.MAX_TRAILERS) == (64 * 1024, 64 * 1024)
    assert http11.MAX_CHUNK_LINE == 4096


def test_the_largest_sizes_are_taken() -> None:
    reader = ResponseReader(Script([OK + b"Content-Length: " + b"9" * 18 + b"\r\n\r\n"]), "GET")
    reader.begin()
    assert reader.length == 10**18 - 1
    with pytest.raises(TruncatedMessage):
        read(CHUNKED + b"f" * 15 + b"\r\nx")


def test_looks_at_a_head_without_an_end_come_to_one() -> None:
    reader = ResponseReader(Script([OK, *[b"x" * 60_000] * 10]), "POST")
    with pytest.raises(OversizedMessage):
        for _ in range(10):
            reader.look()


def test_a_look_takes_what_has_come_and_loses_nothing() -> None:
    answer = OK + b"Content-Length: 2\r\n\r\nok"
    pieces = [
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 x\r\n",
        b"\r\n" + answer[:20],
        answer[20:],
    ]
    reader = ResponseReader(Script(pieces), "POST")
    assert [reader.look() for _ in pieces] == [False, False, True]
    reader.begin()
    assert (reader.status, reader.take_whole()) == (200, b"ok")


def test_lines_that_may_be_secret_are_not_remembered() -> None:
    fields = [(b"X-Api-Key", b"k3y"), (b"Set-Cookie", b"s=1"), (b"Server", b"test")]
    head = b"".join(b"%s: %s\r\n" % field for field in fields)
    read(OK + head + b"Content-Length: 0\r\n\r\n")
    assert http11._known_fields[b"Server: test"] == (b"server", b"test")
    assert not any(b"k3y" in line or b"s=1" in line for line in http11._known_fields)


def test_few_lines_are_remembered_and_none_that_is_long() -> None:
    for number in range(3 * http11._MAX_KNOWN):
        read(OK + b"ETag: %d\r\nContent-Length: 0\r\n\r\n" % number)
        read(b"HTTP/1.1 200 %d\r\nContent-Length: 0\r\n\r\n" % number)
    read(OK + b"ETag: %s\r\nContent-Length: 0\r\n\r\n" % (b"x" * 1000))
    for known in (http11._known_fields, http11._known_status):
        assert 0 < len(known) <= http11._MAX_KNOWN
        assert max(map(len, known)) <= http11._LONGEST_KNOWN
