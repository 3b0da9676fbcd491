"""What a block promises, against a scripted dispatcher: no network, and no sleeps."""

from __future__ import annotations

import concurrent.futures
import contextvars
import gc
import sys
import threading
import time
import traceback
import typing
import weakref

import pytest

import http3_parallel as http3
from scripted import PATIENCE, InstantDispatch, ScriptedDispatch

URL = "http://example.com"


@pytest.fixture
def dispatch() -> ScriptedDispatch:
    return ScriptedDispatch()


@pytest.fixture
def client(dispatch: ScriptedDispatch) -> typing.Iterator[http3.Client]:
    with http3.Client(dispatch=dispatch, max_workers=8) as client:
        yield client


@pytest.fixture
def parallel(client: http3.Client) -> typing.Iterator[http3.Parallel]:
    with client.parallel() as parallel:
        yield parallel


def in_thread(function: typing.Callable[[], typing.Any]) -> concurrent.futures.Future[typing.Any]:
    """Runs it in a thread of its own."""
    future: concurrent.futures.Future[typing.Any] = concurrent.futures.Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def wait_until_waiting(parallel: http3.Parallel, count: int = 1) -> None:
    """Until so many threads wait in next_response()."""
    deadline = threading.Event()
    for _ in range(2000):
        if len(parallel._completions._waiters) >= count:
            return
        deadline.wait(0.005)
    raise AssertionError("nobody waits")


# Order, and handing out.


def test_responses_come_in_the_order_they_complete(parallel, dispatch):
    for path in "abc":
        parallel.get(f"{URL}/{path}")
    got = []
    for path in "cab":
        dispatch.exchange(f"/{path}").respond(content=path.encode())
        got.append(parallel.next_response(PATIENCE).text)
    assert got == ["c", "a", "b"]
    assert not parallel.has_pending_responses


def test_a_finished_response_does_not_wait_for_a_slow_one_submitted_before(parallel, dispatch):
    parallel.get(f"{URL}/slow")
    parallel.get(f"{URL}/fast")
    dispatch.exchange("/fast").respond(content=b"fast")
    assert parallel.next_response(PATIENCE).text == "fast"
    assert parallel.has_pending_responses


def test_get_response_returns_the_same_response_each_time(parallel, dispatch):
    pending = parallel.get(f"{URL}/a")
    dispatch.exchange("/a").respond()
    assert pending.get_response(PATIENCE) is pending.get_response()
    assert pending.done()
    assert not pending.cancelled()


def test_what_get_response_returned_next_response_does_not(parallel, dispatch):
    one, _two = parallel.get(f"{URL}/1"), parallel.get(f"{URL}/2")
    for path in ("/1", "/2"):
        dispatch.exchange(path).respond(content=path.encode())
    assert one.get_response(PATIENCE).text == "/1"
    assert parallel.next_response(PATIENCE).text == "/2"
    with pytest.raises(http3.NoPendingResponses):
        parallel.next_response()


def test_next_response_with_nothing_submitted_raises_instead_of_waiting(parallel):
    assert not parallel.has_pending_responses
    with pytest.raises(LookupError):
        parallel.next_response()


def test_next_response_wakes_when_another_thread_claims_the_last_one(parallel, dispatch):
    pending = parallel.get(f"{URL}/a")
    waiting = in_thread(parallel.next_response)
    wait_until_waiting(parallel)
    claimed = in_thread(pending.get_response)
    with pytest.raises(http3.NoPendingResponses):
        waiting.result(PATIENCE)
    dispatch.exchange("/a").respond(content=b"a")
    assert claimed.result(PATIENCE).text == "a"


def test_next_response_wakes_when_the_last_one_is_cancelled(parallel, dispatch):
    pending = parallel.get(f"{URL}/a")
    waiting = in_thread(parallel.next_response)
    wait_until_waiting(parallel)
    assert pending.cancel()
    with pytest.raises(http3.NoPendingResponses):
        waiting.result(PATIENCE)


def test_a_wait_that_ran_out_leaves_the_request_to_go_on(parallel, dispatch):
    pending = parallel.get(f"{URL}/a")
    with pytest.raises(http3.WaitTimeout) as caught:
        parallel.next_response(timeout=0.01)
    assert not isinstance(caught.value, http3.HTTPError)
    assert isinstance(caught.value, (TimeoutError, concurrent.futures.TimeoutError))
    with pytest.raises(http3.WaitTimeout):
        pending.get_response(timeout=0)
    dispatch.exchange("/a").respond(content=b"a")
    assert parallel.next_response(PATIENCE).text == "a", "the claim was not given back"


def test_a_timeout_of_zero_returns_what_is_there(parallel, dispatch):
    pending = parallel.get(f"{URL}/a")
    dispatch.exchange("/a").respond(content=b"a")
    concurrent.futures.wait([pending.future], PATIENCE)
    assert parallel.next_response(timeout=0).text == "a"


