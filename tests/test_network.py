"""The network dispatcher against real sockets: exchanges, aborts, reuse, limits."""

from __future__ import annotations

import contextlib
import errno
import gc
import io
import os
import pathlib
import random
import selectors
import signal
import socket
import ssl
import threading
import time
import types
import typing
import weakref

import pytest
from urllib3.util.wait import wait_for_read

from http3_parallel.aborting import Abort
from http3_parallel.config import PoolLimits, SSLConfig, TimeoutConfig
from http3_parallel.dispatch import Context, NetworkDispatch, exchange, sockets
from http3_parallel.dispatch.connections import Connection
from http3_parallel.dispatch.exchange import read_error
from http3_parallel.dispatch.http11 import BrokenHead, ResponseReader
from http3_parallel.exceptions import (
    CertificateError,
    ClientClosed,
    ConnectError,
    ConnectTimeout,
    HTTPError,
    IncompleteRead,
    NetworkError,
    PoolTimeout,
    ProtocolError,
    ReadError,
    ReadTimeout,
    RequestCancelled,
    ResponseClosed,
    ResponseTooLarge,
    TLSError,
    UnsupportedScheme,
    WriteError,
    WriteTimeout,
)
from http3_parallel.models import URL, Headers, Request, Response
from servers import (
    PATIENCE,
    HangingResolver,
    Peer,
    RawServer,
    Site,
    drip_body,
    drip_chunks,
    drip_head,
    dripping_tls,
    full_backlog,
    hang_before_response,
    hanging_tls,
    lengthless_body_then_hang,
    never_reading,
)

#: Seconds in which an aborted request has to end, on a loaded machine.
SOON = 0.5


class WatchedAbort(Abort):
    """Tells when a phase begins."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.phases: list[str] = []
        super().__init__()

    @property
    def phase(self) -> str:
        return self.phases[-1]

    @phase.setter
    def phase(self, value: str) -> None:
        with self.changed:
            self.phases.append(value)
            self.changed.notify_all()

    def wait_for_phase(self, text: str) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: text in self.phases[-1], PATIENCE)

    def cancel(self) -> None:
        self.abort(lambda: RequestCancelled("cancelled by the test"))


class Running:
    """One exchange, body included, in a thread."""

    def __init__(
        self, dispatch: NetworkDispatch, request: Request, context: Context, read: bool = True
    ) -> None:
        self.abort = typing.cast(WatchedAbort, context.abort)
        self.response: Response | None = None
        self.content: bytes | None = None
        self.error: BaseException | None = None
        self.ended_at = 0.0
        self._thread = threading.Thread(target=self._run, args=(dispatch, request, context, read))
        self._thread.start()

    def _run(
        self, dispatch: NetworkDispatch, request: Request, context: Context, read: bool
    ) -> None:
        try:
            self.response = dispatch.send(request, context)
            if read:
                self.content = self.response.read()
        except BaseException as exc:
            self.error = exc
        self.ended_at = time.monotonic()

    def join(self) -> None:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    def cancel_and_check(self) -> None:
        """It ends soon, by the abort's error, and nothing else comes of it."""
        started = time.monotonic()
        self.abort.cancel()
        self.join()
        assert self.ended_at - started < SOON
        assert isinstance(self.error, RequestCancelled)
        assert self.content is None


class Net:
    """A dispatcher with defaults for tests."""

    def __init__(self, dispatch: NetworkDispatch, ssl_config: SSLConfig) -> None:
        self.dispatch = dispatch
        self.ssl = ssl_config

    @property
    def open_count(self) -> int:
        return self.dispatch._pool.open_count

    @property
    def idle_count(self) -> int:
        return self.dispatch._pool.idle_count

    def context(
        self, timeout: typing.Any = 5.0, stream: bool = False, verify: typing.Any = None
    ) -> Context:
        return Context(
            timeout=TimeoutConfig(timeout),
            ssl=self.ssl.with_overrides(verify=verify),
            abort=WatchedAbort(),
            stream=stream,
        )

    def send(
        self,
        url: str,
        method: str = "GET",
        *,
        timeout: typing.Any = 5.0,
        stream: bool = False,
        verify: typing.Any = None,
        context: Context | None = None,
        **kwargs: typing.Any,
    ) -> Response:
        context = context or self.context(timeout, stream, verify)
        return self.dispatch.send(Request(method, url, **kwargs), context)

    def get(self, url: str, method: str = "GET", **kwargs: typing.Any) -> bytes:
        return self.send(url, method, **kwargs).read()

    def start(self, url: str, method: str = "GET", **kwargs: typing.Any) -> Running:
        context = self.context(kwargs.pop("timeout", None))
        return Running(self.dispatch, Request(method, url, **kwargs), context)


@contextlib.contextmanager
def network(
    soft_limit: int | None = 10,
    hard_limit: int | None = 100,
    pool_timeout: float | None = 5.0,
    ca_path: str | None = None,
    **kwargs: typing.Any,
) -> typing.Iterator[Net]:
    limits = PoolLimits(soft_limit=soft_limit, hard_limit=hard_limit, pool_timeout=pool_timeout)
    dispatch = NetworkDispatch(limits=limits, **kwargs)
    try:
        yield Net(dispatch, SSLConfig(verify=ca_path or True))
    finally:
        dispatch.close()
        assert dispatch._pool.open_count == 0


@pytest.fixture
def net(ca_path: str) -> typing.Iterator[Net]:
    with network(ca_path=ca_path) as net:
        yield net


def scripted(*answers: bytes, close: bool = False) -> typing.Callable[[Peer], None]:
    """Answers each request of a connection with the next of `answers`, as it stands."""

    def handle(peer: Peer) -> None:
        for answer in answers:
            if peer.read_request() is None:
                return
            peer.send(answer)
        if not close:
            peer.wait_closed()

    return handle


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


# Exchanges.


def test_a_connection_is_reused(net: Net, server: Site) -> None:
    url = server.answer("/", b"hello")
    assert [net.get(url) for _ in range(5)] == [b"hello"] * 5
    assert len(server.connections) == 1
    assert net.idle_count == net.open_count == 1


def test_tls_connections_are_reused(net: Net, tls_server: Site) -> None:
    url = tls_server.answer("/", b"hello")
    assert [net.get(url) for _ in range(5)] == [b"hello"] * 5
    assert len(tls_server.connections) == 1


