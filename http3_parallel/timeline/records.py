"""
What is noted while requests run, for a timeline.

A `Record` is noted in by one thread at a time: who submits, then the worker, and whoever ends the
request. It may be read meanwhile. It refers to nothing that lives longer for it: not to bodies,
handles, errors or connections.
"""

from __future__ import annotations

import reprlib
import threading
import typing
from time import perf_counter

from ..aborting import Abort
from ..exceptions import HTTPError
from ..models import URL, Headers, Request, Response, Timings

__all__ = ["Failure", "MessageRecord", "Record"]

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 100


class Failure(typing.NamedTuple):
    """How a request, or one message of it, failed."""

    type: str
    message: str

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        # What others say in their exceptions may be secret, and may fail.
        message = error.message if isinstance(error, HTTPError) else ""
        return cls(type(error).__name__, message)


class MessageRecord:
    """One message to a server, and what came of it."""

    __slots__ = (
        "began",
        "ended",
        "failure",
        "method",
        "protocol",
        "received",
        "request_headers",
        "request_size",
        "response_headers",
        "size",
        "status_code",
        "timings",
        "url",
    )

    def __init__(self, request: Request, timings: Timings, abort: Abort) -> None:
        self.method: str = request.method
        self.url: URL = request.url
        self.request_headers: Headers = request.headers
        content = request._content
        #: Bytes of its body; None where that is known when it has been sent.
        self.request_size: int | None = len(content) if isinstance(content, bytes) else None
        self.timings: Timings = timings
        #: Bytes that had come for the request before this message.
        self.received: int = abort.received
        self.began: float = perf_counter()
        self.ended: float | None = None
        self.status_code: int | None = None
        self.protocol: str | None = None
        self.response_headers: Headers | None = None
        self.size: int | None = None
        self.failure: Failure | None = None

    def answered(self, response: Response) -> None:
        self.status_code = response.status_code
        self.protocol = response.protocol
        self.response_headers = response.headers

    def end(self, abort: Abort) -> None:
        """All of the body is here, or it is given up."""
        if self.ended is None:
            self.size = abort.received - self.received
            seen = self.timings._seen
            if seen is not None and seen.failure is not None:
                self.failure = Failure(*seen.failure)
            self.ended = perf_counter()

    def fail(self, error: BaseException, abort: Abort) -> None:
        self.failure = self.failure or Failure.of(error)
        self.end(abort)


class Record:
    """One request of a block. All times are of `time.perf_counter`."""

    __slots__ = (
        "began",
        "ended",
        "failure",
        "id",
        "messages",
        "method",
        "state",
        "submitted",
        "tag",
        "url",
        "worker",
    )

    def __init__(self, number: int, method: str, url: URL | str, tag: object) -> None:
        self.id: int = number
        self.method: str = method
        #: As text where it is none.
        self.url: URL | str = url
        self.tag: str | None = _as_text(tag)
        self.submitted: float = perf_counter()
        #: How it ended, once it has.
        self.state: str | None = None
        self.began: float | None = None
        self.ended: float | None = None
        self.failure: Failure | None = None
        self.worker: str | None = None
        self.messages: list[MessageRecord] = []

    def begin(self) -> None:
        """A worker takes it up."""
        self.worker = threading.current_thread().name
        self.began = perf_counter()

    def send(self, request: Request, timings: Timings, abort: Abort) -> MessageRecord:
        message = MessageRecord(request, timings, abort)
        timings._observe()
        self.messages.append(message)
        return message

    def end(self, state: str, error: BaseException | None) -> None:
        """By whoever ends it; once."""
        self.ended = perf_counter()
        self.failure = None if error is None else Failure.of(error)
        self.state = state


def _as_text(tag: object) -> str | None:
    if tag is None:
        return None
    if isinstance(tag, str):
        return tag[:200]
    try:
        return _SHORT.repr(tag) or None
    except Exception:  # of the user's `repr`
        return f"<{type(tag).__name__}>"
