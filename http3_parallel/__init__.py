"""Many HTTP requests at once, from synchronous Python."""

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

__all__ = [
    "URL",
    "USER_AGENT",
    "Abort",
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
    "StatusCode",
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
