"""
Two hundred requests in each state that a request can be in when its block is left.

A `Scenario` has two sides. `serve()` is the server's, a `Place` that knows when all have
arrived and when the client has closed everything. `client()`, `submit()` and a `Crowd` are the
client's. The two may be in one process, or in two: run as a program, this module is the client
alone, so that what an exit takes can be measured without the servers' threads in the way (see
`spawn`). ``tests/test_leaving.py`` and ``benchmarks/exit_times.py`` share it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import json
import os
import pathlib
import socket
import ssl
import subprocess
import sys
import threading
import time
import typing
import urllib.parse

import trustme

import http3_parallel as http3
from http3_parallel.dispatch import NetworkDispatch
from servers import (
    PATIENCE,
    HangingResolver,
    Peer,
    RawServer,
    drip_body,
    drip_chunks,
    drip_head,
    dripping_tls,
    full_backlog,
    hang_before_response,
    hanging_tls,
    lengthless_body_then_hang,
    never_reads,
    response_bytes,
)

#: Requests of a scenario, unless told otherwise.
NUMBER = 200

#: How many occupy what the others wait for: the block's workers, or the pool's connections.
HELD = 4

#: The fewest for which every scenario is what it says.
FEW = HELD + 2

#: A request's `Abort.phase` says where it is. One that has none yet waits in line.
IN_LINE = "in line"

#: One that has ended, with a body that is still to be read.
DELIVERED = "delivered"

#: Look-ups that hang at the same time; more wait in the resolver's own line.
RESOLVER_THREADS = 16


@functools.cache
def ca() -> trustme.CA:
    return trustme.CA()


@functools.cache
def server_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca().issue_cert("127.0.0.1").configure_cert(context)
    return context


@functools.cache
def large_body() -> bytes:
    """100 MB, of which a process has one. The system gives zeros no memory until written."""
    return bytes(100_000_000)


# The server's side.


class Place(typing.NamedTuple):
    """
    Where the requests of a scenario go.

    * `wait_arrived(number)`: until the server has seen so many of them get to the state.
    * `wait_all_closed()`: until the client has closed every connection there has been.

    Both return whether it happened. `server` is what answers, if anything does.
    """

    url: str
    wait_arrived: typing.Callable[[int], bool]
    wait_all_closed: typing.Callable[[], bool]
    server: RawServer | None = None


@contextlib.contextmanager
def _served(server: RawServer, wait: typing.Callable[[int], bool]) -> typing.Iterator[Place]:
    with server:
        yield Place(server.url, wait, server.wait_all_closed, server)


def _requests(
    handler: typing.Callable[[Peer], object], *, tls: bool = False
) -> typing.ContextManager[Place]:
    """A server that is there when it has read the heads of the requests."""
    server = RawServer(handler, tls=server_tls() if tls else None)
    return _served(server, server.wait_for_requests)


def _connections(server: RawServer) -> typing.ContextManager[Place]:
    """A server that is there when it has accepted the connections."""
    return _served(server, server.wait_for_connections)


@contextlib.contextmanager
def _full_backlog() -> typing.Iterator[Place]:
    with full_backlog() as backlog:
        port = backlog.port
        yield Place(
            backlog.url,
            lambda number: wait_until(lambda: connecting(port) >= number),
            lambda: wait_until(lambda: connecting(port) == 0),
        )


_names = itertools.count()


@contextlib.contextmanager
def _hanging_names() -> typing.Iterator[Place]:
    # A name of its own each time: what was found for one is kept for seconds.
    yield Place(f"http://n{next(_names)}.hangs.test", lambda number: True, lambda: True)


def _unavailable(peer: Peer) -> None:
    if peer.read_request() is not None:
        peer.send(response_bytes(503, b"", {"Connection": "close"}))


def connecting(port: int) -> int:
    """How many sockets of this machine are in the middle of a connect to `port`."""
    with open("/proc/net/tcp") as table:
        rows = [line.split() for line in table.readlines()[1:]]
    return sum(row[2].endswith(f":{port:04X}") and row[3] == "02" for row in rows)


def wait_until(condition: typing.Callable[[], bool], timeout: float = PATIENCE) -> bool:
    """For what nothing announces: looks again and again, and returns whether it came."""
    end = time.monotonic() + timeout
    pause = threading.Event()
    while not condition():
        if time.monotonic() > end:
            return False
        pause.wait(0.002)
    return True


# The client's side.


@dataclasses.dataclass(frozen=True)
class Scenario:
    """
    * `serve`: the server's side.
    * `phase`: where the requests are, as `Abort.phase` begins; or `IN_LINE`, or `DELIVERED`.
    * `workers`, `connections`: the block's and the pool's limit, where it is `HELD`.
    * `request`: what `Parallel.request` takes besides the URL.
    * `reads`: whether threads read the delivered streams.
    """

    name: str
    serve: typing.Callable[[], typing.ContextManager[Place]]
    phase: str
    workers: int | None = None
    connections: int | None = None
    retries: http3.Retry | int = 0
    method: str = "GET"
    request: typing.Callable[[], dict[str, typing.Any]] = dict
    names: typing.Literal["", "one", "many"] = ""
    reads: bool = False
    number: int = NUMBER

    @property
    def is_held_up(self) -> bool:
        """Whether the first `HELD` requests are elsewhere: the others wait for them."""
        return self.workers is not None or self.connections is not None

    def arriving(self, number: int) -> int:
        return HELD if self.is_held_up else number

    def block_workers(self, number: int) -> int:
        return self.workers or number

    def client(self, verify: str | ssl.SSLContext | None = None) -> http3.Client:
        if verify is None:
            verify = ssl.create_default_context()
            ca().configure_trust(verify)
        return http3.Client(
            max_workers=NUMBER,
            timeout=None,
            verify=verify,
            retries=self.retries,
            trust_env=False,
            pool_limits=http3.PoolLimits(hard_limit=self.connections or NUMBER),
        )

    def urls(self, url: str, number: int) -> list[str]:
        if self.names == "many":
            scheme, host = url.split("://")
            return [f"{scheme}://{n}.{host}/" for n in range(number)]
        return [f"{url}/{n}" for n in range(number)]

    def patch(self, url: str, number: int) -> HangingResolver | None:
        """Take the place of `socket.getaddrinfo`, if that is what hangs."""
        if not self.names:
            return None
        hosts = {urllib.parse.urlsplit(each).hostname or "" for each in self.urls(url, number)}
        resolver = HangingResolver(*hosts)
        socket.getaddrinfo = resolver.getaddrinfo
        return resolver

    @contextlib.contextmanager
    def patched(self, url: str, number: int) -> typing.Iterator[None]:
        real = socket.getaddrinfo
        resolver = self.patch(url, number)
        try:
            yield
        finally:
            socket.getaddrinfo = real
            if resolver is not None:
                resolver.release()
                assert resolver.wait_all_gone()

    def submit(
        self, parallel: http3.Parallel, url: str, number: int, **options: typing.Any
    ) -> Crowd:
        """Submit them all; `options` are for those that will be in the state."""
        handles = []
        for n, each in enumerate(self.urls(url, number)):
            more = {} if self.is_held_up and n < HELD else options
            handles.append(parallel.request(self.method, each, **self.request(), **more))
        return Crowd(self, handles)

    def __str__(self) -> str:
        return self.name


class Reader:
    """A thread that reads a stream to its end."""

    def __init__(self, response: http3.Response) -> None:
        self.pieces: list[bytes] = []
        self.error: BaseException | None = None
        self.ended_at = 0.0
        self._response = response
        # Not a daemon: if nothing ended the stream, the process would not end.
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        try:
            for piece in self._response.stream():
                self.pieces.append(piece)
        except BaseException as error:
            self.error = error
        self.ended_at = time.monotonic()

    def join(self) -> None:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "a stream is being read after its end"


class Crowd:
    """The requests of a scenario, all submitted."""

    def __init__(self, scenario: Scenario, handles: list[http3.PendingResponse]) -> None:
        self.scenario = scenario
        self.handles = handles
        self.responses: list[http3.Response] = []
        self.readers: list[Reader] = []

    @property
    def waiting(self) -> list[http3.PendingResponse]:
        """Those that are in the scenario's state, once they are."""
        return self.handles[HELD if self.scenario.is_held_up else 0 :]

    def get_there(self, timeout: float = PATIENCE) -> bool:
        """Wait until all are in the scenario's state. Returns whether they are."""
        if self.scenario.phase == DELIVERED:
            self.responses = [handle.get_response(PATIENCE) for handle in self.handles]
            if self.scenario.reads:
                self.readers = [Reader(response) for response in self.responses]
                return wait_until(lambda: all(reader.pieces for reader in self.readers), timeout)
            return not any(response.is_closed for response in self.responses)
        return wait_until(self._is_there, timeout)

    def _is_there(self) -> bool:
        phases = [phase_of(handle) for handle in self.handles]
        wanted = sum(phase.startswith(self.scenario.phase) for phase in phases)
        if not self.scenario.is_held_up:
            return wanted == len(phases)
        held = phases.count("waiting for the response")
        return (held, wanted) == (HELD, len(phases) - HELD)


