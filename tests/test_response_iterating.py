from __future__ import annotations

import encodings.aliases
import gc
import gzip
import itertools
import re
import threading
import tracemalloc
import typing
import weakref
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from http3_parallel.exceptions import (
    DecodingError,
    HTTPError,
    ReadError,
    ResponseClosed,
    StreamConsumed,
)
from http3_parallel.models import Request, Response
from streamed import Closing, Gated, Source

MIB = 1024 * 1024
REQUEST = Request("GET", "http://example.org/")

Pass = Callable[[Response], Iterator[typing.Any]]

PASSES: list[Pass] = [
    Response.iter_bytes,
    lambda response: response.iter_bytes(2),
    Response.iter_text,
    lambda response: response.iter_text(2),
    Response.iter_lines,
]


def cut(content: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cuts), len(content)]
    return [content[start:end] for start, end in itertools.pairwise(edges)]


def respond(
    content: bytes, *, content_type: str | None = None, cuts: list[int] | None = None
) -> Response:
    """A response that has its content, or with `cuts`, one that is streamed."""
    headers = {} if content_type is None else {"content-type": content_type}
    return Response(200, headers=headers, content=content if cuts is None else cut(content, cuts))


CUTS = st.none() | st.lists(st.integers(0, 200), max_size=10)


# Bytes.


def test_bytes_come_in_chunks_of_one_size_but_the_last() -> None:
    for cuts in None, [1, 2, 3], [5]:
        response = respond(b"abcdefgh", cuts=cuts)
        assert list(response.iter_bytes(3)) == [b"abc", b"def", b"gh"]


def test_bytes_without_a_size_come_as_they_come() -> None:
    assert list(respond(b"abcdef", cuts=[1, 4]).iter_bytes()) == [b"a", b"bcd", b"ef"]
    assert list(respond(b"abcdef").iter_bytes()) == [b"abcdef"]


@given(content=st.binary(max_size=200), cuts=CUTS, size=st.integers(1, 210))
@settings(max_examples=200, deadline=None)
def test_chunks_are_the_same_however_the_body_was_cut(
    content: bytes, cuts: list[int] | None, size: int
) -> None:
    expected = [content[start : start + size] for start in range(0, len(content), size)]
    assert list(respond(content, cuts=cuts).iter_bytes(size)) == expected


@pytest.mark.parametrize("streamed", [False, True])
def test_chunks_may_be_larger_than_pieces(streamed: bool) -> None:
    content = bytes(range(256)) * 12_000  # 3 MB
    response = Response(200, content=[content] if streamed else content)
    chunks = list(response.iter_bytes(2_000_001))
    assert [len(chunk) for chunk in chunks] == [2_000_001, len(content) - 2_000_001]
    assert b"".join(chunks) == content


def test_bytes_come_decoded() -> None:
    encoded = gzip.compress(b"abcdefgh")
    for content in encoded, [encoded[:5], encoded[5:]]:
        response = Response(200, headers={"content-encoding": "gzip"}, content=content)
        assert list(response.iter_bytes(5)) == [b"abcde", b"fgh"]


@pytest.mark.parametrize("name", ["iter_bytes", "iter_text"])
def test_a_wrong_size_is_told_at_once(name: str) -> None:
    iterate = getattr(respond(b"abc", cuts=[]), name)
    for size in (0, -1):
        with pytest.raises(ValueError, match="chunk_size must be 1 or more"):
            iterate(size)
    for wrong in ("1", 1.0, True):
        with pytest.raises(TypeError, match="chunk_size is a whole number"):
            iterate(wrong)


def test_a_stream_has_no_large_pieces_whatever_its_source_has() -> None:
    for content in bytes(3 * MIB), [bytes(3 * MIB)]:
        response = Response(200, content=content)
        assert [len(piece) for piece in response.stream()] == [MIB] * 3
    response = Response(200, content=[bytes(3 * MIB)])
    response.read()
    assert [len(piece) for piece in response.stream()] == [MIB] * 3


# Text.


@given(
    text=st.text(max_size=60),
    encoding=st.sampled_from(
        ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32", "gb18030", "utf-16-le"]
    ),
    cuts=CUTS,
)
@settings(max_examples=200, deadline=None)
def test_characters_may_be_cut_anywhere(text: str, encoding: str, cuts: list[int] | None) -> None:
    content = text.encode(encoding)
    response = respond(content, content_type=f"x; charset={encoding}", cuts=cuts)
    pieces = list(response.iter_text())
    assert "".join(pieces) == text
    assert "" not in pieces
    assert len(pieces) <= len(cuts or ()) + 2


