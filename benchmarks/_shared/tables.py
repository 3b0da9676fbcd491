"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["markdown"]


def markdown(titles: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: bool = True) -> str:
    """The first column is of names, the others are of `numbers`, or not. Rows may be shorter."""
    rest = ("---:|" if numbers else "---|") * (len(titles) - 1)
    lines = ["| " + " | ".join(titles) + " |", "|---|" + rest]
    for row in rows:
        cells = [*row, *[""] * (len(titles) - len(row))]
        lines.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return "\n".join(lines)
