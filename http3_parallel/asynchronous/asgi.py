"""
Requests answered by an ASGI 3 app in this process, on the event loop of who makes them.

The guarantees:

1. *The app has a task of its own*, in a copy of the caller's context. It may cancel a `receive()`,
   and no message is lost.
2. *However the app ends, the request does.* It may raise, return early, or be cancelled with its
   event loop.
3. *Both bodies are lazy.* The app is at most one piece ahead of who reads its response. That of the
   request is read by another task, a piece at a time, when the app asks for one: whatever happens
   to the app does not happen to code of the request's owner.
4. *When the client leaves, the app is told*, as by a server: by `http.disconnect`, or an `OSError`.
   It is cancelled if that does not end it. Once it has sent its last message it is left alone.
5. *Who failed is told apart.* What the source of the request's body raises is its owner's; to the
   app, it is a client that leaves. The rest is the app's.
"""

from __future__ import annotations

import contextvars
import functools
import inspect
import logging
import re
import typing
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from urllib.parse import unquote

import anyio
import anyio.lowlevel

from ..aborting import Abort
from ..dispatch import Context
from ..dispatch.apps import Answer, kind_of, left_after, parse_length
from ..exceptions import (
    IncompleteRead,
    ProtocolError,
    ReadError,
    RequestCancelled,
    UnsupportedScheme,
)
from ..models import Headers
from .bridge import close_iterator
from .dispatch import AsyncDispatcher
from .loops import Loop, RootTask
from .requests import AsyncRequest
from .responses import AsyncResponse

__all__ = ["ASGIDispatch", "ClientDisconnected", "is_asgi"]

# Of scope, receive and send, which every framework has types of its own for.
ASGIApp = Callable[[typing.Any, typing.Any, typing.Any], Awaitable[None]]
Message = dict[str, typing.Any]

_logger = logging.getLogger("http3_parallel")

#: Seconds that an app has, once its client has left, to see it and clean up. Servers do not cancel
#: at all; code that awaits while it cleans up would fail only here if it had none.
_GRACE = 0.05

#: Seconds for which an app may go on with a body that no client reads: that of a response to HEAD,
#: say. As long as the driver reads one that nobody wants.
_DRAIN = 0.5

#: Turns of the event loop for which an app that has sent its last message is watched. An exception
#: takes three to pass through a middleware of Starlette's that has a task of its own, and a turn
#: takes 2 to 6 us, measured.
_LAST_TURNS = 100

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# A tab may be within a value (RFC 9110, section 5.5).
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")

#: For one connection, of which there is none (RFC 9110, section 7.6.1). Apps do send them, to
#: servers that obey or drop them.
_HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade"}
)


class ClientDisconnected(OSError):
    """What an app's `send` raises when nobody takes its response any more."""


