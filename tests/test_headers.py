from __future__ import annotations

import pickle
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from http3_parallel.models import Headers

REPEATED = [("A", "1"), ("b", "2"), ("a", "3")]


def test_lookup_ignores_case_and_joins_repeated_fields() -> None:
    headers = Headers(REPEATED)
    assert headers["a"] == headers["A"] == headers[b"A"] == "1, 3"
    assert headers.get("A") == "1, 3"
    assert headers.get("c") is None
    assert headers.get("c", "x") == "x"
    assert "A" in headers
    assert typing.cast(typing.Any, b"B") in headers
    assert "c" not in headers
    assert typing.cast(typing.Any, 1) not in headers
    assert "é" not in headers
    with pytest.raises(KeyError):
        headers["c"]


def test_getlist_has_each_value() -> None:
    headers = Headers([("a", "1, 2 ,,"), ("a", "3"), ("b", "4")])
    assert headers.getlist("A") == ["1, 2 ,,", "3"]
    assert headers.getlist(b"a", split_commas=True) == ["1", "2", "3"]
    assert headers.getlist("c") == []
    assert headers.getlist("c", split_commas=True) == []


def test_views_are_lists_of_every_field_line() -> None:
    headers = Headers(REPEATED)
    assert headers.keys() == ["a", "b", "a"]
    assert headers.values() == ["1", "2", "3"]
    assert headers.items() == [("a", "1"), ("b", "2"), ("a", "3")]
    assert list(headers) == ["a", "b", "a"]
    assert len(headers) == 3
    assert dict(headers) == {"a": "1, 3", "b": "2"}
    assert headers.raw == [(b"a", b"1"), (b"b", b"2"), (b"a", b"3")]


@pytest.mark.parametrize(
    "given_as",
    [
        {"A": "1", "B": "2"},
        {b"a": b"1", "b": "2"},
        [("a", "1"), (b"B", b"2")],
        (("b", "2"), ("a", "1")),
        Headers({"a": "1", "b": "2"}),
        iter([["a", "1"], ["b", "2"]]),
    ],
)
def test_all_forms_make_the_same_headers(given_as: object) -> None:
    assert Headers(given_as) == Headers({"a": "1", "b": "2"})  # type: ignore[arg-type]  # any


def test_equality_ignores_order_and_is_with_headers_only() -> None:
    assert Headers(REPEATED) == Headers(reversed(REPEATED))
    assert Headers({"a": "1"}) != Headers({"a": "2"})
    assert Headers({"a": "1"}) != {"a": "1"}
    with pytest.raises(TypeError, match="unhashable"):
        hash(Headers())


def test_setting_replaces_all_in_the_first_place() -> None:
    headers = Headers(REPEATED)
    headers["A"] = "4"
    assert headers.raw == [(b"a", b"4"), (b"b", b"2")]
    headers[b"C"] = b"5"
    assert headers.raw[-1] == (b"c", b"5")


def test_deleting_is_silent_for_what_is_not_there() -> None:
    headers = Headers(REPEATED)
    raw = headers.raw
    del headers["A"]
    del headers["absent"]
    assert headers.raw == [(b"b", b"2")]
    assert headers.raw is raw


def test_the_methods_of_a_mutable_mapping_work() -> None:
    headers = Headers(REPEATED)
    assert headers.pop("a") == "1, 3"
    assert headers.pop("a", "gone") == "gone"
    assert headers.setdefault("B", "x") == "2"
    headers.update({"c": "3"}, d="4")
    headers.update(Headers([("b", "5"), ("b", "6")]))
    headers.update()
    assert headers.items() == [("c", "3"), ("d", "4"), ("b", "5"), ("b", "6")]
    headers.clear()
    assert headers.raw == []


def test_a_copy_is_independent() -> None:
    headers = Headers({"a": "1"})
    copy = Headers(headers)
    copy["a"] = "2"
    assert headers["a"] == "1"


@pytest.mark.parametrize(
    "value", ["a\r\nb: c", "a\nb", "a\rb", "a\0", "\x1b[2J", "\x7f", "token\n"]
)
@pytest.mark.parametrize("as_bytes", [False, True])
def test_values_with_controls_are_refused(value: str, as_bytes: bool) -> None:
    unsafe = value.encode() if as_bytes else value
    headers = Headers()
    with pytest.raises(ValueError, match="control character"):
        Headers([("x-name", unsafe)])
    with pytest.raises(ValueError, match="'x-name'") as caught:
        headers["x-name"] = unsafe
    with pytest.raises(ValueError, match="control character"):
        headers.update([("x-name", unsafe)])
    assert value not in str(caught.value)
    assert headers.raw == []


def test_tabs_and_bytes_above_ascii_are_no_controls() -> None:
    assert Headers({"a": b"\t\x80\xff"}).raw == [(b"a", b"\t\x80\xff")]


