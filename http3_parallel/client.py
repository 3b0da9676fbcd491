"""The client: settings, connections and workers that its requests and blocks share."""

from __future__ import annotations

import typing

from .auth import AuthTypes
from .block import Block
from .config import (
    DEFAULT_TIMEOUT_CONFIG,
    MAX_WORKERS,
    CertTypes,
    PoolLimits,
    Retry,
    TimeoutTypes,
    VerifyTypes,
    check_count,
    check_seconds,
)
from .dispatch import Dispatcher, WSGIDispatch
from .engine import ClientEngine
from .exceptions import HTTPError
from .facade import Parallel
from .hooks import EventHooks
from .methods import BodyOptions, RequestMethods, RequestOptions, Self, SendOptions, Unpack
from .models import (
    URL,
    Cookies,
    CookieTypes,
    Headers,
    HeaderTypes,
    QueryParams,
    QueryParamTypes,
    Request,
    Response,
    URLTypes,
)
from .settings import MAX_REDIRECTS, Defaults, check_proxies
from .timeline import Timeline
from .workers import Workers, end_at_exit

__all__ = ["BaseClient", "Client"]

_Block = typing.TypeVar("_Block", bound=Block)

#: Of the threads, for one block: so that one on a dead upstream does not take the whole client.
BLOCK_WORKERS = 32


def _new_timeline(size: bool | int | None) -> Timeline | None:
    if size is None or size is False:
        return None
    return Timeline() if size is True else Timeline(check_count("timeline", size, 1))


class BaseClient:
    """What clients have in common: settings that can be looked at, and how a block is made."""

    _defaults: Defaults
    _engine: ClientEngine

    # Settings: read-only, since threads share them. Headers and cookies may be changed in place.

    @property
    def auth(self) -> AuthTypes | None:
        return self._defaults.given_auth

    @property
    def cookies(self) -> Cookies:
        """Those that responses have set, and its own."""
        return self._defaults.cookies

    @property
    def headers(self) -> Headers:
        return self._defaults.headers

    @property
    def params(self) -> QueryParams:
        return self._defaults.params

    @property
    def base_url(self) -> URL | None:
        return self._defaults.base_url

    @property
    def max_redirects(self) -> int:
        return self._defaults.max_redirects

    @property
    def max_workers(self) -> int:
        return self._engine.max_workers

    @property
    def retries(self) -> Retry:
        return self._defaults.retries

    def _start(
        self,
        block_class: type[_Block],
        max_workers: int | None,
        max_per_host: int | None,
        deadline: float | None,
        own_workers: bool,
        timeline: bool | int | None = None,
    ) -> _Block:
        self._engine.check_open()
        state = self._engine.here()
        most = check_count("max_workers", max_workers, 1) or min(BLOCK_WORKERS, self.max_workers)
        if most > self.max_workers:
            raise ValueError(
                f"max_workers={most} is more than the {self.max_workers} of the client; give it "
                f"as many: {type(self).__name__}(max_workers=...)"
            )
        block = block_class(
            self._engine,
            Workers(most, self._engine.clock) if own_workers else state.workers,
            own_workers=own_workers,
            max_workers=most,
            max_per_host=check_count("max_per_host", max_per_host, 1),
            deadline=check_seconds("deadline", deadline),
            timeline=_new_timeline(timeline),
        )
        state.blocks.add(block)
        if self._engine.closed:  # by another thread, which may have missed this block
            block.end_now()
            self._engine.check_open()
        end_at_exit(self._engine)
        return block

    def _build_request(
        self, method: str, url: URLTypes, options: typing.Mapping[str, typing.Any]
    ) -> Request:
        unknown = options.keys() - RequestOptions.__annotations__.keys()
        if unknown:
            raise TypeError(f"{min(unknown)!r} is not part of a request: give it with send()")
        request, _ = self._engine.prepare(method, url, options)
        header = self.cookies._header(request.url, request._cookies)
        if header is not None and "cookie" not in request.headers:
            request._set_cookie_header(header)
        return request

    def __repr__(self) -> str:
        where = "" if self.base_url is None else f" at {self.base_url.redacted}"
        return f"<{type(self).__name__}{where}{': closed' if self._engine.closed else ''}>"


