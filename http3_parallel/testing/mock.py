"""Scripted responses in place of the network."""

from __future__ import annotations

import contextlib
import copy
import difflib
import fnmatch
import json as jsonlib
import os
import re
import socket
import ssl
import threading
import typing
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType

from ..aborting import Abort, Signal
from ..config import check_count
from ..dispatch import Context, Dispatcher
from ..dispatch.base import replacements
from ..exceptions import (
    CertificateError,
    ConnectError,
    HTTPError,
    IncompleteRead,
    NameResolutionError,
    ReadError,
    ReadTimeout,
    ResponseClosed,
    StreamError,
    TLSError,
)
from ..models import URL, Headers, HeaderTypes, QueryParams, Request, Response
from .clock import VirtualClock

__all__ = ["Call", "MockDispatch", "Reply", "Route", "UnmatchedRequest"]

#: A URL, a path, a pattern for the whole URL, or a function that looks at the request.
URLPattern = typing.Union[str, URL, "re.Pattern[str]", Callable[[Request], bool]]
#: In a body: bytes; seconds that pass before the next piece; or what breaks it off.
Piece = typing.Union[bytes, str, float, int, HTTPError, "type[HTTPError]"]
Content = typing.Union[bytes, str, Iterable[Piece]]
Failure = typing.Union[BaseException, "type[BaseException]", Callable[[Request], BaseException]]

#: How many routes are named for a request that matches none.
_MOST_NAMED = 5


class UnmatchedRequest(AssertionError):
    """
    A request that no route is for. Not an `HTTPError`: it is a mistake of the test, or of the code,
    which neither should handle.
    """


class Call(typing.NamedTuple):
    """A request that has come."""

    request: Request
    #: Its body, also of one that was streamed.
    content: bytes
    #: None if it matched none.
    route: Route | None
    #: When it came, in seconds of the clock.
    at: float
    #: What it was submitted with as ``tag=``.
    tag: typing.Any = None

    @property
    def json(self) -> typing.Any:
        """The body, parsed. ValueError if it is no JSON."""
        return jsonlib.loads(self.content)


class Reply:
    """
    What a route answers with.

    * `status_code`, `headers`: of the response. A Content-Length above what the body has breaks
      that off at its end: `IncompleteRead`.
    * `content`: its body: bytes, text, or an iterable of pieces. A number among these is a pause,
      in seconds; an exception breaks the body off there.
    * `json`: in place of `content`: what the body says in JSON.
    * `latency`: seconds until the response begins. Above the read timeout of the request, that is
      what it meets.
    * `error`: in place of a response: an exception, a class of exceptions, or a function that makes
      one from the request. It is raised after `latency`; an `OSError` as what the network makes of
      it: `ConnectionRefusedError` as a `ConnectError`, say.
    * `hangs`: it never answers: the request ends by its timeouts, its deadline, or when it is
      cancelled.
    * `handler`: in place of all others but `latency`: a function that makes the `Response` from the
      request, or raises.
    """

    def __init__(
        self,
        status_code: int = 200,
        *,
        headers: HeaderTypes | None = None,
        content: Content | None = None,
        json: typing.Any = None,
        latency: float | None = None,
        error: Failure | None = None,
        hangs: bool = False,
        handler: Callable[[Request], Response] | None = None,
    ) -> None:
        given = [
            content is not None,
            json is not None,
            error is not None,
            hangs,
            handler is not None,
        ]
        if sum(given) > 1:
            raise TypeError("a reply has one of content, json, error, hangs and handler")
        if not isinstance(status_code, int) or not 100 <= status_code <= 599:
            raise ValueError(f"a status code is a number from 100 to 599, not {status_code!r}")
        if latency is not None and not latency >= 0:
            raise ValueError(f"latency is in seconds, 0 or more, not {latency!r}")
        self.status_code: int = status_code
        self.headers: Headers = Headers(headers)
        self.latency: float | None = latency
        self.error: Failure | None = error
        self.hangs: bool = hangs
        self.handler: Callable[[Request], Response] | None = handler
        self._pieces: list[Piece] = []
        if json is not None:
            self._pieces = [jsonlib.dumps(json, ensure_ascii=False).encode()]
            self.headers.setdefault("content-type", "application/json")
        elif isinstance(content, str):
            self._pieces = [content.encode()]
            self.headers.setdefault("content-type", "text/plain; charset=utf-8")
        elif isinstance(content, (bytes, bytearray, memoryview)):
            self._pieces = [bytes(content)]
        elif content is not None:
            # As often as it is asked for, from whatever thread.
            self._pieces = [_checked_piece(piece) for piece in content]

    @property
    def is_whole(self) -> bool:
        """Whether the body is there at once, and whole."""
        return all(isinstance(piece, (bytes, str)) for piece in self._pieces)

    @property
    def content(self) -> bytes:
        return b"".join(
            _encoded(piece) for piece in self._pieces if isinstance(piece, (bytes, str))
        )

    @property
    def pieces(self) -> list[Piece]:
        return list(self._pieces)