def test_as_completed_yields_handles_those_submitted_meanwhile_included(parallel, dispatch):
    parallel.get(f"{URL}/1", tag=1)
    seen = []
    dispatch.exchange("/1").respond()
    for pending in parallel:
        seen.append(pending.tag)
        if pending.tag < 5:
            parallel.get(f"{URL}/{pending.tag + 1}", tag=pending.tag + 1)
            dispatch.exchange(f"/{pending.tag + 1}").respond()
    assert seen == [1, 2, 3, 4, 5]


def test_iterating_raises_no_error_but_its_handle_does(parallel, dispatch):
    parallel.get(f"{URL}/a")
    dispatch.exchange("/a").fail(http3.ReadError("broken"))
    (pending,) = parallel.as_completed(PATIENCE)
    with pytest.raises(http3.ReadError, match="broken"):
        pending.get_response()


def test_as_completed_gives_up_at_its_timeout(parallel):
    parallel.get(f"{URL}/a")
    with pytest.raises(http3.WaitTimeout):
        list(parallel.as_completed(timeout=0.01))


@pytest.mark.parametrize("threads", [6])
def test_every_response_is_handed_out_exactly_once(threads, switch_interval):
    with http3.Client(dispatch=InstantDispatch(), max_workers=8) as client:
        with client.parallel() as parallel:
            taken: list[str] = []
            claimed: list[str] = []
            submitted = 1200

            def submit() -> None:
                for n in range(submitted):
                    pending = parallel.get(f"{URL}/{n}")
                    if n % 3 == 0:
                        claimed.append(pending.get_response(PATIENCE).text)
                    if n % 50 == 0:
                        assert parallel.get(f"{URL}/cancelled-{n}").cancel() in (True, False)
                for _ in range(threads):
                    parallel.get(f"{URL}/end")

            def take() -> None:
                while True:
                    try:
                        text = parallel.next_response(PATIENCE).text
                    except http3.NoPendingResponses:
                        continue
                    if text == "/end":
                        return
                    taken.append(text)

            def iterate() -> None:
                while True:
                    for pending in parallel.as_completed(PATIENCE):
                        text = pending.get_response().text
                        if text == "/end":
                            return
                        taken.append(text)

            running = [in_thread(take if n % 2 else iterate) for n in range(threads)]
            in_thread(submit).result(60)
            for future in running:
                future.result(60)
            while parallel.has_pending_responses:
                taken.append(parallel.next_response(PATIENCE).text)
    taken = [text for text in taken if not text.startswith("/cancelled") and text != "/end"]
    assert len(taken) == len(set(taken)), "a response was handed out twice"
    # get_response() may come when the response was handed out already: then it repeats it.
    assert claimed == [f"/{n}" for n in range(0, submitted, 3)]
    assert {*taken, *claimed} == {f"/{n}" for n in range(submitted)}


# Errors.


def test_an_error_appears_only_where_the_response_is_asked_for(parallel, dispatch):
    pending = parallel.get(f"{URL}/a")
    dispatch.exchange("/a").fail(http3.ReadTimeout("too slow"))
    with pytest.raises(http3.ReadTimeout) as first:
        pending.get_response(PATIENCE)
    with pytest.raises(http3.ReadTimeout) as second:
        pending.get_response()
    assert first.value is second.value


def test_an_error_knows_its_request(parallel, dispatch):
    tag = object()
    pending = parallel.post(f"{URL}/a?key=secret", data=b"x", tag=tag)
    dispatch.exchange("/a?key=secret").fail(http3.ReadError("broken"))
    with pytest.raises(http3.ReadError) as caught:
        parallel.next_response(PATIENCE)
    error = caught.value
    assert error.request is pending.request
    assert (error.method, str(error.url), error.tag) == ("POST", f"{URL}/a?key=secret", tag)
    assert "POST http://example.com/a" in str(error)
    assert "secret" not in str(error)


def test_a_failed_request_can_be_submitted_again(parallel, dispatch):
    parallel.get(f"{URL}/a", tag=7)
    dispatch.exchange("/a").fail(http3.ReadError("broken"))
    with pytest.raises(http3.HTTPError) as caught:
        parallel.next_response(PATIENCE)
    again = parallel.send(caught.value.request, tag=caught.value.tag)
    dispatch.exchange("/a").respond(content=b"this time")
    assert again.get_response(PATIENCE).text == "this time"
    assert again.get_response().tag == 7


@pytest.mark.parametrize("url", ["nonsense", "http://", "ftp://example.com/", "http://a:99999/"])
def test_an_invalid_url_is_an_error_of_the_request(parallel, url):
    pending = parallel.get(url, tag="t")
    assert parallel.has_pending_responses
    assert pending.done()
    assert pending.request is None
    with pytest.raises(http3.InvalidURL) as caught:
        parallel.next_response(PATIENCE)
    assert caught.value.tag == "t"
    assert caught.value.request is None
    with pytest.raises(http3.InvalidURL):
        pending.get_response()


