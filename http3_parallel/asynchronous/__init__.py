"""The asynchronous side: the objects of the synchronous one, awaited. Imported at first use."""

from .asgi import ASGIDispatch
from .client import AsyncClient
from .dispatch import AsyncDispatcher
from .facade import AsyncParallel
from .pending import AsyncPendingResponse
from .requests import AsyncRequest, AsyncRequestData
from .responses import AsyncResponse, AsyncResponseContent

__all__ = [
    "ASGIDispatch",
    "AsyncClient",
    "AsyncDispatcher",
    "AsyncParallel",
    "AsyncPendingResponse",
    "AsyncRequest",
    "AsyncRequestData",
    "AsyncResponse",
    "AsyncResponseContent",
]
