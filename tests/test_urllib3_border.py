"""
What the dispatcher uses of urllib3 and `http.client` beyond their documentation, as listed in
`http3_parallel.dispatch.connections`: each still there, and called as expected.
"""

from __future__ import annotations

import http.client
import inspect
import io
import pathlib
import re
import socket
import ssl
import typing
from importlib.metadata import version

import pytest
import trustme
import urllib3.connection
import urllib3.util
from urllib3.util.ssltransport import SSLTransport

import http3_parallel
from http3_parallel.dispatch import connections, heads
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
    assert using == {"dispatch/connections.py"}


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
        assert hasattr(connections._Handshake, name.split()[1])


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


def read(data: bytes) -> tuple[heads.ResponseReader, bytes]:
    """A response and its body, by way of `getresponse`, as the exchange does."""
    ours, theirs = socket.socketpair()
    ours.settimeout(PATIENCE)
    with theirs:
        theirs.sendall(data)
        theirs.shutdown(socket.SHUT_WR)
        plain = connections._Plain("example.com")
        plain.sock = ours
        plain.putrequest("GET", "/", skip_host=True, skip_accept_encoding=True)
        plain.endheaders()
        assert theirs.recv(1024) == b"GET / HTTP/1.1\r\n\r\n"
        reader = http.client.HTTPConnection.getresponse(plain)
        assert isinstance(reader, heads.ResponseReader)
        pieces = []
        while piece := reader.read_piece(7):
            pieces.append(piece)
        assert reader.isclosed()
        plain.close()
    return reader, b"".join(pieces)


@pytest.mark.parametrize(
    ("framing", "body"),
    [
        (b"Content-Length: 12\r\n", b"hello, world"),
        (b"Connection: close\r\n", b"hello, world"),
        (b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n7\r\n, world\r\n0\r\nA: b\r\n\r\n"),
    ],
)
def test_getresponse_builds_our_reader(framing: bytes, body: bytes) -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"
    answer = b"HTTP/1.1 200 Fine\r\nX: 1\r\n" + framing + b"\r\n" + body
    reader, content = read(interim + answer)
    assert reader.status == 200
    assert reader.raw_headers[0] == (b"X", b"1")
    assert content == b"hello, world"


def test_putheader_takes_bytes_and_sends_them_as_they_are() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        plain = connections._Plain("example.com")
        plain.sock = ours
        plain.putrequest("GET", "/", skip_host=True, skip_accept_encoding=True)
        plain.putheader(typing.cast(typing.Any, b"x-utf"), typing.cast(typing.Any, b"\xc3\xa9"))
        plain.endheaders()
        assert theirs.recv(1024) == b"GET / HTTP/1.1\r\nx-utf: \xc3\xa9\r\n\r\n"
        assert plain.taken > 0
        plain.close()


def test_a_closed_connection_is_not_opened_behind_our_back() -> None:
    plain = connections._Plain("example.com")
    plain.putrequest("GET", "/", skip_host=True, skip_accept_encoding=True)
    with pytest.raises(AttributeError):
        plain.endheaders()


@pytest.mark.parametrize("name", ["_read_status", "_read_next_chunk_size", "_safe_read"])
def test_http_client_still_calls_what_is_extended(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = []
    original = getattr(heads.ResponseReader, name)

    def note(self: heads.ResponseReader, *args: object) -> object:
        called.append(name)
        return original(self, *args)

    monkeypatch.setattr(heads.ResponseReader, name, note)
    read(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n")
    assert called


def test_trailers_and_the_end_go_through_what_is_extended() -> None:
    for name in ("_read_and_discard_trailer", "_close_conn"):
        assert name in vars(http.client.HTTPResponse)
    reader, content = read(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na" + b"surplus")
    assert content == b"a"
    assert reader.has_surplus


def test_a_file_object_of_ours_keeps_the_socket_open() -> None:
    ours, theirs = socket.socketpair()
    hold = ours.makefile("rb", 0)
    assert isinstance(hold, io.RawIOBase)
    ours.close()
    # http.client has closed it, but the descriptor is still this connection's.
    assert ours.fileno() >= 0
    hold.close()
    assert ours.fileno() == -1
    theirs.close()
