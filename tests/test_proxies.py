"""Proxies: which one, how it is asked, and that its credentials stay with it."""

from __future__ import annotations

import base64
import contextlib
import gc
import socket
import ssl
import struct
import threading
import time
import typing
import weakref

import pytest
import trustme

from http3_parallel.config import SSLConfig
from http3_parallel.dispatch import tunnels
from http3_parallel.dispatch.proxies import Proxy, ProxyMap
from http3_parallel.exceptions import (
    CertificateError,
    ConnectTimeout,
    HTTPError,
    IncompleteRead,
    ProxyError,
    RequestCancelled,
)
from servers import GONE, PATIENCE, Peer, RawServer, Site, full_backlog
from test_network import Net, network

CREDENTIALS = b"Basic " + base64.b64encode(b"user:p@ss")


# Which one.


def test_the_environment_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://plain.test:3128")
    monkeypatch.setenv("https_proxy", "secure.test")
    monkeypatch.setenv("NO_PROXY", "direct.test,.inside.test,::1")
    proxies = ProxyMap(None, trust_env=True)
    assert proxies.for_host("http", "a.test", 80) == Proxy("http", "plain.test", 3128)
    assert proxies.for_host("https", "a.test", 443) == Proxy("http", "secure.test", 80)
    for host in ("direct.test", "x.inside.test", "::1"):
        assert proxies.for_host("http", host, 80) is None
    monkeypatch.delenv("HTTP_PROXY")
    assert proxies.for_host("http", "a.test", 80) is not None
    assert ProxyMap(None, trust_env=False).for_host("https", "a.test", 443) is None


def test_a_cgi_program_ignores_http_proxy_in_capitals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUEST_METHOD", "GET")
    monkeypatch.setenv("HTTP_PROXY", "http://attacker.test")
    assert ProxyMap(None, trust_env=True).for_host("http", "a.test", 80) is None


def test_all_proxy_is_for_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5h://any.test")
    proxies = ProxyMap(None, trust_env=True)
    expected = Proxy("socks5h", "any.test", 1080)
    assert proxies.for_host("http", "a.test", 80) == expected
    assert proxies.for_host("https", "a.test", 443) == expected


def test_a_mapping_replaces_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://environment.test")
    monkeypatch.setenv("NO_PROXY", "*")
    proxies = ProxyMap(
        {
            "http": "http://p.test:1",
            "https://one.test": "http://one-proxy.test:2",
            "http://direct.test": None,
            "no": "localhost",
        },
        trust_env=True,
    )
    assert proxies.for_host("http", "a.test", 80) == Proxy("http", "p.test", 1)
    assert proxies.for_host("http", "direct.test", 80) is None
    assert proxies.for_host("http", "localhost", 80) is None
    assert proxies.for_host("https", "a.test", 443) is None
    assert proxies.for_host("https", "one.test", 443) == Proxy("http", "one-proxy.test", 2)


@pytest.mark.parametrize(
    "url", ["ftp://p.test", "http://", "http://p.test:port", "http://[p", "http://user:secret@"]
)
def test_a_bad_proxy_is_refused_without_showing_it(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="proxy's URL") as refused:
        ProxyMap({"http": url}, trust_env=True)
    assert "secret" not in str(refused.value)
    monkeypatch.setenv("HTTP_PROXY", url)
    with pytest.raises(ProxyError, match="http_proxy") as caught:
        ProxyMap(None, trust_env=True).for_host("http", "a.test", 80)
    assert "secret" not in str(caught.value)


def test_wrong_types_are_refused() -> None:
    with pytest.raises(TypeError):
        ProxyMap(typing.cast(typing.Any, {"http": 5}), trust_env=True)


def test_credentials_are_decoded_and_not_shown() -> None:
    proxy = Proxy.parse("http://us%65r:p%40ss@p.test")
    assert (proxy.username, proxy.password) == ("user", "p@ss")
    assert proxy.authorization == CREDENTIALS
    assert "p@ss" not in repr(proxy)
    assert Proxy.parse("http://p.test").authorization is None


# Asking it.