def phase_of(handle: http3.PendingResponse) -> str:
    abort = handle._abort
    if abort is not None:
        return abort.phase
    return "ended" if handle.done() else IN_LINE


def _post() -> dict[str, typing.Any]:
    return {"data": large_body()}


def _stream() -> dict[str, typing.Any]:
    return {"stream": True}


_HEAD = "waiting for the response"
_BODY = "reading the body"
_LATER = http3.Retry(5, backoff=60.0, backoff_max=60.0, jitter=False)

SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            "queued",
            lambda: _requests(hang_before_response),
            IN_LINE,
            workers=HELD,
        ),
        Scenario(
            "waiting for a connection",
            lambda: _requests(hang_before_response),
            "waiting for a connection",
            connections=HELD,
        ),
        Scenario("resolving one name", _hanging_names, "resolving", names="one"),
        Scenario("resolving many names", _hanging_names, "resolving", names="many"),
        Scenario("connecting", _full_backlog, "connecting"),
        Scenario("in a handshake that hangs", lambda: _connections(hanging_tls()), "in the TLS"),
        Scenario("in a handshake that drips", lambda: _connections(dripping_tls()), "in the TLS"),
        # The system takes 4 MB of each, 800 MB in all, before a send waits.
        Scenario(
            "sending 100 MB",
            lambda: _requests(never_reads),
            "sending",
            method="POST",
            request=_post,
        ),
        Scenario(
            "sending 100 MB over TLS",
            lambda: _requests(never_reads, tls=True),
            "sending",
            method="POST",
            request=_post,
        ),
        Scenario("waiting for the head", lambda: _requests(hang_before_response), _HEAD),
        Scenario("in a head that drips", lambda: _requests(drip_head), _HEAD),
        Scenario("in a body that drips", lambda: _requests(drip_body), _BODY),
        Scenario("in a body that drips over TLS", lambda: _requests(drip_body, tls=True), _BODY),
        Scenario("in chunks that drip", lambda: _requests(drip_chunks), _BODY),
        Scenario("in a body without length", lambda: _requests(lengthless_body_then_hang), _BODY),
        Scenario(
            "waiting to try again",
            lambda: _requests(_unavailable),
            "waiting to try again",
            retries=_LATER,
        ),
        Scenario("streams unread", lambda: _requests(drip_body), DELIVERED, request=_stream),
        Scenario(
            "streams unread over TLS",
            lambda: _requests(drip_body, tls=True),
            DELIVERED,
            request=_stream,
        ),
        Scenario(
            "streams being read",
            lambda: _requests(drip_body),
            DELIVERED,
            request=_stream,
            reads=True,
        ),
        Scenario(
            "streams being read over TLS",
            lambda: _requests(drip_body, tls=True),
            DELIVERED,
            request=_stream,
            reads=True,
        ),
    )
}


