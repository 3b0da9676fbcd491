"""`http3_parallel.testing`: what users write their own tests with. No test here takes real time."""

from __future__ import annotations

import concurrent.futures
import contextlib
import gc
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import typing
import weakref

import anyio
import anyio.lowlevel
import pytest

import http3_parallel as http3
from http3_parallel.testing import MockDispatch, UnmatchedRequest, VirtualClock

pytest_plugins = ["pytester", "http3_parallel.testing.pytest_plugin"]

ORIGIN = "https://example.com"

#: Real seconds in which no test here should have to wait: a clock that stands still for ever.
PATIENCE = 20.0

#: So often is repeated what must not depend on threads.
TIMES = 30


@pytest.fixture
def mock() -> MockDispatch:
    return MockDispatch()


@pytest.fixture
def client(mock: MockDispatch) -> typing.Iterator[http3.Client]:
    with http3.Client(dispatch=mock, timeout=None) as client:
        yield client


def tags(parallel: http3.Parallel) -> list[typing.Any]:
    """Of what is pending, as it completes."""
    done = []
    for pending in parallel:
        try:
            done.append(pending.get_response().tag)
        except http3.HTTPError as error:
            done.append((error.tag, type(error).__name__))
    return done


# The clock.


@pytest.mark.parametrize("workers", [1, 3, 20])
def test_the_order_is_that_of_the_latencies_every_time(workers: int, switch_interval: None) -> None:
    latencies = [5.0, 3.0, 9.0, 0.5, 3.0, 7.0, 0.0, 1.0, 3.0, 60.0]
    # What a queue of workers, one request each, would do.
    free = [0.0] * workers
    ends = []
    for tag, latency in enumerate(latencies):
        start = min(free)
        free[free.index(start)] = start + latency
        ends.append((start + latency, tag))
    expected = [tag for _, tag in sorted(ends)]
    for _ in range(TIMES):
        mock = MockDispatch()
        for tag, latency in enumerate(latencies):
            mock.get(f"/{tag}", latency=latency)
        with http3.parallel(dispatch=mock, max_workers=workers, timeout=None) as parallel:
            for tag in range(len(latencies)):
                parallel.get(f"{ORIGIN}/{tag}", tag=tag)
            assert tags(parallel) == expected
        assert mock.clock.now == max(ends)[0]


def test_what_is_submitted_meanwhile_begins_meanwhile(switch_interval: None) -> None:
    for _ in range(TIMES):
        mock = MockDispatch()
        mock.get("/slow", latency=10)
        mock.get("/fast", latency=4)
        with http3.parallel(dispatch=mock, timeout=None) as parallel:
            parallel.get(f"{ORIGIN}/slow", tag="slow")
            parallel.get(f"{ORIGIN}/fast", tag="first")
            assert parallel.next_response().tag == "first"
            parallel.get(f"{ORIGIN}/fast", tag="second")
            assert parallel.next_response().tag == "second"
            parallel.get(f"{ORIGIN}/fast", tag="third")
            assert parallel.next_response().tag == "slow"
            assert mock.clock.now == 10
            assert parallel.next_response().tag == "third"
            assert mock.clock.now == 12


def test_time_stands_still_while_nobody_waits(mock: MockDispatch) -> None:
    mock.get("/", latency=1)
    with http3.parallel(dispatch=mock) as parallel:
        pending = parallel.get(ORIGIN + "/")
        assert not pending.done()
        assert mock.clock.now == 0
        mock.advance(0.5)
        assert (mock.clock.now, pending.done()) == (0.5, False)
        mock.advance(0.5)
        assert mock.clock.now == 1
        pending.get_response()
        assert mock.clock.now == 1


def test_hosts_wait_for_their_turn(switch_interval: None) -> None:
    for _ in range(TIMES):
        mock = MockDispatch(latency=1)
        mock.get("https://a.test/*")
        mock.get("https://b.test/*", latency=0.75)
        with http3.parallel(dispatch=mock, max_per_host=1, timeout=None) as parallel:
            for n in range(3):
                parallel.get(f"https://a.test/{n}", tag=f"a{n}")
                parallel.get(f"https://b.test/{n}", tag=f"b{n}")
            assert tags(parallel) == ["b0", "a0", "b1", "a1", "b2", "a2"]


def test_a_map_is_in_order_too(switch_interval: None) -> None:
    for _ in range(TIMES):
        mock = MockDispatch()
        for n in range(12):
            mock.get(f"/{n}", latency=1 + (n * 5) % 7)
        with http3.parallel(dispatch=mock, max_workers=3, timeout=None) as parallel:
            order = [
                pending.get_response().url.path
                for pending in parallel.map((f"{ORIGIN}/{n}" for n in range(12)), window=4)
            ]
        if _ == 0:
            first = order
        assert order == first


def test_waiting_for_one_handle_lets_the_others_go_on(mock: MockDispatch) -> None:
    for n in (1, 2, 3):
        mock.get(f"/{n}", latency=n)
    with http3.parallel(dispatch=mock) as parallel:
        handles = [parallel.get(f"{ORIGIN}/{n}") for n in (1, 2, 3)]
        handles[1].get_response()
        assert [handle.done() for handle in handles] == [True, True, False]


def test_futures_wait_by_the_clock_too(mock: MockDispatch) -> None:
    mock.get("/1", latency=5)
    mock.get("/2", error=http3.ReadError, latency=7)
    with http3.parallel(dispatch=mock, timeout=None) as parallel:
        first = parallel.get(f"{ORIGIN}/1").future
        second = parallel.get(f"{ORIGIN}/2").future
        with pytest.raises(concurrent.futures.TimeoutError):
            first.result(timeout=3)
        assert mock.clock.now == 3
        assert first.result(timeout=3).status_code == 200
        assert isinstance(second.exception(), http3.ReadError)
        assert mock.clock.now == 7
        assert first.result().status_code == 200