def test_the_request_is_sent_exactly_as_it_is(net: Net, server: Site) -> None:
    request = Request(
        "PATCH",
        server.url + "/a%20b?c=d#fragment",
        headers=[("X-One", "1"), ("Accept", "a"), ("X-One", "2")],
        data=b"body",
    )
    net.dispatch.send(request, net.context()).read()
    (received,) = server.requests
    assert (received.method, received.target) == ("PATCH", "/a%20b?c=d")
    assert received.raw_headers == [
        (name.decode(), value.decode()) for name, value in request.headers.raw
    ]
    assert received.body == b"body"


def test_an_iterator_is_sent_chunked(net: Net, server: Site) -> None:
    url = server.answer("/", b"ok")
    assert net.get(url, "POST", data=iter([b"one", b"", b"two" * 50_000])) == b"ok"
    (received,) = server.requests
    assert received.headers["transfer-encoding"] == "chunked"
    assert received.body == b"one" + b"two" * 50_000


def test_a_file_is_sent_with_its_length_from_where_it_stands(
    net: Net, server: Site, tmp_path: pathlib.Path
) -> None:
    url = server.answer("/", b"ok")
    path = tmp_path / "file"
    path.write_bytes(b"not this" + b"x" * 200_000)
    with path.open("rb") as file:
        file.seek(8)
        assert net.get(url, "POST", data=file) == b"ok"
    assert net.get(url, "PUT", data=io.BytesIO(b"")) == b"ok"
    whole, empty = server.requests
    assert whole.headers["content-length"] == "200000"
    assert whole.body == b"x" * 200_000
    assert (empty.headers["content-length"], empty.body) == ("0", b"")
    assert len(server.connections) == 1


@pytest.mark.parametrize("says_so", [True, False])
def test_a_body_that_was_to_be_asked_for_is_sent_asked_for_or_not(net: Net, says_so: bool) -> None:
    """A client need not wait for long (RFC 9110, section 10.1.1): some servers never ask."""

    def handle(peer: Peer) -> None:
        request = peer.read_head()
        assert request is not None
        if says_so:
            peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert peer.read_body(request) == b"body"
        peer.send(OK)
        peer.wait_closed()

    with RawServer(handle) as server:
        response = net.send(server.url, "POST", data=b"body", headers={"Expect": "100-continue"})
        assert (response.status_code, response.read()) == (200, b"ok")
        assert server.requests[0].headers["expect"] == "100-continue"
        assert net.idle_count == 1


@pytest.mark.parametrize("bad", [b"a\r\nB: c", b"a\nb", b"a\rb", b"a\0b"])
def test_what_would_make_another_line_is_refused_before_a_byte_is_sent(
    net: Net, server: Site, bad: bytes
) -> None:
    """Whatever led around the checks of `Headers`."""
    request = Request("POST", server.url, data=b"body")
    request.headers = Headers._from_raw([*request.headers.raw, (b"x-a", bad)])
    with pytest.raises(ProtocolError, match="control character"):
        net.dispatch.send(request, net.context())
    assert net.open_count == 0
    assert net.get(server.answer("/", b"ok")) == b"ok"
    assert [request.method for request in server.requests] == ["GET"]
    net.dispatch.close()
    assert server.wait_all_closed()
    assert sum(peer.discarded for peer in server.connections) == 0


def test_what_a_body_iterator_raises_comes_out_and_closes_the_connection(
    net: Net, server: Site
) -> None:
    def body() -> typing.Iterator[bytes]:
        yield b"one"
        raise OSError("my own")

    with pytest.raises(OSError, match="my own"):
        net.get(server.url, "POST", data=body())
    assert net.open_count == 0
    assert server.wait_all_closed()


@pytest.mark.parametrize(
    ("pieces", "words"), [([b"1234"], "1 bytes shorter"), ([b"123456"], "longer")]
)
def test_a_body_of_another_length_than_announced_is_an_error(
    net: Net, server: Site, pieces: list[bytes], words: str
) -> None:
    with pytest.raises(WriteError, match=words):
        net.get(server.url, "POST", data=iter(pieces), headers={"Content-Length": "5"})
    assert net.open_count == 0


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_response_without_a_body_has_given_its_connection_back(
    net: Net, server: Site, method: str
) -> None:
    statuses = {"GET": (204, 304), "HEAD": (200,)}[method]
    for status in statuses:
        url = server.answer("/", b"never sent" if method == "HEAD" else b"", status=status)
        response = net.send(url, method)
        assert response.is_closed
        assert net.idle_count == net.open_count == 1
        assert response.read() == b""
    assert len(server.connections) == 1


def test_an_empty_body_is_released_before_send_returns(net: Net, server: Site) -> None:
    response = net.send(server.answer("/", b""))
    assert net.idle_count == 1
    assert response.is_closed


@pytest.mark.parametrize("size", [1, 65536, 3_000_000])
def test_bodies_of_every_framing_come_whole(net: Net, size: int) -> None:
    body = random.Random(size).randbytes(size)
    chunks = [body[i : i + 70_001] for i in range(0, size, 70_001)]
    chunked = b"".join(b"%x;ext=1\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    heads = {
        "length": b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (size, body),
        "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n%b0\r\nTrailer: 1\r\n\r\n"
        % chunked,
        "close": b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n%b" % body,
    }
    for name, answer in heads.items():
        with RawServer(scripted(answer, close=name == "close")) as server:
            assert net.get(server.url) == body
            assert net.idle_count == (0 if name == "close" else 1)
            net.dispatch._pool.close()
            net.dispatch._pool._closed = False


def test_what_drips_is_delivered_as_it_comes(net: Net) -> None:
    with RawServer(drip_body) as server:
        response = net.send(server.url, stream=True)
        pieces = response.raw()
        assert [next(pieces) for _ in range(3)] == [b"x"] * 3
        response.close()
        assert server.wait_all_closed()
    assert net.open_count == 0


def test_interim_responses_are_skipped(net: Net) -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    with RawServer(scripted(interim + OK, OK)) as server:
        response = net.send(server.url)
        assert (response.status_code, response.read()) == (200, b"ok")
        assert "link" not in response.headers
        assert net.get(server.url) == b"ok"
        assert len(server.connections) == 1


def test_http_1_0_closes_unless_it_says_otherwise(net: Net) -> None:
    with RawServer(scripted(b"HTTP/1.0 200 OK\r\n\r\nold", close=True)) as server:
        response = net.send(server.url)
        assert (response.protocol, response.read()) == ("HTTP/1.0", b"old")
    assert net.open_count == 0


def test_repeated_headers_stay_apart(net: Net) -> None:
    answer = OK.replace(b"\r\n\r\n", b"\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\n")
    with RawServer(scripted(answer)) as server:
        assert net.send(server.url).headers.getlist("set-cookie") == ["a=1", "b=2"]
        net.dispatch.close()


