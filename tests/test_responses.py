from __future__ import annotations

import datetime
import encodings.aliases
import gc
import gzip
import json
import pickle
import random
import signal
import sys
import threading
import typing
import weakref
from collections.abc import Iterator

import pytest

from http3_parallel.exceptions import (
    DecodingError,
    HTTPError,
    HttpError,
    HTTPStatusError,
    ReadError,
    ResponseClosed,
    ResponseNotRead,
    StreamConsumed,
)
from http3_parallel.models import Headers, Request, Response, Timings
from streamed import Closing, Gated, Source

REQUEST = Request("GET", "http://user:secret@example.org/a?key=secret")


# The head.


def test_a_response_has_a_head() -> None:
    response = Response(
        404,
        protocol="HTTP/1.1",
        headers=[("A", "1"), ("a", "2")],
        content=b"gone",
        request=REQUEST,
    )
    assert response.status_code == 404
    assert response.reason_phrase == "Not Found"
    assert response.protocol == "HTTP/1.1"
    assert response.headers["a"] == "1, 2"
    assert response.content == b"gone"
    assert response.request is REQUEST
    assert response.url is REQUEST.url
    assert response.history == []
    assert response.tag is None
    assert response.elapsed is None
    assert response.timings is None
    assert repr(response) == "<Response [404 Not Found]>"
    assert bool(response)


def test_a_bare_response_has_little() -> None:
    response = Response(299)
    assert (response.content, response.text) == (b"", "")
    assert response.url is None
    assert response.headers == Headers()
    assert response.reason_phrase == ""
    assert repr(response) == "<Response [299]>"


def test_tag_and_elapsed_can_be_set() -> None:
    response = Response(200)
    response.tag = ["mine"]
    response.elapsed = datetime.timedelta(seconds=1)
    assert response.tag == ["mine"]
    assert response.elapsed.total_seconds() == 1
    with pytest.raises(AttributeError):
        response.other = 1  # type: ignore[attr-defined]  # that is the test


@pytest.mark.parametrize(
    ("status", "error", "success"),
    [
        (100, False, False),
        (200, False, True),
        (299, False, True),
        (304, False, False),
        (400, True, False),
        (599, True, False),
        (600, False, False),
    ],
)
def test_the_status_tells_success_and_error(status: int, error: bool, success: bool) -> None:
    response = Response(status)
    assert (response.is_error, response.is_success) == (error, success)
    if not error:
        assert response.raise_for_status() is response


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (404, "404 Client Error: Not Found [GET http://example.org/a?key=…]"),
        (500, "500 Server Error: Internal Server Error [GET http://example.org/a?key=…]"),
        (599, "599 Server Error [GET http://example.org/a?key=…]"),
    ],
)
def test_raise_for_status_raises_an_error_that_knows_its_response(status: int, text: str) -> None:
    response = Response(status, request=REQUEST)
    response.tag = "tag"
    with pytest.raises(HTTPStatusError) as caught:
        response.raise_for_status()
    assert str(caught.value) == text
    assert caught.value.response is response
    assert caught.value.request is REQUEST
    assert caught.value.tag == "tag"
    assert isinstance(caught.value, HttpError)
    with pytest.raises(HTTPStatusError, match=f"^{status} "):
        Response(status).raise_for_status()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_has_a_status_and_a_location(status: int) -> None:
    assert Response(status, headers={"Location": "/"}).is_redirect
    assert not Response(status).is_redirect


@pytest.mark.parametrize("status", [200, 300, 304, 305, 404])
def test_other_statuses_are_no_redirects(status: int) -> None:
    assert not Response(status, headers={"Location": "/"}).is_redirect


def test_cookies_are_those_that_the_response_itself_sets() -> None:
    response = Response(
        200,
        headers=[
            ("Set-Cookie", "a=1; Path=/; HttpOnly"),
            ("Set-Cookie", "b=2, 3; Expires=Wed, 09 Jun 2100 10:18:14 GMT"),
            ("Set-Cookie", "gone=1; Max-Age=0"),
            ("Set-Cookie", "foreign=1; Domain=example.net"),
        ],
        request=Request("GET", "http://example.org/a", headers={"cookie": "sent=1"}),
        history=[Response(302, headers={"set-cookie": "earlier=1"}, request=REQUEST)],
    )
    assert response.cookies == {"a": "1", "b": "2, 3"}
    assert response.cookies is response.cookies
    assert response.history[0].cookies == {"earlier": "1"}
    again = pickle.loads(pickle.dumps(response))
    assert again.cookies == response.cookies
    assert again.cookies is not response.cookies


