"""A library outside the declared range ends or warns before anything fails in words of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from engine.libraries import required
from tests.process.conftest import FAST
from tests.unit.test_libraries import lay

ROOT = Path(__file__).parents[2]


def wanted(name):
    """The range of the installed distribution, as messages say it."""
    (requirement,) = [each for each in required() if each.name == name]
    return ",".join(sorted(map(str, requirement.specifier), reverse=True))


def beside(shell, monkeypatch, **modules):
    """A folder before all others on the path of every command, with modules in it."""
    folder = shell.folder / "site"
    folder.mkdir()
    for name, source in modules.items():
        (folder / f"{name}.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(ROOT)]))
    return folder


def test_training_with_an_old_library_ends_before_it_is_imported(shell, monkeypatch):
    folder = beside(shell, monkeypatch, transformers="raise SystemError('imported')")
    lay(folder, "transformers", "5.2.0")
    done = shell.engine("train", shell.write("p.toml", FAST), timeout=60)
    assert done.code == 9, done.err
    assert f"error: transformers 5.2.0 is too old; tunedeck needs {wanted('transformers')}" in done.err
    assert f"pip install 'transformers{wanted('transformers')}'" in done.err
    assert shell.runs == []


def test_a_newer_library_is_a_warning_of_the_run(shell, monkeypatch):
    lay(beside(shell, monkeypatch), "tomlkit", "99.1")
    done = shell.engine("data", "check", shell.write("p.toml", FAST), timeout=90)
    assert done.code == 0, done.err
    assert "warning" in done.err
    assert done.err.count("tomlkit 99.1 is newer than tunedeck was tested with") == 1


def test_the_shell_without_a_click_that_it_can_use(shell, monkeypatch):
    lay(beside(shell, monkeypatch, click="version = 7"), "click", "7.1.2")
    done = shell.engine("--help")
    assert done.code == 9
    assert done.err.startswith(f"error: click 7.1.2 is too old; tunedeck needs {wanted('click')}")
    assert done.err.count("\n") == 1


def test_a_command_whose_library_is_too_old(shell, monkeypatch):
    lay(beside(shell, monkeypatch, pydantic="VERSION = '1.10'"), "pydantic", "1.10.2")
    done = shell.engine("profile", "check", shell.write("p.toml", FAST))
    assert done.code == 9
    assert done.err.startswith(f"error: pydantic 1.10.2 is too old; tunedeck needs {wanted('pydantic')}")


def test_an_old_python_is_told_in_one_sentence(shell):
    start = "import runpy, sys; sys.version_info = (3, 10, 13); runpy.run_module('engine', run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", start], cwd=ROOT, env=shell.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 9
    assert done.stderr.startswith("error: tunedeck needs Python 3.11 or newer; ")
    assert done.stderr.count("\n") == 1


def test_the_deck_without_a_textual_that_it_can_use(shell, monkeypatch):
    folder = beside(shell, monkeypatch, textual="__version__ = '0.80'")
    lay(folder, "textual", "0.80.0")
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from tui.main import _open; sys.exit(_open(None, None))"],
        cwd=shell.folder,
        env=shell.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 9
    assert done.stderr.startswith(f"error: textual 0.80.0 is too old; tunedeck needs {wanted('textual')}")
