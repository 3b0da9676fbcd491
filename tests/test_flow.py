"""
The policy of one request as a generator: which steps it asks for, in which order, and that it
knows no other way to the world. `test_auth`, `test_redirects` and `test_retries` have the rules.
"""

from __future__ import annotations

import dataclasses
import itertools
import typing

import pytest

import http3_parallel as http3
from flow_steps import Answers, drive, redirect, respond
from http3_parallel.flow import (
    Begin,
    Discard,
    Next,
    Policy,
    Read,
    Send,
    Sleep,
    is_final,
    is_plain,
    run,
)

URL = "http://example.com/"


def policy(**changes: typing.Any) -> Policy:
    return dataclasses.replace(
        Policy(
            auth=None,
            retries=http3.Retry(),
            allow_redirects=True,
            max_redirects=20,
            stream=False,
        ),
        **changes,
    )


def response(status_code: int, request: http3.Request, **headers: str) -> http3.Response:
    return http3.Response(status_code, headers=headers, request=request)


def test_a_plain_request_is_sent_and_its_body_read() -> None:
    request = http3.Request("GET", URL)
    flow = run(request, policy())
    assert next(flow) == Send(request)
    answer = response(200, request)
    assert flow.send(answer) == Read(answer)
    with pytest.raises(StopIteration) as stop:
        flow.send(None)
    assert stop.value.value is answer


def test_a_stream_is_returned_at_its_head() -> None:
    request = http3.Request("GET", URL)
    flow = run(request, policy(stream=True))
    next(flow)
    answer = response(200, request)
    with pytest.raises(StopIteration) as stop:
        flow.send(answer)
    assert stop.value.value is answer


def test_auth_is_advanced_by_the_driver_since_it_is_code_of_the_users() -> None:
    def never(request: http3.Request) -> http3.Request:
        raise AssertionError("the flow itself must not call it")

    flow = run(http3.Request("GET", URL), policy(auth=http3.BasicAuth("user", "secret")))
    begin = next(flow)
    assert isinstance(begin, Begin)
    step = flow.send(begin.auth.steps(begin.request))
    assert isinstance(step, Next)
    assert step.value is None
    prepared = next(step.steps)
    assert isinstance(prepared, http3.Request)
    assert flow.send(prepared) == Send(prepared)

    answers = Answers()
    with pytest.raises(AssertionError, match="must not call"):
        drive(http3.Request("GET", URL), answers, auth=never)
    assert answers.requests == []


def test_a_redirect_is_discarded_and_then_followed() -> None:
    request = http3.Request("GET", URL)
    flow = run(request, policy())
    next(flow)
    answer = response(302, request, location="/next")
    assert flow.send(answer) == Discard(answer)
    step = flow.send(None)
    assert isinstance(step, Send)
    assert step.request.url == "http://example.com/next"


def test_a_failure_is_thrown_in_and_answered_with_a_wait() -> None:
    request = http3.Request("GET", URL)
    flow = run(request, policy(retries=http3.Retry(1, backoff=2.0, jitter=False)))
    next(flow)
    assert flow.throw(http3.ReadError("reset")) == Sleep(2.0)
    assert flow.send(None) == Send(request)


def test_an_abort_during_the_wait_ends_the_flow() -> None:
    flow = run(http3.Request("GET", URL), policy(retries=http3.Retry(5)))
    next(flow)
    assert isinstance(flow.throw(http3.ReadError("reset")), Sleep)
    aborted = http3.RequestCancelled("the block was left")
    with pytest.raises(http3.RequestCancelled) as caught:
        flow.throw(aborted)
    assert caught.value is aborted


@pytest.mark.parametrize("error", [http3.RequestCancelled, http3.DeadlineExceeded])
@pytest.mark.parametrize("status", [302, 503])
def test_an_abort_while_a_body_is_discarded_ends_the_flow(
    status: int, error: type[http3.HTTPError]
) -> None:
    request = http3.Request("GET", URL)
    flow = run(request, policy(retries=http3.Retry(5)))
    next(flow)
    assert isinstance(flow.send(response(status, request, location="/next")), Discard)
    with pytest.raises(error):
        flow.throw(error("now"))


def test_closing_the_flow_closes_it() -> None:
    flow = run(http3.Request("GET", URL), policy())
    next(flow)
    flow.close()
    with pytest.raises(StopIteration):
        next(flow)


