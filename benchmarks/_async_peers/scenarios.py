"""What is measured."""

from __future__ import annotations

import typing

__all__ = ["SCENARIOS", "Scenario"]


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
