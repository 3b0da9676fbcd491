from __future__ import annotations

import gzip
import importlib
import itertools
import os
import random
import tracemalloc
import typing
import zlib
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from http3_parallel.exceptions import DecodingError
from http3_parallel.models import Headers, Request, Response, decoding
from http3_parallel.models.decoding import ACCEPT_ENCODING, decode_body, find_codings

MIB = 1024 * 1024
PLAIN = b"".join(b"%d bottles " % number for number in range(5000))


def raw_deflate(content: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(content) + compressor.flush()


def optional(module: str) -> typing.Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        return None


ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
}
if "br" in ACCEPT_ENCODING:
    brotli = optional("brotli") or optional("brotlicffi")
    ENCODERS["br"] = brotli.compress
if "zstd" in ACCEPT_ENCODING:
    zstd = optional("compression.zstd") or optional("backports.zstd") or optional("zstandard")
    ENCODERS["zstd"] = zstd.compress

CODINGS = sorted(ENCODERS)


def decode(content: bytes, *codings: str, cuts: tuple[int, ...] = ()) -> bytes:
    edges = [0, *sorted(cuts), len(content)]
    chunks = [content[start:end] for start, end in itertools.pairwise(edges)]
    return b"".join(decode_body(chunks, list(codings)))


@pytest.mark.parametrize("coding", CODINGS)
def test_each_coding_is_undone(coding: str) -> None:
    encoded = ENCODERS[coding](PLAIN)
    assert decode(encoded, coding) == PLAIN
    assert decode(encoded, coding, cuts=tuple(range(1, len(encoded)))) == PLAIN
    assert decode(ENCODERS[coding](b""), coding) == b""


def test_deflate_is_undone_with_and_without_the_zlib_format() -> None:
    for level in range(10):
        assert decode(zlib.compress(PLAIN, level), "deflate") == PLAIN
    assert decode(raw_deflate(PLAIN), "deflate") == PLAIN
    assert decode(raw_deflate(PLAIN), "deflate", cuts=(1,)) == PLAIN
    assert decode(raw_deflate(b""), "deflate") == b""


def test_all_members_of_gzip_are_decoded() -> None:
    members = [gzip.compress(part) for part in (b"one ", b"", b"two ", b"three")]
    assert decode(b"".join(members), "gzip") == b"one two three"
    # With the padding of tapes between them.
    assert decode(b"\0\0\0".join(members) + b"\0", "gzip") == b"one two three"


@pytest.mark.parametrize(
    "remnant", [b"\n", b"\x1f", b"<!-- -->", b"\x1f\x8c", b"\0\0x", b"x" * 99999]
)
def test_what_servers_append_to_gzip_is_ignored(remnant: bytes) -> None:
    encoded = gzip.compress(b"content") + remnant
    assert decode(encoded, "gzip") == b"content"
    assert decode(encoded, "gzip", cuts=tuple(range(len(encoded)))) == b"content"


def test_a_second_member_of_gzip_must_be_whole() -> None:
    with pytest.raises(DecodingError, match="ends before"):
        decode(gzip.compress(b"one") + gzip.compress(b"two")[:-1], "gzip")
    with pytest.raises(DecodingError, match="damaged"):
        decode(gzip.compress(b"one") + b"\x1f\x8b\xff\xff", "gzip")


def test_what_follows_deflate_is_ignored() -> None:
    assert decode(zlib.compress(b"content") + b"rest", "deflate") == b"content"
    assert decode(raw_deflate(b"content") + b"rest", "deflate", cuts=(9, 10)) == b"content"


@pytest.mark.parametrize("coding", [coding for coding in CODINGS if coding in ("br", "zstd")])
def test_what_follows_the_other_codings_is_damage(coding: str) -> None:
    encoded = ENCODERS[coding](b"content")
    for content, cuts in (encoded + b"rest", ()), (encoded + b"rest", (len(encoded),)):
        with pytest.raises(DecodingError):
            decode(content, coding, cuts=cuts)


@pytest.mark.skipif("zstd" not in ENCODERS, reason="needs a module for zstd")
def test_all_frames_of_zstd_are_decoded() -> None:
    encoded = ENCODERS["zstd"](b"one ") + ENCODERS["zstd"](PLAIN) + ENCODERS["zstd"](b"")
    assert decode(encoded, "zstd") == b"one " + PLAIN
    assert decode(encoded, "zstd", cuts=tuple(range(len(encoded)))) == b"one " + PLAIN


@pytest.mark.parametrize("coding", CODINGS)
def test_a_cut_body_is_a_decoding_error_wherever_it_is_cut(coding: str) -> None:
    encoded = ENCODERS[coding](b"a short text that is cut, and cut, and cut")
    for length in range(1, len(encoded)):
        with pytest.raises(DecodingError):
            decode(encoded[:length], coding)


def test_cut_raw_deflate_is_a_decoding_error() -> None:
    encoded = raw_deflate(b"a short text that is cut, and cut, and cut")
    for length in range(1, len(encoded)):
        with pytest.raises(DecodingError):
            decode(encoded[:length], "deflate")


