"""
Content codings undone (RFC 9110, section 8.4): gzip, deflate, br and zstd.

A body goes through a chain of generators, one for each coding, each of which takes from the
one before as it needs. Guarantees:

1. *No step is large.* Whatever the ratio, a piece has at most `limit` bytes, and no stage
   holds more than one: who counts them can stop a bomb early, who streams them needs little
   memory.
2. *What is cut or damaged is a* `DecodingError`, never a short body.
3. How the bytes were cut into chunks makes no difference.
4. *A limit on the body limits the work, too.* The piece that passes `max_size` is the last one
   made, and is a `ResponseTooLarge`. Coded data that comes to little or nothing (members, headers
   and padding without end) counts as well.

An empty body is empty under every coding: so it is in answers to HEAD, in 204 and in 304.
"""

from __future__ import annotations

import importlib
import typing
import zlib
from collections.abc import Callable, Iterable, Iterator

from ..exceptions import DecodingError, ResponseTooLarge

__all__ = ["ACCEPT_ENCODING", "PIECE_SIZE", "decode_body", "find_codings", "too_large"]

#: Decoded bytes of one piece, at most.
PIECE_SIZE = 1024 * 1024

#: RFC 9110 sets no limit. Nobody nests sincerely, and each coding multiplies what a bomb costs.
MOST_CODINGS = 5

# How much coded data is taken for a body of at most `max_size` decoded bytes. Encoders add some
# bytes where they flush, which is after each event of a stream: that can be most of a small one.
_CODED_PER_DECODED = 4
_CODED_ANYWAY = 64 * 1024

# What is fed to a decoder at once. zlib copies the rest of its input after every gzip member,
# so that a large chunk of tiny members would cost the square of its size.
_SLICE_SIZE = 16 * 1024


class _Codec(typing.Protocol):
    """Undoes one coding, up to its end."""

    @property
    def eof(self) -> bool:
        """Whether the coded data is complete."""

    @property
    def unused_data(self) -> bytes:
        """What was fed beyond its end."""

    def step(self, data: bytes, limit: int) -> tuple[bytes, bytes | None]:
        """
        About `limit` decoded bytes, and the data to call this with again for more of them;
        None if it needs new data.
        """


class _Zlib:
    def __init__(self, wbits: int) -> None:
        self._inflater = zlib.decompressobj(wbits)

    @property
    def eof(self) -> bool:
        return self._inflater.eof

    @property
    def unused_data(self) -> bytes:
        return self._inflater.unused_data

    def step(self, data: bytes, limit: int) -> tuple[bytes, bytes | None]:
        piece = self._inflater.decompress(data, limit)
        rest = self._inflater.unconsumed_tail
        # When the input is used up, a full piece may still not have been all of its output.
        return piece, rest if rest or len(piece) == limit else None


class _Brotli:
    unused_data = b""

    def __init__(self, decompressor: typing.Any) -> None:
        self._decompressor = decompressor

    @property
    def eof(self) -> bool:
        return bool(self._decompressor.is_finished())

    def step(self, data: bytes, limit: int) -> tuple[bytes, bytes | None]:
        piece = self._decompressor.process(data, output_buffer_limit=limit)
        # It says that it can accept more also where it still has output.
        more = piece or not self._decompressor.can_accept_more_data()
        return piece, b"" if more and not self.eof else None


class _Zstd:
    """For the decompressor of the standard library, of Python 3.14 and later."""

    def __init__(self, decompressor: typing.Any) -> None:
        self._decompressor = decompressor

    @property
    def eof(self) -> bool:
        return bool(self._decompressor.eof)

    @property
    def unused_data(self) -> bytes:
        return bytes(self._decompressor.unused_data)

    def step(self, data: bytes, limit: int) -> tuple[bytes, bytes | None]:
        piece = self._decompressor.decompress(data, limit)
        done = self._decompressor.needs_input or self._decompressor.eof
        return piece, None if done else b""