def _checked_piece(piece: typing.Any) -> Piece:
    is_error = isinstance(piece, HTTPError) or (
        isinstance(piece, type) and issubclass(piece, HTTPError)
    )
    if is_error or isinstance(piece, (bytes, str)):
        return typing.cast(Piece, piece)
    if isinstance(piece, (int, float)) and not isinstance(piece, bool) and piece >= 0:
        return piece
    raise TypeError(
        "a body is made of bytes, text, seconds to wait, and an HTTPError that ends it, "
        f"not {piece!r}"
    )


def _encoded(piece: bytes | str) -> bytes:
    return piece.encode() if isinstance(piece, str) else piece


class Route:
    """Requests of one kind, and what they are answered with. Made by `MockDispatch`."""

    def __init__(
        self,
        method: str | None,
        url: URLPattern,
        *,
        params: Mapping[str, str] | None = None,
        match_headers: Mapping[str, str] | None = None,
        match_content: bytes | str | None = None,
        match_json: typing.Any = None,
        times: int | None = None,
        required: bool = True,
    ) -> None:
        self.method: str | None = None if method is None else method.upper()
        self.required: bool = required
        #: The calls that it was for, as in `MockDispatch.calls`.
        self.calls: list[Call] = []
        self._url = url
        self._matches_url = _url_matcher(url, params is not None)
        self._params = None if params is None else dict(params)
        self._headers = dict(match_headers or {})
        self._content = match_content.encode() if isinstance(match_content, str) else match_content
        self._json = match_json
        self._times = check_count("times", times, 1)
        self._replies: list[Reply] = []
        self._taken = 0

    def reply(self, status_code: int = 200, **reply: typing.Any) -> Route:
        """
        Answer the next request with this, the later ones too if it is the last: takes what `Reply`
        does. Returns the route.
        """
        self._replies.append(Reply(status_code, **reply))
        return self

    @property
    def call_count(self) -> int:
        return len(self.calls)

    @property
    def called(self) -> bool:
        return bool(self.calls)

    @property
    def is_exhausted(self) -> bool:
        """Whether it has been for as many requests as it may."""
        return self._times is not None and self._taken >= self._times

    def matches(self, request: Request, content: bytes) -> bool:
        return (
            (self.method is None or self.method == request.method)
            and self._matches_url(request)
            and (self._params is None or _has_params(request.url, self._params))
            and all(request.headers.get(name) == value for name, value in self._headers.items())
            and (self._content is None or self._content == content)
            and (self._json is None or _is_json(content, self._json))
        )

    def take(self) -> Reply:
        """The reply for one more request."""
        place = min(self._taken, len(self._replies) - 1)
        self._taken += 1
        return self._replies[place] if self._replies else Reply()

    def __repr__(self) -> str:
        return f"<Route {self}>"

    def __str__(self) -> str:
        url = self._url
        if isinstance(url, re.Pattern):
            shown = f"matching {url.pattern!r}"
        elif isinstance(url, (str, URL)):
            shown = str(url)
        else:
            shown = getattr(url, "__name__", repr(url))
        more = [f"params {self._params}"] if self._params is not None else []
        more += [f"headers {self._headers}"] if self._headers else []
        more += ["a certain body"] if self._content is not None else []
        more += [f"JSON {self._json!r}"] if self._json is not None else []
        return f"{self.method or 'any method'} {shown}" + (
            f" with {', '.join(more)}" if more else ""
        )


