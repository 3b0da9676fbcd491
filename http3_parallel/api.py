"""The one-shot functions, and `parallel()`: each with a client of its own, closed after."""

from __future__ import annotations

import typing

from .client import BLOCK_WORKERS, Client
from .methods import RequestMethods
from .models import Response, URLTypes
from .parallel import Parallel

if typing.TYPE_CHECKING:
    from typing_extensions import Unpack

    from .methods import BodyOptions

__all__ = ["delete", "get", "head", "options", "parallel", "patch", "post", "put", "request"]


def request(method: str, url: URLTypes, **options: Unpack[BodyOptions]) -> Response:
    """Make one request with a client of its own. Takes what `Client.request` takes."""
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
    **client_options: typing.Any,
) -> Parallel:
    """
    A block with a client of its own, which is closed with it.

    Takes what `Client` and `Client.parallel` take; `max_workers` sets both.
    """
    client = Client(max_workers=max_workers, **client_options)
    return client._open_block(max_workers, max_per_host, deadline, client._close)