@pytest.mark.parametrize(
    "options",
    [
        {"nonsense": 1},
        {"timeout": "soon"},
        {"deadline": "soon"},
        {"auth": 7},
        {"headers": {"a": None}},
        {"data": b"a get has no body"},
    ],
)
def test_a_wrong_argument_is_raised_at_the_call(parallel, options):
    with pytest.raises((TypeError, ValueError)):
        parallel.get(f"{URL}/", **options)
    assert not parallel.has_pending_responses


def test_an_error_raised_repeatedly_does_not_grow_its_traceback(parallel, dispatch):
    pending = parallel.get(f"{URL}/a")
    dispatch.exchange("/a").fail(http3.ReadError("broken"))
    lengths = []
    for _ in range(5):
        with pytest.raises(http3.ReadError) as caught:
            pending.get_response(PATIENCE)
        lengths.append(len(traceback.extract_tb(caught.value.__traceback__)))
    assert len(set(lengths)) == 1


def test_an_exception_of_user_code_comes_out_unchanged_and_names_the_request(parallel):
    class Mine(Exception):
        pass

    def auth(request: http3.Request) -> http3.Request:
        raise Mine("of my own")

    pending = parallel.get(f"{URL}/a", auth=auth)
    with pytest.raises(Mine) as caught:
        pending.get_response(PATIENCE)
    assert str(caught.value) == "of my own"
    if sys.version_info >= (3, 11):
        assert any("GET http://example.com/a" in note for note in caught.value.__notes__)


def test_a_tag_comes_back_on_the_handle_and_on_the_response(parallel, dispatch):
    tag = object()
    pending = parallel.get(f"{URL}/a", tag=tag)
    dispatch.exchange("/a").respond()
    assert pending.tag is tag
    assert parallel.next_response(PATIENCE).tag is tag


# Ending.


def test_leaving_the_block_cancels_what_is_queued_and_what_is_in_flight(client, dispatch):
    with client.parallel(max_workers=2) as parallel:
        handles = [parallel.get(f"{URL}/{n}") for n in range(20)]
        in_flight = dispatch.wait_for_arrivals(2)
    assert dispatch.in_flight == 0
    assert all(exchange.ended.is_set() for exchange in in_flight)
    assert all(handle.cancelled() for handle in handles)
    for handle in handles:
        with pytest.raises(http3.RequestCancelled) as caught:
            handle.get_response()
        assert caught.value.request is handle.request


def test_what_finished_before_the_exit_stays(client, dispatch):
    with client.parallel() as parallel:
        done, lost = parallel.get(f"{URL}/done"), parallel.get(f"{URL}/lost")
        dispatch.exchange("/done").respond(content=b"kept")
        concurrent.futures.wait([done.future], PATIENCE)
    assert done.get_response().text == "kept"
    with pytest.raises(http3.RequestCancelled):
        lost.get_response()


def test_a_response_that_comes_after_the_cancel_goes_nowhere(parallel, dispatch):
    release = threading.Event()

    def auth(request: http3.Request) -> http3.Request:
        entered.set()
        release.wait(PATIENCE)
        return request

    entered = threading.Event()
    pending = parallel.get(f"{URL}/a", auth=auth)
    assert entered.wait(PATIENCE)
    assert pending.cancel()
    release.set()
    with pytest.raises(http3.RequestCancelled):
        pending.get_response(PATIENCE)
    assert not parallel.has_pending_responses


def test_the_exception_that_left_the_block_is_not_masked(client, dispatch):
    class Mine(BaseException):
        pass

    mine = Mine()
    with pytest.raises(Mine) as caught, client.parallel() as parallel:
        parallel.get(f"{URL}/a")
        dispatch.exchange("/a")
        raise mine
    assert caught.value is mine
    assert caught.value.__context__ is None


def test_system_exit_leaves_the_block_as_it_is(client, dispatch):
    with pytest.raises(SystemExit) as caught, client.parallel() as parallel:
        parallel.get(f"{URL}/a")
        sys.exit(3)
    assert caught.value.code == 3
    dispatch.wait_until_idle()


def test_user_code_in_a_worker_is_not_waited_for(client):
    entered, release = threading.Event(), threading.Event()

    def auth(request: http3.Request) -> http3.Request:
        entered.set()
        release.wait(PATIENCE)
        return request

    with client.parallel() as parallel:
        pending = parallel.get(f"{URL}/a", auth=auth)
        assert entered.wait(PATIENCE)
    assert not release.is_set(), "leaving the block waited for user code"
    assert pending.cancelled()
    release.set()


