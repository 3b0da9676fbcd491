"""
Asynchronous code at its edges: several loops, loops that end, bad moments for a cancellation,
requests within requests, closing what is in use, no threads. A hostile review found most of it.
"""

from __future__ import annotations

import _thread
import asyncio
import collections
import contextlib
import functools
import gc
import os
import pathlib
import sys
import threading
import time
import typing
import weakref
from collections.abc import AsyncIterator

import anyio
import anyio.to_thread
import pytest

import event_loops
import http3_parallel as http3
from event_loops import in_thread, wait_until
from holding import held_by_another_thread
from http3_parallel import workers as workers_module
from http3_parallel.asynchronous.bridge import END, Caller, Conversation
from http3_parallel.asynchronous.loops import Loop
from scripted import PATIENCE, InstantDispatch, ScriptedDispatch
from servers import RawServer, Site, drip_body, hang_before_response

URL = "http://example.com"


class Streaming(http3.AsyncDispatcher):
    """Bodies without an end, but for ``/short``. Says what became of them."""

    def __init__(self) -> None:
        self.ended = 0

    async def send(
        self, request: http3.AsyncRequest, context: http3.Context
    ) -> http3.AsyncResponse:
        return http3.AsyncResponse(200, content=self._body(request.url.path))

    async def _body(self, path: str) -> AsyncIterator[bytes]:
        try:
            yield b"first"
            if path != "/short":
                await anyio.sleep_forever()
        finally:
            self.ended += 1


# Between a thread and the loop.


async def test_what_was_told_at_the_very_end_is_taken_before_it() -> None:
    async def speak(conversation: Conversation) -> None: ...

    conversation = Conversation(Caller(Loop.current()), speak)

    class Late(collections.deque[bytes]):
        """Filled by the loop, which then ends, just after the thread has found it empty."""

        def __bool__(self) -> bool:
            was_empty = len(self) == 0
            if was_empty and not conversation._ended:
                self.append(b"last")
                conversation._ended = True
            return not was_empty

    conversation._told = Late()
    abort = http3.Abort()
    assert await in_thread(conversation.take, abort) == b"last"
    assert await in_thread(conversation.take, abort) is END


async def test_a_body_closed_while_another_task_reads_it_is_no_complete_body() -> None:
    async with http3.AsyncClient(dispatch=Streaming()) as client:
        response = await client.get(URL, stream=True)
        outcome: list[object] = []

        async def read() -> None:
            try:
                outcome.append(await response.read())
            except http3.ResponseClosed as error:
                outcome.append(type(error))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            await wait_until(lambda: response._reading)
            await anyio.sleep(0.05)
            await response.close()
        assert outcome == [http3.ResponseClosed]


@pytest.mark.parametrize("what", ["SystemExit", "stray"])
async def test_whatever_a_dispatcher_raises_is_its_requests_error(
    what: str, loop_kind: str
) -> None:
    class Raising(http3.AsyncDispatcher):
        async def send(self, request: typing.Any, context: typing.Any) -> typing.Any:
            if what == "SystemExit":
                raise SystemExit(3)
            # Of a task that it waited for, say.
            raise asyncio.CancelledError

    expected = SystemExit if what == "SystemExit" else http3.RequestCancelled
    if what == "stray" and loop_kind == "trio":
        pytest.skip("in trio that is an exception like any other")
    async with http3.AsyncClient(dispatch=Raising()) as client:
        with pytest.raises(expected):
            await client.get(URL)
        with pytest.raises(expected):
            await client.get(URL)  # the loop goes on


@pytest.mark.parametrize("kind", event_loops.KINDS)
def test_a_loop_that_ends_sets_its_workers_free(kind: str) -> None:
    client = http3.AsyncClient(dispatch=Streaming(), max_workers=1)

    async def leave_open() -> None:
        client.parallel(max_workers=1).get(URL)

    async def use() -> bytes:
        with anyio.fail_after(PATIENCE):
            return (await client.get(f"{URL}/short")).content

    event_loops.run(kind, leave_open)
    assert event_loops.run(kind, use) == b"first"
    asyncio.run(client.close())


def test_tasks_cancelled_before_their_first_step_hold_up_nobody() -> None:
    async def main() -> None:
        async with http3.AsyncClient(dispatch=Streaming(), max_workers=2) as client:
            for _ in range(30):
                calls = [asyncio.ensure_future(client.get(f"{URL}/short")) for _ in range(4)]
                await asyncio.sleep(0)
                for task in asyncio.all_tasks() - {asyncio.current_task()}:
                    task.cancel()
                await asyncio.gather(*calls, return_exceptions=True)
            assert (await client.get(f"{URL}/short")).content == b"first"

    event_loops.run("asyncio", main)


