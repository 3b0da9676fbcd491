"""Nothing of the asynchronous side makes the thread of an event loop wait."""

from __future__ import annotations

import io
import pathlib
import queue
import socket
import threading
import time
import typing
from collections.abc import AsyncIterator

import anyio
import pytest

import http3_parallel as http3
from blocking import Watch, watching
from event_loops import wait_until
from servers import Peer, RawServer, Site


def warm_up(url: str) -> None:
    """What is imported at first use is: by whom, and where, is no matter of this."""
    with http3.Client() as client, client.parallel() as parallel:
        parallel.get(url).get_response()
        client.post(url, files={"f": b"x"}, cookies={"a": "1"})


def answers(watch: Watch) -> str:
    return "\n\n".join(watch.found)


async def chunks() -> AsyncIterator[bytes]:
    for piece in (b"one", b"two"):
        await anyio.lowlevel.checkpoint()
        yield piece


async def test_requests_of_every_kind(
    server: Site, tmp_path: pathlib.Path, switch_interval: None
) -> None:
    (tmp_path / "file").write_bytes(b"x" * 100_000)
    server.answer("/page", "x" * 10_000, headers={"Set-Cookie": "a=1"})
    server.answer("/from", status=302, headers={"Location": "/page"})
    warm_up(server.url)
    page = f"{server.url}/page"
    with watching() as watch, (tmp_path / "file").open("rb") as file:
        client = http3.AsyncClient(max_workers=8, auth=("user", "secret"), retries=1)
        async with client:
            for _ in range(3):
                await client.get(page, deadline=10)
            await client.post(page, data=chunks())
            await client.post(page, data=file)
            await client.post(page, files={"a": file, "b": io.BytesIO(b"b")}, cookies={"c": "d"})
            await client.build_request("POST", page, files={"a": file})
            redirect = await client.get(f"{server.url}/from", allow_redirects=False)
            await redirect.next()
            async with client.parallel(max_per_host=4, deadline=20, window=50) as parallel:
                for _ in range(100):
                    await parallel.get(page, deadline=10)
                    if not parallel.has_pending_responses:
                        continue
                    await parallel.next_response()
                for _ in range(30):
                    parallel.get(page)
                async for pending in parallel:
                    await pending.get_response()
                async for pending in parallel.map([page] * 100, window=20):
                    await pending.get_response()
                for _ in range(5):
                    with pytest.raises(http3.HTTPError):
                        await parallel.get("no url").get_response()
            for way in ("read", "stream", "lines", "save", "close", "drop"):
                response = await client.get(page, stream=True)
                if way == "read":
                    await response.read()
                elif way == "stream":
                    assert [len(piece) async for piece in response.stream()]
                elif way == "lines":
                    assert [len(line) async for line in response.iter_lines()]
                elif way == "save":
                    await response.save(tmp_path / "saved")
                elif way == "close":
                    await response.close()
                del response
    assert not watch.found, answers(watch)


