"""What is measured."""

from __future__ import annotations

import typing

from .._shared.work import LARGE_PAGES, LargeWork, Work

__all__ = ["SCENARIOS", "Scenario", "quick"]

#: Seconds after which a client is asked for no more. What it did by then tells its CPU time and
#: its rate; the slowest would take a minute and more at some scenarios. Not where very many are
#: outstanding: what it takes to submit them would count for too few.
MOST_SECONDS = 2.5


class Scenario(typing.NamedTuple):
    """
    * `site`: of the server; `folder`: of that.
    * `outstanding`, `block`: see `Work`.
    * `unpinned`: whether the client has all cores.
    * `features`: whether it is for our own, with one feature each, and not for the others.
    * `order`: the column that the table is sorted by.
    """

    title: str
    requests: int
    at_once: int
    site: str = "plain"
    folder: str = "pages"
    outstanding: int = 0
    block: int = 0
    unpinned: bool = False
    features: bool = False
    order: str = "cpu"

    def describe(self) -> str:
        parts = [f"{self.requests:,} requests", f"{self.at_once} at a time"]
        if self.block:
            parts[0] = f"{self.requests // self.block:,} blocks of {self.block} requests"
        if self.outstanding:
            parts.append(f"{self.outstanding:,} outstanding")
        return ", ".join(parts)

    def work(self, url: str, authority: str | None) -> Work:
        """All of it, for one client."""
        return self._work(url, authority, self.requests, self.at_once, self.outstanding)

    def warm_up(self, url: str, authority: str | None) -> Work:
        """Little, but the same: what is imported or made at the first request does not count."""
        outstanding = min(self.outstanding, 32)
        return self._work(url, authority, 3 * min(self.at_once, 8), 8, outstanding)

    def _work(
        self, url: str, authority: str | None, requests: int, at_once: int, outstanding: int
    ) -> Work:
        kind = LargeWork if self.folder == "large" else Work
        return kind(
            f"{url}/{self.folder}",
            requests,
            at_once,
            most_seconds=float("inf") if outstanding else MOST_SECONDS,
            outstanding=outstanding,
            block=self.block,
            authority=authority,
        )


SCENARIOS = {
    "small": Scenario("small pages, kept alive", 4_000, 32),
    "latency": Scenario("50 ms of latency", 2_560, 256, site="latency", order="wall"),
    "tls": Scenario("small pages, kept alive, TLS", 3_000, 32, site="tls"),
    "cold": Scenario("a new TLS connection for each request", 300, 16, site="cold"),
    "large": Scenario(f"bodies of 1 MB, {LARGE_PAGES} different", 400, 16, folder="large"),
    "crawl": Scenario("a crawler: take one, submit one", 14_000, 32, outstanding=10_000),
    "pages": Scenario("a WSGI page: 3 requests, and wait for them", 300, 32, block=3),
    "unpinned": Scenario("small pages, the client on all cores", 4_000, 32, unpinned=True),
    "features": Scenario("what a feature adds", 4_000, 32, features=True),
}


def quick(scenario: Scenario) -> Scenario:
    """A tenth of it."""
    return scenario._replace(
        requests=scenario.requests // 10, outstanding=scenario.outstanding // 10
    )
