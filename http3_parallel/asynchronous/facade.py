"""What an asynchronous block looks like from outside."""

from __future__ import annotations

import contextvars
import functools
import os
import typing
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator

import anyio

from ..completions import Completions
from ..config import check_count, check_seconds
from ..exceptions import NoPendingResponses
from ..facade import timeline_of
from ..methods import RequestMethods, Self, SendOptions, Unpack
from ..models import URL, Request, Response, URLTypes
from ..pending import PendingResponse
from ..running import left
from ..settings import Settings
from ..stats import Stats
from ..timeline import Timeline
from .block import AsyncBlock
from .bridge import close_iterator
from .completions import AsyncCompletions
from .engine import AsyncEngine, Draft
from .loops import Loop, RootTask, finish, is_interrupt
from .methods import AsyncBodyOptions, AsyncRequestMethods
from .pending import AsyncPendingResponse
from .requests import AsyncRequest
from .responses import AsyncResponse

__all__ = ["AsyncMap", "AsyncParallel", "Submitter"]

#: How long leaving waits, in seconds, for workers that were aborted: as long as `Block` does.
_DRAIN_SECONDS = 5.0

#: And how long for tasks of dispatchers and request bodies, which were cancelled. They need a turn
#: or two of the loop; those that clean up longer go on without being waited for.
_TASK_SECONDS = 0.1

_Receive = typing.Callable[[Response], AsyncResponse]


class Submitter:
    """Submits requests to a block, for one event loop, and has their responses come here."""

    def __init__(
        self,
        block: AsyncBlock,
        engine: AsyncEngine,
        receive: _Receive,
        loop: Loop,
        window: int | None = None,
        depth: int = 0,
    ) -> None:
        self.completions: AsyncCompletions = AsyncCompletions(block, loop, receive, window, depth)
        self._block = block
        self._engine = engine

    @property
    def _destination(self) -> Completions:
        # To the block, all that matters is what they are told.
        return typing.cast(Completions, self.completions)

    def request(
        self,
        method: str,
        url: URLTypes,
        options: typing.Mapping[str, typing.Any],
        tag: object,
        deadline: float | None,
    ) -> AsyncPendingResponse:
        make = self._engine.draft(method, url, options)
        if make is not None:
            # Without the body, which is what takes reading.
            options = {
                name: value for name, value in options.items() if name not in ("data", "files")
            }
        handle = self._block.request(
            self._destination,
            method,
            url,
            options,
            tag=tag,
            deadline=deadline,
            wrap=None if make is None else functools.partial(_drafted, make),
        )
        return self.completions.submitted(handle)

    def send(
        self,
        request: Request | AsyncRequest,
        options: typing.Mapping[str, typing.Any],
        tag: object,
        deadline: float | None,
    ) -> AsyncPendingResponse:
        if isinstance(request, AsyncRequest):
            request = request._replace()
        elif not isinstance(request, Request):
            raise TypeError(
                f"send() takes a Request or an AsyncRequest, not {type(request).__name__}"
            )
        handle = self._block.send(self._destination, request, options, tag=tag, deadline=deadline)
        return self.completions.submitted(handle)

    def submit(self, request: Request, settings: Settings, tag: object) -> AsyncPendingResponse:
        self._block.check_usable()
        handle = self._block.submit(self._destination, request, settings, tag, None)
        return self.completions.submitted(handle)


def _drafted(
    make: typing.Callable[[], tuple[Request, typing.Any]], handle: PendingResponse
) -> Draft:
    def made(request: Request) -> None:
        handle._request = request

    return Draft(make, made)


