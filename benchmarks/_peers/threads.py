"""
The synchronous clients other than ours, each opened as its documentation recommends.

Most have no way of their own to make many requests at the same time. They are called on a
`ThreadPoolExecutor`, with as many workers as there are to be requests in flight, and a pool of as
many connections. Everything else is left at its default.
"""

from __future__ import annotations

import contextlib
import itertools
import queue
import typing
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from .._shared.async_peers import httpx_options, pyreqwest_built
from .._shared.work import Body, Work

__all__ = [
    "drive",
    "httpx",
    "httpx2",
    "niquests",
    "on_executor",
    "pyreqwest",
    "requests_futures",
    "urllib3",
]

#: From a URL to the status and the body.
Get = Callable[[str], tuple[int, Body]]
Open = Callable[[Work], contextlib.AbstractContextManager[Get]]


def drive(
    submit: Callable[[str], Future[typing.Any]],
    work: Work,
    answer: Callable[[typing.Any], tuple[int, Body]] = lambda result: result,
) -> None:
    """
    Twice as many as run at the same time are submitted, if not more are asked for; each that is
    taken, as they complete, makes room for another. Of the ways to take them, a queue that the
    futures' callbacks fill is the fastest, whatever is outstanding.
    """
    if work.block:
        for block in work.blocks():
            for future in [submit(url) for url in block]:
                work.check(*answer(future.result()))
        return
    urls = work.urls()
    done: queue.SimpleQueue[Future[typing.Any]] = queue.SimpleQueue()
    outstanding = 0
    for url in itertools.islice(urls, work.outstanding or 2 * work.at_once):
        submit(url).add_done_callback(done.put)
        outstanding += 1
    while outstanding:
        work.check(*answer(done.get().result()))
        outstanding -= 1
        for url in itertools.islice(urls, 1):
            submit(url).add_done_callback(done.put)
            outstanding += 1


def on_executor(open_client: Open) -> Callable[[Work], None]:
    def way(work: Work) -> None:
        with open_client(work) as get:
            executor = ThreadPoolExecutor(work.at_once)
            try:
                drive(lambda url: executor.submit(get, url), work)
            finally:
                executor.shutdown(cancel_futures=True)

    return way


@contextlib.contextmanager
def urllib3(work: Work) -> Iterator[Get]:
    import urllib3

    with urllib3.PoolManager(maxsize=work.at_once, ca_certs=work.authority) as pool:

        def get(url: str) -> tuple[int, bytes]:
            response = pool.request("GET", url)
            return response.status, response.data

        yield get


@contextlib.contextmanager
def httpx(work: Work) -> Iterator[Get]:
    import httpx

    with _httpx_client(httpx, work) as get:
        yield get


@contextlib.contextmanager
def httpx2(work: Work) -> Iterator[Get]:
    import httpx2

    with _httpx_client(httpx2, work) as get:
        yield get


@contextlib.contextmanager
def _httpx_client(module: typing.Any, work: Work) -> Iterator[Get]:
    with module.Client(**httpx_options(module, work)) as client:

        def get(url: str) -> tuple[int, bytes]:
            response = client.get(url)
            return response.status_code, response.content

        yield get


@contextlib.contextmanager
def niquests(work: Work) -> Iterator[Get]:
    import niquests

    with niquests.Session(pool_maxsize=work.at_once) as session:
        if work.authority is not None:
            session.verify = work.authority

        def get(url: str) -> tuple[int, bytes | None]:
            response = session.get(url)
            return response.status_code, response.content

        yield get


@contextlib.contextmanager
def pyreqwest(work: Work) -> Iterator[Get]:
    from pyreqwest.client import (
        SyncClientBuilder,
    )

    with pyreqwest_built(SyncClientBuilder(), work) as client:

        def get(url: str) -> tuple[int, bytes]:
            response = client.get(url).build().send()
            return response.status, bytes(response.bytes())

        yield get


def requests_futures(work: Work) -> None:
    """It has an executor of its own, and makes the pool as large."""
    from requests_futures.sessions import (
        FuturesSession,
    )

    with FuturesSession(max_workers=work.at_once) as session:
        if work.authority is not None:
            session.verify = work.authority
        drive(session.get, work, lambda response: (response.status_code, response.content))
