"""What a client says about all of its requests: params, sizes, encodings, an app."""

from __future__ import annotations

import json
import pickle
import tracemalloc
import typing
import zlib

import pytest

import http3_parallel as http3
from scripted import PATIENCE, InstantDispatch
from servers import Site

URL = "http://x.test/"


class Fixed(http3.Dispatcher):
    """The same answer to all."""

    abortable = True

    def __init__(self, **kwargs: typing.Any) -> None:
        self._kwargs = kwargs

    def send(self, request: http3.Request, context: http3.Context) -> http3.Response:
        return http3.Response(200, request=request, **self._kwargs)


# Parameters.


@pytest.mark.parametrize(
    ("url", "params", "expected"),
    [
        ("/", None, "/?key=1"),
        ("/", {"a": "2"}, "/?key=1&a=2"),
        ("/?a=2", None, "/?key=1&a=2"),
        ("/?a=2", {"b": "3"}, "/?key=1&b=3"),
        ("/", {"key": "own"}, "/?key=own"),
        ("/?key=own", None, "/?key=own"),
        ("/", {"key": ["own", "own too"]}, "/?key=own&key=own+too"),
        ("/?", None, "/?key=1"),
    ],
)
def test_params_of_the_client_are_added_and_those_of_the_request_win(
    url: str, params: typing.Any, expected: str
) -> None:
    with http3.Client(dispatch=InstantDispatch(), base_url=URL, params={"key": "1"}) as client:
        assert client.get(url, params=params).content.decode() == expected
        with client.parallel() as parallel:
            assert parallel.get(url, params=params).get_response().content.decode() == expected


def test_a_client_without_params_leaves_the_query_as_it_is() -> None:
    with http3.Client(dispatch=InstantDispatch()) as client:
        assert client.get(URL + "?a=%20&&b").content == b"/?a=%20&&b"


def test_params_that_are_none_are_refused() -> None:
    with pytest.raises(TypeError):
        http3.Client(params=b"a=1")  # type: ignore[arg-type]


# Sizes.


@pytest.mark.parametrize("stream", [False, True])
def test_a_body_beyond_the_limit_is_given_up(stream: bool) -> None:
    closed = []
    chunks = iter([b"12345", b"67890", b"1"])
    dispatch = Fixed(content=chunks, on_close=lambda: closed.append(True))
    with http3.Client(dispatch=dispatch, max_response_size=10) as client:
        with client.parallel() as parallel:
            handle = parallel.get(URL, stream=stream)
            with pytest.raises(http3.ResponseTooLarge, match="max_response_size") as raised:
                handle.get_response(PATIENCE).read()

    assert raised.value.request is not None
    assert closed == [True]


def test_a_body_of_exactly_the_limit_passes() -> None:
    dispatch = Fixed(content=iter([b"12345", b"67890"]))
    with http3.Client(dispatch=dispatch, max_response_size=10) as client:
        assert client.get(URL).content == b"1234567890"


def test_the_limit_is_on_decoded_bytes_and_a_bomb_costs_little() -> None:
    bomb = zlib.compress(bytes(64 * 1024 * 1024), 9)
    dispatch = Fixed(content=iter([bomb]), headers={"content-encoding": "deflate"})
    with http3.Client(dispatch=dispatch, max_response_size=100_000) as client:
        tracemalloc.start()
        try:
            with pytest.raises(http3.ResponseTooLarge):
                client.get(URL)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert peak < 4 * 1024 * 1024


def test_a_redirects_body_counts_for_nothing() -> None:
    class Redirecting(http3.Dispatcher):
        def send(self, request: http3.Request, context: http3.Context) -> http3.Response:
            if request.url.path == "/end":
                return http3.Response(200, content=b"end", request=request)
            headers = {"location": "/end"}
            return http3.Response(302, headers=headers, content=iter([bytes(1000)]))

    with http3.Client(dispatch=Redirecting(), max_response_size=10) as client:
        assert client.get(URL).content == b"end"


