"""
A connection, from nothing to ready for a request: TCP, a proxy's tunnel, TLS.

urllib3's connection classes know the order of these steps; this module does each of them in
a way that keeps one budget for all, can be aborted at any moment, and edits nothing of the
caller's. What of urllib3 and `http.client` is used beyond their documented interfaces, each
with a test in ``tests/test_urllib3_border.py``:

* ``urllib3.connection.HTTPConnection._new_conn()`` is called by ``connect()`` to open the
  socket, and ``_tunnel()`` to ask a proxy for a tunnel: both are replaced here.
* ``urllib3.connection.HTTPSConnection.connect()`` of its SSL context reads and assigns
  ``verify_mode`` and ``check_hostname``, and calls ``set_alpn_protocols()``, ``wrap_socket(sock,
  server_hostname=)`` and, for TLS within TLS, ``wrap_bio(incoming, outgoing,
  server_hostname=)``, and nothing else: `_Handshake` stands in for it.
* ``urllib3.util.ssltransport.SSLTransport``: its ``socket`` is the TLS socket that carries another,
  ``incoming`` and ``sslobj`` have what has come on that.
* ``suppress_ragged_eofs`` of that, and of `ssl.SSLSocket`, where only the parameter of this name is
  documented: whether TLS that ends without a close_notify looks like any other end.
* ``urllib3.connection.ProxyConfig``, its four fields.
* ``is_connected`` of urllib3's connections tells whether there is nothing to read.
"""

from __future__ import annotations

import socket
import ssl
import typing

import urllib3.connection
import urllib3.exceptions
import urllib3.util

from ..aborting import Abort
from ..config import SSLConfig
from ..exceptions import (
    CertificateError,
    ConnectError,
    HTTPError,
    ProxyError,
    TLSError,
)
from ..models import Timings
from .proxies import Proxy
from .resolver import resolve
from .sockets import Budget, Wake, open_socket
from .tls import ssl_context
from .tunnels import open_socks_socket, open_tunnel

__all__ = ["Connection", "Route"]


class Route(typing.NamedTuple):
    """
    Where a connection leads, and by what right: connections are shared only between
    requests whose routes are equal. So one that was not verified never serves a request that
    wants it verified.

    `host` has no brackets. `ssl` is None where there is no TLS at all.
    """

    scheme: str
    host: str
    port: int
    ssl: SSLConfig | None
    proxy: Proxy | None

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class _Opening:
    """One attempt to connect: what its steps share."""

    def __init__(
        self, route: Route, abort: Abort, wake: Wake, seconds: float | None, timings: Timings
    ) -> None:
        self.route = route
        self.abort = abort
        self.wake = wake
        self.timings = timings
        self.budget: Budget = Budget(seconds)
        # With whom it is at the moment, for errors.
        self.peer: str = route.authority
        # The TLS socket that carries another, if any.
        self.carrier: ssl.SSLSocket | None = None

    def open_socket(self) -> socket.socket:
        proxy, route, abort = self.route.proxy, self.route, self.abort
        if proxy is not None and proxy.is_socks:
            return open_socks_socket(
                proxy,
                route.host,
                route.port,
                budget=self.budget,
                abort=abort,
                wake=self.wake,
                timings=self.timings,
            )
        if proxy is not None:
            self.peer = f"the proxy {proxy.authority}"
        host, port = (route.host, route.port) if proxy is None else (proxy.host, proxy.port)
        abort.phase = f"resolving {host}"
        addresses = resolve(host, port, budget=self.budget, abort=abort)
        self.timings.mark("resolved")
        abort.phase = f"connecting to {self.peer}"
        sock = open_socket(
            addresses,
            self.peer,
            budget=self.budget,
            abort=abort,
            wake=self.wake,
            make_socket=socket.socket,
            error=ConnectError if proxy is None else ProxyError,
        )
        self.timings.mark("connected")
        return sock

    def open_tunnel(self, sock: socket.socket) -> None:
        route, proxy = self.route, self.route.proxy
        assert proxy is not None  # urllib3 tunnels only where set_tunnel() was called
        self.abort.phase = f"asking {self.peer} for {route.authority}"
        open_tunnel(sock, route.host, route.port, proxy, self.budget)
        self.peer = route.authority

    def limit(self, sock: socket.socket) -> None:
        self.budget.limit(sock, f"the TLS handshake with {self.peer}")


