"""The command in a process of its own, as a person runs it: piped, and on a terminal."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
import typing

import pyte
import pytest

import http3_parallel
import http3_parallel.cli

#: A run that takes longer hangs.
LONGEST = 60.0


ROOT = str(pathlib.Path(http3_parallel.__file__).parent.parent)

COMMAND = [sys.executable, "-m", "http3_parallel"]
#: The command where rich is not installed.
WITHOUT_RICH = [
    sys.executable,
    "-c",
    """
import sys
sys.modules["rich"] = None
sys.argv[0] = "__main__.py"
from http3_parallel.cli import main
sys.exit(main())
""",
]


@contextlib.contextmanager
def running(*arguments: str, **options: typing.Any) -> typing.Iterator[subprocess.Popen[str]]:
    """The command, in a process group of its own, as a shell would have it."""
    with subprocess.Popen(
        [*COMMAND, *arguments],
        stdin=options.pop("stdin", subprocess.DEVNULL),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="surrogateescape",
        env={**os.environ, "PYTHONPATH": ROOT, "PYTHONIOENCODING": "utf-8", "COLUMNS": "80"},
        start_new_session=True,
        **options,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


class Result(typing.NamedTuple):
    status: int
    lines: list[str]
    errors: str


def run(*arguments: str, given: str | None = None) -> Result:
    """
    The command from its first line to its end, in this process, with files of its own: a new
    interpreter for each would take most of the time. `run_apart` starts one.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        with _standard_input(given) as stdin, pytest.MonkeyPatch.context() as patch:
            patch.setenv("COLUMNS", "80")
            patch.setattr(sys, "argv", ["__main__.py", *arguments])
            with _redirected(stdin, output.fileno(), errors.fileno()):
                try:
                    status = http3_parallel.cli.main()
                except SystemExit as end_of_it:
                    status = end_of_it.code if isinstance(end_of_it.code, int) else 1
        output.seek(0)
        errors.seek(0)
        lines = output.read().decode("utf-8", "surrogateescape").splitlines()
        return Result(status, lines, errors.read().decode("utf-8", "surrogateescape"))


@contextlib.contextmanager
def _standard_input(given: str | None) -> typing.Iterator[int]:
    """A pipe that gives that, or nothing at all."""
    if given is None:
        with open(os.devnull, "rb") as nothing:
            yield nothing.fileno()
        return
    reading, writing = os.pipe()

    def write() -> None:
        with open(writing, "wb") as pipe, contextlib.suppress(BrokenPipeError):
            pipe.write(given.encode("utf-8", "surrogateescape"))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield reading
    finally:
        os.close(reading)
        writer.join(LONGEST)


@contextlib.contextmanager
def _redirected(*descriptors: int) -> typing.Iterator[None]:
    """Standard input, output and errors, for the system and for Python."""
    kept = [os.dup(number) for number in range(3)]
    streams = sys.stdin, sys.stdout, sys.stderr
    try:
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
        with contextlib.ExitStack() as stack:
            sys.stdin, sys.stdout, sys.stderr = (
                stack.enter_context(open(number, mode, encoding="utf-8", closefd=False))
                for number, mode in enumerate("rww")
            )
            yield
    finally:
        sys.stdin, sys.stdout, sys.stderr = streams
        for number, descriptor in enumerate(kept):
            os.dup2(descriptor, number)
            os.close(descriptor)


def run_apart(*arguments: str, given: str | None = None) -> Result:
    """The same in a process of its own."""
    stdin = subprocess.DEVNULL if given is None else subprocess.PIPE
    with running(*arguments, stdin=stdin) as process:
        output, errors = process.communicate(given, timeout=LONGEST)
        return Result(process.returncode, output.splitlines(), errors)


def end(process: subprocess.Popen[str]) -> Result:
    """What is still to come of one whose first lines were read."""
    assert process.stdout is not None
    assert process.stderr is not None
    lines = [] if process.stdout.closed else process.stdout.read().splitlines()
    errors = process.stderr.read()
    return Result(process.wait(LONGEST), lines, errors)


def next_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


def interrupt(process: subprocess.Popen[str]) -> tuple[Result, float]:
    """Ctrl-C: what a terminal does. Returns also how many seconds the end took."""
    started = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    result = end(process)
    return result, time.monotonic() - started


class Terminal:
    """
    The command on a pseudo-terminal, and what one would see there.

    * `command`: what is run: `COMMAND` or `WITHOUT_RICH`.
    * `stdout`: where its output goes; the terminal if None. Its errors go to the terminal.
    * `environment`: on top of this process's.
    """

    def __init__(
        self,
        *arguments: str,
        size: tuple[int, int] = (80, 24),
        command: typing.Sequence[str] = COMMAND,
        stdout: typing.Any = None,
        environment: typing.Mapping[str, str] | None = None,
    ) -> None:
        self.screen = pyte.HistoryScreen(*size, history=10_000, ratio=1.0)
        self._stream = pyte.ByteStream(self.screen)
        #: All that was written.
        self.raw = b""
        self._ours, theirs = os.openpty()
        self._set_size(*size)
        left_out = ("NO_COLOR", "COLUMNS", "LINES", "FORCE_COLOR", "TTY_COMPATIBLE", "CI")
        inherited = {name: value for name, value in os.environ.items() if name not in left_out}
        # A session of its own, whose terminal this is: where Ctrl-C sends its signal.
        self.process = subprocess.Popen(
            [*_AS_LEADER, *command, *arguments],
            stdin=theirs,
            stdout=theirs if stdout is None else stdout,
            stderr=theirs,
            env={
                **inherited,
                "PYTHONPATH": ROOT,
                "PYTHONIOENCODING": "utf-8",
                "TERM": "xterm-256color",
                **(environment or {}),
            },
            start_new_session=True,
        )
        os.close(theirs)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._ours)

    def _set_size(self, width: int, height: int) -> None:
        size = struct.pack("HHHH", height, width, 0, 0)
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, size)

    def resize(self, width: int, height: int) -> None:
        self.screen.resize(height, width)
        self._set_size(width, height)

    @property
    def lines(self) -> list[str]:
        """What is on the screen."""
        return [line.rstrip() for line in self.screen.display]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def press(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    def read(self, timeout: float) -> bool:
        """What is written within `timeout` seconds. False if nothing is, or nobody is there."""
        if not select.select([self._ours], [], [], timeout)[0]:
            return False
        try:
            data = os.read(self._ours, 65536)
        except OSError:  # the other end is closed
            return False
        self.raw += data
        self._stream.feed(data)
        return bool(data)

    def wait_until(self, seen: typing.Callable[[], bool], timeout: float = 20.0) -> bool:
        """Read until it is so. Returns whether it is."""
        end = time.monotonic() + timeout
        while not seen() and time.monotonic() < end:
            self.read(0.1)
        return seen()

    def wait_for(self, text: str) -> bool:
        return self.wait_until(lambda: text in self.text)

    def wait(self) -> int:
        """Read to the end. Returns the exit status."""
        end = time.monotonic() + LONGEST
        while time.monotonic() < end:
            if not self.read(0.05) and self.process.poll() is not None:
                break
        while self.read(0.0):
            pass
        return self.process.wait(1)


#: Makes its standard error the terminal of its session, and becomes what follows.
_AS_LEADER = [
    sys.executable,
    "-c",
    """
import fcntl, os, sys, termios
fcntl.ioctl(2, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
""",
]
