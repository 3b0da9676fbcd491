"""
Under uWSGI, which forks in C, so that Python does not know of it.

The tests with a real one need a ``uwsgi`` on the PATH, or beside this Python, that was built for
this Python. Nothing installs one.
"""

from __future__ import annotations

import concurrent.futures
import json
import pathlib
import shutil
import signal
import subprocess
import sys
import sysconfig
import typing

import pytest

from gunicorn_server import IMPORTED_FROM, Ending, WSGIServer, serving
from servers import PATIENCE, Peer, RawServer, response_bytes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="uWSGI is tested on Linux")

TESTS = pathlib.Path(__file__).parent
PROGRAM = TESTS / "programs" / "lifeless.py"


def echo(peer: Peer) -> None:
    while (request := peer.read_request()) is not None:
        if request.target.startswith("/hang/"):
            peer.wait_closed()
            return
        peer.send(response_bytes(body=request.target.encode()))


@pytest.fixture
def upstream() -> typing.Iterator[RawServer]:
    with RawServer(echo) as server:
        yield server


def test_where_threads_do_not_run_blocks_say_so_and_plain_requests_work(upstream):
    program = subprocess.run(
        [sys.executable, str(PROGRAM), upstream.url],
        env={"PYTHONPATH": f"{TESTS.parent}:{TESTS}", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (program.returncode, program.stdout, program.stderr) == (0, "", "")


# With a real one.


@pytest.fixture(scope="module")
def uwsgi() -> str:
    found = shutil.which("uwsgi") or shutil.which(
        "uwsgi", path=str(pathlib.Path(sys.executable).parent)
    )
    if found is None:
        pytest.skip("needs uwsgi on the PATH: for example `pip install uwsgi`")
    version = subprocess.run(
        [found, "--python-version"], capture_output=True, text=True, timeout=20, check=False
    ).stdout
    if version.split(".")[:2] != [str(number) for number in sys.version_info[:2]]:
        pytest.skip(f"{found} is for another Python")
    return found


class Served(typing.NamedTuple):
    server: WSGIServer
    upstream: RawServer

    def json(self, path: str) -> typing.Any:
        page = self.server.get(path)
        assert page.status == 200, page.body
        return json.loads(page.body)


#: Told to uWSGI, whose Python has other packages than this one.
PATHS = [f"--pythonpath={path}" for path in (*IMPORTED_FROM, sysconfig.get_path("purelib"))]

SEVERAL = ("--master", "--processes", "2")


@pytest.mark.parametrize(
    ("options", "at_import"),
    [
        ((), ""),
        (("--enable-threads",), "block"),
        (("--threads", "2"), "plain"),
        ((*SEVERAL, "--enable-threads"), "plain"),
        ((*SEVERAL, "--enable-threads", "--lazy-apps"), "block"),
        ((*SEVERAL, "--enable-threads", "--py-call-uwsgi-fork-hooks"), "block"),
    ],
    ids=lambda value: "".join(value) or "none",
)
def test_pages_are_right_and_no_connection_is_shared(options, at_import, uwsgi, upstream, tmp_path):
    def command(descriptor: int) -> list[str]:
        return [
            *(uwsgi, "--http-socket", f"fd://{descriptor}", "--die-on-term", "--need-app"),
            *("--module", "uwsgi_site:application", *PATHS, *options),
        ]

    environment = {"UPSTREAM": upstream.url, "AT_IMPORT": at_import}
    with serving(command, environment, tmp_path) as server:
        served = Served(server, upstream)
        wanted = [f"n{number}" for number in range(40)]
        with concurrent.futures.ThreadPoolExecutor(8) as threads:
            pages = list(threads.map(lambda name: served.json(f"/texts/{name}"), wanted))
        for name, page in zip(wanted, pages, strict=True):
            assert page == {f"{name}-{n}": f"/{name}-{n}" for n in range(6)}
        assert served.json("/plain/a") == {"a": "/a"}
        assert served.json("/late/a") == {"failed": "DeadlineExceeded"}
        asked = {request.headers["x-process"] for request in upstream.requests}
        # All of them at work still, the one that the others were forked from included.
        with Ending(server.process.pid, *map(int, asked)) as ending:
            server.process.send_signal(signal.SIGTERM)
            assert ending.wait(2 * PATIENCE)
    for peer in upstream.connections:
        assert len({request.headers["x-process"] for request in peer.requests}) <= 1
    assert upstream.wait_all_closed()