def test_a_closed_block_says_so(client, dispatch):
    with client.parallel() as parallel:
        parallel.get(f"{URL}/a")
    assert not parallel.has_pending_responses
    for use in (
        lambda: parallel.get(f"{URL}/b"),
        parallel.next_response,
        lambda: next(parallel.as_completed()),
        lambda: parallel.map([]),
    ):
        with pytest.raises(http3.ParallelClosed):
            use()
    parallel.close()
    parallel.cancel()


def test_closing_wakes_every_waiter(client, dispatch):
    parallel = client.parallel()
    pending = parallel.get(f"{URL}/a")
    parallel.get(f"{URL}/b")
    dispatch.wait_for_arrivals(2)
    one = in_thread(pending.get_response)
    two = in_thread(parallel.next_response)
    wait_until_waiting(parallel)
    parallel.close()
    with pytest.raises(http3.RequestCancelled):
        one.result(PATIENCE)
    with pytest.raises((http3.ParallelClosed, http3.NoPendingResponses)):
        two.result(PATIENCE)


def test_cancel_ends_all_and_the_block_goes_on(parallel, dispatch):
    handles = [parallel.get(f"{URL}/{n}") for n in range(30)]
    parallel.cancel()
    assert all(handle.cancelled() for handle in handles)
    assert not parallel.has_pending_responses
    dispatch.wait_until_idle()
    pending = parallel.get(f"{URL}/after")
    dispatch.exchange("/after").respond(content=b"after")
    assert pending.get_response(PATIENCE).text == "after"


def test_a_cancelled_request_is_handed_out_by_nobody(parallel, dispatch):
    first, second = parallel.get(f"{URL}/1"), parallel.get(f"{URL}/2")
    dispatch.exchange("/1")
    assert first.cancel()
    assert first.cancel(), "cancelling twice is cancelling once"
    dispatch.exchange("/2").respond(content=b"2")
    assert parallel.next_response(PATIENCE).text == "2"
    assert not parallel.has_pending_responses
    assert not second.cancel(), "what has completed cannot be cancelled"


def test_a_worker_whose_request_was_cancelled_takes_the_next(client, dispatch):
    with client.parallel(max_workers=1) as parallel:
        first, second = parallel.get(f"{URL}/1"), parallel.get(f"{URL}/2")
        dispatch.exchange("/1")
        first.cancel()
        dispatch.exchange("/2").respond(content=b"2")
        assert second.get_response(PATIENCE).text == "2"


def test_submitting_from_several_threads_while_the_block_is_closed(client):
    for _ in range(20):
        parallel = client.parallel()
        barrier = threading.Barrier(4)

        def submit(
            parallel: http3.Parallel = parallel, barrier: threading.Barrier = barrier
        ) -> None:
            barrier.wait(PATIENCE)
            with pytest.raises(http3.ParallelClosed):
                while True:
                    parallel.get(f"{URL}/x")

        running = [in_thread(submit) for _ in range(3)]
        barrier.wait(PATIENCE)
        parallel.close()
        for future in running:
            future.result(PATIENCE)
        assert client._engine._dispatcher.in_flight == 0


def test_two_threads_that_close_the_same_block_both_return_soon(client, dispatch):
    for _ in range(20):
        parallel = client.parallel()
        for n in range(8):
            parallel.get(f"{URL}/{n}")
        dispatch.wait_for_arrivals(8)
        begun = time.monotonic()
        closing = [in_thread(parallel.close) for _ in range(3)]
        for future in closing:
            future.result(PATIENCE)
        assert time.monotonic() - begun < 2
        dispatch._arrived.clear()


def test_a_handle_says_what_ended_it(client, dispatch):
    with client.parallel() as parallel:
        cancelled, left = parallel.get(f"{URL}/1"), parallel.get(f"{URL}/2")
        cancelled.cancel()
    with pytest.raises(http3.RequestCancelled, match="was cancelled"):
        cancelled.get_response()
    with pytest.raises(http3.RequestCancelled, match="block was left") as caught:
        left.get_response()
    assert caught.value.request is left.request
    with pytest.raises(http3.RequestCancelled) as again:
        left.get_response()
    assert again.value is caught.value


# Futures.


def test_the_future_is_made_once_and_works_with_concurrent_futures(parallel, dispatch):
    handles = [parallel.get(f"{URL}/{n}") for n in range(3)]
    futures = [handle.future for handle in handles]
    assert [handle.future for handle in handles] == futures
    assert not any(future.done() for future in futures)
    dispatch.exchange("/1").respond(content=b"1")
    done, _ = concurrent.futures.wait(futures, PATIENCE, concurrent.futures.FIRST_COMPLETED)
    assert [future.result().text for future in done] == ["1"]
    dispatch.exchange("/0").respond()
    dispatch.exchange("/2").fail(http3.ReadError("broken"))
    assert len(list(concurrent.futures.as_completed(futures, PATIENCE))) == 3
    assert isinstance(futures[2].exception(), http3.ReadError)
    assert parallel.next_response().text == "1", "a future claims nothing"


