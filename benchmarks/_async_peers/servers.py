"""The servers, for as long as they are needed. What is started is ended in any case."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import socket
import subprocess
import time
import typing
from collections.abc import Iterator, Sequence

from .work import PAGES, page

__all__ = ["latency_server", "static_server"]

_CONFIGURATION = """
daemon off;
worker_processes 1;
pid nginx.pid;
error_log error.log;
{user}
events {{ worker_connections 2048; }}
http {{
    access_log off;
    default_type text/plain;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    open_file_cache max=1000;
    keepalive_requests 1000000;
    keepalive_timeout 600s;
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        root pages;
    }}
}}
"""


@contextlib.contextmanager
def _running(command: Sequence[str], **options: typing.Any) -> Iterator[typing.Any]:
    process = subprocess.Popen(command, **options)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


@contextlib.contextmanager
def static_server(directory: pathlib.Path) -> Iterator[str | None]:
    """The URL of an nginx with the pages; None where there is no nginx."""
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if nginx is None:
        yield None
        return
    (directory / "pages").mkdir()
    for number in range(PAGES):
        (directory / "pages" / str(number)).write_bytes(page(number))
    # Where root runs nginx, its workers are root's too: no one else may read the directory.
    user = "user root;" if os.geteuid() == 0 else ""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    (directory / "nginx.conf").write_text(_CONFIGURATION.format(user=user, port=port))
    command: list[str] = [nginx, "-p", f"{directory}/", "-c", "nginx.conf", "-e", "error.log"]
    with open(directory / "output", "wb") as output:
        with _running(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output) as process:
            if not _listens(process, port):
                raise SystemExit("nginx does not start:\n" + (directory / "output").read_text())
            yield f"http://127.0.0.1:{port}"


def _listens(process: subprocess.Popen[bytes], port: int) -> bool:
    end = time.monotonic() + 10
    while process.poll() is None and time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        time.sleep(0.02)  # nothing tells when a foreign process has come so far
    return False


@contextlib.contextmanager
def latency_server(python: pathlib.Path, home: pathlib.Path) -> Iterator[str]:
    """The URL of the other one, without the milliseconds. `home` is where `_async_peers` is."""
    command = [str(python), "-m", "_async_peers.latency_server"]
    pipe = subprocess.PIPE
    with _running(command, cwd=home, stdin=pipe, stdout=pipe) as process:
        port = process.stdout.readline().strip()
        if not port:
            raise SystemExit("the server with latency does not start")
        yield f"http://127.0.0.1:{int(port)}"