class _Zstandard:
    """For the package of that name, which cannot be told a limit."""

    # A block of 4 bytes can make 128 KiB (RFC 8878, section 3.1.1.2): 2 MiB a step.
    _STEP = 64

    def __init__(self, decompressor: typing.Any) -> None:
        self._decompressor = decompressor
        self.unused_data = b""

    @property
    def eof(self) -> bool:
        return bool(self._decompressor.eof)

    def step(self, data: bytes, limit: int) -> tuple[bytes, bytes | None]:
        piece = self._decompressor.decompress(data[: self._STEP])
        rest = data[self._STEP :]
        if self._decompressor.eof:
            self.unused_data = self._decompressor.unused_data + rest
            return piece, None
        return piece, rest or None


class _Ignoring:
    """What follows a complete body and is not part of it."""

    eof = False
    unused_data = b""

    def step(self, data: bytes, limit: int) -> tuple[bytes, bytes | None]:
        return b"", None


_IGNORING = _Ignoring()

# What stands at the start of a coded member goes in, and whether it is the first one. The
# codec to use comes out, or None if there is too little to tell, and what to feed it.
_Begin = Callable[[bytes, bool], tuple[typing.Optional[_Codec], bytes]]


class _Coding(typing.NamedTuple):
    name: str
    begin: _Begin
    error: type[Exception]


def _begin_gzip(head: bytes, first: bool) -> tuple[_Codec | None, bytes]:
    if first:
        return _Zlib(16 + zlib.MAX_WBITS), head
    # RFC 1952, section 2.2: members follow each other. Padding and other remnants that some
    # servers append do not start as one.
    head = head.lstrip(b"\0")
    if len(head) < 2:
        return None, head
    return (_Zlib(16 + zlib.MAX_WBITS) if head.startswith(b"\x1f\x8b") else _IGNORING), head


def _begin_deflate(head: bytes, first: bool) -> tuple[_Codec | None, bytes]:
    if not first:
        return _IGNORING, head
    if len(head) < 2:
        return None, head
    # RFC 9110, section 8.4.1.2 means the zlib format (RFC 1950, section 2.2), but some send
    # bare deflate data. No deflate encoder sets the bits that would make it look like zlib's.
    is_zlib = head[0] & 0x0F == 8 and head[0] >> 4 <= 7 and (head[0] << 8 | head[1]) % 31 == 0
    return _Zlib(zlib.MAX_WBITS if is_zlib else -zlib.MAX_WBITS), head


def _brotli_coding(module: typing.Any) -> _Coding | None:
    def begin(head: bytes, first: bool) -> tuple[_Codec | None, bytes]:
        if not first:
            raise DecodingError("the body goes on after the end of its br coding")
        return _Brotli(module.Decompressor()), head

    # Releases before 1.2 would decode a bomb in one step.
    if not hasattr(module.Decompressor, "can_accept_more_data"):
        return None
    return _Coding("br", begin, module.error)


# RFC 9659, section 3: 8 MiB.
_ZSTD_WINDOW_LOG = 23


def _zstd_coding(module: typing.Any) -> _Coding:
    options = {module.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}

    def begin(head: bytes, first: bool) -> tuple[_Codec | None, bytes]:
        return _Zstd(module.ZstdDecompressor(options=options)), head

    return _Coding("zstd", begin, module.ZstdError)


def _zstandard_coding(module: typing.Any) -> _Coding:
    def begin(head: bytes, first: bool) -> tuple[_Codec | None, bytes]:
        decompressor = module.ZstdDecompressor(max_window_size=1 << _ZSTD_WINDOW_LOG)
        return _Zstandard(decompressor.decompressobj()), head

    return _Coding("zstd", begin, module.ZstdError)


# The first of each that can be imported is used.
_OPTIONAL: tuple[tuple[str, Callable[[typing.Any], _Coding | None]], ...] = (
    ("brotli", _brotli_coding),
    ("brotlicffi", _brotli_coding),
    ("compression.zstd", _zstd_coding),
    ("backports.zstd", _zstd_coding),
    ("zstandard", _zstandard_coding),
)


def _find_available() -> dict[str, _Coding]:
    available = {
        "gzip": _Coding("gzip", _begin_gzip, zlib.error),
        "deflate": _Coding("deflate", _begin_deflate, zlib.error),
    }
    for module_name, make in _OPTIONAL:
        try:
            coding = make(importlib.import_module(module_name))
        except ImportError:
            continue
        if coding is not None:
            available.setdefault(coding.name, coding)
    return available


