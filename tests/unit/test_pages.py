"""docs/: generated pages are up to date, and say what `--help` says."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from bench import cli_page, pages
from bench.gpu import page as benchmarks
from engine.cli import cli
from engine.errors import MEANINGS, ExitCode

MARKED = ("docs/benchmarks.md", "docs/training.md")
"""Pages of which code writes the tables alone."""


def test_every_page_that_code_writes_is_up_to_date() -> None:
    assert list(pages.outdated()) == [], "run: make docs"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The pages in a folder of their own."""
    for name in pages.PAGES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((pages.ROOT / name).read_bytes())
    return tmp_path


@pytest.mark.parametrize("name", pages.PAGES)
def test_a_page_that_differs_is_named_and_made_again(copy: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    right = (copy / name).read_text(encoding="utf-8")
    lines = right.splitlines(keepends=True)
    end = lines.index(f"{benchmarks.END}\n") if name in MARKED else len(lines)
    damaged = "".join([*lines[: end - 2], "damaged\n", *lines[end - 2 :]])
    (copy / name).write_text(damaged, encoding="utf-8")
    assert pages.main(["--check"], copy) == 1
    assert capsys.readouterr().err == f"{name} is out of date: run 'make docs' and commit it\n"
    assert (copy / name).read_text(encoding="utf-8") == damaged
    assert pages.main([], copy) == 0
    assert (copy / name).read_text(encoding="utf-8") == right
    assert pages.main(["--check"], copy) == 0


def test_both_pages_change_with_the_document_of_a_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(benchmarks.RESULTS, tmp_path, dirs_exist_ok=True)
    document = tmp_path / "training-cpu.json"
    found = json.loads(document.read_text(encoding="utf-8"))
    found["median_tokens_per_second"]["trl bf16"] = 4321.0
    document.write_text(json.dumps(found), encoding="utf-8")
    monkeypatch.setattr(benchmarks, "RESULTS", tmp_path)
    found = dict(pages.outdated())
    assert list(found) == list(MARKED)
    assert all("| TRL, no packing, bf16 | 4,321 |" in text for text in found.values())


def sections() -> dict[str, str]:
    """The text below each heading of the page of commands."""
    parts = re.split(r"^## (.+)\n", cli_page.text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_command_is_there_with_all_that_its_help_names() -> None:
    found = sections()
    for context in cli_page.leaves(click.Context(cli, info_name="engine")):
        words = context.command_path.split()[1:]
        shown = CliRunner().invoke(cli, [*words, "--help"]).output
        options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", shown)) - {"--help"}
        missing = {option for option in options if option not in found[context.command_path]}
        assert not missing, context.command_path
    for name in ("probe", "fit", "train", "evaluate", "export", "demo"):
        assert f"engine {name}" in found


def test_the_deck_s_options_are_there() -> None:
    for option in ("`RUN`", "`--no-mouse`", "`--ascii`", "`--refresh S`", "`--keys`"):
        assert option in sections()["tunedeck"]


def test_readme_and_page_give_every_exit_code_the_same_meaning() -> None:
    assert set(MEANINGS) == set(ExitCode)
    readme = (pages.ROOT / "README.md").read_text(encoding="utf-8")
    assert "\n".join(cli_page.exit_code_rows()) in readme


def test_links_of_the_contents_lead_to_headings() -> None:
    headings = {cli_page.anchor(name) for name in sections()}
    assert {name for name in re.findall(r"\]\(#([^)]+)\)", cli_page.text())} == headings - {"engine"}


def test_no_line_is_wider_than_a_terminal() -> None:
    lines = cli_page.text().splitlines()
    assert [line for line in lines if len(line) > 80 and not line.startswith("|")] == []
