"""
Who the client says it is. Each scheme is a generator without I/O: it yields the requests to
send and receives their responses, so that one that has to be asked first fits in as well.
"""

from .base import Auth, AuthBase, AuthSteps, CallableAuth
from .basic import BasicAuth, HTTPBasicAuth
from .choice import AuthTypes, as_auth, find_auth
from .sharing import Share

__all__ = [
    "Auth",
    "AuthBase",
    "AuthSteps",
    "AuthTypes",
    "BasicAuth",
    "CallableAuth",
    "HTTPBasicAuth",
    "Share",
    "as_auth",
    "find_auth",
]
