"""What is shown of messages to others: everything but what may be a secret."""

from __future__ import annotations

import re

from ..models import URL, Headers

__all__ = ["HIDDEN", "shown_headers", "shown_url"]

#: In place of a secret, as in messages and logs.
HIDDEN = "…"

#: Words in the names of fields whose values are secret.
_SECRET = re.compile(
    r"auth|cookie|token|secret|passw|credential|session|signature|api[-_]?key|(^|-)key(-|$)"
)
#: Challenges and the like, which are not.
_HARMLESS = frozenset(["www-authenticate", "proxy-authenticate", ":authority"])

#: Fields that have URLs.
_WITH_URLS = frozenset(["location", "content-location", "referer", "link", "refresh", "origin"])
_USERINFO = re.compile(r"//[^/?#\s]*@")
_QUERY = re.compile(r"\?[^#>\s\"]*")


def shown_url(url: URL | str, credentials: bool) -> str:
    """`credentials`: whether it is shown whole."""
    if isinstance(url, str):
        return url
    return str(url) if credentials else url.redacted


def shown_headers(headers: Headers | None, credentials: bool) -> list[tuple[str, str]]:
    shown = []
    for raw_name, raw_value in [] if headers is None else headers.raw:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        shown.append((name, value if credentials else _without_secrets(name.lower(), value)))
    return shown


def _without_secrets(name: str, value: str) -> str:
    if name in _HARMLESS:
        return value
    if name in _WITH_URLS:
        return _QUERY.sub("?" + HIDDEN, _USERINFO.sub(f"//{HIDDEN}@", value))
    if not _SECRET.search(name):
        return value
    if name in ("authorization", "proxy-authorization"):
        scheme, space, _ = value.partition(" ")
        return f"{scheme} {HIDDEN}" if space else HIDDEN
    return HIDDEN
