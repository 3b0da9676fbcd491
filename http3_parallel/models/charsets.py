"""Which encoding the text of a response is in."""

from __future__ import annotations

import codecs
import functools
import re

__all__ = ["find_charset", "is_charset"]

_PARAMETER = re.compile(r";\s*charset\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^;,\s]*))", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z0-9._:+-]{1,40}")

# They decode text, but no page is written in them: they interpret escapes, take quadratic
# time (IDNA and Punycode; UTF-7 where it comes in pieces, and browsers refuse it since it hides
# markup), always raise, or depend on the machine.
_NOT_CHARSETS = frozenset(
    {
        "idna",
        "mbcs",
        "oem",
        "punycode",
        "raw-unicode-escape",
        "undefined",
        "unicode-escape",
        "utf-7",
    }
)


@functools.lru_cache(maxsize=128)
def is_charset(name: str) -> bool:
    """Whether `name` is a text encoding that Python knows and that a server may name."""
    if not _NAME.fullmatch(name):
        return False
    try:
        if codecs.lookup(name).name.replace("_", "-") in _NOT_CHARSETS:
            return False
        b"a".decode(name, "replace")  # a LookupError for what is none of text, like base64
    except (LookupError, ValueError):
        return False
    return True


def find_charset(content_type: str) -> str | None:
    """The charset that a Content-Type declares (RFC 9110, section 8.3.2), if it is one."""
    match = _PARAMETER.search(content_type)
    if match is None:
        return None
    name = next(group for group in match.groups() if group is not None)
    return name if is_charset(name) else None
