"""
Every example of README.md and docs/ runs.

All ``python`` blocks of a file are run in their order, in one namespace, in which `http3` and
`http3_parallel` are imported already. Two styles are known:

* plain code;
* code after ``>>> ``, as http3's documentation prints it: lines that go on within a statement
  begin with ``>>> `` or ``... `` too. Values are printed as an interactive session does. Lines
  without either are what the statement before them prints, or the traceback of what it raises,
  compared as doctest does with ELLIPSIS and NORMALIZE_WHITESPACE; where there are none, what a
  statement prints does not matter.

A block that cannot be run stands after ``<!-- not run: the reason -->``. Each fence names its
language, so that no code is left out unseen.

Two local servers stand for example.com, example.org and their subdomains, on ports 443 and 80;
every other host is what it is on the machine that runs the test. What they answer depends on
the path's last segment:

* ``hangs...``: nothing, until the client closes;
* ``fails...``: the connection is broken;
* a number from 400 to 599: that status;
* ``redirects...``: a redirect to ``/``;
* ``login...`` sets a cookie, and ``token...`` has an ``access_token`` in its JSON;
* anything else: 200 and ``{"method": ..., "path": ...}``.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import dataclasses
import doctest
import inspect
import io
import json
import pathlib
import re
import socket
import ssl
import sys
import textwrap
import traceback
import typing

import pytest
from django.conf import (  # type: ignore[import-untyped]  # Django has no type information
    UserSettingsHolder,
    global_settings,
    settings,
)

import http3_parallel
from servers import Peer, RawServer, response_bytes

ROOT = pathlib.Path(__file__).parent.parent
FILES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])

PYTHON = ("python", "python3", "py", "pycon")
NOT_RUN = re.compile(r"<!--\s*not run:(?P<reason>.*?)-->\s*\Z", re.DOTALL)
FENCE = re.compile(r"(?P<indent>[ \t]*)(?P<fence>`{3,}|~{3,})[ \t]*(?P<info>[^`]*)")

#: An address of the loopback network that nobody listens on: what example.com resolves to.
STAND_IN = "127.93.184.215"
STAND_IN_HOSTS = re.compile(r"(.+\.)?example\.(com|org)\.?")


@dataclasses.dataclass
class Block:
    language: str
    #: In its file, of the first line within the fence: tracebacks then point there.
    line: int
    text: str
    #: Why it is not run; None if it is.
    not_run: str | None


def blocks_of(markdown: str) -> list[Block]:
    """The fenced blocks. Raises ValueError for a fence that names no language or has no end."""
    blocks = []
    lines = markdown.splitlines()
    number = 0
    while number < len(lines):
        opening = FENCE.fullmatch(lines[number])
        if opening is None:
            number += 1
            continue
        first = number = number + 1
        closing = re.compile(rf"[ \t]*{opening['fence'][0]}{{{len(opening['fence'])},}}[ \t]*")
        while number < len(lines) and not closing.fullmatch(lines[number]):
            number += 1
        if number == len(lines):
            raise ValueError(f"the block that begins in line {first} has no end")
        language = opening["info"].split(" ")[0].strip("{}.").lower()
        if not language:
            raise ValueError(f"the block that begins in line {first} names no language")
        before = NOT_RUN.search("\n".join(lines[: first - 1]))
        text = textwrap.dedent("\n".join(lines[first:number]) + "\n")
        reason = None if before is None else before["reason"].strip()
        if reason == "":
            raise ValueError(f"no reason why the block that begins in line {first} is not run")
        blocks.append(Block(language, first + 1, text, reason))
        number += 1
    return blocks


class Piece(typing.NamedTuple):
    """Some statements and what they print, if that is told."""

    line: int
    source: str
    expected: str


def pieces_of(block: Block) -> list[Piece]:
    """What a block runs, piece by piece: plain code is one."""
    if not re.search(r"^>>>", block.text, re.MULTILINE):
        return [Piece(block.line, block.text, "")]
    pieces: list[Piece] = []
    for number, line in enumerate(block.text.splitlines(), block.line):
        if line.startswith((">>>", "...")):
            code = line[4:] + "\n"
            if pieces and not pieces[-1].expected:
                last = pieces.pop()
                pieces.append(last._replace(source=last.source + code))
            else:
                pieces.append(Piece(number, code, ""))
        elif line.strip() and pieces:
            last = pieces.pop()
            pieces.append(last._replace(expected=last.expected + line + "\n"))
        elif pieces:
            # Keeps line numbers where they are.
            last = pieces.pop()
            pieces.append(last._replace(source=last.source + ("" if last.expected else "\n")))
        else:
            raise ValueError(f"line {number} is neither code nor what code prints")
    return pieces


def print_value(value: object) -> None:
    if value is not None:
        print(repr(value))


def run_page(markdown: str, file: str, namespace: dict[str, typing.Any]) -> None:
    try:
        for block in blocks_of(markdown):
            if block.language in PYTHON and block.not_run is None:
                run(block, file, namespace)
    finally:
        if "__loop__" in namespace:
            namespace["__loop__"].close()


def run(block: Block, file: str, namespace: dict[str, typing.Any]) -> None:
    """Run a block. Raises what it raises; AssertionError if it prints something else."""
    mode = "single" if block.text.lstrip().startswith(">>>") else "exec"
    for piece in pieces_of(block):
        tree = ast.parse(piece.source, file)
        ast.increment_lineno(tree, piece.line - 1)
        printed = ""
        for statement in tree.body:
            is_last = statement is tree.body[-1]
            try:
                printed = run_statement(statement, file, mode, namespace)
            except Exception as error:
                if not (is_last and piece.expected.startswith("Traceback (most recent call")):
                    raise
                printed = "".join(traceback.format_exception_only(type(error), error))
        # What an interactive session shows after the last statement; of a traceback, its end.
        expected = re.sub(r"\ATraceback .*\n(?:[ \t].*\n)*", "", piece.expected)
        flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        if expected and not doctest.OutputChecker().check_output(expected, printed, flags):
            raise AssertionError(
                f"{file}, line {piece.line}:\n{piece.source}\nshould print\n{expected}\n"
                f"and printed\n{printed}"
            )


def run_statement(
    statement: ast.stmt, file: str, mode: str, namespace: dict[str, typing.Any]
) -> str:
    """Run one statement and return what it prints. It may await, as in `python -m asyncio`."""
    node = ast.Interactive([statement]) if mode == "single" else ast.Module([statement], [])
    code = compile(node, file, mode, ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "displayhook", print_value)
        if code.co_flags & inspect.CO_COROUTINE:
            if "__loop__" not in namespace:
                namespace["__loop__"] = asyncio.new_event_loop()
            namespace["__loop__"].run_until_complete(eval(code, namespace))
        else:
            exec(code, namespace)
    return printed.getvalue()


def answer(peer: Peer) -> None:
    while (request := peer.read_request()) is not None:
        path = request.target.partition("?")[0]
        name = path.rpartition("/")[2]
        status, headers = 200, {"Content-Type": "application/json"}
        if name.startswith("hangs"):
            peer.wait_closed()
            return
        if name.startswith("fails"):
            peer.reset()
            return
        if re.fullmatch(r"[45]\d\d", name):
            status = int(name)
        elif name.startswith("redirects"):
            status, headers["Location"] = 302, "/"
        elif name.startswith("login"):
            headers["Set-Cookie"] = "session=2YotnFZF; Path=/; Secure; HttpOnly"
        answered = {"method": request.method, "path": path}
        if name.startswith("token"):
            answered["access_token"] = "2YotnFZFEjr1zCsicMWpAA"
        body = json.dumps(answered).encode()
        peer.send(response_bytes(status, body, headers, with_body=request.method != "HEAD"))
        if not request.keeps_alive:
            return


@pytest.fixture
def example_com(
    monkeypatch: pytest.MonkeyPatch, server_tls: ssl.SSLContext, ca_path: str
) -> typing.Iterator[None]:
    """Local servers that stand for example.com; their certificate is the system's, as it were."""
    look_up = socket.getaddrinfo
    connect: typing.Callable[..., None] = socket.socket.connect
    connect_ex: typing.Callable[..., int] = socket.socket.connect_ex

    def mapped_look_up(host: typing.Any, *args: typing.Any, **kwargs: typing.Any) -> typing.Any:
        name = host.decode() if isinstance(host, bytes) else host
        stands_in = name is not None and STAND_IN_HOSTS.fullmatch(name)
        return look_up(STAND_IN if stands_in else host, *args, **kwargs)

    with RawServer(answer, tls=server_tls) as tls_site, RawServer(answer) as plain_site:
        sites: dict[typing.Any, typing.Any] = {
            (STAND_IN, 443): (tls_site.host, tls_site.port),
            (STAND_IN, 80): (plain_site.host, plain_site.port),
        }

        # The port is changed here rather than in the look-up, whose results may be kept by
        # host, and asked for without a port.
        monkeypatch.setattr(socket, "getaddrinfo", mapped_look_up)
        monkeypatch.setattr(
            socket.socket, "connect", lambda sock, to: connect(sock, sites.get(to, to))
        )
        monkeypatch.setattr(
            socket.socket, "connect_ex", lambda sock, to: connect_ex(sock, sites.get(to, to))
        )
        monkeypatch.setenv("SSL_CERT_FILE", ca_path)
        yield


