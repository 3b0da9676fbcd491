"""Entries as JSON has them. Times are in milliseconds, to a microsecond."""

from __future__ import annotations

import typing

from ..models import StatusCode
from .entries import Entry, Message, Phase
from .records import Failure
from .redacting import shown_headers, shown_tag, shown_url

__all__ = ["make_row"]

_Json = dict[str, typing.Any]


def make_row(entry: Entry, credentials: bool) -> _Json:
    last = entry.messages[-1] if entry.messages else None
    headers = None if last is None else last.response_headers
    media_type = "" if headers is None else headers.get("content-type", "")
    status = entry.status_code
    return {
        "id": entry.id,
        "method": entry.method,
        "url": shown_url(entry.url, credentials),
        "host": "" if isinstance(entry.url, str) else entry.url.host_header,
        "tag": shown_tag(entry.tag, credentials),
        "state": entry.state,
        "status": status,
        "reason": None if status is None else StatusCode.get_reason_phrase(status),
        "size": entry.size,
        "type": media_type.partition(";")[0].strip().lower() or None,
        "start": _ms(entry.start),
        "end": _ms(entry.end),
        "worker": entry.worker,
        "connection": None if last is None else last.connection,
        "reused": None if last is None else last.reused,
        "error": _error(entry.failure),
        "phases": _phases(entry.phases),
        "exchanges": [_exchange(message, credentials) for message in entry.messages],
    }


def _exchange(message: Message, credentials: bool) -> _Json:
    status = message.status_code
    return {
        "method": message.method,
        "url": shown_url(message.url, credentials),
        "status": status,
        "reason": None if status is None else StatusCode.get_reason_phrase(status),
        "why": message.why,
        "start": _ms(message.start),
        "end": _ms(message.end),
        "size": message.size,
        "connection": message.connection,
        "reused": message.reused,
        "version": message.protocol,
        "request_headers": shown_headers(message.request_headers, credentials),
        "response_headers": shown_headers(message.response_headers, credentials),
        "error": _error(message.failure),
    }


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(1000 * seconds, 3)


def _phases(phases: list[Phase]) -> list[tuple[str, float | None, float | None]]:
    return [(name, _ms(start), _ms(end)) for name, start, end in phases]


def _error(failure: Failure | None) -> _Json | None:
    return None if failure is None else {"type": failure.type, "message": failure.message}
