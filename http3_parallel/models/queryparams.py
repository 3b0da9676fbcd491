"""The query of a URL as names and values."""

from __future__ import annotations

import typing
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import parse_qsl, urlencode

__all__ = ["QueryParamTypes", "QueryParams"]


def _text(value: object) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _pairs(value: QueryParamTypes) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        # Bytes that are not UTF-8 come out of `str()` again as they came in.
        yield from parse_qsl(value, keep_blank_values=True, errors="surrogateescape")
        return
    if isinstance(value, (bytes, bytearray)):
        raise TypeError("query parameters are a mapping, pairs or a str, not bytes")
    items: Iterable[tuple[str, typing.Any]]
    items = value.items() if isinstance(value, Mapping) else value
    for item in items:
        if isinstance(item, str):  # "ab" would unpack into "a" and "b"
            raise TypeError("query parameters are a mapping, pairs of name and value, or a str")
        name, values = item
        if isinstance(values, (list, tuple)):
            yield from ((_text(name), _text(each)) for each in values)
        else:
            yield _text(name), _text(values)


class QueryParams(Mapping[str, str]):
    """
    A read-only mapping in which a name may have several values.

    ``QueryParams("a=1&a=2")``, ``QueryParams({"a": [1, 2]})``,
    ``QueryParams([("a", 1), ("a", 2)])`` and ``QueryParams(a=[1, 2])`` are equal. Values that
    are not text go through `str`. As a mapping, it has each name once, with its last value;
    `getlist` and `multi_items` have them all. Two are equal if they have the same pairs, in
    whatever order. ``str()`` gives the query in the encoding of HTML forms (a space is ``+``).
    """

    __slots__ = ("_items",)

    _items: tuple[tuple[str, str], ...]

    def __init__(self, value: QueryParamTypes | None = None, /, **params: object) -> None:
        if value is not None and params:
            raise TypeError("give query parameters either as one value or by keyword")
        if isinstance(value, QueryParams):
            self._items = value._items
        else:
            self._items = tuple(_pairs(params if value is None else value))

    def getlist(self, key: str) -> list[str]:
        """All values of `key` in their order; an empty list if there is none."""
        return [value for name, value in self._items if name == key]

    def multi_items(self) -> list[tuple[str, str]]:
        """All pairs, in their order."""
        return list(self._items)

    def __getitem__(self, key: str) -> str:
        for name, value in reversed(self._items):
            if name == key:
                return value
        raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return any(name == key for name, _ in self._items)

    def __iter__(self) -> Iterator[str]:
        return iter(dict(self._items))

    def __len__(self) -> int:
        return len(dict(self._items))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, QueryParams):
            return NotImplemented
        return sorted(self._items) == sorted(other._items)

    def __str__(self) -> str:
        return urlencode(self._items, errors="surrogateescape")

    def __repr__(self) -> str:
        return f"QueryParams({str(self)!r})"


QueryParamTypes = typing.Union[
    QueryParams, Mapping[str, typing.Any], Iterable[tuple[str, typing.Any]], str
]
