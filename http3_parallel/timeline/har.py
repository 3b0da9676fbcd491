"""
A HAR log, version 1.2, as browsers write and read it.

Each message is an entry, since that is what a browser shows for redirects. What never became a
message (it was cancelled in line, or its URL was invalid) is an entry without a response, as
browsers have it: with status 0, and the reason in ``_error``. Names of our own begin with ``_``,
as the format wants it.
"""

from __future__ import annotations

import datetime
import typing
import urllib.parse

from ..__version__ import __title__, __version__
from ..models import URL, Headers, QueryParams, StatusCode
from .entries import Entry, Message, Phase
from .records import Failure
from .redacting import HIDDEN, shown_headers, shown_tag, shown_url

if typing.TYPE_CHECKING:
    from .timeline import Timeline

__all__ = ["make_har"]

_Json = dict[str, typing.Any]

_PAGE = "block"

#: RFC 3986, appendix A: besides letters, digits and ``-._~``.
_URI_CHARACTERS = "%:/?#[]@!$&'()*+,;="

#: HAR's name of each phase. That of `tls` is within ``connect``.
_TIMINGS = {
    "queued": "blocked",
    "blocked": "blocked",
    "pausing": "blocked",
    "resolving": "dns",
    "connecting": "connect",
    "tls": "ssl",
    "sending": "send",
    "waiting": "wait",
    "receiving": "receive",
}


def make_har(timeline: Timeline, credentials: bool) -> _Json:
    started = timeline.started
    entries = [
        made for entry in timeline for made in _entries(entry, started, credentials=credentials)
    ]
    entries.sort(key=_when)
    return {
        "log": {
            "version": "1.2",
            "creator": {"name": __title__, "version": __version__},
            "pages": [
                {
                    "startedDateTime": _time(started, 0.0),
                    "id": _PAGE,
                    "title": "Parallel requests",
                    "pageTimings": {"onContentLoad": -1, "onLoad": -1},
                }
            ],
            "entries": entries,
        }
    }


def _when(entry: _Json) -> str:
    when: str = entry["startedDateTime"]
    return when


def _time(started: datetime.datetime, seconds: float) -> str:
    moment = started + datetime.timedelta(seconds=seconds)
    return moment.isoformat(timespec="microseconds")


def _entries(
    entry: Entry, started: datetime.datetime, *, credentials: bool
) -> typing.Iterator[_Json]:
    # What comes before a message, in line or in a pause, is of its time.
    since = entry.start
    for message in entry.messages:
        waited = [
            phase
            for phase in entry.phases
            if phase.name in ("queued", "pausing") and since <= phase.start < message.start
        ]
        since = message.start
        yield _entry(entry, message, waited, started, credentials)
    if not entry.messages:
        yield _entry_without_message(entry, started, credentials)


def _common(
    entry: Entry,
    phases: typing.Sequence[Phase],
    start: float,
    started: datetime.datetime,
    credentials: bool,
) -> _Json:
    timings = dict.fromkeys(("blocked", "dns", "connect", "ssl"), -1.0)
    timings.update(send=0.0, wait=0.0, receive=0.0)
    for name, begin, end in phases:
        key = _TIMINGS[name]
        timings[key] = round(max(0.0, timings[key]) + 1000 * (end - begin), 3)
    if timings["ssl"] > 0:
        timings["connect"] = round(max(0.0, timings["connect"]) + timings["ssl"], 3)
    total = sum(value for key, value in timings.items() if key != "ssl" and value > 0)
    made: _Json = {
        "pageref": _PAGE,
        "startedDateTime": _time(started, start),
        "time": round(total, 3),
        "cache": {},
        "timings": timings,
        "_id": entry.id,
        "_state": entry.state,
    }
    tag = shown_tag(entry.tag, credentials)
    if tag is not None:
        made["_tag"] = tag
    if entry.worker is not None:
        made["_worker"] = entry.worker
    return made


