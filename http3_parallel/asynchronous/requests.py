"""What is sent, for code that awaits it."""

from __future__ import annotations

import typing
from collections.abc import AsyncIterable, AsyncIterator, Iterator

import anyio.to_thread

from ..models import (
    CookieTypes,
    HeaderTypes,
    QueryParamTypes,
    RequestData,
    RequestFiles,
    URLTypes,
)
from ..models.bodies import AsyncPieces, AsyncSource
from ..models.requests import BaseRequest, Request

__all__ = ["AsyncRequest", "AsyncRequestData", "SentRequest"]

AsyncRequestData = typing.Union[RequestData, AsyncIterable[typing.Union[bytes, str]]]


class SentRequest(Request):
    """One of an `AsyncClient`, whose body may be asynchronous."""

    __slots__ = ()

    _may_have_async_body = True


class AsyncRequest(BaseRequest):
    __doc__ = f"""{BaseRequest.__doc__}
    `data` may also be an asynchronous iterable of bytes or str. It is iterated over on the event
    loop of who sends the request.

    It is what an `AsyncDispatcher` gets. `AsyncClient` and its blocks send those and `Request`s
    alike.
    """

    __slots__ = ()

    _may_have_async_body = True

    def __init__(
        self,
        method: str,
        url: URLTypes,
        *,
        params: QueryParamTypes | None = None,
        headers: HeaderTypes | None = None,
        cookies: CookieTypes | None = None,
        data: AsyncRequestData | None = None,
        json: typing.Any = None,
        files: RequestFiles | None = None,
    ) -> None:
        super().__init__(
            method,
            url,
            params=params,
            headers=headers,
            cookies=cookies,
            data=typing.cast(RequestData, data),
            json=json,
            files=files,
        )

    @classmethod
    def _of(cls, request: BaseRequest) -> AsyncRequest:
        """The same request, headers and body included, in this form."""
        new = cls.__new__(cls)
        new.method, new.url, new.headers = request.method, request.url, request.headers
        new._content, new._source = request._content, request._source
        new._cookies = request._cookies
        return new

    async def read(self) -> bytes:
        """The body; of one that is streamed, all of it is kept as `content`."""
        if self._content is None:
            self._content = b"".join([bytes(piece) async for piece in self.stream()])
            self._source = None
        return self._content

    def stream(self) -> AsyncIterator[bytes | memoryview]:
        """
        The body in pieces of at most 64 KiB, none of them empty. `StreamConsumed` is raised
        for an iterator's body the second time. What is no asynchronous iterable is read in a
        thread. It has an `aclose()`, for an asynchronous body that is left early.
        """
        source = self._source
        if isinstance(source, AsyncSource):
            return source.async_pieces()
        return AsyncPieces(_Elsewhere(self._replace().stream(), source is not None))

    def copy(self) -> AsyncRequest:
        """
        Another request like this one, with headers of its own. It shares the body: that of an
        iterator can still be sent only once.
        """
        return self._of(self._replace())


class _Elsewhere(AsyncIterator[typing.Any]):
    """What a plain iterator gives, which may wait for a file."""

    __slots__ = ("_may_wait", "_pieces")

    def __init__(self, pieces: Iterator[typing.Any], may_wait: bool) -> None:
        self._pieces = pieces
        self._may_wait = may_wait

    async def __anext__(self) -> typing.Any:
        if self._may_wait:
            piece = await anyio.to_thread.run_sync(next, self._pieces, None)
        else:
            piece = next(self._pieces, None)
        if piece is None:
            raise StopAsyncIteration
        return piece
