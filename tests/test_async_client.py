"""`AsyncClient`: plain calls, streams, uploads, dispatchers, loops, forks, and its end."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import functools
import gzip
import io
import os
import pathlib
import pickle
import sys
import threading
import time
import typing
from collections.abc import AsyncIterator

import anyio
import pytest

import event_loops
import http3_parallel as http3
from event_loops import in_thread, wait_until
from scripted import PATIENCE, InstantDispatch, ScriptedDispatch
from servers import Peer, RawServer, Site, drip_body, hang_before_response

URL = "http://example.com"

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


class Echo(http3.Dispatcher):
    """Answers with what it was sent."""

    def send(self, request: http3.Request, context: http3.Context) -> http3.Response:
        headers = [(name, value) for name, value in request.headers.items() if name != "cookie"]
        return http3.Response(200, headers=headers, content=request.read(), request=request)


# Plain calls.


@pytest.mark.parametrize("method", ["get", "options", "head", "post", "put", "patch", "delete"])
async def test_each_method_is_awaited_and_returns_an_async_response(method: str) -> None:
    async with http3.AsyncClient(dispatch=InstantDispatch()) as client:
        response = await getattr(client, method)(f"{URL}/a", tag=method)
        assert isinstance(response, http3.AsyncResponse)
        assert (response.request.method, response.text) == (method.upper(), "/a")
        assert response.tag == method
        assert repr(response) == "<Response [200 OK]>"
        with pytest.raises(TypeError):
            await getattr(client, method)(URL, colour="red")


async def test_calls_at_the_same_time_run_at_the_same_time() -> None:
    dispatch = ScriptedDispatch()
    texts: list[str] = []

    async def get(client: http3.AsyncClient, path: str) -> None:
        texts.append((await client.get(f"{URL}{path}")).text)

    async with http3.AsyncClient(dispatch=dispatch) as client:
        async with anyio.create_task_group() as tasks:
            for path in ("/a", "/b", "/c"):
                tasks.start_soon(get, client, path)
            await in_thread(dispatch.wait_for_arrivals, 3)
            for path in ("/c", "/a", "/b"):
                (await in_thread(dispatch.exchange, path)).respond(content=path.encode())
                await wait_until(lambda path=path: path in texts)  # type: ignore[misc]  # a lambda with a default
    assert texts == ["/c", "/a", "/b"]


async def test_the_settings_of_the_client_count_and_errors_know_their_request() -> None:
    client = http3.AsyncClient(
        dispatch=InstantDispatch(),
        base_url=f"{URL}/base/",
        auth=("user", "secret"),
        cookies={"a": "1"},
        headers={"X": "y"},
        params={"q": "1"},
    )
    async with client:
        assert "at http://example.com/base/" in repr(client)
        assert client.max_workers == 128
        request = (await client.get("page")).request
        assert request.url == f"{URL}/base/page?q=1"
        assert request.headers["authorization"].startswith("Basic ")
        assert (request.headers["cookie"], request.headers["x"]) == ("a=1", "y")
        with pytest.raises(http3.InvalidURL) as caught:
            await client.get("http://", tag=3)
        assert caught.value.tag == 3
        with pytest.raises(http3.UnsupportedScheme):
            await client.get("ftp://example.com/")
    assert "closed" in repr(client)


async def test_send_and_build_request(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    async with http3.AsyncClient(dispatch=Echo(), cookies={"a": "1"}) as client:
        with (tmp_path / "file").open("rb") as file:
            built = await client.build_request("POST", f"{URL}/a", files={"f": file})
        assert isinstance(built, http3.Request)
        assert (built.headers["cookie"], b"content" in built.content) == ("a=1", True)
        assert b"content" in (await client.send(built)).content
        with pytest.raises(TypeError, match="send"):
            await client.build_request("GET", URL, timeout=3)  # type: ignore[call-arg]  # that is the test

        async def body() -> AsyncIterator[bytes]:
            yield b"one"

        awaited = http3.AsyncRequest("POST", URL, data=body())
        assert (await client.send(awaited)).content == b"one"
        with pytest.raises(http3.StreamConsumed):
            await client.send(awaited)
        with pytest.raises(TypeError, match="AsyncRequest"):
            await client.send(URL)  # type: ignore[arg-type]  # that is the test


async def test_redirects_are_followed_or_one_step_at_a_time(server: Site) -> None:
    server.answer("/from", status=302, headers={"Location": "/between"})
    server.answer("/between", status=302, headers={"Location": "/to"})
    server.answer("/to", "there")
    async with http3.AsyncClient() as client:
        response = await client.get(f"{server.url}/from")
        assert response.text == "there"
        assert [type(earlier) for earlier in response.history] == 2 * [http3.AsyncResponse]
        first = await client.get(f"{server.url}/from", allow_redirects=False)
        second = await first.next()
        assert second.is_redirect
        third = await second.next()
        assert (third.text, third.history) == ("there", [first, second])
        with pytest.raises(RuntimeError, match="no redirect"):
            await third.next()
    with pytest.raises(http3.ClientClosed):
        await first.next()


async def test_hooks_auth_and_cookies_work_as_in_a_client(server: Site) -> None:
    seen: list[str] = []
    server.answer("/set", "x", headers={"Set-Cookie": "kept=yes"})
    server.answer("/page", "x")

    def sign(request: http3.Request) -> http3.Request:
        request.headers["X-Signed"] = variable.get()
        return request

    hooks: http3.EventHooks = {"response": [lambda response: seen.append(response.url.path)]}
    async with http3.AsyncClient(event_hooks=hooks, auth=sign) as client:
        variable.set("by the task")
        await client.get(f"{server.url}/set")
        response = await client.get(f"{server.url}/page")
        assert client.cookies["kept"] == "yes"
    assert seen == ["/set", "/page"]
    assert response.request.headers["cookie"] == "kept=yes"
    assert response.request.headers["x-signed"] == "by the task"


def test_an_asynchronous_hook_is_refused() -> None:
    async def hook(request: http3.Request) -> None: ...

    with pytest.raises(TypeError, match="asynchronous"):
        http3.AsyncClient(event_hooks={"request": [hook]})


@pytest.mark.parametrize("options", [{"colour": "red"}, {"dispatch": 3}, {"max_workers": 0}])
def test_wrong_arguments_are_refused(options: dict[str, typing.Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        http3.AsyncClient(**options)


# Cancellation.


async def test_a_cancelled_call_closes_its_connection() -> None:
    with RawServer(hang_before_response) as server:
        async with http3.AsyncClient() as client:
            async with anyio.create_task_group() as tasks:
                for number in range(5):
                    tasks.start_soon(client.get, f"{server.url}/{number}")
                assert await in_thread(server.wait_for_requests, 5)
                tasks.cancel_scope.cancel()
                cancelled = time.monotonic()
            assert await in_thread(server.wait_all_closed)
            assert time.monotonic() - cancelled < 1


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.timeout is new in Python 3.11")
def test_asyncio_timeout_ends_a_request() -> None:
    async def main(url: str) -> None:
        async with http3.AsyncClient() as client:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):  # type: ignore[attr-defined, unused-ignore]
                    await client.get(url)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(client.get(url), 0.05)

    with RawServer(hang_before_response) as server:
        asyncio.run(main(server.url))
        assert server.wait_all_closed()


# Streams.


async def test_a_stream_is_read_as_it_comes(server: Site) -> None:
    gates = [threading.Event() for _ in range(3)]

    def speak(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
        for gate in gates:
            assert gate.wait(PATIENCE)
            peer.send(b"abc")

    with RawServer(speak) as speaking:
        async with http3.AsyncClient() as client:
            response = await client.get(speaking.url, stream=True)
            with pytest.raises(http3.ResponseNotRead):
                _ = response.content
            chunks = response.stream()
            for gate in gates:
                gate.set()
                assert await chunks.__anext__() == b"abc"
            with pytest.raises(StopAsyncIteration):
                await chunks.__anext__()
            assert response.is_closed
            with pytest.raises(http3.StreamConsumed):
                await response.stream().__anext__()
            with pytest.raises(http3.ResponseNotRead):
                _ = response.content


LINES = "".join(f"line {number}\n" for number in range(1000))


@pytest.mark.parametrize("stream", [True, False])
async def test_a_body_comes_in_whatever_form(
    server: Site, stream: bool, tmp_path: pathlib.Path
) -> None:
    coded = gzip.compress(LINES.encode())
    url = server.url + "/lines"
    server.answer("/lines", coded, headers={"Content-Encoding": "gzip"})

    async with http3.AsyncClient() as client:

        async def get() -> http3.AsyncResponse:
            return await client.get(url, stream=stream)

        assert await (await get()).read() == LINES.encode()
        assert b"".join([c async for c in (await get()).stream()]) == LINES.encode()
        chunks = [c async for c in (await get()).iter_bytes(1000)]
        assert {len(chunk) for chunk in chunks[:-1]} == {1000}
        assert b"".join(chunks) == LINES.encode()
        assert "".join([c async for c in (await get()).iter_text()]) == LINES
        assert [line async for line in (await get()).iter_lines()] == LINES.splitlines()
        assert await (await get()).save(tmp_path / "saved") == tmp_path / "saved"
        assert (tmp_path / "saved").read_text() == LINES
        if stream:
            assert b"".join([c async for c in (await get()).raw()]) == coded
        response = await get()
        text = "".join([c async for c in response.iter_text()])
        assert text == LINES
        response = await get()
        response.encoding = "utf-16-le"
        assert "".join([c async for c in response.iter_text()]) == LINES.encode().decode("utf-16")
        async with await get() as response:
            await response.read()
            assert response.text == LINES
            assert pickle.loads(pickle.dumps(response)).text == LINES
        assert response.is_closed


async def test_a_stream_given_up_closes_its_connection() -> None:
    with RawServer(drip_body) as server:
        async with http3.AsyncClient() as client:
            response = await client.get(server.url, stream=True)
            await response.stream().__anext__()
            await response.close()
            await response.close()
            assert response.is_closed
            assert await in_thread(server.wait_all_closed)
            with pytest.raises(http3.StreamConsumed):
                await response.read()
            unread = await client.get(server.url, stream=True)
            await unread.aclose()
            with pytest.raises(http3.ResponseClosed):
                await unread.read()


async def test_a_response_closed_by_another_task_ends_the_one_that_reads() -> None:
    with RawServer(drip_body) as server:
        async with http3.AsyncClient() as client:
            response = await client.get(server.url, stream=True)
            async with anyio.create_task_group() as tasks:

                async def read() -> None:
                    with pytest.raises(http3.ResponseClosed):
                        await response.read()
                    ended.set()

                ended = anyio.Event()
                tasks.start_soon(read)
                await wait_until(lambda: response._reading)
                await response.close()
                await ended.wait()


@pytest.mark.parametrize("way", ["read", "stream", "save"])
async def test_a_task_cancelled_while_it_reads_closes_the_connection(
    way: str, tmp_path: pathlib.Path
) -> None:
    def half(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
        peer.wait_closed()

    with RawServer(half) as server:
        async with http3.AsyncClient() as client:
            response = await client.get(server.url, stream=True)
            chunks = response.stream()
            if way == "stream":
                assert await chunks.__anext__() == b"half"
            with anyio.move_on_after(0.05) as scope:
                if way == "read":
                    await response.read()
                elif way == "stream":
                    await chunks.__anext__()
                else:
                    await response.save(tmp_path / "file")
            assert scope.cancelled_caught
            assert await in_thread(server.wait_all_closed)
            assert response.is_closed
        await wait_until(lambda: not list(tmp_path.iterdir()))  # the thread cleans up


async def test_leaving_a_block_ends_its_streams_and_a_plain_one_outlives_its_client(
    server: Site,
) -> None:
    server.answer("/", "content")
    with RawServer(drip_body) as dripping:
        async with http3.AsyncClient() as client:
            async with client.parallel() as parallel:
                pending = await parallel.get(dripping.url, stream=True)
                response = await pending.get_response()
                await response.stream().__anext__()
            assert await in_thread(dripping.wait_all_closed)
            with pytest.raises(http3.HTTPError):
                await response.read()
            plain = await client.get(server.url, stream=True)
        assert await plain.read() == b"content"


async def test_a_stream_dropped_unread_closes_its_connection() -> None:
    with RawServer(drip_body) as server:
        async with http3.AsyncClient() as client, client.parallel() as parallel:
            response = await parallel.get(server.url, stream=True).get_response()
            assert response.status_code == 200
            del response
            parallel.cancel()
            assert await in_thread(server.wait_all_closed)


async def test_more_streams_than_workers_are_read_at_the_same_time() -> None:
    gate = threading.Event()

    def speak(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n")
        assert gate.wait(PATIENCE)
        peer.send(b"abc")

    with RawServer(speak) as server:
        async with http3.AsyncClient(max_workers=2) as client:
            responses = [await client.get(server.url, stream=True) for _ in range(20)]
            got = []

            async def read(response: http3.AsyncResponse) -> None:
                got.append(await response.read())

            async with anyio.create_task_group() as tasks:
                for response in responses:
                    tasks.start_soon(read, response)
                await wait_until(lambda: all(response._reading for response in responses))
                gate.set()
            assert got == 20 * [b"abc"]


async def test_a_limit_of_size_and_a_damaged_coding_are_errors_that_know_their_request(
    server: Site,
) -> None:
    server.answer("/large", b"x" * 100)
    server.answer("/cut", gzip.compress(b"x" * 10)[:-5], headers={"Content-Encoding": "gzip"})
    async with http3.AsyncClient(max_response_size=50) as client:
        for stream in (False, True):
            for path, error in (("/large", http3.ResponseTooLarge), ("/cut", http3.DecodingError)):
                with pytest.raises(error) as caught:
                    response = await client.get(server.url + path, stream=stream, tag=path)
                    await response.read()
                assert caught.value.tag == path
                assert caught.value.request is not None


# Uploads.


async def chunks(*pieces: typing.Any) -> AsyncIterator[typing.Any]:
    for piece in pieces:
        await anyio.lowlevel.checkpoint()
        yield piece


class Again:
    """Begins anew each time."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = pieces

    def __aiter__(self) -> AsyncIterator[bytes | str]:
        return chunks(*self._pieces)