class _Handshake:
    """
    Stands between urllib3 and an SSL context: urllib3 would edit the context, and do the
    handshake where nothing can wake it.
    """

    hostname_checks_common_name = False

    def __init__(self, context: ssl.SSLContext, opening: _Opening) -> None:
        self._context = context
        self._opening = opening

    @property
    def verify_mode(self) -> ssl.VerifyMode:
        return self._context.verify_mode

    @verify_mode.setter
    def verify_mode(self, value: ssl.VerifyMode) -> None:
        """Stays what it is."""

    @property
    def check_hostname(self) -> bool:
        return self._context.check_hostname

    @check_hostname.setter
    def check_hostname(self, value: bool) -> None:
        """Stays what it is."""

    def set_alpn_protocols(self, protocols: list[str]) -> None:
        """They stay what they are."""

    def wrap_socket(self, sock: socket.socket, server_hostname: str | None) -> ssl.SSLSocket:
        opening = self._opening
        opening.abort.phase = f"in the TLS handshake with {opening.peer}"
        opening.limit(sock)
        # A timeout of a handshake bounds all of its reads and writes together.
        if type(self._context).wrap_socket is ssl.SSLContext.wrap_socket:
            # The descriptor moves into a new object, and that is the one to wake from now on.
            # Not in between: that waits for nothing, and would leave a socket unclosed if it
            # found the connection shut down.
            opening.wake.watch()
            opening.abort.check()
            wrapped = self._context.wrap_socket(
                sock, server_hostname=server_hostname, do_handshake_on_connect=False
            )
            opening.wake.watch(wrapped)
            opening.abort.check()
            wrapped.do_handshake()
        else:
            # A context of another kind may verify on its own, right after the handshake. So
            # it gets to do both in one call, and what is woken is a copy of the descriptor.
            with sock.dup() as copy:
                opening.wake.watch(sock, copy)
                try:
                    opening.abort.check()
                    wrapped = self._context.wrap_socket(sock, server_hostname=server_hostname)
                    opening.wake.watch(wrapped)
                finally:
                    opening.wake.drop(copy)
        opening.abort.check()
        opening.carrier = wrapped
        return wrapped

    def wrap_bio(
        self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, server_hostname: str | None
    ) -> _InnerTLS:
        opening = self._opening
        opening.abort.phase = f"in the TLS handshake with {opening.peer}"
        inner = self._context.wrap_bio(incoming, outgoing, server_hostname=server_hostname)
        return _InnerTLS(inner, opening)


class _InnerTLS:
    """
    An `ssl.SSLObject` for TLS within TLS: its carrier has a timeout for each read, so each
    step of the handshake has to look at the budget.
    """

    def __init__(self, inner: ssl.SSLObject, opening: _Opening) -> None:
        self._inner = inner
        self._opening: _Opening | None = opening

    def do_handshake(self) -> None:
        if self._opening is not None:
            self._opening.abort.check()
            if self._opening.carrier is not None:
                self._opening.limit(self._opening.carrier)
        self._inner.do_handshake()
        self._opening = None

    def __getattr__(self, name: str) -> typing.Any:
        return getattr(self._inner, name)


class _Steps:
    """What replaces the steps of urllib3's connections."""

    opening: _Opening | None = None
    sock: typing.Any

    def _new_conn(self) -> socket.socket:
        assert self.opening is not None
        return self.opening.open_socket()

    def _tunnel(self) -> None:
        assert self.opening is not None
        self.opening.open_tunnel(self.sock)


class _Plain(_Steps, urllib3.connection.HTTPConnection):
    """A connection without TLS."""


class _TLS(_Steps, urllib3.connection.HTTPSConnection):
    """One with TLS: to the server, to a proxy, or to the one within the other."""


