"""
The live display: how far a run is, in the last lines of a terminal, below what is printed.

With rich, an area of several lines; without, one line. What is shown is read anew for each picture,
ten times a second, on a thread of its own, so that it goes on while all requests hang.
"""

from __future__ import annotations

import collections
import contextlib
import os
import select
import threading
import time
import typing

from .terminal import Pen, columns, fit, printable, show_bytes, show_seconds

if typing.TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Display", "Progress", "make_display", "show_cursor"]

#: Seconds between two pictures, and for how many the rates are those of.
_INTERVAL = 0.1
_RATE_SECONDS = 5.0
#: Seconds that a picture may take.
_PATIENCE = 1.0
#: Lines that wait to be printed above the next picture.
_MOST_WAITING = 1000
#: Seconds. A request that takes no longer is not worth a line.
_SLOW = 1.0
_MOST_SLOW = 5
#: Of the terminal: at least so many lines are left to what is printed.
_LINES_LEFT = 8
#: What takes at least so long, in seconds, has a time left.
_FORETELLS_AFTER = 1.0


class Progress(typing.NamedTuple):
    """How far a run is."""

    #: How many there are in all; None where that is not known.
    total: int | None
    done: int
    failed: int
    skipped: int
    in_flight: int
    queued: int
    bytes: int
    #: Those in flight that began first: seconds, and what they are.
    slowest: typing.Sequence[tuple[float, str]] = ()

    @property
    def ended(self) -> int:
        return self.done + self.failed + self.skipped


class Line(typing.NamedTuple):
    """One of the picture: pieces of text, each good, bad, faint, or plain."""

    pieces: list[tuple[str, str]]


