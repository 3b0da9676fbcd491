"""Plain calls: one request at a time in the calling thread, and what all calls share."""

from __future__ import annotations

import concurrent.futures
import contextlib
import datetime
import gc
import json
import logging
import ssl
import sys
import threading
import time
import typing

import pytest

import http3_parallel as http3
import http3_parallel.dispatch
from servers import (
    DRIP_INTERVAL,
    PATIENCE,
    Peer,
    RawServer,
    Site,
    drip_body,
    drip_chunks,
    hang_before_response,
    json_ok,
    response_bytes,
)

Answer = typing.Callable[[http3.Request], typing.Any]


class FunctionDispatch(http3.Dispatcher):
    """A user's own: answers with what a function returns. Keeps what it was told."""

    def __init__(self, function: Answer) -> None:
        self._function = function
        self.requests: list[http3.Request] = []
        self.contexts: list[http3.Context] = []
        self.closed = False

    def send(self, request: http3.Request, context: http3.Context) -> http3.Response:
        self.requests.append(request)
        self.contexts.append(context)
        return typing.cast(http3.Response, self._function(request))

    def close(self) -> None:
        self.closed = True


def ok(request: http3.Request) -> http3.Response:
    return http3.Response(200, content=str(request.url).encode(), request=request)


def never(request: http3.Request) -> http3.Response:
    raise AssertionError("nothing should be sent")


def echo(peer: Peer) -> None:
    """Answers with what was asked, as JSON."""
    while (request := peer.read_request()) is not None:
        seen = {
            "method": request.method,
            "target": request.target,
            "headers": request.headers,
            "body": request.body.decode("latin-1"),
        }
        body = json.dumps(seen).encode()
        peer.send(response_bytes(body=body, with_body=request.method != "HEAD"))


@pytest.fixture
def client() -> typing.Iterator[http3.Client]:
    with http3.Client() as client:
        yield client


@pytest.fixture
def echo_server() -> typing.Iterator[RawServer]:
    with RawServer(echo) as server:
        yield server


Call = typing.Callable[..., http3.Response]


def plain(client: http3.Client, url: str, **options: typing.Any) -> http3.Response:
    return client.get(url, **options)


def sent(client: http3.Client, url: str, **options: typing.Any) -> http3.Response:
    return client.send(http3.Request("GET", url), **options)


def in_block(client: http3.Client, url: str, **options: typing.Any) -> http3.Response:
    with client.parallel() as parallel:
        return parallel.get(url, **options).get_response(PATIENCE)


#: Whatever the way, the same happens.
every_way = pytest.mark.parametrize("call", [plain, sent, in_block])


# Plain calls.


@pytest.mark.parametrize("method", ["get", "options", "post", "put", "patch", "delete"])
def test_each_method_makes_its_request(
    client: http3.Client, echo_server: RawServer, method: str
) -> None:
    response = getattr(client, method)(echo_server.url + "/p", params={"a": ["1", "2"]})
    assert response.status_code == 200
    assert response.json()["method"] == method.upper()
    assert response.json()["target"] == "/p?a=1&a=2"
    assert response.url == echo_server.url + "/p?a=1&a=2"


def test_head_has_no_body(client: http3.Client, echo_server: RawServer) -> None:
    response = client.head(echo_server.url)
    assert (response.status_code, response.content) == (200, b"")
    assert response.request is not None
    assert response.request.method == "HEAD"


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_bodies_are_sent(client: http3.Client, echo_server: RawServer, method: str) -> None:
    call = getattr(client, method)
    assert call(echo_server.url, data=b"bytes").json()["body"] == "bytes"
    assert call(echo_server.url, json={"a": 1}).json()["body"] == '{"a": 1}'
    assert call(echo_server.url, data=iter([b"a", b"b"])).json()["body"] == "ab"


def test_any_other_method_and_a_body_with_get_by_request(
    client: http3.Client, echo_server: RawServer
) -> None:
    seen = client.request("purge", echo_server.url).json()
    assert seen["method"] == "PURGE"
    assert client.request("GET", echo_server.url, data=b"x").json()["body"] == "x"


def test_the_response_tells_how_long_it_took() -> None:
    def slow(request: http3.Request) -> http3.Response:
        time.sleep(0.01)
        return ok(request)

    with http3.Client(dispatch=FunctionDispatch(slow)) as client:
        elapsed = client.get("http://example.com/").elapsed
    assert elapsed is not None
    assert datetime.timedelta(seconds=0.01) <= elapsed < datetime.timedelta(seconds=PATIENCE)


@every_way
def test_the_tag_comes_back(call: Call) -> None:
    tag = object()
    with http3.Client(dispatch=FunctionDispatch(ok)) as client:
        assert call(client, "http://example.com/", tag=tag).tag is tag
        assert call(client, "http://example.com/").tag is None


def test_connections_are_kept_and_reused(client: http3.Client, server: Site) -> None:
    url = server.answer("/", "hello")
    for _ in range(5):
        assert client.get(url).text == "hello"
    assert len(server.connections) == 1


def test_a_call_may_be_made_within_another(client: http3.Client, server: Site) -> None:
    token = server.answer("/token", "t0k3n")

    def with_token(request: http3.Request) -> http3.Request:
        request.headers["x-token"] = client.get(token).text
        return request

    client.get(server.answer("/", ""), auth=with_token)
    assert server.requests_for("/")[0].headers["x-token"] == "t0k3n"


def test_plain_calls_start_no_threads(client: http3.Client, server: Site) -> None:
    client.get(server.answer("/", "hello"))
    assert our_threads() == set()


# What a client adds.


