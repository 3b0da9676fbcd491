"""Requests answered by an ASGI app on the event loop of who makes them."""

from __future__ import annotations

import collections
import contextlib
import contextvars
import functools
import gc
import itertools
import logging
import sys
import time
import typing
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import anyio
import anyio.lowlevel
import pytest
from django import conf, http, urls  # type: ignore[import-untyped]  # it has no types
from django.core import asgi  # type: ignore[import-untyped]  # it has no types
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

import http3_parallel as http3
from event_loops import wait_until
from http3_parallel.asynchronous.asgi import ASGIDispatch, is_asgi
from http3_parallel.dispatch import WSGIDispatch

Message = dict[str, typing.Any]
Scope = dict[str, typing.Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

#: Within which what takes milliseconds has to have ended, on the slowest machine.
SOON = 1.0


def client_of(app: typing.Any, **options: typing.Any) -> http3.AsyncClient:
    return http3.AsyncClient(dispatch=ASGIDispatch(app, **options))


class Mine(Exception):
    """Of the app."""


class MyExit(BaseException):
    """Not even an `Exception`."""


def start(status: typing.Any = 200, headers: typing.Any = ()) -> Message:
    return {"type": "http.response.start", "status": status, "headers": headers}


def body(data: typing.Any = b"", more: bool = False) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


def sending(*messages: typing.Any) -> App:
    """An app that sends them, and raises those that are classes of exceptions."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            if isinstance(message, type):
                raise message("what I said")
            await send(message)

    return app


def answering(data: bytes = b"Hello", status: int = 200, headers: typing.Any = ()) -> App:
    return sending(start(status, headers), body(data))


async def read_body(receive: Receive) -> bytes:
    """All of the request's body, as apps read it."""
    pieces = []
    while True:
        message = await receive()
        assert message["type"] == "http.request"
        pieces.append(message["body"])
        if not message["more_body"]:
            return b"".join(pieces)


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    data = await read_body(receive)
    await send(start())
    await send(body(data))


class Telling:
    """An app that hangs in one way or the other, once it has `entered`, and what became of it."""

    def __init__(self, hang: Callable[[Telling, Receive, Send], Awaitable[None]]) -> None:
        self._hang = hang
        self.entered = anyio.Event()
        self.ended = anyio.Event()
        #: What it saw of its client.
        self.seen: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._hang(self, receive, send)
        except anyio.get_cancelled_exc_class():
            self.seen.append("cancelled")
            raise
        except OSError:
            self.seen.append("disconnected")
            raise
        finally:
            self.ended.set()


async def hang_before_the_head(app: Telling, receive: Receive, send: Send) -> None:
    app.entered.set()
    await anyio.sleep_forever()


async def hang_in_the_body(app: Telling, receive: Receive, send: Send) -> None:
    await send(start())
    await send(body(b"first", more=True))
    app.entered.set()
    await anyio.sleep_forever()


async def wait_for_the_client(app: Telling, receive: Receive, send: Send) -> None:
    await send(start())
    assert (await receive())["type"] == "http.request"
    app.entered.set()
    assert await receive() == {"type": "http.disconnect"}
    app.seen.append("told")


async def send_for_ever(app: Telling, receive: Receive, send: Send) -> None:
    await send(start())
    app.entered.set()
    while True:
        await send(body(b"tick\n", more=True))


HANGS = [hang_before_the_head, hang_in_the_body, wait_for_the_client, send_for_ever]


@contextlib.asynccontextmanager
async def ends_soon(seconds: float = SOON) -> AsyncIterator[None]:
    before = time.monotonic()
    yield
    assert time.monotonic() - before < seconds


# The scope.


async def scope_of(
    url: str, *, method: str = "GET", settings: typing.Any = None, **options: typing.Any
) -> Scope:
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert type(scope) is dict
        seen.append(scope.copy())
        await answering()(scope, receive, send)

    async with client_of(app, **(settings or {})) as client:
        assert (await client.request(method, url, **options)).text == "Hello"
    return seen.pop()


async def test_the_scope_is_complete() -> None:
    scope = await scope_of("http://example.com/a/b?c=d%20e&c=+")
    headers = scope.pop("headers")
    assert scope == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/a/b",
        "raw_path": b"/a/b",
        "query_string": b"c=d%20e&c=+",
        "root_path": "",
        "client": ("127.0.0.1", 123),
        "server": ("example.com", 80),
    }
    assert (b"host", b"example.com") in headers
    assert all(type(pair) is tuple for pair in headers)


@pytest.mark.parametrize(
    ("url", "path", "raw_path"),
    [
        ("http://x", "/", b"/"),
        ("http://x?a", "/", b"/"),
        ("http://x/a%20b", "/a b", b"/a%20b"),
        ("http://x/a%2Fb", "/a/b", b"/a%2Fb"),
        ("http://x/ü", "/ü", b"/%C3%BC"),
        ("http://x/%FF", "/�", b"/%FF"),
        ("http://x/100%25", "/100%", b"/100%25"),
        ("http://x//a", "//a", b"//a"),
    ],
)
async def test_the_path_is_decoded_and_there_as_it_is_on_the_wire(
    url: str, path: str, raw_path: bytes
) -> None:
    scope = await scope_of(url)
    assert (scope["path"], scope["raw_path"]) == (path, raw_path)


@pytest.mark.parametrize(
    ("url", "server", "scheme"),
    [
        ("http://x/", ("x", 80), "http"),
        ("https://x/", ("x", 443), "https"),
        ("https://X:8080/", ("x", 8080), "https"),
        ("http://[::1]/", ("::1", 80), "http"),
        ("http://user:secret@x/", ("x", 80), "http"),
    ],
)
async def test_the_server_is_that_of_the_url(
    url: str, server: tuple[str, int], scheme: str
) -> None:
    scope = await scope_of(url)
    assert (scope["server"], scope["scheme"]) == (server, scheme)


@pytest.mark.parametrize(
    ("root_path", "seen"),
    [("", ""), ("/app", "/app"), ("/app/", "/app"), ("/", ""), ("/my%20ü", "/my ü")],
)
async def test_the_root_path_stays_in_the_path(root_path: str, seen: str) -> None:
    scope = await scope_of("http://x/app/y", settings={"root_path": root_path})
    assert (scope["root_path"], scope["path"]) == (seen, "/app/y")


@pytest.mark.parametrize("client", [("192.0.2.1", 5), ["192.0.2.1", 5], None])
async def test_the_client_is_who_one_says(client: typing.Any) -> None:
    scope = await scope_of("http://x/", settings={"client": client})
    assert scope["client"] == (None if client is None else ("192.0.2.1", 5))


async def test_header_fields_are_in_the_scope_as_they_are_sent() -> None:
    scope = await scope_of(
        "http://x/",
        method="POST",
        data=iter([b"12345"]),
        headers=[
            ("X-Twice", "1"),
            ("X-Twice", "2"),
            ("X-Latin", b"\xe4"),
            ("X_Underscore", "3"),
            ("Proxy-Authorization", "Basic eDp5"),
        ],
    )
    assert scope["headers"][-4:] == [
        (b"x-twice", b"1"),
        (b"x-twice", b"2"),
        (b"x-latin", b"\xe4"),
        (b"x_underscore", b"3"),
    ]
    assert (b"transfer-encoding", b"chunked") in scope["headers"]
    assert b"proxy-authorization" not in dict(scope["headers"])


async def test_each_request_has_a_scope_of_its_own() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert "mine" not in scope
        scope["mine"] = True
        scope["headers"].clear()
        await answering()(scope, receive, send)

    request = http3.Request("GET", "http://x/", headers={"X-Mine": "1"})
    async with client_of(app) as client:
        for _ in range(2):
            await client.send(request)
    assert request.headers["x-mine"] == "1"


