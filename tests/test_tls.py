"""Whom a connection trusts, and what it says when it does not."""

from __future__ import annotations

import datetime
import pathlib
import ssl
import subprocess
import threading
import typing

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from http3_parallel.config import PoolLimits, SSLConfig
from http3_parallel.dispatch import NetworkDispatch, tls
from http3_parallel.dispatch.tls import ssl_context
from http3_parallel.exceptions import (
    CertificateError,
    HTTPError,
    IncompleteRead,
    ReadError,
    TLSError,
)
from servers import Peer, RawServer, Site, json_ok
from test_network import Net, another_context


@pytest.fixture(autouse=True)
def no_contexts_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "_kept", type(tls._kept)())


@pytest.fixture
def net() -> typing.Iterator[Net]:
    dispatch = NetworkDispatch(limits=PoolLimits(10, 100, 5.0), trust_env=True)
    yield Net(dispatch, SSLConfig())
    dispatch.close()


def server_context(
    certificate: trustme.LeafCert, *, require: trustme.CA | None = None
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    if require is not None:
        require.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def answering(context: ssl.SSLContext) -> RawServer:
    return RawServer(json_ok, tls=context)


def fill_directory(directory: pathlib.Path, ca_path: str) -> None:
    """As ``openssl rehash`` does: a certificate's file has the hash of its subject as its name."""
    command = ["openssl", "x509", "-noout", "-hash", "-in", ca_path]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except FileNotFoundError:
        pytest.skip("needs the openssl command")
    (directory / f"{done.stdout.strip()}.0").write_bytes(pathlib.Path(ca_path).read_bytes())


# Which certificates stand.


def test_a_path_to_a_file_is_trusted(net: Net, tls_server: Site, ca_path: str) -> None:
    url = tls_server.answer("/", b"ok")
    assert net.get(url, verify=ca_path) == b"ok"
    assert net.get(url, verify=pathlib.Path(ca_path)) == b"ok"


def test_a_path_to_a_directory_is_trusted(
    net: Net, tls_server: Site, ca_path: str, tmp_path: pathlib.Path
) -> None:
    url = tls_server.answer("/", b"ok")
    fill_directory(tmp_path, ca_path)
    assert net.get(url, verify=str(tmp_path)) == b"ok"


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_the_environment_says_whom_to_trust(
    net: Net,
    tls_server: Site,
    ca_path: str,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
) -> None:
    url = tls_server.answer("/", b"ok")
    with pytest.raises(CertificateError):
        net.get(url)
    if variable == "SSL_CERT_DIR":
        fill_directory(tmp_path, ca_path)
        monkeypatch.setenv(variable, str(tmp_path))
    else:
        monkeypatch.setenv(variable, ca_path)
    assert net.get(url) == b"ok"
    context = ssl_context(SSLConfig(), trust_env=True)
    if variable == "SSL_CERT_FILE":
        assert len(context.get_ca_certs()) == 1  # exactly those
    with pytest.raises(CertificateError):
        other = NetworkDispatch(limits=PoolLimits(1, 1), trust_env=False)
        Net(other, SSLConfig()).get(url)


def test_the_systems_certificates_are_trusted_by_default() -> None:
    context = ssl_context(SSLConfig(), trust_env=False)
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname is True


def test_certificates_are_found_where_openssl_does_not_look(
    monkeypatch: pytest.MonkeyPatch, ca_path: str
) -> None:
    nowhere = ssl.get_default_verify_paths()._replace(
        openssl_cafile="/nowhere", openssl_capath="/nowhere"
    )
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: nowhere)
    monkeypatch.setattr(tls, "SYSTEM_CA_FILES", ("/nowhere", ca_path))
    assert len(ssl_context(SSLConfig(), trust_env=False).get_ca_certs()) == 1


@pytest.mark.parametrize(
    ("names", "expired", "words"),
    [
        (("other.example",), False, "it belongs to another host"),
        (("127.0.0.1",), True, "expired"),
    ],
)
def test_a_certificate_that_does_not_stand_says_why(
    net: Net,
    ca: trustme.CA,
    ca_path: str,
    names: tuple[str, ...],
    expired: bool,
    words: str,
) -> None:
    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
    certificate = ca.issue_cert(*names, not_after=past if expired else None)
    with answering(server_context(certificate)) as server:
        with pytest.raises(CertificateError, match=words) as caught:
            net.get(server.url, verify=ca_path)
        assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
        assert server.host in str(caught.value)
        assert server.wait_all_closed()
    assert net.open_count == 0


def test_an_unknown_issuer_says_how_to_trust_it(net: Net, tls_server: Site) -> None:
    with pytest.raises(CertificateError, match="give verify= the path"):
        net.get(tls_server.url)


def test_without_verification_anything_goes(net: Net, ca: trustme.CA) -> None:
    with answering(server_context(ca.issue_cert("other.example"))) as server:
        assert net.get(server.url, verify=False) == b'{"ok": true}'


