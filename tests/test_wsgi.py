"""Requests answered by a WSGI app in this process."""

from __future__ import annotations

import _thread
import collections
import contextvars
import errno
import functools
import gc
import gzip
import io
import itertools
import logging
import pathlib
import sys
import threading
import time
import types
import typing
import weakref
import wsgiref.validate

import pytest

import http3_parallel as http3
from http3_parallel.dispatch import WSGIDispatch
from scenarios import Reader
from servers import PATIENCE

Environ = dict[str, typing.Any]
App = typing.Callable[[Environ, typing.Any], typing.Any]

TEXT = [("Content-Type", "text/plain")]

LIBRARY = str(pathlib.Path(http3.__file__).parent)


def client_of(app: typing.Any, **options: typing.Any) -> http3.Client:
    return http3.Client(dispatch=WSGIDispatch(app, **options))


class Mine(Exception):
    """Of the app."""


class MyExit(BaseException):
    """Not even an `Exception`."""


class Body:
    """An iterable that counts how often it was closed."""

    def __init__(self, *pieces: typing.Any) -> None:
        self._pieces = iter(pieces)
        self.taken = 0
        self.closes = 0
        self.closed = threading.Event()

    def __iter__(self) -> typing.Iterator[typing.Any]:
        return self

    def __next__(self) -> typing.Any:
        piece = next(self._pieces)
        self.taken += 1
        if isinstance(piece, BaseException):
            raise piece
        return piece

    def close(self) -> None:
        self.closes += 1
        self.closed.set()


class FailsToClose(Body):
    def close(self) -> None:
        super().close()
        raise Mine("while closing")


def returning(
    result: typing.Any,
    status: str = "200 OK",
    headers: typing.Sequence[tuple[str, str]] = TEXT,
) -> App:
    def app(environ: Environ, start_response: typing.Any) -> typing.Any:
        start_response(status, list(headers))
        return result

    return app


def way_of(name: str) -> typing.Callable[..., http3.Response]:
    """A request made in the calling thread, or by a worker of a block."""

    def plain(
        client: http3.Client, url: str, method: str = "GET", **options: typing.Any
    ) -> typing.Any:
        return client.request(method, url, **options)

    def block(
        client: http3.Client, url: str, method: str = "GET", **options: typing.Any
    ) -> typing.Any:
        with client.parallel() as parallel:
            return parallel.request(method, url, **options).get_response(PATIENCE)

    return {"plain": plain, "block": block}[name]


every_way = pytest.mark.parametrize(
    "call", [way_of("plain"), way_of("block")], ids=["plain", "block"]
)


# The environ.


def environ_of(
    url: str, *, method: str = "GET", script_name: str = "", **options: typing.Any
) -> Environ:
    seen: list[Environ] = []

    def app(environ: Environ, start_response: typing.Any) -> typing.Any:
        assert type(environ) is dict
        seen.append(environ.copy())
        start_response("200 OK", TEXT)
        return [b"seen"]

    conforming = wsgiref.validate.validator(app)
    with client_of(conforming, script_name=script_name) as client:
        assert client.request(method, url, **options).text == "seen"
    return seen.pop()


def test_the_environ_is_complete() -> None:
    environ = environ_of("http://example.com/a/b?c=d%20e&c=+")
    expected = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/a/b",
        "QUERY_STRING": "c=d%20e&c=+",
        "REQUEST_URI": "/a/b?c=d%20e&c=+",
        "RAW_URI": "/a/b?c=d%20e&c=+",
        "SERVER_NAME": "example.com",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": "example.com",
        "HTTP_ACCEPT": "*/*",
        "HTTP_CONNECTION": "keep-alive",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
    }
    assert {name: environ[name] for name in expected} == expected
    for name in ("CONTENT_TYPE", "CONTENT_LENGTH", "HTTPS", "HTTP_CONTENT_LENGTH"):
        assert name not in environ


@pytest.mark.parametrize(
    ("url", "path_info"),
    [
        ("http://x", "/"),
        ("http://x?a", "/"),
        ("http://x/a%20b", "/a b"),
        ("http://x/a%2Fb", "/a/b"),
        ("http://x/ü", "/Ã¼"),  # two bytes of UTF-8, each a character
        ("http://x/%ff%00", "/ÿ\x00"),
        ("http://x/100%25", "/100%"),
        ("http://x//a", "//a"),
    ],
)
def test_the_path_is_decoded_to_bytes_in_text(url: str, path_info: str) -> None:
    assert environ_of(url)["PATH_INFO"] == path_info


@pytest.mark.parametrize(
    ("url", "name", "port", "scheme"),
    [
        ("http://x/", "x", "80", "http"),
        ("https://x/", "x", "443", "https"),
        ("https://X:8080/", "x", "8080", "https"),
        ("http://[::1]/", "[::1]", "80", "http"),
        ("http://user:secret@x/", "x", "80", "http"),
    ],
)
def test_the_server_is_that_of_the_url(url: str, name: str, port: str, scheme: str) -> None:
    environ = environ_of(url)
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == (name, port)
    assert environ["wsgi.url_scheme"] == scheme
    assert environ.get("HTTPS", "off") == ("on" if scheme == "https" else "off")


@pytest.mark.parametrize(
    ("script_name", "path", "split"),
    [
        ("", "/app/x", ("", "/app/x")),
        ("/app", "/app/x", ("/app", "/x")),
        ("/app/", "/app/x", ("/app", "/x")),
        ("/app", "/app", ("/app", "")),
        ("/app", "/app/", ("/app", "/")),
        ("/app", "/application", ("/app", "/application")),
        ("/app", "/x", ("/app", "/x")),  # as http3 has it
        ("/", "/x", ("", "/x")),
        ("/my app", "/my%20app/x", ("/my app", "/x")),
        ("/my%20app", "/my%20app/x", ("/my app", "/x")),
        ("/ü", "/%C3%BC/x", ("/Ã¼", "/x")),
    ],
)
def test_the_script_name_is_taken_off_the_path(
    script_name: str, path: str, split: tuple[str, str]
) -> None:
    environ = environ_of("http://x" + path, script_name=script_name)
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == split
    assert environ["REQUEST_URI"] == path


def test_the_remote_address_is_what_one_says() -> None:
    seen: list[Environ] = []

    def app(environ: Environ, start_response: typing.Any) -> typing.Any:
        seen.append(environ)
        return returning([])(environ, start_response)

    with client_of(app, remote_addr="192.0.2.1") as client:
        client.get("http://x/")
    assert seen[0]["REMOTE_ADDR"] == "192.0.2.1"


def test_header_fields_are_in_the_environ_as_servers_have_them() -> None:
    environ = environ_of(
        "http://x/",
        method="POST",
        data=b"12345",
        headers=[
            ("Content-Type", "text/x"),
            ("X-Twice", "1"),
            ("X-Twice", "2"),
            ("Cookie", "a=1"),
            ("Cookie", "b=2"),
            ("X-Latin", b"\xe4"),
            ("Expect", "100-continue"),
        ],
    )
    assert environ["CONTENT_TYPE"] == "text/x"
    assert environ["CONTENT_LENGTH"] == "5"
    assert environ["HTTP_X_TWICE"] == "1, 2"
    assert environ["HTTP_COOKIE"] == "a=1; b=2"
    assert environ["HTTP_X_LATIN"] == "ä"
    assert environ["HTTP_EXPECT"] == "100-continue"
    assert "HTTP_CONTENT_TYPE" not in environ


@pytest.mark.parametrize("name", ["X_Real-User", "Content_Length", "X-Real_User"])
def test_an_underscore_does_not_pass_for_a_dash(name: str) -> None:
    environ = environ_of("http://x/", headers={name: "99", "X-Real-User": "alice"})
    assert environ["HTTP_X_REAL_USER"] == "alice"
    assert "CONTENT_LENGTH" not in environ
    assert "99" not in environ.values()


