"""
The example of docs/wsgi-apps.md under a real gunicorn, with each kind of worker, with the
application imported by the workers and by the process that they are forked from.
"""

from __future__ import annotations

import concurrent.futures
import http.client
import itertools
import json
import os
import signal
import sys
import time
import typing

import pytest

from gunicorn_server import Ending, Page, WSGIServer, gunicorn
from servers import PATIENCE, Gate, Peer, RawServer, ReceivedRequest, response_bytes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="gunicorn is tested on Linux")

KINDS = {
    "sync": ("--worker-class", "sync"),
    "gthread": ("--worker-class", "gthread", "--threads", "4"),
    "gevent": ("--worker-class", "gevent"),
}

#: As docs/wsgi-apps.md advises.
PATCHED_FIRST = "from gevent import monkey\n\nmonkey.patch_all()\n"

#: Far beyond any test: what ends a worker is what the test does.
NO_TIMEOUT = ("--timeout", "120", "--graceful-timeout", "120")


class Upstreams(RawServer):
    """
    All three of the page's, and what the tests' other pages ask for.

    * ``/user``, ``/basket``, ``/offers``: a JSON object that tells the path;
    * ``/echo/NAME``: the path;
    * ``/together/NAME-NUMBER``: the path, once three for that NAME are here;
    * ``/hold``: a JSON object, once `held` is opened;
    * ``/hang/...``: nothing, until the client closes.
    """

    def __init__(self) -> None:
        super().__init__(self._answer)
        self._gates: dict[str, Gate] = {}
        self.held = self._gates["held"] = Gate()

    def _answer(self, peer: Peer) -> None:
        while (request := peer.read_request()) is not None:
            kind, _, name = request.target.strip("/").partition("/")
            if kind == "hang":
                peer.wait_closed()
                return
            if kind == "together" and not self._arrive(peer, name.rpartition("-")[0]):
                return
            if kind == "hold" and not peer.wait_gate(self.held):
                return
            is_part = kind in ("user", "basket", "offers", "hold")
            body = json.dumps({"part": kind}) if is_part else request.target
            peer.send(response_bytes(body=body.encode()))

    def _arrive(self, peer: Peer, name: str) -> bool:
        with self.changed:
            if name not in self._gates:
                self._gates[name] = Gate()
            gate = self._gates[name]
            if len(self.requests_for(f"/together/{name}-")) == 3:
                gate.open()
        return peer.wait_gate(gate)

    def requests_for(self, prefix: str) -> list[ReceivedRequest]:
        return [request for request in self.requests if request.target.startswith(prefix)]

    def wait_hanging(self, name: str) -> list[Peer]:
        """The three connections that hang for the page of that name, once they do."""
        prefix = f"/hang/{name}-"
        assert self.wait_until(lambda: len(self.requests_for(prefix)) == 3)
        return [
            peer
            for peer in self.connections
            if any(request.target.startswith(prefix) for request in peer.requests)
        ]

    def processes(self) -> list[set[str]]:
        """For each connection, which processes have made requests on it, as far as they tell."""
        found = []
        for peer in list(self.connections):
            headers = [request.headers for request in peer.requests]
            told = {fields["x-process"] for fields in headers if "x-process" in fields}
            if told:
                found.append(told)
        return found

    def _stop(self) -> list[BaseException]:
        errors = super()._stop()
        for gate in self._gates.values():
            gate.close()
        return errors


def environment(upstreams: Upstreams, **more: str) -> dict[str, str]:
    urls = {
        f"{name.upper()}_URL": f"{upstreams.url}/{name}" for name in ("user", "basket", "offers")
    }
    return {"UPSTREAM": upstreams.url, "PAGE_DEADLINE": str(PATIENCE), **urls, **more}


class Served(typing.NamedTuple):
    server: WSGIServer
    upstreams: Upstreams

    def get(self, path: str) -> Page:
        return self.server.get(path)

    def json(self, path: str) -> typing.Any:
        page = self.server.get(path)
        assert page.status == 200, page.body
        return json.loads(page.body)

    def worker(self) -> int:
        """The process of a worker: of the only one, if there is one."""
        return int(self.get("/process").body)


#: Unique, so that no answer can be taken for another.
NAMES = (f"n{number}" for number in itertools.count())


class Setting(typing.NamedTuple):
    kind: str
    preload: bool
    lines: str = ""

    def __str__(self) -> str:
        return self.kind + "-preload" * self.preload + "-patched" * bool(self.lines)


@pytest.fixture(
    scope="module",
    params=[
        *(Setting(kind, preload) for kind in KINDS for preload in (False, True)),
        Setting("gevent", True, PATCHED_FIRST),
    ],
    ids=str,
)
def kept_served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> typing.Iterator[Served]:
    """With one worker. With --preload, the parent has used the client before it forks."""
    kind, preload, lines = request.param
    with Upstreams() as upstreams:
        with gunicorn(
            "pages:app",
            *KINDS[kind],
            *NO_TIMEOUT,
            *(["--preload"] if preload else []),
            environment=environment(upstreams, **({"AT_IMPORT": "1"} if preload else {})),
            directory=tmp_path_factory.mktemp("gunicorn"),
            lines=lines,
        ) as server:
            yield Served(server, upstreams)


