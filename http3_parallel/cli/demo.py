"""
``python -m http3_parallel demo``: the same pages one by one and in parallel, from a server that
runs in this process. One page breaks off, and one never comes.

On a terminal the live display runs while they come. It checks what it shows, so that its exit
status tells whether all went as it should.
"""

from __future__ import annotations

import functools
import math
import pathlib
import shutil
import sys
import textwrap
import time
import typing

from ..__version__ import __version__
from ..api import parallel
from ..client import Client
from ..exceptions import HTTPError, IncompleteRead, RequestCancelled
from ..facade import Parallel
from ..models import Response
from ..pending import PendingResponse
from ..timeline import Timeline
from .demo_server import BROKEN, HANGING, DemoServer, Page
from .display import Progress, make_display
from .terminal import Pen, is_terminal

__all__ = ["run_demo"]

_PAGES = 40
#: Seconds that the fastest and the slowest page take.
_FASTEST, _SLOWEST = 0.05, 0.5
#: Prime to the number of pages: in steps of it each comes once, fast and slow ones mixed.
_STEP = 17
#: How many of those that completed are shown, from the beginning and from the end.
_FIRST, _LAST = 4, 2
#: What may pass, in seconds, until the block is left, and until the server sees that. It takes
#: milliseconds.
_PROMPT = 1.0
#: How long is waited, in seconds, for what cannot but come.
_PATIENCE = 5.0
#: Columns that the waterfall has at most.
_WIDEST = 120

_CODE = """\
with http3.parallel(max_workers={workers}) as parallel:
    for url in urls:
        parallel.get(url)
    for _ in range({pages}):
        response = parallel.next_response()
"""


class _Outcome(typing.NamedTuple):
    """How the request for a page ended, and how many seconds after the first was made."""

    page: Page
    seconds: float
    error: HTTPError | None
    as_it_should: bool


def _outcome(started: float, get_response: typing.Callable[[], Response]) -> _Outcome:
    try:
        response = get_response()
    except HTTPError as error:
        page = typing.cast(Page, error.tag)
        broke = isinstance(error, IncompleteRead) and page.path == BROKEN
        return _Outcome(page, time.perf_counter() - started, error, broke)
    page = typing.cast(Page, response.tag)
    good = response.status_code == 200 and response.content == page.body
    return _Outcome(page, time.perf_counter() - started, None, good)


def _make_pages(speed: float) -> list[Page]:
    """The pages in the order in which they are asked for, the one that breaks off last."""
    between = (_SLOWEST - _FASTEST) / (_PAGES - 1)
    places = [place * _STEP % _PAGES for place in range(_PAGES)]
    pages = [Page(f"/page/{n + 1}", (_FASTEST + n * between) / speed) for n in places]
    return [*pages, Page(BROKEN, (_FASTEST + _SLOWEST) / 2 / speed)]


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.1f} ms" if seconds < 0.01 else f"{1000 * seconds:.0f} ms"