def test_a_wait_has_its_time_on_the_clock(mock: MockDispatch) -> None:
    mock.get("/", latency=10)
    with http3.parallel(dispatch=mock, timeout=None) as parallel:
        pending = parallel.get(ORIGIN + "/")
        with pytest.raises(http3.WaitTimeout):
            parallel.next_response(timeout=3)
        with pytest.raises(http3.WaitTimeout):
            pending.get_response(timeout=3)
        assert mock.clock.now == 6
        with pytest.raises(http3.WaitTimeout):
            list(parallel.as_completed(timeout=3))
        parallel.next_response(timeout=3)
        assert mock.clock.now == 10


def test_timeouts_and_deadlines_have_theirs(mock: MockDispatch) -> None:
    mock.get("/slow", latency=20)
    mock.get("/quick", latency=6)
    mock.get("/never", hangs=True)
    with http3.parallel(dispatch=mock, max_workers=4, deadline=30, timeout=None) as parallel:
        parallel.get(f"{ORIGIN}/slow", timeout=15, tag="timeout")
        parallel.get(f"{ORIGIN}/slow", deadline=10, tag="deadline")
        parallel.get(f"{ORIGIN}/never", tag="block")
        parallel.get(f"{ORIGIN}/quick", tag="quick")
        parallel.get(f"{ORIGIN}/quick", deadline=11, tag="in line")  # until 6, then 6 more
        assert tags(parallel) == [
            "quick",
            ("deadline", "DeadlineExceeded"),
            ("in line", "DeadlineExceeded"),
            ("timeout", "ReadTimeout"),
            ("block", "DeadlineExceeded"),
        ]
        assert mock.clock.now == 30


def test_a_plain_call_has_its_deadline(mock: MockDispatch, client: http3.Client) -> None:
    mock.get("/never", hangs=True)
    with pytest.raises(http3.DeadlineExceeded):
        client.get(f"{ORIGIN}/never", deadline=50)
    assert mock.clock.now == 50
    with pytest.raises(http3.ReadTimeout):
        client.get(f"{ORIGIN}/never", timeout=3600)


def test_a_backoff_takes_no_time(mock: MockDispatch) -> None:
    route = mock.get("/", 503, headers={"Retry-After": "50"}).reply(503).reply(200)
    retry = http3.Retry(5, statuses={503}, backoff=10)
    with http3.Client(dispatch=mock, retries=retry) as client:
        started = time.monotonic()
        assert client.get(ORIGIN + "/").status_code == 200
        assert time.monotonic() - started < PATIENCE
    assert [call.at for call in route.calls][:2] == [0, 50]
    assert mock.clock.now > 50


def test_leaving_ends_what_never_answers(mock: MockDispatch) -> None:
    mock.get("/never", hangs=True)
    mock.get("/slow", latency=1e9)
    started = time.monotonic()
    with http3.parallel(dispatch=mock, timeout=None) as parallel:
        never = parallel.get(f"{ORIGIN}/never")
        slow = parallel.get(f"{ORIGIN}/slow")
        third = parallel.get(f"{ORIGIN}/never")
        assert third.cancel()
    assert time.monotonic() - started < PATIENCE
    for handle in (never, slow, third):
        with pytest.raises(http3.RequestCancelled):
            handle.get_response()


def test_several_callers_begin_together(switch_interval: None) -> None:
    for _ in range(TIMES):
        mock = MockDispatch(callers=2)
        mock.get("/slow", latency=2)
        mock.get("/fast", latency=1)
        done: list[str] = []
        with http3.Client(dispatch=mock) as client:

            def call(path: str, client: http3.Client = client, done: list[str] = done) -> None:
                client.get(ORIGIN + path)
                done.append(path)

            threads = [threading.Thread(target=call, args=(path,)) for path in ("/slow", "/fast")]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(PATIENCE)
        assert sorted(done) == ["/fast", "/slow"]
        assert [call.at for call in mock.calls] == [0, 0]
        assert mock.clock.now == 2


def test_a_request_in_a_worker_counts_as_waiting(mock: MockDispatch, client: http3.Client) -> None:
    mock.post("/token", json={"access_token": "t"}, latency=5)
    mock.get("/page", latency=1)

    def token() -> str:
        response = client.post(f"{ORIGIN}/token")
        return str(response.json()["access_token"])

    with client.parallel(max_workers=4) as parallel:
        for tag in range(8):
            parallel.get(f"{ORIGIN}/page", auth=http3.BearerAuth(refresh=token), tag=tag)
        assert sorted(tags(parallel)) == list(range(8))


def test_one_token_for_all_of_them(mock: MockDispatch, client: http3.Client) -> None:
    """The others wait for the one that gets it, in their workers."""
    route = mock.post("/token", json={"access_token": "t"}, latency=5)
    mock.get("/page", latency=1)
    auth = http3.BearerAuth(
        refresh=lambda: str(client.post(f"{ORIGIN}/token").json()["access_token"])
    )
    with client.parallel(max_workers=4) as parallel:
        for tag in range(8):
            parallel.get(f"{ORIGIN}/page", auth=auth, tag=tag)
        assert tags(parallel) == list(range(8))
    assert route.call_count == 1
    assert mock.clock.now == 7


def test_a_block_in_a_worker(mock: MockDispatch, client: http3.Client) -> None:
    mock.get("/outer", latency=1)
    mock.get("/inner", latency=1)

    def hook(response: http3.Response) -> None:
        if response.url.path == "/outer":
            with client.parallel() as inner:
                inner.get(f"{ORIGIN}/inner")
                inner.next_response()

    with http3.Client(dispatch=mock, event_hooks={"response": [hook]}) as outer:
        with outer.parallel(max_workers=2) as parallel:
            for tag in range(4):
                parallel.get(f"{ORIGIN}/outer", tag=tag)
            assert sorted(tags(parallel)) == [0, 1, 2, 3]


def test_two_blocks_share_a_clock(mock: MockDispatch) -> None:
    for n in (1, 2, 3, 4):
        mock.get(f"/{n}", latency=n)
    with http3.Client(dispatch=mock, max_workers=2) as client:
        with client.parallel() as one, client.parallel() as two:
            one.get(f"{ORIGIN}/3", tag=3)
            one.get(f"{ORIGIN}/1", tag=1)
            two.get(f"{ORIGIN}/4", tag=4)
            two.get(f"{ORIGIN}/2", tag=2)
            assert tags(two) == [4, 2]  # from 1 and from 3 on, when workers are free
            assert tags(one) == [1, 3]
    assert mock.clock.now == 5