def test_what_is_meant_for_a_proxy_is_not_for_the_app() -> None:
    environ = environ_of("http://x/", headers={"Proxy-Authorization": "Basic eDp5"})
    assert "HTTP_PROXY_AUTHORIZATION" not in environ


def test_each_request_has_an_environ_of_its_own() -> None:
    def app(environ: Environ, start_response: typing.Any) -> typing.Any:
        assert "mine" not in environ
        environ["mine"] = True
        return returning([])(environ, start_response)

    with client_of(app) as client:
        for _ in range(2):
            client.get("http://x/")


def test_wsgi_errors_is_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    def app(environ: Environ, start_response: typing.Any) -> typing.Any:
        print("seen by the operator", file=environ["wsgi.errors"])
        environ["wsgi.errors"].flush()
        return returning([])(environ, start_response)

    with client_of(app) as client:
        client.get("http://x/")
    assert capsys.readouterr().err == "seen by the operator\n"


def test_a_program_without_stderr_has_wsgi_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    environ_of("http://x/")["wsgi.errors"].write("nowhere")


# The request's body.


def read_whole(file: typing.Any) -> bytes:
    return typing.cast(bytes, file.read())


def read_in_bits(file: typing.Any) -> bytes:
    return b"".join(iter(lambda: file.read(3), b""))


def read_lines(file: typing.Any) -> bytes:
    return b"".join(iter(file.readline, b""))


def read_short_lines(file: typing.Any) -> bytes:
    bits = list(iter(lambda: file.readline(2), b""))
    assert all(len(bit) <= 2 for bit in bits)
    return b"".join(bits)


def read_as_lines(file: typing.Any) -> bytes:
    lines = file.readlines()
    assert all(line.endswith(b"\n") for line in lines[:-1])
    return b"".join(lines)


def read_by_hint(file: typing.Any) -> bytes:
    first = file.readlines(1)
    assert len(first) <= 1
    return b"".join([*first, file.read()])


def read_by_iterating(file: typing.Any) -> bytes:
    lines = list(file)
    assert all(line.endswith(b"\n") for line in lines[:-1])
    return b"".join(lines)


READERS = [
    read_whole,
    read_in_bits,
    read_lines,
    read_short_lines,
    read_as_lines,
    read_by_hint,
    read_by_iterating,
]

TEXT_BODY = b"first\nsecond line\n\nlast"


def echoing(read: typing.Callable[[typing.Any], bytes]) -> App:
    def app(environ: Environ, start_response: typing.Any) -> typing.Any:
        data = read(environ["wsgi.input"])
        assert environ["wsgi.input"].read(1) == b"", "something comes after the end"
        start_response("200 OK", [*TEXT, ("X-Length", environ.get("CONTENT_LENGTH", "none"))])
        return [data]

    return app


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("source", ["bytes", "file", "pieces", "drips"])
def test_the_body_can_be_read_in_every_way(
    read: typing.Callable[[typing.Any], bytes], source: str
) -> None:
    data: typing.Any = {
        "bytes": TEXT_BODY,
        "file": io.BytesIO(TEXT_BODY),
        "pieces": iter([TEXT_BODY[:8], TEXT_BODY[8:]]),
        "drips": (TEXT_BODY[i : i + 1] for i in range(len(TEXT_BODY))),
    }[source]
    with client_of(echoing(read)) as client:
        response = client.post("http://x/", data=data)
    assert response.content == TEXT_BODY
    length = str(len(TEXT_BODY)) if source in ("bytes", "file") else "none"
    assert response.headers["x-length"] == length


@pytest.mark.parametrize("data", [None, b"", iter(())])
def test_an_empty_body_is_at_its_end_at_once(data: typing.Any) -> None:
    with client_of(echoing(read_whole)) as client:
        assert client.post("http://x/", data=data).content == b""


def test_a_large_body_goes_through_whole() -> None:
    pieces = [bytes([number % 251]) * 100_000 for number in range(40)]

    def app(environ: Environ, start_response: typing.Any) -> typing.Any:
        start_response("200 OK", [])
        return iter(lambda: environ["wsgi.input"].read(70_001), b"")

    with client_of(app) as client:
        assert client.put("http://x/", data=iter(pieces)).content == b"".join(pieces)


def test_bytes_are_not_copied() -> None:
    body = bytes(1_000_000)
    seen: list[bytes] = []

    def app(environ: Environ, start_response: typing.Any) -> typing.Any:
        seen.append(environ["wsgi.input"].read())
        return returning([])(environ, start_response)

    with client_of(app) as client:
        client.post("http://x/", data=body)
    assert seen[0] is body


def test_an_iterator_is_pulled_as_the_app_reads() -> None:
    taken: list[int] = []

    def source() -> typing.Iterator[bytes]:
        for number in range(5):
            taken.append(number)
            yield b"%d\n" % number

    def app(environ: Environ, start_response: typing.Any) -> typing.Any:
        assert environ["HTTP_TRANSFER_ENCODING"] == "chunked"
        assert taken == []
        assert environ["wsgi.input"].readline() == b"0\n"
        assert taken == [0]
        assert environ["wsgi.input"].read(2) == b"1\n"
        assert taken == [0, 1]
        start_response("200 OK", TEXT)
        return [b"enough"]

    with client_of(app) as client:
        assert client.post("http://x/", data=source()).text == "enough"
    assert taken == [0, 1]


def test_a_buffer_that_the_iterator_uses_again_is_not_kept() -> None:
    def source() -> typing.Iterator[typing.Any]:
        buffer = bytearray()
        for number in range(3):
            buffer[:] = b"%d" % number * (number + 1)  # refused while anyone looks at it
            yield buffer

    with client_of(echoing(read_in_bits)) as client:
        assert client.post("http://x/", data=source()).content == b"011222"


def test_a_body_that_is_not_read_is_left_alone() -> None:
    def source() -> typing.Iterator[bytes]:
        raise AssertionError("nobody asked for it")
        yield b""

    with client_of(returning([b"refused"], "413 Content Too Large")) as client:
        assert client.post("http://x/", data=source()).status_code == 413


@pytest.mark.parametrize(
    ("pieces", "length", "message"),
    [([b"123", b"45"], 6, "1 bytes shorter"), ([b"123", b"456"], 5, "longer")],
)
@pytest.mark.parametrize("raises", [True, False])
def test_a_body_unlike_its_content_length_fails_the_request(
    pieces: list[bytes], length: int, message: str, raises: bool
) -> None:
    with client_of(echoing(read_whole), raise_app_exceptions=raises) as client:
        with pytest.raises(http3.WriteError, match=message) as caught:
            client.post("http://x/", data=iter(pieces), headers={"Content-Length": str(length)})
    assert caught.value.method == "POST"


def test_reading_stops_at_the_content_length() -> None:
    def source() -> typing.Iterator[bytes]:
        yield b"12345"
        raise AssertionError("nobody asked for more")

    with client_of(echoing(read_whole)) as client:
        response = client.post("http://x/", data=source(), headers={"Content-Length": "5"})
    assert (response.content, response.headers["x-length"]) == (b"12345", "5")


def breaks() -> typing.Iterator[bytes]:
    yield b"first\n"
    raise Mine("of the body's owner")


def reads_and_fails(environ: Environ, start_response: typing.Any) -> typing.Any:
    start_response("200 OK", TEXT)
    return [environ["wsgi.input"].read()]


def reads_and_goes_on(environ: Environ, start_response: typing.Any) -> typing.Any:
    status = "200 OK"
    try:
        environ["wsgi.input"].read()
    except Mine:
        status = "400 Bad Request"
        assert environ["wsgi.input"].read() == b""
    start_response(status, TEXT)
    return [b"all is well"]


