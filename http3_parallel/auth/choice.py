"""What may be given as `auth`, and which of those given counts."""

from __future__ import annotations

import typing

from ..models import Request
from .base import Auth, CallableAuth
from .basic import BasicAuth, userinfo_auth

__all__ = ["AuthTypes", "as_auth", "find_auth"]

AuthTypes = typing.Union[
    tuple[typing.Union[str, bytes], typing.Union[str, bytes]],
    typing.Callable[[Request], Request],
    Auth,
]


def as_auth(auth: AuthTypes | None) -> Auth | None:
    """Raises `TypeError` for what is none."""
    if auth is None or isinstance(auth, Auth):
        return auth
    if isinstance(auth, tuple) and len(auth) == 2:
        return BasicAuth(*auth)
    if callable(auth):
        return CallableAuth(auth)
    raise TypeError("auth is a (user, password) tuple, an Auth, or a callable")


def find_auth(auth: Auth | None, request: Request) -> Auth | None:
    """
    `auth`, or what the userinfo of the request's URL says (RFC 3986, section 3.2.1). Raises
    `InvalidURL` where that cannot be sent.
    """
    return userinfo_auth(request) if auth is None else auth