def _url_matcher(pattern: URLPattern, any_query: bool) -> Callable[[Request], bool]:
    """`any_query`: whether the query is compared elsewhere."""
    if isinstance(pattern, re.Pattern):
        expression = pattern
        return lambda request: expression.fullmatch(_whole(request.url)) is not None
    if isinstance(pattern, (str, URL)):
        text = str(pattern)
        if any_query:
            text = text.partition("?")[0]
        if "*" in text:
            return _wildcard_matcher(text, any_query)
        if text.startswith("/"):
            at_any_host = URL(f"http://any.invalid{text}")
            return lambda request: (
                (request.url.path or "/") == at_any_host.path
                and (any_query or _same_query(request.url, at_any_host.query))
            )
        url = URL(text)
        return lambda request: (
            _place(request.url) == _place(url)
            and (any_query or _same_query(request.url, url.query))
        )
    if callable(pattern):
        return pattern
    raise TypeError(
        "a route is for a URL, a path, a compiled pattern or a function of the request, "
        f"not {pattern!r}"
    )


def _wildcard_matcher(text: str, any_query: bool) -> Callable[[Request], bool]:
    is_path = text.startswith("/")
    # As a request has them: encoded, and the host in lower case.
    if is_path:
        text = URL(f"http://any.invalid{text}").full_path
    else:
        start, mark, rest = text.partition("://")
        host, slash, path = rest.partition("/")
        if slash:
            path = URL(f"http://any.invalid/{path}").full_path
        elif mark and not host.endswith("*"):
            path = "/"
        text = start.lower() + mark + _host_of(start.lower(), host) + path
    wanted = re.compile(fnmatch.translate(text.replace("[", "[[]").replace("?", "[?]")))

    def matches(request: Request) -> bool:
        seen = request.url.full_path if is_path else _spelt(request.url)
        if any_query:
            seen = seen.partition("?")[0]
        return wanted.fullmatch(seen) is not None

    return matches


def _host_of(scheme: str, host: str) -> str:
    if not host or "*" in host:
        return host.lower().removesuffix({"http": ":80", "https": ":443"}.get(scheme, " "))
    return URL(f"{scheme if scheme in ('http', 'https') else 'http'}://{host}").host_header


def _spelt(url: URL) -> str:
    """Without what is not sent, and without a port that is the scheme's own."""
    return f"{url.scheme}://{url.host_header}{url.full_path}"


def _whole(url: URL) -> str:
    return str(url.copy_with(fragment=None, username=None, password=None))


def _place(url: URL) -> tuple[str | None, str, str]:
    return url.scheme, url.host_header, url.path or "/"


def _pairs(query: str) -> list[tuple[str, str]]:
    return sorted(QueryParams(query).multi_items())


def _same_query(url: URL, query: str) -> bool:
    return _pairs(url.query) == _pairs(query)


def _has_params(url: URL, params: Mapping[str, str]) -> bool:
    return _pairs(url.query) == sorted((name, str(value)) for name, value in params.items())


def _is_json(content: bytes, wanted: typing.Any) -> bool:
    try:
        return bool(jsonlib.loads(content) == wanted)
    except ValueError:
        return False


