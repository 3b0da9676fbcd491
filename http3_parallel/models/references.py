"""
URLs by RFC 3986, normalised when they are made.

Nearly every URL is plain: ASCII, lower-case scheme and host, nothing to escape. One regular
expression recognises those and splits them in the same step. All others are split, normalised
and checked component by component (`build`), which also serves `join` and `copy_with`, so
that no way to make a URL leads around the checks.

Guarantees: a normalised URL is pure ASCII without controls or spaces, parsing it again gives
itself, and whatever cannot be one is an `InvalidURL`, whose message repeats neither
credentials nor query.
"""

from __future__ import annotations

import contextlib
import re
import socket
import typing

from ..exceptions import InvalidURL

__all__ = [
    "DEFAULT_PORTS",
    "LONGEST_HOST",
    "Parts",
    "build",
    "encodable",
    "parse",
    "plain_parts",
    "split_authority",
]

# scheme, userinfo, host, port, path, query, fragment
Parts = tuple[
    typing.Optional[str],
    typing.Optional[str],
    typing.Optional[str],
    typing.Optional[str],
    str,
    typing.Optional[str],
    typing.Optional[str],
]

DEFAULT_PORTS = {"http": 80, "https": 443}

# RFC 3986, sections 2.2, 2.3 and 3.3.
_UNRESERVED = r"A-Za-z0-9._~\-"
_SUB_DELIMS = r"!$&'()*+,;="
_PCHAR = _UNRESERVED + _SUB_DELIMS + ":@"

# A label of more than 63 octets, or an empty one, has no place in the DNS (RFC 1035, section
# 2.3.4), and makes the resolver of the standard library raise a UnicodeError.
_HOST = r"(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}\.?"
LONGEST_HOST = 254  # 253 and the dot of the root
#: Digits of a port, zeros in front included: Python makes no number of thousands of them.
LONGEST_PORT = 20

