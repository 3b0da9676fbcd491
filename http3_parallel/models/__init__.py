"""What is sent and what comes back."""

from .bodies import RequestData
from .charsets import is_charset
from .cookies import Cookies, CookieTypes
from .headers import Headers, HeaderTypes
from .multipart import RequestFiles
from .queryparams import QueryParams, QueryParamTypes
from .requests import Request
from .responses import Response, ResponseContent
from .status_codes import StatusCode, codes
from .timings import Timings
from .urls import URL, Origin, URLTypes

__all__ = [
    "URL",
    "CookieTypes",
    "Cookies",
    "HeaderTypes",
    "Headers",
    "Origin",
    "QueryParamTypes",
    "QueryParams",
    "Request",
    "RequestData",
    "RequestFiles",
    "Response",
    "ResponseContent",
    "StatusCode",
    "Timings",
    "URLTypes",
    "codes",
    "is_charset",
]
