"""
Interrupts itself, many times, while an event loop uses an asynchronous block; ends with status 0
and no output if each trial went as promised.

    python interrupted_async.py KIND SCENARIO TRIALS SEED

SIGINT is sent by another process, so that it comes at any instant. asyncio makes a cancellation of
it, but before Python 3.11 it strikes wherever the loop is, and so it does in a task of trio.
"""

from __future__ import annotations

import asyncio
import faulthandler
import functools
import random
import sys
import typing
from collections.abc import AsyncIterator

import anyio
import trio
from interrupted import BASE, LONGEST, PATIENCE, Interrupter, Pausing, wait_until_nothing_in_flight

import event_loops
import http3_parallel as http3


async def submit(client: http3.AsyncClient) -> None:
    while True:
        async with client.parallel(max_workers=4) as parallel:
            for number in range(40):
                await parallel.get(f"{BASE}/{number}", deadline=30 if number % 3 else None)


async def next_response(client: http3.AsyncClient) -> None:
    while True:
        async with client.parallel(max_workers=4) as parallel:
            for number in range(8):
                parallel.get(f"{BASE}/{number}")
            while parallel.has_pending_responses:
                await parallel.next_response()


async def tasks(client: http3.AsyncClient) -> None:
    async def get(parallel: http3.AsyncParallel, number: int) -> None:
        await (await parallel.get(f"{BASE}/{number}")).get_response()
        await client.get(f"{BASE}/plain")

    while True:
        async with client.parallel(max_workers=4, max_per_host=2) as parallel:
            if sys.argv[1] == "trio":  # by its own means: an anyio scope may be left half entered
                async with trio.open_nursery() as nursery:
                    for number in range(8):
                        nursery.start_soon(get, parallel, number)
            else:
                await asyncio.gather(*[get(parallel, number) for number in range(8)])


async def map_(client: http3.AsyncClient) -> None:
    async def urls() -> AsyncIterator[str]:
        for number in range(30):
            yield f"{BASE}/{number}"

    while True:
        async with client.parallel(max_workers=4) as parallel:
            async for pending in parallel.map(urls(), window=6):
                await pending.get_response()


async def leave(client: http3.AsyncClient) -> None:
    while True:
        async with client.parallel(max_workers=4) as parallel:
            for number in range(4):
                parallel.get(f"{BASE}/hang/{number}")
            await anyio.lowlevel.checkpoint()


SCENARIOS: dict[str, typing.Callable[[http3.AsyncClient], typing.Awaitable[None]]] = {
    "submit": submit,
    "next_response": next_response,
    "tasks": tasks,
    "map": map_,
    "leave": leave,
}


async def check_usable(client: http3.AsyncClient) -> None:
    async with client.parallel(max_workers=8) as parallel:
        for number in range(8):
            parallel.get(f"{BASE}/again/{number}")
        texts = [(await parallel.next_response(PATIENCE)).text for _ in range(8)]
    assert sorted(texts) == [f"/again/{number}" for number in range(8)], texts


async def close(client: http3.AsyncClient) -> None:
    await client.close()


def is_interrupt(error: BaseException) -> bool:
    """trio's nurseries put it into a group."""
    inner = getattr(error, "exceptions", None)
    return any(map(is_interrupt, inner)) if inner else isinstance(error, KeyboardInterrupt)


def main() -> None:
    kind, name, trials, seed = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    rng = random.Random(seed)
    interrupter = Interrupter()
    dispatch = Pausing()
    client = http3.AsyncClient(dispatch=dispatch, max_workers=8)
    scenario = functools.partial(SCENARIOS[name], client)

    def report(unraisable: typing.Any) -> None:
        if unraisable.exc_type is not KeyboardInterrupt:
            sys.__unraisablehook__(unraisable)

    sys.unraisablehook = report
    for trial in range(trials):
        faulthandler.dump_traceback_later(PATIENCE, exit=True)
        outcome: BaseException | None = None

        async def begin(delay: float = rng.uniform(20e-6, 4 * LONGEST)) -> None:
            # Once the loop runs: its own start and end are not what is tested.
            interrupter.after(delay)
            await scenario()

        try:
            event_loops.run(kind, begin)
        except BaseException as error:
            outcome = error
        interrupter.noticed()
        assert outcome is not None
        assert is_interrupt(outcome), f"{outcome!r} came out of trial {trial}"
        del outcome
        wait_until_nothing_in_flight(dispatch)
        event_loops.run(kind, functools.partial(check_usable, client))
    event_loops.run(kind, functools.partial(close, client))
    interrupter.end()


if __name__ == "__main__":
    main()
