"""
What the dispatcher uses of urllib3 and `http.client` beyond their documentation, as listed in
`http3_parallel.dispatch.urllib3_border`: each still there, and called as expected.
"""

from __future__ import annotations

import contextlib
import inspect
import pathlib
import re
import socket
import ssl
import threading
import typing
from importlib.metadata import version

import pytest
import trustme
import urllib3.connection
import urllib3.util
from urllib3.util.ssltransport import SSLTransport

import http3_parallel
from http3_parallel.dispatch import connections, urllib3_border
from servers import PATIENCE, RawServer, json_ok


@pytest.fixture
def tls_raw(server_tls: ssl.SSLContext) -> typing.Iterator[RawServer]:
    with RawServer(json_ok, tls=server_tls) as server:
        yield server


def test_urllib3_is_a_version_that_is_supported() -> None:
    major, minor = map(int, version("urllib3").split(".")[:2])
    assert (2, 5) <= (major, minor) < (3, 0)


def test_urllib3_is_touched_in_the_dispatcher_only() -> None:
    root = pathlib.Path(http3_parallel.__file__).parent
    using = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if re.search(r"^\s*(?:import|from) urllib3", path.read_text("utf-8"), re.MULTILINE)
    }
    assert using == {"dispatch/urllib3_border.py"}


class Recorder:
    """Notes what is done to it, in place of an SSL context."""

    def __init__(self, context: ssl.SSLContext) -> None:
        object.__setattr__(self, "context", context)
        object.__setattr__(self, "used", [])

    def __getattr__(self, name: str) -> typing.Any:
        self.used.append(f"get {name}")
        return getattr(self.context, name)

    def __setattr__(self, name: str, value: object) -> None:
        self.used.append(f"set {name}")
        setattr(self.context, name, value)


#: What `_Handshake` has, or answers by not having it.
KNOWN = {
    "get verify_mode",
    "set verify_mode",
    "get check_hostname",
    "set check_hostname",
    "get set_alpn_protocols",
    "get wrap_socket",
    "get wrap_bio",
}


