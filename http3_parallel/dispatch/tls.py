"""
TLS contexts: whom to trust.

TLS 1.2 at least, host names checked, and the system's trust store. With ``SSL_CERT_FILE`` or
``SSL_CERT_DIR`` in the environment, and `trust_env`: exactly what they name. A context given
by the caller is used as it is, and never edited.

A context is loaded at the first request that needs it (10 to 30 ms, measured, for a system's
150 certificates), and shared by all with equal settings.
"""

from __future__ import annotations

import contextlib
import os
import ssl
import sys
import typing

from ..config import CertTypes, SSLConfig
from ..exceptions import CertificateError

if sys.platform in ("darwin", "win32"):
    import truststore

__all__ = ["ssl_context"]

#: Contexts kept at most: more different settings than that come one per request, e.g. from a
#: client certificate each.
MAX_KEPT = 32

#: Where distributions keep their CA certificates, for a Python whose OpenSSL was built to
#: look elsewhere: Debian, Fedora and RHEL, SUSE, Alpine and the BSDs.
SYSTEM_CA_FILES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)

#: With the class, in whose place gevent puts another: contexts of the first cannot wrap the
#: sockets that there are then.
_Key = tuple[
    type[ssl.SSLContext],
    SSLConfig,
    typing.Optional[str],
    typing.Optional[str],
    typing.Optional[str],
]

#: Oldest first. Without a lock, which a thread may hold while another one forks: each step is
#: one call of the dictionary's.
_kept: dict[_Key, ssl.SSLContext] = {}


def ssl_context(config: SSLConfig, trust_env: bool) -> ssl.SSLContext:
    """
    The context for `config`, made and loaded unless there is one already.

    Raises `CertificateError` when a file cannot be used.
    """
    if isinstance(config.verify, ssl.SSLContext):
        return config.verify
    env = os.environ if trust_env else {}
    cafile, capath = env.get("SSL_CERT_FILE") or None, env.get("SSL_CERT_DIR") or None
    # Python reads this one in any case, as a debugging aid that acts on the process.
    keylog = os.environ.get("SSLKEYLOGFILE") or None
    by_system = config.verify is True and not cafile and not capath
    if by_system and sys.platform in ("darwin", "win32"):
        # There, truststore verifies by the system's own functions, and holds a lock of the
        # context's for the time of a handshake. So each connection has a context of its own:
        # one hanging server must not hold up the others. Nothing is loaded, so it is cheap.
        return _make(config, cafile, capath, keylog)
    key = (ssl.SSLContext, config, cafile, capath, keylog)
    context = _kept.get(key)
    if context is None:
        # Two threads may load the same: the first result stays.
        context = _kept.setdefault(key, _make(config, cafile, capath, keylog))
        if len(_kept) > MAX_KEPT:
            # RuntimeError: it changed between two steps, so another thread is at it.
            with contextlib.suppress(RuntimeError, StopIteration):
                _kept.pop(next(iter(_kept)), None)
    return context


def _make(
    config: SSLConfig, cafile: str | None, capath: str | None, keylog: str | None
) -> ssl.SSLContext:
    context = _new_context(by_system=config.verify is True and not cafile and not capath)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if keylog is not None and not sys.flags.ignore_environment:
        context.keylog_filename = keylog
    if config.verify is False:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif config.verify is not True:
        path = os.path.expanduser(str(config.verify))
        if os.path.isdir(path):
            _load(context, None, path, "verify")
        else:
            _load(context, path, None, "verify")
    elif cafile or capath:
        if cafile:
            _load(context, cafile, None, "SSL_CERT_FILE")
        if capath:
            _load(context, None, capath, "SSL_CERT_DIR")
    if config.cert is not None:
        _load_own(context, config.cert)
    return context


def _new_context(by_system: bool) -> ssl.SSLContext:
    if sys.platform in ("darwin", "win32"):
        if by_system:
            return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if by_system:
        _load_system(context)
    return context


def _load_system(context: ssl.SSLContext) -> None:
    compiled = ssl.get_default_verify_paths()
    # By name, since set_default_verify_paths() would read the environment.
    cafile, capath = compiled.openssl_cafile, compiled.openssl_capath
    if os.path.isfile(cafile):
        _load(context, cafile, None, "system")
    elif _has_entries(capath):
        _load(context, None, capath, "system")
    else:
        for candidate in SYSTEM_CA_FILES:
            if os.path.isfile(candidate):
                _load(context, candidate, None, "system")
                break


def _has_entries(path: str) -> bool:
    with contextlib.suppress(OSError):
        return len(os.listdir(path)) > 0
    return False


def _load(context: ssl.SSLContext, cafile: str | None, capath: str | None, what: str) -> None:
    try:
        if capath is not None and not os.path.isdir(capath):
            raise NotADirectoryError(f"not a directory: {capath}")
        context.load_verify_locations(cafile, capath)
    except OSError as exc:  # ssl.SSLError too, for what is no PEM file
        name = {"verify": "verify=", "system": "the system's "}.get(what, f"{what}=")
        raise CertificateError(
            f"the CA certificates {name}{cafile or capath} cannot be loaded: {_reason(exc)}"
        ) from exc


def _load_own(context: ssl.SSLContext, given: CertTypes) -> None:
    cert = given if isinstance(given, tuple) else (os.fspath(given),)
    certfile = os.path.expanduser(cert[0])
    keyfile = os.path.expanduser(cert[1]) if len(cert) > 1 else None
    # Without a password OpenSSL would ask for one at the terminal, and hang the worker.
    password = cert[2] if len(cert) > 2 else ""
    files = certfile if keyfile is None else f"{certfile} with the key {keyfile}"
    try:
        for path in (certfile, keyfile):
            if path is not None and not os.path.exists(path):
                raise FileNotFoundError(f"no such file: {path}")
        context.load_cert_chain(certfile, keyfile, lambda: password)
    except (OSError, ValueError) as exc:
        hint = "" if len(cert) > 2 else "; an encrypted key needs cert=(cert, key, password)"
        raise CertificateError(
            f"the client certificate {files} cannot be loaded: {_reason(exc)}{hint}"
        ) from exc


def _reason(exc: Exception) -> str:
    reason = getattr(exc, "reason", None) or getattr(exc, "strerror", None)
    return str(reason or exc)
