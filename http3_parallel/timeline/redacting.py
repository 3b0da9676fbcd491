"""What is shown of messages to others: everything but what may be a secret."""

from __future__ import annotations

import re

from ..models import URL, Headers

__all__ = ["HIDDEN", "shown_headers", "shown_tag", "shown_url"]

#: In place of a secret, as in messages and logs.
HIDDEN = "…"

#: Words in the names of fields whose values are secret.
_SECRET = re.compile(
    r"auth|bearer|cookie|credential|csrf|hmac|jwt|key|passw|secret|session|signature|token|xsrf"
    r"|(^|[-_])(pass|pwd|sas|sig)([-_]|$)"
)

#: The schemes that may stand before credentials (IANA's registry, and what is used besides);
#: another first word may be a part of these.
_SCHEMES = re.compile(
    r"(basic|bearer|concealed|digest|dpop|gnap|hoba|mutual|negotiate|ntlm|oauth|privatetoken"
    r"|scram-sha-1|scram-sha-256|token|vapid|aws4-hmac-sha256) ",
    re.IGNORECASE,
)
_WITH_SCHEME = frozenset(["authorization", "proxy-authorization"])

#: Challenges are for everybody, but for what goes on in some of them (token68 of RFC 9110, 11.2).
_CHALLENGES = frozenset(["www-authenticate", "proxy-authenticate"])
_TOKEN68 = re.compile(r"((?:^|, *)[\w-]+) +[\w.~+/-]+=*(?= *(?:,|$))")

#: Fields that have URLs, or parts of them; in others they are known by ``//``.
_WITH_URLS = frozenset(
    ["location", "content-location", "destination", "referer", "link", "refresh", "uri"]
)
#: What stands around URLs, in fields and in text.
_AROUND = re.compile(r"([\s\"<>]+)")


def shown_url(url: URL | str, credentials: bool) -> str:
    """`credentials`: whether it is shown whole."""
    if isinstance(url, str):
        return url
    return str(url) if credentials else url.redacted


def shown_tag(tag: str | None, credentials: bool) -> str | None:
    """Tags are the user's own, but are URLs often enough, or have them in them."""
    if tag is None or credentials or "//" not in tag:
        return tag
    return _without_parts(tag)


def shown_headers(headers: Headers | None, credentials: bool) -> list[tuple[str, str]]:
    shown = []
    for raw_name, raw_value in [] if headers is None else headers.raw:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        shown.append((name, value if credentials else _without_secrets(name.lower(), value)))
    return shown


def _without_secrets(name: str, value: str) -> str:
    if name in _CHALLENGES:
        return _TOKEN68.sub(rf"\1 {HIDDEN}", value)
    if _SECRET.search(name):
        scheme = _SCHEMES.match(value) if name in _WITH_SCHEME else None
        return HIDDEN if scheme is None else scheme[0] + HIDDEN
    if name in _WITH_URLS or "//" in value or value.startswith("/"):
        return _without_parts(value)
    return value


def _without_parts(text: str) -> str:
    """Without the userinfo, query and fragment of any URL in it, and what stands close by."""
    return "".join([_without_part(word) for word in _AROUND.split(text)])


def _without_part(word: str) -> str:
    start = min([place for place in (word.find("?"), word.find("#")) if place >= 0], default=None)
    if start is not None:
        word = word[: start + 1] + HIDDEN
    slashes, at = word.find("//"), word.rfind("@")
    if 0 <= slashes < at:
        word = f"{word[: slashes + 2]}{HIDDEN}{word[at:]}"
    return word
