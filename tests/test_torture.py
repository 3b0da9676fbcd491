"""
Something happens at the k-th call of a connection's socket, for every k: it fails, it ends, it
does a byte at a time, or the request is aborted at this very instant, by the thread that is in the
call or by another.

Whatever it is, the request ends with the right response or with an error of ours that knows it,
nothing stays busy or open, and the next request of the same client gets its own answer: each has a
token, which the server sends back.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import itertools
import socket
import ssl
import threading
import typing
from collections.abc import Callable, Iterator

import pytest

import http3_parallel as http3
from http3_parallel.dispatch import connections, exchange, sockets
from scenarios import assert_nothing_is_busy, pool_of, wait_until
from servers import PATIENCE, Peer, RawServer

#: More calls than any request here makes: a row without an end is a fault of the test's.
MOST_CALLS = 80


# The client's sockets.


class Torturer:
    """
    Counts the calls of the client's sockets, and at the k-th does something else.

    * `sockets`: all that were made.
    * `struck`: the name of the call that was the k-th.
    """

    def __init__(self) -> None:
        self.sockets: list[socket.socket] = []
        self.struck: str | None = None
        self._lock = threading.Lock()
        self._left = 0
        self._fault: Fault | None = None
        self._abort: Abort = lambda: None

    def arm(self, number: int, fault: Fault, abort: Abort) -> None:
        self.struck = None
        self._fault, self._abort = fault, abort
        self._left = number

    def disarm(self) -> None:
        self._left = 0

    def call(self, name: str, real: Real, *args: typing.Any) -> typing.Any:
        with self._lock:
            strikes = self._left == 1
            self._left = max(0, self._left - 1)
        if not strikes:
            return real(*args)
        assert self._fault is not None
        self.struck = name
        return self._fault(name, real, args, self._abort)


torturer = Torturer()


class _Calls:
    """The methods of a socket that the library calls, so that each can be the k-th."""

    def send(self, *args: typing.Any) -> typing.Any:
        return torturer.call("send", super().send, *args)  # type: ignore[misc]

    def sendall(self, *args: typing.Any) -> typing.Any:
        return torturer.call("sendall", super().sendall, *args)  # type: ignore[misc]

    def recv(self, *args: typing.Any) -> typing.Any:
        return torturer.call("recv", super().recv, *args)  # type: ignore[misc]

    def recv_into(self, *args: typing.Any) -> typing.Any:
        return torturer.call("recv_into", super().recv_into, *args)  # type: ignore[misc]

    def settimeout(self, *args: typing.Any) -> typing.Any:
        return torturer.call("settimeout", super().settimeout, *args)  # type: ignore[misc]

    def setblocking(self, *args: typing.Any) -> typing.Any:
        return torturer.call("setblocking", super().setblocking, *args)  # type: ignore[misc]

    def gettimeout(self) -> typing.Any:
        return torturer.call("gettimeout", super().gettimeout)  # type: ignore[misc]


class PlainSocket(_Calls, socket.socket):
    def __init__(self, *args: typing.Any, **kwargs: typing.Any) -> None:
        super().__init__(*args, **kwargs)
        torturer.sockets.append(self)


class TLSSocket(_Calls, ssl.SSLSocket):
    is_made = False

    def settimeout(self, *args: typing.Any) -> typing.Any:
        # The first call is of the ssl module's own, which before 3.11 does not expect it to fail.
        if self.is_made:
            return super().settimeout(*args)
        return ssl.SSLSocket.settimeout(self, *args)

    def do_handshake(self, *args: typing.Any) -> None:
        if not self.is_made:
            self.is_made = True
            torturer.sockets.append(self)
        torturer.call("do_handshake", super().do_handshake, *args)


# What happens.


#: Called in the place of a call: with its name, what it really does, its arguments, and how to
#: abort the request.
Fault = Callable[[str, "Real", "Arguments", "Abort"], object]
Real = Callable[..., typing.Any]
Arguments = tuple[typing.Any, ...]
Abort = Callable[[], object]

MAY_FAIL = (
    "settimeout",
    "setblocking",
    "send",
    "sendall",
    "recv",
    "recv_into",
    "do_handshake",
)


def fails_with(make: Callable[[], OSError]) -> Fault:
    def fault(name: str, real: Real, args: Arguments, abort: Abort) -> object:
        if name in MAY_FAIL:
            raise make()
        return real(*args)

    return fault


def ends(name: str, real: Real, args: Arguments, abort: Abort) -> object:
    if name == "recv_into":
        return 0
    return b"" if name == "recv" else real(*args)


def does_one_byte(name: str, real: Real, args: Arguments, abort: Abort) -> object:
    if name == "recv":
        return real(1)
    if name == "send":
        return real(memoryview(args[0])[:1])
    if name == "recv_into":
        return real(args[0][:1])
    return real(*args)


def aborts_here(name: str, real: Real, args: Arguments, abort: Abort) -> object:
    abort()
    return real(*args)


def aborts_after(name: str, real: Real, args: Arguments, abort: Abort) -> object:
    """What the call has returned is there, and must not be believed any more."""
    result = real(*args)
    abort()
    return result


def aborts_elsewhere(name: str, real: Real, args: Arguments, abort: Abort) -> object:
    """Which also shows that nothing is locked while a socket is called."""
    thread = threading.Thread(target=abort)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive(), f"an abort waits for the {name} that it is to wake"
    return real(*args)


FAULTS: dict[str, Fault] = {
    "reset": fails_with(lambda: ConnectionResetError(errno.ECONNRESET, "reset")),
    "broken": fails_with(lambda: BrokenPipeError(errno.EPIPE, "broken pipe")),
    "timeout": fails_with(lambda: TimeoutError("timed out")),
    "unreachable": fails_with(lambda: OSError(errno.EHOSTUNREACH, "no route to host")),
    "bad record": fails_with(lambda: ssl.SSLError(1, "[SSL] record layer failure")),
    "ragged end": fails_with(lambda: ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "EOF occurred")),
    "end": ends,
    "one byte": does_one_byte,
    "abort here": aborts_here,
    "abort after": aborts_after,
    "abort elsewhere": aborts_elsewhere,
}

ABORTS = ("abort here", "abort after", "abort elsewhere")


# What is requested.


@dataclasses.dataclass(frozen=True)
class Kind:
    path: str
    method: str = "GET"
    data: Callable[[], typing.Any] | None = None
    stream: bool = False
    tls: bool = False
    #: Whether the library waits by itself, rather than the socket, as it does without TLS.
    polled: bool = True
    headers: tuple[tuple[str, str], ...] = ()


def iterator() -> Iterator[bytes]:
    yield b"a" * 10
    yield b"b" * 50_000
    yield b"c"


KINDS: dict[str, Kind] = {
    "length": Kind("/length"),
    "chunked": Kind("/chunked"),
    "to the end": Kind("/end"),
    "upload": Kind("/length", "POST", lambda: b"x" * 70_000),
    "iterator": Kind("/chunked", "POST", iterator),
    "expected": Kind("/length", "POST", lambda: b"x" * 10, headers=(("Expect", "100-continue"),)),
    "put": Kind("/length", "PUT", lambda: b"x" * 10),
    "streamed": Kind("/large", stream=True),
    "streamed chunks": Kind("/chunked", stream=True),
    "large": Kind("/large"),
    "not polled": Kind("/length", polled=False),
    "upload, not polled": Kind("/length", "POST", lambda: b"x" * 70_000, polled=False),
    "streamed, not polled": Kind("/large", stream=True, polled=False),
    "tls": Kind("/length", tls=True),
    "tls, to the end": Kind("/end", tls=True),
    "tls, upload": Kind("/chunked", "POST", lambda: b"x" * 70_000, tls=True),
    "tls, streamed": Kind("/large", stream=True, tls=True),
}


def answer(path: str, token: str, body: bytes) -> bytes:
    """What tells that the answer, all of it, belongs to the request, and that its body came."""
    told = f"{token} {hashlib.sha256(body).hexdigest()}\n".encode()
    return told * (1_500 if path == "/large" else 30)


def echo(peer: Peer) -> None:
    # Small pieces are to come at once, and as pieces.
    peer.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while (request := peer.read_head()) is not None:
        if "expect" in request.headers:
            peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        peer.read_body(request)
        path, _, token = request.target.partition("?")
        body = answer(path, token, request.body)
        if path == "/end":
            peer.send(b"HTTP/1.1 200 OK\r\n\r\n" + body)
            return
        if path == "/chunked":
            peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            half = len(body) // 2
            for piece in (body[:half], body[half:]):
                peer.send(b"%x\r\n%s\r\n" % (len(piece), piece))
            peer.send(b"0\r\nX-Trailer: 1\r\n\r\n")
        else:
            peer.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


# One after the other.


class Victim:
    """A client whose sockets are the torturer's, and one request of it after the other."""

    tokens = itertools.count()

    def __init__(self, server: RawServer, kind: Kind, client: http3.Client) -> None:
        self.server = server
        self.kind = kind
        self.client = client

    def url(self, path: str, token: str) -> str:
        return f"{self.server.url}{path}?{token}"

    def next_token(self) -> str:
        return f"t{next(self.tokens)}."

    def ask_plainly(self) -> None:
        """Nothing is in its way: it gets its own answer."""
        token = self.next_token()
        response = self.client.get(self.url("/length", token))
        assert response.content == answer("/length", token, b"")

    def run(self, number: int, name: str, *, in_block: bool) -> bool:
        """Strike at the call of that number. Returns whether there was one."""
        token = self.next_token()
        if in_block:
            with self.client.parallel() as parallel:
                self._strike(number, name, token, parallel)
                assert_nothing_is_busy(self.client, parallel)
        else:
            self._strike(number, name, token, None)
        struck = torturer.struck is not None
        pool = pool_of(self.client)
        assert wait_until(lambda: not pool._in_use)
        assert pool.open_count == pool.idle_count <= 1
        seen = [
            request.method for request in self.server.requests if request.target.endswith(token)
        ]
        if self.kind.method == "POST":
            assert len(seen) <= 1, "sent twice"
        assert len(seen) <= 2
        self.ask_plainly()
        return struck

    def _strike(self, number: int, name: str, token: str, parallel: http3.Parallel | None) -> None:
        begun = threading.Event()
        handles: list[http3.PendingResponse] = []
        delivered: list[http3.Response] = []

        def abort() -> None:
            assert begun.wait(PATIENCE)
            for handle in handles:
                handle.cancel()
            for response in delivered:
                response.close()

        kind, url = self.kind, self.url(self.kind.path, token)
        options: dict[str, typing.Any] = {"stream": kind.stream, "headers": kind.headers}
        if kind.data is not None:
            options["data"] = kind.data()
        torturer.arm(number, FAULTS[name], abort)
        try:
            if parallel is None:
                begun.set()
                response = self.client.request(kind.method, url, **options)
            else:
                handle = parallel.request(kind.method, url, **options)
                handles.append(handle)
                begun.set()
                response = handle.get_response(PATIENCE)
            if kind.stream:
                delivered.append(response)
            body = response.read()
        except http3.HTTPError as error:
            self._check_error(name, error, token)
        else:
            self._check_body(name, token, body)
        finally:
            torturer.disarm()

    def _check_error(self, name: str, error: http3.HTTPError, token: str) -> None:
        assert torturer.struck is not None, repr(error)
        assert error.request is not None
        assert str(error.request.url) == self.url(self.kind.path, token)
        if name in ABORTS:
            assert isinstance(error, (http3.RequestCancelled, http3.ResponseClosed)), repr(error)
        elif name == "timeout":
            assert isinstance(error, http3.Timeout), repr(error)
        elif name == "end":
            assert isinstance(error, (http3.IncompleteRead, http3.ReadError)), repr(error)
        else:
            assert name != "one byte", repr(error)
            kinds = (http3.NetworkError, http3.IncompleteRead)
            assert isinstance(error, kinds), repr(error)

    def _check_body(self, name: str, token: str, body: bytes) -> None:
        sent = self.kind.data() if self.kind.data is not None else b""
        whole = answer(self.kind.path, token, sent if isinstance(sent, bytes) else b"".join(sent))
        if name == "end" and self.kind.path == "/end":
            # Nothing else tells the end of such a body: here it came early, and looked right.
            assert whole.startswith(body)
        else:
            assert body == whole


