"""
URLs by RFC 3986, normalised when they are made.

Nearly every URL is plain: ASCII, lower-case scheme and host, nothing to escape. One regular
expression recognises those and splits them in the same step. All others are split, normalised
and checked component by component (`_build`), which also serves `join` and `copy_with`, so
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
from urllib.parse import quote, unquote

from ..exceptions import InvalidURL
from .queryparams import QueryParams, QueryParamTypes

__all__ = ["URL", "Origin", "URLTypes", "without_password"]

URLTypes = typing.Union["URL", str]

# scheme, userinfo, host, port, path, query, fragment
_Parts = tuple[
    typing.Optional[str],
    typing.Optional[str],
    typing.Optional[str],
    typing.Optional[str],
    str,
    typing.Optional[str],
    typing.Optional[str],
]

_COMPONENTS = frozenset(
    ("scheme", "authority", "username", "password", "host", "port", "path", "query", "fragment")
)

_DEFAULT_PORTS = {"http": 80, "https": 443}

# RFC 3986, sections 2.2, 2.3 and 3.3.
_UNRESERVED = r"A-Za-z0-9._~\-"
_SUB_DELIMS = r"!$&'()*+,;="
_PCHAR = _UNRESERVED + _SUB_DELIMS + ":@"

# A label of more than 63 octets, or an empty one, has no place in the DNS (RFC 1035, section
# 2.3.4), and makes the resolver of the standard library raise a UnicodeError.
_HOST = r"(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}\.?"
_LONGEST_HOST = 254  # 253 and the dot of the root

# The second group never matches: there is no userinfo in a plain URL.
_PLAIN = re.compile(
    rf"(https?)://((?!))?({_HOST})(?::([0-9]{{1,4}}|[1-5][0-9]{{4}}))?((?:/[{_PCHAR}/]*)?)"
    rf"(?:\?([{_PCHAR}/?]*))?(?:#([{_PCHAR}/?]*))?"
)
# RFC 3986, appendix B.
_REFERENCE = re.compile(
    r"(?:([A-Za-z][A-Za-z0-9+.-]*):)?(?://([^/?#]*))?([^?#]*)(?:\?([^#]*))?(?:#(.*))?", re.DOTALL
)
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
_REG_NAME = re.compile(_HOST)
# RFC 6874 has the zone after "%25"; a bare "%", as people write it, is taken too.
_IP_LITERAL = re.compile(rf"\[([0-9A-Fa-f:.]+)(?:%(?:25)?([{_UNRESERVED}]+))?\]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@contextlib.contextmanager
def _encodable() -> typing.Iterator[None]:
    try:
        yield
    except UnicodeEncodeError as error:
        raise InvalidURL("The URL has a lone surrogate, which no encoding can express") from error


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
            raise InvalidURL(f"The URL has a control character (U+{code:04X}) in its {component}")
        return "".join([f"%{byte:02X}" for byte in text.encode("utf-8")])

    return lambda text: unsafe.sub(replace, text)


_quote_userinfo = _quoter("userinfo", _UNRESERVED + _SUB_DELIMS + ":")
_quote_path = _quoter("path", _PCHAR + "/")
_quote_query = _quoter("query", _PCHAR + "/?")
_quote_fragment = _quoter("fragment", _PCHAR + "/?")


def _split_authority(authority: str) -> tuple[str | None, str, str | None]:
    """Userinfo, host, port (RFC 3986, section 3.2)."""
    if "\\" in authority:
        # Browsers take it for a slash: where the host ends would depend on who reads it.
        raise InvalidURL("The URL has a backslash in its host or credentials")
    head, at, host = authority.rpartition("@")
    userinfo = head if at else None
    if host.startswith("["):
        literal, bracket, port = host.partition("]")
        if port and not port.startswith(":"):
            raise InvalidURL("The URL has something other than a port after its IPv6 address")
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
        raise InvalidURL("The URL has an IPv6 address that is none: write it as [2001:db8::1]")
    if len(host) <= _LONGEST_HOST:
        if host.isascii():
            host = host.lower()
        else:
            import idna  # 5 ms and 1 MB of tables that few programs need

            try:
                host = idna.encode(host, uts46=True).decode("ascii")
            except UnicodeError as error:
                raise InvalidURL(f"The URL's host is no internationalised name: {error}") from error
        if len(host) <= _LONGEST_HOST and _REG_NAME.fullmatch(host):
            return host
    raise InvalidURL(f"The URL's host is not a valid host name: {host[:_LONGEST_HOST]!r}")


def _check_port(port: str) -> None:
    if port and not (port.isascii() and port.isdigit()):
        # Not shown: of "user:pass/word@host" it is a part of the password.
        raise InvalidURL("The URL's port is not a number")
    significant = port.lstrip("0")
    if len(significant) > 5 or int(significant or 0) > 65535:
        raise InvalidURL(f"The URL's port is above 65535: {port[:20]}")


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


def _build(parts: _Parts, allow_relative: bool) -> tuple[str, _Parts]:
    """Check and normalise the components, and put them together."""
    scheme, userinfo, host, port, path, query, fragment = parts
    url = ""
    if scheme is not None:
        scheme = scheme.lower()
        if not _SCHEME.fullmatch(scheme):
            raise InvalidURL("The URL's scheme is not a valid one")
        url = scheme + ":"
    elif not allow_relative:
        raise InvalidURL("No scheme included in URL: it starts with https:// or http://")
    with _encodable():
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
            raise InvalidURL("No host included in URL: it looks like https://host/path")
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


def _parse(url: str, allow_relative: bool) -> tuple[str, _Parts]:
    match = _REFERENCE.fullmatch(url)
    assert match is not None  # every text is a reference, if not a good one
    scheme, authority, path, query, fragment = match.groups()
    userinfo = host = port = None
    if authority is not None:
        userinfo, host, port = _split_authority(authority)
    return _build((scheme, userinfo, host, port, path, query, fragment), allow_relative)


class URL:
    """
    A URL, normalised (RFC 3986, section 6.2.2): scheme and host in lower case, the host by
    IDNA 2008, dot segments removed, percent-escapes in upper case, everything else that a URL
    must not contain percent-encoded. A default port and a missing slash stay as they are
    written: ``http://x`` and ``http://x/`` are not equal, their `origin` is.

    * `url`: a str or another `URL`.
    * `allow_relative`: take a reference without scheme or host too.
    * `params`: what `QueryParams` takes; unless empty, it replaces the query.

    `InvalidURL` is raised for what is no URL, `TypeError` for what is no text.
    """

    __slots__ = ("_parts", "_url")

    _url: str
    _parts: _Parts

    def __init__(
        self,
        url: URLTypes,
        allow_relative: bool = False,
        params: QueryParamTypes | None = None,
    ) -> None:
        if isinstance(url, str):
            match = _PLAIN.fullmatch(url)
            try:
                if match is not None and "/." not in match[5] and match.end(3) < _LONGEST_HOST:
                    self._url = match[0]
                    self._parts = typing.cast(_Parts, match.groups())
                else:
                    self._url, self._parts = _parse(url, allow_relative)
            except InvalidURL as error:
                error._url = url
                raise
        elif isinstance(url, URL):
            self._url, self._parts = url._url, url._parts
            if not allow_relative and not url.is_absolute_url:
                _build(url._parts, allow_relative=False)
        else:
            raise TypeError(f"a URL is a str or a URL, not {type(url).__name__}")
        if params is not None:
            with _encodable():
                query = str(QueryParams(params))
            if query:
                parts = (*self._parts[:5], query, self._parts[6])
                self._url, self._parts = _build(parts, allow_relative)

    @property
    def scheme(self) -> str:
        return self._parts[0] or ""

    @property
    def authority(self) -> str:
        """``userinfo@host:port``, as far as given, with the credentials."""
        userinfo, host, port = self._parts[1:4]
        authority = host or ""
        if userinfo is not None:
            authority = f"{userinfo}@{authority}"
        return authority if port is None else f"{authority}:{port}"

    @property
    def username(self) -> str:
        """Percent-decoded; empty if there is none."""
        return unquote((self._parts[1] or "").partition(":")[0])

    @property
    def password(self) -> str:
        """Percent-decoded; empty if there is none."""
        return unquote((self._parts[1] or "").partition(":")[2])

    @property
    def host(self) -> str:
        """Lower case, internationalised names as ``xn--``, IPv6 addresses in brackets."""
        return self._parts[2] or ""

    @property
    def port(self) -> int | None:
        """The scheme's own if none is given; None if that is not known."""
        port = self._parts[3]
        return int(port) if port else _DEFAULT_PORTS.get(self._parts[0] or "")

    @property
    def host_header(self) -> str:
        """
        The value of ``Host`` (RFC 9110, section 7.2): no credentials, no zone of a link-local
        address (RFC 6874, section 3), and the port only if it is not the scheme's own.
        """
        scheme, _, host, port = self._parts[:4]
        host = host or ""
        if "%" in host:
            host = host.partition("%")[0] + "]"
        if not port or int(port) == _DEFAULT_PORTS.get(scheme or ""):
            return host
        return f"{host}:{int(port)}"

    @property
    def path(self) -> str:
        return self._parts[4] or "/"

    @property
    def query(self) -> str:
        return self._parts[5] or ""

    @property
    def full_path(self) -> str:
        """Path and query, as they go into the request line."""
        path, query = self._parts[4] or "/", self._parts[5]
        return path if query is None else f"{path}?{query}"

    @property
    def fragment(self) -> str:
        return self._parts[6] or ""

    @property
    def is_ssl(self) -> bool:
        return self._parts[0] == "https"

    @property
    def is_absolute_url(self) -> bool:
        """Whether there are a scheme and a host."""
        return bool(self._parts[0] and self._parts[2])

    @property
    def is_relative_url(self) -> bool:
        return not self.is_absolute_url

    @property
    def origin(self) -> Origin:
        return Origin(self)

    @property
    def redacted(self) -> str:
        """
        For messages and logs: without credentials and fragment, the query with its names but
        without their values.
        """
        scheme, _, host, port, path, query, _ = self._parts
        text = "" if scheme is None else f"{scheme}:"
        if host is not None:
            text += f"//{host}" if port is None else f"//{host}:{port}"
        text += path
        if query is not None:
            # Without "=" it may be either, so it is taken for a value.
            pairs = [item.partition("=") for item in query.split("&")]
            text += "?" + "&".join([f"{name}=…" if equals else "…" for name, equals, _ in pairs])
        return text

    def copy_with(self, **components: str | int | None) -> URL:
        """
        Another URL, with some of `scheme`, `authority`, `username`, `password`, `host`, `port`,
        `path`, `query` and `fragment` replaced, or removed by None. It must be absolute.

        `username` and `password` are given as they are, not percent-encoded.
        """
        unknown = components.keys() - _COMPONENTS
        if unknown:
            raise TypeError(f"a URL has no component {min(unknown)!r}")
        for name, value in components.items():
            if name == "port" and isinstance(value, int) and not isinstance(value, bool):
                components[name] = str(value)
            elif value is not None and not isinstance(value, str):
                raise TypeError(f"{name} is a str or None, not {type(value).__name__}")
        new = typing.cast("dict[str, str | None]", components)

        scheme, userinfo, host, port, path, query, fragment = self._parts
        if "authority" in new:
            authority = new["authority"]
            userinfo = host = port = None
            if authority is not None:
                if re.search(r"[/?#]", authority):
                    raise InvalidURL("The authority of a URL has no slash, '?' or '#' in it")
                userinfo, host, port = _split_authority(authority)
        if "username" in new or "password" in new:
            username, colon, password = (userinfo or "").partition(":")
            with _encodable():
                if "username" in new:
                    username = quote(new["username"] or "", safe="")
                if "password" in new:
                    colon = "" if new["password"] is None else ":"
                    password = quote(new["password"] or "", safe="")
            userinfo = f"{username}{colon}{password}" or None
        return _from_parts(
            (
                new.get("scheme", scheme),
                userinfo,
                new.get("host", host),
                new.get("port", port),
                new.get("path", path) or "",
                new.get("query", query),
                new.get("fragment", fragment),
            )
        )

    def join(self, url: URLTypes) -> URL:
        """The URL that a reference means on this one's page (RFC 3986, section 5.2)."""
        reference = URL(url, allow_relative=True)
        parts = reference._parts
        scheme, userinfo, host, port, path, query, _ = self._parts
        if parts[0] is not None:
            return URL(reference)
        if parts[2] is not None:
            return _from_parts((scheme, *parts[1:]))
        if not parts[4]:
            if parts[5] is not None:
                query = parts[5]
        else:
            query = parts[5]
            directory = "" if parts[4].startswith("/") else path[: path.rfind("/") + 1]
            path = directory + parts[4]
        return _from_parts((scheme, userinfo, host, port, path, query, parts[6]))

    def resolve_with(self, url: URLTypes) -> URL:
        """The same as `join`."""
        return self.join(url)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, URL):
            return self._url == other._url
        return self._url == other if isinstance(other, str) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._url)

    def __str__(self) -> str:
        return self._url

    def __repr__(self) -> str:
        return f"URL({without_password(self)!r})"

    def __reduce__(self) -> tuple[typing.Any, ...]:
        return URL, (self._url, True)


def _from_parts(parts: _Parts) -> URL:
    url = URL.__new__(URL)
    url._url, url._parts = _build(parts, allow_relative=False)
    return url


def without_password(url: URL) -> str:
    """The URL as text for a `repr`."""
    text = str(url)
    username, colon, _ = (url._parts[1] or "").partition(":")
    if not colon:
        return text
    return text.replace(f"//{url._parts[1]}@", f"//{username}:[secure]@", 1)


class Origin:
    """What two URLs share if they lead to the same server (RFC 6454): TLS, host and port."""

    __slots__ = ("host", "is_ssl", "port")

    def __init__(self, url: URLTypes) -> None:
        if not isinstance(url, URL):
            url = URL(url)
        self.is_ssl = url.is_ssl
        self.host = url.host
        self.port = url.port

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Origin):
            return NotImplemented
        return (self.is_ssl, self.host, self.port) == (other.is_ssl, other.host, other.port)

    def __hash__(self) -> int:
        return hash((self.is_ssl, self.host, self.port))

    def __repr__(self) -> str:
        scheme = "https" if self.is_ssl else "http"
        return f"Origin({f'{scheme}://{self.host}:{self.port}'!r})"
