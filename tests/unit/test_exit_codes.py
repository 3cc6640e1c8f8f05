"""One exit code for what does not fit, in every command; and one list of codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.errors import MEANINGS, ExitCode
from tests.unit.conftest import Engine

LLAMA = "meta-llama/Llama-3.1-70B-Instruct"
TOO_LARGE = f"""
[model]
name_or_path = "{LLAMA}"
[tuning]
method = "full"
[[data.datasets]]
path = "demo:dates.train.jsonl"
[sweep.space]
"train.learning_rate" = [1e-5, 1e-4]
"""
COMMANDS = {
    "fit": ("fit", LLAMA),
    "fit-of-two": ("fit", LLAMA, "demo"),
    "recommend": ("recommend", LLAMA),
    "recommend-write": ("recommend", LLAMA, "--write", "new.toml"),
    "profile-check": ("profile", "check", "p.toml"),
    "profile-new": ("profile", "new", "new.toml", "--model", LLAMA),
    "data-check": ("data", "check", "p.toml"),
    "train": ("train", "p.toml"),
    "sweep": ("sweep", "p.toml"),
    "sweep-bill": ("sweep", "p.toml", "--bill"),
    "demo": ("demo", "--model", LLAMA),
}


@pytest.fixture(autouse=True)
def _profile(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text(TOO_LARGE)


@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS)
def test_what_does_not_fit_is_code_5_everywhere(engine: Engine, arguments: tuple[str, ...]) -> None:
    code, out, err = engine(*arguments)
    assert code == ExitCode.RESOURCES, out + err
    assert "Traceback" not in err
    assert not Path("new.toml").exists()
    code, out, err = engine(*arguments, "--json")
    assert code == ExitCode.RESOURCES, out + err
    found = json.loads(out)  # one value: an answer and an error never follow each other
    if arguments[0] == "fit":
        assert "NO" in {model["verdict"] for model in found["models"]}
    else:
        assert found["error"]["code"] == "resources"


def test_a_sweep_whose_settings_are_all_wrong_is_not_a_matter_of_memory(engine: Engine) -> None:
    wrong = TOO_LARGE.replace(LLAMA, "demo") + '"quantization.method" = ["nf4"]\n'
    Path("p.toml").write_text(wrong)
    code, _, err = engine("sweep", "p.toml", "--bill")
    assert "none of 2 settings can run here" in err
    assert code == ExitCode.PROFILE


def test_help_and_readme_list_every_code(engine: Engine) -> None:
    shown = engine("--help")[1]
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    assert set(MEANINGS) == set(ExitCode)
    for code, meaning in MEANINGS.items():
        assert f"  {int(code)}  {meaning}\n" in shown
        assert f"| {int(code)} | {meaning} |\n" in readme
    for command in (("fit",), ("recommend",), ("train",), ("sweep",), ("demo",), ("profile", "check")):
        assert "does not fit" in engine(*command, "--help")[1], command
