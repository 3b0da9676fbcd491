"""
Requests to the network: borrow a connection, or make one; exchange; give it back.

A request is sent again by itself in one case only: on a *reused* connection that turns out to
be closed before any byte of a response. Then once, on a new connection, and only if it is
idempotent and its body can be had again, or if the system had not taken a byte of it. Never
after an abort or a timeout.
"""

from __future__ import annotations

import contextlib
import os
import time
import typing
import urllib.parse

from ..aborting import Abort
from ..config import MAX_WORKERS, PoolLimits, SSLConfig, default_pool_limits
from ..exceptions import HTTPError, ProtocolError, UnsupportedScheme
from ..models import URL, Headers, Request, Response
from ..models.references import LONGEST_HOST
from .base import Context, Dispatcher
from .body import ResponseBody, let_go
from .connections import Connection, Route
from .exchange import Exchange, Stale
from .http11 import FieldLines, request_line
from .pool import ConnectionPool, Lease
from .proxies import ProxyMap

__all__ = ["NetworkDispatch"]

_Fields = list[tuple[bytes, bytes]]

#: For so many origins, how requests go there is remembered.
_MAX_WAYS = 1024
#: And the last field lines that went there, unless they have other fields, which may be secret, or
#: more bytes.
_HARMLESS = frozenset(
    {
        b"accept",
        b"accept-encoding",
        b"accept-language",
        b"cache-control",
        b"connection",
        b"content-length",
        b"content-type",
        b"host",
        b"transfer-encoding",
        b"user-agent",
    }
)
_MAX_LINES = 4096


class _Way:
    """
    How requests go to one origin.

    * `ssl`: with which of the user's settings.
    * `prefix`: what comes before the path in the request target.
    * `authorization`: the credentials for a proxy that makes the request itself.
    * `to_proxy`: whether it is one. What else is meant for a proxy stays with the proxy (RFC
      9110, section 11.7.2).
    """

    __slots__ = ("_last", "authorization", "prefix", "route", "ssl", "to_proxy")

    def __init__(
        self,
        route: Route,
        ssl: SSLConfig,
        *,
        prefix: str = "",
        to_proxy: bool = False,
        authorization: bytes | None = None,
    ) -> None:
        self.route: Route = route
        self.ssl: SSLConfig = ssl
        self.prefix: str = prefix
        self.to_proxy: bool = to_proxy
        self.authorization: bytes | None = authorization
        # Most requests have the same as the one before.
        self._last: tuple[_Fields, FieldLines] = ([], FieldLines.of([]))

    def lines(self, given: _Fields) -> FieldLines:
        """Those of a request with these fields. Raises `ProtocolError`."""
        fields, lines = self._last
        if given == fields:
            return lines
        fields = given
        if self.authorization is not None or not self.to_proxy:
            fields = [pair for pair in fields if pair[0] != b"proxy-authorization"]
            if self.authorization is not None:
                fields.append((b"proxy-authorization", self.authorization))
        try:
            lines = FieldLines.of(fields)
        except ValueError as exc:
            raise _invalid(exc) from exc
        if len(lines.data) < _MAX_LINES and _HARMLESS.issuperset([name for name, _ in given]):
            self._last = (given.copy(), lines)
        return lines