@pytest.mark.parametrize("name", ["", "a b", "a:", "a\n", "é", b"\xff", "\u212a", "a(b)", b"a\0"])
def test_names_that_are_no_tokens_are_refused(name: str | bytes) -> None:
    with pytest.raises(ValueError, match="not a header's name"):
        Headers([(name, "1")])
    with pytest.raises(ValueError, match="not a header's name"):
        Headers()[name] = "1"


@pytest.mark.parametrize("value", [None, 1, 1.5, ["a"], bytearray(b"a")])
def test_values_that_are_no_text_are_a_type_error(value: object) -> None:
    with pytest.raises(TypeError, match=f"header 'x-a': .* not {type(value).__name__}"):
        Headers({"X-A": value})  # type: ignore[arg-type]  # that is the test
    with pytest.raises(TypeError, match="header 'x-a'"):
        Headers()["X-A"] = value  # type: ignore[assignment]  # that is the test


@pytest.mark.parametrize("headers", ["a: b", b"a: b", ["ab"], [("a", "b", "c")], 1, {1: "a"}])
def test_other_things_are_a_type_error(headers: object) -> None:
    with pytest.raises(TypeError):
        Headers(headers)  # type: ignore[arg-type]  # that is the test


def test_what_a_server_sent_is_kept_as_it_is() -> None:
    headers = Headers._from_raw(
        [(b"X-A b", b"1\x00"), (b"Set-Cookie", b"a"), (b"set-cookie", b"b")]
    )
    assert headers.raw == [(b"x-a b", b"1\x00"), (b"set-cookie", b"a"), (b"set-cookie", b"b")]
    assert headers.getlist("Set-Cookie") == ["a", "b"]
    with pytest.raises(ValueError, match="not a header's name"):
        headers._check()


def test_encoding_is_the_first_that_decodes_everything() -> None:
    assert Headers({"a": "1"}).encoding == "ascii"
    assert Headers({"a": b"1", "b": "☃".encode()}).encoding == "utf-8"
    latin = Headers([("a", "☃".encode()), ("b", "é".encode("latin-1"))])
    assert latin.encoding == "iso-8859-1"
    assert latin["b"] == "é"


def test_encoding_follows_changes() -> None:
    headers = Headers({"a": "1"})
    assert headers.encoding == "ascii"
    headers.raw.append((b"b", "é".encode()))
    assert headers.encoding == "utf-8"
    assert headers["b"] == "é"


def test_encoding_can_be_set() -> None:
    headers = Headers({"a": "é".encode()})
    headers.encoding = "iso-8859-1"
    assert headers["a"] == "Ã©"
    assert Headers(headers).encoding == "iso-8859-1"
    assert Headers(headers, "utf-8")["a"] == "é"
    assert Headers({"a": "é"}, encoding="utf-8").raw == [(b"a", "é".encode())]


def test_text_beyond_ascii_needs_an_encoding() -> None:
    headers = Headers()
    with pytest.raises(UnicodeEncodeError, match="header 'a' as bytes"):
        headers["a"] = "é"
    with pytest.raises(ValueError, match="header 'a' as bytes"):
        Headers({"a": "é"})
    headers["b"] = "é".encode()
    headers["a"] = "ü"
    assert headers.raw == [(b"b", "é".encode()), (b"a", "ü".encode())]


def test_repr_is_that_of_a_dict_or_of_a_list() -> None:
    assert repr(Headers({"A": "1"})) == "Headers({'a': '1'})"
    assert repr(Headers(REPEATED)) == "Headers([('a', '1'), ('b', '2'), ('a', '3')])"
    assert repr(Headers({"a": "é".encode()})) == "Headers({'a': 'é'}, encoding='utf-8')"


@pytest.mark.parametrize("name", ["Authorization", "Proxy-Authorization", "Cookie"])
def test_repr_hides_credentials(name: str) -> None:
    headers = Headers({name: "secret"})
    assert "secret" not in repr(headers)
    assert headers[name] == "secret"


def test_headers_pickle() -> None:
    headers = Headers(REPEATED, encoding="utf-8")
    copy = pickle.loads(pickle.dumps(headers))
    assert copy == headers
    assert copy.encoding == "utf-8"


@given(st.text() | st.binary(), st.text() | st.binary())
def test_whatever_is_accepted_stays_one_field_line(name: str | bytes, value: str | bytes) -> None:
    try:
        headers = Headers([(name, value)], encoding="utf-8")
    except ValueError:
        return
    ((raw_name, raw_value),) = headers.raw
    assert raw_name
    assert not set(raw_name) & set(b"\r\n\0: ")
    assert not set(raw_value) & set(b"\r\n\0")
    assert typing.cast(typing.Any, name) in headers


@given(st.lists(st.tuples(st.binary(), st.binary())))
def test_whatever_a_server_sends_can_be_looked_at(raw: list[tuple[bytes, bytes]]) -> None:
    headers = Headers._from_raw(raw)
    assert len(headers.items()) == len(raw)
    assert isinstance(repr(headers), str)
    for name, _ in raw:
        assert typing.cast(typing.Any, name) in headers
        assert isinstance(headers[name], str)
