"""
A server that answers each request after some milliseconds, on one core of its own.

    python -m benchmarks._shared.latency_server

It prints its port, and ends when its standard input does, so that it outlives nobody. It answers
GET /MILLISECONDS/NUMBER, whatever is between the two, one request of a connection at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import typing

from .work import page


class Connection(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not asserted: that of uvloop is none by its class.
        self._transport = typing.cast(asyncio.Transport, transport)
        self._received = b""
        self._loop = asyncio.get_running_loop()

    def data_received(self, data: bytes) -> None:
        self._received += data
        if b"\r\n\r\n" not in self._received:
            return
        head, self._received = self._received, b""
        _, milliseconds, *_, number = head.split(b" ", 2)[1].split(b"/")
        body = page(int(number))
        answer = (
            b"HTTP/1.1 200 OK\r\nServer: benchmark\r\nContent-Type: text/plain\r\n"
            b"Content-Length: %d\r\nConnection: keep-alive\r\n\r\n%b" % (len(body), body)
        )
        if milliseconds == b"0":
            self._transport.write(answer)
        else:
            self._loop.call_later(int(milliseconds) / 1000, self._transport.write, answer)


async def main() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Connection, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    # Not in a worker thread of asyncio's: leaving would wait for it.
    ended = asyncio.Event()
    loop.add_reader(sys.stdin, ended.set)
    await ended.wait()
    server.close()


if __name__ == "__main__":
    run = asyncio.run
    with contextlib.suppress(ImportError):  # half the time per request, so clients wait less for it
        import uvloop

        run = uvloop.run
    with contextlib.suppress(KeyboardInterrupt):
        run(main())
