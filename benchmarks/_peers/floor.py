"""
The floor: what threads cost with next to no client in them.

Raw blocking sockets on a `ThreadPoolExecutor`, one for each worker, driven as the other clients on
executors are. Fixed bytes are sent. Of a response, the status and the length are read where this
server has them, and nothing else. Status and body are checked as with everyone.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import urllib.parse
from collections.abc import Iterator

from .._shared.work import LargeWork, Work
from .threads import Get

__all__ = ["raw_sockets"]

_LENGTH = b"Content-Length: "


@contextlib.contextmanager
def raw_sockets(work: Work) -> Iterator[Get]:
    split = urllib.parse.urlsplit(work.url)
    address = split.hostname or "", split.port or 0
    origin = len(f"{split.scheme}://{split.netloc}")
    rest = f" HTTP/1.1\r\nHost: {split.netloc}\r\n\r\n".encode()
    context = None
    if split.scheme == "https":
        context = ssl.create_default_context(cafile=work.authority)
    local = threading.local()
    opened: list[socket.socket] = []

    def connect() -> socket.socket:
        sock = socket.create_connection(address)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context is not None:
            sock = context.wrap_socket(sock, server_hostname=split.hostname)
        opened.append(sock)
        return sock

    def get(url: str) -> tuple[int, bytes]:
        sock: socket.socket | None = getattr(local, "sock", None)
        if sock is None:
            sock = local.sock = connect()
        sock.sendall(b"GET " + url[origin:].encode() + rest)
        head, body = read(sock)
        if b"Connection: close" in head:
            opened.remove(sock)
            sock.close()
            local.sock = None
        return int(head[9:12]), body

    read = _large if isinstance(work, LargeWork) else _small
    try:
        yield get
    finally:
        for sock in opened:
            sock.close()


def _small(sock: socket.socket) -> tuple[bytes, bytes]:
    """The head and the body. Most often both come at once."""
    received = sock.recv(65536)
    while (end := received.find(b"\r\n\r\n") + 4) < 4 or len(received) < end + _length(received):
        more = sock.recv(65536)
        if not more:
            raise ConnectionError("the response ends too early")
        received += more
    return received[:end], received[end:]


def _large(sock: socket.socket) -> tuple[bytes, bytes]:
    """The same; a file reads a large body into its place. Nothing else was as cheap."""
    with sock.makefile("rb") as file:
        lines = []
        while (line := file.readline()) not in (b"\r\n", b""):
            lines.append(line)
        head = b"".join(lines)
        return head, file.read(_length(head))


def _length(head: bytes) -> int:
    at = head.index(_LENGTH) + len(_LENGTH)
    return int(head[at : head.index(b"\r\n", at)])
