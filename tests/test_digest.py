"""Digest: the vectors of RFC 7616, challenges as servers send them, and a server that verifies."""

from __future__ import annotations

import collections
import hashlib
import itertools
import os
import pickle
import re
import threading
import time
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

import http3_parallel as http3
from http3_parallel.auth import DigestAuth, digest
from http3_parallel.auth.challenges import Challenge, parse_challenges, parse_parameters
from scripted import PATIENCE
from servers import Peer, RawServer, ReceivedRequest, response_bytes

URL = "http://example.com/dir/index.html"


def unauthorized(*challenges: str | bytes) -> http3.Response:
    values = [value.encode() if isinstance(value, str) else value for value in challenges]
    response = http3.Response(401)
    # As from a server: not checked.
    response.headers.raw = [(b"www-authenticate", value) for value in values]
    return response


class Exchange:
    """One request, authenticated step by step. What is sent next is `sent`; None if nothing is."""

    def __init__(
        self, auth: http3.Auth, request: http3.Request | None = None, url: str = URL
    ) -> None:
        self._steps = auth.steps(request or http3.Request("GET", url))
        self.sent: http3.Request | None = typing.cast(http3.Request, next(self._steps))

    @property
    def authorization(self) -> str | None:
        assert self.sent is not None, "nothing is sent"
        return self.sent.headers.get("authorization")

    @property
    def parameters(self) -> dict[str, str]:
        """Of the Digest credentials that are sent."""
        assert self.sent is not None, "nothing is sent"
        value = self.sent.headers.getlist("authorization")
        assert len(value) == 1
        (challenge,) = parse_challenges([self.sent.headers["authorization"].encode("latin-1")])
        assert challenge.scheme == "digest"
        return challenge.parameters

    def answer(self, response: http3.Response) -> Exchange:
        assert self.sent is not None
        b"".join(self.sent.stream())  # as sending it does
        try:
            self.sent = typing.cast(http3.Request, self._steps.send(response))
        except StopIteration:
            self.sent = None
        return self


def answered(auth: http3.Auth, *challenges: str | bytes, **options: typing.Any) -> Exchange:
    """A request whose first response is a 401 with these challenges."""
    return Exchange(auth, **options).answer(unauthorized(*challenges))


def ok(**fields: str) -> http3.Response:
    return http3.Response(200, headers={key.replace("_", "-"): v for key, v in fields.items()})


# The examples of RFC 7616, section 3.9.


def fix_cnonce(monkeypatch: pytest.MonkeyPatch, cnonce: bytes) -> None:
    monkeypatch.setattr(digest, "_new_cnonce", lambda: cnonce)


MUFASA = (
    'realm="http-auth@example.org", qop="auth, auth-int", algorithm={}, '
    'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", '
    'opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
)
needs_sha_512_256 = pytest.mark.skipif(
    "SHA-512-256" not in digest._ALGORITHMS, reason="this build of OpenSSL has no SHA-512/256"
)


