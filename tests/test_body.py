"""The body of a response on a real connection, read and closed by different threads."""

from __future__ import annotations

import threading

import http3_parallel as http3
from servers import PATIENCE, Peer, RawServer


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
