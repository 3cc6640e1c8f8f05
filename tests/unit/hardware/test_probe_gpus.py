"""What the probe makes of recorded NVML answers, card by card and failure by failure."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from engine.hardware.capabilities import usable_gpus

MIB = 1024**2
CARDS = {
    # recording: (name, total MiB, reserved MiB, capability, multiprocessors, TFLOPS, GB/s)
    "t4": ("Tesla T4", 15360, 448, (7, 5), 40, 65, 320),
    "rtx3090": ("NVIDIA GeForce RTX 3090", 24576, 318, (8, 6), 82, 71.2, 936),
    "rtx4090": ("NVIDIA GeForce RTX 4090", 24564, 354, (8, 9), 128, 165.2, 1008),
    "a100-40": ("NVIDIA A100-SXM4-40GB", 40960, 520, (8, 0), 108, 312, 1555),
    "a100-80": ("NVIDIA A100-SXM4-80GB", 81920, 834, (8, 0), 108, 312, 2039),
    "h100": ("NVIDIA H100 80GB HBM3", 81559, 516, (9, 0), 132, 989, 3352),
}


@pytest.mark.parametrize("recording", CARDS)
def test_a_card_is_read_in_full(replay: Any, recording: str) -> None:
    name, total, reserved, capability, processors, teraflops, gigabytes = CARDS[recording]
    (gpu,) = replay(recording).gpus
    assert gpu.name == name
    assert gpu.total_bytes == total * MIB
    assert gpu.reserved_bytes // MIB == reserved
    assert gpu.total_bytes == gpu.free_bytes + gpu.used_bytes + gpu.reserved_bytes
    assert (gpu.compute_capability, gpu.multiprocessors) == (capability, processors)
    assert gpu.tensor_flops == pytest.approx(teraflops * 1e12)
    assert gpu.memory_bandwidth_bytes_s == pytest.approx(gigabytes * 1e9)
    assert (gpu.index, gpu.mig, gpu.unified_memory, gpu.hypothetical) == (0, "none", False, False)
    assert gpu.uuid.startswith("GPU-")
    assert gpu.notes == ()


def test_sensors_have_their_units(replay: Any) -> None:
    (gpu,) = replay("rtx4090").gpus
    assert (gpu.power_w, gpu.power_limit_w) == (212.34, 450.0)
    assert (gpu.temperature_c, gpu.utilization_percent) == (61, 87)
    assert gpu.pci_bus_id == "00000000:01:00.0"


def test_versions_come_from_the_driver(replay: Any) -> None:
    machine = replay("t4")
    assert machine.driver_version == "550.54.15"
    assert machine.cuda_driver_version == (12, 4)


def test_used_that_counts_the_reserve_is_set_right(replay: Any) -> None:
    def count_reserve(recording: dict[str, Any]) -> None:
        info = recording["devices"][0]["nvmlDeviceGetMemoryInfo"]["v2"]
        info["used"] += info["reserved"]

    assert replay("a100-80", edit=count_reserve).gpus == replay("a100-80").gpus


def test_an_old_driver_without_version_2_leaves_the_reserve_unknown(replay: Any) -> None:
    (gpu,) = replay("v100-old-driver").gpus
    assert (gpu.total_bytes, gpu.free_bytes, gpu.used_bytes) == (34089730048, 34086780928, 2949120)
    assert gpu.reserved_bytes is None
    assert gpu.multiprocessors == 80


def test_figures_that_do_not_add_up_are_not_believed(replay: Any) -> None:
    def more_free_than_there_is(recording: dict[str, Any]) -> None:
        recording["devices"][0]["nvmlDeviceGetMemoryInfo"]["v2"]["free"] = 10**12

    machine = replay("t4", edit=more_free_than_there_is)
    assert machine.gpus[0].free_bytes is None
    assert "do not add up" in machine.gpus[0].notes[0]
    assert usable_gpus(machine) == ()


@pytest.mark.parametrize(
    "query",
    [
        "nvmlDeviceGetUUID",
        "nvmlDeviceGetPciInfo",
        "nvmlDeviceGetCudaComputeCapability",
        "nvmlDeviceGetNumGpuCores",
        "nvmlDeviceGetPowerUsage",
        "nvmlDeviceGetEnforcedPowerLimit",
        "nvmlDeviceGetTemperature",
        "nvmlDeviceGetUtilizationRates",
        "nvmlDeviceGetComputeRunningProcesses",
        "nvmlDeviceGetGraphicsRunningProcesses",
        "nvmlDeviceGetMigMode",
    ],
)
@pytest.mark.parametrize("code", [3, 4, 13, 999])
def test_any_refused_query_leaves_the_card_usable(replay: Any, query: str, code: int) -> None:
    def refuse(recording: dict[str, Any]) -> None:
        recording["devices"][0][query] = {"error": code}
        recording["devices"][0]["slices"] = []

    machine = replay("rtx4090", edit=refuse)
    assert [gpu.total_bytes for gpu in usable_gpus(machine)] == [24564 * MIB]
    assert usable_gpus(machine)[0].compute_capability == (8, 9)


def test_processes_are_merged_named_and_sorted(replay: Any, host: Path) -> None:
    (host / "proc/4321").mkdir()
    (host / "proc/4321/comm").write_text("python\n")
    (gpu,) = replay("rtx4090").gpus
    assert [(process.pid, process.used_bytes) for process in gpu.processes] == [
        (4321, 5905580032),
        (1500, 419430400),
        (1777, None),
    ]
    assert gpu.processes[0].name == "python"
    assert gpu.processes[0].user
    assert gpu.processes[1].name is None


def test_a_container_does_not_name_the_hosts_processes(replay: Any, host: Path) -> None:
    (host / "proc/self/ns/pid").unlink()
    (host / "proc/self/ns/pid").symlink_to("pid:[4026532999]")
    (host / "proc/2210456").mkdir()
    (host / "proc/2210456/comm").write_text("not-the-one\n")
    (process,) = replay("a100-80").gpus[0].processes
    assert (process.pid, process.used_bytes, process.name, process.user) == (2210456, 23452450816, None, None)


def test_mig_slices_are_usable_and_their_parent_is_not(replay: Any) -> None:
    machine = replay("mig")
    parent, large, small = machine.gpus
    assert (parent.mig, parent.free_bytes) == ("parent", None)
    assert any("Insufficient Permissions" in note for note in parent.notes)
    assert usable_gpus(machine) == (large, small)
    assert (large.mig, large.total_bytes, large.multiprocessors) == ("slice", 19968 * MIB, 42)
    assert (small.uuid, small.index) == ("MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb", 0)
    assert small.compute_capability == (8, 0)
    assert small.tensor_flops == pytest.approx(312e12 * 14 / 108)
    assert small.memory_bandwidth_bytes_s == pytest.approx(1555e9 * 4864 / 40960)


def test_slices_are_found_where_the_parent_hides_its_mode(replay: Any) -> None:
    def hide(recording: dict[str, Any]) -> None:
        recording["devices"][0]["nvmlDeviceGetMigMode"] = {"error": 4}

    assert [gpu.mig for gpu in replay("mig", edit=hide).gpus] == ["parent", "slice", "slice"]


def test_mig_without_slices_says_what_to_do(replay: Any) -> None:
    def empty(recording: dict[str, Any]) -> None:
        recording["devices"][0]["slices"] = [{"error": 6}] * 7

    machine = replay("mig", edit=empty)
    assert usable_gpus(machine) == ()
    assert any("nvidia-smi mig -cgi" in note for note in machine.gpus[0].notes)


def test_shared_memory_boards_take_the_systems_memory(replay: Any) -> None:
    (gpu,) = replay("gb10").gpus
    assert gpu.unified_memory
    assert (gpu.total_bytes, gpu.free_bytes) == (65536000 * 1024, 52428800 * 1024)
    assert gpu.compute_capability == (12, 1)
    assert "/proc/meminfo" in gpu.notes[0]


def test_jetson_is_told_by_its_memory(replay: Any) -> None:
    (gpu,) = replay("orin").gpus
    assert gpu.unified_memory
    assert gpu.tensor_flops == pytest.approx(42.6e12)
    assert gpu.uuid is None


@pytest.mark.parametrize("code", [4, 15, 999])
def test_a_shared_memory_board_that_fails_otherwise_gets_no_memory(replay: Any, code: int) -> None:
    def fail(recording: dict[str, Any]) -> None:
        recording["devices"][0]["nvmlDeviceGetMemoryInfo"] = {"v1": {"error": code}, "v2": {"error": code}}

    assert usable_gpus(replay("gb10", edit=fail)) == ()


@pytest.mark.parametrize("recording", ["t4", "a100-40", "h100", "unknown-card"])
def test_a_card_with_its_own_memory_never_becomes_system_memory(replay: Any, recording: str) -> None:
    def refuse(answers: dict[str, Any]) -> None:
        answers["devices"][0]["nvmlDeviceGetMemoryInfo"] = {"v1": {"error": 3}, "v2": {"error": 3}}

    machine = replay(recording, edit=refuse)
    assert machine.gpus[0].total_bytes is None
    assert not machine.gpus[0].unified_memory
    assert usable_gpus(machine) == ()


def test_lost_cards_are_listed_with_advice_and_left_out(replay: Any) -> None:
    machine = replay("lost")
    assert [gpu.index for gpu in machine.gpus] == [0, 1, 2]
    assert [gpu.index for gpu in usable_gpus(machine)] == [1]
    assert machine.gpus[0].total_bytes is None
    for gpu in (machine.gpus[0], machine.gpus[2]):
        assert "restart the machine" in gpu.notes[0]


def test_an_unknown_card_gets_rates_from_its_clocks(replay: Any) -> None:
    (gpu,) = replay("unknown-card").gpus
    assert gpu.multiprocessors == 192
    assert gpu.tensor_flops == pytest.approx(192 * 2600e6 * 512)
    assert gpu.memory_bandwidth_bytes_s == pytest.approx(2 * 16001e6 * 512 / 8)
    assert "computed from its clocks" in gpu.notes[0]


@pytest.mark.parametrize(
    ("recording", "says"),
    [
        ("no-library", "install the driver"),
        ("not-loaded", "modprobe nvidia"),
        ("mismatch", "restart the machine"),
        ("no-gpu", "lists no GPU"),
    ],
)
def test_without_a_usable_driver_the_note_says_what_to_do(replay: Any, recording: str, says: str) -> None:
    machine = replay(recording)
    assert machine.gpus == ()
    assert says in machine.notes[0]


def test_without_the_package_the_note_names_it(replay: Any, host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.hardware.probe import read_machine

    monkeypatch.setitem(sys.modules, "pynvml", None)
    machine = read_machine(str(host), {})
    assert machine.gpus == ()
    assert "pip install nvidia-ml-py" in machine.notes[0]
