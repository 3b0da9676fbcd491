from __future__ import annotations

import codecs
import copy
import enum
import gc
import gzip
import io
import json
import os
import pathlib
import pickle
import sys
import tempfile
import typing
import weakref
from collections.abc import AsyncIterator, Iterator

import pytest

from http3_parallel.__version__ import USER_AGENT, __version__
from http3_parallel.exceptions import InvalidURL, StreamConsumed, StreamError
from http3_parallel.models import URL, Headers, Request, requests
from http3_parallel.models.decoding import ACCEPT_ENCODING

MIB = 1024 * 1024


def sent(request: Request) -> bytes:
    return b"".join(request.stream())


def header(request: Request, name: str) -> str | None:
    return request.headers.get(name)


# The head.


def test_a_plain_request_has_the_automatic_headers_in_order() -> None:
    request = Request("get", "http://example.org:80/a")
    assert request.method == "GET"
    assert request.url == URL("http://example.org:80/a")
    assert request.headers.items() == [
        ("host", "example.org"),
        ("user-agent", USER_AGENT),
        ("accept", "*/*"),
        ("accept-encoding", ACCEPT_ENCODING),
        ("connection", "keep-alive"),
    ]
    assert f"python-http3-parallel/{__version__}" == USER_AGENT
    assert request.content == b""
    assert sent(request) == b""
    assert not request.is_streaming
    assert request.can_replay


def test_automatic_headers_come_first_and_give_way_to_the_users() -> None:
    request = Request(
        "POST",
        "http://example.org",
        data=b"abc",
        headers=[("X-One", "1"), ("User-Agent", "mine"), ("X-One", "2"), ("HOST", "other")],
    )
    assert request.headers.items() == [
        ("accept", "*/*"),
        ("content-length", "3"),
        ("accept-encoding", ACCEPT_ENCODING),
        ("connection", "keep-alive"),
        ("x-one", "1"),
        ("user-agent", "mine"),
        ("x-one", "2"),
        ("host", "other"),
    ]


def test_credentials_of_the_url_are_not_in_host_nor_in_repr() -> None:
    request = Request("GET", "http://user:secret@example.org:8080/a")
    assert header(request, "host") == "example.org:8080"
    assert repr(request) == "<Request('GET', 'http://user:[secure]@example.org:8080/a')>"
    assert repr(Request("get", "http://example.org")) == "<Request('GET', 'http://example.org')>"


def test_the_users_headers_are_copied() -> None:
    headers = Headers({"x": "1"}, encoding="utf-8")
    request = Request("GET", "http://x", headers=headers)
    assert request.headers.encoding == "utf-8"
    request.headers["x"] = "2"
    assert headers.items() == [("x", "1")]


def test_unchecked_headers_do_not_get_into_a_request() -> None:
    headers = Headers._from_raw([(b"x", b"1\r\nInjected: yes")])
    with pytest.raises(ValueError, match="control character"):
        Request("GET", "http://x", headers=headers)
    raw = Headers()
    raw.raw.append((b"x y", b"1"))
    with pytest.raises(ValueError, match="not a header's name"):
        Request("GET", "http://x", headers=raw)


def test_params_go_into_the_url() -> None:
    assert str(Request("GET", "http://x/?a", params={"b": [1, 2]}).url) == "http://x/?b=1&b=2"


@pytest.mark.parametrize("method", ["", "GE T", "GET\r\n", "É", "a\u212a", "a/b"])
def test_a_method_that_is_no_token_is_a_value_error(method: str) -> None:
    with pytest.raises(ValueError, match="not a request method"):
        Request(method, "http://x")


def test_an_unusual_method_is_taken() -> None:
    assert Request("propfind", "http://x").method == "PROPFIND"


@pytest.mark.parametrize("method", [None, b"GET", 1, ["GET"]])
def test_a_method_that_is_no_text_is_a_type_error(method: object) -> None:
    with pytest.raises(TypeError):
        Request(method, "http://x")  # type: ignore[arg-type]  # that is the test


def test_a_url_must_be_absolute() -> None:
    for url in ("/path", "example.org", URL("/path", allow_relative=True)):
        with pytest.raises(InvalidURL):
            Request("GET", url)
    with pytest.raises(TypeError):
        Request("GET", b"http://x")  # type: ignore[arg-type]  # that is the test


# The body.


