"""Clients take turns, and what came of it."""

from __future__ import annotations

import json
import os
import pathlib
import platform
import statistics
import sys
import typing
from collections.abc import Iterable, Sequence

from . import processes

__all__ = ["Job", "Results", "Row", "Run", "machine"]

#: One measurement, and its figures' medians.
Run = dict[str, typing.Any]
Row = dict[str, float]


class Job(typing.NamedTuple):
    """`module` is run by `python` with these `arguments`. `package`: whose version is reported."""

    scenario: str
    client: str
    package: str | None
    python: pathlib.Path
    module: str
    arguments: Sequence[str]


class Results:
    """The runs, by scenario and client, and what went wrong."""

    def __init__(self, scenarios: Iterable[str]) -> None:
        self.runs: dict[str, dict[str, list[Run]]] = {name: {} for name in scenarios}
        self.failures: dict[str, dict[str, str]] = {name: {} for name in self.runs}
        self.versions: dict[str, str] = {"python": platform.python_version()}

    def measure(self, jobs: Sequence[Job], rounds: int, *, long: float = float("inf")) -> None:
        """Each job once in each round, until it fails, or takes more than `long`, in seconds."""
        for number in range(rounds):
            for job in jobs:
                runs = self.runs[job.scenario].get(job.client)
                if job.client in self.failures[job.scenario] or (runs and runs[-1]["wall"] > long):
                    continue
                progress = f"round {number + 1} of {rounds}: {job.scenario}, {job.client}"
                print(progress, file=sys.stderr, flush=True)
                self.record(job, processes.run_once(job.python, job.module, *job.arguments))

    def record(self, job: Job, run: Run | str) -> None:
        """A string is what went wrong. It is what stands in the client's row then."""
        if isinstance(run, str):
            self.failures[job.scenario][job.client] = run
            self.runs[job.scenario].pop(job.client, None)
            return
        self.runs[job.scenario].setdefault(job.client, []).append(run)
        if job.package is not None:
            self.versions[job.package] = run["version"]

    def medians(self, scenario: str) -> dict[str, Row]:
        return {
            client: {
                key: statistics.median(run[key] for run in runs)
                for key, value in runs[0].items()
                if not isinstance(value, str)
            }
            for client, runs in self.runs[scenario].items()
        }

    def as_json(
        self, scenarios: typing.Mapping[str, typing.Mapping[str, object]], **more: object
    ) -> str:
        """`scenarios`: what there is to say of each."""
        described = {
            name: {
                **scenario,
                "medians": self.medians(name),
                "spread": self._spread(name),
                "runs": self.runs[name],
                "failures": self.failures[name],
            }
            for name, scenario in scenarios.items()
        }
        return json.dumps({**more, "versions": self.versions, "scenarios": described}, indent=1)

    def _spread(self, scenario: str) -> dict[str, list[float]]:
        """The least and the most CPU time."""
        return {
            client: [min(cpu), max(cpu)]
            for client, runs in self.runs[scenario].items()
            if (cpu := [run["cpu"] for run in runs if "cpu" in run])
        }

    def told_versions(self) -> str:
        return ", ".join(f"{name} {version}" for name, version in self.versions.items())


def machine() -> str:
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
