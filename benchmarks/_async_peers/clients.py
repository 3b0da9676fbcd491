"""
The clients, each used as its documentation recommends.

Where a client takes one request at a time, so many tasks as there may be requests in flight make
one after the other. Its pool is as large, so that no request waits inside. Everything else is left
at its default.

A client is imported in the function that uses it: no environment has all of them.
"""

from __future__ import annotations

import asyncio
import typing
from collections.abc import Awaitable, Callable

from .work import Work

__all__ = ["ALONE", "CLIENTS", "Client"]

_Get = Callable[[str], Awaitable[tuple[int, "bytes | None"]]]

#: Seconds for which the ticker is alone.
_ALONE_SECONDS = 1.0


class Client(typing.NamedTuple):
    """
    * `loop`: asyncio, uvloop or trio.
    * `environment`: the name of the one it is installed in.
    * `package`: whose version is reported.
    """

    way: Callable[[Work], Awaitable[None]]
    loop: str
    environment: str
    package: str


async def _in_tasks(get: _Get, work: Work) -> None:
    urls = work.urls()

    async def worker() -> None:
        for url in urls:
            work.check(*await get(url))

    await asyncio.gather(*[worker() for _ in range(work.at_once)])


async def _in_trio_tasks(get: _Get, work: Work) -> None:
    import trio

    urls = work.urls()

    async def worker() -> None:
        for url in urls:
            work.check(*await get(url))

    async with trio.open_nursery() as nursery:
        for _ in range(work.at_once):
            nursery.start_soon(worker)


async def _aiohttp(work: Work) -> None:
    import aiohttp  # type: ignore[import-not-found, unused-ignore]

    connector = aiohttp.TCPConnector(limit=work.at_once)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def get(url: str) -> tuple[int, bytes]:
            async with session.get(url) as response:
                return response.status, await response.read()

        await _in_tasks(get, work)


async def _httpx(work: Work) -> None:
    import httpx  # type: ignore[import-not-found, unused-ignore]

    limits = httpx.Limits(max_connections=work.at_once, max_keepalive_connections=work.at_once)
    # Connections are never all taken for long, but a busy machine must not end the measurement.
    async with httpx.AsyncClient(limits=limits, timeout=60) as client:

        async def get(url: str) -> tuple[int, bytes]:
            response = await client.get(url)
            return response.status_code, response.content

        await _in_tasks(get, work)


async def _niquests(work: Work) -> None:
    import niquests  # type: ignore[import-not-found, unused-ignore]

    async with niquests.AsyncSession(pool_maxsize=work.at_once) as session:

        async def get(url: str) -> tuple[int, bytes | None]:
            response = await session.get(url)
            return response.status_code, response.content

        await _in_tasks(get, work)


async def _ours_map(work: Work) -> None:
    import http3_parallel as http3

    async with http3.AsyncClient(max_workers=work.at_once) as client:
        async with client.parallel(max_workers=work.at_once) as parallel:
            async for pending in parallel.map(work.urls()):
                response = await pending.get_response()
                work.check(response.status_code, response.content)


async def _ours_get_in(in_tasks: Callable[[_Get, Work], Awaitable[None]], work: Work) -> None:
    import http3_parallel as http3

    async with http3.AsyncClient(max_workers=work.at_once) as client:

        async def get(url: str) -> tuple[int, bytes]:
            response = await client.get(url)
            return response.status_code, response.content

        await in_tasks(get, work)


async def _ours_get(work: Work) -> None:
    await _ours_get_in(_in_tasks, work)


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
    "aiohttp": Client(_aiohttp, "asyncio", "asyncio", "aiohttp"),
    "aiohttp, uvloop": Client(_aiohttp, "uvloop", "asyncio", "aiohttp"),
    "niquests": Client(_niquests, "asyncio", "niquests", "niquests"),
    "httpx": Client(_httpx, "asyncio", "asyncio", "httpx"),
}

#: The ticker with nothing beside it: what the loop and the machine have of lag themselves.
ALONE = {
    "(ticker alone)": Client(_nothing, "asyncio", "ours", "http3-parallel"),
    "(ticker alone, uvloop)": Client(_nothing, "uvloop", "ours", "uvloop"),
    "(ticker alone, trio)": Client(_nothing_trio, "trio", "ours", "trio"),
}
