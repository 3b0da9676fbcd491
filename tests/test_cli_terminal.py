"""The command on a terminal: the live display, colours, Ctrl-C."""

from __future__ import annotations

import pathlib
import re
import shutil
import signal
import time

import pytest

from commands import COMMAND, WITHOUT_RICH, Terminal
from http3_parallel.cli.display import Progress, picture
from http3_parallel.cli.terminal import columns
from servers import Site

BOTH = pytest.mark.parametrize("command", [COMMAND, WITHOUT_RICH], ids=["rich", "plain"])


def hidden(terminal: Terminal) -> bool:
    return bool(terminal.screen.cursor.hidden)


@BOTH
def test_it_shows_how_far_it_is_while_requests_hang(server: Site, command: list[str]) -> None:
    quick = [server.answer(f"/{number}", b"x" * 1000) for number in range(3)]
    bad = server.answer("/bad", status=500)
    slow = [f"{server.url}/wait/{number}" for number in range(2)]
    with Terminal(
        "-c", "2", *quick, bad, *slow, server.url + "/later", command=command
    ) as terminal:
        counts = "3 done   1 failed   2 in flight   1 queued"
        assert terminal.wait_for(counts)
        # What has completed stands above it, each in a line.
        above = terminal.text[: terminal.text.index(counts)]
        assert len(re.findall(r"^200 +1000 B .*/\d$", above, re.MULTILINE)) == 3
        assert len(re.findall(r"^500 .*/bad$", above, re.MULTILINE)) == 1
        if command is COMMAND:
            assert "4/7  57 %" in terminal.text
            assert terminal.wait_for(f" s  {slow[0]}")
            assert hidden(terminal)
        server.release("0")
        server.release("1")
        assert terminal.wait() == 1
    # Nothing of it is left.
    assert "in flight" not in terminal.text
    assert terminal.lines[7].startswith("5 fetched, 2 failed, ")
    assert terminal.lines[8:] == [""] * 16
    assert not hidden(terminal)


