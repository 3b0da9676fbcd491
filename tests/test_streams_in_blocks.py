"""Responses of a block that are delivered with their body unread."""

from __future__ import annotations

import gc
import threading
import typing

import pytest

import http3_parallel as http3
from scenarios import Reader, error_of, pool_of, wait_until
from servers import PATIENCE, Peer, RawServer, Site, drip_body


@pytest.fixture
def client() -> typing.Iterator[http3.Client]:
    with http3.Client(max_workers=4) as client:
        yield client


def stream(parallel: http3.Parallel, url: str, **options: typing.Any) -> http3.Response:
    return parallel.get(url, stream=True, **options).get_response(PATIENCE)


class Halves(RawServer):
    """Sends the first half of a body at once, and the second when `released` is set."""

    def __init__(self) -> None:
        super().__init__(self._handle)
        self.released = threading.Event()

    def _handle(self, peer: Peer) -> None:
        while peer.read_request() is not None:
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")
            self.released.wait(PATIENCE)
            peer.send(b"-half")


# Workers and connections.


def test_the_worker_is_free_while_the_user_reads(client: http3.Client, server: Site) -> None:
    url = server.answer("/", b"next")
    with Halves() as halves, client.parallel(max_workers=1) as parallel:
        response = stream(parallel, halves.url)
        pieces = response.stream()
        assert next(pieces) == b"first"
        # The only worker of the block runs this, in the middle of the body.
        assert parallel.get(url).get_response(PATIENCE).content == b"next"
        halves.released.set()
        assert b"".join(pieces) == b"-half"


def test_next_response_hands_out_a_stream_at_its_head(client: http3.Client) -> None:
    with Halves() as halves, client.parallel() as parallel:
        parallel.get(halves.url, stream=True, tag="mine")
        response = parallel.next_response(PATIENCE)
        assert response.tag == "mine"
        assert not response.is_closed
        assert not parallel.has_pending_responses
        halves.released.set()
        assert response.read() == b"first-half"
        assert response.content == b"first-half"


def test_the_connection_is_back_when_the_stream_is_at_its_end(
    client: http3.Client, server: Site
) -> None:
    url = server.answer("/", b"x" * 300_000)
    with client.parallel() as parallel:
        for _ in range(5):
            response = stream(parallel, url)
            assert sum(map(len, response.stream())) == 300_000
            assert response.is_closed
            assert not pool_of(client)._in_use
            assert pool_of(client).idle_count == 1
    assert len(server.connections) == 1


def test_two_blocks_share_the_connection_of_a_stream(client: http3.Client, server: Site) -> None:
    url = server.answer("/", b"shared")
    with client.parallel() as one, client.parallel() as other:
        assert stream(one, url).read() == b"shared"
        assert stream(other, url).read() == b"shared"
        assert client.get(url).content == b"shared"
    assert len(server.connections) == 1


def test_a_stream_closed_early_closes_its_connection_and_no_other(client: http3.Client) -> None:
    with RawServer(drip_body) as server, client.parallel() as parallel:
        kept = stream(parallel, server.url + "/kept")
        response = stream(parallel, server.url + "/closed")
        assert next(response.stream()) == b"x"
        response.close()
        assert response.is_closed
        closed = [peer for peer in server.connections if peer.requests[0].target == "/closed"]
        assert closed[0].closed.wait(PATIENCE)
        assert len(pool_of(client)._in_use) == 1
        assert next(kept.stream()) == b"x"
        with pytest.raises((http3.ResponseClosed, http3.StreamConsumed)):
            response.read()


def test_a_stream_used_with_with_is_closed_at_its_end(client: http3.Client) -> None:
    with RawServer(drip_body) as server, client.parallel() as parallel:
        with stream(parallel, server.url) as response:
            assert next(response.stream()) == b"x"
        assert response.is_closed
        assert server.wait_all_closed()


@pytest.mark.parametrize("read_some", [False, True])
def test_a_stream_dropped_unread_gives_its_connection_back(read_some: bool) -> None:
    limits = http3.PoolLimits(hard_limit=1)
    with RawServer(drip_body) as server, Site() as site, http3.Client(pool_limits=limits) as client:
        url = site.answer("/", b"at last")
        with client.parallel() as parallel:
            pending = parallel.get(server.url, stream=True)
            response = pending.get_response(PATIENCE)
            if read_some:
                assert next(response.stream()) == b"x"
            waiting = parallel.get(url)
            with pytest.raises(http3.WaitTimeout):
                waiting.get_response(timeout=0.05)
            del pending, response
            gc.collect()
            # Its place is the only one there is.
            assert waiting.get_response(PATIENCE).content == b"at last"
            assert not parallel._block._streams
        assert server.wait_all_closed()


