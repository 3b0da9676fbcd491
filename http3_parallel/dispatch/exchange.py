"""
One request and its response on a connection that is open.

The request is written in pieces of at most 64 KiB, each within the write timeout. The head of
the response is read within the read timeout, and so is each piece of its body. A server may
answer before it has read the whole request, and close: that answer is the result.

After every read the abort is looked at before the data are believed: to a reader that was
woken, a body without a length looks complete.
"""

from __future__ import annotations

import contextlib
import ssl
import typing

from ..config import IDEMPOTENT_METHODS
from ..exceptions import (
    HTTPError,
    IncompleteRead,
    NetworkError,
    ProtocolError,
    ReadError,
    ReadTimeout,
    ResponseTooLarge,
    StreamError,
    WriteError,
    WriteTimeout,
)
from ..models import Request
from .base import Context
from .connections import Connection
from .http11 import (
    BadMessage,
    BadStatusLine,
    Disconnected,
    FieldLines,
    OversizedMessage,
    ResponseReader,
    TruncatedMessage,
)
from .pool import Lease

__all__ = ["Exchange", "Stale", "read_error", "set_timeout"]

#: What a socket raises when its timeout has passed; the last three when that is next to none.
_TIMEOUTS = (TimeoutError, BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


#: How long a server is listened to that did not take the whole request. It has its answer on
#: the way then, or none.
EARLY_ANSWER_SECONDS = 0.5

#: How long a server that was asked with ``Expect: 100-continue`` is waited for, before the body is
#: sent all the same (RFC 9110, section 10.1.1), as curl does.
EXPECT_SECONDS = 1.0


class Stale(Exception):
    """
    A reused connection turned out to be closed, and the request may be sent again on a new
    one.
    """


class Exchange:
    """
    Sends `request` on `connection`, and reads the head of the response.

    * `head`: request line and field lines as they are sent; `lines`: what these say.
    * `reused`: whether the connection has served before, so that its server may be closing
      it at this very moment.
    * `lease`: that of the connection, which is told while the user's code has it.
    """

    __slots__ = (
        "_abort",
        "_connection",
        "_head",
        "_lease",
        "_lines",
        "_reader",
        "_request",
        "_reused",
        "_timeout",
        "_timings",
        "may_reuse",
    )

    def __init__(
        self,
        request: Request,
        head: bytes,
        lines: FieldLines,
        connection: Connection,
        context: Context,
        reused: bool,
        lease: Lease[Connection],
    ) -> None:
        self._request = request
        self._head = head
        self._lines = lines
        self._connection = connection
        self._timeout = context.timeout
        self._abort = context.abort
        self._timings = context.timings
        self._reused = reused
        self._lease = lease
        self._reader = ResponseReader(connection.sock, request.method)
        #: Whether, as far as the request goes, the connection can serve again: it was sent
        #: whole, and did not ask for the end.
        self.may_reuse: bool = False

    def run(self) -> ResponseReader:
        """
        Raises `Stale`, `WriteError`, `WriteTimeout`, `ReadError`, `ReadTimeout`,
        `ProtocolError`, the abort's error, and what the request's body iterator raises.
        """
        self._abort.phase = "sending the request"
        failure = self._send()
        self._abort.phase = "waiting for the response"
        if failure is None:
            if not self._reader.has_begun:
                self._timings.mark("sent")
                self.may_reuse = not self._lines.closes
            return self._read_head(self._timeout.read_timeout)
        try:
            return self._read_early_answer(failure)
        finally:
            # What is raised refers to this frame: it must not refer back.
            del failure

    # Sending.

    def _send(self) -> HTTPError | None:
        """Returns the error when the connection broke, or stopped taking, on the way."""
        connection, request = self._connection, self._request
        connection.taken = 0
        try:
            set_timeout(connection.sock, self._timeout.write_timeout)
            connection.send(self._head)
        except OSError as exc:
            return self._write_failure(exc)
        if request._content == b"" and not (self._lines.chunked or self._lines.length):
            return None
        if self._lines.expects:
            if not self._is_expected():
                return None
            try:
                set_timeout(connection.sock, self._timeout.write_timeout)
            except OSError as exc:
                return self._write_failure(exc)
        for piece in self._pieces():
            if connection.has_answer() and self._is_answered():
                return None
            try:
                connection.send(piece)
            except OSError as exc:
                return self._write_failure(exc)
            self._abort.check()
        return None

    def _is_answered(self) -> bool:
        """Whether the server has its answer before it has the whole request (RFC 9112, 9.5)."""
        try:
            return self._reader.look()
        except BadMessage as exc:
            # It is told here, or never: the reader has gone on to what comes after it.
            raise self._read_failure(exc, self._timeout.read_timeout) from exc
        except (OSError, TruncatedMessage):
            self._abort.check()
            return False  # sending will fail, or reading will again

    def _is_expected(self) -> bool:
        """Whether the server wants the body: it says so, or says nothing for a while."""
        self._abort.phase = "waiting for leave to send the body"
        seconds = self._timeout.read_timeout
        seconds = EXPECT_SECONDS if seconds is None else min(seconds, EXPECT_SECONDS)
        try:
            set_timeout(self._connection.sock, seconds)
            goes_on = self._reader.may_continue()
        except _TIMEOUTS:
            goes_on = True
        except Exception as exc:
            raise self._read_failure(exc, seconds) from exc
        finally:
            self._abort.check()
        self._abort.phase = "sending the request"
        return goes_on

    def _pieces(self) -> typing.Iterator[bytes | memoryview]:
        """The body as it goes over the wire."""
        request = self._request
        _, chunked, left, *_ = self._lines
        pieces = self._user_pieces() if request.is_streaming else request.stream()
        for piece in pieces:
            if chunked:
                yield b"".join((b"%x\r\n" % len(piece), piece, b"\r\n"))
                continue
            if left is None or len(piece) > left:
                raise WriteError("the request's body is longer than its Content-Length")
            left -= len(piece)
            yield piece
        if chunked:
            yield b"0\r\n\r\n"
        elif left:
            raise WriteError(f"the request's body is {left} bytes shorter than its Content-Length")

    def _user_pieces(self) -> typing.Iterator[bytes | memoryview]:
        with self._user_code():
            pieces = iter(self._request.stream())
        while True:
            with self._user_code():
                piece = next(pieces, None)
            if piece is None:
                return
            yield piece

    @contextlib.contextmanager
    def _user_code(self) -> typing.Iterator[None]:
        """It may make requests of its own, and wait for a connection while it has this one."""
        with self._abort.user_code():
            self._lease.delivered()
            try:
                yield
            except Exception as error:
                if not isinstance(error, StreamError):  # which is our body's own
                    self._abort.blame_user(error)
                raise
            finally:
                self._lease.resumed()

    def _write_failure(self, exc: OSError) -> HTTPError:
        self._abort.check()
        error: HTTPError
        if isinstance(exc, _TIMEOUTS):
            seconds = self._timeout.write_timeout
            error = WriteTimeout(f"the server took nothing of the request for {seconds} s")
            error.__cause__ = exc
            return error
        connection = self._connection
        taken = connection.taken > 0
        # TLS may have let the system take a part of a record before it failed.
        if self._reused and not taken and connection.route.ssl is None:
            raise Stale from exc
        error = WriteError(f"the connection broke while the request was sent: {_reason(exc)}")
        error.__cause__ = exc
        return error

    # Reading.

    def _read_early_answer(self, failure: HTTPError) -> ResponseReader:
        """A server that had enough of the request may have said why. Else raise `failure`."""
        seconds = self._timeout.read_timeout
        seconds = EARLY_ANSWER_SECONDS if seconds is None else min(seconds, EARLY_ANSWER_SECONDS)
        try:
            early = self._read_head(seconds)
            # Otherwise no refusal, but a server that answers as it reads, and then read no more.
            if early.status >= 400 or not isinstance(failure, WriteTimeout):
                # It may take its time over the body.
                set_timeout(early.sock, self._timeout.read_timeout)
                return early
            early.close()
            raise failure
        except (NetworkError, ProtocolError, ReadTimeout):
            raise failure from failure.__cause__
        finally:
            del failure

    def _read_head(self, seconds: float | None) -> ResponseReader:
        reader = self._reader
        try:
            set_timeout(reader.sock, seconds)
            reader.begin()
        except Exception as exc:
            raise self._read_failure(exc, seconds) from exc
        self._abort.check()
        self._timings.mark("first_byte", reader.begun_at)
        return reader

    def _read_failure(self, exc: Exception, seconds: float | None) -> Exception:
        self._abort.check()
        return Stale() if self._may_repeat(exc) else read_error(exc, seconds, self._request)

    def _may_repeat(self, exc: Exception) -> bool:
        """
        Whether the server closed before it can have meant this request: with not a byte of a
        response, since after that it is a `BrokenHead` or a `TruncatedMessage`.
        """
        return (
            self._reused
            and isinstance(exc, ConnectionError)
            and not isinstance(exc, HTTPError)
            and self._request.method in IDEMPOTENT_METHODS
            and self._request.can_replay
        )


def set_timeout(sock: typing.Any, seconds: float | None) -> None:
    """For each of the next calls; 0 is next to nothing, but not the non-blocking mode."""
    if seconds is not None and seconds < 0.001:
        seconds = 0.001
    if sock.gettimeout() != seconds:  # each change is a call of the system's
        sock.settimeout(seconds)


def read_error(exc: Exception, seconds: float | None, request: Request) -> HTTPError:
    """What went wrong in reading the response to `request`, as an error of ours."""
    error = _read_error(exc, seconds)
    error.request = request
    return error


def _read_error(exc: Exception, seconds: float | None) -> HTTPError:
    if isinstance(exc, _TIMEOUTS):
        return ReadTimeout(f"the server sent nothing for {seconds} s")
    if isinstance(exc, TruncatedMessage):
        return IncompleteRead(f"the response is cut off: {exc}")
    if isinstance(exc, Disconnected):
        return ReadError(str(exc))
    if isinstance(exc, BadStatusLine):
        return ProtocolError(f"the answer does not begin with a status line but {exc}")
    if isinstance(exc, OversizedMessage):
        return ResponseTooLarge(f"the answer was given up: {exc}")
    if isinstance(exc, OSError):
        return ReadError(f"the connection broke while the response was read: {_reason(exc)}")
    return ProtocolError(f"the answer is not valid HTTP/1.1: {exc}")


def _reason(exc: OSError) -> str:
    return str(getattr(exc, "reason", None) or exc.strerror or exc)
