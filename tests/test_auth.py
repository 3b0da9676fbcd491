"""Who the client says it is: Basic, callables, schemes of one's own, and which of them counts."""

from __future__ import annotations

import base64
import pickle
import typing

import pytest

import http3_parallel as http3
from flow_steps import Answers, drive, redirect, respond
from http3_parallel import auth

URL = "http://example.com/"


def sent(url: str = URL, *, auth: typing.Any = None, **options: typing.Any) -> http3.Request:
    """The one request that is sent."""
    answers = Answers(respond(200))
    drive(http3.Request("GET", url, **options), answers, auth=auth)
    return answers.requests[0]


def credentials(request: http3.Request) -> bytes | None:
    """What Basic says, or None if it says nothing."""
    value = request.headers.get("authorization")
    if value is None:
        return None
    scheme, _, encoded = value.partition(" ")
    assert scheme == "Basic"
    return base64.b64decode(encoded, validate=True)


def test_a_tuple_is_basic_auth() -> None:
    # The example of RFC 7617, section 2.
    request = sent(auth=("Aladdin", "open sesame"))
    assert request.headers["authorization"] == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="


@pytest.mark.parametrize(
    ("username", "password", "expected"),
    [
        ("user", "", b"user:"),
        ("", "secret", b":secret"),
        ("user", "a:b:c", b"user:a:b:c"),
        ("us\u00e9r", "p\u00e4ss", b"us\xe9r:p\xe4ss"),
        ("user", "\u20ac", b"user:\xe2\x82\xac"),
        ("us\u00e9r", "\u20ac", b"us\xc3\xa9r:\xe2\x82\xac"),
        (b"us\xff", b"\x00\xfe", b"us\xff:\x00\xfe"),
        (b"\xff", "\u20ac", b"\xff:\xe2\x82\xac"),
    ],
)
def test_text_is_latin_1_or_all_of_it_utf_8_and_bytes_are_as_they_are(
    username: str | bytes, password: str | bytes, expected: bytes
) -> None:
    assert credentials(sent(auth=(username, password))) == expected
    assert credentials(sent(auth=http3.BasicAuth(username, password))) == expected


@pytest.mark.parametrize("username", ["a:b", b"a:b"])
def test_a_user_name_with_a_colon_is_refused_at_once(username: str | bytes) -> None:
    with pytest.raises(ValueError, match="colon"):
        http3.BasicAuth(username, "secret")


@pytest.mark.parametrize("pair", [(None, "x"), ("x", None), (1, "x")])
def test_a_user_name_or_password_that_is_no_text_is_refused_at_once(pair: typing.Any) -> None:
    with pytest.raises(TypeError, match="user name or password"):
        http3.Client(auth=pair)


@pytest.mark.parametrize("auth", ["user:secret", ["user", "secret"], ("a", "b", "c"), (), 5, True])
def test_what_is_no_auth_is_refused_at_once_and_not_shown(auth: typing.Any) -> None:
    with pytest.raises(TypeError, match="auth is") as caught:
        http3.Client(auth=auth)
    assert "secret" not in str(caught.value)


def test_basic_auth_shows_nothing_of_itself() -> None:
    assert repr(http3.BasicAuth("user", "secret")) == "<BasicAuth>"


def test_the_names_that_http3_had_are_there() -> None:
    assert issubclass(auth.AuthBase, http3.Auth)
    assert auth.HTTPBasicAuth is http3.BasicAuth


def change(request: http3.Request) -> http3.Request:
    request.headers["authorization"] = "Changed"
    return request


# From the URL.