def test_cancelling_the_future_cancels_the_request_in_flight(parallel, dispatch):
    pending = parallel.get(f"{URL}/a")
    exchange = dispatch.exchange("/a")
    assert pending.future.cancel()
    assert exchange.ended.wait(PATIENCE)
    assert pending.cancelled()
    assert concurrent.futures.wait([pending.future], PATIENCE).done == {pending.future}


def test_a_future_of_a_cancelled_request_never_hangs(client, dispatch):
    with client.parallel() as parallel:
        futures = [parallel.get(f"{URL}/{n}").future for n in range(20)]
    assert concurrent.futures.wait(futures, PATIENCE).not_done == set()
    assert all(future.cancelled() for future in futures)


def test_a_callback_on_the_future_may_use_the_block(parallel, dispatch):
    called = threading.Event()
    pending = parallel.get(f"{URL}/a")
    pending.future.add_done_callback(lambda _: (parallel.get(f"{URL}/b"), called.set()))
    dispatch.exchange("/a").respond()
    assert called.wait(PATIENCE)
    dispatch.exchange("/b").respond(content=b"b")
    assert sorted(parallel.next_response(PATIENCE).text for _ in range(2)) == ["", "b"]


def test_a_callback_that_raises_to_exit_costs_no_worker(client, caplog):
    with http3.Client(dispatch=InstantDispatch(), max_workers=1) as client:
        with client.parallel() as parallel:
            for n in range(3):
                future = parallel.get(f"{URL}/{n}").future
                future.add_done_callback(lambda _: sys.exit("of the callback"))
                assert future.result(PATIENCE).status_code == 200
            assert parallel.get(f"{URL}/last").get_response(PATIENCE).text == "/last"


def test_a_slow_callback_of_one_deadline_does_not_delay_another(parallel, dispatch):
    release, called = threading.Event(), threading.Event()
    first = parallel.get(f"{URL}/1", deadline=0.05)
    first.future.add_done_callback(lambda _: (called.set(), release.wait(PATIENCE)))
    assert called.wait(PATIENCE)
    second = parallel.get(f"{URL}/2", deadline=0.05)
    try:
        with pytest.raises(http3.DeadlineExceeded):
            second.get_response(PATIENCE)
    finally:
        release.set()


def test_a_callback_that_raises_does_not_stop_the_clock(parallel, dispatch, caplog):
    called = threading.Event()
    first = parallel.get(f"{URL}/1", deadline=0.05)
    first.future.add_done_callback(lambda _: (called.set(), sys.exit("of the callback")))
    assert called.wait(PATIENCE)
    with pytest.raises(http3.DeadlineExceeded):
        parallel.get(f"{URL}/2", deadline=0.05).get_response(PATIENCE)


# What dispatchers of the user's do.


class Careless(http3.Dispatcher):
    """Answers when it is let, with a body whose end raises."""

    def __init__(self) -> None:
        self.entered, self.release, self.closed = (threading.Event() for _ in range(3))

    def send(self, request: http3.Request, context: http3.Context) -> http3.Response:
        self.entered.set()
        if request.url.path == "/late":
            self.release.wait(PATIENCE)

        def close() -> None:
            self.closed.set()
            raise OSError("closing failed")

        return http3.Response(200, content=iter([b"x"]), on_close=close, request=request)


def test_a_response_that_comes_after_the_cancel_is_closed(caplog):
    dispatch = Careless()
    with http3.Client(dispatch=dispatch) as client, client.parallel() as parallel:
        pending = parallel.get(f"{URL}/late", stream=True)
        assert dispatch.entered.wait(PATIENCE)
        pending.cancel()
        dispatch.release.set()
        assert dispatch.closed.wait(PATIENCE)


def test_a_body_that_cannot_be_closed_masks_nothing(caplog):
    mine = KeyError("mine")
    with http3.Client(dispatch=Careless()) as client:
        with pytest.raises(KeyError) as caught, client.parallel() as parallel:
            response = parallel.get(f"{URL}/", stream=True).get_response(PATIENCE)
            assert not response.is_closed
            raise mine
        assert caught.value is mine
        assert response.is_closed


# map.


def test_map_reads_at_most_a_window_ahead(client):
    read = 0

    def urls() -> typing.Iterator[str]:
        nonlocal read
        while read < 1000:
            read += 1
            yield f"{URL}/{read}"

    with http3.Client(dispatch=InstantDispatch()) as client, client.parallel() as parallel:
        handed_out = 0
        for pending in parallel.map(urls(), window=10):
            handed_out += 1
            assert read <= handed_out + 10
            assert pending.get_response().status_code == 200
        assert handed_out == 1000