def test_a_response_without_cookies_has_none() -> None:
    response = Response(200, request=REQUEST)
    assert response.cookies == {}
    assert response.cookies is response.cookies


def test_cookies_need_the_request_that_was_answered() -> None:
    with pytest.raises(RuntimeError, match="no request"):
        Response(200, headers={"set-cookie": "a=1"}).cookies  # noqa: B018  (the access is the test)


def test_next_follows_one_redirect() -> None:
    redirect = Response(302, headers={"location": "/"}, request=REQUEST)
    with pytest.raises(RuntimeError, match="needs the client"):
        redirect.next()
    following = Response(200)
    seen = []

    def follow(response: Response) -> Response:
        seen.append(response)
        return following

    redirect._follow = follow
    assert redirect.next() is following
    assert seen == [redirect]


def test_next_of_no_redirect_is_a_runtime_error() -> None:
    with pytest.raises(RuntimeError, match=r"<Response \[200 OK\]> is no redirect"):
        Response(200).next()


# Content that is there.


@pytest.mark.parametrize("content", [b"abc", bytearray(b"abc"), memoryview(b"abc")])
def test_content_that_is_there_can_be_had_in_every_way_repeatedly(content: bytes) -> None:
    response = Response(200, content=content)
    assert response.is_closed
    assert response.is_stream_consumed
    for _ in range(2):
        assert response.content == response.read() == b"abc"
        assert list(response.stream()) == list(response.raw()) == [b"abc"]
        response.close()


def test_empty_content_has_no_pieces() -> None:
    for response in Response(200), Response(200, content=iter([b"", b""])):
        assert list(response.stream()) == []
        assert response.is_closed
    assert list(Response(200).raw()) == []


@pytest.mark.parametrize("content", ["text", 1, object()])
def test_content_that_is_no_bytes_is_a_type_error(content: typing.Any) -> None:
    with pytest.raises(TypeError, match="content of a response"):
        Response(200, content=content)


def test_coded_content_is_decoded() -> None:
    encoded = gzip.compress(b"content")
    response = Response(200, headers={"content-encoding": "gzip"}, content=encoded)
    assert list(response.raw()) == [encoded]
    assert list(response.stream()) == [b"content"]
    assert list(response.stream()) == [b"content"]
    assert response.content == response.content == b"content"
    assert list(response.stream()) == [b"content"]
    with pytest.raises(StreamConsumed):
        list(response.raw())


def test_damaged_content_is_a_decoding_error_that_knows_its_request() -> None:
    response = Response(
        200, headers={"content-encoding": "gzip"}, content=b"damaged", request=REQUEST
    )
    response.tag = "tag"
    for read in (response.read, lambda: response.text, lambda: list(response.stream())):
        with pytest.raises(DecodingError, match="gzip coding is damaged") as caught:
            read()
        assert caught.value.request is REQUEST
        assert caught.value.tag == "tag"
        assert "secret" not in str(caught.value)


# Content that is streamed.


def test_a_stream_is_not_read_until_asked_for() -> None:
    source = Source(b"a", b"b")
    response = Response(200, content=source)
    assert not response.is_closed
    assert not response.is_stream_consumed
    for attribute in ("content", "text", "encoding"):
        with pytest.raises(ResponseNotRead, match=r"read\(\) it first"):
            getattr(response, attribute)
    with pytest.raises(ResponseNotRead):
        response.json()
    assert len(source._chunks) == 2


