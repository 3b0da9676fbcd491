"""The tests' own servers do what the tests rely on."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import typing

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Response

import servers
from servers import HangingResolver, Peer, RawServer, Site

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000000\r\n\r\n"


def connect(server: RawServer) -> socket.socket:
    return socket.create_connection((server.host, server.port), timeout=servers.PATIENCE)


def connect_tls(server: RawServer, ca_path: str) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=ca_path)
    return context.wrap_socket(connect(server), server_hostname="localhost")


def receive_all(sock: socket.socket) -> bytes:
    data = bytearray()
    while piece := sock.recv(65536):
        data += piece
    return bytes(data)


def receive(sock: socket.socket, end: bytes) -> bytes:
    data = bytearray()
    while not data.endswith(end):
        piece = sock.recv(65536)
        assert piece, f"it ended after {bytes(data)!r}"
        data += piece
    return bytes(data)


def test_a_request_is_recorded_with_its_headers_and_body() -> None:
    with RawServer(servers.json_ok) as server, connect(server) as sock:
        sock.sendall(
            b"POST /a?b=c HTTP/1.1\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 3\r\n\r\nabc"
            b"PUT /d HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
            b"3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nTrailer: t\r\n\r\n"
        )
        received = receive_all(sock)
    assert received.count(b'\r\n\r\n{"ok": true}') == 2
    first, second = server.requests
    assert server.connections[0].requests == [first, second]
    assert (first.method, first.target, first.body) == ("POST", "/a?b=c", b"abc")
    assert first.headers == {"x-a": "1, 2", "content-length": "3"}
    assert (second.method, second.target, second.body) == ("PUT", "/d", b"abcde")


HANGING: list[tuple[str, typing.Callable[[Peer], object], bytes]] = [
    ("before the response", servers.hang_before_response, b""),
    ("in a head that drips", servers.drip_head, b"xx"),
    ("in a body that drips", servers.drip_body, b"\r\n\r\nxx"),
    ("in chunks that drip", servers.drip_chunks, b"\r\n\r\n1\r\nx\r\n1\r\nx\r\n"),
    ("in a body without length", servers.lengthless_body_then_hang, b"\r\n\r\n" + b"x" * 40_000),
]


@pytest.mark.parametrize("over_tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize(
    ("handler", "end"), [case[1:] for case in HANGING], ids=[case[0] for case in HANGING]
)
def test_a_response_hangs_until_the_client_closes_which_is_seen(
    handler: servers.Handler,
    end: bytes,
    over_tls: bool,
    server_tls: ssl.SSLContext,
    ca_path: str,
) -> None:
    with RawServer(handler, tls=server_tls if over_tls else None) as server:
        with connect_tls(server, ca_path) if over_tls else connect(server) as sock:
            sock.sendall(GET)
            receive(sock, end)
            assert server.wait_for_requests(1)
            assert not server.connections[0].closed.is_set()
            assert not server.wait_all_closed(timeout=0.1)
        assert server.wait_all_closed()


@pytest.mark.parametrize("over_tls", [False, True], ids=["plain", "tls"])
def test_a_body_nobody_reads_stops_the_client(
    over_tls: bool, server_tls: ssl.SSLContext, ca_path: str
) -> None:
    piece = b"x" * 1_000_000
    sent = 0
    with servers.never_reading(server_tls if over_tls else None) as server:
        with connect_tls(server, ca_path) if over_tls else connect(server) as sock:
            sock.sendall(POST)
            sock.settimeout(0.3)
            with contextlib.suppress(TimeoutError):
                while sent < 100_000_000:
                    sent += sock.send(piece)
            assert server.wait_for_requests(1)
            assert not server.connections[0].closed.is_set()
        assert server.wait_all_closed()
        assert server.connections[0].discarded < 100_000_000
    assert sent < 100_000_000


@pytest.mark.parametrize("start", [servers.hanging_tls, servers.dripping_tls])
def test_a_handshake_hangs(start: typing.Callable[[], RawServer], ca_path: str) -> None:
    with start() as server:
        context = ssl.create_default_context(cafile=ca_path)
        with connect(server) as sock:
            sock.settimeout(0.3)
            with pytest.raises(TimeoutError):
                context.wrap_socket(sock, server_hostname="localhost")
        assert server.wait_all_closed()
        assert server.url.startswith("https://")


def test_a_client_that_leaves_in_the_handshake_is_no_error_of_the_server(
    server_tls: ssl.SSLContext,
) -> None:
    with RawServer(servers.json_ok, tls=server_tls) as server:
        with connect(server):
            assert server.wait_for_connections(1)
        assert server.wait_all_closed()
    peer = server.connections[0]
    assert peer.handshake_error is not None
    assert not peer.handshaken.is_set()


def test_a_full_backlog_lets_a_connect_hang() -> None:
    with servers.full_backlog() as full:
        sock = servers.connects((full.host, full.port), timeout=0.3)
    assert sock is None


def test_two_hundred_connections_at_once_are_served_and_seen_closed() -> None:
    with RawServer(servers.drip_body) as server:
        with contextlib.ExitStack() as stack:
            for _ in range(200):
                stack.enter_context(connect(server)).sendall(GET)
            assert server.wait_for_connections(200)
            assert server.wait_for_requests(200)
            assert not any(peer.closed.is_set() for peer in server.connections)
        assert server.wait_all_closed()


def test_leaving_the_block_ends_connections_that_hang(
    server_tls: ssl.SSLContext, ca_path: str
) -> None:
    with contextlib.ExitStack() as stack:
        with RawServer(servers.hang_before_response, tls=server_tls) as server:
            in_handshake = stack.enter_context(connect(server))
            waiting = stack.enter_context(connect_tls(server, ca_path))
            waiting.sendall(GET)
            assert server.wait_for_requests(1)
        assert receive_all(waiting) == b""
        assert receive_all(in_handshake) == b""
    assert not [thread for thread in threading.enumerate() if "RawServer" in thread.name]
    # It was the server that ended them.
    assert not any(peer.closed.is_set() for peer in server.connections)


def test_what_a_handler_raises_fails_the_test() -> None:
    def raises(peer: Peer) -> None:
        raise ZeroDivisionError("a mistake in the test")

    def fails() -> None:
        with RawServer(raises) as server, connect(server) as sock:
            assert receive_all(sock) == b""

    with pytest.raises(AssertionError, match="a mistake in the test"):
        fails()


def test_a_failure_in_the_block_is_not_masked_by_one_of_the_handler() -> None:
    def raises(peer: Peer) -> None:
        raise ZeroDivisionError

    def fails() -> None:
        with RawServer(raises) as server, connect(server) as sock:
            receive_all(sock)
            raise KeyError("the test's own")

    with pytest.raises(KeyError, match="the test's own"):
        fails()


def test_a_peer_can_break_the_connection() -> None:
    def breaks(peer: Peer) -> None:
        peer.read_request()
        peer.reset()

    with RawServer(breaks) as server, connect(server) as sock:
        sock.sendall(GET)
        with pytest.raises(ConnectionResetError):
            receive_all(sock)
        assert server.wait_all_closed()


def test_a_handler_that_returns_ends_only_its_own_direction(
    server_tls: ssl.SSLContext, ca_path: str
) -> None:
    def farewell(peer: Peer) -> None:
        peer.send(b"bye")

    for tls in (None, server_tls):
        with RawServer(farewell, tls=tls) as server:
            with connect(server) if tls is None else connect_tls(server, ca_path) as sock:
                assert receive_all(sock) == b"bye"
                assert not server.wait_all_closed(timeout=0.1)
            assert server.wait_all_closed()


def test_a_site_gives_what_it_is_told_and_404_for_the_rest(server: Site) -> None:
    assert server.answer("/a", "text", headers={"X-A": "1"}) == server.url + "/a"
    server.answer("/b", {"a": 1}, status=201)
    with connect(server) as sock:
        sock.sendall(b"GET /a?q HTTP/1.1\r\n\r\n")
        first = receive(sock, b"\r\n\r\ntext")
        sock.sendall(b"GET /b HTTP/1.1\r\n\r\n")
        second = receive(sock, b'{"a": 1}')
        sock.sendall(b"HEAD /c HTTP/1.1\r\nConnection: close\r\n\r\n")
        third = receive_all(sock)
    assert first.startswith(b"HTTP/1.1 200 OK\r\nX-A: 1\r\n")
    assert second.startswith(b"HTTP/1.1 201 Created\r\n")
    assert third == b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    assert [request.target for request in server.requests_for("/a")] == ["/a?q"]
    assert len(server.connections) == 1


def test_a_site_answers_what_waits_when_it_is_released(tls_server: Site, ca_path: str) -> None:
    with connect_tls(tls_server, ca_path) as early, connect_tls(tls_server, ca_path) as gone:
        early.sendall(b"GET /wait/me HTTP/1.1\r\n\r\n")
        gone.sendall(b"GET /wait/me HTTP/1.1\r\n\r\n")
        assert tls_server.wait_for_request("/wait/me", 2)
        gone.close()
        assert tls_server.wait_until(lambda: any(p.closed.is_set() for p in tls_server.connections))
        early.settimeout(0.1)
        with pytest.raises(TimeoutError):
            early.recv(1)
        early.settimeout(servers.PATIENCE)
        tls_server.release("me")
        receive(early, b"\r\n\r\nme")
        early.sendall(b"GET /wait/me HTTP/1.1\r\n\r\n")
        receive(early, b"\r\n\r\nme")


def test_look_ups_hang_until_they_are_released(hanging_resolver: HangingResolver) -> None:
    found = []

    def look_up() -> None:
        found.append(socket.getaddrinfo("hangs.test", 80, type=socket.SOCK_STREAM))

    threads = [threading.Thread(target=look_up) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert hanging_resolver.wait_for_callers(2)
    assert socket.getaddrinfo("127.0.0.1", 80)
    assert found == []
    hanging_resolver.release()
    for thread in threads:
        thread.join(servers.PATIENCE)
    assert [result[0][4] for result in found] == [("127.0.0.1", 80)] * 2
    assert hanging_resolver.calls == {"hangs.test": 2, "127.0.0.1": 1}


def test_httpserver_handles_requests_at_the_same_time(httpserver: HTTPServer) -> None:
    both_there = threading.Barrier(2, timeout=servers.PATIENCE)
    httpserver.expect_request("/").respond_with_handler(lambda request: _meet(both_there))
    address = (httpserver.host, httpserver.port)
    with socket.create_connection(address) as first, socket.create_connection(address) as second:
        for sock in (first, second):
            sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert receive_all(first).startswith(b"HTTP/1.1 200")
        assert receive_all(second).startswith(b"HTTP/1.1 200")


def _meet(barrier: threading.Barrier) -> Response:
    barrier.wait()
    return Response("met")
