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

from .._shared.work import Work
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

    def get(url: str) -> tuple[int, bytes | bytearray]:
        sock: socket.socket | None = getattr(local, "sock", None)
        if sock is None:
            sock = local.sock = connect()
        sock.sendall(b"GET " + url[origin:].encode() + rest)
        received = sock.recv(65536)
        while (end := received.find(b"\r\n\r\n")) < 0:
            more = sock.recv(65536)
            if not more:
                raise ConnectionError("the head ends too early")
            received += more
        at = received.index(_LENGTH) + len(_LENGTH)
        length = int(received[at : received.index(b"\r\n", at)])
        body: bytes | bytearray = received[end + 4 :]
        if len(body) < length:
            body = _more(sock, body, length)
        if received.find(b"Connection: close", 0, end) > 0:
            opened.remove(sock)
            sock.close()
            local.sock = None
        return int(received[9:12]), body

    try:
        yield get
    finally:
        for sock in opened:
            sock.close()


def _more(sock: socket.socket, begun: bytes | bytearray, length: int) -> bytearray:
    body = bytearray(length)
    body[: len(begun)] = begun
    view = memoryview(body)
    at = len(begun)
    while at < length:
        received = sock.recv_into(view[at:])
        if not received:
            raise ConnectionError("the body ends too early")
        at += received
    return body
