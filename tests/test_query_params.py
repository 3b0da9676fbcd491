from __future__ import annotations

import pickle
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from http3_parallel.models import QueryParams


@pytest.mark.parametrize(
    "params",
    [
        QueryParams("a=1&a=2&b=3"),
        QueryParams([("a", 1), ("a", 2), ("b", "3")]),
        QueryParams([("a", [1, 2]), ("b", 3)]),
        QueryParams({"a": ["1", 2], "b": 3}),
        QueryParams({"a": (1, 2), "b": b"3"}),
        QueryParams(a=[1, 2], b=3),
        QueryParams(QueryParams("a=1&a=2&b=3")),
        QueryParams(pair for pair in [("b", "3"), ("a", "1"), ("a", "2")]),
    ],
)
def test_all_forms_make_the_same_parameters(params: QueryParams) -> None:
    assert params == QueryParams("a=1&a=2&b=3")
    assert params["a"] == "2"
    assert params.get("a") == "2"
    assert params.get("c") is None
    assert params.get("c", "x") == "x"
    assert params.getlist("a") == ["1", "2"]
    assert params.getlist("c") == []
    assert "a" in params
    assert "A" not in params
    assert typing.cast(typing.Any, 1) not in params
    assert len(params) == 2
    assert sorted(params) == sorted(params.keys()) == ["a", "b"]
    assert sorted(params.values()) == ["2", "3"]
    assert sorted(params.items()) == [("a", "2"), ("b", "3")]
    assert sorted(params.multi_items()) == [("a", "1"), ("a", "2"), ("b", "3")]
    with pytest.raises(KeyError):
        params["c"]


def test_order_makes_no_difference_for_equality_but_for_the_text() -> None:
    assert QueryParams("a=1&b=2") == QueryParams("b=2&a=1")
    assert str(QueryParams("b=2&a=1")) == "b=2&a=1"
    assert QueryParams("a=1&a=1") != QueryParams("a=1")
    assert QueryParams("a=1") != {"a": "1"}


def test_text_is_the_encoding_of_html_forms() -> None:
    assert str(QueryParams({"a b": "c&d=e/é+"})) == "a+b=c%26d%3De%2F%C3%A9%2B"
    assert repr(QueryParams({"a": 1})) == "QueryParams('a=1')"
    assert str(QueryParams()) == str(QueryParams("")) == str(QueryParams({"a": []})) == ""


def test_values_go_through_str() -> None:
    assert str(QueryParams({"a": None, "b": True, "c": 1.5})) == "a=None&b=True&c=1.5"


def test_blank_values_stay() -> None:
    assert QueryParams("a=&b&c=1").multi_items() == [("a", ""), ("b", ""), ("c", "1")]


def test_bytes_that_are_not_utf8_come_out_as_they_came_in() -> None:
    assert str(QueryParams("a=%FF%C3%A9")) == "a=%FF%C3%A9"


@pytest.mark.parametrize("value", [1, b"a=1", ["ab"], [1], ["a=1"]])
def test_other_things_are_a_type_error(value: object) -> None:
    with pytest.raises(TypeError):
        QueryParams(value)  # type: ignore[arg-type]  # that is the test


def test_a_pair_of_three_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="unpack"):
        QueryParams([("a", "b", "c")])  # type: ignore[list-item]  # that is the test


def test_one_value_or_keywords() -> None:
    with pytest.raises(TypeError, match="either"):
        QueryParams("a=1", b=2)
    assert QueryParams(value="x")["value"] == "x"


def test_they_are_read_only_and_pickle() -> None:
    params = QueryParams("a=1&a=2")
    with pytest.raises(TypeError):
        params["a"] = "3"  # type: ignore[index]  # that is the test
    assert pickle.loads(pickle.dumps(params)) == params


@given(st.lists(st.tuples(st.text(), st.text())))
def test_text_parses_back_to_the_same_pairs(pairs: list[tuple[str, str]]) -> None:
    try:
        text = str(QueryParams(pairs))
    except UnicodeEncodeError:
        return
    assert QueryParams(text).multi_items() == pairs
