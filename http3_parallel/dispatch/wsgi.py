"""
Requests answered by a WSGI app (PEP 3333) in this process, by the thread that makes them.

The guarantees:

1. *The head is final with the first byte.* The app is called, and what it returned is advanced,
   until there is a byte of the body, a call of ``write()``, or the end. Until then
   `start_response` may come late, as a generator's does, and `exc_info` may replace it.
2. *What the app returned is closed once*: at its end, after an error, when the response is closed
   or dropped, and also if a `KeyboardInterrupt` strikes just as the app returns it.
3. *Both bodies are lazy.* That of the response is made as it is read, by the thread that reads
   it, and closed by the one that closes it; that of the request is taken from its source as the
   app reads. Only what is given to ``write()`` is kept until the app returns.
4. *All of the app runs in one context* of `contextvars`, a copy of the caller's: what the caller
   set is seen, what the app sets stays inside, and a framework that sets a variable in the first
   part of a body can reset it in the last, whichever thread reads that.
5. *Who failed is told apart.* What the source of the request's body raises is its owner's, and
   an abort is an abort, whatever the app makes of them. The rest is the app's.
"""

from __future__ import annotations

import contextvars
import inspect
import logging
import operator
import typing
import weakref
from collections.abc import Callable, Iterable, Iterator

from ..aborting import Abort
from ..exceptions import (
    DeadlineExceeded,
    ProtocolError,
    ReadError,
    UnsupportedScheme,
)
from ..models import Headers, Request, Response
from .apps import kind_of
from .base import Context, Dispatcher
from .gateway import Head, build_environ, unquoted

__all__ = ["WSGIDispatch"]

WSGIApp = Callable[[dict[str, typing.Any], Callable[..., typing.Any]], Iterable[bytes]]

_logger = logging.getLogger("http3_parallel")

_END = object()
_CLOSE = operator.methodcaller("close")


class WSGIDispatch(Dispatcher):
    """
    Has requests answered by a WSGI app, without a network.

    * `app`: a callable of ``(environ, start_response)`` as PEP 3333 has it. It is called from
      many threads at once.
    * `raise_app_exceptions`: what the app raises, or reports as `exc_info`, is what the request
      fails with, unchanged. False: all is as behind a server. An exception of the app is logged
      and answered with 500; where the body has begun, it ends in a `ReadError` instead.
    * `script_name`: where the app is mounted: the first part of its URLs' path. A path that does
      not begin with it is taken for one within the app.
    * `remote_addr`: the address that the app sees as the client's.

    What PEP 3333 does not allow is a `ProtocolError` that names it (False: as an exception of the
    app). A body shorter than its Content-Length is an `IncompleteRead`, a longer one is cut. A
    response to HEAD, and one with the status 204 or 304, has no body, whatever the app gives it.

    An app cannot be interrupted, and timeouts do not apply to it. A deadline that has passed, or
    a block that was left, shows between two pieces of either body; what comes late is discarded.

    Raises `TypeError` for what is no WSGI app, an ASGI app say, and `ValueError` for a
    `script_name` without its slash.
    """

    def __init__(
        self,
        app: WSGIApp,
        raise_app_exceptions: bool = True,
        script_name: str = "",
        remote_addr: str = "127.0.0.1",
    ) -> None:
        _check_app(app)
        for name, value in (("script_name", script_name), ("remote_addr", remote_addr)):
            if not isinstance(value, str):
                raise TypeError(f"{name} is a str, not {type(value).__name__}")
        if script_name and not script_name.startswith("/"):
            raise ValueError(f"script_name is empty or begins with a slash: {script_name!r}")
        self._app = app
        self._raises = bool(raise_app_exceptions)
        self._script_name = unquoted(script_name).rstrip("/")
        self._remote_addr = remote_addr

    def send(self, request: Request, context: Context) -> Response:
        """Return the app's response as soon as its head is final."""
        if request.url.scheme not in ("http", "https"):
            raise UnsupportedScheme(
                f"{request.url.scheme!r} URLs cannot be requested, only http and https"
            )
        abort = context.abort
        abort.phase = "waiting for the app"
        failures: list[Exception] = []
        environ = build_environ(
            request,
            script_name=self._script_name,
            remote_addr=self._remote_addr,
            abort=abort,
            failures=failures,
        )
        head = Head(request, abort, reports=self._raises)
        call = _Call(head, request, abort, failures, raises=self._raises)
        try:
            call.begin(self._app, environ)
            abort.phase = "reading the body"
            if not head.has_body:
                call.close()
            return Response(
                head.status,
                protocol="HTTP/1.1",
                headers=Headers._from_raw(head.fields),
                content=call if head.has_body else b"",
                request=request,
            )
        except BaseException:
            call.give_up()
            raise


