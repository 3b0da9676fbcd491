"""What a scheme is: a generator of the requests to send."""

from __future__ import annotations

import typing

from ..models import Request
from .sharing import Share

__all__ = ["Auth", "AuthBase", "AuthSteps", "CallableAuth"]

#: Is sent the response to each request, and the value of each `Share`.
AuthSteps = typing.Generator[typing.Union[Request, Share], typing.Any, None]


class Auth:
    """
    A scheme. `steps` yields the requests to send, with what it adds, and gets the responses, their
    bodies unread. It begins anew for each retry and for each redirect within the origin, and is
    closed when its request has ended.

    It must not block. Where it needs what many requests wait for together, it yields a `Share`
    and gets its value.
    """

    def steps(self, request: Request) -> AuthSteps:
        raise NotImplementedError


class CallableAuth(Auth):
    """A function that takes the request, as a copy of its own, and returns the one to send."""

    def __init__(self, function: typing.Callable[[Request], Request]) -> None:
        self._function = function

    def steps(self, request: Request) -> AuthSteps:
        changed = self._function(request._replace())
        if not isinstance(changed, Request):
            # By its type alone: it may be a token.
            raise TypeError(
                f"an auth callable returns the request to send, not {type(changed).__name__}"
            )
        yield changed


class AuthBase(Auth):
    """
    A scheme as http3 had it: an object that is called with the request, a copy of its own, and
    returns the one to send.
    """

    def __call__(self, request: Request) -> Request:
        raise NotImplementedError

    def steps(self, request: Request) -> AuthSteps:
        return CallableAuth(self).steps(request)
