"""The servers, for as long as they are needed. What is started is ended in any case."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import shutil
import socket
import subprocess
import time
import typing
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from . import environments
from .work import LARGE_PAGES, PAGES, large_page, page

__all__ = ["LATENCY", "Sites", "latency_server", "nginx_sites", "running_on"]

#: Milliseconds, of nginx's site that has some.
LATENCY = 50

_CONFIGURATION = """
{echo}
daemon off;
worker_processes 1;
pid nginx.pid;
error_log error.log;
{user}
events {{ worker_connections 4096; }}
http {{
    access_log off;
    default_type text/plain;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    open_file_cache max=1000;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000;
    keepalive_timeout 600s;
    root root;
{sites}
}}
"""

_PLAIN = "listen 127.0.0.1:{port} backlog=1024;"
_TLS = """listen 127.0.0.1:{port} ssl backlog=1024;
        ssl_certificate server.pem;
        ssl_certificate_key server.key;
        ssl_protocols TLSv1.3;
        ssl_session_cache off;
        ssl_session_tickets off;"""

#: What is said of each site. With nothing to be resumed, each new TLS connection costs the same.
_SITES = {
    "plain": _PLAIN,
    # With echo alone, the answer would be in chunks, which no floor reads as simply.
    "latency": _PLAIN
    + f"""
        location / {{{{ echo_sleep {LATENCY / 1000}; echo_exec @page; }}}}
        location @page {{{{ }}}}""",
    "gzip": _PLAIN
    + """
        gzip on;
        gzip_min_length 1;
        gzip_types text/plain;""",
    "tls": _TLS,
    # It says so in each response, and closes: so nobody keeps a connection, told or not.
    "cold": _TLS
    + """
        keepalive_timeout 0;""",
}


class Sites(typing.NamedTuple):
    """
    * `urls`: by the names of the sites, those that there are; beneath them are ``pages/NUMBER``
      and ``large/NUMBER``.
    * `authority`: the certificate that theirs can be checked with, a file, if there is one.
    """

    urls: dict[str, str]
    authority: str | None


@contextlib.contextmanager
def running_on(cores: Collection[int]) -> Iterator[None]:
    """What is started inside stays on these; none: anywhere."""
    if not cores:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


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
def nginx_sites(directory: pathlib.Path, names: Collection[str] = _SITES) -> Iterator[Sites]:
    """
    One nginx with one worker, and these sites: those that can be. Without nginx that is none;
    without its echo module, not the one with latency; without openssl, none with TLS.
    """
    nginx = find_nginx()
    echo = None if nginx is None else find_echo_module(nginx)
    authority = make_certificates(directory)
    missing: set[str] = set()
    if nginx is None:
        missing.update(_SITES)
    if echo is None:
        missing.add("latency")
    if authority is None:
        missing.update(("tls", "cold"))
    there = [name for name in names if name not in missing]
    if nginx is None or not there:
        yield Sites({}, authority)
        return
    for folder, number_of, make in (("pages", PAGES, page), ("large", LARGE_PAGES, large_page)):
        _write_pages(directory / "root" / folder, number_of, make)
    command = [nginx, "-p", f"{directory}/", "-c", "nginx.conf", "-e", "error.log"]
    for _ in range(3):  # someone else may take a port before nginx does
        ports = dict(zip(there, _free_ports(len(there)), strict=True))
        (directory / "nginx.conf").write_text(_configuration(ports, echo))
        with (
            open(directory / "output", "wb") as output,
            _running(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output) as process,
        ):
            if _listens(process, next(iter(ports.values()))):
                yield Sites({name: _url(name, port) for name, port in ports.items()}, authority)
                return
    raise SystemExit("nginx does not start:\n" + (directory / "output").read_text())


def _configuration(ports: Mapping[str, int], echo: pathlib.Path | None) -> str:
    sites = [f"server {{ {_SITES[name].format(port=port)} }}" for name, port in ports.items()]
    return _CONFIGURATION.format(
        echo=f"load_module {echo};" if "latency" in ports else "",
        # Where root runs nginx, its workers are root's too: no one else may read the directory.
        user="user root;" if os.geteuid() == 0 else "",
        sites="\n".join(sites),
    )


def _url(name: str, port: int) -> str:
    return f"{'https' if name in ('tls', 'cold') else 'http'}://127.0.0.1:{port}"


def find_nginx() -> str | None:
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


def find_echo_module(nginx: str) -> pathlib.Path | None:
    """Where nginx has its modules: a package of its own with most distributions."""
    told = subprocess.run([nginx, "-V"], capture_output=True, text=True).stderr
    path = re.search(r"--modules-path=(\S+)", told)
    module = pathlib.Path(path[1]) / "ngx_http_echo_module.so" if path else None
    return module if module is not None and module.exists() else None


_EXTENSIONS = """
[req]
distinguished_name = name
prompt = no
[name]
CN = benchmark
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = IP:127.0.0.1, DNS:localhost
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


def make_certificates(directory: pathlib.Path) -> str | None:
    """
    Writes `server.pem` and `server.key`: ECDSA with P-256. The result is the file with the
    certificate of their authority; None where there is no openssl. An authority of its own, since
    some clients refuse a server's certificate that is one itself.
    """
    openssl = shutil.which("openssl")
    if openssl is None:
        return None
    (directory / "openssl.conf").write_text(_EXTENSIONS)
    new = "-new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -config openssl.conf"
    sign = "-req -CA authority.pem -CAkey authority.key -CAcreateserial -extfile openssl.conf"
    for arguments in (
        f"req {new} -x509 -days 30 -extensions authority -keyout authority.key -out authority.pem",
        f"req {new} -keyout server.key -out server.csr",
        f"x509 {sign} -days 30 -extensions server -in server.csr -out server.pem",
    ):
        command = [openssl, *arguments.split()]
        done = subprocess.run(
            command, cwd=directory, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        if done.returncode:
            raise SystemExit(f"openssl fails:\n{done.stderr}")
    return str(directory / "authority.pem")


@contextlib.contextmanager
def latency_server(python: pathlib.Path) -> Iterator[str]:
    """The URL of one in Python, without the milliseconds, which come next in the path."""
    command = [str(python), "-m", "benchmarks._shared.latency_server"]
    pipe = subprocess.PIPE
    with _running(command, cwd=environments.ROOT, stdin=pipe, stdout=pipe) as process:
        port = process.stdout.readline().strip()
        if not port:
            raise SystemExit("the server with latency does not start")
        yield f"http://127.0.0.1:{int(port)}"


def _write_pages(folder: pathlib.Path, number_of: int, make: Callable[[int], bytes]) -> None:
    folder.mkdir(parents=True)
    for number in range(number_of):
        (folder / str(number)).write_bytes(make(number))


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        # All open at the same time, or two might be the same.
        socks = [stack.enter_context(socket.socket()) for _ in range(number)]
        for sock in socks:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in socks]


def _listens(process: subprocess.Popen[bytes], port: int) -> bool:
    end = time.monotonic() + 10
    while process.poll() is None and time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        time.sleep(0.02)  # nothing tells when a foreign process has come so far
    return False
