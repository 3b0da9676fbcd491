"""A deadline ends a request wherever it is: of the request, of its block, of a plain call."""

from __future__ import annotations

import contextlib
import threading
import time
import typing

import pytest

import http3_parallel as http3
from scenarios import (
    DELIVERED,
    FEW,
    HELD,
    SCENARIOS,
    Crowd,
    Place,
    Scenario,
    assert_nothing_is_busy,
    pool_of,
    staged,
)
from servers import PATIENCE, RawServer, Site, drip_body, hang_before_response

pytestmark = pytest.mark.slow

#: Seconds that an end takes at most, on a loaded machine.
SOON = 0.5

#: Seconds: the first that is enough to get to the state that is to be ended is taken.
DEADLINES = (0.3, 1.5, 6.0)

running_scenarios = pytest.mark.parametrize(
    "scenario",
    [scenario for scenario in SCENARIOS.values() if scenario.phase != DELIVERED],
    ids=str,
)
delivered_scenarios = pytest.mark.parametrize(
    "scenario",
    [scenario for scenario in SCENARIOS.values() if scenario.phase == DELIVERED],
    ids=str,
)


def in_time(attempt: typing.Callable[[float], bool]) -> None:
    """`attempt` returns False if the deadline passed before everything was in its place."""
    assert any(attempt(deadline) for deadline in DEADLINES), "this machine is too slow"


def submit(
    scenario: Scenario,
    parallel: http3.Parallel,
    place: Place,
    patience: float,
    deadline: float | None,
) -> Crowd | None:
    """None if they were not in their place within `patience` seconds."""
    crowd = scenario.submit(parallel, place.url, FEW, deadline=deadline)
    with contextlib.suppress(http3.DeadlineExceeded):
        if crowd.get_there(timeout=patience) and place.wait_arrived(scenario.arriving(FEW)):
            return crowd
    return None


def assert_expired(crowd: Crowd, handles: list[http3.PendingResponse], ends_at: float) -> None:
    for handle in handles:
        assert not handle.cancelled()
        with pytest.raises(http3.DeadlineExceeded) as caught:
            handle.get_response(PATIENCE)
        assert isinstance(caught.value, TimeoutError)
        assert caught.value.request is handle.request
    assert time.monotonic() - ends_at < SOON
    error = crowd.waiting[-1].future.exception()
    assert crowd.scenario.phase in str(error)


@running_scenarios
@pytest.mark.parametrize("whose", ["request", "block"])
def test_a_deadline_ends_what_is(scenario: Scenario, whose: str) -> None:
    def attempt(deadline: float) -> bool:
        of_block, of_request = (deadline, None) if whose == "block" else (None, deadline)
        with staged(scenario, FEW) as (place, client):
            workers = scenario.block_workers(FEW)
            ends_at = time.monotonic() + deadline
            with client.parallel(max_workers=workers, deadline=of_block) as parallel:
                crowd = submit(scenario, parallel, place, deadline, of_request)
                if crowd is None:
                    return False
                ended = crowd.handles if whose == "block" else crowd.waiting
                assert_expired(crowd, ended, ends_at)
                if ended == crowd.handles:
                    assert place.wait_all_closed()
                    assert_nothing_is_busy(client, parallel)
            if scenario.is_held_up:
                assert place.server is not None
                assert len(place.server.connections) == HELD, "what waited was begun"
        return True

    in_time(attempt)


@delivered_scenarios
@pytest.mark.parametrize("whose", ["request", "block"])
def test_a_deadline_ends_a_stream(scenario: Scenario, whose: str) -> None:
    def attempt(deadline: float) -> bool:
        of_block, of_request = (deadline, None) if whose == "block" else (None, deadline)
        with staged(scenario, FEW) as (place, client):
            with client.parallel(max_workers=FEW, deadline=of_block) as parallel:
                crowd = submit(scenario, parallel, place, deadline, of_request)
                if crowd is None:
                    return False
                assert place.wait_all_closed()
                for reader in crowd.readers:
                    reader.join()
                    assert isinstance(reader.error, http3.DeadlineExceeded)
                    assert reader.error.request is not None
                if not scenario.reads:
                    for response in crowd.responses:
                        with pytest.raises(http3.DeadlineExceeded):
                            response.read()
                assert_nothing_is_busy(client, parallel)
        return True

    in_time(attempt)


