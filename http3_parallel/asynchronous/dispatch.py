"""Where the requests of an `AsyncClient` go, if that is code on its caller's event loop."""

from __future__ import annotations

import contextlib
import functools
import typing

from ..dispatch import Context, Dispatcher
from ..models import Request, Response
from .bridge import END, Conversation, caller
from .requests import AsyncRequest
from .responses import AsyncResponse

__all__ = ["AsyncDispatcher", "LoopDispatch"]


class AsyncDispatcher:
    """
    Answers requests on the event loop of who made them; subclass it.

    Each request has a task of its own, in a copy of the context of the code that made it. The task
    is cancelled when the request is: by its deadline, by `cancel()`, or by leaving its block.
    Timeouts do not apply.
    """

    async def send(self, request: AsyncRequest, context: Context) -> AsyncResponse:
        """
        Make one exchange. Return a response as soon as its head is there; its `content` may be an
        asynchronous iterator over the body's bytes as they come (still under Content-Encoding),
        which is read in the same task, at the pace of whoever reads the response.

        Raise an `HTTPError` when the exchange fails; what else is raised comes out of the request
        unchanged.
        """
        raise NotImplementedError

    async def close(self) -> None:
        """Let go of everything idle. A client does not call it: others may share this."""


class LoopDispatch(Dispatcher):
    """Has a worker wait for an `AsyncDispatcher`, and for the bodies it returns."""

    abortable = True

    def __init__(self, dispatcher: AsyncDispatcher) -> None:
        self._dispatcher = dispatcher

    def send(self, request: Request, context: Context) -> Response:
        abort = context.abort
        abort.phase = "waiting for the dispatcher"
        speak = functools.partial(_answer, self._dispatcher, request, context)
        conversation = Conversation(caller.get(), speak)
        conversation.begin()
        answer = conversation.take(abort)
        assert isinstance(answer, AsyncResponse)
        abort.phase = "reading the body"
        is_streamed = answer._raw is None and answer._content is None
        response = Response(
            answer.status_code,
            protocol=answer.protocol,
            headers=answer.headers,
            content=_Body(conversation, abort) if is_streamed else b"",
            request=request,
        )
        if not is_streamed:
            response._raw, response._content = answer._raw, answer._content
        return response


async def _answer(
    dispatcher: AsyncDispatcher, request: Request, context: Context, conversation: Conversation
) -> None:
    response: typing.Any = await dispatcher.send(AsyncRequest._of(request), context)
    if not isinstance(response, AsyncResponse):
        name = type(dispatcher).__name__
        raise TypeError(f"{name}.send() returns an AsyncResponse, not {type(response).__name__}")
    try:
        await conversation.tell(response)
        if response._stream is not None:
            async with contextlib.aclosing(typing.cast(typing.Any, response.raw())) as pieces:
                async for piece in pieces:
                    await conversation.tell(piece)
    finally:
        await response.close()


class _Body:
    """The body of such a response, for the thread that reads it."""

    __slots__ = ("_abort", "_conversation")

    def __init__(self, conversation: Conversation, abort: typing.Any) -> None:
        self._conversation = conversation
        self._abort = abort

    def __iter__(self) -> _Body:
        return self

    def __next__(self) -> bytes:
        self._abort.check()
        piece = self._conversation.take(self._abort)
        if piece is END:
            raise StopIteration
        return typing.cast(bytes, piece)

    def wake(self) -> None:
        """Another thread closes the response."""
        self._conversation.close()

    def close(self) -> None:
        self._conversation.close()

    def __del__(self) -> None:
        self._conversation.close()