def test_map_has_its_requests_to_itself(parallel, dispatch):
    parallel.get(f"{URL}/mine")
    mapped = parallel.map([f"{URL}/1", http3.Request("POST", f"{URL}/2", data=b"x")])
    got = []
    for path in ("/2", "/1"):
        in_thread(lambda path=path: dispatch.exchange(path).respond(content=path.encode()))
        got.append(next(mapped).get_response().text)
    assert got == ["/2", "/1"]
    with pytest.raises(StopIteration):
        next(mapped)
    dispatch.exchange("/mine").respond(content=b"mine")
    assert parallel.next_response(PATIENCE).text == "mine"


def test_map_left_early_ends_what_it_started(parallel, dispatch):
    mapped = parallel.map((f"{URL}/{n}" for n in range(1000)), window=4)
    in_thread(lambda: dispatch.wait_for_arrivals(4) and dispatch.exchange("/0").respond())
    next(mapped)
    mapped.close()
    dispatch.wait_until_idle()
    with pytest.raises(StopIteration):
        next(mapped)
    assert max(int(path[1:]) for path in dispatch.arrived) < 5


def test_map_dropped_ends_what_it_started(parallel, dispatch):
    in_thread(lambda: dispatch.wait_for_arrivals(4) and dispatch.exchange("/0").respond())
    for _ in parallel.map((f"{URL}/{n}" for n in range(1000)), window=4):
        break
    dispatch.wait_until_idle()
    assert not parallel._block._pending


def test_map_hands_out_what_is_there_before_it_reads_on():
    read: list[int] = []

    def urls() -> typing.Iterator[str]:
        for n in range(10):
            read.append(n)
            yield f"{URL}/{n}"
            # As a slow input would: nothing is pending any more when the next line comes.
            while block._block._pending:
                threading.Event().wait(0.001)

    with http3.parallel(dispatch=InstantDispatch()) as block:
        for handed_out, _ in enumerate(block.map(urls(), window=100), start=1):
            assert len(read) <= handed_out + 1
    assert handed_out == 10


def test_map_passes_on_what_its_input_raises_even_if_it_is_one_of_ours(parallel, dispatch):
    def urls() -> typing.Iterator[str]:
        yield f"{URL}/1"
        parallel.next_response()

    with pytest.raises(http3.NoPendingResponses):
        next(parallel.map(urls()))
    dispatch.wait_until_idle()


def test_map_passes_on_the_error_of_its_input_and_ends_what_it_started(parallel, dispatch):
    def urls() -> typing.Iterator[str]:
        yield f"{URL}/1"
        raise RuntimeError("of the input")

    with pytest.raises(RuntimeError, match="of the input"):
        next(parallel.map(urls()))
    dispatch.wait_until_idle()


def test_map_refuses_what_is_no_request(parallel):
    with pytest.raises(TypeError, match="URLs and Requests"):
        next(parallel.map([7]))
    with pytest.raises(ValueError, match="window"):
        parallel.map([], window=0)
    for one in (f"{URL}/", http3.URL(f"{URL}/"), http3.Request("GET", f"{URL}/")):
        with pytest.raises(TypeError, match="iterable"):
            parallel.map(one)


# Workers.


def test_no_more_than_max_workers_run_at_once(client, dispatch):
    with client.parallel(max_workers=3) as parallel:
        for n in range(50):
            parallel.get(f"{URL}/{n}")
        dispatch.wait_for_arrivals(3)
        for n in range(50):
            dispatch.exchange(f"/{n}").respond()
            parallel.next_response(PATIENCE)
    assert dispatch.most_in_flight == 3


def test_a_block_wider_than_its_client_is_a_value_error(client):
    with pytest.raises(ValueError, match="max_workers"):
        client.parallel(max_workers=9)


def test_parallel_sets_the_workers_of_both():
    dispatch = ScriptedDispatch()
    with http3.parallel(max_workers=40, dispatch=dispatch) as parallel:
        for n in range(60):
            parallel.get(f"{URL}/{n}")
        dispatch.wait_for_arrivals(40)
    assert dispatch.most_in_flight == 40


def test_a_small_block_is_served_although_a_large_one_holds_the_workers(dispatch):
    with http3.Client(dispatch=dispatch, max_workers=4) as client:
        with client.parallel() as large, client.parallel() as small:
            for n in range(1000):
                large.get(f"{URL}/large/{n}")
            dispatch.wait_for_arrivals(4)
            handles = [small.get(f"{URL}/small/{n}") for n in range(2)]
            # Two of the large block's end: the workers that become free serve the small one.
            for n in range(2):
                dispatch.exchange(f"/large/{n}").respond()
            for n in range(2):
                dispatch.exchange(f"/small/{n}").respond(content=b"small")
            assert [handle.get_response(PATIENCE).text for handle in handles] == ["small"] * 2