def reads_and_fails_otherwise(environ: Environ, start_response: typing.Any) -> typing.Any:
    try:
        return reads_and_fails(environ, start_response)
    except Mine:
        raise RuntimeError("of the app") from None


def reads_while_it_answers(environ: Environ, start_response: typing.Any) -> typing.Any:
    start_response("200 OK", TEXT)
    yield from environ["wsgi.input"]


@every_way
@pytest.mark.parametrize("raises", [True, False])
@pytest.mark.parametrize(
    "app", [reads_and_fails, reads_and_goes_on, reads_and_fails_otherwise, reads_while_it_answers]
)
def test_what_the_source_of_the_body_raises_comes_out_whatever_the_app_does(
    app: App, raises: bool, call: typing.Any, caplog: pytest.LogCaptureFixture
) -> None:
    with client_of(app, raise_app_exceptions=raises) as client:
        with pytest.raises(Mine, match="of the body's owner"):
            call(client, "http://x/", "POST", data=breaks())
    assert not caplog.records


class Interrupted:
    """An iterator that a signal interrupts, again and again."""

    def __iter__(self) -> typing.Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        raise InterruptedError(errno.EINTR, "once more")


@pytest.mark.parametrize("read", [read_whole, read_in_bits, read_lines])
def test_a_source_that_is_interrupted_is_not_asked_for_ever(read: typing.Any) -> None:
    with client_of(echoing(read)) as client:
        with pytest.raises(InterruptedError):
            client.post("http://x/", data=Interrupted())


# Apps of every kind.


