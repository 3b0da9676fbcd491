"""The event loops that tests of the asynchronous side run on: a coroutine test runs on each."""

from __future__ import annotations

import asyncio
import functools
import sys
import typing
from collections.abc import Awaitable, Callable

import anyio
import anyio.to_thread
import trio

from scripted import PATIENCE

#: `asyncio.run`, the same with uvloop, and `trio.run`: as users start them, not by anyio.
KINDS = ("asyncio", "uvloop", "trio")


def run(kind: str, main: Callable[[], Awaitable[typing.Any]]) -> typing.Any:
    """Run `main` to its end. One that hangs fails."""
    bounded = functools.partial(_bounded, main)
    if kind == "trio":
        return trio.run(bounded)
    if kind == "asyncio":
        return asyncio.run(bounded())
    import uvloop

    if sys.version_info >= (3, 11):
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(bounded())
    uvloop.install()
    try:
        return asyncio.run(bounded())
    finally:
        asyncio.set_event_loop_policy(None)


async def _bounded(main: Callable[[], Awaitable[typing.Any]]) -> typing.Any:
    with anyio.fail_after(3 * PATIENCE):
        return await main()


async def wait_until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Until it is true; fails after `seconds`. The event loop goes on."""
    with anyio.fail_after(seconds):
        while not condition():
            await anyio.sleep(0.002)


async def in_thread(function: Callable[..., typing.Any], *args: typing.Any) -> typing.Any:
    """What a test's servers have to be waited for with."""
    return await anyio.to_thread.run_sync(functools.partial(function, *args))