@pytest.mark.parametrize(
    ("base_url", "url", "expected"),
    [
        ("http://example.com/api/", "users", "http://example.com/api/users"),
        ("http://example.com/api", "users", "http://example.com/users"),
        ("http://example.com/api/", "/users", "http://example.com/users"),
        ("http://example.com/api/", "../x?q=1", "http://example.com/x?q=1"),
        ("http://example.com/api/?key=1", "", "http://example.com/api/?key=1"),
        ("http://example.com/api/", "//other.example/", "http://other.example/"),
        ("http://example.com/api/", "https://other.example/", "https://other.example/"),
        ("http://example.com", "x", "http://example.com/x"),
        ("http://example.com/a/", http3.URL("b", allow_relative=True), "http://example.com/a/b"),
    ],
)
def test_urls_are_relative_to_the_base_url(
    base_url: str, url: str | http3.URL, expected: str
) -> None:
    with http3.Client(dispatch=FunctionDispatch(ok), base_url=base_url) as client:
        assert client.get(url).url == expected
        with client.parallel() as parallel:
            assert parallel.get(url).get_response().url == expected


def test_headers_are_merged_and_the_requests_own_win() -> None:
    dispatch = FunctionDispatch(ok)
    defaults = {"User-Agent": "mine", "X-Both": "client", "X-Client": "a"}
    with http3.Client(dispatch=dispatch, headers=defaults) as client:
        client.get("http://x/", headers={"x-both": "request", "X-Request": "b"})
        client.get("http://x/")
    first, second = [request.headers for request in dispatch.requests]
    assert first.getlist("x-both") == ["request"]
    assert (first["x-client"], first["x-request"]) == ("a", "b")
    assert first.getlist("user-agent") == ["mine"]
    assert second["x-both"] == "client"
    assert "x-request" not in second


def test_a_header_of_the_request_replaces_all_lines_of_the_clients() -> None:
    dispatch = FunctionDispatch(ok)
    with http3.Client(dispatch=dispatch, headers=[("X-A", "1"), ("X-A", "2")]) as client:
        client.get("http://x/")
        client.get("http://x/", headers=[("x-a", "3"), ("x-a", "4")])
    assert dispatch.requests[0].headers.getlist("x-a") == ["1", "2"]
    assert dispatch.requests[1].headers.getlist("x-a") == ["3", "4"]


def test_the_users_own_headers_are_left_as_they_were() -> None:
    defaults, own = http3.Headers({"x-a": "1"}), http3.Headers({"x-b": "2"})
    with http3.Client(dispatch=FunctionDispatch(ok), headers=defaults) as client:
        client.get("http://x/", headers=own)
        client.headers["x-c"] = "3"
    assert (defaults.raw, own.raw) == ([(b"x-a", b"1")], [(b"x-b", b"2")])


def test_the_clients_headers_may_be_changed_in_place() -> None:
    dispatch = FunctionDispatch(ok)
    with http3.Client(dispatch=dispatch) as client:
        client.headers["X-Token"] = "new"
        client.get("http://x/")
    assert dispatch.requests[0].headers["x-token"] == "new"


@every_way
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, (5.0, 6.0, 7.0)),
        (1, (1.0, 1.0, 1.0)),
        ((1, None, 3), (1.0, None, 3.0)),
        (http3.TimeoutConfig(read_timeout=2), (None, 2.0, None)),
        (http3.TimeoutConfig(), (None, None, None)),
    ],
)
def test_a_timeout_of_the_request_replaces_all_three(
    call: Call, given: typing.Any, expected: typing.Any
) -> None:
    dispatch = FunctionDispatch(ok)
    with http3.Client(dispatch=dispatch, timeout=(5, 6, 7)) as client:
        call(client, "http://x/", timeout=given)
    timeout = dispatch.contexts[0].timeout
    assert (timeout.connect_timeout, timeout.read_timeout, timeout.write_timeout) == expected


def test_the_timeout_is_five_seconds_unless_said_otherwise() -> None:
    dispatch = FunctionDispatch(ok)
    with http3.Client(dispatch=dispatch) as client:
        client.get("http://x/")
    with http3.Client(dispatch=dispatch, timeout=None) as client:
        client.get("http://x/")
    assert [context.timeout for context in dispatch.contexts] == [
        http3.TimeoutConfig(5.0),
        http3.TimeoutConfig(None),
    ]


@pytest.mark.parametrize("seconds", [float("inf"), 1e10, 1e300, 10**400])
def test_longer_than_anyone_can_wait_is_for_ever(
    client: http3.Client, server: Site, seconds: float
) -> None:
    assert client.get(server.answer("/", "x"), timeout=seconds, deadline=seconds).text == "x"


@every_way
def test_a_read_timeout_says_how_long_it_was(call: Call) -> None:
    with RawServer(hang_before_response) as server, http3.Client(timeout=60) as client:
        with pytest.raises(http3.ReadTimeout, match=r"0\.05 s"):
            call(client, server.url, timeout=0.05)
        assert server.wait_all_closed()


# send().


def test_send_sends_a_request_as_it_is() -> None:
    dispatch = FunctionDispatch(ok)
    request = http3.Request("GET", "http://example.com/", headers={"X-A": "b"})
    with http3.Client(
        dispatch=dispatch, base_url="http://example.org/", headers={"X-Client": "c"}
    ) as client:
        response = client.send(request)
        assert response.request is request
        assert client.send(request).status_code == 200
    assert dispatch.requests == [request, request]
    assert "x-client" not in request.headers


