from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from http3_parallel.models import Headers, Request, Response
from http3_parallel.models.links import find_links


def links_of(*values: str) -> dict[str, dict[str, str]]:
    return Response(200, headers=[("Link", value) for value in values]).links


def test_pages_are_found_by_their_relation() -> None:
    response = Response(
        200,
        headers={
            "Link": '<https://api.example.org/items?page=2>; rel="next", '
            "<https://api.example.org/items?page=9>; rel=last"
        },
        request=Request("GET", "https://api.example.org/items"),
    )
    assert response.links == {
        "next": {"url": "https://api.example.org/items?page=2", "rel": "next"},
        "last": {"url": "https://api.example.org/items?page=9", "rel": "last"},
    }
    assert pickle.loads(pickle.dumps(response)).links == response.links


def test_a_response_without_links_has_none() -> None:
    assert Response(200).links == {}
    assert Response(200, headers={"link": ""}).links == {}


def test_a_relative_url_is_as_it_was_written() -> None:
    response = Response(
        200,
        headers={"link": "</items?page=2>; rel=next"},
        request=Request("GET", "http://example.org/items"),
    )
    assert response.links["next"]["url"] == "/items?page=2"
    assert (
        str(response.url.join(response.links["next"]["url"])) == "http://example.org/items?page=2"
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        # RFC 8288, section 3.5.
        (
            '<http://example.com/TheBook/chapter2>; rel="previous"; title="previous chapter"',
            {
                "previous": {
                    "url": "http://example.com/TheBook/chapter2",
                    "rel": "previous",
                    "title": "previous chapter",
                }
            },
        ),
        (
            '</>; rel="http://example.net/foo"',
            {"http://example.net/foo": {"url": "/", "rel": "http://example.net/foo"}},
        ),
        (
            '</terms>; rel="copyright"; anchor="#foo"',
            {"copyright": {"url": "/terms", "rel": "copyright", "anchor": "#foo"}},
        ),
        (
            '<http://example.org/>; rel="start http://example.net/relation/other"',
            {
                relation: {
                    "url": "http://example.org/",
                    "rel": "start http://example.net/relation/other",
                }
                for relation in ("start", "http://example.net/relation/other")
            },
        ),
        (
            "</TheBook/chapter2>; rel=\"previous\"; title*=UTF-8'de'letztes%20Kapitel",
            {
                "previous": {
                    "url": "/TheBook/chapter2",
                    "rel": "previous",
                    "title*": "UTF-8'de'letztes%20Kapitel",
                }
            },
        ),
        # No relation.
        ("<a>", {"a": {"url": "a"}}),
        ("<a>; title=x", {"a": {"url": "a", "title": "x"}}),
        ('<a>; rel=""', {"a": {"url": "a", "rel": ""}}),
        ("<a>; rel", {"a": {"url": "a", "rel": ""}}),
        ("<>; rel=next", {"next": {"url": "", "rel": "next"}}),
        # Separators within.
        ("<a,b;c>; rel=next", {"next": {"url": "a,b;c", "rel": "next"}}),
        (
            '<a>; title="b, <c>; rel=x"; rel=next',
            {"next": {"url": "a", "rel": "next", "title": "b, <c>; rel=x"}},
        ),
        (
            r'<a>; title="a \"b\" \\"; rel=next',
            {"next": {"url": "a", "rel": "next", "title": 'a "b" \\'}},
        ),
        # Space and none, empty elements, any case.
        (
            "<a>;rel=next,<b>;rel=prev",
            {"next": {"url": "a", "rel": "next"}, "prev": {"url": "b", "rel": "prev"}},
        ),
        ("\t< a >\t;\trel\t=\tnext\t", {"next": {"url": "a", "rel": "next"}}),
        (", ,<a>;;; rel=next;,,", {"next": {"url": "a", "rel": "next"}}),
        ("<a>; REL=Next", {"next": {"url": "a", "rel": "Next"}}),
        # A parameter without a value, the same one twice, one that is called url.
        (
            "<a>; crossorigin; rel=preload",
            {"preload": {"url": "a", "crossorigin": "", "rel": "preload"}},
        ),
        ("<a>; rel=next; rel=prev", {"next": {"url": "a", "rel": "next"}}),
        ("<a>; url=b; rel=next", {"next": {"url": "a", "rel": "next"}}),
        # The same relation twice.
        ("<a>; rel=next, <b>; rel=next", {"next": {"url": "b", "rel": "next"}}),
        # Junk.
        ("nonsense", {}),
        ("nonsense; rel=next, <b>; rel=prev", {"prev": {"url": "b", "rel": "prev"}}),
        ('"<a>, <b>", <c>; rel=next', {"next": {"url": "c", "rel": "next"}}),
        ("<a; rel=next", {}),
        ("<a> rel=next", {"a": {"url": "a"}}),
        ('<a> "; rel=x" junk; rel=next', {"next": {"url": "a", "rel": "next"}}),
        ('<a>; =x; "y"; rel=next', {"next": {"url": "a", "rel": "next"}}),
        ('<a>; rel="next', {"next": {"url": "a", "rel": "next"}}),
        ('<a>; rel="next\\', {"next": {"url": "a", "rel": "next"}}),
        ("<a>; rel=", {"a": {"url": "a", "rel": ""}}),
        ("<a>; rel=next<b>; rel=prev", {"next<b>": {"url": "a", "rel": "next<b>"}}),
        ("<a><b>; rel=next", {"next": {"url": "a", "rel": "next"}}),
        (">", {}),
        ("<", {}),
        ("\\", {}),
        ('"', {}),
    ],
)
def test_links_are_read_as_they_are_written(
    value: str, expected: dict[str, dict[str, str]]
) -> None:
    assert find_links([value]) == expected


def test_links_of_several_fields_are_put_together() -> None:
    links = links_of("<a>; rel=next", '<b>; rel="broken', "<c>; rel=prev")
    assert {relation: link["url"] for relation, link in links.items()} == {
        "next": "a",
        "broken": "b",
        "prev": "c",
    }


def test_bytes_beyond_ascii_are_read() -> None:
    for value in ("<é>; rel=next".encode(), "<é>; rel=next".encode("latin-1")):
        headers = Headers._from_raw([(b"link", value)])
        assert Response(200, headers=headers).links["next"]["url"] == "é"


@given(st.lists(st.text(alphabet='<>;,="\\ \tarel*é\r\n\0', max_size=40) | st.text(), max_size=3))
def test_whatever_comes_is_read(values: list[str]) -> None:
    for relation, link in find_links(values).items():
        assert link["url"] == relation or relation in link["rel"].lower().split()


@pytest.mark.parametrize(
    "value",
    [
        "<" * 2_000_000,
        "<>" * 1_000_000,
        "<a>," * 300_000,
        "<a>" + ";" * 500_000,
        "<a>; " + 'a="' * 600_000,
        "<a>; " + '\\"' * 1_000_000,
        "<a>; a=" + '"\\' * 1_000_000,
        '"' * 2_000_000,
        '"\\' * 1_000_000,
        "," * 2_000_000,
        " " * 2_000_000,
        "<a>" + " " * 2_000_000 + "x",
        "<a>; rel=" + '"' + "a b " * 200_000 + '"' + ";c" * 200_000,
        "x" * 2_000_000 + "<",
        "x<" * 1_000_000,
    ],
)
def test_junk_takes_linear_time(value: str) -> None:
    # Each would take minutes or gigabytes if it were looked at again and again.
    find_links([value])