def test_read_keeps_the_content() -> None:
    closing, source = Closing(), Source(b"a", b"", b"b")
    response = Response(200, content=source, on_close=closing)
    assert response.read() == response.read() == response.content == b"ab"
    assert list(response.stream()) == list(response.stream()) == [b"ab"]
    with pytest.raises(StreamConsumed):
        list(response.raw())
    response.close()
    assert (closing.calls, source.closed) == (1, 1)
    assert response.is_closed
    assert response.is_stream_consumed


@pytest.mark.parametrize("how", ["stream", "raw"])
def test_a_stream_is_read_once_and_closed_at_its_end(how: str) -> None:
    closing, source = Closing(), Source(b"a", b"", b"b")
    response = Response(200, content=source, on_close=closing, request=REQUEST)
    pieces: Iterator[bytes] = getattr(response, how)()
    assert next(pieces) == b"a"
    assert response.is_stream_consumed
    assert not response.is_closed
    assert next(pieces) == b"b"
    assert closing.calls == 0
    assert list(pieces) == list(pieces) == []
    assert (closing.calls, source.closed) == (1, 1)
    assert response.is_closed
    for again in (response.stream, response.raw, response.read):
        with pytest.raises(StreamConsumed) as caught:
            list(again())
        assert caught.value.request is REQUEST
    with pytest.raises(ResponseNotRead):
        response.content  # noqa: B018  (the access is the test)
    response.close()
    assert (closing.calls, source.closed) == (1, 1)


def test_a_stream_comes_decoded_and_raw() -> None:
    encoded = gzip.compress(b"content")
    chunks = [encoded[:5], encoded[5:]]
    headers = {"content-encoding": "gzip"}
    assert list(Response(200, headers=headers, content=iter(chunks)).raw()) == chunks
    streamed = Response(200, headers=headers, content=iter(chunks)).stream()
    assert b"".join(streamed) == b"content"
    assert Response(200, headers=headers, content=chunks).read() == b"content"


def test_asking_for_a_stream_does_not_begin_it() -> None:
    response = Response(200, content=Source(b"a"))
    pieces = response.stream()
    assert response.read() == b"a"
    with pytest.raises(StreamConsumed):
        next(pieces)


def test_closing_gives_up_what_was_not_read() -> None:
    closing, source = Closing(), Source(b"a", b"b")
    response = Response(200, content=source, on_close=closing, request=REQUEST)
    response.close()
    response.close()
    assert (closing.calls, source.closed) == (1, 1)
    assert response.is_closed
    for read in (response.read, response.stream, response.raw):
        with pytest.raises(ResponseClosed) as caught:
            list(read())
        assert caught.value.request is REQUEST
    with pytest.raises(ResponseNotRead, match="closed before"):
        response.content  # noqa: B018  (the access is the test)


def test_closing_in_the_middle_is_no_end() -> None:
    closing = Closing()
    response = Response(200, content=Source(b"a", b"b"), on_close=closing)
    pieces = response.stream()
    assert next(pieces) == b"a"
    response.close()
    with pytest.raises(ResponseClosed, match="while"):
        next(pieces)
    assert closing.calls == 1


def test_the_iterator_of_a_stream_closes_it() -> None:
    closing = Closing()
    response = Response(200, content=Source(b"a", b"b"), on_close=closing)
    pieces: typing.Any = response.stream()
    pieces.close()  # not begun: nothing to give up
    assert next(pieces) == b"a"
    pieces.close()
    assert closing.calls == 1
    assert response.is_closed


def test_a_with_block_closes_it() -> None:
    closing = Closing()
    with Response(200, content=Source(b"a"), on_close=closing) as response:
        assert closing.calls == 0
    assert closing.calls == 1
    with pytest.raises(ResponseClosed):
        response.read()


@pytest.mark.parametrize("how", ["read", "stream", "raw"])
@pytest.mark.parametrize("error", [ReadError("broken"), KeyError("mine"), KeyboardInterrupt()])
def test_a_read_that_fails_ends_it(how: str, error: BaseException) -> None:
    closing, source = Closing(), Source(b"a", error, b"b")
    response = Response(200, content=source, on_close=closing, request=REQUEST)
    with pytest.raises(type(error)) as caught:
        list(getattr(response, how)())
    assert caught.value is error
    assert (closing.calls, source.closed) == (1, 1)
    if isinstance(error, HTTPError):
        assert error.request is REQUEST
    # Never a short body that looks like all of it.
    for again in (response.read, response.stream, response.raw):
        with pytest.raises((StreamConsumed, ResponseClosed)):
            list(again())
    with pytest.raises(ResponseNotRead):
        response.content  # noqa: B018  (the access is the test)
    assert closing.calls == 1


