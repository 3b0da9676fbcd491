"""
Rows of a timeline, as `Timeline.rows()` gives them, of a block that never ran: several hosts,
TLS, redirects, retries, credentials, errors, requests that were cancelled. The same each time.
"""

from __future__ import annotations

import heapq
import random
import typing

Row = dict[str, typing.Any]

STARTED = "2026-11-30T14:03:12.250000+00:00"

HOSTS = ("api.example.com", "static.example.org", "images.example.net:8443", "slow.example.com")

PAGES = (
    ("/v1/users/{n}?fields=name,email&page=2", "application/json", 1_800),
    ("/v1/orders/{n}", "application/json", 24_000),
    ("/assets/app-{n}.css", "text/css", 42_000),
    ("/photos/2026/11/{n}.jpg", "image/jpeg", 310_000),
    ("/articles/how-to-make-many-requests-at-once-{n}", "text/html", 61_000),
)

ERRORS = (
    ("ReadTimeout", "no bytes for 2.0 seconds, while waiting for the head of the response"),
    ("ConnectError", "connection refused"),
    ("IncompleteRead", "the connection was closed after 18,220 of 61,000 bytes"),
)


def no_response(number: int, state: str, start: float, **more: typing.Any) -> Row:
    """A request that nothing was sent of; `more` is what else is known."""
    row: Row = {
        "id": number,
        "method": "GET",
        "url": f"https://api.example.com/{number}",
        "host": "api.example.com",
        "tag": None,
        "state": state,
        "status": None,
        "reason": None,
        "size": None,
        "type": None,
        "start": start,
        "end": None,
        "worker": None,
        "connection": None,
        "reused": None,
        "error": None,
        "phases": [],
        "exchanges": [],
    }
    row.update(more)
    return row


class _Block:
    def __init__(self, workers: int, seed: int) -> None:
        self.random = random.Random(seed)
        self.free = [(0.4 + 0.1 * number, number) for number in range(workers)]
        self.idle: dict[tuple[int, str], str] = {}
        self.port = 50_000

    def row(self, number: int) -> Row:
        chance = self.random
        begin, worker = heapq.heappop(self.free)
        host = chance.choice(HOSTS)
        path, media, size = chance.choice(PAGES)
        method = chance.choice(["GET"] * 9 + ["POST", "DELETE"])
        submitted = round(0.02 * number, 2)
        begin = max(begin, submitted + 0.05)
        row = no_response(
            number,
            "done",
            submitted,
            method=method,
            host=host.partition(":")[0],
            url=f"https://{host}{path.format(n=100 + number)}",
            tag=f"page {number}" if number % 7 == 0 else None,
            worker=f"http3-parallel-{worker + 1}",
            phases=[["queued", submitted, begin]],
        )
        now = begin
        fate = chance.random()
        whys: list[str | None] = [None]
        if fate < 0.08:
            whys.append("redirect")
        elif fate < 0.15:
            whys.append("retry")
        elif fate < 0.18:
            whys.append("auth")
        failed = 0.18 <= fate < 0.25
        cancelled = 0.25 <= fate < 0.28
        for index, why in enumerate(whys):
            last = index == len(whys) - 1
            if why == "retry":
                now = self.phase(row, "pausing", now, 90 + 60 * chance.random())
            now = self.exchange(row, host, worker, now, why, whys[index + 1] if not last else None)
            exchange = row["exchanges"][-1]
            if last and (failed or cancelled):
                exchange.update(status=None, reason=None, size=None, response_headers=[])
                if failed:
                    name, message = chance.choice(ERRORS)
                    exchange["error"] = row["error"] = {"type": name, "message": message}
                row["state"] = "failed" if failed else "cancelled"
            elif last:
                status, reason = chance.choice([(200, "OK")] * 12 + [(404, "Not Found")])
                exchange.update(status=status, reason=reason, size=size + number)
                row.update(status=status, reason=reason, size=size + number, type=media)
        row.update(connection=exchange["connection"], reused=exchange["reused"], end=now)
        heapq.heappush(self.free, (now + 0.15, worker))
        return row

    def phase(self, row: Row, name: str, start: float, length: float) -> float:
        end = round(start + length, 3)
        row["phases"].append([name, start, end])
        return end

    def exchange(
        self, row: Row, host: str, worker: int, now: float, why: str | None, then: str | None
    ) -> float:
        chance = self.random
        start = now
        connection = self.idle.get((worker, host))
        reused = connection is not None
        if connection is None:
            self.port += 1
            connection = f"192.0.2.7:{self.port} -> 198.51.100.{HOSTS.index(host) + 1}:443"
            self.idle[worker, host] = connection
            if chance.random() < 0.3:
                now = self.phase(row, "blocked", now, 4 + 25 * chance.random())
            now = self.phase(row, "resolving", now, 1 + 8 * chance.random())
            now = self.phase(row, "connecting", now, 12 + 20 * chance.random())
            now = self.phase(row, "tls", now, 18 + 30 * chance.random())
        now = self.phase(row, "sending", now, 0.2 + 3 * chance.random())
        slow = 5 if host.startswith("slow") else 1
        now = self.phase(row, "waiting", now, slow * (25 + 120 * chance.random() ** 3))
        now = self.phase(row, "receiving", now, 1 + 70 * chance.random() ** 2)
        status, reason = {
            "redirect": (302, "Found"),
            "retry": (503, "Service Unavailable"),
            "auth": (401, "Unauthorized"),
            None: (200, "OK"),
        }[then]
        row["exchanges"].append(
            {
                "method": row["method"],
                "url": row["url"] if why != "redirect" else row["url"] + "/moved",
                "status": status,
                "reason": reason,
                "why": why,
                "start": start,
                "end": now,
                "size": 120,
                "connection": connection,
                "reused": reused,
                "version": "HTTP/1.1",
                "request_headers": [
                    ["Host", host],
                    ["User-Agent", "http3_parallel/0.6"],
                    ["Accept", "*/*"],
                    ["Accept-Encoding", "gzip, deflate, br, zstd"],
                    ["Connection", "keep-alive"],
                ],
                "response_headers": [
                    ["Date", "Mon, 30 Nov 2026 14:03:13 GMT"],
                    ["Content-Type", "application/json"],
                    ["Content-Length", str(120 + len(row["url"]))],
                    ["Server", "nginx"],
                    ["ETag", f'"{chance.getrandbits(48):012x}"'],
                    ["Cache-Control", "max-age=60, must-revalidate"],
                ],
                "error": None,
            }
        )
        return now


