"""Functions that are called for every message on the wire."""

from __future__ import annotations

import collections
import contextlib
import contextvars
import gc
import threading
import time
import typing
import weakref

import pytest

import http3_parallel as http3
from scripted import PATIENCE, InstantDispatch, ScriptedDispatch

URL = "http://x.test/"

#: Seconds. Whoever waits for code of the user's waits for five.
NOT_WAITED_FOR = 2.5

Call = typing.Callable[..., http3.Response]


class Recorder:
    """What was called, in order, with what."""

    def __init__(self) -> None:
        self.events: list[tuple[str, typing.Any]] = []

    def __getattr__(self, event: str) -> typing.Callable[[typing.Any], None]:
        return lambda message: self.events.append((event, message))

    @property
    def hooks(self) -> http3.EventHooks:
        return {"request": [self.request], "response": [self.response], "error": [self.error]}

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.events]


class Answers(http3.Dispatcher):
    """One after the other: a function of the request for each."""

    abortable = True

    def __init__(self, *answers: typing.Callable[[http3.Request], http3.Response]) -> None:
        self._answers = list(answers)

    def send(self, request: http3.Request, context: http3.Context) -> http3.Response:
        return self._answers.pop(0)(request)


def answer(status_code: int, **kwargs: typing.Any) -> typing.Any:
    return lambda request: http3.Response(status_code, request=request, **kwargs)


def fail(error: Exception) -> typing.Any:
    def failing(request: http3.Request) -> http3.Response:
        raise error

    return failing


@contextlib.contextmanager
def plain(**options: typing.Any) -> typing.Iterator[Call]:
    with http3.Client(**options) as client:
        yield client.get


@contextlib.contextmanager
def in_block(**options: typing.Any) -> typing.Iterator[Call]:
    with http3.Client(**options) as client, client.parallel() as parallel:
        yield lambda *args, **kwargs: parallel.get(*args, **kwargs).get_response()


@pytest.fixture(params=[plain, in_block], ids=["plain call", "in a block"])
def calling(request: pytest.FixtureRequest) -> typing.Any:
    return request.param


def test_the_request_and_its_response(calling: typing.Any) -> None:
    recorder = Recorder()
    with calling(dispatch=InstantDispatch(), event_hooks=recorder.hooks) as get:
        response = get(URL)

    assert recorder.events == [("request", response.request), ("response", response)]


def test_every_message_on_the_wire_has_its_own(calling: typing.Any) -> None:
    recorder = Recorder()
    dispatch = Answers(
        answer(401),
        answer(503),
        answer(302, headers={"location": "/next"}),
        fail(http3.ConnectError("refused")),
        answer(200),
    )

    class Asked(http3.Auth):
        def steps(self, request: http3.Request) -> typing.Any:
            if (yield request).status_code == 401:
                yield request

    retry = http3.Retry(3, backoff=0)
    with calling(dispatch=dispatch, auth=Asked(), retries=retry, event_hooks=recorder.hooks) as get:
        assert get(URL).status_code == 200

    assert recorder.names == [
        *("request", "response") * 3,
        *("request", "error"),
        *("request", "response"),
    ]
    assert [message.status_code for name, message in recorder.events if name == "response"] == [
        401,
        503,
        302,
        200,
    ]


def test_hooks_are_called_in_their_order(calling: typing.Any) -> None:
    called: list[str] = []

    def marking(mark: str) -> typing.Callable[[object], None]:
        return lambda message: called.append(mark)

    hooks: http3.EventHooks = {
        "request": [marking("request 1"), marking("request 2")],
        "response": [marking("response 1"), marking("response 2")],
    }
    with calling(dispatch=InstantDispatch(), event_hooks=hooks) as get:
        get(URL)

    assert called == ["request 1", "request 2", "response 1", "response 2"]


def test_a_hook_may_add_headers_to_what_is_sent_only(calling: typing.Any) -> None:
    def sign(request: http3.Request) -> None:
        assert "x-signed" not in request.headers, "what was added to another request"
        request.headers["x-signed"] = request.url.path

    dispatch = Answers(answer(302, headers={"location": "/next"}), answer(200))
    with calling(dispatch=dispatch, event_hooks={"request": [sign]}) as get:
        response = get(URL)

    assert response.history[0].request is not None
    assert response.history[0].request.headers["x-signed"] == "/"
    assert response.request is not None
    assert response.request.headers["x-signed"] == "/next"


