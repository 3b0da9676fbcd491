"""
Two of the tables as bars, in SVG written by hand: nothing has to be installed for it.

It is light or dark as the reader's system is.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from xml.sax.saxutils import escape

from .._shared.results import Row
from .clients import FLOOR, OURS
from .scenarios import Scenario

__all__ = ["draw"]

#: Pixels.
WIDTH = 880
_MARGIN = 24
_NAMES = 200
_NUMBERS = 70
_LINE = 26
_BAR = 16
_HEAD = 62
_GAP = 28

#: The longest bar is as many times ours; longer ones are cut, or nobody could tell the short ones.
LONGEST = 5.0

_STYLE = """
  svg { font-family: system-ui, -apple-system, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; }
  .ground { fill: #ffffff; stroke: #d8dee4; }
  text { font-size: 13px; }
  text, text.bar, text.floor { fill: #1f2328; }
  .title { font-size: 16px; font-weight: 600; }
  text.unit { fill: #59636e; font-size: 12px; }
  .bar { fill: #a8b5c4; }
  .floor { fill: #d5dce4; }
  .ours { fill: #0f7b6c; }
  .cut { fill: #ffffff; }
  text.ours { fill: #0f7b6c; font-weight: 600; }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #0d1117; stroke: #30363d; }
    text, text.bar, text.floor { fill: #e6edf3; }
    text.unit { fill: #9198a1; }
    .bar { fill: #56616f; }
    .floor { fill: #353d48; }
    .ours, text.ours { fill: #3fc6ae; }
    .cut { fill: #0d1117; }
  }
"""


class _Panel(typing.NamedTuple):
    scenario: str
    title: str
    unit: str
    figure: str
    factor: float
    form: str


_PANELS = [
    _Panel(
        "small",
        "CPU time per request",
        "microseconds, small pages on kept connections, {at_once} at a time; shorter is better",
        "cpu",
        1e6,
        ",.0f",
    ),
    _Panel(
        "latency",
        "Time for all requests, each answered after 50 ms",
        "seconds, {requests:,} requests, {at_once} at a time; shorter is better",
        "wall",
        1,
        ".2f",
    ),
]


def draw(rows: Mapping[str, Mapping[str, Row]], scenarios: Mapping[str, Scenario]) -> str:
    """`rows`: the medians, by scenario and client. What was not measured is not there."""
    parts: list[str] = []
    top = 0
    for panel in _PANELS:
        measured = rows.get(panel.scenario)
        if measured:
            panel = panel._replace(unit=panel.unit.format(**scenarios[panel.scenario]._asdict()))
            parts += _panel(panel, measured, top)
            top += _HEAD + _LINE * len(measured) + _GAP
    height = max(top, _GAP)
    frame = f'x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="8"'
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
        "<title>http3_parallel beside other HTTP clients</title>",
        f"<style>{_STYLE}</style>",
        f'<rect class="ground" {frame}/>',
        *parts,
        "</svg>\n",
    ]
    return "\n".join(lines)


def _panel(panel: _Panel, measured: Mapping[str, Row], top: int) -> list[str]:
    values = {client: row[panel.figure] * panel.factor for client, row in measured.items()}
    longest = max(values.values())
    if OURS in values:
        longest = min(longest, LONGEST * values[OURS])
    room = WIDTH - 2 * _MARGIN - _NAMES - _NUMBERS
    parts = [
        _text("title", _MARGIN, top + 32, panel.title),
        _text("unit", _MARGIN, top + 50, panel.unit),
    ]
    left = _MARGIN + _NAMES
    for number, client in enumerate(sorted(values, key=values.__getitem__)):
        value = values[client]
        kind = "ours" if client.startswith(OURS) else "floor" if client == FLOOR else "bar"
        y = top + _HEAD + number * _LINE
        length = max(1.0, room * min(value, longest) / longest)
        place = f'x="{left}" y="{y + 4}" width="{length:.1f}" height="{_BAR}" rx="2"'
        parts.append(_text(kind, left - 10, y + 17, client, end=True))
        parts.append(f'<rect class="{kind}" {place}/>')
        if value > longest:
            # Two strokes through it: it goes on.
            strokes = [left + length - 26, left + length - 18]
            parts += [
                f'<path class="cut" d="M{x:.1f} {y + 22} l5 -20 h3 l-5 20 z"/>' for x in strokes
            ]
        parts.append(_text(kind, left + length + 8, y + 17, format(value, panel.form)))
    return parts


def _text(kind: str, x: float, y: float, text: str, *, end: bool = False) -> str:
    anchor = ' text-anchor="end"' if end else ""
    return f'<text class="{kind}" x="{x:.1f}" y="{y}"{anchor}>{escape(text)}</text>'
