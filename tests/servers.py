"""
Servers for tests: whatever a polite server cannot do.

A `RawServer` runs a handler in a thread of its own for each connection. The handler gets a
`Peer`, the server's end of that connection, and says byte by byte what happens on it. The
guarantees a test may build on:

1. *`Peer.closed` means that the client closed.* When a handler returns, the server only ends
   its own direction and goes on reading, so that the client's end is seen, not assumed. Only
   `Peer.close()` and `Peer.reset()` set it by themselves.
2. *Nothing is left behind.* Leaving the server's block wakes every handler, closes every
   socket and joins every thread, within bounds.
3. *Nothing is hidden.* What a handler raises, other than that the client is gone, fails the
   test when the block is left.

Every ``wait_*`` method returns whether what it waited for happened, so a test asserts it.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import http
import json
import select
import socket
import ssl
import struct
import threading
import time
import typing

#: Seconds. How long a test waits for what should take milliseconds: it fails after that.
PATIENCE = 10.0

#: Seconds between two bytes of whatever drips. 200 connections then cost 4,000 sends a second.
DRIP_INTERVAL = 0.05


#: What a socket raises when the client is gone, rather than misused or broken.
GONE = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)


class Disconnected(ConnectionError):
    """The client closed in the middle of what was being read."""


@dataclasses.dataclass
class ReceivedRequest:
    """A request as it came; names of `headers` are in lower case, repeated ones joined."""

    method: str
    target: str
    version: str
    raw_headers: list[tuple[str, str]]
    body: bytes = b""

    @property
    def headers(self) -> dict[str, str]:
        joined: dict[str, str] = {}
        for name, value in self.raw_headers:
            key = name.lower()
            joined[key] = f"{joined[key]}, {value}" if key in joined else value
        return joined

    @property
    def keeps_alive(self) -> bool:
        return "close" not in self.headers.get("connection", "").lower()


class Gate:
    """An event that `select` can wait for, beside a socket."""

    def __init__(self) -> None:
        self._read_end, self._write_end = socket.socketpair()

    def fileno(self) -> int:
        return self._read_end.fileno()

    def open(self) -> None:
        """Let everyone through, those who come later included."""
        with contextlib.suppress(OSError):  # opened before
            self._write_end.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._read_end.close()
        self._write_end.close()


class Peer:
    """
    The server's end of one connection.

    * `requests`: the `ReceivedRequest`s read from it so far.
    * `handshaken`: set when the TLS handshake is done, at once without TLS.
    * `handshake_error`: why it was not.
    * `closed`: set when the client has closed, or reset, the connection.
    * `discarded`: how many bytes `wait_closed` and the lingering end threw away.
    """

    def __init__(self, server: RawServer, sock: socket.socket) -> None:
        self.server = server
        self.socket = sock
        self.client_address = sock.getpeername()
        self.requests: list[ReceivedRequest] = []
        self.handshaken = threading.Event()
        self.handshake_error: OSError | None = None
        self.closed = threading.Event()
        self.discarded = 0
        self._buffer = bytearray()

    # Reading.

    def _receive(self, timeout: float | None) -> bytes:
        """The next bytes; none when the client has closed. Raises TimeoutError."""
        try:
            self.socket.settimeout(timeout)
            data = self.socket.recv(65536)
        except GONE:
            data = b""
        if not data:
            self._mark_closed()
        return data

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes. Raises `Disconnected`."""
        while len(self._buffer) < size:
            data = self._receive(None)
            if not data:
                raise Disconnected(f"{len(self._buffer)} of {size} bytes came")
            self._buffer += data
        return self._take(size)

    def read_line(self) -> bytes:
        """The next line, without its end. Raises `Disconnected`."""
        while (end := self._buffer.find(b"\n")) < 0:
            data = self._receive(None)
            if not data:
                raise Disconnected("in the middle of a line")
            self._buffer += data
        return self._take(end + 1).rstrip(b"\r\n")

    def read_head(self) -> ReceivedRequest | None:
        """
        The next request without its body; None when the client closed before it. Raises
        `Disconnected` when it closed within.
        """
        if not self._buffer:
            data = self._receive(None)
            if not data:
                return None
            self._buffer += data
        method, target, version = self.read_line().decode("latin-1").split(" ")
        request = ReceivedRequest(method, target, version, [])
        while line := self.read_line().decode("latin-1"):
            name, _, value = line.partition(":")
            request.raw_headers.append((name, value.strip()))
        with self.server.changed:
            self.requests.append(request)
            self.server.requests.append(request)
            self.server.changed.notify_all()
        return request

    def read_body(self, request: ReceivedRequest) -> bytes:
        """The body of the request whose head was just read."""
        if "chunked" in request.headers.get("transfer-encoding", ""):
            chunks = []
            while size := int(self.read_line().partition(b";")[0], 16):
                chunks.append(self.read(size))
                self.read_line()
            while self.read_line():
                pass
            request.body = b"".join(chunks)
        else:
            request.body = self.read(int(request.headers.get("content-length", "0")))
        return request.body

    def read_request(self) -> ReceivedRequest | None:
        """The next request with its body; None when the client closed before it."""
        request = self.read_head()
        if request is not None:
            self.read_body(request)
        return request

    def _take(self, size: int) -> bytes:
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    # Writing.

    def send(self, data: bytes) -> None:
        """All of `data`. Raises one of `GONE` when the client is."""
        try:
            self.socket.settimeout(None)
            self.socket.sendall(data)
        except GONE:
            self._mark_closed()
            raise

    # Waiting.

    def wait_closed(self, timeout: float | None = None) -> bool:
        """
        Read and throw away until the client closes, at most `timeout` seconds; without one,
        until the server's block is left. Returns whether the client closed.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while not self.closed.is_set() and not self.server.stopping.is_set():
            remaining = None if end is None else end - time.monotonic()
            if remaining is not None and remaining <= 0:
                break
            try:
                self.discarded += len(self._receive(remaining))
            except TimeoutError:
                break
        return self.closed.is_set()

    def wait_gate(self, gate: Gate) -> bool:
        """Wait until `gate` opens. Returns False when the client closed before that."""
        while not self.closed.is_set() and not self.server.stopping.is_set():
            poll = select.poll()  # not select(): descriptors may well be above 1,024
            poll.register(gate, select.POLLIN)
            poll.register(self.socket, select.POLLIN)
            ready = {descriptor for descriptor, _ in poll.poll()}
            if gate.fileno() in ready:
                return True
            self._buffer += self._receive(None)
        return False

    # Ending.

    def close(self) -> None:
        """Close for good, now. The system resets the connection if the client sends more."""
        self.socket.close()
        self._mark_closed()

    def reset(self) -> None:
        """Break the connection: the client gets an RST."""
        linger_zero = struct.pack("ii", 1, 0)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_zero)
        self.close()

    def _mark_closed(self) -> None:
        # When the server stops, it is the server that ended the connection.
        with self.server.changed:
            if not self.server.stopping.is_set():
                self.closed.set()
                self.server.changed.notify_all()

    def shake_hands(self, context: ssl.SSLContext) -> bool:
        tls_socket = context.wrap_socket(
            self.socket, server_side=True, do_handshake_on_connect=False
        )
        # Known before anything blocks on it, so that the server can wake this thread.
        self.socket = tls_socket
        try:
            tls_socket.do_handshake()
        except OSError as error:  # ssl.SSLError is one
            self.handshake_error = error
            return False
        return True

    def finish(self) -> None:
        """End our direction, then read until the client has ended its own."""
        if self.socket.fileno() < 0:
            return
        with contextlib.suppress(OSError):
            if isinstance(self.socket, ssl.SSLSocket):
                self.socket.setblocking(False)
                with contextlib.suppress(OSError):
                    self.socket.unwrap()  # sends close_notify; theirs is not waited for
            socket.socket.shutdown(self.socket, socket.SHUT_WR)
        while not self.closed.is_set() and not self.server.stopping.is_set():
            try:
                self.socket.settimeout(None)
                # Below TLS, which has nothing more to say.
                data = socket.socket.recv(self.socket, 65536)
            except ConnectionError:
                data = b""
            self.discarded += len(data)
            if not data:
                self._mark_closed()
        self.socket.close()


Handler = typing.Callable[[Peer], object]
_ServerT = typing.TypeVar("_ServerT", bound="RawServer")


class RawServer:
    """
    A server on 127.0.0.1 that runs `handler` for each connection, in a thread.

    * `tls`: a server's `ssl.SSLContext`; the handler then runs after the handshake.
    * `receive_buffer`: bytes the system takes for a connection before anyone reads.
    * `scheme`: of `url`; by default what `tls` says.

    A test may read `connections`, the `Peer`s, and `requests`, of all connections, both in
    the order in which they came. `changed` is notified whenever something happens.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        tls: ssl.SSLContext | None = None,
        receive_buffer: int | None = None,
        scheme: str | None = None,
        address: str = "127.0.0.1",
    ) -> None:
        self.handler = handler
        self.tls = tls
        self.scheme = scheme or ("http" if tls is None else "https")
        self.connections: list[Peer] = []
        self.requests: list[ReceivedRequest] = []
        self.changed = threading.Condition()
        #: Set when the block is left; handlers that wait for something else watch it.
        self.stopping = threading.Event()
        #: Set when the test waits for the end; who did not read then starts to.
        self.draining = threading.Event()
        self._errors: list[BaseException] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if receive_buffer is not None:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._listener.bind((address, 0))
        self.host, self.port = self._listener.getsockname()
        self._acceptor = threading.Thread(target=self._accept, name="RawServer", daemon=True)

    @property
    def url(self) -> str:
        """Scheme, host and port, without a slash at the end."""
        return f"{self.scheme}://{self.host}:{self.port}"

    def __enter__(self: _ServerT) -> _ServerT:
        self._listener.listen(1024)
        self._acceptor.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        errors = self._stop()
        if exc_info[0] is None and errors:
            raise AssertionError(f"in the server's handler: {errors[0]!r}") from errors[0]

    def wait_until(self, condition: typing.Callable[[], bool], timeout: float = PATIENCE) -> bool:
        """Wait for something that connections and requests bring about."""
        with self.changed:
            return self.changed.wait_for(condition, timeout)

    def wait_for_connections(self, number: int, timeout: float = PATIENCE) -> bool:
        """Wait until `number` connections were accepted, handshakes not included."""
        return self.wait_until(lambda: len(self.connections) >= number, timeout)

    def wait_for_handshakes(self, number: int, timeout: float = PATIENCE) -> bool:
        """Wait until `number` connections have got past TLS."""
        return self.wait_until(
            lambda: sum(peer.handshaken.is_set() for peer in self.connections) >= number, timeout
        )

    def wait_for_requests(self, number: int, timeout: float = PATIENCE) -> bool:
        """Wait until the heads of `number` requests were read."""
        return self.wait_until(lambda: len(self.requests) >= number, timeout)

    def wait_all_closed(self, timeout: float = PATIENCE) -> bool:
        """Wait until the client has closed every connection there has been."""
        self.draining.set()
        return self.wait_until(
            lambda: all(peer.closed.is_set() for peer in self.connections), timeout
        )

    def _accept(self) -> None:
        while not self.stopping.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            try:
                peer = Peer(self, sock)
            except OSError:  # it is gone already, and has no name any more
                sock.close()
                continue
            thread = threading.Thread(
                target=self._serve, args=(peer,), name="RawServer-connection", daemon=True
            )
            with self.changed:
                self.connections.append(peer)
                self._threads.append(thread)
                self.changed.notify_all()
            thread.start()

    def _serve(self, peer: Peer) -> None:
        try:
            if self.tls is None or peer.shake_hands(self.tls):
                with self.changed:
                    peer.handshaken.set()
                    self.changed.notify_all()
                self.handler(peer)
        except OSError as error:
            if not (peer.closed.is_set() or self.stopping.is_set()):
                self._errors.append(error)
        except Exception as error:
            self._errors.append(error)
        finally:
            peer.finish()

    def _stop(self) -> list[BaseException]:
        with self.changed:
            self.stopping.set()
        self.draining.set()
        # Waking accept() takes shutdown(); close() alone would leave it waiting.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join(PATIENCE)
        self._listener.close()
        end = time.monotonic() + PATIENCE
        while self._threads and time.monotonic() < end:
            # Again and again: the first time, a socket may be between TCP and TLS.
            for peer in self.connections:
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(peer.socket, socket.SHUT_RDWR)
            for thread in self._threads:
                thread.join(0.1)
                if thread.is_alive():
                    break
            self._threads = [thread for thread in self._threads if thread.is_alive()]
        if self._threads or self._acceptor.is_alive():
            self._errors.append(AssertionError("a handler does not end"))
        return self._errors