def test_an_iterator_that_failed_does_not_end_in_silence() -> None:
    pieces = Response(200, content=Source(b"a", ReadError("broken"), b"b")).stream()
    assert next(pieces) == b"a"
    with pytest.raises(ReadError):
        next(pieces)
    with pytest.raises(ResponseClosed):
        next(pieces)


def test_damage_in_a_stream_ends_it() -> None:
    closing = Closing()
    encoded = gzip.compress(b"content")
    response = Response(
        200,
        headers={"content-encoding": "gzip"},
        content=Source(encoded[:-3]),
        on_close=closing,
        request=REQUEST,
    )
    with pytest.raises(DecodingError, match="ends before") as caught:
        response.read()
    assert caught.value.request is REQUEST
    assert closing.calls == 1


def test_an_error_keeps_the_request_it_knows() -> None:
    other = Request("GET", "http://other")
    error = ReadError("broken", request=other, tag="other")
    response = Response(200, content=Source(error), request=REQUEST)
    response.tag = "tag"
    with pytest.raises(ReadError):
        response.read()
    assert error.request is other
    assert error.tag == "other"


def test_an_iterable_that_fails_to_start_ends_it() -> None:
    class Failing:
        def __iter__(self) -> Iterator[bytes]:
            raise KeyError("mine")

    closing = Closing()
    response = Response(200, content=Failing(), on_close=closing)
    with pytest.raises(KeyError):
        response.read()
    assert closing.calls == 1
    assert response.is_closed


def test_on_close_is_called_even_if_closing_the_source_fails() -> None:
    class Failing(Source):
        def close(self) -> None:
            raise OSError("mine")

    closing = Closing()
    response = Response(200, content=Failing(b"a"), on_close=closing)
    with pytest.raises(OSError, match="mine"):
        response.close()
    response.close()
    assert closing.calls == 1


def test_every_callback_is_called_even_if_one_fails() -> None:
    def failing() -> None:
        raise KeyError("mine")

    last = Closing()
    response = Response(200, content=Source(b"a"), on_close=failing)
    response._add_on_close(failing)
    response._add_on_close(last)
    with pytest.raises(KeyError):
        response.read()
    response.close()
    assert last.calls == 1


def test_an_interrupted_on_close_is_called_again() -> None:
    calls: list[int] = []

    def interrupted() -> None:
        calls.append(len(calls))
        if len(calls) == 1:
            raise KeyboardInterrupt

    response = Response(200, content=Source(b"a"), on_close=interrupted)
    with pytest.raises(KeyboardInterrupt):
        response.read()
    response.close()
    response.close()
    assert calls == [0, 1]


def test_on_close_may_close_the_response() -> None:
    calls = []

    def on_close() -> None:
        calls.append(response.is_closed)
        response.close()

    response = Response(200, content=Source(b"a"), on_close=on_close)
    assert response.read() == b"a"
    assert calls == [True]


def test_on_close_of_content_that_is_there_is_called_at_once() -> None:
    closing = Closing()
    response = Response(200, content=b"a", on_close=closing)
    assert closing.calls == 1
    response.close()
    assert closing.calls == 1


def test_more_can_be_told_of_the_end() -> None:
    first, second, late = Closing(), Closing(), Closing()
    response = Response(200, content=Source(b"a"), on_close=first)
    response._add_on_close(second)
    assert second.calls == 0
    response.close()
    response._add_on_close(late)
    assert (first.calls, second.calls, late.calls) == (1, 1, 1)
    read = Response(200, content=Source(b"a"))
    read.read()
    read._add_on_close(late)
    assert late.calls == 2


# From several threads.


