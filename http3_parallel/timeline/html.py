"""
A timeline's rows as one HTML file: a waterfall, as a browser's network panel shows one.

The file needs nothing else: its style, its script and its data are in it, and its policy
(Content-Security-Policy) lets it load nothing, run only that script, and make no element out of
a string. URLs, tags, headers and errors are what others wrote, so they are data all the way: JSON
in which nothing can end the element that holds it, which the script sets as text. What is written
as HTML here (the title, the summary, the table for browsers without scripts) is escaped.

The data is compact, since there may be ten thousand rows of many exchanges: every string is told
once and named by its number, every list of headers likewise, and a column is one array. The text
is all ASCII, so that it may be written in whatever encoding.
"""

from __future__ import annotations

import base64
import datetime
import functools
import hashlib
import html
import importlib.resources
import json
import string
import typing

__all__ = ["render"]

Row = typing.Mapping[str, typing.Any]

#: Phases in which a request only waits its turn: it would not, were it the only one.
IN_LINE = ("queued", "blocked")

#: How many rows a browser that runs no scripts is shown.
ROWS_WITHOUT_SCRIPTS = 100

#: Times are in milliseconds. A hundredth of one is less than what the clocks of threads can tell.
DIGITS = 2


def render(
    rows: typing.Sequence[Row],
    *,
    title: str,
    started: str,
    dropped: int = 0,
) -> str:
    """
    One HTML document, of ASCII characters only.

    * `rows`: what `Timeline.rows()` gives: plain JSON data, times in milliseconds since the block
      was opened.
    * `title`: of the document, plain text.
    * `started`: when the block was opened, in ISO 8601.
    * `dropped`: how many older requests are not among the rows.
    """
    page, style, script = _assets()
    summary = _Summary(rows)
    return page.substitute(
        title=_escaped(title),
        policy=_policy(style, script),
        style=style,
        when=_when(started),
        tiles="\n".join(_tile(*tile) for tile in summary.tiles()),
        note=_note(dropped),
        first_rows=_table(rows[:ROWS_WITHOUT_SCRIPTS], len(rows), summary.now),
        data=_data(rows, started, dropped, summary.now),
        script=script,
    )


@functools.cache
def _assets() -> tuple[string.Template, str, str]:
    """The page, the style, the script."""
    folder = importlib.resources.files(__package__)
    page, style, script = (
        # A hash is of the text as a browser sees it: with ends of lines of one character.
        (folder / name).read_text("ascii").replace("\r\n", "\n")
        for name in ("page.html", "waterfall.css", "waterfall.js")
    )
    return string.Template(page), style, script


def _policy(style: str, script: str) -> str:
    """What the document may do: nothing but show itself."""

    def source(text: str) -> str:
        digest = hashlib.sha256(text.encode("ascii")).digest()
        return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"

    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {source(script)}",
            f"style-src {source(style)}",
            "img-src data:",  # the icon, which is empty: or else a browser asks its server for one
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )


def _escaped(text: str) -> str:
    """As HTML, also within an attribute's quotes. What no encoding can write is replaced."""
    return html.escape(text).encode("ascii", "xmlcharrefreplace").decode("ascii")


class _Summary:
    """
    What all rows together tell.

    * `now`: the latest time that any of them knows of, in milliseconds: what has not ended is
      shown up to here.
    * `alone`: how long they would have taken one after the other, each without waiting in line.
    * `peak`: how many were under way at once, at most.
    """

    def __init__(self, rows: typing.Sequence[Row]) -> None:
        self.rows = rows
        self.now = max((_latest(row) for row in rows), default=0.0)
        self.alone = 0.0
        self.peak = 0
        changes: list[tuple[float, int]] = []
        for row in rows:
            begin = _left_the_line(row)
            if begin is not None:
                changes += [(begin, 1), (_or(row["end"], self.now), -1)]
            for name, start, end in row["phases"]:
                if name not in IN_LINE:
                    self.alone += _or(end, self.now) - start
        under_way = 0
        for _, change in sorted(changes):  # at one instant, ends come before beginnings
            under_way += change
            self.peak = max(self.peak, under_way)

    def tiles(self) -> typing.Iterator[tuple[str, str, str]]:
        """Triples of what it is, how much, and more on it."""
        rows = self.rows
        states = dict.fromkeys(("done", "failed", "cancelled", "running", "queued"), 0)
        for row in rows:
            states[row["state"]] = states.get(row["state"], 0) + 1
        counts = ", ".join(f"{n:,} {state}" for state, n in states.items() if n)
        yield "Requests", f"{len(rows):,}", counts
        unfinished = any(row["end"] is None for row in rows)
        yield "Total time", _duration(self.now), "so far" if unfinished else ""
        faster = ""
        if self.now > 0 and self.alone > 1.05 * self.now:
            factor = self.alone / self.now
            faster = f"{factor:.{1 if factor < 9.95 else 0}f} times as long"
        yield "One after the other", _duration(self.alone), faster
        yield "At most at once", f"{self.peak:,}", "under way"
        yield "Received", _size(sum(_or(row["size"], 0) for row in rows)), "of bodies"


def _or(value: typing.Any, otherwise: typing.Any) -> typing.Any:
    return otherwise if value is None else value


def _latest(row: Row) -> float:
    """The latest time that a row tells."""
    if row["end"] is not None:
        return float(row["end"])
    times = [row["start"]]
    for _, start, end in row["phases"]:
        times.append(_or(end, start))
    return float(max(times))


def _left_the_line(row: Row) -> float | None:
    """When its turn came, or None if that did not happen."""
    for name, start, _ in row["phases"]:
        if name != "queued":
            return float(start)
    return None


