"""The server of the demo: plain HTTP/1.1 with keep-alive on a port of 127.0.0.1, in threads."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
import time
import typing

from ..aborting import Signal, shutdown_socket

if typing.TYPE_CHECKING:
    from ..methods import Self

__all__ = ["BROKEN", "HANGING", "DemoServer", "Page"]

#: Paths of the page that breaks off in the middle of its body, and of the one that hangs.
BROKEN = "/broken"
HANGING = "/hanging"
#: How long closing waits for each connection's thread, in seconds: more than a page takes.
_JOIN_SECONDS = 2.0


class Page(typing.NamedTuple):
    path: str
    #: How long it takes the server to make it.
    seconds: float

    @property
    def body(self) -> bytes:
        return f"This is {self.path}.\n".encode()

    def __repr__(self) -> str:
        return ""  # as a tag, it says no more than the URL


class _Connection(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True
    server: DemoServer

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            while (path := self._read_path()) is not None and self._answer(path):
                pass

    def _read_path(self) -> str | None:
        """The path of the next request; None when the client has closed."""
        words = self.rfile.readline().split()
        while self.rfile.readline().strip():
            pass
        return words[1].decode("ascii") if len(words) > 1 else None

    def _answer(self, path: str) -> bool:
        """Returns whether the connection is kept."""
        if path == HANGING:
            self.server.hangs.set()
            # Nothing comes here but the connection's end: the client's, or that of `close`.
            self.rfile.read(1)
            self.server.note_hanging_closed()
            return False
        page = self.server.pages.get(path)
        if page is None:
            self._send("404 Not Found", 0, b"")
            return True
        time.sleep(page.seconds)
        size = len(page.body)
        self._send("200 OK", size, page.body[: size // 2] if path == BROKEN else page.body)
        return path != BROKEN

    def _send(self, status: str, size: int, body: bytes) -> None:
        head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {size}\r\n\r\n"
        self.wfile.write(head.encode("ascii") + body)


class DemoServer(socketserver.ThreadingTCPServer):
    """
    Serves `pages`. In a ``with`` statement: when that is left, no thread and no connection of
    it remains.
    """

    request_queue_size = 128
    # They are joined, within a bound: nothing may hold up the interpreter's exit.
    daemon_threads = True

    def __init__(self, pages: typing.Iterable[Page]) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.pages: dict[str, Page] = {page.path: page for page in pages}
        #: Set when the request that hangs has come.
        self.hangs: Signal = Signal()
        #: Set when its connection was closed, which the client did at `hanging_closed_at`, on
        #: the clock of `time.perf_counter`; None if it was not the client.
        self.hanging_closed: Signal = Signal()
        self.hanging_closed_at: float | None = None
        self._connections: list[tuple[socket.socket, threading.Thread]] = []
        self._stopping = False
        self._acceptor = threading.Thread(
            target=self.serve_forever,
            kwargs={"poll_interval": 0.02},
            name="demo server",
            daemon=True,
        )

    @property
    def url(self) -> str:
        host, port = self.socket.getsockname()
        return f"http://{host}:{port}"

    def process_request(self, request: typing.Any, client_address: typing.Any) -> None:
        # Known before it runs: who stops, after the last one was accepted, finds it.
        thread = threading.Thread(
            target=self.process_request_thread,
            args=(request, client_address),
            name="demo connection",
            daemon=True,
        )
        self._connections.append((request, thread))
        thread.start()

    def note_hanging_closed(self) -> None:
        if not self._stopping:
            self.hanging_closed_at = time.perf_counter()
        self.hanging_closed.set()

    def __enter__(self) -> Self:
        self._acceptor.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stopping = True
        self.shutdown()
        self._acceptor.join()
        self.server_close()
        for connection, _ in self._connections:
            shutdown_socket(connection)
        for _, thread in self._connections:
            thread.join(_JOIN_SECONDS)