def as_list(environ: Environ, start_response: typing.Any) -> typing.Any:
    start_response(
        "200 OK", [*TEXT, ("X-Way", "list"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]
    )
    return [b"Hello, ", b"world"]


def as_tuple(environ: Environ, start_response: typing.Any) -> typing.Any:
    return tuple(as_list(environ, start_response))


def as_generator(environ: Environ, start_response: typing.Any) -> typing.Any:
    yield from as_list(environ, start_response)


def as_generator_with_empty_pieces(environ: Environ, start_response: typing.Any) -> typing.Any:
    pieces = as_list(environ, start_response)
    yield b""
    yield b""
    yield pieces[0]
    yield b""
    yield pieces[1]
    yield b""


def as_late_generator(environ: Environ, start_response: typing.Any) -> typing.Any:
    yield b""
    yield from as_list(environ, start_response)


def as_writer(environ: Environ, start_response: typing.Any) -> typing.Any:
    pieces: list[bytes] = []
    write = start_response("200 OK", as_headers(pieces))
    for piece in pieces:
        write(piece)
    return []


def as_writer_with_a_list(environ: Environ, start_response: typing.Any) -> typing.Any:
    pieces: list[bytes] = []
    write = start_response("200 OK", as_headers(pieces))
    write(pieces[0])
    return pieces[1:]


def as_writer_within_a_generator(environ: Environ, start_response: typing.Any) -> typing.Any:
    pieces: list[bytes] = []
    write = start_response("200 OK", as_headers(pieces))
    write(pieces[0])
    yield b""
    write(pieces[1][:2])
    yield pieces[1][2:]


def as_headers(pieces: list[bytes]) -> list[tuple[str, str]]:
    """The head and the body of `as_list`."""
    heads: list[typing.Any] = []
    pieces += as_list({}, lambda status, headers: heads.append(headers))
    return typing.cast("list[tuple[str, str]]", heads[0])


class AsClass:
    def __init__(self, environ: Environ, start_response: typing.Any) -> None:
        self._environ, self._start_response = environ, start_response

    def __iter__(self) -> typing.Iterator[bytes]:
        yield from as_list(self._environ, self._start_response)


class AsObject:
    def __call__(self, environ: Environ, start_response: typing.Any) -> typing.Any:
        return iter(as_list(environ, start_response))


def as_file(environ: Environ, start_response: typing.Any) -> typing.Any:
    return io.BytesIO(b"".join(as_list(environ, start_response)))


def as_decorated(*args: typing.Any) -> typing.Any:
    return as_list(*args)


CONFORMING = [
    as_list,
    as_tuple,
    as_generator,
    as_generator_with_empty_pieces,
    as_writer,
    as_writer_with_a_list,
    as_file,
    as_decorated,
    AsClass,
    AsObject(),
]
APPS = [*CONFORMING, as_late_generator, as_writer_within_a_generator]


def name_of(app: typing.Any) -> str:
    return getattr(app, "__name__", type(app).__name__)


def check_hello(response: http3.Response) -> None:
    assert response.status_code == 200
    assert response.protocol == "HTTP/1.1"
    assert response.content == b"Hello, world"
    assert response.headers["x-way"] == "list"
    assert response.headers.getlist("set-cookie") == ["a=1", "b=2"]
    assert [name for name, _ in response.headers.raw] == [
        b"content-type",
        b"x-way",
        b"set-cookie",
        b"set-cookie",
    ]


@every_way
@pytest.mark.parametrize("app", APPS, ids=name_of)
def test_apps_of_every_kind_answer_the_same(app: App, call: typing.Any) -> None:
    with client_of(app) as client:
        check_hello(call(client, "http://x/"))


@every_way
@pytest.mark.parametrize("app", CONFORMING, ids=name_of)
def test_the_validator_of_the_standard_library_finds_nothing(app: App, call: typing.Any) -> None:
    with client_of(wsgiref.validate.validator(app)) as client:
        check_hello(call(client, "http://x/"))
        call(client, "http://x/", "POST", data=b"a body").close()


@pytest.mark.parametrize("app", CONFORMING, ids=name_of)
def test_the_validator_finds_nothing_in_a_response_given_up(app: App) -> None:
    with client_of(wsgiref.validate.validator(app)) as client:
        with client.get("http://x/", stream=True) as response:
            assert response.status_code == 200
        assert response.is_closed


@pytest.mark.parametrize("app", APPS, ids=name_of)
def test_a_stream_is_what_the_app_yields(app: App) -> None:
    with client_of(app) as client:
        pieces = list(client.get("http://x/", stream=True).stream())
    assert b"".join(pieces) == b"Hello, world"
    assert all(pieces)


def test_a_body_is_made_as_it_is_read() -> None:
    made: list[int] = []

    def app(environ: Environ, start_response: typing.Any) -> typing.Any:
        start_response("200 OK", TEXT)
        for number in range(5):
            made.append(number)
            yield b"%d" % number

    with client_of(app) as client:
        with client.get("http://x/", stream=True) as response:
            assert made == [0]
            pieces = response.stream()
            assert next(pieces) == b"0"
            assert made == [0]
            assert next(pieces) == b"1"
            assert made == [0, 1]
        assert made == [0, 1]


def test_what_the_app_encoded_is_decoded() -> None:
    body = gzip.compress(b"Hello, world" * 100)
    app = returning([body[:20], body[20:]], headers=[("Content-Encoding", "gzip")])
    with client_of(app) as client:
        assert client.get("http://x/").content == b"Hello, world" * 100


@every_way
def test_redirects_lead_back_to_the_app(call: typing.Any) -> None:
    def app(environ: Environ, start_response: typing.Any) -> typing.Any:
        if environ["PATH_INFO"] == "/":
            return returning([b"moved"], "302 Found", [("Location", "/next")])(
                environ, start_response
            )
        start_response("200 OK", TEXT)
        return [environ["REQUEST_METHOD"].encode()]

    with client_of(app) as client:
        response = call(client, "http://x/", "POST", data=b"x")
        assert (response.text, response.url) == ("GET", "http://x/next")
        assert [before.status_code for before in response.history] == [302]


# Closing.


@every_way
def test_the_iterable_is_closed_once_at_its_end(call: typing.Any) -> None:
    body = Body(b"a", b"b")
    with client_of(returning(body)) as client:
        assert call(client, "http://x/").content == b"ab"
        assert body.closes == 1


@pytest.mark.parametrize("read", [0, 1, 2, 3])
def test_the_iterable_is_closed_once_when_the_response_is(read: int) -> None:
    body = Body(b"a", b"b", b"c")
    with client_of(returning(body)) as client:
        with client.get("http://x/", stream=True) as response:
            assert len(list(itertools.islice(response.stream(), read))) == read
        response.close()
        assert body.closes == 1
        assert body.taken == max(1, read)


@pytest.mark.parametrize("read", [False, True])
def test_the_iterable_is_closed_once_when_the_response_is_dropped(read: bool) -> None:
    body = Body(b"a", b"b", b"c")
    with client_of(returning(body)) as client:
        response = client.get("http://x/", stream=True)
        if read:
            assert next(response.stream()) == b"a"
        assert body.closes == 0
        del response
        assert body.closes == 1


@every_way
@pytest.mark.parametrize("pieces", [[Mine()], [b"", Mine()], [b"a", Mine()]])
def test_the_iterable_is_closed_once_after_it_failed(
    pieces: list[typing.Any], call: typing.Any
) -> None:
    body = Body(*pieces)
    with client_of(returning(body)) as client:
        with pytest.raises(Mine):
            call(client, "http://x/")
    assert body.closes == 1


@every_way
@pytest.mark.parametrize("pieces", [[], [b""], [b"a"]])
def test_the_iterable_is_closed_once_where_no_response_came_of_it(
    pieces: list[bytes], call: typing.Any
) -> None:
    body = Body(*pieces)
    with client_of(lambda environ, start_response: body) as client:
        with pytest.raises(http3.ProtocolError):
            call(client, "http://x/")
    assert body.closes == 1


@pytest.mark.parametrize("pieces", [(b"a", "b"), ("a",), (None,), (b"a", 5), (bytearray(b"a"),)])
def test_a_piece_that_is_not_bytes_is_named(pieces: tuple[typing.Any, ...]) -> None:
    body = Body(*pieces)
    wrong = next(piece for piece in pieces if not isinstance(piece, bytes))
    name = "None" if wrong is None else type(wrong).__name__
    with client_of(returning(body)) as client:
        with pytest.raises(http3.ProtocolError, match=f"the app's body has {name} in it"):
            client.get("http://x/")
    assert body.closes == 1


def test_what_closing_raises_comes_out() -> None:
    body = FailsToClose(b"a")
    with client_of(returning(body)) as client:
        with pytest.raises(Mine, match="while closing"):
            client.get("http://x/")
    assert body.closes == 1


def test_what_closing_raises_does_not_hide_what_went_wrong(
    caplog: pytest.LogCaptureFixture,
) -> None:
    body = FailsToClose(b"a", Mine("while iterating"))
    with client_of(returning(body)) as client:
        with pytest.raises(Mine, match="while iterating"):
            client.get("http://x/?secret=1")
    assert body.closes == 1
    assert [record.message for record in caplog.records] == [
        "GET http://x/?secret=…: the app failed when its response was closed"
    ]


def test_what_closing_raises_does_not_hide_an_end_that_came_too_early() -> None:
    body = FailsToClose(b"a")
    with client_of(returning(body, headers=[("Content-Length", "5")])) as client:
        with pytest.raises(http3.IncompleteRead):
            client.get("http://x/")
    assert body.closes == 1


@pytest.mark.parametrize("client_is_closed", [False, True])
def test_what_closing_raises_does_not_hide_a_deadline(client_is_closed: bool) -> None:
    body = FailsToClose(*[b"x"] * 3)
    client = client_of(returning(body))
    with client:
        response = client.get("http://x/", stream=True, deadline=0.05)
        if not client_is_closed:
            time.sleep(0.1)
    time.sleep(0.1)
    with pytest.raises(http3.DeadlineExceeded):
        response.read()
    assert body.closes == 1


def test_what_closing_raises_does_not_come_out_of_a_block(
    caplog: pytest.LogCaptureFixture,
) -> None:
    body = FailsToClose(b"a", b"b")
    with client_of(returning(body)) as client:
        with client.parallel() as parallel:
            response = parallel.get("http://x/", stream=True).get_response(PATIENCE)
    assert response.is_closed
    assert body.closes == 1
    assert [record.message for record in caplog.records] == [
        "GET http://x/: the app failed when its response was closed"
    ]


@pytest.mark.parametrize("raises", [True, False])
def test_closing_fails_where_there_is_no_body_too(raises: bool) -> None:
    body = FailsToClose(b"a")
    with client_of(returning(body), raise_app_exceptions=raises) as client:
        if raises:
            with pytest.raises(Mine, match="while closing"):
                client.head("http://x/")
        else:
            assert client.head("http://x/").status_code == 200
    assert body.closes == 1


def test_behind_a_server_nobody_sees_that_closing_failed(caplog: pytest.LogCaptureFixture) -> None:
    body = FailsToClose(b"a")
    with client_of(returning(body), raise_app_exceptions=False) as client:
        assert client.get("http://x/").content == b"a"
    assert body.closes == 1
    assert "while closing" in caplog.text


class Interrupts:
    """Ctrl-C when it is dropped, without running any Python code."""

    __del__ = staticmethod(_thread.interrupt_main)


def test_ctrl_c_as_the_app_returns_does_not_lose_what_it_returned() -> None:
    body = Body(b"a")

    def app(environ: Environ, start_response: typing.Any) -> typing.Any:
        dropped_when_this_returns = Interrupts()
        start_response("200 OK", TEXT)
        assert dropped_when_this_returns is not None
        return body

    with client_of(app) as client:
        with pytest.raises(KeyboardInterrupt):
            client.get("http://x/")
    assert body.closes == 1


class Strike:
    """
    Ctrl-C at the instant of that number. Python runs signal handlers where a function is entered
    and where one in C returns, and calls this there.
    """

    def __init__(self, number: int) -> None:
        self.left = number

    def __call__(self, frame: types.FrameType, event: str, argument: typing.Any) -> None:
        if event in ("call", "c_return") and frame.f_code.co_filename.startswith(LIBRARY):
            self.left -= 1
            if self.left < 0:
                sys.setprofile(None)
                raise KeyboardInterrupt


def interrupt(client: http3.Client, number: int, method: str) -> bool:
    """Make a request. Returns whether it had come to the instant of that number."""
    strike = Strike(number)
    try:
        sys.setprofile(strike)
        client.request(method, "http://x/")
        sys.setprofile(None)
    except KeyboardInterrupt:
        pass
    return strike.left < 0


@pytest.mark.slow
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("pieces", [[b"a", b"b"], []])
def test_ctrl_c_at_any_instant_leaves_nothing_open(method: str, pieces: list[bytes]) -> None:
    opened: list[Body] = []

    def app(environ: Environ, start_response: typing.Any) -> typing.Any:
        start_response("200 OK", TEXT)
        opened.append(Body(*pieces))
        return opened[-1]

    with client_of(app) as client:
        client.get("http://x/")
        number = next(
            number for number in itertools.count() if not interrupt(client, number, method)
        )
    assert number > 50
    assert len(opened) > 20
    gc.collect()  # a tracer may keep the frames of what was interrupted
    assert {body.closes for body in opened} == {1}


@every_way
@pytest.mark.parametrize("error", [KeyboardInterrupt(), MyExit(), GeneratorExit()])
@pytest.mark.parametrize("raises", [True, False])
def test_what_is_no_exception_comes_out_always(
    error: BaseException, raises: bool, call: typing.Any
) -> None:
    body = Body(b"a", error)
    with client_of(returning(body), raise_app_exceptions=raises) as client:
        with pytest.raises(type(error)):
            call(client, "http://x/")
    assert body.closes == 1


# start_response.


@pytest.mark.parametrize(
    ("status", "headers", "message"),
    [
        (b"200 OK", [], "bytes as status"),
        (200, [], "int as status"),
        (None, [], "None as status"),
        ("200", [], "the status '200'"),
        ("OK", [], "the status 'OK'"),
        ("200OK", [], "the status"),
        ("20 OK", [], "the status"),
        ("2000 OK", [], "the status"),
        ("200 OK\r\nX: y", [], "the status"),
        ("200 OK\n", [], "the status"),
        ("200 ☃", [], "the status"),
        ("٢٠٠ OK", [], "the status"),
        ("103 Early Hints", [], "the status"),
        ("101 Switching Protocols", [], "the status"),
        ("200 OK", (), "tuple as headers"),
        ("200 OK", {}, "dict as headers"),
        ("200 OK", None, "None as headers"),
        ("200 OK", [["a", "b"]], "list among the headers"),
        ("200 OK", ["ab"], "str among the headers"),
        ("200 OK", [("a",)], "tuple among the headers"),
        ("200 OK", [(b"a", "b")], "bytes and str"),
        ("200 OK", [("a", b"b")], "str and bytes"),
        ("200 OK", [("a", 5)], "str and int"),
        ("200 OK", [("a", None)], "str and None"),
        ("200 OK", [("a:", "b")], "'a:'"),
        ("200 OK", [("", "b")], "''"),
        ("200 OK", [("a b", "b")], "'a b'"),
        ("200 OK", [("ä", "b")], "'ä'"),
        ("200 OK", [("a", "b\r\nc: d")], "header a with control characters"),
        ("200 OK", [("a", "b\x00")], "control characters"),
        ("200 OK", [("a", "☃")], "outside ISO-8859-1"),
        ("200 OK", [("Connection", "close")], "Connection, which is for servers"),
        ("200 OK", [("transfer-encoding", "chunked")], "for servers"),
        ("200 OK", [("Content-Length", "five")], "Content-Length that is none"),
        ("200 OK", [("Content-Length", "-1")], "Content-Length that is none"),
        ("200 OK", [("Content-Length", "1, 1")], "Content-Length that is none"),
        ("200 OK", [("Content-Length", "1"), ("content-length", "2")], "differ"),
    ],
)
def test_what_start_response_must_not_be_called_with_is_named(
    status: typing.Any, headers: typing.Any, message: str
) -> None:
    def app(environ: Environ, start_response: typing.Any) -> typing.Any:
        start_response(status, headers)
        return [b"x"]

    with client_of(app) as client:
        with pytest.raises(http3.ProtocolError, match=message) as caught:
            client.get("http://x/")
    assert caught.value.message.startswith("the app gave start_response ")
    assert caught.value.url == "http://x/"


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        ("200 ", []),
        ("299 Whatever It Is", [("X-Empty", "")]),
        ("404 Nicht gefunden: ü", [("X-Latin", "ü")]),
        ("999 None", [("x!#$%&'*+-.^_`|~", "odd")]),
        ("200 OK", [("Content-Length", "1"), ("Content-Length", "1")]),
    ],
)
def test_what_start_response_may_be_called_with(
    status: str, headers: list[tuple[str, str]]
) -> None:
    with client_of(returning([b"x"], status, headers)) as client:
        response = client.get("http://x/")
    assert response.status_code == int(status[:3])
    assert response.headers.raw == [
        (name.lower().encode(), value.encode("latin-1")) for name, value in headers
    ]


