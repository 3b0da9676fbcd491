"""The body of a response on a real connection, read and closed by different threads."""

from __future__ import annotations

import random
import threading
import tracemalloc
import typing

import pytest

import http3_parallel as http3
from servers import PATIENCE, Peer, RawServer, drip_body


def close_while_it_is_read(
    serve: typing.Callable[[Peer], None],
    read: typing.Callable[[http3.Response], object],
    half_read: threading.Event,
) -> list[BaseException]:
    """What the thread that reads raises, when the response is closed as soon as `half_read`."""
    raised: list[BaseException] = []

    def run(response: http3.Response) -> None:
        try:
            read(response)
        except http3.HTTPError as error:
            raised.append(error)

    with RawServer(serve) as server, http3.Client(timeout=None) as client:
        response = client.get(server.url, stream=True)
        reader = threading.Thread(target=run, args=(response,))
        reader.start()
        assert half_read.wait(PATIENCE)
        response.close()
        reader.join(PATIENCE)
        assert not reader.is_alive()
        assert server.wait_all_closed()
    return raised


def test_closing_a_response_wakes_the_thread_that_reads_it() -> None:
    def half_a_body(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf ")
        peer.wait_closed()

    first = threading.Event()

    def read(response: http3.Response) -> None:
        for _ in response.stream():
            first.set()

    raised = close_while_it_is_read(half_a_body, read, first)
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


# Read as a whole.

MIB = 1024 * 1024


def sized(body: bytes, length: int | None = None) -> bytes:
    """A response with that body, and with another length than it has, if given."""
    announced = len(body) if length is None else length
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (announced, body)


def answers(answer: bytes) -> typing.Callable[[Peer], None]:
    def serve(peer: Peer) -> None:
        while peer.read_request() is not None:
            peer.send(answer)

    return serve


@pytest.mark.parametrize("size", [0, 1, 65536, MIB - 1, MIB, MIB + 1, 16 * MIB, 17 * MIB + 3])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_body_of_any_size_comes_whole_and_its_connection_serves_again(
    size: int, streamed: bool
) -> None:
    body = random.Random(size).randbytes(size)
    with RawServer(answers(sized(body))) as server, http3.Client() as client:
        for _ in range(2):
            response = client.get(server.url, stream=streamed)
            assert response.read() == body
            assert response.content == response.read() == body
            assert response.is_closed
        assert len(server.connections) == 1


@pytest.mark.parametrize("size", [5, 3 * MIB])
def test_a_body_that_ends_early_is_an_error(size: int) -> None:
    def cut(peer: Peer) -> None:
        peer.read_request()
        peer.send(sized(bytes(size), size + 1))

    with RawServer(cut) as server, http3.Client() as client:
        with pytest.raises(http3.IncompleteRead, match="ended 1 bytes early") as caught:
            client.get(server.url)
        assert caught.value.request is not None
        assert server.wait_all_closed()


def test_room_is_made_as_bytes_arrive_not_as_they_are_announced() -> None:
    sent = 2 * MIB

    def boast(peer: Peer) -> None:
        peer.read_request()
        peer.send(sized(bytes(sent), 10**15))

    with RawServer(boast) as server, http3.Client() as client:
        tracemalloc.start()
        try:
            with pytest.raises(http3.IncompleteRead):
                client.get(server.url)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 16 * sent


@pytest.mark.parametrize("chunked", [False, True])
def test_a_large_body_is_held_once(chunked: bool) -> None:
    size = 32 * MIB
    body = bytes(size)
    chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"
    answer = chunks % (size, body) if chunked else sized(body)
    with RawServer(answers(answer)) as server, http3.Client() as client:
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            response = client.get(server.url)
            peak = tracemalloc.get_traced_memory()[1] - before
        finally:
            tracemalloc.stop()
        assert response.content == body
    # What is here is copied into a larger place a few times. Where chunks are put together, it is
    # the system that moves them; tracemalloc counts both places.
    assert peak < (2.3 if chunked else 1.6) * size


def test_a_stream_takes_little_memory_however_long_it_is() -> None:
    block = bytes(MIB)

    def serve(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (64 * MIB))
        for _ in range(64):
            peer.send(block)

    with RawServer(serve) as server, http3.Client() as client:
        tracemalloc.start()
        try:
            total = sum(map(len, client.get(server.url, stream=True).stream()))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert total == 64 * MIB
    assert peak < 4 * MIB


def test_a_large_body_larger_than_the_limit_is_not_read() -> None:
    body = bytes(3 * MIB)
    with RawServer(answers(sized(body))) as server:
        with http3.Client(max_response_size=len(body)) as client:
            assert client.get(server.url).content == body
        with http3.Client(max_response_size=len(body) - 1) as client:
            with pytest.raises(http3.ResponseTooLarge):
                client.get(server.url)
            assert server.wait_all_closed()


def test_closing_a_response_wakes_the_thread_that_reads_it_whole() -> None:
    half_sent = threading.Event()

    def half_a_body(peer: Peer) -> None:
        peer.read_request()
        peer.send(sized(bytes(3 * MIB), 4 * MIB))
        half_sent.set()
        peer.wait_closed()

    raised = close_while_it_is_read(half_a_body, http3.Response.read, half_sent)
    assert [type(error) for error in raised] == [http3.ResponseClosed]


def test_a_drip_does_not_outlast_the_deadline_of_a_body_read_whole() -> None:
    with RawServer(drip_body) as server, http3.Client() as client:
        with pytest.raises(http3.DeadlineExceeded):
            client.get(server.url, deadline=0.3)
        assert server.wait_all_closed()