def test_a_folded_header_becomes_one_line(net: Net) -> None:
    with RawServer(scripted(OK.replace(b"\r\n\r\n", b"\r\nA: one\r\n \t two\r\n\r\n"))) as server:
        assert net.send(server.url).headers["a"] == "one two"
        net.dispatch.close()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"", ReadError),
        (b"SSH-2.0-OpenSSH_9.6\r\n", ProtocolError),
        (b"HTTP/2.0 200 OK\r\n\r\n", ProtocolError),
        (b"HTTP/1.1 abc\r\n\r\n", ProtocolError),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n", IncompleteRead),
        (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", ProtocolError),
        (b"HTTP/1.1 200 OK\r\nSpace : 1\r\n\r\n", ProtocolError),
        (b"HTTP/1.1 200 OK\r\nA: b\rContent-Length: 0\r\n\r\n", ProtocolError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", ProtocolError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nabcde", ProtocolError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nabcde", ProtocolError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", IncompleteRead),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", ProtocolError),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc", IncompleteRead),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde", IncompleteRead),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n", IncompleteRead),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nTr", IncompleteRead),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nabcde\r\n", ProtocolError),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+5\r\nabcde\r\n", ProtocolError),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nabcde\r\n", ProtocolError),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcde\r\n", ProtocolError),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100, ResponseTooLarge),
        (b"HTTP/1.1 103 Early Hints\r\n", IncompleteRead),
        (b"HTTP/1.1 200 OK\r\n folded at once\r\n\r\n", ProtocolError),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 1000, ResponseTooLarge),
        (b"HTTP/1.1 200 OK\r\n" + b"A: %b\r\n" % (b"b" * 60_000) * 5, ResponseTooLarge),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"A: b\r\n" * 20_000,
            ResponseTooLarge,
        ),
    ],
)
def test_what_is_no_http_is_an_error_and_closes_the_connection(
    net: Net, answer: bytes, error: type[HTTPError]
) -> None:
    with RawServer(scripted(answer, close=True)) as server:
        with pytest.raises(error) as caught:
            net.get(server.url)
        assert type(caught.value) is error
        assert net.open_count == 0
        assert server.wait_all_closed()


@pytest.mark.parametrize(
    "surplus",
    [
        OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"2\r\nok\r\n0\r\n\r\n"
        ),
        b"HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nevil",
    ],
)
def test_a_connection_with_more_on_it_than_the_response_is_not_reused(
    net: Net, surplus: bytes
) -> None:
    with RawServer(scripted(surplus)) as server:
        assert b"evil" not in net.get(server.url)
        assert net.open_count == 0
        assert server.wait_all_closed()


@pytest.mark.parametrize("secure", [False, True])
def test_what_comes_unasked_on_an_idle_connection_is_nobodys_answer(
    net: Net, server_tls: ssl.SSLContext, secure: bool
) -> None:
    asked = threading.Event()

    def handle(peer: Peer) -> None:
        peer.read_request()
        if peer.server.connections[0] is not peer:
            peer.send(OK)
            return
        peer.send(OK)
        asked.wait(PATIENCE)
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        peer.wait_closed()

    with RawServer(handle, tls=server_tls if secure else None) as server:
        assert net.get(server.url) == b"ok"
        (entry,) = net.dispatch._pool._idle.values()
        asked.set()
        assert wait_for_read(entry.connection.sock, PATIENCE)
        assert net.get(server.url, "POST", data=b"x") == b"ok"
        assert len(server.connections) == 2


def test_an_answer_before_the_end_of_the_request_is_the_result(net: Net) -> None:
    def refuse(peer: Peer) -> None:
        peer.read_head()
        peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
        peer.read(200_000)
        peer.close()

    with RawServer(refuse) as server:
        response = net.send(server.url, "POST", data=b"x" * 50_000_000)
        assert response.status_code == 413
        assert response.read() == b"big"
    assert net.open_count == 0


@pytest.mark.parametrize(
    "early",
    [
        b"HTTP/1.1 400 Bad Request\r\nno colon\r\n\r\n" + OK,
        b"HTTP/1.1 400 Bad Request\r\nA: \0\r\n\r\n" + OK,
        b"HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\nhello!",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    ],
)
def test_an_early_answer_is_refused_for_what_any_other_is(net: Net, early: bytes) -> None:
    def refuse(peer: Peer) -> None:
        peer.read_head()
        peer.send(early)
        sent.set()
        peer.wait_closed()

    def body() -> typing.Iterator[bytes]:
        yield b"one"
        assert sent.wait(PATIENCE)
        # Until it is there: the exchange looks before each piece.
        for _ in range(100):
            time.sleep(0.002)
            yield b"more"

    sent = threading.Event()
    with RawServer(refuse) as server:
        with pytest.raises(ProtocolError):
            net.get(server.url, "POST", data=body())
        assert net.open_count == 0


def test_an_answer_of_a_server_that_stops_reading_is_the_result(net: Net) -> None:
    def refuse(peer: Peer) -> None:
        peer.read_head()
        peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
        peer.server.draining.wait()

    with RawServer(refuse, receive_buffer=4096) as server:
        response = net.send(server.url, "POST", data=b"x" * 50_000_000, timeout=(5, 5, 0.3))
        assert response.status_code == 413
        assert response.read() == b"big"
        assert net.open_count == 0


def test_an_early_answer_ends_the_upload_though_the_server_goes_on_reading(net: Net) -> None:
    answered = threading.Event()

    def refuse(peer: Peer) -> None:
        peer.read_head()
        peer.send(b"HTTP/1.1 103 x\r\n\r\nHTTP/1.1 413 x\r\nContent-Length: 3\r\n\r\nbig")
        answered.set()
        peer.wait_closed()

    def body() -> typing.Iterator[bytes]:
        yield b"x"
        assert answered.wait(PATIENCE)
        while True:
            yield b"x"

    with RawServer(refuse) as server:
        response = net.send(server.url, "POST", data=body())
        assert (response.status_code, response.read()) == (413, b"big")
        assert net.open_count == 0
        assert server.wait_all_closed()


def test_an_interim_answer_does_not_end_the_upload(net: Net) -> None:
    hinted = threading.Event()

    def hint(peer: Peer) -> None:
        request = peer.read_head()
        assert request is not None
        peer.send(b"HTTP/1.1 103 x\r\nLink: a\r\n\r\nHTTP/1.1 2")
        hinted.set()
        peer.read_body(request)
        peer.send(b"00 OK\r\nContent-Length: 2\r\n\r\nok")

    def body() -> typing.Iterator[bytes]:
        yield b"one"
        assert hinted.wait(PATIENCE)
        yield b"two"
        yield b"three"

    with RawServer(hint) as server:
        assert net.get(server.url, "POST", data=body()) == b"ok"
        assert [request.body for request in server.requests] == [b"onetwothree"]
        assert net.idle_count == 1


