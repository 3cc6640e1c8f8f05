"""Files for contributors name commands that exist, and say the same as pyproject.toml."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", MAKEFILE, re.MULTILINE))
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def read(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "name", ["README.md", "CONTRIBUTING.md", ".github/PULL_REQUEST_TEMPLATE.md", ".pre-commit-config.yaml"]
)
def test_make_targets_that_are_named_exist(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    named = set(re.findall(r"(?:^|`|\n)make ([a-z][a-z-]*)", text))
    assert named, name
    assert named - TARGETS == set()


def test_hooks_before_a_commit_run_the_tools_of_make_lint() -> None:
    (repository,) = read(".pre-commit-config.yaml")["repos"]
    hooks = [hook["entry"].removeprefix(".venv/bin/") for hook in repository["hooks"]]
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    assert recipe is not None
    for command in re.findall(r"\$\(BIN\)/([\w-]+(?: [a-z]+)?)", recipe[1]):
        assert [hook for hook in hooks if hook.startswith(command)], command


def test_a_bug_report_asks_for_machine_versions_and_self_test() -> None:
    form = (ROOT / ".github/ISSUE_TEMPLATE/bug.yml").read_text(encoding="utf-8")
    for command in ("engine --version", "engine probe --json", "engine selftest --report"):
        assert command in form


@pytest.mark.parametrize("name", ["bug", "idea"])
def test_an_issue_form_is_one_that_a_forge_accepts(name: str) -> None:
    form = read(f".github/ISSUE_TEMPLATE/{name}.yml")
    assert {"name", "description", "body"} <= set(form)
    kinds = {"markdown", "textarea", "input", "dropdown", "checkboxes"}
    assert {field["type"] for field in form["body"]} <= kinds
    asked = [field for field in form["body"] if field["type"] != "markdown"]
    assert asked
    assert len({field["id"] for field in asked}) == len(asked)
    assert all(field["attributes"]["label"] for field in asked)


def test_the_citation_says_what_the_package_says() -> None:
    citation = read("CITATION.cff")
    assert citation["title"].lower() == PROJECT["name"]
    assert citation["license"] == PROJECT["license"]


def test_the_version_is_written_once() -> None:
    version = PROJECT["version"]
    sources = [path for folder in ("engine", "tui", "profiles", ".ci") for path in (ROOT / folder).rglob("*.py")]
    assert sources
    assert [path for path in sources if version in re.findall(r"\d+\.\d+\.\d+", path.read_text())] == []
    assert "version" not in read("CITATION.cff")


def test_the_changelog_begins_with_what_comes_next_and_this_version() -> None:
    headings = re.findall(r"^## \[([^]]+)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[:2] == ["Unreleased", PROJECT["version"]]


def test_no_merge_is_left_unfinished() -> None:
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("*.toml"), ROOT / "Makefile"]:
        assert not re.search(r"^(<<<<<<<|>>>>>>>) ", path.read_text(encoding="utf-8"), re.MULTILINE), path.name