def test_a_deadline_that_passes_after_the_end_of_a_stream_touches_nothing(server: Site) -> None:
    url = server.answer("/", b"whole")
    with http3.Client() as client, client.parallel() as parallel:
        response = parallel.get(url, stream=True, deadline=0.2).get_response(PATIENCE)
        assert response.read() == b"whole"
        # The connection is back, and another request is on it when the time comes.
        pending = parallel.get(server.url + "/wait/other")
        assert server.wait_for_request("/wait/other")
        with pytest.raises(http3.WaitTimeout):
            pending.get_response(timeout=0.4)
        server.release("other")
        assert pending.get_response(PATIENCE).content == b"other"
        assert len(server.connections) == 1


@pytest.mark.parametrize("reads", [False, True])
def test_a_stream_that_was_closed_has_no_deadline_any_more(reads: bool) -> None:
    with RawServer(drip_body) as server, http3.Client() as client:
        with client.parallel() as parallel:
            response = parallel.get(server.url, stream=True, deadline=60).get_response(PATIENCE)
            assert parallel._block._streams
            if reads:
                next(response.stream())
            response.close()
            assert not parallel._block._streams
            assert server.wait_all_closed()


# Plain calls.


@contextlib.contextmanager
def held_up(scenario: Scenario, client: http3.Client, place: Place) -> typing.Iterator[None]:
    """With all connections taken, if that is what the scenario is about."""
    with client.parallel() as parallel:
        if scenario.is_held_up:
            assert place.server is not None
            for _ in range(scenario.arriving(FEW)):
                parallel.get(place.url)
            assert place.wait_arrived(scenario.arriving(FEW))
        yield


@pytest.mark.parametrize(
    "scenario",
    [s for s in SCENARIOS.values() if s.phase != DELIVERED and s.workers is None],
    ids=str,
)
def test_a_deadline_ends_a_plain_call(scenario: Scenario) -> None:
    def attempt(deadline: float) -> bool:
        with staged(scenario, FEW) as (place, client):
            with held_up(scenario, client, place):
                url = scenario.urls(place.url, FEW)[0]
                ends_at = time.monotonic() + deadline
                with pytest.raises(http3.DeadlineExceeded) as caught:
                    client.request(
                        scenario.method, url, deadline=deadline, tag="mine", **scenario.request()
                    )
                ended_at = time.monotonic()
            assert -0.01 < ended_at - ends_at < SOON
            assert caught.value.tag == "mine"
            assert str(caught.value.url) == url
            assert not pool_of(client)._in_use
            assert place.wait_all_closed()
        return scenario.phase in str(caught.value)

    in_time(attempt)


@delivered_scenarios
def test_a_deadline_ends_the_stream_of_a_plain_call(scenario: Scenario) -> None:
    def attempt(deadline: float) -> bool:
        with staged(scenario, FEW) as (place, client):
            try:
                response = client.get(place.url, stream=True, deadline=deadline)
            except http3.DeadlineExceeded:
                return False
            if not scenario.reads:
                assert place.wait_all_closed()
            with pytest.raises(http3.DeadlineExceeded):
                response.read()
            assert response.is_closed
            assert place.wait_all_closed()
            assert not pool_of(client)._in_use
        return True

    in_time(attempt)


def test_plain_calls_of_many_threads_have_each_their_own_deadline() -> None:
    with RawServer(hang_before_response) as server, http3.Client() as client:
        took: dict[float, float] = {}

        def call(deadline: float) -> None:
            began = time.monotonic()
            with pytest.raises(http3.DeadlineExceeded):
                client.get(server.url, deadline=deadline)
            took[deadline] = time.monotonic() - began

        deadlines = [0.1 + n / 20 for n in range(10)]
        threads = [threading.Thread(target=call, args=(each,)) for each in deadlines]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert sorted(took) == deadlines
        assert all(deadline <= took[deadline] + 0.01 < deadline + SOON for deadline in deadlines)
        assert server.wait_all_closed()
