"""
The command: fetch URLs in parallel, and print a line as each completes.

Exit status: 0 if every URL was fetched, 1 if one failed, 2 for wrong usage, 130 after Ctrl-C, 143
after SIGTERM and 141 if nobody reads the output any more, as the shell has it for SIGINT, SIGTERM
and SIGPIPE.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import stat
import sys
import threading
import time
import types
import typing

from ..api import parallel
from ..facade import Parallel
from .demo import run_demo
from .display import Display, make_display, show_cursor
from .fetching import Lanes, Run, Window
from .folder import Folder
from .inputs import BadLine, Input
from .options import Options, parse, parse_demo, program
from .outcomes import Outcome, Tally, as_json, as_line
from .terminal import Pen, is_terminal, printable

__all__ = ["main"]

OUTPUT_CLOSED = 141

#: Seconds. What forwards a Ctrl-C that the terminal sends to all makes two of one.
_SAME_PRESS = 0.2


class _Interrupted(KeyboardInterrupt):
    """By a signal, whose number it has."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class _OutputFailed(Exception):
    """Standard output takes no more, as its `__cause__` says."""


#: Ctrl-Z, where there is such a thing.
_SUSPEND: int | None = getattr(signal, "SIGTSTP", None)


class _Signals:
    """
    The first SIGINT or SIGTERM is raised; the second ends the process at once. Ctrl-Z leaves the
    terminal as it should be.
    """

    def __init__(self) -> None:
        self._before: dict[int, typing.Any] = {}
        self._at: float | None = None

    def __enter__(self) -> _Signals:
        if threading.current_thread() is threading.main_thread():
            self._set(signal.SIGINT, self._handle)
            self._set(signal.SIGTERM, self._handle)
            if _SUSPEND is not None:
                self._set(_SUSPEND, self._suspend)
        return self

    def _set(self, number: int, handler: typing.Callable[..., None]) -> None:
        # What is ignored, in a background job say, stays so.
        if signal.getsignal(number) is not signal.SIG_IGN:
            self._before[number] = signal.signal(number, handler)

    def __exit__(self, *exc_info: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _: types.FrameType | None) -> None:
        now = time.monotonic()
        if self._at is None:
            self._at = now
            raise _Interrupted(number)
        if now - self._at >= _SAME_PRESS:
            _show_cursors()
            os._exit(128 + number)

    def _suspend(self, number: int, _: types.FrameType | None) -> None:
        _show_cursors()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        # It goes on here when it goes on.
        signal.signal(number, self._suspend)


def _show_cursors() -> None:
    for stream in (sys.stdout, sys.stderr):
        if is_terminal(stream):
            show_cursor(stream)