class _Call:
    """
    One call of the app, and an iterator over the body that comes of it. Used by one thread at a
    time.

    * `failures`: what the source of the request's body has raised is in there.
    * `raises`: whether the app's exceptions come out.
    """

    __slots__ = (
        "__weakref__",
        "_abort",
        "_broken",
        "_context",
        "_ended",
        "_failures",
        "_finalizer",
        "_head",
        "_iterator",
        "_raises",
        "_request",
        "_returned",
    )

    def __init__(
        self,
        head: Head,
        request: Request,
        abort: Abort,
        failures: list[Exception],
        *,
        raises: bool,
    ) -> None:
        self._head = head
        self._request = request
        self._abort = abort
        self._failures = failures
        self._raises = raises
        self._context = contextvars.copy_context()
        #: What the app returned, until it is closed.
        self._returned: list[typing.Any] = []
        # PEP 3333 makes no exception for a response that is dropped unread. Not a __del__, which
        # would run for every response, and swallow a KeyboardInterrupt that strikes there.
        self._finalizer = weakref.finalize(self, _close_returned, self._returned, self._context)
        self._finalizer.atexit = False
        self._iterator: Iterator[object] = iter(())
        self._ended = False
        #: What is raised after the pieces that are there.
        self._broken: list[ReadError] = []

    def begin(self, app: WSGIApp, environ: dict[str, typing.Any]) -> None:
        """Call the app, and go on until the head is final."""
        failure = self._attempt(lambda: self._start(app, environ))
        if failure is None:
            return
        self._ended = True
        if self._head.is_sent:
            # Without its traceback, which is logged: that refers to frames which will hold the
            # response, and so this, where it is kept until the body is read.
            self._broken.append(_broken_by(failure.with_traceback(None)))
        else:
            self._head.fail()
        del failure

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            piece = self._next_piece()
        except BaseException:
            self.give_up()
            raise
        if piece is None:
            raise StopIteration
        return piece

    def _next_piece(self) -> bytes | None:
        self._abort.check()
        if self._abort.remaining() == 0:  # a stream outlives its client, whose clock aborts
            raise DeadlineExceeded("the deadline passed while reading the body")
        head = self._head
        if not (head.pieces or self._ended):
            failure = self._attempt(self._advance)
            if failure is not None:
                try:
                    raise _broken_by(failure)
                finally:
                    del failure  # its traceback knows this frame
        if head.pieces:
            return head.pieces.popleft()
        if self._broken:
            _raise(self._broken.pop())
        if head.missing:
            raise head.cut_short()
        return None

    def close(self) -> None:
        """When the body has been read, or is given up. Raises what the app raises, if it may."""
        try:
            self._close()
        except Exception:
            if self._raises and not self._abort.aborted:
                raise
            self._log("the app failed when its response was closed")

    def give_up(self) -> None:
        """The same, where something else is raised."""
        try:
            self._close()
        except Exception:
            self._log("the app failed when its response was closed")

    def _close(self) -> None:
        self._ended = True
        self._failures.clear()
        self._head.reported.clear()
        try:
            _close_returned(self._returned, self._context)
        finally:
            self._iterator = iter(())
            self._finalizer.detach()

    # Running code of the app's.

    def _attempt(self, step: Callable[[], None]) -> Exception | None:
        """
        Raises what the request is to fail with. Returns what the app raised where that is to be
        answered instead. In both cases the call is over.
        """
        try:
            step()
            return None
        except BaseException as error:
            failures = self._failures[:1]
            self.give_up()
            if not isinstance(error, Exception):
                raise
            if failures:
                self._abort.blame_user(failures[0])
                _raise(failures.pop())
            self._abort.check()
            if self._raises:
                self._abort.blame_user(error)
                raise
            self._log("the app failed")
            return error

    def _start(self, app: WSGIApp, environ: dict[str, typing.Any]) -> None:
        start_response = self._head.start_response
        # All of it in C: no exception of a signal handler comes between the app's return and
        # holding what it returned.
        self._context.run(self._returned.extend, map(app, (environ,), (start_response,)))
        self._check()
        if not self._returned:
            raise RuntimeError("the app raised StopIteration")  # to map() that is its end
        result = self._returned[0]
        if isinstance(result, (str, bytes)) or not isinstance(result, Iterable):
            raise ProtocolError(f"the app returned {kind_of(result)}, not an iterable of bytes")
        self._iterator = self._context.run(iter, result)
        while not (self._ended or self._head.is_sent):
            self._pull()
        if not self._head.status:
            raise ProtocolError("the app returned a body without having called start_response")

    def _advance(self) -> None:
        while not (self._ended or self._head.pieces):
            self._pull()

    def _pull(self) -> None:
        """One step of the body, whatever comes of it."""
        piece = self._context.run(next, self._iterator, _END)
        self._check()
        if piece is _END:
            self._ended = True
        elif not isinstance(piece, bytes):
            raise ProtocolError(f"the app's body has {kind_of(piece)} in it, not only bytes")
        elif piece:
            if not self._head.status:
                raise ProtocolError("the app's body began before it had called start_response")
            self._head.add(piece)
            self._ended = self._head.is_cut

    def _check(self) -> None:
        """Whether the app went on although the request has failed."""
        if self._failures:
            raise self._failures[0]
        self._abort.check()
        if self._head.reported:
            _raise(self._head.reported.pop())

    def _log(self, message: str) -> None:
        request = self._request
        _logger.error("%s %s: %s", request.method, request.url.redacted, message, exc_info=True)


