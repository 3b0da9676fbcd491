"""What a block costs: flat in time and in memory. Figures are in benchmarks/; here are bounds."""

from __future__ import annotations

import gc
import pathlib
import runpy
import tracemalloc
import typing

import pytest

import http3_parallel as http3
from scripted import PATIENCE, InstantDispatch, ScriptedDispatch

pytestmark = pytest.mark.slow

BENCHMARKS = pathlib.Path(__file__).parent.parent / "benchmarks"
URL = "http://example.com"


@pytest.mark.parametrize(("name", "most"), [("drain", 20_000), ("crawler", 10_000)])
def test_the_cost_per_response_does_not_grow_with_what_is_outstanding(name, most):
    # A scan of what is outstanding would make this a factor of a hundred, or more. Far less than
    # that, and far more than what other processes on the machine add to it.
    benchmark = runpy.run_path(str(BENCHMARKS / "flat_cost.py"))
    costs = benchmark["measure"](benchmark[name], (100, most), rounds=3)
    assert costs[most] < 6 * costs[100]


def test_map_streams_through_in_flat_memory(traced_memory):
    # As many as fit into a test; what is kept of one would show at any number.
    total, handed_out, steady = 60_000, 0, 0
    urls = (f"{URL}/{n}" for n in range(total))
    with http3.parallel(dispatch=InstantDispatch()) as parallel:
        for pending in parallel.map(urls):
            handed_out += 1
            assert pending.get_response().status_code == 200
            if handed_out == 5_000:
                steady = traced_memory()
        assert traced_memory() < steady + 300_000
    assert handed_out == total


def test_a_queued_request_takes_at_most_3_kb(traced_memory):
    with http3.Client(dispatch=ScriptedDispatch(), max_workers=2) as client:
        with client.parallel() as parallel:
            for n in range(50):
                parallel.get(f"{URL}/{n}")
            before = traced_memory()
            for n in range(5_000):
                parallel.get(f"{URL}/a/longer/path/{n}?query={n}", headers={"x-number": str(n)})
            assert (traced_memory() - before) / 5_000 < 3_000


def test_a_thousand_large_bodies_drained_one_by_one_stay_small(traced_memory):
    class Large(http3.Dispatcher):
        abortable = True

        def send(self, request: http3.Request, context: http3.Context) -> http3.Response:
            return http3.Response(200, content=bytes(1_000_000), request=request)

    peak = 0
    gc.disable()
    try:
        with http3.parallel(dispatch=Large()) as parallel:
            for pending in parallel.map(f"{URL}/{n}" for n in range(1_000)):
                assert len(pending.get_response().content) == 1_000_000
                del pending
                peak = max(peak, traced_memory())
    finally:
        gc.enable()
    # 64 is the window of map.
    assert peak < 100_000_000


def test_bodies_that_get_response_claims_are_not_kept(traced_memory):
    class Large(http3.Dispatcher):
        abortable = True

        def send(self, request: http3.Request, context: http3.Context) -> http3.Response:
            return http3.Response(200, content=bytes(1_000_000), request=request)

    with http3.parallel(dispatch=Large()) as parallel:
        for n in range(200):
            assert parallel.get(f"{URL}/{n}").get_response(PATIENCE).content
        assert traced_memory() < 20_000_000


@pytest.fixture
def traced_memory() -> typing.Iterator[typing.Callable[[], int]]:
    """How many bytes this process has allocated since the test began."""
    tracemalloc.start()
    start = tracemalloc.get_traced_memory()[0]
    try:
        yield lambda: tracemalloc.get_traced_memory()[0] - start
    finally:
        tracemalloc.stop()
