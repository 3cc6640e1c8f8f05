"""What a shell command or the deck loads: never torch, never what it does not need."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"torch", "numpy", "transformers", "datasets", "peft", "accelerate", "pydantic", "textual", "rich"}
ROOT = Path(__file__).resolve().parents[2]


def loaded_by(code: str) -> set[str]:
    """Top-level modules in `sys.modules` after `code` ran in a fresh interpreter."""
    script = (
        f"import sys\n{code}\nsys.stderr.write(' '.join(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


@pytest.mark.parametrize(
    "code",
    [
        "import engine.api.fit, engine.api.runs, engine.api.results, engine.api.sweeps",
        "import engine.cli",
        "import engine.runs.launch, engine.runs.view, engine.runs.checkpoint",
        "import engine.sweep.store, engine.sweep.table",
        "import engine.hardware.probe, engine.recommend.search, engine.memory.terms",
        "import tui.main",
    ],
)
def test_imports_stay_light(code):
    assert not loaded_by(code) & HEAVY


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["probe", "--json"],
        ["fit", "--gpu", "RTX 4090", "--json"],
        ["runs", "list", "--json"],
        ["sweeps", "list", "--json"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_shell_commands_stay_light(arguments):
    code = (
        f"sys.argv = ['engine', *{arguments!r}]\nfrom engine.cli import main\n"
        "import io, contextlib\ntry:\n with contextlib.redirect_stdout(io.StringIO()): main()\nexcept SystemExit: pass"
    )
    assert not loaded_by(code) & HEAVY


@pytest.mark.parametrize("screen", ["fit", "run", "runs", "results"])
def test_screens_open_without_pydantic(screen):
    assert not loaded_by(f"import tui.{screen}.screen") & (HEAVY - {"textual", "rich"})


def tracked(*folders: str) -> list[Path]:
    return [path for folder in folders for path in (ROOT / folder).rglob("*.py")]


def test_no_metric_is_loaded_from_the_working_directory():
    for path in tracked("engine", "tui"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr == "load" and isinstance(node.value, ast.Name):
                assert node.value.id not in ("evaluate", "pickle"), f"{path}:{node.lineno}"


def test_nothing_unpickles():
    for path in tracked("engine", "tui"):
        text = path.read_text()
        assert "torch.load" not in text, path
        assert "import pickle" not in text, path
