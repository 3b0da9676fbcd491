"""
The example of docs/wsgi-apps.md, with more pages, for the tests with real servers.

``UPSTREAM`` in the environment is the URL of the tests' server; with ``AT_IMPORT``, requests are
made when this module is imported, as by a server that preloads the application and forks then.
"""

from __future__ import annotations

import contextvars
import importlib
import os
import typing

import flask

import http3_parallel as http3
from servers import PATIENCE

example = importlib.import_module("page")
app: flask.Flask = example.app
client: http3.Client = example.client

UPSTREAM = os.environ["UPSTREAM"]

asked_for: contextvars.ContextVar[str] = contextvars.ContextVar("asked_for")


def mine() -> dict[str, str]:
    """Tells the upstream which process asks."""
    return {"X-Process": str(os.getpid())}


def texts(paths: typing.Iterable[str], **options: typing.Any) -> dict[str, str]:
    options = {"headers": mine(), "timeout": PATIENCE, **options}
    with client.parallel() as parallel:
        for path in paths:
            parallel.get(f"{UPSTREAM}/{path}", tag=path, **options)
        return {pending.tag: pending.get_response().text for pending in parallel}


@app.get("/process")
def process() -> str:
    return str(os.getpid())


@app.get("/echo/<name>")
def echo(name: str) -> dict[str, str]:
    return texts(f"echo/{name}-{number}" for number in range(6))


@app.get("/together/<name>")
def together(name: str) -> dict[str, str]:
    return texts(f"together/{name}-{number}" for number in range(3))


@app.get("/hang/<name>")
def hang(name: str) -> dict[str, str]:
    return texts((f"hang/{name}-{number}" for number in range(3)), timeout=None)


@app.get("/context/<name>")
def context(name: str) -> dict[str, list[str]]:
    """What code of the application's sees in the workers."""
    seen: list[str] = []
    asked_for.set(name)

    def auth(request: http3.Request) -> http3.Request:
        seen.append(f"auth {asked_for.get()} {flask.request.path}")
        return request

    def body() -> typing.Iterator[bytes]:
        seen.append(f"body {asked_for.get()} {flask.request.path}")
        yield b"x"

    with client.parallel() as parallel:
        for number in range(3):
            parallel.post(
                f"{UPSTREAM}/echo/{number}",
                data=body(),
                auth=auth,
                headers=mine(),
                timeout=PATIENCE,
            )
        for pending in parallel:
            pending.get_response()
    return {"seen": sorted(seen)}


if "AT_IMPORT" in os.environ:
    texts(f"echo/import-{number}" for number in range(8))
