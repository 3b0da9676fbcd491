"""
What runs a client's requests, for itself and for its blocks.

What changes at run time is in `State`, one for each process: after a fork the child makes its
own at first use, and never touches the parent's sockets, threads or locks. The process id is
compared, since not every fork runs Python's hooks.
"""

from __future__ import annotations

import contextvars
import functools
import logging
import os
import time
import typing

from .aborting import Abort, Expiry
from .block import Block
from .config import PoolLimits, check_seconds, default_pool_limits
from .dispatch import Context, Dispatcher, NetworkDispatch
from .dispatch.base import replacements
from .driver import Driver
from .exceptions import ClientClosed, HTTPError, WorkersUnavailable
from .flow import follow
from .models import Cookies, Request, Response, Timings, URLTypes
from .settings import Defaults, Settings
from .timeline.records import Record
from .workers import Clock, Registry, Workers, guarded_all

__all__ = ["ClientEngine"]

_logger = logging.getLogger("http3_parallel")

#: How long closing waits, in seconds, for threads that have nothing left to do.
_JOIN_SECONDS = 2.0


class State:
    """
    What must not be shared with a forked process.

    `max_readers`: how many threads there are besides, for whoever has others wait in his place.
    """

    def __init__(self, max_workers: int, max_readers: int = 1, clock: Clock | None = None) -> None:
        self.pid: int = os.getpid()
        self.workers: Workers = Workers(max_workers, clock)
        self.readers: Workers = Workers(max_readers, clock)  # which starts none of them
        self.blocks: Registry[Block] = Registry()

    def stop_soon(self) -> None:
        self.workers.stop_soon()
        self.readers.stop_soon()

    def __del__(self, getpid: typing.Callable[[], int] = os.getpid) -> None:
        # Its client was not closed, but nobody can use it any more: idle threads must not stay.
        # The attribute is not there if __init__ was interrupted.
        if hasattr(self, "blocks") and self.pid == getpid():
            self.stop_soon()


class _Followable:
    """A `Redirection`: what made a response that is a redirect, and was not followed."""

    __slots__ = ("_engine", "_request", "_settings")

    def __init__(self, engine: ClientEngine, request: Request, settings: Settings) -> None:
        self._engine = engine
        self._request = request
        self._settings = settings

    def step(self, response: Response) -> tuple[Request, Settings]:
        """What the flow would have sent next. Closes `response`."""
        self._engine.check_open()
        return self._engine.following(self._request, response, self._settings)

    def __call__(self, response: Response) -> Response:
        request, settings = self.step(response)
        new = self._engine.call(request, settings, response.tag, None)
        new.history = [*response.history, response]
        return new