@pytest.mark.parametrize(
    ("userinfo", "expected"),
    [
        ("user:secret", b"user:secret"),
        ("user", b"user:"),
        ("user:", b"user:"),
        (":secret", b":secret"),
        ("u%40x:p%3Aq%2Fr", b"u@x:p:q/r"),
        ("user:a:b", b"user:a:b"),
        ("us\u00e9r:x", b"us\xe9r:x"),
        ("us%C3%A9r:x", b"us\xe9r:x"),
        ("us%E9r:%FF", b"us\xe9r:\xff"),
        ("user:%E2%82%AC", b"user:\xe2\x82\xac"),
        ("user:a+b", b"user:a+b"),
        ("", None),
        (":", None),
    ],
)
def test_credentials_of_the_url_are_percent_decoded(userinfo: str, expected: bytes | None) -> None:
    request = sent(f"http://{userinfo}@example.com/")
    assert credentials(request) == expected
    assert request.headers["host"] == "example.com"


def test_no_credentials_no_header() -> None:
    assert "authorization" not in sent().headers


def test_credentials_of_the_url_that_cannot_be_sent_make_it_invalid() -> None:
    request = http3.Request("GET", "http://us%3Aer:secret@example.com/")
    with pytest.raises(http3.InvalidURL, match="colon") as caught:
        drive(request, Answers())
    assert caught.value.request is request
    assert "secret" not in str(caught.value)


# Callables.


def test_a_callable_gets_the_request_and_returns_the_one_to_send() -> None:
    seen = []

    def sign(request: http3.Request) -> http3.Request:
        seen.append(request)
        request.headers["x-signature"] = f"{request.method} {request.url.path}"
        return request

    assert sent(auth=sign).headers["x-signature"] == "GET /"
    assert [type(request) for request in seen] == [http3.Request]


def test_a_callable_may_return_another_request() -> None:
    other = http3.Request("POST", "http://example.org/other", data=b"x")
    assert sent(auth=lambda request: other) is other


@pytest.mark.parametrize("returned", [None, "Bearer x", 5])
def test_a_callable_that_returns_no_request_is_a_type_error(returned: typing.Any) -> None:
    what = f"auth callable returns the request to send, not {type(returned).__name__}$"
    with pytest.raises(TypeError, match=what):
        sent(auth=lambda request: returned)


# Schemes of one's own.


class ChallengeAuth(http3.Auth):
    """Asks first, and answers the challenge; what it learnt is in `challenges`."""

    def __init__(self) -> None:
        self.challenges: list[str] = []

    def steps(
        self, request: http3.Request
    ) -> typing.Generator[http3.Request, http3.Response, None]:
        response = yield request
        if response.status_code == 401:
            self.challenges.append(response.headers["www-authenticate"])
            request.headers["authorization"] = "Challenge answered"
            yield request


def test_a_scheme_may_ask_first_and_answer_a_challenge() -> None:
    auth = ChallengeAuth()
    answers = Answers(
        respond(401, headers={"WWW-Authenticate": "Challenge"}), respond(200, content=b"in")
    )
    response = drive(http3.Request("GET", URL), answers, auth=auth)
    assert response.content == b"in"
    assert response.history == []
    assert auth.challenges == ["Challenge"]
    assert answers.discarded == answers.responses[:1]


def test_a_scheme_that_is_content_with_the_first_response_sends_no_other() -> None:
    answers = Answers(respond(200, content=b"open"))
    assert drive(http3.Request("GET", URL), answers, auth=ChallengeAuth()).content == b"open"


def test_the_scheme_of_the_base_class_is_none() -> None:
    with pytest.raises(NotImplementedError):
        sent(auth=http3.Auth())


def test_a_share_of_ones_own_is_waited_for_and_its_value_sent_to_the_steps() -> None:
    class Now(http3.Share):
        def perform(self, abort: http3.Abort) -> str:
            assert not abort.aborted
            return "now"

    class Timed(http3.Auth):
        def steps(self, request: http3.Request) -> auth.AuthSteps:
            changed = request._replace()
            changed.headers["authorization"] = f"Timed {(yield Now())}"
            yield changed

    class Echo(http3.Dispatcher):
        def send(self, request: http3.Request, context: http3.Context) -> http3.Response:
            return http3.Response(200, content=request.headers["authorization"].encode())

    with http3.Client(dispatch=Echo(), auth=Timed()) as client:
        assert client.get(URL).text == "Timed now"


