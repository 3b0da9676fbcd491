"""
The client: settings, connections and workers that its requests and blocks share.

What changes at run time is in `_State`, one for each process: after a fork the child makes its
own at first use, and never touches the parent's sockets, threads or locks. The process id is
compared, since not every fork runs Python's hooks.
"""

from __future__ import annotations

import dataclasses
import datetime
import logging
import os
import re
import time
import typing

from .aborting import Abort, Expiry
from .auth import AuthTypes, as_auth
from .block import Block
from .config import (
    DEFAULT_TIMEOUT_CONFIG,
    CertTypes,
    PoolLimits,
    Retry,
    SSLConfig,
    TimeoutConfig,
    TimeoutTypes,
    VerifyTypes,
    check_count,
    check_seconds,
)
from .dispatch import Context, Dispatcher, NetworkDispatch
from .driver import Driver
from .exceptions import ClientClosed, HTTPError, UnsupportedScheme, WorkersUnavailable
from .facade import Parallel
from .flow import Policy, follow, run
from .methods import BodyOptions, RequestMethods, Self, SendOptions, Unpack
from .models import (
    URL,
    Headers,
    HeaderTypes,
    QueryParamTypes,
    Request,
    RequestData,
    Response,
    URLTypes,
)
from .workers import Registry, Workers, end_at_exit

__all__ = ["Client", "ClientOptions"]

logger = logging.getLogger("http3_parallel")

_PROXY_KEY = re.compile(r"https?|all|no|https?://[^/?#@:]+")

#: Threads of a client: enough for slow upstreams, few enough for any system's defaults.
MAX_WORKERS = 128
#: As http3 had it, and browsers have it.
MAX_REDIRECTS = 20
#: Of the threads, for one block: so that one on a dead upstream does not take the whole client.
BLOCK_WORKERS = 32
#: How long closing waits, in seconds, for threads that have nothing left to do.
_JOIN_SECONDS = 2.0


class _Settings(typing.NamedTuple):
    policy: Policy
    timeout: TimeoutConfig
    ssl: SSLConfig


class _State:
    """What must not be shared with a forked process."""

    def __init__(self, dispatcher: Dispatcher, max_workers: int) -> None:
        self.pid = os.getpid()
        self.dispatcher = dispatcher
        self.workers = Workers(max_workers)
        self.blocks: Registry[Block] = Registry()

    def __del__(self) -> None:
        # Its client was not closed, but nobody can use it any more: idle threads must not stay.
        workers = getattr(self, "workers", None)  # not there if __init__ was interrupted
        if workers is not None and self.pid == os.getpid():
            workers.stop_soon()


class ClientOptions(typing.TypedDict, total=False):
    """What `Client` takes, but for `max_workers`."""

    auth: AuthTypes | None
    verify: VerifyTypes
    cert: CertTypes | None
    timeout: TimeoutTypes
    pool_limits: PoolLimits | None
    max_redirects: int
    dispatch: Dispatcher | None
    base_url: URLTypes | None
    headers: HeaderTypes | None
    retries: Retry | int
    proxies: typing.Mapping[str, str | None] | None
    trust_env: bool


