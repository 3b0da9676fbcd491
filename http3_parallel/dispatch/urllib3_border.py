"""
urllib3's connection classes, with their steps replaced by ours: where urllib3 is used, and nowhere
else.

What of urllib3 and `http.client` is used beyond their documented interfaces, each with a test in
``tests/test_urllib3_border.py``:

* ``urllib3.connection.HTTPConnection._new_conn()`` is called by ``connect()`` to open the
  socket, and ``_tunnel()`` to ask a proxy for a tunnel: both are replaced here.
* ``urllib3.connection.HTTPSConnection.connect()`` of its SSL context reads and assigns
  ``verify_mode`` and ``check_hostname``, and calls ``set_alpn_protocols()``, ``wrap_socket(sock,
  server_hostname=)`` and, for TLS within TLS, ``wrap_bio(incoming, outgoing,
  server_hostname=)``, and nothing else: `Handshake` stands in for it.
* ``urllib3.util.ssltransport.SSLTransport``: its ``socket`` is the TLS socket that carries another,
  ``incoming`` and ``sslobj`` have what has come on that.
* ``suppress_ragged_eofs`` of that, and of `ssl.SSLSocket`, where only the parameter of this name is
  documented: whether TLS that ends without a close_notify looks like any other end.
* ``urllib3.connection.ProxyConfig``, its four fields.
"""

from __future__ import annotations

import socket
import typing

# By their names: where a Ctrl-C has struck in an import of urllib3, the next one need not put its
# modules into each other.
from urllib3.connection import HTTPConnection, HTTPSConnection, ProxyConfig
from urllib3.exceptions import SSLError
from urllib3.util import Url

if typing.TYPE_CHECKING:
    from .connections import Handshake, Opening, Route

__all__ = ["PlainConnection", "SSLError", "TLSConnection", "new_connection"]


class _Steps:
    """What replaces the steps of urllib3's connections."""

    opening: Opening | None = None
    sock: typing.Any

    def _new_conn(self) -> socket.socket:
        assert self.opening is not None
        return self.opening.open_socket()

    def _tunnel(self) -> None:
        assert self.opening is not None
        self.opening.open_tunnel(self.sock)

    def forget_opening(self) -> None:
        """A connection outlives the request that opened it, and must not keep its things."""
        self.opening = None


class PlainConnection(_Steps, HTTPConnection):
    """A connection without TLS."""


class TLSConnection(_Steps, HTTPSConnection):
    """One with TLS: to the server, to a proxy, or to the one within the other."""

    def forget_opening(self) -> None:
        super().forget_opening()
        vars(self).update(ssl_context=None, proxy_config=None)


def new_connection(
    route: Route,
    opening: Opening,
    context: Handshake | None,
    proxy_context: Handshake | None,
) -> PlainConnection | TLSConnection:
    """
    Along `route`, to be opened by its `connect()`. `context` is for the TLS with the server, or
    with a proxy that makes the request itself, `proxy_context` for that with one that tunnels.
    """
    http = _new(route, typing.cast(typing.Any, context), typing.cast(typing.Any, proxy_context))
    http.opening = opening
    return http


def _new(
    route: Route, context: typing.Any, proxy_context: typing.Any
) -> PlainConnection | TLSConnection:
    proxy = route.proxy
    if proxy is None or proxy.is_socks:
        if context is None:
            return PlainConnection(route.host, route.port)
        return TLSConnection(route.host, route.port, ssl_context=context, assert_hostname=False)
    proxy_url = Url(scheme=proxy.scheme, host=proxy.host, port=proxy.port)
    http: PlainConnection | TLSConnection
    if context is None:
        http = PlainConnection(proxy.host, proxy.port, proxy=proxy_url)
    else:
        http = TLSConnection(
            proxy.host,
            proxy.port,
            proxy=proxy_url,
            proxy_config=ProxyConfig(
                ssl_context=proxy_context,
                use_forwarding_for_https=False,
                assert_hostname=False,
                assert_fingerprint=None,
            ),
            ssl_context=context,
            assert_hostname=False,
        )
    if route.scheme == "https":
        http.set_tunnel(route.host, route.port, scheme=proxy.scheme)
    return http
