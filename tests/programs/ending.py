"""
Ends in one of several ways with work open: ``python ending.py WAY WORK [URL]``. It prints a line
when the work is under way, so that the test can take the time from there.
"""

from __future__ import annotations

import atexit
import concurrent.futures.thread  # noqa: F401  (it needs the attribute that may be deleted)
import contextlib
import socket
import sys
import threading
import typing

if "fallback" in sys.argv[1]:
    del threading._register_atexit  # type: ignore[attr-defined]  # not public

import http3_parallel as http3
from scripted import InstantDispatch, ScriptedDispatch
from servers import HangingResolver

kept: list[typing.Any] = []


def open_block(work: str, url: str) -> None:
    if work in ("queued", "daemon"):
        dispatch = ScriptedDispatch()
        client = http3.Client(dispatch=dispatch, max_workers=4)
        parallel = client.parallel()
        for number in range(500):
            parallel.get(f"http://example.com/{number}")
        dispatch.wait_for_arrivals(4)
        if work == "daemon":
            waiting = threading.Event()

            def wait() -> None:
                waiting.set()
                with contextlib.suppress(http3.ParallelClosed, http3.NoPendingResponses):
                    parallel.next_response()

            threading.Thread(target=wait, daemon=True).start()
            waiting.wait(20)
    elif work == "hanging":
        client = http3.Client()
        parallel = client.parallel()
        for number in range(30):
            parallel.get(f"{url}/{number}", timeout=60)
        with contextlib.suppress(http3.WaitTimeout):
            parallel.next_response(timeout=0.3)
    elif work == "resolver":
        resolver = HangingResolver("hangs.test")
        socket.getaddrinfo = resolver.getaddrinfo
        client = http3.Client()
        parallel = client.parallel()
        for number in range(5):
            parallel.get(f"http://hangs.test/{number}", timeout=60)
        assert resolver.wait_for_callers(1)
    elif work == "streams":
        client = http3.Client()
        parallel = client.parallel()
        kept.extend(
            parallel.get(f"{url}/{number}", stream=True).get_response(20) for number in range(5)
        )
    elif work == "own":
        parallel = http3.parallel(dispatch=ScriptedDispatch())
        client = None
        parallel.get("http://example.com/")
    else:
        raise ValueError(work)
    kept.extend((client, parallel))


def use_at_exit(url: str) -> None:
    """A plain request works; a block works, or says why not."""
    client = http3.Client()
    print("plain", client.get(f"{url}/plain").status_code)
    old = kept[0]
    for name, other in (("new", client), ("old", old)):
        with other.parallel() as parallel:
            pending = parallel.get("http://example.com/" if name == "old" else f"{url}/block")
            try:
                print(name, pending.get_response(20).status_code)
            except http3.WorkersUnavailable:
                print(name, "unavailable")
    client.close()


def main() -> None:
    way, work = sys.argv[1:3]
    url = sys.argv[3] if len(sys.argv) > 3 else ""
    if "atexit" in way:
        atexit.register(use_at_exit, url)
        client = http3.Client(dispatch=InstantDispatch())
        parallel = client.parallel()
        parallel.get("http://example.com/").get_response(20)
        kept.extend((client, parallel))
    else:
        open_block(work, url)
    print("open", flush=True)
    if "exit3" in way:
        sys.exit(3)
    if "raise" in way:
        raise ValueError("nobody catches this")


if __name__ == "__main__":
    main()
