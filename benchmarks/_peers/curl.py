"""pycurl's multi interface, as in its example of a retriever: one thread, a handle for each."""

from __future__ import annotations

import itertools
import typing
from collections.abc import Iterable
from io import BytesIO

from .._shared.work import Work

__all__ = ["multi"]


def multi(work: Work) -> None:
    """Its handles take from a list, so nothing is outstanding inside it."""
    import pycurl

    retriever = pycurl.CurlMulti()
    handles = []
    for _ in range(work.at_once):
        handle = pycurl.Curl()
        handle.setopt(pycurl.NOSIGNAL, 1)
        if work.authority is not None:
            handle.setopt(pycurl.CAINFO, work.authority)
        handles.append(handle)
    try:
        if work.block:
            for block in work.blocks():
                _retrieve(pycurl, retriever, handles, block, work)
        else:
            _retrieve(pycurl, retriever, handles, work.urls(), work)
    finally:
        for handle in handles:
            handle.close()
        retriever.close()


def _retrieve(
    pycurl: typing.Any,
    retriever: typing.Any,
    idle: list[typing.Any],
    urls: Iterable[str],
    work: Work,
) -> None:
    """All; the handles are `idle` before and after."""
    urls = iter(urls)
    bodies = {}
    while True:
        for url in itertools.islice(urls, len(idle)):
            handle = idle.pop()
            bodies[handle] = BytesIO()
            handle.setopt(pycurl.URL, url)
            handle.setopt(pycurl.WRITEDATA, bodies[handle])
            retriever.add_handle(handle)
        if not bodies:
            return
        retriever.perform()
        _, succeeded, failed = retriever.info_read(len(bodies))
        for _, number, message in failed:
            raise ConnectionError(f"curl: {number} {message}")
        for handle in succeeded:
            retriever.remove_handle(handle)
            work.check(handle.getinfo(pycurl.RESPONSE_CODE), bodies.pop(handle).getvalue())
            idle.append(handle)
        if not succeeded:
            retriever.select(1.0)
