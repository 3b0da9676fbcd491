"""The Basic scheme (RFC 7617), also of the credentials in a URL."""

from __future__ import annotations

import base64
import contextlib
import typing
import urllib.parse

from ..exceptions import InvalidURL
from .base import Auth

if typing.TYPE_CHECKING:
    from ..models import Request
    from .base import AuthSteps

__all__ = ["BasicAuth", "HTTPBasicAuth", "check_credentials", "encode_credentials", "userinfo_auth"]


class BasicAuth(Auth):
    """
    The Basic scheme (RFC 7617). Text is encoded as ISO 8859-1, or UTF-8 where that cannot;
    bytes are sent as they are.
    """

    def __init__(self, username: str | bytes, password: str | bytes) -> None:
        check_credentials(username, password)
        name, secret = encode_credentials(username, password)
        if b":" in name:
            raise ValueError("a user name with a colon cannot be sent (RFC 7617, section 2)")
        self._value = "Basic " + base64.b64encode(name + b":" + secret).decode("ascii")

    def steps(self, request: Request) -> AuthSteps:
        changed = request._replace()
        changed.headers["authorization"] = self._value
        yield changed

    def __repr__(self) -> str:
        return "<BasicAuth>"


#: The name that http3 had for it.
HTTPBasicAuth = BasicAuth


def userinfo_auth(request: Request) -> BasicAuth | None:
    """
    What the userinfo of the request's URL says (RFC 3986, section 3.2.1); None if it has none.
    Raises `InvalidURL` where that cannot be sent.
    """
    if "@" not in request.url.authority:
        return None
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


def check_credentials(*values: object) -> None:
    for value in values:
        if not isinstance(value, (str, bytes)):
            raise TypeError(f"a user name or password is str or bytes, not {type(value).__name__}")


def encode_credentials(*values: str | bytes) -> list[bytes]:
    """All in the same encoding: ISO 8859-1, or UTF-8 where that cannot."""
    for encoding in ("latin-1", "utf-8"):
        with contextlib.suppress(UnicodeEncodeError):  # which shows the values
            return [value.encode(encoding) if isinstance(value, str) else value for value in values]
    raise ValueError("a user name or password has a lone surrogate, which cannot be encoded")