@pytest.mark.parametrize("result", [None, b"bytes", "text", 5, object()])
def test_an_app_that_returns_no_iterable_is_named(result: typing.Any) -> None:
    name = "None" if result is None else type(result).__name__
    with client_of(returning(result)) as client:
        with pytest.raises(http3.ProtocolError, match=f"the app returned {name}, not an iterable"):
            client.get("http://x/")


def test_a_coroutine_that_an_app_returns_is_closed() -> None:
    async def asynchronous(scope: typing.Any, receive: typing.Any) -> None:
        raise AssertionError("never awaited")

    with client_of(lambda *args: asynchronous(*args)) as client:
        with pytest.raises(http3.ProtocolError, match="the app returned coroutine"):
            client.get("http://x/")


@pytest.mark.parametrize("result", [[], [b"a"], (), iter([b""])])
def test_an_app_that_does_not_call_start_response_is_named(result: typing.Any) -> None:
    with client_of(lambda environ, start_response: result) as client:
        with pytest.raises(http3.ProtocolError, match="called start_response"):
            client.get("http://x/")


def test_an_app_that_calls_start_response_twice_is_named() -> None:
    def app(environ: Environ, start_response: typing.Any) -> typing.Any:
        start_response("200 OK", TEXT)
        start_response("500 Oh", TEXT)
        return [b"x"]

    with client_of(app) as client:
        with pytest.raises(http3.ProtocolError, match="start_response again"):
            client.get("http://x/")


@pytest.mark.parametrize("data", ["text", None, 5, bytearray(b"x")])
def test_write_takes_bytes_only(data: typing.Any) -> None:
    def app(environ: Environ, start_response: typing.Any) -> typing.Any:
        start_response("200 OK", TEXT)(data)
        return []

    with client_of(app) as client:
        with pytest.raises(http3.ProtocolError, match=r"the app called write\(\) with"):
            client.get("http://x/")


def reporting(before: typing.Callable[[typing.Any], object], exc_info: typing.Any = None) -> App:
    """An app that does something, fails, and reports that."""

    def app(environ: Environ, start_response: typing.Any) -> typing.Any:
        try:
            before(start_response)
            raise Mine("reported")
        except Mine:
            start_response("500 Oh", [("X-Error", "page")], exc_info or sys.exc_info())
        return [b"error page"]

    return app


BEFORE_THE_HEAD_IS_SENT = [
    pytest.param(lambda start_response: None, id="before start_response"),
    pytest.param(lambda start_response: start_response("200 OK", TEXT), id="after start_response"),
]


@every_way
@pytest.mark.parametrize("before", BEFORE_THE_HEAD_IS_SENT)
def test_what_is_reported_is_raised(before: typing.Any, call: typing.Any) -> None:
    with client_of(reporting(before)) as client:
        with pytest.raises(Mine, match="reported"):
            call(client, "http://x/")


@every_way
@pytest.mark.parametrize("before", BEFORE_THE_HEAD_IS_SENT)
def test_what_is_reported_may_replace_the_head(before: typing.Any, call: typing.Any) -> None:
    with client_of(reporting(before), raise_app_exceptions=False) as client:
        response = call(client, "http://x/")
    assert (response.status_code, response.content) == (500, b"error page")
    assert response.headers.raw == [(b"x-error", b"page")]


@every_way
@pytest.mark.parametrize("raises", [True, False])
@pytest.mark.parametrize("late", ["write", "generator"])
def test_what_is_reported_too_late_is_raised_to_the_app(
    late: str, raises: bool, call: typing.Any, caplog: pytest.LogCaptureFixture
) -> None:
    went_on = []

    def fails_within(environ: Environ, start_response: typing.Any) -> typing.Any:
        write = start_response("200 OK", TEXT)
        if late == "write":
            write(b"")  # PEP 3333: the headers are sent upon the first call
        else:
            yield b"first"
        try:
            raise Mine("reported")
        except Mine:
            start_response("500 Oh", TEXT, sys.exc_info())
        went_on.append(True)
        yield b"second"

    app = fails_within
    with client_of(app, raise_app_exceptions=raises) as client:
        with pytest.raises(Mine if raises else http3.ReadError) as caught:
            call(client, "http://x/")
    error = caught.value if raises else caught.value.__cause__
    assert isinstance(error, Mine)
    assert not went_on


@pytest.mark.parametrize("raises", [True, False])
def test_exc_info_of_no_exception_replaces_the_head(raises: bool) -> None:
    app = reporting(BEFORE_THE_HEAD_IS_SENT[1].values[0], (None, None, None))  # type: ignore[arg-type]  # values are objects
    with client_of(app, raise_app_exceptions=raises) as client:
        assert client.get("http://x/").content == b"error page"