async def test_only_http_is_spoken() -> None:
    async with client_of(answering()) as client:
        with pytest.raises(http3.UnsupportedScheme, match="'ftp'"):
            await client.send(http3.Request("GET", "ftp://x/"))


# The request's body.


async def in_pieces(*pieces: typing.Any) -> AsyncIterator[typing.Any]:
    for piece in pieces:
        await anyio.lowlevel.checkpoint()
        yield piece


@pytest.mark.parametrize("source", ["none", "bytes", "large", "iterator", "asynchronous"])
async def test_a_body_of_every_kind_is_received(source: str) -> None:
    large = bytes(range(256)) * 1000
    data: typing.Any = {
        "none": None,
        "bytes": b"a body",
        "large": large,
        "iterator": iter([b"a ", b"", "body"]),
        "asynchronous": in_pieces(b"a ", b"", "body"),
    }[source]
    async with client_of(echo) as client:
        response = await client.post("http://x/", data=data)
    assert response.content == {"none": b"", "large": large}.get(source, b"a body")


async def test_bytes_come_in_one_message_and_are_not_copied() -> None:
    data = bytes(1_000_000)
    seen: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(await receive())
        await answering()(scope, receive, send)

    async with client_of(app) as client:
        await client.post("http://x/", data=data)
    assert seen == [{"type": "http.request", "body": data, "more_body": False}]
    assert seen[0]["body"] is data


