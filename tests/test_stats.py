"""How far a block is: its stats at moments that the test holds still."""

from __future__ import annotations

import gc
import os
import pathlib
import threading
import typing

import pytest

import http3_parallel as http3
from http3_parallel.stats import Counts
from scripted import ScriptedDispatch
from servers import PATIENCE, Peer, RawServer, Site

ORIGIN = "http://example.com"


def counts(stats: http3.Stats | http3.HostStats) -> dict[str, int]:
    """Those that are not 0."""
    names = ("submitted", "queued", "in_flight", "done", "failed", "cancelled")
    shown = {name: getattr(stats, name) for name in names if getattr(stats, name)}
    # What each test relies on.
    assert stats.submitted == sum(shown.get(name, 0) for name in names[1:])
    return shown


def test_a_request_is_counted_from_its_line_to_its_end() -> None:
    dispatch = ScriptedDispatch()
    with http3.parallel(dispatch=dispatch, max_workers=1) as parallel:
        assert counts(parallel.stats) == {}
        first = parallel.get(f"{ORIGIN}/1", tag="first")
        second = parallel.get(f"{ORIGIN}/2")
        exchange = dispatch.exchange("/1")
        assert counts(parallel.stats) == {"submitted": 2, "queued": 1, "in_flight": 1}
        exchange.respond(404, content=b"12345")
        assert first.get_response().status_code == 404
        dispatch.exchange("/2").fail(http3.ConnectError("no"))
        with pytest.raises(http3.ConnectError):
            second.get_response()
        assert counts(parallel.stats) == {"submitted": 2, "done": 1, "failed": 1}
        parallel.get(f"{ORIGIN}/3")
        dispatch.exchange("/3")
    assert counts(parallel.stats) == {"submitted": 3, "done": 1, "failed": 1, "cancelled": 1}
    assert parallel.stats.bytes == 5


def test_cancelled_in_line_and_in_flight() -> None:
    dispatch = ScriptedDispatch()
    with http3.parallel(dispatch=dispatch, max_workers=1) as parallel:
        running = parallel.get(f"{ORIGIN}/1")
        waiting = parallel.get(f"{ORIGIN}/2")
        dispatch.exchange("/1")
        assert waiting.cancel()
        assert counts(parallel.stats) == {"submitted": 2, "in_flight": 1, "cancelled": 1}
        assert running.cancel()
        assert counts(parallel.stats) == {"submitted": 2, "cancelled": 2}
        assert parallel.stats.slowest == ()


def test_what_never_got_in_line_has_failed() -> None:
    with http3.parallel(dispatch=ScriptedDispatch()) as parallel:
        parallel.get("no url")
        assert counts(parallel.stats) == {"submitted": 1, "failed": 1}
        assert parallel.stats.per_host == {}


def test_a_deadline_in_line_is_a_failure() -> None:
    dispatch = ScriptedDispatch()
    with http3.parallel(dispatch=dispatch, max_workers=1) as parallel:
        parallel.get(f"{ORIGIN}/1")
        dispatch.exchange("/1")
        late = parallel.get(f"{ORIGIN}/2", deadline=0.01)
        with pytest.raises(http3.DeadlineExceeded):
            late.get_response(PATIENCE)
        assert counts(parallel.stats) == {"submitted": 2, "in_flight": 1, "failed": 1}


def test_hosts_are_told_apart() -> None:
    dispatch = ScriptedDispatch()
    urls = ["http://a.test/1", "http://a.test:80/2", "https://a.test/3", "http://b.test:8080/4"]
    with http3.parallel(dispatch=dispatch) as parallel:
        for url in urls:
            parallel.get(url)
        for n in range(1, 5):
            exchange = dispatch.exchange(f"/{n}")
            if n != 4:
                exchange.respond(content=b"ab")
        for _ in range(3):
            parallel.next_response()
        per_host = parallel.stats.per_host
        assert {host: counts(stats) for host, stats in per_host.items()} == {
            "a.test:80": {"submitted": 2, "done": 2},
            "a.test:443": {"submitted": 1, "done": 1},
            "b.test:8080": {"submitted": 1, "in_flight": 1},
        }
        assert per_host["a.test:80"].bytes == 4
        assert parallel.stats.bytes == 6


