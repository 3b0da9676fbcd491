"""
The virtual environments of the clients, kept from one run of the benchmark to the next.

There are several, since niquests replaces urllib3. This library is installed anew each time.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Sequence

__all__ = ["default_directory", "make", "plain_environment"]

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent

PACKAGES: dict[str, list[str]] = {
    "ours": ["trio", "uvloop", str(ROOT)],
    "asyncio": ["aiohttp", "httpx", "uvloop"],
    "niquests": ["niquests"],
}

#: Seconds for one call of pip.
PIP_TIMEOUT = 600


def default_directory() -> pathlib.Path:
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return pathlib.Path(cache).expanduser() / "http3_parallel-benchmarks"


def plain_environment() -> dict[str, str]:
    """The environment variables without those that lead to other modules, or to a proxy."""
    return {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHONPATH", "PYTHONHOME") and not name.lower().endswith("_proxy")
    }


def make(directory: pathlib.Path) -> dict[str, pathlib.Path]:
    """The interpreter of each. What is there already is used as it is."""
    pythons = {}
    for name, packages in PACKAGES.items():
        place = directory.absolute() / f"{sys.implementation.cache_tag}-{name}"
        pythons[name] = python = place / "bin" / "python"
        complete = place / "complete"  # written last, so that what was interrupted is begun anew
        content = "\n".join([sys.executable, *packages])
        if not (complete.exists() and complete.read_text() == content):
            print(f"making the environment of {name}", file=sys.stderr, flush=True)
            shutil.rmtree(place, ignore_errors=True)
            _call([sys.executable, "-m", "venv", str(place)])
            _install(python, packages)
            complete.write_text(content)
        elif name == "ours":
            _install(python, ["--force-reinstall", "--no-deps", str(ROOT)])
    return pythons


def _install(python: pathlib.Path, arguments: Sequence[str]) -> None:
    _call([str(python), "-m", "pip", "--disable-pip-version-check", "-q", "install", *arguments])


def _call(command: Sequence[str]) -> None:
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
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}")
