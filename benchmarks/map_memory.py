"""
A million URLs through `map`: the memory of the process, as it goes.

    python benchmarks/map_memory.py [number]

Against a dispatcher without a network, so that the block is all there is.
"""

from __future__ import annotations

import sys
import time

import http3_parallel as http3


class Instant(http3.Dispatcher):
    abortable = True

    def send(self, request: http3.Request, context: http3.Context) -> http3.Response:
        return http3.Response(200, content=b"", request=request)


def resident_kb() -> int:
    """The resident set of this process, from Linux's /proc."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))


def main(number: int) -> None:
    urls = (f"http://example.com/{n}" for n in range(number))
    begun, done = time.perf_counter(), 0
    with http3.parallel(dispatch=Instant()) as parallel:
        for pending in parallel.map(urls):
            assert pending.get_response().status_code == 200
            done += 1
            if done % (number // 10) == 0:
                seconds = time.perf_counter() - begun
                print(f"{done:9,} in {seconds:5.1f} s, {resident_kb():8,} KB resident", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
