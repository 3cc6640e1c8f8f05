"""`--json` and `--debug`: before and behind the name of a command, and for every kind of failure."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engine.hardware import probe
from tests.unit.conftest import Engine

NO_MODEL = "no/such-model"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--json", "fit", "--gpu", "T4"),
        ("fit", "--json", "--gpu", "T4"),
        ("fit", "--gpu", "T4", "--json"),
        ("--json", "runs", "list"),
        ("runs", "--json", "list"),
        ("runs", "list", "--json"),
        ("--json", "profile", "schema"),
        ("profile", "schema", "--json"),
    ],
)
def test_json_stands_anywhere(engine: Engine, arguments: tuple[str, ...]) -> None:
    code, out, err = engine(*arguments)
    assert code == 0, err
    assert isinstance(json.loads(out), dict)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--json", "fit", NO_MODEL), 4, "no model"),
        (("fit", NO_MODEL, "--json"), 4, "no model"),
        (("--json", "runs", "show", "nothing"), 2, "no run 'nothing'"),
        (("fit", "--bogus", "--json"), 2, "--bogus"),
        (("--json", "fit", "--bogus"), 2, "--bogus"),
        (("fit", "--batch", "many", "--json"), 2, "many"),
        (("fit", "--json", "--batch", "many"), 2, "many"),
        (("train", "--json"), 2, "Missing argument"),
        (("fi", "--json"), 2, "Did you mean 'fit'"),
        (("runs", "nothing", "--json"), 2, "nothing"),
        (("--json",), 2, "ommand"),
        (("--json", "runs"), 2, "a command is missing"),
        (("fit", "--count", "2", "--json"), 2, "--count needs --gpu"),
    ],
)
def test_every_error_is_one_line_of_json(engine: Engine, arguments: tuple[str, ...], code: int, said: str) -> None:
    found, out, err = engine(*arguments)
    assert (found, err) == (code, "")
    assert out.count("\n") == 1
    assert said in json.loads(out)["error"]["message"]


def test_a_value_that_looks_like_the_option_asks_for_nothing(engine: Engine) -> None:
    code, out, err = engine("fit", "--", "--json")
    assert (code, out) == (4, "")
    assert err.startswith("error: no model '--json'")
    assert engine("fit", "--bogus", "--", "--json")[1] == ""


def _broken(**_: Any) -> None:
    raise RuntimeError("the probe broke")


@pytest.mark.parametrize(
    "arguments", [("--debug", "fit"), ("fit", "--debug"), ("--debug", "fit", "--json"), ("fit", "--json", "--debug")]
)
def test_debug_adds_the_traceback_and_changes_nothing_else(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setattr(probe, "probe_machine", _broken)
    as_json = "--json" in arguments
    code, out, err = engine(*arguments)
    plain = engine(*(word for word in arguments if word != "--debug"))
    assert code == plain[0] == 1
    assert "Traceback" in err
    assert "in _broken" in err
    assert "Traceback" not in plain[2]
    assert out == plain[1]
    if as_json:
        assert json.loads(out)["error"]["message"] == "RuntimeError: the probe broke"
    else:
        assert "error: RuntimeError: the probe broke" in err


def test_debug_is_behind_every_command(engine: Engine) -> None:
    from engine.cli import _COMMANDS

    for name in _COMMANDS:
        assert "--debug" in engine(name, "--help")[1], name
    assert "--debug" in engine("runs", "list", "--help")[1]