def test_exc_info_of_no_exception_after_the_head_was_sent_is_named() -> None:
    app = reporting(lambda start_response: start_response("200 OK", TEXT)(b"x"), (None, None, None))
    with client_of(app) as client:
        with pytest.raises(http3.ProtocolError, match="after its body had begun"):
            client.get("http://x/")


@pytest.mark.parametrize("exc_info", [True, Mine("no tuple"), (Mine, Mine())])
def test_exc_info_that_is_none_is_named(exc_info: typing.Any) -> None:
    with client_of(reporting(lambda start_response: None, exc_info)) as client:
        with pytest.raises(http3.ProtocolError, match="exc_info"):
            client.get("http://x/")


# Exceptions.


def fails_at_once(environ: Environ, start_response: typing.Any) -> typing.Any:
    raise Mine("what I said")


def fails_after_start_response(environ: Environ, start_response: typing.Any) -> typing.Any:
    start_response("200 OK", [("Content-Length", "5")])
    raise Mine("what I said")


def fails_in_iter(environ: Environ, start_response: typing.Any) -> typing.Any:
    class Fails:
        def __iter__(self) -> typing.Iterator[bytes]:
            raise Mine("what I said")

    start_response("200 OK", TEXT)
    return Fails()


def fails_in_the_first_step(environ: Environ, start_response: typing.Any) -> typing.Any:
    start_response("200 OK", TEXT)
    yield b""
    raise Mine("what I said")


def fails_after_the_first_byte(environ: Environ, start_response: typing.Any) -> typing.Any:
    start_response("200 OK", TEXT)
    yield b"partial"
    raise Mine("what I said")


def fails_after_write(environ: Environ, start_response: typing.Any) -> typing.Any:
    start_response("200 OK", TEXT)(b"partial")
    raise Mine("what I said")


EARLY = [fails_at_once, fails_after_start_response, fails_in_iter, fails_in_the_first_step]
LATE = [fails_after_the_first_byte, fails_after_write]


@every_way
@pytest.mark.parametrize("app", EARLY + LATE)
def test_what_the_app_raises_comes_out_unchanged(
    app: App, call: typing.Any, caplog: pytest.LogCaptureFixture
) -> None:
    with client_of(app) as client:
        with pytest.raises(Mine) as caught:
            call(client, "http://x/path?token=hush")
    assert str(caught.value) == "what I said"
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    names = {entry.name for entry in caught.traceback}
    assert name_of(app) in names or "__iter__" in names
    if sys.version_info >= (3, 11):
        assert caught.value.__notes__ == ["while requesting GET http://x/path?token=…"]
    assert not caplog.records


@every_way
@pytest.mark.parametrize("app", EARLY)
def test_behind_a_server_an_exception_is_a_500(
    app: App, call: typing.Any, caplog: pytest.LogCaptureFixture
) -> None:
    with client_of(app, raise_app_exceptions=False) as client:
        response = call(client, "http://x/path?token=hush")
    assert (response.status_code, response.text) == (500, "Internal Server Error")
    assert response.headers["content-length"] == "21"
    assert "the app failed" in caplog.text
    assert "what I said" in caplog.text
    assert "hush" not in caplog.text


@every_way
@pytest.mark.parametrize("app", LATE)
def test_behind_a_server_a_late_exception_breaks_the_body(
    app: App, call: typing.Any, caplog: pytest.LogCaptureFixture
) -> None:
    with client_of(app, raise_app_exceptions=False) as client:
        with pytest.raises(http3.ReadError, match="in the middle of its response") as caught:
            call(client, "http://x/")
    assert isinstance(caught.value.__cause__, Mine)
    assert caught.value.url == "http://x/"
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


@pytest.mark.parametrize("app", LATE)
def test_what_came_before_a_late_exception_can_be_read(app: App) -> None:
    with client_of(app, raise_app_exceptions=False) as client:
        response = client.get("http://x/", stream=True)
        assert response.status_code == 200
        pieces = response.stream()
        assert next(pieces) == b"partial"
        with pytest.raises(http3.ReadError):
            next(pieces)


def breaches(environ: Environ, start_response: typing.Any) -> typing.Any:
    start_response(environ["PATH_INFO"][1:], TEXT)
    return ["text"]


@pytest.mark.parametrize("path", ["bad", "200%20OK"])
def test_behind_a_server_a_breach_of_the_specification_is_a_500(path: str) -> None:
    with client_of(breaches, raise_app_exceptions=False) as client:
        assert client.get(f"http://x/{path}").status_code == 500
        assert client.head(f"http://x/{path}").status_code == 500


def test_an_app_that_raises_stop_iteration_is_not_an_empty_answer() -> None:
    def app(environ: Environ, start_response: typing.Any) -> typing.Any:
        start_response("200 OK", TEXT)
        return [next(iter(()))]

    with client_of(app) as client:
        with pytest.raises(RuntimeError, match="StopIteration"):
            client.get("http://x/")


def test_a_broken_body_is_retried_as_over_the_network() -> None:
    calls = itertools.count()

    def app(environ: Environ, start_response: typing.Any) -> typing.Any:
        start_response("200 OK", TEXT)
        yield b"partial"
        if next(calls) < 2:
            raise Mine
        yield b" and the rest"

    dispatch = WSGIDispatch(app, raise_app_exceptions=False)
    with http3.Client(dispatch=dispatch, retries=http3.Retry(3, backoff=0)) as client:
        assert client.get("http://x/").text == "partial and the rest"


# Where the body ends.


@every_way
@pytest.mark.parametrize(
    "pieces", [[b"123", b"45"], [b"12345", b"678"], [b"1234", b"5678"], [b"12345678"]]
)
def test_a_body_is_cut_at_its_content_length(pieces: list[bytes], call: typing.Any) -> None:
    body = Body(*pieces)
    with client_of(returning(body, headers=[("Content-Length", "5")])) as client:
        assert call(client, "http://x/").content == b"12345"
    assert body.closes == 1


def test_what_is_written_is_cut_too(caplog: pytest.LogCaptureFixture) -> None:
    def app(environ: Environ, start_response: typing.Any) -> typing.Any:
        write = start_response("200 OK", [("Content-Length", "5")])
        for piece in (b"123", b"456", b"789"):
            write(piece)
        return [b"x"]

    with client_of(app) as client:
        assert client.get("http://x/").content == b"12345"
    assert len(caplog.records) == 1


def test_an_endless_body_ends_at_its_content_length() -> None:
    endless = itertools.repeat(b"x")
    with client_of(returning(endless, headers=[("Content-Length", "5")])) as client:
        assert client.get("http://x/").content == b"xxxxx"


def test_a_generator_of_the_right_length_runs_to_its_end() -> None:
    ended = []

    def app(environ: Environ, start_response: typing.Any) -> typing.Any:
        start_response("200 OK", [("Content-Length", "5")])
        yield b"12345"
        ended.append("after the last piece")

    with client_of(app) as client:
        assert client.get("http://x/").content == b"12345"
    assert ended


@every_way
@pytest.mark.parametrize("raises", [True, False])
@pytest.mark.parametrize("pieces", [[], [b"123"]])
def test_a_body_shorter_than_its_content_length_is_incomplete(
    pieces: list[bytes], raises: bool, call: typing.Any
) -> None:
    body = Body(*pieces)
    app = returning(body, headers=[("Content-Length", "5")])
    with client_of(app, raise_app_exceptions=raises) as client:
        with pytest.raises(http3.IncompleteRead, match=f"{5 - len(b''.join(pieces))} bytes short"):
            call(client, "http://x/")
    assert body.closes == 1


