"""The Bearer scheme (RFC 6750), with tokens that are renewed when the server refuses them."""

from __future__ import annotations

import functools
import inspect
import re
import typing

from .base import Auth
from .sharing import Shared

if typing.TYPE_CHECKING:
    from ..models import Request
    from .base import AuthSteps

__all__ = ["BearerAuth"]

# Wider than RFC 6750's b64token, which "1|abc" or "id:secret" of real servers are not.
_TOKEN = re.compile(r"[\x21-\x7e]+")


class BearerAuth(Auth):
    """
    The Bearer scheme (RFC 6750).

    * `token`: visible ASCII characters. None: `refresh` is asked for one by the first request.
    * `refresh`: a callable without arguments that returns a new token, a str. Without it, a 401
      is returned as it is.

    A 401 has the token renewed, and the request sent once more, if its body can be sent again;
    what comes then is returned. If its body cannot, the 401 is returned, and the next request
    has the token renewed first.

    Requests that meet a 401 together, in whatever threads, have `refresh` called once. What it
    raises, they all raise: the same exception, or of an `HTTPError` a copy with their own tag. The
    next request after that calls it again. It runs in the thread of one of the requests. If that
    one is ended meanwhile (its block is left, its deadline passes, it is cancelled), another that
    waits calls `refresh` again at once: it may then run in two threads, and the token counts that
    is there first.

    Requests that `refresh` makes with this same auth, a block's included, go without a token.
    They must not come from threads that it starts by other means, and waits for: these, unless
    they run in a copy of its `contextvars` context, would wait for the token that it is to get.

    A wrong argument is a `TypeError` or `ValueError`, which never shows the token.
    """

    def __init__(
        self,
        token: str | None = None,
        *,
        refresh: typing.Callable[[], str] | None = None,
    ) -> None:
        if token is None and refresh is None:
            raise TypeError("BearerAuth takes a token, or refresh=, a callable that returns one")
        if refresh is not None:
            _check_callable(refresh)
        self._refresh = refresh
        self._share_tokens(None if token is None else _Token(token, "a token"))

    def _share_tokens(self, first: _Token | None) -> None:
        renew = functools.partial(_renewed, self._refresh)
        self._tokens = Shared(renew, first, doing="getting a new token")
        #: Could not be replaced at once, since the request could not be sent again.
        self._refused: _Token | None = None

    def steps(self, request: Request) -> AuthSteps:
        if self._tokens.is_within:
            yield request
            return
        token = self._tokens.value
        if token is None or token is self._refused:
            token = yield self._tokens.instead_of(token)
        response = yield _with_token(request, token)
        if response.status_code != 401 or self._refresh is None:
            return
        if not request._is_whole:
            self._refused = token
            return
        token = yield self._tokens.instead_of(token)
        yield _with_token(request, token)

    def __getstate__(self) -> dict[str, typing.Any]:
        return {**self.__dict__, "_tokens": self._tokens.value, "_refused": None}

    def __setstate__(self, state: dict[str, typing.Any]) -> None:
        self.__dict__.update(state)
        self._share_tokens(state["_tokens"])

    def __repr__(self) -> str:
        return "<BearerAuth>"


class _Token:
    """One that was given or issued: each is another, even if the text is the same."""

    __slots__ = ("text",)

    def __init__(self, text: object, what: str) -> None:
        if not isinstance(text, str):
            raise TypeError(f"{what} is a str, not {type(text).__name__}")
        if not _TOKEN.fullmatch(text):
            raise ValueError(
                f"{what} is one or more visible ASCII characters, without spaces or line breaks "
                "(RFC 6750, section 2.1)"
            )
        self.text = text


def _renewed(refresh: typing.Callable[[], object] | None) -> _Token:
    assert refresh is not None
    token = refresh()
    if inspect.iscoroutine(token):
        token.close()  # it would warn that it was never awaited
    return _Token(token, "what refresh() returns")


def _with_token(request: Request, token: _Token) -> Request:
    changed = request._replace()
    changed.headers["authorization"] = f"Bearer {token.text}"
    return changed


def _check_callable(refresh: object) -> None:
    if not callable(refresh):
        raise TypeError(f"refresh is a callable, not {type(refresh).__name__}")
    for function in (refresh, type(refresh).__call__):
        if inspect.iscoroutinefunction(function):
            raise TypeError("refresh is called by a thread: it cannot be asynchronous")