def test_the_body_of_an_early_answer_has_the_whole_read_timeout(
    net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = threading.Event()

    def refuse(peer: Peer) -> None:
        peer.read_head()
        peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nb")
        refused.wait(PATIENCE)
        time.sleep(0.5)  # five times as long as the head is waited for
        peer.send(b"ig")
        peer.server.draining.wait()

    monkeypatch.setattr(exchange, "EARLY_ANSWER_SECONDS", 0.1)
    with RawServer(refuse, receive_buffer=4096) as server:
        timeout = (PATIENCE, PATIENCE, 0.3)
        response = net.send(server.url, "POST", data=b"x" * 50_000_000, timeout=timeout)
        refused.set()
        assert response.read() == b"big"


# Timeouts.


def test_a_server_that_does_not_answer_is_a_read_timeout(net: Net) -> None:
    with RawServer(hang_before_response) as server:
        with pytest.raises(ReadTimeout, match=r"nothing for 0\.1 s"):
            net.get(server.url, timeout=0.1)
        assert server.wait_all_closed()


@pytest.mark.parametrize("timeout", [0, 0.1])
def test_a_body_that_stops_is_a_read_timeout(net: Net, timeout: float) -> None:
    with RawServer(lengthless_body_then_hang) as server:
        with pytest.raises(ReadTimeout):
            net.get(server.url, timeout=(5, timeout, 5))
        assert server.wait_all_closed()


@pytest.mark.parametrize("secure", [False, True])
def test_a_server_that_reads_nothing_is_a_write_timeout(
    net: Net, secure: bool, server_tls: ssl.SSLContext
) -> None:
    with never_reading(server_tls if secure else None) as server:
        with pytest.raises(WriteTimeout, match=r"nothing of the request for 0\.2 s"):
            net.get(server.url, "POST", data=b"x" * 50_000_000, timeout=(5, 5, 0.2))
        assert server.wait_all_closed()


def test_a_connect_that_hangs_is_a_connect_timeout(net: Net) -> None:
    with full_backlog() as backlog:
        with pytest.raises(ConnectTimeout, match=r"127\.0\.0\.1:\d+: not done within 0\.2 s"):
            net.get(backlog.url, timeout=0.2)
    assert net.open_count == 0


@pytest.mark.parametrize("make_server", [hanging_tls, dripping_tls])
def test_a_handshake_that_hangs_or_drips_is_a_connect_timeout(
    net: Net, make_server: typing.Callable[[], RawServer]
) -> None:
    with make_server() as server:
        started = time.monotonic()
        with pytest.raises(ConnectTimeout, match="in the TLS handshake with 127"):
            net.get(server.url, timeout=0.3)
        assert time.monotonic() - started < 0.3 + 3 * SOON
        assert server.wait_all_closed()


def test_a_look_up_that_hangs_is_a_connect_timeout(
    net: Net, hanging_resolver: HangingResolver
) -> None:
    with pytest.raises(ConnectTimeout, match=r"resolving hangs\.test: not done within 0\.1 s"):
        net.get("http://hangs.test/", timeout=0.1)
    assert net.open_count == 0


def test_a_connect_timeout_of_zero_fails_at_once(net: Net, server: Site) -> None:
    with pytest.raises(ConnectTimeout):
        net.get(server.url, timeout=0)


# Errors.


def test_a_refused_connection_names_the_place(net: Net) -> None:
    with socket.socket() as unbound:
        unbound.bind(("127.0.0.1", 0))
        port = unbound.getsockname()[1]
        with pytest.raises(
            ConnectError, match=rf"cannot connect to 127\.0\.0\.1:{port}: "
        ) as caught:
            net.get(f"http://127.0.0.1:{port}/")
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)


def test_another_scheme_is_refused(net: Net) -> None:
    request = Request("GET", "http://example.com/")
    request.url = URL("ftp://example.com/")
    with pytest.raises(UnsupportedScheme, match="ftp"):
        net.dispatch.send(request, net.context())


def test_a_reset_while_the_body_is_read_is_a_read_error(net: Net) -> None:
    def reset(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nabc")
        gate.wait(PATIENCE)
        peer.reset()

    gate = threading.Event()
    with RawServer(reset) as server:
        response = net.send(server.url)
        gate.set()
        with pytest.raises(ReadError) as caught:
            response.read()
        assert caught.value.request is response.request
    assert net.open_count == 0


def test_https_to_a_server_without_tls_says_so(net: Net) -> None:
    def answer_in_plain(peer: Peer) -> None:
        peer.read(1)
        peer.send(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")

    with RawServer(answer_in_plain) as server:
        with pytest.raises(TLSError, match="does not speak TLS there"):
            net.get(server.url.replace("http:", "https:"))
        assert net.open_count == 0


def test_a_server_that_leaves_the_handshake_is_a_tls_error(net: Net) -> None:
    with RawServer(Peer.close) as server, pytest.raises(TLSError, match="handshake"):
        net.get(server.url.replace("http:", "https:"))


def test_all_addresses_of_a_name_are_tried(
    net: Net, server: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "LEAST_SHARE", 0.1)
    url = server.answer("/", b"ok")
    with full_backlog() as backlog, socket.socket() as unbound:
        unbound.bind(("127.0.0.1", 0))
        addresses = [
            (backlog.host, backlog.port),
            unbound.getsockname(),
            (server.host, server.port),
        ]
        answer = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args: answer)
        # The first swallows packets, and has its share of the budget only.
        assert net.get(url.replace("127.0.0.1", "many.test"), timeout=0.6) == b"ok"


def test_a_system_that_gives_up_by_itself_is_a_connect_timeout() -> None:
    def give_up(*args: int) -> socket.socket:
        raise TimeoutError(110, "Connection timed out")

    with pytest.raises(ConnectTimeout, match="does not answer, and the system gave up"):
        sockets.open_socket(
            [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 80))],
            "192.0.2.1:80",
            budget=sockets.Budget(None),
            abort=Abort(),
            wake=sockets.Wake(),
            make_socket=give_up,
        )


def test_a_budget_is_shared_fairly() -> None:
    assert sockets.Budget(None).share(3) is None
    share = sockets.Budget(9.0).share(3)
    assert share == pytest.approx(3.0, abs=0.5)
    share = sockets.Budget(3.0).share(3)
    assert share == pytest.approx(sockets.LEAST_SHARE, abs=0.5)
    assert sockets.Budget(0.0).share(3) == 0.0


