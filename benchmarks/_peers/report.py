"""The tables."""

from __future__ import annotations

import typing
from collections.abc import Mapping

from .._shared import results, tables
from .clients import CLIENTS, FLOOR, OURS
from .goals import goals, goals_table
from .scenarios import Scenario

__all__ = ["PeerResults"]


class PeerResults(results.Results):
    """Of these scenarios, in so many rounds. `notes`: what is to be said of how."""

    def __init__(self, scenarios: Mapping[str, Scenario], rounds: int) -> None:
        super().__init__(scenarios)
        self.scenarios = scenarios
        self.notes: list[str] = []
        self.rounds = rounds

    def medians(self, scenario: str) -> dict[str, results.Row]:
        """The wall time of a client that was stopped is what all of it would have taken."""
        rows = super().medians(scenario)
        requests = self.scenarios[scenario].requests
        for row in rows.values():
            row["wall"] *= requests / row["answered"]
            for name in (FLOOR, OURS):
                if name in rows:
                    row[f"of {name}"] = row["cpu"] / rows[name]["cpu"]
        return rows

    def rows(self) -> dict[str, dict[str, results.Row]]:
        return {name: self.medians(name) for name in self.scenarios}

    def markdown(self) -> str:
        parts = [self._about()]
        parts += [self._section(name) for name in self.scenarios]
        parts.append("### Where others are ahead\n\n" + self._ahead())
        parts.append("### Goals\n\n" + goals_table(goals(self.rows())))
        return "\n\n".join(parts) + "\n"

    def _about(self) -> str:
        medians = "One round" if self.rounds == 1 else f"Medians of {self.rounds} rounds"
        return " ".join([f"{medians}. {results.machine()}; {self.told_versions()}.", *self.notes])

    def _section(self, name: str) -> str:
        scenario = self.scenarios[name]
        table = self._features(name) if scenario.features else self._table(name)
        return f"### {name}: {scenario.title}\n\n{scenario.describe()}.\n\n{table}"

    def _table(self, name: str) -> str:
        order = self.scenarios[name].order
        rows = sorted(self.medians(name).items(), key=lambda item: item[1][order])
        cells = [
            [
                self._client(name, client),
                f"{row['cpu'] * 1e6:,.0f}",
                _ratio(row, FLOOR),
                _ratio(row, OURS),
                self._wall(name, row),
                f"{row['rate']:,.0f}",
                f"{row['memory'] / 1e6:.0f}",
            ]
            for client, row in rows
        ]
        titles = ["", "CPU us/request", "x floor", "x ours", "wall s", "requests/s", "peak MB"]
        return tables.markdown(titles, cells + self._failed(name))

    def _features(self, name: str) -> str:
        measured = self.medians(name)
        plain = measured.get(OURS, {}).get("cpu")
        rows = []
        for client, row in sorted(measured.items(), key=lambda item: item[1]["cpu"]):
            added = "" if plain is None else f"{(row['cpu'] - plain) * 1e6:+.0f}"
            rows.append(
                [client, f"{row['cpu'] * 1e6:.0f}", added, _ratio(row, OURS), f"{row['rate']:,.0f}"]
            )
        titles = ["", "CPU us/request", "added us", "x ours", "requests/s"]
        return tables.markdown(titles, rows + self._failed(name))

    def _client(self, name: str, client: str) -> str:
        """Who was measured in fewer rounds, having taken too long, has that in its row."""
        if client == OURS:
            return f"**{client}**"
        rounds = len(self.runs[name][client])
        return client if rounds == self.rounds else f"{client} ({rounds} of {self.rounds} rounds)"

    def _failed(self, name: str) -> list[list[str]]:
        return [[client, failure] for client, failure in self.failures[name].items()]

    def _wall(self, name: str, row: results.Row) -> str:
        stopped = row["answered"] < self.scenarios[name].requests
        return f"{'~' if stopped else ''}{row['wall']:.3f}"

    def _ahead(self) -> str:
        rows = []
        for name, measured in self.rows().items():
            if self.scenarios[name].features or OURS not in measured:
                continue
            ours = measured[OURS]
            cells = []
            for figure in ("cpu", "wall", "memory"):
                less = [
                    (row[figure] / ours[figure], client)
                    for client, row in measured.items()
                    if client in CLIENTS and row[figure] < ours[figure]
                    if not client.startswith(OURS)
                ]
                told = [f"{client} ({ratio:.2f})" for ratio, client in sorted(less)]
                cells.append("; ".join(told) or "nobody")
            rows.append([name, *cells])
        explained = (
            "Who needs less than ours, and how many times as much that is. The floor and pycurl "
            "make no objects of responses."
        )
        titles = ["", "less CPU", "less wall time", "less memory"]
        return f"{explained}\n\n{tables.markdown(titles, rows, numbers=False)}"


def _ratio(row: typing.Mapping[str, float], name: str) -> str:
    value = row.get(f"of {name}")
    return "" if value is None else f"{value:.2f}"
