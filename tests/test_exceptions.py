from __future__ import annotations

import concurrent.futures
import copy
import inspect
import pickle
import typing

import pytest

from http3_parallel import exceptions
from http3_parallel.exceptions import (
    HTTPError,
    HttpError,
    HTTPStatusError,
    InvalidURL,
    PickledCause,
    ReadError,
    WaitTimeout,
)
from http3_parallel.models import Request, Response

ALL = [getattr(exceptions, name) for name in exceptions.__all__]
OF_REQUESTS = [error for error in ALL if issubclass(error, HTTPError)]
OTHERS = [error for error in ALL if not issubclass(error, HTTPError)]

REQUEST = Request("POST", "http://user:password@example.org/a?key=value#f", data=b"content")


def test_everything_that_is_defined_is_exported() -> None:
    defined = {
        name
        for name, value in vars(exceptions).items()
        if inspect.isclass(value) and value.__module__ == exceptions.__name__
    }
    assert defined - {"PickledCause"} == set(exceptions.__all__)


def test_there_is_one_root_for_the_failures_of_a_request() -> None:
    assert {error.__name__ for error in OTHERS} == {
        "NoPendingResponses",
        "WaitTimeout",
        "ParallelClosed",
        "ClientClosed",
    }
    assert HttpError is HTTPStatusError


@pytest.mark.parametrize(
    ("name", "bases"),
    [
        ("InvalidURL", (ValueError,)),
        ("UnsupportedScheme", (exceptions.InvalidURL, ValueError)),
        ("DeadlineExceeded", (TimeoutError,)),
        ("Timeout", (TimeoutError,)),
        ("ConnectTimeout", (exceptions.Timeout, TimeoutError)),
        ("ReadTimeout", (exceptions.Timeout, TimeoutError)),
        ("WriteTimeout", (exceptions.Timeout, TimeoutError)),
        ("PoolTimeout", (exceptions.Timeout, TimeoutError)),
        ("NetworkError", (ConnectionError, OSError)),
        ("ConnectError", (exceptions.NetworkError, ConnectionError)),
        ("NameResolutionError", (exceptions.ConnectError, ConnectionError)),
        ("TLSError", (exceptions.ConnectError, ConnectionError)),
        ("CertificateError", (exceptions.TLSError, ConnectionError)),
        ("ProxyError", (exceptions.ConnectError, ConnectionError)),
        ("ReadError", (exceptions.NetworkError, ConnectionError)),
        ("WriteError", (exceptions.NetworkError, ConnectionError)),
        ("IncompleteRead", (exceptions.ProtocolError,)),
        ("DecodingError", (ValueError,)),
        ("TooManyRedirects", (exceptions.RedirectError,)),
        ("RedirectLoop", (exceptions.RedirectError,)),
        ("RedirectBodyUnavailable", (exceptions.RedirectError,)),
        ("StreamConsumed", (exceptions.StreamError,)),
        ("ResponseNotRead", (exceptions.StreamError,)),
        ("ResponseClosed", (exceptions.StreamError,)),
        ("CookieConflict", (LookupError,)),
        ("NoPendingResponses", (LookupError,)),
        ("WaitTimeout", (TimeoutError, concurrent.futures.TimeoutError)),
        ("ParallelClosed", (RuntimeError,)),
        ("ClientClosed", (RuntimeError,)),
    ],
)
def test_an_error_is_also_what_one_would_catch(
    name: str, bases: tuple[type[BaseException], ...]
) -> None:
    error = getattr(exceptions, name)
    for base in bases:
        assert issubclass(error, base)


def test_running_out_of_patience_is_no_failure_of_the_request() -> None:
    assert not issubclass(WaitTimeout, HTTPError)


@pytest.mark.parametrize("error_class", OF_REQUESTS)
def test_an_error_knows_its_request(error_class: type[HTTPError]) -> None:
    error = error_class("It failed", request=REQUEST, tag=["tag"])
    assert error.request is REQUEST
    assert error.method == "POST"
    assert error.url is REQUEST.url
    assert error.tag == ["tag"]
    assert error.message == "It failed"
    assert error.args == ("It failed",)