@pytest.mark.parametrize(
    ("algorithm", "response"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_the_first_example_of_the_rfc(
    algorithm: str, response: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fix_cnonce(monkeypatch, b"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ")
    auth = DigestAuth("Mufasa", "Circle of Life")
    exchange = answered(auth, "Digest " + MUFASA.format(algorithm))
    assert exchange.parameters == {
        "username": "Mufasa",
        "realm": "http-auth@example.org",
        "uri": "/dir/index.html",
        "algorithm": algorithm,
        "nonce": "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
        "nc": "00000001",
        "cnonce": "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
        "qop": "auth",
        "response": response,
        "opaque": "FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS",
    }
    # Which are quoted, and which must not be (RFC 7616, section 3.4).
    value = exchange.authorization or ""
    assert set(re.findall(r'(\w+)="', value)) == {
        *("username", "realm", "uri", "nonce", "cnonce", "response", "opaque")
    }


JASON = (
    'Digest realm="api@example.org", qop="auth", algorithm=SHA-512-256, '
    'nonce="5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK", '
    'opaque="HRPCssKJSGjCrkzDg8OhwpzCiGPChXYjwrI2QmXDnsOS", charset=UTF-8'
)
JASONS_CNONCE = b"NTg6RKcb9boFIAS3KrFK9BGeh+iDa/sm6jUMp2wds69v"


@needs_sha_512_256
# The second has its combining characters apart: NFC joins them.
@pytest.mark.parametrize("name", ["J\u00e4s\u00f8n Doe", "Ja\u0308s\u00f8n Doe"])
def test_the_second_example_of_the_rfc_with_hashed_names(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fix_cnonce(monkeypatch, JASONS_CNONCE)
    sent = answered(
        DigestAuth(name, "Secret, or not?"),
        JASON + ", userhash=true",
        url="http://api.example.org/doe.json",
    ).parameters
    # As corrected by erratum 4897: the RFC's own are of a truncated SHA-512.
    assert (sent["username"], sent["userhash"], sent["response"]) == (
        "793263caabb707a56211940d90411ea4a575adeccb7e360aeb624ed06ece9b0b",
        "true",
        "3798d4131c277846293534c3edc11bd8a5e4cdcbff78b05db9d95eeb1cec68a5",
    )
    assert "username*" not in sent


@needs_sha_512_256
def test_a_name_beyond_ascii_is_sent_as_an_extended_parameter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fix_cnonce(monkeypatch, JASONS_CNONCE)
    sent = answered(
        DigestAuth("J\u00e4s\u00f8n Doe", "Secret, or not?"),
        JASON + ", userhash=false",
        url="http://api.example.org/doe.json",
    ).parameters
    assert sent["username*"] == "UTF-8''J%C3%A4s%C3%B8n%20Doe"
    assert sent["response"] == "3798d4131c277846293534c3edc11bd8a5e4cdcbff78b05db9d95eeb1cec68a5"
    assert not {"username", "userhash"} & set(sent)


def test_the_example_of_rfc_2617(monkeypatch: pytest.MonkeyPatch) -> None:
    fix_cnonce(monkeypatch, b"0a4f113b")
    challenge = (
        'Digest realm="testrealm@host.com", qop="auth,auth-int", '
        'nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", opaque="5ccc069c403ebaf9f0171e9517f40e41"'
    )
    sent = answered(DigestAuth("Mufasa", "Circle Of Life"), challenge).parameters
    assert sent["response"] == "6629fae49393a05397450978507c4ef1"
    assert "algorithm" not in sent, "nothing is said where the server said nothing"


def test_a_server_without_qop_gets_neither_count_nor_cnonce() -> None:
    challenge = 'Digest realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093"'
    sent = answered(DigestAuth("Mufasa", "CircleOfLife"), challenge).parameters
    # The example of RFC 2069, section 2.4, as corrected by its erratum.
    assert sent["response"] == "1949323746fe6a43ef61f9606e7febea"
    assert set(sent) == {"username", "realm", "nonce", "uri", "response"}


# The server's side, written from the RFC for these tests.

HASHES = {"MD5": "md5", "SHA-256": "sha256", "SHA-512-256": "sha512_256"}


def hexdigest(algorithm: str, text: str) -> str:
    name = HASHES[algorithm.upper().removesuffix("-SESS")]
    return hashlib.new(name, text.encode("latin-1")).hexdigest()


def expected_response(
    sent: typing.Mapping[str, str],
    username: str,
    password: str,
    method: str,
    session: tuple[str, str] | None = None,
) -> str:
    """
    What `response` must be. Text has one character for each byte.

    * `session`: the nonces that ``-sess`` began with, if they are not those of the request.
    """
    algorithm = sent.get("algorithm", "MD5")
    a1 = hexdigest(algorithm, f"{username}:{sent['realm']}:{password}")
    if algorithm.upper().endswith("-SESS"):
        nonce, cnonce = session or (sent["nonce"], sent["cnonce"])
        a1 = hexdigest(algorithm, f"{a1}:{nonce}:{cnonce}")
    a2 = hexdigest(algorithm, f"{method}:{sent['uri']}")
    if "qop" not in sent:
        return hexdigest(algorithm, f"{a1}:{sent['nonce']}:{a2}")
    middle = f"{sent['nonce']}:{sent['nc']}:{sent['cnonce']}:{sent['qop']}"
    return hexdigest(algorithm, f"{a1}:{middle}:{a2}")


ALGORITHMS = [
    pytest.param(name, marks=needs_sha_512_256 if "512" in name else ())
    for name in (
        *("MD5", "MD5-sess", "SHA-256", "SHA-256-sess", "SHA-512-256", "SHA-512-256-sess"),
        *("md5", "sha-256-SESS"),
    )
]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("form", ["algorithm={}", 'algorithm="{}"', "ALGORITHM = {}"])
def test_each_algorithm_is_echoed_as_it_was_sent(algorithm: str, form: str) -> None:
    challenge = f'Digest realm="r", nonce="n", qop="auth", {form.format(algorithm)}'
    exchange = answered(DigestAuth("user", "secret"), challenge)
    sent = exchange.parameters
    assert sent["algorithm"] == algorithm
    assert sent["response"] == expected_response(sent, "user", "secret", "GET")
    assert f"algorithm={algorithm}" in (exchange.authorization or "")


@pytest.mark.parametrize(
    ("name", "password", "charset", "sent_as", "of_a1"),
    [
        ("us\u00e9r", "p\u00e4ss", "", b'username="us\xc3\xa9r"', b"us\xc3\xa9r:r:p\xc3\xa4ss"),
        (b"us\xe9r", b"p\xe4ss", "", b'username="us\xe9r"', b"us\xe9r:r:p\xe4ss"),
        ("us\u00e9r", "\u20ac", "", b'username="us\xc3\xa9r"', b"us\xc3\xa9r:r:\xe2\x82\xac"),
        (b"us\xff", b"\x00\xfe", "", b'username="us\xff"', b"us\xff:r:\x00\xfe"),
        ("us\u00e9r", "p\u00e4ss", "utf-8", b"username*=UTF-8''us%C3%A9r", None),
        (b"us\xc3\xa9r", b"\xff", "UTF-8", b"username*=UTF-8''us%C3%A9r", b"us\xc3\xa9r:r:\xff"),
        ("user", "p\u00e4ss", "UTF-8", b'username="user"', b"user:r:p\xc3\xa4ss"),
        ("a'*b (c)", "x", "UTF-8", b'username="a\'*b (c)"', b"a'*b (c):r:x"),
        ('a"b\\c', "x", "", b'username="a\\"b\\\\c"', b'a"b\\c:r:x'),
        ("a:b\t", "x\n", "", b'username="a:b\t"', b"a:b\t:r:x\n"),
        ("", "", "", b'username=""', b":r:"),
    ],
)
def test_how_names_and_passwords_are_encoded(
    name: typing.Any, password: typing.Any, charset: str, sent_as: bytes, of_a1: bytes | None
) -> None:
    challenge = 'Digest realm="r", nonce="n"' + (charset and f", charset={charset}")
    exchange = answered(DigestAuth(name, password), challenge)
    assert exchange.sent is not None
    (value,) = [v for key, v in exchange.sent.headers.raw if key == b"authorization"]
    assert value.startswith(b"Digest " + sent_as + b", realm=")
    if of_a1 is not None:
        a1, a2 = hashlib.md5(of_a1), hashlib.md5(b"GET:/dir/index.html")
        response = hashlib.md5(f"{a1.hexdigest()}:n:{a2.hexdigest()}".encode()).hexdigest()
        assert exchange.parameters["response"] == response


@pytest.mark.parametrize("realm", [b"caf\xe9", b"caf\xc3\xa9"])
def test_a_realm_goes_back_byte_by_byte(realm: bytes) -> None:
    exchange = answered(DigestAuth("u", "p"), b'Digest realm="' + realm + b'", nonce="n"')
    assert exchange.sent is not None
    (value,) = [v for key, v in exchange.sent.headers.raw if key == b"authorization"]
    assert b'realm="' + realm + b'"' in value
    a1, a2 = hashlib.md5(b"u:" + realm + b":p"), hashlib.md5(b"GET:/dir/index.html")
    response = hashlib.md5(f"{a1.hexdigest()}:n:{a2.hexdigest()}".encode()).hexdigest()
    assert f'response="{response}"'.encode() in value


def test_quotes_and_backslashes_of_the_server_go_back_as_they_came() -> None:
    realm = r'"a \"quoted\" realm\\, with a comma"'
    exchange = answered(
        DigestAuth("u", "p"), f'Digest realm={realm}, nonce="n\\"", opaque="\\\\", qop="auth"'
    )
    value = exchange.authorization or ""
    assert f"realm={realm}" in value
    assert 'nonce="n\\""' in value
    assert 'opaque="\\\\"' in value
    sent = exchange.parameters
    assert sent["realm"] == 'a "quoted" realm\\, with a comma'
    assert sent["response"] == expected_response(sent, "u", "p", "GET")


@pytest.mark.parametrize(
    ("url", "uri"),
    [
        ("http://example.com", "/"),
        ("http://example.com/a%20b?c=d&e=%22", "/a%20b?c=d&e=%22"),
        ("http://user:pw@example.com/?", "/?"),
        ("http://example.com/#fragment", "/"),
    ],
)
def test_the_uri_is_the_target_as_it_is_sent(url: str, uri: str) -> None:
    sent = answered(
        DigestAuth("u", "p"),
        'Digest realm="r", nonce="n", qop=auth',
        request=http3.Request("POST", url, data=b"x"),
    ).parameters
    assert sent["uri"] == uri
    assert sent["response"] == expected_response(sent, "u", "p", "POST")


# Challenges.


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (b"Basic", [("basic", {}, None)]),
        (b"Negotiate abc+/==", [("negotiate", {}, "abc+/==")]),
        (b"Negotiate, Basic realm=x", [("negotiate", {}, None), ("basic", {"realm": "x"}, None)]),
        (
            b'Newauth realm="apps", type=1, title="Login to \\"apps\\"", Basic realm="simple"',
            [
                ("newauth", {"realm": "apps", "type": "1", "title": 'Login to "apps"'}, None),
                ("basic", {"realm": "simple"}, None),
            ],
        ),
        (
            b'Negotiate abc=, DIGEST Realm="a, b=c", , NONCE=n',
            [("negotiate", {}, "abc="), ("digest", {"realm": "a, b=c", "nonce": "n"}, None)],
        ),
        (b' ,, Basic realm = "x" ,,', [("basic", {"realm": "x"}, None)]),
        (b'Digest realm="", nonce=""', [("digest", {"realm": "", "nonce": ""}, None)]),
        # As they should not be.
        (b'Digest realm="x" nonce="y"', [("digest", {"realm": "x", "nonce": "y"}, None)]),
        (b'Digest realm="x"nonce="y"', [("digest", {"realm": "x", "nonce": "y"}, None)]),
        (b"Digest nonce=ab/+c==, realm=x", [("digest", {"nonce": "ab/+c==", "realm": "x"}, None)]),
        (b'Digest realm="x", realm="y"', [("digest", {"realm": "x"}, None)]),
        (
            b'Basic realm="x", Digest realm="unclosed',
            [("basic", {"realm": "x"}, None), ("digest", {}, None)],
        ),
        (b'Basic realm="x", ?, Digest realm="y"', [("basic", {"realm": "x"}, None)]),
        (b'realm="x"', []),
        (b'"', []),
        (b"", []),
        (b"\\", []),
        (b'Basic realm="x\\"', [("basic", {}, None)]),
    ],
)
def test_challenges_are_taken_apart(
    field: bytes, expected: list[tuple[str, dict[str, str], str | None]]
) -> None:
    assert [tuple(challenge) for challenge in parse_challenges([field])] == expected


def test_challenges_may_come_in_several_fields_and_bad_ones_spoil_only_their_own() -> None:
    assert parse_challenges([b'Digest realm="unclosed', b"Basic realm=x", b"Negotiate ?"]) == [
        Challenge("digest", {}),
        Challenge("basic", {"realm": "x"}),
        Challenge("negotiate", {}),
    ]


@pytest.mark.parametrize(
    "piece", [b'"', b"a", b"a=", b'a="', b"a ", b", ", b"\\", b'"\\', b"=", b"a=b,", b" \t"]
)
def test_a_long_field_takes_no_long_time(piece: bytes) -> None:
    started = time.monotonic()
    parse_challenges([b"Digest " + piece * (64_000 // len(piece))])
    parse_parameters(piece * (64_000 // len(piece)))
    assert time.monotonic() - started < 2  # a quadratic one takes a minute


@given(st.lists(st.binary()))
def test_anything_can_be_parsed(fields: list[bytes]) -> None:
    for challenge in parse_challenges(fields):
        assert challenge.scheme
    for field in fields:
        parse_parameters(field)


@given(st.dictionaries(st.sampled_from("abcdef"), st.binary(), min_size=1), st.booleans())
def test_what_is_quoted_comes_out_as_it_was(values: dict[str, bytes], with_commas: bool) -> None:
    text = {name: value.decode("latin-1") for name, value in values.items()}
    pairs = [f"{name}={digest._quoted(value)}" for name, value in text.items()]
    field = "Scheme " + (", " if with_commas else " ").join(pairs)
    other = "Other t0ken68=="
    assert parse_challenges([f"{field},{other}, {field}".encode("latin-1")]) == [
        Challenge("scheme", text),
        Challenge("other", {}, "t0ken68=="),
        Challenge("scheme", text),
    ]


def offer(algorithm: str | None = None, nonce: str = "n", **parameters: str) -> str:
    fields = {"realm": '"r"', "nonce": f'"{nonce}"', "qop": '"auth"', **parameters}
    if algorithm is not None:
        fields["algorithm"] = algorithm
    return "Digest " + ", ".join([f"{key}={value}" for key, value in fields.items()])


@pytest.mark.parametrize(
    ("offered", "answered_with"),
    [
        (["MD5", "SHA-256"], "SHA-256"),
        (["SHA-256", "MD5"], "SHA-256"),
        (["SHA-256-sess", "SHA-256", "MD5-sess"], "SHA-256-sess"),
        (["SHA-999", "MD5", "whirlpool"], "MD5"),
        ([None, "SHA-256"], "SHA-256"),
    ],
)
@pytest.mark.parametrize("several_fields", [True, False])
def test_the_strongest_challenge_is_answered(
    offered: list[str | None], answered_with: str, several_fields: bool
) -> None:
    values = [offer(algorithm) for algorithm in offered]
    values.insert(1, "Basic realm=x")
    exchange = answered(DigestAuth("u", "p"), *(values if several_fields else [", ".join(values)]))
    assert exchange.parameters["algorithm"] == answered_with


def test_a_hash_that_this_python_lacks_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert digest._is_available("sha256")
    assert not digest._is_available("sha999")
    monkeypatch.delitem(digest._ALGORITHMS, "SHA-256")
    exchange = answered(DigestAuth("u", "p"), offer("SHA-256"), offer("MD5"))
    assert exchange.parameters["algorithm"] == "MD5"
    assert answered(DigestAuth("u", "p"), offer("SHA-256")).sent is None


@pytest.mark.parametrize(
    "challenge",
    [
        "Basic realm=x",
        "Digest",
        "Digest abc==",
        'Digest realm="r", qop="auth"',
        'Digest nonce="n", qop="auth"',
        offer(qop='"auth-int"'),
        offer("SHA-999"),
        offer("MD5-sess-sess"),
        'Digest realm="r", nonce="n", algorithm=MD5-sess',
        'Digest realm="r", nonce="n\x01"',
        'Digest realm="r\x7f", nonce="n"',
        "",
    ],
)
def test_a_challenge_that_cannot_be_answered_leaves_the_401(challenge: str) -> None:
    auth = DigestAuth("u", "p")
    assert answered(auth, challenge).sent is None
    assert Exchange(auth).authorization is None, "nor is it remembered"


def test_a_401_without_a_challenge_stands() -> None:
    assert Exchange(DigestAuth("u", "p")).answer(http3.Response(401)).sent is None


@pytest.mark.parametrize("qop", ['"auth-int, auth"', '"AUTH"', "auth", '" auth ,"'])
def test_auth_is_chosen_among_the_qualities_of_protection(qop: str) -> None:
    assert answered(DigestAuth("u", "p"), offer(qop=qop)).parameters["qop"] == "auth"


@pytest.mark.parametrize("qop", ['""', '","'])
def test_an_empty_qop_is_none(qop: str) -> None:
    assert "qop" not in answered(DigestAuth("u", "p"), offer(qop=qop)).parameters


# From one request to the next.


def counts(exchange: Exchange) -> tuple[str, str]:
    return exchange.parameters["nonce"], exchange.parameters["nc"]


def accepted(auth: http3.Auth, *challenges: str, url: str = URL, **fields: str) -> Exchange:
    """A request that was refused, answered, and accepted."""
    exchange = answered(auth, *challenges, url=url)
    sent = exchange.sent
    assert exchange.answer(ok(**fields)).sent is None
    exchange.sent = sent
    return exchange


def test_the_first_request_says_nothing_of_the_user() -> None:
    request = http3.Request("GET", URL, headers={"Authorization": "Bearer x"})
    assert Exchange(DigestAuth("u", "p"), request).authorization is None
    assert request.headers["authorization"] == "Bearer x", "the user's own request stays"


def test_a_server_that_asks_for_nothing_gets_nothing() -> None:
    auth = DigestAuth("u", "p")
    for _ in range(2):
        exchange = Exchange(auth)
        assert exchange.authorization is None
        assert exchange.answer(ok()).sent is None


def test_a_nonce_that_was_accepted_is_used_from_then_on_and_counted() -> None:
    auth = DigestAuth("u", "p")
    accepted(auth, offer())
    for number in (2, 3, 4):
        exchange = Exchange(auth, url=f"http://example.com/{number}")
        sent = exchange.parameters
        assert counts(exchange) == ("n", f"{number:08x}")
        assert sent["response"] == expected_response(sent, "u", "p", "GET")
        assert exchange.answer(ok()).sent is None


def test_a_nonce_without_qop_is_used_from_then_on() -> None:
    auth = DigestAuth("u", "p")
    first = accepted(auth, 'Digest realm="r", nonce="n"')
    assert Exchange(auth).authorization == first.authorization


def test_a_count_has_eight_hexadecimal_digits() -> None:
    auth = DigestAuth("u", "p")
    accepted(auth, offer())
    assert [counts(Exchange(auth))[1] for _ in range(30)][-1] == "0000001f"


def test_the_session_key_of_sess_is_made_once() -> None:
    auth = DigestAuth("u", "p")
    first = accepted(auth, offer("SHA-256-sess")).parameters
    second = Exchange(auth).parameters
    assert second["cnonce"] == first["cnonce"]
    assert second["response"] == expected_response(second, "u", "p", "GET")


def test_cnonces_are_random() -> None:
    cnonces = {answered(DigestAuth("u", "p"), offer()).parameters["cnonce"] for _ in range(50)}
    assert len(cnonces) == 50
    assert min(map(len, cnonces)) >= 32


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/",
        "http://example.com:8080/",
        "http://www.example.com/",
        "http://example.org/",
    ],
)
def test_another_origin_gets_nothing_until_it_asks_whatever_the_domain_says(url: str) -> None:
    auth = DigestAuth("u", "p")
    accepted(auth, offer(domain=f'"/ {url}"'))
    assert Exchange(auth, url=url).authorization is None
    other = answered(auth, offer(nonce="other"), url=url)
    assert counts(other) == ("other", "00000001")
    assert other.answer(ok()).sent is None
    # Each has its own.
    assert counts(Exchange(auth)) == ("n", "00000002")
    assert counts(Exchange(auth, url=url)) == ("other", "00000002")


def test_the_same_origin_in_other_words_is_the_same() -> None:
    auth = DigestAuth("u", "p")
    accepted(auth, offer())
    assert counts(Exchange(auth, url="HTTP://user:pw@EXAMPLE.com:80/x"))[0] == "n"


def test_a_wrong_password_is_sent_once() -> None:
    auth = DigestAuth("u", "wrong")
    for _ in range(2):
        exchange = answered(auth, offer(nonce="1"))
        assert counts(exchange)[0] == "1"
        assert exchange.answer(unauthorized(offer(nonce="2"))).sent is None


def test_a_wrong_password_is_not_sent_unasked() -> None:
    auth = DigestAuth("u", "p")
    accepted(auth, offer(nonce="1"))
    changed = Exchange(auth).answer(unauthorized(offer(nonce="2")))
    assert counts(changed) == ("2", "00000001"), "the nonce may just be too old"
    assert changed.answer(unauthorized(offer(nonce="3"))).sent is None
    accepted(auth, offer(nonce="4"))
    assert Exchange(auth).answer(unauthorized(offer(nonce="4"))).sent is None
    assert Exchange(auth).authorization is None


@pytest.mark.parametrize("stale", ["true", "TRUE", '"true"'])
def test_a_stale_nonce_is_replaced_once(stale: str) -> None:
    auth = DigestAuth("u", "p")
    exchange = answered(auth, offer(nonce="1"))
    exchange.answer(unauthorized(offer(nonce="2", stale=stale)))
    assert counts(exchange) == ("2", "00000001")
    assert exchange.answer(unauthorized(offer(nonce="3", stale=stale))).sent is None
    exchange = answered(auth, offer(nonce="4"))
    exchange.answer(unauthorized(offer(nonce="5", stale=stale))).answer(ok())
    assert counts(Exchange(auth)) == ("5", "00000002")


def test_a_remembered_nonce_that_is_stale_leaves_two_more_tries() -> None:
    auth = DigestAuth("u", "p")
    accepted(auth, offer(nonce="1"))
    exchange = Exchange(auth)
    for number in (2, 3):
        exchange.answer(unauthorized(offer(nonce=str(number), stale="true")))
        assert counts(exchange) == (str(number), "00000001")
    assert exchange.answer(unauthorized(offer(nonce="4", stale="true"))).sent is None


@pytest.mark.parametrize("stale", ["false", "1", '""'])
def test_what_is_not_stale_is_refused(stale: str) -> None:
    exchange = answered(DigestAuth("u", "p"), offer(nonce="1"))
    assert exchange.answer(unauthorized(offer(nonce="2", stale=stale))).sent is None


def test_a_nonce_that_comes_again_is_counted_on() -> None:
    auth = DigestAuth("u", "p")
    seen = [counts(answered(auth, offer())) for _ in range(3)]
    # Other challenges, the same nonce: servers count by that.
    seen.append(counts(answered(auth, offer(opaque='"another"'))))
    seen.append(counts(answered(auth, offer("SHA-256", realm='"another"'))))
    assert seen == [("n", f"{number:08x}") for number in range(1, 6)]


def test_another_realm_of_the_origin_is_asked_for_and_answered() -> None:
    auth = DigestAuth("u", "p")
    accepted(auth, offer(realm='"one"', nonce="1"))
    other = Exchange(auth).answer(unauthorized(offer(realm='"two"', nonce="2")))
    assert (other.parameters["realm"], counts(other)) == ("two", ("2", "00000001"))


def test_the_next_nonce_of_the_server_is_used() -> None:
    auth = DigestAuth("u", "p")
    first = accepted(
        auth, offer(opaque='"o"'), authentication_info='qop=auth, nextnonce="next\\"1"'
    )
    sent = Exchange(auth)
    assert counts(sent) == ('next"1', "00000001")
    assert sent.parameters["opaque"] == "o"
    assert sent.parameters["response"] == expected_response(sent.parameters, "u", "p", "GET")
    assert counts(first)[0] == "n"
    assert sent.answer(ok(authentication_info='nextnonce="n"')).sent is None
    assert counts(Exchange(auth)) == ("n", "00000002"), "it is counted on"


def test_the_next_nonce_may_be_the_same_or_none_at_all() -> None:
    auth = DigestAuth("u", "p")
    accepted(auth, offer(), authentication_info='nextnonce="n"')
    for number, info in enumerate(['nextnonce="n"', 'rspauth="x"', "", 'nextnonce=""', "?"], 2):
        exchange = Exchange(auth)
        assert counts(exchange) == ("n", f"{number:08x}")
        exchange.answer(ok(authentication_info=info))
    bad = ok()
    bad.headers.raw = [(b"authentication-info", b'nextnonce="\x7f"')]
    assert Exchange(auth).answer(bad).sent is None
    assert counts(Exchange(auth))[0] == "n"


def test_the_session_key_of_sess_outlives_its_nonce() -> None:
    auth = DigestAuth("u", "p")
    first = accepted(auth, offer("MD5-sess"), authentication_info="nextnonce=m").parameters
    sent = Exchange(auth).parameters
    assert (sent["nonce"], sent["nc"]) == ("m", "00000001")
    session = ("n", first["cnonce"])
    assert sent["response"] == expected_response(sent, "u", "p", "GET", session)


def test_a_late_response_does_not_bring_an_old_nonce_back() -> None:
    auth = DigestAuth("u", "p")
    accepted(auth, offer(nonce="1"))
    late = Exchange(auth)
    Exchange(auth).answer(unauthorized(offer(nonce="2", stale="true"))).answer(ok())
    late.answer(ok(authentication_info="nextnonce=old"))
    assert counts(Exchange(auth))[0] == "2"


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digest, "_MOST_KEPT", 10)
    auth = DigestAuth("u", "p")
    for number in range(50):
        accepted(auth, offer(nonce=str(number)), url=f"http://{number}.example.com/")
        accepted(auth, offer(nonce=f"m{number}"), url=URL)
    memory = auth._memory()
    sizes = len(memory.current), len(memory._sessions), len(memory._counters)
    assert sizes == (10, 10, 10)
    assert counts(Exchange(auth, url="http://49.example.com/")) == ("49", "00000002")
    assert Exchange(auth, url="http://1.example.com/").authorization is None


# Bodies.


def test_a_body_that_can_be_sent_again_is() -> None:
    for data in (b"body", [b"bo", b"dy"], {"a": "b"}):
        request = http3.Request("POST", URL, data=data)
        exchange = answered(DigestAuth("u", "p"), offer(), request=request)
        assert exchange.sent is not None
        assert exchange.sent.read() == request.read() != b""


def test_a_body_that_cannot_leaves_the_401_and_the_next_request_is_authenticated() -> None:
    auth = DigestAuth("u", "p")
    post = http3.Request("POST", URL, data=iter([b"body"]))
    assert answered(auth, offer(), request=post).sent is None
    assert counts(Exchange(auth)) == ("n", "00000001")


def test_a_body_that_nobody_took_yet_is_sent() -> None:
    post = http3.Request("POST", URL, data=iter([b"body"]))
    steps = DigestAuth("u", "p").steps(post)
    next(steps)
    sent = steps.send(unauthorized(offer()))
    assert isinstance(sent, http3.Request)
    assert sent.read() == b"body"


# The object.


@pytest.mark.parametrize("pair", [(None, "x"), ("x", None), (1, "x"), ("x", [])])
def test_a_user_name_or_password_that_is_no_text_is_refused_at_once(pair: typing.Any) -> None:
    with pytest.raises(TypeError, match="user name or password"):
        DigestAuth(*pair)


@pytest.mark.parametrize("name", ["a\r\nb", "\0", b"\x7f", "a\x1bb"])
def test_a_user_name_with_a_control_character_is_refused_at_once(name: str | bytes) -> None:
    with pytest.raises(ValueError, match="control character"):
        DigestAuth(name, "secret")


@pytest.mark.parametrize("scheme", [DigestAuth, http3.BasicAuth])
@pytest.mark.parametrize("pair", [("secret\ud800", "x"), ("x", "secret\udfff")])
def test_what_no_encoding_has_is_refused_and_not_shown(
    scheme: typing.Callable[[str, str], http3.Auth], pair: tuple[str, str]
) -> None:
    with pytest.raises(ValueError, match="lone surrogate") as caught:
        scheme(*pair)
    assert "secret" not in repr(caught.value)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


def test_it_pickles_without_what_it_learnt() -> None:
    auth = DigestAuth("u", b"p")
    accepted(auth, offer())
    copy = pickle.loads(pickle.dumps(auth))
    assert Exchange(copy).authorization is None
    sent = answered(copy, offer()).parameters
    assert (sent["nc"], sent["response"]) == (
        "00000001",
        expected_response(sent, "u", "p", "GET"),
    )


def test_it_shows_nothing_of_itself() -> None:
    auth = DigestAuth("name", "secret")
    accepted(auth, offer())
    assert repr(auth) == str(auth) == "<DigestAuth>"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_counts_nothing_that_its_parent_counts() -> None:
    auth = DigestAuth("u", "p")
    accepted(auth, offer())
    pid = os.fork()
    if not pid:
        try:
            os._exit(0 if Exchange(auth).authorization is None else 1)
        finally:
            os._exit(2)
    _, status = os.waitpid(pid, 0)
    assert status == 0
    assert counts(Exchange(auth)) == ("n", "00000002")


def test_threads_that_meet_the_same_nonce_use_no_count_twice(switch_interval: None) -> None:
    auth = DigestAuth("u", "p")
    seen: list[tuple[str, str]] = []
    barrier = threading.Barrier(8)

    def run() -> None:
        for number in range(30):
            barrier.wait(PATIENCE)
            url = f"http://{number}.example.com/"
            seen.append((url, counts(answered(auth, offer(), url=url))[1]))

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(set(seen)) == len(seen) == 240


# A server that verifies.


class DigestServer(RawServer):
    """
    Lets in who has the password, by RFC 7616; whatever else is wrong is in `wrong`.

    * `uses`: of a nonce, before it is stale.
    * `next_nonce`: each response has another for the next request.
    * `one_nonce`: there is never another.
    """

    def __init__(
        self,
        algorithm: str = "SHA-256",
        *,
        uses: int | None = None,
        next_nonce: bool = False,
        one_nonce: bool = False,
    ) -> None:
        super().__init__(self._handle)
        self._algorithm = algorithm
        self._uses = uses
        self._next_nonce = next_nonce
        self._one_nonce = one_nonce
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._counts: dict[str, set[str]] = {}
        # Of each nonce the one that was in the challenge; of each of those the first cnonce.
        self._sessions: dict[str, str] = {}
        self._cnonces: dict[str, str] = {}
        #: Where redirects lead.
        self.elsewhere = ""
        self.wrong: list[str] = []
        self.statuses: collections.Counter[int] = collections.Counter()

    def _new_nonce(self, session: str | None = None) -> str:
        nonce = "only" if self._one_nonce else f"nonce{next(self._numbers)}"
        self._counts.setdefault(nonce, set())
        self._sessions[nonce] = session or nonce
        return nonce

    def _handle(self, peer: Peer) -> None:
        while (request := peer.read_request()) is not None:
            with self._lock:
                status, headers = self._judge(request)
                self.statuses[status] += 1
            if status == 200 and request.target.startswith("/redirect"):
                target = request.target.partition("/to/")[2]
                status, headers["Location"] = 302, f"{self.elsewhere}/{target}"
            peer.send(response_bytes(status, request.body, headers))

    def _judge(self, request: ReceivedRequest) -> tuple[int, dict[str, str]]:
        value = request.headers.get("authorization")
        if value is None:
            return self._challenge(is_stale=False)
        (scheme, sent, _), *others = parse_challenges([value.encode("latin-1")])
        if others or (scheme, sent["uri"]) != ("digest", request.target):
            self.wrong.append(f"{request.method} {request.target}: {value}")
            return 400, {}
        began = self._sessions[sent["nonce"]]
        session = began, self._cnonces.setdefault(began, sent["cnonce"])
        name, password = (text.encode().decode("latin-1") for text in USER)
        user = (sent["username"], password if sent["username"] == name else "nobody's")
        if sent["response"] != expected_response(sent, *user, request.method, session):
            return self._challenge(is_stale=False)
        counted = self._counts[sent["nonce"]]
        if sent["nc"] in counted:
            self.wrong.append(f"used twice: {sent['nonce']} {sent['nc']}")
            return 400, {}
        if self._uses is not None and len(counted) >= self._uses:
            return self._challenge(is_stale=True)
        counted.add(sent["nc"])
        if self._next_nonce:
            return 200, {"Authentication-Info": f'nextnonce="{self._new_nonce(began)}"'}
        return 200, {}

    def _challenge(self, *, is_stale: bool) -> tuple[int, dict[str, str]]:
        stale = ", stale=true" if is_stale else ""
        return 401, {
            "WWW-Authenticate": f'Basic realm="r", Digest realm="r, \\"quoted\\"", qop="auth", '
            f'algorithm={self._algorithm}, nonce="{self._new_nonce()}", opaque="o"{stale}'
        }


USER = ("us\u00e9r", "p\u00e4ss")


@pytest.mark.parametrize("algorithm", ["MD5", "MD5-sess", "SHA-256", "SHA-256-sess"])
@pytest.mark.parametrize(
    "options",
    [{}, {"uses": 40}, {"next_nonce": True}, {"one_nonce": True}],
    ids=lambda options: "".join(options) or "plain",
)
def test_many_threads_are_let_in_with_one_auth(
    algorithm: str, options: dict[str, typing.Any]
) -> None:
    number = 160
    with DigestServer(algorithm, **options) as server:
        auth = DigestAuth(*USER)
        with http3.Client(auth=auth, max_workers=32) as client, client.parallel() as parallel:
            for index in range(number):
                parallel.post(f"{server.url}/{index}?a=b", data=str(index))
            responses = [parallel.next_response() for _ in range(number)]
        assert server.wrong == []
        if "uses" not in options:
            assert {response.status_code for response in responses} == {200}
            assert server.statuses[401] <= 32, "only those that were first"
        done = [response for response in responses if response.status_code == 200]
        assert {response.text for response in done} <= {str(index) for index in range(number)}
        assert server.statuses[200] == len(done) > 32
        assert all(response.history == [] for response in done)


def test_a_nonce_that_is_used_up_is_replaced_and_every_request_is_let_in() -> None:
    with DigestServer(uses=3) as server:
        with http3.Client(auth=DigestAuth(*USER)) as client:
            assert [client.get(server.url).status_code for _ in range(10)] == [200] * 10
        assert server.wrong == []
        assert server.statuses == {200: 10, 401: 4}


def test_the_wrong_password_is_one_more_request_not_a_loop() -> None:
    with DigestServer() as server:
        with http3.Client(auth=DigestAuth(USER[0], "wrong")) as client:
            for number in (1, 2, 3):
                assert client.get(server.url).status_code == 401
                assert server.statuses == {401: 2 * number}


def test_a_body_that_cannot_be_sent_again_is_sent_once_and_never_empty() -> None:
    with DigestServer() as server:
        with http3.Client(auth=DigestAuth(*USER)) as client:
            assert client.post(server.url, data=iter([b"first"])).status_code == 401
            response = client.post(server.url, data=iter([b"second"]))
            assert (response.status_code, response.content) == (200, b"second")
        assert [request.body for request in server.requests] == [b"first", b"second"]


def test_a_stream_is_authenticated_too() -> None:
    with DigestServer() as server:
        with http3.Client(auth=DigestAuth(*USER)) as client:
            response = client.post(server.url, data=b"body", stream=True)
            assert (response.status_code, response.read()) == (200, b"body")
            assert len(server.connections) == 1


def test_each_redirect_within_the_origin_has_credentials_of_its_own() -> None:
    with DigestServer() as server:
        with http3.Client(auth=DigestAuth(*USER)) as client:
            for _ in range(2):
                response = client.get(f"{server.url}/redirect/to/redirect/to/end?a=b")
                assert response.status_code == 200
                assert [earlier.status_code for earlier in response.history] == [302, 302]
        assert server.wrong == []
        assert server.statuses == {401: 1, 200: 6}


def test_a_redirect_to_another_origin_takes_nothing_along() -> None:
    with DigestServer() as server, DigestServer() as foreign:
        server.elsewhere = foreign.url
        with http3.Client(auth=DigestAuth(*USER)) as client:
            client.get(foreign.url)
            response = client.get(f"{server.url}/redirect/to/end")
            assert response.status_code == 401
        assert (server.wrong, foreign.wrong) == ([], [])
        assert "authorization" not in foreign.requests[-1].headers


def test_a_retry_is_signed_anew() -> None:
    counts: list[str] = []

    class Busy(http3.Dispatcher):
        def send(self, request: http3.Request, context: http3.Context) -> http3.Response:
            value = request.headers.get("authorization")
            if value is None:
                headers = {"www-authenticate": 'Digest realm="r", nonce="n", qop="auth"'}
                return http3.Response(401, headers=headers, request=request)
            (challenge,) = parse_challenges([value.encode()])
            counts.append(challenge[1]["nc"])
            return http3.Response(503 if len(counts) == 1 else 200, request=request)

    retries = http3.Retry(1, backoff=0)
    with http3.Client(dispatch=Busy(), auth=DigestAuth("u", "p"), retries=retries) as client:
        assert client.get("http://x.test/").status_code == 200

    assert counts == ["00000001", "00000002"]