class ClientEngine:
    """The `Engine` of blocks, and that of plain calls."""

    def __init__(
        self,
        defaults: Defaults,
        *,
        max_workers: int,
        dispatch: Dispatcher | None,
        limits: PoolLimits | None,
        proxies: dict[str, str | None] | None,
        trust_env: bool,
        max_readers: int = 1,
    ) -> None:
        self.max_workers = max_workers
        self._max_readers = max_readers
        self.closed: bool = False
        self._defaults = defaults
        if dispatch is not None and not isinstance(dispatch, Dispatcher):
            raise TypeError(f"dispatch is a Dispatcher, not {type(dispatch).__name__}")
        if limits is not None and not isinstance(limits, PoolLimits):
            raise TypeError(f"pool_limits is a PoolLimits, not {type(limits).__name__}")
        if dispatch is None and replacements:
            dispatch = replacements[-1]
        self._owns_dispatcher = dispatch is None
        self._dispatcher: Dispatcher
        if dispatch is not None:
            self._dispatcher = dispatch
        else:
            if limits is None:
                limits = default_pool_limits(max_workers)
            self._dispatcher = NetworkDispatch(limits=limits, proxies=proxies, trust_env=trust_env)
        self._states: dict[int, State] = {}
        self._state = self._new_state()

    def prepare(
        self, method: str, url: URLTypes, options: typing.Mapping[str, typing.Any]
    ) -> tuple[Request, Settings]:
        """The request and its settings. Raises `InvalidURL`, `TypeError`, `ValueError`."""
        return self._defaults.prepare(method, url, options)

    def settings(self, options: typing.Mapping[str, typing.Any]) -> Settings:
        """Settings for a request that is there already. Raises `TypeError` and `ValueError`."""
        return self._defaults.settings(options)

    def perform(
        self,
        request: Request,
        settings: Settings,
        abort: Abort,
        submitted: float,
        tag: object,
        record: Record | None = None,
    ) -> Response:
        """
        Run one request to its end, in this thread. Raises its `HTTPError`, or a user's.

        `submitted`: when the call was made, by `time.perf_counter`. `record`: for a timeline.
        """
        if record is not None:
            record.begin()
        if not settings.policy.keep_cookies:
            settings = settings._replace(policy=settings.policy.with_own_cookies())
        started = time.perf_counter()
        timings = Timings(submitted)
        timings.mark("queued", started)
        driver = Driver(
            self._dispatcher,
            Context(
                timeout=settings.timeout,
                ssl=settings.ssl,
                abort=abort,
                stream=settings.policy.stream,
                timings=timings,
            ),
            request,
            tag,
            self._defaults.reception,
            record,
        )
        try:
            response = driver.run(settings.policy)
        except Exception as error:
            if _logger.isEnabledFor(logging.DEBUG):
                _logger.debug(
                    "%s %s: %s after %.3f s: %s",
                    request.method,
                    request.url.redacted,
                    type(error).__name__,
                    time.perf_counter() - started,
                    # Of the user's code, which may say anything.
                    error.message if isinstance(error, HTTPError) else "...",
                )
            raise
        response._elapsed = time.perf_counter() - started
        if not settings.policy.allow_redirects and response.is_redirect:
            response._follow = _Followable(self, request, settings)
        if _logger.isEnabledFor(logging.DEBUG) and response.request is not None:
            _logger.debug(
                "%s %s: %d in %.3f s",
                response.request.method,
                response.request.url.redacted,
                response.status_code,
                response._elapsed,
            )
        return response

    def call(
        self, request: Request, settings: Settings, tag: object, deadline: float | None
    ) -> Response:
        self.check_open()
        submitted = time.perf_counter()
        seconds = check_seconds("deadline", deadline)
        workers = self.here().workers
        expires = None if seconds is None else workers.time() + seconds
        abort = Abort(expires)
        if self.clock is not None:
            abort.clock = self.clock.waiting_of(submitted, abort, tag)
        # What a hook sets in it is for the later ones of this request, not for the caller.
        context = contextvars.copy_context() if self._defaults.has_hooks else None
        timer = None
        if expires is not None:
            try:
                timer = workers.schedule(expires, Expiry(abort, seconds))
            except RuntimeError as error:
                raise WorkersUnavailable(
                    "no thread could be started to keep the deadline", request=request, tag=tag
                ) from error
        response = None
        try:
            if context is None:
                response = self.perform(request, settings, abort, submitted, tag)
            else:
                response = context.run(self.perform, request, settings, abort, submitted, tag)
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
            if abort.clock is not None:
                abort.clock.end()
            del response
            if abort.after:
                after, abort.after = abort.after, ()  # it may refer to the error
                if context is not None:
                    after = [functools.partial(context.run, function) for function in after]
                guarded_all(after)
                del after

    def following(
        self, request: Request, response: Response, settings: Settings
    ) -> tuple[Request, Settings]:
        """
        One redirect, as the flow would follow it. `request` led to `response`, which is closed.
        """
        try:
            following = follow(request, response, response.history, self._defaults.max_redirects)
        except HTTPError as error:
            error.tag = response.tag
            raise
        response.close()
        policy = settings.policy.after_cookies(response, Cookies()).after(request, following)
        return following, settings._replace(policy=policy)

    # State.

    @property
    def clock(self) -> Clock | None:
        """What tells the time in place of the system: the dispatcher's, if it has one."""
        clock: Clock | None = self._dispatcher._clock
        return clock

    def here(self) -> State:
        """The state of this process."""
        state = self._state
        return state if state.pid == os.getpid() else self._new_state()

    def _new_state(self) -> State:
        pid = os.getpid()
        # Without a lock, which a thread of the parent may have held: setdefault is one step.
        state = self._states.setdefault(pid, State(self.max_workers, self._max_readers, self.clock))
        self._state = state
        for other in [key for key in self._states if key != pid]:
            self._states.pop(other, None)
        return state

    def check_open(self) -> None:
        if self.closed:
            raise ClientClosed("this client was closed; make another")

    def close(self, clean: bool = True) -> None:
        """`clean`: whether it is worth waiting for threads that should have nothing to do."""
        self.closed = True
        state = self.here()
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
            # They may be at streams that outlive the client.
            state.readers.stop(0.0)
            if self._owns_dispatcher:
                self._dispatcher.close()

    def end_now(self) -> None:
        """Called while the interpreter exits."""
        state = self.here()
        for block in state.blocks.alive():
            block.end_now()
        state.stop_soon()
