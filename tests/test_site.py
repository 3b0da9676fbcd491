"""The website says what there is: every public name, every promise, and tests that exist."""

from __future__ import annotations

import ast
import importlib
import pathlib
import re
import typing

import pytest

import http3_parallel

ROOT = pathlib.Path(__file__).parent.parent
DOCS = ROOT / "docs"
NAMED_TEST = re.compile(r"\[`(tests/\w+\.py)::(\w+)`\]\(\.\./(tests/\w+\.py)\)")


def sections(page: str) -> dict[str, str]:
    """What stands under each heading of the second level."""
    _, *parts = re.split(r"(?m)^## (.*)\n", page)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def functions(file: pathlib.Path) -> set[str]:
    tree = ast.parse(file.read_text("utf-8"))
    return {
        node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }


def test_the_reference_has_every_public_name_once() -> None:
    named = [
        name
        for page in sorted((DOCS / "reference").glob("*.md"))
        for name in re.findall(r"(?m)^::: http3_parallel\.(\S+)$", page.read_text("utf-8"))
    ]
    assert sorted(name for name in named if "." not in name and name != "progress") == sorted(
        http3_parallel.__all__
    )
    assert len(named) == len(set(named))


def test_every_promise_of_the_readme_is_told_precisely() -> None:
    promised = sections((ROOT / "README.md").read_text("utf-8"))["What it promises"]
    bullets = re.findall(r"(?m)^- \[(.*?)\]", promised)
    assert len(bullets) == len(re.findall(r"(?m)^- ", promised)) == 10
    assert list(sections((DOCS / "promises.md").read_text("utf-8"))) == bullets


def test_every_promise_names_tests_that_exist() -> None:
    for promise, text in sections((DOCS / "promises.md").read_text("utf-8")).items():
        assert "\nWhere it ends: " in text, promise
        named = NAMED_TEST.findall(text)
        assert len(named) == len(re.findall(r"(?m)^- ", text)) >= 2, promise
        # Shown end to end, in threads and awaited, and case by case.
        assert {"tests/test_promises.py", "tests/test_async_promises.py"} < {
            file for file, _, _ in named
        }, promise
        for file, name, link in named:
            assert link == file
            assert name.startswith("test_")
            assert name in functions(ROOT / file), f"{file} has no {name}"


#: Where a test of the promises does not run, by its mark. No other mark may keep one from running.
TOLD = {
    "slow": ", slow",
    "slow cases": ", some cases slow",
    "the system has no fork": ", where there is `fork`",
}
KEEPS_FROM_RUNNING = ("once", "skip", "skipif", "slow", "xfail")


def kept_from_running(module: typing.Any, name: str) -> set[str]:
    """Why pytest may leave out a test of a module, wholly or in part."""
    of_module = getattr(module, "pytestmark", [])
    marks: list[pytest.Mark | pytest.MarkDecorator] = [
        *(of_module if isinstance(of_module, list) else [of_module]),
        *getattr(getattr(module, name), "pytestmark", []),
    ]
    why = {mark.kwargs.get("reason", mark.name) for mark in marks if is_keeping(mark)}
    for mark in marks:
        if mark.name == "parametrize":
            of_cases = [of for case in mark.args[1] for of in getattr(case, "marks", ())]
            why |= {f"{of.name} cases" for of in of_cases if is_keeping(of)}
    return why


def is_keeping(mark: typing.Any) -> bool:
    return mark.name in KEEPS_FROM_RUNNING


def test_the_promises_tell_which_tests_do_not_run_everywhere() -> None:
    page = (DOCS / "promises.md").read_text("utf-8")
    listed = re.findall(r"(?m)^- \[`tests/(\w+)\.py::(\w+)`\]\([^)]*\)(.*)$", page)
    assert len(listed) == len(re.findall(r"(?m)^- ", page))
    for file, name, told in listed:
        why = kept_from_running(importlib.import_module(file), name)
        assert told == "".join(TOLD[one] for one in sorted(why)), f"{file}.py::{name}"


class Marked:
    """What a module of tests looks like from here."""

    pytestmark = pytest.mark.slow

    @pytest.mark.skipif(True, reason="the system has no fork")
    def test_whole(self) -> None: ...

    @pytest.mark.parametrize("case", [1, pytest.param(2, marks=pytest.mark.xfail)])
    def test_cases(self, case: int) -> None: ...


def test_whatever_keeps_a_test_from_running_is_seen() -> None:
    assert kept_from_running(Marked, "test_whole") == {"slow", "the system has no fork"}
    assert kept_from_running(Marked, "test_cases") == {"slow", "xfail cases"}


def test_every_test_of_the_promises_is_named() -> None:
    named = {
        (file, name) for file, name, _ in NAMED_TEST.findall((DOCS / "promises.md").read_text())
    }
    for file in ("tests/test_promises.py", "tests/test_async_promises.py"):
        shown = {name for name in functions(ROOT / file) if name.startswith("test_promise_")}
        assert shown == {name for of, name in named if of == file}


def test_every_page_is_reached_from_the_first() -> None:
    reached, line = set(), [DOCS / "index.md"]
    while line:
        page = line.pop()
        if page in reached:
            continue
        reached.add(page)
        for target in re.findall(r"\]\(([^)\s#]+\.md)(?:#[^)]*)?\)", page.read_text("utf-8")):
            linked = (page.parent / target).resolve()
            if linked.is_relative_to(DOCS) and linked.exists():
                line.append(linked)
    assert reached == set(DOCS.rglob("*.md"))