async def test_an_error_that_was_passed_on_leaves_the_coroutine_it_came_by_alone() -> None:
    """Before Python 3.13, clearing the frame of one that is suspended closes it."""
    state: list[str] = []

    class Reconnecting(http3.AsyncDispatcher):
        async def send(self, request: typing.Any, context: typing.Any) -> typing.Any:
            raise await failure

    class Failure:
        def __init__(self) -> None:
            self.error: Exception | None = None
            self.there = anyio.Event()

        def __await__(self) -> typing.Any:
            return self._wait().__await__()

        async def _wait(self) -> Exception:
            await self.there.wait()
            assert self.error is not None
            return self.error

    failure, go_on = Failure(), anyio.Event()

    async def keep_connected() -> None:
        try:
            raise http3.ReadError("broke")
        except http3.ReadError as error:
            failure.error = error
            failure.there.set()
        try:
            await go_on.wait()
            state.append("went on")
        except GeneratorExit:
            state.append("closed")
            raise

    async with http3.AsyncClient(dispatch=Reconnecting()) as client:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(keep_connected)
            with pytest.raises(http3.ReadError):
                await client.get(URL)
            go_on.set()
    assert state == ["went on"]


async def test_what_closing_a_response_raises_comes_out_of_it() -> None:
    class Failing:
        def __iter__(self) -> typing.Iterator[bytes]:
            return iter([b"body"])

        def close(self) -> None:
            raise ZeroDivisionError("of the body")

    class Own(http3.Dispatcher):
        def send(self, request: http3.Request, context: http3.Context) -> http3.Response:
            return http3.Response(200, content=Failing(), request=request)

    async with http3.AsyncClient(dispatch=Own()) as client:
        response = await client.get(URL, stream=True)
        with pytest.raises(ZeroDivisionError, match="of the body"):
            await response.close()
        assert response.is_closed


def test_who_comes_to_read_while_a_response_is_being_closed_finds_it_closed() -> None:
    response = http3.Response(200, content=iter([b"body"]))
    stream = response._stream
    assert stream is not None
    with held_by_another_thread(stream._lock):
        response.close()
        with pytest.raises(http3.ResponseClosed):
            response.read()


# Requests within requests.


class Fanning(http3.AsyncDispatcher):
    """Answers ``/outer`` with what the same client gets for ``/inner``."""

    client: http3.AsyncClient

    async def send(
        self, request: http3.AsyncRequest, context: http3.Context
    ) -> http3.AsyncResponse:
        path = request.url.path
        if path == "/outer":
            inner = await self.client.get(f"{URL}/between")
        elif path == "/between":
            async with self.client.parallel(max_workers=1) as parallel:
                inner = await parallel.get(f"{URL}/inner").get_response()
        else:
            return http3.AsyncResponse(200, content=b"inner")
        return http3.AsyncResponse(200, content=inner.content)


async def test_requests_made_while_a_request_is_answered_do_not_wait_for_its_worker() -> None:
    dispatch = Fanning()
    async with http3.AsyncClient(dispatch=dispatch, max_workers=2) as client:
        dispatch.client = client
        async with client.parallel() as parallel:
            for _ in range(8):
                parallel.get(f"{URL}/outer")
            texts = [(await pending.get_response(PATIENCE)).text async for pending in parallel]
        assert texts == 8 * ["inner"]
        assert len(client._plain) == 1, "each depth has its block, not each request"


async def test_a_hook_may_run_a_loop_by_anyio() -> None:
    def sign(request: http3.Request) -> http3.Request:
        async def token() -> str:
            await anyio.sleep(0)
            return "token"

        request.headers["x-token"] = anyio.run(token)
        return request

    async with http3.AsyncClient(dispatch=InstantDispatch()) as client:
        response = await client.get(URL, auth=sign)
        assert response.request.headers["x-token"] == "token"


# Loops.


def test_a_thread_may_go_from_one_loop_to_another_and_back() -> None:
    with (
        contextlib.closing(asyncio.new_event_loop()) as one,
        contextlib.closing(asyncio.new_event_loop()) as other,
        http3.Client(dispatch=InstantDispatch()),
    ):
        client = http3.AsyncClient(dispatch=InstantDispatch())
        parallel = one.run_until_complete(client.parallel().__aenter__())

        async def submit() -> None:
            parallel.get(f"{URL}/a")

        one.run_until_complete(submit())
        other.run_until_complete(client.get(URL))
        assert one.run_until_complete(parallel.next_response()).text == "/a"
        one.run_until_complete(parallel.aclose())
        other.run_until_complete(client.close())


