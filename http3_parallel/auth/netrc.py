"""Credentials from a netrc file."""

from __future__ import annotations

import contextlib
import netrc
import os
import typing

from .base import Auth
from .basic import BasicAuth, userinfo_auth

if typing.TYPE_CHECKING:
    from ..models import Request
    from .base import AuthSteps

__all__ = ["NetRCAuth"]


#: Where else the default file may be.
_FALLBACK = "~/_netrc" if os.name == "nt" else None


class NetRCAuth(Auth):
    """
    The Basic scheme, with the credentials that a netrc file has for the host of the request, or
    else its ``default`` entry. A request for which it has none is sent with the credentials of
    its URL, if there are any.

    * `file`: its path. None: what the variable ``NETRC`` names, or ``~/.netrc``, or, on Windows
      only, ``~/_netrc``; if that is not there, no host has credentials.

    The file is read now. Raises `OSError` where it cannot be read, and `ValueError` where it is
    malformed, or ``~/.netrc`` is open to other users. Neither shows what is in it. It is read by
    the `netrc` module of the standard library, which takes few comments for such.
    """

    def __init__(self, file: str | os.PathLike[str] | None = None) -> None:
        if file is None:
            hosts = _default_hosts()
        elif isinstance(file, (str, os.PathLike)):
            hosts = _hosts(os.fspath(file))
        else:
            raise TypeError(f"file is the path of a netrc file, not {type(file).__name__}")
        self._default = hosts.pop("default", None)
        self._hosts = {name.lower().strip("[]"): auth for name, auth in hosts.items()}

    def steps(self, request: Request) -> AuthSteps:
        host = request.url.host.strip("[]")
        auth = self._hosts.get(host, self._default) or userinfo_auth(request)
        if auth is None:
            yield request
        else:
            yield from auth.steps(request)

    def __repr__(self) -> str:
        return "<NetRCAuth>"


_Hosts = dict[str, typing.Optional[BasicAuth]]


def _default_hosts() -> _Hosts:
    named = os.environ.get("NETRC")
    # ~/.netrc is what the standard library finds itself, and then it looks at who may read it.
    files: list[str | None] = [os.path.expanduser(named) if named else None]
    if not named and _FALLBACK is not None:
        files.append(os.path.expanduser(_FALLBACK))
    for file in files:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            return _hosts(file)
    return {}


def _hosts(file: str | None) -> _Hosts:
    """By name, or ``default``; None for one that is named without credentials."""
    where = "~/.netrc" if file is None else file
    hosts: _Hosts = {}
    for host, (login, _, password) in _parsed(file, where).items():
        try:
            hosts[host] = BasicAuth(login or "", password or "") if login or password else None
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
    return hosts


def _parsed(
    file: str | None, where: str
) -> typing.Mapping[str, tuple[str, str | None, str | None]]:
    try:
        return netrc.netrc(file).hosts
    except (netrc.NetrcParseError, ValueError) as error:
        # Neither in the message nor as the cause: it may quote the file.
        is_open = str(error).startswith("~/.netrc ")
        line = getattr(error, "lineno", None)
    if is_open:
        raise ValueError(f"{where} is not used: it must be yours, and closed to others (chmod 600)")
    place = "" if line is None else f": it gave up in line {line}, perhaps over a comment"
    raise ValueError(f"{where} is not a netrc file as Python's netrc module reads it{place}")