def relay(peer: Peer, upstream: socket.socket) -> None:
    """Both ways, until one of them ends."""

    def back() -> None:
        with contextlib.suppress(OSError):
            while data := upstream.recv(65536):
                peer.socket.sendall(data)
        with contextlib.suppress(OSError):
            socket.socket.shutdown(peer.socket, socket.SHUT_RDWR)

    # One thread reads TLS while another writes it: with a proxy for tests that is enough, as
    # it never does both at once for one request.
    thread = threading.Thread(target=back, daemon=True)
    thread.start()
    with contextlib.suppress(*GONE):
        while data := (bytes(peer._buffer) or peer._receive(None)):
            peer._buffer.clear()
            upstream.sendall(data)
    with contextlib.suppress(OSError):
        upstream.shutdown(socket.SHUT_RDWR)
    thread.join(PATIENCE)
    upstream.close()


class HTTPProxy(RawServer):
    """Forwards, and tunnels to wherever it is asked to: always to `target`."""

    def __init__(
        self,
        target: RawServer,
        *,
        credentials: bytes | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(self._handle, tls=tls)
        self.target = target
        self.credentials = credentials

    def _handle(self, peer: Peer) -> None:
        while (request := peer.read_head()) is not None:
            given = request.headers.get("proxy-authorization")
            if self.credentials is not None and given != self.credentials.decode():
                peer.send(
                    b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
                )
                continue
            if request.method == "CONNECT":
                upstream = socket.create_connection((self.target.host, self.target.port))
                peer.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 Connected\r\nVia: x\r\n\r\n")
                relay(peer, upstream)
                return
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nforwarded")


@contextlib.contextmanager
def through(proxy_url: str, ca_path: str | None = None) -> typing.Iterator[Net]:
    with network(proxies={"all": proxy_url}, ca_path=ca_path) as net:
        yield net


def with_credentials(url: str) -> str:
    return url.replace("://", "://user:p%40ss@")


@pytest.mark.parametrize("secure_proxy", [False, True])
def test_plain_requests_are_forwarded_by_the_proxy(
    server: Site, server_tls: ssl.SSLContext, ca_path: str, secure_proxy: bool
) -> None:
    with (
        HTTPProxy(
            server, credentials=CREDENTIALS, tls=server_tls if secure_proxy else None
        ) as proxy,
        through(with_credentials(proxy.url), ca_path) as net,
    ):
        for host in ("one.test", "two.test:8080"):
            url = f"http://u:p@{host}/path?q=1"
            assert net.get(url, headers={"Proxy-Authorization": "mine"}) == b"forwarded"
        assert [request.target for request in proxy.requests] == [
            "http://one.test/path?q=1",
            "http://two.test:8080/path?q=1",
        ]
        assert [request.headers["host"] for request in proxy.requests] == [
            "one.test",
            "two.test:8080",
        ]
        assert proxy.requests[0].headers["proxy-authorization"] == CREDENTIALS.decode()
        # The hosts share the connection to the proxy.
        assert len(proxy.connections) == 1


@pytest.mark.parametrize("secure_proxy", [False, True])
def test_https_goes_through_a_tunnel(
    tls_server: Site, server_tls: ssl.SSLContext, ca_path: str, secure_proxy: bool
) -> None:
    tls_server.answer("/", b"x" * 100_000)
    with (
        HTTPProxy(
            tls_server, credentials=CREDENTIALS, tls=server_tls if secure_proxy else None
        ) as proxy,
        through(with_credentials(proxy.url), ca_path) as net,
    ):
        for _ in range(2):
            content = net.get(
                "https://example.com/", headers={"Proxy-Authorization": "of the user"}
            )
            assert content == b"x" * 100_000
        (asked,) = proxy.requests
        assert (asked.method, asked.target) == ("CONNECT", "example.com:443")
        assert asked.headers["host"] == "example.com:443"
        assert asked.headers["proxy-authorization"] == CREDENTIALS.decode()
        for request in tls_server.requests:
            assert "proxy-authorization" not in request.headers
        assert len(tls_server.requests) == 2
        assert len(tls_server.connections) == 1
        # The name is checked end to end, not the proxy's.
        with pytest.raises(CertificateError, match=r"wrong\.test"):
            net.get("https://wrong.test/")


def test_refused_credentials_are_a_proxy_error_that_does_not_show_them(
    tls_server: Site, ca_path: str
) -> None:
    with HTTPProxy(tls_server, credentials=b"Basic other") as proxy:
        with through(with_credentials(proxy.url), ca_path) as net:
            with pytest.raises(ProxyError, match="407") as caught:
                net.get("https://example.com/")
            assert "p@ss" not in str(caught.value)
            assert "p%40ss" not in str(caught.value)
            assert "does not take the credentials" in str(caught.value)
            assert net.open_count == 0
        with through(proxy.url, ca_path) as net, pytest.raises(ProxyError, match="asks for"):
            net.get("https://example.com/")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 503 Not Now\r\n\r\n", "503 Not Now, and did not connect to example.com:443"),
        (b"HTTP/1.0 403\r\nA: b\r\n\r\n", "answered 403, and"),
        (b"HTTP/1.1 403 \x1b[31mRed\r\n\r\n", r"answered 403 \[31mRed, and"),
        (b"", "closed the connection unanswered"),
        (b"220 smtp.test ESMTP\r\n\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\n\r\nsurplus", "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 20_000, "does not speak HTTP"),
    ],
)
def test_a_tunnel_that_is_refused_says_so(answer: bytes, words: str) -> None:
    def refuse(peer: Peer) -> None:
        peer.read_head()
        peer.send(answer)

    with RawServer(refuse) as proxy, through(proxy.url) as net:
        with pytest.raises(ProxyError, match=words):
            net.get("https://example.com/")
        assert net.open_count == 0
        assert proxy.wait_all_closed()


