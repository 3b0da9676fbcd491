"""
A real gunicorn, or another server of WSGI applications, for as long as a test needs it.

It listens on a socket that the test has bound, so no port is ever guessed, and a request that
comes before the first worker is there waits for it. Whatever happens, nothing of it is left: it
has a session of its own, of which every process is killed in the end.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import pathlib
import select
import signal
import socket
import subprocess
import sys
import time
import typing

from servers import PATIENCE

TESTS = pathlib.Path(__file__).parent
EXAMPLES = TESTS.parent / "docs" / "examples"

#: What the applications import from: the package, the helpers of the tests, the example.
IMPORTED_FROM = (TESTS.parent, TESTS, TESTS / "programs", EXAMPLES)

#: Seconds that a page may take; longer than any upstream's own patience.
PAGE_PATIENCE = 2 * PATIENCE

#: Later versions open another socket, in the home directory. Earlier ones ignore the name.
CONFIGURATION = "control_socket_disable = True\n"


class Page(typing.NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes


class WSGIServer:
    """
    * `process`: the first process, which has started the others.
    * `port`: on 127.0.0.1.
    """

    def __init__(self, process: subprocess.Popen[bytes], port: int, output: pathlib.Path) -> None:
        self.process = process
        self.port = port
        self._output = output
        self._shown = 0

    def get(self, path: str, headers: typing.Mapping[str, str] | None = None) -> Page:
        """One request, on a connection of its own. Raises what `http.client` raises."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PAGE_PATIENCE)
        try:
            connection.request("GET", path, headers=dict(headers or {}))
            response = connection.getresponse()
            return Page(response.status, response.headers, response.read())
        finally:
            connection.close()

    def wait_for_output(self, words: bytes, timeout: float = PATIENCE) -> bool:
        """Wait until it has said `words`. Returns whether it has."""
        end = time.monotonic() + timeout
        while words not in self._output.read_bytes():
            if time.monotonic() > end:
                return False
            time.sleep(0.02)  # nothing tells when a foreign process has come so far
        return True

    def show_output(self) -> None:
        """Print what it has said since the last time: pytest shows that if the test fails."""
        said = self._output.read_bytes()
        print(said[self._shown :].decode("utf-8", "replace"))
        self._shown = len(said)


class Ending:
    """Other people's processes: when they have ended, without asking again and again."""

    def __init__(self, *pids: int) -> None:
        self._descriptors = [os.pidfd_open(pid) for pid in pids]

    def wait(self, timeout: float = PATIENCE) -> bool:
        """Whether all have ended, after at most `timeout` seconds each."""
        for descriptor in self._descriptors:
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            if not poll.poll(timeout * 1000):
                return False
        return True

    def close(self) -> None:
        for descriptor in self._descriptors:
            os.close(descriptor)

    def __enter__(self) -> Ending:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


@contextlib.contextmanager
def listening() -> typing.Iterator[socket.socket]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(128)
        yield sock


@contextlib.contextmanager
def serving(
    command: typing.Callable[[int], list[str]],
    environment: typing.Mapping[str, str],
    directory: pathlib.Path,
) -> typing.Iterator[WSGIServer]:
    """Run `command`, which gets the number of the descriptor that it is to listen on."""
    output = directory / "output"
    with listening() as sock, open(output, "wb") as file:
        port: int = sock.getsockname()[1]
        process = subprocess.Popen(
            command(sock.fileno()),
            pass_fds=[sock.fileno()],
            env={"PYTHONPATH": ":".join(map(str, IMPORTED_FROM)), "PATH": "", **environment},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    server = WSGIServer(process, port, output)
    try:
        yield server
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        server.show_output()


def gunicorn(
    app: str,
    *arguments: str,
    environment: typing.Mapping[str, str],
    directory: pathlib.Path,
    lines: str = "",
) -> contextlib.AbstractContextManager[WSGIServer]:
    """A gunicorn that serves `app`, ``module:name``, with `lines` in its configuration."""
    configuration = directory / "configuration.py"
    configuration.write_text(lines + CONFIGURATION)

    def command(descriptor: int) -> list[str]:
        return [
            *(sys.executable, "-m", "gunicorn", "--config", str(configuration)),
            *("--bind", f"fd://{descriptor}", "--worker-tmp-dir", str(directory)),
            *(*arguments, app),
        ]

    return serving(command, environment, directory)
