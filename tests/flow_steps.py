"""Drives the policy of a request by hand: answers come from the test, no time passes."""

from __future__ import annotations

import typing

import http3_parallel as http3
from http3_parallel.auth import AuthTypes, as_auth
from http3_parallel.flow import Begin, Discard, Next, Policy, Read, Send, Sleep, run


class Answer(typing.NamedTuple):
    """A response; where `body_error` is given, that is what reading its body ends with."""

    status_code: int
    headers: typing.Any
    content: bytes
    body_error: http3.HTTPError | None


def respond(
    status_code: int,
    *,
    headers: typing.Any = None,
    content: bytes = b"",
    body_error: http3.HTTPError | None = None,
) -> Answer:
    return Answer(status_code, headers, content, body_error)


def redirect(location: str | bytes, status_code: int = 302) -> Answer:
    value = location.encode() if isinstance(location, str) else location
    return respond(status_code, headers=[(b"location", value)])


class Answers:
    """
    What each `Send` gets, in their order: an `Answer`, or an error that is thrown in. What the
    flow did is in `requests`, `responses`, `read`, `discarded`, and `slept` (seconds).

    * `consume_bodies`: take the body of each request, as sending it does.
    """

    def __init__(self, *answers: Answer | BaseException, consume_bodies: bool = True) -> None:
        self._answers = list(answers)
        self._consume_bodies = consume_bodies
        self.requests: list[http3.Request] = []
        self.bodies: list[bytes] = []
        self.responses: list[http3.Response] = []
        self.read: list[http3.Response] = []
        self.discarded: list[http3.Response] = []
        self.slept: list[float] = []
        self._body_errors: dict[int, http3.HTTPError] = {}

    def send(self, request: http3.Request) -> http3.Response:
        self.requests.append(request)
        answer = self._answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        if self._consume_bodies:
            self.bodies.append(b"".join(request.stream()))
        response = http3.Response(
            answer.status_code, headers=answer.headers, content=answer.content, request=request
        )
        if answer.body_error is not None:
            self._body_errors[id(response)] = answer.body_error
        self.responses.append(response)
        return response

    def take(self, response: http3.Response) -> None:
        self.read.append(response)
        if id(response) in self._body_errors:
            raise self._body_errors[id(response)]


def drive(
    request: http3.Request,
    answers: Answers,
    *,
    auth: AuthTypes | None = None,
    retries: http3.Retry | None = None,
    allow_redirects: bool = True,
    max_redirects: int = 20,
    stream: bool = False,
) -> http3.Response:
    """Run the flow to its end. Every answer must have been used by then."""
    policy = Policy(
        auth=as_auth(auth),
        retries=retries or http3.Retry(),
        allow_redirects=allow_redirects,
        max_redirects=max_redirects,
        stream=stream,
    )
    flow = run(request, policy)
    result: typing.Any = None
    resume: typing.Callable[[typing.Any], typing.Any] = flow.send
    while True:
        try:
            step = resume(result)
        except StopIteration as stop:
            assert not answers._answers, "the flow ended before all answers were used"
            return typing.cast(http3.Response, stop.value)
        try:
            result, resume = _perform(step, answers), flow.send
        except http3.HTTPError as error:
            result, resume = error, flow.throw


def _perform(step: typing.Any, answers: Answers) -> typing.Any:
    if isinstance(step, Send):
        return answers.send(step.request)
    if isinstance(step, Read):
        return answers.take(step.response)
    if isinstance(step, Discard):
        return answers.discarded.append(step.response)
    if isinstance(step, Sleep):
        return answers.slept.append(step.seconds)
    if isinstance(step, Begin):
        return step.auth.steps(step.request)
    assert isinstance(step, Next)
    try:
        return step.steps.send(step.value)
    except StopIteration:
        return None
