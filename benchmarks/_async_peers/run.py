"""
One client at one scenario, in a process of its own.

    python -m benchmarks._async_peers.run CLIENT SCENARIO URL [CORE...]

Prints what it measured, as JSON. The COREs are those to stay on.
"""

from __future__ import annotations

import asyncio
import gc
import json
import statistics
import sys
import time
import typing
from collections.abc import Awaitable, Callable

from .._shared import measuring
from .._shared.work import Work
from .clients import ALONE, CLIENTS
from .scenarios import SCENARIOS

#: What is imported or made at the first request, or in the first tasks, is not measured.
WARM_UP = (64, 8)  # requests, at once

#: Seconds.
TICK = 0.001
#: So that the ticker sleeps when the client begins: what that does at first counts too.
SETTLE = 0.02


async def _tick(sleep: Callable[[float], Awaitable[object]], late: list[float]) -> None:
    # Not by the loop's own clock: that of uvloop stands still in each turn.
    now = time.perf_counter
    while True:
        begun = now()
        await sleep(TICK)
        late.append(now() - begun - TICK)


async def _beside_ticker(work: Callable[[], Awaitable[None]], late: list[float]) -> None:
    ticker = asyncio.ensure_future(_tick(asyncio.sleep, late))
    await asyncio.sleep(SETTLE)
    try:
        await work()
    finally:
        ticker.cancel()
    await asyncio.wait([ticker])


async def _beside_trio_ticker(work: Callable[[], Awaitable[None]], late: list[float]) -> None:
    import trio

    async with trio.open_nursery() as nursery:
        nursery.start_soon(_tick, trio.sleep, late)
        await trio.sleep(SETTLE)
        await work()
        nursery.cancel_scope.cancel()


def _run(loop: str, function: Callable[[], typing.Coroutine[typing.Any, typing.Any, None]]) -> None:
    if loop == "trio":
        import trio

        trio.run(function)
    elif loop == "uvloop":
        import uvloop

        uvloop.run(function())
    else:
        asyncio.run(function())


def main(name: str, scenario_name: str, url: str, cores: list[int]) -> None:
    measuring.stay_on(cores)
    client = {**CLIENTS, **ALONE}[name]
    scenario = SCENARIOS[scenario_name]
    work = Work(url, scenario.requests, scenario.at_once, least_seconds=scenario.least_seconds)
    late: list[float] = []
    spent = (0.0, 0.0)

    async def measured() -> None:
        nonlocal spent
        work.begin()
        await client.way(work)
        spent = work.end()

    async def main() -> None:
        if name in CLIENTS:
            warm_up = Work(url, *WARM_UP)
            await client.way(warm_up)
            warm_up.check_all()
        gc.collect()
        if not scenario.ticks:
            await measured()
        elif client.loop == "trio":
            await _beside_trio_ticker(measured, late)
        else:
            await _beside_ticker(measured, late)

    _run(client.loop, main)
    if name in CLIENTS:
        work.check_all()
    found = measuring.found(client.package, work, *spent)
    if scenario.ticks:
        found.update(
            ticks=len(late),
            late_median=statistics.median(late),
            late_p99=sorted(late)[len(late) * 99 // 100],
            late_max=max(late),
        )
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], [int(core) for core in sys.argv[4:]])
