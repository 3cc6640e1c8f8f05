"""The probe as its callers use it: imports, what-if machines and the command."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from engine.cli import probe as command
from engine.errors import EngineError, ExitCode
from engine.hardware.cards import card_name
from engine.hardware.probe import hypothetical_machine, probe_machine, read_machine

HEAVY = ("torch", "numpy", "pydantic", "transformers", "datasets", "textual", "rich", "pynvml", "psutil", "tomllib")


def test_importing_the_probe_loads_nothing_heavy() -> None:
    code = f"import sys, engine.hardware.probe; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_probing_loads_no_torch() -> None:
    code = (
        "import sys; from engine.hardware.probe import probe_machine, hypothetical_machine;"
        "probe_machine(); hypothetical_machine('h100');"
        "print([name for name in ('torch', 'numpy', 'pydantic', 'psutil') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_this_machine_is_read_quickly_and_makes_sense() -> None:
    machine = probe_machine()
    start = time.perf_counter()
    probe_machine(processes=False)
    assert time.perf_counter() - start < 1.0
    assert 0 < machine.ram_available_bytes <= machine.ram_total_bytes
    assert 1 <= machine.cpu.physical_cores <= machine.cpu.logical_cores
    assert Path(machine.disk_path).is_dir()
    assert machine.disk_free_bytes > 0
    assert machine.cpu.name


def test_torch_is_the_one_that_is_installed() -> None:
    from importlib.metadata import version

    assert probe_machine().torch_version is not None
    assert str(probe_machine().torch_version).partition("+")[0] == version("torch").partition("+")[0]


def test_disk_is_that_of_the_runs(host: Path, tmp_path: Path) -> None:
    machine = read_machine(str(host), {"XDG_STATE_HOME": str(tmp_path / "not" / "yet" / "there")})
    assert machine.disk_path == str(tmp_path)


def test_processes_can_be_left_out(replay: Any, host: Path) -> None:
    assert replay("rtx4090").gpus[0].processes
    # The recording stays in place of the library until the test ends.
    assert read_machine(str(host), {}, processes=False).gpus[0].processes == ()


def test_a_hypothetical_machine_is_empty_and_marked() -> None:
    machine = hypothetical_machine("rtx 4090", 2)
    assert [gpu.index for gpu in machine.gpus] == [0, 1]
    gpu = machine.gpus[1]
    assert gpu.hypothetical
    assert gpu.name == "NVIDIA GeForce RTX 4090"
    assert gpu.free_bytes is not None
    assert gpu.reserved_bytes is not None
    assert gpu.total_bytes == gpu.free_bytes + gpu.reserved_bytes
    assert 23.5 < gpu.free_bytes / 1024**3 < 23.8
    assert machine.cpu == probe_machine().cpu
    assert not [note for note in machine.notes if "driver" in note]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("rtx 4900", "NVIDIA GeForce RTX 4090"),
        ("rtx 6000", "NVIDIA RTX 6000 Ada Generation"),
        ("", "RTX 4090"),
        ("?!", "RTX 4090"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(EngineError) as caught:
        hypothetical_machine(name)
    assert caught.value.code is ExitCode.PROFILE
    assert hint in caught.value.hint


@pytest.mark.parametrize("count", [0, -1, 10**9])
def test_impossible_counts_are_refused(count: int) -> None:
    with pytest.raises(EngineError) as caught:
        hypothetical_machine("h100", count)
    assert caught.value.code is ExitCode.PROFILE


RECORDINGS = ["t4", "rtx4090", "a100-80", "h100", "mig", "gb10", "orin", "lost", "four-h100", "no-library", "mismatch"]


@pytest.mark.parametrize("recording", RECORDINGS)
@pytest.mark.parametrize("columns", [40, 80])
def test_the_report_fits_the_terminal(replay: Any, recording: str, columns: int) -> None:
    machine = replay(recording)
    lines = list(command.machine_lines(machine, columns))
    # Where 40 columns are too few for a UUID or an address it stands whole, so that it can be copied.
    assert all(len(line) <= columns or (columns < 80 and " " not in line[13:]) for line in lines)
    text = " ".join(" ".join(lines).split())
    for gpu in machine.gpus:
        assert (card_name(gpu) if gpu.mig == "slice" else gpu.name) in text
    for note in machine.notes:
        assert note in text


def test_the_report_shows_memory_precision_and_who_holds_it(
    replay: Any, host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (host / "proc/4321").mkdir()
    (host / "proc/4321/comm").write_text("python\x1b[31m\n")
    machine = replay("rtx4090")
    monkeypatch.setattr(command, "probe_machine", lambda: machine)
    shown = CliRunner().invoke(command.probe, []).output
    assert "[#####...............] 17.5 GiB free of 24.0 GiB" in shown
    assert "bf16: capability 8.9 (Ada)" in shown
    assert "212 of 450 W, 61 °C, 87 % busy" in shown
    assert "(4321) of " in shown
    assert "5.5 GiB" in shown
    assert "\x1b" not in shown


def test_without_a_gpu_the_report_says_so(replay: Any) -> None:
    lines = " ".join(command.machine_lines(replay("no-library"), 80))
    assert "training runs on the processor" in lines
    assert "install the driver" in lines


def test_a_machine_whose_only_card_is_unreadable_says_so(replay: Any) -> None:
    def break_it(recording: dict[str, Any]) -> None:
        recording["devices"] = recording["devices"][:1]

    assert "none reports its free memory" in " ".join(command.machine_lines(replay("lost", edit=break_it), 80))


def test_json_is_the_machine(replay: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = replay("mig")
    monkeypatch.setattr(command, "probe_machine", lambda: machine)
    found = json.loads(CliRunner().invoke(command.probe, ["--json"]).output)
    assert [gpu["mig"] for gpu in found["gpus"]] == ["parent", "slice", "slice"]
    assert found["gpus"][1]["compute_capability"] == [8, 0]
    assert found["ram_total_bytes"] == machine.ram_total_bytes
