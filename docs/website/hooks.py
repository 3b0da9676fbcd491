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

ASSETS = {"site.css": "assets/site.css", "worker.js": "assets/iframe-worker.js"}

#: A test that a page names, with a link to its file.
NAMED_TEST = re.compile(r"\[`(?P<file>tests/\w+\.py)::(?P<name>\w+)`\]\((?:\.\./)*(?P=file)\)")

SHOWN_TESTS = "promised-tests.md"

INTRODUCTION = """\
The functions that [the promises](promises.md) name. What they use stands in `tests/` of the
repository; `python -m pytest` with a file and `-k` with a name runs one there.
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    from mkdocs.structure.files import File

    for asset, name in ASSETS.items():
        text = (ROOT / "docs" / "website" / asset).read_text("utf-8")
        files.append(File.generated(config, name, content=text))
    for source, name in COPIES.items():
        text = (ROOT / source).read_text("utf-8")
        files.append(File.generated(config, name, content=led_from(source, text)))
    page = files.get_file_from_path("promises.md")
    if page is not None:
        shown = shown_tests(page.content_string)
        files.append(File.generated(config, SHOWN_TESTS, content=shown))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    if page.is_homepage:
        page.meta["hide"] = ["navigation"]
    markdown = NAMED_TEST.sub(shown_name, markdown)
    for source, name in COPIES.items():
        markdown = markdown.replace(f"](../{source}", f"]({name}")
    return markdown


def shown_name(found: re.Match[str]) -> str:
    """A link to the test, whose long name may be broken between its words."""
    shown = breakable(f"{found['file']}::{found['name']}")
    return f"[{shown}]({SHOWN_TESTS}#{anchor(found['file'], found['name'])})"


def anchor(file: str, name: str) -> str:
    """Functions of two files may have the same name."""
    return f"{pathlib.PurePosixPath(file).stem}-{name}"


def breakable(name: str) -> str:
    text = name.replace("::", "::<wbr>").replace("_", "&#95;<wbr>")
    return f'<code class="test">{text}</code>'


def led_from(source: str, text: str) -> str:
    """The text of a file outside docs/, with links as they are from within."""
    folder = pathlib.PurePosixPath(source).parent

    def led(found: re.Match[str]) -> str:
        target = found[1]
        if re.match(r"[a-z]+:|#", target):
            return found[0]
        path, mark, heading = target.partition("#")
        parts: list[str] = []
        for part in (folder / path).parts:
            if part == ".." and parts:
                parts.pop()
            elif part != ".":
                parts.append(part)
        place = "/".join(parts)
        return f"]({COPIES.get(place, place.removeprefix('docs/'))}{mark}{heading})"

    return re.sub(r"\]\(([^)\s]+)\)", led, text)


def shown_tests(promises: str) -> str:
    """A page with the source of each test that the page of the promises names."""
    lines = [
        "---\nsearch:\n  exclude: true\nhide: [toc]\n---\n",
        "# The tests of the promises\n",
        INTRODUCTION,
    ]
    named = dict.fromkeys((found["file"], found["name"]) for found in NAMED_TEST.finditer(promises))
    for file, name in named:
        source = (ROOT / file).read_text("utf-8")
        function = next(node for node in ast.parse(source).body if is_function(node, name))
        first = min(node.lineno for node in (function, *function.decorator_list))
        text = "\n".join(source.splitlines()[first - 1 : function.end_lineno])
        lines.append(
            f"## {breakable(name)} {{ #{anchor(file, name)} }}\n\n`{file}`, line {first}\n"
        )
        lines.append(f"````python\n{text}\n````\n")
    return "\n".join(lines)


def is_function(node: ast.stmt, name: str) -> typing.TypeGuard[ast.FunctionDef]:
    return isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == name
