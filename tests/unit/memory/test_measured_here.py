"""What runs measured on this machine: read by a person, in the shell and in the deck, and forgotten."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from engine.cli.measured import measured as command
from engine.memory.calibration_store import FILE_VERSION, calibration_path, device_key, encode, software
from engine.memory.measured_here import forget_measured, measured_devices, measured_words
from tests.unit.memory.test_calibration import CPU_SHAPE, MACHINE, measured
from tui.fit.measured import measured_page, question


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run on the card, one on the processor and one that an older torch made."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    card, none = MACHINE.gpus[0], None
    write(card, [encode(measured(), software(card, MACHINE))])
    here, before = software(none, MACHINE), {**software(none, MACHINE), "torch": "1.0"}
    slow = measured(shape=CPU_SHAPE, gpu=none, tokens_per_second=50.0, predicted_tokens_per_second=100.0)
    write(none, [encode(slow, before), encode(slow, here)])
    return tmp_path


def write(gpu, records) -> Path:
    key = device_key(gpu, MACHINE)
    assert key is not None
    path = calibration_path(key)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"v": FILE_VERSION, "records": records}))
    path.with_suffix(".rates.json").write_text("{}")
    return path


def test_each_device_tells_what_counts(kept: Path) -> None:
    card, processor = measured_devices(MACHINE)
    assert card.name == "A100-SXM4-80GB"
    assert processor.name == "CPU Some CPU"
    assert (len(card.measurements), card.others, card.rates) == (1, 0, True)
    assert (len(processor.measurements), processor.others) == (1, 1)
    cells = measured_words(processor.measurements[0])
    assert cells[0] == "2026-11-24"
    assert cells[2:4] == ("LoRA fp32", "1 x 256")
    assert cells[5] == "50 of 100"
    assert measured_words(replace(card.measurements[0], out_of_memory=True))[4] == "ran out of memory"


def test_what_is_forgotten_no_longer_changes_a_prediction(kept: Path) -> None:
    for device in measured_devices(MACHINE):
        forget_measured(device)
        assert not list(device.path.parent.glob(f"{device.path.stem}*json"))
        forget_measured(device)
    assert measured_devices(MACHINE) == ()


def test_the_shell_shows_and_forgets(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.hardware.probe.probe_machine", lambda: MACHINE)
    shown = CliRunner().invoke(command, []).output
    assert "CPU Some CPU: 2 measurements and the device's speed" in shown
    assert "1 more were made with other versions" in shown
    assert "50 of 100" in shown
    forgotten = CliRunner().invoke(command, ["--forget", "--device", "cpu", "--json"])
    assert [one["name"] for one in json.loads(forgotten.output)] == ["CPU Some CPU"]
    assert [one.name for one in measured_devices(MACHINE)] == ["A100-SXM4-80GB"]
    refused = CliRunner().invoke(command, ["--device", "tpu"])
    assert "nothing is kept of a device named 'tpu'" in str(refused.exception)


def test_the_deck_tells_the_same_and_nothing_reaches_the_terminal_as_it_is(kept: Path) -> None:
    found = measured_devices(MACHINE)
    nasty = replace(found[0], measurements=(replace(found[0].measurements[0], model="a/\x1b]52;c;x\x07[b]y"),))
    page = measured_page((nasty, found[1])).plain
    assert "\x1b" not in page
    assert "tokens/s 50 of 100" in page
    assert "1 more are of other versions" in page
    assert question(found).startswith("Forget 3 measurements of runs on A100")
