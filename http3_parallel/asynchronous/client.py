"""The client for asynchronous code."""

from __future__ import annotations

import functools
import os
import typing
import weakref

from ..client import BaseClient
from ..config import MAX_WORKERS, check_count, check_seconds, default_pool_limits
from ..dispatch import Dispatcher, WSGIDispatch
from ..exceptions import ClientClosed
from ..methods import RequestMethods, Self, SendOptions, Unpack
from ..models import Request, Response, URLTypes
from ..settings import CommonOptions, Defaults, check_proxies
from ..workers import Workers
from .asgi import ASGIDispatch, is_asgi
from .block import AsyncBlock, PlainBlock
from .bridge import caller
from .dispatch import AsyncDispatcher, LoopDispatch
from .engine import AsyncEngine
from .errands import Errand, Threads, call_apart, start_thread
from .facade import AsyncParallel, Submitter
from .loops import Loop, finish
from .methods import AsyncBodyOptions, AsyncRequestMethods, AsyncRequestOptions
from .requests import AsyncRequest, SentRequest
from .responses import AsyncResponse

__all__ = ["AsyncClient"]


#: Threads that wait for the bodies of streams, where connections have no limit.
_MOST_READERS = 1000


#: What other clients have other names for.
_HINTS = {
    "follow_redirects": "redirects are followed, unless a request says allow_redirects=False",
    "limits": "here it is pool_limits=PoolLimits(...)",
    "connector": "here it is pool_limits=PoolLimits(...)",
    "transport": "here it is app=, or dispatch=",
    "proxy": "here it is proxies={'all': ...}",
    "mounts": "here it is proxies=, or dispatch=",
    "http2": "HTTP/1.1 is spoken",
    "deadline": "it is given to a block, or to a request",
    "window": "it is given to a block",
    "max_per_host": "it is given to a block",
}


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
            name = min(unknown)
            hint = f": {_HINTS[name]}" if name in _HINTS else ""
            raise TypeError(f"AsyncClient() got an unexpected keyword argument {name!r}{hint}")
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
            max_readers=(getattr(limits, "hard_limit", None) if dispatch is None else None)
            or _MOST_READERS,
        )
        # By process id, and by how many requests wait for theirs: see `_depth`.
        self._plain: dict[tuple[int, int], PlainBlock] = {}
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
        build = functools.partial(self._build_request, method, url, options)
        return await call_apart(build, clock=self._engine.clock)

    def parallel(
        self,
        *,
        max_workers: int | None = None,
        max_per_host: int | None = None,
        deadline: float | None = None,
        window: int | None = None,
        timeline: bool | int | None = None,
    ) -> AsyncParallel:
        """
        A block of requests that run at the same time on this client's workers.

        * `max_workers`: how many at most; by default 32, or the client's if that is less.
        * `max_per_host`: how many at most of one host and port; the others wait in line.
        * `deadline`: seconds from now, when everything in the block that is not complete fails
          with `DeadlineExceeded`.
        * `window`: ``await parallel.get(...)`` waits while more requests than that were submitted
          and not handed out. Another task has to take them meanwhile. None: it does not wait.
        * `timeline`: whether it is noted what each request does, for `AsyncParallel.timeline`: True
          for the last 10,000 requests, a number for so many.
        """
        depth = _depth()
        block = self._start(AsyncBlock, max_workers, max_per_host, deadline, depth > 0, timeline)
        return AsyncParallel(block, self._engine, self._receiver(), window, depth)

    async def close(self) -> None:
        """
        End the client's open blocks and requests, close its idle connections and end its threads.
        Delivered streams of plain calls stay readable. May be called again.
        """
        self._engine.closed = True
        await finish(self._close)

    async def _close(self) -> None:
        """It waits for threads, and takes locks: a thread that is none of those does it."""
        loop = Loop.current()
        closing = Errand(loop, self._engine.close)
        start_thread(closing)
        try:
            await closing.wait()
        except RuntimeError:
            if not closing.was_refused:
                raise
            # Without a thread to wait in, it ends all the same.
            ending = Errand(loop, self._engine.end_now)
            self._engine.here().workers.call_soon(ending)
            await ending.wait()

    aclose = close

    # How they are made.

    def _submitter(self) -> Submitter:
        """For one plain call."""
        self._engine.check_open()
        depth = _depth()
        key = (os.getpid(), depth)
        block = self._plain.get(key)
        if block is None:
            new = self._start(PlainBlock, self.max_workers, None, None, depth > 0)
            block = self._plain.setdefault(key, new)
        return Submitter(block, self._engine, self._receiver(), Loop.current(), depth=depth)

    def _threads(self) -> Threads:
        return Threads(self._engine.here().readers)

    def _receiver(self) -> typing.Callable[[Response], AsyncResponse]:
        pid = os.getpid()
        receiver = self._receivers.get(pid)
        if receiver is None:
            # Without a reference to this client, which would be a cycle, and keep it as long as
            # somebody keeps a response.
            receiver = self._receivers[pid] = functools.partial(
                _received, self._threads(), weakref.ref(self)
            )
        return receiver

    async def _follow(self, response: AsyncResponse) -> AsyncResponse:
        """`AsyncResponse.next`."""
        source = response._source
        assert source is not None
        step = functools.partial(source._follow.step, source)
        request, settings = await call_apart(step, clock=self._engine.clock)
        pending = self._submitter().submit(request, settings, response.tag)
        new = await pending.get_response()
        new.history = [*response.history, response]
        return new

    async def __aenter__(self) -> Self:
        self._engine.check_open()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    if not typing.TYPE_CHECKING:

        def __getattr__(self, name: str) -> typing.Any:
            if name == "stream":
                raise AttributeError(
                    "it is `async with await client.get(url, stream=True) as response`"
                )
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

        def __enter__(self) -> typing.NoReturn:
            raise TypeError("an AsyncClient is closed by awaiting: use `async with`")

        def __exit__(self, *exc_info: object) -> None: ...


def _depth() -> int:
    """
    How many requests wait for the one that is made here: that of an app, of a dispatcher or of a
    hook which makes requests itself. What waits for it holds a worker, so it must not need one of
    the same: each depth has its own.
    """
    whose = caller.get(None)
    if whose is not None:
        return whose.depth + 1
    return 0 if Workers.current() is None else 1


def _received(
    threads: Threads, client: weakref.ref[AsyncClient], response: Response
) -> AsyncResponse:
    if not (response.is_redirect and response._follow is not None):
        return AsyncResponse._of(response, threads)

    async def follow(redirect: AsyncResponse) -> AsyncResponse:
        there = client()
        if there is None:
            raise ClientClosed("the client of this response is gone; keep it, to follow redirects")
        return await there._follow(redirect)

    return AsyncResponse._of(response, threads, follow)
