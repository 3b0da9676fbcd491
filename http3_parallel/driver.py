"""Performs the steps of a flow: the I/O that `flow` decides on."""

from __future__ import annotations

import collections.abc
import contextlib
import functools
import time
import typing

from .auth import AuthSteps, Share
from .dispatch import Context, Dispatcher, NetworkDispatch
from .exceptions import HTTPError
from .flow import (
    Begin,
    Discard,
    Flow,
    Next,
    Policy,
    Read,
    Send,
    Sleep,
    Step,
    is_final,
    is_plain,
    run,
)
from .hooks import NO_HOOKS, Hooks
from .models import Request, Response
from .timeline.records import MessageRecord, Record

__all__ = ["Driver", "Reception"]

#: How much of a body that nobody wants is read, in bytes, for the sake of its connection. More
#: costs more than a new one.
_DISCARD_BYTES = 64 * 1024
#: And for how long, if it comes in drips; so long at most for each of them.
_DISCARD_SECONDS = 0.5


class Reception(typing.NamedTuple):
    """What is done about each message, the same for all requests of a client."""

    hooks: Hooks = NO_HOOKS
    max_response_size: int | None = None
    default_encoding: str | None = None


class Driver:
    """
    Runs one flow in the calling thread. What comes of it has the `tag`.

    A response that nobody gets, since something fails or the request is ended while it is in
    hand, is closed here, and so is the generator of the auth.
    """

    __slots__ = (
        "_context",
        "_dispatcher",
        "_has_begun",
        "_message",
        "_reception",
        "_record",
        "_request",
        "_response",
        "_steps",
        "_tag",
    )

    def __init__(
        self,
        dispatcher: Dispatcher,
        context: Context,
        request: Request,
        tag: object = None,
        reception: Reception = Reception(),  # noqa: B008  # it cannot change
        record: Record | None = None,
    ) -> None:
        self._dispatcher = dispatcher
        self._context = context
        self._request = request
        self._tag = tag
        self._reception = reception
        self._record = record
        # Of the exchange that is in hand, if there is a record.
        self._message: MessageRecord | None = None
        # Whether there was an exchange before, of which the timings are.
        self._has_begun = False
        #: What is in hand.
        self._response: Response | None = None
        self._steps: AuthSteps | None = None

    def run(self, policy: Policy) -> Response:
        try:
            if is_plain(self._request, policy):
                response = self._run_plain(policy)
            else:
                response = self._run(run(self._request, policy), None)
            self._response = None
            return response
        finally:
            if self._response is not None or self._steps is not None:
                self._let_go()

    def _run_plain(self, policy: Policy) -> Response:
        """
        As `_run`, where the first step is known: if that is the last one too, as it mostly is, no
        flow is needed.
        """
        request = self._request
        came: list[Response | Exception] = []
        try:
            response = self._send(request)
            if is_final(response, policy):
                if not (policy.stream or response._is_plain):
                    self._read(response)
                response.history = []
                return response
            came.append(response)
            del response
        except Exception as error:
            came[:] = [self._to_throw(error, Send(request))]
        flow = run(request, policy)
        next(flow)
        # What is raised from here on refers to this frame: it must not refer back.
        return self._run(flow, came.pop())

    def _run(self, flow: Flow, came: Response | Exception | None) -> Response:
        """`came`: what did of the step that `flow` is at, if it has begun."""
        argument: typing.Any = came
        resume: typing.Callable[[typing.Any], Step]
        resume = flow.throw if isinstance(came, Exception) else flow.send
        try:
            del came
            while True:
                try:
                    step = resume(argument)
                except StopIteration as stop:
                    return stop.value  # type: ignore[no-any-return]  # what a flow returns
                try:
                    argument, resume = self._perform(step), flow.send
                except Exception as error:
                    argument, resume = self._to_throw(error, step), flow.throw
        finally:
            del argument, resume, flow

    def _to_throw(self, error: Exception, step: Step) -> Exception:
        """What the flow is to know of it; or else it is raised."""
        try:
            if self._message is not None and isinstance(step, (Send, Read)):
                self._message.fail(error, self._context.abort)
            if not self._is_of_this_request(error, step):
                self._add_note(error, step)
                raise error
            self._complete(error)
            return error
        finally:
            del error

    def _let_go(self) -> None:
        """Close what is in hand. What that raises is nobody's: something else is, or nothing."""
        response, self._response = self._response, None
        if response is not None:
            with contextlib.suppress(Exception):
                response.close()
        self._close_steps()

    def _close_steps(self) -> None:
        """Let the auth's generator clean up, which may take its time."""
        steps, self._steps = self._steps, None
        if steps is None:
            return
        abort = self._context.abort
        if not abort.begin_user_code():
            abort.after = [*abort.after, steps.close]
            return
        try:
            with contextlib.suppress(Exception):
                steps.close()
        finally:
            abort.end_user_code()

    def _perform(self, step: Step) -> typing.Any:
        if isinstance(step, Send):
            return self._send(step.request)
        abort = self._context.abort
        abort.blame_user(None)  # for what may be gone, and another exception in its place
        if isinstance(step, Read):
            return self._read(step.response)
        if isinstance(step, Discard):
            return self._dispatched(lambda: self._discard(step.response))
        if isinstance(step, Begin):
            self._close_steps()
            with abort.user_code():
                self._steps = steps = _begin(step)
            return steps
        if isinstance(step, Next):
            with abort.user_code():
                return _advance(step)
        if isinstance(step, Share):
            abort.phase = "waiting for credentials"
            return step.perform(abort)
        assert isinstance(step, Sleep)
        abort.phase = "waiting to try again"
        return abort.sleep(step.seconds)

    def _dispatched(self, function: typing.Callable[[], typing.Any]) -> typing.Any:
        """Call what is the dispatcher's: that of a user, unless it says that it can be aborted."""
        if self._dispatcher.abortable:
            return function()
        with self._context.abort.user_code():
            return function()

    def _send(self, request: Request) -> Response:
        self._context.abort.blame_user(None)  # see `_perform`
        self._message = None
        hooks = self._reception.hooks
        if hooks is NO_HOOKS:
            self._request = request
            return self._exchange(request)
        telling = _Telling()
        try:
            self._request = request
            if hooks.request:
                self._request = request = self._shown(request, telling)
            telling.begun = True
            response = self._exchange(request)
            if hooks.response:
                response._is_bare = False  # they may change it
                with self._context.abort.user_code():
                    telling.done = True
                    self._call_all(hooks.response, response)
        except Exception as error:
            if telling.begun and not telling.done:
                self._failed(error)
            raise
        return response

    def _shown(self, request: Request, telling: _Telling) -> Request:
        """To the hooks, a copy, of which they may change the headers."""
        shown = request._replace()
        with self._context.abort.user_code():
            telling.begun = True
            self._request = shown
            self._call_all(self._reception.hooks.request, shown)
        if shown.method != request.method or shown.url is not request.url:
            self._request = request
            raise ValueError(
                "a request hook may change the headers of the request, not its method or URL"
            )
        shown._check_headers()
        return shown

    def _exchange(self, request: Request) -> Response:
        context = self._context
        if self._has_begun:
            context.timings = context.timings._for_exchange()
        self._has_begun = True
        timings = context.timings
        if self._record is not None:
            self._message = self._record.send(request, timings, context.abort)
        context.abort.phase = "waiting for the dispatcher"
        if self._dispatcher.abortable:
            response = self._dispatcher.send(request, context)
        else:
            response = self._foreign_response(request)
        if not isinstance(response, Response):
            name = type(self._dispatcher).__name__
            raise TypeError(f"{name}.send() returns a Response, not {type(response).__name__}")
        self._response = response
        if type(self._dispatcher) is not NetworkDispatch:
            response._is_bare = False  # as it came it may have been; it has been elsewhere since
            response._meter(context.abort)
        if response.request is None:
            response.request = request
        response.timings = timings
        # What a dispatcher may have left out.
        timings.mark("first_byte")
        if response._stream is None:
            timings.mark("done")
        else:
            response._add_on_close(functools.partial(timings.mark, "done"))
        if self._message is not None:
            self._message.answered(response)
            response._watch(timings._seen)
            response._add_on_close(functools.partial(self._message.end, context.abort))
        response.tag = self._tag
        response._max_size = self._reception.max_response_size
        response._default_encoding = self._reception.default_encoding
        return response

    def _foreign_response(self, request: Request) -> Response:
        """Of a dispatcher of the user's."""
        returned: list[Response] = []
        try:
            with self._context.abort.user_code():
                returned.append(self._dispatcher.send(request, self._context))
        except BaseException:
            # Aborted while code of the user's ran, which answered all the same.
            for unwanted in returned:
                if isinstance(unwanted, Response):
                    unwanted.close()
            raise
        return returned.pop()

    def _read(self, response: Response) -> None:
        try:
            if response.is_closed or self._dispatcher.abortable:
                response.read()
            else:
                with self._context.abort.user_code():
                    response.read()
        except Exception as error:
            self._failed(error)
            raise

    def _is_of_this_request(self, error: Exception, step: Step) -> bool:
        """
        Whether the exchange failed, which may be tried again; and not code of the user's that
        makes requests of its own, or refuses this one.
        """
        if not isinstance(error, HTTPError):
            return False
        abort = self._context.abort
        return abort.aborted or not (
            isinstance(step, (Begin, Next, Share)) or abort.is_of_user(error)
        )

    def _call_all(
        self, hooks: typing.Iterable[typing.Callable[[typing.Any], object]], argument: object
    ) -> None:
        try:
            for hook in hooks:
                hook(argument)
        except Exception as error:
            self._context.abort.blame_user(error)
            raise

    def _failed(self, error: Exception) -> None:
        """An exchange has: whoever was told of its request is told."""
        hooks = self._reception.hooks
        if not hooks.error:
            return
        abort = self._context.abort
        if isinstance(error, HTTPError) and abort.aborted:
            error.request = self._request  # as it was sent, not as it was submitted
        self._complete(error)
        if not abort.begin_user_code():
            late = [functools.partial(hook, error) for hook in hooks.error]
            abort.after = [*abort.after, *late]
            return
        try:
            self._call_all(hooks.error, error)
        finally:
            abort.end_user_code()

    def _discard(self, response: Response) -> None:
        end = time.monotonic() + _DISCARD_SECONDS
        try:
            read = 0
            response._limit(_DISCARD_SECONDS)
            for chunk in response.raw():
                read += len(chunk)
                if read > _DISCARD_BYTES or time.monotonic() > end:
                    break
        except Exception:
            # A body of no interest that breaks is of no interest. An abort is.
            self._context.abort.check()
        finally:
            response.close()
            if type(self._dispatcher) is NetworkDispatch:
                response._drop()

    def _complete(self, error: Exception) -> None:
        if isinstance(error, HTTPError):
            if error.request is None:
                error.request = self._request
            if error.tag is None:
                error.tag = self._tag

    def _add_note(self, error: Exception, step: Step) -> None:
        if isinstance(error, HTTPError):
            self._complete(error)
        elif isinstance(step, Share):
            return  # many requests may raise it
        if hasattr(error, "add_note"):  # Python 3.11
            error.add_note(f"while requesting {self._request.method} {self._request.url.redacted}")


class _Telling:
    """How far the hooks of one message have got."""

    __slots__ = ("begun", "done")

    def __init__(self) -> None:
        self.begun = self.done = False


def _begin(step: Begin) -> AuthSteps:
    steps = step.auth.steps(step.request)
    if not isinstance(steps, collections.abc.Generator):
        raise TypeError(f"the steps() of an Auth is a generator, not {type(steps).__name__}")
    return steps


def _advance(step: Next) -> Request | Share | None:
    try:
        following = next(step.steps) if step.value is None else step.steps.send(step.value)
    except StopIteration:
        return None
    if not isinstance(following, (Request, Share)):
        name = type(following).__name__
        raise TypeError(f"the steps() of an Auth yields requests, not {name}")
    if isinstance(following, Request):
        following._check_headers()
    return following