def test_the_slowest_are_those_that_began_first() -> None:
    dispatch = ScriptedDispatch()
    with http3.parallel(dispatch=dispatch, max_workers=8) as parallel:
        exchanges = []
        for n in range(8):
            parallel.get(f"{ORIGIN}/{n}", tag=n)
            exchanges.append(dispatch.exchange(f"/{n}"))  # so that one begins after the other
        slowest = parallel.stats.slowest
        assert [one.tag for one in slowest] == [0, 1, 2, 3, 4]
        assert slowest[0].request.url == f"{ORIGIN}/0"
        seconds = [one.seconds for one in slowest]
        assert seconds == sorted(seconds, reverse=True)
        assert seconds[-1] >= 0
        exchanges[0].respond()
        parallel.next_response()
        assert [one.tag for one in parallel.stats.slowest] == [1, 2, 3, 4, 5]


def test_bytes_are_counted_while_they_arrive() -> None:

    half_way, go_on = threading.Event(), threading.Event()

    def answer(peer: Peer) -> None:
        while peer.read_request() is not None:
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + b"x" * 100_000)
            half_way.set()
            assert go_on.wait(PATIENCE)
            peer.send(b"x" * 200_000)

    with RawServer(answer) as server:
        with http3.parallel() as parallel:
            pending = parallel.get(server.url)
            assert half_way.wait(PATIENCE)
            seen = threading.Event()
            # The worker reads what is there, and nothing tells when it has.
            while parallel.stats.bytes < 100_000 and not seen.wait(0.001):
                assert not pending.done()
            assert parallel.stats.bytes == 100_000
            assert parallel.stats.per_host[server.url.split("/")[2]].bytes == 100_000
            go_on.set()
            pending.get_response()
            assert parallel.stats.bytes == 300_000
        assert parallel.stats.bytes == 300_000


@pytest.mark.parametrize("ending", ["read", "close", "drop", "leave"])
def test_a_stream_counts_once_however_it_ends(server: Site, ending: str) -> None:
    server.answer("/", b"y" * 500_000)
    with http3.parallel() as parallel:
        response = parallel.get(server.url, stream=True).get_response()
        assert counts(parallel.stats) == {"submitted": 1, "done": 1}
        pieces = response.raw()
        got = len(next(pieces))
        if ending != "leave":
            assert got <= parallel.stats.bytes <= 500_000
        if ending == "read":
            got += sum(len(piece) for piece in pieces)
        elif ending == "close":
            response.close()
        elif ending == "drop":
            del pieces, response
            gc.collect()
        assert parallel.stats.bytes == parallel.stats.per_host[server.url.split("/")[2]].bytes
    assert parallel.stats.bytes == got


def test_streams_leave_nothing_behind(server: Site) -> None:
    server.answer("/", b"z" * 20_000)
    with http3.parallel() as parallel:
        for pending in parallel.map([server.url + "/"] * 200, stream=True):
            assert len(pending.get_response().read()) == 20_000
            assert len(parallel._block._counts._closed) <= 2 * 64
        assert parallel.stats.bytes == 200 * 20_000


def test_bytes_never_go_down(server: Site, switch_interval: None) -> None:
    server.answer("/", b"z" * 100_000)
    seen = [0]
    over = threading.Event()
    with http3.parallel(max_workers=4) as parallel:

        def look() -> None:
            while not over.is_set():
                seen.append(parallel.stats.bytes)

        looker = threading.Thread(target=look)
        looker.start()
        try:
            for pending in parallel.map([server.url + "/"] * 100, stream=True):
                pending.get_response().read()
        finally:
            over.set()
            looker.join(PATIENCE)
    assert seen == sorted(seen)


