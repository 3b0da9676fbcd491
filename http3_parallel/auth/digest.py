"""
The Digest scheme (RFC 7616; of RFC 2617, what servers without `qop` want).

A server's challenge opens a `_Session`, from which requests are authenticated until the server
no longer takes its nonce. Sessions are shared by all threads, and known for each origin, so that
only the first request is refused. The guarantees:

1. *No count is used twice for one nonce* of an origin: one `itertools.count` for each, which all
   sessions with that nonce share. A forked child starts without sessions.
2. *Nothing goes to another origin* than the one that sent the challenge, whatever its `domain`.
3. *No loops*: what a challenge of this request was answered with, and was refused, is not sent
   again. Only if the server says that the nonce was stale, the next one is tried too.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import typing
import unicodedata
import urllib.parse

from .base import Auth
from .basic import check_credentials, encode_credentials
from .challenges import parse_challenges, parse_parameters

if typing.TYPE_CHECKING:
    from collections.abc import Iterator

    from ..models import Origin, Request, Response
    from .base import AuthSteps

__all__ = ["DigestAuth"]

#: Sessions, origins and nonces that are remembered; a forgotten one costs one more request.
_MOST_KEPT = 1000

# What no header may contain (RFC 9110, section 5.5).
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
#: RFC 8187, section 3.2.1, beside letters and digits.
_ATTR_CHARS = "!#$&+-.^_`|~"


def _is_available(name: str) -> bool:
    try:
        hashlib.new(name)
    except ValueError:  # not in this build of OpenSSL, or not allowed by it
        return False
    return True


#: From the weakest to the strongest, by the names of RFC 7616, section 6.1.
_ALGORITHMS = {
    algorithm: name
    for algorithm, name in (("MD5", "md5"), ("SHA-256", "sha256"), ("SHA-512-256", "sha512_256"))
    if _is_available(name)
}


class DigestAuth(Auth):
    """
    The Digest scheme (RFC 7616) with MD5, SHA-256 and SHA-512-256, each also as ``-sess``, and
    the quality of protection ``auth``, or none, as before RFC 2617. Of several challenges the
    strongest is answered. One that asks for anything else, ``auth-int`` alone for example, is
    left to the caller, as the 401 that it came with.

    The first request to an origin is sent without credentials, and once more with them if its
    body can be sent again; if not, the 401 is returned, and the next request has them. From
    then on all have, until the server has them refused, or wants another nonce.

    Text is encoded as UTF-8, also where a server names no charset, as other clients have it; give
    bytes where that is wrong.
    Bytes are used as they are.

    A wrong argument is a `TypeError`, or a `ValueError` for what cannot be sent.
    """

    def __init__(self, username: str | bytes, password: str | bytes) -> None:
        check_credentials(username, password)
        name, _ = encode_credentials(username, password)
        if _CONTROL.search(name.decode("latin-1")):
            raise ValueError("a user name with a control character cannot be sent")
        self._username = username
        self._password = password
        self._memories: dict[int, _Memory] = {}

    def steps(self, request: Request) -> AuthSteps:
        memory, origin = self._memory(), request.url.origin
        session = memory.current.get(origin)
        response = yield _authenticated(request, session)
        answers = 0
        while response.status_code == 401:
            offered = _strongest(response)
            if offered is None:
                return
            challenge, is_stale = offered
            is_other = answers == 0 and (session is None or session.challenge != challenge)
            if answers == 2 or not (is_other or is_stale):
                memory.refused(origin, session)
                return
            session = memory.get(origin, challenge) or self._open(memory, origin, challenge)
            if not request._is_whole:
                memory.use(origin, session)
                return
            answers += 1
            response = yield _authenticated(request, session)
        if session is not None:
            memory.accepted(origin, session, answers > 0, _next_nonce(response))

    def _open(self, memory: _Memory, origin: Origin, challenge: _Challenge) -> _Session:
        name, password = _utf8(self._username), _utf8(self._password)
        realm, cnonce = challenge.realm.encode("latin-1"), _new_cnonce()
        secret = challenge.digest(name, realm, password)
        if challenge.is_sess:
            nonce = challenge.nonce.encode("latin-1")
            secret = challenge.digest(secret, nonce, cnonce)
        return memory.add(origin, challenge, _user(challenge, name), secret, cnonce)

    def _memory(self) -> _Memory:
        """The memory of this process."""
        pid = os.getpid()
        memory = self._memories.get(pid)
        if memory is None:
            # Without a lock, which a thread of the parent may have held.
            memory = self._memories.setdefault(pid, _Memory())
            for other in [key for key in self._memories.copy() if key != pid]:
                self._memories.pop(other, None)
        return memory

    def __getstate__(self) -> dict[str, typing.Any]:
        return {**self.__dict__, "_memories": {}}

    def __repr__(self) -> str:
        return "<DigestAuth>"


class _Challenge(typing.NamedTuple):
    """
    What a challenge that can be answered says. Text is as it was sent, each byte one character.
    """

    realm: str
    nonce: str
    opaque: str | None
    algorithm: str | None
    has_qop: bool
    is_utf8: bool
    has_userhash: bool

    @classmethod
    def of(cls, parameters: typing.Mapping[str, str]) -> _Challenge | None:
        """None if it cannot be answered."""
        realm, nonce = parameters.get("realm"), parameters.get("nonce")
        if realm is None or nonce is None or _CONTROL.search("".join(parameters.values())):
            return None
        qop = {option.strip().lower() for option in parameters.get("qop", "").split(",")} - {""}
        challenge = cls(
            realm,
            nonce,
            parameters.get("opaque"),
            parameters.get("algorithm"),
            has_qop=bool(qop),
            is_utf8=parameters.get("charset", "").lower() == "utf-8",
            has_userhash=parameters.get("userhash", "").lower() == "true",
        )
        if challenge.hash_name not in _ALGORITHMS or (qop and "auth" not in qop):
            return None
        if challenge.is_sess and not qop:
            return None  # a nonce of the client's is part of it, and has no place without qop
        return challenge

    @property
    def hash_name(self) -> str:
        return (self.algorithm or "MD5").upper().removesuffix("-SESS")

    @property
    def is_sess(self) -> bool:
        return (self.algorithm or "").upper().endswith("-SESS")

    @property
    def strength(self) -> int:
        return list(_ALGORITHMS).index(self.hash_name)

    def digest(self, *parts: bytes) -> bytes:
        """The hash of `parts`, joined by colons, in hexadecimal."""
        hashed = hashlib.new(_ALGORITHMS[self.hash_name], b":".join(parts))
        return hashed.hexdigest().encode("ascii")


class _Session:
    """
    Makes the credentials for one challenge. It has one nonce of the client's, as the algorithms
    with ``-sess`` want it, and the others allow.
    """

    __slots__ = ("_cnonce", "_counter", "_secret", "_user", "challenge")

    def __init__(
        self,
        challenge: _Challenge,
        counter: Iterator[int],
        user: str,
        secret: bytes,
        cnonce: bytes,
    ) -> None:
        self.challenge = challenge
        self._counter = counter
        self._user = user
        self._secret = secret
        self._cnonce = cnonce

    def credentials(self, method: str, target: str) -> bytes:
        """The value of the Authorization field for one request (RFC 7616, section 3.4)."""
        challenge = self.challenge
        nonce = challenge.nonce.encode("latin-1")
        what = challenge.digest(method.encode("ascii"), target.encode("ascii"))
        fields = [
            self._user,
            f"realm={_quoted(challenge.realm)}",
            f"nonce={_quoted(challenge.nonce)}",
            f"uri={_quoted(target)}",
        ]
        if challenge.has_qop:
            count = b"%08x" % next(self._counter)
            proof = challenge.digest(self._secret, nonce, count, self._cnonce, b"auth", what)
            cnonce = self._cnonce.decode("ascii")
            fields += ["qop=auth", f"nc={count.decode('ascii')}", f'cnonce="{cnonce}"']
        else:
            proof = challenge.digest(self._secret, nonce, what)
        fields.append(f'response="{proof.decode("ascii")}"')
        if challenge.opaque is not None:
            fields.append(f"opaque={_quoted(challenge.opaque)}")
        if challenge.algorithm is not None:
            fields.append(f"algorithm={challenge.algorithm}")
        if challenge.has_userhash:
            fields.append("userhash=true")
        return f"Digest {', '.join(fields)}".encode("latin-1")


class _Memory:
    """
    The sessions of one process.

    * `current`: the one that the next request to an origin uses.
    """

    __slots__ = ("_counters", "_sessions", "current")

    def __init__(self) -> None:
        self.current: dict[Origin, _Session] = {}
        # All of them: many threads that are sent the same nonce share one.
        self._sessions: dict[tuple[Origin, _Challenge], _Session] = {}
        # Challenges may differ in all but the nonce, which is what servers count by.
        self._counters: dict[tuple[Origin, str], Iterator[int]] = {}

    def get(self, origin: Origin, challenge: _Challenge) -> _Session | None:
        return self._sessions.get((origin, challenge))

    def add(
        self, origin: Origin, challenge: _Challenge, user: str, secret: bytes, cnonce: bytes
    ) -> _Session:
        """The session, or the one that another thread has added meanwhile."""
        counter = self._counters.setdefault((origin, challenge.nonce), itertools.count(1))
        session = _Session(challenge, counter, user, secret, cnonce)
        session = self._sessions.setdefault((origin, challenge), session)
        _trim(self._counters)
        _trim(self._sessions)
        return session

    def use(self, origin: Origin, session: _Session) -> None:
        self.current[origin] = session
        _trim(self.current)

    def accepted(
        self, origin: Origin, session: _Session, is_new: bool, next_nonce: str | None
    ) -> None:
        if not (is_new or self.current.get(origin) is session):
            return  # others have gone on to another already
        if next_nonce is not None and next_nonce != session.challenge.nonce:
            challenge = session.challenge._replace(nonce=next_nonce)
            # What -sess hashed stays: it counts from the challenge (RFC 7616, section 3.4.2).
            session = self.get(origin, challenge) or self.add(
                origin, challenge, session._user, session._secret, session._cnonce
            )
            is_new = True
        if is_new:
            self.use(origin, session)

    def refused(self, origin: Origin, session: _Session | None) -> None:
        if self.current.get(origin) is session:
            self.current.pop(origin, None)


def _trim(table: dict[typing.Any, typing.Any]) -> None:
    """The oldest go."""
    if len(table) > _MOST_KEPT:
        for key in list(table)[:-_MOST_KEPT]:
            table.pop(key, None)


def _authenticated(request: Request, session: _Session | None) -> Request:
    changed = request._replace()
    if session is None:
        del changed.headers["authorization"]
    else:
        credentials = session.credentials(request.method, request.url.full_path)
        changed.headers["authorization"] = credentials
    return changed


def _strongest(response: Response) -> tuple[_Challenge, bool] | None:
    """
    The challenge to answer, the first one of the strongest, and whether it comes only since the
    nonce was stale.
    """
    fields = [value for name, value in response.headers.raw if name == b"www-authenticate"]
    best: tuple[_Challenge, bool] | None = None
    for offered in parse_challenges(fields):
        challenge = _Challenge.of(offered.parameters) if offered.scheme == "digest" else None
        if challenge is not None and (best is None or challenge.strength > best[0].strength):
            best = challenge, offered.parameters.get("stale", "").lower() == "true"
    return best


def _next_nonce(response: Response) -> str | None:
    """What the server wants in the next request (RFC 7616, section 3.5)."""
    for name, value in response.headers.raw:
        if name == b"authentication-info":
            nonce = parse_parameters(value).get("nextnonce")
            if nonce and not _CONTROL.search(nonce):
                return nonce
    return None


def _user(challenge: _Challenge, name: bytes) -> str:
    """The parameter that says who (RFC 7616, sections 3.4 and 3.4.4)."""
    if challenge.has_userhash:
        hashed = challenge.digest(name, challenge.realm.encode("latin-1"))
        return f'username="{hashed.decode("ascii")}"'
    if challenge.is_utf8 and not name.isascii():
        return f"username*=UTF-8''{urllib.parse.quote_from_bytes(name, _ATTR_CHARS)}"
    return f"username={_quoted(name.decode('latin-1'))}"


def _quoted(value: str) -> str:
    """As a quoted-string (RFC 9110, section 5.6.4)."""
    return '"' + re.sub(r'(["\\])', r"\\\1", value) + '"'


def _utf8(value: str | bytes) -> bytes:
    """As charset=UTF-8 wants it (RFC 7616, section 4)."""
    if isinstance(value, bytes):
        return value
    return unicodedata.normalize("NFC", value).encode("utf-8")


def _new_cnonce() -> bytes:
    return os.urandom(16).hex().encode("ascii")
