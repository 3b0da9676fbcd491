"""Bearer tokens: what is sent, when they are renewed, and who waits for that."""

from __future__ import annotations

import asyncio
import collections
import functools
import logging
import pickle
import threading
import time
import typing

import pytest

import http3_parallel as http3
from scripted import PATIENCE
from servers import Site

URL = "http://example.com/"


class Gatekeeper(http3.Dispatcher):
    """
    Lets in who has one of the `good` tokens; answers with the token and the body. Requests for
    ``/open`` need none.

    * `together`: so many that are refused wait for each other.
    """

    abortable = True

    def __init__(self, *good: str, together: int | None = None) -> None:
        self.good = set(good)
        self.received: list[http3.Request] = []
        self.statuses: collections.Counter[int] = collections.Counter()
        self._lock = threading.Lock()
        self._together = None if together is None else threading.Barrier(together)

    def send(self, request: http3.Request, context: http3.Context) -> http3.Response:
        body = b"".join(request.stream())
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        status = 200 if token in self.good or request.url.path == "/open" else 401
        with self._lock:
            self.received.append(request)
            self.statuses[status] += 1
        if status == 401 and self._together is not None:
            self._together.wait(PATIENCE)
        content = f"{token} {body.decode()}".strip()
        return http3.Response(status, content=content.encode(), request=request)

    @property
    def tokens(self) -> list[str | None]:
        return [request.headers.get("authorization") for request in self.received]


class Refresh:
    """Makes ``new1``, ``new2`` and so on, each when the test lets it; or raises what it says."""

    def __init__(self, gate: Gatekeeper | None = None, *, held: bool = False) -> None:
        self._gate = gate
        self._held = held
        self._changed = threading.Condition()
        self._released: dict[int, BaseException | None] = {}
        self.calls = 0

    def __call__(self) -> str:
        with self._changed:
            self.calls = number = self.calls + 1
            self._changed.notify_all()
            if self._held:
                assert self._changed.wait_for(lambda: number in self._released, PATIENCE)
                error = self._released[number]
                if error is not None:
                    raise error
        token = f"new{number}"
        if self._gate is not None:
            self._gate.good.add(token)
        return token

    def wait_for_call(self, number: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.calls >= number, PATIENCE)

    def release(self, number: int, error: BaseException | None = None) -> None:
        with self._changed:
            self._released[number] = error
            self._changed.notify_all()


def get(auth: http3.Auth, gate: Gatekeeper, *, method: str = "GET", **options: typing.Any) -> str:
    with http3.Client(dispatch=gate, auth=auth) as client:
        response = client.request(method, URL, **options)
        return f"{response.status_code} {response.text}"


# A token alone.


def test_the_token_is_sent_and_replaces_a_header_of_the_users() -> None:
    gate = Gatekeeper("abc")
    auth = http3.BearerAuth("abc")
    assert get(auth, gate, headers={"Authorization": "Basic x"}) == "200 abc"
    assert gate.received[0].headers.getlist("authorization") == ["Bearer abc"]


@pytest.mark.parametrize("token", ["a", "mF_9.B5f-4.1JqM", "a+/b==", "1|abc", "id:secret"])
def test_tokens_are_visible_characters(token: str) -> None:
    assert get(http3.BearerAuth(token), Gatekeeper(token)) == f"200 {token}"


@pytest.mark.parametrize(
    "token", ["", "secret\n", "secret token", "\tsecret", "secret\x00", "secr\u00e9t", "secret\x7f"]
)
def test_a_token_that_cannot_be_sent_is_refused_at_once_and_not_shown(token: str) -> None:
    with pytest.raises(ValueError, match="visible ASCII") as caught:
        http3.BearerAuth(token)
    assert "secr" not in str(caught.value)


@pytest.mark.parametrize("token", [b"secret", 5, ["secret"], True])
def test_a_token_that_is_no_text_is_refused_at_once_and_not_shown(token: typing.Any) -> None:
    with pytest.raises(TypeError, match="a token is a str") as caught:
        http3.BearerAuth(token)
    assert "secret" not in str(caught.value)


