"""
Uses a client in greenlets: ``python greenlets.py WHEN URLS``. It ends with status 0 and no output
if all went as promised.

WHEN says when gevent takes the place of threads and sockets: ``first``, before anything else is
imported, as it should; or ``late``, as gunicorn does if it preloads the application: after the
client was made and used, in a forked child. URLS is a JSON object: ``echo`` answers with the path,
``together`` once three requests are there; all others never come to the end of their answer.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
import typing

if sys.argv[1] == "first":
    importlib.import_module("gevent.monkey").patch_all()

import threading
import time
import warnings

import http3_parallel as http3
from http3_parallel.workers import Workers

#: Seconds: what is to happen at once has happened, unless something is broken.
AT_ONCE = 5.0
PATIENCE = 20.0


def imported() -> typing.Any:
    """gevent, which is not to be imported before the child has been forked."""
    return importlib.import_module("gevent")


def main(client: http3.Client, urls: dict[str, str]) -> None:
    gevent = imported()
    in_greenlet = gevent.spawn(check_all, client, urls)
    in_greenlet.join(3 * PATIENCE)
    assert in_greenlet.successful(), in_greenlet.exception


def check_all(client: http3.Client, urls: dict[str, str]) -> None:
    gevent = imported()
    check_together(client, urls.pop("together"))
    check_many_at_once(client, urls.pop("echo"))
    checks = [gevent.spawn(check_hanging, client, name, url) for name, url in urls.items()]
    for check in checks:
        check.get(timeout=PATIENCE)
    started = time.monotonic()
    client.close()
    assert time.monotonic() - started < AT_ONCE
    names = [thread.name for thread in threading.enumerate()]
    assert not any(name.startswith("http3_parallel") for name in names), names


def check_together(client: http3.Client, url: str) -> None:
    with client.parallel() as parallel:
        handles = [parallel.get(f"{url}/{number}", timeout=PATIENCE) for number in range(3)]
        assert [pending.get_response(PATIENCE).status_code for pending in handles] == 3 * [200]
    assert Workers.current() is None, "taken for a worker"


def check_many_at_once(client: http3.Client, url: str) -> None:
    gevent = imported()

    def page(number: int) -> None:
        with client.parallel(max_workers=4) as parallel:
            for part in range(6):
                parallel.get(f"{url}/{number}-{part}", tag=part, timeout=PATIENCE)
            for pending in parallel:
                text = pending.get_response().text
                assert text.endswith(f"/{number}-{pending.tag}"), text

    pages = [gevent.spawn(page, number) for number in range(20)]
    for greenlet in pages:
        greenlet.get(timeout=PATIENCE)


def check_hanging(client: http3.Client, name: str, url: str) -> None:
    """Whatever it hangs in, every way out of the block is taken at once."""
    gevent = imported()

    def hang(how: str, **options: typing.Any) -> None:
        with client.parallel(**options) as parallel:
            for number in range(3):
                parallel.get(f"{url}/{how}/{number}", timeout=None)
            parallel.next_response()

    started = time.monotonic()
    try:
        hang("deadline", deadline=0.2)
    except http3.DeadlineExceeded:
        pass
    else:
        raise AssertionError(f"{name}: no deadline")
    try:
        with gevent.Timeout(0.2):
            hang("timeout")
    except gevent.Timeout:
        pass
    else:
        raise AssertionError(f"{name}: no timeout")
    greenlet = gevent.spawn(hang, "kill")
    greenlet.join(0.2)
    assert not greenlet.ready(), name
    greenlet.kill(timeout=AT_ONCE)
    assert greenlet.ready(), f"{name}: not killed"
    assert time.monotonic() - started < AT_ONCE, name


# Python 3.12 warns of any fork in a process with threads. What this shows is that it works.
warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*fork")


def in_child(work: typing.Callable[[], None]) -> int:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def patch_and_check(client: http3.Client, urls: dict[str, str]) -> None:
    monkey = importlib.import_module("gevent.monkey")
    warnings.simplefilter("ignore", monkey.MonkeyPatchWarning)
    monkey.patch_all()
    main(client, urls)


if __name__ == "__main__":
    when, urls = sys.argv[1], json.loads(sys.argv[2])
    client = http3.Client(max_workers=32)
    if when == "first":
        main(client, urls)
    else:
        with client.parallel() as parallel:
            warm = [parallel.get(f"{urls['echo']}/warm/{number}") for number in range(8)]
            assert all(pending.get_response(PATIENCE).status_code == 200 for pending in warm)
        sys.exit(in_child(lambda: patch_and_check(client, urls)))