def test_headers_that_a_hook_broke_are_not_sent(calling: typing.Any) -> None:
    def smuggle(request: http3.Request) -> None:
        request.headers.raw.append((b"x-evil", b"1\r\nx-more: 2"))

    recorder = Recorder()
    hooks: http3.EventHooks = {"request": [smuggle], "error": [recorder.error]}
    with calling(dispatch=Answers(), event_hooks=hooks) as get:
        with pytest.raises(ValueError, match="x-evil"):
            get(URL)

    assert recorder.names == ["error"]


@pytest.mark.parametrize(
    ("name", "value"), [("method", "POST"), ("url", http3.URL("http://y.test/"))]
)
def test_a_hook_changes_headers_only(calling: typing.Any, name: str, value: typing.Any) -> None:
    hooks: http3.EventHooks = {"request": [lambda request: setattr(request, name, value)]}
    with calling(dispatch=Answers(), event_hooks=hooks) as get:
        with pytest.raises(ValueError, match="headers"):
            get(URL)


def test_a_length_that_a_hook_made_up_is_not_sent(calling: typing.Any) -> None:
    def lie(request: http3.Request) -> None:
        request.headers["content-length"] = "7"

    with calling(dispatch=Answers(), event_hooks={"request": [lie]}) as get:
        with pytest.raises(ValueError, match="Content-Length"):
            get(URL)


def test_the_users_request_is_left_as_it_was() -> None:
    def sign(request: http3.Request) -> None:
        request.headers["x-signed"] = "yes"

    request = http3.Request("GET", URL)
    with http3.Client(dispatch=InstantDispatch(), event_hooks={"request": [sign]}) as client:
        response = client.send(request)

    assert response.request is not None
    assert "x-signed" in response.request.headers
    assert "x-signed" not in request.headers


@pytest.mark.parametrize("event", ["request", "response"])
def test_what_a_hook_raises_comes_out_as_it_is(calling: typing.Any, event: str) -> None:
    error = LookupError("of the user's")
    closed = threading.Event()
    dispatch = Answers(answer(200, content=iter([b"unread"]), on_close=closed.set))
    with calling(dispatch=dispatch, event_hooks={event: [fail(error)]}) as get:
        with pytest.raises(LookupError) as raised:
            get(URL)

    assert raised.value is error
    assert closed.is_set() == (event == "response"), "a response that nobody gets is closed"


def test_what_an_error_hook_raises_comes_out_with_the_error_as_its_context(
    calling: typing.Any,
) -> None:
    error = LookupError("of the user's")
    dispatch = Answers(fail(http3.ReadError("broken")))
    with calling(dispatch=dispatch, event_hooks={"error": [fail(error)]}) as get:
        with pytest.raises(LookupError) as raised:
            get(URL)

    assert raised.value is error
    assert isinstance(raised.value.__context__, http3.ReadError)


def test_an_error_hook_is_told_which_request_failed(calling: typing.Any) -> None:
    recorder = Recorder()
    dispatch = Answers(fail(http3.ReadError("broken")))
    with calling(dispatch=dispatch, event_hooks=recorder.hooks) as get:
        with pytest.raises(http3.ReadError) as raised:
            get(URL)

    (_, request), (_, error) = recorder.events
    assert error is raised.value
    assert error.request is request


@pytest.mark.parametrize("event", ["request", "response"])
def test_an_error_that_a_hook_raises_is_not_tried_again(calling: typing.Any, event: str) -> None:
    called = []

    def refuse(message: object) -> None:
        called.append(message)
        raise http3.ConnectError("not at this hour")

    hooks = typing.cast(http3.EventHooks, {event: [refuse]})
    retries = http3.Retry(3, backoff=0)
    with calling(dispatch=InstantDispatch(), retries=retries, event_hooks=hooks) as get:
        with pytest.raises(http3.ConnectError, match="not at this hour"):
            get(URL)

    assert len(called) == 1


def test_hooks_see_the_tag(calling: typing.Any) -> None:
    recorder = Recorder()
    dispatch = Answers(answer(200), fail(http3.ReadError("broken")))
    with calling(dispatch=dispatch, event_hooks=recorder.hooks) as get:
        get(URL, tag="first")
        with pytest.raises(http3.ReadError):
            get(URL, tag="second")

    tags = [message.tag for name, message in recorder.events if name != "request"]
    assert tags == ["first", "second"]


def test_an_exception_of_the_dispatcher_is_told_too(calling: typing.Any) -> None:
    recorder = Recorder()
    error = LookupError("of the dispatcher")
    with calling(dispatch=Answers(fail(error)), event_hooks=recorder.hooks) as get:
        with pytest.raises(LookupError):
            get(URL)

    assert recorder.names == ["request", "error"]
    assert recorder.events[1][1] is error