class Connection:
    """
    One connection along `route`, to be opened once.

    `http` is urllib3's connection object while it is open. Only the owner calls anything but
    `wake`, and not more than one thread at a time.
    """

    __slots__ = ("http", "route", "taken", "trust_env", "wake")

    def __init__(self, route: Route, trust_env: bool) -> None:
        self.route: Route = route
        self.trust_env: bool = trust_env
        self.wake: Wake = Wake()
        self.http: _Plain | _TLS | None = None
        #: Bytes of the present request that the system has taken.
        self.taken: int = 0

    def open(self, abort: Abort, seconds: float | None, timings: Timings) -> None:
        """
        Connect within `seconds`, a proxy's tunnel and TLS included. An abort calls `wake`
        from then on.

        Raises `ConnectError` or one below it, `ConnectTimeout`, and the abort's error.
        """
        opening = _Opening(self.route, abort, self.wake, seconds, timings)
        try:
            http = self.http = self._new_http(opening)
            http.opening = opening
            http.connect()
            # There may be TLS with a proxy alone, which makes the request itself.
            if self.route.scheme == "https":
                timings.mark("tls")
            assert http.sock is not None
            _tell_ragged_ends(http.sock)
            # The connection outlives the request that opened it, and must not keep its things.
            http.opening = None
            if isinstance(http, _TLS):
                http.ssl_context = http.proxy_config = None
            abort.blocked_on(self.wake)
        except BaseException as exc:
            self.close()
            abort.check()
            if isinstance(exc, HTTPError) or not isinstance(exc, Exception):
                raise
            raise _translate(exc, opening) from exc

    def _new_http(self, opening: _Opening) -> _Plain | _TLS:
        route, proxy = self.route, self.route.proxy
        if proxy is None or proxy.is_socks:
            if route.ssl is None:
                return _Plain(route.host, route.port)
            return _TLS(
                route.host,
                route.port,
                ssl_context=self._context(route.ssl, opening),
                assert_hostname=False,
            )
        proxy_url = urllib3.util.Url(scheme=proxy.scheme, host=proxy.host, port=proxy.port)
        http: _Plain | _TLS
        if route.ssl is None:
            http = _Plain(proxy.host, proxy.port, proxy=proxy_url)
        else:
            # The client's certificate is for the server, not for the proxy.
            to_proxy = SSLConfig(verify=route.ssl.verify)
            http = _TLS(
                proxy.host,
                proxy.port,
                proxy=proxy_url,
                proxy_config=urllib3.connection.ProxyConfig(
                    ssl_context=self._context(to_proxy, opening),
                    use_forwarding_for_https=False,
                    assert_hostname=False,
                    assert_fingerprint=None,
                ),
                ssl_context=self._context(route.ssl, opening),
                assert_hostname=False,
            )
        if route.scheme == "https":
            http.set_tunnel(route.host, route.port, scheme=proxy.scheme)
        return http

    def _context(self, config: SSLConfig, opening: _Opening) -> ssl.SSLContext:
        context = ssl_context(config, self.trust_env)
        return typing.cast(ssl.SSLContext, _Handshake(context, opening))

    @property
    def sock(self) -> typing.Any:
        """What is written to and read from, unless the connection is used up."""
        return None if self.http is None else self.http.sock

    def send(self, data: bytes | memoryview) -> None:
        """All of it. The first call of the socket tells how much was taken; if it raises, none."""
        sock = self.sock
        if not self.taken:
            self.taken = count = sock.send(data)
            if count == len(data):
                return
            data = memoryview(data)[count:]
        sock.sendall(data)

    def is_usable(self) -> bool:
        """
        Whether it is open and silent: an idle connection that can be read from was closed by
        the server, or has something on it that nobody asked for.
        """
        return self.http is not None and self.http.is_connected and not self._holds_back()

    def _holds_back(self) -> bool:
        """Whether TLS has something that has come, where a look at the socket does not show it."""
        sock = self.sock
        while sock is not None:
            if isinstance(sock, ssl.SSLSocket):
                return sock.pending() > 0
            incoming = getattr(sock, "incoming", None)  # of one within another
            if incoming is None:
                return False
            if incoming.pending or sock.sslobj.pending():
                return True
            sock = sock.socket
        return False

    def close(self) -> None:
        """Idempotent. Not while another thread reads or writes: then `wake` it first."""
        http, self.http = self.http, None
        self.wake.close(*(() if http is None else (http.close,)))

    def forget(self) -> None:
        """Close in a forked child: the parent and its server notice nothing."""
        http, self.http = self.http, None
        self.wake.forget(*(() if http is None else (http.close,)))


def _tell_ragged_ends(sock: typing.Any) -> None:
    """From now on, TLS that ends without a close_notify is an `ssl.SSLEOFError`, on each layer."""
    while sock is not None:
        if hasattr(sock, "suppress_ragged_eofs"):
            sock.suppress_ragged_eofs = False
        sock = getattr(sock, "socket", None)


#: X509_V_ERR_ codes of OpenSSL, which name what is wrong with a certificate.
_WRONG_NAME = frozenset({62, 64})
_UNTRUSTED = frozenset({2, 18, 19, 20, 21})


def _translate(exc: Exception, opening: _Opening) -> HTTPError:
    peer = opening.peer
    if isinstance(exc, ssl.SSLCertVerificationError):
        reason = getattr(exc, "verify_message", "") or str(exc)
        hint = ""
        if exc.verify_code in _WRONG_NAME:
            hint = ": it belongs to another host"
        elif exc.verify_code in _UNTRUSTED:
            hint = "; if you trust its issuer, give verify= the path of the issuer's certificate"
        return CertificateError(f"the certificate of {peer} is not valid: {reason}{hint}")
    if isinstance(exc, TimeoutError) or opening.budget.remaining() == 0:
        return opening.budget.exceeded(opening.abort.phase)
    if isinstance(exc, (ssl.SSLError, urllib3.exceptions.SSLError)):
        reason = getattr(exc, "reason", None) or str(exc)
        hint = ""
        if reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"):
            hint = "; it does not speak TLS there: is it http:// rather than https://?"
        return TLSError(f"the TLS handshake with {peer} failed: {reason}{hint}")
    if isinstance(exc, OSError):
        reason = exc.strerror or str(exc)
        if "TLS" in opening.abort.phase:
            return TLSError(f"{peer} broke off the TLS handshake: {reason}")
        kind = ProxyError if opening.route.proxy is not None else ConnectError
        return kind(f"the connection to {peer} broke while {opening.abort.phase}: {reason}")
    return ConnectError(f"cannot connect to {peer}: {exc}")
