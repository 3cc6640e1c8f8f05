"""What each card does now, as the driver tells it again and again."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.hardware.loads import CardLoad, CardWatch, Loads
from tests.unit.hardware.conftest import FakeNvml, load_recording

Edit = Callable[[dict[str, Any]], None]
GIB = 1024**3


class Clock:
    """Seconds that a test moves on."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Watched:
    """A watch over a recording that a test may change between two looks."""

    def __init__(self, recording: dict[str, Any], host: Path) -> None:
        self.devices: list[dict[str, Any]] = recording["devices"]
        self.nvml = FakeNvml(recording)
        self.clock = Clock()
        self.watch = CardWatch(str(host), self.clock)

    def read(self) -> Loads:
        return self.watch.read()

    def card(self, number: int = 0) -> CardLoad:
        return self.read().cards[number]


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch, host: Path) -> Callable[[str], Watched]:
    def make(name: str) -> Watched:
        found = Watched(load_recording(name), host)
        monkeypatch.setitem(sys.modules, "pynvml", found.nvml)
        return found

    return make


def test_a_busy_card_tells_clocks_power_heat_and_traffic(watched: Callable[[str], Watched]) -> None:
    idle, busy = watched("mixed").read().cards
    assert busy.gpu.utilization_percent == 87
    assert (busy.sm_clock_mhz, busy.sm_clock_most_mhz, busy.memory_clock_most_mhz) == (2949, 3105, 10501)
    assert (busy.pcie_generation, busy.pcie_lanes) == (4, 16)
    assert busy.received_bytes_s == 1204300 * 1024
    assert busy.sent_bytes_s == 312450 * 1024
    assert (busy.slowdown_c, busy.fan_percent, busy.busy_percent_of) == (90, 64, {4321: 87})
    assert (idle.sm_clock_mhz, idle.busy_percent_of, idle.slowed_by) == (210, {}, ())
    assert [process.pid for process in busy.gpu.processes] == [4321, 1500, 1777]


@pytest.mark.parametrize(
    ("bits", "words"),
    [
        (0x4, ("power limit",)),
        (0x20, ("heat",)),
        (0x60, ("heat",)),
        (0x8 | 0x80, ("power brake of the machine", "hardware slowdown")),
        (0x1 | 0x2 | 0x100, ()),
    ],
)
def test_what_slows_a_card_is_said_in_words(
    bits: int, words: tuple[str, ...], watched: Callable[[str], Watched]
) -> None:
    box = watched("h100")
    box.devices[0]["nvmlDeviceGetCurrentClocksEventReasons"] = bits
    assert box.card().slowed_by == words


def test_old_drivers_are_asked_by_the_older_name(watched: Callable[[str], Watched]) -> None:
    box = watched("v100-old-driver")
    box.devices[0]["nvmlDeviceGetCurrentClocksThrottleReasons"] = 0x4
    assert box.card().slowed_by == ("power limit",)


def test_a_look_later_has_the_values_of_then(watched: Callable[[str], Watched]) -> None:
    box = watched("h100")
    before = box.card().gpu
    box.devices[0]["nvmlDeviceGetMemoryInfo"]["v2"]["free"] -= 10 * GIB
    box.devices[0]["nvmlDeviceGetTemperature"] = 77
    after = box.card().gpu
    assert after.free_bytes == (before.free_bytes or 0) - 10 * GIB
    assert after.temperature_c == 77
    assert (after.name, after.uuid, after.compute_capability) == (before.name, before.uuid, before.compute_capability)


def test_a_card_that_is_lost_meanwhile_says_so_and_the_others_go_on(watched: Callable[[str], Watched]) -> None:
    box = watched("four-h100")
    assert all(not card.gpu.notes for card in box.read().cards)
    gone = {name: {"error": 15} for name in box.devices[1] if name.startswith("nvmlDeviceGet")}
    gone |= {"nvmlDeviceGetMemoryInfo": {"v1": {"error": 15}, "v2": {"error": 15}}}
    gone |= {"nvmlDeviceGetClockInfo": {"sm": {"error": 15}, "mem": {"error": 15}}}
    gone |= {"nvmlDeviceGetPcieThroughput": {"tx": {"error": 15}, "rx": {"error": 15}}}
    box.devices[1].update(gone)
    cards = box.read().cards
    assert len(cards) == 4
    assert "does not answer any more" in cards[1].gpu.notes[0]
    assert cards[1].gpu.total_bytes is None
    assert all(card.gpu.free_bytes for number, card in enumerate(cards) if number != 1)


def test_slices_stand_below_their_card_with_memory_of_their_own(watched: Callable[[str], Watched]) -> None:
    cards = watched("mig").read().cards
    assert [card.gpu.mig for card in cards][:2] == ["parent", "slice"]
    assert all(card.gpu.total_bytes for card in cards if card.gpu.mig == "slice")


def test_cards_that_cuda_hides_are_shown_and_marked(
    watched: Callable[[str], Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    loads = watched("mixed").read()
    assert [card.hidden for card in loads.cards] == [True, False]
    assert loads.notes


@pytest.mark.parametrize(("name", "words"), [("no-library", "driver"), ("mismatch", "restart the machine")])
def test_without_a_driver_the_reason_is_given_and_asked_again(
    name: str, words: str, watched: Callable[[str], Watched]
) -> None:
    box = watched(name)
    loads = box.read()
    assert loads.cards == ()
    assert words in loads.notes[0]
    box.nvml.recording |= {**load_recording("h100")}
    assert box.read().cards


def test_a_new_card_is_found_within_half_a_minute(watched: Callable[[str], Watched]) -> None:
    box = watched("h100")
    assert len(box.read().cards) == 1
    box.devices.append(load_recording("t4")["devices"][0])
    box.clock.now_s += 31
    assert len(box.read().cards) == 2


@pytest.mark.parametrize("name", ["gb10", "orin", "unknown-card", "lost", "a100-80", "no-gpu"])
def test_every_machine_can_be_watched_and_the_driver_is_let_go(name: str, watched: Callable[[str], Watched]) -> None:
    box = watched(name)
    assert len(box.read().cards) == len(box.devices)
    assert box.nvml.opened == 1
    box.watch.close()
    assert box.nvml.opened == 0