class MockDispatch(Dispatcher):
    """
    Answers with what a test has scripted, in place of the network; everything above that is as
    always: redirects, cookies, auth, retries, timeouts, streams.

        mock = MockDispatch()
        mock.get("https://example.com/users", json=[{"name": "Ada"}], latency=0.2)
        mock.get("https://example.com/down", status_code=503)
        client = http3.Client(dispatch=mock)

    Latencies pass on a clock of its own, without any time passing: it stands still until every
    request that has a worker is in here, and somebody waits for a response. So responses come in
    the order of their latencies, each time the test runs, and a test of timeouts takes no time.

    Routes are tried in the order in which they were added. A request that matches none raises
    `UnmatchedRequest`. As a context manager it raises that at the end, too, should the code have
    swallowed it, and AssertionError for routes that were never used.

    * `latency`: seconds that a reply takes which has none of its own.
    * `callers`: how many threads, or tasks, must wait before the clock starts: more than 1, where
      several make requests, and should begin together.

    The clock is told of blocks, plain calls, retries and deadlines. What code of the user's does
    with `time.sleep` takes the time it takes. `Response.elapsed` and `timings` are in real time.
    """

    abortable = True

    def __init__(self, *, latency: float = 0.0, callers: int = 1) -> None:
        if not latency >= 0:
            raise ValueError(f"latency is in seconds, 0 or more, not {latency!r}")
        self.clock: VirtualClock = VirtualClock(check_count("callers", callers, 1) or 1)
        self._clock = self.clock
        self._latency = latency
        self._lock = threading.Lock()
        _mocks.add(self)
        self._routes: list[Route] = []
        self._calls: list[tuple[float, float, Call]] = []

    # Scripting.

    def add(
        self,
        method: str | None,
        url: URLPattern,
        status_code: int = 200,
        *,
        params: Mapping[str, str] | None = None,
        match_headers: Mapping[str, str] | None = None,
        match_content: bytes | str | None = None,
        match_json: typing.Any = None,
        times: int | None = None,
        required: bool = True,
        **reply: typing.Any,
    ) -> Route:
        """
        Answer requests of `method` (None: of any) for `url`; returns the `Route`, whose `reply()`
        adds what later ones are answered with, and which knows its `calls`.

        `url` is a URL, its parameters in any order; a path, of any host; either with ``*`` for
        anything; a compiled pattern for the whole URL; or a function of the request.

        * `params`: the parameters of its query, in place of those in `url`.
        * `match_headers`: fields that the request must have.
        * `match_content`, `match_json`: what its body must be.
        * `times`: for so many requests; later ones are left to other routes.
        * `required`: whether it is a mistake if no request comes.

        And what `Reply` takes: `status_code`, `headers`, `content`, `json`, `latency`, `error`,
        `hangs`, `handler`.
        """
        route = Route(
            method,
            url,
            params=params,
            match_headers=match_headers,
            match_content=match_content,
            match_json=match_json,
            times=times,
            required=required,
        ).reply(status_code, **reply)
        with self._lock:
            self._routes.append(route)
        return route

    def get(self, url: URLPattern, status_code: int = 200, **options: typing.Any) -> Route:
        """`add` for GET."""
        return self.add("GET", url, status_code, **options)

    def head(self, url: URLPattern, status_code: int = 200, **options: typing.Any) -> Route:
        """`add` for HEAD."""
        return self.add("HEAD", url, status_code, **options)

    def options(self, url: URLPattern, status_code: int = 200, **options: typing.Any) -> Route:
        """`add` for OPTIONS."""
        return self.add("OPTIONS", url, status_code, **options)

    def post(self, url: URLPattern, status_code: int = 200, **options: typing.Any) -> Route:
        """`add` for POST."""
        return self.add("POST", url, status_code, **options)

    def put(self, url: URLPattern, status_code: int = 200, **options: typing.Any) -> Route:
        """`add` for PUT."""
        return self.add("PUT", url, status_code, **options)

    def patch(self, url: URLPattern, status_code: int = 200, **options: typing.Any) -> Route:
        """`add` for PATCH."""
        return self.add("PATCH", url, status_code, **options)

    def delete(self, url: URLPattern, status_code: int = 200, **options: typing.Any) -> Route:
        """`add` for DELETE."""
        return self.add("DELETE", url, status_code, **options)

    @contextlib.contextmanager
    def installed(self) -> Iterator[MockDispatch]:
        """
        A context in which clients that are made without ``dispatch=`` or ``app=`` have this one in
        place of the network: those of `http3_parallel.parallel()` and of the one-shot functions,
        too, in any thread.
        """
        replacements.append(self)
        try:
            yield self
        finally:
            replacements.remove(self)

    # Looking at what came.

    @property
    def calls(self) -> list[Call]:
        """All requests so far, by when they came, and then by when they were submitted."""
        with self._lock:
            calls = sorted(self._calls, key=_order)
        return [call for _, _, call in calls]

    @property
    def unmatched(self) -> list[Request]:
        return [call.request for call in self.calls if call.route is None]

    def advance(self, seconds: float) -> None:
        """See `VirtualClock.advance`."""
        self.clock.advance(seconds)

    def check(self) -> None:
        """
        Raise `UnmatchedRequest` for requests that matched no route, and AssertionError for routes
        that no request came for.
        """
        unmatched = self.unmatched
        if unmatched:
            raise UnmatchedRequest(self._explain(unmatched))
        unused = [route for route in self._routes if route.required and not route.calls]
        if unused:
            named = "\n".join(f"  {route}" for route in unused)
            raise AssertionError(f"no request came for:\n{named}\n(required=False allows that)")

    def __enter__(self) -> MockDispatch:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc_type is None:
            self.check()

    # As a dispatcher.

    def send(self, request: Request, context: Context) -> Response:
        abort = context.abort
        # One after the other, in the order in which they were submitted: whose turn a reply is does
        # not depend on which thread is here first.
        abort.sleep(0.0)
        seen = _with_content(request, abort)
        route, reply = self._note(seen, context)
        if route is None or reply is None:
            raise UnmatchedRequest(self._explain([request]))
        abort.phase = "waiting for the response"
        context.timings.mark("sent")
        self._pass_time(request, context, reply)
        if reply.error is not None:
            with abort.user_code():
                error = _made(reply.error, seen)
            raise error
        if reply.handler is not None:
            with abort.user_code():
                return reply.handler(seen)
        headers = Headers(reply.headers)
        if request.method == "HEAD" or reply.status_code in (204, 304):
            body: bytes | _Body = b""
        elif reply.is_whole and "content-length" not in headers:
            body = reply.content
            headers["content-length"] = str(len(body))
        else:
            body = _Body(reply.pieces, request, context, _length_of(headers))
        return Response(
            reply.status_code,
            protocol="HTTP/1.1",
            headers=headers,
            content=body,
            request=request,
        )

    def _note(self, request: Request, context: Context) -> tuple[Route | None, Reply | None]:
        content = request.content
        with self._lock:
            routes = self._routes.copy()
        candidates = [route for route in routes if not route.is_exhausted]
        # Without the lock: functions of the user's look at the request.
        with context.abort.user_code():
            matching = _matching(candidates, request, content)
        with self._lock:
            route = next((route for route in matching if not route.is_exhausted), None)
            tag = getattr(context.abort.clock, "tag", None)
            call = Call(request, content, route, self.clock.now, tag)
            self._calls.append((self.clock.now, _submitted(context), call))
            if route is None:
                return None, None
            route.calls.append(call)
            return route, route.take()

    def _pass_time(self, request: Request, context: Context, reply: Reply) -> None:
        latency = self._latency if reply.latency is None else reply.latency
        _wait(None if reply.hangs else latency, request, context)

    def _explain(self, requests: list[Request]) -> str:
        with self._lock:
            routes = list(self._routes)
        text = "\n".join(f"no route matches {_shown(request)}" for request in requests)
        if not routes:
            return f"{text}\nno routes were added"
        wanted = _shown(requests[0])
        nearest = sorted(
            routes, key=lambda route: -difflib.SequenceMatcher(None, wanted, str(route)).ratio()
        )
        named = [
            f"  {route}{' (used up)' if route.is_exhausted else ''}"
            for route in nearest[:_MOST_NAMED]
        ]
        more = len(nearest) - len(named)
        lines = [text, "the routes are, the nearest first:", *named]
        return "\n".join([*lines, *([f"  and {more} more"] if more else [])])