@pytest.mark.parametrize("what", ["await", "get_response", "next_response", "iterate", "map"])
async def test_waiting_in_another_loop_is_an_error_rather_than_for_ever(what: str) -> None:
    dispatch = ScriptedDispatch()
    async with http3.AsyncClient(dispatch=dispatch) as client, client.parallel() as parallel:
        pending = parallel.get(f"{URL}/a")
        handles, mapped = parallel.as_completed(), parallel.map([URL])

        async def wait() -> None:
            waits: dict[str, typing.Any] = {
                "await": pending.__await__,
                "get_response": pending.get_response,
                "next_response": parallel.next_response,
                "iterate": handles.__anext__,
                "map": mapped.__anext__,
            }
            with pytest.raises(RuntimeError, match="event loop in which the block was first used"):
                if what == "await":
                    await pending
                else:
                    await waits[what]()

        await in_thread(asyncio.run, wait())


def test_a_block_left_behind_by_its_loop_can_be_closed_in_another() -> None:
    dispatch = ScriptedDispatch()
    client = http3.AsyncClient(dispatch=dispatch)
    kept: list[http3.AsyncParallel] = []

    async def leave() -> None:
        kept.append(client.parallel())
        kept[0].get(URL)
        await in_thread(dispatch.wait_for_arrivals, 1)

    asyncio.run(leave())
    asyncio.run(kept[0].aclose())
    assert dispatch.in_flight == 0
    asyncio.run(client.close())


async def test_a_response_may_be_read_in_another_loop(server: Site) -> None:
    server.answer("/", b"x" * 100_000)
    async with http3.AsyncClient() as client:
        response = await client.get(server.url, stream=True)
        assert await in_thread(lambda: asyncio.run(response.read())) == b"x" * 100_000


def test_an_interrupt_while_a_loop_is_woken_does_not_make_it_deaf() -> None:
    async def main() -> None:
        loop = Loop.current()
        wake, called = loop._wake, anyio.Event()

        class Slotted(Loop):
            __slots__ = ("interrupted",)

            def _wake(self) -> None:
                if not hasattr(self, "interrupted"):
                    self.interrupted = True
                    raise KeyboardInterrupt
                super()._wake()

        loop = Slotted(loop._native)
        with pytest.raises(KeyboardInterrupt):
            loop.call_soon(int)
        loop.call_soon(called.set)
        with anyio.fail_after(PATIENCE):
            await called.wait()
        del wake

    event_loops.run("asyncio", main)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in Python 3.12")
def test_eager_tasks_are_forgotten_when_they_have_ended() -> None:
    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined, unused-ignore]
        async with http3.AsyncClient(dispatch=Streaming()) as client, client.parallel() as parallel:
            for _ in range(20):
                await parallel.get(f"{URL}/short").get_response()
            submitter = parallel._submitter
            assert submitter is not None
            await wait_until(lambda: not submitter.completions.caller.tasks)

    event_loops.run("asyncio", main)


# Cancellation.


def test_cancelled_again_while_it_leaves_a_task_still_leaves_nothing_behind() -> None:
    """By asyncio's own cancel(), which minds no shield."""

    async def main(url: str) -> None:
        async with http3.AsyncClient() as client:

            async def use() -> None:
                async with client.parallel(max_workers=8) as parallel:
                    blocks.append(parallel)
                    for _ in range(8):
                        parallel.get(url)
                    await asyncio.sleep(3600)

            for _ in range(5):
                blocks: list[http3.AsyncParallel] = []
                task = asyncio.create_task(use())
                await wait_until(lambda: blocks and len(blocks[0]._block._executing) == 8)  # noqa: B023
                task.cancel()
                for _ in range(4):
                    await asyncio.sleep(0)
                    task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert not blocks[0]._block._executing

    with RawServer(hang_before_response) as server:
        event_loops.run("asyncio", functools.partial(main, server.url))
        assert server.wait_all_closed()


