"""
What comes back, for code that awaits its body.

A response that a client delivers is a `Response` of the synchronous side in another form: threads
read that, and this is told. Nothing that may wait, or takes long, is done in the event loop.
One that was made by hand, for an `AsyncDispatcher` to return, has an asynchronous body of its own.
"""

from __future__ import annotations

import itertools
import os
import pathlib
import types
import typing
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
)

import anyio
import anyio.to_thread

from ..exceptions import HTTPError, ResponseClosed, StreamConsumed
from ..models import HeaderTypes, Request, Response
from ..models.responses import BaseResponse
from .bridge import CLEANUP_SECONDS
from .errands import Threads, call_apart
from .loops import finish
from .requests import AsyncRequest

__all__ = ["AsyncResponse", "AsyncResponseContent"]

AsyncResponseContent = typing.Union[bytes, AsyncIterable[bytes], Iterable[bytes]]

_Item = typing.TypeVar("_Item")

#: Of what a thread has ready, so many items come with one hop: lines are short.
_ITEMS_AT_ONCE = 256


class AsyncResponse(BaseResponse):
    """
    A `Response` whose body is awaited: `await response.read()`, `async for chunk in
    response.stream()`, `await response.close()`, `async with response`. All else is as there.

    Unless it was asked for with ``stream=True``, a response has its body when it is delivered, and
    `content`, `text` and `json()` are there at once.

    Made by hand, for an `AsyncDispatcher` to return, it takes what `Response` does; `content` is
    bytes, an asynchronous iterable of bytes, or a plain one, which must not block.

    A task that is cancelled while it reads gives the body up: what was on its way is lost.
    """

    __slots__ = ("_next", "_reading", "_source", "_threads")

    history: list[AsyncResponse]
    #: The response that threads read; None for one that was made by hand.
    _source: Response | None
    _threads: Threads | None
    _reading: int
    _next: Callable[[AsyncResponse], Awaitable[AsyncResponse]] | None

    def __init__(
        self,
        status_code: int,
        *,
        protocol: str | None = None,
        headers: HeaderTypes | None = None,
        content: AsyncResponseContent | None = None,
        on_close: Callable[[], object] | None = None,
        request: Request | AsyncRequest | None = None,
        history: list[AsyncResponse] | None = None,
    ) -> None:
        own = None
        if not (content is None or isinstance(content, (bytes, bytearray, memoryview))):
            own, content = _OwnStream(content), None
        if isinstance(request, AsyncRequest):
            request = request._replace()
        super().__init__(status_code, headers, content, request)
        if own is not None:
            self._raw = None
            self._stream = typing.cast(typing.Any, own)
        self._be_new(protocol)
        self.history = [] if history is None else history
        self._next = None
        self._source = self._threads = None
        self._reading = 0
        if on_close is not None:
            self._add_on_close(on_close)

    @classmethod
    def _of(
        cls,
        response: Response,
        threads: Threads,
        following: Callable[[AsyncResponse], Awaitable[AsyncResponse]] | None = None,
    ) -> AsyncResponse:
        """`response`, which threads read from here on. `following` is for `next()`."""
        new = cls.__new__(cls)
        new.status_code, new.headers = response.status_code, response.headers
        new.request, new.tag = response.request, response.tag
        new._be_new(response.protocol)
        new._elapsed, new.timings = response._elapsed, response.timings
        new._content, new._raw, new._stream = response._content, response._raw, response._stream
        new._is_bare = response._is_bare
        new._max_size, new._text = response._max_size, response._text
        new._encoding, new._default_encoding = response._encoding, response._default_encoding
        history = response.history
        new.history = [cls._of(earlier, threads) for earlier in history] if history else []
        new._follow = response._follow
        new._next = following
        new._source, new._threads = response, threads
        new._reading = 0
        return new

    # The body.

    async def read(self) -> bytes:
        """
        The whole body, kept as `content`.

        `StreamConsumed` if it was streamed before, `ResponseClosed` if it was given up,
        `ResponseTooLarge` as soon as the client's `max_response_size` is passed, and whatever
        breaks the connection or its Content-Encoding.
        """
        stream = self._unread()
        if stream is None:
            return self.content
        if isinstance(stream, _OwnStream):
            pieces = [piece async for piece in self._own_pieces(stream)]
            self._raw = b"".join(pieces)
        else:
            assert self._source is not None
            self._content = await self._in_thread(self._source.read)
        self._stream = None
        return self.content

    def stream(self) -> AsyncIterator[bytes]:
        """
        The body, decoded, in pieces of at most 1 MiB, as they come. Not kept: the second time
        it is `StreamConsumed`, unless `content` is there. Raises as `read` does, when the first
        piece is asked for or later.
        """
        stream = self._stream
        if isinstance(stream, _OwnStream) and not self.headers.getlist("content-encoding"):
            return self._own_pieces(stream)
        return self._iterate(lambda response: response.stream())

    def raw(self) -> AsyncIterator[bytes]:
        """
        The same, under its Content-Encoding as it came, and with those bytes counted for
        `max_response_size`. `StreamConsumed` after `read`.
        """
        stream = self._stream
        if isinstance(stream, _OwnStream):
            return self._own_pieces(stream)
        return self._iterate(lambda response: response.raw())

    def iter_bytes(self, chunk_size: int | None = None) -> AsyncIterator[bytes]:
        """
        The body as `stream` has it, in chunks of exactly `chunk_size` bytes but for the last;
        None is as they come.
        """
        return self._iterate(lambda response: response.iter_bytes(chunk_size))

    def iter_text(self, chunk_size: int | None = None) -> AsyncIterator[str]:
        """
        The text in pieces as they come, or of exactly `chunk_size` characters but for the last;
        see `Response.iter_text`. Raises as `stream` does.
        """
        return self._iterate(lambda response: response.iter_text(chunk_size))

    def iter_lines(self) -> AsyncIterator[str]:
        """
        The lines of the text without their ends; see `Response.iter_lines`. Raises as `stream`
        does.
        """
        return self._iterate(lambda response: response.iter_lines())

    async def save(self, path: str | os.PathLike[str]) -> pathlib.Path:
        """
        Write the body, decoded, to a file at `path`, piece by piece as it comes; see
        `Response.save`. Returns the path. A thread does it; if the task is cancelled, the body
        is given up, and the file stays as it was.
        """
        response = await self._readable()
        if self._threads is None:
            return await anyio.to_thread.run_sync(response.save, path)
        return await self._in_thread(lambda: response.save(path))

    async def close(self) -> None:
        """Give up what was not read of the body. May be repeated, and come from any task."""
        stream = self._stream
        if stream is None or stream.closed:
            return
        await finish(self._close)

    async def _close(self) -> None:
        stream = self._stream
        if isinstance(stream, _OwnStream):
            await stream.close()
        elif stream is not None:
            assert self._source is not None
            clock = None if self._threads is None else self._threads.clock
            await call_apart(self._source.close, clock=clock)

    aclose = close

    async def next(self) -> AsyncResponse:
        """
        The response that this redirect leads to, one step on. RuntimeError if it is none, or
        was not made by a client.
        """
        return await self._leading_on(self._next)(self)

    async def __aenter__(self) -> AsyncResponse:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        await self.close()

    # How it is read.

    async def _in_thread(self, function: Callable[[], _Item]) -> _Item:
        assert self._threads is not None
        assert self._source is not None
        self._reading += 1
        try:
            return await self._threads.call(function, self._source.close)
        finally:
            self._reading -= 1

    async def _readable(self) -> Response:
        """A `Response` whose body is as this one's."""
        response = self._source
        if response is None:
            await self.read()
            response = Response(
                self.status_code, headers=self.headers, content=self._raw, request=self.request
            )
            response._content, response._default_encoding = self._content, self._default_encoding
            response.tag, response._max_size = self.tag, self._max_size
        response._encoding = self._encoding
        return response

    def _iterate(self, begin: Callable[[Response], Iterator[_Item]]) -> AsyncIterator[_Item]:
        if self._source is None:
            return _Pass(self, begin)
        # Not only at the first step: wrong arguments and a body that is gone are told at once.
        self._source._encoding = self._encoding
        iterator = begin(self._source)
        return _Pass(self, lambda response: iterator)

    async def _own_pieces(self, stream: _OwnStream) -> AsyncIterator[bytes]:
        pieces = stream.pieces()
        try:
            async for piece in pieces:
                yield piece
        except HTTPError as error:
            self._about(error)
            raise
        finally:
            await pieces.aclose()

    def __setstate__(self, state: dict[str, typing.Any]) -> None:
        super().__setstate__(state)
        self._next = self._source = self._threads = None
        self._reading = 0


