"""
A real Chromium without a window, for as long as the tests of a module run.

Playwright drives it. Its wheel has the program that does so; the browser is the system's, and
playwright's own is never loaded. Should the tests be killed, that program notices the end of its
pipe and ends the browser.

A page is for files of the tests' own. It may take `PATIENCE` for whatever it is asked to do, and
tells what went wrong in it: messages on its console, errors nobody caught, and every address that
it wanted.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import pathlib
import shutil
import subprocess
import tempfile
import typing

import pytest
from playwright import sync_api

#: Seconds for each of apt-get's two steps: it is a large package.
INSTALL_TIMEOUT = 400

#: Seconds for anything that a page does.
PATIENCE = 30

#: Names that the browser has in distributions.
NAMES = ("chromium", "google-chrome", "google-chrome-stable")


def find_or_install() -> str:
    """
    The path of Chromium. In CI, as root on a Debian, it is installed; elsewhere the test is
    skipped, since nobody's own machine is changed by tests.
    """
    found = _find()
    if found is not None:
        return found
    if os.environ.get("CI") != "true" or os.geteuid() != 0 or shutil.which("apt-get") is None:
        pytest.skip("needs Chromium on the PATH: for example `apt-get install chromium`")
    # It takes longer than a test may, and has bounds of its own.
    faulthandler.cancel_dump_traceback_later()
    with _one_at_a_time():
        found = _find()
        if found is None:
            _install()
            found = _find()
    assert found is not None, "apt-get has installed no Chromium"
    return found


def _find() -> str | None:
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextlib.contextmanager
def _one_at_a_time() -> typing.Iterator[None]:
    """Several workers of pytest may be here at once: the others wait, and find it installed."""
    import fcntl  # which Windows has not

    with (pathlib.Path(tempfile.gettempdir()) / "http3-parallel-chromium.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _install() -> None:
    for arguments in (["update"], ["install", "-y", "--no-install-recommends", "chromium"]):
        subprocess.run(
            ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=60", *arguments],
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=INSTALL_TIMEOUT,
            check=True,
        )


class Chromium:
    """Browsers, each started when it is first asked for."""

    def __init__(self, playwright: sync_api.Playwright, executable: str) -> None:
        self._playwright = playwright
        self._executable = executable
        self._browsers: dict[bool, sync_api.Browser] = {}

    def browser(self, *, scripts: bool = True) -> sync_api.Browser:
        """
        One that runs a page's scripts, or one that does not, and shows what is for that case:
        a context that only forbids them does not.
        """
        if scripts not in self._browsers:
            # Root has no sandbox in a container, and /dev/shm may be small there.
            arguments = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
            if not scripts:
                arguments.append("--blink-settings=scriptEnabled=false")
            self._browsers[scripts] = self._playwright.chromium.launch(
                executable_path=self._executable, args=arguments, timeout=PATIENCE * 1000
            )
        return self._browsers[scripts]

    def close(self) -> None:
        while self._browsers:
            self._browsers.popitem()[1].close()


@contextlib.contextmanager
def running(executable: str) -> typing.Iterator[Chromium]:
    """
    As long as it runs, its thread has a running event loop: `asyncio.run` refuses to work there.
    So it is not for longer than one module's tests.
    """
    with sync_api.sync_playwright() as playwright:
        chromium = Chromium(playwright, executable)
        try:
            yield chromium
        finally:
            chromium.close()


class Watched:
    """
    Pages in contexts of their own, and what they should not have done.

    * `troubles`: messages on the console, errors nobody caught, dialogs.
    * `wanted`: the addresses of all that was asked for.
    """

    def __init__(self, chromium: Chromium) -> None:
        self.troubles: list[str] = []
        self.wanted: list[str] = []
        self._chromium = chromium
        self._contexts: list[sync_api.BrowserContext] = []

    def open(
        self, file: pathlib.Path, *, scripts: bool = True, **context_options: typing.Any
    ) -> sync_api.Page:
        context = self._chromium.browser(scripts=scripts).new_context(**context_options)
        self._contexts.append(context)
        context.set_default_timeout(PATIENCE * 1000)
        context.on("request", lambda request: self.wanted.append(request.url))
        context.on("console", lambda said: self.troubles.append(f"{said.type}: {said.text}"))
        context.on("weberror", lambda error: self.troubles.append(str(error.error)))
        context.on("dialog", self._refuse)
        context.on("page", lambda page: page.on("crash", lambda _: self.troubles.append("crash")))
        page = context.new_page()
        page.goto(file.as_uri())
        return page

    def _refuse(self, dialog: sync_api.Dialog) -> None:
        self.troubles.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def close(self) -> None:
        while self._contexts:
            self._contexts.pop().close()