class AsyncParallel(AsyncRequestMethods[AsyncPendingResponse]):
    """
    A block in which requests run at the same time, awaited. Made by `AsyncClient.parallel()`.

    Each method that makes a request submits it, and returns an `AsyncPendingResponse`, at once.
    That can be awaited, and gives itself: with a `window`, when there is room. Leaving the ``async
    with`` block ends what is still pending, also in flight, and closes the streams that are still
    open. It may be used without ``async with``: then `aclose()` it.

    It belongs to the event loop in which it is first used; that loop's tasks may share it.
    """

    __doc__ = f"{__doc__}\n{RequestMethods.__doc__}"

    def __init__(
        self,
        block: AsyncBlock,
        engine: AsyncEngine,
        receive: _Receive,
        window: int | None = None,
        depth: int = 0,
    ) -> None:
        if not isinstance(block, AsyncBlock):
            raise TypeError("an asynchronous block is opened by AsyncClient.parallel()")
        self._block = block
        self._engine = engine
        self._receive = receive
        self._window = check_count("window", window, 1)
        self._depth = depth
        self._submitter: Submitter | None = None

    def _open_here(self) -> Submitter:
        # First: in a forked child there is no loop either, as far as asyncio is concerned.
        self._block.check_usable()
        return self._here()

    def _here(self) -> Submitter:
        submitter = self._submitter
        if submitter is None:
            self._submitter = submitter = Submitter(
                self._block,
                self._engine,
                self._receive,
                Loop.current(),
                self._window,
                self._depth,
            )
        else:
            submitter.completions.check_loop()
        return submitter

    def request(
        self, method: str, url: URLTypes, **options: Unpack[AsyncBodyOptions]
    ) -> AsyncPendingResponse:
        """
        Submit a request; returns its handle at once. An invalid URL is an error of the request,
        raised by `get_response()` or `next_response()`; a wrong argument is a `TypeError` or
        `ValueError` here. What goes wrong in reading a file that is sent is the request's, too.
        Raises `ParallelClosed` after the block was left.

        Options, by keyword: `params`, `headers`, `cookies`, `data`, `files`, `json`, `auth`,
        `timeout`, `deadline`, `stream`, `allow_redirects`, `verify`, `cert`, `tag`; the class
        tells what each is. `data` may be an asynchronous iterable.
        """
        tag = options.pop("tag", None)
        deadline = check_seconds("deadline", options.pop("deadline", None))
        return self._open_here().request(method, url, options, tag, deadline)

    def send(
        self, request: Request | AsyncRequest, **options: Unpack[SendOptions]
    ) -> AsyncPendingResponse:
        """
        Submit a request as it is: that of a failure, to try it again, say. Nothing of the
        client's headers, parameters, cookies or base URL is merged into it.
        """
        tag = options.pop("tag", None)
        deadline = check_seconds("deadline", options.pop("deadline", None))
        return self._open_here().send(request, options, tag, deadline)

    @property
    def has_pending_responses(self) -> bool:
        """
        Whether `next_response()` has something to return or to wait for: a request that was
        submitted, and neither handed out nor claimed by a `get_response()`.
        """
        submitter = self._submitter
        return submitter is not None and bool(submitter.completions.open) and self._block.usable

    async def next_response(self, timeout: float | None = None) -> AsyncResponse:
        """
        The next response to complete. Waits for it at most `timeout` seconds (None: until it
        is there, which the requests' own timeouts and deadlines bound). A task that is cancelled
        while it waits loses no response: the next caller gets it.

        Raises the error of the request that is next, if it failed: an `HTTPError` that knows
        its request; `NoPendingResponses` if nothing is left, instead of waiting for ever;
        `WaitTimeout` if the wait ran out: the requests go on; `ParallelClosed` after the block
        was left.
        """
        pending = await self._open_here().completions.take(timeout)
        try:
            return pending._result()
        finally:
            del pending  # see AsyncPendingResponse.get_response

    def as_completed(self, timeout: float | None = None) -> AsyncIterator[AsyncPendingResponse]:
        """
        The handles as they complete, those submitted meanwhile included, until none is left.
        Iterating raises no request's error: `get_response()` of the handle does.

        Raises `WaitTimeout` if they are not through `timeout` seconds after the first step.
        """
        return _AsCompleted(self._here().completions, timeout)

    def __aiter__(self) -> AsyncIterator[AsyncPendingResponse]:
        return self.as_completed()

    def map(
        self,
        requests: AsyncIterable[URLTypes | Request | AsyncRequest]
        | Iterable[URLTypes | Request | AsyncRequest],
        *,
        window: int | None = None,
        **options: Unpack[SendOptions],
    ) -> AsyncMap:
        """
        GET each URL, or send each request, and iterate over the handles as they complete.
        Options, for all of them: `auth`, `timeout`, `deadline` (of each, from when it is read),
        `stream`, `allow_redirects`, `verify`, `cert`, `tag`.

        The input is an asynchronous iterable, or a plain one, which must not block. It is read
        lazily, in a task of its own: at most `window` requests (by default twice the block's
        `max_workers`) are not handed out yet, so ten million stream through in flat memory.
        They are its own: `next_response()` never sees them. Closing the iterator by `aclose()`, or
        dropping it, ends those it started.
        """
        if isinstance(requests, (str, URL, Request, AsyncRequest)):
            raise TypeError("map() takes an iterable of URLs and Requests; for one there is get()")
        if not isinstance(requests, (AsyncIterable, Iterable)):
            raise TypeError(
                f"map() takes an iterable of URLs and Requests, not {type(requests).__name__}"
            )
        size = check_count("window", window, 1)
        submitter = self._open_here()
        window = 2 * self._block.max_workers if size is None else size
        self._block.check_options(options)
        loop = submitter.completions.loop
        own = Submitter(self._block, self._engine, self._receive, loop, window, self._depth)
        return AsyncMap(own, requests, options)

    @property
    def stats(self) -> Stats:
        """
        How far the block is, at this moment: a `Stats`. It waits for nothing, so that numbers may
        be of moments that are microseconds apart.
        """
        return self._block.stats()

    @property
    def timeline(self) -> Timeline:
        """
        What each request did, and when: a `Timeline`, which grows while the block runs and stays
        after it. RuntimeError unless the block was opened with ``timeline=``.
        """
        return timeline_of(self._block)

    def cancel(self) -> None:
        """
        End all pending requests now, also in flight. Does not wait. The block can be used further.
        """
        if self._submitter is not None:
            self._here()
            for completions in self._block.completions.alive():
                completions.cancel_all()

    async def aclose(self) -> None:
        """
        Leave the block: end what is pending, close the streams that are open, and wait until
        no worker is busy for it. Code of the user's that runs in a worker, or in a task, is not
        waited for. May be called again; whoever waits on the block is woken.
        """
        if os.getpid() != self._block.pid:
            return  # it is the parent's
        try:
            await self._leave()
        except BaseException:
            self._block.end_soon()  # interrupted, perhaps before it did anything
            raise

    async def _leave(self) -> None:
        here = Loop.current()
        tasks: list[RootTask] = []
        for completions in self._block.completions.alive():
            if completions.loop is here:
                completions.cancel_all(left)
                tasks += completions.caller.tasks
                for task in tasks:
                    task.cancel()
            else:  # left behind by a loop that has ended, most likely
                completions.loop.call_soon(functools.partial(completions.cancel_all, left))

        async def leave() -> None:
            with anyio.move_on_after(_DRAIN_SECONDS):
                await self._block.aclose(here)
            with anyio.move_on_after(_TASK_SECONDS):
                for task in tasks:
                    await task.wait()

        if self._block.end_at_once() and not tasks:
            return
        await finish(leave)

    close = aclose

    def __repr__(self) -> str:
        if not self._block.usable:
            return "<AsyncParallel: closed>"
        submitter = self._submitter
        return f"<AsyncParallel: {0 if submitter is None else submitter.completions.open} pending>"

    async def __aenter__(self) -> Self:
        self._open_here()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        try:
            await self.aclose()
        except BaseException:
            self._block.end_soon()
            raise

    if not typing.TYPE_CHECKING:

        def __enter__(self) -> typing.NoReturn:
            raise TypeError("an asynchronous block is left by awaiting: use `async with`")

        def __exit__(self, *exc_info: object) -> None: ...


