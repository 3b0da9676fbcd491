"""
Every failure a user can meet, drawn as one tree.

    HTTPError                        a request failed: knows .request, .method, .url, .tag
    ├── InvalidURL                   (ValueError)  nothing was sent
    │   └── UnsupportedScheme
    ├── RequestCancelled             the block was left, or the handle cancelled
    ├── DeadlineExceeded             (TimeoutError)  the whole request took too long
    ├── WorkersUnavailable           no thread could be started to run it
    ├── Timeout                      (TimeoutError)  one step took too long
    │   ├── ConnectTimeout           resolving, connecting, TLS handshake
    │   ├── ReadTimeout
    │   ├── WriteTimeout
    │   └── PoolTimeout              unread streams, or body iterators, hold every connection
    ├── NetworkError                 (ConnectionError)
    │   ├── ConnectError
    │   │   ├── NameResolutionError
    │   │   ├── TLSError
    │   │   │   └── CertificateError
    │   │   └── ProxyError
    │   ├── ReadError
    │   └── WriteError
    ├── ProtocolError                the peer does not speak HTTP as RFC 9112 has it
    │   └── IncompleteRead           (ConnectionError)  the message ended before its end
    ├── DecodingError                (ValueError)  Content-Encoding or JSON cannot be undone
    ├── ResponseTooLarge
    ├── RedirectError
    │   ├── TooManyRedirects
    │   ├── RedirectLoop
    │   └── RedirectBodyUnavailable
    ├── StreamError                  a response body was used out of order
    │   ├── StreamConsumed
    │   ├── ResponseNotRead
    │   └── ResponseClosed
    ├── CookieConflict               (LookupError)  several cookies have the name asked for
    └── HTTPStatusError              raise_for_status() on 4xx or 5xx; alias HttpError

    NoPendingResponses               (LookupError)   next_response() with nothing left
    WaitTimeout                      (TimeoutError)  the wait ran out; the request goes on
    ParallelClosed                   (RuntimeError)  the block was left
    ClientClosed                     (RuntimeError)  the client was closed

A request's own error is raised by ``get_response()`` and ``next_response()`` and nowhere
else. The foreign exception behind it, if there is one, is its ``__cause__``.
"""

from __future__ import annotations

import concurrent.futures
import re
import sys
import typing

if typing.TYPE_CHECKING:
    from .models import Request, Response

__all__ = [
    "CertificateError",
    "ClientClosed",
    "ConnectError",
    "ConnectTimeout",
    "CookieConflict",
    "DeadlineExceeded",
    "DecodingError",
    "HTTPError",
    "HTTPStatusError",
    "HttpError",
    "IncompleteRead",
    "InvalidURL",
    "NameResolutionError",
    "NetworkError",
    "NoPendingResponses",
    "ParallelClosed",
    "PoolTimeout",
    "ProtocolError",
    "ProxyError",
    "ReadError",
    "ReadTimeout",
    "RedirectBodyUnavailable",
    "RedirectError",
    "RedirectLoop",
    "RequestCancelled",
    "ResponseClosed",
    "ResponseNotRead",
    "ResponseTooLarge",
    "StreamConsumed",
    "StreamError",
    "TLSError",
    "Timeout",
    "TooManyRedirects",
    "UnsupportedScheme",
    "WaitTimeout",
    "WorkersUnavailable",
    "WriteError",
    "WriteTimeout",
]


class PickledCause(Exception):
    """The text of a cause that stayed behind in the process that pickled the error."""


class HTTPError(Exception):
    """
    A request failed.

    * `request`: the `Request` as it was last sent, or None where not even one could be
      built (an invalid URL).
    * `method`, `url`: of that request, or as they were given.
    * `tag`: the object given as `tag=` to the block's call.

    ``str(error)`` ends with the method and the URL, without credentials and with the
    values of its query left out; `message` is the text without them.
    """

    def __init__(
        self,
        message: str = "",
        *,
        request: Request | None = None,
        method: str | None = None,
        url: object = None,
        tag: typing.Any = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.request = request
        self.tag = tag
        self._method = method
        self._url = url

    @property
    def method(self) -> str | None:
        return self._method if self.request is None else self.request.method

    @property
    def url(self) -> typing.Any:
        """The `URL` of the request, or what was given in its place."""
        return self._url if self.request is None else self.request.url

    def __str__(self) -> str:
        if self.request is not None:
            return f"{self.message} [{self.request.method} {self.request.url.redacted}]"
        known = [] if self._method is None else [self._method]
        if self._url is not None:
            known.append(redacted_text(self._url))
        return f"{self.message} [{' '.join(known)}]" if known else self.message

    def __repr__(self) -> str:
        # What event loops, and groups of exceptions, show of one: it names the request, too.
        return f"{type(self).__name__}({str(self)!r})"

    def _copy(self) -> HTTPError:
        """To be raised for another request as well, with a tag and a traceback of its own."""
        new = type(self).__new__(type(self), *self.args)
        new.__dict__.update(self.__dict__)
        new.__cause__ = self.__cause__
        new.__context__ = self.__context__
        new.__suppress_context__ = self.__suppress_context__
        return new

    def __reduce__(self) -> tuple[typing.Any, ...]:
        state = self.__dict__.copy()
        if self.request is not None:
            state["request"] = self.request._portable()
        if self.__cause__ is not None:
            cause = self.__cause__
            state["__cause__"] = (
                str(cause)
                if isinstance(cause, PickledCause)
                else f"{type(cause).__qualname__}: {cause}"
            )
        return _rebuild, (type(self), self.args), state

    def __setstate__(self, state: dict[str, typing.Any] | None) -> None:
        state = dict(state or {})
        cause = state.pop("__cause__", None)
        self.__dict__.update(state)
        if cause is not None:
            self.__cause__: BaseException | None = PickledCause(cause)


def redacted_text(url: object) -> str:
    """What was given as a URL and is none, without what may be a password or a query's value."""
    text = str(url)
    scheme = "".join(re.findall(r"\A[A-Za-z][A-Za-z0-9+.-]*://", text))
    _, at, rest = text[len(scheme) :].rpartition("@")  # wherever a password would have ended
    rest, mark, _ = rest.partition("#")[0].partition("?")
    shown = f"{scheme}{'…@' if at else ''}{rest[:200]}{'?…' if mark else ''}"
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in shown)