def test_a_length_beyond_the_limit_is_not_even_read(server: Site) -> None:
    url = server.answer("/large", bytes(1_000_000))
    with http3.Client(max_response_size=1000) as client:
        with pytest.raises(http3.ResponseTooLarge):
            client.get(url)


@pytest.mark.parametrize("wrong", [-1, "1 MB", 1.5, True])
def test_a_size_is_a_number_of_bytes(wrong: typing.Any) -> None:
    with pytest.raises((TypeError, ValueError), match="max_response_size"):
        http3.Client(max_response_size=wrong)


# Encodings.


@pytest.mark.parametrize(
    ("content_type", "content", "text"),
    [
        ("text/plain", "ж".encode("koi8-r"), "ж"),
        ("text/plain", "ж".encode(), "ж"),
        ("text/plain; charset=cp1251", "ж".encode("cp1251"), "ж"),
    ],
    ids=["nothing known", "UTF-8 all the same", "declared"],
)
def test_the_default_encoding_is_for_text_of_which_nothing_is_known(
    content_type: str, content: bytes, text: str
) -> None:
    dispatch = Fixed(content=content, headers={"content-type": content_type})
    with http3.Client(dispatch=dispatch, default_encoding="koi8-r") as client:
        assert client.get(URL).text == text


def test_an_encoding_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="nonsense"):
        http3.Client(default_encoding="nonsense")
    with pytest.raises(TypeError, match="default_encoding"):
        http3.Client(default_encoding=8)  # type: ignore[arg-type]


# An app.


def app(environ: typing.Any, start_response: typing.Any) -> typing.Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Set-Cookie", "seen=1; Path=/")])
    return [environ["PATH_INFO"].encode(), environ.get("HTTP_COOKIE", "").encode()]


def broken(environ: typing.Any, start_response: typing.Any) -> typing.Iterable[bytes]:
    raise LookupError("of the app")


def test_an_app_answers_in_place_of_the_network() -> None:
    with http3.Client(app=app) as client:
        assert client.get("http://shop.test/one").content == b"/one"
        assert client.get("http://shop.test/two").content == b"/twoseen=1"


def test_an_app_answers_a_block_of_its_own() -> None:
    with http3.parallel(app=app) as parallel:
        for number in range(10):
            parallel.get(f"http://shop{number}.test/")
        while parallel.has_pending_responses:
            assert parallel.next_response(PATIENCE).content == b"/"


def test_an_app_wins_over_a_dispatcher() -> None:
    with http3.Client(app=app, dispatch=InstantDispatch()) as client:
        assert client.get("http://shop.test/one").headers["content-type"] == "text/plain"


def test_an_exception_of_the_app_comes_out_unless_told_otherwise() -> None:
    with http3.Client(app=broken) as client:
        with pytest.raises(LookupError, match="of the app"):
            client.get("http://shop.test/")
    with http3.Client(app=broken, raise_app_exceptions=False) as client:
        assert client.get("http://shop.test/").status_code == 500


def test_an_error_of_a_request_that_the_app_made_is_not_tried_again(refused_url: str) -> None:
    called = []

    def failing(environ: typing.Any, start_response: typing.Any) -> typing.Iterable[bytes]:
        called.append(environ["PATH_INFO"])
        http3.get(refused_url)
        raise AssertionError("nobody listens there")

    with http3.Client(app=failing, retries=http3.Retry(3, backoff=0)) as client:
        with pytest.raises(http3.ConnectError) as raised:
            client.get("http://shop.test/", tag="outer")

    assert called == ["/"]
    assert str(raised.value.url) == refused_url


