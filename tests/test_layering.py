"""Each module imports only from the rooms above its own."""

from __future__ import annotations

import ast
import collections
import importlib.util
import os
import pathlib
import subprocess
import sys
import textwrap
import typing

import pytest


def find_package() -> pathlib.Path:
    """Where the package is, found without importing it: a cycle is to be told, not met."""
    spec = importlib.util.find_spec("http3_parallel")
    assert spec is not None
    assert spec.origin is not None
    return pathlib.Path(spec.origin).parent


PACKAGE = find_package()

#: A room is a module or a package directly under ours. Each imports from those before it.
ROOMS = (
    "exceptions",
    "config",
    "aborting",
    "models",
    "auth",
    "timeline",
    "flow",
    "dispatch",
    "hooks",
    "driver",
    "methods",
    "workers",
    "line",
    "stats",
    "pending",
    "completions",
    "running",
    "block",
    "facade",
    "progress",
    "settings",
    "engine",
    "client",
    "testing",
    "asynchronous",
    "api",
    "cli",
    "__main__",
)

#: What only the border to the network may know.
NETWORK = ("urllib3", "http.client")

#: What the synchronous side never loads: it would cost every start, and bind it to a loop.
EVENT_LOOPS = ("asyncio", "anyio", "trio", "sniffio")

#: Which is why this room is not loaded before someone asks for it.
ASYNCHRONOUS = "asynchronous"

#: What a function may import: it is there only with an extra, or few programs need what it costs,
#: or not at once.
IN_FUNCTIONS = (
    "backports.zstd",
    "brotli",
    "brotlicffi",
    "compression.zstd",
    "http3_parallel.dispatch.urllib3_border",  # urllib3, which a start need not wait for
    "http3_parallel.timeline",  # what shows one: few look
    "idna",
    "rich",
    "socks",
    "tqdm",
    "urllib3.contrib.socks",
)


class Import(typing.NamedTuple):
    """`target` is a module's full name, or one of a name within it."""

    module: str
    line: int
    target: str
    in_function: bool

    def __str__(self) -> str:
        return f"{self.module}, line {self.line}, imports {self.target}"


