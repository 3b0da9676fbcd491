"""
A connection, from nothing to ready for a request: TCP, a proxy's tunnel, TLS.

urllib3's connection classes know the order of these steps; this module does each of them in
a way that keeps one budget for all, can be aborted at any moment, and edits nothing of the
caller's. How urllib3 is brought to that stands in `urllib3_border`.
"""

from __future__ import annotations

import functools
import select
import socket
import ssl
import typing

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
from .sockets import Budget, PolledSocket, Wake, open_socket
from .tls import ssl_context
from .tunnels import open_socks_socket, open_tunnel

if typing.TYPE_CHECKING:
    from .urllib3_border import PlainConnection, TLSConnection

__all__ = ["Connection", "Handshake", "Opening", "Route"]


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


class Opening:
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


class Handshake:
    """
    Stands between urllib3 and an SSL context: urllib3 would edit the context, and do the
    handshake where nothing can wake it.
    """

    hostname_checks_common_name = False

    def __init__(self, context: ssl.SSLContext, opening: Opening) -> None:
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

    def __init__(self, inner: ssl.SSLObject, opening: Opening) -> None:
        self._inner = inner
        self._opening: Opening | None = opening

    def do_handshake(self) -> None:
        if self._opening is not None:
            self._opening.abort.check()
            if self._opening.carrier is not None:
                self._opening.limit(self._opening.carrier)
        self._inner.do_handshake()
        self._opening = None

    def __getattr__(self, name: str) -> typing.Any:
        return getattr(self._inner, name)


class Connection:
    """
    One connection along `route`, to be opened once.

    `sock` is what is written to and read from while it is open. Only the owner calls anything but
    `wake`, and not more than one thread at a time.
    """

    __slots__ = (
        "_http",
        "_is_plain",
        "_is_readable",
        "_name",
        "route",
        "sock",
        "taken",
        "trust_env",
        "wake",
    )

    def __init__(self, route: Route, trust_env: bool) -> None:
        self.route: Route = route
        self.trust_env: bool = trust_env
        self.wake: Wake = Wake()
        #: urllib3's connection object, and its socket.
        self._http: PlainConnection | TLSConnection | None = None
        self.sock: typing.Any = None
        self._name: str | None = None
        self._is_plain = False
        self._is_readable: typing.Callable[[], object] = bool
        #: Bytes of the present request that the system has taken.
        self.taken: int = 0

    def open(self, abort: Abort, seconds: float | None, timings: Timings) -> None:
        """
        Connect within `seconds`, a proxy's tunnel and TLS included. An abort calls `wake`
        from then on.

        Raises `ConnectError` or one below it, `ConnectTimeout`, and the abort's error.
        """
        opening = Opening(self.route, abort, self.wake, seconds, timings)
        try:
            http = self._http = self._new_http(opening)
            http.connect()
            # There may be TLS with a proxy alone, which makes the request itself.
            if self.route.scheme == "https":
                timings.mark("tls")
            self._use(http.sock)
            _tell_ragged_ends(http.sock)
            # The connection outlives the request that opened it, and must not keep its things.
            http.forget_opening()
            abort.blocked_on(self.wake)
        except BaseException as exc:
            self.close()
            abort.check()
            if isinstance(exc, HTTPError) or not isinstance(exc, Exception):
                raise
            raise _translate(exc, opening) from exc

    def _new_http(self, opening: Opening) -> PlainConnection | TLSConnection:
        from .urllib3_border import new_connection  # loaded by now: see `NetworkDispatch`

        route, proxy = self.route, self.route.proxy
        tunnel = proxy is not None and not proxy.is_socks
        return new_connection(
            route,
            opening,
            None if route.ssl is None else self._context(route.ssl, opening),
            # The client's certificate is for the server, not for the proxy.
            self._context(SSLConfig(verify=route.ssl.verify), opening)
            if tunnel and route.ssl is not None
            else None,
        )

    def _context(self, config: SSLConfig, opening: Opening) -> Handshake:
        return Handshake(ssl_context(config, self.trust_env), opening)

    def _use(self, sock: typing.Any) -> None:
        assert sock is not None
        if PolledSocket.fits(sock):
            self.sock = polled = PolledSocket(sock)
            self._is_readable, self._is_plain = polled.is_readable, True
        else:
            self.sock = sock
            self._is_readable = _reader_of(sock)

    def send(self, data: bytes | memoryview) -> None:
        """All of it. The first call of the socket tells how much was taken; if it raises, none."""
        sock = self.sock
        if not self.taken:
            self.taken = count = sock.send(data)
            if count == len(data):
                return
            data = memoryview(data)[count:]
        sock.sendall(data)

    def has_answer(self) -> bool:
        """Whether there is something to read, without TLS: a record of that may be half there."""
        return self._is_plain and bool(self._is_readable())

    @property
    def name(self) -> str:
        """Both ends of it, while it is open: ``"local -> peer"``."""
        if self._name is None:
            sock: typing.Any = None if self._http is None else self._http.sock
            try:
                ends = sock.getsockname(), sock.getpeername()
            except (OSError, AttributeError):  # it is closed already, or TLS within TLS
                return f"? -> {self.route.authority}"
            self._name = " -> ".join([_shown_address(end) for end in ends])
        return self._name

    def is_usable(self) -> bool:
        """
        Whether it is open and silent: an idle connection that can be read from was closed by
        the server, or has something on it that nobody asked for.
        """
        if self.sock is None or self._is_readable():
            return False
        return self._is_plain or not self._holds_back()

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
        http, self._http, self.sock = self._http, None, None
        self._is_readable = bool
        self.wake.close(*(() if http is None else (http.close,)))

    def forget(self) -> None:
        """Close in a forked child: the parent and its server notice nothing."""
        http, self._http, self.sock = self._http, None, None
        self._is_readable = bool
        self.wake.forget(*(() if http is None else (http.close,)))


def _reader_of(sock: typing.Any) -> typing.Callable[[], object]:
    """What tells, without waiting, whether there is something to read, or the end."""
    if not hasattr(select, "poll"):  # Windows, where select() takes any number of a socket
        return lambda: select.select([sock], [], [], 0)[0]
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return functools.partial(poll.poll, 0)


def _tell_ragged_ends(sock: typing.Any) -> None:
    """From now on, TLS that ends without a close_notify is an `ssl.SSLEOFError`, on each layer."""
    while sock is not None:
        if hasattr(sock, "suppress_ragged_eofs"):
            sock.suppress_ragged_eofs = False
        sock = getattr(sock, "socket", None)


#: X509_V_ERR_ codes of OpenSSL, which name what is wrong with a certificate.
_WRONG_NAME = frozenset({62, 64})
_UNTRUSTED = frozenset({2, 18, 19, 20, 21})


def _translate(exc: Exception, opening: Opening) -> HTTPError:
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
    from .urllib3_border import SSLError

    if isinstance(exc, (ssl.SSLError, SSLError)):
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


def _shown_address(address: tuple[typing.Any, ...]) -> str:
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
