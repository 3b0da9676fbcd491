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
import pathlib
import sys
import tempfile
import typing

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from benchmarks._async_peers.clients import ALONE, CLIENTS
from benchmarks._async_peers.scenarios import SCENARIOS, Scenario
from benchmarks._shared import environments, processes, results, servers, tables

ROUNDS = 5

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


class AsyncResults(results.Results):
    def medians(self, scenario: str) -> dict[str, results.Row]:
        rows = super().medians(scenario)
        clients = [row for name, row in rows.items() if name in CLIENTS]
        if clients:
            best_cpu = min(row["cpu"] for row in clients)
            best_rate = max(row["rate"] for row in clients)
            for row in clients:
                row.update(cpu_ratio=row["cpu"] / best_cpu, rate_ratio=best_rate / row["rate"])
        return rows

    def table(self, name: str, scenario: Scenario) -> str:
        columns = COLUMNS + (LAG_COLUMNS if scenario.ticks else [])
        measured = self.medians(name)
        rows = []
        for client in sorted(measured, key=lambda client: measured[client][scenario.order]):
            cells = [
                format(measured[client][key] * factor, form)
                if client in CLIENTS or key.startswith("late")
                else ""
                for _, key, factor, form in columns
            ]
            rows.append([client, *cells])
        rows += [[client, failure] for client, failure in self.failures[name].items()]
        table = tables.markdown(["", *[column[0] for column in columns]], rows)
        return f"### {name}: {scenario.title}\n\n{describe(scenario)}\n\n{table}"


def describe(scenario: Scenario) -> str:
    latency = "" if scenario.latency is None else f", {scenario.latency} ms of latency"
    least = f", more until {scenario.least_seconds:g} s are over" if scenario.least_seconds else ""
    return f"{scenario.requests:,} GETs{least}, {scenario.at_once} at a time{latency}."


def jobs(
    pythons: dict[str, pathlib.Path],
    urls: dict[str, str],
    only: str,
    cores: typing.Collection[int],
) -> list[results.Job]:
    clients = {name: client for name, client in CLIENTS.items() if only in name}
    return [
        results.Job(
            scenario_name,
            name,
            client.package,
            pythons[client.environment],
            "benchmarks._async_peers.run",
            [name, scenario_name, urls[scenario_name], *map(str, cores)],
        )
        for scenario_name, scenario in SCENARIOS.items()
        for name, client in {**clients, **(ALONE if scenario.ticks else {})}.items()
    ]


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
    processes.end_when_told()
    pythons = environments.make(arguments.environments, ("ours", "asyncio", "niquests"))
    cores = processes.cores()
    found = AsyncResults(SCENARIOS)
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        with servers.running_on(cores.server):
            latent = stack.enter_context(servers.latency_server(pythons["ours"]))
            sites = stack.enter_context(servers.nginx_sites(pathlib.Path(directory), ["plain"]))
        static = sites.urls.get("plain")
        urls = {
            name: f"{latent}/{scenario.latency or 0}"
            if static is None or scenario.latency is not None
            else f"{static}/pages"
            for name, scenario in SCENARIOS.items()
        }
        found.measure(jobs(pythons, urls, arguments.only, cores.client), arguments.rounds)
    server = "no nginx, so Python" if static is None else "nginx"
    if arguments.json is not None:
        scenarios = {name: scenario._asdict() for name, scenario in SCENARIOS.items()}
        about = {"rounds": arguments.rounds, "machine": results.machine(), "static_server": server}
        arguments.json.write_text(found.as_json(scenarios, **about))
    for name, scenario in SCENARIOS.items():
        print(found.table(name, scenario), end="\n\n")
    print(
        f"Medians of {arguments.rounds} rounds. {results.machine()}; {found.told_versions()}; "
        f"static pages: {server}."
    )


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted")
