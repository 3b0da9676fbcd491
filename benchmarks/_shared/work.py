"""What the clients do, and how it is checked."""

from __future__ import annotations

import collections
import itertools
import time
import typing
from collections.abc import Iterator

__all__ = ["LARGE_PAGES", "PAGES", "Body", "LargeWork", "Work", "large_page", "page"]

Body = typing.Union[bytes, bytearray, None]

#: Different pages, so that a response which went to another request would most likely be noticed.
PAGES = 100
LARGE_PAGES = 4
_LARGE = 1_000_000


def page(number: int) -> bytes:
    return b"page %d\n" % (number % PAGES)


def large_page(number: int) -> bytes:
    """A megabyte."""
    first = b"large %d\n" % (number % LARGE_PAGES)
    return first + b"x" * (_LARGE - len(first))


class Work:
    """
    `urls` to get, `requests` of them; more until `least_seconds` have passed, fewer if
    `most_seconds` have. At most `at_once` at a time. Each response is told to `check`.

    * `outstanding`: how many are submitted and not yet taken, all the time; 0: as a client likes.
    * `block`: how many make a page, which is begun when the one before is complete; 0: no pages.
    * `authority`: the file with the certificate that the server's is to be checked with.

    Responses come in any order, and clients differ in how they tell which is which, so it is not
    asked: each page must come as often as it was asked for. That costs all of them the same.
    """

    pages = PAGES

    def __init__(
        self,
        url: str,
        requests: int,
        at_once: int,
        *,
        least_seconds: float = 0,
        most_seconds: float = float("inf"),
        outstanding: int = 0,
        block: int = 0,
        authority: str | None = None,
    ) -> None:
        self.url = url
        self.at_once = at_once
        self.outstanding = outstanding
        self.block = block
        self.authority = authority
        self.asked = 0
        self.answered = 0
        self._requests = requests
        self._least_seconds = least_seconds
        self._most_seconds = most_seconds
        self._urls = [f"{url}/{number}" for number in range(self.pages)]
        self._bodies: collections.Counter[bytes] = collections.Counter()
        self.begin()

    def begin(self) -> None:
        """From now on it counts. What came before, if anything, is complete."""
        self.check_all()
        self.asked = self.answered = 0
        self._bodies.clear()
        self._begun_wall, self._begun_cpu = time.perf_counter(), time.process_time()

    def end(self) -> tuple[float, float]:
        """Seconds: wall, and CPU of all threads."""
        return (
            time.perf_counter() - self._begun_wall,
            time.process_time() - self._begun_cpu,
        )

    def urls(self) -> Iterator[str]:
        """Once."""
        while (self.asked < self._requests and self._seconds() < self._most_seconds) or (
            self._seconds() < self._least_seconds
        ):
            url = self._urls[self.asked % self.pages]
            self.asked += 1
            yield url

    def blocks(self) -> Iterator[list[str]]:
        """
        `urls`, so many at a time. One block comes before it begins to count: a client that makes
        pages has lived long, and has its threads and connections.
        """
        urls = self.urls()
        yield list(itertools.islice(urls, self.block))
        self.begin()
        while block := list(itertools.islice(urls, self.block)):
            yield block

    def check(self, status: int, body: Body) -> None:
        body = bytes(body or b"")  # costs next to nothing if it is bytes
        if status != 200:
            raise AssertionError(f"a wrong response: {status} {body[:100]!r}")
        self._bodies[body] += 1
        self.answered += 1

    def check_all(self) -> None:
        expected = collections.Counter(self._name(number) for number in range(self.asked))
        if self._bodies != expected:
            raise AssertionError(f"other responses than were asked for: {self._bodies}")

    def _seconds(self) -> float:
        return time.perf_counter() - self._begun_wall

    def _name(self, number: int) -> bytes:
        """What counts for the body of that page."""
        return page(number)


class LargeWork(Work):
    """Pages of a megabyte: compared, and counted by their first line."""

    pages = LARGE_PAGES

    def __init__(self, *arguments: object, **options: object) -> None:
        self._large = {self._name(number): large_page(number) for number in range(LARGE_PAGES)}
        super().__init__(*arguments, **options)  # type: ignore[arg-type]  # as they were given

    def check(self, status: int, body: Body) -> None:
        name = bytes((body or b"")[: len(self._name(0))])
        if status == 200 and body != self._large.get(name):
            raise AssertionError(f"a wrong body that begins with {name!r}")
        super().check(status, name)

    def _name(self, number: int) -> bytes:
        return b"large %d\n" % (number % LARGE_PAGES)