@pytest.fixture
def django_project() -> typing.Iterator[None]:
    """One that has no settings of its own."""
    before = settings._wrapped
    settings._wrapped = UserSettingsHolder(global_settings)
    yield
    settings._wrapped = before


@pytest.mark.usefixtures("example_com", "django_project")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_example_runs(
    path: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # What docs/wsgi-apps.md allows its upstreams; this machine may be busy.
    monkeypatch.setenv("PAGE_DEADLINE", "2.5")
    namespace: dict[str, typing.Any] = {
        "__name__": "__main__",
        "http3": http3_parallel,
        "http3_parallel": http3_parallel,
    }
    run_page(path.read_text("utf-8"), str(path), namespace)


def test_few_examples_are_not_run() -> None:
    blocks = [block for path in FILES for block in blocks_of(path.read_text("utf-8"))]
    python = [block for block in blocks if block.language in PYTHON]
    not_run = [block for block in python if block.not_run is not None]
    assert 5 * len(not_run) <= len(python), [block.not_run for block in not_run]


# The machinery itself.

HTTP3_STYLE = """
```python
>>> values = []
>>> for number in range(2):
>>>     values.append(number)
>>>     number + 1

>>> values
[0, ...]
>>> len(values)
2
```
"""


def run_all(markdown: str) -> dict[str, typing.Any]:
    namespace: dict[str, typing.Any] = {}
    run_page(markdown, "page.md", namespace)
    return namespace


def test_blocks_share_a_namespace() -> None:
    page = "```python\na = 1\n```\ntext\n\n1. item\n\n   ```py\n   b = a + 1\n   ```\n"
    assert run_all(page)["b"] == 2


def test_code_in_the_style_of_http3s_documentation_is_run_and_what_it_prints_compared() -> None:
    assert run_all(HTTP3_STYLE)["values"] == [0, 1]
    with pytest.raises(AssertionError, match="should print"):
        run_all(HTTP3_STYLE.replace("\n2\n", "\n3\n"))


def test_code_may_await_at_the_top_and_all_of_a_page_in_one_loop() -> None:
    page = """
```python
>>> import asyncio
>>> loop = await asyncio.sleep(0, asyncio.get_running_loop())
>>> async with asyncio.Lock() as entered:
>>>     print(entered)
None
```

```python
assert await asyncio.sleep(0, asyncio.get_running_loop()) is loop
```
"""
    assert run_all(page)["entered"] is None
    with pytest.raises(AssertionError):
        run_all(page.replace("\nNone", "\n3"))


def test_a_traceback_is_compared_by_its_last_line() -> None:
    page = """
```python
>>> int("a")
Traceback (most recent call last):
  ...
ValueError: invalid literal ...
```
"""
    run_all(page)
    with pytest.raises(AssertionError, match="should print"):
        run_all(page.replace("ValueError", "TypeError"))
    with pytest.raises(AssertionError, match="should print"):
        run_all(page.replace('int("a")', "1"))


def test_an_example_that_raises_fails_at_its_line() -> None:
    page = "text\n\n```python\n>>> a = 1\n\n>>> a / 0\n```\n"
    with pytest.raises(ZeroDivisionError) as caught:
        run_all(page)
    last = caught.traceback[-1]
    assert (str(last.path).rpartition("/")[2], last.lineno + 1) == ("page.md", 6)


def test_a_block_that_is_not_run_needs_a_reason() -> None:
    page = "<!-- not run: {} -->\n\n```python\n1 / 0\n```\n"
    assert run_all(page.format("it fails")) == {}
    assert blocks_of(page.format("it fails"))[0].not_run == "it fails"
    with pytest.raises(ValueError, match="no reason"):
        blocks_of(page.format(""))
    with pytest.raises(ZeroDivisionError):
        run_all(page.format("it fails").replace("-->", "-->\n\nText between them."))


@pytest.mark.parametrize("page", ["```\nx\n```\n", "```python\nx = 1\n"])
def test_a_fence_without_language_or_end_is_an_error(page: str) -> None:
    with pytest.raises(ValueError, match="the block that begins in line 1"):
        blocks_of(page)


@pytest.mark.usefixtures("example_com")
def test_example_com_is_a_local_server() -> None:
    context = ssl.create_default_context()
    for host, port in (("example.com", 443), ("www.example.org", 443), ("example.com", 80)):
        with socket.create_connection((host, port), timeout=10) as plain:
            sock = context.wrap_socket(plain, server_hostname=host) if port == 443 else plain
            with sock:
                sock.sendall(b"GET /1 HTTP/1.1\r\nConnection: close\r\n\r\n")
                with sock.makefile("rb") as file:
                    received = file.read()
        assert received.endswith(b'{"method": "GET", "path": "/1"}')
