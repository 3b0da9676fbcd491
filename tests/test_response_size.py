"""What `max_response_size` does to a response, by whatever way its body is read."""

from __future__ import annotations

import gzip
import pathlib
import pickle
import tracemalloc
import typing
import zlib
from collections.abc import Callable, Iterator

import pytest

from http3_parallel.exceptions import (
    HTTPError,
    ResponseClosed,
    ResponseNotRead,
    ResponseTooLarge,
    StreamConsumed,
)
from http3_parallel.models import Headers, Request, Response
from http3_parallel.models.decoding import ACCEPT_ENCODING, decode_body
from streamed import Closing, Source

MIB = 1024 * 1024
REQUEST = Request("GET", "http://example.org/")

Read = Callable[[Response, pathlib.Path], object]

READS: dict[str, Read] = {
    "read": lambda response, _: response.read(),
    "stream": lambda response, _: list(response.stream()),
    "iter_bytes": lambda response, _: list(response.iter_bytes(3)),
    "iter_text": lambda response, _: list(response.iter_text()),
    "iter_lines": lambda response, _: list(response.iter_lines()),
    "save": lambda response, path: response.save(path / "file"),
}
READS_OF_CONTENT: dict[str, Read] = {
    **READS,
    "content": lambda response, _: response.content,
    "text": lambda response, _: response.text,
    "encoding": lambda response, _: response.encoding,
    "json": lambda response, _: response.json(),
}


