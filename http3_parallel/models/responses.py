"""What comes back."""

from __future__ import annotations

import datetime
import types
import typing
from collections.abc import Callable

from ..exceptions import HTTPStatusError
from .cookies import Cookies
from .headers import Headers, HeaderTypes
from .links import find_links
from .received import ReadableBody, ReceivedBody, ResponseContent
from .requests import Request
from .status_codes import StatusCode
from .streams import ResponseStream
from .urls import URL

if typing.TYPE_CHECKING:
    from .timings import Timings

__all__ = ["BaseResponse", "Response", "ResponseContent"]

_Self = typing.TypeVar("_Self", bound="BaseResponse")
_Following = typing.TypeVar("_Following")

# What pickles; the body's stream and the client's callback do not.
_STATE = (
    "status_code",
    "protocol",
    "headers",
    "history",
    "tag",
    "_elapsed",
    "timings",
    "_content",
    "_raw",
    "_encoding",
    "_default_encoding",
    "_max_size",
)


class Redirection(typing.Protocol):
    """What the client knows of a redirect that it was told not to follow."""

    def __call__(self, response: Response) -> Response:
        """The response to the request that this one leads to, one step on."""


class BaseResponse(ReceivedBody):
    """What a response is, however its body is read."""

    __slots__ = ("__weakref__", "_cookies", "_elapsed", "_follow", "history", "protocol", "timings")

    protocol: str | None
    # Typed, like `elapsed`, for the responses that clients deliver: all of them have both.
    timings: Timings
    #: Seconds, of which the object is made when somebody asks.
    _elapsed: float | None
    _cookies: Cookies | None
    #: A `Redirection`, or what an asynchronous client has in its place.
    _follow: typing.Any

    def _be_new(self, protocol: str | None) -> None:
        """One that no client has measured."""
        self.protocol = protocol
        self.timings = typing.cast(typing.Any, None)
        self._elapsed = None
        self._cookies = self._follow = None

    @property
    def elapsed(self) -> datetime.timedelta:
        """What the request took in all; see the class. None where no client measured it."""
        if self._elapsed is None:
            return typing.cast(datetime.timedelta, None)  # typed as `timings` is
        return datetime.timedelta(seconds=self._elapsed)

    @elapsed.setter
    def elapsed(self, elapsed: datetime.timedelta | None) -> None:
        self._elapsed = None if elapsed is None else elapsed.total_seconds()

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
        return None if self.request is None else self.request.url  # typed as `request` is

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
    def cookies(self) -> Cookies:
        """
        What this response sets, by its Set-Cookie headers, as far as it may for its URL
        (RFC 6265, section 5.3); of what the client has besides, nothing. RuntimeError for a
        response without a request.
        """
        if self._cookies is None:
            cookies = Cookies()
            cookies.extract_cookies(self)
            self._cookies = cookies
        return self._cookies

    @property
    def links(self) -> dict[str, dict[str, str]]:
        """
        The Link headers (RFC 8288): ``response.links["next"]["url"]``. By relation type, in
        lower case, or by URL where there is none; each with the parameters of the link and its
        ``"url"`` as it was written: `response.url.join()` makes it absolute.
        """
        return find_links(self.headers.getlist("link"))

    def _leading_on(self, following: _Following | None) -> _Following:
        """`following`, which follows this redirect. RuntimeError as `next` has it."""
        if not self.is_redirect:
            raise RuntimeError(f"{self!r} is no redirect with a Location to follow")
        if following is None:
            raise RuntimeError("next() needs the client that made the response")
        return following

    def raise_for_status(self: _Self) -> _Self:
        """`HTTPStatusError` for a status of 4xx or 5xx, else the response itself."""
        if not self.is_error:
            return self
        side = "Client" if self.status_code < 500 else "Server"
        reason = self.reason_phrase
        raise HTTPStatusError(
            f"{self.status_code} {side} Error" + (f": {reason}" if reason else ""),
            # Typed for those of a `Client`.
            response=typing.cast(typing.Any, self),
            request=self.request,
            tag=self.tag,
        )

    def __getstate__(self) -> dict[str, typing.Any]:
        if not self.is_closed:
            raise TypeError("a response with an unread stream does not pickle: read() it first")
        state = {name: getattr(self, name) for name in _STATE}
        state["request"] = None if self.request is None else self.request._portable()
        return state

    def __setstate__(self, state: dict[str, typing.Any]) -> None:
        self._stream = self._text = self._cookies = None
        self._follow = None
        self._is_bare = False
        for name, value in state.items():
            setattr(self, name, value)

    def __repr__(self) -> str:
        return f"<Response [{f'{self.status_code} {self.reason_phrase}'.rstrip()}]>"


class Response(BaseResponse, ReadableBody):
    """
    A response: its head, and a body that is here or still to be read.

    * `content`: the body as it came, still under its Content-Encoding: bytes, or an iterable
      of bytes that is read when asked for. If it has a `close()`, that is called in the end;
      if it has a `wake()`, that is called where another thread closes the response meanwhile;
      if it has a `limit(seconds)`, it is told there how long it may wait for its next bytes.
    * `on_close`: called once, when the body's end was reached or it was given up.
    * `request`: the request that this answers; `url` is its URL.
    * `history`: the responses that led here, oldest first.

    Besides these: `tag`, any object of the user's; `elapsed`, the `datetime.timedelta` that the
    request took in all, redirects, retries and, unless it is streamed, the body included; and
    `timings`, when each step of that was done. None where no client measured it.

    A body is read by one thread, once, in one of these ways: `read()` keeps it, and then the
    others may come as often as you like; `stream()`, `raw()`, `iter_bytes()`, `iter_text()`,
    `iter_lines()` and `save()` do not. A `with` block closes the response.
    """

    __slots__ = ()

    history: list[Response]

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
        super().__init__(status_code, headers, content, request)
        self._be_new(protocol)
        self.history = [] if history is None else history
        if on_close is not None:
            self._add_on_close(on_close)

    @classmethod
    def _received(
        cls,
        status_code: int,
        protocol: str,
        headers: Headers,
        content: ResponseContent,
        request: Request,
        is_bare: bool,
    ) -> Response:
        """The same, of what is known to be right, in one step: every request makes one."""
        response = cls.__new__(cls)
        response.status_code = status_code
        response.protocol = protocol
        response.headers = headers
        response.request = request
        if isinstance(content, bytes):
            response._raw, response._stream = content, None
        else:
            response._raw, response._stream = None, ResponseStream(content)
        response._content = response._text = response._cookies = response._follow = None
        response._max_size = response._encoding = response._default_encoding = None
        response._is_bare = is_bare
        response.tag = response._elapsed = None
        response.timings = typing.cast(typing.Any, None)
        response.history = []
        return response

    def next(self) -> Response:
        """
        The response that this redirect leads to, one step on. RuntimeError if it is none, or
        was not made by a client.
        """
        following: Redirection = self._leading_on(self._follow)
        return following(self)

    def __enter__(self) -> Response:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        self.close()
