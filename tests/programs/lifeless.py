"""
Forks in C, as uWSGI does, at a moment when what starting a thread needs is locked: nobody will
ever unlock it in the child, where threads are started then and never run. ``python lifeless.py
URL`` ends with status 0 and no output if requests are made there as far as they can be.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
import traceback
import typing

import http3_parallel as http3
from http3_parallel import workers

#: Seconds. No wait here is for longer, unless something is broken.
PATIENCE = 20.0


def make_requests(client: http3.Client, url: str) -> None:
    assert client.get(url).status_code == 200
    with client.parallel() as parallel:
        handles = [parallel.get(url, tag=number) for number in range(3)]
        for use in (handles[1].get_response, parallel.next_response, parallel.next_response):
            check_fails(use)
    with client.parallel() as parallel:
        started = time.monotonic()
        check_fails(parallel.get(url).get_response)
        assert time.monotonic() - started < 1, "it was known before"
    assert client.get(url).status_code == 200
    started = time.monotonic()
    client.close()
    assert time.monotonic() - started < 1


def check_fails(use: typing.Callable[[], http3.Response]) -> None:
    try:
        use()
    except http3.WorkersUnavailable as error:
        message = str(error)
    else:
        raise AssertionError("a response, without a thread")
    for word in ("uWSGI", "--enable-threads", "--lazy-apps"):
        assert word in message, message


def main() -> None:
    url = sys.argv[1]
    workers._LOOKS = 5  # rather than 5 s
    client = http3.Client(timeout=PATIENCE)
    assert client.get(url).status_code == 200
    lock: typing.Any = threading._active_limbo_lock  # type: ignore[attr-defined]  # not public
    with lock:
        # PyDLL, since the child holds the interpreter's lock already.
        child = int(ctypes.PyDLL(None).fork())
    if child == 0:
        signal.alarm(int(2 * PATIENCE))
        lock.acquire()
        try:
            make_requests(client, url)
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


if __name__ == "__main__":
    main()