def test_replies_go_by_submission_not_by_thread(switch_interval: None) -> None:
    for _ in range(TIMES):
        mock = MockDispatch()
        route = mock.get("/*", 500).reply(404, latency=2).reply(200)
        seen: list[str] = []

        def handler(request: http3.Request, seen: list[str] = seen) -> http3.Response:
            seen.append(request.url.path)
            return http3.Response(200, request=request)

        mock.post("/*", handler=handler)
        with http3.parallel(dispatch=mock, max_workers=8) as parallel:
            handles = [parallel.get(f"{ORIGIN}/{n}", tag=n) for n in range(6)]
            handlers = [parallel.post(f"{ORIGIN}/{n}") for n in range(6)]
            codes = [handle.get_response().status_code for handle in handles]
            assert [handle.get_response().status_code for handle in handlers] == [200] * 6
        assert codes == [500, 404, 200, 200, 200, 200]
        paths = [f"/{n}" for n in range(6)]
        assert [call.request.url.path for call in route.calls] == paths
        assert [call.tag for call in mock.calls] == [*range(6), *[None] * 6]
        assert seen == paths


@pytest.mark.parametrize("latency", [0.1, 0.3, 2.1, 1e3 / 7])
def test_what_is_due_at_the_same_moment_has_its_order(latency: float) -> None:
    mock = MockDispatch(latency=latency)
    mock.get("/*")
    mock.get("https://two.test/pauses", required=False)
    thirds = [b"a", latency / 3, b"b", latency / 3, b"c", latency / 3]
    mock = MockDispatch(latency=latency)
    mock.get("/pauses", content=thirds, latency=0)
    mock.get("/*")
    with http3.parallel(dispatch=mock, timeout=None) as parallel:
        parallel.get(f"{ORIGIN}/pauses", tag="pauses")
        parallel.get(f"{ORIGIN}/1", tag="latency")
        parallel.get(f"{ORIGIN}/2", tag="deadline", deadline=latency)
        assert tags(parallel) == [("deadline", "DeadlineExceeded"), "pauses", "latency"]
        parallel.get(f"{ORIGIN}/1")
        parallel.next_response(timeout=latency)  # a response comes before the end of a wait


