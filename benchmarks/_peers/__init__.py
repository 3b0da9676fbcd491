"""
What ``python -m benchmarks`` runs.

`run` is the process of one client, in that client's environment; `scenarios` and `clients` are
known to that and to the benchmark's own process, which has `results`, `goals` and `picture`. The
clients are used in `threads`, `floor`, `ours`, `asynchronous` and `curl`.
"""