@pytest.mark.parametrize("wrong", ["http://x/", None, http3.URL("http://x/"), http3.Request])
def test_send_takes_a_request(wrong: typing.Any) -> None:
    with http3.Client(dispatch=FunctionDispatch(never)) as client:
        with pytest.raises(TypeError, match="takes a Request"):
            client.send(wrong)


def test_a_body_that_was_sent_and_is_gone_is_an_error_of_the_request(
    client: http3.Client, echo_server: RawServer
) -> None:
    request = http3.Request("POST", echo_server.url, data=iter([b"once"]))
    assert client.send(request).json()["body"] == "once"
    with pytest.raises(http3.StreamConsumed) as caught:
        client.send(request)
    assert caught.value.request is request


def test_send_applies_the_options() -> None:
    redirect = FunctionDispatch(
        lambda request: http3.Response(302, headers={"Location": "/x"}, request=request)
    )
    with http3.Client(dispatch=redirect, auth=("client", "")) as client:
        request = http3.Request("GET", "http://example.com/")
        response = client.send(request, allow_redirects=False, auth=("request", ""))
    assert response.is_redirect
    assert redirect.requests[0].headers["authorization"] == "Basic cmVxdWVzdDo="


# Redirects, one by one.


@pytest.fixture
def chain(server: Site) -> str:
    """Three redirects, the first of which is returned."""
    for number in (1, 2, 3):
        headers = {"Location": f"/{number + 1}"}
        server.answer(f"/{number}", f"to {number + 1}", status=302, headers=headers)
    server.answer("/4", "end")
    return server.url + "/1"


def test_redirects_are_followed(client: http3.Client, server: Site, chain: str) -> None:
    response = client.get(chain)
    assert response.text == "end"
    assert [str(earlier.url)[-2:] for earlier in response.history] == ["/1", "/2", "/3"]
    assert len(server.connections) == 1


def test_head_returns_a_redirect_unless_told_to_follow_it(client: http3.Client, chain: str) -> None:
    assert client.head(chain).status_code == 302
    response = client.head(chain, allow_redirects=True)
    assert response.status_code == 200
    assert response.request is not None
    assert response.request.method == "HEAD"


@every_way
def test_next_makes_one_step(client: http3.Client, chain: str, call: Call) -> None:
    first = call(client, chain, allow_redirects=False, tag="t")
    assert (first.status_code, first.text, first.history) == (302, "to 2", [])
    second = first.next()
    assert (second.status_code, second.text, second.tag) == (302, "to 3", "t")
    assert second.history == [first]
    last = second.next().next()
    assert (last.text, len(last.history)) == ("end", 3)
    with pytest.raises(RuntimeError, match="no redirect"):
        last.next()


def test_next_closes_the_stream_it_leaves(client: http3.Client, chain: str) -> None:
    first = client.get(chain, allow_redirects=False, stream=True)
    second = first.next()
    assert first.is_closed
    assert second.read() == b"to 3"


def test_next_keeps_to_the_limit_and_sees_loops(server: Site, chain: str) -> None:
    server.answer("/loop", status=302, headers={"Location": "/loop"})
    with http3.Client(max_redirects=1) as client:
        second = client.get(chain, allow_redirects=False, tag="t").next()
        with pytest.raises(http3.TooManyRedirects) as caught:
            second.next()
        assert (caught.value.tag, caught.value.url) == ("t", server.url + "/2")
        with pytest.raises(http3.RedirectLoop):
            client.get(server.url + "/loop", allow_redirects=False).next()


@pytest.mark.parametrize("how", ["request", "client", "url"])
def test_next_gives_credentials_to_nobody_else(server: Site, how: str) -> None:
    auth = None if how == "url" else ("user", "secret")
    url = server.url.replace("//", "//user:secret@") if how == "url" else server.url
    with Site() as other, http3.Client(auth=auth if how == "client" else None) as client:
        options: typing.Any = {"auth": auth} if how == "request" else {}
        server.answer("/", status=302, headers={"Location": "/same"})
        server.answer("/same", status=302, headers={"Location": other.answer("/", "other")})
        response = client.get(url + "/", allow_redirects=False, **options)
        assert response.next().next().text == "other"
        assert "authorization" in server.requests_for("/")[0].headers
        assert "authorization" in server.requests_for("/same")[0].headers
        assert "authorization" not in other.requests[0].headers


def test_next_without_a_client_says_so() -> None:
    response = http3.Response(302, headers={"Location": "/x"})
    with pytest.raises(RuntimeError, match="client"):
        response.next()


def test_a_redirects_body_that_only_drips_does_not_hold_it_up() -> None:
    def dripping(peer: Peer) -> None:
        request = peer.read_request()
        if request is not None and request.target == "/":
            peer.send(b"HTTP/1.1 302 Found\r\nLocation: /end\r\nContent-Length: 1000\r\n\r\n")
            while not peer.wait_closed(0.05):
                peer.send(b"x")
        elif request is not None:
            peer.send(response_bytes(body=b"end"))

    with RawServer(dripping) as server, http3.Client(timeout=PATIENCE) as client:
        assert client.get(server.url + "/", deadline=PATIENCE).text == "end"


# Streams.


def test_a_stream_is_delivered_unread(client: http3.Client, server: Site) -> None:
    url = server.answer("/", b"x" * 300_000)
    with client.get(url, stream=True) as response:
        assert not response.is_closed
        with pytest.raises(http3.ResponseNotRead):
            _ = response.content
        assert sum(len(piece) for piece in response.stream()) == 300_000
        assert response.is_closed
    client.get(url)
    assert len(server.connections) == 1


