"""The clients, by the names they have in the tables."""

from __future__ import annotations

import typing
from collections.abc import Callable

from .._shared import async_peers
from .._shared.work import Work
from . import asynchronous, curl, floor, ours, threads
from .scenarios import Scenario

__all__ = ["CLIENTS", "FEATURES", "FLOOR", "OURS", "OURS_MAP", "Client", "clients_of", "is_peer"]


class Client(typing.NamedTuple):
    """
    * `environment`: the name of the one it is installed in.
    * `package`: whose version is reported.
    * `responses`: whether it makes an object of each response.
    * `site`: in place of the scenario's.
    """

    way: Callable[[Work], None]
    environment: str
    package: str | None
    responses: bool = True
    site: str | None = None


def _threads(open_client: threads.Open, environment: str, package: str) -> Client:
    return Client(threads.on_executor(open_client), environment, package)


def _asyncio(open_client: async_peers.Open, environment: str, package: str) -> Client:
    return Client(asynchronous.on_asyncio(open_client), environment, package)


FLOOR = "floor: raw sockets, threads"
#: What the others are compared with.
OURS = "http3_parallel"
OURS_MAP = "http3_parallel, map"

CLIENTS = {
    FLOOR: Client(threads.on_executor(floor.raw_sockets), "ours", None, responses=False),
    OURS: Client(ours.next_response, "ours", "http3-parallel"),
    OURS_MAP: Client(ours.on_map, "ours", "http3-parallel"),
    "urllib3, threads": _threads(threads.urllib3, "peers", "urllib3"),
    "requests-futures": Client(threads.requests_futures, "peers", "requests-futures"),
    "httpx, threads": _threads(threads.httpx, "asyncio", "httpx"),
    "httpx, asyncio": _asyncio(async_peers.httpx, "asyncio", "httpx"),
    "httpx2, threads": _threads(threads.httpx2, "peers", "httpx2"),
    "httpx2, asyncio": _asyncio(async_peers.httpx2, "peers", "httpx2"),
    "aiohttp": _asyncio(async_peers.aiohttp, "asyncio", "aiohttp"),
    "aiohttp, uvloop": Client(asynchronous.on_uvloop(async_peers.aiohttp), "asyncio", "aiohttp"),
    "niquests, threads": _threads(threads.niquests, "niquests", "niquests"),
    "niquests, asyncio": _asyncio(async_peers.niquests, "niquests", "niquests"),
    "pyreqwest, threads": _threads(threads.pyreqwest, "peers", "pyreqwest"),
    "pyreqwest, asyncio": _asyncio(async_peers.pyreqwest, "peers", "pyreqwest"),
    "pycurl, multi": Client(curl.multi, "peers", "pycurl", responses=False),
}

#: Ours, with one feature each that is not there by default.
FEATURES = {
    f"{OURS}, with {name}": Client(
        ours.with_feature(name),
        "ours",
        "http3-parallel",
        site="gzip" if name == "gzip" else None,
    )
    for name in ours.FEATURES
}


def clients_of(scenario: Scenario) -> dict[str, Client]:
    return {OURS: CLIENTS[OURS], **FEATURES} if scenario.features else CLIENTS


def is_peer(name: str) -> bool:
    """Whether it is one of the others, with a response object: whom we are to be level with."""
    return not name.startswith(OURS) and name in CLIENTS and CLIENTS[name].responses