def test_one_of_token_and_refresh_is_needed() -> None:
    with pytest.raises(TypeError, match="a token, or refresh="):
        http3.BearerAuth()


def test_without_refresh_a_401_is_returned() -> None:
    gate = Gatekeeper()
    assert get(http3.BearerAuth("old"), gate) == "401 old"
    assert gate.statuses == {401: 1}


# What can be a refresh.


async def asynchronous() -> str:
    return "new"


class Asynchronous:
    async def __call__(self) -> str:
        return "new"


@pytest.mark.parametrize(
    ("refresh", "message"),
    [
        (asynchronous, "asynchronous"),
        (functools.partial(asynchronous), "asynchronous"),
        (Asynchronous(), "asynchronous"),
        (Asynchronous().__call__, "asynchronous"),
        ("new", "callable"),
        (5, "callable"),
    ],
)
def test_what_cannot_be_a_refresh_is_refused_at_once(refresh: typing.Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        http3.BearerAuth("old", refresh=refresh)


@pytest.mark.parametrize(
    ("returned", "error"),
    [(None, TypeError), (b"secret", TypeError), (5, TypeError), ("", ValueError)],
)
def test_what_refresh_returns_is_checked(returned: typing.Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"what refresh\(\) returns is") as caught:
        get(http3.BearerAuth(refresh=lambda: returned), Gatekeeper())
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("refresh", [lambda: asynchronous(), lambda: asyncio.sleep(0)])
def test_a_refresh_that_turns_out_to_be_asynchronous_is_a_type_error(refresh: typing.Any) -> None:
    # And no warning that the coroutine was never awaited.
    with pytest.raises(TypeError, match=r"what refresh\(\) returns is a str, not coroutine"):
        get(http3.BearerAuth(refresh=refresh), Gatekeeper())


# When the token is renewed.


def test_without_a_token_the_first_request_gets_one() -> None:
    gate = Gatekeeper()
    refresh = Refresh(gate)
    auth = http3.BearerAuth(refresh=refresh)
    assert [get(auth, gate) for _ in range(3)] == ["200 new1"] * 3
    assert (refresh.calls, gate.statuses) == (1, {200: 3})


def test_a_401_has_the_token_renewed_and_the_request_sent_again() -> None:
    gate = Gatekeeper()
    refresh = Refresh(gate)
    auth = http3.BearerAuth("old", refresh=refresh)
    assert [get(auth, gate) for _ in range(3)] == ["200 new1"] * 3
    assert (refresh.calls, gate.statuses) == (1, {401: 1, 200: 3})


@pytest.mark.parametrize("token", [None, "old"])
def test_a_401_for_the_new_token_is_returned(token: str | None) -> None:
    gate = Gatekeeper()
    refresh = Refresh()
    auth = http3.BearerAuth(token, refresh=refresh)
    assert get(auth, gate).startswith("401 new")
    assert len(gate.received) == 2
    assert gate.tokens[-1] == f"Bearer new{refresh.calls}"


def test_a_401_for_a_token_that_was_replaced_meanwhile_only_has_it_sent_again() -> None:
    refresh = Refresh()
    auth = http3.BearerAuth("old", refresh=refresh)
    slow, quick = auth.steps(http3.Request("GET", URL)), auth.steps(http3.Request("GET", URL))
    for steps in (slow, quick):
        assert next(steps).headers["authorization"] == "Bearer old"  # type: ignore[union-attr]
    sent = []
    for steps in (quick, slow):
        share = steps.send(http3.Response(401))
        assert isinstance(share, http3.Share)
        request = steps.send(share.perform(http3.Abort()))
        assert isinstance(request, http3.Request)
        sent.append(request.headers["authorization"])
        with pytest.raises(StopIteration):
            steps.send(http3.Response(401))
    assert sent == ["Bearer new1"] * 2
    assert refresh.calls == 1


@pytest.mark.parametrize("status", [200, 204, 302, 400, 403, 407, 500])
def test_no_other_status_has_it_renewed(status: int) -> None:
    steps = http3.BearerAuth("old", refresh=Refresh()).steps(http3.Request("GET", URL))
    next(steps)
    with pytest.raises(StopIteration):
        steps.send(http3.Response(status))


def test_a_refresh_that_returns_the_same_text_is_a_renewal_too() -> None:
    gate = Gatekeeper()
    calls: list[int] = []

    def refresh() -> str:
        calls.append(1)
        return "old"

    assert get(http3.BearerAuth("old", refresh=refresh), gate) == "401 old"
    assert len(calls) == 1
    assert gate.statuses == {401: 2}


@pytest.mark.parametrize("data", [b"body", [b"bo", b"dy"]])
def test_a_body_is_sent_again(data: typing.Any) -> None:
    gate = Gatekeeper()
    auth = http3.BearerAuth("old", refresh=Refresh(gate))
    assert get(auth, gate, method="POST", data=data) == "200 new1 body"


def test_a_body_that_cannot_be_sent_again_leaves_the_401_and_the_next_has_a_new_token() -> None:
    gate = Gatekeeper()
    refresh = Refresh(gate)
    auth = http3.BearerAuth("old", refresh=refresh)
    assert get(auth, gate, method="POST", data=iter([b"first"])) == "401 old first"
    assert refresh.calls == 0
    assert get(auth, gate, method="POST", data=iter([b"second"])) == "200 new1 second"
    assert get(auth, gate) == "200 new1"
    assert (refresh.calls, gate.statuses) == (1, {401: 1, 200: 2})


def test_a_stream_has_its_token_renewed_too(server: Site) -> None:
    url = server.answer("/", b"refused", status=401)

    def refresh() -> str:
        server.answer("/", b"content")
        return "new"

    with http3.Client(auth=http3.BearerAuth("old", refresh=refresh)) as client:
        response = client.get(url, stream=True)
        assert response.read() == b"content"
        assert len(server.connections) == 1


def test_a_redirect_within_the_origin_takes_the_token_along_and_no_other_does(
    server: Site,
) -> None:
    with Site() as foreign:
        foreign.answer("/", b"there")
        server.answer("/one", status=302, headers={"Location": "/two"})
        server.answer("/two", status=302, headers={"Location": f"{foreign.url}/"})
        with http3.Client(auth=http3.BearerAuth("abc")) as client:
            assert client.get(f"{server.url}/one").text == "there"
        assert [request.headers["authorization"] for request in server.requests] == [
            "Bearer abc"
        ] * 2
        assert "authorization" not in foreign.requests[0].headers


# Many at once.


def test_a_hundred_that_are_refused_together_have_it_renewed_once() -> None:
    gate = Gatekeeper(together=100)
    refresh = Refresh(gate)
    auth = http3.BearerAuth("old", refresh=refresh)
    with http3.Client(dispatch=gate, auth=auth) as client:
        with client.parallel(max_workers=100) as parallel:
            for number in range(100):
                parallel.get(f"{URL}{number}")
            texts = {parallel.next_response().text for _ in range(100)}
    assert texts == {"new1"}
    assert (refresh.calls, gate.statuses) == (1, {401: 100, 200: 100})


def test_a_hundred_without_a_token_get_one_by_one_call() -> None:
    gate = Gatekeeper()
    refresh = Refresh(gate)
    auth = http3.BearerAuth(refresh=refresh)
    with http3.Client(dispatch=gate, auth=auth) as client:
        with client.parallel(max_workers=100) as parallel:
            for number in range(100):
                parallel.get(f"{URL}{number}")
            texts = {parallel.next_response().text for _ in range(100)}
    assert texts == {"new1"}
    assert (refresh.calls, gate.statuses) == (1, {200: 100})


def test_tokens_that_expire_again_and_again(switch_interval: None) -> None:
    """Each is good for ten requests; whoever comes too late is refused, and has it renewed."""
    uses: collections.Counter[str] = collections.Counter()
    lock = threading.Lock()

    class Expiring(Gatekeeper):
        def send(self, request: http3.Request, context: http3.Context) -> http3.Response:
            token = request.headers["authorization"]
            with lock:
                uses[token] += 1
                is_good = uses[token] <= 10
            return http3.Response(200 if is_good else 401, request=request)

    numbers = iter(range(10_000))
    auth = http3.BearerAuth(refresh=lambda: f"token{next(numbers)}")
    with http3.Client(dispatch=Expiring(), auth=auth) as client:
        with client.parallel(max_workers=4) as parallel:
            for number in range(200):
                parallel.get(f"{URL}{number}")
            statuses = [parallel.next_response().status_code for _ in range(200)]
    made = next(numbers)
    assert sorted(uses) == sorted(f"Bearer token{number}" for number in range(made))
    # None was replaced while it was still good. The last one may be.
    assert all(uses[f"Bearer token{number}"] > 10 for number in range(made - 1))
    # Whoever had two turns that came too late has a 401.
    assert set(statuses) <= {200, 401}
    assert sum(min(count, 10) for count in uses.values()) == statuses.count(200)


def token_of(auth: object) -> str | None:
    """The one that its next request is sent with."""
    assert isinstance(auth, http3.BearerAuth)
    request = next(auth.steps(http3.Request("GET", URL)))
    assert isinstance(request, http3.Request)
    return request.headers["authorization"].removeprefix("Bearer ")


def waiting_for(auth: object) -> int:
    """How many requests wait for another one's call of refresh."""
    assert isinstance(auth, http3.BearerAuth)
    return len(auth._tokens._last._signals)


def wait_until(condition: typing.Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


class Waiting:
    """A client whose requests wait for a refresh that the test holds."""

    def __init__(self, client: http3.Client, gate: Gatekeeper, refresh: Refresh) -> None:
        self.client = client
        self.gate = gate
        self.refresh = refresh


@pytest.fixture
def waiting() -> typing.Iterator[Waiting]:
    gate = Gatekeeper()
    refresh = Refresh(gate, held=True)
    auth = http3.BearerAuth("old", refresh=refresh)
    with http3.Client(dispatch=gate, auth=auth) as client:
        yield Waiting(client, gate, refresh)


def test_when_the_leader_is_cancelled_another_calls_refresh_at_once(waiting: Waiting) -> None:
    refresh = waiting.refresh
    with waiting.client.parallel() as parallel:
        leader = parallel.get(f"{URL}leader")
        refresh.wait_for_call(1)
        others = [parallel.get(f"{URL}{number}") for number in range(5)]
        wait_until(lambda: waiting_for(waiting.client.auth) == 5)
        assert leader.cancel()
        refresh.wait_for_call(2)  # although the first call goes on
        refresh.release(2)
        assert {other.get_response().text for other in others} == {"new2"}
        with pytest.raises(http3.RequestCancelled):
            leader.get_response()
        refresh.release(1)
    assert waiting.client.get(URL).text == "new2", "what came later is dropped"
    assert refresh.calls == 2


def test_when_the_leaders_block_is_left_another_calls_refresh_at_once(waiting: Waiting) -> None:
    refresh = waiting.refresh
    with waiting.client.parallel() as parallel:
        with waiting.client.parallel() as left:
            leaders = [left.get(f"{URL}leader") for _ in range(3)]
            refresh.wait_for_call(1)
            others = [parallel.get(f"{URL}{number}") for number in range(3)]
            wait_until(lambda: waiting_for(waiting.client.auth) == 5)
        refresh.wait_for_call(2)
        refresh.release(2)
        assert {other.get_response().text for other in others} == {"new2"}
        for leader in leaders:
            with pytest.raises(http3.RequestCancelled):
                leader.get_response()
        refresh.release(1)


def test_when_the_leaders_deadline_passes_another_calls_refresh_at_once(waiting: Waiting) -> None:
    refresh = waiting.refresh
    with waiting.client.parallel() as parallel:
        leader = parallel.get(f"{URL}leader", deadline=1.0)
        refresh.wait_for_call(1)
        other = parallel.get(f"{URL}other")
        refresh.wait_for_call(2)
        with pytest.raises(http3.DeadlineExceeded, match="while getting a new token"):
            leader.get_response()
        refresh.release(2)
        assert other.get_response().text == "new2"
        refresh.release(1)


def test_what_a_cancelled_leader_makes_late_serves_the_next(waiting: Waiting) -> None:
    refresh = waiting.refresh
    with waiting.client.parallel() as parallel:
        leader = parallel.get(f"{URL}leader")
        refresh.wait_for_call(1)
        leader.cancel()
    refresh.release(1)
    wait_until(lambda: token_of(waiting.client.auth) == "new1")
    assert waiting.client.get(URL).text == "new1"
    assert refresh.calls == 1


@pytest.mark.parametrize("plain", [True, False])
def test_the_deadline_of_one_that_waits_passes_while_it_waits(
    waiting: Waiting, plain: bool
) -> None:
    with waiting.client.parallel() as parallel:
        leader = parallel.get(f"{URL}leader")
        waiting.refresh.wait_for_call(1)
        with pytest.raises(http3.DeadlineExceeded, match="while getting a new token"):
            if plain:
                waiting.client.get(URL, deadline=0.5)
            else:
                parallel.get(URL, deadline=0.5).get_response()
        waiting.refresh.release(1)
        assert leader.get_response().text == "new1"
    assert waiting.refresh.calls == 1


def test_leaving_a_block_whose_requests_wait_is_quick_and_closing_the_client_too() -> None:
    gate = Gatekeeper()
    refresh = Refresh(gate, held=True)
    auth = http3.BearerAuth("old", refresh=refresh)
    with http3.Client(dispatch=gate, auth=auth) as client:
        with client.parallel() as parallel:
            handles = [parallel.get(URL) for _ in range(20)]
            refresh.wait_for_call(1)
    for handle in handles:
        with pytest.raises(http3.RequestCancelled):
            handle.get_response()
    for number in range(1, refresh.calls + 1):
        refresh.release(number)


# A refresh that fails.


class Unreachable(Exception):
    pass


def test_all_who_waited_raise_what_refresh_raised_and_the_next_request_tries_anew(
    waiting: Waiting,
) -> None:
    refresh = waiting.refresh
    error = Unreachable("no token today")
    with waiting.client.parallel() as parallel:
        handles = [parallel.get(f"{URL}{number}") for number in range(20)]
        refresh.wait_for_call(1)
        wait_until(lambda: waiting_for(waiting.client.auth) == 19)
        refresh.release(1, error)
        for handle in handles:
            with pytest.raises(Unreachable) as caught:
                handle.get_response()
            assert caught.value is error
        assert refresh.calls == 1
        again = parallel.get(URL)
        refresh.wait_for_call(2)
        refresh.release(2)
        assert again.get_response().text == "new2"


def test_an_error_of_ours_has_the_tag_of_each_request_that_raises_it(waiting: Waiting) -> None:
    refresh = waiting.refresh
    error = http3.ReadTimeout("no token in time", request=http3.Request("POST", URL + "token"))
    error.__cause__ = OSError("of the network")
    with waiting.client.parallel() as parallel:
        handles = [parallel.get(f"{URL}{number}", tag=number) for number in range(20)]
        refresh.wait_for_call(1)
        wait_until(lambda: waiting_for(waiting.client.auth) == 19)
        refresh.release(1, error)
        for number, handle in enumerate(handles):
            with pytest.raises(http3.ReadTimeout) as caught:
                handle.get_response()
            assert caught.value.tag == number
            assert caught.value.request is error.request
            assert caught.value.__cause__ is error.__cause__
            assert str(caught.value) == str(error)


@pytest.mark.skipif(not hasattr(BaseException, "add_note"), reason="Python 3.11")
def test_what_refresh_raised_gets_no_note_for_each_that_waited(waiting: Waiting) -> None:
    refresh = waiting.refresh
    error = Unreachable("no token today")
    with waiting.client.parallel() as parallel:
        handles = [parallel.get(f"{URL}{number}") for number in range(20)]
        refresh.wait_for_call(1)
        wait_until(lambda: waiting_for(waiting.client.auth) == 19)
        refresh.release(1, error)
        for handle in handles:
            with pytest.raises(Unreachable):
                handle.get_response()

    assert len(getattr(error, "__notes__", [])) == 0


def test_an_error_of_ours_in_refresh_comes_out_as_it_is() -> None:
    class Broken(http3.Dispatcher):
        def send(self, request: http3.Request, context: http3.Context) -> http3.Response:
            raise http3.ConnectError("refused", request=request)

    calls: list[int] = []

    def refresh() -> str:
        calls.append(1)
        with http3.Client(dispatch=Broken()) as client:
            return client.post("http://tokens.example/").text

    with pytest.raises(http3.ConnectError) as caught:
        with http3.Client(
            dispatch=Gatekeeper(), auth=http3.BearerAuth(refresh=refresh), retries=3
        ) as client:
            client.get(URL)
    assert str(caught.value.url) == "http://tokens.example/"
    assert len(calls) == 1, "it is not the request that failed: that is not retried"


# Requests within refresh.


@pytest.mark.parametrize("token", [None, "old"])
@pytest.mark.parametrize("how", ["plain", "block", "block in a block"])
def test_requests_of_refresh_with_the_same_auth_go_without_a_token(
    how: str, token: str | None
) -> None:
    gate = Gatekeeper("new")

    def refresh() -> str:
        if how == "plain":
            response = client.post(f"{URL}open", data=b"form")
        else:
            with client.parallel() as parallel:
                response = parallel.post(f"{URL}open", data=b"form").get_response()
        assert "authorization" not in response.request.headers
        assert client.get(URL).status_code == 401, "it is returned as it is"
        return "new"

    with http3.Client(dispatch=gate, auth=http3.BearerAuth(token, refresh=refresh)) as client:
        if how == "block in a block":
            with client.parallel() as parallel:
                handles = [parallel.get(URL) for _ in range(8)]
                assert {handle.get_response().text for handle in handles} == {"new"}
        else:
            assert client.get(URL).text == "new"
        assert client.get(URL).text == "new"


def test_two_auths_may_need_each_other() -> None:
    """The token of the outer is got with the inner, whose own needs the outer's client."""
    gate = Gatekeeper("outer", "inner")

    def outer_token() -> str:
        assert client.get(URL, auth=inner).text == "inner"
        return "outer"

    def inner_token() -> str:
        assert client.get(f"{URL}open").status_code == 200
        return "inner"

    inner = http3.BearerAuth(refresh=inner_token)
    with http3.Client(dispatch=gate, auth=http3.BearerAuth(refresh=outer_token)) as client:
        assert client.get(URL).text == "outer"
    assert gate.tokens == [None, "Bearer inner", "Bearer outer"]


# The object.


def new_token() -> str:
    return "new"


def test_it_pickles_with_the_token_it_has_now() -> None:
    gate = Gatekeeper("new", "given")
    assert get(pickle.loads(pickle.dumps(http3.BearerAuth("given"))), gate) == "200 given"
    auth = http3.BearerAuth("old", refresh=new_token)
    copy = pickle.loads(pickle.dumps(auth))
    assert get(copy, gate) == "200 new"
    assert get(pickle.loads(pickle.dumps(copy)), gate) == "200 new"
    assert gate.statuses == {200: 3, 401: 1}
    without = pickle.loads(pickle.dumps(http3.BearerAuth(refresh=new_token)))
    assert get(without, gate) == "200 new"


def test_a_refresh_that_does_not_pickle_is_told() -> None:
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        pickle.dumps(http3.BearerAuth(refresh=lambda: "new"))


def test_the_token_is_nowhere_to_be_seen(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    auth = http3.BearerAuth("s3cr3t", refresh=Refresh())
    assert repr(auth) == str(auth) == "<BearerAuth>"
    with http3.Client(dispatch=Gatekeeper(), auth=auth) as client:
        response = client.get(URL)
        with pytest.raises(http3.HTTPStatusError) as caught:
            response.raise_for_status()
    assert response.request is not None
    shown = f"{client!r} {response.request!r} {response.request.headers!r} {caught.value!r}"
    assert "new1" not in shown + caplog.text
    assert "s3cr3t" not in shown + caplog.text
    assert caplog.text