async def test_asynchronous_iterables_are_sent(server: Site) -> None:
    async with http3.AsyncClient() as client, client.parallel() as parallel:
        await client.post(f"{server.url}/a", data=chunks(b"one", "zwei", b"", b"x" * 100_000))
        await parallel.put(f"{server.url}/b", data=Again(b"1", b"2")).get_response()
    (first,), (second,) = server.requests_for("/a"), server.requests_for("/b")
    assert first.body == b"onezwei" + b"x" * 100_000
    assert first.headers["transfer-encoding"] == "chunked"
    assert second.body == b"12"


async def test_an_asynchronous_body_is_sent_again_where_it_can_be(server: Site) -> None:
    server.answer("/from", status=307, headers={"Location": "/to"})
    server.answer("/to", "there")
    async with http3.AsyncClient() as client:
        response = await client.post(f"{server.url}/from", data=Again(b"1", b"2"))
        assert response.text == "there"
        assert [request.body for request in server.requests_for("/to")] == [b"12"]
        with pytest.raises(http3.RedirectBodyUnavailable):
            await client.post(f"{server.url}/from", data=chunks(b"1"))


async def test_what_an_asynchronous_body_raises_comes_out_unchanged(server: Site) -> None:
    async def fails() -> AsyncIterator[bytes]:
        yield b"one"
        raise ZeroDivisionError("of the body")

    async with http3.AsyncClient() as client:
        with pytest.raises(ZeroDivisionError, match="of the body"):
            await client.post(server.url, data=fails())
        with pytest.raises(TypeError, match="int"):
            await client.post(server.url, data=typing.cast(typing.Any, chunks)(3))