def test_a_delivered_stream_stays_readable_after_close(server: Site) -> None:
    url = server.answer("/", b"x" * 3_000_000)
    client = http3.Client()
    response = client.get(url, stream=True)
    client.close()
    assert response.read() == b"x" * 3_000_000
    assert server.wait_all_closed()


def test_a_stream_that_is_closed_early_costs_its_connection(
    client: http3.Client, server: Site
) -> None:
    url = server.answer("/", b"x" * 3_000_000)
    client.get(url, stream=True).close()
    assert server.wait_all_closed()
    assert len(client.get(url).content) == 3_000_000


# Closing.


def test_a_closed_client_is_closed(server: Site) -> None:
    url = server.answer("/", status=302, headers={"Location": "/x"})
    client = http3.Client()
    redirect = client.get(url, allow_redirects=False)
    client.close()
    client.close()
    for call in (
        lambda: client.get(url),
        lambda: client.send(http3.Request("GET", url)),
        lambda: client.parallel(),
        client.__enter__,
        redirect.next,
    ):
        with pytest.raises(http3.ClientClosed, match="make another"):
            call()
    assert len(server.requests) == 1


def test_leaving_the_with_statement_closes_it(server: Site) -> None:
    with http3.Client() as client:
        client.get(server.answer("/", "x"))
    with pytest.raises(http3.ClientClosed):
        client.get(server.url)
    assert server.wait_all_closed()


def test_the_exception_of_the_with_statement_comes_out() -> None:
    with pytest.raises(ZeroDivisionError), http3.Client() as client:
        client.headers["x"] = str(1 // 0)


def test_close_ends_open_blocks() -> None:
    with RawServer(hang_before_response) as server:
        client = http3.Client(timeout=60)
        parallel = client.parallel()
        handles = [parallel.get(server.url) for _ in range(3)]
        assert server.wait_for_requests(3)
        client.close()
        for handle in handles:
            with pytest.raises(http3.RequestCancelled):
                handle.get_response(PATIENCE)
        with pytest.raises(http3.ParallelClosed):
            parallel.get(server.url)
        parallel.close()
        assert server.wait_all_closed()


def test_a_client_may_be_closed_while_another_thread_calls(server: Site) -> None:
    client = http3.Client(timeout=60)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        future = pool.submit(client.get, server.url + "/wait/gate")
        assert server.wait_for_request("/wait/gate")
        client.close()
        server.release("gate")
        assert future.result(PATIENCE).text == "gate"
    assert server.wait_all_closed()


def our_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if "http3_parallel" in thread.name}


# The sockets tell, as Python's own do, that nobody closed them.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_client_that_is_dropped_unclosed_leaves_nothing_behind(server: Site) -> None:
    before = our_threads()
    url = server.answer("/", "x")

    def use() -> None:
        client = http3.Client()
        client.get(url, deadline=60)
        with client.parallel() as parallel:
            for _ in range(4):
                parallel.get(url)
            for pending in parallel:
                pending.get_response()

    use()
    gc.collect()
    for thread in our_threads() - before:
        thread.join(PATIENCE)
    assert our_threads() - before == set()
    assert server.wait_all_closed()


def test_a_closed_client_leaves_no_threads_behind(server: Site) -> None:
    before = our_threads()
    with http3.Client() as client, client.parallel() as parallel:
        parallel.get(server.answer("/", "x")).get_response(PATIENCE)
        assert our_threads() > before
    assert our_threads() == before


# Threads.


@pytest.mark.usefixtures("switch_interval")
def test_sixteen_threads_share_a_client_and_each_gets_its_answers(echo_server: RawServer) -> None:
    def work(number: int) -> list[str]:
        targets = [f"/{number}/{index}" for index in range(50)]
        answers = [shared.get(echo_server.url + target).json()["target"] for target in targets]
        return [answer for answer, target in zip(answers, targets, strict=True) if answer != target]

    with http3.Client() as shared, concurrent.futures.ThreadPoolExecutor(16) as pool:
        assert list(pool.map(work, range(16))) == [[]] * 16
    assert len(echo_server.requests) == 800
    assert len(echo_server.connections) <= 16


# Deadlines.


@every_way
def test_a_deadline_ends_a_request_that_hangs(call: Call) -> None:
    with RawServer(hang_before_response) as server, http3.Client(timeout=60) as client:
        with pytest.raises(http3.DeadlineExceeded, match=r"the deadline of 0\.1 s") as caught:
            call(client, server.url + "/", deadline=0.1, tag="t")
        assert caught.value.tag == "t"
        assert caught.value.url == server.url + "/"
        assert server.wait_all_closed()


@pytest.mark.parametrize("handler", [drip_body, drip_chunks])
def test_a_deadline_ends_a_body_that_drips(handler: typing.Any) -> None:
    with RawServer(handler) as server, http3.Client(timeout=60) as client:
        with pytest.raises(http3.DeadlineExceeded):
            client.get(server.url, deadline=0.2)
        assert server.wait_all_closed()


@pytest.mark.parametrize("secure", [False, True])
def test_a_deadline_ends_an_upload_of_which_the_server_takes_a_little_at_a_time(
    server_tls: ssl.SSLContext, ca_path: str, secure: bool
) -> None:
    def reads_slowly(peer: Peer) -> None:
        peer.read_head()
        while not peer.server.draining.wait(DRIP_INTERVAL):
            peer.socket.recv(1000)
        peer.wait_closed()

    with (
        RawServer(reads_slowly, tls=server_tls if secure else None, receive_buffer=4096) as server,
        http3.Client(timeout=60, verify=ca_path) as client,
    ):
        began = time.monotonic()
        with pytest.raises(http3.DeadlineExceeded, match="sending the request"):
            client.post(server.url, data=b"x" * 50_000_000, deadline=0.3)
        assert time.monotonic() - began < 2
        assert server.wait_all_closed()


