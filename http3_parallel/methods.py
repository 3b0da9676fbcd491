"""The methods that a client, a block and the module share: written once, each returns its own."""

from __future__ import annotations

import sys
import typing

from .auth import AuthTypes
from .config import CertTypes, TimeoutTypes, VerifyTypes
from .models import (
    CookieTypes,
    HeaderTypes,
    QueryParamTypes,
    RequestData,
    RequestFiles,
    URLTypes,
)

if sys.version_info >= (3, 11):
    from typing import Self, Unpack
else:
    from typing_extensions import Self, Unpack

__all__ = [
    "BodyOptions",
    "Options",
    "RequestMethods",
    "RequestOptions",
    "Self",
    "SendOptions",
    "Unpack",
]

_BODY = frozenset({"data", "files", "json"})

T_co = typing.TypeVar("T_co", covariant=True)


class RequestOptions(typing.TypedDict, total=False):
    """What makes a request; see `RequestMethods`."""

    params: QueryParamTypes | None
    headers: HeaderTypes | None
    cookies: CookieTypes | None
    data: RequestData | None
    files: RequestFiles | None
    json: typing.Any


class SendOptions(typing.TypedDict, total=False):
    """What is said about a request besides the request itself; see `RequestMethods`."""

    stream: bool
    auth: AuthTypes | None
    allow_redirects: bool
    cert: CertTypes | None
    verify: VerifyTypes | None
    timeout: TimeoutTypes
    deadline: float | None
    tag: typing.Any


class Options(SendOptions, total=False):
    """What every request takes; see `RequestMethods`."""

    params: QueryParamTypes | None
    headers: HeaderTypes | None
    cookies: CookieTypes | None


class BodyOptions(Options, total=False):
    """What one with a body takes; see `RequestMethods`."""

    data: RequestData | None
    files: RequestFiles | None
    json: typing.Any


class RequestMethods(typing.Generic[T_co]):
    """
    Each method takes these options, by keyword:

    * `params`: query parameters, in place of the URL's own.
    * `headers`: merged over the client's.
    * `cookies`: for this request only, over those of the client: what `Cookies` takes.
    * `auth`: a ``(user, password)`` tuple, an `Auth` such as `DigestAuth`, or a callable that
      takes the `Request` and returns one. None: the client's.
    * `timeout`: seconds of inactivity for each step, a tuple ``(connect, read, write)``, or a
      `TimeoutConfig`. None: the client's.
    * `deadline`: seconds from the call until the request must be complete, its body and
      everything on the way included; then it fails with `DeadlineExceeded`.
    * `stream`: return at the head; whoever has the response reads its body.
    * `allow_redirects`: by default they are followed, except by `head()`.
    * `verify`, `cert`: see `SSLConfig`. None: the client's.
    * `tag`: any object; it comes back on the handle, the response and the error.

    And those with a body (`post`, `put`, `patch`, `delete`, `request`):

    * `data`: bytes or text as they are, a dict or a list of pairs as a form, a binary file or
      an iterable of bytes streamed.
    * `files`: a dict of name to file, or to a tuple ``(filename, file, content_type)``, sent as
      ``multipart/form-data``, after the fields in `data`.
    * `json`: any JSON value but None.
    """

    def request(self, method: str, url: URLTypes, **options: Unpack[BodyOptions]) -> T_co:
        raise NotImplementedError

    def get(self, url: URLTypes, **options: Unpack[Options]) -> T_co:
        """
        A GET request (RFC 9110, section 9.3.1).

        Options: `params`, `headers`, `cookies`, `auth`, `timeout`, `deadline`, `stream`,
        `allow_redirects`, `verify`, `cert`, `tag`; see the class. Methods with a body also take
        `data`, `files` and `json`.
        """
        return self._without_body("GET", url, options)

    def options(self, url: URLTypes, **options: Unpack[Options]) -> T_co:
        """An OPTIONS request (RFC 9110, section 9.3.7). Takes what `get` takes."""
        return self._without_body("OPTIONS", url, options)

    def head(self, url: URLTypes, **options: Unpack[Options]) -> T_co:
        """
        A HEAD request (RFC 9110, section 9.3.2). Takes what `get` takes; redirects are not
        followed unless ``allow_redirects=True``.
        """
        options.setdefault("allow_redirects", False)
        return self._without_body("HEAD", url, options)

    def post(self, url: URLTypes, **options: Unpack[BodyOptions]) -> T_co:
        """A POST request (RFC 9110, section 9.3.3). Takes what `get` does, and a body."""
        return self.request("POST", url, **options)

    def put(self, url: URLTypes, **options: Unpack[BodyOptions]) -> T_co:
        """A PUT request (RFC 9110, section 9.3.4). Takes what `get` does, and a body."""
        return self.request("PUT", url, **options)

    def patch(self, url: URLTypes, **options: Unpack[BodyOptions]) -> T_co:
        """A PATCH request (RFC 5789). Takes what `get` does, and a body."""
        return self.request("PATCH", url, **options)

    def delete(self, url: URLTypes, **options: Unpack[BodyOptions]) -> T_co:
        """A DELETE request (RFC 9110, 9.3.5). Takes what `get` does, and a body."""
        return self.request("DELETE", url, **options)

    def _without_body(self, method: str, url: URLTypes, options: Options) -> T_co:
        if options and options.keys() & _BODY:
            raise TypeError(
                f"{method.lower()}() takes no body; request({method!r}, ...) does, if you mean it"
            )
        return self.request(method, url, **options)