class NetworkDispatch(Dispatcher):
    """
    Sends requests over HTTP/1.1, with connections kept for reuse.

    * `limits`: a `PoolLimits`; by default as those of a client.
    * `proxies`: as those of a client; None for those of the environment, if `trust_env`.
    * `trust_env`: whether the environment says what proxies and CA certificates to use.

    Raises `ValueError` and `TypeError` for bad `proxies`.
    """

    abortable = True

    def __init__(
        self,
        *,
        limits: PoolLimits | None = None,
        proxies: typing.Mapping[str, str | None] | None = None,
        trust_env: bool = True,
    ) -> None:
        # urllib3 is loaded here, not with this module, for which a start would wait; and not at the
        # first connection: in a worker, where a fork would leave it half done in the child.
        from . import urllib3_border  # noqa: F401

        self._limits = default_pool_limits(MAX_WORKERS) if limits is None else limits
        #: By process id: a forked child has a pool of its own.
        self._pools: dict[int, ConnectionPool[Connection]] = {}
        self._proxies = ProxyMap(proxies, trust_env)
        self._trust_env = trust_env
        self._ways: dict[tuple[str | None, str | None, str | None], _Way] = {}

    def send(self, request: Request, context: Context) -> Response:
        """
        Return the response as soon as its head is there. One without a body, or whose body came
        with the head and is not to be streamed, has given its connection back by then; the others
        do when their body has been read, or closed.
        """
        url = request.url
        scheme, _, host, port, path, query, _ = url._parts
        way = self._ways.get((scheme, host, port))
        if way is None or way.ssl is not context.ssl:
            way = self._find_way(url, context.ssl)
        target = way.prefix + (path or "/")
        if query is not None:
            target = f"{target}?{query}"
        lines = way.lines(request.headers.raw)
        try:
            head = request_line(request.method, target) + lines.data
        except ValueError as exc:
            raise _invalid(exc) from exc
        try:
            return self._attempt(request, context, way.route, head, lines, fresh=False)
        except Stale:
            context.abort.check()
        # Only once: the connection of this attempt is new, and so never stale.
        return self._attempt(request, context, way.route, head, lines, fresh=True)

    def close(self) -> None:
        self._ways.clear()
        self._pool.close()

    @property
    def _pool(self) -> ConnectionPool[Connection]:
        """This process's. A forked child lets go of the parent's, unnoticed by its servers."""
        pid = os.getpid()
        pool = self._pools.get(pid)
        if pool is None:
            # Without a lock, which a thread of the parent may have held: setdefault is one step.
            pool = self._pools.setdefault(pid, ConnectionPool(self._limits))
            for other in [key for key in self._pools.copy() if key != pid]:
                parents = self._pools.pop(other, None)
                if parents is not None:
                    parents.forget()
        return pool

    def _find_way(self, url: URL, ssl: SSLConfig) -> _Way:
        if len(self._ways) >= _MAX_WAYS:
            self._ways.clear()
        way = self._new_way(url, ssl)
        if len(url.host) <= LONGEST_HOST:  # the zone of an IPv6 address has no limit
            self._ways[url._parts[0], url._parts[2], url._parts[3]] = way
        return way

    def _new_way(self, url: URL, ssl: SSLConfig) -> _Way:
        scheme, host, port = url.scheme, url.host, url.port
        if scheme not in ("http", "https") or port is None:
            raise UnsupportedScheme(f"{scheme!r} URLs cannot be requested, only http and https")
        if host.startswith("["):
            host = urllib.parse.unquote(host[1:-1])
        proxy = self._proxies.for_host(scheme, host, port)
        if scheme == "https":
            return _Way(Route(scheme, host, port, ssl, proxy), ssl)
        if proxy is None or proxy.is_socks:
            return _Way(Route(scheme, host, port, None, proxy), ssl)
        # The proxy makes the request (RFC 9112, section 3.2.2): all hosts share its connections.
        to_proxy = SSLConfig(verify=ssl.verify) if proxy.scheme == "https" else None
        return _Way(
            Route(scheme, proxy.host, proxy.port, to_proxy, proxy),
            ssl,
            prefix=f"{scheme}://{url.host_header}",
            to_proxy=True,
            authorization=proxy.authorization,
        )

    def _attempt(
        self,
        request: Request,
        context: Context,
        route: Route,
        head: bytes,
        lines: FieldLines,
        *,
        fresh: bool,
    ) -> Response:
        abort, timings = context.abort, context.timings
        # Of this attempt, not of one before it, here or of a dispatcher that was asked first.
        timings._restart()
        abort.phase = "waiting for a connection"
        lease = self._pool.acquire(route, abort)
        seen = timings._seen
        if seen is not None:
            seen.acquired = time.perf_counter()
        try:
            connection = lease.connection
            reused = connection is not None and not fresh
            if connection is None or fresh:
                connection = self._connect(lease, route, context)
            else:
                abort.blocked_on(connection.wake)
            if seen is not None:
                seen.connection, seen.reused = connection.name, reused
            exchange = Exchange(request, head, lines, connection, context, reused, lease)
            reader = exchange.run()
            abort.phase = "reading the body"
            content: bytes | ResponseBody | None = None
            if not (context.stream and reader.length):
                content = reader.take_whole()
            if isinstance(content, bytes):
                abort.received += len(content)
                timings.mark("done")
                let_go(lease, abort, reusable=exchange.may_reuse and reader.may_reuse)
            else:
                content = ResponseBody(
                    reader,
                    lease,
                    abort,
                    request,
                    context.timeout.read_timeout,
                    timings,
                    may_reuse=exchange.may_reuse,
                )
            response = Response._received(
                reader.status,
                "HTTP/1.0" if reader.version == 10 else "HTTP/1.1",
                Headers._of(reader.raw_headers),
                content,
                request,
                reader.is_bare,
            )
            if context.stream and not isinstance(content, bytes):
                lease.delivered()
            return response
        except BaseException:
            _drop(lease, abort)
            raise

    def _connect(self, lease: Lease[Connection], route: Route, context: Context) -> Connection:
        """A new one, in place of the one that the lease has, if any."""
        old, lease.connection = lease.connection, None
        if old is not None:
            old.close()
        lease.connection = connection = Connection(route, self._trust_env)
        connection.open(context.abort, context.timeout.connect_timeout, context.timings)
        return connection


def _invalid(reason: ValueError) -> ProtocolError:
    return ProtocolError(f"the request is not valid HTTP/1.1: {reason}")


def _drop(lease: Lease[Connection], abort: Abort) -> None:
    # What led here says more than the abort's error, or the same.
    with contextlib.suppress(HTTPError):
        let_go(lease, abort, reusable=False)
