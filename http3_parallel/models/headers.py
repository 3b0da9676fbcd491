"""Header fields."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterable, Iterator, Mapping, MutableMapping

__all__ = ["HeaderTypes", "Headers"]

_Text = typing.Union[str, bytes]

_Pair = tuple[bytes, bytes]

# RFC 9110, sections 5.6.2 and 5.5.
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_FORBIDDEN = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")

# What a `repr`, and with it a log, must not tell.
_SECRET = frozenset({b"authorization", b"cookie", b"proxy-authorization"})


def _name_bytes(name: object) -> bytes:
    """A field name for the wire, in lower case. TypeError or ValueError if it cannot be one."""
    if isinstance(name, str):
        # A name that is not ASCII is no token either.
        encoded = name.encode("ascii", "replace") if name.isascii() else b""
    elif isinstance(name, bytes):
        encoded = name
    else:
        raise TypeError(f"a header's name is str or bytes, not {type(name).__name__}")
    if not _TOKEN.fullmatch(encoded):
        raise ValueError(f"{name!r} is not a header's name (RFC 9110, section 5.1)")
    return encoded.lower()


def _value_bytes(name: bytes, value: object, encoding: str) -> bytes:
    """A field value for the wire. TypeError or ValueError if it cannot be one."""
    if isinstance(value, str):
        try:
            encoded = value.encode(encoding)
        except UnicodeEncodeError as error:
            error.reason += f"; give header {_show(name)} as bytes, or Headers an encoding"
            raise
    elif isinstance(value, bytes):
        encoded = value
    else:
        raise TypeError(
            f"header {_show(name)}: the value is str or bytes, not {type(value).__name__}"
        )
    _check_value(name, encoded)
    return encoded


def _check_value(name: bytes, value: bytes) -> None:
    if _FORBIDDEN.search(value):
        raise ValueError(
            f"header {_show(name)}: a line break, NUL or another control character in the value"
            " (RFC 9110, section 5.5)"
        )


def _show(name: bytes) -> str:
    return repr(name.decode("ascii", "backslashreplace"))


def _lookup_bytes(name: _Text) -> bytes:
    if isinstance(name, str):
        name = name.encode("utf-8", "surrogateescape")
    return name.lower()


class Headers(MutableMapping[str, str]):
    """
    Header fields by name, whatever its case, several times the same name included.

    * `headers`: other `Headers`, a mapping, or pairs; names and values are str or bytes.
    * `encoding`: of the values; by default the first of ASCII, UTF-8 and ISO-8859-1 that
      decodes all of them. Text is encoded in ASCII unless another is given.

    ``headers[name]`` joins several values with ``", "`` (RFC 9110, section 5.3), `getlist` has
    them one by one. `keys`, `values`, `items`, iteration and ``len()`` count every field line.
    Setting a value replaces all of that name. `raw` is the list of pairs of bytes behind it,
    names in lower case.

    A name that is no token, or a value with a line break or another control character, is a
    `ValueError`: it could smuggle further headers, or a second request.
    """

    __slots__ = ("_encoding", "raw")

    raw: list[_Pair]

    def __init__(self, headers: HeaderTypes | None = None, encoding: str | None = None) -> None:
        self._encoding = encoding
        if headers is None:
            self.raw = []
        elif isinstance(headers, Headers):
            self.raw = headers.raw.copy()
            if encoding is None:
                self._encoding = headers._encoding
        else:
            codec = encoding or "ascii"
            self.raw = raw = []
            for name, value in _pairs(headers):
                key = _name_bytes(name)
                raw.append((key, _value_bytes(key, value, codec)))

    @classmethod
    def _from_raw(cls, raw: Iterable[_Pair]) -> Headers:
        """From what a server sent: nothing is checked, only names are put in lower case."""
        return cls._of([(name.lower(), value) for name, value in raw])

    @classmethod
    def _of(cls, raw: list[_Pair]) -> Headers:
        """The same where the names are in lower case already."""
        headers = cls.__new__(cls)
        headers._encoding = None
        headers.raw = raw
        return headers

    def _has(self, name: bytes) -> bool:
        """`name` is in lower case."""
        for other, _ in self.raw:  # noqa: SIM110  # several times as fast as any()
            if other == name:
                return True
        return False

    def _copy(self) -> Headers:
        headers = Headers.__new__(Headers)
        headers._encoding = self._encoding
        headers.raw = self.raw.copy()
        return headers

    def _check(self) -> None:
        """Raise what setting each field would have: for those that came in unchecked."""
        for name, value in self.raw:
            _check_value(_name_bytes(name), value)

    @property
    def encoding(self) -> str:
        if self._encoding is not None:
            return self._encoding
        if all(name.isascii() and value.isascii() for name, value in self.raw):
            return "ascii"
        try:
            for name, value in self.raw:
                name.decode("utf-8"), value.decode("utf-8")
        except UnicodeDecodeError:
            return "iso-8859-1"
        return "utf-8"

    @encoding.setter
    def encoding(self, encoding: str | None) -> None:
        self._encoding = encoding

    def _decode(self, value: bytes) -> str:
        if self._encoding is None and value.isascii():
            return value.decode("ascii")
        return value.decode(self.encoding, "replace")

    def getlist(self, key: _Text, split_commas: bool = False) -> list[str]:
        """
        All values of `key` in their order; an empty list if there is none. With
        `split_commas`, lists are taken apart, empty elements left out (RFC 9110, section 5.6.1).
        """
        wanted = _lookup_bytes(key)
        values = [self._decode(value) for name, value in self.raw if name == wanted]
        if not split_commas:
            return values
        elements = [element.strip() for value in values for element in value.split(",")]
        return [element for element in elements if element]

    def keys(self) -> list[str]:  # type: ignore[override]  # a list, as http3 has it
        return [self._decode(name) for name, _ in self.raw]

    def values(self) -> list[str]:  # type: ignore[override]  # a list, as http3 has it
        return [self._decode(value) for _, value in self.raw]

    def items(self) -> list[tuple[str, str]]:  # type: ignore[override]  # as http3 has it
        return [(self._decode(name), self._decode(value)) for name, value in self.raw]

    def update(  # type: ignore[override]  # fewer forms than MutableMapping's overloads
        self, headers: HeaderTypes | None = None, /, **fields: str
    ) -> None:
        """Set all fields of `headers`, with all values that a name has there."""
        for other in (Headers(headers, self._encoding), Headers(fields, self._encoding)):
            names = {name for name, _ in other.raw}
            self.raw[:] = [pair for pair in self.raw if pair[0] not in names]
            self.raw.extend(other.raw)

    def __getitem__(self, key: _Text) -> str:
        wanted = _lookup_bytes(key)
        values = [value for name, value in self.raw if name == wanted]
        if not values:
            raise KeyError(key)
        if len(values) == 1:
            return self._decode(values[0])
        return ", ".join([self._decode(value) for value in values])

    def __setitem__(self, key: _Text, value: _Text) -> None:
        name = _name_bytes(key)
        needs_encoding = isinstance(value, str) and not value.isascii()
        encoding = self.encoding if needs_encoding else self._encoding or "ascii"
        pair = (name, _value_bytes(name, value, encoding))
        places = [place for place, (other, _) in enumerate(self.raw) if other == name]
        if not places:
            self.raw.append(pair)
            return
        self.raw[places[0]] = pair
        for place in reversed(places[1:]):
            del self.raw[place]

    def __delitem__(self, key: _Text) -> None:
        wanted = _lookup_bytes(key)
        self.raw[:] = [pair for pair in self.raw if pair[0] != wanted]

    def __contains__(self, key: object) -> bool:
        if not isinstance(key, (str, bytes)):
            return False
        wanted = _lookup_bytes(key)
        return any(name == wanted for name, _ in self.raw)

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.raw)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Headers):
            return NotImplemented
        return sorted(self.raw) == sorted(other.raw)

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        encoding = self.encoding
        suffix = "" if encoding == "ascii" else f", encoding={encoding!r}"
        shown = [
            (self._decode(name), "[secure]" if name in _SECRET else self._decode(value))
            for name, value in self.raw
        ]
        fields = dict(shown)
        return f"Headers({fields if len(fields) == len(shown) else shown!r}{suffix})"


def _pairs(headers: typing.Any) -> Iterator[tuple[object, object]]:
    """The pairs of what `Headers` takes."""
    if isinstance(headers, (str, bytes)):
        raise TypeError("headers are a mapping or pairs of name and value, not text")
    for item in headers.items() if isinstance(headers, Mapping) else headers:
        if isinstance(item, (str, bytes)) or len(item) != 2:
            raise TypeError("headers are a mapping or pairs of name and value")
        yield item


HeaderTypes = typing.Union[
    Headers,
    Mapping[str, str],
    Mapping[str, bytes],
    Mapping[bytes, bytes],
    Mapping[str, _Text],
    Iterable[tuple[_Text, _Text]],
]
