"""Each client runs in a process of its own, and this is the side that starts it."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import typing
from collections.abc import Collection

from . import environments

__all__ = ["RUN_TIMEOUT", "Cores", "cores", "end_when_told", "run_once"]

#: Seconds for one client at one scenario. Who takes longer is left out of it from then on.
RUN_TIMEOUT = 120.0


class Cores(typing.NamedTuple):
    """Of what runs at the same time. All empty where they cannot be told, or are too few."""

    server: Collection[int] = ()
    client: Collection[int] = ()
    all: Collection[int] = ()


def cores() -> Cores:
    if not hasattr(os, "sched_getaffinity"):
        return Cores()
    available = sorted(os.sched_getaffinity(0))
    return Cores(available[:1], available[-1:], available) if len(available) > 1 else Cores()


def end_when_told() -> None:
    """By an exception, so that whoever ends this ends what it started."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit("terminated"))


def run_once(
    python: pathlib.Path, module: str, *arguments: str, timeout: float = RUN_TIMEOUT
) -> dict[str, typing.Any] | str:
    """What `module` measured and printed, or else what went wrong, in a few words."""
    try:
        done = subprocess.run(
            [str(python), "-m", module, *arguments],
            cwd=environments.ROOT,
            env=environments.plain_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        return f"not done after {timeout:.0f} s"
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        # The last that is not indented: the frame of a group of exceptions is.
        lines = [line for line in done.stderr.splitlines() if line[:1].strip()]
        return f"failed: {lines[-1] if lines else f'status {done.returncode}'}"
    if done.stderr:
        print(done.stderr, file=sys.stderr)
    found: dict[str, typing.Any] = json.loads(done.stdout)
    return found
