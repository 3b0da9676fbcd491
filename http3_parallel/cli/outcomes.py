"""How requests ended, and how that is told: a line, or a JSON object, for each."""

from __future__ import annotations

import base64
import json
import time
import typing

from ..exceptions import HTTPError, redacted_text
from ..models import URL, Headers, Response
from .inputs import BadLine, Item
from .terminal import Pen, printable

__all__ = ["Outcome", "Tally", "as_json", "as_line"]


class Outcome(typing.NamedTuple):
    """Of one request, or of one that could not even be made."""

    item: Item | BadLine
    method: str
    response: Response | None = None
    error: Exception | None = None
    #: Of the body, if it was read.
    size: int = 0
    body: bytes | None = None
    #: Where it was saved.
    path: str | None = None
    skipped: bool = False

    @property
    def is_failure(self) -> bool:
        if self.skipped:
            return False
        return self.response is None or self.error is not None or self.response.is_error


class Tally:
    """What has come so far."""

    def __init__(self) -> None:
        self.fetched: int = 0
        self.failed: int = 0
        self.skipped: int = 0
        self.bytes: int = 0
        self._started = time.perf_counter()

    def add(self, outcome: Outcome) -> None:
        if outcome.skipped:
            self.skipped += 1
            return
        self.bytes += outcome.size
        if outcome.is_failure:
            self.failed += 1
        else:
            self.fetched += 1

    def summary(self, *, ended_by: str | None, rest: str) -> str:
        """`ended_by`: what came before the end."""
        seconds = time.perf_counter() - self._started
        skipped = f"{self.skipped} skipped, " if self.skipped else ""
        counts = f"{skipped}{self.fetched} fetched, {self.failed} failed, {self.bytes} bytes"
        if ended_by is not None:
            return f"{ended_by} after {seconds:.2f} s: {counts}; {rest}"
        return f"{counts} in {seconds:.2f} s"


# Lines.


def as_line(outcome: Outcome, pen: Pen) -> str:
    item, response, error = outcome.item, outcome.response, outcome.error
    tag = ""
    if isinstance(item, Item) and item.tag is not None:
        text = item.tag if isinstance(item.tag, str) else json.dumps(item.tag, ensure_ascii=False)
        tag = f"  [{text}]"
    if error is not None or response is None:
        message = _message(error)
        place = f" ({item.place})" if item.source is not None else ""
        text = f"{_asked(outcome)}  {_error_name(error)}: {message}{place}{tag}"
        return f"{pen.bad('ERR')} {'-':>10}   {'-':>8}    {printable(text)}"
    status = f"{response.status_code:<3}"
    seconds = _elapsed(response) or 0.0
    way = [answer.url for answer in (*response.history, response)]
    urls = " -> ".join(url.redacted for url in way if url is not None)
    method = "" if outcome.method == "GET" else f"{outcome.method} "
    saved = "" if outcome.path is None else f"  in {outcome.path}"
    painted = pen.bad(status) if outcome.is_failure else pen.good(status)
    what = printable(method + urls + saved + tag)
    return f"{painted} {outcome.size:>10} B {seconds:>8.3f} s  {what}"


def _asked(outcome: Outcome) -> str:
    method = "" if outcome.method == "GET" else f"{outcome.method} "
    error, item = outcome.error, outcome.item
    if isinstance(error, HTTPError) and error.request is not None:
        return f"{method}{error.url.redacted}"
    return method + redacted_text(item.url) if isinstance(item, Item) else item.place


def _error_name(error: Exception | None) -> str:
    return "BadLine" if error is None else type(error).__name__


def _message(error: Exception | None) -> str:
    if isinstance(error, HTTPError):
        return error.message
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return str(error)


# JSON.


def as_json(outcome: Outcome, with_body: bool) -> str:
    """
    An object that has all of its keys each time, in ASCII: whatever a server sends, it commands
    no terminal.
    """
    item, response, error = outcome.item, outcome.response, outcome.error
    shown: dict[str, typing.Any] = {
        "url": _whole(item.url) if isinstance(item, Item) else None,
        "method": outcome.method,
        "tag": item.tag if isinstance(item, Item) else None,
        "place": item.place,
        "ok": not outcome.is_failure,
        "skipped": outcome.skipped,
        "status": None,
        "reason": None,
        "final_url": None,
        "history": [],
        "headers": None,
        "elapsed": None,
        "timings": None,
        "size": None,
        "body": None,
        "body_encoding": None,
        "path": outcome.path,
        "error": None,
    }
    if response is not None:
        shown |= _of_response(response, outcome)
        if with_body and outcome.body is not None:
            shown["body"], shown["body_encoding"] = _text_or_base64(response, outcome.body)
    if error is not None:
        shown["error"] = {"type": _error_name(error), "message": _message(error)}
    elif isinstance(item, BadLine):
        shown["error"] = {"type": "BadLine", "message": item.message}
    return json.dumps(shown, separators=(",", ":"))


def _of_response(response: Response, outcome: Outcome) -> dict[str, typing.Any]:
    timings = None if response.timings is None else response.timings.as_dict()
    return {
        "status": response.status_code,
        "reason": response.reason_phrase,
        "final_url": _public(response.url),
        "history": [
            {"status": one.status_code, "url": _public(one.url)} for one in response.history
        ],
        "headers": _headers(response.headers),
        "elapsed": _rounded(_elapsed(response)),
        "timings": timings and {moment: _rounded(at) for moment, at in timings.items()},
        "size": outcome.size,
    }


def _elapsed(response: Response) -> float | None:
    """With the body, also of one that was streamed."""
    timings = response.timings
    if timings is not None and timings.done is not None and timings.queued is not None:
        return timings.done - timings.queued
    return None if response.elapsed is None else response.elapsed.total_seconds()


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)


def _public(url: URL) -> str:
    """Without a password: objects are kept, and passed on."""
    if "@" in url.authority:
        url = url.copy_with(username=None, password=None)
    return str(url)


def _whole(text: str) -> str:
    if "@" not in text:
        return text
    try:
        return _public(URL(text))
    except HTTPError:
        return redacted_text(text)


def _headers(headers: Headers) -> dict[str, list[str]]:
    """Names in lower case, each with its values, as curl's ``%{header_json}`` has them."""
    shown: dict[str, list[str]] = {}
    for name, value in headers.items():
        shown.setdefault(name, []).append(value)
    return shown


def _text_or_base64(response: Response, body: bytes) -> tuple[str, str]:
    """Text only where it says all of the bytes: by its charset, or else UTF-8."""
    if b"\0" not in body:
        for charset in (response.charset_encoding, "utf-8"):
            if charset is not None:
                try:
                    text = body.decode(charset)
                    if text.encode(charset) == body:
                        return text, "text"
                except (LookupError, ValueError):
                    continue
    return base64.b64encode(body).decode("ascii"), "base64"