def test_a_thread_that_has_requests_is_waited_for(switch_interval: None) -> None:
    """One has time pass in small steps, while the other is between two of its calls."""
    mock = MockDispatch(callers=2)
    for latency in (0.1, 3.0, 2.5):
        mock.get(f"/{latency}", latency=latency)
    order: list[list[typing.Any]] = []
    steps = threading.Semaphore(0)
    enough = threading.Event()
    with http3.Client(dispatch=mock, timeout=None) as client:

        def step() -> None:
            with client.parallel() as parallel:
                while not enough.is_set():
                    parallel.get(f"{ORIGIN}/0.1").get_response()
                    steps.release()

        def work() -> None:
            try:
                with client.parallel() as parallel:
                    for _ in range(5):
                        parallel.get(f"{ORIGIN}/3.0", tag=3.0)
                        while steps.acquire(timeout=0.05):
                            pass  # until the other can go no further
                        parallel.get(f"{ORIGIN}/2.5", tag=2.5)
                        order.append(tags(parallel))
            finally:
                enough.set()

        threads = [threading.Thread(target=function) for function in (step, work)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
    assert order == [[2.5, 3.0]] * 5


def test_a_plain_call_is_waited_for_between_its_exchanges(switch_interval: None) -> None:
    """Both have redirects, one after the other; what is in between takes no time."""
    for _ in range(TIMES):
        mock = MockDispatch(callers=2, latency=1)
        for n in range(5):
            mock.get(f"/{n}", 302, headers={"Location": f"/{n + 1}"})
        mock.get("/5")
        with http3.Client(dispatch=mock) as client:
            threads = [threading.Thread(target=client.get, args=(f"{ORIGIN}/0",)) for _ in "ab"]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(PATIENCE)
        assert sorted(call.at for call in mock.calls) == sorted([*range(6), *range(6)])


def test_who_waits_for_something_else_is_passed_over(
    mock: MockDispatch,
    client: http3.Client,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("http3_parallel.testing.clock._LOOK", 0.05)
    mock.get("/*", latency=1)

    def other() -> None:
        with client.parallel() as parallel:
            for n in range(3):
                parallel.get(f"{ORIGIN}/{n}").get_response()

    with client.parallel() as parallel:
        pending = parallel.get(f"{ORIGIN}/mine")
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(PATIENCE)  # which the clock cannot know
        assert not thread.is_alive()
        assert pending.get_response().status_code == 200
    (record,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert "goes on although" in record.message
    assert threading.current_thread().name in record.message


def test_why_it_stands_still_is_told(
    mock: MockDispatch,
    client: http3.Client,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("http3_parallel.testing.clock._LOOK", 0.01)
    mock.get("/*", latency=1)
    with client.parallel() as parallel:
        futures = [parallel.get(f"{ORIGIN}/{n}").future for n in range(3)]
        while not caplog.records:  # bounded by what ends a test that hangs
            assert not concurrent.futures.wait(futures, timeout=0.05).done
        assert "nobody waits for a response" in caplog.records[0].message
        mock.advance(1)
        assert len(concurrent.futures.wait(futures, timeout=PATIENCE).done) == 3


def test_what_was_abandoned_holds_nothing(mock: MockDispatch) -> None:
    mock.get("/*", latency=1)
    entered, gate = threading.Semaphore(0), threading.Event()

    def hook(request: http3.Request) -> None:
        if request.url.path == "/hook":
            entered.release()
            gate.wait(PATIENCE)

    with http3.Client(dispatch=mock, event_hooks={"request": [hook]}) as client:
        with client.parallel() as parallel:
            parallel.get(f"{ORIGIN}/hook")
            waiter = threading.Thread(target=_drained, args=(parallel,))  # the clock goes on for it
            waiter.start()
            assert entered.acquire(timeout=PATIENCE)
        waiter.join(PATIENCE)
        started = time.monotonic()
        with client.parallel() as parallel:
            assert parallel.get(f"{ORIGIN}/fine").get_response().status_code == 200
        assert time.monotonic() - started < PATIENCE / 2
        gate.set()


def _drained(parallel: http3.Parallel) -> None:
    with contextlib.suppress(http3.ParallelClosed, http3.NoPendingResponses):
        while True:
            with contextlib.suppress(http3.HTTPError):
                parallel.next_response()


def test_leaving_does_not_wait_for_code_of_the_test(mock: MockDispatch) -> None:
    entered, gate = threading.Semaphore(0), threading.Event()

    def stuck(*_: object) -> typing.Any:
        entered.release()
        gate.wait(PATIENCE)
        return iter([b"late"])

    def lazy() -> typing.Iterator[bytes]:
        yield from stuck()

    mock.get("/matcher", required=False)
    mock.get("/error", error=stuck)
    mock.get("/handler", handler=stuck)
    mock.post("/body")
    mock.get(lambda request: request.url.path == "/matches" and bool(stuck()))
    for path in ("/error", "/handler", "/body", "/matches"):
        with http3.parallel(dispatch=mock) as parallel:
            handle = (
                parallel.post(ORIGIN + path, data=lazy())
                if path == "/body"
                else parallel.get(ORIGIN + path)
            )
            waiter = threading.Thread(target=_ended, args=(handle,))
            waiter.start()
            assert entered.acquire(timeout=PATIENCE)
            started = time.monotonic()
        assert time.monotonic() - started < 2.5, path  # half of what leaving allows
        waiter.join(PATIENCE)
        assert handle.cancelled()
    gate.set()


def _ended(handle: http3.PendingResponse) -> None:
    with contextlib.suppress(http3.HTTPError):
        handle.get_response()


def test_nothing_of_what_has_ended_is_kept(mock: MockDispatch) -> None:
    mock.get("/*", latency=1)
    with http3.Client(dispatch=mock) as client:
        for _ in range(20):
            with client.parallel() as parallel:
                for n in range(20):
                    parallel.get(f"{ORIGIN}/{n}", deadline=1e6)
                assert len(tags(parallel)) == 20
        assert len(mock.clock._alarms) < 300
        block = weakref.ref(parallel._block)
        del parallel
        gc.collect()
        assert block() is None
    assert not mock.clock._waits
    assert not mock.clock._calls
    assert not mock.clock._messages


INTERRUPTED = """
import random, signal, time
import http3_parallel as http3
from http3_parallel.testing import MockDispatch

armed = False

def interrupt(*_):
    if armed:
        raise KeyboardInterrupt

signal.signal(signal.SIGALRM, interrupt)
mock = MockDispatch(latency=2)
mock.get("/*")
client = http3.Client(dispatch=mock)
interrupts, slowest = 0, 0.0
while interrupts < 400:
    left = None
    try:
        try:
            armed = True
            signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0002, 0.006))
            with client.parallel(max_workers=8) as parallel:
                try:
                    for n in range(20):
                        parallel.get(f"https://example.com/{n}", deadline=100)
                    for pending in parallel:
                        pending.get_response()
                finally:
                    left = time.monotonic()
        finally:
            armed = False
    except KeyboardInterrupt:  # once, since the timer strikes once
        interrupts += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    if left is not None:
        slowest = max(slowest, time.monotonic() - left)
with client.parallel() as parallel:
    assert parallel.get("https://example.com/").get_response().status_code == 200
client.close()
print("ended" if slowest < 2.5 else slowest)
"""


# Not while it is measured: coverage has a lock of its own, which an interrupt may leave locked.
@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="it is not interrupted at random")
def test_an_interrupt_at_any_moment_leaves_the_clock_as_it_should_be() -> None:
    """Nothing is locked, nobody waited for: with half of what leaving a block allows."""
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=5 * PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "ended\n"), done.stderr[-2000:]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_begins_anew(mock: MockDispatch, client: http3.Client) -> None:
    mock.get("/*", latency=2)
    with client.parallel() as parallel:
        handles = [parallel.get(f"{ORIGIN}/{n}") for n in range(3)]
        handles[0].get_response()
        handles += [parallel.get(f"{ORIGIN}/{n}") for n in range(3)]
        child = os.fork()
        if not child:
            status = 1
            try:
                signal.alarm(int(PATIENCE))
                with client.parallel() as another:
                    codes = [another.get(f"{ORIGIN}/{n}").get_response() for n in range(2)]
                if [code.status_code for code in codes] == [200, 200] and mock.clock.now == 6:
                    status = 0
            finally:
                os._exit(status)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert [handle.get_response().status_code for handle in handles] == [200] * 6
        assert mock.clock.now == 4


@pytest.mark.parametrize("seconds", [-1, float("nan")])
def test_time_passes_forwards(mock: MockDispatch, seconds: float) -> None:
    with pytest.raises(ValueError, match="time passes forwards"):
        mock.advance(seconds)


def test_a_clock_begins_at_0() -> None:
    clock = VirtualClock()
    assert clock.now == 0
    clock.advance(2.5)
    assert clock.now == 2.5


# Matching.


@pytest.mark.parametrize(
    ("pattern", "url", "matches"),
    [
        ("https://example.com/a", "https://example.com/a", True),
        ("https://example.com", "https://example.com/", True),
        ("https://example.com:443/a", "https://example.com/a", True),
        ("https://example.com/a", "https://user:pw@example.com/a#there", True),
        ("https://example.com/a", "http://example.com/a", False),
        ("https://example.com/a", "https://example.org/a", False),
        ("https://example.com/a", "https://example.com/a/", False),
        ("https://example.com/a", "https://example.com/a?b=1", False),
        ("https://example.com/a?b=1&c=2", "https://example.com/a?c=2&b=1", True),
        ("https://example.com/a?b=1", "https://example.com/a?b=2", False),
        ("/a", "https://example.org/a", True),
        ("/a", "https://example.org/a?b=1", False),
        ("/a?b=1", "https://example.org/a?b=1", True),
        ("/a/*", "https://example.org/a/b/c?d=e", True),
        ("/a/*", "https://example.org/b/a/", False),
        ("/ü b", "https://example.org/ü b", True),
        ("/ü/*", "https://example.org/ü/c", True),
        ("*", "https://example.org/a?b", True),
        ("https://*", "https://example.org/a?b", True),
        ("*://example.com/*", "http://example.com/a", True),
        ("https://EXAMPLE.com/*", "https://example.com/x", True),
        ("https://EXAMPLE.com", "https://example.com/", True),
        ("https://example.com:443/*", "https://example.com/x", True),
        ("https://*.com:443/*", "https://example.com/x", True),
        ("https://example.com:444/*", "https://example.com:444/x", True),
        ("https://bücher.example.com/*", "https://bücher.example.com/x", True),
        ("https://*.example.com/*", "https://www.example.com/x?y=z", True),
        ("https://example.com/a?x=*", "https://example.com/a?x=1", True),
        (re.compile(r"https://example\.com/\d+"), "https://example.com/12", True),
        (re.compile(r"https://example\.com/\d+"), "https://example.com/12/x", False),
        (lambda request: request.url.path == "/a", "https://example.org/a", True),
        (lambda request: False, "https://example.org/a", False),
    ],
)
def test_what_a_route_is_for(
    mock: MockDispatch, pattern: typing.Any, url: str, matches: bool
) -> None:
    mock.get(pattern)
    with http3.Client(dispatch=mock) as client:
        if matches:
            assert client.get(url).status_code == 200
        else:
            with pytest.raises(UnmatchedRequest):
                client.get(url)


def test_a_route_may_look_at_all_of_the_request(mock: MockDispatch, client: http3.Client) -> None:
    mock.post("/", 201, match_json={"a": [1, 2]})
    mock.post("/", 202, match_content="text")
    mock.post("/", 203, match_headers={"X-Kind": "this"})
    mock.get("/", 204, params={"q": "a b", "page": "2"})
    mock.add(None, "/any", 205)
    assert client.post(f"{ORIGIN}/", json={"a": [1, 2]}).status_code == 201
    assert client.post(f"{ORIGIN}/", data="text").status_code == 202
    assert client.post(f"{ORIGIN}/", headers={"x-kind": "this"}).status_code == 203
    assert client.get(f"{ORIGIN}/", params={"page": 2, "q": "a b"}).status_code == 204
    assert client.delete(f"{ORIGIN}/any").status_code == 205
    for url, params in (("/", {}), ("/", {"q": "a b"}), ("/x", {"q": "a b", "page": "2"})):
        with pytest.raises(UnmatchedRequest):
            client.get(ORIGIN + url, params=params)


@pytest.mark.parametrize(
    "pattern",
    [
        "https://example.com/users/1",
        "https://EXAMPLE.com:443/users/1",
        "https://example.com/users/*",
        "/users/1",
        "/users/*",
        "/users/1?left=out",
    ],
)
def test_parameters_are_compared_apart(
    mock: MockDispatch, client: http3.Client, pattern: str
) -> None:
    mock.get(pattern, params={"a": "1", "b": "x y"})
    assert client.get("https://example.com/users/1?b=x%20y&a=1").status_code == 200
    for url in ("https://example.com/users/1", "https://example.com/users/1?a=1&b=x"):
        with pytest.raises(UnmatchedRequest):
            client.get(url)


def test_exceptions_of_any_shape_are_raised(mock: MockDispatch, client: http3.Client) -> None:
    class Odd(Exception):
        def __init__(self, one: str, two: str) -> None:
            super().__init__(one)
            self.two = two

    mock.get("/odd", error=Odd("1", "2"))
    with pytest.raises(Odd) as caught:
        client.get(f"{ORIGIN}/odd")
    assert (caught.value.args, caught.value.two) == (("1",), "2")


def test_the_first_route_that_matches_answers_as_often_as_it_may(
    mock: MockDispatch, client: http3.Client
) -> None:
    mock.get("/", 201, times=2)
    mock.get("/", 202)
    assert [client.get(f"{ORIGIN}/").status_code for _ in range(4)] == [201, 201, 202, 202]


def test_replies_come_in_turn_and_the_last_one_stays(
    mock: MockDispatch, client: http3.Client
) -> None:
    route = mock.get("/", 503).reply(200, json=1).reply(200, json=2)
    responses = [client.get(f"{ORIGIN}/") for _ in range(4)]
    assert [response.status_code for response in responses] == [503, 200, 200, 200]
    assert [response.json() for response in responses[1:]] == [1, 2, 2]
    assert route.call_count == 4
    assert route.called


def test_an_unmatched_request_names_what_there_is(mock: MockDispatch, client: http3.Client) -> None:
    mock.get("https://example.com/users/1")
    mock.post("https://example.com/users", match_json={"a": 1})
    mock.get("https://other.test/", times=1)
    client.get("https://other.test/")
    for n in range(6):
        mock.get(f"https://far.test/{n}/something-else")
    with pytest.raises(UnmatchedRequest) as caught:
        client.get("https://example.com/users/2")
    lines = str(caught.value).splitlines()
    assert lines[0] == "no route matches GET https://example.com/users/2"
    assert lines[2].strip() == "GET https://example.com/users/1"
    assert lines[-1].strip() == "and 4 more"
    with pytest.raises(UnmatchedRequest) as caught:
        client.get("https://other.test/")
    assert "GET https://other.test/ (used up)" in str(caught.value)
    with pytest.raises(UnmatchedRequest, match="no routes were added"):
        http3.Client(dispatch=MockDispatch()).get(ORIGIN)


def test_an_unmatched_request_in_a_block_is_its_error(mock: MockDispatch) -> None:
    with http3.parallel(dispatch=mock) as parallel:
        pending = parallel.get(ORIGIN)
        with pytest.raises(UnmatchedRequest):
            pending.get_response()
    assert [str(request.url) for request in mock.unmatched] == [ORIGIN]


def test_it_cannot_be_swallowed() -> None:
    with pytest.raises(UnmatchedRequest, match=r"/unknown"):
        with MockDispatch() as mock:
            with contextlib.suppress(Exception):
                http3.Client(dispatch=mock).get(f"{ORIGIN}/unknown")


def test_routes_that_nobody_used_are_told() -> None:
    with pytest.raises(AssertionError, match=r"no request came for:\n  POST /used-never"):
        with MockDispatch() as mock:
            mock.post("/used-never")
            mock.get("/may-be-unused", required=False)


def test_an_exception_of_the_test_comes_first() -> None:
    with pytest.raises(LookupError):
        with MockDispatch() as mock:
            mock.get("/unused")
            raise LookupError


def test_calls_have_what_came(mock: MockDispatch) -> None:
    mock.post("/*", latency=3)

    def body() -> typing.Iterator[bytes]:
        yield b'{"n": '
        yield b"3}"

    with http3.parallel(dispatch=mock, max_workers=8) as parallel:
        for n in range(3):
            parallel.post(f"{ORIGIN}/{n}", json={"n": n})
        parallel.post(f"{ORIGIN}/3", data=body())
        tags(parallel)
    assert [call.json["n"] for call in mock.calls] == [0, 1, 2, 3]
    assert [call.request.url.path for call in mock.calls] == ["/0", "/1", "/2", "/3"]
    assert {call.at for call in mock.calls} == {0}
    assert mock.calls[3].content == b'{"n": 3}'


# Replies.


def test_kinds_of_bodies(mock: MockDispatch, client: http3.Client) -> None:
    mock.get("/json", json={"ä": 1})
    mock.get("/text", content="grün")
    mock.get("/bytes", content=b"\x00\x01", headers={"Content-Type": "image/png"})
    mock.get("/pieces", content=["a", b"b", 2.0, "c"])
    mock.get("/none", 204)
    mock.head("/head", content="not sent")
    assert client.get(f"{ORIGIN}/json").json() == {"ä": 1}
    text = client.get(f"{ORIGIN}/text")
    assert (text.text, text.headers["content-length"]) == ("grün", "5")
    image = client.get(f"{ORIGIN}/bytes")
    assert (image.content, image.headers["content-type"]) == (b"\x00\x01", "image/png")
    assert client.get(f"{ORIGIN}/none").content == b""
    assert client.head(f"{ORIGIN}/head").content == b""
    assert mock.clock.now == 0
    assert client.get(f"{ORIGIN}/pieces").content == b"abc"
    assert mock.clock.now == 2


def test_a_stream_comes_in_its_pieces(mock: MockDispatch, client: http3.Client) -> None:
    mock.get("/", content=["one", 5.0, "two"])
    with client.get(ORIGIN + "/", stream=True) as response:
        pieces = response.stream()
        assert (next(pieces), mock.clock.now) == (b"one", 0)
        assert (next(pieces), mock.clock.now) == (b"two", 5)
        assert list(pieces) == []
    with client.parallel() as parallel:
        streamed = parallel.get(ORIGIN + "/", stream=True).get_response()
        assert b"".join(streamed.stream()) == b"onetwo"


def test_bodies_break_and_time_out(mock: MockDispatch, client: http3.Client) -> None:
    mock.get("/broken", content=["some", http3.IncompleteRead])
    mock.get("/slow", content=["some", 10.0, "more"])
    with pytest.raises(http3.IncompleteRead) as caught:
        client.get(f"{ORIGIN}/broken")
    assert caught.value.request is not None
    with pytest.raises(http3.ReadTimeout):
        client.get(f"{ORIGIN}/slow", timeout=5)
    assert mock.clock.now == 5


def test_errors_are_raised_for_each_request_anew(mock: MockDispatch, client: http3.Client) -> None:
    class Custom(Exception):
        pass

    instance = http3.ConnectTimeout("by hand")
    mock.get("/instance", error=instance, latency=4)
    mock.get("/class", error=http3.ReadError)
    mock.get("/function", error=lambda request: http3.ConnectError(f"no {request.url.path}"))
    mock.get("/custom", error=Custom("mine"))
    for _ in range(2):
        with pytest.raises(http3.ConnectTimeout, match="by hand") as caught:
            client.get(f"{ORIGIN}/instance")
        assert caught.value is not instance
    assert mock.clock.now == 8
    assert instance.request is None
    with pytest.raises(http3.ReadError, match="ReadError") as read_error:
        client.get(f"{ORIGIN}/class", tag="t")
    assert read_error.value.request is not None
    assert read_error.value.tag == "t"
    with pytest.raises(http3.ConnectError, match="no /function"):
        client.get(f"{ORIGIN}/function")
    with pytest.raises(Custom):
        client.get(f"{ORIGIN}/custom")


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (ConnectionRefusedError, http3.ConnectError),
        (socket.gaierror(-2, "Name or service not known"), http3.NameResolutionError),
        (ConnectionResetError, http3.ReadError),
        (ssl.SSLCertVerificationError, http3.CertificateError),
        (ssl.SSLError, http3.TLSError),
        (TimeoutError, http3.ReadTimeout),
        (OSError("no route to host"), http3.ConnectError),
    ],
)
def test_an_error_of_the_system_is_what_the_network_makes_of_it(
    theirs: typing.Any, ours: type[http3.HTTPError], mock: MockDispatch, client: http3.Client
) -> None:
    mock.get("/", error=theirs)
    with pytest.raises(http3.HTTPError) as caught:
        client.get(ORIGIN + "/")
    assert type(caught.value) is ours
    assert isinstance(caught.value.__cause__, OSError)