def _duration(ms: float) -> str:
    """For people: about three digits."""
    if ms < 9.95:
        return f"{ms:.1f} ms"
    if ms < 999.5:
        return f"{ms:.0f} ms"
    seconds = ms / 1000
    if seconds < 9.995:
        return f"{seconds:.2f} s"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {seconds} s"
    hours, minutes = divmod(round(minutes + seconds / 60), 60)
    return f"{hours:,} h {minutes} min"


def _size(size: float) -> str:
    if size < 1000:
        return f"{size:.0f} B"
    for unit in ("kB", "MB", "GB"):
        size /= 1000
        if size < 999.5:
            return f"{size:.{1 if size < 99.95 else 0}f} {unit}"
    return f"{size / 1000:,.1f} TB"


def _when(started: str) -> str:
    """The time element: as it was given if it is no time."""
    text = started
    try:
        moment = datetime.datetime.fromisoformat(started.replace("Z", "+00:00"))
    except ValueError:
        pass
    else:
        zone = moment.strftime("%z")
        text = moment.strftime("%Y-%m-%d, %H:%M:%S") + {"": "", "+0000": " UTC"}.get(
            zone, f" UTC{zone[:3]}:{zone[3:5]}"
        )
    return f'<time datetime="{_escaped(started)}">{_escaped(text)}</time>'


def _tile(name: str, value: str, more: str) -> str:
    return (
        f"<div><dt>{_escaped(name)}</dt>"
        f"<dd><b>{_escaped(value)}</b> <span>{_escaped(more)}</span></dd></div>"
    )


def _note(dropped: int) -> str:
    if not dropped:
        return ""
    them = "1 older request is" if dropped == 1 else f"{dropped:,} older requests are"
    return f'<p class="note">{them} not here: the timeline keeps only the last.</p>'


def _table(rows: typing.Sequence[Row], count: int, now: float) -> str:
    """For browsers that run no scripts."""
    lines = []
    for row in rows:
        error = row["error"]
        outcome = row["state"] if error is None else f"{row['state']}: {error['type']}"
        if row["status"] is not None and error is None and row["state"] == "done":
            outcome = f"{row['status']} {_or(row['reason'], '')}"
        cells = (
            str(row["id"]),
            row["method"],
            outcome,
            row["url"],
            "" if row["size"] is None else _size(row["size"]),
            _duration(_or(row["end"], now) - _or(_left_the_line(row), row["start"])),
        )
        lines.append("<tr>" + "".join(f"<td>{_escaped(cell)}</td>" for cell in cells) + "</tr>")
    note = f"<p>The first {len(rows):,} of {count:,}.</p>" if count > len(rows) else ""
    names = ("#", "Method", "Status", "URL", "Size", "Time")
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    return (
        f"{note}<table><thead><tr>{head}</tr></thead>\n"
        "<tbody>\n" + "\n".join(lines) + "\n</tbody></table>"
    )


class _Numbered:
    """Each value once, in the order in which they came. Number 0 is None."""

    def __init__(self) -> None:
        self.values: list[typing.Any] = [None]
        self._numbers: dict[typing.Hashable, int] = {None: 0}

    def __call__(self, value: typing.Hashable) -> int:
        number = self._numbers.setdefault(value, len(self.values))
        if number == len(self.values):
            self.values.append(value)
        return number


#: A row's columns that are strings, and those that are numbers, truth values or null.
STRINGS = ("method", "url", "host", "tag", "state", "reason", "type", "worker", "connection")
OTHERS = ("id", "status", "size", "reused")


def _data(rows: typing.Sequence[Row], started: str, dropped: int, now: float) -> str:
    """The JSON that the script reads: see `read` there, its counterpart."""
    strings = _Numbered()
    headers = _Numbered()

    def error(of: Row) -> tuple[int, int]:
        what = of["error"]
        return (0, 0) if what is None else (strings(what["type"]), strings(what["message"]))

    def header_list(pairs: typing.Iterable[typing.Sequence[str]]) -> int:
        return headers(tuple(strings(text) for pair in pairs for text in pair))

    columns: dict[str, list[typing.Any]] = {}
    for name in STRINGS:
        columns[name] = [strings(row[name]) for row in rows]
    for name in OTHERS:
        columns[name] = [row[name] for row in rows]
    for name in ("start", "end"):
        columns[name] = [_rounded(row[name]) for row in rows]
    columns["error"] = [error(row) for row in rows]
    columns["phases"] = [
        [
            part
            for name, start, end in row["phases"]
            for part in (strings(name), _rounded(start), _rounded(end))
        ]
        for row in rows
    ]
    columns["exchanges"] = [
        [
            (
                strings(sent["method"]),
                strings(sent["url"]),
                sent["status"],
                strings(sent["reason"]),
                strings(sent["why"]),
                _rounded(sent["start"]),
                _rounded(sent["end"]),
                sent["size"],
                strings(sent["connection"]),
                sent["reused"],
                strings(sent["version"]),
                header_list(sent["request_headers"]),
                header_list(sent["response_headers"]),
                *error(sent),
            )
            for sent in row["exchanges"]
        ]
        for row in rows
    ]
    everything = {
        "started": started,
        "dropped": dropped,
        "now": _rounded(now),
        "columns": columns,
        "headers": headers.values,
        "strings": strings.values,
    }
    # Nothing but ASCII, so neither U+2028 nor half a surrogate pair. Only `<` could end the
    # element, or begin a comment in it; it stands in strings only, where JSON has another way.
    text = json.dumps(everything, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _rounded(ms: float | None) -> float | None:
    if ms is None:
        return None
    rounded = round(ms, DIGITS)
    return int(rounded) if rounded == int(rounded) else rounded
