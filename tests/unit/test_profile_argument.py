"""PROFILE and `--set`: one way to name a profile and one way to be wrong, in every command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.errors import ExitCode
from engine.profile.shipped import shipped_profile
from tests.unit.conftest import Engine

READERS = {
    "profile check": ("profile", "check", "{}"),
    "profile show": ("profile", "show", "{}"),
    "data check": ("data", "check", "{}"),
    "data preview": ("data", "preview", "{}"),
    "train": ("train", "{}"),
    "sweep": ("sweep", "{}", "--bill", "--vary", "lora.r=4"),
}
TAKES_PROFILE = pytest.mark.parametrize("command", [*READERS.values(), ("profile", "set", "{}", "lora.r=4")])
TAKES_SET = [*READERS.values(), ("demo",), ("evaluate", "model.gguf", "--data", "rows.jsonl")]


def naming(command: tuple[str, ...], name: str) -> list[str]:
    return [part.format(name) for part in command]


@TAKES_PROFILE
def test_a_name_nobody_has_gets_the_same_sentence_with_the_nearest(engine: Engine, command: tuple[str, ...]) -> None:
    code, out, err = engine(*naming(command, "dmo"))
    assert (code, out) == (ExitCode.PROFILE, "")
    assert err == "error: dmo - no file or shipped profile has this name - did you mean 'demo'?\n"
    Path("mine.toml").write_text("")
    error = json.loads(engine(*naming(command, "mien.toml"), "--json")[1])["error"]
    assert error["hint"] == "did you mean 'mine.toml'?"
    Path("folder").mkdir()
    assert "this is a folder, not a profile" in engine(*naming(command, "folder"))[2]


@pytest.mark.parametrize("command", READERS.values(), ids=READERS)
def test_the_name_of_a_shipped_profile_is_its_file_even_beside_a_folder(
    engine: Engine, command: tuple[str, ...]
) -> None:
    Path("demo").mkdir()
    # The setting that is wrong stops the command after the profile was read, before anything starts.
    code, _, err = engine(*naming(command, "demo"), "--set", "lora.r=0")
    assert code == ExitCode.PROFILE
    assert "--set" in err
    assert "lora.r" in err


def test_a_file_goes_before_a_shipped_profile(engine: Engine) -> None:
    Path("demo").write_text('[model]\nname_or_path = "demo"\n[[data.datasets]]\npath = "gone.jsonl"\n')
    assert engine("profile", "check", "demo")[0] == ExitCode.DATA
    Path("demo").unlink()
    assert json.loads(engine("profile", "check", "demo", "--json")[1])["path"] == str(shipped_profile("demo").path)


def test_a_shipped_profile_is_never_written_to(engine: Engine) -> None:
    before = shipped_profile("demo").path.read_text()
    code, out, err = engine("profile", "set", "demo", "lora.r=4")
    assert (code, out) == (ExitCode.PROFILE, "")
    assert "engine profile new my-demo.toml --from demo" in err
    assert shipped_profile("demo").path.read_text() == before


@pytest.mark.parametrize("command", TAKES_SET, ids=lambda command: " ".join(command[:2]))
def test_every_wrong_setting_is_told_at_once_where_it_was_given(engine: Engine, command: tuple[str, ...]) -> None:
    Path("model.gguf").touch()
    Path("rows.jsonl").touch()
    wrong = ("nonsense", "train.learning_rat=1", "evaluate.max_samples=few")
    code, _, err = engine(*naming(command, "demo"), *(part for text in wrong for part in ("--set", text)))
    lines = [text for text in err.splitlines() if text.startswith("--set: ")]
    assert code == ExitCode.PROFILE, err
    assert "--set: 'nonsense' is not key=value - write it as table.name=value" in lines
    for key in ("train.learning_rat", "evaluate.max_samples"):
        assert [text for text in lines if key in text], err


def test_help_of_set_is_the_same_everywhere(engine: Engine) -> None:
    texts = set()
    for command in TAKES_SET:
        names = [part for part in command[:2] if part.isalpha()]
        shown = engine(*names, "--help")[1]
        texts.add(" ".join(shown[shown.index("--set KEY") :].split("  --")[0].split()))
    assert len(texts) == 1, texts


def test_every_wrong_change_of_a_file_is_told_at_once(engine: Engine) -> None:
    Path("p.toml").write_text('[model]\nname_or_path = "demo"\n')
    code, _, err = engine("profile", "set", "p.toml", "nonsense", "more")
    assert code == ExitCode.PROFILE
    assert [text.split(" is ")[0] for text in err.splitlines()[:2]] == ["'nonsense'", "'more'"]