def test_what_a_share_of_ones_own_must_do_is_its_own() -> None:
    with pytest.raises(NotImplementedError):
        http3.Share().perform(http3.Abort())


@pytest.mark.parametrize("scheme", [http3.BasicAuth("user", "secret"), auth.CallableAuth(change)])
def test_a_scheme_pickles_and_shows_nothing(scheme: http3.Auth) -> None:
    copy = pickle.loads(pickle.dumps(scheme))
    assert sent(auth=copy).headers["authorization"] == sent(auth=scheme).headers["authorization"]
    assert "secret" not in repr(scheme)


# Which one counts.


def test_auth_replaces_an_authorization_header() -> None:
    request = sent(auth=("user", "secret"), headers={"Authorization": "Bearer x"})
    assert request.headers.getlist("authorization") == ["Basic dXNlcjpzZWNyZXQ="]


def test_auth_comes_before_the_credentials_of_the_url() -> None:
    request = sent("http://url:secret@example.com/", auth=("given", "secret"))
    assert credentials(request) == b"given:secret"


@pytest.mark.parametrize("auth", [("user", "secret"), change])
def test_auth_leaves_the_users_request_as_it_was(auth: typing.Any) -> None:
    request = http3.Request("GET", URL)
    answers = Answers(respond(200))
    drive(request, answers, auth=auth)
    assert "authorization" in answers.requests[0].headers
    assert "authorization" not in request.headers


def test_a_callable_is_asked_for_each_url_of_the_origin_and_each_retry() -> None:
    asked = []

    def sign(request: http3.Request) -> http3.Request:
        assert "authorization" not in request.headers
        asked.append(request.url.path)
        request.headers["authorization"] = f"Signed {request.url.path}"
        return request

    answers = Answers(
        http3.ConnectError("refused"),
        redirect("/next"),
        redirect("http://example.org/"),
        redirect(URL),
        respond(200),
    )
    drive(http3.Request("GET", URL + "start"), answers, auth=sign, retries=http3.Retry(1))
    assert asked == ["/start", "/start", "/next"]
    assert [request.headers.get("authorization") for request in answers.requests] == [
        "Signed /start",
        "Signed /start",
        "Signed /next",
        None,
        None,
    ]


class TestOfAClient:
    """The request's own, then the client's, then the URL's."""

    class Echo(http3.Dispatcher):
        """Answers with the credentials it was sent."""

        def send(self, request: http3.Request, context: http3.Context) -> http3.Response:
            return http3.Response(200, content=credentials(request), request=request)

    @pytest.mark.parametrize(
        ("of_request", "of_client", "url", "expected"),
        [
            (("request", ""), ("client", ""), "http://url@example.com/", b"request:"),
            (None, ("client", ""), "http://url@example.com/", b"client:"),
            (None, None, "http://url@example.com/", b"url:"),
            (("request", ""), None, URL, b"request:"),
            (None, None, URL, b""),
        ],
    )
    @pytest.mark.parametrize("how", ["request", "send", "block"])
    def test_priority(
        self, how: str, of_request: typing.Any, of_client: typing.Any, url: str, expected: bytes
    ) -> None:
        with http3.Client(dispatch=self.Echo(), auth=of_client) as client:
            if how == "request":
                response = client.get(url, auth=of_request)
            elif how == "send":
                response = client.send(http3.Request("GET", url), auth=of_request)
            else:
                with client.parallel() as parallel:
                    response = parallel.get(url, auth=of_request).get_response()
            assert response.content == expected

    def test_the_base_urls_credentials_count_for_what_is_relative_to_it(self) -> None:
        with http3.Client(dispatch=self.Echo(), base_url="http://u:p@example.com/api/") as client:
            assert client.get("x").content == b"u:p"
            assert client.get("http://example.org/").content == b""