@pytest.mark.parametrize("length", [None, 5])
async def test_more_body_tells_whether_more_comes(length: int | None) -> None:
    messages: list[tuple[bytes, bool]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while not messages or messages[-1][1]:
            message = await receive()
            messages.append((message["body"], message["more_body"]))
        await answering()(scope, receive, send)

    headers = {} if length is None else {"Content-Length": str(length)}
    async with client_of(app) as client:
        await client.post("http://x/", data=in_pieces(b"12", b"345"), headers=headers)
    if length is None:
        assert messages == [(b"12", True), (b"345", True), (b"", False)]
    else:
        assert messages == [(b"12", True), (b"345", False)]


async def test_a_body_is_read_piece_by_piece_as_the_app_asks() -> None:
    made: list[int] = []
    go_on = [anyio.Event() for _ in range(3)]
    received = [anyio.Event() for _ in range(3)]

    async def source() -> AsyncIterator[bytes]:
        for number in range(3):
            await go_on[number].wait()
            made.append(number)
            yield b"%d" % number

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert made == []
        for number in range(3):
            message = await receive()
            assert (message["body"], message["more_body"]) == (b"%d" % number, True)
            assert made == list(range(number + 1))
            received[number].set()
        assert not (await receive())["more_body"]
        await answering()(scope, receive, send)

    async with client_of(app) as client, client.parallel() as parallel:
        pending = parallel.post("http://x/", data=source())
        for number in range(3):
            assert made == list(range(number))
            go_on[number].set()
            await received[number].wait()
        assert (await pending.get_response()).text == "Hello"


async def test_a_body_that_is_not_read_is_left_alone() -> None:
    async def source() -> AsyncIterator[bytes]:
        raise AssertionError("nobody asked for it")
        yield b""

    async with client_of(answering(b"refused", 413)) as client:
        assert (await client.post("http://x/", data=source())).status_code == 413


async def test_a_body_that_is_not_read_to_its_end_is_closed_in_its_own_context() -> None:
    closed = anyio.Event()

    async def source() -> AsyncIterator[bytes]:
        try:
            async with anyio.create_task_group():  # belongs to one task
                while True:
                    yield b"x"
        finally:
            closed.set()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await receive()
        await answering()(scope, receive, send)

    async with client_of(app) as client:
        assert (await client.post("http://x/", data=source())).text == "Hello"
        await closed.wait()


async def test_a_receive_that_is_cancelled_loses_nothing() -> None:
    asked, go_on = anyio.Event(), anyio.Event()

    async def source() -> AsyncIterator[bytes]:
        asked.set()
        await go_on.wait()
        yield b"first"
        yield b"second"

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with anyio.CancelScope() as at_once:
            at_once.cancel()
            await receive()
        assert not asked.is_set()
        async with anyio.create_task_group() as group:

            async def give_up() -> None:
                await asked.wait()
                group.cancel_scope.cancel()

            group.start_soon(give_up)
            await receive()
        go_on.set()
        await echo(scope, receive, send)

    async with client_of(app) as client:
        response = await client.post("http://x/", data=source())
    assert response.content == b"firstsecond"


@pytest.mark.parametrize(
    ("pieces", "length", "message"),
    [([b"123", b"45"], 6, "1 bytes shorter"), ([b"123", b"456"], 5, "longer")],
)
@pytest.mark.parametrize("raises", [True, False])
async def test_a_body_unlike_its_content_length_fails_the_request(
    pieces: list[bytes], length: int, message: str, raises: bool
) -> None:
    async with client_of(echo, raise_app_exceptions=raises) as client:
        with pytest.raises(http3.WriteError, match=message) as caught:
            headers = {"Content-Length": str(length)}
            await client.post("http://x/", data=in_pieces(*pieces), headers=headers)
    assert caught.value.method == "POST"


async def breaks() -> AsyncIterator[bytes]:
    yield b"first\n"
    raise Mine("of the body's owner")


async def reads_and_goes_on(scope: Scope, receive: Receive, send: Send) -> None:
    assert (await receive())["body"] == b"first\n"
    for _ in range(2):
        assert await receive() == {"type": "http.disconnect"}
    with contextlib.suppress(OSError):
        await answering(b"all is well", 400)(scope, receive, send)


async def reads_and_fails(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await receive()
    raise RuntimeError("of the app")


async def reads_and_hangs(scope: Scope, receive: Receive, send: Send) -> None:
    async def give_up() -> None:
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()

    await receive()
    async with anyio.create_task_group() as group:
        group.start_soon(give_up)
        await receive()  # has the next piece read, though nobody waits for it then
    await anyio.sleep_forever()


async def reads_while_it_answers(scope: Scope, receive: Receive, send: Send) -> None:
    await send(start())
    while True:
        await send(body((await receive())["body"], more=True))


@pytest.mark.parametrize("raises", [True, False])
@pytest.mark.parametrize(
    "app", [echo, reads_and_goes_on, reads_and_fails, reads_and_hangs, reads_while_it_answers]
)
async def test_what_the_source_of_the_body_raises_comes_out_whatever_the_app_does(
    app: App, raises: bool, caplog: pytest.LogCaptureFixture
) -> None:
    ended = anyio.Event()

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        finally:
            ended.set()

    async with client_of(watched, raise_app_exceptions=raises) as client:
        with pytest.raises(Mine, match="of the body's owner"):
            await client.post("http://x/", data=breaks())
        await ended.wait()
        await anyio.lowlevel.checkpoint()
    assert not caplog.records


# What comes after the body.


async def test_after_the_body_receive_waits_until_the_response_is_complete() -> None:
    messages: list[Message] = []
    waiting = anyio.Event()
    done = anyio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def listen() -> None:
            assert await read_body(receive) == b"x"
            waiting.set()
            messages.extend([await receive() for _ in range(3)])

        async with anyio.create_task_group() as group:
            group.start_soon(listen)
            await waiting.wait()
            await send(start())
            await send(body(b"first", more=True))
            for _ in range(10):
                await anyio.lowlevel.checkpoint()
            assert not messages
            await send(body(b"last"))
        done.set()

    async with client_of(app) as client:
        assert (await client.post("http://x/", data=b"x")).content == b"firstlast"
        await done.wait()
    assert messages == [{"type": "http.disconnect"}] * 3


async def test_the_app_goes_on_after_its_last_message() -> None:
    go_on, done = anyio.Event(), anyio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answering()(scope, receive, send)
        await go_on.wait()
        await anyio.sleep(0)  # would be cancelled, were it to be
        done.set()

    async with client_of(app) as client:
        async with client.parallel() as parallel:
            response = await parallel.get("http://x/", stream=True).get_response()
            assert await response.read() == b"Hello"
    go_on.set()
    await done.wait()


@pytest.mark.parametrize("raises", [True, False])
async def test_a_response_that_is_not_streamed_is_there_when_the_app_has_ended(
    raises: bool,
) -> None:
    go_on, got = anyio.Event(), anyio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answering()(scope, receive, send)
        await go_on.wait()

    async with client_of(app, raise_app_exceptions=raises) as client:

        async def get() -> None:
            assert (await client.get("http://x/")).text == "Hello"
            got.set()

        async with anyio.create_task_group() as group:
            group.start_soon(get)
            await anyio.sleep(0.02)
            assert not got.is_set()
            go_on.set()
        with pytest.raises(http3.DeadlineExceeded):
            go_on = anyio.Event()
            await client.get("http://x/", deadline=0.05)
        go_on.set()


async def test_an_app_that_has_sent_its_last_piece_goes_on_though_nobody_reads_that() -> None:
    sent, go_on, done = anyio.Event(), anyio.Event(), anyio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answering()(scope, receive, send)
        sent.set()
        await go_on.wait()
        done.set()

    async with client_of(app) as client:
        async with await client.get("http://x/", stream=True):
            await sent.wait()
        go_on.set()
        await done.wait()


# The response.


async def test_the_response_is_what_the_app_sends() -> None:
    headers = [(b"X-Way", b"asgi"), [b"set-cookie", b"a=1"], (b"set-cookie", b"b=2")]
    app = sending(
        start(201, iter(headers)), body(b"Hello, ", more=True), body(b"", more=True), body(b"world")
    )
    async with client_of(app) as client:
        response = await client.get("http://x/")
    assert (response.status_code, response.protocol) == (201, "HTTP/1.1")
    assert response.content == b"Hello, world"
    assert response.headers.raw == [
        (b"x-way", b"asgi"),
        (b"set-cookie", b"a=1"),
        (b"set-cookie", b"b=2"),
    ]


async def test_what_may_be_left_out_may_be_left_out() -> None:
    app = sending({"type": "http.response.start", "status": 200}, {"type": "http.response.body"})
    async with client_of(app) as client:
        response = await client.get("http://x/")
    assert (response.content, response.headers.raw) == (b"", [])


async def test_a_buffer_that_the_app_uses_again_is_not_kept() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        buffer = bytearray(b"1")
        await send(start())
        await send(body(memoryview(buffer), more=True))
        buffer[:] = b"2"
        await send(body(buffer))
        buffer[:] = b"3"

    async with client_of(app) as client:
        assert (await client.get("http://x/")).content == b"12"


async def test_the_head_is_there_before_the_body() -> None:
    go_on = anyio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await go_on.wait()
        await send(body(b"late"))

    async with client_of(app) as client:
        async with await client.get("http://x/", stream=True) as response:
            assert response.status_code == 200
            go_on.set()
            assert await response.read() == b"late"


async def test_the_app_is_at_most_one_piece_ahead_of_who_reads() -> None:
    sent: list[int] = []
    third = anyio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        for number in itertools.count():
            await send(body(b"%d" % number, more=True))
            sent.append(number)
            if number == 1:
                third.set()

    async with client_of(app) as client:
        async with await client.get("http://x/", stream=True) as response:
            await wait_until(lambda: sent == [0])
            for _ in range(20):
                await anyio.sleep(0.001)
            assert sent == [0]
            pieces = response.stream()
            assert await pieces.__anext__() == b"0"
            await third.wait()
            for _ in range(20):
                await anyio.sleep(0.001)
            assert len(sent) <= 3  # who reads has a thread, that may be one ahead too


async def test_redirects_lead_back_to_the_app() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/":
            await answering(b"moved", 302, [(b"location", b"/next")])(scope, receive, send)
        else:
            await answering(scope["method"].encode())(scope, receive, send)

    async with client_of(app) as client:
        response = await client.post("http://x/", data=b"x")
    assert response.text == "GET"
    assert response.url == "http://x/next"
    assert [before.status_code for before in response.history] == [302]


@pytest.mark.parametrize(
    "name", ["Connection", "keep-alive", "Transfer-Encoding", "upgrade", "te", "proxy-connection"]
)
async def test_what_is_for_the_connection_is_dropped(name: str) -> None:
    headers = [(name.encode(), b"x"), (b"x-other", b"y")]
    async with client_of(answering(headers=headers)) as client:
        response = await client.get("http://x/")
    assert response.headers.raw == [(b"x-other", b"y")]
    assert response.text == "Hello"


@pytest.mark.parametrize(
    ("message", "named"),
    [
        (start(b"200"), "bytes as status"),
        (start("200"), "str as status"),
        (start(None), "None as status"),
        ({"type": "http.response.start"}, "None as status"),
        (start(200.0), "float as status"),
        (start(True), "the status 1"),
        (start(103), "the status 103"),
        (start(101), "the status 101"),
        (start(1000), "the status 1000"),
        (start(headers=None), "None as headers"),
        (start(headers=5), "int as headers"),
        (start(headers={b"a": b"b"}), "dict as headers"),
        (start(headers=b"ab"), "bytes as headers"),
        (start(headers=[b"ab"]), "bytes among the headers"),
        (start(headers=[(b"a",)]), "tuple among the headers"),
        (start(headers=[("a", b"b")]), "str and bytes"),
        (start(headers=[(b"a", "b")]), "bytes and str"),
        (start(headers=[(b"a", None)]), "bytes and None"),
        (start(headers=[(b"a:", b"b")]), "b'a:'"),
        (start(headers=[(b":status", b"200")]), "b':status'"),
        (start(headers=[(b"", b"b")]), "b''"),
        (start(headers=[(b"a b", b"b")]), "b'a b'"),
        (start(headers=[(b"a\n", b"b")]), "no header's name"),
        (start(headers=[(b"a", b"b\r\nc: d")]), "header a that has control characters"),
        (start(headers=[(b"a", b"b\x00")]), "control characters"),
        (start(headers=[(b"content-length", b"five")]), "Content-Length that is none"),
        (start(headers=[(b"content-length", b"-1")]), "Content-Length that is none"),
        (
            start(headers=[(b"content-length", b"1"), (b"Content-Length", b"2")]),
            "several Content-Lengths that differ",
        ),
        (body(b"x"), "http.response.body before http.response.start"),
        ({"type": "http.response.push"}, "http.response.push, which is not for HTTP"),
        ({"type": "websocket.accept"}, "websocket.accept, which"),
        ({"type": None}, "None as type"),
        ({}, "None as type"),
        (None, "None, not a message"),
        ([("type", "http.response.start")], "list, not a message"),
    ],
)
async def test_a_first_message_that_must_not_be_is_named(message: typing.Any, named: str) -> None:
    async with client_of(sending(message, body(b"x"))) as client:
        with pytest.raises(http3.ProtocolError, match=named) as caught:
            await client.get("http://x/")
    assert caught.value.message.startswith("the app sent ")
    assert caught.value.url == "http://x/"


@pytest.mark.parametrize(
    ("messages", "named"),
    [
        ([start()], "http.response.start again"),
        ([body("text")], "http.response.body with str, not bytes"),
        ([body(None)], "http.response.body with None, not bytes"),
        ([body(b"x", more=True), body(5)], "http.response.body with int, not bytes"),
        ([body(b"x", more=True), start()], "http.response.start again"),
        ([body(b"x"), body(b"y")], "http.response.body after its last"),
        ([body(b"x"), start()], "http.response.start after its last"),
    ],
)
async def test_a_later_message_that_must_not_be_is_named(
    messages: list[Message], named: str
) -> None:
    async with client_of(sending(start(), *messages)) as client:
        with pytest.raises(http3.ProtocolError, match=named):
            await client.get("http://x/")


async def test_what_must_not_be_is_raised_to_the_app() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with pytest.raises(http3.ProtocolError):
            await send(start(99))
        with pytest.raises(http3.ProtocolError):
            await send(start(200, [(b"a b", b"c")]))
        await send(start(201))
        with pytest.raises(http3.ProtocolError):
            await send(body("text"))
        await send(body(b"bytes"))

    async with client_of(app) as client:
        response = await client.get("http://x/")
    assert (response.status_code, response.content) == (201, b"bytes")


@pytest.mark.parametrize(
    ("status", "headers", "kept"),
    [
        (299, [(b"X-Empty", b"")], (b"x-empty", b"")),
        (999, [(b"x!#$%&'*+-.^_`|~", b"odd")], (b"x!#$%&'*+-.^_`|~", b"odd")),
        (200, [(b"x", b" \t a\tb ")], (b"x", b"a\tb")),
        (200, [(b"x", b"\xff\xc3\xbc")], (b"x", b"\xff\xc3\xbc")),
    ],
)
async def test_a_message_that_may_be(
    status: int, headers: list[tuple[bytes, bytes]], kept: tuple[bytes, bytes]
) -> None:
    async with client_of(answering(status=status, headers=headers)) as client:
        response = await client.get("http://x/")
    assert (response.status_code, response.headers.raw) == (status, [kept])


# Where the body ends.


@pytest.mark.parametrize(
    "pieces", [[b"123", b"45"], [b"12345", b"678"], [b"1234", b"5678", b"9"], [b"12345678"]]
)
async def test_a_body_is_cut_at_its_content_length(
    pieces: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    messages = [body(piece, more=True) for piece in pieces]
    app = sending(start(headers=[(b"content-length", b"5")]), *messages, body())
    async with client_of(app) as client:
        assert (await client.get("http://x/")).content == b"12345"
    warnings = [record.levelno for record in caplog.records]
    assert warnings == ([] if len(b"".join(pieces)) == 5 else [logging.WARNING])


@pytest.mark.parametrize("raises", [True, False])
@pytest.mark.parametrize("pieces", [[], [b"123"]])
async def test_a_body_shorter_than_its_content_length_is_incomplete(
    pieces: list[bytes], raises: bool
) -> None:
    messages = [body(piece, more=True) for piece in pieces]
    app = sending(start(headers=[(b"content-length", b"5")]), *messages, body())
    async with client_of(app, raise_app_exceptions=raises) as client:
        short = f"{5 - len(b''.join(pieces))} bytes short"
        with pytest.raises(http3.IncompleteRead, match=short):
            await client.get("http://x/")


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
@pytest.mark.parametrize("kind", ["one", "several", "none", "returns"])
async def test_what_has_no_body_gets_none(method: str, status: int, kind: str) -> None:
    messages = {
        "one": [body(b"abc")],
        "several": [*[body(b"a" * 100_000, more=True)] * 5, body(b"end")],
        "none": [body()],
        "returns": [],
    }[kind]
    ended = anyio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-length", b"3")]
        await sending(start(status, headers), *messages)(scope, receive, send)
        ended.set()

    async with client_of(app) as client:
        response = await client.request(method, "http://x/")
        await ended.wait()
    assert (response.status_code, response.content) == (status, b"")
    assert response.headers["content-length"] == "3"


@pytest.mark.parametrize("hang", [hang_in_the_body, send_for_ever])
async def test_an_answer_without_a_body_does_not_wait_for_ever(
    hang: typing.Any, caplog: pytest.LogCaptureFixture
) -> None:
    app = Telling(hang)
    async with client_of(app) as client:
        assert (await client.head("http://x/")).status_code == 200
        await app.ended.wait()
    assert not caplog.records


async def test_an_endless_body_ends_at_its_content_length() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start(headers=[(b"content-length", b"5")]))
        while True:
            await send(body(b"x", more=True))

    async with client_of(app) as client:
        assert (await client.get("http://x/")).content == b"xxxxx"


# Exceptions.


FAILS_EARLY = {"at once": sending(Mine)}
FAILS_LATE = {
    "after the head": sending(start(), Mine),
    "in the body": sending(start(), body(b"partial", more=True), Mine),
}


@pytest.mark.parametrize("app", [*FAILS_EARLY.values(), *FAILS_LATE.values()])
async def test_what_the_app_raises_comes_out_unchanged(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    async with client_of(app) as client, client.parallel() as parallel:
        with pytest.raises(Mine) as caught:
            await parallel.get("http://x/path?token=hush").get_response()
    assert str(caught.value) == "what I said"
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert "app" in {entry.name for entry in caught.traceback}
    if sys.version_info >= (3, 11):
        assert caught.value.__notes__ == ["while requesting GET http://x/path?token=…"]
    assert not caplog.records


@pytest.mark.parametrize("app", FAILS_EARLY.values())
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_behind_a_server_an_exception_is_a_500(
    app: App, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with client_of(app, raise_app_exceptions=False) as client:
        response = await client.request(method, "http://x/path?token=hush")
    text = "Internal Server Error" if method == "GET" else ""
    assert (response.status_code, response.text) == (500, text)
    assert response.headers["content-length"] == "21"
    assert "the app failed" in caplog.text
    assert "what I said" in caplog.text
    assert "hush" not in caplog.text


@pytest.mark.parametrize("app", FAILS_LATE.values())
async def test_behind_a_server_a_late_exception_breaks_the_body(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    async with client_of(app, raise_app_exceptions=False) as client:
        with pytest.raises(http3.ReadError, match="in the middle of its response") as caught:
            await client.get("http://x/")
    assert isinstance(caught.value.__cause__, Mine)
    assert caught.value.url == "http://x/"
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


@pytest.mark.parametrize("raises", [True, False])
async def test_what_came_before_a_late_exception_can_be_read(raises: bool) -> None:
    app = sending(start(), body(b"partial", more=True), Mine)
    async with client_of(app, raise_app_exceptions=raises) as client:
        async with await client.get("http://x/", stream=True) as response:
            pieces = response.stream()
            assert await pieces.__anext__() == b"partial"
            with pytest.raises(Mine if raises else http3.ReadError):
                await pieces.__anext__()


async def test_an_app_that_returns_without_a_response_is_named() -> None:
    async with client_of(sending()) as client:
        with pytest.raises(http3.ProtocolError, match="the app returned without having sent"):
            await client.get("http://x/")


async def test_behind_a_server_an_app_that_returns_without_a_response_is_a_500(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with client_of(sending(), raise_app_exceptions=False) as client:
        assert (await client.get("http://x/")).status_code == 500
    assert "without having sent http.response.start" in caplog.text


@pytest.mark.parametrize("raises", [True, False])
@pytest.mark.parametrize("messages", [[start()], [start(), body(b"partial", more=True)]])
async def test_an_app_that_returns_in_the_middle_of_its_body_is_incomplete(
    messages: list[Message], raises: bool
) -> None:
    async with client_of(sending(*messages), raise_app_exceptions=raises) as client:
        with pytest.raises(http3.IncompleteRead, match="returned in the middle of its body"):
            await client.get("http://x/")


@pytest.mark.parametrize("result", [None, b"bytes", 5, iter(())])
async def test_an_app_that_returns_nothing_to_await_is_named(result: typing.Any) -> None:
    def app(scope: Scope, receive: Receive, send: Send) -> typing.Any:
        return result

    async with client_of(app) as client:
        with pytest.raises(http3.ProtocolError, match="not an awaitable"):
            await client.get("http://x/")


async def test_an_app_may_fail_before_there_is_something_to_await() -> None:
    def app(scope: Scope, receive: Receive, send: Send) -> typing.Any:
        raise Mine

    async with client_of(app) as client:
        with pytest.raises(Mine):
            await client.get("http://x/")


@pytest.mark.parametrize("messages", [[], [start()], [start(), body(b"x", more=True)]])
async def test_an_app_that_raises_stop_async_iteration_is_not_at_its_end(
    messages: list[Message],
) -> None:
    async with client_of(sending(*messages, StopAsyncIteration)) as client:
        with pytest.raises(RuntimeError, match="StopAsyncIteration"):
            await client.get("http://x/")


@pytest.mark.parametrize("loop_kind", ["asyncio", "uvloop"])
@pytest.mark.parametrize("raises", [True, False])
@pytest.mark.parametrize("messages", [[], [start(), body(b"x", more=True)]])
def test_an_app_that_cancels_itself_ends_its_request(
    messages: list[Message], raises: bool, loop_kind: str
) -> None:
    import asyncio

    import event_loops

    async def main() -> None:
        app = sending(*messages, asyncio.CancelledError)
        async with client_of(app, raise_app_exceptions=raises) as client:
            with pytest.raises(http3.RequestCancelled, match="the app was cancelled"):
                await client.get("http://x/")

    event_loops.run(loop_kind, main)


@pytest.mark.parametrize("error", [MyExit, GeneratorExit, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("raises", [True, False])
@pytest.mark.parametrize("messages", [[], [start(), body(b"x", more=True)]])
async def test_what_is_no_exception_comes_out_always(
    messages: list[Message], raises: bool, error: type[BaseException], loop_kind: str
) -> None:
    if error is KeyboardInterrupt and sys.version_info < (3, 11) and loop_kind != "trio":
        pytest.skip("it ends the loop, as a Ctrl-C does there")
    async with client_of(sending(*messages, error), raise_app_exceptions=raises) as client:
        with pytest.raises(error, match="what I said"):
            await client.get("http://x/")


async def test_an_error_of_a_request_that_the_app_makes_is_the_app_s(
    refused_url: str,
) -> None:
    calls: list[str] = []
    async with http3.AsyncClient() as other:

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            calls.append(scope["path"])
            await other.get(refused_url)

        dispatch = ASGIDispatch(app)
        async with http3.AsyncClient(
            dispatch=dispatch, retries=http3.Retry(3, backoff=0)
        ) as client:
            with pytest.raises(http3.ConnectError) as caught:
                await client.get("http://x/outer")
    assert calls == ["/outer"], "tried once: it is no failure of ours"
    assert caught.value.url == refused_url


async def test_a_broken_body_is_retried_as_over_the_network() -> None:
    calls = itertools.count()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await send(body(b"partial", more=True))
        if next(calls) < 2:
            raise Mine
        await send(body(b" and the rest"))

    dispatch = ASGIDispatch(app, raise_app_exceptions=False)
    async with http3.AsyncClient(dispatch=dispatch, retries=http3.Retry(3, backoff=0)) as client:
        assert (await client.get("http://x/")).text == "partial and the rest"


@pytest.mark.parametrize("turns", [0, 10])
async def test_what_the_app_raises_right_after_its_last_message_comes_out(turns: int) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answering(b"error page", 500)(scope, receive, send)
        for _ in range(turns):
            await anyio.lowlevel.checkpoint()
        raise Mine

    async with client_of(app) as client:
        with pytest.raises(Mine):
            await client.get("http://x/")


async def test_behind_a_server_what_the_app_raises_after_its_last_message_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = sending(start(500), body(b"error page"), Mine)
    async with client_of(app, raise_app_exceptions=False) as client:
        response = await client.get("http://x/?token=hush")
    assert (response.status_code, response.text) == (500, "error page")
    assert [record.message for record in caplog.records] == [
        "GET http://x/?token=…: the app failed after its response was complete"
    ]


@pytest.mark.parametrize("raises", [True, False])
async def test_what_the_app_raises_later_is_logged(
    raises: bool, caplog: pytest.LogCaptureFixture
) -> None:
    go_on = anyio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answering()(scope, receive, send)
        await go_on.wait()
        raise Mine

    async with client_of(app, raise_app_exceptions=raises) as client:
        response = await client.get("http://x/", stream=True)
        assert await response.read() == b"Hello"
        assert not caplog.records
        go_on.set()
        await wait_until(lambda: caplog.records)
    assert [record.message for record in caplog.records] == [
        "GET http://x/: the app failed after its response was complete"
    ]


async def test_what_the_app_raises_later_fails_a_request_that_is_not_streamed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answering()(scope, receive, send)
        await anyio.sleep(0.01)
        raise Mine

    async with client_of(app) as client:
        with pytest.raises(Mine):
            await client.get("http://x/")
    async with client_of(app, raise_app_exceptions=False) as client:
        assert (await client.get("http://x/")).text == "Hello"
    assert [record.message for record in caplog.records] == [
        "GET http://x/: the app failed after its response was complete"
    ]


async def test_an_exception_that_nobody_comes_to_read_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    failed = anyio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start(500))
        await send(body(b"error ", more=True))
        await send(body(b"page"))
        failed.set()
        raise Mine

    async with client_of(app) as client:
        async with await client.get("http://x/", stream=True):
            await failed.wait()
        await wait_until(lambda: caplog.records)
    assert [record.message for record in caplog.records] == [
        "GET http://x/: the app failed after its response was complete"
    ]


# Leaving early.


async def closes_the_stream(client: http3.AsyncClient, app: Telling) -> None:
    async with await client.get("http://x/", stream=True):
        await app.entered.wait()


async def closes_the_stream_in_the_middle(client: http3.AsyncClient, app: Telling) -> None:
    async with await client.get("http://x/", stream=True) as response:
        async for _ in response.stream():
            break
        await app.entered.wait()


async def drops_the_stream(client: http3.AsyncClient, app: Telling) -> None:
    response = await client.get("http://x/", stream=True)
    await app.entered.wait()
    del response


async def is_cancelled(client: http3.AsyncClient, app: Telling) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(client.get, "http://x/")
        await app.entered.wait()
        group.cancel_scope.cancel()


async def cancels_the_handle(client: http3.AsyncClient, app: Telling) -> None:
    async with client.parallel() as parallel:
        pending = parallel.get("http://x/")
        await app.entered.wait()
        pending.cancel()
        with pytest.raises(http3.RequestCancelled):
            await pending.get_response()


async def leaves_the_block(client: http3.AsyncClient, app: Telling) -> None:
    async with client.parallel() as parallel:
        pending = parallel.get("http://x/")
        await app.entered.wait()
    with pytest.raises(http3.RequestCancelled):
        await pending.get_response()


async def passes_the_deadline(client: http3.AsyncClient, app: Telling) -> None:
    with pytest.raises(http3.DeadlineExceeded):
        await client.get("http://x/", deadline=0.5)
    assert app.entered.is_set()


async def closes_the_client(client: http3.AsyncClient, app: Telling) -> None:
    async with anyio.create_task_group() as group:

        async def request() -> None:
            with pytest.raises(http3.HTTPError):
                await client.get("http://x/")

        group.start_soon(request)
        await app.entered.wait()
        await client.close()


WAYS_BEFORE_THE_HEAD = [
    is_cancelled,
    cancels_the_handle,
    leaves_the_block,
    passes_the_deadline,
    closes_the_client,
]
WAYS = [
    closes_the_stream,
    closes_the_stream_in_the_middle,
    drops_the_stream,
    *WAYS_BEFORE_THE_HEAD,
]


@pytest.mark.parametrize("raises", [True, False])
@pytest.mark.parametrize(
    ("hang", "leave"),
    [
        (hang, leave)
        for hang in HANGS
        for leave in WAYS
        if not (
            (hang is hang_before_the_head and leave not in WAYS_BEFORE_THE_HEAD)
            or (hang is wait_for_the_client and leave is closes_the_stream_in_the_middle)
        )
    ],
)
async def test_an_app_whose_client_leaves_is_told_and_ended(
    hang: typing.Any, leave: typing.Any, raises: bool, caplog: pytest.LogCaptureFixture
) -> None:
    app = Telling(hang)
    async with client_of(app, raise_app_exceptions=raises) as client:
        async with ends_soon(2 * SOON):
            await leave(client, app)
            await app.ended.wait()
        expected = {wait_for_the_client: "told", send_for_ever: "disconnected"}
        assert app.seen == [expected.get(hang, "cancelled")]
        await anyio.lowlevel.checkpoint()
    assert not caplog.records


async def test_an_app_that_was_told_may_await_while_it_cleans_up() -> None:
    cleaned = anyio.Event()

    async def clean_up(app: Telling, receive: Receive, send: Send) -> None:
        await wait_for_the_client(app, receive, send)
        await anyio.sleep(0.001)
        cleaned.set()

    app = Telling(clean_up)
    async with client_of(app) as client:
        await closes_the_stream(client, app)
        await app.ended.wait()
    assert cleaned.is_set()
    assert app.seen == ["told"]


async def test_an_app_that_looks_for_its_client_for_ever_is_ended() -> None:
    async def look(app: Telling, receive: Receive, send: Send) -> None:
        await send(start())
        app.entered.set()
        while True:
            await receive()

    app = Telling(look)
    async with client_of(app) as client:
        await closes_the_stream(client, app)
        await app.ended.wait()
    assert app.seen == ["cancelled"]


async def test_an_app_that_goes_on_sending_gets_an_oserror_each_time() -> None:
    errors: list[OSError] = []

    async def insist(app: Telling, receive: Receive, send: Send) -> None:
        await send(start())
        app.entered.set()
        while len(errors) < 3:
            try:
                await send(body(b"x", more=True))
            except OSError as error:
                errors.append(error)

    app = Telling(insist)
    async with client_of(app) as client:
        await closes_the_stream(client, app)
        await app.ended.wait()
    assert {type(error).__name__ for error in errors} == {"ClientDisconnected"}


@pytest.mark.parametrize("told", [True, False])
async def test_what_an_app_raises_once_its_client_has_left_is_logged(
    told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(app: Telling, receive: Receive, send: Send) -> None:
        if told:
            await wait_for_the_client(app, receive, send)
            raise Mine
        try:
            await hang_in_the_body(app, receive, send)
        finally:
            raise Mine

    caplog.set_level(logging.DEBUG, "http3_parallel")

    app = Telling(fail)
    async with client_of(app) as client:
        await closes_the_stream(client, app)
        await app.ended.wait()
        message = "GET http://x/: the app failed after its response was given up"
        level = logging.DEBUG if told else logging.ERROR
        await wait_until(lambda: (message, level) in logged(caplog))


def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[str, int]]:
    return [(record.message, record.levelno) for record in caplog.records]


async def test_an_endless_stream_of_events_is_read_and_closed() -> None:
    app = Telling(send_for_ever)
    async with client_of(app) as client:
        async with await client.get("http://x/", stream=True) as response:
            lines = []
            async for line in response.iter_lines():
                lines.append(line)
                if len(lines) == 100:
                    break
        async with ends_soon():
            await app.ended.wait()
    assert lines == ["tick"] * 100


async def test_a_dispatcher_around_the_app_that_drops_the_response_ends_the_app() -> None:
    app = Telling(hang_in_the_body)
    inner = ASGIDispatch(app)

    class Drops(http3.AsyncDispatcher):
        async def send(
            self, request: http3.AsyncRequest, context: http3.Context
        ) -> http3.AsyncResponse:
            assert (await inner.send(request, context)).status_code == 200
            return http3.AsyncResponse(299, content=b"instead")

    async with http3.AsyncClient(dispatch=Drops()) as client:
        assert (await client.get("http://x/")).content == b"instead"
        await app.ended.wait()


async def test_the_deadline_tells_what_the_app_was_waited_for() -> None:
    async with client_of(Telling(hang_before_the_head)) as client:
        with pytest.raises(http3.DeadlineExceeded, match="while waiting for the app"):
            await client.get("http://x/", deadline=0.3)
    async with client_of(Telling(hang_in_the_body)) as client:
        with pytest.raises(http3.DeadlineExceeded, match="while reading the body"):
            await client.get("http://x/", deadline=0.3)


async def test_a_request_whose_body_hangs_is_ended_and_so_is_its_body() -> None:
    closed = anyio.Event()

    async def source() -> AsyncIterator[bytes]:
        yield b"first"
        try:
            await anyio.sleep_forever()
        finally:
            closed.set()

    async with client_of(echo) as client:
        async with ends_soon():
            with pytest.raises(http3.DeadlineExceeded):
                await client.post("http://x/", data=source(), deadline=0.3)
            await closed.wait()


# In blocks.


async def test_twenty_requests_of_a_block_are_in_the_app_at_once() -> None:
    everyone = anyio.Event()
    inside = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal inside
        inside += 1
        if inside == 20:
            everyone.set()
        await everyone.wait()
        await send(start())
        await send(body(scope["path"].encode() + b" ", more=True))
        await send(body(await read_body(receive)))

    async with client_of(app) as client, client.parallel() as parallel:
        for number in range(20):
            parallel.post(f"http://x/{number}", data=in_pieces(b"%d" % number), tag=number)
        seen = {}
        while parallel.has_pending_responses:
            response = await parallel.next_response()
            seen[response.tag] = response.text
    assert seen == {number: f"/{number} {number}" for number in range(20)}


async def test_an_app_may_make_requests_of_the_client_that_calls_it() -> None:
    clients: list[http3.AsyncClient] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        depth = int(scope["path"].strip("/"))
        total = 1
        if depth:
            async with clients[0].parallel(max_workers=2) as parallel:
                for _ in range(3):
                    parallel.get(f"http://x/{depth - 1}")
                while parallel.has_pending_responses:
                    total += int((await parallel.next_response()).text)
        await answering(b"%d" % total)(scope, receive, send)

    async with client_of(app) as client:
        clients.append(client)
        assert (await client.get("http://x/2")).text == "13"


_variable: contextvars.ContextVar[str] = contextvars.ContextVar("_variable", default="unset")


async def test_the_app_sees_the_context_of_the_caller_and_does_not_change_it() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        token = _variable.set(_variable.get() + "+app")
        await send(start())
        await send(body(_variable.get().encode(), more=True))
        _variable.reset(token)
        await send(body(b"," + _variable.get().encode()))

    _variable.set("mine")
    async with client_of(app) as client, client.parallel() as parallel:
        pending = parallel.get("http://x/", stream=True)
        _variable.set("another")
        async with await pending.get_response() as response:
            assert await response.read() == b"mine+app,mine"
        assert (await client.get("http://x/")).text == "another+app,another"
    assert _variable.get() == "another"


# Memory.


@pytest.fixture
def no_collector() -> Iterator[None]:
    """What is freed now is freed because nothing refers to it."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Weak(Exception):
    """Can be referred to weakly, as every exception of a user's class."""


class Piece(bytes):
    """Can be referred to weakly."""


@pytest.mark.parametrize("raises", [True, False])
@pytest.mark.parametrize(
    "when", ["at once", "after the head", "in the body", "after the body", "reading"]
)
async def test_errors_are_in_no_cycle(
    when: str, raises: bool, no_collector: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[weakref.ref[Weak]] = []
    monkeypatch.setattr(Weak, "__init__", lambda error: made.append(weakref.ref(error)))
    monkeypatch.setattr(logging.getLogger("http3_parallel"), "disabled", True)

    async def source() -> AsyncIterator[bytes]:
        yield b"x"
        raise Weak

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if when == "at once":
            raise Weak
        if when == "reading":
            await read_body(receive)
        await send(start())
        if when == "after the head":
            raise Weak
        await send(body(b"x", more=True))
        if when == "in the body":
            raise Weak
        await send(body(b"x"))
        raise Weak

    async def ask(client: http3.AsyncClient, stream: bool, read: bool) -> None:
        with contextlib.suppress(Weak, http3.HTTPError):
            async with await client.post("http://x/", data=source(), stream=stream) as response:
                if read:
                    await response.read()

    async with client_of(app, raise_app_exceptions=raises) as client:
        for stream, read in [(False, False), (True, False), (True, True)]:
            await ask(client, stream, read)
        await anyio.sleep(0.06)  # for an app whose client has left
    assert made
    await wait_until(lambda: {reference() for reference in made} == {None})


async def test_a_response_does_not_keep_the_app_s_things(no_collector: None) -> None:
    class Thing:
        pass

    gone: list[weakref.ref[Thing]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        thing = scope["thing"] = Thing()
        gone.append(weakref.ref(thing))
        await echo(scope, receive, send)

    async with client_of(app) as client:
        responses = [await client.post("http://x/", data=in_pieces(b"x")) for _ in range(2)]
        await wait_until(lambda: gone[0]() is None)
    assert responses[0].content == b"x"


# Starlette.


class Routes:
    """A Starlette app, and what happened in it."""

    def __init__(self) -> None:
        self.background = anyio.Event()
        self.let_background_go = anyio.Event()
        self.disconnected = anyio.Event()
        self.listening = anyio.Event()
        self.app = Starlette(
            routes=[
                Route("/json/{name}", self.json, methods=["POST"]),
                Route("/count/{number:int}", self.count),
                Route("/upload", self.upload, methods=["PUT"]),
                Route("/slurp", self.slurp, methods=["PUT"]),
                Route("/background", self.with_background),
                Route("/events", self.events),
                Route("/polls", self.polls),
                Route("/fails", self.fails),
                Mount("/below", routes=[Route("/where", self.where, name="where")]),
            ]
        )

    async def json(self, request: Request) -> Response:
        return JSONResponse(
            {
                "name": request.path_params["name"],
                "query": request.query_params["q"],
                "body": await request.json(),
                "client": request.client and request.client.host,
            },
            headers={"Set-Cookie": "seen=yes"},
        )

    async def count(self, request: Request) -> Response:
        async def lines() -> AsyncIterator[str]:
            for number in range(request.path_params["number"]):
                yield f"{number}\n"

        return StreamingResponse(lines(), media_type="text/plain")

    async def upload(self, request: Request) -> Response:
        sizes = [len(chunk) async for chunk in request.stream()]
        return JSONResponse({"size": sum(sizes), "pieces": len(sizes)})

    async def slurp(self, request: Request) -> Response:
        try:
            return PlainTextResponse(await request.body())
        except ClientDisconnect:
            self.disconnected.set()
            raise

    async def with_background(self, request: Request) -> Response:
        async def work() -> None:
            await self.let_background_go.wait()
            self.background.set()

        return PlainTextResponse("accepted", 202, background=BackgroundTask(work))

    async def events(self, request: Request) -> Response:
        async def events() -> AsyncIterator[str]:
            try:
                for number in itertools.count():
                    yield f"data: {number}\n\n"
                    if number == 2:
                        self.listening.set()
                        await anyio.sleep_forever()
            finally:
                self.disconnected.set()

        return StreamingResponse(events(), media_type="text/event-stream")

    async def polls(self, request: Request) -> Response:
        assert not await request.is_disconnected()
        data = await request.body()
        self.listening.set()
        while not await request.is_disconnected():
            await anyio.sleep(0.001)
        self.disconnected.set()
        return PlainTextResponse(data)

    async def fails(self, request: Request) -> Response:
        raise Mine("in the view")

    async def where(self, request: Request) -> Response:
        return PlainTextResponse(f"{request.url_for('where').path} at {request.url}")


async def test_starlette_answers() -> None:
    async with http3.AsyncClient(app=Routes().app, base_url="http://test") as client:
        response = await client.post("/json/a%20b?q=c%20d", json=[1, "ü"])
        assert response.json() == {
            "name": "a b",
            "query": "c d",
            "body": [1, "ü"],
            "client": "127.0.0.1",
        }
        assert response.cookies["seen"] == "yes"
        assert (await client.get("/nowhere")).status_code == 404
        assert (await client.get("/upload")).status_code == 405


async def test_starlette_streams() -> None:
    expected = "".join(f"{number}\n" for number in range(300))
    async with http3.AsyncClient(app=Routes().app) as client:
        assert (await client.get("http://test/count/300")).text == expected
        async with await client.get("http://test/count/300", stream=True) as response:
            lines = [line async for line in response.iter_lines()]
        assert lines == expected.split()
        head = await client.head("http://test/count/300")
    assert (head.status_code, head.content) == (200, b"")


async def test_starlette_takes_uploads() -> None:
    async with http3.AsyncClient(app=Routes().app, base_url="http://test") as client:
        response = await client.put("/upload", data=in_pieces(*[b"x" * 50_000] * 20))
        assert response.json()["size"] == 1_000_000
        assert response.json()["pieces"] >= 20
        assert (await client.put("/slurp", data=b"a body")).content == b"a body"


async def test_starlette_runs_its_background_task_after_the_response() -> None:
    routes = Routes()
    async with http3.AsyncClient(app=routes.app) as client, client.parallel() as parallel:
        response = await parallel.get("http://test/background", stream=True).get_response()
        assert (response.status_code, await response.read()) == (202, b"accepted")
        assert not routes.background.is_set()
        routes.let_background_go.set()
        await routes.background.wait()
    routes = Routes()
    routes.let_background_go.set()
    async with http3.AsyncClient(app=routes.app) as client:
        assert (await client.get("http://test/background")).text == "accepted"
        assert routes.background.is_set()


async def test_events_of_starlette_end_when_the_stream_is_closed() -> None:
    routes = Routes()
    async with http3.AsyncClient(app=routes.app) as client:
        async with await client.get("http://test/events", stream=True) as response:
            lines = response.iter_lines()
            seen = [await lines.__anext__() for _ in range(6)]
            assert seen[::2] == ["data: 0", "data: 1", "data: 2"]
            await routes.listening.wait()
        async with ends_soon():
            await routes.disconnected.wait()


async def test_starlette_sees_that_its_client_has_left() -> None:
    routes = Routes()
    async with http3.AsyncClient(app=routes.app) as client:
        async with client.parallel() as parallel:
            parallel.request("GET", "http://test/polls", data=in_pieces(b"kept"))
            await routes.listening.wait()
            assert not routes.disconnected.is_set()
        async with ends_soon():
            await routes.disconnected.wait()


async def test_starlette_knows_where_it_is_mounted() -> None:
    dispatch = ASGIDispatch(Routes().app, root_path="/app")
    async with http3.AsyncClient(dispatch=dispatch) as client:
        response = await client.get("https://test:8443/app/below/where")
    assert response.text == "/app/below/where at https://test:8443/app/below/where"


async def pass_on(request: Request, call_next: typing.Any) -> Response:
    return typing.cast(Response, await call_next(request))


@pytest.mark.parametrize("layers", [0, 3])
async def test_an_error_in_a_view_of_starlette_comes_out(layers: int) -> None:
    middleware = [Middleware(BaseHTTPMiddleware, dispatch=pass_on)] * layers
    app = Starlette(routes=Routes().app.routes, middleware=middleware)
    async with http3.AsyncClient(app=app) as client, client.parallel() as parallel:
        for _ in range(5):
            parallel.get("http://test/fails")
        async for pending in parallel:
            with pytest.raises(Mine, match="in the view"):
                await pending.get_response()


async def test_an_error_in_a_view_of_starlette_is_its_500_behind_a_server(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with http3.AsyncClient(app=Routes().app, raise_app_exceptions=False) as client:
        response = await client.get("http://test/fails")
    assert (response.status_code, response.text) == (500, "Internal Server Error")
    assert "Mine: in the view" in caplog.text


# Django.


async def view_json(request: typing.Any) -> typing.Any:
    return http.JsonResponse({"query": request.GET["q"], "body": request.body.decode()})


async def view_stream(request: typing.Any, number: int) -> typing.Any:
    async def lines() -> AsyncIterator[str]:
        for line in range(number):
            yield f"{line}\n"

    return http.StreamingHttpResponse(lines(), content_type="text/plain")


async def view_error(request: typing.Any) -> typing.Any:
    raise Mine("in the view")


class DjangoUrls:
    urlpatterns: typing.ClassVar = [
        urls.path("json", view_json),
        urls.path("stream/<int:number>", view_stream),
        urls.path("error", view_error),
    ]


@pytest.fixture
def django_app() -> Iterator[typing.Any]:
    settings = conf.UserSettingsHolder(conf.global_settings)
    settings.ALLOWED_HOSTS = ["app.test"]
    settings.DEBUG_PROPAGATE_EXCEPTIONS = True
    settings.LOGGING_CONFIG = None
    settings.ROOT_URLCONF = DjangoUrls
    settings.SECRET_KEY = "for the tests"
    # For these tests alone: others configure it themselves, which can be done once.
    before, conf.settings._wrapped = conf.settings._wrapped, settings
    yield asgi.get_asgi_application()
    conf.settings._wrapped = before


# Before Python 3.12, Django leaves the file of a request's body to its finalizer.
@pytest.mark.filterwarnings("ignore:Unclosed file:ResourceWarning")
async def test_django_answers_in_asyncio(django_app: typing.Any, loop_kind: str) -> None:
    if loop_kind == "trio":
        pytest.skip("Django runs in asyncio only")
    async with http3.AsyncClient(app=django_app, base_url="http://app.test") as client:
        async with client.parallel() as parallel:
            for number in range(20):
                data = in_pieces(b"body ", b"%d" % number)
                headers = {"Content-Length": str(5 + len(str(number)))}
                url = f"/json?q={number}"
                parallel.post(url, data=data, headers=headers, tag=number)
            async for pending in parallel:
                response = await pending.get_response()
                tag = response.tag
                assert response.json() == {"query": str(tag), "body": f"body {tag}"}
        response = await client.get("/stream/50")
        assert response.text.split() == [str(line) for line in range(50)]
        with pytest.raises(Mine, match="in the view"):
            await client.get("/error")
        assert (await client.get("/nowhere")).status_code == 404
    gc.collect()  # within the filter above


# What is an ASGI app, and what is not.


async def asgi_function(scope: typing.Any, receive: typing.Any, send: typing.Any) -> None:
    raise AssertionError


async def asgi_wrapper(*args: typing.Any) -> None:
    raise AssertionError


def wsgi_function(environ: typing.Any, start_response: typing.Any) -> typing.Any:
    raise AssertionError


def any_number(*args: typing.Any) -> typing.Any:
    raise AssertionError


@functools.wraps(asgi_function)
def wrapping(*args: typing.Any) -> typing.Any:
    raise AssertionError


@functools.wraps(asgi_wrapper)
def wrapping_a_wrapper(*args: typing.Any) -> typing.Any:
    raise AssertionError


class AsgiObject:
    async def __call__(self, scope: typing.Any, receive: typing.Any, send: typing.Any) -> None:
        raise AssertionError

    async def method(self, *args: typing.Any) -> None:
        raise AssertionError


class AsgiWrapper:
    async def __call__(self, *args: typing.Any) -> None:
        raise AssertionError


class AsgiClass:
    """As an endpoint of Starlette."""

    def __init__(self, scope: typing.Any, receive: typing.Any, send: typing.Any) -> None:
        raise AssertionError


class WsgiObject:
    def __call__(self, environ: typing.Any, start_response: typing.Any) -> typing.Any:
        raise AssertionError


class Asgi2:
    def __init__(self, scope: typing.Any) -> None:
        raise AssertionError

    async def __call__(self, receive: typing.Any, send: typing.Any) -> None:
        raise AssertionError


async def two_parameters(environ: typing.Any, start_response: typing.Any) -> None:
    raise AssertionError


async def asynchronous_generator(
    scope: typing.Any, receive: typing.Any, send: typing.Any
) -> AsyncIterator[bytes]:
    yield b"x"


@pytest.mark.parametrize(
    "app",
    [
        asgi_function,
        asgi_wrapper,
        AsgiObject(),
        AsgiObject().method,
        AsgiWrapper(),
        AsgiClass,
        functools.partial(asgi_function),
        functools.partial(asgi_wrapper),
        functools.partial(lambda more, scope, receive, send: None, "more"),
        functools.partial(functools.partial(AsgiWrapper().__call__)),
        lambda scope, receive, send: None,
        wrapping,
        wrapping_a_wrapper,
        Starlette(),
    ],
)
def test_an_asgi_app_is_one(app: typing.Any) -> None:
    assert is_asgi(app)
    ASGIDispatch(app)
    http3.AsyncClient(app=app)


@pytest.mark.parametrize(
    "app",
    [
        wsgi_function,
        any_number,
        WsgiObject(),
        functools.partial(wsgi_function),
        functools.partial(any_number),
        lambda environ, start_response, more=None: [],
        collections.ChainMap,
        max,
    ],
)
def test_a_wsgi_app_is_none_and_a_client_takes_it(app: typing.Any) -> None:
    assert not is_asgi(app)
    WSGIDispatch(app)
    http3.AsyncClient(app=app)


@pytest.mark.parametrize("app", [any_number, collections.ChainMap, max])
def test_what_could_be_either_is_what_one_says(app: typing.Any) -> None:
    ASGIDispatch(app)
    WSGIDispatch(app)


@pytest.mark.parametrize("app", [wsgi_function, WsgiObject()])
def test_a_wsgi_app_is_told_apart(app: typing.Any) -> None:
    with pytest.raises(TypeError, match="looks like a WSGI app; an ASGI app is called with"):
        ASGIDispatch(app)


@pytest.mark.parametrize("app", [Asgi2, lambda scope: None])
@pytest.mark.parametrize("take", [ASGIDispatch, lambda app: http3.AsyncClient(app=app)])
def test_an_asgi_2_app_is_told_apart(app: typing.Any, take: typing.Any) -> None:
    with pytest.raises(TypeError, match="looks like an ASGI 2 app, which"):
        take(app)


@pytest.mark.parametrize(
    ("app", "message"),
    [
        (None, "a callable, not NoneType"),
        ("module:app", "a callable, not str"),
        (two_parameters, r"called with \(scope, receive, send\), which"),
        (lambda: None, r"called with \(scope, receive, send\), which"),
        (lambda a, b, c, d: None, r"called with \(scope, receive, send\), which"),
        (asynchronous_generator, "awaited, and not iterated over"),
    ],
)
def test_what_is_no_app_is_named(app: typing.Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        ASGIDispatch(app)
    if app is not None:
        with pytest.raises(TypeError, match="app"):
            http3.AsyncClient(app=app)


@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        ({"root_path": b"/x"}, TypeError, "root_path"),
        ({"root_path": None}, TypeError, "root_path"),
        ({"root_path": "x"}, ValueError, "root_path"),
        ({"client": "127.0.0.1"}, TypeError, "client"),
        ({"client": ("127.0.0.1", "80")}, TypeError, "client"),
        ({"script_name": "/"}, TypeError, "script_name"),
    ],
)
def test_a_wrong_argument_is_named(
    options: dict[str, typing.Any], error: type[Exception], named: str
) -> None:
    with pytest.raises(error, match=named):
        ASGIDispatch(asgi_function, **options)