_AVAILABLE = _find_available()

#: The value of ``Accept-Encoding``: what can be undone here.
ACCEPT_ENCODING = ", ".join(_AVAILABLE)

_BY_NAME = {**_AVAILABLE, "x-gzip": _AVAILABLE["gzip"]}  # RFC 9110, section 8.4.1.3


def find_codings(content_encoding: Iterable[str]) -> list[str]:
    """
    The codings to undo, in the order in which they were applied.

    `content_encoding` has the elements of the header. If one of them is not known here, the
    body is left as it is: none.
    """
    names = [name.lower() for name in content_encoding]
    names = [name for name in names if name != "identity"]
    return names if all(name in _BY_NAME for name in names) else []


def too_large(max_size: int) -> ResponseTooLarge:
    return ResponseTooLarge(
        f"the body is larger than max_response_size, which is {max_size} bytes, decoded, streamed "
        "or not: raise it if you expect so much"
    )


def decode_body(
    chunks: Iterable[bytes],
    codings: list[str],
    limit: int = PIECE_SIZE,
    *,
    max_size: int | None = None,
) -> Iterator[bytes]:
    """
    Undo `codings`, the last one first. Pieces have between 1 and `limit` bytes.

    `DecodingError` is raised for damaged or cut data, `ResponseTooLarge` for more than `max_size`
    decoded bytes. What `chunks` raises comes through.
    """
    pieces = iter(chunks)
    if len(codings) > MOST_CODINGS:
        return _refuse(pieces, len(codings))
    if max_size is not None:
        limit = min(limit, max_size + 1)
    for place, name in reversed(list(enumerate(codings))):
        if max_size is not None:
            pieces = _count_coded(pieces, max_size)
        # Small pieces between two stages would only be slow.
        pieces = _undo(pieces, _BY_NAME[name], PIECE_SIZE if place else limit)
    if not codings:
        pieces = _cut(pieces, limit)
    return pieces if max_size is None else _count(pieces, max_size)


def _cut(chunks: Iterator[bytes], limit: int) -> Iterator[bytes]:
    for chunk in chunks:
        if len(chunk) > limit:
            for offset in range(0, len(chunk), limit):
                yield chunk[offset : offset + limit]
        elif chunk:
            yield chunk


def _count(pieces: Iterator[bytes], max_size: int) -> Iterator[bytes]:
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > max_size:
            raise too_large(max_size)
        yield piece


def _count_coded(chunks: Iterator[bytes], max_size: int) -> Iterator[bytes]:
    most = max_size * _CODED_PER_DECODED + _CODED_ANYWAY
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > most:
            raise ResponseTooLarge(
                f"the body has more than {most} bytes under a content coding, which is too much "
                f"for a max_response_size of {max_size} bytes decoded: raise it if that is right"
            )
        yield chunk


def _refuse(chunks: Iterator[bytes], count: int) -> Iterator[bytes]:
    for chunk in chunks:
        if chunk:
            raise DecodingError(
                f"the body has {count} content codings; at most {MOST_CODINGS} are undone"
            )
    yield from ()


def _undo(chunks: Iterator[bytes], coding: _Coding, limit: int) -> Iterator[bytes]:
    codec: _Codec | None = None  # of the member at hand
    head = b""  # of a member, as long as it is too short to tell what it is
    first = True
    for chunk in chunks:
        for start in range(0, len(chunk), _SLICE_SIZE):
            data = head + chunk[start : start + _SLICE_SIZE]
            head = b""
            while data:
                if codec is None:
                    codec, data = coding.begin(data, first)
                    if codec is None:
                        head = data
                        break
                    first = False
                rest: bytes | None = data
                while rest is not None:
                    try:
                        piece, rest = codec.step(rest, limit)
                    except coding.error as error:
                        raise DecodingError(
                            f"the body's {coding.name} coding is damaged: {error}"
                        ) from error
                    for offset in range(0, len(piece), limit):
                        yield piece[offset : offset + limit]
                data = b""
                if codec.eof:
                    data = codec.unused_data
                    codec = None
    if (codec is not None and codec is not _IGNORING) or (first and head):
        raise DecodingError(f"the body ends before its {coding.name} coding does")