@pytest.mark.parametrize(
    "break_it",
    [
        lambda peer: peer.reset(),
        lambda peer: peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"),
        lambda peer: peer.send(b"nonsense\r\n"),
        lambda peer: peer.close(),
    ],
)
def test_nothing_keeps_a_failed_request_alive_but_its_error(
    net: Net, break_it: typing.Callable[[Peer], None]
) -> None:
    def handle(peer: Peer) -> None:
        peer.read_head()
        break_it(peer)

    gc.collect()
    gc.disable()
    try:
        with RawServer(handle) as server:
            for method in ("GET", "POST"):
                request = Request(method, server.url, data=b"x" * 10_000_000 * (method == "POST"))
                reference = weakref.ref(request)
                try:
                    net.dispatch.send(request, net.context()).read()
                except NetworkError:
                    pass
                except ProtocolError:
                    pass
                else:
                    raise AssertionError("it did not fail")
                del request
                assert reference() is None
    finally:
        gc.enable()


def test_nothing_keeps_a_request_alive_that_could_not_connect(net: Net) -> None:
    gc.disable()
    try:
        for url in ("http://127.0.0.1:1/", "https://127.0.0.1:1/", "http://nowhere.invalid/"):
            request = Request("GET", url)
            reference = weakref.ref(request)
            with contextlib.suppress(ConnectError):
                net.dispatch.send(request, net.context())
            del request
            assert reference() is None
    finally:
        gc.enable()


# Aborts. Each case brings the request to the place by what the server or the phase shows.


def test_abort_while_waiting_for_a_connection(ca_path: str) -> None:
    with network(hard_limit=1) as net, RawServer(hang_before_response) as server:
        first = net.start(server.url)
        assert server.wait_for_requests(1)
        second = net.start(server.url)
        assert second.abort.wait_for_phase("waiting for a connection")
        second.cancel_and_check()
        first.cancel_and_check()
        assert server.wait_all_closed()
        assert len(server.connections) == 1


def test_abort_while_the_resolver_hangs(net: Net, hanging_resolver: HangingResolver) -> None:
    running = net.start("http://hangs.test/")
    assert hanging_resolver.wait_for_callers(1)
    running.cancel_and_check()
    assert net.open_count == 0


@pytest.mark.parametrize("by_shutdown", [True, False])
def test_abort_while_a_connect_hangs(
    net: Net, monkeypatch: pytest.MonkeyPatch, by_shutdown: bool
) -> None:
    if by_shutdown and not sockets.SHUTDOWN_WAKES_CONNECT:
        pytest.skip("shutdown() does not wake a connect here")
    monkeypatch.setattr(sockets, "SHUTDOWN_WAKES_CONNECT", by_shutdown)
    with full_backlog() as backlog:
        running = net.start(backlog.url)
        assert running.abort.wait_for_phase("connecting to")
        time.sleep(0.05)  # nothing shows that the system call has begun
        running.cancel_and_check()
    assert net.open_count == 0


@pytest.mark.parametrize("by_shutdown", [True, False])
@pytest.mark.parametrize("step", ["making the socket", "about to connect"])
def test_an_abort_just_before_a_connect_is_not_lost(
    monkeypatch: pytest.MonkeyPatch, by_shutdown: bool, step: str
) -> None:
    """It wakes what is there to be woken: here nothing yet, or a socket that does not connect."""
    if by_shutdown and not sockets.SHUTDOWN_WAKES_CONNECT:
        pytest.skip("shutdown() does not wake a connect here")
    monkeypatch.setattr(sockets, "SHUTDOWN_WAKES_CONNECT", by_shutdown)
    abort = Abort()
    steps = []

    def come(where: str) -> None:
        steps.append(where)
        if where == step:
            abort.abort(lambda: RequestCancelled("by the test"))

    class Socket(socket.socket):
        def settimeout(self, value: float | None, /) -> None:
            super().settimeout(value)
            come("about to connect")

        def setblocking(self, flag: bool, /) -> None:
            super().setblocking(flag)
            come("about to connect")

    def make_socket(*args: int) -> socket.socket:
        sock = Socket(*args)
        come("making the socket")
        return sock

    with full_backlog() as backlog:
        began = time.monotonic()
        with pytest.raises(RequestCancelled, match="by the test"):
            sockets.open_socket(
                [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (backlog.host, backlog.port))],
                "there",
                budget=sockets.Budget(PATIENCE),
                abort=abort,
                wake=sockets.Wake(),
                make_socket=make_socket,
            )
        assert time.monotonic() - began < PATIENCE / 3
    assert step in steps


class AnotherContext(ssl.SSLContext):
    """One that does something of its own after the handshake, as truststore's does."""

    def wrap_socket(self, *args: typing.Any, **kwargs: typing.Any) -> ssl.SSLSocket:
        wrapped = super().wrap_socket(*args, **kwargs)
        if wrapped.version() is None:  # no handshake was made
            wrapped.close()
            raise ssl.SSLError("nothing to verify")
        return wrapped


def another_context(ca_path: str) -> ssl.SSLContext:
    context = AnotherContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(ca_path)
    return context


@pytest.mark.parametrize("other", [False, True])
@pytest.mark.parametrize("make_server", [hanging_tls, dripping_tls])
# ssl.SSLContext.wrap_socket() leaves its socket to the garbage collector when it finds the
# connection shut down before the handshake begins, and `other` does both in one call.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.filterwarnings("ignore:.*SSLSocket:pytest.PytestUnraisableExceptionWarning")
def test_abort_in_the_tls_handshake(
    net: Net, ca_path: str, make_server: typing.Callable[[], RawServer], other: bool
) -> None:
    if other:
        net.ssl = SSLConfig(verify=another_context(ca_path))
    with make_server() as server:
        running = net.start(server.url)
        assert server.wait_for_connections(1)
        assert running.abort.wait_for_phase("in the TLS handshake")
        running.cancel_and_check()
        assert server.wait_all_closed()