def test_a_body_ends_where_its_length_says(mock: MockDispatch, client: http3.Client) -> None:
    mock.get("/short", content=b"abc", headers={"Content-Length": "10"})
    mock.get("/long", content=["ab", "cd", "ef"], headers={"Content-Length": "3"})
    with pytest.raises(http3.IncompleteRead, match="7 bytes short"):
        client.get(f"{ORIGIN}/short")
    assert client.get(f"{ORIGIN}/long").content == b"abc"


def test_a_body_that_is_used_up_is_not_sent_again(mock: MockDispatch) -> None:
    mock.post("/moved", 307, headers={"Location": "/there"})
    mock.post("/there", 503, required=False)
    with http3.Client(dispatch=mock, retries=3) as client:
        with pytest.raises(http3.RedirectBodyUnavailable):
            client.post(f"{ORIGIN}/moved", data=iter([b"once"]))
        assert [call.content for call in mock.calls] == [b"once"]
        assert client.post(f"{ORIGIN}/moved", data=b"again").status_code == 503
        assert mock.calls[-1].content == b"again"

    def breaks() -> typing.Iterator[bytes]:
        yield b"first"
        raise LookupError("of the body")

    with http3.Client(dispatch=mock, retries=3) as client:
        with pytest.raises(LookupError, match="of the body"):
            client.post(f"{ORIGIN}/there", data=breaks())