@every_way
@pytest.mark.parametrize(
    ("method", "status"),
    [("HEAD", "200 OK"), ("GET", "204 No Content"), ("GET", "304 Not Modified")],
)
@pytest.mark.parametrize("kind", ["iterable", "write", "endless", "none"])
def test_what_has_no_body_gets_none(method: str, status: str, kind: str, call: typing.Any) -> None:
    body = Body(b"a", b"b", b"c")
    results: dict[str, typing.Any] = {"endless": itertools.repeat(b"x"), "none": []}

    def app(environ: Environ, start_response: typing.Any) -> typing.Any:
        write = start_response(status, [*TEXT, ("Content-Length", "3")])
        if kind == "write":
            write(b"abc")
        return results.get(kind, body)

    with client_of(app) as client:
        response = call(client, "http://x/", method)
    assert (response.status_code, response.content) == (int(status[:3]), b"")
    assert response.headers["content-length"] == "3"
    assert response.is_closed
    assert body.closes == (1 if kind in ("iterable", "write") else 0)


def test_an_answer_without_a_body_is_empty_to_a_reader_too() -> None:
    with client_of(returning([b"x"])) as client:
        response = client.head("http://x/", stream=True)
        assert list(response.stream()) == []


# In blocks.


def test_an_app_is_called_by_many_workers_at_once() -> None:
    together = threading.Barrier(8)

    def app(environ: Environ, start_response: typing.Any) -> typing.Any:
        together.wait(PATIENCE)  # passes only if all eight are here
        return returning([environ["PATH_INFO"].encode()])(environ, start_response)

    with client_of(app) as client, client.parallel(max_workers=8) as parallel:
        for number in range(8):
            parallel.get(f"http://x/{number}")
        seen = {parallel.next_response(PATIENCE).text for _ in range(8)}
    assert seen == {f"/{number}" for number in range(8)}


def test_many_requests_do_not_mix(switch_interval: None) -> None:
    def app(environ: Environ, start_response: typing.Any) -> typing.Any:
        write = start_response("200 OK", [*TEXT, ("X-Path", environ["PATH_INFO"])])
        write(environ["PATH_INFO"].encode())
        yield from environ["wsgi.input"]

    with client_of(app) as client, client.parallel() as parallel:
        for number in range(300):
            data = iter([b"%d\n" % number, b"%d" % -number])
            parallel.post(f"http://x/{number}", data=data, tag=number)
        tags = set()
        while parallel.has_pending_responses:
            response = parallel.next_response(PATIENCE)
            assert response.headers["x-path"] == f"/{response.tag}"
            assert response.text == f"/{response.tag}{response.tag}\n{-response.tag}"
            tags.add(response.tag)
    assert tags == set(range(300))


class Stuck:
    """An app that waits until it is let go, and ignores that nobody wants its answer."""

    def __init__(self, body: Body) -> None:
        self.body = body
        self.entered = threading.Event()
        self.let_go = threading.Event()

    def __call__(self, environ: Environ, start_response: typing.Any) -> typing.Any:
        self.entered.set()
        assert self.let_go.wait(PATIENCE)
        start_response("200 OK", TEXT)
        return self.body


@pytest.mark.parametrize("stream", [False, True])
def test_leaving_a_block_does_not_wait_for_the_app(stream: bool) -> None:
    app = Stuck(Body(b"a", b"b"))
    with client_of(app) as client:
        with client.parallel() as parallel:
            pending = parallel.get("http://x/", stream=stream)
            assert app.entered.wait(PATIENCE)
        # Had it waited, the app would still wait for this.
        app.let_go.set()
        assert app.body.closed.wait(PATIENCE)
        with pytest.raises(http3.RequestCancelled):
            pending.get_response()
    assert app.body.closes == 1
    assert app.body.taken == 0


def test_cancelling_discards_and_closes_what_comes_late() -> None:
    app = Stuck(FailsToClose(b"a"))
    with client_of(app) as client, client.parallel(max_workers=1) as parallel:
        pending = parallel.get("http://x/")
        assert app.entered.wait(PATIENCE)
        assert pending.cancel()
        app.let_go.set()
        assert app.body.closed.wait(PATIENCE)
        with pytest.raises(http3.RequestCancelled):
            pending.get_response()
        assert app.body.closes == 1


def test_a_delivered_stream_is_closed_with_its_block() -> None:
    body = Body(b"a", b"b", b"c")
    with client_of(returning(body)) as client:
        with client.parallel() as parallel:
            response = parallel.get("http://x/", stream=True).get_response(PATIENCE)
            pieces = response.stream()
            assert next(pieces) == b"a"
        assert body.closes == 1
        with pytest.raises(http3.HTTPError):
            next(pieces)


def test_leaving_a_block_does_not_wait_for_a_body_that_is_being_made() -> None:
    let_go, entered = threading.Event(), threading.Event()

    class Waits(Body):
        def __next__(self) -> typing.Any:
            if self.taken:
                entered.set()
                assert let_go.wait(PATIENCE)
            return super().__next__()

    body = Waits(b"a", b"b", b"c")
    with client_of(returning(body)) as client:
        with client.parallel() as parallel:
            reader = Reader(parallel.get("http://x/", stream=True).get_response(PATIENCE))
            assert entered.wait(PATIENCE)
        assert body.closes == 0, "somebody else is in the middle of it"
        let_go.set()
        reader.join()
    assert isinstance(reader.error, http3.RequestCancelled)
    assert (body.closes, body.taken) == (1, 2)


@every_way
def test_a_deadline_is_noticed_when_the_app_comes_back(call: typing.Any) -> None:
    body = Body(b"a")
    never = threading.Event()

    def app(environ: Environ, start_response: typing.Any) -> typing.Any:
        start_response("200 OK", TEXT)
        never.wait(0.2)
        return body

    with client_of(app) as client:
        with pytest.raises(http3.DeadlineExceeded):
            call(client, "http://x/", deadline=0.05)
        assert body.closed.wait(PATIENCE)
    assert body.closes == 1


def endless_nothing(environ: Environ, start_response: typing.Any) -> typing.Any:
    start_response("200 OK", TEXT)
    while True:
        yield b""


def endless_something(environ: Environ, start_response: typing.Any) -> typing.Any:
    start_response("200 OK", TEXT)
    while True:
        yield b"x"


def endless_writing(environ: Environ, start_response: typing.Any) -> typing.Any:
    write = start_response("200 OK", TEXT)
    while True:
        write(b"")


def endless_reading(environ: Environ, start_response: typing.Any) -> typing.Any:
    while environ["wsgi.input"].read(1):
        pass
    raise AssertionError("the body has no end")


@every_way
@pytest.mark.parametrize("raises", [True, False])
@pytest.mark.parametrize(
    "app", [endless_nothing, endless_something, endless_writing, endless_reading]
)
def test_a_deadline_ends_what_has_no_end(
    app: App, raises: bool, call: typing.Any, caplog: pytest.LogCaptureFixture
) -> None:
    with client_of(app, raise_app_exceptions=raises) as client:
        with pytest.raises(http3.DeadlineExceeded):
            call(client, "http://x/", "POST", data=itertools.repeat(b"x"), deadline=0.1)
    assert not caplog.records


def test_a_stream_outlives_its_client_but_not_its_deadline() -> None:
    with client_of(returning(itertools.repeat(b"x"))) as client:
        response = client.get("http://x/", stream=True, deadline=0.1)
    with pytest.raises(http3.DeadlineExceeded):
        for _ in response.stream():
            pass
    assert response.is_closed


