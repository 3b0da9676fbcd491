"""When a request is made again by itself, by the policy alone: no network, and no time passes."""

from __future__ import annotations

import datetime
import email.utils
import time
import typing

import pytest

import http3_parallel as http3
from flow_steps import Answers, drive, redirect, respond

URL = "http://example.com/"

CONNECT = [
    http3.ConnectError,
    http3.NameResolutionError,
    http3.TLSError,
    http3.ProxyError,
    http3.ConnectTimeout,
]
READ = [
    http3.ReadError,
    http3.ReadTimeout,
    http3.WriteError,
    http3.WriteTimeout,
    http3.IncompleteRead,
]
NEVER = [
    http3.CertificateError,
    http3.RequestCancelled,
    http3.DeadlineExceeded,
    http3.PoolTimeout,
    http3.ProtocolError,
    http3.DecodingError,
    http3.ResponseTooLarge,
    http3.InvalidURL,
    http3.UnsupportedScheme,
    http3.StreamConsumed,
    http3.WorkersUnavailable,
    http3.HTTPError,
]

#: Without waiting, so that what is slept says only what a Retry-After asked for.
AT_ONCE: dict[str, typing.Any] = {"backoff": 0.0}


def get(**options: typing.Any) -> http3.Request:
    return http3.Request("GET", URL, **options)


def post(**options: typing.Any) -> http3.Request:
    return http3.Request("POST", URL, data=options.pop("data", b"x"), **options)


def fails(
    request: http3.Request, error: type[http3.HTTPError], retries: http3.Retry, times: int
) -> None:
    """The request is made `times` times, and then fails with the last error."""
    errors = [error(f"number {number}") for number in range(times)]
    answers = Answers(*errors)
    with pytest.raises(error) as caught:
        drive(request, answers, retries=retries)
    assert caught.value is errors[-1]
    assert len(answers.requests) == times


# For what.


@pytest.mark.parametrize("error", [*CONNECT, *READ])
def test_a_request_that_failed_is_made_again(error: type[http3.HTTPError]) -> None:
    answers = Answers(error("first"), respond(200, content=b"second"))
    assert drive(get(), answers, retries=http3.Retry(1)).content == b"second"
    assert len(answers.slept) == 1


@pytest.mark.parametrize("error", NEVER)
def test_what_will_not_be_better_the_next_time_is_not_tried_again(
    error: type[http3.HTTPError],
) -> None:
    fails(get(), error, http3.Retry(10), times=1)


@pytest.mark.parametrize("error", [*CONNECT, *READ])
def test_by_default_nothing_is_made_again(error: type[http3.HTTPError]) -> None:
    fails(get(), error, http3.Retry(), times=1)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, OSError, TimeoutError])
def test_exceptions_that_are_none_of_ours_pass(error: type[BaseException]) -> None:
    answers = Answers(error("mine"))
    with pytest.raises(error, match="mine"):
        drive(get(), answers, retries=http3.Retry(10))


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_status_that_may_pass_is_retried(status: int) -> None:
    answers = Answers(respond(status), respond(200))
    response = drive(get(), answers, retries=http3.Retry(1))
    assert response.status_code == 200
    assert response.history == []
    assert answers.discarded == answers.responses[:1]
    assert answers.read == [response]


@pytest.mark.parametrize("status", [200, 400, 404, 500, 501])
def test_other_statuses_stand(status: int) -> None:
    assert drive(get(), Answers(respond(status)), retries=http3.Retry(5)).status_code == status


def test_the_statuses_can_be_chosen() -> None:
    retries = http3.Retry(1, statuses=frozenset({500}))
    assert drive(get(), Answers(respond(500), respond(503)), retries=retries).status_code == 503


def test_the_last_response_with_such_a_status_is_returned_whole() -> None:
    answers = Answers(respond(503, content=b"a"), respond(503, content=b"b"))
    response = drive(get(), answers, retries=http3.Retry(1))
    assert (response.status_code, response.content) == (503, b"b")
    assert answers.read == [response]


def test_a_body_that_breaks_is_read_again_from_a_new_response() -> None:
    broken = respond(200, body_error=http3.IncompleteRead("half"))
    answers = Answers(broken, respond(200, content=b"whole"))
    assert drive(get(), answers, retries=http3.Retry(1)).content == b"whole"


def test_a_stream_is_delivered_unread_and_so_not_retried() -> None:
    answers = Answers(respond(200, body_error=http3.IncompleteRead("half")))
    response = drive(get(), answers, retries=http3.Retry(1), stream=True)
    assert answers.read == []
    assert response is answers.responses[0]


# How often.


def test_total_bounds_all_reasons_together() -> None:
    answers = Answers(
        http3.ConnectError("1"), http3.ReadError("2"), respond(503), http3.ReadError("last")
    )
    with pytest.raises(http3.ReadError, match="last"):
        drive(get(), answers, retries=http3.Retry(3))


