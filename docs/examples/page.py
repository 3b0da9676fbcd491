"""A page made of three upstreams; docs/wsgi-apps.md explains it."""

from __future__ import annotations

import os
import typing

import flask

import http3_parallel as http3


class Part(typing.NamedTuple):
    url: str
    personal: bool  # whether the upstream is told who asks
    fallback: object  # what the page has if the upstream is late or broken


PARTS = {
    "user": Part(
        os.environ.get("USER_URL", "https://users.example.com/me"),
        personal=True,
        fallback={"name": "guest"},
    ),
    "basket": Part(
        os.environ.get("BASKET_URL", "https://baskets.example.com/current"),
        personal=True,
        fallback={"items": []},
    ),
    "offers": Part(
        os.environ.get("OFFERS_URL", "https://offers.example.org/today"),
        personal=False,
        fallback=[],
    ),
}

#: Seconds for all three together.
DEADLINE = float(os.environ.get("PAGE_DEADLINE", "0.8"))

#: One for the process. All users share it, so it keeps no cookies: what an upstream sets for one
#: of them must not be sent for another.
client = http3.Client(timeout=2.0, max_workers=64, keep_cookies=False)

app = flask.Flask(__name__)


@app.get("/")
def page() -> dict[str, object]:
    language = flask.request.headers.get("Accept-Language", "en")
    session = flask.request.cookies.get("session")
    content: dict[str, object] = {}
    with client.parallel(deadline=DEADLINE) as parallel:
        for name, part in PARTS.items():
            parallel.get(
                part.url,
                headers={"Accept-Language": language},
                cookies={"session": session} if session and part.personal else None,
                tag=name,
            )
        for pending in parallel:
            try:
                content[pending.tag] = pending.get_response().raise_for_status().json()
            except http3.HTTPError as error:
                app.logger.warning("the page has no %s: %s", pending.tag, error)
                content[pending.tag] = PARTS[pending.tag].fallback
    return content