#: For a forked child, in which a thread that is not there may have the lock.
_mocks: weakref.WeakSet[MockDispatch] = weakref.WeakSet()


def _renew_locks() -> None:
    for mock in list(_mocks):
        mock._lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)


class _Body:
    """An iterator over the pieces of a scripted body, as time passes."""

    def __init__(
        self, pieces: list[Piece], request: Request, context: Context, length: int | None
    ) -> None:
        self._pieces = iter(pieces)
        #: Bytes still to come, by the Content-Length.
        self._missing = length
        self._request = request
        self._context = context

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        self._context.abort.check()
        for piece in self._pieces:
            if isinstance(piece, (bytes, str)):
                data = self._counted(_encoded(piece))
                if data:
                    return data
            elif isinstance(piece, (int, float)):
                _wait(piece, self._request, self._context)
            else:
                raise _made(piece, self._request)
        if self._missing:
            raise IncompleteRead(
                f"the body ended {self._missing} bytes short of its Content-Length",
                request=self._request,
            )
        raise StopIteration

    def _counted(self, data: bytes) -> bytes:
        if self._missing is not None:
            data = data[: self._missing]
            self._missing -= len(data)
        return data

    def wake(self) -> None:
        """Another thread closes the response while this one waits."""
        self._context.abort.abort(
            lambda: ResponseClosed("the response was closed while its body was being read")
        )


