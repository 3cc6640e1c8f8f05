"""Screen 5, exports: formats that can be chosen, sizes before anything is written, and what cannot start."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from engine.api import runs
from engine.profile.tables.outcome import Export
from tests.tui.conftest import shows
from tests.tui.results_of import (
    RUN_ID,
    SETTINGS,
    opened,
    scored,
    told,
)
from tui.results.exports import (
    FORMATS,
    Choices,
    command,
    first_choices,
    size_estimate,
    toggled,
)
from tui.results.reader import ResultReader


def test_an_export_that_was_deleted_is_not_shown(place: Path) -> None:
    run = scored()
    reader = ResultReader(run)
    found = reader.read().exported
    assert found is not None
    assert [one.name for one in found.written] == ["adapter", "merged", "nf4", "gguf q8_0"]
    assert found.of("nf4") is not None
    (run.path / "export").rename(run.path / "elsewhere")
    assert reader.read().exported is None


def test_the_deck_offers_every_format_of_the_exporter() -> None:
    kinds = Export.model_fields
    known = {name: set(get_args(get_args(kinds[name].annotation)[0])) for name in ("quantized", "gguf")}
    offered = {name for name, _ in FORMATS}
    assert offered == {"adapter", "merged", *known["quantized"], *(f"gguf {kind}" for kind in known["gguf"])}


def test_formats_are_chosen_as_the_exporter_takes_them() -> None:
    profile = first_choices(SETTINGS)
    assert command("run", profile, profile) == "engine export run"
    choices = profile
    for name in ("nf4", "gguf q8_0", "gguf f16"):
        choices, refused = toggled(choices, name, profile)
        assert refused == ""
    assert command("run", choices, profile) == "engine export run --quantize nf4 --gguf f16 --gguf q8_0"
    assert toggled(choices, "merged", profile) == (choices, "the other formats are made from it")
    assert toggled(choices, "adapter", profile)[1] == "the adapter is always written"
    alone, refused = toggled(profile, "merged", profile)
    assert (command("run", alone, profile), refused) == ("engine export run --no-merged", "")
    again, _ = toggled(alone, "int8", profile)
    assert again.merged
    asked = first_choices({**SETTINGS, "export": {"quantized": ["nf4"], "gguf": []}})
    assert "profile asks for it" in toggled(asked, "nf4", asked)[1]
    full = first_choices({"tuning": {"method": "full"}})
    assert not full.has("adapter")
    assert "no adapter" in toggled(full, "merged", full)[1]
    quoted = command("run", Choices(output="my place", dtype="fp32"), profile)
    assert quoted == "engine export run --dtype fp32 --output 'my place'"


def test_sizes_are_told_before_anything_is_written() -> None:
    found = {
        "schema_version": 1,
        "settings": {"model": {"dtype": "bf16"}},
        "model": {"parameters": 7_000_000_000, "vocab_size": 32_000, "hidden_size": 4096, "tie_word_embeddings": False},
        "estimate": {"trainable_parameters": 40_000_000},
    }
    record = runs.record_of(found)
    assert isinstance(record, runs.RunRecord)
    sizes = {
        name: (size_estimate(name, Choices(), record) or 0) / 1e9
        for name in ("adapter", "merged", "nf4", "int8", "gguf q8_0", "gguf q4_0")
    }
    assert sizes["adapter"] == pytest.approx(0.08)
    assert sizes["merged"] == pytest.approx(14.0)
    assert 3.9 < sizes["nf4"] < 4.1  # Llama 2 7B in nf4 is 3.9 GB
    assert 7.0 < sizes["int8"] < 7.4
    assert sizes["gguf q8_0"] == pytest.approx(7.16 * 7.0 / 6.74, rel=0.01)  # llama.cpp's 7B: 7.16 GB of 6.74 B weights
    assert 3.9 < sizes["gguf q4_0"] < 4.2
    assert size_estimate("merged", Choices(), None) is None
    assert size_estimate("merged", Choices(dtype="fp32"), record) == 28e9


async def test_choices_change_the_command_and_its_words(cpu_machine: object) -> None:
    app = opened(scored())
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await pilot.press("5", "e")
        await shows(pilot, "> [x] adapter", f"$ engine export {RUN_ID}")
        await pilot.press("space")
        await told(pilot, "the adapter is always written")
        await pilot.press("down", "down", "down", "space")
        await shows(pilot, "[x] int8", "--quantize int8")
        await pilot.press("end", "space")
        await shows(pilot, "Write to which folder?")
        await pilot.press(*"/tmp/x y", "enter")
        await shows(pilot, "--output '/tmp/x y'")
        await pilot.press("up", "space", "down", "enter")
        await shows(pilot, "--dtype bf16")


async def test_an_export_that_cannot_start_is_told(cpu_machine: object, monkeypatch: pytest.MonkeyPatch) -> None:
    run = scored()

    def full(job: object, place: Path) -> object:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runs, "begin_job", full)
    app = opened(run)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await pilot.press("5", "w")
        await told(pilot, "that belongs to the export view")
        await pilot.press("e", "w")
        await told(pilot, "No space left")