@pytest.mark.parametrize("coding", CODINGS)
def test_a_damaged_body_is_a_decoding_error(coding: str) -> None:
    with pytest.raises(DecodingError, match="coding is damaged") as caught:
        decode(b"\xff" * 50, coding)
    assert caught.value.__cause__ is not None
    encoded = bytearray(gzip.compress(PLAIN))
    encoded[-6] ^= 1  # the checksum
    with pytest.raises(DecodingError, match="damaged"):
        decode(bytes(encoded), "gzip")


@pytest.mark.parametrize("coding", CODINGS)
def test_what_was_whole_before_the_damage_comes_first(coding: str) -> None:
    encoded = ENCODERS[coding](os.urandom(300_000))
    pieces = decode_body([encoded[:200_000]], [coding])
    assert next(pieces)
    with pytest.raises(DecodingError):
        list(pieces)


@pytest.mark.parametrize("codings", [[], ["gzip"], CODINGS, ["gzip"] * 6])
@pytest.mark.parametrize("chunks", [[], [b""], [b"", b""]])
def test_an_empty_body_is_empty_under_every_coding(codings: list[str], chunks: list[bytes]) -> None:
    assert b"".join(decode_body(chunks, codings)) == b""


def test_chains_are_undone_from_the_last() -> None:
    encoded = PLAIN
    for coding in CODINGS[:5]:
        encoded = ENCODERS[coding](encoded)
    assert decode(encoded, *CODINGS[:5]) == PLAIN
    assert decode(encoded, *CODINGS[:5], cuts=tuple(range(len(encoded)))) == PLAIN


def test_at_most_five_are_undone() -> None:
    encoded = b"content"
    for _ in range(5):
        encoded = gzip.compress(encoded)
    assert decode(encoded, *["gzip"] * 5) == b"content"
    with pytest.raises(DecodingError, match="6 content codings"):
        decode(gzip.compress(encoded), *["gzip"] * 6)


def test_errors_of_the_connection_come_through() -> None:
    def breaking() -> Iterator[bytes]:
        yield gzip.compress(PLAIN)[:100]
        raise ConnectionResetError("mine")

    with pytest.raises(ConnectionResetError, match="mine"):
        list(decode_body(breaking(), ["gzip"]))


@pytest.mark.parametrize(
    ("elements", "codings"),
    [
        ([], []),
        (["GZIP"], ["gzip"]),
        (["gzip", "identity", "deflate"], ["gzip", "deflate"]),
        (["identity"], []),
        (["x-gzip"], ["x-gzip"]),
        (["compress"], []),
        (["gzip", "unknown"], []),
        (["utf-8"], []),
    ],
)
def test_one_unknown_coding_leaves_the_body_as_it_is(
    elements: list[str], codings: list[str]
) -> None:
    assert find_codings(elements) == codings


@pytest.mark.parametrize("coding", CODINGS)
def test_a_bomb_comes_in_small_pieces(coding: str) -> None:
    encoded = ENCODERS[coding](bytes(32 * MIB))
    tracemalloc.start()
    try:
        size = 0
        for piece in decode_body([encoded], [coding]):
            assert 0 < len(piece) <= MIB
            size += len(piece)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size == 32 * MIB
    assert peak < 16 * MIB


def test_a_bomb_within_a_bomb_comes_in_small_pieces() -> None:
    encoded = gzip.compress(gzip.compress(bytes(64 * MIB)))
    assert len(encoded) < 2000
    tracemalloc.start()
    try:
        pieces = decode_body([encoded], ["gzip", "gzip"])
        sizes = [len(next(pieces)) for _ in range(40)]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert max(sizes) == MIB
    assert peak < 16 * MIB


def test_the_limit_of_a_piece_can_be_given() -> None:
    pieces = list(decode_body([gzip.compress(bytes(1000))], ["gzip"], limit=300))
    assert [len(piece) for piece in pieces] == [300, 300, 300, 100]


def test_nothing_is_read_ahead() -> None:
    taken = []

    def chunks() -> Iterator[bytes]:
        compressor = zlib.compressobj(wbits=31)
        for number in range(10):
            taken.append(number)
            yield compressor.compress(b"x" * 1000) + compressor.flush(zlib.Z_SYNC_FLUSH)
        yield compressor.flush()

    pieces = decode_body(chunks(), ["gzip"])
    assert next(pieces) == b"x" * 1000
    assert taken == [0]


def test_many_tiny_members_do_not_take_quadratic_time() -> None:
    member = gzip.compress(b"", mtime=0)
    content = member * 50_000  # 1 MB; with all of it fed at once this copies 25 GB
    assert decode(content, "gzip") == b""


# A module's own decoder is used when it is the one that is there: each is tried here.