def test_a_thousand_for_a_slow_host_never_delay_one_for_another(dispatch):
    with http3.Client(dispatch=dispatch, max_workers=4) as client:
        with client.parallel(max_per_host=2) as parallel:
            for n in range(1000):
                parallel.get(f"http://slow.example/{n}")
            other = parallel.get("http://other.example/other")
            dispatch.exchange("/other").respond(content=b"other")
            assert other.get_response(PATIENCE).text == "other"
            dispatch.wait_for_arrivals(2)
            assert sorted(dispatch.arrived) == ["/0", "/1"]
            dispatch.exchange("/0").respond()
            dispatch.exchange("/2").respond()
            dispatch.exchange("/3")


def test_a_cancelled_request_gives_its_hosts_place_back(dispatch):
    with http3.Client(dispatch=dispatch, max_workers=4) as client:
        with client.parallel(max_per_host=1) as parallel:
            handles = [parallel.get(f"{URL}/{n}") for n in range(5)]
            dispatch.exchange("/0")
            for n in (1, 2, 0):
                handles[n].cancel()
            dispatch.exchange("/3").respond(content=b"3")
            assert handles[3].get_response(PATIENCE).text == "3"


def test_a_block_opened_on_a_worker_does_not_starve(dispatch):
    client = http3.Client(dispatch=dispatch, max_workers=1)

    def auth(request: http3.Request) -> http3.Request:
        with client.parallel() as inner:
            request.headers["x-token"] = inner.get(f"{URL}/token").get_response(PATIENCE).text
        return request

    with client, client.parallel() as parallel:
        pending = parallel.get(f"{URL}/a", auth=auth)
        dispatch.exchange("/token").respond(content=b"s3cret")
        exchange = dispatch.exchange("/a")
        assert exchange.request.headers["x-token"] == "s3cret"
        exchange.respond(content=b"done")
        assert pending.get_response(PATIENCE).text == "done"


def test_blocks_opened_on_workers_of_blocks_opened_on_workers_do_not_starve():
    client = http3.Client(dispatch=InstantDispatch(), max_workers=1)

    def auth(depth: int) -> typing.Callable[[http3.Request], http3.Request]:
        def authenticate(request: http3.Request) -> http3.Request:
            options = {"auth": auth(depth - 1)} if depth else {}
            with client.parallel() as inner:
                response = inner.get(f"{URL}/{depth}", **options).get_response(PATIENCE)
            request.headers["x-depth"] = response.text
            return request

        return authenticate

    with client, client.parallel() as parallel:
        pending = parallel.get(f"{URL}/a", auth=auth(3))
        assert pending.get_response(PATIENCE).request.headers["x-depth"] == "/3"


def test_context_variables_of_the_submitting_code_are_visible_in_the_worker(client):
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    seen = []

    class Looking(http3.Dispatcher):
        def send(self, request: http3.Request, context: http3.Context) -> http3.Response:
            seen.append(variable.get(None))
            return http3.Response(200, content=b"", request=request)

    with http3.Client(dispatch=Looking()) as client, client.parallel(max_workers=1) as parallel:
        for value in ("one", "two"):
            variable.set(value)
            parallel.get(f"{URL}/")
        while parallel.has_pending_responses:
            parallel.next_response(PATIENCE)
    assert seen == ["one", "two"]


# Memory.


def test_nothing_keeps_a_response_alive_but_its_owner():
    gc.disable()
    try:
        with http3.Client(dispatch=InstantDispatch()) as client, client.parallel() as parallel:
            for take in (
                lambda: parallel.get(f"{URL}/a").get_response(PATIENCE),
                lambda: parallel.get(f"{URL}/a") and parallel.next_response(PATIENCE),
                lambda: next(parallel.map([f"{URL}/a"])).get_response(),
                lambda: parallel.get(f"{URL}/a").future.result(PATIENCE),
            ):
                response = take()
                alive = weakref.ref(response)
                del response
                while parallel.has_pending_responses:
                    parallel.next_response(PATIENCE)
                deadline = threading.Event()
                for _ in range(200):  # the worker may be about to let go
                    if alive() is None:
                        break
                    deadline.wait(0.01)
                assert alive() is None
    finally:
        gc.enable()


def test_nothing_keeps_an_error_or_its_handle_alive_but_its_owner():
    def fail(request: http3.Request) -> http3.HTTPError:
        return http3.ReadError("broken")

    def take(parallel: http3.Parallel) -> list[weakref.ref[typing.Any]]:
        # Not a local variable: this frame is in the error's traceback.
        handle = weakref.ref(parallel.get(f"{URL}/a"))
        try:
            parallel.next_response(PATIENCE)
        except http3.ReadError as error:
            return [weakref.ref(error), handle, weakref.ref(error.request)]
        raise AssertionError

    gc.disable()
    try:
        with http3.Client(dispatch=InstantDispatch(fail)) as client, client.parallel() as parallel:
            alive = take(parallel)
            deadline = threading.Event()
            for _ in range(200):
                if not any(reference() for reference in alive):
                    break
                deadline.wait(0.01)
            assert not any(reference() for reference in alive)
    finally:
        gc.enable()