ENCODINGS = ["ascii", "utf-8", "utf-16", "utf-16-le", "utf-32", "iso-8859-1", "cp1251", "cp1252"]
ENCODINGS += ["big5", "euc-jp", "gb18030"]


@given(
    content=st.binary(max_size=60)
    | st.text(max_size=20).map(lambda text: text.encode("euc-jp", "ignore")),
    encoding=st.sampled_from(ENCODINGS),
    cuts=CUTS,
)
@settings(max_examples=300, deadline=None)
def test_text_in_pieces_is_the_text_of_the_whole(
    content: bytes, encoding: str, cuts: list[int] | None
) -> None:
    content_type = f"text/plain; charset={encoding}"
    pieces = respond(content, content_type=content_type, cuts=cuts).iter_text()
    assert "".join(pieces) == respond(content, content_type=content_type).text


def test_text_of_whatever_encoding_never_fails_in_pieces() -> None:
    content = bytes(range(256)) * 2 + b"\\N{+-~{\x1b$B\xff"
    for name in sorted(set(encodings.aliases.aliases.values())):
        response = respond(
            content, content_type=f"text/plain; charset={name}", cuts=list(range(len(content)))
        )
        assert all(isinstance(piece, str) for piece in response.iter_text())


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_text_without_a_byte_order_mark_is_in_that_of_the_machine(encoding: str) -> None:
    content = "\N{GREEK SMALL LETTER PI}x".encode(encoding)[{"utf-16": 2, "utf-32": 4}[encoding] :]
    for cuts in None, [], [1, 2, 3, 4, 5]:
        response = respond(content, content_type=f"x; charset={encoding}", cuts=cuts)
        assert "".join(response.iter_text()) == "πx"
    for cuts in None, [], [1]:  # it ends before that can be seen
        response = respond(content[:3], content_type=f"x; charset={encoding}", cuts=cuts)
        assert "".join(response.iter_text()) == content[:3].decode(encoding, "replace")


@given(text=st.text(max_size=100), cuts=CUTS, size=st.integers(1, 110))
@settings(max_examples=100, deadline=None)
def test_text_comes_in_chunks_of_characters(text: str, cuts: list[int] | None, size: int) -> None:
    expected = [text[start : start + size] for start in range(0, len(text), size)]
    assert list(respond(text.encode(), cuts=cuts).iter_text(size)) == expected


def test_the_encoding_that_was_set_counts() -> None:
    for cuts in None, [1]:
        response = respond(b"\xe9\xe9", content_type="x; charset=utf-8", cuts=cuts)
        response.encoding = "cp1251"
        assert "".join(response.iter_text()) == "йй"


def test_kept_content_is_taken_for_what_its_text_is_taken_for() -> None:
    content = "é".encode() + b"\xe9"
    response = respond(content, content_type="text/plain")
    assert "".join(response.iter_text()) == response.text == "Ã©é"


@pytest.mark.parametrize(
    ("content_type", "default", "content", "text"),
    [
        ("text/plain", None, "né".encode(), "né"),
        ("text/plain", None, b"n\xe9\xe8", "néè"),
        ("text/plain", "cp1251", b"n\xe9\xe9", "nйй"),
        ("text/plain", "utf-16-le", b"\xff\x00", "ÿ"),
        # From the first bytes that are no UTF-8: what came before has been handed out.
        ("text/plain", None, "né".encode() + b"\xe9" + "é".encode(), "néé" + "Ã©"),
        ("application/json", None, b"n\xe9-" + "é".encode(), "n\ufffd-é"),
        (None, None, b"\xe9", "\ufffd"),
        # A character that is cut off at the end.
        ("text/plain", None, "né".encode()[:-1], "nÃ"),
        ("application/json", None, "né".encode()[:-1], "n\ufffd"),
    ],
)
def test_a_stream_without_a_charset_is_utf8_until_it_is_not(
    content_type: str | None, default: str | None, content: bytes, text: str
) -> None:
    ways: list[list[int]] = [[], list(range(len(content)))]
    for cuts in ways:
        response = respond(content, content_type=content_type, cuts=cuts)
        response._default_encoding = default
        pieces = list(response.iter_text())
        assert "".join(pieces) == text
        assert "" not in pieces


