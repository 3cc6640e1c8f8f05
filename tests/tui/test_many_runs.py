"""Many runs on screen 4: columns of one's own, groups, tags, notes, the space they take, deleting by filter."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from engine.runs.notes import load_notes
from engine.runs.store import Run
from engine.runs.traits import RunTraits
from tests.tui.conftest import SIZES, deck, make_run, record, screen_text, shows, until, worker_alive
from tests.tui.keyboard import ENTER, at_once
from tui.commands import COMMANDS
from tui.frame.remembering import remember
from tui.frame.settings import RunsView, read_settings
from tui.reading.snapshot import Facts
from tui.runs.actions import NAMED, deletion_text
from tui.runs.columns import columns, heading, own_widths
from tui.runs.listing import Listing, RunRow
from tui.runs.selecting import GroupRow, Selection, entries
from tui.runs.view import entry_line


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a person's own settings lie."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "tunedeck" / "deck.toml"


def row(name: str, rank: int, best: float | None, disk: int | None = None) -> RunRow:
    """A run of the list, made by hand."""
    traits = RunTraits(name, "completed", name, best=best, disk_bytes=disk, settings={"lora.r": rank})
    return RunRow(Run(name, Path(name)), "completed", Facts(name, name), best=best, traits=traits)


ROWS = (row("one-a-very-long-name-of-a-run-1f3a", 8, 1.5), row("two", 16, 1.2, 4096), row("three", 8, None))


@pytest.mark.parametrize("width", [width - 2 for width, _ in SIZES])
def test_columns_of_ones_own_fit_every_width(width: int) -> None:
    chosen = ("lora.r", "disk", "model.a_setting_with_a_long_name", "begun")
    selection = Selection(columns=chosen, order="lora.r")
    own = own_widths(chosen, [one.traits for one in ROWS])
    at = columns(width, own)
    assert at.own
    assert at.name >= 18
    head = heading(selection, own, 3, width)
    assert head.cell_length <= width
    assert "r▲" in head.plain
    assert [entry_line(one, "", 0.0, own, width, False).cell_length for one in ROWS] == [head.cell_length] * 3
    assert (
        entry_line(ROWS[0], "", 0.0, (), width, False).cell_length
        == heading(replace(selection, words="x"), (), 3, width).cell_length
    )


def test_groups_fold_and_tell_their_best() -> None:
    grouped = entries(Listing(ROWS, 3), Selection(group="lora.r", closed=frozenset({"16"})))
    assert [one.value if isinstance(one, GroupRow) else one.name.split("-")[0] for one in grouped] == [
        "8", "three", "one", "16",
    ]  # fmt: skip
    (first, last) = (one for one in grouped if isinstance(one, GroupRow))
    assert (first.best, last.disk_bytes, last.closed) == (1.5, 4096, True)


def test_the_question_before_a_deletion_counts_and_names() -> None:
    doomed = [row(f"run-{number}", 8, None, 2**20) for number in range(NAMED + 3)]
    text = deletion_text(doomed, 2)
    assert "Delete 11 runs, 11 MiB?" in text
    assert "  run-7\n  and 3 more\n2 with a worker stay." in text
    unmeasured = replace(doomed[0], traits=replace(doomed[0].traits, disk_bytes=None))
    assert "or more?" in deletion_text([unmeasured], 0)


def test_what_was_chosen_is_kept_beside_what_a_person_wrote(settings: Path, tmp_path: Path) -> None:
    mine = '# mine\ntheme = "tunedeck-light"  # light\n\n[keys]\nstop = "X"\n'
    kept = tmp_path / "dotfiles.toml"
    kept.write_text(mine)
    settings.parent.mkdir(parents=True)
    settings.symlink_to(kept)
    remember(settings, "runs", {"columns": ["lora.r"], "order": "best", "turned": True, "group": ""})
    assert settings.is_symlink()
    assert kept.read_text().startswith(mine)
    assert read_settings(COMMANDS).runs == RunsView(("lora.r",), "best", True)
    remember(settings, "runs", {"columns": [], "order": "", "turned": False, "group": "state"})
    assert read_settings(COMMANDS).runs == RunsView(group="state")
    remember(settings, "runs", {"group": ""})
    assert "[runs]" not in kept.read_text()
    kept.write_text("theme = \n")
    with pytest.raises(ValueError, match="line 1"):
        remember(settings, "runs", {"group": "state"})
    assert kept.read_text() == "theme = \n"
    kept.write_text('[runs]\ncolumns = ["[/x]"]\n')
    found = read_settings(COMMANDS)
    assert (found.runs, [one.key for one in found.problems]) == (RunsView(), ["runs"])


async def test_runs_are_arranged_tagged_and_deleted_by_filter(cpu_machine: object, settings: Path) -> None:
    found = {}
    for name, rank in (("alpha", 8), ("beta", 16), ("gamma", 8), ("delta", 8)):
        found[name] = make_run(name, {"name": name, "model": {"name_or_path": "demo"}, "lora": {"r": rank}})
        record(found[name], 4, 10, "" if name == "gamma" else "stopped")
    app = deck()
    with worker_alive(found["gamma"]):
        async with app.run_test(size=(60, 16), notifications=True) as pilot:
            await pilot.press("4")
            await shows(pilot, "gamma", "4 runs")
            at_once(pilot, "C", "lora.r", ENTER)
            await shows(pilot, "✓ lora.r")
            await pilot.press("escape")
            await shows(pilot, " r ")
            await until(pilot, settings.exists)
            at_once(pilot, "b", "lora.r", ENTER)
            await shows(pilot, "r = 8   3 runs", "r = 16   1 run")
            at_once(pilot, "g", "T")  # a heading has no tags
            at_once(pilot, ENTER)
            await until(pilot, lambda: "alpha" not in screen_text(app))
            at_once(pilot, ENTER, "/", "alpha", ENTER, "G", "T", "keep best", ENTER)
            await until(pilot, lambda: load_notes(found["alpha"].path).tags == ("keep", "best"))
            at_once(pilot, "n", "the first", ENTER)
            await until(pilot, lambda: load_notes(found["alpha"].path).note == "the first")
            await pilot.press("escape")
            await shows(pilot, "beta")
            at_once(pilot, "D")
            await until(pilot, lambda: any("nothing says which" in str(n.message) for n in app._notifications))
            await until(pilot, lambda: "#keep" in screen_text(app))
            at_once(pilot, "/", "lora.r=8 -tag:keep", ENTER)
            await shows(pilot, "2 shown")
            at_once(pilot, "D")
            await shows(pilot, "Delete 1 run,", "delta", "1 with a worker stays")
            at_once(pilot, ENTER)
            await pilot.pause()
            await pilot.press("escape")
            await until(pilot, lambda: len(app.screen_stack) == 1)
            assert found["delta"].path.exists()
            at_once(pilot, "D", "y")
            await until(pilot, lambda: not found["delta"].path.exists())
            await pilot.press("escape")
            await shows(pilot, "3 runs")
    assert [name for name, run in found.items() if run.path.exists()] == ["alpha", "beta", "gamma"]
    assert read_settings(COMMANDS).runs == RunsView(("lora.r",), group="lora.r")
    assert json.loads((found["alpha"].path / "notes.json").read_text())["tags"] == ["keep", "best"]
    assert os.listdir(settings.parent) == ["deck.toml"]