def test_a_deadline_ends_a_delivered_stream() -> None:
    with RawServer(drip_body) as server, http3.Client(timeout=60) as client:
        response = client.get(server.url, stream=True, deadline=0.2, tag="t")
        with pytest.raises(http3.DeadlineExceeded) as caught:
            response.read()
        assert caught.value.tag == "t"
        assert server.wait_all_closed()


def test_a_deadline_covers_the_wait_before_a_retry() -> None:
    busy = FunctionDispatch(
        lambda request: http3.Response(503, headers={"Retry-After": "30"}, request=request)
    )
    with http3.Client(dispatch=busy, retries=3) as client:
        with pytest.raises(http3.DeadlineExceeded, match="waiting to try again"):
            client.get("http://x/", deadline=0.1)
    assert len(busy.requests) == 1


def test_a_deadline_that_is_met_disturbs_nothing(client: http3.Client, server: Site) -> None:
    url = server.answer("/", "x")
    for _ in range(20):
        assert client.get(url, deadline=60).text == "x"
    assert len(server.connections) == 1


def test_no_time_at_all_is_a_deadline_too() -> None:
    with RawServer(hang_before_response) as server, http3.Client() as client:
        with pytest.raises(http3.DeadlineExceeded):
            client.get(server.url, deadline=0)


# Retries, with an engine.


@every_way
def test_what_failed_is_made_again(call: Call) -> None:
    outcomes: list[typing.Any] = [http3.ConnectError("refused"), 503, http3.ReadError("reset"), 200]

    def answer(request: http3.Request) -> http3.Response:
        outcome = outcomes.pop(0)
        if isinstance(outcome, http3.HTTPError):
            raise outcome
        return http3.Response(outcome, request=request)

    with http3.Client(
        dispatch=FunctionDispatch(answer), retries=http3.Retry(3, backoff=0)
    ) as client:
        assert call(client, "http://x/").status_code == 200
    assert outcomes == []


# TLS.


def test_an_unverified_connection_is_never_used_for_a_verified_request(
    tls_server: Site, ca_path: str
) -> None:
    url = tls_server.answer("/", "x")
    with http3.Client() as client:
        assert client.get(url, verify=False).text == "x"
        with pytest.raises(http3.CertificateError):
            client.get(url)
        assert client.get(url, verify=ca_path).text == "x"
        assert client.get(url, verify=False).text == "x"
        assert client.get(url, verify=ca_path).text == "x"
    assert len(tls_server.connections) == 3
    assert len(tls_server.requests) == 4


def test_a_client_that_verifies_nothing_can_still_be_told_to(tls_server: Site) -> None:
    url = tls_server.answer("/", "x")
    with http3.Client(verify=False) as client:
        assert client.get(url).text == "x"
        with pytest.raises(http3.CertificateError):
            client.get(url, verify=True)


# Errors.


@every_way
def test_an_error_knows_its_request(client: http3.Client, refused_url: str, call: Call) -> None:
    tag = object()
    with pytest.raises(http3.ConnectError) as caught:
        call(client, refused_url, tag=tag)
    error = caught.value
    assert error.request is not None
    assert (error.method, error.url, error.tag) == ("GET", refused_url, tag)
    assert str(error).endswith(f"[GET {refused_url}]")


@pytest.mark.parametrize("call", [plain, in_block])
@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("example.com", http3.InvalidURL),
        ("/relative", http3.InvalidURL),
        ("", http3.InvalidURL),
        ("http://", http3.InvalidURL),
        ("http://exa mple.com/", http3.InvalidURL),
        ("http://example.com:99999/", http3.InvalidURL),
        ("ftp://example.com/", http3.UnsupportedScheme),
    ],
)
def test_the_error_of_an_invalid_url_knows_what_was_given(
    call: Call, url: str, error: type[http3.HTTPError]
) -> None:
    tag = object()
    with http3.Client(dispatch=FunctionDispatch(never)) as client:
        with pytest.raises(error) as caught:
            call(client, url, tag=tag)
    assert (caught.value.method, caught.value.url, caught.value.tag) == ("GET", url, tag)
    assert caught.value.request is None


def test_an_error_of_a_redirect_knows_the_request_that_failed(
    client: http3.Client, server: Site, refused_url: str
) -> None:
    url = server.answer("/", status=302, headers={"Location": refused_url})
    with pytest.raises(http3.ConnectError) as caught:
        client.get(url)
    assert caught.value.url == refused_url


def test_an_error_of_a_redirect_gives_the_connection_back(
    client: http3.Client, server: Site
) -> None:
    url = server.answer("/", "body", status=302, headers={"Location": "/"})
    for _ in range(3):
        with pytest.raises(http3.RedirectLoop):
            client.get(url)
    assert len(server.connections) == 1


def test_an_error_shows_no_credentials_and_no_query_values(refused_url: str) -> None:
    url = refused_url.replace("//", "//user:hush@") + "?token=hush"
    with http3.Client() as client, pytest.raises(http3.ConnectError) as caught:
        client.get(url)
    assert "hush" not in str(caught.value)
    assert "token=" in str(caught.value)