@BOTH
def test_ctrl_c_ends_it_within_a_second(server: Site, command: list[str]) -> None:
    quick = server.answer("/quick")
    hanging = [f"{server.url}/wait/{number}" for number in range(40)]
    with Terminal(quick, *hanging, command=command) as terminal:
        assert terminal.wait_for("1 done   0 failed   32 in flight   8 queued")
        pressed = time.monotonic()
        terminal.press(b"\x03")
        assert terminal.wait() == 130
        assert time.monotonic() - pressed < 3
    assert not hidden(terminal)
    assert "Traceback" not in terminal.text
    assert "in flight" not in terminal.text
    assert re.search(r"^interrupted after .* s: 1 fetched, 0 failed, ", terminal.text, re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize("after", [0.0, 0.001, 0.003, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_terminal_is_restored_whenever_it_is_ended(
    server: Site, tmp_path: pathlib.Path, after: float, number: signal.Signals
) -> None:
    """From the first picture on: whatever the main thread is at then."""
    urls = tmp_path / "urls"
    page = server.answer("/page", b"x" * 1000)
    urls.write_text("".join(f"{page}?{number}\n" for number in range(3000)))
    with Terminal("-i", str(urls), "-o", str(tmp_path / "saved")) as terminal:
        assert terminal.wait_until(lambda: b"in flight" in terminal.raw)
        time.sleep(after)
        terminal.process.send_signal(number)
        assert terminal.wait() == 128 + number
    assert not hidden(terminal)
    assert "Traceback" not in terminal.text
    assert "in flight" not in terminal.text
    assert not list((tmp_path / "saved").glob(".http3-parallel-*"))


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_ctrl_z_leaves_the_cursor_and_fg_goes_on(server: Site) -> None:
    script = 'set -m; "$@"; echo "status $?"; read; fg'
    shell = [str(shutil.which("bash")), "-c", script, "_", *COMMAND]
    with Terminal(server.url + "/wait/later", command=shell) as terminal:
        assert terminal.wait_until(lambda: "1 in flight" in terminal.text and hidden(terminal))
        terminal.press(b"\x1a")
        assert terminal.wait_for(f"status {128 + signal.SIGTSTP}")
        assert not hidden(terminal)
        terminal.press(b"\r")
        assert terminal.wait_until(lambda: hidden(terminal))
        server.release("later")
        assert terminal.wait() == 0
    assert not hidden(terminal)


def test_the_display_follows_the_size_of_the_terminal(server: Site) -> None:
    url = f"{server.url}/wait/{'x' * 200}"
    with Terminal(url, "--no-follow", size=(100, 24)) as terminal:
        assert terminal.wait_for(" s  http://")
        assert max(map(len, terminal.lines)) > 80
        terminal.resize(40, 12)
        assert terminal.wait_until(lambda: "0 done · 0 failed" in terminal.text)
        terminal.resize(120, 30)
        assert terminal.wait_until(lambda: max(map(len, terminal.lines)) > 100)
        terminal.press(b"\x03")
        assert terminal.wait() == 130


def test_there_are_colours_unless_they_are_not_wanted(server: Site) -> None:
    good, bad = server.answer("/good"), server.answer("/bad", status=404)
    with Terminal(good, bad) as terminal:
        assert terminal.wait() == 1
    assert b"\x1b[32m200" in terminal.raw
    assert b"\x1b[31m404" in terminal.raw


@BOTH
def test_no_colours_where_they_are_not_wanted(server: Site, command: list[str]) -> None:
    good, hanging = server.answer("/good"), server.url + "/wait/later"
    with Terminal(good, hanging, command=command, environment={"NO_COLOR": "1"}) as terminal:
        assert terminal.wait_for("1 in flight")
        server.release("later")
        assert terminal.wait() == 0
    # rich still makes things bold or faint then, which are no colours.
    codes = re.findall(rb"\x1b\[([\d;]*)m", terminal.raw)
    assert set(codes) <= {b"0", b"1", b"2"}


@BOTH
def test_a_dumb_terminal_gets_plain_lines(server: Site, command: list[str]) -> None:
    good = server.answer("/good")
    with Terminal(good, command=command, environment={"TERM": "dumb"}) as terminal:
        assert terminal.wait() == 0
    assert terminal.raw.count(b"\r\n") == 2
    assert re.fullmatch(rb"[\x20-\x7e\r\n]+", terminal.raw)
    assert terminal.raw.count(b"\r") == 2


def test_quiet_is_quiet_on_a_terminal(server: Site) -> None:
    good, bad = server.answer("/good"), server.answer("/bad", status=404)
    with Terminal("-s", good, bad) as terminal:
        assert terminal.wait() == 1
    assert [line for line in terminal.lines if line] == [terminal.lines[0]]
    assert terminal.lines[0].endswith("/bad")
    assert not re.search(rb"\x1b\[\?25", terminal.raw)


def test_with_the_output_in_a_file_the_display_is_still_seen(
    server: Site, tmp_path: pathlib.Path
) -> None:
    good, hanging = server.answer("/good", b"good"), server.url + "/wait/later"
    path = tmp_path / "out"
    with path.open("wb") as file, Terminal(good, hanging, stdout=file) as terminal:
        assert terminal.wait_for("1 done   0 failed   1 in flight")
        server.release("later")
        assert terminal.wait() == 0
    assert terminal.text.strip() == ""
    lines = path.read_text().splitlines()
    assert [line.rpartition("/")[2] for line in lines[:2]] == ["good", "later"]
    assert "\x1b" not in path.read_text()
    assert lines[2].startswith("2 fetched")


def test_bad_lines_are_told_above_the_display(server: Site, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "urls"
    path.write_text(f"{{}}\n{server.url}/wait/later\n")
    with Terminal("-i", str(path)) as terminal:
        assert terminal.wait_for("0 done   1 failed   1 in flight")
        assert f'{path.name}, line 1: "url" is missing' in terminal.text.replace("\n", "")
        server.release("later")
        assert terminal.wait() == 1


def test_a_password_is_asked_for(server: Site) -> None:
    url = server.answer("/page")
    with Terminal("-u", "ada", url) as terminal:
        assert terminal.wait_for("Password of ada:")
        terminal.press(b"s3cret\r")
        assert terminal.wait() == 0
    assert "s3cret" not in terminal.text
    assert server.requests[0].headers["authorization"] == "Basic YWRhOnMzY3JldA=="


# The picture.


@pytest.mark.parametrize("width", [10, 20, 37, 77, 300])
@pytest.mark.parametrize("height", [1, 2, 3, 20])
@pytest.mark.parametrize("total", [None, 0, 1, 10_000_000])
def test_a_picture_fits(width: int, height: int, total: int | None) -> None:
    slow = [(1234.5, "http://例え/" + "長" * 300), (2.0, "http://host/")]
    progress = Progress(total, 9_999_000, 12, 3, 32, 10, 10**12, slow)
    lines = picture(progress, (12345.6, 1e9), 4000.0, width, height)
    texts = ["".join(piece for piece, _ in line.pieces) for line in lines]
    assert max(map(columns, texts)) <= width
    assert len(lines) <= max(2, height)


def test_what_is_not_known_is_not_told() -> None:
    def text(progress: Progress, elapsed: float = 10.0) -> str:
        lines = picture(progress, (2.0, 0.0), elapsed, 100, 20)
        return "\n".join("".join(piece for piece, _ in line.pieces) for line in lines)

    queued = Progress(100, 10, 0, 0, 2, 88, 0)
    assert "10/100  10 %  45 s left" in text(queued)
    assert "left" not in text(queued, elapsed=0.5)
    assert "left" not in text(queued._replace(queued=0))
    assert "%" not in text(queued._replace(total=None))
    # Not before all is there.
    almost = Progress(10_000, 9_999, 0, 0, 1, 0, 0)
    assert "99 %" in text(almost)
    assert "100 %" in text(almost._replace(done=10_000, in_flight=0))
