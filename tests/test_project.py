"""What the project's files say of each other is true."""

from __future__ import annotations

import pathlib
import re

ROOT = pathlib.Path(__file__).parent.parent


def test_the_oldest_environment_has_the_least_versions_that_are_allowed() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    tox = (ROOT / "tox.ini").read_text()
    dependencies = re.search(r"(?ms)^dependencies = \[(.*?)^\]", project)
    environment = re.search(r"(?ms)^\[testenv:oldest\].*?^deps =\n(.*?)^\w", tox)
    assert dependencies is not None
    assert environment is not None
    allowed = dict(re.findall(r'"([\w-]+)>=([\d.]+)', dependencies[1]))
    installed = dict(re.findall(r"([\w-]+)==([\d.]+)", environment[1]))
    assert {name: padded(version) for name, version in allowed.items()} == {
        name: padded(version) for name, version in installed.items()
    }
    assert "urllib3" in installed


def padded(version: str) -> tuple[int, ...]:
    """``2.5`` and ``2.5.0`` are the same."""
    numbers = [int(part) for part in version.split(".")]
    return (*numbers, *[0] * (3 - len(numbers)))


def test_ci_runs_the_command_that_the_readme_gives() -> None:
    commands = re.findall(r"^python3 -m venv .*$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert len(commands) == 2
    assert (ROOT / ".ci" / "run").read_text().splitlines()[-1] == commands[1]


def slug(heading: str) -> str:
    """The anchor of a heading, as the renderers of Markdown make it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors(page: pathlib.Path) -> set[str]:
    text = re.sub(r"(?ms)^```.*?^```", "", page.read_text("utf-8"))
    return {slug(heading) for heading in re.findall(r"(?m)^#+ (.*)$", text)}


def test_every_link_in_the_documentation_leads_somewhere() -> None:
    pages = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
    broken = []
    links = 0
    for page in pages:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
            if re.match(r"[a-z]+:", target):
                continue
            links += 1
            name, _, anchor = target.partition("#")
            there = (page.parent / name) if name else page
            if anchor in ("only-light", "only-dark"):  # pictures, as the website has them
                anchor = ""
            if not there.exists() or (anchor and anchor not in anchors(there)):
                broken.append(f"{page.name}: {target}")
    assert not broken
    assert links > 50