class _Pass(AsyncIterator[_Item]):
    """One pass over the body, which threads read."""

    __slots__ = ("_begin", "_iterator", "_ready", "_response")

    def __init__(
        self, response: AsyncResponse, begin: Callable[[Response], Iterator[_Item]]
    ) -> None:
        self._response = response
        self._begin = begin
        self._iterator: Iterator[_Item] | None = None
        self._ready: Iterator[_Item] = iter(())

    async def __anext__(self) -> _Item:
        for item in self._ready:
            return item
        response = self._response
        iterator = self._iterator
        if iterator is None:
            iterator = self._iterator = self._begin(await response._readable())
        if response._stream is None or response._source is None:
            items = _next_items(iterator)  # all of it is in memory
        else:
            items = await response._in_thread(lambda: _next_items(iterator))
        if not items:
            raise StopAsyncIteration
        self._ready = iter(items)
        return next(self._ready)

    async def aclose(self) -> None:
        """As the generator that this could be has it: give up what is left."""
        if self._iterator is not None:
            await self._response.close()


def _next_items(iterator: Iterator[_Item]) -> list[_Item]:
    """The next one, and what else is there already. None at the end."""
    items = list(itertools.islice(iterator, 1))
    ready = getattr(iterator, "_ready", ())  # of a `StagedPass`
    if items and ready:
        items += itertools.islice(iterator, min(len(ready), _ITEMS_AT_ONCE - 1))
    return items