def test_what_was_cancelled_in_line_does_not_stay_there(client, dispatch):
    gc.disable()
    try:
        with client.parallel(max_workers=1) as parallel:
            parallel.get(f"{URL}/stuck")
            dispatch.exchange("/stuck")
            handles = [parallel.post(f"{URL}/{n}", data=b"x" * 1000) for n in range(20)]
            alive = [weakref.ref(handle) for handle in handles]
            for handle in handles:
                handle.cancel()
            del handle, handles
            assert not any(reference() for reference in alive)
    finally:
        gc.enable()


# Deadlines.


def test_a_deadline_that_passes_while_the_request_is_submitted(client, switch_interval):
    with http3.Client(dispatch=InstantDispatch(), max_workers=2) as client:
        for _ in range(30):
            with client.parallel() as parallel:
                for n in range(20):
                    parallel.get(f"{URL}/{n}", deadline=0)
                ended = 0
                for pending in parallel.as_completed(PATIENCE):
                    assert pending.done()
                    ended += 1
                assert ended == 20


def test_the_deadline_of_a_request_in_flight(parallel, dispatch):
    pending = parallel.get(f"{URL}/a", deadline=0.05)
    exchange = dispatch.exchange("/a")
    with pytest.raises(http3.DeadlineExceeded, match="waiting for the script") as caught:
        pending.get_response(PATIENCE)
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.request is pending.request
    assert exchange.ended.wait(PATIENCE)


def test_the_deadline_of_a_request_in_line(client, dispatch):
    with client.parallel(max_workers=1) as parallel:
        parallel.get(f"{URL}/first")
        dispatch.exchange("/first")
        pending = parallel.get(f"{URL}/second", deadline=0.05)
        with pytest.raises(http3.DeadlineExceeded, match="in line"):
            pending.get_response(PATIENCE)
        assert dispatch.arrived == []


def test_the_deadline_of_the_block_ends_all(client, dispatch):
    with client.parallel(max_workers=2, deadline=0.1) as parallel:
        handles = [parallel.get(f"{URL}/{n}") for n in range(5)]
        for _ in handles:
            with pytest.raises(http3.DeadlineExceeded):
                parallel.next_response(PATIENCE)
        dispatch.wait_until_idle()
        late = parallel.get(f"{URL}/late")
        with pytest.raises(http3.DeadlineExceeded):
            late.get_response(PATIENCE)


@pytest.mark.parametrize(("block", "request_"), [(0.05, 60), (60, 0.05)])
def test_the_earlier_deadline_counts(client, dispatch, block, request_):
    with client.parallel(deadline=block) as parallel:
        pending = parallel.get(f"{URL}/a", deadline=request_)
        with pytest.raises(http3.DeadlineExceeded, match=r"0\.05 s"):
            pending.get_response(PATIENCE)


def test_a_deadline_that_did_not_pass_changes_nothing(client, dispatch):
    with client.parallel(deadline=60) as parallel:
        pending = parallel.get(f"{URL}/a", deadline=30)
        dispatch.exchange("/a").respond(content=b"in time")
        assert pending.get_response(PATIENCE).text == "in time"


def test_map_takes_options_for_all_of_its_requests() -> None:
    dispatch = ScriptedDispatch()
    with http3.parallel(dispatch=dispatch, max_workers=2) as parallel:
        handles = parallel.map(
            ["http://x/1", http3.Request("GET", "http://x/2")], tag="both", timeout=7, stream=True
        )
        first = threading.Thread(target=lambda: done.append(next(handles)))
        done: list[http3.PendingResponse] = []
        first.start()
        for path in ("/1", "/2"):
            exchange = dispatch.exchange(path)
            assert exchange.context.timeout == http3.TimeoutConfig(7)
            assert exchange.context.stream
            exchange.respond(content=iter([b"body"]))
        first.join(PATIENCE)
        done += handles
        assert [handle.tag for handle in done] == ["both", "both"]
        assert [handle.get_response().read() for handle in done] == [b"body", b"body"]


def test_a_deadline_of_map_is_that_of_each_request() -> None:
    with http3.parallel(dispatch=ScriptedDispatch()) as parallel:
        for handle in parallel.map(["http://x/1", "http://x/2"], deadline=0.05):
            with pytest.raises(http3.DeadlineExceeded):
                handle.get_response()


def test_an_option_that_map_does_not_know_is_a_type_error_at_once() -> None:
    with http3.parallel(dispatch=ScriptedDispatch()) as parallel:
        with pytest.raises(TypeError, match="'json'"):
            parallel.map(["http://x/1"], json={})  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="timeout"):
            parallel.map(["http://x/1"], timeout="soon")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="deadline"):
            parallel.map(["http://x/1"], deadline="soon")  # type: ignore[arg-type]
