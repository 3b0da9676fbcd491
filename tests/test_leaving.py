"""Leaving a block while 200 requests are on their way, wherever they are: nothing outlives it."""

from __future__ import annotations

import time
import typing

import pytest

import http3_parallel as http3
import scenarios
from scenarios import HELD, SCENARIOS, Scenario, assert_ended, assert_nothing_is_busy, staged
from servers import PATIENCE, Site

pytestmark = pytest.mark.slow

#: Seconds that leaving takes at most, on a loaded machine. `benchmarks/exit_times.py` measures
#: what it takes otherwise.
SOON = 0.5

#: Seconds in which a process ends that has nothing left to do.
PROCESS_SOON = 1.0

every_scenario = pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=str)


@pytest.fixture(scope="module")
def scenarios_ca_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("scenarios") / "ca.pem"
    scenarios.ca().cert_pem.write_to_path(str(path))
    return str(path)


def assert_usable(client: http3.Client) -> None:
    with Site() as site:
        url = site.answer("/", b"as usual")
        with client.parallel() as parallel:
            assert parallel.get(url).get_response(PATIENCE).content == b"as usual"
        assert client.get(url).content == b"as usual"


def assert_quick(attempt: typing.Callable[[], tuple[float, ...]], *limits: float) -> None:
    """
    `attempt` returns seconds, one for each of `limits`. What waits for something that does not
    come does so each time; what only shared the machine with others does not.
    """
    measured = []
    for _ in range(3):
        took = attempt()
        if all(seconds < limit for seconds, limit in zip(took, limits, strict=True)):
            return
        measured.append(took)
    raise AssertionError(f"took {measured} s, not {limits} s at most")


@every_scenario
def test_leaving_the_block_ends_two_hundred(scenario: Scenario) -> None:
    assert_quick(lambda: (leave(scenario, scenario.number),), SOON)


def leave(scenario: Scenario, number: int) -> float:
    with staged(scenario, number) as (place, client):
        with client.parallel(max_workers=scenario.block_workers(number)) as parallel:
            crowd = scenario.submit(parallel, place.url, number)
            assert crowd.get_there()
            assert place.wait_arrived(scenario.arriving(number))
            left_at = time.monotonic()
        took = time.monotonic() - left_at
        assert not parallel._block._executing, "a worker was busy when the block had been left"
        assert_usable(client)
        assert_nothing_is_busy(client, parallel)
        assert_ended(crowd)
        assert place.wait_all_closed()
        if scenario.is_held_up:
            assert place.server is not None
            assert len(place.server.connections) == HELD, "what waited was begun on the way out"
        return took


@every_scenario
def test_a_process_that_leaves_the_block_ends_at_once(
    scenario: Scenario, scenarios_ca_path: str
) -> None:
    def attempt() -> tuple[float, float]:
        with scenario.serve() as place:
            child = scenarios.spawn(scenario, place, leaves=True, ca_path=scenarios_ca_path)
            assert child.status == 0
            assert place.wait_all_closed()
            return child.block, child.process

    assert_quick(attempt, SOON, PROCESS_SOON)


@every_scenario
def test_a_process_that_exits_with_the_block_open_ends_at_once(
    scenario: Scenario, scenarios_ca_path: str
) -> None:
    def attempt() -> tuple[float]:
        with scenario.serve() as place:
            child = scenarios.spawn(scenario, place, leaves=False, ca_path=scenarios_ca_path)
            assert child.status == 3
            assert place.wait_all_closed()
            return (child.process,)

    assert_quick(attempt, PROCESS_SOON)