class _Rates:
    """Requests and bytes a second, over the last seconds."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self._samples: collections.deque[tuple[float, int, int]] = collections.deque(
            [(self.started, 0, 0)]
        )

    def add(self, progress: Progress) -> tuple[float, float]:
        now = time.monotonic()
        samples = self._samples
        ended = progress.ended - progress.skipped
        samples.append((now, ended, progress.bytes))
        while len(samples) > 2 and samples[1][0] < now - _RATE_SECONDS:
            samples.popleft()
        then, ended_then, bytes_then = samples[0]
        seconds = max(now - then, 1e-3)
        return (ended - ended_then) / seconds, (progress.bytes - bytes_then) / seconds


def picture(
    progress: Progress,
    rates: tuple[float, float],
    elapsed: float,
    width: int,
    height: int,
    slow: float = _SLOW,
) -> list[Line]:
    """At most `height` lines, none wider than `width`."""
    lines = []
    per_second, bytes_per_second = rates
    total = progress.total
    if total:
        share = min(1.0, progress.ended / total)
        left = ""
        # Of those in flight nobody knows.
        if per_second > 0 and elapsed >= _FORETELLS_AFTER and progress.queued:
            left = f"  {show_seconds((total - progress.ended) / per_second)} left"
        # The last to come is not there as long as anything is to come.
        percent = 100 if progress.ended >= total else min(99, int(100 * share))
        text = f"  {progress.ended:,}/{total:,}  {percent} %{left}"
        room = min(60, width - columns(text) - 1)
        if room >= 8:
            full = int(room * share)
            lines.append(Line([("━" * full, "good"), ("─" * (room - full), "faint"), (text, "")]))
        else:
            lines.append(Line([(fit(text.strip(), width), "")]))
    counts = [(f"{progress.done:,} done", "")]
    counts.append((f"{progress.failed:,} failed", "bad" if progress.failed else ""))
    if progress.skipped:
        counts.append((f"{progress.skipped:,} skipped", ""))
    counts.append((f"{progress.in_flight:,} in flight", ""))
    if progress.queued:
        counts.append((f"{progress.queued:,} queued", ""))
    counts.append((f"{per_second:,.1f}/s" if per_second < 100 else f"{per_second:,.0f}/s", ""))
    counts.append((f"{show_bytes(bytes_per_second)}/s", ""))
    counts.append((show_seconds(elapsed), "faint"))
    lines.append(_joined(counts, width))
    room = max(0, min(_MOST_SLOW, height - len(lines)))
    for seconds, what in progress.slowest[:room]:
        if seconds >= slow:
            lines.append(Line([(fit(f"{_precisely(seconds):>8}  {what}", width), "faint")]))
    return lines


def _precisely(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else show_seconds(seconds)


def _joined(pieces: list[tuple[str, str]], width: int) -> Line:
    """As many of them as there is room for, the first ones."""
    joined: list[tuple[str, str]] = []
    taken = 0
    for text, style in pieces:
        apart = "   " if joined and width >= 76 else " · " if joined else ""
        if taken + len(apart) + columns(text) > width:
            break
        joined += [(apart, "faint"), (text, style)]
        taken += len(apart) + columns(text)
    return Line(joined or [(fit(pieces[0][0], width), "")])


class Display:
    """
    Shows what `look` returns on `stream`, a terminal, from `start` to `stop`. What is to be printed
    there meanwhile goes through `print_line`.

    It is no context manager: Ctrl-C may strike between the beginning of one and its ``with`` block.
    `stop` is right whether it was started or not, and may be called again after an interrupt.

    * `slow`: seconds after which a request has a line of its own.
    * `keep`: whether the last picture stays.
    """

    def __init__(
        self,
        stream: typing.TextIO,
        look: typing.Callable[[], Progress],
        slow: float = _SLOW,
        keep: bool = False,
    ) -> None:
        self._look = look
        self._slow = slow
        self._keep = keep
        self.stream: typing.TextIO = stream
        self._rates = _Rates()
        self._waiting: list[str] = []
        self._lock = threading.Lock()
        #: Reentrant, since an interrupt may leave it locked.
        self._drawing = threading.RLock()
        self._stop = threading.Event()
        self._room = threading.Event()
        self._thread = threading.Thread(target=self._run, name="live display", daemon=True)

    def print_line(self, line: str) -> None:
        with self._lock:
            self._waiting.append(line)
            is_full = len(self._waiting) >= _MOST_WAITING
            if is_full:
                self._room.clear()
        if is_full:  # the terminal does not keep up
            while not self._room.wait(0.5) and self._thread.is_alive():
                pass

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        # From here on the thread draws nothing more, unless the terminal has stopped it.
        is_ours = self._drawing.acquire(timeout=_PATIENCE)
        try:
            with contextlib.suppress(OSError):  # the terminal is gone
                if self._keep:
                    self._draw()
                self._end()
                for line in self._take():
                    self.stream.write(line + "\n")
                self.stream.flush()
        finally:
            if is_ours:
                self._drawing.release()

    def _take(self) -> list[str]:
        with self._lock:
            lines, self._waiting = self._waiting, []
            self._room.set()
        return lines

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                with self._drawing:
                    if self._stop.is_set():
                        return
                    self._draw()
                self._stop.wait(_INTERVAL)

    def _size(self) -> tuple[int, int]:
        """Of the terminal as it is now, whatever COLUMNS was when this began."""
        try:
            width, height = os.get_terminal_size(self.stream.fileno())
        except (OSError, ValueError):
            width = height = 0
        return width or 80, height or 24

    def _draw(self) -> None:
        progress = self._look()
        width, height = self._size()
        elapsed = time.monotonic() - self._rates.started
        lines = picture(
            progress,
            self._rates.add(progress),
            elapsed,
            max(10, width - 3),  # what somebody types is echoed there: ^C, say
            max(1, height - _LINES_LEFT),
            self._slow,
        )
        self._show(self._take(), lines)

    def _show(self, above: list[str], lines: list[Line]) -> None:
        raise NotImplementedError

    def _end(self) -> None:
        raise NotImplementedError


_STYLES = {"good": "green", "bad": "red", "faint": "dim", "": ""}


class _RichDisplay(Display):
    """
    An area of several lines. It is kept here rather than by rich's `Live`, which does not know of
    the lines that a terminal wraps when it becomes narrower.
    """

    def __init__(
        self,
        stream: typing.TextIO,
        look: typing.Callable[[], Progress],
        slow: float,
        keep: bool,
        console: Console,
    ) -> None:
        super().__init__(stream, look, slow, keep)
        self._console = console
        #: How wide the lines of the last picture are, which the cursor is at the end of.
        self._shown: list[int] = []

    def _show(self, above: list[str], lines: list[Line]) -> None:
        from rich.text import Text

        shown = Text(no_wrap=True, overflow="crop", end="")
        for line in lines:
            if shown:
                shown.append("\n")
            for piece, style in line.pieces:
                shown.append(printable(piece), _STYLES[style])
        with self._console:  # in one piece
            self._console.show_cursor(False)  # each time: the process may have been suspended
            self._erase()
            if above:
                # As it is, however long: to be copied.
                text = Text.from_ansi("\n".join(above), no_wrap=True, overflow="ignore")
                self._console.print(text, soft_wrap=True, crop=False)
            self._console.print(shown, soft_wrap=True, crop=False, end="")
            self._shown = [columns("".join(piece for piece, _ in line.pieces)) for line in lines]

    def _erase(self) -> None:
        from rich.control import Control
        from rich.segment import ControlType

        if not self._shown:
            return
        # Most terminals wrap what has become too wide for them.
        width = self._size()[0]
        rows = sum(max(1, -(-taken // width)) for taken in self._shown)
        erase = (ControlType.ERASE_IN_LINE, 2)
        up = ((ControlType.CURSOR_UP, 1), erase)
        self._console.control(Control(ControlType.CARRIAGE_RETURN, erase, *up * (rows - 1)))
        self._shown = []

    def _end(self) -> None:
        if self._keep:
            self._console.line()
        else:
            self._erase()
        self._console.show_cursor(True)


class _PlainDisplay(Display):
    """One line, without any escape sequence."""

    _shown = 0

    def _show(self, above: list[str], lines: list[Line]) -> None:
        # The last that is not about one request: the counts.
        texts = ["".join(piece for piece, _ in line.pieces) for line in lines]
        text = printable(next(text for text in texts if " done" in text))
        if above:
            self._clear()
            self.stream.write("\n".join(above) + "\n")
        width = columns(text)
        self.stream.write("\r" + text + " " * (self._shown - width))
        self._shown = width
        self.stream.flush()

    def _clear(self) -> None:
        self.stream.write("\r" + " " * self._shown + "\r")
        self._shown = 0

    def _end(self) -> None:
        if self._keep:
            self.stream.write("\n")
        else:
            self._clear()


def make_display(
    stream: typing.TextIO,
    look: typing.Callable[[], Progress],
    *,
    slow: float = _SLOW,
    keep: bool = False,
) -> Display:
    """On a terminal: what rich shows, or without it one line."""
    try:
        from rich.console import Console
    except ImportError:
        return _PlainDisplay(stream, look, slow, keep)
    console = Console(
        file=stream,
        force_terminal=True,
        color_system="auto" if Pen(stream).colour else None,
        highlight=False,
        markup=False,
        emoji=False,
    )
    return _RichDisplay(stream, look, slow, keep, console)


def show_cursor(stream: typing.TextIO) -> None:
    """
    For an end at once, from a signal handler: what `Display` hides is seen again. Not by way of
    `stream`, of which another thread may be in the middle, and not where that would have to wait.
    """
    with contextlib.suppress(OSError, ValueError):
        descriptor = stream.fileno()
        if os.name == "nt" or select.select([], [descriptor], [], 0)[1]:
            os.write(descriptor, b"\x1b[?25h")
