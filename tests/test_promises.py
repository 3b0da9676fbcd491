"""
The ten promises, each shown end to end on real sockets.

What is hard about each is tested case by case elsewhere; the docstrings say where.
"""

from __future__ import annotations

import concurrent.futures
import itertools
import os
import pickle
import threading
import time
import typing

import pytest

import http3_parallel as http3
from servers import (
    PATIENCE,
    RawServer,
    Site,
    answers_every_other,
    drip_body,
    hang_before_response,
)


def numbers() -> typing.Iterator[str]:
    return map(str, itertools.count())


def test_promise_1_responses_come_in_the_order_they_complete(server: Site) -> None:
    """More in test_parallel; the flat cost in test_costs."""
    with http3.parallel() as parallel:
        for name in ("slow", "a", "b", "c"):
            parallel.get(f"{server.url}/wait/{name}")
        assert server.wait_for_requests(4)
        order = []
        for name in ("c", "a", "b", "slow"):
            server.release(name)
            order.append(parallel.next_response(PATIENCE).text)
    assert order == ["c", "a", "b", "slow"]


def test_promise_2_request_errors_appear_in_two_places_only(server: Site) -> None:
    """More in test_parallel, test_network and test_tls."""
    with RawServer(lambda peer: None) as refusing:
        refused = refusing.url
    with (
        RawServer(lambda peer: peer.send(b"HTTP/1.1 400 Not TLS\r\n\r\n")) as plain,
        http3.parallel(timeout=0.5) as parallel,
    ):
        handles = [
            parallel.get("http://"),
            parallel.get(refused),
            parallel.get(f"{server.url}/wait/never"),
            parallel.get(plain.url.replace("http://", "https://")),
        ]
        expected = (http3.InvalidURL, http3.ConnectError, http3.ReadTimeout, http3.TLSError)
        for handle, error in zip(handles, expected, strict=True):
            with pytest.raises(error):
                handle.get_response(PATIENCE)
        parallel.get(refused)
        with pytest.raises(http3.HTTPError):
            parallel.next_response(PATIENCE)
        wrong: dict[str, typing.Any] = {"colour": "red"}
        with pytest.raises(TypeError):
            parallel.get(server.url, **wrong)


def test_promise_3_every_error_knows_its_request(server: Site) -> None:
    """More in test_exceptions and test_parallel."""
    with http3.parallel(timeout=0.05) as parallel:
        for n in range(10):
            parallel.post(f"{server.url}/wait/{n}", data=b"x", tag=n)
        failed: dict[typing.Any, http3.HTTPError] = {}
        while parallel.has_pending_responses:
            try:
                parallel.next_response(PATIENCE)
            except http3.HTTPError as error:
                failed[error.tag] = error
        assert sorted(failed) == list(range(10))
        for n, failure in failed.items():
            assert failure.method == "POST"
            assert str(failure.url) == f"{server.url}/wait/{n}"
            assert failure.request is not None
            assert pickle.loads(pickle.dumps(failure)).request.content == b"x"
            server.release(str(n))
            again = parallel.send(failure.request, tag=n)
            assert again.get_response(PATIENCE).text == str(n)


@pytest.mark.parametrize("handler", [hang_before_response, drip_body])
def test_promise_4_nothing_outlives_the_block(
    handler: typing.Callable[[typing.Any], None],
) -> None:
    """Each thing that a request can be waiting for: test_leaving."""
    threads = threading.active_count()
    with RawServer(handler) as server:
        before = threading.active_count()
        with http3.parallel(max_workers=50) as parallel:
            for n in range(100):
                parallel.get(f"{server.url}/{n}")
            assert server.wait_for_requests(50)
            left = time.monotonic()
        assert time.monotonic() - left < 0.5
        assert server.wait_all_closed()
        assert server.wait_until(lambda: threading.active_count() <= before + 50)
    assert threading.active_count() <= threads  # those of earlier tests may end meanwhile


def test_promise_5_what_finished_stays(server: Site) -> None:
    """More in test_parallel and test_leaving."""
    with http3.parallel() as parallel:
        finished = parallel.get(server.answer("/finished", "kept"))
        lost = parallel.get(f"{server.url}/wait/never")
        concurrent.futures.wait([finished.future], PATIENCE)
        assert server.wait_for_requests(2)
    assert finished.get_response().text == "kept"
    with pytest.raises(http3.RequestCancelled):
        lost.get_response()