def client_context(ca_path: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(ca_path)
    return context


def test_connect_uses_of_an_ssl_context_only_what_the_stand_in_has(
    tls_raw: RawServer, ca_path: str
) -> None:
    recorder = Recorder(client_context(ca_path))
    http = urllib3.connection.HTTPSConnection(
        tls_raw.host,
        tls_raw.port,
        ssl_context=typing.cast(ssl.SSLContext, recorder),
        assert_hostname=False,
    )
    try:
        http.connect()
        assert isinstance(http.sock, ssl.SSLSocket)
    finally:
        http.close()
    assert set(recorder.used) <= KNOWN
    assert "get wrap_socket" in recorder.used
    for name in KNOWN:
        assert hasattr(connections.Handshake, name.split()[1])


def test_tls_within_tls_uses_wrap_bio_with_three_arguments_and_has_its_socket(
    server_certificate: trustme.LeafCert,
    ca_path: str,
) -> None:
    parameters = list(inspect.signature(SSLTransport.__init__).parameters)
    assert parameters[1:4] == ["socket", "ssl_context", "server_hostname"]

    class Stop(Exception):
        pass

    class Inner:
        def wrap_bio(
            self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, server_hostname: str
        ) -> typing.Any:
            assert server_hostname == "example.com"
            return self

        def do_handshake(self) -> None:
            raise Stop

    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(Stop):
        SSLTransport(ours, typing.cast(ssl.SSLContext, Inner()), "example.com")


@pytest.mark.parametrize("carrier_ends", ["cleanly", "raggedly"])
def test_each_layer_of_tls_tells_how_it_ended_once_it_is_asked_to(
    server_tls: ssl.SSLContext, ca_path: str, carrier_ends: str
) -> None:
    """TLS within TLS, of which the inner one is cut off."""
    ours, theirs = socket.socketpair()

    def serve() -> None:
        carrier = server_tls.wrap_socket(theirs, server_side=True)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        inner = server_tls.wrap_bio(incoming, outgoing, server_side=True)
        while True:
            try:
                inner.do_handshake()
                break
            except ssl.SSLWantReadError:
                carrier.sendall(outgoing.read())
                incoming.write(carrier.recv(65536))
        inner.write(b"one")
        carrier.sendall(outgoing.read())
        if carrier_ends == "cleanly":
            carrier.setblocking(False)
            with contextlib.suppress(OSError):
                carrier.unwrap()
        socket.socket.shutdown(carrier, socket.SHUT_WR)
        assert released.wait(PATIENCE)
        carrier.close()

    released = threading.Event()
    thread = threading.Thread(target=serve)
    thread.start()
    context = client_context(ca_path)
    with ours, context.wrap_socket(ours, server_hostname="example.com") as carrier:
        inner = SSLTransport(carrier, context, "example.com")
        connections._tell_ragged_ends(inner)
        for layer in (typing.cast(typing.Any, carrier), inner):
            assert layer.suppress_ragged_eofs is False
        assert inner.recv(10) == b"one"
        with pytest.raises(ssl.SSLEOFError):
            inner.recv(10)
        released.set()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_proxy_config_has_its_four_fields() -> None:
    assert urllib3.connection.ProxyConfig._fields == (
        "ssl_context",
        "use_forwarding_for_https",
        "assert_hostname",
        "assert_fingerprint",
    )


def test_connect_opens_its_socket_by_new_conn_and_its_tunnel_by_tunnel() -> None:
    called: list[str] = []
    ours, theirs = socket.socketpair()

    class Probe(urllib3.connection.HTTPConnection):
        def _new_conn(self) -> socket.socket:
            called.append("_new_conn")
            return ours

        def _tunnel(self) -> None:
            called.append("_tunnel")
            assert self.sock is ours

    probe = Probe("proxy.test", 80, proxy=urllib3.util.Url(scheme="http", host="proxy.test"))
    probe.set_tunnel("example.com", 443, scheme="http")
    probe.connect()
    probe.close()
    theirs.close()
    assert called == ["_new_conn", "_tunnel"]


def test_is_connected_tells_whether_there_is_something_to_read() -> None:
    ours, theirs = socket.socketpair()
    http = urllib3.connection.HTTPConnection("example.com")
    assert http.is_connected is False
    http.sock = ours
    assert http.is_connected is True
    theirs.close()
    assert http.is_connected is False
    http.close()


def test_what_tls_within_tls_holds_back_makes_a_connection_unusable(
    server_tls: ssl.SSLContext, ca_path: str
) -> None:
    """A second response in a record of its own, which a look at the socket does not show."""
    ours, theirs = socket.socketpair()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_tls.wrap_bio(incoming, outgoing, server_side=True)
    client: list[SSLTransport] = []
    context = client_context(ca_path)
    opening = threading.Thread(
        target=lambda: client.append(SSLTransport(ours, context, "example.com"))
    )
    with ours, theirs:
        opening.start()
        while True:
            try:
                server.do_handshake()
                break
            except ssl.SSLWantReadError:
                theirs.sendall(outgoing.read())
                incoming.write(theirs.recv(65536))
        theirs.sendall(outgoing.read())
        opening.join(PATIENCE)
        plain = urllib3_border.PlainConnection("example.com")
        plain.sock = typing.cast(typing.Any, client[0])
        connection = connections.Connection(
            connections.Route("https", "example.com", 443, None, None), True
        )
        connection._use(plain.sock)
        server.write(b"one")
        theirs.sendall(outgoing.read())
        assert client[0].recv(65536) == b"one"
        assert connection.is_usable()
        server.write(b"one")
        server.write(b"two")
        theirs.sendall(outgoing.read())
        assert client[0].recv(65536) == b"one"
        assert plain.is_connected, "the socket alone tells nothing"
        assert not connection.is_usable()
