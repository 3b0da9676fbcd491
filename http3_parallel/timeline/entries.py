"""
What was noted, as it is at one moment: made of records when somebody asks.

All times are in seconds since the block was opened.
"""

from __future__ import annotations

import typing
from time import perf_counter

from ..models import URL, Headers
from .records import Failure, MessageRecord, Record

__all__ = ["Entry", "Message", "Phase", "make_entry"]

#: Between two messages of a request, in seconds: what is less is nobody's pause.
_PAUSE = 0.001

#: The moments of `Timings` at which a phase ends, and its name.
_PHASES = (
    ("resolved", "resolving"),
    ("connected", "connecting"),
    ("tls", "tls"),
    ("sent", "sending"),
    ("first_byte", "waiting"),
    ("done", "receiving"),
)


class Phase(typing.NamedTuple):
    """
    What a request did from `start` to `end`, in seconds: ``queued`` (for a worker), ``blocked``
    (it waited for a connection), ``resolving``, ``connecting``, ``tls``, ``sending``, ``waiting``
    (for the response), ``receiving``, or ``pausing`` (before it was tried again, for credentials,
    or in code of the user's).
    """

    name: str
    start: float
    end: float


class Message(typing.NamedTuple):
    """
    One message to a server, and what came of it. `why` it was sent, if it was not the first:
    ``redirect``, ``auth`` or ``retry``.
    """

    method: str
    url: URL
    why: str | None
    start: float
    #: None: it goes on.
    end: float | None
    status_code: int | None
    protocol: str | None
    request_headers: Headers
    response_headers: Headers | None
    #: Bytes of the request's body; None where they were counted by nobody.
    request_size: int | None
    #: Bytes of the response's body, as they came.
    size: int | None
    #: Both ends of the connection, ``"local -> peer"``; None where there was none.
    connection: str | None
    #: Whether the connection had served before.
    reused: bool | None
    failure: Failure | None
    phases: list[Phase]


class Entry(typing.NamedTuple):
    """
    One request of the block. `state`: ``queued``, ``running``, ``done``, ``failed`` or
    ``cancelled``; ``running`` also while the body of a stream is read.
    """

    #: Counted from 1, in the order in which they were submitted.
    id: int
    method: str
    #: As text where it was none.
    url: URL | str
    #: As text; what is no string is shortened.
    tag: str | None
    state: str
    start: float
    #: None: it goes on.
    end: float | None
    #: The name of its thread.
    worker: str | None
    failure: Failure | None
    phases: list[Phase]
    messages: list[Message]

    @property
    def status_code(self) -> int | None:
        """Of the last message."""
        return self.messages[-1].status_code if self.messages else None

    @property
    def size(self) -> int | None:
        """Bytes of the last response's body, as they came."""
        return self.messages[-1].size if self.messages else None


def make_entry(record: Record, opened: float) -> Entry:
    """`opened`: when the block was, by `time.perf_counter`."""
    now = perf_counter()
    messages: list[Message] = []
    for sent in list(record.messages):
        before = messages[-1] if messages else None
        messages.append(_make_message(sent, before, record.submitted, opened, now))
    # In this order: it has an end, and what it failed with, once it has a state.
    state = record.state or ("queued" if record.began is None else "running")
    end = None if state in ("queued", "running") else record.ended
    failure = record.failure
    last = messages[-1] if messages else None
    if state == "done" and last is not None:
        if last.end is None:
            state, end = "running", None
        elif end is not None:
            end = max(end, last.end + opened)
        if last.failure is not None:  # the body of a stream
            state, failure = "failed", last.failure
    over = (now if end is None else end) - opened
    return Entry(
        record.id,
        record.method,
        record.url,
        record.tag,
        state,
        record.submitted - opened,
        None if end is None else end - opened,
        record.worker,
        failure,
        _phases_of(record, messages, opened, over),
        messages,
    )


def _make_message(
    sent: MessageRecord, before: Message | None, submitted: float, opened: float, now: float
) -> Message:
    seen = sent.timings._seen
    return Message(
        sent.method,
        sent.url,
        None if before is None else _why(sent, before),
        sent.began - opened,
        None if sent.ended is None else sent.ended - opened,
        sent.status_code,
        sent.protocol,
        sent.request_headers,
        sent.response_headers,
        sent.request_size,
        sent.size,
        None if seen is None else seen.connection,
        None if seen is None else seen.reused,
        sent.failure,
        _phases_of_message(sent, submitted, opened, now),
    )


def _why(sent: MessageRecord, before: Message) -> str:
    status = before.status_code
    if before.failure is not None or status is None:
        return "retry"
    if status in (401, 407):
        return "auth"
    if 300 <= status <= 399:
        return "redirect"
    # The steps of an auth may lead elsewhere, for a token.
    return "retry" if before.url == sent.url else "auth"


def _phases_of_message(
    sent: MessageRecord, submitted: float, opened: float, now: float
) -> list[Phase]:
    marks = sent.timings.as_dict()
    seen = sent.timings._seen
    acquired = None if seen is None else seen.acquired
    reused = seen is not None and bool(seen.reused)
    at = sent.began - opened
    end = (now if sent.ended is None else sent.ended) - opened
    phases = []
    if acquired is not None:
        phases.append(Phase("blocked", at, min(end, acquired - opened)))
        at = phases[-1].end
    current = "blocked" if acquired is None else "waiting"
    for moment, name in _PHASES:
        mark = marks[moment]
        if mark is None:
            continue
        until = min(end, mark + submitted - opened)
        if until >= at:
            phases.append(Phase(name, at, until))
            at = until
    # What it was at when it ended, or is at now.
    if marks["done"] is None:
        if marks["first_byte"] is not None:
            current = "receiving"
        elif marks["sent"] is not None or reused:
            current = "waiting"
        elif marks["connected"] is not None:
            has_tls = sent.url.scheme == "https" and marks["tls"] is None
            current = "tls" if has_tls else "sending"
        elif marks["resolved"] is not None:
            current = "connecting"
        elif acquired is not None and sent.status_code is None:
            current = "resolving"
        phases.append(Phase(current, at, end))
    return [phase for phase in phases if phase.end > phase.start]


def _phases_of(record: Record, messages: list[Message], opened: float, over: float) -> list[Phase]:
    """`over`: when it ended, or now."""
    at = record.submitted - opened
    began = over if record.began is None else min(over, record.began - opened)
    phases = [Phase("queued", at, began)]
    at = began
    for message in messages:
        if message.start - at > _PAUSE:
            phases.append(Phase("pausing", at, message.start))
        for phase in message.phases:
            phases.append(phase)
            at = phase.end
    # After the last message of one that is done there is nothing to wait for.
    if record.state != "done" and over - at > _PAUSE:
        phases.append(Phase("pausing", at, over))
    cut = [Phase(name, min(start, over), min(end, over)) for name, start, end in phases]
    return [phase for phase in cut if phase.end > phase.start]