@pytest.mark.parametrize(
    ("limits", "error", "times"),
    [
        ({"connect": 0}, http3.ConnectError, 1),
        ({"connect": 2}, http3.ConnectError, 3),
        ({"connect": 2}, http3.ReadError, 6),
        ({"read": 0}, http3.ReadError, 1),
        ({"read": 2}, http3.ReadError, 3),
        ({"read": 2}, http3.ConnectError, 6),
        ({"connect": 9}, http3.ConnectError, 6),
    ],
)
def test_each_reason_has_a_limit_of_its_own(
    limits: dict[str, typing.Any], error: type[http3.HTTPError], times: int
) -> None:
    fails(get(), error, http3.Retry(5, **AT_ONCE, **limits), times)


@pytest.mark.parametrize(("status", "times"), [(0, 1), (2, 3), (None, 6), (9, 6)])
def test_the_status_has_a_limit_of_its_own(status: int | None, times: int) -> None:
    answers = Answers(*[respond(503)] * times)
    retries = http3.Retry(5, status=status, **AT_ONCE)
    assert drive(get(), answers, retries=retries).status_code == 503


def test_redirects_do_not_start_the_count_anew() -> None:
    answers = Answers(
        http3.ReadError("1"), redirect("/2"), http3.ReadError("2"), http3.ReadError("last")
    )
    with pytest.raises(http3.ReadError, match="last"):
        drive(get(), answers, retries=http3.Retry(2))


def test_a_retry_repeats_the_redirected_request_not_the_first() -> None:
    answers = Answers(redirect("/2"), http3.ReadError("1"), respond(200))
    drive(get(), answers, retries=http3.Retry(1))
    assert [request.url.path for request in answers.requests] == ["/", "/2", "/2"]


# What is safe.


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"])
def test_idempotent_methods_are_made_again(method: str) -> None:
    fails(http3.Request(method, URL), http3.ReadError, http3.Retry(2), times=3)


@pytest.mark.parametrize("method", ["POST", "PATCH", "PURGE"])
@pytest.mark.parametrize("error", READ)
def test_other_methods_are_not_once_the_server_may_have_them(
    method: str, error: type[http3.HTTPError]
) -> None:
    fails(http3.Request(method, URL), error, http3.Retry(2), times=1)


@pytest.mark.parametrize("method", ["POST", "PATCH", "PURGE"])
def test_other_methods_are_made_again_if_there_was_no_connection(method: str) -> None:
    fails(http3.Request(method, URL), http3.ConnectError, http3.Retry(2), times=3)


def test_other_methods_are_not_made_again_for_a_status() -> None:
    assert drive(post(), Answers(respond(503)), retries=http3.Retry(2)).status_code == 503


def test_the_methods_can_be_chosen_in_any_case() -> None:
    retries = http3.Retry(1, methods=frozenset({"post"}))
    fails(post(), http3.ReadError, retries, times=2)
    fails(get(), http3.ReadError, retries, times=1)


@pytest.mark.parametrize(
    "data", [b"bytes", "text", {"a": "b"}, [b"a", b"list"]], ids=lambda data: type(data).__name__
)
def test_a_body_that_is_there_is_sent_again_whole(data: typing.Any) -> None:
    answers = Answers(respond(503), respond(503), respond(200))
    request = http3.Request("PUT", URL, data=data)
    drive(request, answers, retries=http3.Retry(2))
    assert answers.bodies == [answers.bodies[0]] * 3
    assert answers.bodies[0]


def test_a_body_that_is_used_up_is_not_sent_again() -> None:
    request = http3.Request("PUT", URL, data=iter([b"once"]))
    answers = Answers(respond(503))
    assert drive(request, answers, retries=http3.Retry(2)).status_code == 503
    assert answers.bodies == [b"once"]


def test_an_iterator_of_which_nothing_was_taken_is_sent_again() -> None:
    request = http3.Request("PUT", URL, data=iter([b"once"]))
    answers = Answers(http3.ConnectError("refused"), respond(200))
    drive(request, answers, retries=http3.Retry(2))
    assert answers.bodies == [b"once"]


# How long it waits.


def waits(retries: http3.Retry, times: int) -> list[float]:
    answers = Answers(*[http3.ReadError("again")] * times, respond(200))
    drive(get(), answers, retries=retries)
    return answers.slept


def test_the_wait_doubles_up_to_its_maximum() -> None:
    retries = http3.Retry(6, backoff=0.5, backoff_max=5.0, jitter=False)
    assert waits(retries, 6) == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]


def test_the_wait_grows_over_all_reasons() -> None:
    answers = Answers(http3.ConnectError("1"), http3.ReadError("2"), respond(503), respond(200))
    drive(get(), answers, retries=http3.Retry(3, backoff=1.0, jitter=False))
    assert answers.slept == [1.0, 2.0, 4.0]


def test_with_jitter_the_wait_is_a_random_part_of_that() -> None:
    retries = http3.Retry(3, backoff=1.0, backoff_max=3.0)
    samples = [waits(retries, 3) for _ in range(200)]
    for number, longest in enumerate([1.0, 2.0, 3.0]):
        column = [sample[number] for sample in samples]
        assert all(0.0 <= seconds <= longest for seconds in column)
        # Full jitter: each fails by chance once in 10**24.
        assert min(column) < longest / 4
        assert max(column) > longest * 3 / 4


