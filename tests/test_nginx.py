"""Against a real server, with TLS and keep-alive."""

from __future__ import annotations

import http3_parallel
from nginx_server import PAGES, Nginx

REQUESTS = 2_000
WORKERS = 16


def test_two_thousand_tls_requests_share_a_few_connections(nginx: Nginx, ca_path: str) -> None:
    wrong = []
    before = len(nginx.served())
    with (
        http3_parallel.Client(verify=ca_path, max_workers=WORKERS) as client,
        client.parallel() as parallel,
    ):
        for number in range(REQUESTS):
            parallel.get(f"{nginx.url}/{number % PAGES}", tag=nginx.page(number % PAGES))
        for pending in parallel.as_completed(timeout=60):
            response = pending.get_response()
            if (response.status_code, response.content) != (200, pending.tag):
                wrong.append((pending.tag, response))
    assert wrong == []
    connections = nginx.served(before + REQUESTS)[before:]
    assert len(connections) == REQUESTS
    assert len(set(connections)) <= WORKERS