def test_a_handler_makes_the_response(mock: MockDispatch, client: http3.Client) -> None:
    def handler(request: http3.Request) -> http3.Response:
        if request.url.path == "/fails":
            raise http3.ReadError("as the handler says")
        return http3.Response(200, content=request.read(), request=request)

    mock.post("/*", handler=handler)
    assert client.post(f"{ORIGIN}/echo", data=b"abc").content == b"abc"
    with pytest.raises(http3.ReadError, match="as the handler says"):
        client.post(f"{ORIGIN}/fails", data=b"")
    mock.get("/wrong", handler=typing.cast(typing.Any, lambda request: "no response"))
    with pytest.raises(TypeError, match="returns a Response"):
        client.get(f"{ORIGIN}/wrong")


def test_all_above_the_network_is_as_always(mock: MockDispatch) -> None:
    mock.get("/login", 302, headers={"Location": "/home", "Set-Cookie": "a=b"})
    mock.get("/home", match_headers={"cookie": "a=b"}, content="welcome")
    challenge = 'Digest realm="r", nonce="n", qop="auth"'
    mock.get("/secret", 401, headers={"WWW-Authenticate": challenge}).reply(200)
    with http3.parallel(dispatch=mock) as parallel:
        response = parallel.get(f"{ORIGIN}/login").get_response()
        assert (response.text, response.url.path) == ("welcome", "/home")
        secret = parallel.get(f"{ORIGIN}/secret", auth=("u", "p")).get_response()
        assert secret.status_code == 401  # basic, for which it did not ask
        digest = http3.DigestAuth("u", "p")
        assert parallel.get(f"{ORIGIN}/secret", auth=digest).get_response().status_code == 200
        assert parallel.stats.bytes == len("welcome")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"content": b"", "json": 1}, TypeError, "one of"),
        ({"hangs": True, "error": http3.ReadError}, TypeError, "one of"),
        ({"latency": -1}, ValueError, "latency"),
        ({"latency": float("nan")}, ValueError, "latency"),
        ({"status_code": 42}, ValueError, "status code"),
        ({"content": [object()]}, TypeError, "a body is made of"),
        ({"content": [-1]}, TypeError, "a body is made of"),
        ({"content": [True]}, TypeError, "a body is made of"),
        ({"times": 0}, ValueError, "times"),
        ({"sttus": 1}, TypeError, "sttus"),
    ],
)
def test_wrong_scripts_are_told_where_they_are_written(
    mock: MockDispatch, options: dict[str, typing.Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        mock.get("/", **options)
    with pytest.raises(TypeError, match="a route is for"):
        mock.get(typing.cast(typing.Any, 5))
    with pytest.raises(ValueError, match="latency"):
        MockDispatch(latency=-1)


# In place of the network.


def test_installed_it_is_for_all_that_is_made_without_a_dispatcher() -> None:
    inner = MockDispatch()
    inner.get("/", content="inner")
    with MockDispatch() as mock, mock.installed():
        mock.get("/", content="outer")
        assert http3.get(ORIGIN + "/").text == "outer"
        with http3.parallel() as parallel:
            assert parallel.get(ORIGIN + "/").get_response().text == "outer"
        with inner.installed():
            assert http3.get(ORIGIN + "/").text == "inner"
        assert http3.Client(dispatch=inner).get(ORIGIN + "/").text == "inner"
        client = http3.Client()
    assert client.get(ORIGIN + "/").text == "outer"
    client.close()
    with http3.Client() as after:
        assert not isinstance(after._engine._dispatcher, MockDispatch)


def test_the_fixture_is_installed(http3_mock: MockDispatch) -> None:
    http3_mock.get("https://example.com/1", json={"n": 1})
    assert http3.get("https://example.com/1").json() == {"n": 1}


def test_the_fixture_fails_tests_that_swallow_mistakes(pytester: pytest.Pytester) -> None:
    pytester.makeconftest('pytest_plugins = ["http3_parallel.testing.pytest_plugin"]')
    pytester.makepyfile(
        """
        import http3_parallel as http3

        def test_good(http3_mock):
            http3_mock.get("/", latency=4)
            assert http3.get("https://example.com/").status_code == 200

        def test_swallows(http3_mock):
            try:
                http3.get("https://example.com/unknown")
            except Exception:
                pass

        def test_unused(http3_mock):
            http3_mock.get("/never")
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=3, errors=2)
    result.stdout.fnmatch_lines(["*no route matches GET https://example.com/unknown*"])


# Awaited.


async def test_the_order_is_the_same_awaited() -> None:
    for _ in range(5):
        mock = MockDispatch()
        for n, latency in enumerate([5, 3, 9, 0.5, 3]):
            mock.get(f"/{n}", latency=latency)
        async with http3.AsyncClient(dispatch=mock, timeout=None) as client:
            async with client.parallel() as parallel:
                for n in range(5):
                    parallel.get(f"{ORIGIN}/{n}", tag=n)
                order = [(await p.get_response()).tag async for p in parallel.as_completed()]
                assert order == [3, 1, 4, 0, 2]
                assert mock.clock.now == 9
                parallel.get(f"{ORIGIN}/2")
                with pytest.raises(http3.WaitTimeout):
                    await parallel.next_response(timeout=4)
                assert mock.clock.now == 13
            response = await client.get(f"{ORIGIN}/0")
            assert response.status_code == 200


async def test_the_clock_waits_for_tasks_that_are_told() -> None:
    for _ in range(TIMES):
        mock = MockDispatch()
        for n in range(5):
            mock.get(f"/{n}", latency=10 - n)
        async with http3.AsyncClient(dispatch=mock, timeout=None) as client:
            async with client.parallel(max_workers=2) as parallel:
                for n in range(5):
                    parallel.get(f"{ORIGIN}/{n}", tag=n)
                came = [(p.tag, mock.clock.now) async for p in parallel.as_completed()]
        assert came == [(1, 9), (0, 10), (2, 17), (3, 17), (4, 23)]


@pytest.mark.parametrize("hops", [0, 1, 7])
async def test_the_clock_waits_for_tasks_that_are_on_their_way(hops: int) -> None:
    for _ in range(TIMES // 3):
        assert await _come_with_hops(hops) == [("fans out", 2), ("steps", 3)]


async def _come_with_hops(hops: int) -> list[tuple[str, float]]:
    mock = MockDispatch()
    for n in (1, 3):
        mock.get(f"/{n}", latency=n)
    came: list[tuple[str, float]] = []
    async with http3.AsyncClient(dispatch=mock, timeout=None) as client:

        async def steps() -> None:
            for _ in range(3):
                await client.get(f"{ORIGIN}/1")
                for _ in range(hops):
                    await anyio.lowlevel.checkpoint()
            came.append(("steps", mock.clock.now))

        async def fans_out() -> None:
            async with anyio.create_task_group() as inner:
                for _ in range(2):
                    inner.start_soon(client.get, f"{ORIGIN}/1")
            await client.get(f"{ORIGIN}/1")
            came.append(("fans out", mock.clock.now))

        async with anyio.create_task_group() as group:
            group.start_soon(client.get, f"{ORIGIN}/3")
            group.start_soon(steps)
            group.start_soon(fans_out)
    return came


async def test_streams_awaited_come_in_order() -> None:
    for _ in range(TIMES // 3):
        assert await _come_in_streams() == [
            (0, b"a", 0),
            (1, b"a", 0),
            (2, b"a", 0),
            (0, b"b", 1),
            (1, b"b", 1.1),
            (2, b"b", 1.2),
            (0, b"c", 2),
            (1, b"c", 2.1),
            (2, b"c", 2.2),
        ]


async def _come_in_streams() -> list[tuple[int, bytes, float]]:
    mock = MockDispatch()
    for n in range(3):
        mock.get(f"/{n}", content=[b"a", 1.0 + n / 10, b"b", 1.0, b"c"])
    mock.get("/tick", latency=0.5)
    mock.get("/moved", 302, headers={"Location": "/tick"})
    came: list[tuple[int, bytes, float]] = []
    async with http3.AsyncClient(dispatch=mock, timeout=None) as client:

        async def read(n: int) -> None:
            async with await client.get(f"{ORIGIN}/{n}", stream=True) as response:
                async for piece in response.stream():
                    came.append((n, piece, mock.clock.now))  # noqa: PERF401  # as it comes

        async def tick() -> None:
            response = await client.get(f"{ORIGIN}/moved", allow_redirects=False)
            assert (await response.next()).status_code == 200
            assert mock.clock.now == 0.5
            for _ in range(4):
                await client.get(f"{ORIGIN}/tick")

        async with anyio.create_task_group() as group:
            group.start_soon(tick)
            for n in range(3):
                group.start_soon(read, n)
    return sorted(came, key=lambda piece: (piece[2], piece[0]))  # trio's tasks begin in any order


async def test_a_body_that_takes_real_time_has_no_time_pass() -> None:
    mock = MockDispatch(latency=1)
    mock.post("/")
    mock.get("/source", content=[b"one", 2.0, b"two"])

    async def slow() -> typing.AsyncIterator[bytes]:
        for _ in range(3):
            await anyio.sleep(0.02)
            yield b"x"

    async with http3.AsyncClient(dispatch=mock, timeout=None) as client:
        await client.post(ORIGIN + "/", data=slow())
        assert (mock.calls[0].content, mock.clock.now) == (b"xxx", 1)
        async with await client.get(f"{ORIGIN}/source", stream=True) as source:
            assert mock.clock.now == 2
            await client.post(ORIGIN + "/", data=source.stream())
        assert (mock.calls[-1].content, mock.clock.now) == (b"onetwo", 5)


async def test_a_loop_does_not_wait_for_itself() -> None:
    mock = MockDispatch(latency=5)
    mock.get("/")
    async with http3.AsyncClient(dispatch=mock, timeout=None) as client:
        async with client.parallel() as parallel:
            pending = parallel.get(ORIGIN + "/")
            with pytest.raises(RuntimeError, match="wait for itself"):
                mock.advance(1)
            with pytest.raises(http3.WaitTimeout):
                await parallel.next_response(timeout=1)
            assert (mock.clock.now, pending.done()) == (1, False)
            assert (await parallel.next_response()).status_code == 200
    assert mock.clock.now == 5


async def test_several_mocks_in_one_loop() -> None:
    mocks = [MockDispatch(latency=2), MockDispatch(latency=3)]
    async with anyio.create_task_group() as group:
        for mock in mocks:
            mock.get("/")

            async def call(mock: MockDispatch = mock) -> None:
                async with http3.AsyncClient(dispatch=mock, timeout=None) as client:
                    for _ in range(5):
                        await client.get(ORIGIN + "/")

            group.start_soon(call)
    assert [mock.clock.now for mock in mocks] == [10, 15]


async def test_deadlines_awaited() -> None:
    mock = MockDispatch()
    mock.get("/never", hangs=True)
    async with http3.AsyncClient(dispatch=mock, timeout=None) as client:
        with pytest.raises(http3.DeadlineExceeded):
            await client.get(f"{ORIGIN}/never", deadline=40)
        assert mock.clock.now == 40
        async with client.parallel(deadline=10) as parallel:
            parallel.get(f"{ORIGIN}/never")
            with pytest.raises(http3.DeadlineExceeded):
                await parallel.next_response()
        async with client.parallel() as parallel:
            parallel.get(f"{ORIGIN}/never")