@contextlib.contextmanager
def staged(scenario: Scenario, number: int = NUMBER) -> typing.Iterator[tuple[Place, http3.Client]]:
    """Both sides in this process."""
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(scenario.serve())
        stack.enter_context(scenario.patched(place.url, number))
        yield place, stack.enter_context(scenario.client())


def pool_of(client: http3.Client) -> typing.Any:
    dispatcher = client._engine._dispatcher
    assert isinstance(dispatcher, NetworkDispatch)
    return dispatcher._pool


def assert_nothing_is_busy(client: http3.Client, parallel: http3.Parallel) -> None:
    """No worker and no connection is in use for the block, or for anything else."""
    block = parallel._block
    assert not block._pending
    # Leaving the block waits for this, the end of a single request does not.
    assert wait_until(lambda: not block._executing)
    assert wait_until(lambda: not block._streams)
    # A reader of a stream is a thread of the user's, which was woken and not waited for.
    pool = pool_of(client)
    assert wait_until(lambda: not pool._in_use), f"{len(pool._in_use)} connections are in use"
    workers = client._engine._state.workers
    assert wait_until(lambda: workers._idle == workers._threads), "a worker is busy"


def assert_ended(crowd: Crowd) -> None:
    """All were cancelled: no byte is delivered any more, and nothing looks complete."""
    delivered = crowd.scenario.phase == DELIVERED
    for handle in crowd.handles:
        assert handle.done()
        assert handle.cancelled() is not delivered
        if not delivered:
            error = error_of(handle.get_response)
            assert isinstance(error, http3.RequestCancelled), repr(error)
            assert error.request is handle.request
    for reader in crowd.readers:
        reader.join()
        assert isinstance(reader.error, (http3.RequestCancelled, http3.ResponseClosed))
    for response in crowd.responses:
        assert response.is_closed
        error = error_of(response.read)
        assert isinstance(error, (http3.ResponseClosed, http3.StreamConsumed)), repr(error)