def _rebuild(cls: type[HTTPError], args: tuple[typing.Any, ...]) -> HTTPError:
    error = cls.__new__(cls, *args)
    error.args = args
    return error


# What is wrong with the request itself.


class InvalidURL(HTTPError, ValueError):
    """The URL cannot be requested: no scheme, no host, a bad port, a bad host name."""


class UnsupportedScheme(InvalidURL):
    """The URL's scheme is neither ``http`` nor ``https``, also in a redirect."""


# What ended it from outside.


class RequestCancelled(HTTPError):
    """The request was ended by `cancel()`, or by leaving its block."""


class DeadlineExceeded(HTTPError, TimeoutError):
    """
    The `deadline` of the request or of its block passed: queueing, resolving, redirects,
    retries and the body included.
    """


class WorkersUnavailable(HTTPError):
    """The system refused every thread that could have run the request, or runs none."""


# One step took too long.


class Timeout(HTTPError, TimeoutError):
    """One step of the request took longer than its `TimeoutConfig` allows."""


class ConnectTimeout(Timeout):
    """Resolving, connecting and the TLS handshake together took longer than allowed."""


class ReadTimeout(Timeout):
    """The server sent nothing for as long as the read timeout."""


class WriteTimeout(Timeout):
    """The server took nothing for as long as the write timeout."""


class PoolTimeout(Timeout):
    """
    Delivered responses with unread streams, and requests that wait inside the iterator of their
    body, held every connection the pool allows, for as long as its `pool_timeout`.
    """


# The network.


class NetworkError(HTTPError, ConnectionError):
    """The connection could not be made, or broke."""


class ConnectError(NetworkError):
    """No connection to the server, or to the proxy, could be made."""


class NameResolutionError(ConnectError):
    """The host name has no address, or the resolver failed."""


class TLSError(ConnectError):
    """The TLS handshake failed."""


class CertificateError(TLSError):
    """The server's certificate is not valid: untrusted, expired, or for another host."""


class ProxyError(ConnectError):
    """The proxy refused, or failed to connect further."""


class ReadError(NetworkError):
    """The connection broke while the response was awaited or read."""


class WriteError(NetworkError):
    """The connection broke while the request was being sent."""


# What came back.


class ProtocolError(HTTPError):
    """The server's answer is not HTTP/1.1 as RFC 9112 defines it."""


class IncompleteRead(ProtocolError, ConnectionError):
    """The connection ended before the message did (RFC 9112, section 8)."""


class DecodingError(HTTPError, ValueError):
    """The body cannot be decoded: damaged or cut ``Content-Encoding``, or no valid JSON."""


class ResponseTooLarge(HTTPError):
    """
    The body is larger than the client's `max_response_size`, or the head or the trailers are
    larger than any honest server's.
    """


class RedirectError(HTTPError):
    """A redirect cannot be followed."""


class TooManyRedirects(RedirectError):
    """More redirects than the client's `max_redirects`."""


class RedirectLoop(RedirectError):
    """A redirect leads to a request that was already made on the way."""


class RedirectBodyUnavailable(RedirectError):
    """The redirect asks for the body again, and it was an iterator that is used up."""


class StreamError(HTTPError):
    """A response body was used out of order."""


class StreamConsumed(StreamError):
    """The body was already iterated over, and was not kept."""


class ResponseNotRead(StreamError):
    """`.content` of a streamed response before `.read()`."""


class ResponseClosed(StreamError):
    """The response was closed before its body was read."""


class CookieConflict(HTTPError, LookupError):
    """Several cookies have the name asked for, of other domains or paths."""


class HTTPStatusError(HTTPError):
    """Raised by `raise_for_status()`; carries the `response`."""

    #: None only if it was raised by hand without one.
    response: Response

    def __init__(
        self, message: str = "", *, response: Response | None = None, **kwargs: typing.Any
    ) -> None:
        super().__init__(message, **kwargs)
        self.response = typing.cast("Response", response)


HttpError = HTTPStatusError


# Not a request's failure.


class NoPendingResponses(LookupError):
    """`next_response()` was called, or was waiting, with nothing left to wait for."""


if sys.version_info >= (3, 11):

    class WaitTimeout(TimeoutError):
        """The wait ran out. The request itself goes on, and can be waited for again."""

else:  # Python 3.10, where concurrent.futures has a TimeoutError of its own

    class WaitTimeout(TimeoutError, concurrent.futures.TimeoutError):
        """The wait ran out. The request itself goes on, and can be waited for again."""


class ParallelClosed(RuntimeError):
    """The block was already left, or belongs to the process this one was forked from."""


class ClientClosed(RuntimeError):
    """The client was already closed."""
