"""The one-shot functions, and `parallel()`: each with a client of its own, closed after."""

from __future__ import annotations

from .client import BLOCK_WORKERS, Client
from .facade import Parallel
from .methods import BodyOptions, RequestMethods, Unpack
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


class _OneShot(RequestMethods[Response]):
    def request(self, method: str, url: URLTypes, **options: Unpack[BodyOptions]) -> Response:
        return request(method, url, **options)


_one_shot = _OneShot()
get = _one_shot.get
options = _one_shot.options
head = _one_shot.head
post = _one_shot.post
put = _one_shot.put
patch = _one_shot.patch
delete = _one_shot.delete


def parallel(
    *,
    max_workers: int = BLOCK_WORKERS,
    max_per_host: int | None = None,
    deadline: float | None = None,
    **client_options: Unpack[ClientOptions],
) -> Parallel:
    """
    A block with a client of its own, which is closed with it.

    * `max_workers`: how many requests run at the same time; of the block and of its client.
    * `max_per_host`: how many of them for one host and port.
    * `deadline`: seconds from now, when everything in the block that is not complete fails.

    And what `Client` takes: `auth`, `cookies`, `verify`, `cert`, `timeout`, `pool_limits`,
    `max_redirects`, `app`, `dispatch`, `base_url`, `raise_app_exceptions`, `headers`, `params`,
    `retries`, `event_hooks`, `max_response_size`, `default_encoding`, `proxies`, `trust_env`.
    """
    client = Client(max_workers=max_workers, **client_options)
    return client._open_block(max_workers, max_per_host, deadline, client._engine.close)
