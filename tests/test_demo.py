"""``python -m http3_parallel demo``: what the README's first command ends in."""

from __future__ import annotations

import os
import pathlib
import pty
import re
import signal
import threading

import pytest

import http3_parallel
from commands import COMMAND, WITHOUT_RICH, Terminal, end, next_line, run, running
from http3_parallel.cli import demo
from http3_parallel.cli.demo_server import DemoServer, Page
from http3_parallel.cli.terminal import Pen
from servers import PATIENCE

#: The server's pages come this many times as fast as a person sees them.
SPEED = ("--speed", "10")


def test_it_shows_what_parallel_requests_do() -> None:
    status, lines, errors = run("demo", *SPEED)
    text = "\n".join(lines)
    assert (status, errors) == (0, "")
    times = [float(found) for found in re.findall(r"40 pages and 1 failure in (\S+) s\.", text)]
    assert len(times) == 2
    assert times[1] < times[0]
    assert re.search(r"That is \d+ times as fast", text)
    # In the order they completed, slow ones late.
    places = [int(found) for found in re.findall(r"^ +(\d+)\. /", text, re.MULTILINE)]
    assert places == sorted(places)
    assert {1, 2, 3, 4, 40, 41} <= set(places) <= set(range(1, 42))
    assert re.search(r"next_response\(\) raised IncompleteRead: \w+", text)
    assert re.search(r"The block was left in [\d.]+ ms\.", text)
    assert re.search(r"The server saw the connection of /hanging closed after [\d.]+ ms\.", text)
    assert re.search(r"get_response\(\) raises RequestCancelled: \w+", text)
    assert lines[-1] == "All of it went as it should."


def test_it_fits_a_terminal_and_is_plain_text_elsewhere() -> None:
    _, lines, _ = run("demo", *SPEED)
    assert max(map(len, lines)) <= 80
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize("setting", [{}, {"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_it_is_in_colour_on_a_terminal_unless_told_not_to(
    setting: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in setting.items():
        monkeypatch.setenv(name, value)
    ours, theirs = pty.openpty()
    with open(theirs, "w", encoding="utf-8") as terminal, open(ours, "rb", buffering=0) as reader:
        pen = Pen(terminal)
        print(pen.heading("heading"), pen.good("good"), file=terminal, flush=True)
        written = b""
        while not written.endswith(b"good\r\n") and not written.endswith(b"m\r\n"):
            written += reader.read(100)
    assert (b"\x1b[" in written) == (not setting)


@pytest.mark.parametrize("command", [COMMAND, WITHOUT_RICH], ids=["rich", "plain"])
def test_a_terminal_has_the_live_display_and_the_waterfall(command: list[str]) -> None:
    with Terminal("demo", "--speed", "5", size=(100, 200), command=command) as terminal:
        assert terminal.wait_for("1 in flight")
        assert terminal.wait() == 0
        # The last pictures stay, each with what came of it.
        assert terminal.text.count("40 done   1 failed") == 2
        if command is COMMAND:
            assert "41/41  100 %" in terminal.text
            assert "41/42  97 %" in terminal.text
            assert "  /hanging" in terminal.text
        for page in ("/page/40 +200", "/broken +failed", "/hanging +cancelled"):
            assert re.search(rf"^{page} .*[░█✗/]", terminal.text, re.MULTILINE)
        assert "All of it went as it should." in terminal.text
        assert not terminal.screen.cursor.hidden
        assert max(map(len, terminal.lines)) <= 100


def test_the_waterfall_is_in_the_plain_text_too() -> None:
    _, lines, _ = run("demo", *SPEED)
    assert sum(bool(re.match(r"/page/\d+ +200 ", line)) for line in lines) == 40


def test_its_waterfall_may_be_saved_as_a_page(tmp_path: pathlib.Path) -> None:
    page = tmp_path / "page.html"
    status, lines, _ = run("demo", *SPEED, "--html", str(page))
    assert status == 0
    assert any(line.endswith(str(page)) for line in lines)
    assert "/page/40" in page.read_text("utf-8")


def test_its_page_is_for_a_file_that_can_be_written(tmp_path: pathlib.Path) -> None:
    for path in ("page.txt", "missing/page.html"):
        result = run("demo", "--html", str(tmp_path / path))
        assert (result.status, result.lines) == (2, [])
        assert len(result.errors.splitlines()) == 1


def test_it_leaves_nothing_behind(capsys: pytest.CaptureFixture[str]) -> None:
    before = set(threading.enumerate())
    assert demo.run_demo(speed=10) == 0
    assert set(threading.enumerate()) <= before
    assert "All of it went as it should." in capsys.readouterr().out


def test_it_is_not_led_astray_by_a_proxy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert demo.run_demo(speed=10) == 0
    assert "times as fast" in capsys.readouterr().out


def test_it_fails_when_a_page_is_not_as_it_should_be(capsys: pytest.CaptureFixture[str]) -> None:
    pages = demo._make_pages(speed=10)
    with DemoServer(pages) as server:
        missing = Page("/page/41", 0.001)
        assert demo._Demo(server, [*pages, missing]).run() == 1
    output = capsys.readouterr().out
    assert "Not as it should be: /page/41 ended with" in output
    assert "went as it should" not in output


def test_ctrl_c_ends_it() -> None:
    with running("demo") as process:
        while "One by one" not in next_line(process):
            pass
        os.killpg(process.pid, signal.SIGINT)
        result = end(process)
    assert (result.status, result.errors) == (130, "")


def test_the_server_ends_a_connection_that_hangs() -> None:
    with http3_parallel.Client(timeout=None) as client, client.parallel() as block:
        with DemoServer([]) as server:
            hanging = block.get(server.url + "/hanging")
            assert server.hangs.wait(PATIENCE)
        with pytest.raises(http3_parallel.HTTPError):
            hanging.get_response(timeout=PATIENCE)
    assert server.hanging_closed.wait(PATIENCE)
    # It was not the client: that is not to be taken for its cancelling.
    assert server.hanging_closed_at is None
