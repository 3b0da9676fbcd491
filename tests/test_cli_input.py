"""What the command reads: arguments, files, JSON lines, and what is wrong with them."""

from __future__ import annotations

import json
import os
import pathlib
import re
import threading

import pytest

from commands import Result, end, run, running
from http3_parallel.cli.inputs import BadLine, Input, Item
from servers import Site

#: The command does not differ between Pythons; what starts it is in test_cli.
pytestmark = pytest.mark.once


def read(path: pathlib.Path) -> list[Item | BadLine]:
    return list(Input([], [str(path)]))


def written(tmp_path: pathlib.Path, content: bytes | str) -> pathlib.Path:
    path = tmp_path / "urls.txt"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_urls_come_from_several_files_and_arguments(server: Site, tmp_path: pathlib.Path) -> None:
    urls = [server.answer(f"/{number}") for number in range(4)]
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text(f"# a comment\n\n{urls[1]}\r\n")
    two.write_text(f"  {urls[2]}")  # without an end of the line
    result = run(urls[0], "-i", str(one), "--input", str(two), "-i", "-", given=urls[3])
    assert result.status == 0
    assert sorted(line.split()[-1] for line in result.lines[:-1]) == urls


def test_a_json_line_says_all_of_a_request(server: Site) -> None:
    server.answer("/page")
    lines = [
        {"url": f"{server.url}/page?1", "method": "put", "body": "héllo"},
        {"url": f"{server.url}/page?2", "json": {"a": [1, None]}, "tag": {"n": 2}},
        {"url": f"{server.url}/page?3", "headers": {"X-A": "1", "X-B": ["2", "3"]}},
        {"url": f"{server.url}/page?4", "json": None, "headers": {"content-type": "x/y"}},
    ]
    given = "\n".join(map(json.dumps, lines)) + f"\n{server.url}/page?5\n"
    result = run("-H", "X-B: all", "-", given=given)
    assert result.status == 0
    got = {request.target[-1]: request for request in server.requests}
    assert (got["1"].method, got["1"].body) == ("PUT", "héllo".encode())
    assert "content-type" not in got["1"].headers
    assert (got["2"].method, got["2"].body) == ("POST", b'{"a":[1,null]}')
    assert got["2"].headers["content-type"] == "application/json"
    assert (got["3"].method, got["3"].headers["x-a"]) == ("GET", "1")
    assert got["3"].headers["x-b"] == "2, 3"
    assert (got["4"].body, got["4"].headers["content-type"]) == (b"null", "x/y")
    assert (got["5"].method, got["5"].headers["x-b"]) == ("GET", "all")
    assert any(re.search(r'POST .*/page\?…  \[{"n": 2}\]$', line) for line in result.lines)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON: "),
        ('{"url": "http://h/"} x', "not JSON: "),
        ("{" + '"a":[' * 100_000, "not JSON: "),
        (b'{"url": "\xff"}', "not JSON: "),
        ("{}", '"url" is missing'),
        ('{"url": 1}', '"url" is not text'),
        ('{"url": "http://h/", "methd": "GET"}', "'methd' is not known"),
        ('{"url": "http://h/", "method": 1}', '"method" is not text'),
        ('{"url": "http://h/", "body": {}}', '"body" is not text; for JSON there is "json"'),
        ('{"url": "http://h/", "body": "", "json": 1}', 'either "body" or "json"'),
        ('{"url": "http://h/", "headers": []}', '"headers" is not an object'),
        ('{"url": "http://h/", "headers": {"a": 1}}', "the value of 'a' is not text"),
        (b"http://h/\0", "there is a NUL in the line"),
        (b"http://h/" + b"x" * (17 * 1024 * 1024), "the line is longer than 16,777,216 bytes"),
    ],
)
def test_a_bad_line_is_one_bad_line(
    line: str | bytes, message: str, tmp_path: pathlib.Path
) -> None:
    content = line.encode() if isinstance(line, str) else line
    first, bad, last = read(written(tmp_path, b"http://a/\n" + content + b"\nhttp://b/"))
    assert isinstance(bad, BadLine)
    assert (bad.number, bad.source) == (2, str(tmp_path / "urls.txt"))
    assert message in bad.message
    assert isinstance(first, Item)
    assert isinstance(last, Item)
    assert (first.url, first.number, last.url, last.number) == ("http://a/", 1, "http://b/", 3)


