"""
This library: a block's `get` and `next_response`, and its `map`.

With `Options`, the same with one feature that is not there by default.
"""

from __future__ import annotations

import itertools
import typing
from collections.abc import Callable, Mapping

from .._shared.work import Work

if typing.TYPE_CHECKING:
    import http3_parallel as http3

__all__ = ["FEATURES", "next_response", "on_map", "with_feature"]


def next_response(work: Work) -> None:
    _with_next_response(work, {}, {})


def on_map(work: Work) -> None:
    import http3_parallel as http3

    with http3.Client(**_client_options(work)) as client:
        if work.block:
            for urls in work.blocks():
                with client.parallel() as parallel:
                    for pending in parallel.map(urls):
                        _check(work, pending.get_response())
            return
        with client.parallel(max_workers=work.at_once) as parallel:
            for pending in parallel.map(work.urls(), window=work.outstanding or None):
                _check(work, pending.get_response())


def _with_next_response(
    work: Work, client_options: Mapping[str, typing.Any], get_options: Mapping[str, typing.Any]
) -> None:
    import http3_parallel as http3

    with http3.Client(**_client_options(work), **client_options) as client:
        if work.block:
            for block in work.blocks():
                with client.parallel() as parallel:
                    for url in block:
                        parallel.get(url)
                    while parallel.has_pending_responses:
                        _check(work, parallel.next_response())
            return
        urls = work.urls()
        with client.parallel(max_workers=work.at_once) as parallel:
            for url in itertools.islice(urls, work.outstanding or 2 * work.at_once):
                parallel.get(url, **get_options)
            while parallel.has_pending_responses:
                _check(work, parallel.next_response())
                for url in itertools.islice(urls, 1):
                    parallel.get(url, **get_options)


def _client_options(work: Work) -> dict[str, typing.Any]:
    options: dict[str, typing.Any] = {"max_workers": work.at_once}
    if work.authority is not None:
        options["verify"] = work.authority
    return options


def _check(work: Work, response: http3.Response) -> None:
    # What has not been read yet, with `stream=True`, is read here.
    work.check(response.status_code, response.read())


# Features.

#: As many as a browser keeps for a site, for each of ten sites: the jar is full, and of each
#: request's, those of its own site are sent.
_SITES, _COOKIES_EACH = 10, 20


def _nothing(*_: object) -> None:
    pass


def _full_jar() -> typing.Any:
    import http3_parallel as http3

    cookies = http3.Cookies()
    for site in ["127.0.0.1", *[f"site-{number}.example.com" for number in range(1, _SITES)]]:
        for number in range(_COOKIES_EACH):
            cookies.set(f"name-{number}", f"value-{number}", domain=site)
    return cookies


def _auth() -> typing.Any:
    import http3_parallel as http3

    return http3.BasicAuth("user", "password")


#: The options of the client, which are made there, and those of each request.
_Options = tuple[Mapping[str, Callable[[], typing.Any]], Mapping[str, typing.Any]]

FEATURES: dict[str, _Options] = {
    "auth": ({"auth": _auth}, {}),
    "event hooks": (
        {"event_hooks": lambda: {"request": [_nothing], "response": [_nothing]}},
        {},
    ),
    "a full cookie jar": ({"cookies": _full_jar}, {}),
    "a deadline": ({}, {"deadline": 60}),
    "retries": ({"retries": lambda: 3}, {}),
    "a limit of size": ({"max_response_size": lambda: 1_000_000}, {}),
    "stream, and read": ({}, {"stream": True}),
    "gzip": ({}, {}),
    "all of them": (
        {
            "auth": _auth,
            "event_hooks": lambda: {"request": [_nothing], "response": [_nothing]},
            "cookies": _full_jar,
            "retries": lambda: 3,
            "max_response_size": lambda: 1_000_000,
        },
        {"deadline": 60, "stream": True},
    ),
}


def with_feature(name: str) -> Callable[[Work], None]:
    client_options, get_options = FEATURES[name]

    def way(work: Work) -> None:
        made = {option: make() for option, make in client_options.items()}
        _with_next_response(work, made, get_options)

    return way
