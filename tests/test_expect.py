"""Uploads that ask first: ``Expect: 100-continue`` (RFC 9110, section 10.1.1)."""

from __future__ import annotations

import threading
import typing
from collections.abc import Iterator

import pytest

import http3_parallel as http3
from http3_parallel.dispatch import exchange
from servers import PATIENCE, Peer, RawServer

EXPECT = {"Expect": "100-continue"}
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def upload(
    serve: typing.Callable[[Peer], None], data: typing.Any = b"body", **options: typing.Any
) -> tuple[http3.Response, RawServer]:
    with RawServer(serve) as server, http3.Client() as client:
        return client.post(server.url, data=data, headers=EXPECT, **options), server


@pytest.mark.parametrize("before", [b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"])
@pytest.mark.parametrize("data", [b"body", [b"bo", b"dy"]])
def test_the_body_follows_when_the_server_wants_it(before: bytes, data: typing.Any) -> None:
    seen_before_leave: list[bytes] = []

    def serve(peer: Peer) -> None:
        while (request := peer.read_head()) is not None:
            seen_before_leave.append(bytes(peer._buffer))
            peer.send(before + CONTINUE)
            peer.read_body(request)
            peer.send(OK)

    with RawServer(serve) as server, http3.Client() as client:
        for _ in range(2):
            body = data if isinstance(data, bytes) else iter(data)
            assert client.post(server.url, data=body, headers=EXPECT).text == "ok"
        assert [request.body for request in server.requests] == [b"body", b"body"]
        assert len(server.connections) == 1
    assert seen_before_leave == [b"", b""]


def test_a_final_answer_is_the_result_and_no_body_is_sent() -> None:
    def serve(peer: Peer) -> None:
        peer.read_head()
        peer.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nno!")
        peer.wait_closed()

    taken: list[int] = []

    def body() -> Iterator[bytes]:
        taken.append(1)
        yield b"x"

    with RawServer(serve) as server, http3.Client() as client:
        response = client.post(server.url, data=body(), headers=EXPECT)
        assert (response.status_code, response.text) == (413, "no!")
        assert response.timings.sent is None
        assert taken == []
        assert server.wait_all_closed()
        assert [peer.discarded for peer in server.connections] == [0]


def test_the_body_of_a_final_answer_has_the_whole_read_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exchange, "EXPECT_SECONDS", 0.05)
    timeouts: list[float | None] = []

    def serve(peer: Peer) -> None:
        peer.read_head()
        peer.send(b"HTTP/1.1 401 x\r\nContent-Length: 3\r\n\r\n")
        peer.wait_closed()

    with RawServer(serve) as server, http3.Client(timeout=PATIENCE) as client:
        response = client.post(server.url, data=b"x", headers=EXPECT, stream=True)
        stream: typing.Any = response._stream
        timeouts.append(stream._content._reader.sock.gettimeout())
        response.close()
    assert timeouts == [PATIENCE]


def test_a_body_that_was_not_wanted_can_follow_a_redirect() -> None:
    def serve(peer: Peer) -> None:
        request = peer.read_head()
        assert request is not None
        if request.target == "/":
            peer.send(b"HTTP/1.1 307 x\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n")
        else:
            peer.send(CONTINUE)
            peer.read_body(request)
            peer.send(OK)

    response, server = upload(serve, iter([b"once"]))
    assert response.text == "ok"
    assert server.requests[-1].body == b"once"


@pytest.mark.parametrize("begun", [b"", CONTINUE[:9], CONTINUE[:-2]])
def test_a_server_that_does_not_know_it_gets_the_body_all_the_same(
    begun: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "EXPECT_SECONDS", 0.05)

    def serve(peer: Peer) -> None:
        request = peer.read_head()
        assert request is not None
        if begun:
            peer.send(begun)
        peer.read_body(request)
        peer.send((CONTINUE[len(begun) :] if begun else b"") + OK)

    response, server = upload(serve)
    assert response.text == "ok"
    assert server.requests[0].body == b"body"


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_who_has_no_body_does_not_wait(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> bool:
        raise AssertionError("it waits for leave to send nothing")

    monkeypatch.setattr(exchange.Exchange, "_is_expected", never)

    def serve(peer: Peer) -> None:
        while peer.read_request() is not None:
            peer.send(OK)

    with RawServer(serve) as server, http3.Client() as client:
        for _ in range(2):
            response = client.request(method, server.url, headers=EXPECT)
            assert response.text == "ok"
            assert response.timings.sent is not None
        assert len(server.connections) == 1


def test_a_connection_that_ends_meanwhile_is_an_error() -> None:
    def serve(peer: Peer) -> None:
        peer.read_head()

    with pytest.raises(http3.ReadError, match="without an answer"):
        upload(serve)


def test_what_is_no_http_meanwhile_is_an_error() -> None:
    def serve(peer: Peer) -> None:
        peer.read_head()
        peer.send(b"SSH-2.0\r\n")

    with pytest.raises(http3.ProtocolError, match="does not begin with a status line"):
        upload(serve)


def test_the_deadline_and_leaving_end_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "EXPECT_SECONDS", 2 * PATIENCE)
    heard = threading.Event()

    def serve(peer: Peer) -> None:
        peer.read_head()
        heard.set()
        peer.wait_closed()

    with RawServer(serve) as server, http3.Client(timeout=None) as client:
        with pytest.raises(http3.DeadlineExceeded, match="leave to send the body"):
            client.post(server.url, data=b"body", headers=EXPECT, deadline=0.2)
        heard.clear()
        with client.parallel() as parallel:
            pending = parallel.post(server.url, data=b"body", headers=EXPECT)
            assert heard.wait(PATIENCE)
        assert pending.cancelled()
        assert server.wait_all_closed()
    assert [request.body for request in server.requests] == [b"", b""]
