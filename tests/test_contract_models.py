"""
What http3 promised of its models, and where we differ: as `docs/from-http3.md` tells it. What
other tests show already is not repeated here.
"""

from __future__ import annotations

import types
import typing

import pytest

import http3_parallel as http3

URL = "http://example.com/"


# Requests.


def test_the_users_headers_the_cookies_and_the_content_type_come_last_in_this_order() -> None:
    request = http3.Request(
        "POST", URL, headers={"X-Mine": "1"}, cookies={"a": "1"}, data={"b": "2"}
    )
    assert request.headers.keys()[-3:] == ["x-mine", "cookie", "content-type"]
    assert request.headers["cookie"] == "a=1"


def test_every_mapping_is_a_form_and_so_are_pairs() -> None:
    mapping = types.MappingProxyType({"a": ["1", "2"]})
    for data in (mapping, http3.QueryParams("a=1&a=2"), [("a", "1"), ("a", "2")]):
        assert http3.Request("POST", URL, data=data).content == b"a=1&a=2"


@pytest.mark.parametrize(
    ("params", "url"),
    [
        ("a=&b=1", "http://example.com/?a=&b=1"),
        ({"a": [1, None, True]}, "http://example.com/?a=1&a=None&a=True"),
        ({"a b": "c d"}, "http://example.com/?a+b=c+d"),
        ({}, "http://example.com/?old=1"),
        (None, "http://example.com/?old=1"),
    ],
)
def test_params_as_http3_documents_them(params: typing.Any, url: str) -> None:
    assert http3.Request("GET", URL + "?old=1", params=params).url == url


# Responses.


@pytest.mark.parametrize(
    ("content_type", "content", "declared", "apparent", "encoding"),
    [
        ("text/plain; charset=Latin-1", b"\xe9", "Latin-1", "iso-8859-1", "Latin-1"),
        ("text/plain", "é".encode(), None, "utf-8", "utf-8"),
        ("text/plain", b"\xe9", None, "iso-8859-1", "iso-8859-1"),
        ("text/plain", "おはよう".encode("EUC-JP"), None, "iso-8859-1", "iso-8859-1"),
        ("application/x", "おはよう".encode("EUC-JP"), None, "utf-8", "utf-8"),
    ],
)
def test_an_encoding_is_declared_or_utf_8_and_otherwise_not_guessed(
    content_type: str, content: bytes, declared: str | None, apparent: str, encoding: str
) -> None:
    response = http3.Response(200, headers={"Content-Type": content_type}, content=content)
    assert response.charset_encoding == declared
    assert response.apparent_encoding == apparent
    assert response.encoding == encoding


def test_an_encoding_that_is_set_goes_before_the_declared_one() -> None:
    headers = {"Content-Type": "text/plain; charset=utf-8"}
    response = http3.Response(200, headers=headers, content=b"\xe9")
    assert response.text == "\ufffd"
    response.encoding = "ISO-8859-1"
    assert (response.encoding, response.text) == ("ISO-8859-1", "é")


@pytest.mark.parametrize("name", ["decoder", "on_close", "ok", "reason", "iter_content"])
def test_a_response_does_not_have(name: str) -> None:
    assert not hasattr(http3.Response(200), name)


def test_a_response_is_true_whatever_its_status() -> None:
    assert bool(http3.Response(404))


def test_the_content_of_a_response_cannot_be_asynchronous() -> None:
    async def pieces() -> typing.AsyncIterator[bytes]:
        yield b"a"

    with pytest.raises(TypeError, match="async_generator"):
        http3.Response(200, content=pieces())  # type: ignore[arg-type]  # that is the test


# URLs.


def test_a_url_equals_its_text_and_no_other_spelling() -> None:
    url = http3.URL("http://Example.com")
    assert url == "http://example.com"
    assert url != "http://Example.com"
    assert url != http3.URL(URL)
    assert url.origin == http3.URL(URL).origin


def test_an_origin_is_another_with_tls_even_on_the_same_port() -> None:
    assert http3.Origin("http://example.com:443") != http3.Origin("https://example.com")
    assert http3.Origin("https://example.com") == http3.Origin("HTTPS://EXAMPLE.COM:443")


def test_an_empty_query_keeps_its_question_mark() -> None:
    url = http3.URL("http://example.com/?")
    assert (str(url), url.full_path, url.query) == ("http://example.com/?", "/?", "")


# Headers.


def test_empty_elements_of_a_list_are_left_out() -> None:
    assert http3.Headers({"a": "1,,2, "}).getlist("a", split_commas=True) == ["1", "2"]


# Status codes.


def test_names_that_are_keywords_end_with_an_underscore() -> None:
    assert http3.codes.continue_ == int(http3.codes.CONTINUE) == 100


@pytest.mark.parametrize(
    ("name", "phrase"),
    [
        ("REQUEST_ENTITY_TOO_LARGE", "Content Too Large"),
        ("REQUESTED_RANGE_NOT_SATISFIABLE", "Range Not Satisfiable"),
        ("UNPROCESSABLE_ENTITY", "Unprocessable Content"),
    ],
)
def test_names_of_older_rfcs_stay_their_phrases_do_not(name: str, phrase: str) -> None:
    assert http3.StatusCode[name].phrase == phrase
    assert http3.Response(http3.StatusCode[name]).reason_phrase == phrase