@pytest.fixture
def served(kept_served: Served) -> typing.Iterator[Served]:
    yield kept_served
    kept_served.server.show_output()


@pytest.fixture
def threads() -> typing.Iterator[concurrent.futures.ThreadPoolExecutor]:
    with concurrent.futures.ThreadPoolExecutor(16) as executor:
        yield executor


def test_many_users_at_once_get_their_own_pages(served, threads):
    wanted = [next(NAMES) for _ in range(60)]
    pages = threads.map(lambda name: served.json(f"/echo/{name}"), wanted)
    for name, page in zip(wanted, pages, strict=True):
        assert page == {f"echo/{name}-{n}": f"/echo/{name}-{n}" for n in range(6)}
    assert served.json("/") == {part: {"part": part} for part in ("user", "basket", "offers")}
    # No connection is shared, not even with the process that the worker was forked from.
    processes = served.upstreams.processes()
    assert processes
    assert all(len(told) == 1 for told in processes), processes


def test_the_requests_of_a_page_are_under_way_at_the_same_time(served):
    name = next(NAMES)
    page = served.json(f"/together/{name}")
    assert page == {f"together/{name}-{n}": f"/together/{name}-{n}" for n in range(3)}


def test_context_variables_of_the_request_are_visible_in_the_workers(served, threads):
    wanted = [next(NAMES) for _ in range(8)]
    pages = threads.map(lambda name: served.json(f"/context/{name}"), wanted)
    for name, page in zip(wanted, pages, strict=True):
        visible = f"{name} /context/{name}"
        assert page["seen"] == 3 * [f"auth {visible}"] + 3 * [f"body {visible}"]


def test_an_abort_ends_the_requests_and_the_worker_which_is_replaced(served, threads):
    worker, name = served.worker(), next(NAMES)
    with Ending(worker) as ending:
        user = threads.submit(outcome, served, f"/hang/{name}")
        peers = served.upstreams.wait_hanging(name)
        os.kill(worker, signal.SIGABRT)
        assert all(peer.closed.wait(PATIENCE) for peer in peers)
        assert ending.wait()
    assert user.result() != 200
    assert served.worker() != worker
    name = next(NAMES)
    assert len(served.json(f"/together/{name}")) == 3


def outcome(served: Served, path: str) -> int | str:
    """The status of a page; what went wrong if there is none."""
    try:
        return served.get(path).status
    except (http.client.HTTPException, OSError) as error:
        return type(error).__name__


@pytest.mark.slow
def test_a_worker_that_takes_too_long_is_aborted_and_replaced(tmp_path, threads):
    with (
        Upstreams() as upstreams,
        gunicorn(
            "pages:app", "--timeout", "1", environment=environment(upstreams), directory=tmp_path
        ) as server,
    ):
        served = Served(server, upstreams)
        worker, name = served.worker(), next(NAMES)
        with Ending(worker) as ending:
            user = threads.submit(outcome, served, f"/hang/{name}")
            peers = upstreams.wait_hanging(name)
            assert all(peer.closed.wait(PATIENCE) for peer in peers)
            assert ending.wait()
        assert user.result() != 200
        assert served.worker() != worker


@pytest.mark.parametrize("kind", KINDS)
def test_a_graceful_stop_lets_the_page_be_finished(kind, tmp_path, threads):
    with Upstreams() as upstreams:
        settings = environment(upstreams, OFFERS_URL=f"{upstreams.url}/hold")
        with gunicorn(
            "pages:app", *KINDS[kind], *NO_TIMEOUT, environment=settings, directory=tmp_path
        ) as server:
            served = Served(server, upstreams)
            with Ending(served.worker()) as ending:
                user = threads.submit(served.json, "/")
                assert upstreams.wait_until(lambda: bool(upstreams.requests_for("/hold")))
                server.process.send_signal(signal.SIGTERM)
                assert server.wait_for_output(b"Handling signal: term")
                upstreams.held.open()
                parts = {"user": "user", "basket": "basket", "offers": "hold"}
                assert user.result() == {name: {"part": part} for name, part in parts.items()}
                assert server.process.wait(PATIENCE) == 0
                assert ending.wait()
        assert upstreams.wait_all_closed()


@pytest.mark.slow
@pytest.mark.parametrize("preload", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_graceful_stop_ends_what_hangs_when_its_time_is_over(kind, preload, tmp_path, threads):
    with Upstreams() as upstreams:
        with gunicorn(
            "pages:app",
            *KINDS[kind],
            *("--timeout", "120", "--graceful-timeout", "1"),
            *(["--preload"] if preload else []),
            environment=environment(upstreams, **({"AT_IMPORT": "1"} if preload else {})),
            directory=tmp_path,
        ) as server:
            served = Served(server, upstreams)
            name = next(NAMES)
            with Ending(served.worker()) as ending:
                user = threads.submit(outcome, served, f"/hang/{name}")
                upstreams.wait_hanging(name)
                started = time.monotonic()
                server.process.send_signal(signal.SIGTERM)
                assert server.process.wait(PATIENCE) == 0
                assert time.monotonic() - started < 1 + PATIENCE / 2
                assert ending.wait()
            assert user.result() != 200
        assert upstreams.wait_all_closed()