def test_debug_logging_has_no_credentials_and_no_query_values(
    server: Site, refused_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.answer("/", status=302, headers={"Location": "/end?next=hush", "Set-Cookie": "a=hush"})
    server.answer("/end", "x", headers={"X-A": "hush"})
    url = server.url.replace("//", "//user:hush@") + "/?token=hush"
    with http3.Client(headers={"Authorization": "hush", "Cookie": "hush"}) as client:
        client.get(url)
        in_block(client, url)
        with pytest.raises(http3.ConnectError):
            client.get(refused_url + "?token=hush")
    ours = [record for record in caplog.records if record.name == "http3_parallel"]
    assert ours
    assert {record.levelno for record in ours} == {logging.DEBUG}
    assert "/end" in ours[0].getMessage()
    assert "200" in ours[0].getMessage()
    for record in caplog.records:
        assert "hush" not in record.getMessage()
        assert "aHVzaA" not in record.getMessage()


# A user's own code.


class Mine(Exception):
    """Of the user's code."""


def fail(*args: object) -> typing.NoReturn:
    raise Mine("what I said")


def failing_body() -> typing.Iterator[bytes]:
    yield b"first"
    fail()


@pytest.fixture(params=["dispatcher", "abortable dispatcher", "auth", "body", "response body"])
def failing_call(
    request: pytest.FixtureRequest, server: Site
) -> typing.Callable[[], tuple[http3.Client, dict[str, typing.Any]]]:
    """A client and the options of a POST in which code of the user's fails."""

    def make() -> tuple[http3.Client, dict[str, typing.Any]]:
        if request.param == "auth":
            return http3.Client(), {"auth": fail}
        if request.param == "body":
            return http3.Client(), {"data": failing_body()}
        if request.param == "response body":
            return http3.Client(
                dispatch=FunctionDispatch(
                    lambda request: http3.Response(200, content=failing_body(), request=request)
                )
            ), {}
        dispatch = FunctionDispatch(fail)
        dispatch.abortable = request.param == "abortable dispatcher"
        return http3.Client(dispatch=dispatch), {}

    return make


@pytest.mark.parametrize("how", ["plain", "block"])
def test_exceptions_of_the_users_code_come_out_unchanged_with_a_note(
    failing_call: typing.Any, server: Site, how: str
) -> None:
    client, options = failing_call()
    url = server.url + "/path?token=hush"
    with client, pytest.raises(Mine) as caught:
        if how == "plain":
            client.post(url, **options)
        else:
            with client.parallel() as parallel:
                parallel.post(url, **options).get_response(PATIENCE)
    assert str(caught.value) == "what I said"
    if sys.version_info >= (3, 11):
        assert caught.value.__notes__ == [f"while requesting POST {server.url}/path?token=…"]


def test_errors_of_ours_from_the_users_code_know_the_request_too() -> None:
    def refuse(request: http3.Request) -> http3.Response:
        raise http3.ReadError("as I say")

    with http3.Client(dispatch=FunctionDispatch(refuse)) as client:
        with pytest.raises(http3.ReadError, match="as I say") as caught:
            client.get("http://example.com/", tag=1)
    assert (caught.value.url, caught.value.tag) == ("http://example.com/", 1)


def test_a_dispatcher_need_not_name_the_request_it_answers() -> None:
    def answer(request: http3.Request) -> http3.Response:
        if request.url.path == "/":
            return http3.Response(302, headers={"Location": "/next"})
        return http3.Response(404)

    with http3.Client(dispatch=FunctionDispatch(answer)) as client:
        response = client.get("http://example.com/")
    assert response.url == "http://example.com/next"
    with pytest.raises(http3.HTTPStatusError, match="404"):
        response.raise_for_status()


@every_way
@pytest.mark.parametrize("returned", [None, "text", (200, b"")])
def test_a_dispatcher_that_returns_no_response_is_a_type_error(
    call: Call, returned: typing.Any
) -> None:
    with http3.Client(dispatch=FunctionDispatch(lambda request: returned)) as client:
        with pytest.raises(TypeError, match=r"FunctionDispatch\.send\(\) returns a Response"):
            call(client, "http://x/")


class WrongAuth(http3.Auth):
    def steps(self, request: http3.Request) -> typing.Any:
        yield "no request"


@every_way
def test_auth_that_yields_no_request_is_a_type_error(call: Call) -> None:
    with http3.Client(dispatch=FunctionDispatch(never)) as client:
        with pytest.raises(TypeError, match="yields requests, not str"):
            call(client, "http://x/", auth=WrongAuth())


def broken_body() -> typing.Iterator[bytes]:
    yield b"first"
    raise http3.ReadError("reset")


@every_way
def test_a_redirects_body_that_breaks_does_not_matter(call: Call) -> None:
    def answer(request: http3.Request) -> http3.Response:
        if request.url.path == "/":
            return http3.Response(302, headers={"Location": "/next"}, content=broken_body())
        return ok(request)

    with http3.Client(dispatch=FunctionDispatch(answer)) as client:
        assert call(client, "http://x/").url == "http://x/next"


def test_a_redirects_body_is_read_only_for_a_while() -> None:
    taken = []

    def long_body() -> typing.Iterator[bytes]:
        for number in range(1000):
            taken.append(number)
            yield b"x" * 1024

    def answer(request: http3.Request) -> http3.Response:
        if request.url.path == "/":
            return http3.Response(302, headers={"Location": "/next"}, content=long_body())
        return ok(request)

    with http3.Client(dispatch=FunctionDispatch(answer)) as client:
        assert client.get("http://x/").url == "http://x/next"
    assert 0 < len(taken) < 100


def test_a_dispatcher_may_stream_and_is_told_of_the_end() -> None:
    ends: list[str] = []

    def answer(request: http3.Request) -> http3.Response:
        return http3.Response(
            200, content=iter([b"a", b"b"]), on_close=lambda: ends.append(request.url.path)
        )

    with http3.Client(dispatch=FunctionDispatch(answer)) as client:
        assert client.get("http://x/read").content == b"ab"
        assert ends == ["/read"]
        response = client.get("http://x/stream", stream=True)
        assert ends == ["/read"]
        assert list(response.stream()) == [b"a", b"b"]
        assert ends == ["/read", "/stream"]


def test_a_dispatcher_is_told_what_holds_for_the_request() -> None:
    dispatch = FunctionDispatch(ok)
    with http3.Client(dispatch=dispatch, cert=("cert", "key")) as client:
        client.get("http://x/", stream=True, verify=False, deadline=60)
        client.get("http://x/")
    first, second = dispatch.contexts
    assert (first.stream, second.stream) == (True, False)
    assert first.ssl == http3.SSLConfig(verify=False, cert=("cert", "key"))
    assert second.ssl == http3.SSLConfig(verify=True, cert=("cert", "key"))
    assert first.abort.deadline is not None
    assert second.abort.deadline is None


def test_a_dispatcher_of_the_users_is_not_closed_with_the_client() -> None:
    dispatch = FunctionDispatch(ok)
    for _ in range(2):
        with http3.Client(dispatch=dispatch) as client:
            client.get("http://x/")
    assert not dispatch.closed


# Wrong arguments: at the call, and before anything is sent.


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"tiemout": 5}, "tiemout"),
        ({"cookie": {}}, "cookie"),
        ({"timeout": "5"}, "timeout"),
        ({"deadline": "soon"}, "deadline"),
        ({"auth": "user:password"}, "auth"),
        ({"verify": 1}, "verify"),
        ({"cert": 5}, "cert"),
        ({"headers": "X: y"}, "headers"),
        ({"headers": {"x": None}}, "'x'"),
        ({"params": b"a=b"}, "query parameters"),
    ],
)
def test_a_wrong_argument_is_a_type_error_that_names_it(
    options: dict[str, typing.Any], named: str
) -> None:
    with http3.Client(dispatch=FunctionDispatch(never)) as client:
        with pytest.raises(TypeError, match=named):
            client.get("http://x/", **options)
        with client.parallel() as parallel:
            with pytest.raises(TypeError, match=named):
                parallel.get("http://x/", **options)
            assert not parallel.has_pending_responses


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": -1},
        {"timeout": (1, 2)},
        {"timeout": float("nan")},
        {"deadline": -1},
        {"cert": ("a", "b", "c", "d")},
        {"headers": {"x": "a\r\nb"}},
        {"headers": {"bad name": "x"}},
    ],
)
def test_a_wrong_value_is_a_value_error(options: dict[str, typing.Any]) -> None:
    with http3.Client(dispatch=FunctionDispatch(never)) as client:
        with pytest.raises(ValueError, match=next(iter(options)).rstrip("s")) as caught:
            client.get("http://x/", **options)
        assert not isinstance(caught.value, http3.HTTPError)


