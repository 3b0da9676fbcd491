"""What comes back."""

from __future__ import annotations

import datetime
import json as jsonlib
import types
import typing
from collections.abc import Callable, Iterable, Iterator

from ..exceptions import (
    DecodingError,
    HTTPError,
    HTTPStatusError,
    ResponseClosed,
    ResponseNotRead,
    StreamConsumed,
)
from .charsets import find_charset, is_charset
from .decoding import decode_body, find_codings
from .headers import Headers, HeaderTypes
from .requests import Request
from .status_codes import StatusCode
from .streams import ResponseStream
from .urls import URL

__all__ = ["Response", "ResponseContent"]

ResponseContent = typing.Union[bytes, Iterable[bytes]]

_Error = typing.TypeVar("_Error", bound=HTTPError)

# What pickles; the body's stream and the client's callback do not.
_STATE = (
    "status_code",
    "protocol",
    "headers",
    "history",
    "tag",
    "elapsed",
    "_content",
    "_raw",
    "_encoding",
    "_default_encoding",
)


class Response:
    """
    A response: its head, and a body that is here or still to be read.

    * `content`: the body as it came, still under its Content-Encoding: bytes, or an iterable
      of bytes that is read when asked for. If it has a `close()`, that is called in the end;
      if it has a `wake()`, that is called where another thread closes the response meanwhile;
      if it has a `limit(seconds)`, it is told there how long it may wait for its next bytes.
    * `on_close`: called once, when the body's end was reached or it was given up.
    * `request`: the request that this answers; `url` is its URL.
    * `history`: the responses that led here, oldest first.

    Besides these: `tag`, any object of the user's, and `elapsed`, the `datetime.timedelta` that
    the request took in all, redirects, retries and, unless it is streamed, the body included;
    None where no client measured it.

    A body is read by one thread, once; `read()` keeps it. A `with` block closes the response.
    """

    __slots__ = (
        "__weakref__",
        "_content",
        "_default_encoding",
        "_encoding",
        "_follow",
        "_raw",
        "_stream",
        "_text",
        "elapsed",
        "headers",
        "history",
        "protocol",
        "request",
        "status_code",
        "tag",
    )

    status_code: int
    protocol: str | None
    headers: Headers
    request: Request | None
    history: list[Response]
    tag: typing.Any
    elapsed: datetime.timedelta | None
    # The body decoded, and as it came. One of them is there unless it is in the stream.
    _content: bytes | None
    _raw: bytes | None
    _stream: ResponseStream | None
    _text: str | None
    _encoding: str | None
    _default_encoding: str | None
    _follow: Callable[[Response], Response] | None

    def __init__(
        self,
        status_code: int,
        *,
        protocol: str | None = None,
        headers: HeaderTypes | None = None,
        content: ResponseContent | None = None,
        on_close: Callable[[], object] | None = None,
        request: Request | None = None,
        history: list[Response] | None = None,
    ) -> None:
        self.status_code = status_code
        self.protocol = protocol
        self.headers = headers if isinstance(headers, Headers) else Headers(headers)
        self.request = request
        self.history = [] if history is None else history
        self.tag = self.elapsed = self._follow = None
        self._content = self._raw = self._stream = None
        self._text = self._encoding = self._default_encoding = None
        if isinstance(content, bytes):
            self._raw = content
        elif content is None:
            self._raw = b""
        elif isinstance(content, (bytearray, memoryview)):
            self._raw = bytes(content)
        else:
            self._stream = ResponseStream(content)
        if on_close is not None:
            self._add_on_close(on_close)

    def _add_on_close(self, callback: Callable[[], object]) -> None:
        """Call it once, when the body's end was reached or it was given up."""
        if self._stream is None:
            callback()
        else:
            self._stream.on_close(callback)

    def _limit(self, seconds: float) -> None:
        """Do not wait longer than that for the next bytes of the body."""
        if self._stream is not None:
            self._stream.limit(seconds)

    @property
    def reason_phrase(self) -> str:
        """By the table of status codes, not as the server wrote it; empty if not in there."""
        return StatusCode.get_reason_phrase(self.status_code)

    @property
    def url(self) -> URL:
        """
        Of the request that this answers, the last one after redirects. None only for a response
        that was made by hand without a request.
        """
        # Typed for the responses that clients deliver: all of them have one.
        return typing.cast(URL, None if self.request is None else self.request.url)

    @property
    def is_error(self) -> bool:
        """A status of 4xx or 5xx."""
        return 400 <= self.status_code <= 599

    @property
    def is_success(self) -> bool:
        """A status of 2xx."""
        return 200 <= self.status_code <= 299

    @property
    def is_redirect(self) -> bool:
        """A status of 301, 302, 303, 307 or 308, with a Location."""
        return StatusCode.is_redirect(self.status_code) and "location" in self.headers

    @property
    def is_closed(self) -> bool:
        """Whether the connection is no longer needed: all is here, or given up."""
        return self._stream is None or self._stream.closed

    @property
    def is_stream_consumed(self) -> bool:
        """Whether the body can no longer be streamed as it comes."""
        return self._stream is None or self._stream.begun

    @property
    def content(self) -> bytes:
        """
        The body, decoded. Of one that is streamed, `ResponseNotRead` before `read()`;
        `DecodingError` if its Content-Encoding is damaged.
        """
        # In this order: another thread may be decoding it, and drops `_raw` at last.
        raw, content = self._raw, self._content
        if content is not None:
            return content
        if raw is None:
            if self.is_closed:
                raise self._about(ResponseNotRead("the response was closed before it was read"))
            raise self._about(ResponseNotRead("the body is streamed: read() it first"))
        codings = self._codings()
        if not codings:
            self._content = raw
            return raw
        content = b"".join(self._decoded(raw, codings))
        self._content = content
        self._raw = None
        return content

    def read(self) -> bytes:
        """
        The whole body, kept as `content`.

        `StreamConsumed` if it was streamed before, `ResponseClosed` if it was given up, and
        whatever breaks the connection or its Content-Encoding.
        """
        stream = self._stream
        if self._raw is not None or self._content is not None:
            return self.content
        if stream is None:
            raise self._about(ResponseClosed("the response was closed before its body was read"))
        self._content = content = b"".join(_Pieces(self, stream, decoded=True))
        self._stream = None
        return content

    def stream(self) -> Iterator[bytes]:
        """
        The body, decoded, in pieces of at most 1 MiB, as they come. Not kept: the second time
        it is `StreamConsumed`, unless `content` is there. Raises as `read` does.
        """
        if self._content is not None:
            return iter((self._content,) if self._content else ())
        if self._raw is not None:
            return self._decoded(self._raw, self._codings())
        return self._from_stream(decoded=True)

    def raw(self) -> Iterator[bytes]:
        """The same, under its Content-Encoding as it came. `StreamConsumed` after `read`."""
        if self._raw is not None:
            return iter((self._raw,) if self._raw else ())
        return self._from_stream(decoded=False)

    def close(self) -> None:
        """Give up what was not read of the body. May be repeated, and come from any thread."""
        if self._stream is not None:
            self._stream.close()

    def next(self) -> Response:
        """
        The response that this redirect leads to, one step on. RuntimeError if it is none, or
        was not made by a client.
        """
        if not self.is_redirect:
            raise RuntimeError(f"{self!r} is no redirect with a Location to follow")
        if self._follow is None:
            raise RuntimeError("next() needs the client that made the response")
        return self._follow(self)

    def raise_for_status(self) -> Response:
        """`HTTPStatusError` for a status of 4xx or 5xx, else the response itself."""
        if not self.is_error:
            return self
        side = "Client" if self.status_code < 500 else "Server"
        reason = self.reason_phrase
        raise HTTPStatusError(
            f"{self.status_code} {side} Error" + (f": {reason}" if reason else ""),
            response=self,
            request=self.request,
            tag=self.tag,
        )

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

    def _about(self, error: _Error) -> _Error:
        """`error`, with what it is about."""
        if error.request is None:
            error.request = self.request
        if error.tag is None:
            error.tag = self.tag
        return error

    def _codings(self) -> list[str]:
        values = self.headers.getlist("content-encoding", split_commas=True)
        return find_codings(values) if values else values

    def _decoded(self, raw: bytes, codings: list[str]) -> Iterator[bytes]:
        try:
            yield from decode_body((raw,) if raw else (), codings)
        except HTTPError as error:
            self._about(error)
            raise

    def _from_stream(self, decoded: bool) -> Iterator[bytes]:
        if self._stream is None:
            raise self._about(StreamConsumed("the body was read before, and not kept as it came"))
        return _Pieces(self, self._stream, decoded)

    def __enter__(self) -> Response:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        self.close()

    def __getstate__(self) -> dict[str, typing.Any]:
        if not self.is_closed:
            raise TypeError("a response with an unread stream does not pickle: read() it first")
        state = {name: getattr(self, name) for name in _STATE}
        state["request"] = None if self.request is None else self.request._portable()
        return state

    def __setstate__(self, state: dict[str, typing.Any]) -> None:
        self._stream = self._text = self._follow = None
        for name, value in state.items():
            setattr(self, name, value)

    def __repr__(self) -> str:
        return f"<Response [{f'{self.status_code} {self.reason_phrase}'.rstrip()}]>"


class _Pieces(Iterator[bytes]):
    """One pass over the body. It keeps the response alive, not the other way round."""

    __slots__ = ("_begun", "_decoded", "_ended", "_response", "_stream")

    def __init__(self, response: Response, stream: ResponseStream, decoded: bool) -> None:
        self._response = response
        self._stream = stream
        self._decoded = decoded
        self._begun = self._ended = False

    def __next__(self) -> bytes:
        if self._ended:
            raise StopIteration
        try:
            if not self._begun:
                self._stream.begin(self._response._codings() if self._decoded else [])
                self._begun = True
            piece = self._stream.next_piece()
            if piece is not None:
                return piece
        except HTTPError as error:
            self._response._about(error)
            raise
        except BaseException:
            # A KeyboardInterrupt may strike outside the step, too.
            self.close()
            raise
        self._ended = True
        raise StopIteration

    def close(self) -> None:
        """As the generator that this could be has it: give up what is left."""
        if self._begun:
            self._stream.close()