def test_a_bare_error_of_an_app_or_a_body_is_not_tried_again(server: Site) -> None:
    called = []

    def failing(environ: typing.Any, start_response: typing.Any) -> typing.Iterable[bytes]:
        called.append("app")
        raise http3.ConnectError("the app's own")

    class Failing:
        def __iter__(self) -> typing.Iterator[bytes]:
            called.append("body")
            raise http3.ConnectError("the body's own")

    retries = http3.Retry(3, backoff=0)
    with http3.Client(app=failing, retries=retries) as client:
        with pytest.raises(http3.ConnectError, match="app's own") as raised:
            client.post("http://shop.test/")
    assert raised.value.request is not None
    with http3.Client(retries=retries) as client:
        with pytest.raises(http3.ConnectError, match="body's own"):
            client.post(server.url, data=Failing())

    assert called == ["app", "body"]


def test_what_a_dispatcher_delegates_with_another_request_is_tried_again() -> None:
    attempts = []

    class Inner(http3.Dispatcher):
        def send(self, request: http3.Request, context: http3.Context) -> http3.Response:
            attempts.append(request)
            if len(attempts) == 1:
                raise http3.ConnectError("refused", request=request)
            return http3.Response(200, request=request)

    class Signing(http3.Dispatcher):
        def send(self, request: http3.Request, context: http3.Context) -> http3.Response:
            signed = request.copy()
            signed.headers["x-signed"] = "1"
            return Inner().send(signed, context)

    with http3.Client(dispatch=Signing(), retries=http3.Retry(1, backoff=0)) as client:
        assert client.post(URL).status_code == 200

    assert len(attempts) == 2


def test_a_401s_body_is_of_no_interest() -> None:
    class Refusing(http3.Dispatcher):
        def send(self, request: http3.Request, context: http3.Context) -> http3.Response:
            if "authorization" in request.headers:
                return http3.Response(200, content=b"in", request=request)
            headers = {"www-authenticate": 'Digest realm="r", nonce="n"'}
            body = iter([bytes(1000)])
            return http3.Response(401, headers=headers, content=body, request=request)

    auth = http3.DigestAuth("user", "secret")
    with http3.Client(dispatch=Refusing(), auth=auth, max_response_size=10) as client:
        assert client.get(URL).content == b"in"


def test_no_password_is_shown_for_what_was_given_in_the_wrong_place() -> None:
    url: typing.Any = "http://user:secret@x.test/"
    with http3.Client(dispatch=InstantDispatch()) as client, client.parallel() as parallel:
        wrong: list[typing.Callable[[], object]] = [
            lambda: client.send(url),
            lambda: list(parallel.map([url.encode()])),
            lambda: http3.Client(dispatch=url),
            lambda: http3.Client(pool_limits=url),
            lambda: http3.Client(proxies={url: "http"}),
        ]
        for call in wrong:
            with pytest.raises((TypeError, ValueError)) as raised:
                call()
            assert "secret" not in str(raised.value)


def test_what_is_no_app_is_refused() -> None:
    with pytest.raises(TypeError):
        http3.Client(app="shop:app")  # type: ignore[arg-type]


# Timings.


@pytest.mark.parametrize("in_block", [False, True])
def test_a_response_has_its_timings(server: Site, in_block: bool) -> None:
    with http3.Client() as client:
        if in_block:
            with client.parallel() as parallel:
                response = parallel.get(server.url).get_response(PATIENCE)
        else:
            response = client.get(server.url)

    timings = response.timings
    assert timings is not None
    moments = [value for value in timings.as_dict().values() if value is not None]
    assert len(moments) == 6, "all but TLS"
    assert moments == sorted(moments)
    assert pickle.loads(pickle.dumps(response)).timings == timings


def test_a_dispatcher_that_marks_nothing_has_the_moments_the_client_knows() -> None:
    with http3.Client(dispatch=Fixed(content=iter([b"body"]))) as client:
        response = client.get(URL, stream=True)
        assert response.timings is not None
        assert response.timings.done is None
        response.read()

    marked = {name for name, at in response.timings.as_dict().items() if at is not None}
    assert marked == {"queued", "first_byte", "done"}


