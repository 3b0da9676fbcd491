"""
The line in which a block's requests wait for a worker, in order of submission.

With `max_per_host`, at most so many requests of one host are ready or on their way; the others
wait beside the line, so that a thousand for a slow host never delay one for another, and never
hold a worker. A place is reserved when a request becomes ready and is handed to the next of its
host when it ends. Every operation costs the same, however long the line is.

Not locked: the block does that. `add` is what the main thread calls, where a signal handler's
exception may strike, or a handler may cancel: each of its steps is harmless if the next never
comes. The rest is for workers, and so what was cancelled gives its place back when a worker
comes upon it.
"""

from __future__ import annotations

import collections
import typing

__all__ = ["Line"]

T = typing.TypeVar("T", bound=typing.Hashable)


class _Host(typing.Generic[T]):
    __slots__ = ("active", "waiting")

    def __init__(self) -> None:
        self.active: set[T] = set()
        self.waiting: collections.deque[T] = collections.deque()


class Line(typing.Generic[T]):
    """
    `host_of` says whose place an item needs, `waits` whether it still wants one: what was
    cancelled in line is passed over when its turn comes.
    """

    __slots__ = ("_host_of", "_hosts", "_max_per_host", "_ready", "_waits")

    def __init__(
        self,
        max_per_host: int | None,
        *,
        host_of: typing.Callable[[T], typing.Hashable],
        waits: typing.Callable[[T], bool],
    ) -> None:
        self._max_per_host = max_per_host
        self._host_of = host_of
        self._waits = waits
        self._ready: collections.deque[T] = collections.deque()
        self._hosts: dict[typing.Hashable, _Host[T]] = {}

    def __len__(self) -> int:
        """How many may be taken, those included that do not want their place any more."""
        return len(self._ready)

    def add(self, item: T) -> None:
        if self._max_per_host is not None:
            host = self._hosts.setdefault(self._host_of(item), _Host())
            if len(host.active) >= self._max_per_host:
                host.waiting.append(item)
                return
            # Ready first: a place for something that never gets its turn would be lost.
            self._ready.append(item)
            host.active.add(item)
        else:
            self._ready.append(item)

    def take(self) -> T | None:
        """The next one, which then holds its host's place until `done`."""
        while self._ready:
            item = self._ready.popleft()
            if self._waits(item):
                return item
            self.done(item)
        return None

    def done(self, item: T) -> None:
        """`item`, which was taken, has ended: its place goes to the next of its host."""
        if self._max_per_host is None:
            return
        key = self._host_of(item)
        host = self._hosts.get(key)
        if host is None or item not in host.active:
            return
        host.active.discard(item)
        while host.waiting:
            following = host.waiting.popleft()
            if self._waits(following):
                host.active.add(following)
                self._ready.append(following)
                return
        if not host.active:
            del self._hosts[key]

    def clear(self) -> None:
        """Let everything go that was not taken. What was taken keeps its place until `done`."""
        waiting, self._ready = self._ready, collections.deque()
        for host in self._hosts.values():
            host.waiting.clear()
        for item in waiting:
            self.done(item)