# Lines.


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", []),
        (b"a", ["a"]),
        (b"a\n", ["a"]),
        (b"\n", [""]),
        (b"\r", [""]),
        (b"\r\n", [""]),
        (b"\n\r", ["", ""]),
        (b"\n\n", ["", ""]),
        (b"a\r\nb\rc\nd", ["a", "b", "c", "d"]),
        (b"a\r\n\r\nb\r\rc\n\nd\r", ["a", "", "b", "", "c", "", "d"]),
        (b"a\r\r\n", ["a", ""]),
        (b"a\n ", ["a", " "]),
    ],
)
def test_lines_end_with_line_feed_return_or_both(content: bytes, lines: list[str]) -> None:
    assert list(respond(content).iter_lines()) == lines
    for place in range(len(content) + 1):
        assert list(respond(content, cuts=[place]).iter_lines()) == lines
    assert list(respond(content, cuts=list(range(len(content)))).iter_lines()) == lines


@given(text=st.text(alphabet="ab\r\n\u2028é", max_size=60), cuts=CUTS)
@settings(max_examples=300, deadline=None)
def test_lines_are_the_same_however_the_body_was_cut(text: str, cuts: list[int] | None) -> None:
    expected = re.split("\r\n|\r|\n", text)
    if not expected[-1]:
        del expected[-1]
    assert list(respond(text.encode(), cuts=cuts).iter_lines()) == expected


def test_nothing_else_ends_a_line() -> None:
    line = "\x0b \x0c \x1c \x1d \x1e \x85 \u2028 \u2029 \0"
    assert len(line.splitlines()) > 1
    content = f"{line}\n{line}".encode()
    for response in respond(content), respond(content, cuts=[]):
        assert list(response.iter_lines()) == [line, line]


def test_lines_of_two_byte_encodings_are_cut_after_decoding() -> None:
    # A byte that would be a line feed is half of a character.
    content = "\u0a0a\u0d0a\nx".encode("utf-16-le")
    for cuts in None, [1], [3], [5]:
        response = respond(content, content_type="text/plain; charset=utf-16-le", cuts=cuts)
        assert list(response.iter_lines()) == ["\u0a0a\u0d0a", "x"]


def test_a_character_that_is_cut_off_is_in_the_last_line() -> None:
    content = "a\né".encode()[:-1]
    for response in (
        respond(content, content_type="x; charset=utf-8"),
        respond(content, content_type="x; charset=utf-8", cuts=[3]),
        respond(content, content_type="application/json", cuts=[3]),
    ):
        assert list(response.iter_lines()) == ["a", "\ufffd"]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_a_line_does_not_wait_for_the_next(end: bytes) -> None:
    source = Source(b"one" + end, b"two" + end)
    lines = Response(200, content=source).iter_lines()
    assert next(lines) == "one"
    assert len(source._chunks) == 1
    assert list(lines) == ["two"]


def test_a_line_may_be_long_and_come_in_many_pieces() -> None:
    # With the line put together anew for each piece, this copies 50 GB.
    content: Iterator[bytes] = itertools.chain(itertools.repeat(b"x", 300_000), [b"\nend"])
    assert list(map(len, Response(200, content=content).iter_lines())) == [300_000, 3]


# One pass.


@pytest.mark.parametrize("iterate", PASSES)
def test_content_that_is_there_is_iterated_over_repeatedly(iterate: Pass) -> None:
    response = Response(200, content=Source(b"a\n", b"b\n"))
    response.read()
    first = list(iterate(response))
    assert "".join([str(item) for item in first])
    assert list(iterate(response)) == first
    assert list(iterate(Response(200))) == []


@pytest.mark.parametrize("iterate", PASSES)
def test_a_stream_is_iterated_over_once(iterate: Pass) -> None:
    closing, source = Closing(), Source(b"a\n", b"b\n")
    response = Response(200, content=source, on_close=closing, request=REQUEST)
    items = iterate(response)
    assert not response.is_stream_consumed
    next(items)
    assert response.is_stream_consumed
    assert list(items)
    assert list(items) == list(items) == []
    assert (closing.calls, source.closed) == (1, 1)
    for again in PASSES:
        with pytest.raises(StreamConsumed) as caught:
            next(again(response))
        assert caught.value.request is REQUEST


@pytest.mark.parametrize("iterate", PASSES)
def test_what_was_closed_is_not_iterated_over(iterate: Pass) -> None:
    response = Response(200, content=Source(b"a\nb"), request=REQUEST)
    items = iterate(response)
    response.close()
    with pytest.raises(ResponseClosed) as caught:
        next(items)
    assert caught.value.request is REQUEST


@pytest.mark.parametrize("iterate", PASSES)
def test_closing_the_response_ends_the_iteration(iterate: Pass) -> None:
    response = Response(200, content=Source(b"a\n", b"b\n", b"c\n"))
    items = iterate(response)
    assert next(items)
    response.close()
    with pytest.raises(ResponseClosed):
        list(items)


