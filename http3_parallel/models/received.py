"""
The body of a response: kept or still to be read, decoded, as text and as JSON.

It is in one of three places, and `ReceivedBody` knows which: in `_content`, decoded; in `_raw`,
as it came; or in `_stream`, on its way. All reading goes through `_decoded` or `Pieces`, where
`_max_size` is kept: nothing is decoded past it.
"""

from __future__ import annotations

import io
import json as jsonlib
import os
import pathlib
import typing
from collections.abc import Callable, Generator, Iterable, Iterator

from ..config import check_count
from ..exceptions import (
    DecodingError,
    HTTPError,
    ResponseClosed,
    ResponseNotRead,
    StreamConsumed,
)
from .charsets import find_charset, is_charset
from .decoding import decode_body, find_codings, too_large
from .headers import Headers, HeaderTypes
from .passes import Chained, Chunks, Lines, Pieces, Stage, StagedPass, Text
from .requests import Request
from .saving import save_pieces
from .streams import ResponseStream

__all__ = ["ReadableBody", "ReceivedBody", "ResponseContent"]

ResponseContent = typing.Union[bytes, Iterable[bytes]]

_Error = typing.TypeVar("_Error", bound=HTTPError)
_Item = typing.TypeVar("_Item")

# RFC 9110, section 6.4.1: whatever their Content-Length says.
_WITHOUT_CONTENT = frozenset({204, 304, *range(100, 200)})


