"""
One client at one scenario, in a process of its own.

    python -m benchmarks._peers.run CLIENT SCENARIO URL AUTHORITY [quick] [CORE...]

Prints what it measured, as JSON. The COREs are those to stay on. AUTHORITY is the file with the
certificate of the server's authority, or empty.
"""

from __future__ import annotations

import gc
import json
import sys

from .._shared import measuring
from .clients import CLIENTS, FEATURES
from .scenarios import SCENARIOS, quick


def main(name: str, scenario_name: str, url: str, authority: str, *options: str) -> None:
    measuring.stay_on([int(option) for option in options if option != "quick"])
    client = {**CLIENTS, **FEATURES}[name]
    scenario = SCENARIOS[scenario_name]
    if "quick" in options:
        scenario = quick(scenario)
    warm_up = scenario.warm_up(url, authority or None)
    client.way(warm_up)
    warm_up.check_all()
    work = scenario.work(url, authority or None)
    gc.collect()
    work.begin()
    client.way(work)
    spent = work.end()
    work.check_all()
    print(json.dumps(measuring.found(client.package, work, *spent)))


if __name__ == "__main__":
    main(*sys.argv[1:])