class _Printer:
    """Prints outcomes as they come: above the live display, if there is one on that terminal."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._pen = Pen(sys.stdout)
        #: Set while there is one.
        self.display: Display | None = None

    def show(self, outcome: Outcome) -> None:
        if isinstance(outcome.item, BadLine):
            self._complain(f"{outcome.item.place}: {outcome.item.message}")
            if self._options.jsonl:
                self.print(as_json(outcome, False))
        elif self._options.jsonl:
            self.print(as_json(outcome, self._options.with_body))
        elif not outcome.skipped and (outcome.is_failure or not self._options.quiet):
            self.print(as_line(outcome, self._pen))

    def print(self, line: str) -> None:
        if self.display is not None and self.display.stream is sys.stdout:
            self.display.print_line(line)
            return
        try:
            print(line, flush=True)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise _OutputFailed from error

    def _complain(self, text: str) -> None:
        line = printable(f"{program()}: {text}")
        if self.display is not None and is_terminal(sys.stderr):
            self.display.print_line(line)
        else:
            _to_stderr(line)

    def summarise(self, text: str) -> None:
        if self._options.quiet:
            return
        if self._options.jsonl:
            _to_stderr(text)
        else:
            self.print(text)


def _to_stderr(line: str) -> None:
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            print(line, file=sys.stderr, flush=True)


def _display_stream(options: Options) -> typing.TextIO | None:
    """The terminal for the live display, if there is one for it alone."""
    if not options.progress:
        return None
    reads_stdin = "-" in options.urls or "-" in options.files
    if reads_stdin and is_terminal(sys.stdin):
        return None  # somebody types there
    if is_terminal(sys.stdout):
        return sys.stdout
    if not is_terminal(sys.stderr) or sys.stdout is None:
        return None
    try:
        mode = os.fstat(sys.stdout.fileno()).st_mode
    except (OSError, ValueError):
        return None
    # What reads a pipe may well write to the same terminal.
    return None if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) else sys.stderr


def _fetch(options: Options) -> int:
    inputs = Input(options.urls, options.files)
    folder = None if options.output is None else Folder(options.output)
    if folder is not None and options.resume:
        folder.remove_remains()
    try:
        block = parallel(
            max_workers=options.concurrency,
            max_per_host=options.per_host,
            deadline=options.deadline,
            timeline=options.waterfall is not None,
            **options.client,
        )
    except (ValueError, OSError) as error:  # a proxy, or certificates, that cannot be
        _to_stderr(printable(f"{program()}: {error}"))
        return 2
    tally, printer = Tally(), _Printer(options)
    interrupt: _Interrupted | None = None
    run: Run
    if folder is None:
        run = Window(options, block, inputs)
    else:
        run = Lanes(options, block, inputs, folder)
    display: Display | None = None
    stream = _display_stream(options)

    def end() -> None:
        run.stop()
        if display is not None:
            display.stop()
            printer.display = None
        block.close()

    try:
        try:
            if stream is not None:
                threading.Thread(target=inputs.count, name="counter", daemon=True).start()
                display = make_display(stream, lambda: run.progress(tally))
                printer.display = display
                display.start()
            for outcome in run.outcomes():
                tally.add(outcome)
                printer.show(outcome)
        finally:
            try:
                end()
            except KeyboardInterrupt:  # it comes once: see _Signals
                end()
                raise
    except KeyboardInterrupt as error:
        interrupt = error if isinstance(error, _Interrupted) else _Interrupted(signal.SIGINT)
    for outcome in run.late():
        tally.add(outcome)
        printer.show(outcome)
    if interrupt is not None:
        verb = "interrupted" if interrupt.number == signal.SIGINT else "terminated"
        printer.summarise(tally.summary(ended_by=verb, rest="the rest was cancelled"))
    elif run.gave_up is not None:
        printer.summarise(tally.summary(ended_by=run.gave_up, rest="no more was read"))
    else:
        printer.summarise(tally.summary(ended_by=None, rest=""))
    drawn = options.waterfall is None or _draw(block, options)
    if interrupt is not None:
        return 128 + interrupt.number
    return 1 if tally.failed or run.gave_up is not None or not drawn else 0


def _draw(block: Parallel, options: Options) -> bool:
    assert options.waterfall is not None
    try:
        block.timeline.save(options.waterfall)
    except OSError as error:
        _to_stderr(printable(f"{program()}: {options.waterfall}: {error.strerror or error}"))
        return False
    return True


@contextlib.contextmanager
def _logging() -> typing.Iterator[None]:
    logger = logging.getLogger("http3_parallel")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(relativeCreated)6d ms  %(threadName)s  %(message)s"))
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


def main(arguments: list[str] | None = None) -> int:
    """Run the command with `arguments` (None: those of the process). Returns its exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with _Signals():
            if arguments[:1] == ["demo"]:
                return run_demo(*parse_demo(arguments[1:]))
            options = parse(arguments)
            with _logging() if options.verbose else contextlib.nullcontext():
                return _fetch(options)
    except KeyboardInterrupt as error:
        return 128 + (error.number if isinstance(error, _Interrupted) else signal.SIGINT)
    except BrokenPipeError:
        # So that the interpreter's last flush does not fail too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OUTPUT_CLOSED
    except _OutputFailed as failure:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _to_stderr(f"{program()}: the output cannot be written: {failure.__cause__}")
        return 1
