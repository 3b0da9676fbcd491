"""Many HTTP requests at once, from synchronous Python."""

from .__version__ import __version__
from .aborting import Abort, Signal
from .api import delete, get, head, options, parallel, patch, post, put, request
from .auth import Auth, BasicAuth
from .client import Client
from .config import PoolLimits, Retry, SSLConfig, TimeoutConfig
from .dispatch import Context, Dispatcher, NetworkDispatch
from .exceptions import *  # noqa: F403  (the whole tree, as listed there)
from .exceptions import __all__ as _exceptions
from .facade import Parallel
from .models import URL, Headers, Origin, QueryParams, Request, Response
from .pending import PendingResponse

__all__ = [
    "URL",
    "Abort",
    "Auth",
    "BasicAuth",
    "Client",
    "Context",
    "Dispatcher",
    "Headers",
    "NetworkDispatch",
    "Origin",
    "Parallel",
    "PendingResponse",
    "PoolLimits",
    "QueryParams",
    "Request",
    "Response",
    "Retry",
    "SSLConfig",
    "Signal",
    "TimeoutConfig",
    "__version__",
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
