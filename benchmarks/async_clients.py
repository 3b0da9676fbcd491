"""
Asynchronous clients side by side, at the same work against the same local server.

    python benchmarks/async_clients.py [--rounds N] [--only TEXT] [--json FILE] [--environments DIR]

For each scenario, a table in Markdown, of medians over the rounds: CPU time of the client's process
(all its threads) per request, wall time, requests per second, and peak memory. "Of best" is how
many times as much CPU time, or wall time, a request takes as with the best client. In the last
scenario a task sleeps 1 ms again and again meanwhile, and measures how late it wakes up.

All clients take turns in each round, each in a process of its own. That has one core, where there
are two, and the server the other. Static pages come from nginx if there is one. The clients are
installed by pip, in virtual environments that are kept; this library, from this checkout.
See ``benchmarks/README.md``. Needs a POSIX system.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import typing

from _async_peers import environments, servers
from _async_peers.clients import ALONE, CLIENTS
from _async_peers.work import SCENARIOS, Scenario

HOME = pathlib.Path(__file__).resolve().parent
ROUNDS = 5

#: Seconds for one client at one scenario. Who takes longer is left out of it from then on.
RUN_TIMEOUT = 120.0

#: Title, key, factor, format.
_Column = tuple[str, str, float, str]
COLUMNS: list[_Column] = [
    ("CPU us/request", "cpu", 1e6, ".0f"),
    ("of best", "cpu_ratio", 1, ".2f"),
    ("wall s", "wall", 1, ".3f"),
    ("requests/s", "rate", 1, ",.0f"),
    ("of best", "rate_ratio", 1, ".2f"),
    ("peak MB", "memory", 1e-6, ".0f"),
]
LAG_COLUMNS: list[_Column] = [
    ("late ms: median", "late_median", 1e3, ".2f"),
    ("p99", "late_p99", 1e3, ".2f"),
    ("max", "late_max", 1e3, ".2f"),
]

_Run = dict[str, typing.Any]
_Row = dict[str, float]


class Results:
    """The runs, by scenario and client, and what went wrong."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, list[_Run]]] = {name: {} for name in SCENARIOS}
        self.failures: dict[str, dict[str, str]] = {name: {} for name in SCENARIOS}
        self.versions: dict[str, str] = {"python": platform.python_version()}

    def medians(self, scenario: str) -> dict[str, _Row]:
        rows: dict[str, _Row] = {}
        for client, runs in self.runs[scenario].items():
            rows[client] = {
                key: statistics.median(run[key] for run in runs)
                for key, value in runs[0].items()
                if not isinstance(value, str)
            }
        clients = [row for name, row in rows.items() if name in CLIENTS]
        if clients:
            best_cpu = min(row["cpu"] for row in clients)
            best_rate = max(row["rate"] for row in clients)
            for row in clients:
                row.update(cpu_ratio=row["cpu"] / best_cpu, rate_ratio=best_rate / row["rate"])
        return rows

    def table(self, name: str, scenario: Scenario) -> str:
        columns = COLUMNS + (LAG_COLUMNS if scenario.ticks else [])
        lines = [
            f"### {name}: {scenario.title}",
            "",
            describe(scenario),
            "",
            "| | " + " | ".join(column[0] for column in columns) + " |",
            "|---|" + "---:|" * len(columns),
        ]
        rows = self.medians(name)
        for client in sorted(rows, key=lambda client: rows[client][scenario.order]):
            cells = [
                format(rows[client][key] * factor, form)
                if client in CLIENTS or key.startswith("late")
                else ""
                for _, key, factor, form in columns
            ]
            lines.append(f"| {client} | " + " | ".join(cells) + " |")
        for client, failure in self.failures[name].items():
            lines.append(f"| {client} | {failure} |" + " |" * (len(columns) - 1))
        return "\n".join(lines)

    def as_json(self, **more: object) -> str:
        scenarios = {
            name: {
                **scenario._asdict(),
                "medians": self.medians(name),
                "runs": self.runs[name],
                "failures": self.failures[name],
            }
            for name, scenario in SCENARIOS.items()
        }
        return json.dumps({**more, "versions": self.versions, "scenarios": scenarios}, indent=1)