def test_a_proxy_that_breaks_the_connection_says_so() -> None:
    def reset(peer: Peer) -> None:
        peer.read_head()
        peer.reset()

    with RawServer(reset) as proxy, through(proxy.url) as net:
        with pytest.raises(ProxyError, match="broke while asking the proxy"):
            net.get("https://example.com/")
        assert net.open_count == 0


def test_a_proxy_that_cannot_be_reached_is_a_proxy_error() -> None:
    with socket.socket() as unbound:
        unbound.bind(("127.0.0.1", 0))
        host, port = unbound.getsockname()
        for url in ("http://a.test/", "https://a.test/"):
            with through(f"http://user:secret@{host}:{port}") as net:
                with pytest.raises(ProxyError, match=f"the proxy {host}:{port}") as caught:
                    net.get(url)
                assert "secret" not in str(caught.value)


def test_a_proxy_that_is_not_trusted_is_named(tls_server: Site, server_tls: ssl.SSLContext) -> None:
    with HTTPProxy(tls_server, tls=server_tls) as proxy, through(proxy.url) as net:
        with pytest.raises(CertificateError, match=f"the proxy {proxy.host}:{proxy.port}"):
            net.get("https://example.com/")


def hang_after_connect(peer: Peer) -> None:
    peer.read_head()
    peer.wait_closed()


def drip_after_connect(peer: Peer) -> None:
    peer.read_head()
    peer.send(b"HTTP/1.1 200 OK\r\nX: ")
    while not peer.wait_closed(0.05):
        peer.send(b"x")


def tunnel_to_silence(peer: Peer) -> None:
    peer.read_head()
    peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
    peer.wait_closed()


def tunnel_to_drip(peer: Peer) -> None:
    peer.read_head()
    peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
    peer.read(1)
    peer.send(b"\x16\x03\x03\x3f\xff" + b"\x02\x00\x3f\xfb")
    while not peer.wait_closed(0.05):
        peer.send(b"\x03")


@pytest.mark.parametrize("secure_proxy", [False, True])
@pytest.mark.parametrize(
    "handler", [hang_after_connect, drip_after_connect, tunnel_to_silence, tunnel_to_drip]
)
def test_a_tunnel_that_hangs_or_drips_is_bounded_and_can_be_aborted(
    handler: typing.Callable[[Peer], None],
    server_tls: ssl.SSLContext,
    ca_path: str,
    secure_proxy: bool,
) -> None:
    with RawServer(handler, tls=server_tls if secure_proxy else None) as proxy:
        with through(proxy.url, ca_path) as net:
            started = time.monotonic()
            with pytest.raises(ConnectTimeout, match=r"within 0\.3 s"):
                net.get("https://example.com/", timeout=0.3)
            assert time.monotonic() - started < 2.0
            running = net.start("https://example.com/")
            assert proxy.wait_for_requests(2)
            running.cancel_and_check()
            assert proxy.wait_all_closed()
            assert net.open_count == 0


