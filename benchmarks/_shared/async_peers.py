"""
The asynchronous clients other than ours, each opened as its documentation recommends.

Each of them is a context that gives a `Get`. Its pool is as large as the work has requests in
flight, so that none waits inside. Everything else is left at its default. A client is imported in
the function that uses it: no environment has all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import typing
from collections.abc import AsyncIterator, Awaitable, Callable

from .work import Work

__all__ = ["Get", "Open", "aiohttp", "httpx", "httpx2", "in_tasks", "niquests", "pyreqwest"]

#: From a URL to the status and the body.
Get = Callable[[str], Awaitable["tuple[int, bytes | None]"]]
Open = Callable[[Work], contextlib.AbstractAsyncContextManager[Get]]


async def in_tasks(get: Get, work: Work) -> None:
    """So many tasks as there may be requests in flight make one after the other."""
    urls = work.urls()

    async def worker() -> None:
        for url in urls:
            work.check(*await get(url))

    await asyncio.gather(*[worker() for _ in range(work.at_once)])


@contextlib.asynccontextmanager
async def aiohttp(work: Work) -> AsyncIterator[Get]:
    import aiohttp

    checks = True if work.authority is None else ssl.create_default_context(cafile=work.authority)
    connector = aiohttp.TCPConnector(limit=work.at_once, ssl=checks)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def get(url: str) -> tuple[int, bytes]:
            async with session.get(url) as response:
                return response.status, await response.read()

        yield get


@contextlib.asynccontextmanager
async def httpx(work: Work) -> AsyncIterator[Get]:
    import httpx

    async with _httpx_client(httpx, work) as get:
        yield get


@contextlib.asynccontextmanager
async def httpx2(work: Work) -> AsyncIterator[Get]:
    import httpx2

    async with _httpx_client(httpx2, work) as get:
        yield get


@contextlib.asynccontextmanager
async def _httpx_client(module: typing.Any, work: Work) -> AsyncIterator[Get]:
    async with module.AsyncClient(**httpx_options(module, work)) as client:

        async def get(url: str) -> tuple[int, bytes]:
            response = await client.get(url)
            return response.status_code, response.content

        yield get


def httpx_options(module: typing.Any, work: Work) -> dict[str, typing.Any]:
    """The same for its client that is not asynchronous."""
    return {
        "limits": module.Limits(
            max_connections=work.at_once, max_keepalive_connections=work.at_once
        ),
        # Connections are never all taken for long, but a busy machine must not end the measurement.
        "timeout": 60,
        "verify": True
        if work.authority is None
        else ssl.create_default_context(cafile=work.authority),
    }


@contextlib.asynccontextmanager
async def niquests(work: Work) -> AsyncIterator[Get]:
    import niquests

    async with niquests.AsyncSession(pool_maxsize=work.at_once) as session:
        if work.authority is not None:
            session.verify = work.authority

        async def get(url: str) -> tuple[int, bytes | None]:
            response = await session.get(url)
            return response.status_code, response.content

        yield get


@contextlib.asynccontextmanager
async def pyreqwest(work: Work) -> AsyncIterator[Get]:
    from pyreqwest.client import (
        ClientBuilder,
    )

    async with pyreqwest_built(ClientBuilder(), work) as client:

        async def get(url: str) -> tuple[int, bytes]:
            response = await client.get(url).build().send()
            return response.status, bytes(await response.bytes())

        yield get


def pyreqwest_built(builder: typing.Any, work: Work) -> typing.Any:
    """The same for its client that is not asynchronous."""
    builder = builder.max_connections(work.at_once)
    if work.authority is not None:
        with open(work.authority, "rb") as file:
            builder = builder.add_root_certificate_pem(file.read())
    return builder.build()