def test_a_task_cancelled_just_before_it_leaves_closes_its_streams() -> None:
    async def main(url: str) -> None:
        async with http3.AsyncClient() as client:

            async def use() -> None:
                async with client.parallel() as parallel:
                    responses.append(await parallel.get(url, stream=True).get_response())
                    task.cancel()

            async def use_one() -> None:
                async with await client.get(url, stream=True) as response:
                    responses.append(response)
                    task.cancel()

            responses: list[http3.AsyncResponse] = []
            for function in 5 * [use, use_one]:
                task = asyncio.create_task(function())
                with pytest.raises(asyncio.CancelledError):
                    await task
            assert all(response.is_closed for response in responses)

    with RawServer(drip_body) as server:
        event_loops.run("asyncio", functools.partial(main, server.url))
        assert server.wait_all_closed()


async def test_one_that_is_cancelled_before_it_waits_ends_its_request_too() -> None:
    dispatch = ScriptedDispatch()
    async with http3.AsyncClient(dispatch=dispatch) as client, client.parallel() as parallel:
        for number in range(20):
            pending = parallel.get(f"{URL}/{number}")
            with anyio.CancelScope() as scope:
                scope.cancel()
                await pending.get_response()
            assert pending.cancelled()


def test_what_one_task_has_had_is_not_given_back_by_another_that_is_cancelled() -> None:
    async def main() -> None:
        dispatch = ScriptedDispatch()
        async with http3.AsyncClient(dispatch=dispatch) as client, client.parallel() as parallel:
            pending = parallel.get(f"{URL}/a")

            async def first() -> None:
                await pending.get_response()
                second_task.cancel()

            first_task = asyncio.create_task(first())
            await wait_until(lambda: pending._events)
            second_task = asyncio.create_task(pending.get_response())
            await wait_until(lambda: len(pending._events) == 2)
            (await in_thread(dispatch.exchange, "/a")).respond()
            await first_task
            with contextlib.suppress(asyncio.CancelledError):
                await second_task
            assert not parallel.has_pending_responses

    event_loops.run("asyncio", main)


async def test_a_handle_that_is_cancelled_waits_for_room_no_longer() -> None:
    dispatch = ScriptedDispatch()
    async with http3.AsyncClient(dispatch=dispatch) as client:
        async with client.parallel(window=1) as parallel:
            await parallel.get(f"{URL}/a")
            late = parallel.get(f"{URL}/b")
            admitted = anyio.Event()

            async def admit() -> None:
                await late
                admitted.set()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(admit)
                submitter = parallel._submitter
                assert submitter is not None
                await wait_until(lambda: submitter.completions._waiting_for_room)
                late.cancel()
                with anyio.fail_after(PATIENCE):
                    await admitted.wait()


async def test_a_step_of_a_map_that_is_cancelled_loses_nothing() -> None:
    dispatch = ScriptedDispatch()
    async with http3.AsyncClient(dispatch=dispatch) as client, client.parallel() as parallel:
        results = parallel.map([f"{URL}/a", f"{URL}/b"])
        with anyio.move_on_after(0.02):
            await results.__anext__()
        got = []
        for path in ("/a", "/b"):
            (await in_thread(dispatch.exchange, path)).respond(content=path.encode())
            got.append((await (await results.__anext__()).get_response()).text)
        assert got == ["/a", "/b"]


async def test_the_input_of_a_map_ends_with_the_block() -> None:
    closed = anyio.Event()

    async def waits() -> AsyncIterator[str]:
        try:
            yield f"{URL}/a"
            await anyio.sleep_forever()
        finally:
            closed.set()

    async with http3.AsyncClient(dispatch=InstantDispatch()) as client:
        async with client.parallel() as parallel:
            results = parallel.map(waits())
            await results.__anext__()
        assert closed.is_set()
        with pytest.raises(http3.ParallelClosed):
            await results.__anext__()


# Closing what is in use.


async def test_closing_a_client_does_not_wait_for_those_who_read_its_streams() -> None:
    with RawServer(drip_body) as server:
        client = http3.AsyncClient()
        response = await client.get(server.url, stream=True)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(response.read)
            await wait_until(lambda: response._reading)
            closing = time.monotonic()
            await client.close()
            assert time.monotonic() - closing < 1
            assert not response.is_closed
            tasks.cancel_scope.cancel()
        await wait_until(lambda: response.is_closed)
        assert await in_thread(server.wait_all_closed)


async def test_a_stream_that_is_read_after_its_client_was_closed_can_be_closed() -> None:
    with RawServer(drip_body) as server:
        client = http3.AsyncClient()
        response = await client.get(server.url, stream=True)
        await client.close()

        async def read() -> None:
            with pytest.raises(http3.ResponseClosed):
                await response.read()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            await wait_until(lambda: response._reading)
            with anyio.fail_after(PATIENCE):
                await response.close()
        assert await in_thread(server.wait_all_closed)


