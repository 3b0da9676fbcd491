"""Ctrl-C, at any instant of an event loop that uses an asynchronous block."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import threading
import types

import anyio
import pytest

import event_loops
import http3_parallel as http3
from http3_parallel.asynchronous.block import AsyncBlock
from scripted import PATIENCE, InstantDispatch

pytestmark = pytest.mark.slow

TESTS = pathlib.Path(__file__).parent


async def test_an_interrupt_after_any_call_of_submit_leaves_no_lock_behind() -> None:
    """Where CPython looks at signals: after each call of C."""
    code = AsyncBlock._submit.__code__

    async def submit(number: int) -> bool:
        """Interrupted after the call of that number. Returns whether there was one."""
        calls = 0

        def interrupt(frame: types.FrameType, event: str, argument: object) -> None:
            nonlocal calls
            if event == "c_return" and frame.f_code is code:
                calls += 1
                if calls == number:
                    sys.setprofile(None)
                    raise KeyboardInterrupt

        async with http3.AsyncClient(dispatch=InstantDispatch()) as client:
            async with client.parallel() as parallel:
                sys.setprofile(interrupt)
                try:
                    parallel.get("http://example.com/")
                except KeyboardInterrupt:
                    pass
                finally:
                    sys.setprofile(None)
                free: list[bool] = []

                def look() -> None:
                    free.append(parallel._block.lock.acquire(timeout=PATIENCE))
                    if free[0]:
                        parallel._block.lock.release()

                # A signal strikes the main thread; so another has to find the lock free.
                looker = threading.Thread(target=look)
                looker.start()
                while looker.is_alive():  # a worker may need the loop meanwhile
                    await anyio.sleep(0.001)
                if not free[0]:
                    parallel._block.lock.release()  # or the block is never left
                assert free == [True], f"after call {number}"
        return calls >= number

    number = 1
    while await submit(number):
        number += 1
    assert number > 3


@pytest.mark.parametrize("kind", event_loops.KINDS)
@pytest.mark.parametrize("scenario", ["submit", "next_response", "tasks", "map", "leave"])
def test_interrupted_at_random_instants(kind: str, scenario: str) -> None:
    if kind == "trio" and scenario == "tasks":
        pytest.skip("a Ctrl-C in one of several tasks leaves their scopes half entered at times")
    if kind != "trio" and sys.version_info < (3, 11):
        pytest.skip("it strikes within asyncio itself, which keeps nothing together then")
    program = subprocess.run(
        [
            sys.executable,
            str(TESTS / "programs" / "interrupted_async.py"),
            *(kind, scenario, "30", str(len(scenario))),
        ],
        env={"PYTHONPATH": f"{TESTS.parent}:{TESTS}", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    # What trio writes of tasks that were interrupted is its own.
    assert (program.returncode, program.stdout) == (0, ""), program.stderr
    if kind != "trio":
        assert program.stderr == ""