class Client(RequestMethods[Response]):
    """
    Makes requests, one at a time in the calling thread, or many at once in a `parallel()` block.

    It may be used from any number of threads, and across a fork. Close it, or use it in a
    ``with`` statement, to close its connections and end its threads.

    * `auth`: for every request that has none of its own.
    * `verify`, `cert`: see `SSLConfig`.
    * `timeout`: seconds of inactivity for each step (see `TimeoutConfig`); by default 5. None:
      without limit.
    * `pool_limits`: see `PoolLimits`; by default as many idle connections as `max_workers`, and
      100 in all, or `max_workers` if that is more.
    * `max_redirects`: how many are followed for one request.
    * `dispatch`: a `Dispatcher` to send requests to in place of the network.
    * `base_url`: what relative URLs are relative to (RFC 3986, section 5).
    * `headers`: for every request; its own headers win.
    * `retries`: a `Retry`, or the number of retries.
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
        verify: VerifyTypes = True,
        cert: CertTypes | None = None,
        timeout: TimeoutTypes = DEFAULT_TIMEOUT_CONFIG,
        pool_limits: PoolLimits | None = None,
        max_redirects: int = MAX_REDIRECTS,
        dispatch: Dispatcher | None = None,
        base_url: URLTypes | None = None,
        headers: HeaderTypes | None = None,
        retries: Retry | int = 0,
        proxies: typing.Mapping[str, str | None] | None = None,
        trust_env: bool = True,
        max_workers: int = MAX_WORKERS,
    ) -> None:
        self._given_auth = auth
        self._auth = as_auth(auth)
        self._ssl = SSLConfig(verify=verify, cert=cert)
        self._timeout = TimeoutConfig(timeout)
        self._max_workers = check_count("max_workers", max_workers, 1) or MAX_WORKERS
        most = check_count("max_redirects", max_redirects, 0)
        self._max_redirects = MAX_REDIRECTS if most is None else most
        self._base_url = None if base_url is None else URL(base_url)
        self.headers = Headers(headers)
        self._retries = retries if isinstance(retries, Retry) else Retry(retries)
        if dispatch is not None and not isinstance(dispatch, Dispatcher):
            raise TypeError(f"dispatch is a Dispatcher, not {dispatch!r}")
        self._dispatch = dispatch
        if pool_limits is not None and not isinstance(pool_limits, PoolLimits):
            raise TypeError(f"pool_limits is a PoolLimits, not {pool_limits!r}")
        self._limits = pool_limits or PoolLimits(
            soft_limit=self.max_workers,
            hard_limit=max(100, self.max_workers),
            pool_timeout=DEFAULT_TIMEOUT_CONFIG.connect_timeout,
        )
        if proxies is not None and not isinstance(proxies, typing.Mapping):
            raise TypeError(f"proxies is a dict of scheme to URL, not {type(proxies).__name__}")
        for key in proxies or ():
            # A key that means nothing would let its requests pass by the proxy, unseen.
            if not _PROXY_KEY.fullmatch(key):
                raise ValueError(
                    f"{key!r} is no key of proxies: they are 'http', 'https', 'all', 'no', and "
                    "'http://host' or 'https://host' for one host"
                )
        self._proxies = None if proxies is None else dict(proxies)
        self._trust_env = trust_env
        self._closed = False
        self._defaults = self.settings({})
        self._states: dict[int, _State] = {}
        self._state = self._new_state()

    # Settings: read-only, since threads share them. The headers may be changed in place.

    @property
    def auth(self) -> AuthTypes | None:
        return self._given_auth

    @property
    def base_url(self) -> URL | None:
        return self._base_url

    @property
    def max_redirects(self) -> int:
        return self._max_redirects

    @property
    def max_workers(self) -> int:
        return self._max_workers

    @property
    def retries(self) -> Retry:
        return self._retries

    # Requests.

    def request(self, method: str, url: URLTypes, **options: Unpack[BodyOptions]) -> Response:
        """
        Make a request in the calling thread. Returns the response with its body read, unless
        `stream=True`. Raises an `HTTPError` if it fails.

        Options, by keyword: `params`, `headers`, `data`, `json`, `auth`, `timeout`, `deadline`,
        `stream`, `allow_redirects`, `verify`, `cert`, `tag`; the class tells what each is.
        """
        tag, deadline = options.pop("tag", None), options.pop("deadline", None)
        try:
            request, settings = self.prepare(method, url, options)
        except HTTPError as error:
            error.tag = tag
            raise
        return self._perform_here(request, settings, tag, deadline)

    def send(self, request: Request, **options: Unpack[SendOptions]) -> Response:
        """
        Make a request that is there already, as it is: the client's headers and base URL are not
        merged into it.
        """
        if not isinstance(request, Request):
            raise TypeError(f"send() takes a Request, not {request!r}")
        tag, deadline = options.pop("tag", None), options.pop("deadline", None)
        return self._perform_here(request, self.settings(options), tag, deadline)

    def parallel(
        self,
        *,
        max_workers: int | None = None,
        max_per_host: int | None = None,
        deadline: float | None = None,
    ) -> Parallel:
        """
        A block of requests that run at the same time on this client's workers.

        * `max_workers`: how many at most; by default 32, or the client's if that is less.
        * `max_per_host`: how many at most of one host and port; the others wait in line.
        * `deadline`: seconds from now, when everything in the block that is not complete fails
          with `DeadlineExceeded`.

        On a worker (in a callable that makes requests again) the block gets threads of its own:
        waiting for a place among those that wait for it would never end.
        """
        return self._open_block(max_workers, max_per_host, deadline)

    def _open_block(
        self,
        max_workers: int | None,
        max_per_host: int | None,
        deadline: float | None,
        on_close: typing.Callable[[bool], None] | None = None,
    ) -> Parallel:
        self._check_open()
        state = self._here()
        most = check_count("max_workers", max_workers, 1) or min(BLOCK_WORKERS, self.max_workers)
        if most > self.max_workers:
            raise ValueError(
                f"max_workers={most} is more than the {self.max_workers} of the client; give it "
                "as many: Client(max_workers=...)"
            )
        own_workers = Workers.current() is not None
        block = Block(
            self,
            Workers(most) if own_workers else state.workers,
            own_workers=own_workers,
            max_workers=most,
            max_per_host=check_count("max_per_host", max_per_host, 1),
            deadline=check_seconds("deadline", deadline),
        )
        state.blocks.add(block)
        if self._closed:  # by another thread, which may have missed this block
            block.end_now()
            self._check_open()
        end_at_exit(self)
        return Parallel(block, on_close)

    # The engine of blocks.

    def prepare(
        self, method: str, url: URLTypes, options: typing.Mapping[str, typing.Any]
    ) -> tuple[Request, _Settings]:
        """The request and its settings. Raises `InvalidURL`, `TypeError`, `ValueError`."""
        try:
            request, settings = self._build_and_settle(method, url, **options)
            if request.url.scheme not in ("http", "https"):
                raise UnsupportedScheme(
                    f"cannot request a URL with the scheme {request.url.scheme!r}: only http and "
                    "https are supported"
                )
        except HTTPError as error:
            error._method, error._url = method, url
            raise
        return request, settings

    def _build_and_settle(
        self,
        method: str,
        url: URLTypes,
        *,
        data: RequestData | None = None,
        json: typing.Any = None,
        params: QueryParamTypes | None = None,
        headers: HeaderTypes | None = None,
        **rest: typing.Any,
    ) -> tuple[Request, _Settings]:
        settings = self.settings(rest) if rest else self._defaults
        if self.base_url is not None:
            url = self.base_url.join(url)
        if self.headers:
            merged = Headers(self.headers)
            merged.update(Headers(headers))
            headers = merged
        request = Request(method, url, params=params, headers=headers, data=data, json=json)
        return request, settings

    def settings(self, options: typing.Mapping[str, typing.Any]) -> _Settings:
        """Settings for one request. Raises `TypeError` and `ValueError`."""
        unknown = options.keys() - SendOptions.__annotations__.keys()
        if unknown:
            raise TypeError(f"unexpected keyword argument {min(unknown)!r}")
        auth, timeout = options.get("auth"), options.get("timeout")
        return _Settings(
            policy=Policy(
                auth=self._auth if auth is None else as_auth(auth),
                retries=self._retries,
                allow_redirects=options.get("allow_redirects", True),
                max_redirects=self._max_redirects,
                stream=options.get("stream", False),
            ),
            timeout=self._timeout if timeout is None else TimeoutConfig(timeout),
            ssl=self._ssl.with_overrides(verify=options.get("verify"), cert=options.get("cert")),
        )

    def perform(self, request: Request, settings: _Settings, abort: Abort) -> Response:
        """Run one request to its end, in this thread. Raises its `HTTPError`, or a user's."""
        started = time.perf_counter()
        driver = Driver(
            self._here().dispatcher,
            Context(
                timeout=settings.timeout,
                ssl=settings.ssl,
                abort=abort,
                stream=settings.policy.stream,
            ),
            request,
        )
        try:
            response = driver.run(run(request, settings.policy))
        except Exception as error:
            if logger.isEnabledFor(logging.DEBUG):
                logger.debug(
                    "%s %s: %s after %.3f s: %s",
                    request.method,
                    request.url.redacted,
                    type(error).__name__,
                    time.perf_counter() - started,
                    # Of the user's code, which may say anything.
                    error.message if isinstance(error, HTTPError) else "...",
                )
            raise
        response.elapsed = datetime.timedelta(seconds=time.perf_counter() - started)
        if not settings.policy.allow_redirects and response.is_redirect:
            response._follow = lambda redirect: self._follow(redirect, settings)
        if logger.isEnabledFor(logging.DEBUG) and response.request is not None:
            logger.debug(
                "%s %s: %d in %.3f s",
                response.request.method,
                response.request.url.redacted,
                response.status_code,
                response.elapsed.total_seconds(),
            )
        return response

    def _perform_here(
        self, request: Request, settings: _Settings, tag: object, deadline: float | None
    ) -> Response:
        self._check_open()
        seconds = check_seconds("deadline", deadline)
        expires = None if seconds is None else time.monotonic() + seconds
        abort = Abort(expires)
        timer = None
        if expires is not None:
            try:
                timer = self._here().workers.schedule(expires, Expiry(abort, seconds))
            except RuntimeError as error:
                raise WorkersUnavailable(
                    "no thread could be started to keep the deadline", request=request, tag=tag
                ) from error
        response = None
        try:
            response = self.perform(request, settings, abort)
            response.tag = tag
            if timer is not None and not response.is_closed:
                response._add_on_close(timer.cancel)
                timer = None
            return response
        except HTTPError as error:
            if error.request is None:
                error.request = request
            if error.tag is None:
                error.tag = tag
            raise
        finally:
            if timer is not None:
                timer.cancel()
            del response

    def _follow(self, response: Response, settings: _Settings) -> Response:
        """One redirect, as the flow would follow it: auth is not applied again."""
        self._check_open()
        try:
            request = follow(response, response.history, self.max_redirects)
        except HTTPError as error:
            error.tag = response.tag
            raise
        response.close()
        settings = settings._replace(policy=dataclasses.replace(settings.policy, auth=None))
        following = self._perform_here(request, settings, response.tag, None)
        following.history = [*response.history, response]
        return following

    # State.

    def _here(self) -> _State:
        """The state of this process."""
        state = self._state
        return state if state.pid == os.getpid() else self._new_state()

    def _new_state(self) -> _State:
        pid = os.getpid()
        dispatcher = self._dispatch
        if dispatcher is None:
            dispatcher = NetworkDispatch(
                limits=self._limits, proxies=self._proxies, trust_env=self._trust_env
            )
        # Without a lock, which a thread of the parent may have held: setdefault is one step.
        state = self._states.setdefault(pid, _State(dispatcher, self.max_workers))
        self._state = state
        for other in [key for key in self._states if key != pid]:
            parent = self._states.pop(other, None)
            if parent is not None and isinstance(parent.dispatcher, NetworkDispatch):
                parent.dispatcher.forget()
        return state

    def _check_open(self) -> None:
        if self._closed:
            raise ClientClosed("this client was closed; make another")

    def close(self) -> None:
        """
        End the client's open blocks, close its idle connections and end its threads. Delivered
        streams of plain calls stay readable. May be called again.
        """
        self._close(True)

    def _close(self, clean: bool) -> None:
        self._closed = True
        state = self._here()
        try:
            for block in state.blocks.alive():
                clean = block.close() and clean
        except BaseException:
            # Interrupted: nothing more is waited for, but the other blocks end too.
            clean = False
            self.end_now()
            raise
        finally:
            # A thread in code of the user's is not waited for.
            state.workers.stop(_JOIN_SECONDS if clean else 0.0)
            if self._dispatch is None:
                state.dispatcher.close()

    def end_now(self) -> None:
        """Called while the interpreter exits."""
        state = self._here()
        for block in state.blocks.alive():
            block.end_now()
        state.workers.stop_soon()

    def __repr__(self) -> str:
        where = "" if self._base_url is None else f" at {self._base_url.redacted}"
        return f"<Client{where}{': closed' if self._closed else ''}>"

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(self, *exc_info: object) -> None:
        try:
            self.close()
        except BaseException:
            self._close(False)  # interrupted, perhaps before it did anything
            raise
