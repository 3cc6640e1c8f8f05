"""`make matrix`: which environments it makes, and how it ends; nothing is installed here."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

PLACE = Path(__file__).parents[2] / ".ci" / "matrix.py"
FOUND = {"3.11": "/usr/bin/python3.11", "3.13": "/usr/bin/python3.13"}


@pytest.fixture
def matrix(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The script with a folder of its own, two Pythons and a uv."""
    spec = importlib.util.spec_from_file_location("matrix", PLACE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "matrix", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "WORK", tmp_path / "build" / "matrix")
    monkeypatch.setattr(module, "found_pythons", lambda _: FOUND)
    monkeypatch.setattr(module.shutil, "which", lambda _: "/usr/bin/uv")
    (tmp_path / "build" / "matrix").mkdir(parents=True)
    return module


def started(matrix: ModuleType, monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["matrix.py", *words])
    return int(matrix.main())


@pytest.mark.parametrize(
    ("words", "count"), [((), 6), (("3.13",), 3), (("newest",), 2), (("3.13-newest", "3.11"), 4), (("3.13", "3.13"), 3)]
)
def test_words_choose_environments(matrix: ModuleType, words: tuple[str, ...], count: int) -> None:
    assert len(matrix.chosen_cells(words, FOUND)) == count


@pytest.mark.parametrize("words", [("nosuch",), ("3.13", "3.13-lowset"), ("3.12", "3.11")])
def test_a_word_that_names_none_starts_nothing(
    matrix: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    monkeypatch.setattr(matrix, "try_cell", lambda *_, **__: pytest.fail("an environment was made"))
    with pytest.raises(SystemExit) as left:
        started(matrix, monkeypatch, *words)
    assert left.value.code == 2
    assert "no such environment" in (said := capsys.readouterr().err)
    assert "found: Python 3.11, 3.13" in said


def test_without_uv_it_says_so(
    matrix: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(matrix.shutil, "which", lambda _: None)
    assert started(matrix, monkeypatch) == 2
    assert "pip install uv" in capsys.readouterr().err


def test_ctrl_c_shows_what_was_done(
    matrix: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = iter([{"install": matrix.Outcome(True, 3.0, "")}])

    def once(cell: object, *, full: bool) -> object:
        found = next(done, None)
        if found is None:
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(matrix, "try_cell", once)
    assert started(matrix, monkeypatch, "3.11") == 130
    said = capsys.readouterr().out
    assert "| 3.11-pinned | passed, 3 s |" in said
    assert "ended by Ctrl-C during 3.11-newest" in said


def test_what_an_older_wheel_was_built_from_is_gone(matrix: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    stale = matrix.ROOT / "build" / "lib" / "engine" / "removed.py"
    stale.parent.mkdir(parents=True)
    stale.write_text("")
    monkeypatch.setattr(matrix, "run_step", lambda *_: matrix.Outcome(False, 0.0, "stop here"))
    matrix.try_cell(matrix.chosen_cells(["3.11-newest"], FOUND)[0], full=False)
    assert not stale.exists()


def test_a_python_that_does_not_start_is_none(matrix: ModuleType) -> None:
    assert not matrix._is_python("/nowhere/python3.11", "3.11")
