"""
The ten promises of `test_promises`, awaited: each end to end on real sockets, on each kind of loop.

What is hard about each is tested case by case elsewhere; the docstrings say where.
"""

from __future__ import annotations

import os
import pickle
import threading
import time
import typing

import anyio
import pytest

import event_loops
import http3_parallel as http3
from event_loops import in_thread, wait_until
from servers import (
    PATIENCE,
    RawServer,
    Site,
    answers_every_other,
    drip_body,
    full_backlog,
    hang_before_response,
    hanging_tls,
    lengthless_body_then_hang,
    never_reading,
)


async def test_promise_1_responses_come_in_the_order_they_complete(server: Site) -> None:
    """More in test_async_parallel."""
    async with http3.AsyncClient() as client, client.parallel() as parallel:
        for name in ("slow", "a", "b", "c"):
            parallel.get(f"{server.url}/wait/{name}")
        assert await in_thread(server.wait_for_requests, 4)
        order = []
        for name in ("c", "a", "b", "slow"):
            server.release(name)
            order.append((await parallel.next_response(PATIENCE)).text)
    assert order == ["c", "a", "b", "slow"]


async def test_promise_2_request_errors_appear_in_two_places_only(server: Site) -> None:
    """More in test_async_parallel."""
    with RawServer(lambda peer: None) as refusing:
        refused = refusing.url
    async with (
        http3.AsyncClient(timeout=0.5) as client,
        client.parallel() as parallel,
    ):
        handles = [
            await parallel.get("http://"),
            await parallel.get(refused),
            await parallel.get(f"{server.url}/wait/never"),
        ]
        for handle, error in zip(
            handles, (http3.InvalidURL, http3.ConnectError, http3.ReadTimeout), strict=True
        ):
            with pytest.raises(error):
                await handle.get_response(PATIENCE)
        await parallel.get(refused)
        with pytest.raises(http3.HTTPError):
            await parallel.next_response(PATIENCE)
        wrong: dict[str, typing.Any] = {"colour": "red"}
        with pytest.raises(TypeError):
            parallel.get(server.url, **wrong)


async def test_promise_3_every_error_knows_its_request(server: Site) -> None:
    """More in test_async_parallel."""
    async with http3.AsyncClient(timeout=0.05) as client, client.parallel() as parallel:
        for n in range(10):
            parallel.post(f"{server.url}/wait/{n}", data=b"x", tag=n)
        failed: dict[typing.Any, http3.HTTPError] = {}
        while parallel.has_pending_responses:
            try:
                await parallel.next_response(PATIENCE)
            except http3.HTTPError as error:
                failed[error.tag] = error
        assert sorted(failed) == list(range(10))
        for n, failure in failed.items():
            assert (failure.method, str(failure.url)) == ("POST", f"{server.url}/wait/{n}")
            assert failure.request is not None
            assert pickle.loads(pickle.dumps(failure)).request.content == b"x"
            server.release(str(n))
            again = await parallel.send(failure.request, tag=n)
            assert (await again.get_response(PATIENCE)).text == str(n)


#: What hangs at each step of a request. The backlog needs more than the loop's own patience.
HANGING: dict[str, typing.Callable[[], typing.Any]] = {
    "connecting": full_backlog,
    "the TLS handshake": hanging_tls,
    "sending": never_reading,
    "waiting for the head": lambda: RawServer(hang_before_response),
    "reading the body": lambda: RawServer(drip_body),
    "reading a body without length": lambda: RawServer(lengthless_body_then_hang),
}


@pytest.mark.parametrize("state", HANGING)
async def test_promise_4_nothing_outlives_the_block(state: str) -> None:
    """What else a request can be waiting for, with threads that wait: test_leaving."""
    with HANGING[state]() as hanging:
        data = b"x" * 10_000_000 if state == "sending" else b""
        url = hanging.url
        if state == "the TLS handshake":
            url = url.replace("http://", "https://")
        for way in ("leaving", "cancelling"):
            async with http3.AsyncClient(timeout=PATIENCE) as client:
                with anyio.CancelScope() as scope:
                    async with client.parallel(max_workers=20) as parallel:
                        for _ in range(30):
                            parallel.post(url, data=data)
                        if state == "connecting":
                            await wait_until(lambda: len(parallel._block._executing) == 20)
                        else:
                            assert await in_thread(hanging.wait_for_connections, 20)
                        if way == "cancelling":
                            scope.cancel()
                            left = time.monotonic()
                            await parallel.next_response()
                        left = time.monotonic()
                assert time.monotonic() - left < 2
                assert not parallel._block._executing
            if state != "connecting":
                assert await in_thread(hanging.wait_all_closed)


async def test_promise_4_a_stream_and_a_plain_call_are_ended_too(server: Site) -> None:
    with RawServer(drip_body) as dripping:
        async with http3.AsyncClient() as client:
            async with client.parallel() as parallel:
                streams = [
                    await parallel.get(dripping.url, stream=True).get_response() for _ in range(5)
                ]
                async with anyio.create_task_group() as tasks:
                    for response in streams:
                        tasks.start_soon(response.read)
                    await wait_until(lambda: all(response._reading for response in streams))
                    tasks.cancel_scope.cancel()
                    left = time.monotonic()
            assert time.monotonic() - left < 2
            assert await in_thread(dripping.wait_all_closed)
            left = time.monotonic()
            with anyio.move_on_after(0.05):
                await client.get(dripping.url)
            assert time.monotonic() - left < 2
            assert await in_thread(dripping.wait_all_closed)