class _OwnStream:
    """The body of a response made by hand: read once, by one task, and closed once."""

    __slots__ = ("_callbacks", "_content", "begun", "closed")

    def __init__(self, content: typing.Any) -> None:
        if isinstance(content, str) or not isinstance(content, (AsyncIterable, Iterable)):
            raise TypeError(
                "the content of a response is bytes or an iterable of them, "
                f"not {type(content).__name__}"
            )
        self._content: AsyncIterable[bytes] | Iterable[bytes] | None = content
        self._callbacks: list[Callable[[], object]] = []
        self.begun: bool = False
        self.closed: bool = False

    def on_close(self, callback: Callable[[], object]) -> None:
        self._callbacks.append(callback)

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        if self.begun:
            raise StreamConsumed("the body was already iterated over, and was not kept")
        content = self._content
        if content is None:
            raise ResponseClosed("the response was closed before its body was read")
        self.begun = True
        try:
            if isinstance(content, AsyncIterable):
                async for piece in content:
                    if piece:
                        yield _checked(piece)
            else:
                for piece in content:
                    if piece:
                        yield _checked(piece)
        finally:
            with anyio.move_on_after(CLEANUP_SECONDS, shield=True):
                await self.close()

    async def close(self) -> None:
        content, self._content = self._content, None
        self.closed = True
        try:
            close = getattr(content, "aclose", None) or getattr(content, "close", None)
            if close is not None:
                awaitable = close()
                if isinstance(awaitable, Awaitable):
                    await awaitable
        finally:
            callbacks, self._callbacks = self._callbacks, []
            for callback in callbacks:
                result = callback()
                if isinstance(result, Awaitable):
                    await result


def _checked(piece: object) -> bytes:
    if not isinstance(piece, (bytes, bytearray, memoryview)):
        raise TypeError(f"the body of a response is bytes, not {type(piece).__name__}")
    return bytes(piece)