class _AsCompleted(AsyncIterator[AsyncPendingResponse]):
    # Not a generator, which trio would warn of where a loop over it is left early.

    def __init__(self, completions: AsyncCompletions, timeout: float | None) -> None:
        self._completions = completions
        self._timeout = timeout
        self._end: float | None = None

    async def __anext__(self) -> AsyncPendingResponse:
        if self._timeout is not None and self._end is None:
            self._end = self._completions.time() + self._timeout
        try:
            return await self._completions.take(self._timeout, self._end)
        except NoPendingResponses:
            raise StopAsyncIteration from None


class AsyncMap(AsyncIterator[AsyncPendingResponse]):
    """The handles of `AsyncParallel.map`, as they complete."""

    def __init__(
        self,
        submitter: Submitter,
        requests: typing.Any,
        options: SendOptions,
    ) -> None:
        self._tag: typing.Any = options.pop("tag", None)
        deadline = check_seconds("deadline", options.pop("deadline", None))
        self._completions = submitter.completions
        self._completions.expecting = True
        self._reader = _Reader(submitter, requests, options, self._tag, deadline)
        self._task: RootTask | None = None
        self._closed = False

    async def __anext__(self) -> AsyncPendingResponse:
        if self._task is None and not self._closed:
            self._completions.check_loop()
            self._task = self._completions.caller.spawn(
                self._reader.read, contextvars.copy_context()
            )
        try:
            try:
                return await self._completions.take(None)
            except NoPendingResponses:
                error = self._reader.take_error()
                if error is not None:
                    try:
                        raise error from None
                    finally:
                        del error
                raise StopAsyncIteration from None
        except StopAsyncIteration:
            raise
        except Exception:  # a task that is cancelled here loses nothing
            self._end()
            raise

    async def aclose(self) -> None:
        """End the requests that were started and not handed out. No more are read."""
        self._end()
        if self._task is not None:
            with anyio.move_on_after(_TASK_SECONDS, shield=True):
                await self._task.wait()

    def _end(self) -> None:
        self._closed = True
        if self._task is not None:
            self._task.cancel()
        self._completions.expecting = False
        self._completions.cancel_all()

    def __del__(self) -> None:
        # A finalizer may run anywhere, in any thread.
        task, completions = getattr(self, "_task", None), getattr(self, "_completions", None)
        if completions is not None and task is not None and not self._closed:
            completions.loop.call_soon(task.cancel)
            completions.loop.call_soon(completions.cancel_all)