class ReceivedBody:
    """What a `Response` is as far as its body goes, and of its head what reading that takes."""

    __slots__ = (
        "_content",
        "_default_encoding",
        "_encoding",
        "_is_bare",
        "_max_size",
        "_raw",
        "_stream",
        "_text",
        "headers",
        "request",
        "status_code",
        "tag",
    )

    status_code: int
    headers: Headers
    #: None only for a response that was made by hand without one. Typed, like `url`, for the
    #: responses that clients deliver.
    request: Request
    tag: typing.Any
    # The body decoded, and as it came. One of them is there unless it is in the stream.
    _content: bytes | None
    _raw: bytes | None
    _stream: ResponseStream | None
    _text: str | None
    _encoding: str | None
    _default_encoding: str | None
    #: `max_response_size` of the client.
    _max_size: int | None
    #: Whether it is known to have neither a Set-Cookie nor a Content-Encoding.
    _is_bare: bool

    def __init__(
        self,
        status_code: int,
        headers: HeaderTypes | None,
        content: ResponseContent | None,
        request: Request | None,
    ) -> None:
        if not isinstance(status_code, int):
            raise TypeError(f"a status code is an int, not {type(status_code).__name__}")
        self.status_code = status_code
        self.headers = headers if isinstance(headers, Headers) else Headers(headers)
        self.request = typing.cast(Request, request)
        self.tag = None
        self._content = self._raw = self._stream = self._max_size = None
        self._text = self._encoding = self._default_encoding = None
        self._is_bare = False
        if isinstance(content, bytes):
            self._raw = content
        elif content is None:
            self._raw = b""
        elif isinstance(content, (bytearray, memoryview)):
            self._raw = bytes(content)
        else:
            self._stream = ResponseStream(content)

    def _add_on_close(self, callback: Callable[[], object]) -> None:
        """Call it once, when the body's end was reached or it was given up."""
        if self._stream is None:
            callback()
        else:
            self._stream.on_close(callback)

    def _watch(self, seen: typing.Any) -> None:
        """Have it noted as `seen.failure` what breaks the body, if it is still to come."""
        if self._stream is not None:
            self._stream.seen = seen

    def _meter(self, meter: typing.Any) -> None:
        """Have what has come of the body counted in `meter.received`, and what comes."""
        if self._raw is not None:
            meter.received += len(self._raw)
        elif self._stream is not None:
            self._stream.meter = meter

    def _limit(self, seconds: float) -> None:
        """Do not wait longer than that for the next bytes of the body."""
        if self._stream is not None:
            self._stream.limit(seconds)

    def _drop(self) -> None:
        """Do not keep a body that has come with the head, and that nobody wants."""
        if self._raw and self._content is None:
            self._raw = None

    @property
    def is_closed(self) -> bool:
        """Whether the connection is no longer needed: all is here, or given up."""
        return self._stream is None or self._stream.closed

    @property
    def is_stream_consumed(self) -> bool:
        """Whether the body can no longer be streamed as it comes."""
        return self._stream is None or self._stream.begun

    # Bytes.

    @property
    def content(self) -> bytes:
        """
        The body, decoded. Of one that is streamed, `ResponseNotRead` before `read()`;
        `DecodingError` if its Content-Encoding is damaged, `ResponseTooLarge` if it is larger
        than the client's `max_response_size`.
        """
        # In this order: another thread may be decoding it, and drops `_raw` at last.
        raw, content = self._raw, self._content
        if content is None:
            if raw is None:
                raise self._about(self._not_read())
            codings = self._codings()
            content = b"".join(self._decoded(raw, codings)) if codings else raw
        if self._max_size is not None and len(content) > self._max_size:
            raise self._about(too_large(self._max_size))
        self._content = content
        if content is not raw:
            self._raw = None
        return content

    def _unread(self) -> ResponseStream | None:
        """For `read`: where the body is; None if all of it is here."""
        stream = self._stream
        if self._raw is not None or self._content is not None:
            return None
        if stream is None:
            raise self._about(ResponseClosed("the response was closed before its body was read"))
        return stream

    def _not_read(self) -> ResponseNotRead:
        stream = self._stream
        if stream is None or (stream.closed and not stream.begun):
            return ResponseNotRead("the response was closed before it was read")
        if stream.begun:
            return ResponseNotRead("the body was iterated over, and was not kept")
        return ResponseNotRead("the body is streamed: read() it first")

    # Text.

    @property
    def charset_encoding(self) -> str | None:
        """The charset of the Content-Type, if it is one that Python knows."""
        content_type = self.headers.get("content-type")
        return None if content_type is None else find_charset(content_type)

    @property
    def apparent_encoding(self) -> str:
        """What the text is taken for where no charset is declared."""
        try:
            self.content.decode("utf-8")
        except UnicodeDecodeError:
            return self._fallback_encoding()
        return "utf-8"

    @property
    def encoding(self) -> str:
        """
        Of the text: as set; else the declared charset; else UTF-8 if the content decodes as
        that; else the client's `default_encoding`; else ISO-8859-1 for ``text/*``; else UTF-8.
        None sets it back to that; a ValueError is raised for what Python does not know.
        """
        return self._encoding or self.charset_encoding or self.apparent_encoding

    @encoding.setter
    def encoding(self, encoding: str | None) -> None:
        if encoding is not None and not is_charset(encoding):
            raise ValueError(f"Python knows no text encoding {encoding!r}")
        self._encoding = encoding
        self._text = None

    @property
    def text(self) -> str:
        """The content decoded by `encoding`; what does not decode becomes U+FFFD."""
        if self._text is None:
            content = self.content
            encoding = self._encoding or self.charset_encoding
            if encoding is None:
                try:
                    self._text = content.decode("utf-8")
                    return self._text
                except UnicodeDecodeError:
                    encoding = self._fallback_encoding()
            self._text = content.decode(encoding, "replace")
        return self._text

    def _fallback_encoding(self) -> str:
        if self._default_encoding is not None:
            return self._default_encoding
        content_type = self.headers.get("content-type", "")
        return "iso-8859-1" if content_type.strip().lower().startswith("text/") else "utf-8"

    def json(self, **kwargs: typing.Any) -> typing.Any:
        """
        The content as JSON, in UTF-8, UTF-16 or UTF-32, with or without a byte order mark.

        Takes the arguments of `json.loads`. What is no JSON, or nested too deeply, is a
        `DecodingError`, which is a ValueError.
        """
        content = self.content
        try:
            return jsonlib.loads(content, **kwargs)
        except RecursionError as error:
            raise self._about(DecodingError("the body is JSON nested too deeply")) from error
        except ValueError as error:
            what = f"is not valid JSON: {error}" if content else "is empty, which is not JSON"
            raise self._about(DecodingError(f"the body {what}")) from error

    # How it is read.

    def _about(self, error: _Error) -> _Error:
        """`error`, with what it is about."""
        if error.request is None:
            error.request = self.request
        if error.tag is None:
            error.tag = self.tag
        return error

    def _codings(self) -> list[str]:
        if not self.headers._has(b"content-encoding"):
            return []
        return find_codings(self.headers.getlist("content-encoding", split_commas=True))

    @property
    def _is_plain(self) -> bool:
        """Whether its content is here as it is: nothing to decode, nothing to refuse."""
        return (
            self._raw is not None
            and self._max_size is None
            and (self._is_bare or not self.headers._has(b"content-encoding"))
        )

    def _decoded(self, raw: bytes, codings: list[str]) -> Generator[bytes, None, None]:
        try:
            yield from decode_body((raw,), codings, max_size=self._max_size)
        except HTTPError as error:
            self._about(error)
            raise

    def _begin(self, stream: ResponseStream, decoded: bool) -> None:
        codings = self._codings() if decoded else []
        max_size = self._max_size
        size = None if max_size is None or codings else self._declared_size()
        stream.begin(codings, max_size, size)

    def _declared_size(self) -> int | None:
        """Bytes that the body will have as it comes, if that is known."""
        if self.status_code in _WITHOUT_CONTENT or (
            self.request is not None and self.request.method == "HEAD"
        ):
            return None
        length = self.headers.get("content-length", "")
        return int(length) if length.isdecimal() and length.isascii() and len(length) < 20 else None


def _joined(pieces: Iterator[bytes]) -> bytes:
    """With one copy in memory, where ``b"".join`` has two at last."""
    first = next(pieces, b"")
    whole = io.BytesIO()
    for piece in pieces:
        if first:
            whole.write(first)
            first = b""
        whole.write(piece)
    return whole.getvalue() if whole.tell() else first


