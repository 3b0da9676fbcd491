"""What can be shown on a terminal, and how wide it is there."""

from __future__ import annotations

import os
import typing
import unicodedata

__all__ = ["Pen", "columns", "fit", "is_terminal", "printable", "show_bytes", "show_seconds"]


def is_terminal(stream: typing.TextIO | None) -> bool:
    """Whether it is one that can be written all over."""
    try:
        return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"
    except ValueError:  # closed
        return False


class Pen:
    """Colours, where a terminal has them and ``NO_COLOR`` is not set."""

    def __init__(self, stream: typing.TextIO | None) -> None:
        self.colour: bool = is_terminal(stream) and not os.environ.get("NO_COLOR")

    def heading(self, text: str) -> str:
        return self._styled("1", text)

    def good(self, text: str) -> str:
        return self._styled("32", text)

    def bad(self, text: str) -> str:
        return self._styled("31", text)

    def faint(self, text: str) -> str:
        return self._styled("2", text)

    def _styled(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour else text


def printable(text: str) -> str:
    """A URL or a server's words must not command the terminal, nor make a second line."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def columns(text: str) -> int:
    """How many a terminal takes for it."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def fit(text: str, width: int) -> str:
    """Cut to at most `width` columns."""
    if columns(text) <= width:
        return text
    if width <= 0:
        return ""
    taken, kept = 1, []
    for c in text:
        taken += columns(c)
        if taken > width:
            break
        kept.append(c)
    return "".join(kept) + "…"


def show_bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 99.5 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def show_seconds(seconds: float) -> str:
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
