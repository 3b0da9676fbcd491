"""Greenlets in the place of threads, by gevent's monkey patching."""

from __future__ import annotations

import contextlib
import json
import pathlib
import ssl
import subprocess
import sys

import pytest

from servers import (
    Gate,
    Peer,
    RawServer,
    drip_body,
    dripping_tls,
    full_backlog,
    hang_before_response,
    hanging_tls,
    lengthless_body_then_hang,
    response_bytes,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="gevent is tested on Linux")

TESTS = pathlib.Path(__file__).parent
PROGRAM = TESTS / "programs" / "greenlets.py"
ENVIRONMENT = {"PYTHONPATH": f"{TESTS.parent}:{TESTS}", "PATH": ""}


def echo(peer: Peer) -> None:
    while (request := peer.read_request()) is not None:
        peer.send(response_bytes(body=request.target.encode()))


class Together(RawServer):
    """Answers once three requests are here."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(self._answer, tls=tls)
        self._gate = Gate()

    def _answer(self, peer: Peer) -> None:
        while peer.read_request() is not None:
            if len(self.requests) >= 3:
                self._gate.open()
            if not peer.wait_gate(self._gate):
                return
            peer.send(response_bytes())

    def _stop(self) -> list[BaseException]:
        errors = super()._stop()
        self._gate.close()
        return errors


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("when", ["first", "late"])
def test_a_client_works_in_greenlets(
    when: str, tls: bool, server_tls: ssl.SSLContext, ca_path: str
) -> None:
    context = server_tls if tls else None
    servers = {
        "echo": RawServer(echo, tls=context),
        "together": Together(context),
        "no answer": RawServer(hang_before_response, tls=context),
        "half an answer": RawServer(lengthless_body_then_hang, tls=context),
        "an answer in drips": RawServer(drip_body, tls=context),
    }
    if tls:
        servers.update({"no handshake": hanging_tls(), "a handshake in drips": dripping_tls()})
    with contextlib.ExitStack() as stack:
        urls = {name: stack.enter_context(server).url for name, server in servers.items()}
        if not tls:
            urls["no connection"] = stack.enter_context(full_backlog()).url
        run(when, urls, ca_path)
        assert all(server.wait_all_closed() for server in servers.values())


def run(when: str, urls: dict[str, str], ca_path: str) -> None:
    program = subprocess.run(
        [sys.executable, str(PROGRAM), when, json.dumps(urls)],
        env={**ENVIRONMENT, "SSL_CERT_FILE": ca_path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (program.returncode, program.stdout, program.stderr) == (0, "", "")
