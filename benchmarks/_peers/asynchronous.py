"""How the asynchronous clients are driven."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable

from .._shared import async_peers
from .._shared.work import Work

__all__ = ["on_asyncio", "on_uvloop"]


def on_asyncio(open_client: async_peers.Open) -> Callable[[Work], None]:
    def way(work: Work) -> None:
        _drive(asyncio.new_event_loop(), open_client, work)

    return way


def on_uvloop(open_client: async_peers.Open) -> Callable[[Work], None]:
    def way(work: Work) -> None:
        import uvloop

        _drive(uvloop.new_event_loop(), open_client, work)

    return way


def _drive(loop: asyncio.AbstractEventLoop, open_client: async_peers.Open, work: Work) -> None:
    """
    A page is made by code that is not asynchronous, on one client, and so on one loop. That is
    kind: under most frameworks each page has a loop of its own, and so a client of its own.
    """
    with contextlib.closing(loop):
        client = open_client(work)
        get = loop.run_until_complete(client.__aenter__())
        try:
            if work.block:
                for block in work.blocks():
                    loop.run_until_complete(_page(get, block, work))
            elif work.outstanding:
                loop.run_until_complete(_crawl(get, work))
            else:
                loop.run_until_complete(async_peers.in_tasks(get, work))
        finally:
            loop.run_until_complete(client.__aexit__(None, None, None))


async def _page(get: async_peers.Get, block: list[str], work: Work) -> None:
    for answer in await asyncio.gather(*map(get, block)):
        work.check(*answer)


async def _crawl(get: async_peers.Get, work: Work) -> None:
    """A task for each; the client's own pool has them wait."""
    done: asyncio.Queue[asyncio.Task[tuple[int, bytes | None]]] = asyncio.Queue()
    tasks = set()
    urls = work.urls()

    def submit(url: str) -> None:
        task = asyncio.ensure_future(get(url))
        task.add_done_callback(done.put_nowait)
        tasks.add(task)

    for url in itertools.islice(urls, work.outstanding):
        submit(url)
    while tasks:
        task = await done.get()
        tasks.remove(task)
        work.check(*task.result())
        for url in itertools.islice(urls, 1):
            submit(url)
