"""
What the comparisons of clients share.

`environments`, `servers` and `processes` are used by a benchmark's own process, `measuring` by the
process of one client, `work` by both; `async_peers` has the asynchronous clients.
"""