def test_what_waited_in_line_was_queued_for_that_long() -> None:
    with http3.Client(dispatch=InstantDispatch()) as client:
        with client.parallel(max_workers=1) as parallel:
            handles = [parallel.get(URL) for _ in range(50)]
            queued = [
                timings.queued
                for handle in handles
                if (timings := handle.get_response(PATIENCE).timings) is not None
            ]

    assert len(queued) == 50
    assert all(at is not None and at >= 0 for at in queued)


def test_settings_pickle() -> None:
    defaults = http3.Client(
        auth=http3.BearerAuth("token"),
        cookies={"a": "1"},
        headers={"X-Key": "2"},
        params={"b": "3"},
        retries=http3.Retry(4),
        timeout=5,
        base_url=URL,
        max_response_size=6,
        event_hooks={"response": [http3.Response.raise_for_status]},
    )._defaults

    copied = pickle.loads(pickle.dumps(defaults))

    assert copied.cookies["a"] == "1"
    assert copied.headers == defaults.headers
    assert copied.params == defaults.params
    assert copied.retries == defaults.retries
    assert copied.reception == defaults.reception
    request, settings = copied.prepare("GET", "page", {})
    assert str(request.url) == URL + "page?b=3"
    assert settings.timeout == http3.TimeoutConfig(5)
    assert settings.policy.cookies is copied.cookies


# Requests that are made to be sent later.


class Echo(http3.Dispatcher):
    """Answers with what it was sent."""

    abortable = True

    def send(self, request: http3.Request, context: http3.Context) -> http3.Response:
        fields = {name: request.headers.get(name) for name in ("x-key", "cookie", "authorization")}
        fields["url"] = str(request.url)
        return http3.Response(200, content=json.dumps(fields).encode(), request=request)


def test_a_built_request_has_what_the_client_would_have_given_it() -> None:
    options: typing.Any = {
        "base_url": URL,
        "headers": {"X-Key": "1"},
        "params": {"k": "2"},
        "cookies": {"session": "3"},
        "auth": ("user", "secret"),
    }
    with http3.Client(dispatch=Echo(), **options) as client:
        direct = client.get("page", cookies={"own": "4"}).json()
        request = client.build_request("GET", "page", cookies={"own": "4"})
        assert "authorization" not in request.headers, "that comes when it is sent"
        assert client.send(request).json() == direct
        with client.parallel() as parallel:
            assert parallel.send(request).get_response(PATIENCE).json() == direct
            (handle,) = parallel.map([request])
            assert handle.get_response(PATIENCE).json() == direct


def test_a_cookie_header_of_a_built_request_is_the_users() -> None:
    with http3.Client(dispatch=Echo(), cookies={"session": "3"}) as client:
        request = client.build_request("GET", URL, headers={"Cookie": "mine=1"})
        assert client.send(request).json()["cookie"] == "mine=1"


def test_what_is_no_part_of_a_request_is_given_when_it_is_sent() -> None:
    with http3.Client(dispatch=Echo()) as client:
        with pytest.raises(TypeError, match="'timeout'"):
            client.build_request("GET", URL, timeout=5)  # type: ignore[call-arg]
        with pytest.raises(http3.InvalidURL):
            client.build_request("GET", "page")


@pytest.mark.parametrize(
    ("option", "hint"), [("content", "data="), ("follow_redirects", "allow_redirects=")]
)
def test_what_other_clients_call_otherwise_is_told(option: str, hint: str) -> None:
    with http3.Client(dispatch=Echo()) as client:
        with pytest.raises(TypeError, match=hint):
            client.post(URL, **{option: b"1"})  # type: ignore[arg-type]


@pytest.mark.parametrize("url", ["file:///etc/passwd", "FTP:///x", "ws://x.test/"])
def test_the_scheme_is_looked_at_before_the_host(url: str) -> None:
    with http3.Client(dispatch=Echo()) as client:
        with pytest.raises(http3.UnsupportedScheme) as raised:
            client.get(url)

    assert raised.value.url == url


def test_an_error_without_a_method_shows_none() -> None:
    with pytest.raises(http3.InvalidURL) as raised:
        http3.Client(base_url="example.com")

    assert "None" not in str(raised.value)
