"""
HTTP clients side by side, at the same work against the same local server.

    python -m benchmarks [--rounds N] [--only TEXT] [--scenario NAME] [--quick]
                         [--json FILE] [--markdown FILE] [--picture FILE.svg] [--environments DIR]

In the checkout. For each scenario, a table in Markdown, of medians over the rounds: CPU time of the
client's process (all its threads) per request, wall time, requests per second, and peak memory.
Then where others are ahead, and which goals are met.

All clients take turns in each round, each in a process of its own. That has one core, where there
are two, and the server the other. See ``benchmarks/README.md``. Needs a POSIX system and nginx.
"""

from __future__ import annotations

import argparse
import contextlib
import pathlib
import sys
import tempfile

from ._peers import picture, scenarios
from ._peers.clients import CLIENTS, clients_of
from ._peers.report import PeerResults
from ._peers.scenarios import SCENARIOS, Scenario
from ._shared import environments, processes, results, servers

ROUNDS = 5

#: Around the tables of a page that has other text too.
MARKER = "<!-- tables: python -m benchmarks -->"

#: Seconds. Who takes longer is not measured again: it would be some ten minutes for the slowest at
#: `crawl`, to know better by how much they are last.
LONG = 8.0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="HTTP clients side by side.",
        epilog="The clients: " + "; ".join(CLIENTS),
    )
    path = pathlib.Path
    parser.add_argument("--rounds", type=int, metavar="N", help=f"by default {ROUNDS}")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="TEXT",
        help="clients with that in the name; may be given again",
    )
    parser.add_argument(
        "--scenario",
        action="append",
        choices=list(SCENARIOS),
        help="by default all; may be given again",
    )
    parser.add_argument(
        "--quick", action="store_true", help="a tenth of the work, and one round: does it work?"
    )
    parser.add_argument("--json", type=path, metavar="FILE", help="all runs, as JSON")
    parser.add_argument(
        "--markdown", type=path, metavar="FILE", help="the tables; a page keeps its own text"
    )
    parser.add_argument("--picture", type=path, metavar="FILE.svg", help="two of them, as bars")
    parser.add_argument(
        "--environments",
        type=path,
        default=environments.default_directory(),
        metavar="DIR",
        help="where the virtual environments are kept (by default: %(default)s)",
    )
    given = parser.parse_args()
    if given.rounds is None:
        given.rounds = 1 if given.quick else ROUNDS
    if given.rounds < 1:
        parser.error("there is at least one round")
    return given


def jobs(
    pythons: dict[str, pathlib.Path],
    chosen: dict[str, Scenario],
    only: list[str],
    sites: servers.Sites,
    cores: processes.Cores,
    quick: bool,
) -> list[results.Job]:
    return [
        results.Job(
            scenario_name,
            name,
            client.package,
            pythons[client.environment],
            "benchmarks._peers.run",
            [
                name,
                scenario_name,
                sites.urls[client.site or scenario.site],
                sites.authority or "",
                *(["quick"] if quick else []),
                *map(str, cores.all if scenario.unpinned else cores.client),
            ],
        )
        for scenario_name, scenario in chosen.items()
        for name, client in clients_of(scenario).items()
        if not only or any(text in name for text in only)
    ]


def put_tables(path: pathlib.Path, tables: str) -> None:
    """Into the file, in place of those between its two `MARKER`s, if it has them."""
    page = path.read_text(encoding="utf-8").split(MARKER) if path.exists() else []
    if len(page) == 3:
        tables = MARKER.join([page[0], f"\n\n{tables}\n", page[2]])
    path.write_text(tables, encoding="utf-8")


def main() -> None:
    given = arguments()
    processes.end_when_told()
    chosen = {
        name: scenarios.quick(scenario) if given.quick else scenario
        for name, scenario in SCENARIOS.items()
        if given.scenario is None or name in given.scenario
    }
    pythons = environments.make(given.environments)
    cores = processes.cores()
    found = PeerResults(chosen, given.rounds)
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        with servers.running_on(cores.server):
            sites = stack.enter_context(servers.nginx_sites(pathlib.Path(directory)))
            if "plain" not in sites.urls:
                sys.exit("needs nginx, on the PATH or in /usr/sbin")
            if "latency" not in sites.urls:
                latent = stack.enter_context(servers.latency_server(pythons["ours"]))
                sites.urls["latency"] = f"{latent}/{servers.LATENCY}"
                found.notes.append(
                    "nginx has no echo module here: latency is that of a server in Python."
                )
        for name, scenario in list(chosen.items()):
            if scenario.site not in sites.urls:
                found.notes.append(f"Without openssl, {name} is left out.")
                del chosen[name]
        found.measure(
            jobs(pythons, chosen, given.only, sites, cores, given.quick), given.rounds, long=LONG
        )
    if given.json is not None:
        about = {"rounds": given.rounds, "machine": results.machine(), "notes": found.notes}
        told = {name: scenario._asdict() for name, scenario in chosen.items()}
        given.json.write_text(found.as_json(told, **about))
    if given.picture is not None:
        given.picture.write_text(picture.draw(found.rows(), chosen))
    if given.markdown is not None:
        put_tables(given.markdown, found.markdown())
    print(found.markdown(), end="")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted")
