"""
The command line: fetch URLs in parallel, and print a line as each completes.

Exit status: 0 if every URL was fetched, 1 if one failed, 2 for wrong usage, 130 after Ctrl-C
and 141 if nobody reads the output any more, as the shell has it for SIGINT and SIGPIPE.
"""

from __future__ import annotations

import argparse
import io
import math
import os
import sys
import time
import typing

from .__version__ import __version__
from .api import parallel
from .client import BLOCK_WORKERS
from .config import DEFAULT_TIMEOUT_CONFIG
from .demo import run_demo
from .exceptions import HTTPError, redacted_text
from .pending import PendingResponse

__all__ = ["main"]

INTERRUPTED = 130
OUTPUT_CLOSED = 141

_EPILOG = """\
A line is: status, bytes of the body, seconds, URL; or ERR, URL, what happened.
A status of 4xx or 5xx counts as failed. Passwords and the values of queries
are not shown. Exit status: 0 if all went well, 1 if anything failed, 2 for
wrong usage, 130 after Ctrl-C.

"demo" in place of URLs shows the library at work, on a server of its own.
"""


class _Tally:
    """What has come so far."""

    def __init__(self) -> None:
        self.fetched = 0
        self.failed = 0
        self.bytes = 0
        self._started = time.perf_counter()

    def add(self, pending: PendingResponse) -> str:
        """Count one that has completed. Returns its line."""
        try:
            response = pending.get_response()
            size = len(response.content)
        except HTTPError as error:
            self.failed += 1
            asked = redacted_text(error.url) if error.request is None else error.url.redacted
            return f"ERR {'-':>10}   {'-':>8}    {asked}  {type(error).__name__}: {error.message}"
        self.bytes += size
        if response.is_error:
            self.failed += 1
        else:
            self.fetched += 1
        seconds = 0.0 if response.elapsed is None else response.elapsed.total_seconds()
        way = [answer.url for answer in (*response.history, response)]
        urls = " -> ".join(url.redacted for url in way if url is not None)
        return f"{response.status_code:<3} {size:>10} B {seconds:>8.3f} s  {urls}"

    def summary(self, *, interrupted: bool) -> str:
        seconds = time.perf_counter() - self._started
        counts = f"{self.fetched} fetched, {self.failed} failed, {self.bytes} bytes"
        if interrupted:
            return f"interrupted after {seconds:.2f} s: {counts}; the rest was cancelled"
        return f"{counts} in {seconds:.2f} s"


def _print_line(line: str) -> None:
    # A URL or a server's words must not command the terminal, nor make a second line.
    print("".join(c if c.isprintable() else ascii(c)[1:-1] for c in line), flush=True)


def _urls(arguments: typing.Iterable[str]) -> typing.Iterator[str]:
    """The URLs, those from standard input in place of ``-``, read when asked for."""
    for argument in arguments:
        if argument == "-":
            for line in sys.stdin or ():
                if url := line.strip():
                    yield url
        else:
            yield argument


def _fetch(options: argparse.Namespace) -> int:
    tally = _Tally()
    interrupted = False
    try:
        with parallel(
            max_workers=options.concurrency,
            max_per_host=options.per_host,
            timeout=options.timeout,
            deadline=options.deadline,
        ) as block:
            for pending in block.map(_urls(options.urls)):
                _print_line(tally.add(pending))
    except KeyboardInterrupt:
        interrupted = True
    _print_line(tally.summary(interrupted=interrupted))
    if interrupted:
        return INTERRUPTED
    return 1 if tally.failed else 0


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not seconds > 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return seconds


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_program(),
        usage="%(prog)s [options] URL...\n       %(prog)s demo",
        description="Fetch URLs in parallel. Prints a line as each completes, and a summary.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "urls", metavar="URL", nargs="+", help="what to GET; - reads standard input, a URL a line"
    )
    parser.add_argument(
        "-c",
        "--concurrency",
        metavar="N",
        type=_count,
        default=BLOCK_WORKERS,
        help="requests at the same time (default: %(default)s)",
    )
    parser.add_argument(
        "--per-host",
        metavar="N",
        type=_count,
        help="requests at the same time to one host and port (default: no limit of its own)",
    )
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=_seconds,
        default=DEFAULT_TIMEOUT_CONFIG.read_timeout,
        help="how long each step of a request may be inactive (default: %(default)g)",
    )
    parser.add_argument(
        "--deadline",
        metavar="SECONDS",
        type=_seconds,
        help="from the start; what is not complete by then fails (default: none)",
    )
    parser.add_argument("--version", action="version", version=f"http3-parallel {__version__}")
    return parser


def _demo(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog=f"{_program()} demo",
        description="Show parallel requests at work, on a server of its own: about 12 seconds.",
    )
    # For tests: by how much the server is faster than it says.
    parser.add_argument("--speed", type=_seconds, default=1.0, help=argparse.SUPPRESS)
    return run_demo(parser.parse_args(arguments).speed)


def _program() -> str:
    name = os.path.basename(sys.argv[0])
    return "python -m http3_parallel" if name == "__main__.py" else name


def main(arguments: list[str] | None = None) -> int:
    """Run the command with `arguments` (None: those of the process). Returns its exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)
    try:
        if arguments[:1] == ["demo"]:
            return _demo(arguments[1:])
        return _fetch(_parser().parse_args(arguments))
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # So that the interpreter's last flush does not fail too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OUTPUT_CLOSED
