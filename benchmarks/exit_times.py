"""
How long leaving a block takes while 200 requests are on their way, wherever they are.

    python benchmarks/exit_times.py [rounds]

For each state: milliseconds from the end of the block's body to the statement after the block,
and from there to the end of the process, median and maximum. The last two columns are of a
process that ends with the block open. The client is a process of its own, the servers are in
this one. Needs what the tests need; the states are those of ``tests/test_leaving.py``.
"""

from __future__ import annotations

import pathlib
import statistics
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import scenarios  # noqa: E402  # found through the path above

ROUNDS = 5


def milliseconds(seconds: list[float]) -> str:
    return f"{statistics.median(seconds) * 1e3:7.1f} {max(seconds) * 1e3:7.1f}"


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    print(f"{'':32}{'block':>15}  {'then process':>15}  {'left open':>15}")
    print(f"{'':32}" + "  ".join([f"{'median':>7} {'max':>7}"] * 3))
    with tempfile.TemporaryDirectory() as directory:
        ca_path = f"{directory}/ca.pem"
        scenarios.ca().cert_pem.write_to_path(ca_path)
        for scenario in scenarios.SCENARIOS.values():
            block, process, left_open = [], [], []
            for _ in range(rounds):
                for leaves in (True, False):
                    with scenario.serve() as place:
                        child = scenarios.spawn(scenario, place, leaves=leaves, ca_path=ca_path)
                        if not place.wait_all_closed():
                            raise SystemExit(f"{scenario}: a connection was not closed")
                    if leaves:
                        block.append(child.block)
                        process.append(child.process)
                    else:
                        left_open.append(child.process)
            columns = "  ".join(milliseconds(each) for each in (block, process, left_open))
            print(f"{scenario.name:32}{columns}", flush=True)


if __name__ == "__main__":
    main()