@pytest.fixture
def torture(
    monkeypatch: pytest.MonkeyPatch, server_tls: ssl.SSLContext, ca_path: str
) -> Callable[[Kind], contextlib.AbstractContextManager[Callable[[], Victim]]]:
    """A server, and what makes clients of it, which are closed when the block is left."""
    # Nothing is listened to that would come late.
    monkeypatch.setattr(exchange, "EARLY_ANSWER_SECONDS", 0.002)
    real_open = sockets.open_socket

    def open_socket(*args: typing.Any, **kwargs: typing.Any) -> typing.Any:
        return real_open(*args, **{**kwargs, "make_socket": PlainSocket})

    monkeypatch.setattr(connections, "open_socket", open_socket)
    context = ssl.create_default_context(cafile=ca_path)
    context.sslsocket_class = TLSSocket

    @contextlib.contextmanager
    def staged(kind: Kind) -> Iterator[Callable[[], Victim]]:
        monkeypatch.setattr(
            sockets.PolledSocket, "fits", lambda sock: kind.polled and type(sock) is PlainSocket
        )
        with RawServer(echo, tls=server_tls if kind.tls else None) as server:
            with contextlib.ExitStack() as stack:

                def victim() -> Victim:
                    client = stack.enter_context(http3.Client(verify=context, timeout=PATIENCE))
                    return Victim(server, kind, client)

                yield victim
            assert server.wait_all_closed()
        assert torturer.sockets
        assert all(sock.fileno() == -1 for sock in torturer.sockets), "a descriptor is open"
        torturer.sockets.clear()

    return staged


#: Those of TLS, and one that is the system's alone.
OF_TLS = ("bad record", "ragged end")
CASES = [
    (kind, name)
    for kind in KINDS
    for name in FAULTS
    if name not in (("unreachable",) if KINDS[kind].tls else OF_TLS)
]


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_whatever_happens_at_whatever_call_the_next_answer_is_right(
    torture: Callable[[Kind], contextlib.AbstractContextManager[Callable[[], Victim]]],
    kind: str,
    name: str,
) -> None:
    with torture(KINDS[kind]) as new_victim:
        # On a connection that served before, which is likely after what was asked plainly.
        victim = new_victim()
        victim.ask_plainly()
        for number in range(1, MOST_CALLS):
            if not victim.run(number, name, in_block=number % 2 == 0 or name in ABORTS):
                break
        else:
            raise AssertionError("it has no end")
        assert number > 2
        # And on one that is opened for it.
        for number in range(1, MOST_CALLS):
            if not new_victim().run(number, name, in_block=name in ABORTS):
                break
        else:
            raise AssertionError("it has no end")
        assert number > 2