def test_abort_in_the_body_through_tls_within_tls(server_tls: ssl.SSLContext, ca_path: str) -> None:
    def hang_in_body(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc")
        peer.wait_closed()

    with (
        RawServer(hang_in_body, tls=server_tls) as server,
        HTTPProxy(server, tls=server_tls) as proxy,
        through(proxy.url, ca_path) as net,
    ):
        running = net.start("https://example.com/")
        assert running.abort.wait_for_phase("reading the body")
        running.cancel_and_check()
        assert server.wait_all_closed()
        assert net.open_count == 0


@pytest.mark.parametrize("cleanly", [True, False])
def test_a_body_to_the_end_of_tls_within_tls_must_have_that_end(
    server_tls: ssl.SSLContext, ca_path: str, cleanly: bool
) -> None:
    def answer(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\nall of it, or not")
        if not cleanly:
            peer.close()

    with (
        RawServer(answer, tls=server_tls) as server,
        HTTPProxy(server, tls=server_tls) as proxy,
        through(proxy.url, ca_path) as net,
    ):
        if cleanly:
            assert net.get("https://example.com/") == b"all of it, or not"
        else:
            with pytest.raises(IncompleteRead, match="without a close_notify"):
                net.get("https://example.com/")
        assert net.open_count == 0


@pytest.mark.parametrize("way", ["tls", "tunnel", "tls within tls"])
def test_an_idle_connection_keeps_nothing_of_the_request_that_opened_it(
    tls_server: Site, server_tls: ssl.SSLContext, ca_path: str, way: str
) -> None:
    url = tls_server.answer("/", b"ok")
    gc.disable()
    try:
        with HTTPProxy(tls_server, tls=server_tls if way == "tls within tls" else None) as proxy:
            proxies = {} if way == "tls" else {"all": proxy.url}
            with network(proxies=proxies, ca_path=ca_path) as net:
                context = net.context()
                reference = weakref.ref(context.abort)
                assert net.get(url, context=context) == b"ok"
                assert net.idle_count == 1
                del context
                assert reference() is None
    finally:
        gc.enable()


# SOCKS.


class SOCKSProxy(RawServer):
    """Speaks SOCKS 4, 4a and 5, and connects always to `target`."""

    def __init__(
        self,
        target: RawServer,
        *,
        credentials: tuple[bytes, bytes] | None = None,
        refuse: bool = False,
    ) -> None:
        super().__init__(self._handle)
        self.target = target
        self.credentials = credentials
        self.refuse = refuse
        self.asked: list[tuple[int, str, int]] = []

    def _handle(self, peer: Peer) -> None:
        version = peer.read(1)[0]
        place = self._read_5(peer) if version == 5 else self._read_4(peer)
        if place is None:
            return
        self.asked.append((version, *place))
        if version == 5:
            peer.send(bytes([5, 5 if self.refuse else 0, 0, 1]) + b"\0" * 6)
        else:
            peer.send(bytes([0, 91 if self.refuse else 90]) + b"\0" * 6)
        if not self.refuse:
            relay(peer, socket.create_connection((self.target.host, self.target.port)))

    def _read_5(self, peer: Peer) -> tuple[str, int] | None:
        methods = peer.read(peer.read(1)[0])
        if self.credentials is not None:
            assert 2 in methods
            peer.send(b"\x05\x02")
            peer.read(1)
            user = peer.read(peer.read(1)[0])
            password = peer.read(peer.read(1)[0])
            if (user, password) != self.credentials:
                peer.send(b"\x01\x01")
                return None
            peer.send(b"\x01\x00")
        else:
            peer.send(b"\x05\x00")
        kind = peer.read(4)[3]
        if kind == 3:
            host = peer.read(peer.read(1)[0]).decode()
        else:
            family, size = (socket.AF_INET, 4) if kind == 1 else (socket.AF_INET6, 16)
            host = socket.inet_ntop(family, peer.read(size))
        return host, struct.unpack(">H", peer.read(2))[0]

    def _read_4(self, peer: Peer) -> tuple[str, int]:
        _, port, *address = struct.unpack(">BH4B", peer.read(7))
        self._read_string(peer)
        host = ".".join(map(str, address))
        if address[:3] == [0, 0, 0]:
            host = self._read_string(peer)
        return host, port

    def _read_string(self, peer: Peer) -> str:
        text = b""
        while (byte := peer.read(1)) != b"\0":
            text += byte
        return text.decode()


@pytest.mark.parametrize(
    ("scheme", "asked"),
    [
        ("socks4", (4, "127.0.0.1", 80)),
        ("socks4a", (4, "localhost", 80)),
        ("socks5", (5, "LOCAL", 80)),
        ("socks5h", (5, "localhost", 80)),
    ],
)
def test_each_socks_resolves_where_it_says(
    server: Site, scheme: str, asked: tuple[int, str, int]
) -> None:
    server.answer("/", b"ok")
    with SOCKSProxy(server) as proxy:
        with through(proxy.url.replace("http", scheme)) as net:
            assert net.get("http://localhost/") == b"ok"
            assert net.get("http://localhost/") == b"ok"
        (place,) = proxy.asked
    if asked[1] == "LOCAL":
        assert place in [(5, "127.0.0.1", 80), (5, "::1", 80)]
    else:
        assert place == asked


def test_https_through_socks_with_credentials(tls_server: Site, ca_path: str) -> None:
    tls_server.answer("/", b"ok")
    with SOCKSProxy(tls_server, credentials=(b"user", b"p@ss")) as proxy:
        url = proxy.url.replace("http", "socks5h")
        with through(with_credentials(url), ca_path) as net:
            assert net.get("https://example.com/") == b"ok"
        assert proxy.asked == [(5, "example.com", 443)]
        with through(url.replace("://", "://user:wr0ng@"), ca_path) as net:
            with pytest.raises(ProxyError) as caught:
                net.get("https://example.com/")
            assert "wr0ng" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["socks4", "socks5"])
def test_a_socks_proxy_that_refuses_says_so(server: Site, scheme: str) -> None:
    with SOCKSProxy(server, refuse=True) as proxy:
        with through(proxy.url.replace("http", scheme)) as net:
            with pytest.raises(ProxyError, match=r"did not connect to 127\.0\.0\.1:80"):
                net.get("http://127.0.0.1/")
            assert net.open_count == 0
        assert proxy.wait_all_closed()


def hang_in_socks(peer: Peer) -> None:
    peer.read(3)
    peer.server.requests.append(typing.cast(typing.Any, None))
    peer.wait_closed()


def test_a_socks_proxy_that_hangs_is_bounded_and_can_be_aborted() -> None:
    with RawServer(hang_in_socks) as proxy:
        with through(proxy.url.replace("http", "socks5h")) as net:
            with pytest.raises(ConnectTimeout, match=r"within 0\.2 s"):
                net.get("http://a.test/", timeout=0.2)
            running = net.start("http://a.test/")
            assert proxy.wait_for_connections(2)
            assert running.abort.wait_for_phase("asking the proxy")
            running.cancel_and_check()
        assert proxy.wait_all_closed()


def test_abort_while_the_connect_to_a_socks_proxy_hangs() -> None:
    with full_backlog() as backlog:
        with through(f"socks5://{backlog.host}:{backlog.port}") as net:
            running = net.start("http://127.0.0.1/")
            assert running.abort.wait_for_phase("connecting to the proxy")
            time.sleep(0.05)  # nothing shows that the system call has begun
            running.cancel_and_check()
            assert net.open_count == 0


def test_socks_without_the_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunnels, "socks", None)
    with through("socks5://user:secret@127.0.0.1:9") as net:
        with pytest.raises(ProxyError, match=r"pip install 'http3-parallel\[socks\]'") as caught:
            net.get("http://a.test/")
        assert "secret" not in str(caught.value)


