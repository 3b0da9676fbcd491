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

LANGUAGES = ("en", "de")

#: Seconds for all three together.
DEADLINE = float(os.environ.get("PAGE_DEADLINE", "0.8"))

#: One for the process. All users share it, so it keeps no cookies: what an upstream sets for one
#: of them must not be sent for another.
client = http3.Client(timeout=2.0, max_workers=64, keep_cookies=False)

app = flask.Flask(__name__)


@app.get("/")
def page() -> dict[str, object]:
    language = flask.request.accept_languages.best_match(LANGUAGES, "en")
    session = flask.request.cookies.get("session")
    content = {name: part.fallback for name, part in PARTS.items()}
    with client.parallel(deadline=DEADLINE) as parallel:
        for name, part in PARTS.items():
            try:
                parallel.get(
                    part.url,
                    headers={"Accept-Language": language},
                    cookies={"session": session} if session and part.personal else None,
                    tag=name,
                )
            except ValueError as error:  # a session that cannot be sent as one cookie
                app.logger.warning("the page has no %s: %s", name, error)
        for pending in parallel:
            try:
                content[pending.tag] = pending.get_response().raise_for_status().json()
            except http3.HTTPError as error:
                app.logger.warning("the page has no %s: %s", pending.tag, error)
    return content
