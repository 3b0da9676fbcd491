"""
Through a proxy to somewhere else: CONNECT (RFC 9110, section 9.3.6) and SOCKS.

Each read and write gets what is left of the connect budget, so that a proxy cannot exceed it
by answering slowly.
"""

from __future__ import annotations

import re
import socket
import typing

from ..aborting import Abort
from ..exceptions import ProxyError
from ..models import Timings
from .proxies import Proxy
from .resolver import resolve
from .sockets import Budget, Wake, open_socket

try:
    import socks
except ImportError:  # the extra "socks" is not installed
    socks = None

__all__ = ["open_socks_socket", "open_tunnel"]

#: As `http.client` limits a head: 100 lines of 64 KiB would be more, but no proxy needs it.
MAX_HEAD = 65536

_STATUS_LINE = re.compile(rb"HTTP/1\.[0-9] ([0-9]{3})(?: ([^\r\n]*))?\r?\n")


def open_tunnel(sock: socket.socket, host: str, port: int, proxy: Proxy, budget: Budget) -> None:
    """Ask the proxy at the other end of `sock` to connect it with `host`."""
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    head = f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n".encode("ascii")
    if proxy.authorization is not None:
        head += b"Proxy-Authorization: " + proxy.authorization + b"\r\n"
    what = f"asking the proxy {proxy.authority} for {authority}"
    budget.limit(sock, what)
    try:
        sock.sendall(head + b"\r\n")
        status, reason = _read_status(sock, proxy, budget, what)
    except TimeoutError as exc:
        raise budget.exceeded(what) from exc
    if 200 <= status <= 299:
        return
    answer = f"the proxy {proxy.authority} answered {status} {reason}".rstrip()
    if status == 407:
        given = "does not take the credentials" if proxy.authorization else "asks for credentials"
        raise ProxyError(f"{answer}: it {given}; they belong into its URL, before an @")
    raise ProxyError(f"{answer}, and did not connect to {authority}")


def _read_status(sock: socket.socket, proxy: Proxy, budget: Budget, what: str) -> tuple[int, str]:
    head = b""
    while True:
        end = re.search(rb"\r?\n\r?\n", head)
        if end is not None:
            match = _STATUS_LINE.match(head)
            if match is None:
                break
            status = int(match[1])
            if status >= 200:
                if status <= 299 and end.end() != len(head):
                    # Bytes before the client said anything: not those of a TLS server.
                    break
                reason = (match[2] or b"").decode("latin-1")
                # It goes into a message, and so perhaps to a terminal.
                return status, "".join(c for c in reason if c.isprintable())[:80]
            head = head[end.end() :]  # an interim response
            continue
        if len(head) > MAX_HEAD:
            break
        budget.limit(sock, what)
        data = sock.recv(4096)
        if not data:
            raise ProxyError(f"the proxy {proxy.authority} closed the connection unanswered")
        head += data
    raise ProxyError(f"the proxy {proxy.authority} does not speak HTTP/1.1 there")


def open_socks_socket(
    proxy: Proxy,
    host: str,
    port: int,
    *,
    budget: Budget,
    abort: Abort,
    wake: Wake,
    timings: Timings,
) -> socket.socket:
    """A socket connected with `host` through a SOCKS proxy; names are resolved as it says."""
    if socks is None:
        raise ProxyError(
            f"the proxy {proxy.authority} speaks SOCKS, for which an extra is missing: "
            "pip install 'http3-parallel[socks]'"
        )
    remote_names = proxy.scheme in ("socks4a", "socks5h")
    if not remote_names:
        family = socket.AF_INET if proxy.scheme == "socks4" else socket.AF_UNSPEC
        abort.phase = f"resolving {host}"
        target = resolve(host, port, budget=budget, abort=abort, family=family)[0]
        host = str(target[4][0])
    abort.phase = f"resolving {proxy.host}"
    addresses = resolve(proxy.host, proxy.port, budget=budget, abort=abort)
    timings.mark("resolved")
    abort.phase = f"connecting to the proxy {proxy.authority}"
    where = f"the proxy {proxy.authority}"
    sock = open_socket(
        addresses,
        where,
        budget=budget,
        abort=abort,
        wake=wake,
        make_socket=_SocksSocket,
        error=ProxyError,
    )
    timings.mark("connected")
    abort.phase = f"asking the proxy {proxy.authority} for {host}"
    version = socks.SOCKS5 if proxy.scheme in ("socks5", "socks5h") else socks.SOCKS4
    sock.budget = budget
    sock.set_proxy(version, proxy.host, proxy.port, remote_names, proxy.username, proxy.password)
    what = f"asking the proxy {proxy.authority} for {host}"
    try:
        budget.limit(sock, what)
        sock.connect((host, port))
    except OSError as exc:
        wake.close(sock.close)
        abort.check()
        if budget.remaining() == 0:
            raise budget.exceeded(what) from exc
        raise ProxyError(
            f"the proxy {proxy.authority} did not connect to {host}:{port}: {exc}"
        ) from exc
    sock.budget = None
    return sock


if socks is not None:

    class _Connected(socket.socket):
        """Comes after `socks.socksocket` in the method resolution order."""

        budget: Budget | None = None

        def connect(self, address: typing.Any) -> None:
            """Nothing: `open_socket` has done it, in its own way."""

        def recv_into(self, *args: typing.Any, **kwargs: typing.Any) -> int:
            if self.budget is not None:
                socket.socket.settimeout(self, self.budget.remaining())
            return super().recv_into(*args, **kwargs)

    class _SocksSocket(socks.socksocket, _Connected):  # type: ignore[misc]  # it has no types
        """Its `connect` only speaks to the proxy."""
