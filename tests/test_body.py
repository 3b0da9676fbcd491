"""The body of a response on a real connection, read and closed by different threads."""

from __future__ import annotations

import threading

import pytest

import http3_parallel as http3
from servers import PATIENCE, Peer, RawServer, drip_body


def test_closing_a_response_wakes_the_thread_that_reads_it() -> None:
    def half_a_body(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf ")
        peer.wait_closed()

    raised: list[BaseException] = []
    first = threading.Event()

    def read(response: http3.Response) -> None:
        try:
            for _ in response.stream():
                first.set()
        except http3.HTTPError as error:
            raised.append(error)

    with RawServer(half_a_body) as server, http3.Client(timeout=None) as client:
        response = client.get(server.url, stream=True)
        reader = threading.Thread(target=read, args=(response,))
        reader.start()
        assert first.wait(PATIENCE)
        response.close()
        reader.join(PATIENCE)
        assert not reader.is_alive()
        assert server.wait_all_closed()
    assert [type(error) for error in raised] == [http3.ResponseClosed]


def test_a_streams_deadline_outlives_its_client() -> None:
    with RawServer(drip_body) as server:
        with http3.Client() as client:
            response = client.get(server.url, stream=True, deadline=0.3)
        with pytest.raises(http3.DeadlineExceeded) as caught:
            response.read()
        assert caught.value.request is response.request
        assert server.wait_all_closed()


def test_a_streams_deadline_ends_a_read_that_waits() -> None:
    def head_only(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
        peer.wait_closed()

    with RawServer(head_only) as server:
        response = http3.get(server.url, stream=True, deadline=0.3, timeout=PATIENCE)
        with pytest.raises(http3.DeadlineExceeded):
            response.read()
        assert server.wait_all_closed()


@pytest.mark.parametrize("timeout", [2 * PATIENCE, None])
def test_a_redirect_does_not_wait_for_a_body_that_does_not_come(timeout: float | None) -> None:
    def redirect(peer: Peer) -> None:
        request = peer.read_request()
        if request is not None and request.target == "/":
            peer.send(b"HTTP/1.1 302 Found\r\nLocation: /b\r\nContent-Length: 5\r\n\r\n")
            peer.wait_closed()
        else:
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    # The deadline ends the test, rather than to let it hang.
    with RawServer(redirect) as server, http3.Client(timeout=timeout) as client:
        assert client.get(f"{server.url}/", deadline=PATIENCE).text == "ok"
        assert len(server.connections) == 2
