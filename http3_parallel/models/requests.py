"""What is sent."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator

from ..__version__ import USER_AGENT
from .bodies import BodySource, RequestData, encode_body, slices
from .cookies import Cookies, CookieTypes
from .decoding import ACCEPT_ENCODING
from .headers import Headers, HeaderTypes
from .multipart import RequestFiles
from .queryparams import QueryParamTypes
from .references import LONGEST_HOST
from .urls import URL, URLTypes, without_password

__all__ = ["BaseRequest", "Request"]

_METHODS = {
    name: name for name in ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE")
}
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")

# RFC 9110, section 8.6: servers may expect a length even of an empty body.
_EXPECT_BODY = frozenset({"POST", "PUT", "PATCH"})

_USER_AGENT = (b"user-agent", USER_AGENT.encode("ascii"))
_ACCEPT = (b"accept", b"*/*")
_NO_CONTENT = (b"content-length", b"0")
_CHUNKED = (b"transfer-encoding", b"chunked")
_ACCEPT_ENCODING = (b"accept-encoding", ACCEPT_ENCODING.encode("ascii"))
_CONNECTION = (b"connection", b"keep-alive")
_LAST = (_ACCEPT_ENCODING, _CONNECTION)

#: By scheme, host and port, for so many of them: most requests go where others went.
_known_hosts: dict[tuple[str | None, str | None, str | None], tuple[bytes, bytes]] = {}
_MAX_KNOWN_HOSTS = 1024

# RFC 9110, section 15.4: what describes the content goes with it.
_ABOUT_CONTENT = frozenset(
    {
        b"content-encoding",
        b"content-language",
        b"content-length",
        b"content-location",
        b"content-type",
        b"digest",
        b"content-digest",
        b"repr-digest",
        b"expect",
        b"last-modified",
        b"trailer",
        b"transfer-encoding",
    }
)


class BaseRequest:
    """
    A request, complete as it will be sent.

    * `method`: in any case, kept in upper case.
    * `url`: absolute, or `InvalidURL` is raised.
    * `params`: what `QueryParams` takes; unless empty, it replaces the query of the URL.
    * `headers`: what `Headers` takes. They come after the automatic ones (Host, User-Agent,
      Accept, Content-Length or Transfer-Encoding, Accept-Encoding, Connection), of which each
      is left out if it is among them; so is the Content-Type of `json` and of a form.
    * `cookies`: what `Cookies` takes; sent unless `headers` have a Cookie.
    * `data`: bytes or str, sent as they are; a mapping or a list of pairs, sent as a form
      (values that are lists repeat the name); a file open for reading bytes; any other
      iterable of bytes or str, whose pieces are sent as they come.
    * `json`: anything but None that `json.dumps` takes.
    * `files`: a mapping, or pairs, of names to files, sent as multipart/form-data (RFC 7578)
      after the fields of `data`. A file is one open for reading, bytes or str, or a tuple
      ``(filename, file)``, ``(filename, file, content_type)`` or
      ``(filename, file, content_type, headers)``. The file name is by default that of the open
      file, else ``upload``; the content type is guessed from it. With None as file name, it is
      a field like those of `data`. A Content-Type among `headers` must be a multipart one; its
      boundary is used, and one without is completed.

    If several are given, `data` other than a form is sent, else `json`, else the form and the
    files.

    Bytes, text, forms, JSON and `files` are encoded now. A file or iterable as `data` is read
    when the request is sent: a file from where it stood, with a Content-Length if its size can
    be had; others chunked, unless `headers` tell the length. A wrong argument is a TypeError or
    ValueError; what reading a file raises comes through.
    """

    __slots__ = ("__weakref__", "_content", "_cookies", "_source", "headers", "method", "url")

    _may_have_async_body = False

    method: str
    url: URL
    headers: Headers

    def __init__(
        self,
        method: str,
        url: URLTypes,
        *,
        params: QueryParamTypes | None = None,
        headers: HeaderTypes | None = None,
        cookies: CookieTypes | None = None,
        data: RequestData | None = None,
        json: typing.Any = None,
        files: RequestFiles | None = None,
    ) -> None:
        self.method = method = _METHODS.get(method) or _normal_method(method)
        self.url = url = URL(url, params=params)
        self._content: bytes | None = b""
        self._source: BodySource | None = None
        self._cookies: Cookies | None = None

        scheme, _, host, port, *_ = url._parts
        raw = [_known_hosts.get((scheme, host, port)) or _host_field(url), _USER_AGENT, _ACCEPT]
        has_body = not (data is None and json is None and files is None)
        if not has_body and method in _EXPECT_BODY:
            raw.append(_NO_CONTENT)
        if headers is None and cookies is None and not has_body:
            raw += _LAST
            self.headers = Headers._of(raw)
            return
        self.headers = given = Headers(headers)
        if isinstance(headers, Headers):
            given._check()
        content_type = None
        if has_body:
            body, content_type = encode_body(
                data, json, files, given, may_await=self._may_have_async_body
            )
            if isinstance(body, BodySource):
                self._content, self._source = None, body
                size = body.size
            else:
                self._content = body
                size = len(body)
            if size is None:
                raw.append(_CHUNKED)
            elif size or method in _EXPECT_BODY:
                raw.append((b"content-length", b"%d" % size))
        raw += _LAST

        if given.raw:
            names = {name for name, _ in given.raw}
            if b"content-length" in names or b"transfer-encoding" in names:
                _check_framing(given, self._content)
                names.update((b"content-length", b"transfer-encoding"))
            raw = [pair for pair in raw if pair[0] not in names]
            raw += given.raw
            if b"content-type" in names:
                content_type = None
        given.raw = raw
        if cookies is not None:
            self._cookies = Cookies(cookies)
            if "cookie" not in given:
                self._cookies.set_cookie_header(self)
        if content_type is not None:
            raw.append((b"content-type", content_type))

    @property
    def cookies(self) -> Cookies:
        """Those given with the request, for it alone."""
        if self._cookies is None:
            self._cookies = Cookies()
        return self._cookies

    @property
    def _cookie_header(self) -> str | None:
        """All of it. Whatever bytes it has, `_set_cookie_header` makes them again."""
        values = [value for name, value in self.headers.raw if name == b"cookie"]
        return b"; ".join(values).decode("utf-8", "surrogateescape") if values else None

    def _set_cookie_header(self, header: str) -> None:
        self.headers["cookie"] = header.encode("utf-8", "surrogateescape")

    @property
    def _cookies_in_header(self) -> bool:
        """Whether its Cookie header is that of its `cookies`, and not one of the user's."""
        cookies = self._cookies
        if cookies is None or cookies._is_empty:
            return False
        header = self._cookie_header
        return header is not None and header == cookies._header(self.url)

    @property
    def content(self) -> bytes:
        """The body. AttributeError for one that is streamed, before `read()`."""
        if self._content is None:
            raise AttributeError("the body of the request is streamed: read() it first")
        return self._content

    @property
    def is_streaming(self) -> bool:
        """Whether the body is read from a file or an iterable while it is sent."""
        return self._content is None

    @property
    def can_replay(self) -> bool:
        """Whether the body can be sent again; what an iterator yields cannot."""
        return self._source is None or self._source.can_replay

    @property
    def _is_whole(self) -> bool:
        """Whether the body can be sent now: an iterator's, as long as nothing was taken."""
        return self._source is None or self._source.is_whole

    def _replace(
        self,
        *,
        method: str | None = None,
        url: URL | None = None,
        headers: Headers | None = None,
        drop_body: bool = False,
    ) -> Request:
        """
        The request that follows from this one, in a redirect or for authentication. It shares
        the body and nothing else that can change.

        * `headers`: all of them, in place of this request's.
        * `drop_body`: without content, and without the headers that describe it.

        Host changes with the host and port of the URL; a Host of the user's own stays as long
        as they do.
        """
        new = Request.__new__(Request)
        new.method = self.method if method is None else _normal_method(method)
        new.url = self.url if url is None else url
        new.headers = fields = (self.headers if headers is None else headers)._copy()
        new._content, new._source, new._cookies = self._content, self._source, self._cookies
        if drop_body:
            new._content, new._source = b"", None
            fields.raw = [pair for pair in fields.raw if pair[0] not in _ABOUT_CONTENT]
            if new.method in _EXPECT_BODY:
                fields.raw.append(_NO_CONTENT)
        host = new.url.host_header
        if host != self.url.host_header:
            if "host" in fields:
                fields["host"] = host
            else:
                fields.raw.insert(0, (b"host", host.encode("ascii")))
        return new

    def _check_headers(self) -> None:
        """Raise what giving these headers would have: after code of the user's changed them."""
        if not isinstance(self.headers, Headers):
            name = type(self.headers).__name__  # and not its values
            raise TypeError(f"the headers of a request are Headers, not {name}")
        self.headers._check()
        names = {name for name, _ in self.headers.raw}
        if b"content-length" in names or b"transfer-encoding" in names:
            _check_framing(self.headers, self._content)
        elif self._content != b"":
            raise ValueError(
                "a request with a body has a Content-Length or a Transfer-Encoding (RFC 9112, "
                "section 6)"
            )

    def _portable(self) -> BaseRequest:
        """This request, or where its body is streamed, a copy that pickles without it."""
        if self._source is None:
            return self
        new = self._replace()
        new._source = BodySource(self._source.size)
        return new

    def __getstate__(self) -> tuple[typing.Any, ...]:
        if self._source is not None and type(self._source) is not BodySource:
            raise TypeError("a request with a streamed body does not pickle: read() it first")
        return self.method, self.url, self.headers, self._content, self._source, self._cookies

    def __setstate__(self, state: tuple[typing.Any, ...]) -> None:
        self.method, self.url, self.headers, self._content, self._source, self._cookies = state

    def __repr__(self) -> str:
        return f"<Request({self.method!r}, {without_password(self.url)!r})>"


