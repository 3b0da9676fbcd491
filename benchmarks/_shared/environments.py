"""
The virtual environments of the clients, kept from one run of a benchmark to the next.

There are several, since niquests replaces urllib3. This library is used as it is in the checkout.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence

__all__ = ["PACKAGES", "ROOT", "default_directory", "make", "plain_environment"]

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent

PACKAGES: dict[str, list[str]] = {
    "ours": ["trio", "uvloop", "-e", str(ROOT)],
    "asyncio": ["aiohttp", "httpx", "uvloop"],
    "peers": ["httpx2", "pycurl", "pyreqwest", "requests-futures", "urllib3"],
    "niquests": ["niquests"],
}

#: The last two count more for requests than what is said to it.
_LEADING_ELSEWHERE = {
    "PYTHONPATH",
    "PYTHONHOME",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
}

#: Seconds for one call of pip.
PIP_TIMEOUT = 600


def default_directory() -> pathlib.Path:
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return pathlib.Path(cache).expanduser() / "http3_parallel-benchmarks"


def plain_environment() -> dict[str, str]:
    """The environment variables without those that lead to other code, proxies, authorities."""
    return {
        name: value
        for name, value in os.environ.items()
        if name not in _LEADING_ELSEWHERE and not name.lower().endswith("_proxy")
    }


def make(directory: pathlib.Path, names: Iterable[str] = PACKAGES) -> dict[str, pathlib.Path]:
    """The interpreter of each. What is there already is used as it is."""
    return {name: _make(directory, name) for name in names}


def _make(directory: pathlib.Path, name: str) -> pathlib.Path:
    place = directory.absolute() / f"{sys.implementation.cache_tag}-{name}"
    python = place / "bin" / "python"
    complete = place / "complete"  # written last, so that what was interrupted is begun anew
    # What this library needs may have changed with the checkout.
    project = [(ROOT / "pyproject.toml").read_text()] if name == "ours" else []
    content = "\n".join([sys.executable, *PACKAGES[name], *project])
    if not (complete.exists() and complete.read_text() == content):
        print(f"making the environment of {name}", file=sys.stderr, flush=True)
        shutil.rmtree(place, ignore_errors=True)
        if not _call([sys.executable, "-m", "venv", str(place)]) or not _install(python, name):
            raise SystemExit(f"the environment of {name} cannot be made")
        complete.write_text(content)
    return python


def _install(python: pathlib.Path, name: str) -> bool:
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "-q", "install"]
    if _call([*command, *PACKAGES[name]]):
        return True
    if name == "ours":
        return False
    # Some peers are not there for every machine and every Python. They fail when they are to run.
    installed = [_call([*command, package]) for package in PACKAGES[name]]
    return any(installed)


def _call(command: Sequence[str]) -> bool:
    """Whether it went well."""
    # With the proxies, by which pip may have to go.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PIP_TIMEOUT,
    )
    if done.returncode:
        print(f"{' '.join(command)} failed:\n{done.stdout}", file=sys.stderr, flush=True)
    return not done.returncode