class ReadableBody(ReceivedBody):
    """The ways to read it, for a thread that waits for its bytes."""

    __slots__ = ()

    def close(self) -> None:
        """Give up what was not read of the body. May be repeated, and come from any thread."""
        if self._stream is not None:
            self._stream.close()

    def read(self) -> bytes:
        """
        The whole body, kept as `content`.

        `StreamConsumed` if it was streamed before, `ResponseClosed` if it was given up,
        `ResponseTooLarge` as soon as the client's `max_response_size` is passed, and whatever
        breaks the connection or its Content-Encoding.
        """
        stream = self._unread()
        if stream is None:
            return self.content
        content = None
        if not self._codings():
            try:
                content = stream.read_whole(self._max_size, self._declared_size())
            except HTTPError as error:
                self._about(error)
                raise
        if content is None:
            content = _joined(Pieces(self, stream, decoded=True))
        self._content = content
        self._stream = None
        return content

    def stream(self) -> Iterator[bytes]:
        """
        The body, decoded, in pieces of at most 1 MiB, as they come. Not kept: the second time
        it is `StreamConsumed`, unless `content` is there. Raises as `read` does, when the first
        piece is asked for or later.
        """
        return self._pass()

    def raw(self) -> Iterator[bytes]:
        """
        The same, under its Content-Encoding as it came, and with those bytes counted for
        `max_response_size`. `StreamConsumed` after `read`.
        """
        if self._raw is not None:
            return self._decoded(self._raw, [])
        return self._from_stream(decoded=False)

    def iter_bytes(self, chunk_size: int | None = None) -> Iterator[bytes]:
        """
        The body as `stream` has it, in chunks of exactly `chunk_size` bytes but for the last;
        None is as they come.
        """
        if check_count("chunk_size", chunk_size, 1) is None:
            return self.stream()
        return self._staged(Chunks[bytes](typing.cast(int, chunk_size)))

    def save(self, path: str | os.PathLike[str]) -> pathlib.Path:
        """
        Write the body, decoded, to a file at `path`, piece by piece as it comes. Returns the
        path. The body of any status is saved: ``response.raise_for_status().save(path)``.

        A file at `path` is replaced at once when all is there. If anything fails before that,
        or an interrupt comes, it stays as it was, and nothing is left behind: the bytes go to a
        file of their own in the same directory until then. Symbolic links are followed. The new
        file has the permissions of the one it replaces, else those that `open` would give it;
        other links to the old file keep the old content. Nothing is synced to the disk.

        Raises as `read` does, and `OSError`: before the body is touched, if `path` is a
        directory or anything else but a file, or cannot be written; while it comes, if the disk
        is full. Then what is left of the body is given up. Like `stream`, it does not keep what
        it reads, and can be called again only if `content` is there.
        """
        pieces = self._pass()
        try:
            return save_pieces(path, pieces)
        except BaseException:
            pieces.close()  # only what was begun
            raise

    def iter_text(self, chunk_size: int | None = None) -> Iterator[str]:
        """
        The text in pieces as they come, or of exactly `chunk_size` characters but for the last.
        Raises as `stream` does.

        The encoding is that of `encoding`. Only where none is set or declared, a body that is
        streamed cannot be looked at first: it is taken for UTF-8 until bytes come that are none,
        and from there on for what `encoding` would fall back to.
        """
        if check_count("chunk_size", chunk_size, 1) is None:
            return self._staged(self._text_stage())
        return self._staged(Chained(self._text_stage(), Chunks[str](typing.cast(int, chunk_size))))

    def iter_lines(self) -> Iterator[str]:
        r"""
        The lines of the text without their ends, decoded as in `iter_text`. Raises as `stream`
        does.

        A line ends with ``\n``, ``\r\n`` or ``\r``, and with nothing else: the characters that
        `str.splitlines` takes for ends, too, may stand unescaped within a line of JSON. Without
        `max_response_size`, a line may be as long as the server likes.
        """
        return self._staged(Chained(self._text_stage(), Lines()))

    def _text_stage(self) -> Text:
        streamed = self._content is None and self._raw is None
        encoding = self._encoding or self.charset_encoding
        if encoding is None and not streamed:
            encoding = self.apparent_encoding
        return Text(encoding, self._fallback_encoding())

    def _pass(self) -> Generator[bytes, None, None] | Pieces:
        if self._content is not None:
            return self._decoded(self._content, [])
        if self._raw is not None:
            return self._decoded(self._raw, self._codings())
        return self._from_stream(decoded=True)

    def _from_stream(self, decoded: bool) -> Pieces:
        if self._stream is None:
            raise self._about(StreamConsumed("the body was read before, and not kept as it came"))
        return Pieces(self, self._stream, decoded)

    def _staged(self, stage: Stage[bytes, _Item]) -> Iterator[_Item]:
        return StagedPass(self, self._pass(), stage)