def describe(scenario: Scenario) -> str:
    latency = "" if scenario.latency is None else f", {scenario.latency} ms of latency"
    least = f", more until {scenario.least_seconds:g} s are over" if scenario.least_seconds else ""
    return f"{scenario.requests:,} GETs{least}, {scenario.at_once} at a time{latency}."


def cores() -> tuple[int, int]:
    """That of the server, and that of the client; -1 where they cannot be told, or are too few."""
    if not hasattr(os, "sched_getaffinity"):
        return -1, -1
    available = sorted(os.sched_getaffinity(0))
    return (available[0], available[-1]) if len(available) > 1 else (-1, -1)


def run_once(python: pathlib.Path, client: str, scenario: str, url: str, core: int) -> _Run | str:
    """What it measured, or else what went wrong, in a few words."""
    command = [str(python), "-m", "_async_peers.run", client, scenario, url, str(core)]
    try:
        done = subprocess.run(
            command,
            cwd=HOME,
            env=environments.plain_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=RUN_TIMEOUT,
        )
    except subprocess.TimeoutExpired:
        return f"not done after {RUN_TIMEOUT:.0f} s"
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        # The last that is not indented: the frame of a group of exceptions is.
        lines = [line for line in done.stderr.splitlines() if line[:1].strip()]
        return f"failed: {lines[-1] if lines else f'status {done.returncode}'}"
    if done.stderr:
        print(done.stderr, file=sys.stderr)
    run: _Run = json.loads(done.stdout)
    return run


def measure(
    results: Results,
    pythons: dict[str, pathlib.Path],
    urls: dict[str, str],
    rounds: int,
    only: str,
    core: int,
) -> None:
    clients = {name: client for name, client in CLIENTS.items() if only in name}
    for number in range(rounds):
        for scenario_name, scenario in SCENARIOS.items():
            failures = results.failures[scenario_name]
            for name, client in {**clients, **(ALONE if scenario.ticks else {})}.items():
                if name in failures:
                    continue
                print(
                    f"round {number + 1} of {rounds}: {scenario_name}, {name}",
                    file=sys.stderr,
                    flush=True,
                )
                python, url = pythons[client.environment], urls[scenario_name]
                run = run_once(python, name, scenario_name, url, core)
                if isinstance(run, str):
                    failures[name] = run
                else:
                    results.versions[client.package] = run["version"]
                    results.runs[scenario_name].setdefault(name, []).append(run)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Asynchronous clients side by side.",
        epilog="The scenarios: "
        + " ".join(f"{name}: {describe(each)}" for name, each in SCENARIOS.items()),
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N")
    parser.add_argument("--only", default="", metavar="TEXT", help="clients with that in the name")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="all runs, as JSON")
    parser.add_argument(
        "--environments",
        type=pathlib.Path,
        default=environments.default_directory(),
        metavar="DIR",
        help="where the virtual environments are kept (by default: %(default)s)",
    )
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error("there is at least one round")
    # So that whoever ends this ends what it started.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit("terminated"))
    pythons = environments.make(arguments.environments)
    server_core, client_core = cores()
    if server_core >= 0:
        # The servers inherit it. This process waits, so it is in nobody's way; clients leave it.
        os.sched_setaffinity(0, {server_core})
    results = Results()
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        latent = stack.enter_context(servers.latency_server(pythons["ours"], HOME))
        static = stack.enter_context(servers.static_server(pathlib.Path(directory)))
        urls = {
            name: f"{latent}/{scenario.latency or 0}"
            if static is None or scenario.latency is not None
            else static
            for name, scenario in SCENARIOS.items()
        }
        measure(results, pythons, urls, arguments.rounds, arguments.only, client_core)
    server = "no nginx, so Python" if static is None else "nginx"
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    if arguments.json is not None:
        arguments.json.write_text(
            results.as_json(rounds=arguments.rounds, machine=machine, static_server=server)
        )
    for name, scenario in SCENARIOS.items():
        print(results.table(name, scenario), end="\n\n")
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    print(f"Medians of {arguments.rounds} rounds. {machine}; {versions}; static pages: {server}.")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted")