async def test_a_block_and_its_client_may_be_left_at_the_same_time() -> None:
    with RawServer(hang_before_response) as server:
        for _ in range(6):
            client = http3.AsyncClient()
            leaving = anyio.Event()

            async def use(
                client: http3.AsyncClient = client, leaving: anyio.Event = leaving
            ) -> None:
                async with client.parallel(max_workers=4) as parallel:
                    for _ in range(8):
                        parallel.get(server.url)
                    await wait_until(lambda: len(parallel._block._executing) == 4)
                    leaving.set()

            began = time.monotonic()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(use)
                await leaving.wait()
                await client.close()
            assert time.monotonic() - began < 3


async def test_streams_that_are_read_take_nothing_from_those_that_are_not() -> None:
    with RawServer(drip_body) as server:
        limits = http3.PoolLimits(hard_limit=2)
        async with http3.AsyncClient(pool_limits=limits, max_workers=2) as client:
            one = await client.get(server.url, stream=True)
            other = await client.get(server.url, stream=True)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(one.read)
                await wait_until(lambda: one._reading)
                with anyio.fail_after(PATIENCE):
                    await client.build_request("GET", URL)
                    await other.close()
                tasks.cancel_scope.cancel()


async def test_an_input_that_cleans_up_for_ever_does_not_keep_its_loop_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("http3_parallel.asynchronous.bridge.CLEANUP_SECONDS", 0.05)

    class Stubborn:
        def __aiter__(self) -> Stubborn:
            return self

        async def __anext__(self) -> bytes:
            await anyio.sleep_forever()
            return b""

        async def aclose(self) -> None:
            await anyio.sleep_forever()

    with RawServer(hang_before_response) as server:
        async with http3.AsyncClient() as client:
            with pytest.raises(http3.DeadlineExceeded):
                await client.post(server.url, data=Stubborn(), deadline=0.05)


async def test_a_dropped_client_and_its_threads_do_not_wait_for_the_collector(
    server: Site,
) -> None:
    server.answer("/", "here")
    gc.collect()
    gc.disable()
    try:
        client: http3.AsyncClient | None = http3.AsyncClient()
        assert client is not None
        reference = weakref.ref(client)
        response = await client.get(server.url)
        workers = client._engine.here().workers
        del client
        await wait_until(lambda: reference() is None and workers.stopped)
        assert response.text == "here"
    finally:
        gc.enable()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("kind", event_loops.KINDS)
