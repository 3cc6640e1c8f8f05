"""The last line of `engine demo`: a command that opens the deck from where the person is."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.cli.demo import deck_command


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """The Python of an environment that has the deck."""
    folder = tmp_path / "project" / ".venv" / "bin"
    folder.mkdir(parents=True)
    (folder / "tunedeck").touch()
    return folder / "python"


def test_make_demo_is_followed_by_a_path_that_works_from_the_project(python: Path) -> None:
    assert deck_command(python, None, python.parents[2]) == ".venv/bin/tunedeck last"


def test_elsewhere_the_path_is_whole_and_quoted(python: Path, tmp_path: Path) -> None:
    apart = tmp_path / "a b" / "bin"
    apart.mkdir(parents=True)
    (apart / "tunedeck").touch()
    assert deck_command(apart / "python", None, python.parents[2]) == f"'{apart}/tunedeck' last"


def test_a_command_on_the_path_is_named_when_it_is_this_one(python: Path, tmp_path: Path) -> None:
    here, other = python.parents[2], tmp_path / "tunedeck"
    other.touch()
    assert deck_command(python, str(python.with_name("tunedeck")), here) == "tunedeck last"
    assert deck_command(python, str(other), here) == ".venv/bin/tunedeck last"
    assert deck_command(tmp_path / "bin" / "python", str(other), here) == "tunedeck last"


def test_where_no_command_was_installed_the_module_opens_it(tmp_path: Path) -> None:
    assert deck_command(tmp_path / "python", None, tmp_path) == f"{tmp_path}/python -m tui.main last"
