"""The waterfall in text, for terminals."""

from __future__ import annotations

import math
import shutil
import typing
import unicodedata

from .entries import Entry
from .redacting import shown_url

__all__ = ["draw"]

#: How each phase is drawn, and its colour (SGR). They can be told apart without colours, too.
_MARKS = {
    "queued": ("·", "2"),
    "blocked": (":", "2"),
    "pausing": ("~", "33"),
    "resolving": ("─", "36"),
    "connecting": ("─", "36"),
    "tls": ("═", "35"),
    "sending": ("░", "32"),
    "waiting": ("░", "32"),
    "receiving": ("█", "34"),
}
_LEGEND = (
    ("queued", "queued"),
    ("blocked", "waits for a connection"),
    ("connecting", "connects"),
    ("tls", "TLS"),
    ("waiting", "sent, waits"),
    ("receiving", "receives"),
    ("pausing", "pauses"),
)
#: What ends the bar of one that did not go well.
_ENDS = {"failed": ("✗", "31"), "cancelled": ("/", "33")}

_STATE_WIDTH, _TIME_WIDTH = 9, 8
_LEAST_BAR, _LEAST_LABEL = 16, 12


class _Pen:
    def __init__(self, colour: bool) -> None:
        self._colour = colour

    def paint(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour and text.strip() else text

    def paint_runs(self, cells: list[tuple[str, str]]) -> str:
        """Neighbours of one colour in one go."""
        text, run, code = "", "", ""
        for mark, own in cells:
            if own != code:
                text += self.paint(run, code)
                run, code = "", own
            run += mark
        return text + self.paint(run, code)


def draw(
    entries: list[Entry], width: int | None, rows: int | None, colour: bool, credentials: bool
) -> str:
    """As `Timeline.to_text` has it."""
    if width is None:
        width = shutil.get_terminal_size((80, 24)).columns
    if not entries:
        return "no requests"
    pen = _Pen(colour)
    shown = entries if rows is None else entries[:rows]
    labels = _labels(shown, credentials)
    widest = max(_columns(label) for label in labels)
    room = max(_LEAST_LABEL, min(widest, (width - _STATE_WIDTH - _TIME_WIDTH - 3) * 2 // 5))
    bar = max(_LEAST_BAR, width - room - _STATE_WIDTH - _TIME_WIDTH - 3)
    # Of what is shown, so that a bar has its room.
    total = max(_end(entry) for entry in shown) or 0.001
    head = f"{'':{room}} {'':{_STATE_WIDTH}} {'time':>{_TIME_WIDTH}} "
    lines = [pen.paint(head + _axis(total, bar), "2")]
    used: set[str] = set()
    for entry, label in zip(shown, labels, strict=True):
        cells = _bar(entry, total, bar)
        used.update(mark for mark, _ in cells)
        lines.append(
            f"{_fit(label, room)} {_state(entry, pen)} "
            f"{_seconds(_end(entry) - entry.start):>{_TIME_WIDTH}} {pen.paint_runs(cells)}".rstrip()
        )
    if len(shown) < len(entries):
        lines.append(pen.paint(f"… and {len(entries) - len(shown)} more", "2"))
    legend = [
        f"{pen.paint(*_MARKS[phase])} {name}" for phase, name in _LEGEND if _MARKS[phase][0] in used
    ]
    legend += [f"{pen.paint(*_ENDS[state])} {state}" for state in _ENDS if _ENDS[state][0] in used]
    return "\n".join([*lines, *_wrapped(legend, width)])


def _labels(entries: list[Entry], credentials: bool) -> list[str]:
    """Without what all of them have in common."""
    origins = {
        entry.url if isinstance(entry.url, str) else f"{entry.url.scheme}://{entry.url.host_header}"
        for entry in entries
    }
    labels = []
    for entry in entries:
        text = shown_url(entry.url, credentials)
        if not isinstance(entry.url, str):
            text = text.partition("://")[2]
            if len(origins) == 1:
                text = "/" + text.partition("/")[2]
        method = "" if entry.method == "GET" else f"{entry.method} "
        labels.append("".join(c if c.isprintable() else "?" for c in method + text))
    return labels


def _columns(text: str) -> int:
    """How wide a terminal makes it."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def _fit(text: str, room: int) -> str:
    if _columns(text) > room:
        while _columns(text) > room - 1:
            text = text[:-1]
        text += "…"
    return text + " " * (room - _columns(text))


def _state(entry: Entry, pen: _Pen) -> str:
    status = entry.status_code
    if entry.state == "done" and status is not None:
        code = "32" if status < 300 else "36" if status < 400 else "31"
        return pen.paint(f"{status:<{_STATE_WIDTH}}", code)
    _, code = _ENDS.get(entry.state, ("", "2"))
    return pen.paint(f"{entry.state:<{_STATE_WIDTH}}", code)


def _end(entry: Entry) -> float:
    if entry.end is not None:
        return entry.end
    return entry.phases[-1].end if entry.phases else entry.start


def _bar(entry: Entry, total: float, width: int) -> list[tuple[str, str]]:
    scale = width / total
    cells = [(" ", "")] * (width + 1)
    last = 0
    for name, start, end in entry.phases:
        first = min(width - 1, int(start * scale))
        last = max(first + 1, min(width, math.ceil(end * scale - 1e-9)))
        cells[first:last] = [_MARKS[name]] * (last - first)
    if entry.state in _ENDS:
        cells[max(0, min(last, width) - 1)] = _ENDS[entry.state]
    return cells[:width]


def _axis(total: float, width: int) -> str:
    """The time at the left, in the middle and at the right, as far as there is room."""
    left, middle, right = "0", _seconds(total / 2), _seconds(total)
    if width < len(left) + len(middle) + len(right) + 8:
        return f"{left}{right:>{width - 1}}"
    half = width // 2
    return f"{left}{middle:>{half - 1}}{right:>{width - half}}"


def _seconds(seconds: float) -> str:
    if seconds < 0.9995:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 99.95:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d}"
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def _wrapped(items: typing.Iterable[str], width: int) -> list[str]:
    lines: list[str] = []
    taken = width
    for item in items:
        size = len(item.partition("m")[2].replace("\x1b[0m", "")) if "\x1b" in item else len(item)
        if taken + size + 3 > width:
            lines.append(item)
            taken = size
        else:
            lines[-1] += f"   {item}"
            taken += size + 3
    return lines