def test_a_body_that_breaks_is_an_error_after_the_response(calling: typing.Any) -> None:
    def body() -> typing.Iterator[bytes]:
        yield b"begun"
        raise http3.IncompleteRead("cut")

    recorder = Recorder()
    with calling(dispatch=Answers(answer(200, content=body())), event_hooks=recorder.hooks) as get:
        with pytest.raises(http3.IncompleteRead):
            get(URL)

    assert recorder.names == ["request", "response", "error"]


def test_a_response_hook_may_read_the_body(calling: typing.Any) -> None:
    def read(response: http3.Response) -> None:
        assert not response.is_closed
        response.read()

    dispatch = Answers(answer(200, content=iter([b"bo", b"dy"])))
    with calling(dispatch=dispatch, event_hooks={"response": [read]}) as get:
        assert get(URL).content == b"body"


def test_later_hooks_see_the_context_variables_that_earlier_ones_set(calling: typing.Any) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="nothing")
    seen: list[str] = []

    def begin(request: http3.Request) -> None:
        seen.append(variable.get())
        variable.set(request.url.path)

    hooks: http3.EventHooks = {
        "request": [begin],
        "response": [lambda response: seen.append(variable.get())],
    }
    variable.set("the caller's")
    with calling(dispatch=InstantDispatch(), event_hooks=hooks) as get:
        get(URL + "1")
        get(URL + "2")

    assert seen == ["the caller's", "/1", "the caller's", "/2"]
    assert variable.get() == "the caller's"


@pytest.mark.parametrize("how", ["cancelled", "left", "deadline"])
def test_a_request_that_is_ended_from_outside_is_told_as_an_error_afterwards(how: str) -> None:
    told = threading.Event()
    errors: list[Exception] = []

    def tell(error: Exception) -> None:
        errors.append(error)
        told.set()

    dispatch = ScriptedDispatch()
    with http3.Client(dispatch=dispatch, event_hooks={"error": [tell]}) as client:
        with client.parallel() as parallel:
            handle = parallel.get(URL, deadline=0.05 if how == "deadline" else None)
            if how != "deadline":
                dispatch.exchange("/")
            if how == "cancelled":
                handle.cancel()
            if how == "deadline":
                with pytest.raises(http3.DeadlineExceeded):
                    handle.get_response(PATIENCE)
                assert told.wait(PATIENCE)
        assert told.wait(PATIENCE)

    expected = http3.DeadlineExceeded if how == "deadline" else http3.RequestCancelled
    assert [type(error) for error in errors] == [expected]
    error = errors[0]
    assert isinstance(error, http3.HTTPError)
    assert error.request is not None


def test_leaving_a_block_does_not_wait_for_hooks_that_hang() -> None:
    called, release = threading.Event(), threading.Event()

    def hang(error: Exception) -> None:
        called.set()
        assert release.wait(PATIENCE)

    dispatch = ScriptedDispatch()
    with http3.Client(dispatch=dispatch, event_hooks={"error": [hang]}) as client:
        with client.parallel() as parallel:
            parallel.get(URL)
            dispatch.exchange("/")
            began = time.monotonic()
        assert time.monotonic() - began < NOT_WAITED_FOR
        assert called.wait(PATIENCE)
        release.set()


@pytest.mark.parametrize("event", ["request", "response"])
def test_leaving_a_block_does_not_wait_for_hooks_that_are_running(event: str) -> None:
    called, release = threading.Event(), threading.Event()

    def hang(message: object) -> None:
        called.set()
        assert release.wait(PATIENCE)

    hooks = typing.cast(http3.EventHooks, {event: [hang]})
    with http3.Client(dispatch=InstantDispatch(), event_hooks=hooks) as client:
        with client.parallel() as parallel:
            handle = parallel.get(URL)
            assert called.wait(PATIENCE)
            began = time.monotonic()
        assert time.monotonic() - began < NOT_WAITED_FOR
        with pytest.raises(http3.RequestCancelled):
            handle.get_response()
        release.set()