async def test_cancelling_and_leaving_at_any_time(switch_interval: None) -> None:
    def hang_in_body(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        peer.wait_closed()

    with RawServer(hang_in_body) as server:
        with watching() as watch:
            async with http3.AsyncClient(max_workers=8) as client:
                for number in range(10):
                    with anyio.move_on_after(0.004 * number):
                        await client.get(server.url)
                for number in range(10):
                    async with client.parallel(max_workers=4) as parallel:
                        handles = [parallel.get(server.url) for _ in range(12)]
                        streamed = parallel.get(server.url, stream=True)
                        handles[number].cancel()
                        with anyio.move_on_after(0.004 * number):
                            await parallel.next_response()
                        if number == 5:
                            parallel.cancel()
                        if number == 6:
                            handles[3].cancel()
                            with anyio.move_on_after(0.05):
                                await (await streamed.get_response()).read()
                response = await client.get(server.url, stream=True)
                with anyio.move_on_after(0.02):
                    await response.read()
                assert response.is_closed or await closes(response)
        assert not watch.found, answers(watch)


async def closes(response: http3.AsyncResponse) -> bool:
    await wait_until(lambda: response.is_closed)
    return True


async def test_dispatchers_and_apps(switch_interval: None) -> None:
    class Own(http3.AsyncDispatcher):
        async def send(
            self, request: http3.AsyncRequest, context: http3.Context
        ) -> http3.AsyncResponse:
            if request.url.path == "/hangs":
                await anyio.sleep_forever()
            await request.read()
            return http3.AsyncResponse(200, content=chunks())

    async def app(scope: typing.Any, receive: typing.Any, send: typing.Any) -> None:
        if scope["path"] == "/hangs":
            await anyio.sleep_forever()
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await send({"type": "http.response.body", "body": b"two"})

    for options in ({"dispatch": Own()}, {"app": app}):
        with watching() as watch:
            async with http3.AsyncClient(**options) as client:
                for _ in range(10):
                    response = await client.post("http://example.com/", data=chunks())
                    assert response.content == b"onetwo"
                    response = await client.get("http://example.com/", stream=True)
                    assert await response.stream().__anext__() == b"one"
                    await response.close()
                async with client.parallel() as parallel:
                    for _ in range(10):
                        parallel.get("http://example.com/hangs")
                    await anyio.sleep(0.01)
        assert not watch.found, answers(watch)


async def test_an_async_client_that_is_dropped(server: Site) -> None:
    server.answer("/page", "x")
    with watching() as watch:
        client: http3.AsyncClient | None = http3.AsyncClient()
        assert client is not None
        await client.get(f"{server.url}/page")
        parallel: http3.AsyncParallel | None = client.parallel()
        assert parallel is not None
        await parallel.get(f"{server.url}/page").get_response()
        results = parallel.map([f"{server.url}/page"] * 10)
        await results.__anext__()
        del results, parallel, client
    assert not watch.found, answers(watch)


# The detector itself: it finds what the package would wait for.


class Blocking:
    """Things to wait for, made as if by the package."""

    def __init__(self) -> None:
        names: dict[str, typing.Any] = {"__name__": "http3_parallel.made_up"}
        source = (
            "import threading, time, socket\n"
            "def make(): return threading.Lock(), threading.RLock()\n"
            "def call(function, *args): return function(*args)\n"
            "def enter(lock):\n    with lock: pass\n"
        )
        exec(compile(source, "<made up>", "exec"), names)  # a name that coverage does not look for
        self.lock, self.rlock = names["make"]()
        self.call = names["call"]
        self.enter = names["enter"]


@pytest.mark.parametrize(
    "what", ["lock", "rlock", "queue", "socket", "resolver", "file", "sleep", "start", "join"]
)
def test_what_would_block_is_found(what: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_text("")
    one, other = socket.socketpair()
    with one, other, watching() as watch:
        blocking = Blocking()
        lines: queue.SimpleQueue[int] = queue.SimpleQueue()

        def elsewhere() -> None:
            for lock in (blocking.lock, blocking.rlock):
                lock.acquire()
                lock.release()

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert watch.found == []
        if what in ("lock", "rlock"):
            lock = getattr(blocking, what)
            blocking.call(lock.acquire, False)
            lock.release()
            assert watch.found == [], "to try is not to wait"
            blocking.enter(lock)
        elif what == "queue":
            lines.put(1)
            blocking.call(lines.get, False)
            assert watch.found == [], "to try is not to wait"
            lines.put(1)
            blocking.call(lines.get)
        elif what == "socket":
            other.sendall(b"x")
            one.setblocking(False)
            blocking.call(one.recv, 1)
            assert watch.found == [], "it does not block"
            other.sendall(b"x")
            one.setblocking(True)
            blocking.call(one.recv, 1)
        elif what == "resolver":
            blocking.call(socket.getaddrinfo, "127.0.0.1", 80)
        elif what == "file":
            blocking.call(open, tmp_path / "file").close()
        elif what == "sleep":
            blocking.call(time.sleep, 0)
        elif what == "start":
            another = threading.Thread(target=int)
            blocking.call(another.start)
            another.join()
        else:
            blocking.call(thread.join)
        assert watch.found
        watch.found.clear()
        # The same, not by the package.
        blocking.lock.acquire()
        with open(tmp_path / "file"):
            pass
        assert watch.found == []