async def test_promise_5_what_finished_stays(server: Site) -> None:
    """More in test_async_parallel."""
    async with http3.AsyncClient() as client:
        async with client.parallel() as parallel:
            finished = await parallel.get(server.answer("/finished", "kept"))
            lost = await parallel.get(f"{server.url}/wait/never")
            await wait_until(finished.done)
            assert await in_thread(server.wait_for_requests, 2)
        assert (await finished.get_response()).text == "kept"
        with pytest.raises(http3.RequestCancelled):
            await lost.get_response()


async def test_promise_6_bounded(server: Site) -> None:
    """More in test_async_parallel."""
    server.answer("/page", b"x" * 1000)
    read = handed_out = 0

    async def urls() -> typing.AsyncIterator[str]:
        nonlocal read
        for _ in range(500):
            read += 1
            yield f"{server.url}/page"

    async with http3.AsyncClient(max_workers=8) as client, client.parallel() as parallel:
        async for pending in parallel.map(urls(), window=20):
            assert (await pending.get_response()).status_code == 200
            handed_out += 1
            assert read - handed_out <= 20
    assert handed_out == 500
    assert len(server.connections) <= 8


async def test_promise_7_clocks_are_honest(server: Site) -> None:
    """More in test_async_parallel."""
    async with (
        http3.AsyncClient(max_workers=1, timeout=http3.TimeoutConfig(read_timeout=5)) as client,
        client.parallel() as parallel,
    ):
        parallel.get(f"{server.url}/wait/first")
        patient = parallel.get(server.answer("/second", "second"), timeout=PATIENCE)
        hurried = parallel.get(server.answer("/third", "third"), deadline=0.2)
        with pytest.raises(http3.DeadlineExceeded):
            await hurried.get_response(PATIENCE)
        server.release("first")
        assert (await patient.get_response(PATIENCE)).text == "second"
        assert server.requests_for("/third") == []
    with RawServer(drip_body) as dripping:
        async with http3.AsyncClient() as client:
            with pytest.raises(http3.DeadlineExceeded):
                await client.get(dripping.url, deadline=0.3)


async def test_promise_8_fair(server: Site) -> None:
    """More in test_async_parallel."""
    async with http3.AsyncClient(max_workers=4) as client:
        async with client.parallel() as large, client.parallel() as small:
            for n in range(1000):
                large.get(f"{server.url}/wait/{n}")
            assert await in_thread(server.wait_for_requests, 4)
            page = [small.get(server.answer(f"/{n}", "page")) for n in range(2)]
            server.release("0")
            server.release("1")
            for pending in page:
                assert (await pending.get_response(PATIENCE)).text == "page"
            assert len(server.requests) < 20


async def test_promise_9_safe_to_share(server: Site, switch_interval: None) -> None:
    """By tasks; by loops in several threads, and across a fork: test_async_client."""
    for n in range(40):
        server.answer(f"/{n}", str(n))

    async def use(client: http3.AsyncClient, parallel: http3.AsyncParallel, first: int) -> None:
        for n in range(first, 40, 4):
            assert (await client.get(f"{server.url}/{n}")).text == str(n)
            pending = await parallel.get(f"{server.url}/{n}")
            assert (await pending.get_response(PATIENCE)).text == str(n)

    async with http3.AsyncClient() as client, client.parallel() as parallel:
        async with anyio.create_task_group() as tasks:
            for first in range(4):
                tasks.start_soon(use, client, parallel, first)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("kind", event_loops.KINDS)
def test_promise_9_a_fork_inside_a_block_touches_nothing_of_the_parents(
    server: Site, kind: str
) -> None:
    server.answer("/", "here")

    async def main() -> None:
        async with http3.AsyncClient() as client, client.parallel() as parallel:
            flying = parallel.get(f"{server.url}/wait/a")
            assert await in_thread(server.wait_for_request, "/wait/a")
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    parallel.get(server.url)
                except http3.ParallelClosed:
                    status = 0
                finally:
                    os._exit(status)
            _, status = await in_thread(os.waitpid, child, 0)
            assert os.waitstatus_to_exitcode(status) == 0
            server.release("a")
            assert (await flying.get_response()).text == "a"

    event_loops.run(kind, main)
    assert len(server.connections) == 1


async def test_promise_10_at_most_once_exactly_accounted() -> None:
    """More in test_network and test_retries."""
    seen: list[str] = []

    with RawServer(answers_every_other(seen)) as server:
        async with http3.AsyncClient(max_workers=4) as client, client.parallel() as parallel:
            handles = [parallel.post(f"{server.url}/{n}", data=b"order") for n in range(60)]
            outcomes = {"response": 0, "error": 0, "cancelled": 0}
            for pending in handles[50:]:
                pending.cancel()
            for pending in handles:
                try:
                    await pending.get_response(PATIENCE)
                    outcomes["response"] += 1
                except http3.RequestCancelled:
                    outcomes["cancelled"] += 1
                except http3.NetworkError:
                    outcomes["error"] += 1
            assert sum(outcomes.values()) == 60
            assert outcomes["error"] > 0
            assert outcomes["response"] > 0
    assert len(seen) == len(set(seen)), "a POST was sent twice"


async def test_no_thread_outlives_the_client(server: Site) -> None:
    await in_thread(int)  # the test's own
    before = threading.active_count()
    async with http3.AsyncClient() as client:
        for n in range(5):
            async with client.parallel() as parallel:
                for name in "abc":
                    parallel.get(f"{server.url}/wait/{name}{n}", stream=bool(n % 2))
                assert await in_thread(server.wait_for_requests, 3 * n + 3)
    await wait_until(lambda: threading.active_count() <= before)