class _Reader:
    """Reads the input of a map, and submits it. It does not know the map."""

    def __init__(
        self,
        submitter: Submitter,
        requests: typing.Any,
        options: SendOptions,
        tag: object,
        deadline: float | None,
    ) -> None:
        self._submitter = submitter
        self._requests: typing.Any = requests
        self._options = options
        self._tag = tag
        self._deadline = deadline
        self._error: BaseException | None = None

    def take_error(self) -> BaseException | None:
        error, self._error = self._error, None
        return error

    async def read(self) -> None:
        completions = self._submitter.completions
        requests, self._requests = self._requests, None
        items = None
        try:
            items = _iterate(requests)
            while True:
                await completions.wait_for_room()
                try:
                    item = await items.__anext__()
                except StopAsyncIteration:
                    break
                self._submit(item)
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException as error:  # whatever it is, it is for who iterates
            # What has completed is handed out; the rest is of no more use.
            self._error = error
            completions.cancel_all()
            if is_interrupt(error):
                raise
        finally:
            completions.expecting = False
            completions.closed()
            await close_iterator(items)

    def _submit(self, item: object) -> None:
        if isinstance(item, (Request, AsyncRequest)):
            self._submitter.send(item, self._options, self._tag, self._deadline)
        elif isinstance(item, (str, URL)):
            self._submitter.request("GET", item, self._options, self._tag, self._deadline)
        else:
            raise TypeError(f"map() takes URLs and Requests, not {type(item).__name__}")


def _iterate(items: typing.Any) -> AsyncIterator[typing.Any]:
    if isinstance(items, AsyncIterable):
        return items.__aiter__()
    return _iterate_plain(iter(items))


async def _iterate_plain(items: Iterator[typing.Any]) -> AsyncIterator[typing.Any]:
    for item in items:
        yield item