def test_an_abort_is_an_abort_at_a_proxy_too(server: Site) -> None:
    with HTTPProxy(server) as proxy, through(proxy.url) as net:
        context = net.context()
        context.abort.abort(lambda: RequestCancelled("before"))
        with pytest.raises(HTTPError) as caught:
            net.get("https://example.com/", context=context)
        assert isinstance(caught.value, RequestCancelled)
        assert proxy.connections == []


def test_the_clients_certificate_is_not_shown_to_the_proxy(
    tls_server: Site,
    server_certificate: trustme.LeafCert,
    ca: trustme.CA,
    ca_path: str,
    tmp_path: typing.Any,
) -> None:
    path = tmp_path / "client.pem"
    ca.issue_cert("me@example.com").private_key_and_cert_chain_pem.write_to_path(str(path))
    wants_one = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_certificate.configure_cert(wants_one)
    ca.configure_trust(wants_one)
    wants_one.verify_mode = ssl.CERT_OPTIONAL
    tls_server.answer("/", b"ok")
    with HTTPProxy(tls_server, tls=wants_one) as proxy, through(proxy.url, ca_path) as net:
        net.ssl = SSLConfig(verify=ca_path, cert=str(path))
        assert net.get("https://example.com/") == b"ok"
        (peer,) = proxy.connections
        assert typing.cast(ssl.SSLSocket, peer.socket).getpeercert() is None
