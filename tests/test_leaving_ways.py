"""Every way out of a block, from every state: the same end, and the exception unmasked."""

from __future__ import annotations

import signal
import threading
import time
import typing

import pytest

import http3_parallel as http3
from scenarios import (
    DELIVERED,
    FEW,
    SCENARIOS,
    Crowd,
    Place,
    Scenario,
    assert_ended,
    assert_nothing_is_busy,
    error_of,
    staged,
    wait_until,
)
from servers import PATIENCE, RawServer, Site, drip_body

pytestmark = pytest.mark.slow

#: Seconds that an end takes at most, on a loaded machine.
SOON = 0.5

every_scenario = pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=str)

#: `next_response()` waits in these: in the others, all are handed out.
every_running_scenario = pytest.mark.parametrize(
    "scenario",
    [scenario for scenario in SCENARIOS.values() if scenario.phase != DELIVERED],
    ids=str,
)


class Mine(BaseException):
    """Not even an `Exception`."""


def there(
    scenario: Scenario, parallel: http3.Parallel, place: Place, **options: typing.Any
) -> Crowd:
    crowd = scenario.submit(parallel, place.url, FEW, **options)
    assert crowd.get_there()
    assert place.wait_arrived(scenario.arriving(FEW))
    return crowd


def interrupt_when(waiting: typing.Callable[[], bool]) -> threading.Thread:
    """Ctrl-C for the main thread, once it waits."""

    def interrupt() -> None:
        main = threading.main_thread().ident
        assert main is not None
        assert wait_until(waiting)
        signal.pthread_kill(main, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    return thread


def waiters(parallel: http3.Parallel) -> int:
    return len(parallel._completions._waiters)


@every_scenario
@pytest.mark.parametrize("error", [Mine("of my own"), SystemExit(3)], ids=["exception", "exit"])
def test_an_exception_in_the_body_comes_out_unmasked(
    scenario: Scenario, error: BaseException
) -> None:
    with staged(scenario, FEW) as (place, client):
        with pytest.raises(type(error)) as caught:
            with client.parallel(max_workers=scenario.block_workers(FEW)) as parallel:
                crowd = there(scenario, parallel, place)
                raised_at = time.monotonic()
                raise error
        took = time.monotonic() - raised_at
        assert caught.value is error
        assert error.__context__ is None
        assert not parallel._block._executing
        assert_nothing_is_busy(client, parallel)
        assert_ended(crowd)
        assert place.wait_all_closed()
        assert took < SOON


@every_running_scenario
def test_ctrl_c_in_next_response_leaves_the_block(scenario: Scenario) -> None:
    with staged(scenario, FEW) as (place, client):
        with pytest.raises(KeyboardInterrupt):
            with client.parallel(max_workers=scenario.block_workers(FEW)) as parallel:
                crowd = there(scenario, parallel, place)
                thread = interrupt_when(lambda: waiters(parallel) > 0)
                try:
                    parallel.next_response(PATIENCE)
                finally:
                    raised_at = time.monotonic()
        took = time.monotonic() - raised_at
        thread.join(PATIENCE)
        assert not parallel._block._executing
        assert_nothing_is_busy(client, parallel)
        assert_ended(crowd)
        assert place.wait_all_closed()
        assert took < SOON


def test_ctrl_c_while_a_stream_is_read_leaves_the_block() -> None:
    with RawServer(drip_body) as server, http3.Client() as client:
        pieces: list[bytes] = []
        with pytest.raises(KeyboardInterrupt):
            with client.parallel() as parallel:
                response = parallel.get(server.url, stream=True).get_response(PATIENCE)
                thread = interrupt_when(lambda: len(pieces) > 0)
                pieces.extend(response.stream())
        thread.join(PATIENCE)
        assert response.is_closed
        assert_nothing_is_busy(client, parallel)
        assert server.wait_all_closed()


@every_running_scenario
@pytest.mark.parametrize("what", ["client", "block"])
def test_a_close_from_another_thread_wakes_who_waits(scenario: Scenario, what: str) -> None:
    with staged(scenario, FEW) as (place, client):
        parallel = client.parallel(max_workers=scenario.block_workers(FEW))
        crowd = there(scenario, parallel, place)
        closed_at = []

        def close() -> None:
            assert wait_until(lambda: waiters(parallel) > 0)
            closed_at.append(time.monotonic())
            (client if what == "client" else parallel).close()
            closed_at.append(time.monotonic())

        thread = threading.Thread(target=close)
        thread.start()
        with pytest.raises((http3.ParallelClosed, http3.NoPendingResponses)):
            parallel.next_response(PATIENCE)
        woken_at = time.monotonic()
        thread.join(PATIENCE)
        began, ended = closed_at
        assert woken_at - began < SOON
        assert ended - began < SOON
        with pytest.raises(http3.ParallelClosed):
            parallel.next_response()
        assert_ended(crowd)
        assert place.wait_all_closed()
        if what == "client":
            with pytest.raises(http3.ClientClosed):
                client.get(place.url)
        else:
            assert_nothing_is_busy(client, parallel)


@pytest.mark.parametrize(
    "scenario", [s for s in SCENARIOS.values() if s.phase == DELIVERED], ids=str
)
@pytest.mark.parametrize("what", ["client", "block"])
def test_a_close_from_another_thread_ends_the_streams(scenario: Scenario, what: str) -> None:
    with staged(scenario, FEW) as (place, client):
        parallel = client.parallel(max_workers=FEW)
        crowd = there(scenario, parallel, place)
        thread = threading.Thread(target=(client if what == "client" else parallel).close)
        thread.start()
        thread.join(PATIENCE)
        assert_ended(crowd)
        assert place.wait_all_closed()


# One of many.


@every_running_scenario
def test_a_single_request_is_cancelled_and_the_others_go_on(scenario: Scenario) -> None:
    with staged(scenario, FEW) as (place, client):
        with client.parallel(max_workers=scenario.block_workers(FEW)) as parallel:
            crowd = there(scenario, parallel, place)
            *others, one = crowd.handles
            future = one.future
            cancelled_at = time.monotonic()
            assert one.cancel()
            assert isinstance(error_of(one.get_response), http3.RequestCancelled)
            assert time.monotonic() - cancelled_at < SOON
            assert future.cancelled()
            assert wait_until(lambda: one not in parallel._block._executing)
            assert time.monotonic() - cancelled_at < SOON
            assert not any(other.done() for other in others)
            assert parallel.has_pending_responses
        assert_nothing_is_busy(client, parallel)
        assert place.wait_all_closed()


@pytest.mark.parametrize("name", ["waiting for the head", "in a body that drips over TLS"])
def test_a_single_request_that_is_cancelled_closes_its_connection_and_no_other(name: str) -> None:
    scenario = SCENARIOS[name]
    closed: list[typing.Any] = []
    with staged(scenario, FEW) as (place, client), client.parallel(max_workers=FEW) as parallel:
        crowd = there(scenario, parallel, place)
        server = place.server
        assert server is not None
        assert crowd.handles[0].cancel()
        assert server.wait_until(lambda: any(peer.closed.is_set() for peer in server.connections))
        closed = [peer for peer in server.connections if peer.closed.is_set()]
        assert [peer.requests[0].target for peer in closed] == ["/0"]


def test_a_cancelled_request_frees_the_connection_others_wait_for() -> None:
    scenario = SCENARIOS["waiting for a connection"]
    with staged(scenario, FEW) as (place, client), client.parallel(max_workers=FEW) as parallel:
        crowd = there(scenario, parallel, place)
        assert place.server is not None
        held = len(place.server.requests)
        assert crowd.handles[0].cancel()
        assert place.server.wait_for_requests(held + 1)


def test_cancel_ends_all_and_the_block_is_usable_at_once() -> None:
    scenario = SCENARIOS["waiting for the head"]
    with staged(scenario, FEW) as (place, client), Site() as site:
        with client.parallel(max_workers=FEW) as parallel:
            crowd = there(scenario, parallel, place)
            parallel.cancel()
            assert_ended(crowd)
            after = parallel.get(site.answer("/", b"after"))
            assert after.get_response(PATIENCE).content == b"after"
            assert place.wait_all_closed()