class Request(BaseRequest):
    # Its docstring is that of `BaseRequest`, for `help()`.
    __doc__ = BaseRequest.__doc__

    __slots__ = ()

    def read(self) -> bytes:
        """The body; of one that is streamed, all of it is kept as `content`."""
        if self._content is None:
            self._content = b"".join(self.stream())
            self._source = None
        return self._content

    def stream(self) -> Iterator[bytes | memoryview]:
        """
        The body in pieces of at most 64 KiB, none of them empty. `StreamConsumed` is raised
        for an iterator's body the second time.
        """
        if self._source is not None:
            return self._source.pieces()
        return slices(self.content)

    def copy(self) -> Request:
        """
        Another request like this one, with headers of its own. It shares the body: that of an
        iterator can still be sent only once.
        """
        return self._replace()


def _host_field(url: URL) -> tuple[bytes, bytes]:
    if len(_known_hosts) >= _MAX_KNOWN_HOSTS:
        _known_hosts.clear()
    scheme, _, host, port, *_ = url._parts
    field = (b"host", url.host_header.encode("ascii"))
    if len(host or "") <= LONGEST_HOST:  # the zone of an IPv6 address has no limit
        _known_hosts[scheme, host, port] = field
    return field


def _normal_method(method: object) -> str:
    if not isinstance(method, str):
        raise TypeError(f"a request's method is a str, not {type(method).__name__}")
    if not _TOKEN.fullmatch(method):
        raise ValueError(f"{method!r} is not a request method (RFC 9110, section 9.1)")
    return method.upper()


def _check_framing(headers: Headers, content: bytes | None) -> None:
    """Refuse a length of the user's that would make the server misread what follows."""
    lengths = headers.getlist("content-length")
    codings = headers.getlist("transfer-encoding", split_commas=True)
    if codings:
        if lengths:
            raise ValueError(
                "a request has a Content-Length or a Transfer-Encoding, not both "
                "(RFC 9112, section 6.2)"
            )
        lowered = [coding.lower() for coding in codings]
        if lowered[-1] != "chunked" or lowered.count("chunked") > 1:
            raise ValueError(
                "a request's Transfer-Encoding ends with chunked, and has it once (RFC 9112, 6.1)"
            )
        return
    length = lengths[0]
    if len(lengths) > 1 or not (length.isascii() and length.isdigit()):
        raise ValueError("a request's Content-Length is one number of bytes")
    if content is not None and int(length) != len(content):
        raise ValueError(f"the Content-Length is {length}, but the body has {len(content)} bytes")
