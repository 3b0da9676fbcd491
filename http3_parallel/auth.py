"""
Who the client says it is. Each scheme is a generator without I/O: it yields the requests to
send and receives their responses, so that one that has to be asked first fits in as well.
"""

from __future__ import annotations

import base64
import typing

from .models import URL, Request, Response

__all__ = ["Auth", "AuthTypes", "BasicAuth", "CallableAuth", "as_auth", "find_auth"]

AuthSteps = typing.Generator[Request, Response, None]


class Auth:
    """A scheme. `steps` yields the requests to send, with what it adds, and gets the responses."""

    def steps(self, request: Request) -> AuthSteps:
        raise NotImplementedError


class BasicAuth(Auth):
    """
    The Basic scheme (RFC 7617). Text is encoded as ISO 8859-1, or UTF-8 where that cannot;
    bytes are sent as they are.
    """

    def __init__(self, username: str | bytes, password: str | bytes) -> None:
        name, secret = _as_bytes(username), _as_bytes(password)
        if b":" in name:
            raise ValueError("a user name with a colon cannot be sent (RFC 7617, section 2)")
        self._value = "Basic " + base64.b64encode(name + b":" + secret).decode("ascii")

    def steps(self, request: Request) -> AuthSteps:
        changed = request._replace()
        changed.headers["authorization"] = self._value
        yield changed

    def __repr__(self) -> str:
        return "<BasicAuth>"


class CallableAuth(Auth):
    """A function that takes the request and returns the one to send."""

    def __init__(self, function: typing.Callable[[Request], Request]) -> None:
        self._function = function

    def steps(self, request: Request) -> AuthSteps:
        changed = self._function(request)
        if not isinstance(changed, Request):
            raise TypeError(f"an auth callable returns the request to send, not {changed!r}")
        yield changed


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


def find_auth(auth: Auth | None, url: URL) -> Auth | None:
    """`auth`, or what the URL's userinfo says (RFC 3986, section 3.2.1)."""
    if auth is None and (url.username or url.password):
        return BasicAuth(url.username, url.password)
    return auth


def _as_bytes(value: str | bytes) -> bytes:
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise TypeError(f"a user name or password is str or bytes, not {type(value).__name__}")
    try:
        return value.encode("latin-1")
    except UnicodeEncodeError:
        return value.encode("utf-8")