def bomb(size: int, coding: str = "gzip") -> Iterator[bytes]:
    """That many bytes of zeros, without having them anywhere."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, 31 if coding == "gzip" else 15)
    for _ in range(size // MIB):
        yield compressor.compress(bytes(MIB))
    yield compressor.flush()


def limited(max_size: int, content: typing.Any, **options: typing.Any) -> Response:
    response = Response(200, content=content, request=REQUEST, **options)
    response._max_size = max_size
    return response


@pytest.mark.parametrize("coded", [False, True])
@pytest.mark.parametrize("name", READS)
def test_a_stream_that_is_too_large_fails_and_is_closed(
    tmp_path: pathlib.Path, name: str, coded: bool
) -> None:
    closing = Closing()
    content = gzip.compress(b"x" * 10) if coded else b"x" * 10
    response = limited(
        9,
        Source(content[:5], content[5:]),
        headers={"content-encoding": "gzip"} if coded else {},
        on_close=closing,
    )
    response.tag = "tag"
    with pytest.raises(ResponseTooLarge, match="max_response_size, which is 9 bytes") as caught:
        READS[name](response, tmp_path)
    assert caught.value.request is REQUEST
    assert caught.value.tag == "tag"
    assert closing.calls == 1
    assert response.is_closed
    assert list(tmp_path.iterdir()) == []
    # From now on: never a short body that looks like all of it.
    for attribute in ("content", "text"):
        with pytest.raises(ResponseNotRead):
            getattr(response, attribute)
    for read in READS.values():
        with pytest.raises((StreamConsumed, ResponseClosed)):
            read(response, tmp_path)
    assert closing.calls == 1


@pytest.mark.parametrize("coded", [False, True])
@pytest.mark.parametrize("name", READS_OF_CONTENT)
def test_content_that_is_there_fails_each_time(
    tmp_path: pathlib.Path, name: str, coded: bool
) -> None:
    content = b"1" * 10
    response = limited(
        9,
        gzip.compress(content) if coded else content,
        headers={"content-encoding": "gzip"} if coded else {},
    )
    for _ in range(2):
        with pytest.raises(ResponseTooLarge) as caught:
            READS_OF_CONTENT[name](response, tmp_path)
        assert caught.value.request is REQUEST
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("coded", [False, True])
@pytest.mark.parametrize("name", READS)
def test_exactly_the_limit_is_not_too_large(
    tmp_path: pathlib.Path, name: str, coded: bool, streamed: bool
) -> None:
    content = gzip.compress(b"1" * 10) if coded else b"1" * 10
    response = limited(
        10,
        iter([content[:5], content[5:]]) if streamed else content,
        headers={"content-encoding": "gzip"} if coded else {},
    )
    assert READS[name](response, tmp_path)
    if name == "read" or not streamed:
        assert response.content == response.read() == b"1" * 10
        assert response.json() == 1_111_111_111


def test_what_a_dispatcher_has_read_already_is_limited_too() -> None:
    response = Response(200, content=Source(b"x" * 10), request=REQUEST)
    assert response.read()
    response._max_size = 9
    for read in (lambda: response.content, lambda: list(response.stream()), response.read):
        with pytest.raises(ResponseTooLarge):
            read()
    response._max_size = 10
    assert response.content == b"x" * 10


def test_no_bytes_may_be_allowed() -> None:
    assert limited(0, iter([b"", b""])).read() == b""
    assert limited(0, b"").content == b""
    for content in b"x", iter([b"x"]):
        with pytest.raises(ResponseTooLarge):
            limited(0, content).read()
    for content in gzip.compress(b"x"), iter([gzip.compress(b"x")]):
        with pytest.raises(ResponseTooLarge):
            limited(0, content, headers={"content-encoding": "gzip"}).read()


def test_raw_bytes_are_counted_as_they_come() -> None:
    encoded = gzip.compress(b"x" * 1000)
    headers = {"content-encoding": "gzip"}
    for content in encoded, iter([encoded]):
        assert b"".join(limited(len(encoded), content, headers=headers).raw()) == encoded
    for content in encoded, iter([encoded]):
        with pytest.raises(ResponseTooLarge) as caught:
            list(limited(len(encoded) - 1, content, headers=headers).raw())
        assert caught.value.request is REQUEST


# What is announced.


@pytest.mark.parametrize("name", READS)
def test_what_is_announced_as_too_large_is_not_read(tmp_path: pathlib.Path, name: str) -> None:
    source, closing = Source(b"x" * 10), Closing()
    response = limited(9, source, headers={"content-length": "10"}, on_close=closing)
    with pytest.raises(ResponseTooLarge, match="9 bytes") as caught:
        READS[name](response, tmp_path)
    assert caught.value.request is REQUEST
    assert len(source._chunks) == 1
    assert (closing.calls, source.closed) == (1, 1)
    with pytest.raises(ResponseNotRead):
        response.content  # noqa: B018  (the access is the test)


def test_what_is_announced_under_a_coding_may_be_small() -> None:
    headers = {"content-encoding": "gzip", "content-length": "33"}
    content = gzip.compress(b"x" * 10)
    assert limited(10, iter([content]), headers=headers).read() == b"x" * 10
    with pytest.raises(ResponseTooLarge):
        next(limited(10, Source(content), headers=headers).raw())
    # One that is not known here is no coding: what comes is the body.
    with pytest.raises(ResponseTooLarge):
        limited(10, Source(), headers={**headers, "content-encoding": "other"}).read()


@pytest.mark.parametrize("length", ["10, 10", "-10", "+10", "1_0", "x", "", "٣٣", "9" * 5000])
def test_a_length_that_is_none_announces_nothing(length: str) -> None:
    headers = Headers._from_raw([(b"content-length", length.encode())])
    assert limited(9, iter([b"x"]), headers=headers).read() == b"x"


@pytest.mark.parametrize(
    ("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304), ("GET", 100)]
)
def test_the_length_of_what_is_not_sent_announces_nothing(method: str, status: int) -> None:
    response = Response(
        status,
        headers={"content-length": "1000000"},
        content=iter([]),
        request=Request(method, "http://example.org"),
    )
    response._max_size = 10
    assert response.read() == b""


# Bombs.


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("max_size", [10, 3 * MIB])
def test_a_bomb_takes_little_memory(streamed: bool, max_size: int) -> None:
    encoded = b"".join(bomb(256 * MIB))
    response = limited(
        max_size, iter([encoded]) if streamed else encoded, headers={"content-encoding": "gzip"}
    )
    tracemalloc.start()
    try:
        with pytest.raises(ResponseTooLarge):
            response.read()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < max_size + 4 * MIB


def test_no_more_than_a_piece_is_decoded_past_the_limit() -> None:
    taken = []

    def chunks() -> Iterator[bytes]:
        for chunk in bomb(64 * MIB):
            taken.append(len(chunk))
            yield chunk

    pieces = decode_body(chunks(), ["gzip"], max_size=2 * MIB)
    with pytest.raises(ResponseTooLarge):
        list(pieces)
    # A kilobyte of it is a megabyte decoded.
    assert sum(taken) < 10_000
    pieces = decode_body(iter([gzip.compress(bytes(MIB))]), ["gzip"], max_size=10)
    with pytest.raises(ResponseTooLarge):
        list(pieces)


EMPTY_MEMBER = gzip.compress(b"")


@pytest.mark.parametrize(
    ("chunk", "coding"),
    [
        (EMPTY_MEMBER * 1000, "gzip"),
        (b"\0" * 20_000, "gzip"),  # padding after a member
        (b"\n" * 20_000, "gzip"),  # and other remnants
        (b"name without end" * 1000, "gzip"),
        (b"\0\0\0\xff\xff" * 4000, "deflate"),  # blocks without content
    ],
)
def test_coded_data_that_comes_to_nothing_is_limited_too(chunk: bytes, coding: str) -> None:
    taken = 0

    def chunks() -> Iterator[bytes]:
        nonlocal taken
        if chunk.startswith(b"name"):
            yield b"\x1f\x8b\x08\x08\0\0\0\0\0\xff"  # a name follows
        elif coding == "gzip":
            yield EMPTY_MEMBER
        else:
            yield b"\x78\x9c"
        while taken < 100 * MIB:
            taken += len(chunk)
            yield chunk

    response = limited(1000, chunks(), headers={"content-encoding": coding})
    with pytest.raises(ResponseTooLarge, match="under a content coding") as caught:
        response.read()
    assert caught.value.request is REQUEST
    assert taken < MIB


def test_what_lies_between_two_codings_is_limited_too() -> None:
    # 20 MB of gzip members without content, under a gzip coding: 60 KB.
    inner = EMPTY_MEMBER * 1_000_000
    response = limited(1000, [gzip.compress(inner)], headers={"content-encoding": "gzip, gzip"})
    with pytest.raises(ResponseTooLarge, match="under a content coding"):
        response.read()


def test_coded_data_may_be_larger_than_the_body() -> None:
    # A flush after every event, as live streams have it.
    compressor = zlib.compressobj(wbits=31)
    chunks = [
        compressor.compress(b"%d\n" % number) + compressor.flush(zlib.Z_SYNC_FLUSH)
        for number in range(20_000)
    ]
    chunks.append(compressor.flush())
    content = b"".join([b"%d\n" % number for number in range(20_000)])
    assert sum(map(len, chunks)) > 1.5 * len(content)
    response = limited(len(content), iter(chunks), headers={"content-encoding": "gzip"})
    assert response.read() == content


@pytest.mark.parametrize("coding", ACCEPT_ENCODING.split(", "))
def test_every_coding_is_limited(coding: str) -> None:
    if coding in ("gzip", "deflate"):
        encoded = b"".join(bomb(8 * MIB, coding))
    elif coding == "br":
        brotli = pytest.importorskip("brotli")
        encoded = brotli.compress(bytes(8 * MIB))
    else:
        zstd = pytest.importorskip("backports.zstd")
        encoded = zstd.compress(bytes(8 * MIB))
    headers = {"content-encoding": coding}
    with pytest.raises(ResponseTooLarge):
        limited(8 * MIB - 1, iter([encoded]), headers=headers).read()
    assert len(limited(8 * MIB, iter([encoded]), headers=headers).read()) == 8 * MIB


def test_the_limit_travels_with_content_that_was_not_decoded_yet() -> None:
    response = limited(9, gzip.compress(b"x" * 10), headers={"content-encoding": "gzip"})
    again = pickle.loads(pickle.dumps(response))
    with pytest.raises(ResponseTooLarge):
        again.read()


def test_the_error_is_a_failure_of_the_request_and_tells_what_to_do() -> None:
    with pytest.raises(HTTPError) as caught:
        limited(9, iter([b"x" * 10])).read()
    assert str(caught.value) == (
        "the body is larger than max_response_size, which is 9 bytes, decoded, streamed or not: "
        "raise it if you expect so much [GET http://example.org/]"
    )