def test_a_second_thread_gets_stream_consumed() -> None:
    source = Gated()
    response = Response(200, content=source)
    pieces = response.stream()
    assert next(pieces) == b"one"
    rest: list[bytes] = []
    reader = threading.Thread(target=lambda: rest.extend(pieces))
    reader.start()
    assert source.waiting.wait(30)
    # The iterator itself, and new ones.
    for others in (pieces, response.stream(), response.raw()):
        with pytest.raises(StreamConsumed):
            next(others)
    with pytest.raises(StreamConsumed):
        response.read()
    source.gate.set()
    reader.join(30)
    assert rest == [b"two"]


def test_closing_from_another_thread_ends_it_after_the_step() -> None:
    source, closing = Gated(), Closing()
    response = Response(200, content=source, on_close=closing)
    outcome: list[object] = []

    def read() -> None:
        try:
            outcome.append(response.read())
        except HTTPError as error:
            outcome.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    assert source.waiting.wait(30)
    response.close()
    assert response.is_closed
    assert closing.calls == 0  # the source is at work and must not be closed under it
    source.gate.set()
    reader.join(30)
    (error,) = outcome
    assert isinstance(error, ResponseClosed)
    assert closing.calls == 1


def test_closing_from_another_thread_wakes_a_source_that_can_be_woken() -> None:
    class Wakeable(Gated):
        def wake(self) -> None:
            self.gate.set()

    source = Wakeable()
    response = Response(200, content=source)
    outcome: list[object] = []
    reader = threading.Thread(target=lambda: outcome.extend(race(response.read)))
    reader.start()
    assert source.waiting.wait(30)
    response.close()
    reader.join(30)
    assert isinstance(outcome[0], ResponseClosed)


@pytest.mark.slow  # also since an interrupt within what measures the tests would lock that up
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs setitimer")
def test_a_read_that_is_interrupted_anywhere_is_closed_in_the_end() -> None:
    generator = random.Random(1)
    interrupted = 0
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        for _ in range(1000):
            closing, source = Closing(), Source(*[b"x"] * 40)
            response = Response(200, content=source, on_close=closing)
            try:
                signal.setitimer(signal.ITIMER_REAL, generator.uniform(1e-6, 100e-6))
                try:
                    response.read()
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                interrupted += 1
            response.close()
            assert closing.calls >= 1
            assert source.closed >= 1
    finally:
        signal.signal(signal.SIGALRM, before)
    assert interrupted


@pytest.fixture
def switching_often() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def race(*functions: typing.Callable[[], object]) -> list[object]:
    """Run them at once. Returns what they returned, or raised."""
    start = threading.Barrier(len(functions))
    outcomes: list[object] = []

    def run(function: typing.Callable[[], object]) -> None:
        start.wait(30)
        try:
            outcomes.append(function())
        except HTTPError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=run, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return outcomes


@pytest.mark.usefixtures("switching_often")
def test_reading_and_closing_at_once_closes_once() -> None:
    for _ in range(200):
        closing = Closing()
        response = Response(200, content=Source(b"a", b"b", b"c"), on_close=closing)
        outcomes = race(response.read, response.read, response.close)
        assert len(outcomes) == 3
        assert closing.calls == 1
        for outcome in outcomes:
            assert outcome in (None, b"abc") or isinstance(
                outcome, (StreamConsumed, ResponseClosed)
            )


@pytest.mark.usefixtures("switching_often")
def test_decoding_at_once_in_two_threads_gives_the_same() -> None:
    content = b"content" * 1000
    for _ in range(100):
        response = Response(
            200, headers={"content-encoding": "gzip"}, content=gzip.compress(content)
        )
        assert race(response.read, response.read) == [content] * 2


# Lifetime.


def stream_some(response: Response) -> None:
    next(response.stream())


@pytest.mark.parametrize(
    "use",
    [
        lambda _: None,
        Response.read,
        lambda response: list(response.stream()),
        lambda response: list(response.raw()),
        stream_some,
        Response.close,
        lambda response: response.read() and response.text,
    ],
)
def test_a_response_dies_with_its_last_reference(use: typing.Callable[[Response], object]) -> None:
    gc.disable()
    try:
        closing = Closing()
        response = Response(
            200,
            headers={"content-encoding": "gzip"},
            content=Source(gzip.compress(b"content")),
            on_close=closing,
            request=REQUEST,
            history=[Response(302)],
        )
        response._follow = Response.raise_for_status
        use(response)
        reference, callback = weakref.ref(response), weakref.ref(closing)
        if response.is_closed:
            del closing
            assert callback() is None  # dropped after the call
        del response
        assert reference() is None
    finally:
        gc.enable()


