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
    """Runs one flow in the calling thread. What comes of it has the `tag`."""

    __slots__ = ("_context", "_dispatcher", "_of_a_hook", "_reception", "_request", "_tag")

    def __init__(
        self,
        dispatcher: Dispatcher,
        context: Context,
        request: Request,
        tag: object = None,
        reception: Reception = Reception(),  # noqa: B008  # it cannot change
    ) -> None:
        self._dispatcher = dispatcher
        self._context = context
        self._request = request
        self._tag = tag
        self._reception = reception
        #: The `id` of what a hook raised. Not itself, whose traceback refers to this.
        self._of_a_hook = 0

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
                except Exception as error:
                    if not self._is_of_this_request(error):
                        # Of the user's code, whether that is a dispatcher, auth or a body.
                        if not isinstance(step, Share):  # which many requests may raise
                            self._add_note(error)
                        raise
                    self._complete(error)
                    argument, resume = error, flow.throw
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
            self._request = request
            if hooks.request:
                self._request = request = self._shown(request)
            response = self._exchange(request)
            if hooks.response:
                with self._context.abort.user_code():
                    told = True
                    self._call_all(hooks.response, response)
        except BaseException as error:
            if response is not None:
                response.close()
            if isinstance(error, Exception) and not told:
                self._failed(error)
            raise
        return response

    def _shown(self, request: Request) -> Request:
        """To the hooks, a copy, of which they may change the headers."""
        self._request = shown = request._replace()
        self._call(self._reception.hooks.request, shown)
        if shown.method != request.method or shown.url != request.url:
            raise ValueError(
                "a request hook may change the headers of the request, not its method or URL"
            )
        shown._check_headers()
        return shown

    def _exchange(self, request: Request) -> Response:
        context = self._context
        context.timings = timings = context.timings._for_exchange()
        context.abort.phase = "waiting for the dispatcher"
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
        response.tag = self._tag
        response._max_size = self._reception.max_response_size
        response._default_encoding = self._reception.default_encoding
        return response

    def _read(self, response: Response) -> None:
        try:
            self._dispatched(response.read)
        except Exception as error:
            self._failed(error)
            raise

    def _is_of_this_request(self, error: Exception) -> bool:
        """
        Whether the exchange failed, which may be tried again; and not code of the user's that
        makes requests of its own, or refuses this one.
        """
        if not isinstance(error, HTTPError):
            return False
        if self._context.abort.aborted:
            return True
        return id(error) != self._of_a_hook and error.request in (None, self._request)

    def _call(
        self, hooks: typing.Iterable[typing.Callable[[typing.Any], object]], argument: object
    ) -> None:
        with self._context.abort.user_code():
            self._call_all(hooks, argument)

    def _call_all(
        self, hooks: typing.Iterable[typing.Callable[[typing.Any], object]], argument: object
    ) -> None:
        try:
            for hook in hooks:
                hook(argument)
        except Exception as error:
            self._of_a_hook = id(error)
            raise

    def _failed(self, error: Exception) -> None:
        """An exchange has: whoever was told of its request is told."""
        hooks = self._reception.hooks
        if not hooks.error:
            return
        self._complete(error)
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

    def _complete(self, error: Exception) -> None:
        if isinstance(error, HTTPError):
            if error.request is None:
                error.request = self._request
            if error.tag is None:
                error.tag = self._tag

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
