"""What a WSGI app is given (PEP 3333): the environ, with its input, and `start_response`."""

from __future__ import annotations

import functools
import io
import re
import sys
import typing
from collections.abc import Callable, Iterator
from urllib.parse import unquote_to_bytes

from ..aborting import Abort
from ..exceptions import ProtocolError
from ..models import Request
from .apps import Answer, kind_of, left_after, parse_length

__all__ = ["Head", "build_environ", "unquoted"]

#: Of the request's body at once, in bytes: as many as its pieces have at most.
_BUFFER_SIZE = 64 * 1024

#: "999 Message here". Below 200 no response is final (RFC 9110, section 15.2).
_STATUS = re.compile(r"[2-9][0-9]{2} [^\x00-\x1f\x7f]*")
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

#: What is between the server and the next hop, and so none of the app's business (RFC 2616,
#: section 13.5.1, to which PEP 3333 refers).
_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailers",
        "transfer-encoding",
        "upgrade",
    }
)


def unquoted(path: str) -> str:
    """As CGI has it: percent-escapes undone, each byte a character."""
    return unquote_to_bytes(path).decode("latin-1")


# The request.


def build_environ(
    request: Request,
    *,
    script_name: str,
    remote_addr: str,
    abort: Abort,
    failures: list[Exception],
) -> dict[str, typing.Any]:
    """
    The environ of `request`. What the source of its body raises, while the app reads it, is
    raised there, and put into `failures`.
    """
    url = request.url
    path = unquoted(url.path)
    below = path[len(script_name) :]
    if path.startswith(script_name) and below[:1] in ("", "/"):
        path = below
    environ: dict[str, typing.Any] = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": script_name,
        "PATH_INFO": path,
        "QUERY_STRING": url.query,
        # As it is on the wire. Not in PEP 3333, but servers have it under one name or the other.
        "REQUEST_URI": url.full_path,
        "RAW_URI": url.full_path,
        "SERVER_NAME": url.host,
        "SERVER_PORT": str(url.port),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": remote_addr,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": url.scheme,
        "wsgi.errors": sys.stderr or io.StringIO(),  # a program without a console has none
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        # Reading to the end is safe, also where no length is known: frameworks look for this.
        "wsgi.input_terminated": True,
    }
    if url.is_ssl:
        environ["HTTPS"] = "on"
    for name, value in request.headers.raw:
        key = _key_of(name)
        if key is None:
            continue
        text = value.decode("latin-1")
        if key in environ:
            text = f"{environ[key]}{'; ' if key == 'HTTP_COOKIE' else ', '}{text}"
        environ[key] = text
    length = environ.get("CONTENT_LENGTH", "")
    environ["wsgi.input"] = _open_body(request, parse_length(length), abort, failures)
    return environ


@functools.lru_cache(256)  # all requests of a program have the same few
def _key_of(name: bytes) -> str | None:
    """Where the field of that name is in the environ; None if it is not for apps."""
    # An underscore would look like a dash, and pass for a field that a proxy has checked. And
    # what is meant for a proxy stays with the proxy (RFC 9110, section 11.7.2).
    if b"_" in name or name == b"proxy-authorization":
        return None
    key = name.decode("latin-1").upper().replace("-", "_")
    return key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"


def _open_body(
    request: Request, length: int | None, abort: Abort, failures: list[Exception]
) -> typing.IO[bytes]:
    if not request.is_streaming and length in (None, len(request.content)):
        return io.BytesIO(request.content)  # which does not copy bytes
    return io.BufferedReader(_Source(request, length, abort, failures), _BUFFER_SIZE)


class _Source(io.RawIOBase):
    """A body that is taken from its iterator or file as it is read."""

    def __init__(
        self, request: Request, length: int | None, abort: Abort, failures: list[Exception]
    ) -> None:
        self._request = request
        self._abort = abort
        self._failures = failures
        self._left = length
        self._pieces: Iterator[bytes | memoryview] | None = None
        # What did not fit into the last buffer. Not kept when it is used up: the iterator may
        # have lent it.
        self._rest: bytes | memoryview = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: typing.Any, /) -> int:
        piece = self._take()
        size = min(len(piece), len(buffer))
        buffer[:size] = piece[:size]
        if size < len(piece):
            self._rest = memoryview(piece)[size:]
        return size

    def readall(self) -> bytes:
        return b"".join(iter(self._take, b""))

    def _take(self) -> bytes | memoryview:
        """At least one byte; none at the end."""
        rest, self._rest = self._rest, b""
        return rest or self._next_piece()

    def _next_piece(self) -> bytes | memoryview:
        if self._failures or self._left == 0:
            return b""  # after a failure too: the app may go on, but the request will not
        try:
            self._abort.check()
            if self._pieces is None:
                self._pieces = self._request.stream()
            piece = next(self._pieces, b"")
            if self._left is not None:
                self._left = left_after(piece, self._left)
            return piece
        except Exception as error:
            self._failures.append(error)
            raise