def test_a_pass_keeps_the_response_alive() -> None:
    gc.disable()
    try:
        response = Response(200, content=Source(b"a", b"b"))
        reference = weakref.ref(response)
        pieces = response.stream()
        del response
        assert reference() is not None
        assert list(pieces) == [b"a", b"b"]
        del pieces
        assert reference() is None
    finally:
        gc.enable()


# Text.


@pytest.mark.parametrize(
    ("content_type", "content", "encoding", "text"),
    [
        ("text/html; charset=iso-8859-2", b"\xb1", "iso-8859-2", "ą"),
        ('text/html; Charset="UTF-16-LE"', "é".encode("utf-16-le"), "UTF-16-LE", "é"),
        ("text/html; charset='cp1251'; x=y", b"\xe9", "cp1251", "й"),
        ("text/html;charset = utf-8 ", b"\xe9", "utf-8", "\ufffd"),
        ("application/x; a=b; charset=euc-jp", "語".encode("euc-jp"), "euc-jp", "語"),
        (None, "é".encode(), "utf-8", "é"),
        ("text/plain", "é".encode(), "utf-8", "é"),
        ("text/plain", "é".encode("latin-1"), "iso-8859-1", "é"),
        ("TEXT/PLAIN", "é".encode("latin-1"), "iso-8859-1", "é"),
        ("application/x", b"a\xe9", "utf-8", "a\ufffd"),
        ("text/plain; charset=nonsense", "é".encode(), "utf-8", "é"),
        ("text/plain; charset=", "é".encode(), "utf-8", "é"),
        ("text/plain", b"", "utf-8", ""),
    ],
)
def test_text_is_decoded_by_what_is_declared_or_found(
    content_type: str | None, content: bytes, encoding: str, text: str
) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    response = Response(200, headers=headers, content=content)
    assert response.encoding == encoding
    assert response.text == response.text == text


@pytest.mark.parametrize(
    "charset",
    [
        "rot13",
        "rot_13",
        "hex",
        "base64",
        "zlib",
        "bz2",
        "uu",
        "quopri",
        "idna",
        "punycode",
        "unicode_escape",
        "unicode-escape",
        "raw_unicode_escape",
        "undefined",
        "utf-7",
        "U7",
        "mbcs",
        "oem",
        "a\0b",
        "../etc",
        "x" * 1000,
        "ü",
        "__init__",
        "aliases",
    ],
)
def test_a_declared_charset_that_is_none_is_ignored(charset: str) -> None:
    headers = Headers._from_raw([(b"content-type", f"text/plain; charset={charset}".encode())])
    response = Response(200, headers=headers, content=b"\\u0061=61\xe9")
    assert response.charset_encoding is None
    assert response.text == "\\u0061=61é"
    with pytest.raises(ValueError, match="knows no text encoding"):
        response.encoding = charset


def test_text_of_whatever_encoding_never_fails() -> None:
    content = bytes(range(256)) * 2 + b"\\N{+-~{\x1b$B\xff"
    for name in sorted(set(encodings.aliases.aliases.values())):
        headers = {"content-type": f"text/plain; charset={name}"}
        assert isinstance(Response(200, headers=headers, content=content).text, str)


def test_default_encoding_is_for_what_is_not_utf8() -> None:
    headers = {"content-type": "text/plain"}
    response = Response(200, headers=headers, content=b"\xe9")
    response._default_encoding = "cp1251"
    assert (response.encoding, response.apparent_encoding, response.text) == (
        "cp1251",
        "cp1251",
        "й",
    )
    response = Response(200, headers=headers, content="é".encode())
    response._default_encoding = "cp1251"
    assert (response.encoding, response.text) == ("utf-8", "é")


