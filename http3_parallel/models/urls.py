"""URLs as objects. How they are taken apart and checked stands in `references`."""

from __future__ import annotations

import re
import typing
from urllib.parse import quote, unquote

from ..exceptions import InvalidURL
from .queryparams import QueryParams, QueryParamTypes
from .references import (
    DEFAULT_PORTS,
    Parts,
    build,
    encodable,
    parse,
    plain_parts,
    split_authority,
)

__all__ = ["URL", "Origin", "URLTypes", "without_password"]


_COMPONENTS = frozenset(
    ("scheme", "authority", "username", "password", "host", "port", "path", "query", "fragment")
)


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
    _parts: Parts

    def __init__(
        self,
        url: URLTypes,
        allow_relative: bool = False,
        params: QueryParamTypes | None = None,
    ) -> None:
        if isinstance(url, str):
            parts = plain_parts(url)
            if parts is not None:
                # Of a subclass of str, too, this is a str.
                self._url, self._parts = str.__str__(url), parts
            else:
                try:
                    self._url, self._parts = parse(url, allow_relative)
                except InvalidURL as error:
                    error._url = url
                    raise
        elif isinstance(url, URL):
            self._url, self._parts = url._url, url._parts
            if not allow_relative and not url.is_absolute_url:
                build(url._parts, allow_relative=False)
        else:
            raise TypeError(f"a URL is a str or a URL, not {type(url).__name__}")
        if params is not None:
            with encodable():
                query = str(QueryParams(params))
            if query:
                parts = (*self._parts[:5], query, self._parts[6])
                self._url, self._parts = build(parts, allow_relative)

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
        return int(port) if port else DEFAULT_PORTS.get(self._parts[0] or "")

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
        if not port or int(port) == DEFAULT_PORTS.get(scheme or ""):
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
            # Nor is a name what ends in "=": base64 does.
            shown = [
                f"{name}=…" if equals and value.strip("=") else "…" for name, equals, value in pairs
            ]
            text += "?" + "&".join(shown)
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
                    raise InvalidURL("the authority of a URL has no slash, '?' or '#' in it")
                userinfo, host, port = split_authority(authority)
        if "username" in new or "password" in new:
            username, colon, password = (userinfo or "").partition(":")
            with encodable():
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


def _from_parts(parts: Parts) -> URL:
    url = URL.__new__(URL)
    url._url, url._parts = build(parts, allow_relative=False)
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
        self.is_ssl: bool = url.is_ssl
        self.host: str = url.host
        self.port: int | None = url.port

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Origin):
            return NotImplemented
        return (self.is_ssl, self.host, self.port) == (other.is_ssl, other.host, other.port)

    def __hash__(self) -> int:
        return hash((self.is_ssl, self.host, self.port))

    def __repr__(self) -> str:
        scheme = "https" if self.is_ssl else "http"
        return f"Origin({f'{scheme}://{self.host}:{self.port}'!r})"


URLTypes = typing.Union[URL, str]
