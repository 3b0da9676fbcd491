"""
What the website has beside the pages of docs/: files of the repository that those link to.

Links that lead out of docs/ work in a checkout; here they are led to the copies.
"""

from __future__ import annotations

import ast
import pathlib
import re
import typing

if typing.TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = pathlib.Path(__file__).parent.parent.parent

#: Pages made of other files.
COPIES = {"CHANGELOG.md": "changelog.md", "benchmarks/README.md": "measuring.md"}

#: A test that a page names, with a link to its file.
NAMED_TEST = re.compile(r"\[`(?P<file>tests/\w+\.py)::(?P<name>\w+)`\]\((?:\.\./)*(?P=file)\)")

SHOWN_TESTS = "promised-tests.md"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    from mkdocs.structure.files import File

    style = ROOT / "docs" / "website" / "site.css"
    files.append(File.generated(config, "assets/site.css", content=style.read_text("utf-8")))
    for source, name in COPIES.items():
        text = (ROOT / source).read_text("utf-8")
        files.append(File.generated(config, name, content=led_from(source, text)))
    page = files.get_file_from_path("promises.md")
    if page is not None:
        shown = shown_tests(page.content_string)
        files.append(File.generated(config, SHOWN_TESTS, content=shown))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    markdown = NAMED_TEST.sub(
        lambda found: f"[`{found['file']}::{found['name']}`]({SHOWN_TESTS}#{found['name']})",
        markdown,
    )
    for source, name in COPIES.items():
        markdown = markdown.replace(f"](../{source}", f"]({name}")
    return markdown


def led_from(source: str, text: str) -> str:
    """The text of a file outside docs/, with links as they are from within."""
    folder = pathlib.PurePosixPath(source).parent

    def led(found: re.Match[str]) -> str:
        target = found[1]
        if re.match(r"[a-z]+:|#", target):
            return found[0]
        path, mark, anchor = target.partition("#")
        parts: list[str] = []
        for part in (folder / path).parts:
            if part == ".." and parts:
                parts.pop()
            elif part != ".":
                parts.append(part)
        place = "/".join(parts)
        return f"]({COPIES.get(place, place.removeprefix('docs/'))}{mark}{anchor})"

    return re.sub(r"\]\(([^)\s]+)\)", led, text)


def shown_tests(promises: str) -> str:
    """A page with the source of each test that the page of the promises names."""
    lines = [
        "---\nsearch:\n  exclude: true\nhide: [toc]\n---\n",
        "# The tests of the promises\n",
        "The functions themselves. What they use stands in `tests/` of the repository, where "
        "`python -m pytest` and the name of one runs it.\n",
    ]
    named = dict.fromkeys((found["file"], found["name"]) for found in NAMED_TEST.finditer(promises))
    for file, name in named:
        source = (ROOT / file).read_text("utf-8")
        function = next(node for node in ast.parse(source).body if is_function(node, name))
        first = min(node.lineno for node in (function, *function.decorator_list))
        text = "\n".join(source.splitlines()[first - 1 : function.end_lineno])
        lines.append(f"## `{name}` {{ #{name} }}\n\n`{file}`, line {first}\n")
        lines.append(f"````python\n{text}\n````\n")
    return "\n".join(lines)


def is_function(node: ast.stmt, name: str) -> typing.TypeGuard[ast.FunctionDef]:
    return isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == name