def test_leaving_a_block_in_a_forked_child_ends_nothing_and_masks_nothing(
    server: Site, kind: str
) -> None:
    async def main() -> None:
        client = http3.AsyncClient()
        parallel = client.parallel()
        flying = parallel.get(f"{server.url}/wait/a")
        assert await in_thread(server.wait_for_request, "/wait/a")
        child = os.fork()
        if child == 0:
            status = 1
            try:
                began = time.monotonic()
                try:
                    async with contextlib.AsyncExitStack() as stack:
                        stack.push_async_exit(parallel)
                        raise KeyError("of the user's")
                except KeyError:
                    status = 0 if time.monotonic() - began < 2 else 2
            finally:
                os._exit(status)
        _, status = await in_thread(os.waitpid, child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        server.release("a")
        assert (await flying.get_response()).text == "a"
        await client.close()

    event_loops.run(kind, main)


async def test_without_a_thread_to_wait_in_a_client_is_closed_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dispatch = ScriptedDispatch()
    client = http3.AsyncClient(dispatch=dispatch)
    pending = client.parallel().get(URL)
    await in_thread(dispatch.wait_for_arrivals, 1)

    def refuse(*args: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(_thread, "start_new_thread", refuse)
        with anyio.fail_after(PATIENCE):
            await client.close()
    await in_thread(dispatch.wait_until_idle)
    with pytest.raises(http3.RequestCancelled):
        await pending.get_response()
    await client.close()


async def test_a_plain_call_whose_client_is_closed_speaks_of_no_block() -> None:
    dispatch = ScriptedDispatch()
    client = http3.AsyncClient(dispatch=dispatch)

    async def get() -> None:
        with pytest.raises(http3.RequestCancelled, match="the client was closed"):
            await client.get(URL)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(get)
        await in_thread(dispatch.wait_for_arrivals, 1)
        await client.close()


# The threads behind it.


def test_what_a_foreman_that_has_ended_is_told_is_done_all_the_same() -> None:
    workers = workers_module.Workers(1)
    done = [threading.Event() for _ in range(3)]
    workers.call_soon(done[0].set)
    assert done[0].wait(PATIENCE)
    workers.stop(PATIENCE)
    for event in done[1:]:
        workers.call_soon(event.set)
        assert event.wait(PATIENCE)


@pytest.mark.parametrize("stopped", [False, True])
def test_without_a_thread_what_a_foreman_is_told_is_refused(
    monkeypatch: pytest.MonkeyPatch, stopped: bool
) -> None:
    refused: list[BaseException] = []

    class Job:
        def __call__(self) -> None:
            raise AssertionError("there was no thread")

        def refused(self, error: BaseException) -> None:
            refused.append(error)

    def refuse(*args: object) -> None:
        raise RuntimeError("can't start new thread")

    workers = workers_module.Workers(1)
    if stopped:
        workers.stop_soon()
    monkeypatch.setattr(_thread, "start_new_thread", refuse)
    workers.call_soon(Job())
    assert [str(error) for error in refused] == ["can't start new thread"]


def test_a_job_that_comes_as_its_workers_are_stopped_is_refused() -> None:
    refused: list[BaseException] = []
    workers = workers_module.Workers(1)

    class Job:
        def __call__(self) -> None: ...

        def refused(self, error: BaseException) -> None:
            refused.append(error)

    class Stopping(workers_module.Workers):
        def ensure(self) -> None:
            self.stop_soon()  # by another thread, after the look whether it is

    workers = Stopping(1)
    workers.submit(Job())
    assert len(refused) == 1


# Asynchronous files.


async def test_asynchronous_files_are_sent(server: Site, tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 100_000)

    class Upload:
        """As web frameworks have it: no iterable, and its file is somewhere."""

        def __init__(self) -> None:
            self._pieces = [b"one", b"two"]

        async def read(self, size: int = -1) -> bytes:
            return self._pieces.pop(0) if self._pieces else b""

    async with http3.AsyncClient() as client, client.parallel() as parallel:
        async with await anyio.open_file(tmp_path / "file", "rb") as file:
            await client.post(f"{server.url}/a", data=file)
        await parallel.post(
            f"{server.url}/b", data=typing.cast(typing.Any, Upload())
        ).get_response()
    assert server.requests_for("/a")[0].body == b"x" * 100_000
    assert server.requests_for("/b")[0].body == b"onetwo"
    with http3.Client() as plain, pytest.raises(TypeError, match="asynchronous"):
        plain.post(server.url, data=typing.cast(typing.Any, Upload()))


# Mistakes that say what is meant.


@pytest.mark.parametrize("name", ["follow_redirects", "limits", "transport", "deadline"])
def test_an_argument_that_other_clients_take_is_refused_with_a_hint(name: str) -> None:
    with pytest.raises(TypeError, match=f"'{name}': .*[a-z]"):
        http3.AsyncClient(**{name: None})  # type: ignore[arg-type]  # that is the test


async def test_an_error_names_its_request_in_its_repr_too() -> None:
    failing = InstantDispatch(lambda request: http3.ReadError("broke"))
    async with http3.AsyncClient(dispatch=failing) as client:
        with pytest.raises(http3.ReadError) as caught:
            await client.get(f"{URL}/a?token=secret")
    assert repr(caught.value) == "ReadError('broke [GET http://example.com/a?token=…]')"


async def test_what_is_mistaken_for_a_response_or_a_block_says_so() -> None:
    mistaken: typing.Any
    async with http3.AsyncClient(dispatch=InstantDispatch()) as client:
        async with client.parallel() as mistaken:
            with pytest.raises(AttributeError, match=r"await pending\.get_response\(\)"):
                _ = mistaken.get(URL).status_code
            with pytest.raises(AttributeError, match="'nonsense'"):
                _ = mistaken.get(URL).nonsense
            with pytest.raises(TypeError, match="async with"):
                with mistaken:
                    pass
        mistaken = client
        with pytest.raises(AttributeError, match="stream=True"):
            mistaken.stream("GET", URL)
        with pytest.raises(TypeError, match="async with"):
            with mistaken:
                pass
        with pytest.raises(AttributeError, match="'nonsense'"):
            mistaken.nonsense()
    mistaken = http3.parallel
    with pytest.raises(TypeError, match="AsyncClient"):
        async with mistaken():
            pass