def test_auth_redirects_and_retries_together() -> None:
    answers = Answers(
        http3.ConnectTimeout("slow"),
        respond(503, headers={"Retry-After": "3"}),
        redirect("/2", 303),
        http3.ReadTimeout("slow"),
        redirect("https://example.com/3", 307),
        respond(200, content=b"end"),
    )
    final = drive(
        http3.Request("PUT", URL, data=b"body"),
        answers,
        auth=("user", "secret"),
        retries=http3.Retry(3, backoff=1.0, jitter=False),
    )
    assert final.content == b"end"
    assert answers.slept == [1.0, 3.0, 4.0]
    assert [(r.method, str(r.url), "authorization" in r.headers) for r in answers.requests] == [
        ("PUT", "http://example.com/", True),
        ("PUT", "http://example.com/", True),
        ("PUT", "http://example.com/", True),
        ("GET", "http://example.com/2", True),
        ("GET", "http://example.com/2", True),
        ("GET", "https://example.com/3", False),
    ]
    assert [earlier.status_code for earlier in final.history] == [303, 307]
    assert answers.read == [final]
    assert answers.discarded == answers.responses[:-1]


def test_the_users_request_is_never_changed() -> None:
    request = http3.Request("POST", URL, data=b"body", headers={"Authorization": "x"})
    before = (request.method, request.url, list(request.headers.raw), request.content)
    answers = Answers(respond(503), redirect("http://example.org/", 303), respond(200))
    drive(
        request,
        answers,
        auth=("user", "secret"),
        retries=http3.Retry(1, methods=frozenset({"POST"})),
    )
    assert (request.method, request.url, list(request.headers.raw), request.content) == before


# The short way.


def _policies() -> list[Policy]:
    jar = http3.Cookies({"a": "b"})
    values: dict[str, tuple[typing.Any, ...]] = {
        "auth": (None, http3.BasicAuth("u", "p")),
        "retries": (http3.Retry(), http3.Retry(2)),
        "allow_redirects": (True, False),
        "stream": (True, False),
        "cookies": (None, http3.Cookies(), jar),
        "merge_cookies": (True, False),
        "fresh": (frozenset(), frozenset({"a"})),
        "gone": (frozenset(), frozenset({"a"})),
    }
    return [
        Policy(max_redirects=20, **dict(zip(values, chosen, strict=True)))
        for chosen in itertools.product(*values.values())
    ]


def _requests() -> list[http3.Request]:
    return [
        http3.Request("GET", "http://example.org/"),
        http3.Request("GET", "http://user:pass@example.org/"),
        http3.Request("GET", "http://example.org/", cookies={"c": "d"}),
        http3.Request("GET", "http://example.org/", headers={"Cookie": "e=f"}),
    ]


_HEADS = [
    (status, headers)
    for status in (200, 204, 302, 304, 404, 429, 503)
    for headers in ([], [("Location", "/x")], [("Set-Cookie", "g=h")])
]


def test_the_short_way_is_what_the_flow_would_do() -> None:
    taken = 0
    for policy, request in itertools.product(_policies(), _requests()):
        if not is_plain(request, policy):
            continue
        for status, headers in _HEADS:
            flow = run(request, policy)
            step = next(flow)
            assert isinstance(step, Send)
            assert step.request is request
            response = http3.Response(status, headers=headers, request=request)
            if not is_final(response, policy):
                continue
            taken += 1
            with pytest.raises(StopIteration) as stop:
                step = flow.send(response)
                assert not policy.stream
                assert step == Read(response)
                flow.send(None)
            assert stop.value.value is response
            assert response.history == []
    assert taken > 100


def test_the_short_way_is_taken_by_a_client_that_was_told_nothing() -> None:
    settings = http3.Client()._defaults.settings({})
    request = http3.Request("GET", "http://example.org/")
    policy = dataclasses.replace(settings.policy, merge_cookies=True)
    assert is_plain(request, policy)
    final = [
        (status, bool(headers))
        for status, headers in _HEADS
        if is_final(http3.Response(status, headers=headers, request=request), policy)
    ]
    assert (200, False) in final
    assert (404, False) in final
    assert (503, False) in final
    assert (302, True) not in final