class _Demo:
    def __init__(self, server: DemoServer, pages: list[Page]) -> None:
        self.pen = Pen(sys.stdout)
        self.server = server
        self.pages = pages
        #: What did not go as it should.
        self.wrong: list[str] = []

    def say(self, text: str = "", *, end: str = "\n") -> None:
        print(text, end=end, flush=True)

    def heading(self, text: str) -> None:
        self.say(self.pen.heading(text))

    def run(self, html: pathlib.Path | None = None) -> int:
        fastest = min(page.seconds for page in self.pages)
        slowest = max(page.seconds for page in self.pages)
        self.heading(f"http3_parallel {__version__}")
        self.say(f"A server in this process, at {self.server.url}, has {_PAGES} pages")
        self.say(f"that take {_milliseconds(fastest)} to {_milliseconds(slowest)} each,")
        self.say("one that breaks off in the middle, and one that never answers.")
        self.say()
        seconds = sum(page.seconds for page in self.pages)
        self.heading(f"1. One by one, which takes about {seconds:.0f} s")
        one_by_one = self.one_by_one()
        self.say()
        self.heading("2. In parallel, the one that never answers among them")
        timeline = self.in_parallel(one_by_one)
        self.say()
        self.heading("4. What happened when: parallel.timeline")
        self.show_waterfall(timeline, html)
        self.say()
        for what in self.wrong:
            self.say(self.pen.bad(f"Not as it should be: {what}."))
        if not self.wrong:
            self.say(self.pen.good("All of it went as it should."))
        return 1 if self.wrong else 0

    def one_by_one(self) -> float:
        """Returns how long it took, in seconds."""
        started = time.perf_counter()
        outcomes: list[_Outcome] = []
        with Client(trust_env=False) as client:
            self.collect(
                outcomes,
                (
                    _outcome(started, functools.partial(client.get, self.url(page), tag=page))
                    for page in self.pages
                ),
                lambda: _progress_of(outcomes, len(self.pages)),
            )
        return outcomes[-1].seconds

    def in_parallel(self, one_by_one: float) -> Timeline:
        workers = len(self.pages) + 1
        for line in _CODE.format(workers=workers, pages=len(self.pages)).splitlines():
            self.say("      " + self.pen.faint(line))
        started = time.perf_counter()
        outcomes: list[_Outcome] = []
        with parallel(max_workers=workers, timeline=True, trust_env=False) as block:
            hanging = block.get(self.server.url + HANGING, tag=Page(HANGING, math.inf))
            for page in self.pages:
                block.get(self.url(page), tag=page)
            self.collect(
                outcomes,
                (_outcome(started, block.next_response) for _ in self.pages),
                lambda: _progress_in(block, len(self.pages) + 1),
            )
            seconds = outcomes[-1].seconds
            self.say(f"   That is {self.pen.good(f'{one_by_one / seconds:.0f} times')} as fast.")
            self.show(outcomes)
            if not self.server.hangs.wait(_PATIENCE):
                self.wrong.append(f"{HANGING} was not asked for")
            self.say()
            self.heading("3. Leaving the block, while the last one still hangs")
            left_at = time.perf_counter()
        exit_seconds = time.perf_counter() - left_at
        self.say(f"   The block was left in {self.pen.good(_milliseconds(exit_seconds))}.")
        self.show_cancelled(hanging, left_at)
        if seconds >= one_by_one:
            self.wrong.append("in parallel it took as long as one by one")
        if exit_seconds > _PROMPT:
            self.wrong.append(f"leaving the block took {exit_seconds:.1f} s")
        return block.timeline

    def url(self, page: Page) -> str:
        return self.server.url + page.path

    def collect(
        self,
        collected: list[_Outcome],
        outcomes: typing.Iterable[_Outcome],
        look: typing.Callable[[], Progress],
    ) -> None:
        """
        Takes them as they come, and says how many came in what time. Meanwhile the live display
        runs; where there is no terminal, there is a mark for each.
        """
        display = None
        if is_terminal(sys.stdout):
            display = make_display(sys.stdout, look, slow=_FASTEST, keep=True)
        else:
            self.say("   ", end="")
        try:
            if display is not None:
                display.start()
            for outcome in outcomes:
                collected.append(outcome)
                if display is None:
                    self.say("." if outcome.error is None else "x", end="")
                if not outcome.as_it_should:
                    how = outcome.error or "an answer that was not expected"
                    self.wrong.append(f"{outcome.page.path} ended with {how!r}")
        finally:
            if display is not None:
                display.stop()
        if display is None:
            self.say()
        failed = sum(outcome.error is not None for outcome in collected)
        seconds = self.pen.good(f"{collected[-1].seconds:.2f} s")
        self.say(f"   {len(collected) - failed} pages and {failed} failure in {seconds}.")

    def show(self, outcomes: list[_Outcome]) -> None:
        """Those that completed first and last, and those that failed."""
        self.say()
        self.say(self.pen.faint("      as they completed    the server took    here after"))
        shown = True
        for place, outcome in enumerate(outcomes):
            skipped = not shown
            shown = place < _FIRST or place >= len(outcomes) - _LAST or outcome.error is not None
            if not shown:
                continue
            if skipped:
                self.say("       …")
            took, after = _milliseconds(outcome.page.seconds), _milliseconds(outcome.seconds)
            self.say(f"   {place + 1:>4}. {outcome.page.path:<18} {took:>12} {after:>13}")
            if outcome.error is not None:
                self.show_error(" " * 9 + "next_response() raised", outcome.error)

    def show_error(self, what: str, error: HTTPError) -> None:
        name = type(error).__name__
        indent = what[: len(what) - len(what.lstrip())]
        text = textwrap.fill(f"{what} {name}: {error.message}", 78, subsequent_indent=indent)
        self.say(text.replace(name, self.pen.bad(name)))

    def show_cancelled(self, hanging: PendingResponse, left_at: float) -> None:
        if self.server.hanging_closed.wait(_PROMPT) and self.server.hanging_closed_at is not None:
            after = self.pen.good(_milliseconds(self.server.hanging_closed_at - left_at))
            self.say(f"   The server saw the connection of {HANGING} closed after {after}.")
        else:
            self.wrong.append(f"the server did not see the connection of {HANGING} closed")
        try:
            hanging.get_response(timeout=0)
        except RequestCancelled as error:
            self.show_error("   Its get_response() raises", error)
        except Exception as error:  # whatever it is, it is shown
            self.wrong.append(f"{HANGING} ended with {error!r}")
        else:
            self.wrong.append(f"{HANGING} was answered")

    def show_waterfall(self, timeline: Timeline, html: pathlib.Path | None) -> None:
        """As wide as the terminal is."""
        size = shutil.get_terminal_size((80, 24))
        width = min(size.columns, _WIDEST) if is_terminal(sys.stdout) else 80
        self.say(timeline.to_text(width=width, colour=self.pen.colour))
        self.say()
        if html is None:
            self.say("   As a page, with details of each: demo --html FILE.html")
            return
        try:
            timeline.save(html, title="The demo of http3_parallel")
        except OSError as error:
            self.wrong.append(f"{html} cannot be written: {error.strerror or error}")
        else:
            self.say(f"   As a page, with details of each: {html}")


def _progress_of(outcomes: list[_Outcome], total: int) -> Progress:
    """Of those that are made one by one."""
    taken = list(outcomes)
    failed = sum(outcome.error is not None for outcome in taken)
    size = sum(len(outcome.page.body) for outcome in taken)
    in_flight = min(1, total - len(taken))
    rest = total - len(taken) - in_flight
    return Progress(total, len(taken) - failed, failed, 0, in_flight, rest, size)


def _progress_in(block: Parallel, total: int) -> Progress:
    stats = block.stats
    slowest = [(one.seconds, one.request.url.path) for one in stats.slowest]
    return Progress(
        total, stats.done, stats.failed, 0, stats.in_flight, stats.queued, stats.bytes, slowest
    )


def run_demo(speed: float = 1.0, html: pathlib.Path | None = None) -> int:
    """
    Run it, with pages that take `speed` times less, and save its waterfall as `html`. Returns the
    exit status.
    """
    pages = _make_pages(speed)
    with DemoServer(pages) as server:
        return _Demo(server, pages).run(html)
