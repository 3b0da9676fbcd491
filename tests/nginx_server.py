"""
A real nginx, with TLS and keep-alive, for as long as the tests run.

It serves ``/NUMBER`` for each number below 100: a small text that names it. Everything it
needs, and everything it writes, is in a directory of the tests'.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import socket
import subprocess
import time
import typing

import pytest
import trustme

PAGES = 100

#: Seconds for each of apt-get's two steps.
INSTALL_TIMEOUT = 180

CONFIGURATION = """
daemon off;
worker_processes 1;
pid nginx.pid;
error_log error.log;
{user}
events {{ worker_connections 1024; }}
http {{
    # A line for each request: the number of the connection it came on.
    log_format connections "$connection";
    access_log access.log connections;
    default_type text/plain;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    keepalive_requests 100000;
    keepalive_timeout 60s;
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate chain.pem;
        ssl_certificate_key key.pem;
        root pages;
    }}
}}
"""


class Nginx(typing.NamedTuple):
    """`url` is without a slash at the end; the certificate is for 127.0.0.1 and localhost."""

    host: str
    port: int
    prefix: pathlib.Path

    @property
    def url(self) -> str:
        return f"https://{self.host}:{self.port}"

    @staticmethod
    def page(number: int) -> bytes:
        """What ``/number`` holds."""
        return b"page %d\n" % number

    def served(self, least: int = 0) -> list[str]:
        """
        For each request so far, what names its connection. Requests are logged after they are
        answered: waits until there are `least`.
        """
        end = time.monotonic() + 10
        while True:
            log = (self.prefix / "access.log").read_text().split()
            if len(log) >= least or time.monotonic() > end:
                return log
            time.sleep(0.02)  # nothing tells when a foreign process has come so far


def find_or_install() -> str:
    """
    The path of nginx. In CI, as root on a Debian, it is installed; elsewhere the test is
    skipped, since nobody's own machine is changed by tests.
    """
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if found is not None:
        return found
    if os.environ.get("CI") != "true" or os.geteuid() != 0 or shutil.which("apt-get") is None:
        pytest.skip("needs nginx on the PATH: for example `apt-get install nginx-light`")
    # The package would start a server of its own; not in run level 1.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for arguments in (["update"], ["install", "-y", "--no-install-recommends", "nginx-light"]):
        subprocess.run(
            ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=60", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=INSTALL_TIMEOUT,
            check=True,
        )
    found = shutil.which("nginx", path="/usr/sbin:/usr/bin")
    assert found is not None, "apt-get has installed no nginx"
    return found


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _wait_until_it_listens(process: subprocess.Popen[bytes], port: int) -> bool:
    end = time.monotonic() + 10
    while process.poll() is None and time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        time.sleep(0.02)  # nothing tells when a foreign process has come so far
    return False


@contextlib.contextmanager
def running(
    executable: str, prefix: pathlib.Path, certificate: trustme.LeafCert
) -> typing.Iterator[Nginx]:
    (prefix / "pages").mkdir()
    for number in range(PAGES):
        (prefix / "pages" / str(number)).write_bytes(Nginx.page(number))
    certificate.private_key_pem.write_to_path(str(prefix / "key.pem"))
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(str(prefix / "chain.pem"), append=True)
    # Its workers are root's where nginx is, since no one else may read the directory.
    user = "user root;" if os.geteuid() == 0 else ""
    for _ in range(3):  # someone else may take the port before nginx does
        port = _free_port()
        (prefix / "nginx.conf").write_text(CONFIGURATION.format(user=user, port=port))
        with open(prefix / "output", "wb") as output:
            process = subprocess.Popen(
                [executable, "-p", f"{prefix}/", "-c", "nginx.conf", "-e", "error.log"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            if _wait_until_it_listens(process, port):
                yield Nginx("127.0.0.1", port, prefix)
                return
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    pytest.fail("nginx does not start:\n" + (prefix / "output").read_text())
