"""
An application for uWSGI. ``UPSTREAM`` in the environment is the URL of the tests' server; with
``AT_IMPORT``, it makes requests when it is imported: ``plain`` ones, or in a ``block``.
"""

from __future__ import annotations

import json
import os
import typing

import http3_parallel as http3

UPSTREAM = os.environ["UPSTREAM"]

client = http3.Client(timeout=10.0)


def mine() -> dict[str, str]:
    """Tells the upstream which process asks."""
    return {"X-Process": str(os.getpid())}


def texts(name: str) -> dict[str, str]:
    with client.parallel() as parallel:
        for number in range(6):
            path = f"{name}-{number}"
            parallel.get(f"{UPSTREAM}/{path}", tag=path, headers=mine())
        return {pending.tag: pending.get_response().text for pending in parallel}


def late(name: str) -> dict[str, str]:
    """What a deadline leaves."""
    with client.parallel(deadline=0.3) as parallel:
        pending = parallel.get(f"{UPSTREAM}/hang/{name}", headers=mine(), timeout=None)
        try:
            return {"got": pending.get_response().text}
        except http3.DeadlineExceeded as error:
            return {"failed": type(error).__name__}


def plain(name: str) -> dict[str, str]:
    return {name: client.get(f"{UPSTREAM}/{name}", headers=mine()).text}


PAGES = {"texts": texts, "late": late, "plain": plain}


def application(
    environ: dict[str, typing.Any], start_response: typing.Callable[..., typing.Any]
) -> list[bytes]:
    kind, _, name = environ["PATH_INFO"].strip("/").partition("/")
    body = json.dumps(PAGES[kind](name)).encode()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [body]


if os.environ.get("AT_IMPORT") == "plain":
    plain("import")
elif os.environ.get("AT_IMPORT") == "block":
    texts("import")
