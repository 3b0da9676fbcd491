"""
Who the client says it is. Each scheme is a generator without I/O: it yields the requests to
send and receives their responses, so that one that has to be asked first fits in as well.
"""

from __future__ import annotations

import base64
import typing
import urllib.parse

from .exceptions import InvalidURL
from .models import Request, Response

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
        name, secret = _as_bytes(username, password)
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
    """A function that takes the request, as a copy of its own, and returns the one to send."""

    def __init__(self, function: typing.Callable[[Request], Request]) -> None:
        self._function = function

    def steps(self, request: Request) -> AuthSteps:
        changed = self._function(request._replace())
        if not isinstance(changed, Request):
            # By its type alone: it may be a token.
            raise TypeError(
                f"an auth callable returns the request to send, not {type(changed).__name__}"
            )
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


def find_auth(auth: Auth | None, request: Request) -> Auth | None:
    """
    `auth`, or what the userinfo of the request's URL says (RFC 3986, section 3.2.1). Raises
    `InvalidURL` where that cannot be sent.
    """
    if auth is not None or "@" not in request.url.authority:
        return auth
    username, _, password = request.url.authority.rpartition("@")[0].partition(":")
    if not username and not password:
        return None
    try:
        return BasicAuth(_unquoted(username), _unquoted(password))
    except ValueError as error:
        raise InvalidURL(f"the URL's credentials: {error}", request=request) from error


def _unquoted(component: str) -> str | bytes:
    """Text, as if it was given as text; or the bytes, if they are none."""
    data = urllib.parse.unquote_to_bytes(component)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data


def _as_bytes(*values: str | bytes) -> list[bytes]:
    """All in the same encoding."""
    for value in values:
        if not isinstance(value, (str, bytes)):
            raise TypeError(f"a user name or password is str or bytes, not {type(value).__name__}")
    encoding = "latin-1"
    try:
        "".join([value for value in values if isinstance(value, str)]).encode(encoding)
    except UnicodeEncodeError:
        encoding = "utf-8"
    return [value.encode(encoding) if isinstance(value, str) else value for value in values]