def _entry(
    entry: Entry,
    message: Message,
    waited: list[Phase],
    started: datetime.datetime,
    credentials: bool,
) -> _Json:
    start = waited[0].start if waited else message.start
    made = _common(entry, [*waited, *message.phases], start, started, credentials)
    version = message.protocol or "HTTP/1.1"
    made["request"] = {
        "method": message.method,
        "url": _uri(message.url, credentials),
        "httpVersion": version,
        "cookies": _cookies(message.request_headers, "cookie", credentials),
        "headers": _headers(message.request_headers, credentials),
        "queryString": _query(message.url, credentials),
        "headersSize": -1,
        "bodySize": -1 if message.request_size is None else message.request_size,
    }
    failure = message.failure
    if failure is None and message is entry.messages[-1]:
        failure = entry.failure
    made["response"] = _response(message, version, failure, credentials)
    if message.why is not None:
        made["_why"] = message.why
    if message.connection is not None:
        # The port here tells connections apart; and there is who it leads to.
        local, _, peer = message.connection.partition(" -> ")
        made["connection"] = local.rpartition(":")[2]
        host = peer.rpartition(":")[0].strip("[]")
        if host:
            made["serverIPAddress"] = host
    return made


def _response(message: Message, version: str, failure: Failure | None, credentials: bool) -> _Json:
    headers, status = message.response_headers, message.status_code
    if headers is None or status is None:
        return _no_response(failure)
    size = message.size or 0
    shown = {name.lower(): value for name, value in shown_headers(headers, credentials)}
    made: _Json = {
        "status": status,
        "statusText": StatusCode.get_reason_phrase(status),
        "httpVersion": version,
        "cookies": _cookies(headers, "set-cookie", credentials),
        "headers": _headers(headers, credentials),
        "content": {
            # Of what was decoded, nobody has noted it.
            "size": -1 if "content-encoding" in headers else size,
            "mimeType": headers.get("content-type", "x-unknown"),
        },
        "redirectURL": shown.get("location", ""),
        "headersSize": -1,
        "bodySize": size,
    }
    if failure is not None:
        made["_error"] = _text(failure)
    return made


def _no_response(failure: Failure | None) -> _Json:
    made: _Json = {
        "status": 0,
        "statusText": "",
        "httpVersion": "",
        "cookies": [],
        "headers": [],
        "content": {"size": 0, "mimeType": "x-unknown"},
        "redirectURL": "",
        "headersSize": -1,
        "bodySize": -1,
    }
    if failure is not None:
        made["_error"] = _text(failure)
    return made


def _entry_without_message(entry: Entry, started: datetime.datetime, credentials: bool) -> _Json:
    made = _common(entry, entry.phases, entry.start, started, credentials)
    made["request"] = {
        "method": entry.method,
        "url": _uri(entry.url, credentials),
        "httpVersion": "HTTP/1.1",
        "cookies": [],
        "headers": [],
        "queryString": [] if isinstance(entry.url, str) else _query(entry.url, credentials),
        "headersSize": -1,
        "bodySize": -1,
    }
    made["response"] = _no_response(entry.failure)
    return made


def _uri(url: URL | str, credentials: bool) -> str:
    """The format wants one, also where it is none, or has ``…`` in it."""
    text = urllib.parse.quote(shown_url(url, credentials), safe=_URI_CHARACTERS)
    return f"about:invalid#{text}" if isinstance(url, str) else text


def _text(failure: Failure) -> str:
    return f"{failure.type}: {failure.message}" if failure.message else failure.type


def _headers(headers: Headers, credentials: bool) -> list[_Json]:
    return [{"name": name, "value": value} for name, value in shown_headers(headers, credentials)]


def _cookies(headers: Headers, field: str, credentials: bool) -> list[_Json]:
    cookies = []
    for value in headers.getlist(field):
        for pair in value.split(";") if field == "cookie" else [value.partition(";")[0]]:
            name, equals, content = pair.strip().partition("=")
            if credentials:
                cookies.append({"name": name, "value": content})
            else:
                cookies.append({"name": name if equals else HIDDEN, "value": HIDDEN})
    return cookies


def _query(url: URL, credentials: bool) -> list[_Json]:
    query = url.query if credentials else url.redacted.partition("?")[2]
    return [{"name": name, "value": value} for name, value in QueryParams(query).multi_items()]