def test_a_stream_in_nobodys_hands_is_dropped_with_its_handle(client: http3.Client) -> None:
    with RawServer(drip_body) as server, client.parallel() as parallel:
        pending = parallel.get(server.url, stream=True)
        assert wait_until(pending.done)
        assert parallel._block._streams
        del pending
        # Nobody has asked for it yet: the block keeps it for next_response().
        gc.collect()
        assert parallel._block._streams
        response = parallel.next_response(PATIENCE)
        del response
        gc.collect()
        assert not parallel._block._streams
        assert server.wait_all_closed(), "the server was not told until something else was done"


def test_streams_that_hold_every_connection_are_a_pool_timeout_of_the_next() -> None:
    limits = http3.PoolLimits(hard_limit=2, pool_timeout=0.1)
    with RawServer(drip_body) as server, http3.Client(pool_limits=limits) as client:
        with client.parallel() as parallel:
            held = [stream(parallel, server.url) for _ in range(2)]
            with pytest.raises(http3.PoolTimeout):
                parallel.get(server.url).get_response(PATIENCE)
            held.pop().close()
            assert not stream(parallel, server.url).is_closed


# The end of the block.


def test_leaving_the_block_wakes_the_thread_that_reads(client: http3.Client) -> None:
    with RawServer(drip_body) as server:
        with client.parallel() as parallel:
            reader = Reader(stream(parallel, server.url, tag="mine"))
            assert wait_until(lambda: len(reader.pieces) > 0)
        reader.join()
        error = reader.error
        assert isinstance(error, http3.RequestCancelled)
        assert error.tag == "mine"
        assert error.request is not None
        assert str(error.request.url).startswith(server.url)
        assert server.wait_all_closed()


def test_what_was_read_before_the_end_stays(client: http3.Client, server: Site) -> None:
    url = server.answer("/", b"kept")
    with client.parallel() as parallel:
        pending = parallel.get(url, stream=True)
        pending.get_response(PATIENCE).read()
    assert pending.get_response().content == b"kept"


def test_a_stream_unread_at_the_end_of_its_block_says_so(client: http3.Client) -> None:
    with RawServer(drip_body) as server:
        with client.parallel() as parallel:
            response = stream(parallel, server.url)
        for use in (response.read, lambda: list(response.stream()), lambda: list(response.raw())):
            assert isinstance(error_of(use), http3.ResponseClosed)
        assert response.status_code == 200
        assert server.wait_all_closed()


def test_a_block_ends_its_own_streams_only(client: http3.Client) -> None:
    with Halves() as halves:
        with client.parallel() as other:
            mine = client.get(halves.url, stream=True)
            its = stream(other, halves.url)
            with client.parallel() as parallel:
                gone = stream(parallel, halves.url)
            assert gone.is_closed
            halves.released.set()
            assert its.read() == b"first-half"
            assert mine.read() == b"first-half"


def test_closing_the_client_leaves_the_streams_of_plain_calls_readable() -> None:
    with Halves() as halves:
        with http3.Client() as client:
            plain = client.get(halves.url, stream=True)
            parallel = client.parallel()
            in_block = stream(parallel, halves.url)
        halves.released.set()
        assert plain.read() == b"first-half"
        assert isinstance(error_of(in_block.read), http3.ResponseClosed)


def test_cancel_ends_what_is_pending_and_leaves_delivered_streams(client: http3.Client) -> None:
    with Halves() as halves, client.parallel() as parallel:
        pending = parallel.get(halves.url, stream=True)
        response = pending.get_response(PATIENCE)
        parallel.cancel()
        assert not pending.cancel(), "it has completed"
        halves.released.set()
        assert response.read() == b"first-half"


def test_a_stream_cancelled_before_its_head_is_never_delivered(
    client: http3.Client, server: Site
) -> None:
    with client.parallel() as parallel:
        pending = parallel.get(server.url + "/wait/head", stream=True)
        assert server.wait_for_request("/wait/head")
        assert pending.cancel()
        server.release("head")
        assert isinstance(error_of(pending.get_response), http3.RequestCancelled)
        assert server.wait_all_closed()


def test_many_streams_are_read_by_many_threads_whole(
    client: http3.Client, server: Site, switch_interval: None
) -> None:
    url = server.answer("/", bytes(range(256)) * 400)
    with client.parallel() as parallel:
        readers = [Reader(response) for response in _streams(parallel, url, 60)]
        for reader in readers:
            reader.join()
            assert reader.error is None
            assert b"".join(reader.pieces) == bytes(range(256)) * 400
    assert not pool_of(client)._in_use
    assert not parallel._block._streams


def _streams(parallel: http3.Parallel, url: str, number: int) -> typing.Iterator[http3.Response]:
    for _ in range(number):
        parallel.get(url, stream=True)
    while parallel.has_pending_responses:
        yield parallel.next_response(PATIENCE)
