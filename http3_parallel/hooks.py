"""Functions of the user's that are called for every message on the wire."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterable, Mapping

from .models import Request, Response

__all__ = ["NO_HOOKS", "EventHooks", "Hooks"]

RequestHook = typing.Callable[[Request], object]
ResponseHook = typing.Callable[[Response], object]
ErrorHook = typing.Callable[[Exception], object]


class EventHooks(typing.TypedDict, total=False):
    """
    Functions to call, in their order, for each message on the wire: those of redirects, retries
    and authentication included. They run in the thread that makes the request, with the context
    variables of the code that made it; what one sets there, the later ones of that request see.

    * `request`: with the `Request` that is about to be sent, a copy. They may change its headers.
    * `response`: with the `Response` when its head is there, its body unread.
    * `error`: with the exception that ended an exchange without a response, or while its body
      was read for the caller. An `HTTPError` has the request as `.request`. Those of a request
      that was cancelled or whose deadline passed are called after it has ended.

    What they return is ignored. What they raise comes out of `get_response()`, `next_response()`
    or the plain call, as it is. They may make requests themselves, for which they are called too.
    """

    request: typing.Sequence[RequestHook]
    response: typing.Sequence[ResponseHook]
    error: typing.Sequence[ErrorHook]


class Hooks(typing.NamedTuple):
    """The same, checked."""

    request: tuple[RequestHook, ...] = ()
    response: tuple[ResponseHook, ...] = ()
    error: tuple[ErrorHook, ...] = ()

    @classmethod
    def of(cls, hooks: EventHooks | None) -> Hooks:
        """Raises `TypeError` and `ValueError` for what are none."""
        if hooks is None:
            return NO_HOOKS
        if not isinstance(hooks, Mapping):
            raise TypeError(f"event_hooks is a dict of lists, not {type(hooks).__name__}")
        unknown = hooks.keys() - set(cls._fields)
        if unknown:
            raise ValueError(
                f"{min(unknown, key=str)!r} is no event: those are 'request', 'response' and "
                "'error'"
            )
        return cls(**{event: _functions(event, listed) for event, listed in hooks.items()})


def _functions(event: str, listed: object) -> tuple[typing.Any, ...]:
    if not isinstance(listed, Iterable):
        raise TypeError(f"the hooks of {event!r} are a list, not {type(listed).__name__}")
    functions = tuple(listed)
    for function in functions:
        if not callable(function):
            raise TypeError(f"a hook of {event!r} is a function, not {type(function).__name__}")
        if any(map(inspect.iscoroutinefunction, (function, type(function).__call__))):
            raise TypeError(f"a hook of {event!r} is called by a thread: it cannot be asynchronous")
    return functions


NO_HOOKS = Hooks()