def test_tls_1_1_is_refused(net: Net, server_certificate: trustme.LeafCert, ca_path: str) -> None:
    assert ssl_context(SSLConfig(), False).minimum_version == ssl.TLSVersion.TLSv1_2
    assert ssl_context(SSLConfig(verify=False), False).minimum_version == ssl.TLSVersion.TLSv1_2


def test_http_1_1_is_what_is_offered(net: Net, server_tls: ssl.SSLContext, ca_path: str) -> None:
    chosen: list[str | None] = []

    def note(peer: Peer) -> None:
        chosen.append(typing.cast(ssl.SSLSocket, peer.socket).selected_alpn_protocol())
        json_ok(peer)

    with RawServer(note, tls=server_tls) as server:
        net.get(server.url, verify=ca_path)
    assert chosen == ["http/1.1"]


# The caller's own context.


class FrozenContext(ssl.SSLContext):
    """Refuses to be edited once it is frozen."""

    frozen = False

    def __setattr__(self, name: str, value: object) -> None:
        if self.frozen:
            raise AssertionError(f"{name} was set")
        super().__setattr__(name, value)

    def set_alpn_protocols(self, *args: typing.Any) -> None:
        assert not self.frozen
        super().set_alpn_protocols(*args)

    def load_default_certs(self, *args: typing.Any) -> None:
        raise AssertionError("certificates were loaded")


@pytest.mark.parametrize("mode", ["checked", "host name unchecked", "unchecked"])
def test_a_context_of_the_callers_is_used_as_it_is(
    net: Net, ca: trustme.CA, ca_path: str, mode: str
) -> None:
    context = FrozenContext(ssl.PROTOCOL_TLS_CLIENT)
    if mode != "checked":
        context.check_hostname = False
    if mode == "unchecked":
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_verify_locations(ca_path)
    context.set_alpn_protocols(["my-protocol", "http/1.1"])
    context.frozen = True
    name = "127.0.0.1" if mode == "checked" else "other.example"
    with answering(server_context(ca.issue_cert(name))) as server:
        assert net.get(server.url, verify=context) == b'{"ok": true}'
    if mode == "checked":
        with answering(server_context(ca.issue_cert("other.example"))) as server:
            with pytest.raises(CertificateError):
                net.get(server.url, verify=context)


def test_a_context_of_another_kind_does_its_handshake_itself(
    net: Net, tls_server: Site, ca_path: str
) -> None:
    url = tls_server.answer("/", b"ok")
    net.ssl = SSLConfig(verify=another_context(ca_path))
    assert net.get(url) == net.get(url) == b"ok"
    assert len(tls_server.connections) == 1


# The client's own certificate.


@pytest.fixture
def client_files(ca: trustme.CA, tmp_path: pathlib.Path) -> dict[str, str]:
    certificate = ca.issue_cert("client@example.com")
    files = {
        name: str(tmp_path / name) for name in ("cert.pem", "key.pem", "both.pem", "locked.pem")
    }
    certificate.cert_chain_pems[0].write_to_path(files["cert.pem"])
    certificate.private_key_pem.write_to_path(files["key.pem"])
    certificate.private_key_and_cert_chain_pem.write_to_path(files["both.pem"])
    key = serialization.load_pem_private_key(certificate.private_key_pem.bytes(), None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    pathlib.Path(files["locked.pem"]).write_bytes(locked)
    return files


@pytest.mark.parametrize("form", ["path", "pair", "triple"])
def test_the_clients_certificate_in_each_form(
    net: Net,
    ca: trustme.CA,
    ca_path: str,
    server_certificate: trustme.LeafCert,
    client_files: dict[str, str],
    form: str,
) -> None:
    cert: typing.Any = {
        "path": client_files["both.pem"],
        "pair": (client_files["cert.pem"], client_files["key.pem"]),
        "triple": (client_files["cert.pem"], client_files["locked.pem"], "secret"),
    }[form]
    net.ssl = SSLConfig(verify=ca_path, cert=cert)
    with answering(server_context(server_certificate, require=ca)) as server:
        assert net.get(server.url) == b'{"ok": true}'
        # A connection without it is another one.
        net.ssl = SSLConfig(verify=ca_path)
        with pytest.raises((TLSError, ReadError)):
            net.get(server.url)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (SSLConfig(verify="/nowhere/ca.pem"), "verify=/nowhere/ca.pem cannot be loaded: No such"),
        (SSLConfig(cert="/nowhere/me.pem"), "client certificate /nowhere/me.pem cannot be loaded"),
        (SSLConfig(verify=__file__), "test_tls.py cannot be loaded"),
        (SSLConfig(cert=(__file__, "/nowhere/key.pem")), "with the key /nowhere/key.pem"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(net: Net, config: SSLConfig, words: str) -> None:
    net.ssl = config
    with RawServer(Peer.wait_closed, scheme="https") as server:
        with pytest.raises(CertificateError, match=words) as caught:
            net.get(server.url)
        assert isinstance(caught.value.__cause__, OSError)
        assert server.connections == []
    assert net.open_count == 0


@pytest.mark.parametrize("password", [None, "wrong"])
def test_a_locked_key_without_its_password_never_asks_the_terminal(
    client_files: dict[str, str], password: str | None
) -> None:
    cert: typing.Any = (client_files["cert.pem"], client_files["locked.pem"])
    if password is not None:
        cert += (password,)
    with pytest.raises(CertificateError) as caught:
        ssl_context(SSLConfig(cert=cert), False)
    assert ("needs cert=(cert, key, password)" in str(caught.value)) is (password is None)


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_a_variable_that_names_nothing_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "/nowhere")
    with pytest.raises(CertificateError, match=f"{variable}=/nowhere"):
        ssl_context(SSLConfig(), True)


# Keeping contexts.


def test_equal_settings_share_one_context(ca_path: str) -> None:
    first = ssl_context(SSLConfig(verify=ca_path), True)
    assert ssl_context(SSLConfig(verify=ca_path), True) is first
    assert ssl_context(SSLConfig(), True) is not first


def test_the_number_of_kept_contexts_is_bounded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path, ca: trustme.CA
) -> None:
    monkeypatch.setattr(tls, "MAX_KEPT", 3)
    for number in range(6):
        path = tmp_path / f"{number}.pem"
        ca.cert_pem.write_to_path(str(path))
        ssl_context(SSLConfig(verify=str(path)), True)
    assert len(tls._kept) == 3


