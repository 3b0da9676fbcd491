"""
The clients, each used as its documentation recommends.

Where a client takes one request at a time, so many tasks as there may be requests in flight make
one after the other.
"""

from __future__ import annotations

import asyncio
import typing
from collections.abc import Awaitable, Callable

from .._shared import async_peers
from .._shared.work import Work

__all__ = ["ALONE", "CLIENTS", "Client"]

_Way = Callable[[Work], Awaitable[None]]

#: Seconds for which the ticker is alone.
_ALONE_SECONDS = 1.0


class Client(typing.NamedTuple):
    """
    * `loop`: asyncio, uvloop or trio.
    * `environment`: the name of the one it is installed in.
    * `package`: whose version is reported.
    """

    way: _Way
    loop: str
    environment: str
    package: str


async def _in_trio_tasks(get: async_peers.Get, work: Work) -> None:
    import trio

    urls = work.urls()

    async def worker() -> None:
        for url in urls:
            work.check(*await get(url))

    async with trio.open_nursery() as nursery:
        for _ in range(work.at_once):
            nursery.start_soon(worker)


def _in_tasks_of(open_client: async_peers.Open) -> _Way:
    async def way(work: Work) -> None:
        async with open_client(work) as get:
            await async_peers.in_tasks(get, work)

    return way


async def _ours_map(work: Work) -> None:
    import http3_parallel as http3

    async with http3.AsyncClient(max_workers=work.at_once) as client:
        async with client.parallel(max_workers=work.at_once) as parallel:
            async for pending in parallel.map(work.urls()):
                response = await pending.get_response()
                work.check(response.status_code, response.content)


async def _ours_get_in(
    in_tasks: Callable[[async_peers.Get, Work], Awaitable[None]], work: Work
) -> None:
    import http3_parallel as http3

    async with http3.AsyncClient(max_workers=work.at_once) as client:

        async def get(url: str) -> tuple[int, bytes]:
            response = await client.get(url)
            return response.status_code, response.content

        await in_tasks(get, work)


async def _ours_get(work: Work) -> None:
    await _ours_get_in(async_peers.in_tasks, work)


async def _ours_get_trio(work: Work) -> None:
    await _ours_get_in(_in_trio_tasks, work)


async def _nothing(work: Work) -> None:
    await asyncio.sleep(_ALONE_SECONDS)


async def _nothing_trio(work: Work) -> None:
    import trio

    await trio.sleep(_ALONE_SECONDS)


CLIENTS = {
    "http3_parallel, map": Client(_ours_map, "asyncio", "ours", "http3-parallel"),
    "http3_parallel, get": Client(_ours_get, "asyncio", "ours", "http3-parallel"),
    "http3_parallel, map, uvloop": Client(_ours_map, "uvloop", "ours", "http3-parallel"),
    "http3_parallel, get, uvloop": Client(_ours_get, "uvloop", "ours", "http3-parallel"),
    "http3_parallel, map, trio": Client(_ours_map, "trio", "ours", "http3-parallel"),
    "http3_parallel, get, trio": Client(_ours_get_trio, "trio", "ours", "http3-parallel"),
    "aiohttp": Client(_in_tasks_of(async_peers.aiohttp), "asyncio", "asyncio", "aiohttp"),
    "aiohttp, uvloop": Client(_in_tasks_of(async_peers.aiohttp), "uvloop", "asyncio", "aiohttp"),
    "niquests": Client(_in_tasks_of(async_peers.niquests), "asyncio", "niquests", "niquests"),
    "httpx": Client(_in_tasks_of(async_peers.httpx), "asyncio", "asyncio", "httpx"),
}

#: The ticker with nothing beside it: what the loop and the machine have of lag themselves.
ALONE = {
    "(ticker alone)": Client(_nothing, "asyncio", "ours", "http3-parallel"),
    "(ticker alone, uvloop)": Client(_nothing, "uvloop", "ours", "uvloop"),
    "(ticker alone, trio)": Client(_nothing_trio, "trio", "ours", "trio"),
}