async def test_an_asynchronous_body_that_hangs_is_ended_with_its_request(server: Site) -> None:
    state: list[str] = []

    async def hangs() -> AsyncIterator[bytes]:
        try:
            state.append("begun")
            yield b"one"
            await anyio.sleep_forever()
        finally:
            state.append("ended")

    async with http3.AsyncClient() as client:
        with pytest.raises(http3.DeadlineExceeded):
            await client.post(server.url, data=hangs(), deadline=0.1)
        await wait_until(lambda: state == ["begun", "ended"])
        state.clear()
        async with client.parallel() as parallel:
            parallel.post(server.url, data=hangs())
            await wait_until(lambda: state)
            left = time.monotonic()
        assert time.monotonic() - left < 1
        assert state == ["begun", "ended"]


async def test_plain_iterables_and_files_are_sent_too(server: Site, tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_bytes(b"from disk")
    async with http3.AsyncClient() as client, client.parallel() as parallel:
        with (tmp_path / "file").open("rb") as file:
            pending = parallel.post(f"{server.url}/a", data=file, tag="t")
            assert pending.request is not None
            await pending.get_response()
            assert pending.request.headers["content-length"] == "9"
            file.seek(0)
            await client.post(f"{server.url}/b", files={"f": file})
            await client.post(f"{server.url}/b", files=[("f", ("name", file, "text/x"))])
        await client.post(f"{server.url}/a", data=io.BytesIO(b"from disk"))
        await client.post(f"{server.url}/a", data=iter([b"from ", b"disk"]))
    assert [request.body for request in server.requests_for("/a")] == 3 * [b"from disk"]
    first, second = server.requests_for("/b")
    assert b"from disk" in first.body
    assert b"text/x" in second.body


async def test_what_goes_wrong_in_reading_a_file_is_the_requests_error(
    server: Site, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "file").write_text("text")
    async with http3.AsyncClient() as client, client.parallel() as parallel:
        with (tmp_path / "file").open() as file:
            pending = parallel.post(server.url, data=typing.cast(typing.Any, file))
            with pytest.raises(TypeError, match="binary"):
                await pending.get_response()
            with pytest.raises(TypeError, match="binary"):
                await client.post(server.url, data=typing.cast(typing.Any, file))
        invalid = parallel.post("no url", files={"f": io.BytesIO(b"")})
        with pytest.raises(http3.InvalidURL):
            await invalid.get_response()
        assert server.requests == []


def test_a_client_takes_no_asynchronous_body() -> None:
    with http3.Client(dispatch=InstantDispatch()) as client:
        with pytest.raises(TypeError, match="asynchronous"):
            client.post(URL, data=typing.cast(typing.Any, chunks(b"one")))
    awaited = http3.AsyncRequest("POST", URL, data=Again(b"one"))
    with pytest.raises(http3.StreamConsumed, match="AsyncClient"):
        awaited._replace().read()


async def test_an_async_request_is_read_and_streamed() -> None:
    request = http3.AsyncRequest("POST", URL, data=Again(b"one", b"two"))
    assert request.is_streaming
    assert [bytes(piece) async for piece in request.stream()] == [b"one", b"two"]
    assert await request.read() == b"onetwo"
    assert request.content == b"onetwo"
    copy = request.copy()
    copy.headers["x"] = "y"
    assert isinstance(copy, http3.AsyncRequest)
    assert "x" not in request.headers
    plain = http3.AsyncRequest("POST", URL, data=iter([b"1", b"2"]))
    assert await plain.read() == b"12"
    assert await http3.AsyncRequest("POST", URL, json=1).read() == b"1"
    once = http3.AsyncRequest("POST", URL, data=chunks(b"1"))
    await once.copy().read()
    with pytest.raises(http3.StreamConsumed):
        await once.read()


# Dispatchers and apps.


class Awaiting(http3.AsyncDispatcher):
    """Answers on the caller's event loop, as far as it is told to."""

    def __init__(self) -> None:
        self.threads: set[int] = set()
        self.seen: list[str] = []
        self.go_on = threading.Event()

    async def send(
        self, request: http3.AsyncRequest, context: http3.Context
    ) -> http3.AsyncResponse:
        self.threads.add(threading.get_ident())
        self.seen.append(variable.get())
        path = request.url.path
        try:
            if path == "/hangs":
                await anyio.sleep_forever()
            if path == "/fails":
                raise ZeroDivisionError("of the dispatcher")
            if path == "/breaks":
                raise http3.ReadError("broke")
            if path == "/streams":
                return http3.AsyncResponse(200, content=self._body(), request=request)
            return http3.AsyncResponse(
                201, content=await request.read(), headers={"x": "y"}, protocol="HTTP/1.1"
            )
        except BaseException as error:
            self.seen.append(type(error).__name__)
            raise

    async def _body(self) -> AsyncIterator[bytes]:
        try:
            yield b"one"
            while not self.go_on.is_set():
                await anyio.sleep(0.001)
            yield b"two"
        finally:
            self.seen.append("closed")


async def test_an_async_dispatcher_runs_on_the_loop_of_its_caller() -> None:
    dispatch = Awaiting()
    variable.set("of the caller")
    async with http3.AsyncClient(dispatch=dispatch) as client, client.parallel() as parallel:
        response = await client.post(f"{URL}/a", data=chunks(b"one", b"two"))
        assert (response.status_code, response.text, response.headers["x"]) == (201, "onetwo", "y")
        assert (response.protocol, response.request.method) == ("HTTP/1.1", "POST")
        handles = [await parallel.put(f"{URL}/{n}", data=b"%d" % n) for n in range(50)]
        assert [(await pending.get_response()).text for pending in handles] == [
            str(n) for n in range(50)
        ]
    assert dispatch.threads == {threading.get_ident()}
    assert set(dispatch.seen) == {"of the caller"}


async def test_what_an_async_dispatcher_raises_is_the_requests_error() -> None:
    dispatch = Awaiting()
    async with http3.AsyncClient(dispatch=dispatch, retries=1) as client:
        with pytest.raises(ZeroDivisionError, match="of the dispatcher"):
            await client.get(f"{URL}/fails")
        dispatch.seen.clear()
        with pytest.raises(http3.ReadError) as caught:
            await client.get(f"{URL}/breaks", tag="t")
        assert (caught.value.tag, caught.value.method) == ("t", "GET")
        assert dispatch.seen.count("ReadError") == 2  # it is tried again


async def test_an_async_dispatcher_streams_at_the_pace_of_its_reader() -> None:
    dispatch = Awaiting()
    async with http3.AsyncClient(dispatch=dispatch) as client:
        response = await client.get(f"{URL}/streams", stream=True)
        pieces = response.stream()
        assert await pieces.__anext__() == b"one"
        dispatch.go_on.set()
        assert await pieces.__anext__() == b"two"
        with pytest.raises(StopAsyncIteration):
            await pieces.__anext__()
        assert (await client.get(f"{URL}/streams")).content == b"onetwo"
        dispatch.seen.clear()
        dispatch.go_on.clear()
        response = await client.get(f"{URL}/streams", stream=True)
        assert await response.stream().__anext__() == b"one"
        await response.close()
        await wait_until(lambda: dispatch.seen[-1:] == ["closed"])


@pytest.mark.parametrize("way", ["deadline", "cancel", "leave", "plain"])
async def test_an_async_dispatcher_that_hangs_is_cancelled(way: str) -> None:
    dispatch = Awaiting()
    ended = ("Cancelled", "CancelledError")
    async with http3.AsyncClient(dispatch=dispatch) as client:
        if way == "plain":
            with anyio.move_on_after(0.05):
                await client.get(f"{URL}/hangs")
        else:
            async with client.parallel() as parallel:
                deadline = 0.05 if way == "deadline" else None
                pending = parallel.get(f"{URL}/hangs", deadline=deadline)
                await wait_until(lambda: dispatch.seen)
                if way == "deadline":
                    with pytest.raises(http3.DeadlineExceeded):
                        await pending.get_response(PATIENCE)
                elif way == "cancel":
                    assert pending.cancel()
            if way == "leave":
                assert dispatch.seen[-1] in ended
        await wait_until(lambda: dispatch.seen[-1] in ended)


async def test_an_async_dispatcher_that_returns_something_else_is_a_type_error() -> None:
    class Wrong(http3.AsyncDispatcher):
        async def send(self, request: typing.Any, context: typing.Any) -> typing.Any:
            return http3.Response(200)

    async with http3.AsyncClient(dispatch=Wrong()) as client:
        with pytest.raises(TypeError, match="AsyncResponse, not Response"):
            await client.get(URL)


def test_a_loop_that_ends_ends_what_runs_on_it() -> None:
    dispatch = Awaiting()
    client = http3.AsyncClient(dispatch=dispatch)
    kept: list[typing.Any] = []

    async def main() -> None:
        parallel = client.parallel()
        kept.append((parallel, parallel.get(f"{URL}/hangs")))
        await wait_until(lambda: dispatch.seen)

    for kind in event_loops.KINDS:
        event_loops.run(kind, main)
    workers = client._engine.here().workers
    end = time.monotonic() + PATIENCE
    while workers._idle < workers._threads and time.monotonic() < end:
        time.sleep(0.001)
    assert workers._idle == workers._threads, "a worker waits for a loop that is gone"
    asyncio.run(client.close())


async def test_a_dispatcher_and_a_wsgi_app_of_the_synchronous_side_work() -> None:
    threads = set()

    def app(environ: dict[str, typing.Any], start_response: typing.Any) -> list[bytes]:
        threads.add(threading.get_ident())
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [environ["wsgi.input"].read(), variable.get().encode()]

    variable.set("seen")
    async with http3.AsyncClient(app=app) as client:
        assert (await client.post(URL, data=chunks(b"body, "))).text == "body, seen"
        async with client.parallel() as parallel:
            assert (await (await parallel.get(URL)).get_response()).text == "seen"
    assert threading.get_ident() not in threads


async def test_responses_made_by_hand() -> None:
    closed: list[bool] = []
    response = http3.AsyncResponse(
        200,
        content=chunks(b"one", b"two"),
        on_close=lambda: closed.append(True),
    )
    assert not response.is_closed
    assert await response.read() == b"onetwo"
    assert (response.text, response.is_closed, closed) == ("onetwo", True, [True])
    coded = http3.AsyncResponse(
        200,
        headers={"content-encoding": "gzip"},
        content=(chunks(gzip.compress(b"a\nb"))),
    )
    assert [line async for line in coded.iter_lines()] == ["a", "b"]
    plain = http3.AsyncResponse(404, content=[b"one", b"two"])
    assert [piece async for piece in plain.stream()] == [b"one", b"two"]
    with pytest.raises(http3.StreamConsumed):
        await plain.read()
    with pytest.raises(http3.HTTPStatusError) as caught:
        plain.raise_for_status()
    assert caught.value.response.status_code == 404
    unread = http3.AsyncResponse(200, content=(chunks(b"one")))
    await unread.close()
    with pytest.raises(http3.ResponseClosed):
        await unread.read()
    assert await http3.AsyncResponse(200, content=b"bytes").read() == b"bytes"
    with pytest.raises(TypeError, match="bytes"):
        http3.AsyncResponse(200, content=typing.cast(typing.Any, "text"))
    with pytest.raises(TypeError, match="bytes"):
        await http3.AsyncResponse(200, content=typing.cast(typing.Any, ["text"])).read()
    with pytest.raises(RuntimeError, match="client"):
        await http3.AsyncResponse(302, headers={"location": "/"}).next()


# Loops, threads, forks.


def test_one_client_serves_many_loops_one_after_the_other_and_at_the_same_time(
    server: Site, switch_interval: None
) -> None:
    for number in range(30):
        server.answer(f"/{number}", str(number))
    client = http3.AsyncClient(max_workers=8)

    async def main(first: int) -> list[str]:
        texts = []
        async with client.parallel() as parallel:
            for number in range(first, 30, 3):
                parallel.get(f"{server.url}/{number}")
                texts.append((await client.get(f"{server.url}/{number}")).text)
            texts += [(await pending.get_response()).text async for pending in parallel]
        return texts

    for kind in event_loops.KINDS:
        assert len(event_loops.run(kind, lambda: main(0))) == 20
    with concurrent.futures.ThreadPoolExecutor(3) as executor:
        futures = [
            executor.submit(event_loops.run, kind, functools.partial(main, first))
            for first, kind in enumerate(("asyncio", "trio", "asyncio"))
        ]
        texts = [text for future in futures for text in future.result(3 * PATIENCE)]
    assert sorted(texts) == sorted(2 * [str(number) for number in range(30)])
    asyncio.run(client.close())


async def test_a_synchronous_client_works_within_a_running_loop(server: Site) -> None:
    server.answer("/", "here")
    with http3.Client() as client, client.parallel() as parallel:
        assert client.get(server.url).text == "here"
        assert parallel.get(server.url).get_response().text == "here"
    assert http3.get(server.url).text == "here"


def test_an_async_client_outside_of_a_loop_says_so() -> None:
    client = http3.AsyncClient(dispatch=InstantDispatch())
    with pytest.raises(RuntimeError, match="no event loop is running"):
        client.get(URL).send(None)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_client_made_before_a_fork_works_in_the_child(server: Site) -> None:
    server.answer("/", "here")
    client = http3.AsyncClient()

    async def get() -> str:
        async with client.parallel() as parallel:
            await parallel.get(server.url).get_response()
        return (await client.get(server.url)).text

    assert asyncio.run(get()) == "here"
    child = os.fork()
    if child == 0:
        status = 1
        with contextlib.suppress(BaseException):
            status = 0 if asyncio.run(get()) == "here" else 1
        os._exit(status)
    assert asyncio.run(get()) == "here"
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    asyncio.run(client.close())


def test_a_hook_may_run_an_event_loop_of_its_own_with_the_same_client(server: Site) -> None:
    server.answer("/token", "token")
    server.answer("/page", "page")

    def sign(request: http3.Request) -> http3.Request:
        async def token() -> str:
            return (await client.get(f"{server.url}/token")).text

        request.headers["x-token"] = asyncio.run(token())
        return request

    client = http3.AsyncClient(max_workers=1)

    async def main() -> None:
        async with client, client.parallel() as parallel:
            handles = [parallel.get(f"{server.url}/page", auth=sign) for _ in range(3)]
            for pending in handles:
                response = await pending.get_response()
                assert response.request.headers["x-token"] == "token"

    asyncio.run(main())


# Its end.


async def test_a_closed_client_says_so_and_has_no_threads(server: Site) -> None:
    before = threading.active_count()
    client = http3.AsyncClient()
    async with client:
        async with client.parallel() as parallel:
            parallel.get(server.url)
            await parallel.next_response()
        stream = await client.get(server.url, stream=True)
        await stream.read()
    await client.close()
    for use in (
        lambda: client.get(URL),
        lambda: client.send(http3.Request("GET", URL)),
        lambda: client.build_request("GET", URL),
    ):
        with pytest.raises(http3.ClientClosed):
            await use()
    with pytest.raises(http3.ClientClosed):
        client.parallel()
    with pytest.raises(http3.ClientClosed):
        await client.__aenter__()
    await wait_until(lambda: threading.active_count() <= before + 1)  # anyio's own, of the test


async def test_closing_a_client_ends_the_plain_calls_of_other_tasks() -> None:
    with RawServer(hang_before_response) as server:
        client = http3.AsyncClient()
        ended = []

        async def get() -> None:
            with pytest.raises(http3.RequestCancelled):
                await client.get(server.url)
            ended.append(True)

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(get)
            assert await in_thread(server.wait_for_requests, 3)
            await client.close()
        assert len(ended) == 3
        assert await in_thread(server.wait_all_closed)


def test_a_response_that_a_server_drips_is_bounded_by_the_deadline() -> None:
    async def main(url: str) -> None:
        async with http3.AsyncClient() as client:
            with pytest.raises(http3.DeadlineExceeded):
                await client.get(url, deadline=0.1)
            response = await client.get(url, deadline=0.3, stream=True)
            with pytest.raises(http3.DeadlineExceeded):
                await response.read()

    with RawServer(drip_body) as server:
        asyncio.run(main(server.url))
