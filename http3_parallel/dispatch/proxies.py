"""
Which proxy, if any, a request goes through.

The ``proxies=`` of a client, else the environment (``HTTP_PROXY``, ``HTTPS_PROXY``,
``ALL_PROXY``, ``NO_PROXY``, by the rules of `urllib.request`) if `trust_env`. Read once, at the
first use, and kept.
"""

from __future__ import annotations

import base64
import dataclasses
import typing
import urllib.parse
import urllib.request

from ..exceptions import ProxyError

__all__ = ["Proxy", "ProxyMap"]

_DEFAULT_PORTS = {
    "http": 80,
    "https": 443,
    "socks4": 1080,
    "socks4a": 1080,
    "socks5": 1080,
    "socks5h": 1080,
}


@dataclasses.dataclass(frozen=True)
class Proxy:
    """A proxy's place and its credentials, which no text shows."""

    scheme: str
    host: str
    port: int
    username: str | None = dataclasses.field(default=None, repr=False)
    password: str | None = dataclasses.field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str) -> Proxy:
        """Raises `ValueError`, without the URL in its text since that may hold a password."""
        try:
            parts = urllib.parse.urlsplit(url if "://" in url else f"http://{url}")
            port = parts.port
        except ValueError:
            raise ValueError("a proxy's URL is not valid") from None
        scheme = parts.scheme.lower()
        if scheme not in _DEFAULT_PORTS:
            raise ValueError(
                f"a proxy's URL has the scheme {scheme!r}: "
                f"it must be one of {', '.join(_DEFAULT_PORTS)}"
            )
        if not parts.hostname:
            raise ValueError("a proxy's URL has no host")
        return cls(
            scheme=scheme,
            host=parts.hostname,
            port=_DEFAULT_PORTS[scheme] if port is None else port,
            username=None if parts.username is None else urllib.parse.unquote(parts.username),
            password=None if parts.password is None else urllib.parse.unquote(parts.password),
        )

    @property
    def is_socks(self) -> bool:
        return self.scheme.startswith("socks")

    @property
    def authority(self) -> str:
        """``host:port``, for messages."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def authorization(self) -> bytes | None:
        """The value of ``Proxy-Authorization`` (RFC 7617), if there are credentials."""
        if self.username is None:
            return None
        credentials = f"{self.username}:{self.password or ''}".encode()
        return b"Basic " + base64.b64encode(credentials)


class ProxyMap:
    """
    `proxies` has the keys ``"http"``, ``"https"``, ``"all"``, ``"http://host"``,
    ``"https://host"``, a URL or None (direct) for each, and ``"no"``: a comma-separated list of
    hosts, as in ``NO_PROXY``.

    Raises `ValueError` and `TypeError` for a bad one.
    """

    def __init__(self, proxies: typing.Mapping[str, str | None] | None, trust_env: bool) -> None:
        self._trust_env = trust_env
        self._urls: dict[str, str] | None = None
        self._none: frozenset[str] = frozenset()
        if proxies is not None:
            for key, url in proxies.items():
                if not isinstance(key, str) or not (url is None or isinstance(url, str)):
                    raise TypeError("proxies maps strings to URLs, as strings, or None")
                if url and key != "no":
                    Proxy.parse(url)
            self._urls = {key.lower(): url for key, url in proxies.items() if url}
            self._none = frozenset(key.lower() for key, url in proxies.items() if not url)
        self._parsed: dict[str, Proxy] = {}

    def for_host(self, scheme: str, host: str, port: int) -> Proxy | None:
        """Raises `ProxyError` for a variable of the environment that is no proxy's URL."""
        urls = self._urls
        if urls is None:
            urls = self._urls = urllib.request.getproxies_environment() if self._trust_env else {}
        if not urls:
            return None
        if urls.get("no") and _goes_direct(host, port, urls):
            return None
        for key in (f"{scheme}://{host}", scheme, "all"):
            if key in self._none:
                return None
            url = urls.get(key)
            if url:
                return self._parse(url, scheme)
        return None

    def _parse(self, url: str, scheme: str) -> Proxy:
        proxy = self._parsed.get(url)
        if proxy is None:
            try:
                proxy = Proxy.parse(url)
            except ValueError as exc:
                raise ProxyError(
                    f"the proxy for {scheme} cannot be used: {exc}; see the environment "
                    f"variables {scheme}_proxy and all_proxy"
                ) from exc
            self._parsed[url] = proxy
        return proxy


def _goes_direct(host: str, port: int, urls: dict[str, str]) -> bool:
    if ":" in host:  # the standard library takes an IPv6 address for a host with a port
        names = {name.strip().strip("[]").lower() for name in urls["no"].split(",")}
        return host in names or "*" in names
    # Missing from typeshed, as from the documentation; requests uses it as well.
    bypass = urllib.request.proxy_bypass_environment  # type: ignore[attr-defined]
    return bool(bypass(f"{host}:{port}", urls))