# The second group never matches: there is no userinfo in a plain URL.
_PLAIN_ORIGIN = rf"(https?)://((?!))?({_HOST})(?::([0-9]{{1,4}}|[1-5][0-9]{{4}}))?"
_PLAIN_REST = rf"((?:/[{_PCHAR}/]*)?)(?:\?([{_PCHAR}/?]*))?(?:#([{_PCHAR}/?]*))?"
_PLAIN = re.compile(_PLAIN_ORIGIN + _PLAIN_REST)
_REST = re.compile(_PLAIN_REST)
# RFC 3986, appendix B.
_REFERENCE = re.compile(
    r"(?:([A-Za-z][A-Za-z0-9+.-]*):)?(?://([^/?#]*))?([^?#]*)(?:\?([^#]*))?(?:#(.*))?", re.DOTALL
)
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
_REG_NAME = re.compile(_HOST)
# RFC 6874 has the zone after "%25"; a bare "%", as people write it, is taken too.
_IP_LITERAL = re.compile(rf"\[([0-9A-Fa-f:.]+)(?:%(?:25)?([{_UNRESERVED}]+))?\]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


_Origin = tuple[str, None, str, typing.Optional[str]]

#: The first four parts of plain URLs by their text, for so many of them: most URLs of a program
#: lead to a few servers.
_known_origins: dict[str, _Origin] = {}
_MAX_KNOWN_ORIGINS = 1024


def plain_parts(url: str) -> Parts | None:
    """The parts of a URL that is plain, and so normal as it stands; None for others."""
    end = url.find("/", 8)
    origin = _known_origins.get(url[:end])
    if origin is not None:
        match = _REST.fullmatch(url, end)
        if match is None:
            return None
        path, query, fragment = match.groups()
    else:
        match = _PLAIN.fullmatch(url)
        if match is None or match.end(3) >= LONGEST_HOST:
            return None
        scheme, _, host, port, path, query, fragment = match.groups()
        origin = (scheme, None, host, port)
        if match.start(5) == end:
            if len(_known_origins) >= _MAX_KNOWN_ORIGINS:
                _known_origins.clear()
            _known_origins[url[:end]] = origin
    return None if "/." in path else (*origin, path, query, fragment)


@contextlib.contextmanager
def encodable() -> typing.Iterator[None]:
    try:
        yield
    except UnicodeEncodeError as error:
        raise InvalidURL("the URL has a lone surrogate, which no encoding can express") from error


def _quoter(component: str, safe: str) -> typing.Callable[[str], str]:
    """A function that percent-encodes what `component` must not contain."""
    unsafe = re.compile(rf"%(?:[0-9A-Fa-f]{{2}})?|[^%{safe}]+")

    def replace(match: re.Match[str]) -> str:
        text = match.group()
        if text[0] == "%":
            return text.upper() if len(text) == 3 else "%25"
        control = _CONTROL.search(text)
        if control is not None:
            code = ord(control.group())
            raise InvalidURL(f"the URL has a control character (U+{code:04X}) in its {component}")
        return "".join([f"%{byte:02X}" for byte in text.encode("utf-8")])

    return lambda text: unsafe.sub(replace, text)


_quote_userinfo = _quoter("userinfo", _UNRESERVED + _SUB_DELIMS + ":")
_quote_path = _quoter("path", _PCHAR + "/")
_quote_query = _quoter("query", _PCHAR + "/?")
_quote_fragment = _quoter("fragment", _PCHAR + "/?")


def split_authority(authority: str) -> tuple[str | None, str, str | None]:
    """Userinfo, host, port (RFC 3986, section 3.2)."""
    if "\\" in authority:
        # Browsers take it for a slash: where the host ends would depend on who reads it.
        raise InvalidURL("the URL has a backslash in its host or credentials")
    head, at, host = authority.rpartition("@")
    userinfo = head if at else None
    if host.startswith("["):
        literal, bracket, port = host.partition("]")
        if port and not port.startswith(":"):
            raise InvalidURL("the URL has something other than a port after its IPv6 address")
        return userinfo, literal + bracket, port[1:] if port else None
    host, colon, port = host.partition(":")
    return userinfo, host, port if colon else None


def _normal_host(host: str) -> str:
    if not host:
        return host
    if host.startswith("["):
        match = _IP_LITERAL.fullmatch(host)
        if match is not None:
            address, zone = match.groups()
            try:
                socket.inet_pton(socket.AF_INET6, address)
            except OSError:
                pass
            else:
                return f"[{address.lower()}%25{zone}]" if zone else f"[{address.lower()}]"
        raise InvalidURL("the URL has an IPv6 address that is none: write it as [2001:db8::1]")
    if len(host) <= LONGEST_HOST:
        if host.isascii():
            host = host.lower()
        else:
            import idna  # 5 ms and 1 MB of tables that few programs need

            try:
                host = idna.encode(host, uts46=True).decode("ascii")
            except UnicodeError as error:
                raise InvalidURL(f"the URL's host is no internationalised name: {error}") from error
        if len(host) <= LONGEST_HOST and _REG_NAME.fullmatch(host):
            return host
    raise InvalidURL(f"the URL's host is not a valid host name: {host[:LONGEST_HOST]!r}")


def _check_port(port: str) -> None:
    if port and not (port.isascii() and port.isdigit()):
        # Not shown: of "user:pass/word@host" it is a part of the password.
        raise InvalidURL("the URL's port is not a number")
    significant = port.lstrip("0")
    if len(significant) > 5 or int(significant or 0) > 65535:
        raise InvalidURL("the URL's port is above 65535")
    if len(port) > LONGEST_PORT:
        raise InvalidURL("the URL's port has more digits than anyone needs")


def _remove_dot_segments(path: str) -> str:
    """RFC 3986, section 5.2.4, for a path that is empty or starts with a slash."""
    if "/." not in path:
        return path
    segments = path.split("/")
    kept: list[str] = []
    for segment in segments:
        if segment == "..":
            del kept[max(1, len(kept) - 1) :]
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/".join(kept)


def build(parts: Parts, allow_relative: bool) -> tuple[str, Parts]:
    """Check and normalise the components, and put them together."""
    scheme, userinfo, host, port, path, query, fragment = parts
    url = ""
    if scheme is not None:
        scheme = scheme.lower()
        if not _SCHEME.fullmatch(scheme):
            raise InvalidURL("the URL's scheme is not a valid one")
        url = scheme + ":"
    elif not allow_relative:
        raise InvalidURL("no scheme included in URL: it must start with https:// or http://")
    with encodable():
        if host is not None:
            url += "//"
            if userinfo is not None:
                userinfo = _quote_userinfo(userinfo)
                url += userinfo + "@"
            host = _normal_host(host)
            url += host
            if port is not None:
                _check_port(port)
                url += ":" + port
            if path and not path.startswith("/"):
                path = "/" + path
        if not host and not allow_relative:
            raise InvalidURL("no host included in URL: it must be like https://host/path")
        path = _quote_path(path)
        if host is not None:
            # Without an authority, "/.//x" would become "//x", and "x" the host.
            path = _remove_dot_segments(path)
        url += path
        if query is not None:
            query = _quote_query(query)
            url += "?" + query
        if fragment is not None:
            fragment = _quote_fragment(fragment)
            url += "#" + fragment
    return url, (scheme, userinfo, host, port, path, query, fragment)


def parse(url: str, allow_relative: bool) -> tuple[str, Parts]:
    match = _REFERENCE.fullmatch(url)
    assert match is not None  # every text is a reference, if not a good one
    scheme, authority, path, query, fragment = match.groups()
    userinfo = host = port = None
    if authority is not None:
        userinfo, host, port = split_authority(authority)
    return build((scheme, userinfo, host, port, path, query, fragment), allow_relative)