def test_bytes_of_other_dispatchers_are_counted_too() -> None:
    def app(environ: typing.Any, start_response: typing.Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"abc", b"defg"]

    with http3.parallel(app=app) as parallel:
        parallel.get(ORIGIN).get_response()
        assert parallel.stats.bytes == 7
        response = parallel.get(ORIGIN, stream=True).get_response()
        response.read()
        assert parallel.stats.bytes == 14


def test_redirects_count_as_one_request_with_the_bytes_of_all(server: Site) -> None:
    server.answer("/from", b"12345", status=302, headers={"Location": "/to"})
    server.answer("/to", b"678")
    with http3.parallel() as parallel:
        assert parallel.get(server.url + "/from").get_response().content == b"678"
        assert counts(parallel.stats) == {"submitted": 1, "done": 1}
        assert parallel.stats.bytes == 8


def test_maps_are_counted_with_all_others() -> None:
    def app(environ: typing.Any, start_response: typing.Any) -> list[bytes]:
        start_response("204 No Content", [])
        return []

    with http3.parallel(app=app) as parallel:
        assert len(list(parallel.map([ORIGIN] * 10))) == 10
        assert counts(parallel.stats) == {"submitted": 10, "done": 10}


def test_few_hosts_are_kept_however_many_there_are() -> None:
    counted = Counts()
    pending = [counted.submit(http3.Request("GET", f"http://early-{n}.test/")) for n in range(3)]
    for n in range(50_000):
        tally = counted.submit(http3.Request("GET", f"http://host-{n}.test/"))
        assert tally is not None
        tally.done += 1
        counted.total.done += 1
        assert len(counted.hosts) <= 1024
    stats = counted.read([])
    assert counts(stats) == {"submitted": 50_003, "queued": 3, "done": 50_000}
    # Those that have something pending are there still, and so are the latest.
    assert pending == [counted.hosts["http", f"early-{n}.test", None] for n in range(3)]
    assert all(f"host-{n}.test:80" in stats.per_host for n in range(49_700, 50_000))


def test_all_pending_hosts_are_kept() -> None:
    counted = Counts()
    for n in range(5000):
        counted.submit(http3.Request("GET", f"http://host-{n}.test/"))
    assert len(counted.read([]).per_host) == 5000


def test_counts_agree_while_threads_race(switch_interval: None) -> None:
    def app(environ: typing.Any, start_response: typing.Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b"x"]

    with http3.parallel(app=app, max_workers=4) as parallel:

        def submit() -> None:
            for _ in range(50):
                parallel.get(ORIGIN)

        threads = [threading.Thread(target=submit) for _ in range(4)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            counts(parallel.stats)
        for thread in threads:
            thread.join()
        for pending in parallel:
            pending.get_response()
            counts(parallel.stats)
        assert counts(parallel.stats) == {"submitted": 200, "done": 200}
        assert parallel.stats.bytes == 200


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork()")
def test_a_forked_child_is_told_that_it_has_none(tmp_path: pathlib.Path) -> None:
    with http3.parallel(dispatch=ScriptedDispatch()) as parallel:
        told = tmp_path / "told"
        pid = os.fork()
        if pid == 0:
            try:
                parallel.stats  # noqa: B018
            except http3.ParallelClosed:
                told.write_text("ParallelClosed")
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        assert told.read_text() == "ParallelClosed"


async def test_the_same_awaited() -> None:
    dispatch = ScriptedDispatch()
    async with http3.AsyncClient(dispatch=dispatch) as client, client.parallel() as parallel:
        parallel.get("no url")
        first = parallel.get(f"{ORIGIN}/1")
        parallel.get(f"{ORIGIN}/2")
        dispatch.exchange("/1").respond(content=b"abc")
        dispatch.exchange("/2")
        await first.get_response()
        assert counts(parallel.stats) == {"submitted": 3, "in_flight": 1, "done": 1, "failed": 1}
        assert parallel.stats.bytes == 3
        assert [one.request.url for one in parallel.stats.slowest] == [f"{ORIGIN}/2"]
