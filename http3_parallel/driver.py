"""Performs the steps of a flow: the I/O that `flow` decides on."""

from __future__ import annotations

import typing

from .dispatch import Context, Dispatcher
from .exceptions import HTTPError
from .flow import Discard, Next, Read, Send, Sleep, Step
from .models import Request, Response

__all__ = ["Driver"]

#: How much of a body that nobody wants is read, in bytes, for the sake of its connection. More
#: costs more than a new one.
_DISCARD_BYTES = 64 * 1024


class Driver:
    """Runs one flow in the calling thread."""

    __slots__ = ("_context", "_dispatcher", "_request")

    def __init__(self, dispatcher: Dispatcher, context: Context, request: Request) -> None:
        self._dispatcher = dispatcher
        self._context = context
        self._request = request

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
        finally:
            # What is raised refers to this frame: it must not refer back.
            del argument, resume, flow

    def _perform(self, step: Step) -> typing.Any:
        abort = self._context.abort
        if isinstance(step, Send):
            return self._send(step.request)
        if isinstance(step, Read):
            if self._dispatcher.abortable:
                return step.response.read()
            return self._in_user_code(step.response.read)
        if isinstance(step, Discard):
            return self._discard(step.response)
        if isinstance(step, Next):
            return self._in_user_code(lambda: _advance(step))
        assert isinstance(step, Sleep)
        abort.phase = "waiting to try again"
        return abort.sleep(step.seconds)

    def _send(self, request: Request) -> Response:
        self._request = request
        if self._dispatcher.abortable:
            response = self._dispatcher.send(request, self._context)
        else:
            response = self._in_user_code(lambda: self._dispatcher.send(request, self._context))
        if not isinstance(response, Response):
            raise TypeError(f"a dispatcher returns a Response, not {response!r}")
        if response.request is None:
            response.request = request
        return response

    def _in_user_code(self, function: typing.Callable[[], typing.Any]) -> typing.Any:
        try:
            with self._context.abort.user_code():
                return function()
        except HTTPError:
            raise
        except BaseException as error:
            if hasattr(error, "add_note"):  # Python 3.11
                error.add_note(
                    f"while requesting {self._request.method} {self._request.url.redacted}"
                )
            raise

    def _discard(self, response: Response) -> None:
        try:
            read = 0
            for chunk in response.raw():
                read += len(chunk)
                if read > _DISCARD_BYTES:
                    break
        except HTTPError:
            # A body of no interest that breaks is of no interest. An abort is.
            self._context.abort.check()
        finally:
            response.close()


def _advance(step: Next) -> Request | None:
    try:
        return step.steps.send(step.response) if step.response is not None else next(step.steps)
    except StopIteration:
        return None
