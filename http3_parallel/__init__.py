"""Many HTTP requests at once, from synchronous Python."""

import importlib
import typing

from .__version__ import USER_AGENT, __description__, __title__, __version__
from .aborting import Abort, Signal
from .api import delete, get, head, options, parallel, patch, post, put, request
from .auth import Auth, AuthTypes, BasicAuth, BearerAuth, DigestAuth, NetRCAuth, Share
from .client import Client
from .config import (
    CertTypes,
    PoolLimits,
    Retry,
    SSLConfig,
    TimeoutConfig,
    TimeoutTypes,
    VerifyTypes,
)
from .dispatch import Context, Dispatcher, NetworkDispatch, WSGIDispatch
from .exceptions import *  # noqa: F403  (the whole tree, as listed there)
from .exceptions import __all__ as _exceptions
from .facade import Parallel
from .hooks import EventHooks
from .models import (
    URL,
    Cookies,
    CookieTypes,
    Headers,
    HeaderTypes,
    Origin,
    QueryParams,
    QueryParamTypes,
    Request,
    RequestData,
    RequestFiles,
    Response,
    ResponseContent,
    StatusCode,
    Timings,
    URLTypes,
    codes,
)
from .pending import PendingResponse
from .stats import HostStats, InFlight, Stats
from .timeline import Timeline

if typing.TYPE_CHECKING:
    from .asynchronous import (
        ASGIDispatch,
        AsyncClient,
        AsyncDispatcher,
        AsyncParallel,
        AsyncPendingResponse,
        AsyncRequest,
        AsyncRequestData,
        AsyncResponse,
        AsyncResponseContent,
    )

__all__ = [
    "URL",
    "USER_AGENT",
    "ASGIDispatch",
    "Abort",
    "AsyncClient",
    "AsyncDispatcher",
    "AsyncParallel",
    "AsyncPendingResponse",
    "AsyncRequest",
    "AsyncRequestData",
    "AsyncResponse",
    "AsyncResponseContent",
    "Auth",
    "AuthTypes",
    "BasicAuth",
    "BearerAuth",
    "CertTypes",
    "Client",
    "Context",
    "CookieTypes",
    "Cookies",
    "DigestAuth",
    "Dispatcher",
    "EventHooks",
    "HeaderTypes",
    "Headers",
    "HostStats",
    "InFlight",
    "NetRCAuth",
    "NetworkDispatch",
    "Origin",
    "Parallel",
    "PendingResponse",
    "PoolLimits",
    "QueryParamTypes",
    "QueryParams",
    "Request",
    "RequestData",
    "RequestFiles",
    "Response",
    "ResponseContent",
    "Retry",
    "SSLConfig",
    "Share",
    "Signal",
    "Stats",
    "StatusCode",
    "Timeline",
    "TimeoutConfig",
    "TimeoutTypes",
    "Timings",
    "URLTypes",
    "VerifyTypes",
    "WSGIDispatch",
    "__description__",
    "__title__",
    "__version__",
    "codes",
    "delete",
    "get",
    "head",
    "options",
    "parallel",
    "patch",
    "post",
    "put",
    "request",
]
__all__ += _exceptions

#: What takes an event loop is imported when it is first asked for: it would cost every start.
_ASYNCHRONOUS = frozenset(name for name in __all__ if name.startswith(("Async", "ASGI")))


def __getattr__(name: str) -> typing.Any:
    if name in _ASYNCHRONOUS:
        value = getattr(importlib.import_module(".asynchronous", __name__), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
