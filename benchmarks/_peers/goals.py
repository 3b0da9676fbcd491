"""What the library is to reach beside the others, and whether it does."""

from __future__ import annotations

import typing
from collections.abc import Mapping

from .._shared import tables
from .._shared.results import Row
from .clients import FLOOR, OURS, is_peer

__all__ = ["Goal", "goals", "goals_table"]

#: How many times as much still is level: two runs of one client are no nearer on a small machine.
LEVEL = 1.05

_Rows = Mapping[str, Mapping[str, Row]]


class Goal(typing.NamedTuple):
    """`met` is None where it was not measured."""

    text: str
    measured: str
    met: bool | None


def goals(rows: _Rows) -> list[Goal]:
    """`rows`: the medians, by scenario and client."""
    found = [
        _against(rows, "small", "cpu", FLOOR, 1.5, "CPU at most 1.5 times the floor's"),
        _against(
            rows, "small", "cpu", "pyreqwest, threads", 1, "CPU below that of pyreqwest's threads"
        ),
        _against(
            rows, "small", "cpu", "aiohttp, uvloop", 0.5, "CPU at most half of aiohttp with uvloop"
        ),
        _against(rows, "latency", "wall", FLOOR, 1.15, "wall time at most 1.15 times the floor's"),
        _beside_the_best(rows, "latency", ["wall"], 1, "the least wall time, pycurl's apart"),
    ]
    text = "level with the best, pycurl apart"
    others = ("tls", "cold", "large", "crawl", "pages", "unpinned")
    return found + [_beside_the_best(rows, name, ["cpu", "wall"], LEVEL, text) for name in others]


def goals_table(found: list[Goal]) -> str:
    told = {True: "yes", False: "**no**", None: ""}
    rows = [[goal.text, goal.measured, told[goal.met]] for goal in found]
    return tables.markdown(["goal", "measured", "met"], rows, numbers=False)


def _against(rows: _Rows, scenario: str, figure: str, other: str, most: float, text: str) -> Goal:
    text = f"{scenario}: {text}"
    measured = rows.get(scenario, {})
    if OURS not in measured or other not in measured:
        return Goal(text, "not measured", None)
    ours, others = measured[OURS][figure], measured[other][figure]
    ratio = ours / others
    figures = f"{_tell(figure, ours)} and {_tell(figure, others)}"
    return Goal(text, f"{ratio:.2f} times ({figures})", ratio <= most)


def _beside_the_best(
    rows: _Rows, scenario: str, figures: list[str], most: float, text: str
) -> Goal:
    text = f"{scenario}: {text}"
    measured = rows.get(scenario, {})
    peers = [name for name in measured if is_peer(name)]
    if OURS not in measured or not peers:
        return Goal(text, "not measured", None)
    parts, met = [], True
    for figure in figures:
        best = min(peers, key=lambda name: measured[name][figure])
        ratio = measured[OURS][figure] / measured[best][figure]
        parts.append(f"{_NAMES[figure]} {ratio:.2f} times that of {best}")
        met = met and ratio <= most
    return Goal(text, "; ".join(parts), met)


_NAMES = {"cpu": "CPU", "wall": "wall time"}


def _tell(figure: str, value: float) -> str:
    return f"{value * 1e6:.0f} us" if figure == "cpu" else f"{value:.3f} s"
