"""The one-shot functions, and `parallel()`: each with a client of its own, closed after."""

from __future__ import annotations

from .client import BLOCK_WORKERS, Client
from .facade import Parallel
from .methods import BodyOptions, Options, Unpack
from .models import Response, URLTypes
from .settings import ClientOptions

__all__ = ["delete", "get", "head", "options", "parallel", "patch", "post", "put", "request"]


def request(method: str, url: URLTypes, **options: Unpack[BodyOptions]) -> Response:
    """
    Make one request with a client of its own, and return its `Response`.

    Options, by keyword: `params`, `headers`, `cookies`, `data`, `files`, `json`, `auth`, `timeout`,
    `deadline`, `stream`, `allow_redirects`, `verify`, `cert`, `tag`; `Client` tells what each is.
    """
    with Client() as client:
        return client.request(method, url, **options)


def get(url: URLTypes, **options: Unpack[Options]) -> Response:
    """
    A GET request (RFC 9110, section 9.3.1).

    Options: `params`, `headers`, `cookies`, `auth`, `timeout`, `deadline`, `stream`,
    `allow_redirects`, `verify`, `cert`, `tag`; `Client` tells what each is. Functions with a body
    also take `data`, `files` and `json`.
    """
    with Client() as client:
        return client.get(url, **options)


def options(url: URLTypes, **options: Unpack[Options]) -> Response:
    """An OPTIONS request (RFC 9110, section 9.3.7). Takes what `get` takes."""
    with Client() as client:
        return client.options(url, **options)


def head(url: URLTypes, **options: Unpack[Options]) -> Response:
    """
    A HEAD request (RFC 9110, section 9.3.2). Takes what `get` takes; redirects are not
    followed unless ``allow_redirects=True``.
    """
    with Client() as client:
        return client.head(url, **options)


def post(url: URLTypes, **options: Unpack[BodyOptions]) -> Response:
    """A POST request (RFC 9110, section 9.3.3). Takes what `get` does, and a body."""
    with Client() as client:
        return client.post(url, **options)


def put(url: URLTypes, **options: Unpack[BodyOptions]) -> Response:
    """A PUT request (RFC 9110, section 9.3.4). Takes what `get` does, and a body."""
    with Client() as client:
        return client.put(url, **options)


def patch(url: URLTypes, **options: Unpack[BodyOptions]) -> Response:
    """A PATCH request (RFC 5789). Takes what `get` does, and a body."""
    with Client() as client:
        return client.patch(url, **options)


def delete(url: URLTypes, **options: Unpack[BodyOptions]) -> Response:
    """A DELETE request (RFC 9110, section 9.3.5). Takes what `get` does, and a body."""
    with Client() as client:
        return client.delete(url, **options)


def parallel(
    *,
    max_workers: int = BLOCK_WORKERS,
    max_per_host: int | None = None,
    deadline: float | None = None,
    timeline: bool | int | None = None,
    **client_options: Unpack[ClientOptions],
) -> Parallel:
    """
    A block with a client of its own, which is closed with it.

    * `max_workers`: how many requests run at the same time; of the block and of its client.
    * `max_per_host`: how many of them for one host and port.
    * `deadline`: seconds from now, when everything in the block that is not complete fails.
    * `timeline`: whether it is noted what each request does, for `Parallel.timeline`: True for the
      last 10,000 requests, a number for so many.

    And what `Client` takes: `auth`, `cookies`, `keep_cookies`, `verify`, `cert`, `timeout`,
    `pool_limits`, `max_redirects`, `app`, `dispatch`, `base_url`, `raise_app_exceptions`,
    `headers`, `params`, `retries`, `event_hooks`, `max_response_size`, `default_encoding`,
    `proxies`, `trust_env`.
    """
    client = Client(max_workers=max_workers, **client_options)
    return client._open_block(max_workers, max_per_host, deadline, timeline, client._engine.close)
