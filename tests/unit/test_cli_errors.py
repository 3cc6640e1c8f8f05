"""What a command says of names that no file can have."""

from __future__ import annotations

import sys

import pytest

from engine import cli

LONG = "a" * 300


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("fit", LONG), 4),
        (("models", "show", f"./{LONG}"), 4),
        (("models", "add", LONG), 4),
        (("demo", "--model", LONG), 4),
        (("profile", "check", LONG), 2),
        (("profile", "new", "--model", "demo", LONG), 2),
        (("evaluate", LONG), 2),
    ],
)
def test_a_name_that_is_too_long_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: int
) -> None:
    monkeypatch.setattr(sys, "argv", ["engine", *arguments])
    monkeypatch.setattr(cli.signal, "signal", lambda *_: None)  # a handler would outlive the test
    with pytest.raises(SystemExit) as left:
        cli.main()
    said = capsys.readouterr().err
    assert left.value.code == code, said
    assert said.startswith("error: ")
    assert "too long" in said
    assert "Errno" not in said
    assert said.count("\n") == 1