@pytest.mark.parametrize("method", ["get", "head", "options"])
@pytest.mark.parametrize("name", ["data", "json"])
def test_what_has_no_body_takes_none(method: str, name: str) -> None:
    with http3.Client(dispatch=FunctionDispatch(never)) as client:
        with pytest.raises(TypeError, match=rf"{method}\(\) takes no body"):
            getattr(client, method)("http://x/", **{name: "x"})


@pytest.mark.parametrize("method", ["get", "post", "request", "send"])
def test_all_but_the_url_is_given_by_name(method: str) -> None:
    with http3.Client(dispatch=FunctionDispatch(never)) as client:
        with pytest.raises(TypeError, match="positional"):
            getattr(client, method)("GET", "http://x/", {"a": "b"})


@pytest.mark.parametrize("url", [None, b"http://x/", 5, ["http://x/"]])
def test_a_url_that_is_no_text_is_a_type_error(url: typing.Any) -> None:
    with http3.Client(dispatch=FunctionDispatch(never)) as client:
        with pytest.raises(TypeError, match="URL"):
            client.get(url)


@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        ({"max_redirects": -1}, ValueError, "max_redirects"),
        ({"max_redirects": "20"}, TypeError, "max_redirects"),
        ({"max_workers": 0}, ValueError, "max_workers"),
        ({"max_workers": 2.5}, TypeError, "max_workers"),
        ({"pool_limits": 10}, TypeError, "pool_limits"),
        ({"pool_limits": {"hard_limit": 10}}, TypeError, "pool_limits"),
        ({"timeout": "5"}, TypeError, "timeout"),
        ({"timeout": True}, TypeError, "timeout"),
        ({"verify": 1}, TypeError, "verify"),
        ({"cert": ("a",)}, ValueError, "cert"),
        ({"retries": None}, TypeError, "retries"),
        ({"retries": -1}, ValueError, "total"),
        ({"dispatch": object()}, TypeError, "dispatch"),
        ({"dispatch": http3.Dispatcher}, TypeError, "dispatch"),
        ({"base_url": "/relative"}, http3.InvalidURL, "scheme"),
        ({"base_url": 5}, TypeError, "URL"),
        ({"headers": {"a": 1}}, TypeError, "'a'"),
        ({"proxies": {"http": 5}}, TypeError, "proxies"),
        ({"proxies": "http://proxy:80"}, TypeError, "proxies"),
        ({"auth": "user:password"}, TypeError, "auth"),
        ({"header": {}}, TypeError, "header"),
    ],
)
def test_wrong_settings_are_refused_at_once(
    options: dict[str, typing.Any], error: type[Exception], named: str
) -> None:
    with pytest.raises(error, match=named):
        http3.Client(**options)