@pytest.mark.parametrize(("name", "make"), decoding._OPTIONAL)
def test_each_optional_module_works(
    name: str,
    make: Callable[[typing.Any], typing.Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = optional(name)
    if module is None:
        pytest.skip(f"{name} is not installed")
    coding = make(module)
    monkeypatch.setitem(decoding._BY_NAME, coding.name, coding)
    for content in (b"", b"a", PLAIN, random.Random(1).randbytes(300_000), bytes(8 * MIB)):
        encoded = module.compress(content)
        assert decode(encoded, coding.name) == content
        if len(encoded) < 50_000:
            assert decode(encoded, coding.name, cuts=tuple(range(len(encoded)))) == content
        for length in {1, len(encoded) // 2, len(encoded) - 1} - {0, len(encoded)}:
            with pytest.raises(DecodingError):
                decode(encoded[:length], coding.name)
    encoded = module.compress(bytes(16 * MIB))
    assert max(map(len, decode_body([encoded], [coding.name]))) <= MIB
    if coding.name == "zstd":
        assert decode(module.compress(PLAIN) * 3, "zstd") == PLAIN * 3


def test_a_brotli_that_cannot_be_told_a_limit_is_not_used() -> None:
    class Old:
        class Decompressor:
            def process(self, data: bytes) -> bytes:
                raise AssertionError("not used")

    assert decoding._brotli_coding(Old) is None


def test_modules_are_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    def import_module(name: str) -> typing.Any:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", import_module)
    assert list(decoding._find_available()) == ["gzip", "deflate"]


def test_what_can_be_undone_is_offered() -> None:
    assert Request("GET", "http://x").headers["accept-encoding"] == ACCEPT_ENCODING
    assert ACCEPT_ENCODING.startswith("gzip, deflate")


# Through a response.


@pytest.mark.parametrize(
    "header",
    [
        [("content-encoding", "deflate, gzip")],
        [("content-encoding", "deflate"), ("content-encoding", "gzip")],
        [("Content-Encoding", " deflate ,,identity, GZIP")],
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_lists_and_repeated_headers_are_undone_from_the_last(
    header: list[tuple[str, str]], streamed: bool
) -> None:
    encoded = gzip.compress(zlib.compress(PLAIN))
    content = iter([encoded[:10], encoded[10:]]) if streamed else encoded
    response = Response(200, headers=header, content=content)
    assert response.read() == response.content == PLAIN


@pytest.mark.parametrize("value", ["compress", "gzip, sdch", "", ",", "none", "é".encode()])
@pytest.mark.parametrize("streamed", [False, True])
def test_an_unknown_coding_is_left_as_it_is(value: str | bytes, streamed: bool) -> None:
    encoded = gzip.compress(PLAIN)
    headers = Headers([("content-encoding", value)])
    response = Response(200, headers=headers, content=iter([encoded]) if streamed else encoded)
    assert response.read() == encoded


@pytest.mark.parametrize(
    ("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304), ("GET", 200)]
)
@pytest.mark.parametrize("value", ["gzip", "deflate, gzip", ", ".join(CODINGS), "unknown"])
@pytest.mark.parametrize("streamed", [False, True])
def test_an_answer_without_content_is_empty_whatever_coding_it_announces(
    method: str, status: int, value: str, streamed: bool
) -> None:
    response = Response(
        status,
        headers={"content-encoding": value, "content-length": "100"},
        content=iter([b""]) if streamed else b"",
        request=Request(method, "http://example.org"),
    )
    assert list(response.stream()) == []
    if not streamed:
        assert (response.read(), response.content, response.text) == (b"", b"", "")


def test_five_codings_are_undone_through_a_response_and_six_are_an_error() -> None:
    encoded = b"content"
    for count in range(1, 7):
        encoded = gzip.compress(encoded)
        headers = {"content-encoding": ", ".join(["gzip"] * count)}
        for content in encoded, iter([encoded]):
            response = Response(200, headers=headers, content=content)
            if count <= 5:
                assert response.read() == b"content"
            else:
                with pytest.raises(DecodingError, match="6 content codings; at most 5"):
                    response.read()


@given(
    content=st.binary(max_size=2000) | st.binary(max_size=20).map(lambda part: part * 5000),
    codings=st.lists(st.sampled_from(CODINGS), min_size=1, max_size=3),
    cuts=st.lists(st.integers(0, 3000), max_size=10),
)
@settings(max_examples=60, deadline=None)
def test_how_the_bytes_were_cut_makes_no_difference(
    content: bytes, codings: list[str], cuts: list[int]
) -> None:
    encoded = content
    for coding in codings:
        encoded = ENCODERS[coding](encoded)
    inside = tuple(cut for cut in cuts if cut < len(encoded))
    assert decode(encoded, *codings, cuts=inside) == content


@given(
    data=st.binary(max_size=100),
    start=st.sampled_from([b"", b"\x1f\x8b\x08", gzip.compress(b"x"), zlib.compress(b"x")]),
    coding=st.sampled_from(CODINGS),
    cuts=st.lists(st.integers(0, 120), max_size=5),
)
@settings(max_examples=150, deadline=None)
def test_arbitrary_bytes_give_the_same_result_however_they_are_cut(
    data: bytes, start: bytes, coding: str, cuts: list[int]
) -> None:
    encoded = start + data

    def outcome(*cuts: int) -> bytes | None:
        try:
            return decode(encoded, coding, cuts=cuts)
        except DecodingError:
            return None

    assert outcome(*[cut for cut in cuts if cut < len(encoded)]) == outcome()