@pytest.mark.parametrize("error_class", OF_REQUESTS)
def test_the_text_has_method_and_url_but_no_secrets(error_class: type[HTTPError]) -> None:
    error = error_class("It failed", request=REQUEST)
    assert str(error) == "It failed [POST http://example.org/a?key=…]"
    for secret in ("user", "password", "value"):
        assert secret not in repr(error)


def test_an_error_without_request_tells_what_was_given() -> None:
    error = InvalidURL("no host", method="GET", url="http://")
    assert (error.method, error.url, error.request) == ("GET", "http://", None)
    assert str(error) == "no host [GET http://]"


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("nonsense", "nonsense"),
        ("http://user:secret@host:99999/path?key=secret#secret", "http://…@host:99999/path?…"),
        ("user:secret@host//path", "…@host//path"),
        ("http://user:secret@host//path", "http://…@host//path"),
        ("http://user:secret?@host/", "http://…@host/"),
        ("two\r\nlines", "two\\r\\nlines"),
        (7, "7"),
    ],
)
def test_what_was_given_as_a_url_is_shown_without_its_secrets(given: object, shown: str) -> None:
    assert str(InvalidURL("it is none", method="GET", url=given)) == f"it is none [GET {shown}]"
    bare = HTTPError()
    assert (bare.method, bare.url, bare.request, bare.tag, str(bare)) == (None,) * 4 + ("",)


def test_a_request_that_becomes_known_later_counts() -> None:
    error = InvalidURL("No host", method="GET", url="http://")
    error.request = REQUEST
    assert (error.method, error.url) == ("POST", REQUEST.url)


@pytest.mark.parametrize("error_class", OF_REQUESTS)
def test_errors_pickle_with_request_tag_and_cause_as_text(error_class: type[HTTPError]) -> None:
    error = error_class("It failed", request=REQUEST, tag={"a": 1})
    error.__cause__ = OSError(104, "reset by peer")
    for _ in range(2):  # what was pickled once pickles again
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is error_class
        assert again.args == ("It failed",)
        assert (again.message, again.tag) == ("It failed", {"a": 1})
        assert str(again) == str(error)
        assert (again.method, str(again.url)) == ("POST", str(REQUEST.url))
        assert again.request is not None
        assert again.request.content == b"content"
        assert isinstance(again.__cause__, PickledCause)
        assert "[Errno 104] reset by peer" in str(again.__cause__)
        assert str(again.__cause__).count("PickledCause") == 0
        error = again


@pytest.mark.parametrize("error_class", OTHERS)
def test_the_others_pickle_too(error_class: type[Exception]) -> None:
    again = pickle.loads(pickle.dumps(error_class("It is over")))
    assert type(again) is error_class
    assert str(again) == "It is over"


def test_an_invalid_url_pickles_with_what_was_given() -> None:
    with pytest.raises(InvalidURL) as caught:
        Request("GET", "nothing")
    again = pickle.loads(pickle.dumps(caught.value))
    assert again.url == "nothing"
    assert again.request is None


def test_a_status_error_pickles_with_its_response() -> None:
    response = Response(404, content=iter([b"gone"]), request=REQUEST)
    response.read()
    with pytest.raises(HTTPStatusError) as caught:
        response.raise_for_status()
    again = pickle.loads(pickle.dumps(caught.value))
    assert again.response.status_code == 404
    assert again.response.content == b"gone"
    assert again.request.url == REQUEST.url


def test_an_error_of_a_streamed_request_pickles_without_the_body() -> None:
    request = Request("POST", "http://example.org/", data=iter([b"a"]))
    again = pickle.loads(pickle.dumps(ReadError("broken", request=request)))
    assert str(again) == "broken [POST http://example.org/]"
    assert request._is_whole


def test_notes_and_attributes_of_the_user_travel() -> None:
    error = ReadError("broken")
    error.mine = 1  # type: ignore[attr-defined]  # that is the test
    error.__dict__["__notes__"] = ["a note"]
    copies: list[typing.Any] = [pickle.loads(pickle.dumps(error)), copy.copy(error)]
    for again in copies:
        assert again.mine == 1
        assert again.__notes__ == ["a note"]