def error_of(function: typing.Callable[[], object]) -> BaseException | None:
    try:
        function()
    except BaseException as error:
        return error
    return None


# The client in a process of its own.


class ChildExit(typing.NamedTuple):
    """
    * `block`: seconds from the end of the block's body to the statement after the block; NaN
      if the block was not left.
    * `process`: seconds from there to the end of the process.
    * `status`: its exit status.
    """

    block: float
    process: float
    status: int


def spawn(scenario: Scenario, place: Place, *, leaves: bool, ca_path: str) -> ChildExit:
    """
    Run the client's side of `scenario` in a process that ends right after it has left the
    block, or, if not `leaves`, with the block open. Its client is not closed.
    """
    process = subprocess.Popen(
        [
            sys.executable,
            str(pathlib.Path(__file__)),
            scenario.name,
            place.url,
            ca_path,
            "leave" if leaves else "stay",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        text=True,
    )
    # A child that hangs gives an end of file rather than the same to the test.
    watch = threading.Timer(3 * PATIENCE, process.kill)
    watch.start()
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        with process.stdin, process.stdout:
            assert process.stdout.readline() == "there\n", "the requests did not get there"
            assert place.wait_arrived(scenario.arriving(scenario.number))
            process.stdin.write("go\n")
            process.stdin.flush()
            left, ended_at = json.loads(process.stdout.readline())
            # The end of file is the end of the process, to the microsecond.
            assert process.stdout.read() == ""
            took = time.time() - ended_at
        return ChildExit(left, took, process.wait(PATIENCE))
    finally:
        watch.cancel()
        process.kill()
        process.wait()


#: Kept until the process ends: a block, or a stream, that is nobody's any more is not open.
_kept: list[object] = []


def _run_client(name: str, url: str, ca_path: str, then: str) -> None:
    scenario = SCENARIOS[name]
    scenario.patch(url, scenario.number)
    client = scenario.client(ssl.create_default_context(cafile=ca_path))
    workers = scenario.block_workers(scenario.number)
    if then == "stay":
        parallel = client.parallel(max_workers=workers)
        _kept.append(parallel)
        _get_there(scenario, parallel, url)
        print(json.dumps([float("nan"), time.time()]), flush=True)
        sys.exit(3)
    with client.parallel(max_workers=workers) as parallel:
        _get_there(scenario, parallel, url)
        left_at = time.monotonic()
    took = time.monotonic() - left_at
    print(json.dumps([took, time.time()]), flush=True)


def _get_there(scenario: Scenario, parallel: http3.Parallel, url: str) -> None:
    crowd = scenario.submit(parallel, url, scenario.number)
    _kept.append(crowd)
    if crowd.get_there():
        print("there", flush=True)
        sys.stdin.readline()


if __name__ == "__main__":
    _run_client(*sys.argv[1:])
