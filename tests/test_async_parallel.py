"""What an asynchronous block promises, against a scripted dispatcher, on each kind of loop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import traceback
import typing
import weakref
from collections.abc import AsyncIterator

import anyio
import pytest

import http3_parallel as http3
from event_loops import in_thread, wait_until
from scripted import PATIENCE, Exchange, InstantDispatch, ScriptedDispatch

URL = "http://example.com"


@pytest.fixture
def dispatch() -> ScriptedDispatch:
    return ScriptedDispatch()


@contextlib.asynccontextmanager
async def opened(
    dispatch: http3.Dispatcher, *, max_workers: int = 8, **options: typing.Any
) -> AsyncIterator[http3.AsyncParallel]:
    async with http3.AsyncClient(dispatch=dispatch, max_workers=max_workers) as client:
        async with client.parallel(**options) as parallel:
            yield parallel


async def arrived(dispatch: ScriptedDispatch, path: str) -> Exchange:
    exchange: Exchange = await in_thread(dispatch.exchange, path)
    return exchange


async def respond(dispatch: ScriptedDispatch, *paths: str) -> None:
    for path in paths:
        (await arrived(dispatch, path)).respond(content=path.encode())


async def wait_until_taking(parallel: http3.AsyncParallel, count: int = 1) -> None:
    """Until so many tasks wait in next_response()."""
    submitter = parallel._submitter
    assert submitter is not None
    await wait_until(lambda: len(submitter.completions._takers) == count)


# What the call returns.


async def test_what_the_call_returns_is_the_handle_and_awaiting_it_gives_the_handle(
    dispatch: ScriptedDispatch,
) -> None:
    async with opened(dispatch) as parallel:
        pending = parallel.get(f"{URL}/a", tag="a")
        assert isinstance(pending, http3.AsyncPendingResponse)
        assert await pending is pending
        assert await pending is pending
        assert pending.tag == "a"
        assert pending.request is not None
        assert pending.request.url == f"{URL}/a"
        assert not pending.done()
        await respond(dispatch, "/a")
        assert (await pending.get_response()).text == "/a"
        assert pending.done()
        assert not pending.cancelled()


async def test_a_request_is_submitted_by_the_call_not_by_awaiting_it(
    dispatch: ScriptedDispatch,
) -> None:
    async with opened(dispatch) as parallel:
        parallel.get(f"{URL}/a")
        assert parallel.has_pending_responses
        await respond(dispatch, "/a")
        assert (await parallel.next_response()).text == "/a"


@pytest.mark.parametrize(
    "method", ["get", "options", "head", "post", "put", "patch", "delete", "request", "send"]
)
async def test_each_method_makes_its_request(method: str) -> None:
    async with opened(InstantDispatch()) as parallel:
        if method == "request":
            pending = await parallel.request("SEARCH", f"{URL}/a")
        elif method == "send":
            pending = await parallel.send(http3.Request("SEARCH", f"{URL}/a"))
        else:
            pending = await getattr(parallel, method)(f"{URL}/a")
        response = await pending.get_response()
    expected = "SEARCH" if method in ("request", "send") else method.upper()
    assert (response.request.method, response.text) == (expected, "/a")


# Order, and handing out.


async def test_responses_come_in_the_order_they_complete(dispatch: ScriptedDispatch) -> None:
    async with opened(dispatch) as parallel:
        for path in "abc":
            parallel.get(f"{URL}/{path}")
        got = []
        for path in "cab":
            await respond(dispatch, f"/{path}")
            got.append((await parallel.next_response(PATIENCE)).text)
        assert got == ["/c", "/a", "/b"]
        assert not parallel.has_pending_responses


async def test_what_get_response_returned_next_response_does_not(
    dispatch: ScriptedDispatch,
) -> None:
    async with opened(dispatch) as parallel:
        one, _two = await parallel.get(f"{URL}/1"), await parallel.get(f"{URL}/2")
        await respond(dispatch, "/1", "/2")
        response = await one.get_response()
        assert response.text == "/1"
        assert await one.get_response() is response
        assert (await parallel.next_response()).text == "/2"
        with pytest.raises(http3.NoPendingResponses):
            await parallel.next_response()


async def test_what_next_response_returned_its_handle_returns_too(
    dispatch: ScriptedDispatch,
) -> None:
    async with opened(dispatch) as parallel:
        pending = await parallel.get(f"{URL}/a")
        await respond(dispatch, "/a")
        response = await parallel.next_response()
        assert await pending.get_response() is response


async def test_next_response_with_nothing_submitted_raises_instead_of_waiting(
    dispatch: ScriptedDispatch,
) -> None:
    async with opened(dispatch) as parallel:
        assert not parallel.has_pending_responses
        with pytest.raises(http3.NoPendingResponses):
            await parallel.next_response()


@pytest.mark.parametrize("way", ["claimed", "cancelled", "all cancelled"])
async def test_next_response_wakes_when_the_last_one_goes_another_way(
    dispatch: ScriptedDispatch, way: str
) -> None:
    async with opened(dispatch) as parallel, anyio.create_task_group() as tasks:
        pending = await parallel.get(f"{URL}/a")
        woken = []

        async def take() -> None:
            with pytest.raises(http3.NoPendingResponses):
                await parallel.next_response()
            woken.append(True)

        tasks.start_soon(take)
        await wait_until_taking(parallel)
        if way == "claimed":
            tasks.start_soon(pending.get_response)
        elif way == "cancelled":
            assert pending.cancel()
        else:
            parallel.cancel()
        await wait_until(lambda: woken)
        if way == "claimed":
            await respond(dispatch, "/a")


async def test_a_wait_that_ran_out_leaves_the_request_to_go_on(
    dispatch: ScriptedDispatch,
) -> None:
    async with opened(dispatch) as parallel:
        pending = await parallel.get(f"{URL}/a")
        for wait in (pending.get_response, parallel.next_response):
            for seconds in (0, 0.02):
                with pytest.raises(http3.WaitTimeout, match="the request"):
                    await wait(seconds)
        assert parallel.has_pending_responses
        await respond(dispatch, "/a")
        assert (await parallel.next_response(PATIENCE)).text == "/a"


async def test_as_completed_yields_handles_those_submitted_meanwhile_included(
    dispatch: ScriptedDispatch,
) -> None:
    async with opened(InstantDispatch()) as parallel:
        parallel.get(f"{URL}/3")
        seen = []
        async for pending in parallel:
            response = await pending.get_response()
            seen.append(response.text)
            count = int(response.text[1:])
            if count:
                await parallel.get(f"{URL}/{count - 1}")
        assert seen == ["/3", "/2", "/1", "/0"]


async def test_as_completed_gives_up_at_its_timeout(dispatch: ScriptedDispatch) -> None:
    async with opened(dispatch) as parallel:
        parallel.get(f"{URL}/a")
        with pytest.raises(http3.WaitTimeout):
            async for _ in parallel.as_completed(timeout=0.02):
                pass
        assert parallel.has_pending_responses


async def test_iterating_raises_no_error_but_its_handle_does() -> None:
    failing = InstantDispatch(lambda request: http3.ReadError("broke"))
    async with opened(failing) as parallel:
        parallel.get(f"{URL}/a", tag=1)
        parallel.get("no url", tag=2)
        failed = {}
        async for pending in parallel:
            with pytest.raises(http3.HTTPError) as caught:
                await pending.get_response()
            failed[pending.tag] = caught.value
            with pytest.raises(type(caught.value)) as again:
                await pending.get_response()
            assert again.value is caught.value
        assert {tag: type(error) for tag, error in failed.items()} == {
            1: http3.ReadError,
            2: http3.InvalidURL,
        }
        assert {error.tag for error in failed.values()} == {1, 2}
        request = failed[1].request
        assert request is not None
        with pytest.raises(http3.ReadError):
            await parallel.send(request).get_response()


async def test_an_error_raised_repeatedly_does_not_grow_its_traceback() -> None:
    failing = InstantDispatch(lambda request: http3.ReadError("broke"))
    async with opened(failing) as parallel:
        failed = await parallel.get(f"{URL}/a")
        cancelled = await parallel.get(f"{URL}/b")
        cancelled.cancel()
        for pending in (failed, cancelled):
            lengths = set()
            for _ in range(5):
                with pytest.raises(http3.HTTPError) as caught:
                    await pending.get_response()
                lengths.add(len(traceback.extract_tb(caught.value.__traceback__)))
            assert len(lengths) == 1


@pytest.mark.parametrize("tasks", [1, 7])
async def test_every_response_is_handed_out_exactly_once(tasks: int, switch_interval: None) -> None:
    got: list[typing.Any] = []

    async def take(parallel: http3.AsyncParallel) -> None:
        while parallel.has_pending_responses:
            try:
                got.append((await parallel.next_response(PATIENCE)).tag)
            except http3.NoPendingResponses:
                return

    async with opened(InstantDispatch(), max_workers=5) as parallel:
        for number in range(300):
            parallel.get(f"{URL}/{number}", tag=number)
        async with anyio.create_task_group() as group:
            for _ in range(tasks):
                group.start_soon(take, parallel)
    assert sorted(got) == list(range(300))


async def test_a_wrong_argument_is_raised_at_the_call(dispatch: ScriptedDispatch) -> None:
    async with opened(dispatch) as parallel:
        wrong: dict[str, typing.Any]
        for wrong in ({"colour": "red"}, {"json": object()}, {"timeout": "soon"}, {"auth": 3}):
            with pytest.raises((TypeError, ValueError)):
                parallel.post(URL, **wrong)
        with pytest.raises(TypeError, match="AsyncRequest"):
            parallel.send(URL)  # type: ignore[arg-type]  # that is the test
        assert not parallel.has_pending_responses


# Cancellation.


async def test_a_cancelled_next_response_loses_no_response(dispatch: ScriptedDispatch) -> None:
    async with opened(dispatch) as parallel:
        parallel.get(f"{URL}/a")
        with anyio.move_on_after(0.02):
            await parallel.next_response()
        await respond(dispatch, "/a")
        assert (await parallel.next_response(PATIENCE)).text == "/a"


def after_receiving(parallel: http3.AsyncParallel, do: typing.Callable[[], object]) -> None:
    """Have the loop do that in the same turn: who is woken by what it received is not there yet."""
    submitter = parallel._submitter
    assert submitter is not None
    receive = submitter.completions._receive

    def receive_and_do(handle: typing.Any) -> None:
        receive(handle)
        do()

    submitter.completions._receive = receive_and_do  # type: ignore[method-assign]  # to step in


# A task of trio that was woken is not cancelled before its next checkpoint; one of asyncio is.


def test_one_that_was_woken_and_cancelled_at_once_passes_the_response_on(
    dispatch: ScriptedDispatch,
) -> None:
    async def main() -> None:
        async with opened(dispatch) as parallel:
            parallel.get(f"{URL}/a")
            first = asyncio.create_task(parallel.next_response())
            await wait_until_taking(parallel, 1)
            second = asyncio.create_task(parallel.next_response())
            await wait_until_taking(parallel, 2)
            after_receiving(parallel, first.cancel)
            await respond(dispatch, "/a")
            assert (await second).text == "/a"
            with pytest.raises(asyncio.CancelledError):
                await first

    asyncio.run(main())


async def test_many_cancelled_takers_lose_nothing(switch_interval: None) -> None:
    got: list[typing.Any] = []

    async def take(parallel: http3.AsyncParallel, seconds: float) -> None:
        while parallel.has_pending_responses:
            with anyio.move_on_after(seconds):
                try:
                    response = await parallel.next_response()
                except http3.NoPendingResponses:
                    return
                got.append(response.tag)

    async with opened(InstantDispatch(), max_workers=5) as parallel:
        for number in range(300):
            parallel.get(f"{URL}/{number}", tag=number)
        async with anyio.create_task_group() as group:
            for number in range(6):
                group.start_soon(take, parallel, 0.0002 * number)
    assert sorted(got) == list(range(300))


async def test_a_cancelled_get_response_cancels_its_request_in_flight(
    dispatch: ScriptedDispatch,
) -> None:
    async with opened(dispatch) as parallel:
        pending = await parallel.get(f"{URL}/a")
        exchange = await arrived(dispatch, "/a")
        with anyio.move_on_after(0.02):
            await pending.get_response()
        assert pending.cancelled()
        assert await in_thread(exchange.ended.wait, PATIENCE)
        assert not parallel.has_pending_responses
        with pytest.raises(http3.RequestCancelled):
            await pending.get_response()


async def test_as_long_as_somebody_waits_for_it_a_request_goes_on(
    dispatch: ScriptedDispatch,
) -> None:
    async with opened(dispatch) as parallel, anyio.create_task_group() as tasks:
        pending = await parallel.get(f"{URL}/a")
        got = []

        async def wait() -> None:
            got.append(await pending.get_response())

        tasks.start_soon(wait)
        await wait_until(lambda: pending._events)
        with anyio.move_on_after(0.02):
            await pending.get_response()
        assert not pending.done()
        await respond(dispatch, "/a")
        await wait_until(lambda: got)


def test_a_get_response_cancelled_too_late_gives_its_response_back(
    dispatch: ScriptedDispatch,
) -> None:
    async def main() -> None:
        async with opened(dispatch) as parallel:
            pending = await parallel.get(f"{URL}/a")
            waiting = asyncio.create_task(pending.get_response())
            await wait_until(lambda: pending._events)
            after_receiving(parallel, waiting.cancel)
            await respond(dispatch, "/a")
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert not pending.cancelled()
            assert (await parallel.next_response()).text == "/a"

    asyncio.run(main())


async def test_cancel_ends_all_at_once_and_the_block_goes_on(dispatch: ScriptedDispatch) -> None:
    async with opened(dispatch, max_workers=2) as parallel:
        handles = [parallel.get(f"{URL}/{n}") for n in range(6)]
        exchanges = await in_thread(dispatch.wait_for_arrivals, 2)
        parallel.cancel()
        assert all(pending.cancelled() and pending.done() for pending in handles)
        assert not parallel.has_pending_responses
        for exchange in exchanges:
            assert await in_thread(exchange.ended.wait, PATIENCE)
        for pending in handles:
            with pytest.raises(http3.RequestCancelled):
                await pending.get_response()
        parallel.get(f"{URL}/more")
        await respond(dispatch, "/more")
        assert (await parallel.next_response(PATIENCE)).text == "/more"


async def test_cancel_says_whether_the_request_is_cancelled(dispatch: ScriptedDispatch) -> None:
    async with opened(dispatch) as parallel:
        finished, pending = parallel.get(f"{URL}/a"), parallel.get(f"{URL}/b")
        await respond(dispatch, "/a")
        await finished.get_response()
        assert not finished.cancel()
        assert pending.cancel()
        assert pending.cancel()
        assert "cancelled" in repr(pending)
        assert "done" in repr(finished)


class Lasting(http3.Dispatcher):
    """Answers when it is told to, whatever becomes of the request."""

    def __init__(self) -> None:
        self.script = ScriptedDispatch()
        self.bodies: list[typing.Any] = []

    def send(self, request: http3.Request, context: http3.Context) -> http3.Response:
        lasting = http3.Context(timeout=context.timeout, ssl=context.ssl, abort=http3.Abort())
        return self.script.send(request, lasting)


class Closing:
    def __init__(self) -> None:
        self.closed = False

    def __iter__(self) -> typing.Iterator[bytes]:
        return iter([b"body"])

    def close(self) -> None:
        self.closed = True


async def test_a_response_that_comes_after_the_cancel_is_closed() -> None:
    dispatch, body = Lasting(), Closing()
    async with opened(dispatch) as parallel:
        pending = parallel.get(f"{URL}/a", stream=True)
        exchange = await arrived(dispatch.script, "/a")
        pending.cancel()
        exchange.respond(content=body)
        await wait_until(lambda: body.closed)
        with pytest.raises(http3.RequestCancelled):
            await pending.get_response()


# Leaving.


async def test_leaving_cancels_what_is_queued_and_what_is_in_flight(
    dispatch: ScriptedDispatch,
) -> None:
    async with opened(dispatch, max_workers=2) as parallel:
        finished = parallel.get(f"{URL}/finished")
        await respond(dispatch, "/finished")
        await wait_until(finished.done)
        handles = [parallel.get(f"{URL}/{n}") for n in range(6)]
        await in_thread(dispatch.wait_for_arrivals, 2)
        await parallel.aclose()
        assert dispatch.in_flight == 0
        assert (await finished.get_response()).text == "/finished"
        for pending in handles:
            assert pending.cancelled()
            with pytest.raises(http3.RequestCancelled, match="block was left"):
                await pending.get_response()


async def test_a_closed_block_says_so(dispatch: ScriptedDispatch) -> None:
    async with opened(dispatch) as parallel:
        parallel.get(f"{URL}/a")
        await parallel.aclose()
        await parallel.aclose()
        assert not parallel.has_pending_responses
        assert "closed" in repr(parallel)
        for use in (parallel.next_response, lambda: parallel.get(URL), parallel.__aenter__):
            with pytest.raises(http3.ParallelClosed):
                await use()
        with pytest.raises(http3.ParallelClosed):
            parallel.map([])


@pytest.mark.parametrize("who", ["the block", "the client"])
async def test_closing_wakes_every_waiter(dispatch: ScriptedDispatch, who: str) -> None:
    woken = []

    async def wait_in(wait: typing.Callable[[], typing.Awaitable[object]]) -> None:
        try:
            await wait()
        except (http3.ParallelClosed, http3.RequestCancelled, StopAsyncIteration) as error:
            woken.append(type(error).__name__)

    async def endless() -> AsyncIterator[str]:
        await anyio.sleep_forever()
        yield URL

    async with http3.AsyncClient(dispatch=dispatch, max_workers=4) as client:
        parallel = client.parallel(window=1)
        claimed = await parallel.get(f"{URL}/a")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait_in, claimed.get_response)
            await wait_until(lambda: claimed._events)
            parallel.get(f"{URL}/b")
            tasks.start_soon(wait_in, parallel.next_response)
            await wait_until_taking(parallel)
            tasks.start_soon(wait_in, parallel.map(endless()).__anext__)
            tasks.start_soon(wait_in, parallel.get(f"{URL}/c").get_response)
            await in_thread(dispatch.wait_for_arrivals, 3)
            await (parallel.aclose() if who == "the block" else client.close())
        assert len(woken) == 4


async def test_the_exception_that_left_the_block_is_not_masked(
    dispatch: ScriptedDispatch,
) -> None:
    with pytest.raises(ZeroDivisionError):
        async with opened(dispatch) as parallel:
            parallel.get(f"{URL}/a")
            await arrived(dispatch, "/a")
            raise ZeroDivisionError


async def test_a_cancelled_task_leaves_its_block_with_nothing_in_flight(
    dispatch: ScriptedDispatch,
) -> None:
    async with http3.AsyncClient(dispatch=dispatch) as client:
        with anyio.CancelScope() as scope:
            async with client.parallel() as parallel:
                for number in range(4):
                    parallel.get(f"{URL}/{number}")
                await in_thread(dispatch.wait_for_arrivals, 4)
                scope.cancel()
                await parallel.next_response()
        assert scope.cancelled_caught
        assert dispatch.in_flight == 0


async def test_user_code_in_a_worker_is_not_waited_for() -> None:
    dispatch = Lasting()
    async with opened(dispatch) as parallel:
        pending = parallel.get(f"{URL}/a")
        exchange = await arrived(dispatch.script, "/a")
        with anyio.fail_after(2):
            await parallel.aclose()
        assert pending.cancelled()
        exchange.respond()


async def test_a_block_works_without_async_with_and_knows_no_plain_with(
    dispatch: ScriptedDispatch,
) -> None:
    async with http3.AsyncClient(dispatch=dispatch) as client:
        parallel = client.parallel()
        pending = parallel.get(f"{URL}/a")
        await respond(dispatch, "/a")
        assert (await pending.get_response()).text == "/a"
        await parallel.close()
        with pytest.raises((TypeError, AttributeError)):
            with parallel:  # type: ignore[attr-defined]  # that is the test
                pass


# Room.


async def test_with_a_window_awaiting_a_submission_waits_for_room(
    dispatch: ScriptedDispatch,
) -> None:
    submitted: list[int] = []

    async with opened(dispatch, window=2) as parallel, anyio.create_task_group() as tasks:

        async def produce() -> None:
            for number in range(6):
                await parallel.get(f"{URL}/{number}")
                submitted.append(number)

        tasks.start_soon(produce)
        await in_thread(dispatch.wait_for_arrivals, 3)  # the third was submitted, and waits
        assert submitted == [0, 1]
        await respond(dispatch, "/0")
        pending = await anext_of(parallel)
        assert (await pending.get_response()).text == "/0"
        await wait_until(lambda: submitted == [0, 1, 2])
        # What is claimed counts until it has been had.
        for number in range(1, 6):
            await respond(dispatch, f"/{number}")
            await parallel.next_response()


async def anext_of(parallel: http3.AsyncParallel) -> http3.AsyncPendingResponse:
    async for pending in parallel:
        return pending
    raise AssertionError("nothing is pending")


async def test_without_a_window_awaiting_a_submission_does_not_wait(
    dispatch: ScriptedDispatch,
) -> None:
    async with opened(dispatch) as parallel:
        for number in range(200):
            await parallel.get(f"{URL}/{number}")


async def test_in_flat_memory_a_producer_and_a_consumer_share_a_window() -> None:
    most = 0
    async with opened(InstantDispatch(), window=5) as parallel:
        submitter = parallel._submitter
        assert submitter is not None
        done = anyio.Event()

        async def produce() -> None:
            for number in range(300):
                await parallel.get(f"{URL}/{number}")
            done.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(produce)
            taken = 0
            while not (done.is_set() and not parallel.has_pending_responses):
                try:
                    await parallel.next_response()
                except http3.NoPendingResponses:
                    await anyio.lowlevel.checkpoint()
                    continue
                taken += 1
                most = max(most, submitter.completions.outstanding)
    assert taken == 300
    assert most <= 6


async def test_a_submission_cancelled_while_it_waits_for_room_is_cancelled(
    dispatch: ScriptedDispatch,
) -> None:
    async with opened(dispatch, window=1) as parallel:
        await parallel.get(f"{URL}/a")
        late = parallel.get(f"{URL}/b")
        exchange = await arrived(dispatch, "/b")
        with anyio.move_on_after(0.02):
            await late
        assert late.cancelled()
        assert await in_thread(exchange.ended.wait, PATIENCE)


@pytest.mark.parametrize("window", [0, -1, True, 2.5, "2"])
def test_a_window_is_a_positive_count(window: typing.Any) -> None:
    client = http3.AsyncClient(dispatch=InstantDispatch())
    with pytest.raises((TypeError, ValueError), match="window"):
        client.parallel(window=window)


# Map.


async def numbers(count: int) -> AsyncIterator[str]:
    for number in range(count):
        yield f"{URL}/{number}"


@pytest.mark.parametrize("kind", ["async", "plain"])
async def test_map_reads_at_most_a_window_ahead(kind: str) -> None:
    read = taken = 0

    def urls() -> typing.Iterator[str]:
        nonlocal read
        for number in range(300):
            read += 1
            assert read - taken <= 8
            yield f"{URL}/{number}"

    async def async_urls() -> AsyncIterator[str]:
        for url in urls():
            yield url

    async with opened(InstantDispatch(), max_workers=3) as parallel:
        async for pending in parallel.map(async_urls() if kind == "async" else urls(), window=7):
            assert (await pending.get_response()).status_code == 200
            taken += 1
        assert not parallel.has_pending_responses
    assert taken == 300


async def test_map_hands_out_what_is_there_while_its_input_waits(
    dispatch: ScriptedDispatch,
) -> None:
    go_on = anyio.Event()

    async def urls() -> AsyncIterator[http3.Request | str]:
        yield http3.Request("PUT", f"{URL}/a")
        await go_on.wait()
        yield f"{URL}/b"

    async with opened(dispatch) as parallel:
        results = parallel.map(urls(), tag="t")
        await_first = results.__anext__()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(respond, dispatch, "/a")
            first = await await_first
        response = await first.get_response()
        assert (response.text, response.tag, response.request.method) == ("/a", "t", "PUT")
        go_on.set()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(respond, dispatch, "/b")
            assert (await (await results.__anext__()).get_response()).text == "/b"
        with pytest.raises(StopAsyncIteration):
            await results.__anext__()
        with pytest.raises(StopAsyncIteration):
            await results.__anext__()


async def test_map_has_its_requests_to_itself(dispatch: ScriptedDispatch) -> None:
    async with opened(dispatch) as parallel:
        results = parallel.map(numbers(2), window=2)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(respond, dispatch, "/0")
            await results.__anext__()
        assert not parallel.has_pending_responses
        with pytest.raises(http3.NoPendingResponses):
            await parallel.next_response()


@pytest.mark.parametrize("way", ["closed", "dropped", "cancelled"])
async def test_map_left_early_ends_what_it_started_and_its_input(
    dispatch: ScriptedDispatch, way: str
) -> None:
    closed = anyio.Event()

    async def urls() -> AsyncIterator[str]:
        try:
            for number in range(10):
                yield f"{URL}/{number}"
        finally:
            closed.set()

    async with opened(dispatch) as parallel:
        results = parallel.map(urls(), window=3)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(respond, dispatch, "/0")
            await results.__anext__()
        exchanges = await in_thread(dispatch.wait_for_arrivals, 3)
        if way == "closed":
            await results.aclose()
            assert closed.is_set()
        elif way == "cancelled":
            with anyio.move_on_after(0.02):
                await results.__anext__()
        del results
        gc.collect()
        for exchange in exchanges:
            assert await in_thread(exchange.ended.wait, PATIENCE)
        with anyio.fail_after(PATIENCE):
            await closed.wait()


async def test_map_passes_on_the_error_of_its_input_after_what_is_there(
    dispatch: ScriptedDispatch,
) -> None:
    async def urls() -> AsyncIterator[str]:
        yield f"{URL}/0"
        yield f"{URL}/hangs"
        raise ZeroDivisionError("of the input")

    async with opened(dispatch) as parallel:
        results = parallel.map(urls(), window=3)
        with pytest.raises(ZeroDivisionError, match="of the input"):
            async for _ in results:
                pass
        await wait_until(lambda: dispatch.in_flight == 0)
        with pytest.raises(StopAsyncIteration):
            await results.__anext__()


async def test_map_refuses_what_is_no_request(dispatch: ScriptedDispatch) -> None:
    async with opened(dispatch) as parallel:
        wrong: typing.Any
        for wrong in (URL, http3.URL(URL), http3.AsyncRequest("GET", URL), 3):
            with pytest.raises(TypeError, match="map"):
                parallel.map(wrong)
        with pytest.raises(TypeError, match="colour"):
            parallel.map([], colour="red")  # type: ignore[call-arg]  # that is the test
        with pytest.raises(TypeError, match="int"):
            async for _ in parallel.map(typing.cast("list[str]", [3])):
                pass
        assert [pending async for pending in parallel.map([])] == []


# Limits and deadlines.


async def test_no_more_than_max_workers_run_at_once(dispatch: ScriptedDispatch) -> None:
    async with opened(dispatch, max_workers=3) as parallel:
        for number in range(9):
            parallel.get(f"{URL}/{number}")
        await in_thread(dispatch.wait_for_arrivals, 3)
        for number in range(9):
            await respond(dispatch, f"/{number}")
            await parallel.next_response(PATIENCE)
    assert dispatch.most_in_flight == 3


async def test_a_thousand_for_a_slow_host_never_delay_one_for_another(
    dispatch: ScriptedDispatch,
) -> None:
    async with opened(dispatch, max_workers=8, max_per_host=2) as parallel:
        for number in range(1000):
            parallel.get(f"http://slow.example.com/{number}")
        fast = parallel.get(f"{URL}/fast")
        await respond(dispatch, "/fast")
        assert (await fast.get_response(PATIENCE)).text == "/fast"
        assert dispatch.most_in_flight <= 3


async def test_the_deadline_of_a_request_and_of_the_block(dispatch: ScriptedDispatch) -> None:
    async with opened(dispatch, max_workers=1, deadline=30) as parallel:
        flying = parallel.get(f"{URL}/a", deadline=0.05)
        queued = parallel.get(f"{URL}/b", deadline=0.05)
        for pending in (flying, queued):
            with pytest.raises(http3.DeadlineExceeded):
                await pending.get_response(PATIENCE)
    async with opened(dispatch, deadline=0.05) as parallel:
        parallel.get(f"{URL}/c")
        with pytest.raises(http3.DeadlineExceeded):
            await parallel.next_response(PATIENCE)
        await wait_until(lambda: parallel._block._expired)
        with pytest.raises(http3.DeadlineExceeded):
            await parallel.get(f"{URL}/d").get_response(PATIENCE)


async def test_blocks_of_one_client_share_its_workers_in_turn(dispatch: ScriptedDispatch) -> None:
    async with http3.AsyncClient(dispatch=dispatch, max_workers=4) as client:
        async with client.parallel() as large, client.parallel() as small:
            for number in range(1000):
                large.get(f"{URL}/{number}")
            await in_thread(dispatch.wait_for_arrivals, 4)
            page = small.get(f"{URL}/page")
            await respond(dispatch, "/0", "/1")
            await respond(dispatch, "/page")
            assert (await page.get_response(PATIENCE)).text == "/page"


# What is kept.


class Held:
    """Something to look whether it is still there."""


class Sleeping(InstantDispatch):
    """Answers, but for what hangs. Keeps nothing, not even what it is about."""

    def __init__(self) -> None:
        super().__init__()
        self.asleep = 0

    def send(self, request: http3.Request, context: http3.Context) -> http3.Response:
        if request.url.path == "/hangs":
            self.asleep += 1
            try:
                context.abort.sleep(3 * PATIENCE)
            finally:
                self.asleep -= 1
        return super().send(request, context)


@pytest.mark.parametrize("end", ["response", "error", "cancelled in flight", "cancelled in line"])
async def test_nothing_keeps_what_a_request_has_alive_but_its_owner(end: str) -> None:
    dispatch = Sleeping()
    gc.disable()  # cycles would have to wait for it
    try:
        async with opened(dispatch, max_workers=1) as parallel:
            held = Held()
            reference = weakref.ref(held)
            if end == "response":
                pending = parallel.get(f"{URL}/a", tag=held)
                assert (await pending.get_response()).tag is held
            elif end == "error":
                pending = parallel.get("no url", tag=held)
                with contextlib.suppress(http3.InvalidURL):
                    await pending.get_response()
            else:
                if end == "cancelled in line":
                    parallel.get(f"{URL}/hangs")
                    await wait_until(lambda: dispatch.asleep)
                pending = parallel.get(f"{URL}/hangs", tag=held)
                if end == "cancelled in flight":
                    await wait_until(lambda: dispatch.asleep)
                pending.cancel()
                with contextlib.suppress(http3.RequestCancelled):
                    await pending.get_response()
            del held, pending
            await wait_until(lambda: reference() is None)
    finally:
        gc.enable()


# Loops.


async def test_a_block_belongs_to_the_loop_it_was_first_used_in(
    dispatch: ScriptedDispatch,
) -> None:
    async with opened(dispatch) as parallel:

        async def elsewhere() -> None:
            with pytest.raises(RuntimeError, match="event loop in which the block was first used"):
                parallel.get(URL)

        await in_thread(asyncio.run, elsewhere())


def test_a_block_used_where_no_loop_runs_says_so(dispatch: ScriptedDispatch) -> None:
    client = http3.AsyncClient(dispatch=dispatch)
    parallel = client.parallel()
    with pytest.raises(RuntimeError, match="no event loop is running"):
        parallel.get(URL)
    assert not parallel.has_pending_responses
    parallel.cancel()

    async def main() -> None:
        async with client, parallel:
            parallel.get(f"{URL}/a")
            await respond(dispatch, "/a")
            assert (await parallel.next_response()).text == "/a"

    asyncio.run(main())


def test_a_block_that_a_loop_left_behind_ends_with_its_client(
    dispatch: ScriptedDispatch,
) -> None:
    client = http3.AsyncClient(dispatch=dispatch)

    async def leave_open() -> None:
        parallel = client.parallel()
        parallel.get(f"{URL}/a")
        await arrived(dispatch, "/a")
        kept.append(parallel)

    kept: list[http3.AsyncParallel] = []
    asyncio.run(leave_open())
    asyncio.run(client.close())
    assert dispatch.in_flight == 0


@pytest.mark.parametrize("wrong", [None, object()])
def test_a_block_is_made_by_a_client(wrong: typing.Any) -> None:
    with pytest.raises(TypeError, match=r"AsyncClient\.parallel\(\)"):
        http3.AsyncParallel(wrong, wrong, wrong)
