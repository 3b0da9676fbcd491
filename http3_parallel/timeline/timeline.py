"""The timeline of a block."""

from __future__ import annotations

import collections
import datetime
import itertools
import json
import os
import pathlib
import time
import typing

from ..models import URL
from ..models.saving import save_pieces
from .entries import Entry, make_entry
from .records import Record

__all__ = ["Timeline"]

#: So many requests are kept unless told otherwise.
_KEPT = 10_000


class Timeline:
    """
    What the requests of a block did, and when: that of ``parallel(timeline=True)``.

    Iterating gives an `Entry` for each request that is kept, in the order in which they were
    submitted, as it is at that moment; it can be looked at while requests run, from any thread, and
    after the block. Headers are kept, bodies are not.

    * `size`: how many requests are kept, the last ones.
    """

    def __init__(self, size: int | None = None) -> None:
        self._records: collections.deque[Record] = collections.deque(
            maxlen=_KEPT if size is None else size
        )
        self._ids = itertools.count(1)
        self._opened = time.perf_counter()
        #: When the block was opened.
        self.started: datetime.datetime = datetime.datetime.now(datetime.timezone.utc)

    def _add(self, method: str, url: URL | str, tag: object) -> Record:
        record = Record(next(self._ids), method, url, tag)
        self._records.append(record)
        return record

    @property
    def dropped(self) -> int:
        """How many requests were submitted before those that are kept."""
        records = list(self._records)
        return records[0].id - 1 if records else 0

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> typing.Iterator[Entry]:
        return iter([make_entry(record, self._opened) for record in list(self._records)])

    def rows(self, *, credentials: bool = False) -> list[dict[str, typing.Any]]:
        """
        The entries as plain data, as JSON has it: what `to_html` shows. Times in milliseconds.

        * `credentials`: whether what may be secret is shown: the values of queries, passwords in
          URLs, cookies, and fields such as Authorization. Otherwise there is ``…`` in its place.
        """
        from .rows import make_row

        return [make_row(entry, credentials) for entry in self]

    def to_har(self, *, credentials: bool = False) -> dict[str, typing.Any]:
        """
        A HAR 1.2 log, which browsers' developer tools open, for `json.dump`. It has an entry for
        each message: for redirects and retries, too.

        * `credentials`: as in `rows`.
        """
        from .har import make_har

        return make_har(self, credentials)

    def to_html(self, *, title: str | None = None, credentials: bool = False) -> str:
        """
        A page that shows the waterfall, in one file, which needs no network.

        * `title`: of the page.
        * `credentials`: as in `rows`.
        """
        from .html import render

        return render(
            self.rows(credentials=credentials),
            title="Parallel requests" if title is None else title,
            started=self.started.isoformat(timespec="milliseconds"),
            dropped=self.dropped,
        )

    def to_text(
        self,
        *,
        width: int | None = None,
        rows: int | None = None,
        colour: bool = False,
        credentials: bool = False,
    ) -> str:
        """
        The waterfall in text, a line for each request.

        * `width`: of the lines, in characters; by default that of the terminal, or 80.
        * `rows`: how many requests at most, the first ones; None: all.
        * `colour`: whether with the colours of a terminal (ANSI).
        * `credentials`: as in `rows`.
        """
        from .text import draw

        return draw(list(self), width, rows, colour, credentials)

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        title: str | None = None,
        credentials: bool = False,
    ) -> pathlib.Path:
        """
        Write it to a file at `path`: ``.html``, ``.har`` or ``.txt``. A file that is there is
        replaced at once when all is written. Returns the path.

        Raises `ValueError` for any other ending, and `OSError`.
        """
        ending = pathlib.PurePath(path).suffix.lower()
        if ending in (".html", ".htm"):
            text = self.to_html(title=title, credentials=credentials)
        elif ending == ".har":
            text = json.dumps(self.to_har(credentials=credentials), ensure_ascii=False, indent=1)
        elif ending == ".txt":
            text = self.to_text(width=100, credentials=credentials)
        else:
            raise ValueError(f"a timeline is saved as .html, .har or .txt, not as {str(path)!r}")
        return save_pieces(path, [text.encode("utf-8", "replace")])

    def __repr__(self) -> str:
        return f"<Timeline: {len(self)} requests>"
