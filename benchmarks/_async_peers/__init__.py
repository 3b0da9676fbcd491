"""
What ``async_clients.py`` runs: parts of that benchmark, and of nothing else.

`run` is the process of one client, in that client's environment; `scenarios` and `clients` are
known to that and to the benchmark's own process.
"""
