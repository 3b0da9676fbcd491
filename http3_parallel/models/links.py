"""
The Link header (RFC 8288), read much as its appendix B.2 does.

Whatever it says, reading it fails at nothing and takes time in proportion to its length: what is
no link is passed over, and so is what is no parameter. No regular expression here ever goes
back: each stops only where what may follow it does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

__all__ = ["find_links"]

_SPACE = re.compile(r"[ \t]*")
_BETWEEN = re.compile(r"[ \t,]*")
_TARGET = re.compile(r"<([^>]*)>")
_NAME = re.compile(r"[^ \t=;,\"]*")
_TOKEN = re.compile(r"[^ \t;,]*")
# One that does not end has all the rest in it.
_QUOTED_STRING = r"\"((?:[^\"\\]|\\.)*)(?:\"|\\?\Z)"
_QUOTED = re.compile(_QUOTED_STRING, re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_JUNK = re.compile(rf"(?:[^\";,]+|{_QUOTED_STRING})*", re.DOTALL)
_JUNK_LINK = re.compile(rf"(?:[^\",]+|{_QUOTED_STRING})*", re.DOTALL)


def find_links(values: Iterable[str]) -> dict[str, dict[str, str]]:
    """
    By relation type, in lower case, or by URL where there is none: the parameters of the link
    and, as ``"url"``, its target as it was written. `values` are those of the Link fields.

    The last one counts of several links with the same relation type, and the first one of
    several parameters with the same name. Several types of one link have the same dictionary.
    """
    links: dict[str, dict[str, str]] = {}
    for value in values:
        for link in _parse(value):
            for relation in link.get("rel", "").lower().split() or [link["url"]]:
                links[relation] = link
    return links


def _parse(value: str) -> Iterator[dict[str, str]]:
    place = _after(_BETWEEN, value, 0)
    while place < len(value):
        target = _TARGET.match(value, place)
        if target is not None:
            parameters, place = _parse_parameters(value, target.end())
            yield {**parameters, "url": target.group(1).strip()}
        elif value[place] == "<":
            return  # it does not end, and none after it would
        else:
            place = _after(_JUNK_LINK, value, place)
        place = _after(_BETWEEN, value, place)


def _parse_parameters(value: str, place: int) -> tuple[dict[str, str], int]:
    """What there is up to the comma that ends the link, and where that is."""
    parameters: dict[str, str] = {}
    while True:
        place = _after(_SPACE, value, place)
        if not value.startswith(";", place):
            place = _after(_JUNK, value, place)
            if not value.startswith(";", place):
                return parameters, place
        start = _after(_SPACE, value, place + 1)
        place = _after(_NAME, value, start)
        name = value[start:place].lower()
        text, place = _parse_value(value, _after(_SPACE, value, place))
        if name:
            parameters.setdefault(name, text)


def _parse_value(value: str, place: int) -> tuple[str, int]:
    """What follows a parameter's name; empty if that is no value."""
    if not value.startswith("=", place):
        return "", place
    start = _after(_SPACE, value, place + 1)
    quoted = _QUOTED.match(value, start)
    if quoted is not None:
        return _ESCAPED.sub(r"\1", quoted.group(1)), quoted.end()
    place = _after(_TOKEN, value, start)
    return value[start:place], place


def _after(pattern: re.Pattern[str], value: str, place: int) -> int:
    """Where `pattern`, which may match nothing, ends."""
    match = pattern.match(value, place)
    assert match is not None
    return match.end()
