from __future__ import annotations

import http
import json
import pickle

import pytest

from http3_parallel.models import Response, StatusCode, codes


def test_a_code_is_an_int_with_a_phrase() -> None:
    assert int(codes.NOT_FOUND) == 404
    assert 404 in (codes.NOT_FOUND, codes.OK)
    assert codes.NOT_FOUND is codes(404)
    assert codes.NOT_FOUND.phrase == "Not Found"
    assert codes is StatusCode
    assert {404: "x"}[codes.NOT_FOUND] == "x"
    assert Response(404).status_code == codes.NOT_FOUND
    assert Response(codes.NOT_FOUND).status_code == 404
    assert json.dumps(codes.NOT_FOUND) == "404"
    assert pickle.loads(pickle.dumps(codes.NOT_FOUND)) is codes.NOT_FOUND


def test_a_code_shows_as_its_digits() -> None:
    assert str(codes.NOT_FOUND) == "404"
    assert f"{codes.NOT_FOUND} {codes.NOT_FOUND:d} {codes.NOT_FOUND:>5}" == "404 404   404"
    assert "%s %d" % (codes.NOT_FOUND, codes.NOT_FOUND) == "404 404"  # noqa: UP031  # the test
    assert repr(codes.NOT_FOUND) == "<StatusCode.NOT_FOUND: 404>"
    assert repr(Response(codes.NOT_FOUND)) == "<Response [404 Not Found]>"


@pytest.mark.parametrize("name", list(StatusCode.__members__))
def test_every_name_is_there_in_lower_case_as_a_plain_integer(name: str) -> None:
    # A keyword of the language is no attribute that could be written.
    value = getattr(codes, {"CONTINUE": "continue_"}.get(name, name.lower()))
    assert type(value) is int
    assert value == StatusCode[name]


def test_there_are_no_other_names_in_lower_case() -> None:
    (integers,) = [base for base in StatusCode.__mro__ if base.__name__ == "_Integers"]
    names = {name.rstrip("_").upper() for name in vars(integers) if not name.startswith("__")}
    assert names == set(StatusCode.__members__)


@pytest.mark.parametrize("status", list(http.HTTPStatus))
def test_the_codes_of_the_standard_library_are_all_there(status: http.HTTPStatus) -> None:
    # Of whatever Python this is: some have the phrases of older RFCs.
    assert codes(status.value).name in codes.__members__
    assert hasattr(codes, status.name)


@pytest.mark.parametrize(
    ("value", "name", "phrase"),
    [
        (103, "EARLY_HINTS", "Early Hints"),
        (200, "OK", "OK"),
        (203, "NON_AUTHORITATIVE_INFORMATION", "Non-Authoritative Information"),
        (207, "MULTI_STATUS", "Multi-Status"),
        (226, "IM_USED", "IM Used"),
        (404, "NOT_FOUND", "Not Found"),
        (413, "CONTENT_TOO_LARGE", "Content Too Large"),
        (414, "URI_TOO_LONG", "URI Too Long"),
        (416, "RANGE_NOT_SATISFIABLE", "Range Not Satisfiable"),
        (418, "IM_A_TEAPOT", "I'm a Teapot"),
        (421, "MISDIRECTED_REQUEST", "Misdirected Request"),
        (422, "UNPROCESSABLE_CONTENT", "Unprocessable Content"),
        (425, "TOO_EARLY", "Too Early"),
        (451, "UNAVAILABLE_FOR_LEGAL_REASONS", "Unavailable For Legal Reasons"),
        (505, "HTTP_VERSION_NOT_SUPPORTED", "HTTP Version Not Supported"),
    ],
)
def test_names_and_phrases_are_those_of_the_registry(value: int, name: str, phrase: str) -> None:
    assert codes(value).name == name
    assert codes.get_reason_phrase(value) == phrase
    assert Response(value).reason_phrase == phrase


def test_names_of_older_rfcs_are_aliases() -> None:
    aliases = {
        name: int(code) for name, code in StatusCode.__members__.items() if name != code.name
    }
    assert aliases == {
        "REQUEST_ENTITY_TOO_LARGE": 413,
        "REQUEST_URI_TOO_LONG": 414,
        "REQUESTED_RANGE_NOT_SATISFIABLE": 416,
        "UNPROCESSABLE_ENTITY": 422,
    }


@pytest.mark.parametrize("value", [0, 99, 299, 306, 420, 499, 600, 999, -1])
def test_what_is_not_registered_has_no_phrase(value: int) -> None:
    assert codes.get_reason_phrase(value) == ""
    with pytest.raises(ValueError, match="not a valid StatusCode"):
        codes(value)


@pytest.mark.parametrize(
    ("value", "classes"),
    [
        (99, []),
        (100, ["informational"]),
        (199, ["informational"]),
        (200, ["success"]),
        (299, ["success"]),
        (300, []),
        (301, ["redirect"]),
        (302, ["redirect"]),
        (303, ["redirect"]),
        (304, []),
        (305, []),
        (306, []),
        (307, ["redirect"]),
        (308, ["redirect"]),
        (399, []),
        (400, ["client_error", "error"]),
        (499, ["client_error", "error"]),
        (500, ["server_error", "error"]),
        (599, ["server_error", "error"]),
        (600, []),
    ],
)
def test_the_classes_of_codes(value: int, classes: list[str]) -> None:
    every = ["informational", "success", "redirect", "client_error", "server_error", "error"]
    assert [name for name in every if getattr(codes, f"is_{name}")(value)] == classes
