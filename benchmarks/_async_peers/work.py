"""What the clients do, and how it is checked."""

from __future__ import annotations

import collections
import time
import typing
from collections.abc import Iterator

__all__ = ["SCENARIOS", "Scenario", "Work", "page"]

#: Different pages, so that a response which went to another request would most likely be noticed.
PAGES = 100


class Scenario(typing.NamedTuple):
    """
    * `latency`: milliseconds, of the server that has some; None: static pages.
    * `least_seconds`: there are more requests than that, until it has taken so long.
    * `ticks`: whether a task measures how late it wakes up meanwhile.
    * `order`: the column that the table is sorted by.
    """

    title: str
    requests: int
    at_once: int
    latency: int | None
    least_seconds: float
    ticks: bool
    order: str


SCENARIOS = {
    "small": Scenario("small pages, kept alive", 4_000, 32, None, 0, False, "cpu"),
    "latency": Scenario("many in flight", 2_560, 256, 50, 0, False, "wall"),
    # Hundreds of ticks: a hundredth of them is more than one.
    "lag": Scenario("how late a task wakes up meanwhile", 1_000, 100, 5, 2, True, "late_p99"),
}


def page(number: int) -> bytes:
    return b"page %d\n" % (number % PAGES)


class Work:
    """
    `urls` to get, `requests` of them and more until `least_seconds` have passed; at most `at_once`
    at a time. Each response is told to `check`.

    Responses come in any order, and clients differ in how they tell which is which, so it is not
    asked: each page must come as often as it was asked for. That costs all of them the same.
    """

    def __init__(self, url: str, requests: int, at_once: int, least_seconds: float = 0) -> None:
        self.at_once = at_once
        self.asked = 0
        self._requests = requests
        self._least_seconds = least_seconds
        self._urls = [f"{url}/{number}" for number in range(PAGES)]
        self._answered: collections.Counter[bytes | None] = collections.Counter()

    def urls(self) -> Iterator[str]:
        """Once."""
        end = time.perf_counter() + self._least_seconds
        while self.asked < self._requests or time.perf_counter() < end:
            url = self._urls[self.asked % PAGES]
            self.asked += 1
            yield url

    def check(self, status: int, body: bytes | None) -> None:
        if status != 200:
            raise AssertionError(f"a wrong response: {status} {body!r}")
        self._answered[body] += 1

    def check_all(self) -> None:
        if self._answered != collections.Counter(page(number) for number in range(self.asked)):
            raise AssertionError(f"other responses than were asked for: {self._answered}")