@pytest.mark.parametrize("secure", [False, True])
def test_abort_while_sending_what_nobody_reads(
    net: Net, secure: bool, server_tls: ssl.SSLContext
) -> None:
    with never_reading(server_tls if secure else None) as server:
        running = net.start(server.url, "POST", data=b"x" * 100_000_000)
        assert server.wait_for_requests(1)
        running.cancel_and_check()
        assert server.wait_all_closed()


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("handler", [hang_before_response, drip_head])
def test_abort_while_waiting_for_the_head(
    net: Net,
    secure: bool,
    handler: typing.Callable[[Peer], None],
    server_tls: ssl.SSLContext,
) -> None:
    with RawServer(handler, tls=server_tls if secure else None) as server:
        running = net.start(server.url)
        assert server.wait_for_requests(1)
        assert running.abort.wait_for_phase("waiting for the response")
        running.cancel_and_check()
        assert server.wait_all_closed()


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("handler", [drip_body, drip_chunks, lengthless_body_then_hang])
def test_abort_while_the_body_comes(
    net: Net,
    secure: bool,
    handler: typing.Callable[[Peer], None],
    server_tls: ssl.SSLContext,
) -> None:
    # A body without a length looks complete to the reader that is woken.
    with RawServer(handler, tls=server_tls if secure else None) as server:
        running = net.start(server.url)
        assert running.abort.wait_for_phase("reading the body")
        running.cancel_and_check()
        assert server.wait_all_closed()


def test_abort_while_a_users_iterator_runs(net: Net, server: Site) -> None:
    asked, gate = threading.Event(), threading.Event()

    def body() -> typing.Iterator[bytes]:
        yield b"one"
        asked.set()
        gate.wait(PATIENCE)
        yield b"two"

    running = net.start(server.url, "POST", data=body())
    assert asked.wait(PATIENCE)
    assert running.abort.abort(lambda: RequestCancelled("cancelled")) is False
    gate.set()
    running.join()
    assert isinstance(running.error, RequestCancelled)
    assert server.wait_all_closed()


def test_after_an_abort_the_next_request_is_served(net: Net, server: Site) -> None:
    waiting = net.start(server.url + "/wait/long")
    assert server.wait_for_request("/wait/long")
    waiting.cancel_and_check()
    assert net.get(server.answer("/", b"ok")) == b"ok"
    assert net.open_count == 1


def test_an_abort_after_the_end_touches_nothing(net: Net, server: Site) -> None:
    url = server.answer("/", b"ok")
    context = net.context()
    assert net.send(url, context=context).read() == b"ok"
    context.abort.abort(lambda: RequestCancelled("too late"))
    assert net.get(url) == b"ok"
    assert len(server.connections) == 1


def test_aborts_at_any_moment_disturb_nobody_else(
    net: Net, tls_server: Site, switch_interval: None
) -> None:
    """Half of the requests are aborted at random instants; the others must not notice."""
    url = tls_server.answer("/", b"x" * 20_000)
    rng = random.Random(7)
    outcomes: list[str] = []

    def work(seed: int) -> None:
        for number in range(30):
            running = net.context()
            if (seed + number) % 2:
                delay = rng.random() * 0.01
                timer = threading.Timer(delay, typing.cast(WatchedAbort, running.abort).cancel)
                timer.start()
            try:
                assert net.get(url, context=running) == b"x" * 20_000
                outcomes.append("whole")
            except RequestCancelled:
                assert running.abort.aborted
                outcomes.append("cancelled")
            if (seed + number) % 2:
                timer.join()

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(outcomes) == 120
    assert outcomes.count("whole") >= 60
    assert net.open_count == net.idle_count


# Streams.


def test_a_delivered_stream_is_read_later(net: Net, server: Site) -> None:
    response = net.send(server.answer("/", b"x" * 500_000), stream=True)
    assert net.idle_count == 0
    assert b"".join(response.stream()) == b"x" * 500_000
    assert net.idle_count == 1


def test_a_stream_closed_early_drops_its_connection(net: Net, server: Site) -> None:
    response = net.send(server.answer("/", b"x" * 5_000_000), stream=True)
    next(response.raw())
    response.close()
    response.close()
    assert net.open_count == 0
    assert server.wait_all_closed()


def test_a_stream_dropped_unread_gives_its_place_back(server: Site) -> None:
    url = server.answer("/", b"x" * 5_000_000)
    with network(hard_limit=1, pool_timeout=PATIENCE) as net:
        response = net.send(url, stream=True)
        waiting = net.start(url)
        assert waiting.abort.wait_for_phase("waiting for a connection")
        gc.disable()
        try:
            del response
        finally:
            gc.enable()
        waiting.join()
        assert waiting.content == b"x" * 5_000_000


def test_unread_streams_that_hold_everything_are_a_pool_timeout(server: Site) -> None:
    url = server.answer("/", b"x" * 5_000_000)
    with network(hard_limit=2, pool_timeout=0.2) as net:
        streams = [net.send(url, stream=True) for _ in range(2)]
        with pytest.raises(PoolTimeout, match=r"all 2 connections for 0\.2 s"):
            net.get(url)
        for stream in streams:
            stream.close()
        assert net.get(url) == b"x" * 5_000_000


def test_body_iterators_that_need_another_connection_than_theirs_are_a_pool_timeout(
    server: Site,
) -> None:
    url = server.answer("/", b"ok")
    with network(hard_limit=2, pool_timeout=0.2) as net:
        both = threading.Barrier(2)

        def body() -> typing.Iterator[bytes]:
            both.wait(PATIENCE)
            yield net.get(url)

        uploads = [net.start(url, "POST", data=body()) for _ in range(2)]
        for upload in uploads:
            upload.join()
        errors = [upload.error for upload in uploads]
        assert any(isinstance(error, PoolTimeout) for error in errors)
        # Who is late by a hair has the connection of the other.
        assert all(error is None or isinstance(error, PoolTimeout) for error in errors)
        assert net.get(url) == b"ok"


def test_what_waits_while_an_iterator_gives_piece_by_piece_waits_its_turn(server: Site) -> None:
    url = server.answer("/", b"ok")
    with network(hard_limit=1, pool_timeout=1.0) as net:
        waiting = threading.Event()

        def body() -> typing.Iterator[bytes]:
            waiting.wait(PATIENCE)
            for _ in range(15):
                time.sleep(0.1)  # each less than the pool timeout, together more
                yield b"x"

        upload = net.start(url, "POST", data=body())
        assert upload.abort.wait_for_phase("sending")
        other = net.start(url)
        assert other.abort.wait_for_phase("waiting for a connection")
        waiting.set()
        for running in (upload, other):
            running.join()
            assert running.error is None


def test_abort_of_a_delivered_stream_wakes_its_reader(net: Net) -> None:
    with RawServer(drip_body) as server:
        context = net.context(None, stream=True)
        response = net.send(server.url, context=context)
        errors: list[BaseException] = []

        def read() -> None:
            try:
                response.read()
            except BaseException as exc:
                errors.append(exc)

        reader = threading.Thread(target=read)
        reader.start()
        assert server.wait_for_requests(1)
        context.abort.abort(lambda: RequestCancelled("cancelled"))
        reader.join(SOON)
        assert not reader.is_alive()
        assert isinstance(errors[0], RequestCancelled)
        assert server.wait_all_closed()
    assert net.open_count == 0


