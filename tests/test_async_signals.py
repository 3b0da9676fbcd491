"""Ctrl-C, at any instant of an event loop that uses an asynchronous block."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest

import event_loops

pytestmark = pytest.mark.slow

TESTS = pathlib.Path(__file__).parent


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