def test_a_blocks_settings_are_refused_at_once(client: http3.Client) -> None:
    refused: list[tuple[dict[str, typing.Any], type[Exception]]] = [
        ({"max_workers": 0}, ValueError),
        ({"max_workers": 129}, ValueError),
        ({"max_workers": "3"}, TypeError),
        ({"max_per_host": 0}, ValueError),
        ({"deadline": -1}, ValueError),
        ({"deadline": "soon"}, TypeError),
        ({"unknown": 1}, TypeError),
    ]
    for options, error in refused:
        with pytest.raises(error, match=next(iter(options))):
            client.parallel(**options)


@pytest.mark.parametrize("name", ["auth", "base_url", "max_redirects", "max_workers", "retries"])
def test_settings_can_be_read_and_not_set(name: str) -> None:
    given: typing.Any = {
        "auth": ("user", "secret"),
        "base_url": "http://example.com/",
        "max_redirects": 3,
        "max_workers": 4,
        "retries": http3.Retry(1),
    }
    with http3.Client(**given) as client:
        assert getattr(client, name) == given[name]
        with pytest.raises(AttributeError):
            setattr(client, name, None)


def test_a_client_that_could_not_be_made_is_quietly_dropped() -> None:
    with contextlib.suppress(TypeError):
        http3.Client(timeout="5")  # type: ignore[arg-type]  # wrong on purpose
    gc.collect()  # what its finalizer raised would be an error here


@pytest.mark.parametrize("key", ["http://", "https://", "all://", "*", "ftp", "http://a/", ""])
def test_a_key_of_proxies_that_means_nothing_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="no key of proxies"):
        http3.Client(proxies={key: "http://proxy.example:3128"})


def test_failures_are_logged_too(caplog: pytest.LogCaptureFixture) -> None:
    with RawServer(lambda peer: None) as server:
        url = server.url
    with caplog.at_level("DEBUG", logger="http3_parallel"), http3.Client() as client:
        with pytest.raises(http3.ConnectError):
            client.get(f"{url}/page?key=secret")
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"GET {url}/page?key=")
    assert "ConnectError" in line
    assert "secret" not in line


def test_reprs_tell_the_state_and_no_secret() -> None:
    client = http3.Client(base_url="https://user:secret@example.com/api")
    assert repr(client) == "<Client at https://example.com/api>"
    parallel = client.parallel()
    assert repr(parallel) == "<Parallel: 0 pending>"
    client.close()
    assert repr(parallel) == "<Parallel: closed>"
    assert repr(client) == "<Client at https://example.com/api: closed>"


class Changing(http3.Dispatcher):
    """Has the network answer, and adds a header to what it says."""

    def __init__(self, field: tuple[str, str], abortable: bool) -> None:
        self.network = http3_parallel.dispatch.NetworkDispatch()
        self.field = field
        self.abortable = abortable

    def send(self, request: http3.Request, context: http3.Context) -> http3.Response:
        response = self.network.send(request, context)
        response.headers[self.field[0]] = self.field[1]
        return response


@pytest.mark.parametrize("abortable", [False, True])
def test_what_a_dispatcher_adds_to_a_response_of_the_network_counts(abortable: bool) -> None:
    with RawServer(json_ok) as server:
        dispatch = Changing(("Set-Cookie", "a=b"), abortable)
        with http3.Client(dispatch=dispatch) as client:
            client.get(server.url)
            assert dict(client.cookies) == {"a": "b"}
        dispatch.field = ("Content-Encoding", "gzip")
        with http3.Client(dispatch=dispatch) as client:
            with pytest.raises(http3.DecodingError):
                client.get(server.url)
        dispatch.network.close()


def test_no_header_that_may_be_secret_is_kept_for_its_origin() -> None:
    with RawServer(json_ok) as server, http3.Client() as client:
        client.get(server.url, auth=("user", "s3cret"), headers={"X-Api-Key": "k3y"})
        client.get(server.url, headers={"Accept": "a/b"})
        dispatch: typing.Any = client._engine._dispatcher
        (way,) = dispatch._ways.values()
        assert (b"accept", b"a/b") in way._last[0]
        assert "s3cret" not in repr(way._last)
        assert "k3y" not in repr(way._last)
        client.close()
        assert dispatch._ways == {}


def test_origins_are_remembered_only_up_to_a_number_and_a_size() -> None:
    dispatch = http3_parallel.dispatch.NetworkDispatch(trust_env=False)
    ssl_config = http3.SSLConfig()
    for number in range(3000):
        dispatch._find_way(http3.URL(f"http://host{number}.example/"), ssl_config)
    zone = "a" * 10_000
    dispatch._find_way(http3.URL(f"http://[fe80::1%25{zone}]/"), ssl_config)
    assert 0 < len(dispatch._ways) <= 1024
    assert not any(zone in str(key) for key in dispatch._ways)


def test_what_a_hook_read_of_a_redirect_is_kept() -> None:
    def serve(peer: Peer) -> None:
        while (request := peer.read_request()) is not None:
            if request.target == "/":
                peer.send(b"HTTP/1.1 302 x\r\nLocation: /b\r\nContent-Length: 5\r\n\r\nmoved")
            else:
                peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    hooks: typing.Any = {"response": [lambda response: response.read()]}
    with RawServer(serve) as server, http3.Client(event_hooks=hooks) as client:
        response = client.get(f"{server.url}/")
        assert (response.text, response.history[0].content) == ("ok", b"moved")