def test_closing_a_body_wakes_the_thread_that_reads_it(net: Net) -> None:
    with RawServer(hang_in_body) as server:
        response = net.send(server.url, timeout=None, stream=True)
        body = typing.cast(typing.Any, response)._stream._content
        reading, errors = threading.Event(), []

        def read() -> None:
            try:
                for _ in body:
                    reading.set()
            except HTTPError as exc:
                errors.append(exc)

        reader = threading.Thread(target=read)
        reader.start()
        assert reading.wait(PATIENCE)
        body.close()
        reader.join(SOON)
        assert not reader.is_alive()
        assert isinstance(errors[0], ResponseClosed)
        with pytest.raises(ResponseClosed):
            next(body)
        assert server.wait_all_closed()
    assert net.open_count == 0


def hang_in_body(peer: Peer) -> None:
    peer.read_request()
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")
    peer.wait_closed()


def test_an_aborted_stream_that_nobody_reads_is_closed_by_whoever_aborts(net: Net) -> None:
    with RawServer(drip_body) as server:
        context = net.context(None, stream=True)
        response = net.send(server.url, context=context)
        context.abort.abort(lambda: RequestCancelled("cancelled"))
        response.close()
        assert net.open_count == 0
        assert server.wait_all_closed()


def test_a_closed_dispatcher_lets_delivered_streams_be_read(net: Net, server: Site) -> None:
    url = server.answer("/", b"x" * 500_000)
    response = net.send(url, stream=True)
    net.dispatch.close()
    assert response.read() == b"x" * 500_000
    assert net.open_count == 0
    with pytest.raises(ClientClosed):
        net.get(url)


# Reuse of what the server has closed.


def close_after_each(answers: int) -> typing.Callable[[Peer], None]:
    """Promises keep-alive, and closes after so many answers."""

    def handle(peer: Peer) -> None:
        for _ in range(answers):
            if peer.read_request() is None:
                return
            peer.send(OK)

    return handle


def test_a_connection_that_the_server_closed_is_replaced_unseen(net: Net) -> None:
    with RawServer(close_after_each(1)) as server:
        for number in range(1, 4):
            assert net.get(server.url, "POST", data=b"x") == b"ok"
            assert len(server.connections) == number
            (entry,) = net.dispatch._pool._idle.values()
            assert wait_for_read(entry.connection.sock, PATIENCE)  # the server's end


def reset_on_second(peer: Peer) -> None:
    """Closes without an answer when the second request has come."""
    if peer.read_request() is not None:
        peer.send(OK)
        if peer.server.connections[0] is peer:
            peer.read_request()
            peer.reset()
        elif peer.read_request() is not None:
            peer.send(OK)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_an_idempotent_request_is_sent_again_when_a_reused_connection_was_closing(
    net: Net, method: str
) -> None:
    with RawServer(reset_on_second) as server:
        assert net.get(server.url) == b"ok"
        kwargs = {"data": b"again"} if method == "PUT" else {}
        assert net.get(server.url, method, **kwargs) == b"ok"
        assert [request.method for request in server.requests] == ["GET", method, method]


@pytest.mark.parametrize(
    ("method", "data"), [("POST", b"once"), ("PATCH", b"once"), ("PUT", iter([b"once"]))]
)
def test_what_cannot_be_repeated_is_sent_once(net: Net, method: str, data: typing.Any) -> None:
    with RawServer(reset_on_second) as server:
        assert net.get(server.url) == b"ok"
        with pytest.raises(NetworkError):
            net.get(server.url, method, data=data)
        assert [request.method for request in server.requests] == ["GET", method]


def test_a_request_whose_response_had_begun_is_sent_once(net: Net) -> None:
    def begin(peer: Peer) -> None:
        peer.read_request()
        peer.send(OK)
        if peer.read_request() is not None:
            peer.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
            peer.close()

    with RawServer(begin) as server:
        assert net.get(server.url) == b"ok"
        with pytest.raises(IncompleteRead, match="after an interim response"):
            net.get(server.url, "DELETE")
        assert [request.method for request in server.requests] == ["GET", "DELETE"]