def test_promise_6_bounded(server: Site) -> None:
    """More in test_pool and test_network; the memory in test_costs."""
    server.answer("/page", b"x" * 1000)
    read = 0

    def urls() -> typing.Iterator[str]:
        nonlocal read
        for _ in range(1000):
            read += 1
            yield f"{server.url}/page"

    with http3.parallel(max_workers=8) as parallel:
        handed_out = 0
        for pending in parallel.map(urls(), window=20):
            assert pending.get_response().status_code == 200
            handed_out += 1
            assert read - handed_out <= 20
    assert handed_out == 1000
    assert len(server.connections) <= 8


def test_promise_7_clocks_are_honest(server: Site) -> None:
    """More in test_parallel and test_leaving."""
    with http3.parallel(max_workers=1, timeout=http3.TimeoutConfig(read_timeout=5)) as parallel:
        parallel.get(f"{server.url}/wait/first")
        # In line for longer than it may take once it runs: that is no time-out of its own.
        patient = parallel.get(server.answer("/second", "second"), timeout=PATIENCE)
        hurried = parallel.get(server.answer("/third", "third"), deadline=0.2)
        with pytest.raises(http3.DeadlineExceeded):
            hurried.get_response(PATIENCE)
        server.release("first")
        assert patient.get_response(PATIENCE).text == "second"
        assert server.requests_for("/third") == []
    with RawServer(drip_body) as dripping, http3.parallel() as parallel:
        # Each read is in time, and still it ends.
        with pytest.raises(http3.DeadlineExceeded):
            parallel.get(dripping.url, deadline=0.3).get_response(PATIENCE)


def test_promise_8_fair(server: Site) -> None:
    """More in test_parallel."""
    with http3.Client(max_workers=4) as client:
        with client.parallel() as large, client.parallel() as small:
            for n in range(1000):
                large.get(f"{server.url}/wait/{n}")
            assert server.wait_for_requests(4)
            page = [small.get(server.answer(f"/{n}", "page")) for n in range(2)]
            server.release("0")
            server.release("1")
            for pending in page:
                assert pending.get_response(PATIENCE).text == "page"
            assert len(server.requests) < 20


def test_promise_9_safe_to_share(server: Site, switch_interval: None) -> None:
    """More in test_parallel, test_client and test_forking."""
    for n in range(40):
        server.answer(f"/{n}", str(n))

    def use(client: http3.Client, parallel: http3.Parallel, first: int) -> None:
        for n in range(first, 40, 4):
            assert client.get(f"{server.url}/{n}").text == str(n)
            assert parallel.get(f"{server.url}/{n}").get_response(PATIENCE).text == str(n)

    with http3.Client() as client, client.parallel() as parallel:
        with concurrent.futures.ThreadPoolExecutor(4) as executor:
            for future in [executor.submit(use, client, parallel, n) for n in range(4)]:
                future.result(PATIENCE)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_promise_9_across_a_fork(server: Site) -> None:
    server.answer("/", "here")
    with http3.Client() as client:
        assert client.get(server.url).text == "here"
        child = os.fork()
        if child == 0:
            os._exit(0 if client.get(server.url).text == "here" else 1)
        assert client.get(server.url).text == "here"
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
    assert len(server.connections) == 2, "the child used its parent's connection"


def test_promise_10_at_most_once_exactly_accounted() -> None:
    """More in test_network and test_retries."""
    seen: list[str] = []
    names = numbers()

    with RawServer(answers_every_other(seen)) as server, http3.parallel(max_workers=4) as parallel:
        handles = [parallel.post(f"{server.url}/{next(names)}", data=b"order") for _ in range(60)]
        outcomes = {"response": 0, "error": 0, "cancelled": 0}
        for pending in handles[50:]:
            pending.cancel()
        for pending in handles:
            try:
                pending.get_response(PATIENCE)
                outcomes["response"] += 1
            except http3.RequestCancelled:
                outcomes["cancelled"] += 1
            except http3.NetworkError:
                outcomes["error"] += 1
        assert sum(outcomes.values()) == 60
        assert outcomes["error"] > 0
        assert outcomes["response"] > 0
    assert len(seen) == len(set(seen)), "a POST was sent twice"