class ASGIDispatch(AsyncDispatcher):
    """
    Has requests answered by an ASGI app, without a network.

    * `app`: a callable of ``(scope, receive, send)`` as ASGI 3 has it. It runs on the event loop
      of who makes the request.
    * `raise_app_exceptions`: what the app raises is what the request fails with, unchanged. False:
      all is as behind a server. An exception of the app is logged and answered with 500; where the
      response has begun, it ends in a `ReadError` instead.
    * `root_path`: where the app is mounted: the first part of its URLs' path. It stays in the
      scope's `path`, as ASGI has it.
    * `client`: host and port that the app sees as the client's; None if it is to see none.

    What ASGI does not allow is a `ProtocolError` that names it, raised by the app's `send` (False:
    as an exception of the app). So is an app that returns without a response; one that returns in
    the middle of a body is an `IncompleteRead`. A body shorter than its Content-Length is one too,
    a longer one is cut. A response to HEAD, and one with the status 204 or 304, has no body,
    whatever the app sends: the app has half a second to send it, and is then ended.

    A response is there with its `http.response.start`. `send` returns when the piece has been
    taken, but for one that may wait. When the request is ended, the source of its body fails, or
    the response is closed before its end, `receive` gives `http.disconnect`, `send` raises
    `ClientDisconnected`, and 50 ms later the app's task is cancelled. Nobody waits for that.

    An app that has sent its last message may go on: frameworks run background tasks then. A
    response that is not streamed is there when they are done, which is what tests want, and their
    failure is the request's. One that is streamed ends with the last message. Where the app fails
    at once, its reader still gets that, since frameworks send an error page and then raise. What
    the app raises later is logged.

    There is no lifespan: an app that needs its startup has to be given it. Timeouts do not apply.

    Raises `TypeError` for what is no ASGI 3 app, and `ValueError` for a `root_path` without its
    slash.
    """

    def __init__(
        self,
        app: ASGIApp,
        raise_app_exceptions: bool = True,
        root_path: str = "",
        client: tuple[str, int] | None = ("127.0.0.1", 123),
    ) -> None:
        _check_app(app)
        if not isinstance(root_path, str):
            raise TypeError(f"root_path is a str, not {type(root_path).__name__}")
        if root_path and not root_path.startswith("/"):
            raise ValueError(f"root_path is empty or begins with a slash: {root_path!r}")
        self._app = app
        self._raises = bool(raise_app_exceptions)
        self._root_path = unquote(root_path).rstrip("/")
        self._client = _check_client(client)

    async def send(self, request: AsyncRequest, context: Context) -> AsyncResponse:
        """Return the app's response as soon as it has begun."""
        if request.url.scheme not in ("http", "https"):
            raise UnsupportedScheme(
                f"{request.url.scheme!r} URLs cannot be requested, only http and https"
            )
        abort = context.abort
        abort.phase = "waiting for the app"
        loop = Loop.current()
        call = _Call(request, abort, loop, raises=self._raises, waits=not context.stream)
        scope = _build_scope(request, self._root_path, self._client)
        loop.spawn(functools.partial(call.run, self._app, scope), contextvars.copy_context())
        body = _Body(call)
        content: bytes | _Body = body
        try:
            await call.begin()
            abort.phase = "reading the body"
            if call.is_complete:  # as most are: to bring it piece by piece takes twice the time
                content = b"".join([piece async for piece in body])
        except BaseException:
            call.leave()
            raise
        return AsyncResponse(
            call.status,
            protocol="HTTP/1.1",
            headers=Headers._from_raw(call.fields),
            content=content,
            request=request,
        )