@pytest.mark.parametrize("data", [b"a\xffb", bytearray(b"a\xffb"), memoryview(b"a\xffb")])
def test_bytes_are_sent_as_they_are(data: bytes) -> None:
    request = Request("POST", "http://x", data=data)
    assert request.content == sent(request) == b"a\xffb"
    assert header(request, "content-length") == "3"
    assert header(request, "content-type") is None
    assert not request.is_streaming
    assert request.can_replay


def test_a_mutable_buffer_is_read_at_the_call() -> None:
    data = bytearray(b"before")
    request = Request("POST", "http://x", data=data)
    data[:] = b"after!"
    assert request.content == b"before"


def test_text_is_sent_as_utf8() -> None:
    request = Request("POST", "http://x", data="é")
    assert request.content == "é".encode()
    assert header(request, "content-type") is None


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
@pytest.mark.parametrize("data", [None, b"", ""])
def test_methods_that_have_a_body_tell_that_it_is_empty(method: str, data: bytes | None) -> None:
    assert header(Request(method, "http://x", data=data), "content-length") == "0"


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS"])
def test_other_methods_tell_no_length_of_no_body(method: str) -> None:
    assert header(Request(method, "http://x"), "content-length") is None
    assert header(Request(method, "http://x", data=b""), "content-length") is None
    assert header(Request(method, "http://x", data=b"a"), "content-length") == "1"


@pytest.mark.parametrize(
    "data",
    [
        {"a": ["1", 2], "b": "é &", "c": None},
        [("a", "1"), ("a", 2), ("b", "é &"), ("c", None)],
        (["a", "1"], ["a", 2], ["b", "é &"], ["c", None]),
    ],
)
def test_mappings_and_pairs_are_sent_as_a_form(data: typing.Any) -> None:
    request = Request("POST", "http://x", data=data)
    assert request.content == b"a=1&a=2&b=%C3%A9+%26&c=None"
    assert header(request, "content-type") == "application/x-www-form-urlencoded"
    assert request.headers.keys()[-1] == "content-type"


class Colour(str, enum.Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (True, b"a=True"),
        (1.5, b"a=1.5"),
        (b"\xff&", b"a=%FF%26"),
        (bytearray(b"xy"), b"a=xy"),
        (memoryview(b"xy"), b"a=xy"),
        ("", b"a="),
        (" +~", b"a=+%2B~"),
        (Colour.RED, b"a=red"),
        ([], b""),
        (["x", None, b"\xff", Colour.RED], b"a=x&a=None&a=%FF&a=red"),
        (("x", 1), b"a=x&a=1"),
        (range(2), b"a=0&a=1"),
        ([["x"]], b"a=%5B%27x%27%5D"),
    ],
)
def test_values_of_a_form_are_text_and_lists_repeat_the_name(value: object, encoded: bytes) -> None:
    assert Request("POST", "http://x", data={"a": value}).content == encoded
    assert Request("POST", "http://x", data=[("a", value)]).content == encoded
    assert Request("POST", "http://x", data={b"a": value}).content == encoded


def test_text_that_is_not_unicode_is_a_value_error() -> None:
    for data in ("\ud800", {"a": "\ud800"}):
        with pytest.raises(UnicodeEncodeError):
            Request("POST", "http://x", data=data)


@pytest.mark.parametrize("data", [{}, []])
def test_an_empty_form_is_an_empty_body_with_its_type(data: typing.Any) -> None:
    request = Request("POST", "http://x", data=data)
    assert request.content == b""
    assert header(request, "content-length") == "0"
    assert header(request, "content-type") == "application/x-www-form-urlencoded"


def test_json_is_encoded_at_the_call() -> None:
    value: dict[str, typing.Any] = {"a": [1, "é", None]}
    request = Request("POST", "http://x", json=value)
    value.clear()
    assert request.content == b'{"a": [1, "\\u00e9", null]}'
    assert header(request, "content-type") == "application/json"
    assert header(request, "content-length") == str(len(request.content))


@pytest.mark.parametrize("value", [False, 0, "", [], {}, float("nan")])
def test_json_that_is_false_is_json(value: object) -> None:
    assert Request("POST", "http://x", json=value).content == json.dumps(value).encode()


def test_json_null_is_said_as_data() -> None:
    request = Request("POST", "http://x", json=None)
    assert request.content == b""
    assert header(request, "content-type") is None
    mine = {"Content-Type": "application/json"}
    assert Request("POST", "http://x", data="null", headers=mine).content == b"null"