def test_a_bad_line_is_told_with_its_place_and_the_rest_goes_on(
    server: Site, tmp_path: pathlib.Path
) -> None:
    good = server.answer("/good")
    lines = [
        good,
        "{",
        json.dumps({"url": good, "headers": {"a b": "c"}}),
        json.dumps({"url": good, "method": "G T"}),
        "no url",
        good,
    ]
    path = written(tmp_path, "\n".join(lines))
    for more in ([], ["-o", str(tmp_path / "saved")]):
        result = run("-i", str(path), *more)
        assert result.status == 1
        told = sorted(result.errors.splitlines())
        assert [re.search(r"line (\d)", line)[1] for line in told] == ["2", "3", "4"]  # type: ignore[index]
        assert all(line.startswith(f"python -m http3_parallel: {path}, line ") for line in told)
        assert sum(line.startswith("200") for line in result.lines) == 2
        [error] = [line for line in result.lines if line.startswith("ERR")]
        assert error.endswith(f"({path}, line 5)")
        assert "  InvalidURL: " in error
        assert result.lines[-1].startswith("2 fetched, 4 failed, ")


def test_a_byte_order_mark_is_passed_over(tmp_path: pathlib.Path) -> None:
    [item] = read(written(tmp_path, b"\xef\xbb\xbfhttp://a/\r\n"))
    assert isinstance(item, Item)
    assert item.url == "http://a/"


def test_what_cannot_be_read_is_wrong_usage(tmp_path: pathlib.Path) -> None:
    def refused(path: pathlib.Path | str) -> Result:
        result = run("-i", str(path), "http://127.0.0.1:1/")
        assert result.status == 2
        assert result.lines == []
        assert len(result.errors.splitlines()) == 1
        return result

    missing = tmp_path / "missing"
    expected = f"python -m http3_parallel: No such file or directory: {missing}\n"
    assert refused(missing).errors == expected
    assert "is a directory" in refused(tmp_path).errors
    assert "is binary" in refused(written(tmp_path, b"\x7fELF\0\0")).errors
    assert "is UTF-16" in refused(written(tmp_path, "http://a/".encode("utf-16"))).errors


def test_a_file_that_is_gone_when_its_turn_comes_is_a_failure(tmp_path: pathlib.Path) -> None:
    bad = Input([], [str(tmp_path / "gone")])
    [line] = bad
    assert isinstance(line, BadLine)
    assert line.message == "cannot be read: No such file or directory"


def test_a_named_pipe_is_read_as_it_comes(server: Site, tmp_path: pathlib.Path) -> None:
    url = server.answer("/page")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_text(f"{url}\n{url}\n"))
    writer.start()
    result = run("-i", str(pipe))
    writer.join()
    assert result.status == 0
    assert result.lines[-1].startswith("2 fetched")


def test_standard_input_is_for_one_thing() -> None:
    for arguments in (["-", "-"], ["-", "-i", "-"], ["-d", "@-", "-"]):
        result = run(*arguments, given="")
        assert (result.status, result.lines) == (2, [])
        assert "standard input can be read for one thing only" in result.errors


def test_how_many_there_are_is_known_where_it_can_be(tmp_path: pathlib.Path) -> None:
    path = written(tmp_path, "http://a/\n\n# no\nhttp://b/")
    given = Input(["http://c/"], [str(path), str(path)])
    assert given.total is None
    given.count()
    assert given.total == 9  # lines, as far as is known yet
    for _ in given:
        pass
    assert given.total == given.read == 5

    for unknown in (Input(["-"], [str(path)]), Input([], [str(path), "-"])):
        unknown.count()
        assert unknown.total is None


def test_an_argument_that_is_no_url_is_refused_before_anything_is_sent(
    server: Site, tmp_path: pathlib.Path
) -> None:
    good = server.answer("/good")
    result = run(good, "example.com/page")
    assert result.status == 2
    assert "did you mean https://example.com/page ?" in result.errors
    result = run(good, str(written(tmp_path, good)))
    assert result.status == 2
    assert f"a file of URLs is given as -i {tmp_path}" in result.errors
    assert "only http and https" in run(good, "ftp://host/").errors
    assert server.requests == []


def test_many_arguments(server: Site) -> None:
    url = server.answer("/page")
    result = run("-q", *[f"{url}?{number}" for number in range(3000)])
    assert result == (0, [], "")
    assert len({request.target for request in server.requests}) == 3000


def test_reading_ends_at_the_deadline(server: Site) -> None:
    url = server.answer("/page")
    reader, writer = os.pipe()
    os.write(writer, f"{url}\n".encode())
    with os.fdopen(reader) as stdin:
        for more in ([], ["--jsonl"]):
            with running("--deadline", "1", "-", *more, stdin=stdin) as process:
                result = end(process)
            assert result.status == 1
            told = (result.lines + result.errors.splitlines())[-1]
            assert told.startswith("the deadline passed after 1.")
            assert told.endswith("; no more was read")
    os.close(writer)
