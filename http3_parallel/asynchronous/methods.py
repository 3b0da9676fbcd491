"""The methods that an asynchronous client and its blocks share: what they take is a little more."""

from __future__ import annotations

import typing

from ..methods import Options, RequestMethods, Unpack
from ..models import CookieTypes, HeaderTypes, QueryParamTypes, RequestFiles, URLTypes
from .requests import AsyncRequestData

__all__ = ["AsyncBodyOptions", "AsyncRequestMethods", "AsyncRequestOptions"]

T_co = typing.TypeVar("T_co", covariant=True)


class AsyncRequestOptions(typing.TypedDict, total=False):
    """What makes a request; see `RequestMethods`."""

    params: QueryParamTypes | None
    headers: HeaderTypes | None
    cookies: CookieTypes | None
    data: AsyncRequestData | None
    files: RequestFiles | None
    json: typing.Any


class AsyncBodyOptions(Options, total=False):
    """What one with a body takes; see `RequestMethods`."""

    data: AsyncRequestData | None
    files: RequestFiles | None
    json: typing.Any


class AsyncRequestMethods(RequestMethods[T_co]):
    # As in `RequestMethods`, but that `data` may be asynchronous.

    def request(self, method: str, url: URLTypes, **options: Unpack[AsyncBodyOptions]) -> T_co:
        raise NotImplementedError

    def post(self, url: URLTypes, **options: Unpack[AsyncBodyOptions]) -> T_co:
        """A POST request (RFC 9110, section 9.3.3). Takes what `get` does, and a body."""
        return self.request("POST", url, **options)

    def put(self, url: URLTypes, **options: Unpack[AsyncBodyOptions]) -> T_co:
        """A PUT request (RFC 9110, section 9.3.4). Takes what `get` does, and a body."""
        return self.request("PUT", url, **options)

    def patch(self, url: URLTypes, **options: Unpack[AsyncBodyOptions]) -> T_co:
        """A PATCH request (RFC 5789). Takes what `get` does, and a body."""
        return self.request("PATCH", url, **options)

    def delete(self, url: URLTypes, **options: Unpack[AsyncBodyOptions]) -> T_co:
        """A DELETE request (RFC 9110, 9.3.5). Takes what `get` does, and a body."""
        return self.request("DELETE", url, **options)