class BreakingSocket:
    """Has `data` and is then reset."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def recv(self, size: int) -> bytes:
        if not (data := self._data.read(size)):
            raise ConnectionResetError(errno.ECONNRESET, "reset")
        return data


@pytest.mark.parametrize(
    "begun", [b"H", b"HTTP/1.1 200 OK\r\nX-A: b\r\n", b"HTTP/1.1 103 Early Hints\r\n\r\n"]
)
def test_a_reset_after_the_first_byte_of_a_response_is_told_from_one_before_it(
    begun: bytes,
) -> None:
    # Only the latter, a ConnectionError, lets a request be sent again.
    reader = ResponseReader(BreakingSocket(begun), method="GET")
    with contextlib.closing(reader), pytest.raises(BrokenHead, match="reset") as caught:
        reader.begin()
    assert not isinstance(caught.value, ConnectionError)
    assert isinstance(read_error(caught.value, 5.0, Request("GET", "http://a/")), ReadError)
    reader = ResponseReader(BreakingSocket(b""), method="GET")
    with contextlib.closing(reader), pytest.raises(ConnectionResetError):
        reader.begin()


def test_a_request_of_which_nothing_was_taken_is_sent_again_whatever_it_is(
    net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    def once_then_reset(peer: Peer) -> None:
        peer.read_request()
        peer.send(OK)
        if peer.server.connections[0] is peer:
            peer.reset()

    with RawServer(once_then_reset) as server:
        assert net.get(server.url) == b"ok"
        (entry,) = net.dispatch._pool._idle.values()
        assert wait_for_read(entry.connection.sock, PATIENCE)
        # As if the reset had come right after the look.
        monkeypatch.setattr(Connection, "is_usable", lambda self: True)
        assert net.get(server.url, "POST", data=iter([b"only", b"once"])) == b"ok"
        assert [request.method for request in server.requests] == ["GET", "POST"]
        assert server.requests[1].body == b"onlyonce"


def test_the_second_attempt_is_made_on_a_new_connection(net: Net) -> None:
    gate = threading.Event()

    def answer(peer: Peer) -> None:
        peer.read_request()
        gate.wait(PATIENCE)
        peer.send(OK)
        if len(peer.server.connections) <= 2:
            peer.read_request()
            peer.reset()

    with RawServer(answer) as server:
        both = [net.start(server.url) for _ in range(2)]
        assert server.wait_for_requests(2)
        gate.set()
        for running in both:
            running.join()
        assert net.idle_count == 2
        assert net.get(server.url) == b"ok"
        assert len(server.connections) == 3
        assert len(server.requests) == 4


def test_a_request_that_asks_for_the_end_gets_it(net: Net, server: Site) -> None:
    url = server.answer("/", b"ok", headers={"Connection": "keep-alive"})
    assert net.get(url, headers={"Connection": "Close"}) == b"ok"
    assert net.open_count == 0


def test_a_new_connection_that_closes_unanswered_is_not_tried_again(net: Net) -> None:
    def refuse(peer: Peer) -> None:
        peer.read_request()
        peer.reset()

    with RawServer(refuse) as server:
        with pytest.raises(ReadError):
            net.get(server.url)
        assert len(server.requests) == 1


def test_a_read_timeout_on_a_reused_connection_is_not_repeated(net: Net) -> None:
    def answer_once(peer: Peer) -> None:
        peer.read_request()
        peer.send(OK)
        hang_before_response(peer)

    with RawServer(answer_once) as server:
        assert net.get(server.url) == b"ok"
        with pytest.raises(ReadTimeout):
            net.get(server.url, timeout=0.2)
        assert len(server.requests) == 2


def test_a_connection_not_verified_is_not_used_where_it_must_be(net: Net, tls_server: Site) -> None:
    url = tls_server.answer("/", b"ok")
    assert net.get(url, verify=False) == b"ok"
    with pytest.raises(CertificateError):
        net.get(url, verify=True)
    assert net.get(url, verify=False) == b"ok"
    assert tls_server.wait_for_handshakes(1)
    assert sum(peer.handshaken.is_set() for peer in tls_server.connections) == 1


# Limits.


class LoopbackServer:
    """Answers on every address of 127.0.0.0/8, in one thread, and counts what is open."""

    def __init__(self) -> None:
        self.hosts: set[str] = set()
        self.most_open = 0
        self._stop = threading.Event()
        self._listener = socket.socket()
        try:
            # All addresses, but of the loopback device only.
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo\0")
        except (AttributeError, OSError):
            self._listener.close()
            pytest.skip("a socket cannot be bound to the loopback device here")
        self._listener.bind(("0.0.0.0", 0))
        self._listener.listen(128)
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> LoopbackServer:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop.set()
        with contextlib.suppress(ConnectionError):  # if something else woke it
            socket.create_connection(("127.0.0.1", self.port)).close()
        self._thread.join(PATIENCE)
        self._listener.close()

    def _serve(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            while not self._stop.is_set():
                for key, _ in selector.select():
                    sock = typing.cast(socket.socket, key.fileobj)
                    if sock is self._listener:
                        accepted, _ = sock.accept()
                        self.hosts.add(accepted.getsockname()[0])
                        selector.register(accepted, selectors.EVENT_READ)
                        self.most_open = max(self.most_open, len(selector.get_map()) - 1)
                    elif sock.recv(65536):
                        sock.sendall(OK)
                    else:
                        selector.unregister(sock)
                        sock.close()
            for key in list(selector.get_map().values()):
                typing.cast(socket.socket, key.fileobj).close()


def test_a_crawl_over_2000_hosts_keeps_open_connections_bounded() -> None:
    with LoopbackServer() as server, network(soft_limit=16, hard_limit=24) as net:
        for number in range(2000):
            url = f"http://127.1.{number // 250}.{number % 250 + 1}:{server.port}/"
            assert net.get(url) == b"ok"
            assert net.open_count == net.idle_count == min(number + 1, 16)
        assert len(server.hosts) == 2000
    # The server sees an end a little later than it comes.
    assert server.most_open <= 24


def test_never_more_connections_than_the_hard_limit(switch_interval: None) -> None:
    with LoopbackServer() as server, network(soft_limit=2, hard_limit=3) as net:

        def work(seed: int) -> None:
            for number in range(40):
                net.get(f"http://127.2.0.{(seed * 7 + number) % 5 + 1}:{server.port}/")
                counts.append(net.open_count)

        counts: list[int] = []
        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(counts) == 320
        assert max(counts) <= 3
        assert net.open_count == net.idle_count <= 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork()")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_child_that_forgets_leaves_the_parents_connections_alone(
    net: Net, tls_server: Site, server: Site
) -> None:
    urls = [tls_server.answer("/", b"ok"), server.answer("/", b"ok")]
    for url in urls:
        net.get(url)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            net.dispatch._pool.forget()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    for url in urls:
        assert net.get(url) == b"ok"
    assert len(tls_server.connections) == len(server.connections) == 1


def test_forgetting_closes_our_descriptors(server: Site) -> None:
    with network() as net:
        net.get(server.answer("/", b"ok"))
        (entry,) = net.dispatch._pool._idle.values()
        sock = entry.connection.sock
        net.dispatch._pool.forget()
        assert sock.fileno() == -1


@pytest.mark.slow  # also since an interrupt within what measures the tests would lock that up
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs setitimer()")
# What is interrupted at its very creation is closed by the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_interrupts_at_random_instants_lose_no_connection(server: Site) -> None:
    """As Ctrl-C does to a plain call: the next one finds a dispatcher that works."""

    class Interrupted(BaseException):
        pass

    def strike(number: int, frame: types.FrameType | None) -> None:
        # Not in a tracer, nor in a finalizer, where nothing can be raised: a little later.
        spared = frame is None or "coverage" in frame.f_code.co_filename
        while frame is not None:
            spared = spared or frame.f_code.co_name == "__del__"
            frame = frame.f_back
        if not spared:
            raise Interrupted
        signal.setitimer(signal.ITIMER_REAL, 1e-4)

    def work(net: Net) -> None:
        # Bounded, since what is raised where Python ignores exceptions is lost. And a function,
        # since CPython 3.13.0 skips the handlers around a loop that is struck at its end.
        end = time.monotonic() + 0.02
        while time.monotonic() < end:
            net.get(url, "POST", data=b"y" * 10)

    url = server.answer("/", b"x" * 1000)
    rng = random.Random(5)
    before = signal.signal(signal.SIGALRM, strike)
    try:
        with network(soft_limit=1, hard_limit=1) as net:
            for _ in range(300):
                with contextlib.suppress(Interrupted):
                    signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-5, 3e-3))
                    work(net)
                context = net.context()
                timer = threading.Timer(PATIENCE, typing.cast(WatchedAbort, context.abort).cancel)
                timer.start()
                assert net.get(url, context=context) == b"x" * 1000
                timer.cancel()
                timer.join()
                assert net.open_count == net.idle_count == 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