def test_concurrent_first_uses_get_one_context(ca_path: str, switch_interval: None) -> None:
    contexts: list[ssl.SSLContext] = []
    barrier = threading.Barrier(8)

    def use() -> None:
        barrier.wait()
        contexts.append(ssl_context(SSLConfig(verify=ca_path), True))

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(contexts) == 8
    assert len(set(map(id, contexts))) == 1


def test_nothing_is_loaded_for_plain_http(net: Net, server: Site) -> None:
    net.get(server.answer("/", b"ok"))
    assert len(tls._kept) == 0


def test_sslkeylogfile_is_honoured(
    net: Net,
    tls_server: Site,
    ca_path: str,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "keys.log"
    monkeypatch.setenv("SSLKEYLOGFILE", str(path))
    net.get(tls_server.answer("/", b"ok"), verify=ca_path)
    assert "TRAFFIC_SECRET" in path.read_text()


def test_errors_are_ours(net: Net, tls_server: Site) -> None:
    with pytest.raises(HTTPError) as caught:
        net.get(tls_server.url)
    assert isinstance(caught.value, ConnectionError)


# How it ends.


def cut_off(*answers: bytes, cleanly: bool = False) -> typing.Callable[[Peer], None]:
    """Answers a request with each, and ends the last connection at once, as an attacker could."""

    def handle(peer: Peer) -> None:
        for answer in answers:
            if peer.read_request() is None:
                return
            peer.send(answer)
        if not cleanly:
            peer.close()

    return handle


TO_THE_END = b"HTTP/1.1 200 OK\r\n\r\nall of it, or not"


@pytest.mark.parametrize("other", [False, True])
def test_a_body_to_the_end_of_tls_must_have_that_end(
    net: Net, server_tls: ssl.SSLContext, ca_path: str, other: bool
) -> None:
    verify = another_context(ca_path) if other else ca_path
    with RawServer(cut_off(TO_THE_END, cleanly=True), tls=server_tls) as server:
        assert net.get(server.url, verify=verify) == b"all of it, or not"
    with RawServer(cut_off(TO_THE_END), tls=server_tls) as server:
        with pytest.raises(IncompleteRead, match="without a close_notify"):
            net.get(server.url, verify=verify)
        assert net.open_count == 0


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ],
)
def test_a_body_that_tells_its_end_needs_no_other(
    net: Net, server_tls: ssl.SSLContext, ca_path: str, answer: bytes
) -> None:
    with RawServer(cut_off(answer), tls=server_tls) as server:
        assert net.get(server.url, verify=ca_path) == b"ok"


@pytest.mark.parametrize("begun", [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 103 Early Hints\r\n\r\n"])
def test_tls_that_ends_within_the_head_is_a_cut_response(
    net: Net, server_tls: ssl.SSLContext, ca_path: str, begun: bytes
) -> None:
    with RawServer(cut_off(begun), tls=server_tls) as server:
        with pytest.raises(IncompleteRead):
            net.get(server.url, verify=ca_path)


def test_an_idle_connection_whose_tls_ends_is_stale_however_it_ends(
    net: Net, server_tls: ssl.SSLContext, ca_path: str
) -> None:
    """Just as the next request comes, which is therefore sent again where that is safe."""

    def handle(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        if peer.read_request() is not None:
            peer.close()

    with RawServer(handle, tls=server_tls) as server:
        for number in (1, 2, 3):
            assert net.get(server.url, verify=ca_path) == b"ok"
            assert len(server.connections) == number
        with pytest.raises(ReadError):
            net.get(server.url, "POST", data=b"once", verify=ca_path)
        assert [request.method for request in server.requests] == ["GET"] * 5 + ["POST"]
