"""What tests of locks share."""

from __future__ import annotations

import contextlib
import threading
import typing

from scripted import PATIENCE


@contextlib.contextmanager
def held_by_another_thread(*locks: typing.Any) -> typing.Iterator[None]:
    taken, done = threading.Event(), threading.Event()

    def hold() -> None:
        with contextlib.ExitStack() as stack:
            for lock in locks:
                stack.enter_context(lock)
            taken.set()
            done.wait(PATIENCE)

    holder = threading.Thread(target=hold)
    holder.start()
    assert taken.wait(PATIENCE)
    try:
        yield
    finally:
        done.set()
        holder.join()