def module_name(path: pathlib.Path, package: pathlib.Path) -> str:
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: pathlib.Path, package: pathlib.Path) -> typing.Iterator[Import]:
    """What a module imports when it runs: not what only a type checker sees."""
    module = module_name(path, package)
    here = module if path.name == "__init__.py" else module.rpartition(".")[0]

    def walk(node: ast.AST, in_function: bool) -> typing.Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module, node.lineno, alias.name, in_function)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = here.split(".")[: len(here.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            for alias in node.names:
                yield Import(module, node.lineno, f"{base}.{alias.name}", in_function)
        elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for statement in node.orelse:
                yield from walk(statement, in_function)
        else:
            is_function = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            for child in ast.iter_child_nodes(node):
                yield from walk(child, in_function or is_function)

    yield from walk(ast.parse(path.read_text("utf-8")), False)


class House(typing.NamedTuple):
    """A package: its name, its modules' full names, and all their imports."""

    package: str
    modules: set[str]
    imports: list[Import]

    @classmethod
    def read(cls, package: pathlib.Path) -> House:
        paths = sorted(package.rglob("*.py"))
        return cls(
            package.name,
            {module_name(path, package) for path in paths},
            [found for path in paths for found in imports_of(path, package)],
        )

    def room(self, name: str) -> str:
        """The room of a module, or of a name in one; empty for the package itself."""
        return name.removeprefix(self.package).removeprefix(".").partition(".")[0]


Rule = typing.Callable[[House], "list[str]"]


def is_in(name: str, parents: typing.Iterable[str]) -> bool:
    return any(name == parent or name.startswith(parent + ".") for parent in parents)


def back_edges(house: House) -> list[str]:
    wrong = []
    for found in house.imports:
        if not is_in(found.target, [house.package]):
            continue
        ours, theirs = house.room(found.module), house.room(found.target)
        if theirs == "__version__" or ours in ("", theirs):
            continue
        above = ROOMS[: ROOMS.index(ours)] if ours in ROOMS else ()
        if theirs not in above:
            wrong.append(str(found))
    return wrong


def cycles(house: House) -> list[str]:
    """Modules that import each other, in however many steps."""
    graph: dict[str, set[str]] = collections.defaultdict(set)
    for found in house.imports:
        if is_in(found.target, [house.package]):
            is_module = found.target in house.modules
            graph[found.module].add(found.target if is_module else found.target.rpartition(".")[0])
    wrong = []
    state: dict[str, str] = {}

    def visit(module: str, path: tuple[str, ...]) -> None:
        state[module] = "open"
        way = (*path, module)
        for target in sorted(graph[module]):
            if state.get(target) == "open":
                wrong.append(" -> ".join((*way[way.index(target) :], target)))
            elif target not in state:
                visit(target, way)
        state[module] = "done"

    for module in sorted(house.modules):
        if module not in state:
            visit(module, ())
    return wrong


def network_outside_its_border(house: House) -> list[str]:
    return [
        str(found)
        for found in house.imports
        if is_in(found.target, NETWORK) and house.room(found.module) != "dispatch"
    ]


def event_loops(house: House) -> list[str]:
    """Those, and what would load them."""
    theirs = (*EVENT_LOOPS, f"{house.package}.{ASYNCHRONOUS}")
    return [
        str(found)
        for found in house.imports
        if is_in(found.target, theirs) and house.room(found.module) != ASYNCHRONOUS
    ]


def hidden_in_functions(house: House) -> list[str]:
    return [
        str(found)
        for found in house.imports
        if found.in_function and not is_in(found.target, IN_FUNCTIONS)
    ]


RULES = [back_edges, cycles, network_outside_its_border, event_loops, hidden_in_functions]


def test_every_module_belongs_to_a_room() -> None:
    rooms = {
        path.stem if path.is_file() else path.name
        for path in PACKAGE.iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert rooms - set(ROOMS) <= {"__init__", "__version__"}


@pytest.mark.parametrize("rule", RULES)
def test_no_import_breaks_the_rule(rule: Rule) -> None:
    house = House.read(PACKAGE)
    assert len(house.imports) > 20
    assert rule(house) == []


@pytest.mark.parametrize(
    ("rule", "file", "source"),
    [
        (back_edges, "models/url.py", "from ..client import Client"),
        (back_edges, "models/url.py", "from .. import client"),
        (back_edges, "models/url.py", "import package.client"),
        (back_edges, "models/url.py", "from package import Client"),
        (back_edges, "models/url.py", "def f():\n    from ..client import Client"),
        (back_edges, "models/url.py", "if TYPE_CHECKING:\n    pass\nelse:\n    from .. import api"),
        (back_edges, "models/url.py", "from .. import unknown"),
        (cycles, "models/headers.py", "from .url import URL"),
        (cycles, "models/headers.py", "from . import url"),
        (network_outside_its_border, "client.py", "import urllib3.util"),
        (network_outside_its_border, "client.py", "from http import client"),
        (network_outside_its_border, "client.py", "from http.client import HTTPResponse"),
        (event_loops, "client.py", "try:\n    import asyncio\nfinally:\n    pass"),
        (event_loops, "dispatch/base.py", "from anyio.abc import TaskGroup"),
        (event_loops, "__init__.py", "from .asynchronous import AsyncClient"),
        (event_loops, "__init__.py", "from . import asynchronous"),
        (hidden_in_functions, "client.py", "class C:\n    def f(self):\n        import json"),
    ],
)
def test_an_import_that_breaks_a_rule_is_found(
    rule: Rule, file: str, source: str, tmp_path: pathlib.Path
) -> None:
    allowed = {
        "__init__.py": "from .client import Client",
        "__version__.py": "",
        "client.py": "from .models import URL\nfrom . import __version__",
        "models/__init__.py": "from .url import URL",
        "models/headers.py": "import typing",
        "models/url.py": """
            from .headers import Headers
            from ..exceptions import HTTPError
            if typing.TYPE_CHECKING:
                from ..client import Client
            """,
        "dispatch/base.py": "import urllib3\ndef f():\n    import socks",
        "asynchronous/__init__.py": "import anyio\nfrom ..client import Client\nAsyncClient = 1",
    }
    for name, text in allowed.items():
        path = tmp_path / "package" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    assert rule(House.read(tmp_path / "package")) == []
    with (tmp_path / "package" / file).open("a") as changed:
        changed.write("\n" + source)
    assert len(rule(House.read(tmp_path / "package"))) == 1


def run_anew(code: str) -> subprocess.CompletedProcess[str]:
    """In an interpreter that has loaded nothing of ours yet."""
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    "use", ["", "with http3_parallel.Client() as c, c.parallel() as p: p.get('no url')"]
)
def test_the_synchronous_side_loads_no_event_loop(use: str) -> None:
    code = (
        f"import sys, http3_parallel\n{use}\nprint(sorted({set(EVENT_LOOPS)!r} & set(sys.modules)))"
    )
    result = run_anew(code)
    assert (result.stdout, result.stderr) == ("[]\n", "")


def test_a_start_does_not_wait_for_urllib3() -> None:
    code = (
        "import sys, http3_parallel as http3\n"
        "print('urllib3' in sys.modules)\n"
        "with http3.Client(): print('urllib3' in sys.modules)"
    )
    result = run_anew(code)
    assert (result.stdout, result.stderr) == ("False\nTrue\n", "")


def test_what_is_loaded_when_asked_for_is_there_like_all_else() -> None:
    code = (
        "import sys, http3_parallel as http3\n"
        "names = [name for name in http3.__all__ if name.startswith(('Async', 'ASGI'))]\n"
        "assert len(names) > 5 and set(names) <= set(dir(http3))\n"
        "assert 'anyio' not in sys.modules\n"
        "assert all(getattr(http3, name).__module__.startswith('http3_parallel') or\n"
        "           name in ('AsyncRequestData', 'AsyncResponseContent') for name in names)\n"
        "from http3_parallel import *\n"
        "assert AsyncClient is http3.AsyncClient\n"
        "try: http3.Asynchronous\n"
        "except AttributeError as error: print(error)\n"
    )
    result = run_anew(code)
    assert result.stdout == "module 'http3_parallel' has no attribute 'Asynchronous'\n"
    assert result.stderr == ""
