"""
Who the client says it is. Each scheme is a generator without I/O: it yields the requests to
send and receives their responses, so that one that has to be asked first fits in as well.
"""

from .base import Auth, AuthBase, AuthSteps, CallableAuth
from .basic import BasicAuth, HTTPBasicAuth
from .bearer import BearerAuth
from .choice import AuthTypes, as_auth, find_auth
from .digest import DigestAuth
from .netrc import NetRCAuth
from .sharing import Share

__all__ = [
    "Auth",
    "AuthBase",
    "AuthSteps",
    "AuthTypes",
    "BasicAuth",
    "BearerAuth",
    "CallableAuth",
    "DigestAuth",
    "HTTPBasicAuth",
    "NetRCAuth",
    "Share",
    "as_auth",
    "find_auth",
]