def test_json_that_cannot_be_encoded_is_a_type_or_value_error() -> None:
    with pytest.raises(TypeError):
        Request("POST", "http://x", json=object())
    cycle: list[object] = []
    cycle.append(cycle)
    with pytest.raises(ValueError, match="Circular"):
        Request("POST", "http://x", json=cycle)


@pytest.mark.parametrize("body", [{"json": {}}, {"data": {"a": "b"}}, {"data": b"a"}])
def test_the_users_content_type_stays(body: dict[str, typing.Any]) -> None:
    mine = {"Content-Type": "application/vnd.api+json"}
    request = Request("POST", "http://x", headers=mine, **body)
    assert request.headers.getlist("content-type") == ["application/vnd.api+json"]


def test_raw_data_go_before_json_and_json_before_a_form() -> None:
    assert Request("POST", "http://x", data=b"raw", json=1).content == b"raw"
    assert Request("POST", "http://x", data=iter([b"raw"]), json=1).is_streaming
    assert Request("POST", "http://x", data={"a": "b"}, json=1).content == b"1"


def test_raw_data_and_json_go_before_files() -> None:
    files = {"a": b"content"}
    mine = {"Content-Type": "a/b"}
    for data in ("raw", b"raw", bytearray(b"raw")):
        request = Request("POST", "http://x", data=data, files=files)
        assert request.content == b"raw"
        assert header(request, "content-type") is None
    for streamed in (iter([b"raw"]), [b"raw"], io.BytesIO(b"raw")):
        request = Request("POST", "http://x", data=streamed, files=files, headers=mine)
        assert sent(request) == b"raw"
        assert header(request, "content-type") == "a/b"
    for form in (None, {"a": "b"}):
        request = Request("POST", "http://x", data=form, json=[], files=files)
        assert request.content == b"[]"
        assert header(request, "content-type") == "application/json"


def test_large_bytes_are_sent_in_pieces_without_copying() -> None:
    content = os.urandom(200_000)
    request = Request("POST", "http://x", data=content)
    pieces = list(request.stream())
    assert [len(piece) for piece in pieces] == [65536, 65536, 65536, 200_000 - 3 * 65536]
    assert b"".join(pieces) == content
    assert all(isinstance(piece, memoryview) and piece.obj is content for piece in pieces)
    assert sent(request) == content


def pieces_of(*pieces: bytes | str) -> Iterator[bytes | str]:
    yield from pieces


def test_an_iterator_is_sent_once_in_chunks() -> None:
    request = Request("POST", "http://x", data=pieces_of(b"a", "é", b"", b"c"))
    assert request.is_streaming
    assert not request.can_replay
    assert header(request, "transfer-encoding") == "chunked"
    assert header(request, "content-length") is None
    with pytest.raises(AttributeError, match="streamed"):
        request.content  # noqa: B018  (the access is the test)
    # An empty chunk would end the body.
    assert list(request.stream()) == [b"a", "é".encode(), b"c"]
    with pytest.raises(StreamConsumed, match="only once"):
        list(request.stream())
    with pytest.raises(StreamConsumed):
        request.read()


def test_an_iterator_is_whole_until_something_is_taken() -> None:
    request = Request("POST", "http://x", data=pieces_of(b"a", b"b"))
    pieces = request.stream()
    assert request._is_whole
    next(pieces)
    assert not request._is_whole
    assert Request("POST", "http://x", data=[b"a"])._is_whole
    assert Request("GET", "http://x")._is_whole


def test_large_pieces_of_an_iterator_are_cut() -> None:
    request = Request("POST", "http://x", data=pieces_of(b"a" * 150_000, bytes(10)))
    assert [len(piece) for piece in request.stream()] == [65536, 65536, 18928, 10]


def test_a_list_is_sent_again_each_time() -> None:
    request = Request("PUT", "http://x", data=[b"a", b"b"])
    assert request.is_streaming
    assert request.can_replay
    assert header(request, "transfer-encoding") == "chunked"
    assert sent(request) == sent(request) == b"ab"


def test_reading_keeps_the_body() -> None:
    request = Request("POST", "http://x", data=pieces_of(b"a", b"b"))
    assert request.read() == request.read() == request.content == b"ab"
    assert sent(request) == b"ab"
    assert request.can_replay
    assert not request.is_streaming