def test_an_app_may_open_a_block_on_the_client_that_calls_it() -> None:
    clients: list[http3.Client] = []

    def app(environ: Environ, start_response: typing.Any) -> typing.Any:
        depth = int(environ["PATH_INFO"].strip("/"))
        total = 1
        if depth:
            with clients[0].parallel(max_workers=2) as parallel:
                for _ in range(3):
                    parallel.get(f"http://x/{depth - 1}")
                while parallel.has_pending_responses:
                    total += int(parallel.next_response(PATIENCE).text)
            total += int(clients[0].get("http://x/0").text)
        return returning([b"%d" % total])(environ, start_response)

    with http3.Client(dispatch=WSGIDispatch(app), max_workers=2) as client:
        clients.append(client)
        with client.parallel() as parallel:
            for _ in range(4):  # more than there are workers: all are busy with waiting
                parallel.get("http://x/2")
            while parallel.has_pending_responses:
                # 1 + 3 * (1 + 3 * 1 + 1) + 1
                assert parallel.next_response(PATIENCE).text == "17"


# Context variables.

_variable: contextvars.ContextVar[str] = contextvars.ContextVar("_variable", default="unset")


def tells_the_variable(environ: Environ, start_response: typing.Any) -> typing.Any:
    start_response("200 OK", TEXT)
    token = _variable.set(_variable.get() + "+app")
    yield _variable.get().encode()
    yield b"," + _variable.get().encode()
    _variable.reset(token)  # a ValueError in any other context
    yield b"," + _variable.get().encode()


@every_way
def test_the_app_sees_the_context_of_the_caller_and_does_not_change_it(call: typing.Any) -> None:
    token = _variable.set("mine")
    try:
        with client_of(tells_the_variable) as client:
            assert call(client, "http://x/").text == "mine+app,mine+app,mine"
        assert _variable.get() == "mine"
    finally:
        _variable.reset(token)


def test_a_stream_is_in_the_context_of_its_app_whoever_reads_it() -> None:
    seen: list[str] = []
    with client_of(tells_the_variable) as client, client.parallel() as parallel:
        token = _variable.set("mine")
        pending = parallel.get("http://x/", stream=True)
        _variable.reset(token)
        response = pending.get_response(PATIENCE)

        def read() -> None:
            _variable.set("the reader's")
            seen.append(response.read().decode())

        thread = threading.Thread(target=read)
        thread.start()
        thread.join(PATIENCE)
    assert seen == ["mine+app,mine+app,mine"]


# Memory.


@pytest.fixture
def no_collector() -> typing.Iterator[None]:
    """What is freed now is freed because nothing refers to it."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_a_response_does_not_keep_the_app_s_things(no_collector: None) -> None:
    body = Body(b"a", b"b")
    gone = weakref.ref(body)
    results = [body]
    del body

    def app(environ: Environ, start_response: typing.Any) -> typing.Any:
        start_response("200 OK", TEXT)
        return results.pop()

    with client_of(app) as client:
        response = client.get("http://x/")
        assert response.content == b"ab"
        assert gone() is None


class Weak(Exception):
    """Can be referred to weakly, as every exception of a user's class."""


def weak_at_once(environ: Environ, start_response: typing.Any) -> typing.Any:
    raise Weak


def weak_after_write(environ: Environ, start_response: typing.Any) -> typing.Any:
    start_response("200 OK", TEXT)(b"x")
    raise Weak


def weak_in_the_middle(environ: Environ, start_response: typing.Any) -> typing.Any:
    start_response("200 OK", TEXT)
    yield b"x"
    raise Weak


def weak_reported(environ: Environ, start_response: typing.Any) -> typing.Any:
    try:
        raise Weak
    except Weak:
        start_response("500 Oh", TEXT, sys.exc_info())
    return [b"x"]


def weak_reported_late(environ: Environ, start_response: typing.Any) -> typing.Any:
    start_response("200 OK", TEXT)(b"x")
    try:
        raise Weak
    except Weak:
        start_response("500 Oh", TEXT, sys.exc_info())
    return []


def weak_source(environ: Environ, start_response: typing.Any) -> typing.Any:
    return environ["wsgi.input"].read()


def raises_weak() -> typing.Iterator[bytes]:
    yield b"x"
    raise Weak


@pytest.mark.parametrize("raises", [True, False])
@pytest.mark.parametrize(
    "app",
    [
        weak_at_once,
        weak_after_write,
        weak_in_the_middle,
        weak_reported,
        weak_reported_late,
        weak_source,
    ],
)
def test_errors_are_in_no_cycle(
    app: App, raises: bool, no_collector: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[weakref.ref[Weak]] = []
    monkeypatch.setattr(Weak, "__init__", lambda error: made.append(weakref.ref(error)))
    logger = logging.getLogger("http3_parallel")
    monkeypatch.setattr(logger, "disabled", True)  # pytest keeps what is logged
    with client_of(app, raise_app_exceptions=raises) as client:
        for stream in (False, True):
            for read in (False, True):
                _ignore_failure(client, stream, read)
    assert len(made) >= 3, "one that breaks late is not met where nobody reads"
    assert {reference() for reference in made} == {None}


def _ignore_failure(client: http3.Client, stream: bool, read: bool) -> None:
    try:
        response = client.post("http://x/", data=raises_weak(), stream=stream)
        if read:
            response.read()
    except (Weak, http3.HTTPError):
        pass


# What is no WSGI app.


async def asgi_function(scope: typing.Any, receive: typing.Any, send: typing.Any) -> None:
    raise AssertionError


class AsgiObject:
    async def __call__(self, scope: typing.Any, receive: typing.Any, send: typing.Any) -> None:
        raise AssertionError


class AsgiClass:
    def __init__(self, scope: typing.Any, receive: typing.Any, send: typing.Any) -> None:
        raise AssertionError


async def two_parameters(environ: typing.Any, start_response: typing.Any) -> None:
    raise AssertionError


async def asynchronous_generator(environ: typing.Any, start_response: typing.Any) -> typing.Any:
    yield b"x"


@pytest.mark.parametrize(
    "app",
    [
        asgi_function,
        AsgiObject(),
        AsgiClass,
        functools.partial(asgi_function),
        lambda scope, receive, send: None,
        two_parameters,
        asynchronous_generator,
    ],
)
def test_an_asgi_app_is_told_apart(app: typing.Any) -> None:
    with pytest.raises(TypeError, match=r"ASGI app; a WSGI app is called with \(environ, start_r"):
        WSGIDispatch(app)


@pytest.mark.parametrize("app", [None, "module:app", 5, object()])
def test_what_cannot_be_called_is_no_app(app: typing.Any) -> None:
    with pytest.raises(TypeError, match="a WSGI app is a callable, not"):
        WSGIDispatch(app)


@pytest.mark.parametrize("app", [lambda: None, lambda environ: None, lambda *, a, b: None])
def test_what_does_not_take_two_arguments_is_no_app(app: typing.Any) -> None:
    with pytest.raises(TypeError, match=r"called with \(environ, start_response\), which"):
        WSGIDispatch(app)


@pytest.mark.parametrize(
    "app",
    [
        as_decorated,
        lambda environ, start_response, more=None: [],
        functools.partial(lambda more, environ, start_response: [], "more"),
        collections.ChainMap,  # any number of arguments
        max,  # a builtin without a signature
    ],
)
def test_what_takes_two_arguments_may_be_an_app(app: typing.Any) -> None:
    WSGIDispatch(app)


@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        ({"script_name": b"/x"}, TypeError, "script_name"),
        ({"script_name": None}, TypeError, "script_name"),
        ({"script_name": "x"}, ValueError, "script_name"),
        ({"remote_addr": None}, TypeError, "remote_addr"),
        ({"root_path": "/"}, TypeError, "root_path"),
    ],
)
def test_a_wrong_argument_is_named(
    options: dict[str, typing.Any], error: type[Exception], named: str
) -> None:
    with pytest.raises(error, match=named):
        WSGIDispatch(as_list, **options)


def test_only_http_is_spoken() -> None:
    with client_of(as_list) as client:
        with pytest.raises(http3.UnsupportedScheme, match="'ftp'"):
            client.send(http3.Request("GET", "ftp://x/"))
