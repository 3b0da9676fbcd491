"""
What a response costs as the number of outstanding requests grows: it should not grow with it.

    python benchmarks/flat_cost.py

Against a dispatcher without a network, so that the block's own work is all there is: CPU time of
the whole process per response, the median of several rounds, all sizes taking turns in each.

* drain: submit N requests whose answers are there, then take all N.
* crawler: keep N outstanding; take one, submit one.
"""

from __future__ import annotations

import collections
import statistics
import time
import typing

import http3_parallel as http3

URL = "http://example.com/"
TAKEN = 4_000
ROUNDS = 5


class Instant(http3.Dispatcher):
    abortable = True

    def send(self, request: http3.Request, context: http3.Context) -> http3.Response:
        return http3.Response(200, content=b"", request=request)


def drain(outstanding: int) -> float:
    """CPU seconds per response."""
    spent, taken = 0.0, 0
    while taken < TAKEN:
        with http3.parallel(dispatch=Instant()) as parallel:
            handles = collections.deque(parallel.get(URL) for _ in range(outstanding))
            while not all(handle.done() for handle in handles):
                time.sleep(0.001)
            handles.clear()
            begun = time.process_time()
            while parallel.has_pending_responses:
                parallel.next_response()
                taken += 1
            spent += time.process_time() - begun
    return spent / taken


def crawler(outstanding: int) -> float:
    """CPU seconds per response taken and request submitted."""
    with http3.parallel(dispatch=Instant()) as parallel:
        for _ in range(outstanding):
            parallel.get(URL)
        for _ in range(500):
            parallel.next_response()
            parallel.get(URL)
        begun = time.process_time()
        for _ in range(TAKEN):
            parallel.next_response()
            parallel.get(URL)
        return (time.process_time() - begun) / TAKEN


def measure(
    function: typing.Callable[[int], float], sizes: tuple[int, ...], rounds: int = ROUNDS
) -> dict[int, float]:
    """The median CPU seconds per response, by number outstanding."""
    measured: dict[int, list[float]] = {size: [] for size in sizes}
    for _ in range(rounds):
        for size in sizes:
            measured[size].append(function(size))
    return {size: statistics.median(times) for size, times in measured.items()}


def main() -> None:
    for function, sizes in ((drain, (100, 1_000, 20_000)), (crawler, (100, 1_000, 10_000))):
        costs = measure(function, sizes)
        for size, cost in costs.items():
            print(
                f"{function.__name__:8} {size:6} outstanding: {cost * 1e6:6.1f} us per response, "
                f"{cost / costs[sizes[0]]:.2f} times that at {sizes[0]}"
            )


if __name__ == "__main__":
    main()