@pytest.mark.parametrize("piece", [1, None, ["a"]])
def test_a_piece_that_is_no_bytes_is_a_type_error_when_sent(piece: typing.Any) -> None:
    request = Request("POST", "http://x", data=iter([piece]))
    with pytest.raises(TypeError, match="pieces of a request's body"):
        sent(request)


def test_errors_of_an_iterator_come_through() -> None:
    def failing() -> Iterator[bytes]:
        yield b"a"
        raise KeyError("mine")

    request = Request("POST", "http://x", data=failing())
    with pytest.raises(KeyError, match="mine"):
        sent(request)
    with pytest.raises(StreamConsumed):
        sent(request)


@pytest.mark.parametrize("data", [1, 1.5, object(), print])
def test_data_that_cannot_be_sent_is_a_type_error(data: typing.Any) -> None:
    with pytest.raises(TypeError, match="the data of a request"):
        Request("POST", "http://x", data=data)


def test_an_asynchronous_iterable_is_a_type_error() -> None:
    class Pieces:
        def __aiter__(self) -> AsyncIterator[bytes]:
            raise AssertionError("nobody iterates")

    with pytest.raises(TypeError, match="asynchronous"):
        Request("POST", "http://x", data=Pieces())  # type: ignore[arg-type]  # that is the test


# Files.


def test_a_file_is_streamed_from_its_position_with_its_length(tmp_path: pathlib.Path) -> None:
    content = os.urandom(150_000)
    path = tmp_path / "file"
    path.write_bytes(b"skipped" + content)
    with path.open("rb") as file:
        file.seek(len(b"skipped"))
        request = Request("PUT", "http://x", data=file)
        assert request.is_streaming
        assert request.can_replay
        assert file.tell() == len(b"skipped")
        assert header(request, "content-length") == "150000"
        assert header(request, "transfer-encoding") is None
        pieces = list(request.stream())
        assert [len(piece) for piece in pieces] == [65536, 65536, 150_000 - 2 * 65536]
        assert b"".join(pieces) == sent(request) == content


