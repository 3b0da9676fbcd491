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
import typing
import urllib.parse

from ..aborting import Abort
from ..config import MAX_WORKERS, PoolLimits, SSLConfig, default_pool_limits
from ..exceptions import HTTPError, UnsupportedScheme
from ..models import Headers, Request, Response
from .base import Context, Dispatcher
from .body import ResponseBody, let_go
from .connections import Connection, Route
from .exchange import Exchange, Stale
from .pool import ConnectionPool, Lease
from .proxies import ProxyMap

__all__ = ["NetworkDispatch"]

_Fields = list[tuple[bytes, bytes]]


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
        self._limits = default_pool_limits(MAX_WORKERS) if limits is None else limits
        #: By process id: a forked child has a pool of its own.
        self._pools: dict[int, ConnectionPool[Connection]] = {}
        self._proxies = ProxyMap(proxies, trust_env)
        self._trust_env = trust_env

    def send(self, request: Request, context: Context) -> Response:
        """
        Return the response as soon as its head is there. One without a body has given its
        connection back by then; the others do when their body has been read, or closed.
        """
        route, target, headers = self._plan(request, context.ssl)
        try:
            return self._attempt(request, context, route, target, headers, fresh=False)
        except Stale:
            context.abort.check()
        # Only once: the connection of this attempt is new, and so never stale.
        return self._attempt(request, context, route, target, headers, fresh=True)

    def close(self) -> None:
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

    def _plan(self, request: Request, ssl: SSLConfig) -> tuple[Route, str, _Fields]:
        """Along which route, for which request target, and with which headers."""
        url = request.url
        scheme, host, port = url.scheme, url.host, url.port
        if scheme not in ("http", "https") or port is None:
            raise UnsupportedScheme(f"{scheme!r} URLs cannot be requested, only http and https")
        if host.startswith("["):
            host = urllib.parse.unquote(host[1:-1])
        proxy = self._proxies.for_host(scheme, host, port)
        if proxy is None or proxy.is_socks or scheme == "https":
            # What is meant for a proxy stays with the proxy (RFC 9110, section 11.7.2).
            headers = [pair for pair in request.headers.raw if pair[0] != b"proxy-authorization"]
            if scheme == "https":
                return Route(scheme, host, port, ssl, proxy), url.full_path, headers
            return Route(scheme, host, port, None, proxy), url.full_path, headers
        # The proxy makes the request (RFC 9112, section 3.2.2): all hosts share its connections.
        headers = list(request.headers.raw)
        if proxy.authorization is not None:
            headers = [pair for pair in headers if pair[0] != b"proxy-authorization"]
            headers.append((b"proxy-authorization", proxy.authorization))
        to_proxy = SSLConfig(verify=ssl.verify) if proxy.scheme == "https" else None
        route = Route(scheme, proxy.host, proxy.port, to_proxy, proxy)
        return route, f"{scheme}://{url.host_header}{url.full_path}", headers

    def _attempt(
        self,
        request: Request,
        context: Context,
        route: Route,
        target: str,
        headers: _Fields,
        *,
        fresh: bool,
    ) -> Response:
        abort, timings = context.abort, context.timings
        # Of this attempt, not of one before it, here or of a dispatcher that was asked first.
        timings._restart()
        abort.phase = "waiting for a connection"
        lease = self._pool.acquire(route, abort)
        try:
            connection, reused = self._connect(lease, route, context, fresh)
            exchange = Exchange(
                request,
                target,
                headers,
                connection,
                context.timeout,
                abort,
                timings,
                reused=reused,
                lease=lease,
            )
            reader = exchange.run()
            abort.phase = "reading the body"
            content: bytes | ResponseBody | None = None
            if not (context.stream and reader.length):
                content = reader.take_whole()
            if content is not None:
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
            response = Response(
                reader.status,
                protocol="HTTP/1.0" if reader.version == 10 else "HTTP/1.1",
                headers=Headers._from_raw(reader.raw_headers),
                content=content,
                request=request,
            )
            if context.stream and not isinstance(content, bytes):
                lease.delivered()
            return response
        except BaseException:
            _drop(lease, abort)
            raise

    def _connect(
        self, lease: Lease[Connection], route: Route, context: Context, fresh: bool
    ) -> tuple[Connection, bool]:
        connection = lease.connection
        if connection is not None and fresh:
            lease.connection = None
            connection.close()
            connection = None
        if connection is not None:
            context.abort.blocked_on(connection.wake)
            return connection, True
        lease.connection = connection = Connection(route, self._trust_env)
        connection.open(context.abort, context.timeout.connect_timeout, context.timings)
        return connection, False


def _drop(lease: Lease[Connection], abort: Abort) -> None:
    # What led here says more than the abort's error, or the same.
    with contextlib.suppress(HTTPError):
        let_go(lease, abort, reusable=False)