class Client(BaseClient, RequestMethods[Response]):
    """
    Makes requests, one at a time in the calling thread, or many at once in a `parallel()` block.

    It may be used from any number of threads, and across a fork. Close it, or use it in a
    ``with`` statement, to close its connections and end its threads.

    * `auth`: for every request that has none of its own.
    * `cookies`: those to begin with: a dict, `Cookies`, or a `http.cookiejar.CookieJar`, which is
      then used and filled itself.
    * `keep_cookies`: whether those that a response sets are kept. False, for a client that makes
      requests for several people: they are for the redirects of their own request only.
    * `verify`, `cert`: see `SSLConfig`.
    * `timeout`: seconds of inactivity for each step (see `TimeoutConfig`); by default 5. None:
      without limit.
    * `pool_limits`: see `PoolLimits`; by default as many idle connections as `max_workers`, and
      100 in all, or `max_workers` if that is more.
    * `max_redirects`: how many are followed for one request.
    * `app`: a WSGI application that answers in place of the network, and of `dispatch`.
    * `dispatch`: a `Dispatcher` to send requests to in place of the network.
    * `base_url`: what relative URLs are relative to (RFC 3986, section 5).
    * `raise_app_exceptions`: whether an exception in `app` comes out of the request, or is
      answered with a status of 500.
    * `headers`: for every request; its own headers win.
    * `params`: query parameters for every request; those of the request, or else of its URL, win.
    * `retries`: a `Retry`, or the number of retries.
    * `event_hooks`: functions to call for each request, response and error; see `EventHooks`.
    * `max_response_size`: bytes that a response's body may have, decoded; beyond that, reading
      it raises `ResponseTooLarge`. None: without limit.
    * `default_encoding`: of text that declares no charset and is not UTF-8.
    * `proxies`: a dict of scheme (``"http"``, ``"https"``, ``"all"``, or ``"https://host"`` for
      one host) to proxy URL, or to None for none. Not given: from the environment, if `trust_env`.
    * `trust_env`: whether the environment's proxies and certificates (``SSL_CERT_FILE``,
      ``SSL_CERT_DIR``) count.
    * `max_workers`: how many threads its blocks have together.
    """

    __doc__ = f"{__doc__}\n{RequestMethods.__doc__}"

    def __init__(
        self,
        *,
        auth: AuthTypes | None = None,
        cookies: CookieTypes | None = None,
        keep_cookies: bool = True,
        verify: VerifyTypes = True,
        cert: CertTypes | None = None,
        timeout: TimeoutTypes = DEFAULT_TIMEOUT_CONFIG,
        pool_limits: PoolLimits | None = None,
        max_redirects: int = MAX_REDIRECTS,
        app: typing.Callable[..., typing.Any] | None = None,
        dispatch: Dispatcher | None = None,
        base_url: URLTypes | None = None,
        raise_app_exceptions: bool = True,
        headers: HeaderTypes | None = None,
        params: QueryParamTypes | None = None,
        retries: Retry | int = 0,
        event_hooks: EventHooks | None = None,
        max_response_size: int | None = None,
        default_encoding: str | None = None,
        proxies: typing.Mapping[str, str | None] | None = None,
        trust_env: bool = True,
        max_workers: int = MAX_WORKERS,
    ) -> None:
        self._defaults = Defaults(
            auth=auth,
            cookies=cookies,
            keep_cookies=keep_cookies,
            verify=verify,
            cert=cert,
            timeout=timeout,
            max_redirects=max_redirects,
            base_url=base_url,
            headers=headers,
            params=params,
            retries=retries,
            event_hooks=event_hooks,
            max_response_size=max_response_size,
            default_encoding=default_encoding,
        )
        if app is not None:
            dispatch = WSGIDispatch(app, raise_app_exceptions=raise_app_exceptions)
        self._engine = ClientEngine(
            self._defaults,
            max_workers=check_count("max_workers", max_workers, 1) or MAX_WORKERS,
            dispatch=dispatch,
            limits=pool_limits,
            proxies=check_proxies(proxies),
            trust_env=trust_env,
        )

    # Requests.

    def request(self, method: str, url: URLTypes, **options: Unpack[BodyOptions]) -> Response:
        """
        Make a request in the calling thread. Returns the response with its body read, unless
        `stream=True`. Raises an `HTTPError` if it fails.

        Options, by keyword: `params`, `headers`, `cookies`, `data`, `files`, `json`, `auth`,
        `timeout`, `deadline`, `stream`, `allow_redirects`, `verify`, `cert`, `tag`; the class
        tells what each is.
        """
        tag, deadline = options.pop("tag", None), options.pop("deadline", None)
        try:
            request, settings = self._engine.prepare(method, url, options)
        except HTTPError as error:
            error.tag = tag
            raise
        return self._engine.call(request, settings, tag, deadline)

    def send(self, request: Request, **options: Unpack[SendOptions]) -> Response:
        """
        Make a request that is there already, as it is: the client's headers, parameters, cookies
        and base URL are not merged into it. Redirects take the cookies along as always.
        """
        if not isinstance(request, Request):
            raise TypeError(f"send() takes a Request, not {type(request).__name__}")
        tag, deadline = options.pop("tag", None), options.pop("deadline", None)
        return self._engine.call(request, self._engine.settings(options), tag, deadline)

    def build_request(
        self, method: str, url: URLTypes, **options: Unpack[RequestOptions]
    ) -> Request:
        """
        The `Request` that `request()` would make now, with the client's base URL, parameters,
        headers and cookies: for `send()`, and for the `send()` and `map()` of a block.

        Options, by keyword: `params`, `headers`, `cookies`, `data`, `files`, `json`.
        """
        return self._build_request(method, url, options)

    def parallel(
        self,
        *,
        max_workers: int | None = None,
        max_per_host: int | None = None,
        deadline: float | None = None,
        timeline: bool | int | None = None,
    ) -> Parallel:
        """
        A block of requests that run at the same time on this client's workers.

        * `max_workers`: how many at most; by default 32, or the client's if that is less.
        * `max_per_host`: how many at most of one host and port; the others wait in line.
        * `deadline`: seconds from now, when everything in the block that is not complete fails
          with `DeadlineExceeded`.
        * `timeline`: whether it is noted what each request does, for `Parallel.timeline`: True for
          the last 10,000 requests, a number for so many.

        On a worker (in a callable that makes requests again) the block gets threads of its own:
        waiting for a place among those that wait for it would never end.
        """
        return self._open_block(max_workers, max_per_host, deadline, timeline)

    def _open_block(
        self,
        max_workers: int | None,
        max_per_host: int | None,
        deadline: float | None,
        timeline: bool | int | None = None,
        on_close: typing.Callable[[bool], None] | None = None,
    ) -> Parallel:
        own_workers = Workers.current() is not None
        block = self._start(Block, max_workers, max_per_host, deadline, own_workers, timeline)
        return Parallel(block, on_close)

    def close(self) -> None:
        """
        End the client's open blocks, close its idle connections and end its threads. Delivered
        streams of plain calls stay readable. May be called again.
        """
        self._engine.close()

    def __enter__(self) -> Self:
        self._engine.check_open()
        return self

    def __exit__(self, *exc_info: object) -> None:
        try:
            self.close()
        except BaseException:
            self._engine.close(False)  # interrupted, perhaps before it did anything
            raise