def test_a_hook_may_make_requests_with_the_same_client() -> None:
    depth: contextvars.ContextVar[int] = contextvars.ContextVar("depth", default=0)
    bodies: list[bytes] = []

    def ask(request: http3.Request) -> None:
        if depth.get() == 0:
            depth.set(1)
            with client.parallel() as inner:
                bodies.append(inner.get(URL + "inner").get_response().content)

    hooks: http3.EventHooks = {"request": [ask]}
    with http3.Client(dispatch=InstantDispatch(), event_hooks=hooks, max_workers=1) as client:
        with client.parallel() as parallel:
            for number in range(3):
                parallel.get(f"{URL}{number}")
            got = {response.content for response in iter_responses(parallel)}

    assert got == {b"/0", b"/1", b"/2"}
    assert bodies == [b"/inner"] * 3


def iter_responses(parallel: http3.Parallel) -> typing.Iterator[http3.Response]:
    while parallel.has_pending_responses:
        yield parallel.next_response(PATIENCE)


async def asynchronous(message: object) -> None:
    """What nobody would await."""


@pytest.mark.parametrize(
    ("hooks", "error"),
    [
        ([print], TypeError),
        ({"request": print}, TypeError),
        ({"request": ["print"]}, TypeError),
        ({"response": [asynchronous]}, TypeError),
        ({"requests": [print]}, ValueError),
        ({1: [print]}, ValueError),
    ],
)
def test_what_are_no_hooks_is_refused(hooks: typing.Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        http3.Client(event_hooks=hooks)


def test_the_users_lists_are_copied() -> None:
    recorder = Recorder()
    hooks: dict[str, typing.Any] = {"request": []}
    with http3.Client(dispatch=InstantDispatch(), event_hooks=hooks) as client:  # type: ignore[arg-type]
        hooks["request"].append(recorder.request)
        client.get(URL)

    assert recorder.events == []


class Waiting(http3.Dispatcher):
    """Of a user who knows nothing of aborts: answers when told, whatever has happened."""

    def __init__(self, status_code: int) -> None:
        self._status_code = status_code
        self.called, self.answer, self.closed = (threading.Event() for _ in range(3))

    def send(self, request: http3.Request, context: http3.Context) -> http3.Response:
        self.called.set()
        assert self.answer.wait(PATIENCE)
        headers = {"location": "/next"} if self._status_code == 302 else {}
        body = iter([b"body"])
        return http3.Response(
            self._status_code, headers=headers, content=body, on_close=self.closed.set
        )


@pytest.mark.parametrize("status_code", [200, 302, 503])
def test_what_is_answered_too_late_is_closed(status_code: int) -> None:
    dispatch = Waiting(status_code)
    with http3.Client(dispatch=dispatch, retries=1) as client:
        with client.parallel() as parallel:
            parallel.get(URL)
            assert dispatch.called.wait(PATIENCE)
        dispatch.answer.set()
        assert dispatch.closed.wait(PATIENCE)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("how", ["raises", "junk", "no generator"])
def test_a_response_that_auth_fails_on_is_closed(
    calling: typing.Any, how: str, stream: bool
) -> None:
    class Failing(http3.Auth):
        def steps(self, request: http3.Request) -> typing.Any:
            if how == "no generator":
                return iter([request])
            return self._steps(request)

        def _steps(self, request: http3.Request) -> typing.Any:
            yield request
            if how == "raises":
                raise LookupError("of the user's")
            yield "junk"

    closed = threading.Event()
    dispatch = Answers(answer(401, content=iter([b"body"]), on_close=closed.set))
    with calling(dispatch=dispatch, auth=Failing()) as get:
        with pytest.raises((LookupError, TypeError)):
            get(URL, stream=stream)

    assert closed.is_set() == (how != "no generator")


def test_the_generator_of_an_auth_is_closed_when_its_request_fails(calling: typing.Any) -> None:
    closed = []

    class Cleaning(http3.Auth):
        def steps(self, request: http3.Request) -> typing.Any:
            try:
                yield request
            finally:
                closed.append(True)

    with calling(dispatch=Answers(fail(http3.ReadError("broken"))), auth=Cleaning()) as get:
        with pytest.raises(http3.ReadError) as raised:
            get(URL)
        assert raised.value is not None, "it is kept, and with it all that it refers to"
        assert closed == [True]


def test_leaving_a_block_does_not_wait_for_an_auth_that_cleans_up() -> None:
    cleaning, release = threading.Event(), threading.Event()

    class Slow(http3.Auth):
        def steps(self, request: http3.Request) -> typing.Any:
            try:
                yield request
            finally:
                cleaning.set()
                assert release.wait(PATIENCE)

    dispatch = ScriptedDispatch()
    with http3.Client(dispatch=dispatch, auth=Slow()) as client:
        with client.parallel() as parallel:
            parallel.get(URL)
            dispatch.exchange("/")
            began = time.monotonic()
        assert time.monotonic() - began < NOT_WAITED_FOR
        assert cleaning.wait(PATIENCE)
        release.set()


def test_leaving_a_block_does_not_wait_for_steps_that_are_a_function() -> None:
    called, release = threading.Event(), threading.Event()

    class Slow(http3.Auth):
        def steps(self, request: http3.Request) -> typing.Any:
            called.set()
            assert release.wait(PATIENCE)
            return http3.BasicAuth("user", "secret").steps(request)

    with http3.Client(dispatch=InstantDispatch(), auth=Slow()) as client:
        with client.parallel() as parallel:
            parallel.get(URL)
            assert called.wait(PATIENCE)
            began = time.monotonic()
        assert time.monotonic() - began < NOT_WAITED_FOR
        release.set()


def test_a_response_hook_that_raises_calls_no_error_hook(calling: typing.Any) -> None:
    recorder = Recorder()
    hooks: http3.EventHooks = {
        "response": [fail(LookupError("of the user's"))],
        "error": [recorder.error],
    }
    with calling(dispatch=InstantDispatch(), event_hooks=hooks) as get:
        with pytest.raises(LookupError):
            get(URL)

    assert recorder.names == []


def test_whoever_was_told_of_a_request_is_told_of_its_end_whenever_it_is_cancelled() -> None:
    begun: list[object] = []
    ended: list[object] = []
    hooks: http3.EventHooks = {
        "request": [begun.append],
        "response": [lambda response: ended.append(response.request)],
        "error": [lambda error: ended.append(getattr(error, "request", None))],
    }
    with http3.Client(dispatch=InstantDispatch(), event_hooks=hooks, max_workers=4) as client:
        for _ in range(300):
            with client.parallel(max_workers=4) as parallel:
                for number in range(8):
                    parallel.get(f"{URL}{number}")
                if parallel.has_pending_responses:
                    parallel.next_response(PATIENCE)
    # Closing the client waited for its threads.
    assert collections.Counter(map(id, begun)) == collections.Counter(map(id, ended))


def test_an_error_hook_leaves_no_cycle_behind() -> None:
    dispatch = ScriptedDispatch()
    seen: list[weakref.ref[http3.HTTPError]] = []
    told = threading.Event()

    def tell(error: Exception) -> None:
        assert isinstance(error, http3.HTTPError)
        seen.append(weakref.ref(error))
        told.set()

    gc.disable()
    try:
        with http3.Client(dispatch=dispatch, event_hooks={"error": [tell]}) as client:
            with client.parallel() as parallel:
                parallel.get(URL)
                dispatch.exchange("/").ended.clear()
            with pytest.raises(http3.DeadlineExceeded):
                client.get(URL, deadline=0.05)
            assert told.wait(PATIENCE)
        assert len(seen) == 2
        assert [reference() for reference in seen] == [None, None]
    finally:
        gc.enable()


def test_every_error_hook_is_called_after_a_deadline_and_the_deadline_comes_out() -> None:
    called: list[str] = []

    def first(error: Exception) -> None:
        called.append("first")
        raise LookupError("of the user's")

    hooks: http3.EventHooks = {"error": [first, lambda error: called.append("second")]}
    with http3.Client(dispatch=ScriptedDispatch(), event_hooks=hooks) as client:
        with pytest.raises(http3.DeadlineExceeded):
            client.get(URL, deadline=0.05)

    assert called == ["first", "second"]


def test_a_body_without_its_length_is_not_sent(calling: typing.Any) -> None:
    def strip(request: http3.Request) -> None:
        del request.headers["content-length"]

    with http3.Client(dispatch=Answers(), event_hooks={"request": [strip]}, retries=2) as client:
        with pytest.raises(ValueError, match="Content-Length"):
            client.put(URL, data=b"abc")


def test_what_a_hook_made_of_the_headers_is_not_shown() -> None:
    def replace(request: http3.Request) -> None:
        request.headers = dict(request.headers.items())  # type: ignore[assignment]  # a mistake

    with http3.Client(
        dispatch=Answers(), event_hooks={"request": [replace]}, auth=("user", "secret")
    ) as client:
        with pytest.raises(TypeError) as raised:
            client.get(URL)

    assert "authorization" not in str(raised.value)


class Callable:
    async def __call__(self, message: object) -> None:
        """What nobody would await."""


def test_an_object_that_is_called_asynchronously_is_no_hook() -> None:
    with pytest.raises(TypeError):
        http3.Client(event_hooks={"request": [Callable()]})
