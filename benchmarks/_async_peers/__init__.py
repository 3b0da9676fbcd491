"""
What ``async_clients.py`` runs: parts of that benchmark, and of nothing else.

`environments` and `servers` are used by the benchmark's own process; `run` is the process of one
client, in that client's environment; `work` and `clients` are known to both.
"""