def test_the_wait_after_very_many_retries_is_still_a_number() -> None:
    retries = http3.Retry(100_000, backoff=0.1, jitter=False)
    assert retries.backoff_delay(99_999) == retries.backoff_max


# Retry-After.


def wait_after(value: str, *, status: int = 503, **options: typing.Any) -> list[float]:
    """What is slept because of this Retry-After, if it is retried."""
    headers = {"Retry-After": value}
    retries = http3.Retry(1, **{"backoff": 0.25, "jitter": False, **options})
    answers = Answers(respond(status, headers=headers), respond(200))
    drive(get(), answers, retries=retries)
    return answers.slept


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(("value", "seconds"), [("0", 0.0), ("7", 7.0), ("60", 60.0), (" 3 ", 3.0)])
def test_retry_after_in_seconds_is_waited_for(status: int, value: str, seconds: float) -> None:
    assert wait_after(value, status=status) == [seconds]


def in_the_future(seconds: float, form: str) -> str:
    when = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)
    if form == "IMF":
        return email.utils.format_datetime(when, usegmt=True)
    # The two obsolete forms, which must be understood too (RFC 9110, section 5.6.7).
    return when.strftime(
        "%A, %d-%b-%y %H:%M:%S GMT" if form == "RFC 850" else "%a %b %e %H:%M:%S %Y"
    )


@pytest.mark.parametrize("form", ["IMF", "RFC 850", "asctime"])
@pytest.mark.parametrize("zone", ["UTC0", "EST5", "JST-9"])
def test_retry_after_as_a_date_is_waited_for(
    form: str, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if hasattr(time, "tzset"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
    try:
        (seconds,) = wait_after(in_the_future(40, form))
    finally:
        monkeypatch.undo()
        if hasattr(time, "tzset"):
            time.tzset()
    assert 20 < seconds <= 40


def test_a_date_that_has_passed_is_not_waited_for() -> None:
    assert wait_after("Wed, 21 Oct 2015 07:28:00 GMT") == [0.0]


@pytest.mark.parametrize(
    "value", ["61", "99999999999", "9" * 10_000, "Fri, 31 Dec 9999 23:59:59 GMT"]
)
def test_a_response_that_asks_for_too_long_is_returned_as_it_is(value: str) -> None:
    headers = {"Retry-After": value}
    answers = Answers(respond(503, headers=headers, content=b"later"))
    response = drive(get(), answers, retries=http3.Retry(3))
    assert (response.status_code, response.content) == (503, b"later")
    assert answers.slept == []
    assert answers.read == [response]


def test_how_long_is_too_long_can_be_chosen() -> None:
    assert wait_after("300", retry_after_max=300.0) == [300.0]


@pytest.mark.parametrize(
    "value", [None, "", "-1", "1.5", "soon", "1, 2", "\u0661", "Thu, 99 Foo 2020", "0x10", "+5"]
)
def test_what_says_no_time_leaves_the_wait_to_the_backoff(value: str | None) -> None:
    headers = [] if value is None else [(b"retry-after", value.encode())]
    answers = Answers(respond(503, headers=headers), respond(200))
    drive(get(), answers, retries=http3.Retry(1, backoff=0.25, jitter=False))
    assert answers.slept == [0.25]


def test_retry_after_can_be_disregarded() -> None:
    assert wait_after("50", respect_retry_after=False) == [0.25]


def test_retry_after_with_another_status_means_nothing() -> None:
    answers = Answers(respond(200, headers={"Retry-After": "5"}))
    drive(get(), answers, retries=http3.Retry(3))
    assert answers.slept == []


# Settings.


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"total": None}, TypeError),
        ({"total": "3"}, TypeError),
        ({"total": True}, TypeError),
        ({"total": 1.5}, TypeError),
        ({"total": -1}, ValueError),
        ({"connect": -1}, ValueError),
        ({"read": "1"}, TypeError),
        ({"status": -1}, ValueError),
        ({"backoff": -0.1}, ValueError),
        ({"backoff": None}, ValueError),
        ({"backoff_max": float("inf")}, ValueError),
        ({"backoff": float("nan")}, ValueError),
        ({"retry_after_max": "60"}, TypeError),
        ({"methods": "GET"}, TypeError),
        ({"methods": [1]}, TypeError),
        ({"statuses": 503}, TypeError),
        ({"statuses": ["503"]}, TypeError),
        ({"unknown": 1}, TypeError),
    ],
)
def test_wrong_settings_are_refused_at_once(
    options: dict[str, typing.Any], error: type[Exception]
) -> None:
    name = next(iter(options))
    with pytest.raises(error, match=name):
        http3.Retry(**options)


def test_a_number_is_a_total() -> None:
    with http3.Client(retries=2) as client:
        assert client.retries == http3.Retry(total=2)