def block(count: int, workers: int = 8, seed: int = 6) -> list[Row]:
    """`count` requests; two were still in line when the block was left, if there are enough."""
    made = _Block(workers, seed)
    rows = [made.row(number) for number in range(1, count + 1)]
    end = max((row["end"] for row in rows), default=0)
    if count >= 60:
        for number in (count - 1, count):
            start = rows[number - 1]["start"]
            phases = [["queued", start, end]]
            rows[number - 1] = no_response(number, "cancelled", start, end=end, phases=phases)
    return rows


#: What others might write wherever they can, so that it does more than be read.
HOSTILE = (
    "</script><script>document.title = 'run'</script>",
    "<!--<script>",
    "\u2028document.title = 'run'\u2029",
    "<img src=x onerror=\"document.title = 'run'\">",
    '"><b onclick=alert(1)>${alert(1)}$title{{data}}',
    "</noscript></style></title><svg onload=\"document.title = 'run'\">",
    "javascript:document.title='run'",
    " javascript:alert(1)//http://example.com",
    "data:text/html,<script>alert(1)</script>",
    "https://example.com/\u202e\x00\ud800&lt;b&gt;&amp;",
    "__proto__",
    "http://user:pass@example.com:99999999/",
)


def hostile_rows() -> list[Row]:
    rows: list[Row] = []
    for number, text in enumerate(HOSTILE):
        row = block(1)[0]
        error = {"type": text, "message": text}
        exchange = {**row["exchanges"][0], **dict.fromkeys(("method", "url", "reason"), text)}
        exchange.update(dict.fromkeys(("why", "connection", "version"), text))
        exchange.update(request_headers=[[text, text]], response_headers=[[text, text]])
        exchange["error"] = error
        row.update(dict.fromkeys(("method", "url", "host", "tag", "reason", "type"), text))
        row.update(dict.fromkeys(("worker", "connection"), text), id=number, error=error)
        row.update(state="failed", exchanges=[exchange], phases=[["queued", 0, 1], [text, 1, 9]])
        rows.append(row)
    return rows
