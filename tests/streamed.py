"""Bodies to make responses of, and what tells that they were closed."""

from __future__ import annotations

import threading
from collections.abc import Iterator


class Closing:
    """Counts the calls, as an `on_close` does."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> None:
        self.calls += 1


class Source:
    """A body that comes in chunks, and says whether it was closed."""

    def __init__(self, *chunks: bytes | BaseException) -> None:
        self._chunks = list(chunks)
        self.closed = 0

    def __iter__(self) -> Source:
        return self

    def __next__(self) -> bytes:
        if not self._chunks:
            raise StopIteration
        chunk = self._chunks.pop(0)
        if isinstance(chunk, BaseException):
            raise chunk
        return chunk

    def close(self) -> None:
        self.closed += 1


class Gated:
    """A body whose second chunk waits until it is let through."""

    def __init__(self) -> None:
        self.waiting = threading.Event()
        self.gate = threading.Event()

    def __iter__(self) -> Iterator[bytes]:
        yield b"one"
        self.waiting.set()
        assert self.gate.wait(30)
        yield b"two"
