"""Performs the steps of a flow: the I/O that `flow` decides on."""

from __future__ import annotations

import functools
import time
import typing

from .auth import Share
from .dispatch import Context, Dispatcher
from .exceptions import HTTPError
from .flow import Discard, Next, Read, Send, Sleep, Step
from .hooks import Hooks
from .models import Request, Response

__all__ = ["Driver", "Reception"]

#: How much of a body that nobody wants is read, in bytes, for the sake of its connection. More
#: costs more than a new one.
_DISCARD_BYTES = 64 * 1024
#: And for how long, if it comes in drips; so long at most for each of them.
_DISCARD_SECONDS = 0.5


class Reception(typing.NamedTuple):
    """What is done about each message, the same for all requests of a client."""

    hooks: Hooks = Hooks()
    max_response_size: int | None = None
    default_encoding: str | None = None


class Driver:
    """Runs one flow in the calling thread."""

    __slots__ = ("_context", "_dispatcher", "_reception", "_request")

    def __init__(
        self,
        dispatcher: Dispatcher,
        context: Context,
        request: Request,
        reception: Reception = Reception(),  # noqa: B008  # it cannot change
    ) -> None:
        self._dispatcher = dispatcher
        self._context = context
        self._request = request
        self._reception = reception

    def run(self, flow: typing.Generator[Step, typing.Any, Response]) -> Response:
        resume: typing.Callable[[typing.Any], Step] = flow.send
        argument: typing.Any = None
        try:
            while True:
                try:
                    step = resume(argument)
                except StopIteration as stop:
                    return stop.value  # type: ignore[no-any-return]  # what a flow returns
                try:
                    argument, resume = self._perform(step), flow.send
                except HTTPError as error:
                    if error.request is None:
                        error.request = self._request
                    argument, resume = error, flow.throw
                except Exception as error:
                    # Of the user's code, whether that is a dispatcher, auth or a body.
                    if not isinstance(step, Share):  # which many requests may raise
                        self._add_note(error)
                    raise
        finally:
            # What is raised refers to this frame: it must not refer back.
            del argument, resume, flow

    def _perform(self, step: Step) -> typing.Any:
        if isinstance(step, Send):
            return self._send(step.request)
        if isinstance(step, Read):
            return self._read(step.response)
        if isinstance(step, Discard):
            return self._dispatched(lambda: self._discard(step.response))
        abort = self._context.abort
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
        hooks = self._reception.hooks
        response: Response | None = None
        told = False
        try:
            if hooks.request:
                request = request._replace()
                self._call(hooks.request, request)
                request._check_headers()
            self._request = request
            response = self._exchange(request)
            if hooks.response:
                with self._context.abort.user_code():
                    told = True
                    for hook in hooks.response:
                        hook(response)
        except BaseException as error:
            if response is not None:
                response.close()
            if isinstance(error, Exception) and not told:
                self._failed(error)
            raise
        return response

    def _exchange(self, request: Request) -> Response:
        context = self._context
        context.timings = timings = context.timings._for_exchange()
        returned: list[Response] = []
        try:
            self._dispatched(lambda: returned.append(self._dispatcher.send(request, context)))
        except BaseException:
            # Aborted while code of the user's ran, which answered all the same.
            for unwanted in returned:
                if isinstance(unwanted, Response):
                    unwanted.close()
            raise
        response = returned.pop()
        if not isinstance(response, Response):
            name = type(self._dispatcher).__name__
            raise TypeError(f"{name}.send() returns a Response, not {type(response).__name__}")
        if response.request is None:
            response.request = request
        timings.mark("first_byte")
        response.timings = timings
        response._add_on_close(functools.partial(timings.mark, "done"))
        response._max_size = self._reception.max_response_size
        response._default_encoding = self._reception.default_encoding
        return response

    def _read(self, response: Response) -> None:
        try:
            self._dispatched(response.read)
        except Exception as error:
            self._failed(error)
            raise

    def _call(
        self, hooks: typing.Iterable[typing.Callable[[typing.Any], object]], argument: object
    ) -> None:
        with self._context.abort.user_code():
            for hook in hooks:
                hook(argument)

    def _failed(self, error: Exception) -> None:
        """An exchange has: whoever was told of its request is told."""
        hooks = self._reception.hooks
        if not hooks.error:
            return
        if isinstance(error, HTTPError) and error.request is None:
            error.request = self._request
        abort = self._context.abort
        if abort.aborted:
            abort.after += [functools.partial(hook, error) for hook in hooks.error]
            return
        self._call(hooks.error, error)

    def _discard(self, response: Response) -> None:
        end = time.monotonic() + _DISCARD_SECONDS
        try:
            read = 0
            response._limit(_DISCARD_SECONDS)
            for chunk in response.raw():
                read += len(chunk)
                if read > _DISCARD_BYTES or time.monotonic() > end:
                    break
        except HTTPError:
            # A body of no interest that breaks is of no interest. An abort is.
            self._context.abort.check()
        finally:
            response.close()

    def _add_note(self, error: Exception) -> None:
        if hasattr(error, "add_note"):  # Python 3.11
            error.add_note(f"while requesting {self._request.method} {self._request.url.redacted}")


def _advance(step: Next) -> Request | Share | None:
    try:
        following = next(step.steps) if step.value is None else step.steps.send(step.value)
    except StopIteration:
        return None
    if not isinstance(following, (Request, Share)):
        name = type(following).__name__
        raise TypeError(f"the steps() of an Auth yields requests, not {name}")
    return following
