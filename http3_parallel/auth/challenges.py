"""What a server asks for: the WWW-Authenticate and Authentication-Info fields, taken apart."""

from __future__ import annotations

import re
import typing

__all__ = ["Challenge", "parse_challenges", "parse_parameters"]

# RFC 9110, sections 5.6.2, 5.6.4 and 11.2. Servers also leave out the quotes where they are
# needed, and commas; white space around "=" is allowed.
_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_PARAMETER = re.compile(
    rf'({_TOKEN})[ \t]*=[ \t]*(?:"([^"\\]*(?:\\.[^"\\]*)*)"|([^\s,"]*)(?=[\s,]|\Z))', re.DOTALL
)
_SCHEME = re.compile(rf"({_TOKEN})(?=[\s,]|\Z)")
_TOKEN68 = re.compile(r"[ \t]+([A-Za-z0-9\-._~+/]+=*)(?=[ \t]*(?:,|\Z))")
_SEPARATORS = re.compile(r"[\s,]*")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


class Challenge(typing.NamedTuple):
    """
    One challenge (RFC 9110, section 11.3). Names are in lower case; values are without their
    quotes and escapes, each byte one character.
    """

    scheme: str
    parameters: dict[str, str]
    token68: str | None = None


def parse_challenges(values: typing.Iterable[bytes]) -> list[Challenge]:
    """
    All challenges of all WWW-Authenticate fields, in their order. Of a malformed field, those
    before what cannot be understood.
    """
    challenges: list[Challenge] = []
    for value in values:
        challenges += _parse(value.decode("latin-1"))
    return challenges


def parse_parameters(value: bytes) -> dict[str, str]:
    """The parameters of an Authentication-Info field (RFC 9110, section 11.6.3)."""
    return _parse_parameters(value.decode("latin-1"), 0)[0]


def _parse(text: str) -> typing.Iterator[Challenge]:
    place = _skip(text, 0)
    while (scheme := _SCHEME.match(text, place)) is not None:
        name = scheme[1].lower()
        place = scheme.end()
        token68 = _TOKEN68.match(text, place)
        if token68 is not None:
            yield Challenge(name, {}, token68[1])
            place = _skip(text, token68.end())
        else:
            parameters, place = _parse_parameters(text, place)
            yield Challenge(name, parameters)


def _parse_parameters(text: str, place: int) -> tuple[dict[str, str], int]:
    """They, and the place of what comes after them. Of one that is repeated, the first counts."""
    parameters: dict[str, str] = {}
    place = _skip(text, place)
    while (match := _PARAMETER.match(text, place)) is not None:
        name, quoted, plain = match.groups()
        value = plain if quoted is None else _ESCAPED.sub(r"\1", quoted)
        parameters.setdefault(name.lower(), value)
        place = _skip(text, match.end())
    return parameters, place


def _skip(text: str, place: int) -> int:
    match = _SEPARATORS.match(text, place)
    assert match is not None
    return match.end()