def test_setting_the_encoding_takes_effect() -> None:
    response = Response(200, headers={"content-type": "text/plain"}, content=b"\xe9")
    assert response.text == "é"
    response.encoding = "cp1251"
    assert (response.encoding, response.text) == ("cp1251", "й")
    response.encoding = None
    assert (response.encoding, response.text) == ("iso-8859-1", "é")


# JSON.


@pytest.mark.parametrize(
    "encoding",
    ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"],
)
def test_json_is_read_in_every_unicode_encoding(encoding: str) -> None:
    value = {"é": ["語", None, 1.5]}
    content = json.dumps(value, ensure_ascii=False).encode(encoding)
    assert Response(200, content=content).json() == value


def test_json_takes_the_arguments_of_loads() -> None:
    response = Response(200, content=b'{"a": 1.5}')
    assert response.json(parse_float=str) == {"a": "1.5"}
    with pytest.raises(TypeError):
        response.json(nonsense=1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"<html>", "not valid JSON: Expecting value"),
        (b'{"a": 1', "not valid JSON"),
        (b'"\xff"', "not valid JSON"),
        (b"[" * 200_000, "nested too deeply"),
        (b"1" * 10_000, "not valid JSON"),
    ],
)
def test_what_is_no_json_is_a_decoding_error(content: bytes, message: str) -> None:
    response = Response(200, content=content, request=REQUEST)
    response.tag = "tag"
    with pytest.raises(DecodingError, match=message) as caught:
        response.json()
    error = caught.value
    assert isinstance(error, ValueError)
    assert error.request is REQUEST
    assert error.tag == "tag"
    assert isinstance(error.__cause__, (ValueError, RecursionError))
    assert "<html>" not in str(error)


# Pickling.


def test_a_read_response_pickles() -> None:
    first = Response(302, headers={"location": "/b"}, content=Source(b"a"), request=REQUEST)
    first.close()
    response = Response(
        200,
        protocol="HTTP/1.1",
        headers={"content-encoding": "gzip", "content-type": "text/plain"},
        content=Source(gzip.compress(b"\xe9")),
        request=Request("POST", "http://example.org/b", data=iter([b"streamed"])),
        history=[first],
    )
    response._follow = lambda redirect: redirect
    response.read()
    response.tag = {"a": 1}
    response.elapsed = datetime.timedelta(seconds=1.5)
    response.timings = Timings(0.0)
    response.timings.mark("queued", 0.25)
    response.encoding = "cp1251"

    again = pickle.loads(pickle.dumps(response))
    assert (again.status_code, again.protocol) == (200, "HTTP/1.1")
    assert again.headers == response.headers
    assert (again.content, again.text, again.encoding) == (b"\xe9", "й", "cp1251")
    assert (again.tag, again.elapsed) == (response.tag, response.elapsed)
    assert again.timings == response.timings
    assert (again.request.method, str(again.url)) == ("POST", "http://example.org/b")
    assert again.is_closed
    assert again.read() == b"\xe9"
    (earlier,) = again.history
    assert earlier.url == REQUEST.url
    assert earlier.is_closed
    with pytest.raises(ResponseNotRead):
        earlier.content  # noqa: B018  (the access is the test)
    with pytest.raises(ResponseClosed):
        earlier.read()
    with pytest.raises(StreamConsumed):
        list(earlier.stream())


def test_content_that_is_there_pickles_unread() -> None:
    encoded = gzip.compress(b"content")
    response = Response(200, headers={"content-encoding": "gzip"}, content=encoded)
    again = pickle.loads(pickle.dumps(response))
    assert list(again.raw()) == [encoded]
    assert again.content == b"content"
    assert again.request is None


def test_an_unread_stream_does_not_pickle() -> None:
    response = Response(200, content=Source(b"a"))
    with pytest.raises(TypeError, match=r"read\(\) it first"):
        pickle.dumps(response)
    response.read()
    assert pickle.loads(pickle.dumps(response)).content == b"a"


def test_a_status_code_is_a_number() -> None:
    with pytest.raises(TypeError, match="status code"):
        Response("200")  # type: ignore[arg-type]