def test_the_length_of_a_compressed_file_is_that_of_its_content(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "file.gz"
    path.write_bytes(gzip.compress(b"a" * 1000))
    with gzip.open(path) as file:
        request = Request("PUT", "http://x", data=typing.cast("typing.IO[bytes]", file))
        assert header(request, "content-length") == "1000"
        assert sent(request) == b"a" * 1000


@pytest.mark.parametrize("make", [io.BytesIO, tempfile.SpooledTemporaryFile])
def test_an_empty_file_is_an_empty_body(make: typing.Callable[[], typing.IO[bytes]]) -> None:
    with make() as file:
        request = Request("POST", "http://x", data=file)
        assert header(request, "content-length") == "0"
        assert sent(request) == b""


def test_a_pipe_is_sent_once_in_chunks() -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as file:
        request = Request("POST", "http://x", data=file)
        with os.fdopen(writer, "wb") as source:
            source.write(b"through the pipe")
        assert header(request, "transfer-encoding") == "chunked"
        assert not request.can_replay
        assert sent(request) == b"through the pipe"
        with pytest.raises(StreamConsumed):
            sent(request)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /dev and /proc of Linux")
@pytest.mark.parametrize(
    ("path", "start"), [("/proc/self/status", b"Name:"), ("/dev/zero", b"\0\0\0\0")]
)
def test_a_file_that_tells_no_size_is_sent_in_chunks(path: str, start: bytes) -> None:
    with open(path, "rb") as file:
        request = Request("POST", "http://x", data=file)
        assert header(request, "transfer-encoding") == "chunked"
        assert bytes(next(request.stream())).startswith(start)


@pytest.mark.parametrize("codec", [False, True])
def test_a_file_open_for_text_is_a_type_error(tmp_path: pathlib.Path, codec: bool) -> None:
    path = tmp_path / "file"
    path.write_text("text")
    with codecs.open(str(path), "r", "utf-8") if codec else path.open() as file:
        with pytest.raises(TypeError, match="binary mode"):
            Request("POST", "http://x", data=file)
    with pytest.raises(TypeError, match="binary mode"):
        Request("POST", "http://x", data=io.StringIO("text"))


class Minimal:
    """Only what a reader needs."""

    def __init__(self, *pieces: typing.Any) -> None:
        self.pieces = list(pieces)

    def read(self, size: int = -1) -> typing.Any:
        return self.pieces.pop(0)


def test_an_object_that_only_reads_is_sent_once_in_chunks() -> None:
    request = Request("POST", "http://x", data=typing.cast(typing.Any, Minimal(b"a", b"b", b"")))
    assert header(request, "transfer-encoding") == "chunked"
    assert list(request.stream()) == [b"a", b"b"]


def test_a_reader_of_text_in_disguise_is_a_type_error_when_sent() -> None:
    request = Request("POST", "http://x", data=typing.cast(typing.Any, Minimal("a", "")))
    with pytest.raises(TypeError, match="binary mode"):
        sent(request)


def test_a_closed_file_is_a_value_error() -> None:
    file = io.BytesIO(b"a")
    file.close()
    with pytest.raises(ValueError, match="closed"):
        Request("POST", "http://x", data=file)


def test_a_file_that_is_closed_before_it_is_sent_is_a_stream_error() -> None:
    file = io.BytesIO(b"a")
    request = Request("POST", "http://x", data=file)
    file.close()
    with pytest.raises(StreamError, match="keep it open") as caught:
        sent(request)
    assert isinstance(caught.value.__cause__, ValueError)


def test_errors_of_a_file_come_through() -> None:
    class Failing(io.BytesIO):
        def seek(self, offset: int, whence: int = 0) -> int:
            if self.fail:
                raise ValueError("mine")
            return super().seek(offset, whence)

        fail = False

    file = Failing(b"a")
    request = Request("POST", "http://x", data=file)
    file.fail = True
    with pytest.raises(ValueError, match="mine"):
        sent(request)


def test_a_file_that_became_shorter_is_not_sent_as_if_it_were_whole() -> None:
    file = io.BytesIO(b"abcdef")
    request = Request("POST", "http://x", data=file)
    file.truncate(4)
    pieces = request.stream()
    assert next(pieces) == b"abcd"
    with pytest.raises(StreamError, match="2 bytes are missing"):
        next(pieces)


def test_a_file_that_grew_is_sent_as_long_as_announced() -> None:
    file = io.BytesIO(b"abc")
    request = Request("POST", "http://x", data=file)
    file.seek(0, io.SEEK_END)
    file.write(b"more")
    assert sent(request) == b"abc"


# Framing given by the user.


def test_a_length_of_an_iterator_can_be_given() -> None:
    request = Request("POST", "http://x", data=pieces_of(b"a"), headers={"Content-Length": "1"})
    assert header(request, "content-length") == "1"
    assert header(request, "transfer-encoding") is None


def test_bytes_can_be_sent_in_chunks() -> None:
    request = Request("POST", "http://x", data=b"a", headers={"Transfer-Encoding": "chunked"})
    assert header(request, "content-length") is None
    assert sent(request) == b"a"


@pytest.mark.parametrize(
    "headers",
    [
        [("content-length", "2")],
        [("content-length", "1"), ("content-length", "1")],
        [("content-length", "+1")],
        [("content-length", "1, 1")],
        [("content-length", "")],
        [("content-length", "1"), ("transfer-encoding", "chunked")],
        [("transfer-encoding", "gzip")],
        [("transfer-encoding", "chunked"), ("transfer-encoding", "Chunked")],
        [("transfer-encoding", "chunked, gzip")],
    ],
)
def test_framing_that_a_server_could_misread_is_refused(headers: list[tuple[str, str]]) -> None:
    with pytest.raises(ValueError, match=r"Content-Length|Transfer-Encoding"):
        Request("POST", "http://x", data=b"a", headers=headers)


# Requests that follow.


def test_a_replaced_request_shares_nothing_that_can_change() -> None:
    request = Request("POST", "http://x/a", data=b"abc", headers={"X": "1"})
    copied = request._replace()
    copied.headers["authorization"] = "Basic abc"
    copied.headers["x"] = "2"
    assert (copied.method, copied.url, copied.content) == ("POST", request.url, b"abc")
    assert header(request, "authorization") is None
    assert header(request, "x") == "1"


def test_dropping_the_body_drops_what_describes_it() -> None:
    request = Request(
        "POST",
        "http://x/a",
        data=pieces_of(b"abc"),
        headers={"Content-Type": "a/b", "Content-Language": "de", "Expect": "100-continue"},
    )
    following = request._replace(method="GET", url=URL("http://x/b"), drop_body=True)
    assert following.method == "GET"
    assert following.content == b""
    assert following.headers == Request("GET", "http://x/b").headers
    assert header(request, "content-type") == "a/b"
    assert header(request._replace(drop_body=True), "content-length") == "0"


def test_host_follows_the_url() -> None:
    request = Request("GET", "http://x/a", headers={"X": "1"})
    elsewhere = request._replace(url=URL("https://u:p@y:81/b"))
    assert header(elsewhere, "host") == "y:81"
    assert elsewhere.headers.keys()[0] == "host"
    elsewhere = request._replace(url=URL("http://y/"), headers=Headers({"x": "2"}))
    assert elsewhere.headers.items() == [("host", "y"), ("x", "2")]


def test_a_host_of_the_users_own_stays_on_its_server_only() -> None:
    request = Request("GET", "http://10.0.0.1/a", headers={"Host": "virtual.example"})
    assert header(request._replace(url=URL("http://10.0.0.1/b")), "host") == "virtual.example"
    assert header(request._replace(url=URL("http://10.0.0.2/b")), "host") == "10.0.0.2"


def test_a_replaced_request_shares_the_body() -> None:
    request = Request("POST", "http://x/a", data=pieces_of(b"a", b"b"))
    following = request._replace(url=URL("http://x/b"))
    assert sent(following) == b"ab"
    assert not request._is_whole
    with pytest.raises(StreamConsumed):
        sent(request)


# Lifetime and pickling.


def test_requests_pickle() -> None:
    request = Request("POST", "http://u:p@x/a", json={"a": 1}, headers={"X": "1"})
    again = pickle.loads(pickle.dumps(request))
    assert (again.method, again.url, again.content) == ("POST", request.url, request.content)
    assert again.headers == request.headers
    assert sent(again) == request.content


@pytest.mark.parametrize("make", [lambda: iter([b"a"]), lambda: [b"a"], lambda: io.BytesIO(b"a")])
def test_a_streamed_body_does_not_pickle(make: typing.Callable[[], typing.Any]) -> None:
    request = Request("POST", "http://x", data=make())
    with pytest.raises(TypeError, match=r"read\(\) it first"):
        pickle.dumps(request)
    with pytest.raises(TypeError, match=r"read\(\) it first"):
        copy.copy(request)
    request.read()
    assert pickle.loads(pickle.dumps(request)).content == b"a"


def test_a_portable_request_leaves_a_streamed_body_behind() -> None:
    request = Request("POST", "http://x", data=io.BytesIO(b"abc"))
    again = pickle.loads(pickle.dumps(request._portable()))
    assert again.headers == request.headers
    assert again.is_streaming
    assert not again.can_replay
    assert not again._is_whole
    with pytest.raises(StreamConsumed, match="stayed behind"):
        again.read()
    assert pickle.loads(pickle.dumps(again._portable())).url == request.url
    plain = Request("POST", "http://x", data=b"abc")
    assert plain._portable() is plain


def test_a_request_dies_with_its_last_reference() -> None:
    gc.disable()
    try:
        request = Request("POST", "http://x", data=[b"a"], headers={"a": "b"})
        sent(request)
        reference = weakref.ref(request)
        del request
        assert reference() is None
    finally:
        gc.enable()


def test_a_waiting_request_is_small() -> None:
    import tracemalloc

    for number in range(10):  # what is made only once
        Request("GET", f"https://example.org/{number}")
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        kept = [Request("GET", f"https://example.org/some/page/{n}") for n in range(1000)]
        used = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert used / len(kept) < 1500  # bytes


def test_a_copy_has_headers_of_its_own_and_shares_the_body() -> None:
    request = Request("POST", "http://x/", data=iter([b"body"]), cookies={"a": "1"})
    copied = request.copy()
    copied.headers["x-more"] = "1"

    assert (copied.method, copied.url) == (request.method, request.url)
    assert copied.cookies is request.cookies
    assert "x-more" not in request.headers
    assert b"".join(copied.stream()) == b"body"
    with pytest.raises(StreamConsumed):
        request.read()


def test_hosts_are_remembered_only_up_to_a_size() -> None:
    zone = "a" * 10_000
    for number in range(10):
        assert Request("GET", f"http://[fe80::1%25{zone}{number}]/").headers["host"] == "[fe80::1]"
    assert not any(zone in (host or "") for _, host, _ in requests._known_hosts)
