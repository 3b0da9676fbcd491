"""What is sent and what comes back."""

from .bodies import RequestData
from .headers import Headers, HeaderTypes
from .queryparams import QueryParams, QueryParamTypes
from .requests import Request
from .responses import Response, ResponseContent
from .timings import Timings
from .urls import URL, Origin, URLTypes

__all__ = [
    "URL",
    "HeaderTypes",
    "Headers",
    "Origin",
    "QueryParamTypes",
    "QueryParams",
    "Request",
    "RequestData",
    "Response",
    "ResponseContent",
    "Timings",
    "URLTypes",
]
