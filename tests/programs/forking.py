"""
Forks with a warm client, and has every process make requests at once: ``python forking.py WAY
WHERE URL``. Each process checks that each answer is its own; one that does not ends with status 1.
"""

from __future__ import annotations

import ctypes
import faulthandler
import functools
import multiprocessing
import os
import signal
import sys
import traceback
import typing
import warnings

import http3_parallel as http3

CHILDREN = 3
REQUESTS = 100

#: Seconds after which a process that hangs says where, and ends.
PATIENCE = 30

# Python 3.12 warns of any fork in a process with threads. What this shows is that it works.
warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*fork")


def watch() -> None:
    # Not dump_traceback_later: its thread is not there after a fork, and is waited for.
    faulthandler.register(signal.SIGALRM, chain=True)
    signal.alarm(PATIENCE)


def make_requests(client: http3.Client, url: str, name: str) -> None:
    with client.parallel(max_workers=8) as parallel:
        expected = {}
        for number in range(REQUESTS):
            path = f"/{name}/{number}"
            expected[parallel.get(url + path)] = path
        for pending in parallel.as_completed(PATIENCE):
            text = pending.get_response().text
            assert text == expected.pop(pending), f"{name} got {text}"
        assert not expected
    assert client.get(f"{url}/{name}/plain").text == f"/{name}/plain"


def check_closed_here(parallel: http3.Parallel, handles: list[http3.PendingResponse]) -> None:
    """In a child: the parent's block is not this one's."""
    assert not parallel.has_pending_responses
    for use in (
        parallel.next_response,
        handles[0].get_response,
        lambda: parallel.get("http://example.com/"),
        lambda: handles[1].future,
    ):
        try:
            use()
        except http3.ParallelClosed:
            continue
        raise AssertionError(f"{use} did not raise ParallelClosed")
    handles[0].cancel()
    parallel.cancel()
    parallel.close()


def in_child(work: typing.Callable[[], None], *, by_exit: bool) -> typing.NoReturn:
    watch()
    if by_exit:
        work()
        sys.exit(0)
    try:
        work()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def wait_for(children: list[int]) -> None:
    for child in children:
        _, status = os.waitpid(child, 0)
        assert status == 0, f"a child ended with {os.waitstatus_to_exitcode(status)}"


def fork(way: str) -> int:
    """
    By Python, or by C, as some servers do: then Python's hooks do not run. PyDLL, since the child
    holds the interpreter's lock already and must not wait for it.
    """
    if way == "libc":
        return int(ctypes.PyDLL(None).fork())
    return os.fork()


def main() -> None:
    way, where, url = sys.argv[1:]
    watch()
    client = http3.Client(max_workers=16)
    if way == "libc" and where == "outside":
        # No threads yet: this fork is one of which Python knows nothing at all.
        for number in range(3):
            assert client.get(f"{url}/warm/{number}").text == f"/warm/{number}"
    else:
        make_requests(client, url, "warm")
    parallel = client.parallel(max_workers=8)
    handles: list[http3.PendingResponse] = []
    if where == "inside":
        # Connections in use and requests in line, at the moment of the fork.
        handles = [parallel.get(f"{url}/hang/{number}", timeout=PATIENCE) for number in range(20)]
        assert client.get(f"{url}/arrived").text == "/arrived"

    def work(name: str) -> None:
        if where == "inside":
            check_closed_here(parallel, handles)
        if way == "libc" and where == "inside":
            # Python itself cannot start threads in a child that C has forked from several.
            for number in range(REQUESTS):
                assert client.get(f"{url}/{name}/{number}").text == f"/{name}/{number}"
            return
        make_requests(client, url, name)
        if name.endswith("a") and way != "libc":
            grandchild = fork(way)
            if grandchild == 0:
                in_child(lambda: make_requests(client, url, name + "x"), by_exit=way == "exit")
            wait_for([grandchild])
        client.close()

    if way == "multiprocessing":
        context = multiprocessing.get_context("fork")
        processes = [
            context.Process(target=make_requests, args=(client, url, f"child{number}"))
            for number in range(CHILDREN)
        ]
        for process in processes:
            process.start()
        make_requests(client, url, "parent")
        for process in processes:
            process.join(PATIENCE)
            assert process.exitcode == 0, process.exitcode
    else:
        children = []
        for name in ("child-a", "child-b", "child-c"):
            child = fork(way)
            if child == 0:
                in_child(functools.partial(work, name), by_exit=way == "exit")
            children.append(child)
        if where == "outside":
            make_requests(client, url, "parent")
        wait_for(children)
    if where == "inside":
        # Nothing the children did has reached the parent's block.
        assert all(not handle.done() for handle in handles)
        assert client.get(f"{url}/release").text == "/release"
        for handle in handles:
            assert handle.get_response(PATIENCE).status_code == 200
    parallel.close()
    make_requests(client, url, "after")
    client.close()


if __name__ == "__main__":
    main()