def _close_returned(returned: list[typing.Any], context: contextvars.Context) -> None:
    """Close what is in there, if it can be closed, and take it out: so it is closed once."""
    if returned and not hasattr(returned[0], "close"):
        returned.clear()
    if returned:
        # An exception of a signal handler can come before this, or when it has been called.
        result = returned[0]
        del returned[:]
        context.run(_CLOSE, result)


def _broken_by(failure: Exception) -> ReadError:
    error = ReadError("the app failed in the middle of its response")
    error.__cause__ = failure
    return error


def _raise(error: BaseException) -> typing.NoReturn:
    try:
        raise error
    finally:
        del error  # what is raised refers to this frame


def _check_app(app: object) -> None:
    if not callable(app):
        raise TypeError(f"a WSGI app is a callable, not {type(app).__name__}")
    functions = (app, type(app).__call__)
    is_asynchronous = any(
        inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
        for function in functions
    )
    try:
        signature = inspect.signature(app)
    except (TypeError, ValueError):  # builtins may have none
        fits, fits_asgi = True, False
    else:
        fits, fits_asgi = _takes(signature, 2), _takes(signature, 3)
    if is_asynchronous or (fits_asgi and not fits):
        raise TypeError(
            "this looks like an ASGI app; a WSGI app is called with (environ, start_response), and "
            "is not asynchronous"
        )
    if not fits:
        raise TypeError(
            f"a WSGI app is called with (environ, start_response), which {app!r} does not take"
        )


def _takes(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True