@pytest.mark.parametrize("iterate", PASSES)
def test_closing_the_iterator_closes_the_response(iterate: Pass) -> None:
    closing = Closing()
    response = Response(200, content=Source(b"a\nb\n", b"c\n"), on_close=closing, request=REQUEST)
    items: typing.Any = iterate(response)
    assert next(items)
    items.close()
    assert closing.calls == 1
    for _ in range(2):
        with pytest.raises(ResponseClosed) as caught:
            next(items)
        assert caught.value.request is REQUEST


def test_an_iterator_over_kept_content_can_be_closed() -> None:
    response = Response(200, content=b"a\nb\n")
    lines: typing.Any = response.iter_lines()
    assert next(lines) == "a"
    lines.close()
    with pytest.raises(ResponseClosed):
        next(lines)
    lines = response.iter_lines()
    assert list(lines) == ["a", "b"]
    lines.close()
    assert list(lines) == []


@pytest.mark.parametrize("iterate", PASSES)
@pytest.mark.parametrize("error", [ReadError("broken"), KeyError("mine"), KeyboardInterrupt()])
def test_an_iteration_that_fails_does_not_end_in_silence(
    iterate: Pass, error: BaseException
) -> None:
    closing = Closing()
    response = Response(
        200, content=Source(b"ab\nc", error, b"d\n"), on_close=closing, request=REQUEST
    )
    items = iterate(response)
    seen: list[object] = []
    with pytest.raises(type(error)) as caught:
        seen.extend(items)
    assert caught.value is error
    if isinstance(error, HTTPError):
        assert error.request is REQUEST
    assert seen
    assert "c" not in seen  # which may not be the whole line
    assert closing.calls == 1
    for _ in range(2):
        with pytest.raises(ResponseClosed):
            next(items)


def test_damage_in_kept_content_does_not_end_in_silence() -> None:
    response = Response(
        200,
        headers={"content-encoding": "gzip", "content-type": "text/plain; charset=utf-8"},
        content=gzip.compress(b"one\ntwo")[:-2],
        request=REQUEST,
    )
    lines = response.iter_lines()
    assert next(lines) == "one"
    with pytest.raises(DecodingError, match="ends before") as caught:
        next(lines)
    assert caught.value.request is REQUEST
    with pytest.raises(ResponseClosed):
        next(lines)


def test_lines_of_one_iterator_are_for_one_thread_at_a_time() -> None:
    source = Gated()
    response = Response(200, content=source, request=REQUEST)
    lines = response.iter_lines()
    rest: list[str] = []
    reader = threading.Thread(target=lambda: rest.extend(lines))
    reader.start()
    assert source.waiting.wait(30)
    for others in lines, response.iter_lines():
        with pytest.raises(StreamConsumed) as caught:
            next(others)
        assert caught.value.request is REQUEST
    source.gate.set()
    reader.join(30)
    assert rest == ["onetwo"]


@pytest.mark.parametrize("iterate", PASSES)
def test_an_iteration_keeps_the_response_alive_and_leaves_no_cycle(iterate: Pass) -> None:
    gc.disable()
    try:
        for content in Source(b"a\nb\n"), b"a\nb\n":
            response = Response(200, content=content)
            reference = weakref.ref(response)
            items = iterate(response)
            del response
            assert next(items)
            assert reference() is not None
            del items
            assert reference() is None
    finally:
        gc.enable()


# Memory.


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("iterate", "content"),
    [
        (lambda response: response.iter_bytes(2), bytes(MIB // 2)),
        (lambda response: response.iter_bytes(100_000), bytes(32 * MIB)),
        (lambda response: response.iter_text(1000), bytes(32 * MIB)),
        (Response.iter_lines, b"ab\n" * (MIB // 2)),
        (Response.iter_lines, (b"x" * 1000 + b"\n") * 32 * 1024),
    ],
)
def test_a_large_body_takes_little_memory(streamed: bool, iterate: Pass, content: bytes) -> None:
    encoded = gzip.compress(content)
    headers = {"content-encoding": "gzip", "content-type": "text/plain; charset=utf-8"}
    response = Response(200, headers=headers, content=[encoded] if streamed else encoded)
    tracemalloc.start()
    try:
        count = sum(1 for _ in iterate(response))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count
    # Several pieces of 1 MiB on their way, and what one slice of 64 KiB is made into.
    assert peak < 6 * MIB
