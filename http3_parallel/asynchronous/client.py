"""The client for asynchronous code."""

from __future__ import annotations

import functools
import os
import typing

from ..client import BaseClient
from ..config import MAX_WORKERS, check_count, check_seconds, default_pool_limits
from ..dispatch import Dispatcher, WSGIDispatch
from ..methods import RequestMethods, Self, SendOptions, Unpack
from ..models import Request, Response, URLTypes
from ..settings import CommonOptions, Defaults, check_proxies
from ..workers import Workers
from .asgi import ASGIDispatch, is_asgi
from .block import AsyncBlock, PlainBlock
from .dispatch import AsyncDispatcher, LoopDispatch
from .engine import AsyncEngine
from .errands import Threads, in_own_thread
from .facade import AsyncParallel, Submitter
from .loops import Loop
from .methods import AsyncBodyOptions, AsyncRequestMethods, AsyncRequestOptions
from .requests import AsyncRequest, SentRequest
from .responses import AsyncResponse

__all__ = ["AsyncClient"]

_Block = typing.TypeVar("_Block", bound=AsyncBlock)

#: Threads that wait for the bodies of streams, where connections have no limit.
_MOST_READERS = 1000


class AsyncClient(
    BaseClient, AsyncRequestMethods[typing.Coroutine[typing.Any, typing.Any, AsyncResponse]]
):
    """
    `Client`, for code that awaits: the same requests, on the same threads, awaited by tasks of
    asyncio or trio. Nothing that may wait is done in the event loop.

    It belongs to no event loop: it may be used in any number of them, at the same time or one after
    the other, and across a fork. Close it, or use it in an ``async with`` statement, to close its
    connections and end its threads.

    It takes what `Client` takes: `auth`, `cookies`, `keep_cookies`, `verify`, `cert`, `timeout`,
    `pool_limits`, `max_redirects`, `base_url`, `headers`, `params`, `retries`, `event_hooks`,
    `max_response_size`, `default_encoding`, `proxies`, `trust_env`; that page tells what they are.
    Event hooks, and auth callables, are called by threads. And:

    * `app`: an ASGI or a WSGI application that answers in place of the network, and of `dispatch`.
    * `dispatch`: an `AsyncDispatcher`, which runs in the event loop of who makes the request, or a
      `Dispatcher`, which runs in threads, to send requests to in place of the network.
    * `raise_app_exceptions`: whether an exception in `app` comes out of the request, or is
      answered with a status of 500.
    * `max_workers`: how many threads its requests have together, in blocks and in plain calls.
    """

    __doc__ = f"{__doc__}\n{RequestMethods.__doc__}"

    _engine: AsyncEngine

    def __init__(
        self,
        *,
        app: typing.Callable[..., typing.Any] | None = None,
        dispatch: AsyncDispatcher | Dispatcher | None = None,
        raise_app_exceptions: bool = True,
        max_workers: int = MAX_WORKERS,
        **options: Unpack[CommonOptions],
    ) -> None:
        unknown = options.keys() - CommonOptions.__annotations__.keys()
        if unknown:
            raise TypeError(f"AsyncClient() got an unexpected keyword argument {min(unknown)!r}")
        if app is not None:
            dispatch = (
                ASGIDispatch(app, raise_app_exceptions=raise_app_exceptions)
                if is_asgi(app)
                else WSGIDispatch(app, raise_app_exceptions=raise_app_exceptions)
            )
        if isinstance(dispatch, AsyncDispatcher):
            dispatch = LoopDispatch(dispatch)
        elif not (dispatch is None or isinstance(dispatch, Dispatcher)):
            raise TypeError(
                f"dispatch is an AsyncDispatcher or a Dispatcher, not {type(dispatch).__name__}"
            )
        pool_limits = options.pop("pool_limits", None)
        proxies = check_proxies(options.pop("proxies", None))
        trust_env = options.pop("trust_env", True)
        most = check_count("max_workers", max_workers, 1) or MAX_WORKERS
        self._defaults = Defaults(
            **typing.cast("dict[str, typing.Any]", options), request_class=SentRequest
        )
        limits = default_pool_limits(most) if pool_limits is None else pool_limits
        self._engine = AsyncEngine(
            self._defaults,
            max_workers=most,
            dispatch=dispatch,
            limits=pool_limits,
            proxies=proxies,
            trust_env=trust_env,
            # As many as there can be streams: each has a connection.
            max_readers=getattr(limits, "hard_limit", None) or _MOST_READERS,
        )
        self._plain: PlainBlock | None = None
        # What makes a response of this client's, by process id.
        self._receivers: dict[int, typing.Callable[[Response], AsyncResponse]] = {}

    # Requests.

    async def request(
        self, method: str, url: URLTypes, **options: Unpack[AsyncBodyOptions]
    ) -> AsyncResponse:
        """
        Make a request. Returns the response with its body read, unless `stream=True`. Raises an
        `HTTPError` if it fails. If the task is cancelled meanwhile, the request is ended.

        Options, by keyword: `params`, `headers`, `cookies`, `data`, `files`, `json`, `auth`,
        `timeout`, `deadline`, `stream`, `allow_redirects`, `verify`, `cert`, `tag`; the class
        tells what each is. `data` may be an asynchronous iterable.
        """
        tag = options.pop("tag", None)
        deadline = check_seconds("deadline", options.pop("deadline", None))
        pending = self._submitter().request(method, url, options, tag, deadline)
        try:
            return await pending.get_response()
        finally:
            del pending  # see AsyncPendingResponse.get_response

    async def send(
        self, request: Request | AsyncRequest, **options: Unpack[SendOptions]
    ) -> AsyncResponse:
        """
        Make a request that is there already, as it is: the client's headers, parameters, cookies
        and base URL are not merged into it. Redirects take the cookies along as always.
        """
        tag = options.pop("tag", None)
        deadline = check_seconds("deadline", options.pop("deadline", None))
        pending = self._submitter().send(request, options, tag, deadline)
        try:
            return await pending.get_response()
        finally:
            del pending

    async def build_request(
        self, method: str, url: URLTypes, **options: Unpack[AsyncRequestOptions]
    ) -> Request:
        """
        The `Request` that `request()` would make now, with the client's base URL, parameters,
        headers and cookies: for `send()`, and for the `send()` and `map()` of a block.

        Options, by keyword: `params`, `headers`, `cookies`, `data`, `files`, `json`. A thread
        makes it, since files are read, and cookies have a lock.
        """
        self._engine.check_open()
        return await self._threads().call(
            functools.partial(self._build_request, method, url, options)
        )

    def parallel(
        self,
        *,
        max_workers: int | None = None,
        max_per_host: int | None = None,
        deadline: float | None = None,
        window: int | None = None,
    ) -> AsyncParallel:
        """
        A block of requests that run at the same time on this client's workers.

        * `max_workers`: how many at most; by default 32, or the client's if that is less.
        * `max_per_host`: how many at most of one host and port; the others wait in line.
        * `deadline`: seconds from now, when everything in the block that is not complete fails
          with `DeadlineExceeded`.
        * `window`: ``await parallel.get(...)`` waits while more requests than that were submitted
          and not handed out. Another task has to take them meanwhile. None: it does not wait.
        """
        block = self._start_block(AsyncBlock, max_workers, max_per_host, deadline)
        return AsyncParallel(block, self._engine, self._receiver(), window)

    async def close(self) -> None:
        """
        End the client's open blocks and requests, close its idle connections and end its threads.
        Delivered streams of plain calls stay readable. May be called again.
        """
        self._engine.closed = True
        # It waits for threads, and takes locks.
        await in_own_thread(self._engine.close)

    aclose = close

    # How they are made.

    def _start_block(
        self,
        block_class: type[_Block],
        max_workers: int | None,
        max_per_host: int | None,
        deadline: float | None,
    ) -> _Block:
        block = self._start(block_class, max_workers, max_per_host, deadline)
        block.readers = self._engine.here().readers
        return block

    def _submitter(self) -> Submitter:
        """For one plain call."""
        self._engine.check_open()
        block = self._plain
        # On a worker, in a hook that runs an event loop of its own, it has threads of its own.
        if block is None or block.pid != os.getpid() or Workers.current() is not None:
            block = self._start_block(PlainBlock, self.max_workers, None, None)
            if Workers.current() is None:
                self._plain = block
        return Submitter(block, self._engine, self._receiver(), Loop.current())

    def _threads(self) -> Threads:
        state = self._engine.here()
        return Threads(state.readers, state.workers)

    def _receiver(self) -> typing.Callable[[Response], AsyncResponse]:
        pid = os.getpid()
        receiver = self._receivers.get(pid)
        if receiver is None:
            receiver = self._receivers[pid] = functools.partial(
                AsyncResponse._of, threads=self._threads(), following=self._follow
            )
        return receiver

    async def _follow(self, response: AsyncResponse) -> AsyncResponse:
        """`AsyncResponse.next`."""
        source = response._source
        assert source is not None
        step = functools.partial(source._follow.step, source)
        request, settings = await self._threads().call(step)
        pending = self._submitter().submit(request, settings, response.tag)
        new = await pending.get_response()
        new.history = [*response.history, response]
        return new

    async def __aenter__(self) -> Self:
        self._engine.check_open()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()