# Messages.


def response_bytes(
    status: int = 200,
    body: bytes = b"",
    headers: typing.Mapping[str, str] | None = None,
    *,
    with_body: bool = True,
) -> bytes:
    """A whole response with a ``Content-Length``, unless `headers` say how it is framed."""
    fields = dict(headers or {})
    names = {name.lower() for name in fields}
    if not names & {"content-length", "transfer-encoding"} and status not in (204, 304):
        fields["Content-Length"] = str(len(body))
    phrase = http.HTTPStatus(status).phrase if status in set(http.HTTPStatus) else "Unknown"
    lines = [f"HTTP/1.1 {status} {phrase}", *(f"{k}: {v}" for k, v in fields.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1") + (body if with_body else b"")


# Handlers.


def json_ok(peer: Peer) -> None:
    """Answers every request with ``{"ok": true}``, and keeps the connection alive."""
    while (request := peer.read_request()) is not None:
        peer.send(
            response_bytes(
                body=b'{"ok": true}',
                headers={"Content-Type": "application/json"},
                with_body=request.method != "HEAD",
            )
        )
        if not request.keeps_alive:
            return


def hang_before_response(peer: Peer) -> None:
    """Reads the request and never answers."""
    if peer.read_request() is not None:
        peer.wait_closed()


def drip(peer: Peer, data: typing.Iterable[bytes]) -> None:
    """Sends one piece of `data` every `DRIP_INTERVAL` seconds until the client closes."""
    for piece in data:
        peer.send(piece)
        if peer.wait_closed(DRIP_INTERVAL):
            return


def _endless(piece: bytes) -> typing.Iterator[bytes]:
    while True:
        yield piece


def drip_head(peer: Peer) -> None:
    """Answers with a header field that never ends, a byte at a time."""
    if peer.read_request() is not None:
        peer.send(b"HTTP/1.1 200 OK\r\nX-Endless: ")
        drip(peer, _endless(b"x"))


def drip_body(peer: Peer) -> None:
    """Answers with a body of a million bytes, one at a time: no read ever times out."""
    if peer.read_request() is not None:
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        drip(peer, _endless(b"x"))


def drip_chunks(peer: Peer) -> None:
    """Answers with a chunked body that never ends, a chunk of one byte at a time."""
    if peer.read_request() is not None:
        peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        drip(peer, _endless(b"1\r\nx\r\n"))


def lengthless_body_then_hang(peer: Peer) -> None:
    """
    Sends 40,000 bytes of a body that ends when the connection does, and does not end it:
    to a reader that is woken, this looks like a whole response.
    """
    if peer.read_request() is not None:
        peer.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"x" * 40_000)
        peer.wait_closed()


def answers_every_other(seen: list[str]) -> typing.Callable[[Peer], None]:
    """Keeps each connection for one answer, and then closes it without one. Lists the targets."""

    def handle(peer: Peer) -> None:
        for answers in (True, False):
            request = peer.read_request()
            if request is None:
                return
            seen.append(request.target)
            if answers:
                peer.send(response_bytes(200, b"ok"))

    return handle


def never_reads(peer: Peer) -> None:
    """
    Reads the head of a request and nothing of its body, until `wait_all_closed` is called:
    the client's end comes after what it has sent, so someone must read that to see it.
    """
    if peer.read_head() is not None:
        peer.server.draining.wait()
        peer.wait_closed()


def _drip_handshake(peer: Peer) -> None:
    # The header of a TLS record of 16,383 bytes, and of a ServerHello that fills it.
    peer.send(b"\x16\x03\x03\x3f\xff" + b"\x02\x00\x3f\xfb")
    drip(peer, _endless(b"\x03"))


def hanging_tls() -> RawServer:
    """A server for https that accepts connections and never answers the handshake."""
    return RawServer(Peer.wait_closed, scheme="https")


def dripping_tls() -> RawServer:
    """A server for https that answers the handshake a byte at a time, and never to its end."""
    return RawServer(_drip_handshake, scheme="https")


def never_reading(tls: ssl.SSLContext | None = None) -> RawServer:
    """A server with a small buffer that takes no body."""
    return RawServer(never_reads, tls=tls, receive_buffer=4096)


class Site(RawServer):
    """
    A polite HTTP/1.1 server with keep-alive and programmable answers.

    `answer` sets what a path gives; any other path gives 404. A request for ``/wait/NAME``
    is answered, with NAME as its body, when the test calls ``release(NAME)``.
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None, address: str = "127.0.0.1") -> None:
        super().__init__(self._handle, tls=tls, address=address)
        self._answers: dict[str, tuple[int, bytes, dict[str, str]]] = {}
        self._gates: dict[str, Gate] = {}
        self._gates_lock = threading.Lock()

    def answer(
        self,
        path: str,
        body: bytes | str | object = b"",
        *,
        status: int = 200,
        headers: typing.Mapping[str, str] | None = None,
    ) -> str:
        """
        Set the answer for `path`; what is neither bytes nor text is sent as JSON. Returns
        its URL.
        """
        fields = dict(headers or {})
        if isinstance(body, str):
            body = body.encode()
            fields.setdefault("Content-Type", "text/plain; charset=utf-8")
        elif not isinstance(body, bytes):
            body = json.dumps(body).encode()
            fields.setdefault("Content-Type", "application/json")
        self._answers[path] = (status, body, fields)
        return self.url + path

    def release(self, name: str) -> None:
        """Answer the requests for ``/wait/name``, those to come included."""
        self._gate(name).open()

    def requests_for(self, path: str) -> list[ReceivedRequest]:
        """The requests for `path` so far, whatever their query."""
        return [r for r in list(self.requests) if r.target.partition("?")[0] == path]

    def wait_for_request(self, path: str, number: int = 1, timeout: float = PATIENCE) -> bool:
        """Wait until `number` requests for `path` have come."""
        return self.wait_until(lambda: len(self.requests_for(path)) >= number, timeout)

    def _gate(self, name: str) -> Gate:
        with self._gates_lock:
            if name not in self._gates:
                self._gates[name] = Gate()
            return self._gates[name]

    def _handle(self, peer: Peer) -> None:
        while (request := peer.read_request()) is not None:
            path = request.target.partition("?")[0]
            status, body, headers = self._answers.get(path, (404, b"", {}))
            if path.startswith("/wait/"):
                name = path.removeprefix("/wait/")
                if not peer.wait_gate(self._gate(name)):
                    return
                status, body = 200, name.encode()
            with_body = request.method != "HEAD"
            peer.send(response_bytes(status, body, headers, with_body=with_body))
            if not request.keeps_alive:
                return

    def _stop(self) -> list[BaseException]:
        errors = super()._stop()
        for gate in self._gates.values():
            gate.close()
        return errors


# What hangs before there is a connection.


class FullBacklog(typing.NamedTuple):
    """A port where a connect neither succeeds nor fails."""

    host: str
    port: int

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"


def connects(address: tuple[str, int], timeout: float) -> socket.socket | None:
    """A connection to `address`, or None if there is none after `timeout` seconds."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.settimeout(timeout)
    try:
        sock.connect(address)
    except TimeoutError:
        sock.close()
        return None
    return sock


@contextlib.contextmanager
def full_backlog() -> typing.Iterator[FullBacklog]:
    """
    A listening socket whose queue is full, so that the system drops what would open another
    connection, and a connect hangs. Linux does so; where a connect does not hang, this fails.
    """
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        for _ in range(16):
            filler = connects(address, timeout=0.2)
            if filler is None:
                yield FullBacklog(*address)
                return
            stack.enter_context(filler)
        raise AssertionError("this system does not let a connect hang at a full backlog")


class HangingResolver:
    """
    Stands in for `socket.getaddrinfo`: look-ups of `hosts` hang until `release()`, and then
    give `address`. All others go to the real one.

    `calls` counts the look-ups of each host, the real ones included; `waiting` says how many
    hang at this moment.
    """

    def __init__(self, *hosts: str, address: str = "127.0.0.1") -> None:
        self.hosts = frozenset(hosts)
        self.address = address
        self.calls: collections.Counter[str] = collections.Counter()
        self.waiting = 0
        self._changed = threading.Condition()
        self._released = False
        self._real = socket.getaddrinfo

    def getaddrinfo(
        self, host: typing.Any, port: typing.Any, *args: typing.Any, **kwargs: typing.Any
    ) -> typing.Any:
        name = host.decode() if isinstance(host, bytes) else str(host)
        with self._changed:
            self.calls[name] += 1
            if name in self.hosts:
                host = self.address
                self.waiting += 1
                self._changed.notify_all()
                try:
                    # Far longer than any test waits, and yet no thread is held for ever.
                    self._changed.wait_for(lambda: self._released, timeout=60)
                finally:
                    self.waiting -= 1
                    self._changed.notify_all()
        return self._real(host, port, *args, **kwargs)

    def release(self) -> None:
        with self._changed:
            self._released = True
            self._changed.notify_all()

    def wait_for_callers(self, number: int, timeout: float = PATIENCE) -> bool:
        """Wait until `number` look-ups hang at the same time."""
        with self._changed:
            return self._changed.wait_for(lambda: self.waiting >= number, timeout)

    def wait_all_gone(self, timeout: float = PATIENCE) -> bool:
        """Wait until no look-up hangs any more."""
        with self._changed:
            return self._changed.wait_for(lambda: self.waiting == 0, timeout)