# The response.


class Head(Answer):
    """
    What the app says with `start_response`, and writes with what that returns. It knows nothing
    of the call: the app's frames refer to it, and so do its exceptions.

    `reports`: whether what the app reports as `exc_info` goes into `reported`.
    """

    __slots__ = ("_abort", "_reports", "is_sent", "reported")

    def __init__(self, request: Request, abort: Abort, *, reports: bool) -> None:
        super().__init__(request.method)
        self._abort = abort
        self._reports = reports
        #: Whether it is final.
        self.is_sent: bool = False
        self.reported: list[BaseException] = []

    def start_response(
        self, status: object, response_headers: object, exc_info: typing.Any = None
    ) -> Callable[[bytes], None]:
        try:
            if exc_info:
                self._report(exc_info)
            elif self.status:
                raise ProtocolError("the app called start_response again, without exc_info")
            code = _check_status(status)
            self.start(code, *_check_fields(response_headers))
            return self.write
        finally:
            del exc_info  # what is raised refers to this frame

    def _report(self, exc_info: typing.Any) -> None:
        try:
            if not (isinstance(exc_info, tuple) and len(exc_info) == 3):
                raise ProtocolError(
                    f"the app called start_response with {kind_of(exc_info)} as exc_info, not "
                    "with what sys.exc_info() returns"
                )
            if not isinstance(exc_info[1], BaseException):  # nothing was being handled
                if self.is_sent:
                    raise ProtocolError("the app called start_response after its body had begun")
            elif self.is_sent:
                raise exc_info[1].with_traceback(exc_info[2])
            elif self._reports:
                self.reported[:] = [exc_info[1]]
        finally:
            del exc_info

    def write(self, data: object) -> None:
        if not isinstance(data, bytes):
            raise ProtocolError(f"the app called write() with {kind_of(data)}, not with bytes")
        self._abort.check()
        self.add(data)

    def add(self, data: bytes) -> bool:
        # From here on, the head is final.
        self.is_sent = True
        return super().add(data)


def _check_status(status: object) -> int:
    if not isinstance(status, str):
        raise ProtocolError(f"the app gave start_response {kind_of(status)} as status, not str")
    if not (_STATUS.fullmatch(status) and _is_latin_1(status)):
        raise ProtocolError(
            f"the app gave start_response the status {status!r}: three digits from 200 on, a "
            "space and the reason are one"
        )
    return int(status[:3])


def _check_fields(headers: object) -> tuple[list[tuple[bytes, bytes]], int | None]:
    """The fields as bytes, and the Content-Length if there is one."""
    if type(headers) is not list:
        raise ProtocolError(
            f"the app gave start_response {kind_of(headers)} as headers, not a list"
        )
    fields = []
    lengths = set()
    for item in headers:
        name, value = _check_field(item)
        if name == "content-length":
            length = parse_length(value)
            if length is None:
                raise ProtocolError("the app gave start_response a Content-Length that is none")
            lengths.add(length)
        fields.append((name.encode("ascii"), value.encode("latin-1")))
    if len(lengths) > 1:
        raise ProtocolError("the app gave start_response several Content-Lengths that differ")
    return fields, lengths.pop() if lengths else None


def _check_field(item: object) -> tuple[str, str]:
    """Its name, in lower case, and its value. Values are not told: they may be secret."""
    if not isinstance(item, tuple) or len(item) != 2:
        raise ProtocolError(
            f"the app gave start_response {kind_of(item)} among the headers, not a tuple of name "
            "and value"
        )
    name, value = item
    if not (isinstance(name, str) and isinstance(value, str)):
        raise ProtocolError(
            "the app gave start_response a header of "
            f"{kind_of(name)} and {kind_of(value)}, not of str and str"
        )
    if not _NAME.fullmatch(name):
        raise ProtocolError(f"the app gave start_response {name!r}, which is no header's name")
    if name.lower() in _HOP_BY_HOP:
        raise ProtocolError(
            f"the app gave start_response the header {name}, which is for servers to set"
        )
    if _CONTROL.search(value) or not _is_latin_1(value):
        raise ProtocolError(
            f"the app gave start_response a header {name} with control characters, or others "
            "outside ISO-8859-1"
        )
    return name.lower(), value


def _is_latin_1(text: str) -> bool:
    return text.isascii() or max(text) <= "\xff"