def _matching(routes: list[Route], request: Request, content: bytes) -> list[Route]:
    return [route for route in routes if route.matches(request, content)]


def _with_content(request: Request, abort: Abort) -> Request:
    """
    The request, with its body read, for the test to look at. What an iterator yields is gone from
    the request itself, as it would be on the network: so it is not sent again.
    """
    if not request.is_streaming:
        return request
    with abort.user_code():
        try:
            content = b"".join(request.stream())
        except Exception as error:
            if not isinstance(error, StreamError):  # which is the body's own
                abort.blame_user(error)
            raise
    seen = request.copy()
    seen._content, seen._source = content, None
    return seen


def _wait(seconds: float | None, request: Request, context: Context) -> None:
    """Until `seconds` have passed (None: for ever), or the read timeout has."""
    limit = context.timeout.read_timeout
    if seconds is not None and (limit is None or seconds <= limit):
        context.abort.sleep(seconds)  # 0 too, so that it is in order
        return
    context.abort.wait(Signal(), limit)
    raise ReadTimeout(f"no data came for {limit} s: the read timeout", request=request)


def _made(failure: Failure, request: Request) -> BaseException:
    if isinstance(failure, BaseException):
        made: BaseException = _copied(failure)  # of each request its own
        made.__traceback__ = None
    elif isinstance(failure, type):
        made = failure(f"scripted: {failure.__name__}")
    else:
        made = failure(request)
    if not isinstance(made, BaseException):
        raise TypeError(f"error= makes an exception, not {made!r}")
    return made if isinstance(made, HTTPError) else _translated(made, request)


#: The first that fits: as the border to the network does it.
_OF_THE_SYSTEM: tuple[tuple[type[OSError], type[HTTPError]], ...] = (
    (ssl.SSLCertVerificationError, CertificateError),
    (ssl.SSLError, TLSError),
    (socket.gaierror, NameResolutionError),
    (ConnectionRefusedError, ConnectError),
    (ConnectionError, ReadError),
    (TimeoutError, ReadTimeout),
    (OSError, ConnectError),
)


def _translated(error: BaseException, request: Request) -> BaseException:
    for theirs, ours in _OF_THE_SYSTEM:
        if isinstance(error, theirs):
            made = ours(str(error) or type(error).__name__, request=request)
            made.__cause__ = error
            return made
    return error


def _length_of(headers: Headers) -> int | None:
    value = headers.get("content-length")
    return int(value) if value is not None and value.isdecimal() else None


def _copied(failure: BaseException) -> BaseException:
    try:
        return copy.copy(failure)
    except TypeError:  # it takes other arguments than it says it was made with
        made = failure.__class__.__new__(failure.__class__, *failure.args)
        made.__dict__.update(failure.__dict__)
        return made


def _submitted(context: Context) -> float:
    return context.timings._started or 0.0


def _order(noted: tuple[float, float, Call]) -> tuple[float, float]:
    return noted[0], noted[1]


def _shown(request: Request) -> str:
    return f"{request.method} {_whole(request.url)}"