class _News:
    """Wakes all who wait for it, again and again."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event: anyio.Event | None = None

    async def wait(self) -> None:
        if self._event is None:
            self._event = anyio.Event()
        await self._event.wait()

    def tell(self) -> None:
        event, self._event = self._event, None
        if event is not None:
            event.set()


class _Call(Answer):
    """
    One call of the app, between two tasks: the app calls `receive` and `send`, and who reads its
    response `begin`, `next_piece` and `leave`.

    `raises`: whether the app's exceptions come out. `waits`: whether the body ends only when the
    app has.
    """

    __slots__ = (
        "_abort",
        "_acknowledged",
        "_broken",
        "_has_ended",
        "_is_told",
        "_of_source",
        "_raised",
        "_raises",
        "_request",
        "_scope",
        "_sent",
        "_to_reader",
        "_to_receiver",
        "_to_sender",
        "_upload",
        "_waits",
        "is_complete",
        "is_left",
        "loop",
    )

    def __init__(
        self, request: AsyncRequest, abort: Abort, loop: Loop, *, raises: bool, waits: bool
    ) -> None:
        super().__init__(request.method)
        self._waits = waits
        self._request = request
        self._abort = abort
        self.loop = loop
        self._raises = raises
        # Each is told of what it waits for, and nothing else: anyio does not cancel who is woken in
        # every turn of asyncio's loop.
        self._to_reader = _News()
        self._to_receiver = _News()
        self._to_sender = _News()
        self._upload = _Upload(request, loop, self._to_receiver)
        self._scope: anyio.CancelScope | None = None
        # How many pieces have come, and how many the app need not wait for.
        self._sent = self._acknowledged = 0
        #: Whether the app has sent its last message.
        self.is_complete: bool = False
        self._has_ended = False
        #: Whether nobody reads any more.
        self.is_left: bool = False
        #: Whether the app knows.
        self._is_told = False
        # What the request fails with: what the source of its body has raised, what the app has,
        # or the way in which that has ended. Each refers to frames that hold this, until taken.
        self._of_source: BaseException | None = None
        self._raised: BaseException | None = None
        self._broken: Exception | None = None

    # The task of the app.

    async def run(self, app: ASGIApp, scope: dict[str, typing.Any]) -> None:
        failure: BaseException | None = None
        try:
            with anyio.CancelScope() as self._scope:
                if not self.is_left:
                    result: typing.Any = app(scope, self.receive, self.send)
                    if not inspect.isawaitable(result):
                        raise ProtocolError(f"the app returned {kind_of(result)}, not an awaitable")
                    await result
        except StopAsyncIteration as error:  # which would look like the end of the body
            failure = RuntimeError("the app raised StopAsyncIteration")
            failure.__cause__ = error
        except anyio.get_cancelled_exc_class():  # by its own doing, or with its loop
            if not self.is_complete:
                self._broken = RequestCancelled("the app was cancelled")
            raise
        except BaseException as error:
            failure = error
        finally:
            self._scope = None
            self._end(failure)
            del failure  # its traceback knows this frame

    def _end(self, failure: BaseException | None) -> None:
        self._has_ended = True
        self._upload.stop()
        if failure is None and not (self.status or self._broken or self._is_gone):
            failure = ProtocolError("the app returned without having sent http.response.start")
        if failure is None:
            if self._lacks_body and self._broken is None:
                self._broken = IncompleteRead("the app returned in the middle of its body")
        elif self._is_gone:
            self._log_late(failure)
        elif self._raises or not isinstance(failure, Exception):
            self._raised = failure
        elif self.is_complete:
            self._log_late(failure)
        else:
            self._log("the app failed", failure)
            if self.status:
                self._broken = ReadError("the app failed in the middle of its response")
                # Without its traceback, which is logged: that refers to frames which hold this.
                self._broken.__cause__ = failure.with_traceback(None)
            else:
                self.fail()
                self.is_complete = True
        self._to_reader.tell()

    @property
    def _lacks_body(self) -> bool:
        """Whether a client that has all there is waits for more of it."""
        return not self.is_complete and self.has_body and self.missing != 0

    @property
    def _is_gone(self) -> bool:
        """Whether the client has left, as the app sees it."""
        return self.is_left or self._of_source is not None

    async def receive(self) -> Message:
        upload = self._upload
        if not upload.is_through:
            # Before anything is taken: frameworks look for a message by calling this in a scope
            # that is cancelled already.
            await anyio.lowlevel.checkpoint()
        while not (self.is_complete or self._is_gone):
            if not upload.is_through:
                message = upload.take(self._upload_failed)
                if message is not None:
                    return message
            await self._to_receiver.wait()
        if self._scope is not None and self._scope.cancel_called:
            await anyio.lowlevel.checkpoint()
        else:  # the others run, also if it only looks
            await anyio.lowlevel.cancel_shielded_checkpoint()
        self._is_told = True
        return {"type": "http.disconnect"}

    def _upload_failed(self, error: BaseException) -> None:
        """
        To the app, a client that cannot go on is one that has left. The error itself is not for it:
        what is raised here and there refers to the frames of both.
        """
        if not (self.is_complete or self.is_left):
            self._of_source = error
            self._to_reader.tell()
            self._wake_app()

    def _wake_app(self) -> None:
        """The client is gone."""
        self._to_receiver.tell()
        self._to_sender.tell()

    async def send(self, message: Mapping[str, typing.Any]) -> None:
        kind = _check_message(message)
        if self.is_complete:
            raise ProtocolError(f"the app sent {kind} after its last http.response.body")
        self._check_client()
        if kind == "http.response.start":
            if self.status:
                raise ProtocolError("the app sent http.response.start again")
            status = _check_status(message.get("status"))
            self.start(status, *_check_fields(message.get("headers", ())))
            self._to_reader.tell()
        elif kind == "http.response.body":
            if not self.status:
                raise ProtocolError("the app sent http.response.body before http.response.start")
            body = _check_body(message.get("body", b""))
            await self._add(body, is_last=not message.get("more_body", False))
        else:
            raise ProtocolError(f"the app sent {kind}, which is not for HTTP, or an extension")

    async def _add(self, data: bytes, is_last: bool) -> None:
        is_for_client = self.add(data)
        if is_for_client:
            self._sent += 1
            self._to_reader.tell()
        if is_last:  # nothing more comes that could wait
            self.is_complete = True
            self._upload.stop()
            self._to_reader.tell()
            self._to_receiver.tell()
        elif is_for_client:
            number = self._sent
            while self._acknowledged < number:
                await self._to_sender.wait()
                self._check_client()
        else:
            await anyio.lowlevel.checkpoint()

    def _check_client(self) -> None:
        if self._is_gone:
            self._is_told = True
            raise ClientDisconnected("the client does not wait for the response any more")

    # The task that reads the response.

    async def begin(self) -> None:
        """Wait for the head."""
        while not (self.status or self._has_ended or self._of_source is not None):
            await self._to_reader.wait()
        if self._of_source is not None or not self.status:
            self._raise_failure()

    async def next_piece(self) -> bytes | None:
        """None at the end. Raises what the request is to fail with."""
        try:
            # What was taken before is where it was to go: now the app may make more.
            self._acknowledged = self._sent - len(self.pieces)
            self._to_sender.tell()
            while self._of_source is None:
                if self.pieces:
                    return self.pieces.popleft()
                if self.is_left or self.is_complete or self._has_ended:
                    break
                if not self._lacks_body:
                    with anyio.move_on_after(_DRAIN):
                        while not (
                            self.is_complete or self._has_ended or self._of_source is not None
                        ):
                            await self._to_reader.wait()
                    break
                await self._to_reader.wait()
            if self.is_complete:
                await self._see_it_end()
            self._raise_failure()
        except BaseException:
            self.leave()
            raise
        self.leave()
        return None

    async def _see_it_end(self) -> None:
        while self._waits and not self._has_ended:
            self._abort.phase = "waiting for the app to end"
            await self._to_reader.wait()
        if not self._raises:
            return
        for _ in range(_LAST_TURNS):
            if self._has_ended:
                break
            await anyio.lowlevel.checkpoint()

    def _raise_failure(self) -> None:
        """Raise it, if there is one."""
        error: BaseException | None = self._of_source
        if error is None:
            error = self._raised
        if error is not None:
            self._abort.blame_user(error)
        else:
            error = self._broken
        self._of_source = self._raised = self._broken = None
        if error is None and self.missing and self.has_body and not self.is_left:
            error = self.cut_short()
        if error is not None:
            try:
                raise error
            finally:
                del error  # what is raised refers to this frame

    def leave(self, *, at_once: bool = False) -> None:
        """
        Nobody reads any more. Called on the loop, but outside of a task only with `at_once`: the
        app is cancelled now.
        """
        if self.is_left:
            return
        self.is_left = True
        self.pieces.clear()
        self._upload.stop()
        raised = self._raised
        self._of_source = self._raised = self._broken = None
        if raised is not None:
            self._log_late(raised)
        if self._scope is not None and not self.is_complete:
            if at_once:
                self._scope.cancel()
            else:
                self._scope.deadline = anyio.current_time() + _GRACE
        self._wake_app()

    def _log_late(self, error: BaseException) -> None:
        if self.is_complete:
            self._log("the app failed after its response was complete", error)
        else:
            # Frameworks raise, of all kinds, when they are told.
            level = logging.DEBUG if self._is_told else logging.ERROR
            self._log("the app failed after its response was given up", error, level)

    def _log(self, message: str, error: BaseException, level: int = logging.ERROR) -> None:
        method, url = self._request.method, self._request.url.redacted
        _logger.log(level, "%s %s: %s", method, url, message, exc_info=error)


class _Body:
    """The body of the response. Whoever drops it has left."""

    __slots__ = ("_call",)

    def __init__(self, call: _Call) -> None:
        self._call = call

    def __aiter__(self) -> _Body:
        return self

    async def __anext__(self) -> bytes:
        piece = await self._call.next_piece()
        if piece is None:
            raise StopAsyncIteration
        return piece

    async def aclose(self) -> None:
        self._call.leave()

    def __del__(self) -> None:
        call = self._call
        if not call.is_left:
            call.loop.call_soon(functools.partial(call.leave, at_once=True))


class _Upload:
    """
    The request's body, in messages. What is streamed is read by a task of its own, which `news`
    tells of.
    """

    __slots__ = (
        "_is_stopped",
        "_is_wanted",
        "_loop",
        "_message",
        "_missing",
        "_news",
        "_request",
        "_task",
        "_to_task",
        "is_through",
    )

    def __init__(self, request: AsyncRequest, loop: Loop, news: _News) -> None:
        self._request = request
        self._loop = loop
        self._news = news
        self._to_task = _News()
        self._task: RootTask | None = None
        self._is_wanted = self._is_stopped = False
        #: Whether the last message was taken.
        self.is_through: bool = False
        # Bytes still to come; None if that is not known.
        self._missing = parse_length(request.headers.get("content-length", ""))
        self._message: Message | None = None
        if not request.is_streaming and self._missing in (None, len(request.content)):
            self._message = _request_message(request.content, is_last=True)

    def take(self, fail: Callable[[BaseException], None]) -> Message | None:
        """
        The next message, if it is there. Else it will be, or `fail` is called with what the source
        of the body raises.
        """
        message, self._message = self._message, None
        if message is not None:
            self.is_through = not message["more_body"]
        elif not (self._is_wanted or self._is_stopped):
            self._is_wanted = True
            if self._task is None:
                self._task = self._loop.spawn(
                    functools.partial(self._read, fail), contextvars.copy_context()
                )
            self._to_task.tell()
        return message

    def stop(self) -> None:
        """Nobody asks any more."""
        self._is_stopped = True
        if self._task is not None:
            self._task.cancel()

    async def _read(self, fail: Callable[[BaseException], None]) -> None:
        pieces: typing.Any = self._request.stream()
        try:
            is_last = False
            while not is_last:
                piece = b"" if self._missing == 0 else await _next(pieces)
                is_last = self._is_last(piece)
                self._message = _request_message(bytes(piece), is_last)
                self._is_wanted = False
                self._news.tell()
                while not (self._is_wanted or is_last):
                    await self._to_task.wait()
        except anyio.get_cancelled_exc_class():
            fail(RequestCancelled("what makes the request's body was cancelled"))
            raise
        except BaseException as error:
            fail(error)
        finally:
            await close_iterator(pieces)

    def _is_last(self, piece: bytes | memoryview) -> bool:
        if self._missing is None:
            return not piece
        self._missing = left_after(piece, self._missing)
        return not self._missing


async def _next(pieces: AsyncIterator[bytes | memoryview]) -> bytes | memoryview:
    """The next one, none of which is empty; an empty one at the end."""
    try:
        return await pieces.__anext__()
    except StopAsyncIteration:
        return b""


def _request_message(body: bytes, is_last: bool) -> Message:
    return {"type": "http.request", "body": body, "more_body": not is_last}


# The scope.


def _build_scope(
    request: AsyncRequest, root_path: str, client: tuple[str, int] | None
) -> dict[str, typing.Any]:
    url = request.url
    return {
        "type": "http",
        # Since 2.4, `send` raises an OSError when the client has left.
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": url.scheme,
        "path": unquote(url.path),
        "raw_path": url.path.encode("ascii"),
        "query_string": url.query.encode("ascii"),
        "root_path": root_path,
        # All that a server would get, Transfer-Encoding included: that is how apps tell a body of
        # unknown length from none. What is meant for a proxy stays with the proxy (RFC 9110,
        # section 11.7.2).
        "headers": [pair for pair in request.headers.raw if pair[0] != b"proxy-authorization"],
        "client": client,
        "server": (url.host.strip("[]"), url.port),
    }


def _check_client(client: object) -> tuple[str, int] | None:
    if client is None:
        return None
    if isinstance(client, (tuple, list)) and len(client) == 2:
        host, port = client
        if isinstance(host, str) and isinstance(port, int):
            return host, port
    raise TypeError(f"client is a host and a port, a str and an int, or None, not {client!r}")


# The messages.


def _check_message(message: object) -> str:
    """Its type."""
    if not isinstance(message, Mapping):
        raise ProtocolError(f"the app sent {kind_of(message)}, not a message, which is a dict")
    kind = message.get("type")
    if not isinstance(kind, str):
        raise ProtocolError(f"the app sent a message with {kind_of(kind)} as type, not str")
    return kind


def _check_status(status: object) -> int:
    if not isinstance(status, int):
        raise ProtocolError(
            f"the app sent http.response.start with {kind_of(status)} as status, not int"
        )
    if not 200 <= status <= 999:  # below, none is final (RFC 9110, section 15.2)
        raise ProtocolError(
            f"the app sent http.response.start with the status {int(status)}: from 200 to 999 "
            "there are"
        )
    return int(status)


def _check_fields(headers: object) -> tuple[list[tuple[bytes, bytes]], int | None]:
    """The fields that are for the client, and the Content-Length if there is one."""
    if isinstance(headers, (str, bytes, Mapping)) or not isinstance(headers, Iterable):
        raise ProtocolError(
            f"the app sent http.response.start with {kind_of(headers)} as headers, not an "
            "iterable of pairs"
        )
    fields = []
    lengths = set()
    for item in headers:
        name, value = _check_field(item)
        if name == b"content-length":
            length = parse_length(value.decode("latin-1"))
            if length is None:
                raise ProtocolError(
                    "the app sent http.response.start with a Content-Length that is none"
                )
            lengths.add(length)
        if name not in _HOP_BY_HOP:
            fields.append((name, value))
    if len(lengths) > 1:
        raise ProtocolError(
            "the app sent http.response.start with several Content-Lengths that differ"
        )
    return fields, lengths.pop() if lengths else None


def _check_field(item: object) -> tuple[bytes, bytes]:
    """Its name, in lower case, and its value. Values are not told: they may be secret."""
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        raise ProtocolError(
            f"the app sent http.response.start with {kind_of(item)} among the headers, not a pair "
            "of name and value"
        )
    name, value = item
    if not (isinstance(name, bytes) and isinstance(value, bytes)):
        raise ProtocolError(
            f"the app sent http.response.start with a header of {kind_of(name)} and "
            f"{kind_of(value)}, not of bytes and bytes"
        )
    if not _NAME.fullmatch(name):
        raise ProtocolError(
            f"the app sent http.response.start with {name!r}, which is no header's name"
        )
    if _CONTROL.search(value):
        raise ProtocolError(
            f"the app sent http.response.start with a header {name.decode('ascii')} that has "
            "control characters"
        )
    return name.lower(), value.strip(b" \t")


def _check_body(body: object) -> bytes:
    # Frameworks pass on what users gave them, which may be a view of a buffer that is used again.
    if not isinstance(body, (bytes, bytearray, memoryview)):
        raise ProtocolError(f"the app sent http.response.body with {kind_of(body)}, not bytes")
    return bytes(body)


# Apps.


def is_asgi(app: object) -> bool:
    """
    Whether it is to be taken for an ASGI app, and not for a WSGI app: if it is asynchronous, or
    takes `scope`, `receive` and `send` and not just two arguments. A plain function of ``*args``
    could be either, and is taken for WSGI, but for one that `functools.wraps` an ASGI app.

    ASGI 2 apps are, too: `ASGIDispatch` tells what is wrong with them.
    """
    if not callable(app):
        return False
    if _is_asynchronous(app):
        return True
    fits = _fits(app)
    return fits is not None and not fits(2) and (fits(3) or fits(1))


def _check_app(app: object) -> None:
    if not callable(app):
        raise TypeError(f"an ASGI app is a callable, not {type(app).__name__}")
    fits = _fits(app)
    if any(inspect.isasyncgenfunction(function) for function in _functions_of(app)):
        raise TypeError(f"an ASGI app is awaited, and not iterated over as {app!r} is")
    if fits is None or fits(3):
        return
    if fits(1) and not fits(2):
        raise TypeError(
            "this looks like an ASGI 2 app, which is called with its scope alone; wrap it in "
            "asgiref.compatibility.guarantee_single_callable()"
        )
    if fits(2) and not _is_asynchronous(app):
        raise TypeError(
            "this looks like a WSGI app; an ASGI app is called with (scope, receive, send)"
        )
    raise TypeError(f"an ASGI app is called with (scope, receive, send), which {app!r} is not")


def _is_asynchronous(app: Callable[..., typing.Any]) -> bool:
    return any(
        inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
        for function in _functions_of(app)
    )


def _functions_of(app: Callable[..., typing.Any]) -> list[typing.Any]:
    """What is called when the app is, under its wrappers too."""
    functions: list[typing.Any] = []
    for outer in (app, None if isinstance(app, type) else type(app).__call__):
        function: typing.Any = outer
        while function is not None and function not in functions:
            functions.append(function)
            if isinstance(function, functools.partial):
                function = function.func
            else:
                function = getattr(function, "__wrapped__", None)
    return functions


def _fits(app: Callable[..., typing.Any]) -> Callable[[int], bool] | None:
    """Whether it takes so many arguments. None if that cannot be known, as of some builtins."""
    try:
        signature = inspect.signature(app)
    except (TypeError, ValueError):
        return None

    def fits(count: int) -> bool:
        try:
            signature.bind(*range(count))
        except TypeError:
            return False
        return True

    return fits
