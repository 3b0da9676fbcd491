"""Fixtures that all tests share. What the servers can do is told in `servers`."""

from __future__ import annotations

import functools
import inspect
import pathlib
import socket
import ssl
import sys
import typing

import pytest
import trustme
from pytest_httpserver import HTTPServer

import event_loops
import nginx_server
from servers import HangingResolver, Site

#: The names that the servers' certificate is for. Nothing but tests that map them use the last.
HOST_NAMES = (
    "localhost",
    "127.0.0.1",
    "::1",
    "example.com",
    "*.example.com",
    "example.org",
    "*.example.org",
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that is a coroutine runs on each kind of event loop; see `event_loops`."""
    if inspect.iscoroutinefunction(metafunc.function):
        if "loop_kind" not in metafunc.fixturenames:
            metafunc.fixturenames.append("loop_kind")
        metafunc.parametrize("loop_kind", event_loops.KINDS)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    given = {name: pyfuncitem.funcargs[name] for name in names}
    test = functools.partial(pyfuncitem.obj, **given)
    event_loops.run(str(pyfuncitem.callspec.params["loop_kind"]), test)
    return True


@pytest.fixture(autouse=True)
def no_ambient_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the machine has set for its own clients (proxies, certificates) is not for tests."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE", "NETRC"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def ca() -> trustme.CA:
    """A certificate authority that no system trusts."""
    return trustme.CA()


@pytest.fixture(scope="session")
def ca_path(ca: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of its certificate: what ``verify=`` takes."""
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    ca.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture(scope="session")
def server_certificate(ca: trustme.CA) -> trustme.LeafCert:
    return ca.issue_cert(*HOST_NAMES)


@pytest.fixture(scope="session")
def server_tls(server_certificate: trustme.LeafCert) -> ssl.SSLContext:
    """What a server needs to speak TLS: ``RawServer(handler, tls=server_tls)``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    server_certificate.configure_cert(context)
    return context


@pytest.fixture
def server() -> typing.Iterator[Site]:
    """A polite server with programmable answers."""
    with Site() as site:
        yield site


@pytest.fixture
def tls_server(server_tls: ssl.SSLContext) -> typing.Iterator[Site]:
    """The same over TLS, with a certificate of `ca`."""
    with Site(tls=server_tls) as site:
        yield site


@pytest.fixture(scope="session")
def make_httpserver() -> typing.Iterator[HTTPServer]:
    """Overrides pytest-httpserver's, which handles one connection at a time."""
    with HTTPServer(host="127.0.0.1", port=0, threaded=True) as httpserver:
        yield httpserver
        httpserver.clear()


@pytest.fixture
def refused_url() -> str:
    """Where nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{sock.getsockname()[1]}/"


@pytest.fixture
def hanging_resolver(monkeypatch: pytest.MonkeyPatch) -> typing.Iterator[HangingResolver]:
    """
    In the place of `socket.getaddrinfo`: look-ups of ``hangs.test`` and ``hangs-too.test``
    hang until `release()`, and then give 127.0.0.1.
    """
    resolver = HangingResolver("hangs.test", "hangs-too.test")
    monkeypatch.setattr(socket, "getaddrinfo", resolver.getaddrinfo)
    yield resolver
    resolver.release()
    assert resolver.wait_all_gone()


@pytest.fixture
def switch_interval() -> typing.Iterator[None]:
    """Threads change after almost every bytecode, which is when races show."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.fixture(scope="session")
def nginx(
    server_certificate: trustme.LeafCert, tmp_path_factory: pytest.TempPathFactory
) -> typing.Iterator[nginx_server.Nginx]:
    """A real nginx with TLS and keep-alive; `nginx_server` tells what it serves."""
    executable = nginx_server.find_or_install()
    prefix: pathlib.Path = tmp_path_factory.mktemp("nginx")
    with nginx_server.running(executable, prefix, server_certificate) as server:
        yield server
