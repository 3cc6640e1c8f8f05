"""The card chosen on the fit screen is the card of the profile and of the run: recorded machines under the deck."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from textual import events
from textual.pilot import Pilot

from engine.api import fit, profiles, runs
from engine.hardware.machine import GpuProcess, Machine
from engine.hardware.probe import read_machine
from engine.models.catalog import shipped_catalog
from engine.profile.load import load_text
from engine.runs.launch import worker_environment
from engine.runs.record import read_record_of
from tests.tui.conftest import GIB, SIZES, deck, make_run, screen_text, shows, until
from tests.unit.hardware.conftest import FakeNvml, load_recording
from tui.app import DeckApp
from tui.fit.devices import DevicesScreen
from tui.fit.machine import machine_lines
from tui.fit.ranking import devices
from tui.fit.view import fit_command, task_line
from tui.reading.snapshot import RunSnapshot, make_facts
from tui.run.view import job_line, memory_lines

FIRST, SECOND = "GPU-2f9e51c7-40d8-5b36-a1c2-7e8d9f0a1b2c", "GPU-91c0b2a3-d4e5-46f7-8899-aabbccddeeff"
LARGE, SMALL = "MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f", "MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb"
BOTH = [(80, 24), (120, 40)]
Recorded = Callable[[str], Machine]


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Recorded:
    """The deck finds a recorded machine, with room in main memory."""

    def find(name: str) -> Machine:
        with monkeypatch.context() as patch:
            patch.setitem(__import__("sys").modules, "pynvml", FakeNvml(load_recording(name)))
            machine = read_machine(str(tmp_path), {})
        room = {"ram_total_bytes": 64 * GIB, "ram_available_bytes": 60 * GIB}
        return use(monkeypatch, replace(machine, **room))

    return find


def use(monkeypatch: pytest.MonkeyPatch, machine: Machine) -> Machine:
    """From now on the deck finds this machine."""
    monkeypatch.setattr(fit, "probe_machine", lambda **_: machine)
    return machine


async def choose(pilot: Pilot[Any], app: DeckApp, name: str) -> None:
    """`d` until the device is marked, then enter."""
    await pilot.press("d")
    await until(pilot, lambda: isinstance(app.screen, DevicesScreen))
    for _ in range(12):
        if any(text.strip("│ ").startswith((f"> {name} ", f">   {name} ", f"> · {name} ")) for text in lines(app)):
            break
        await pilot.press("d")
        await pilot.pause()
    else:
        raise AssertionError(f"{name} is not in the list\n{screen_text(app)}")
    await pilot.press("enter")
    await until(pilot, lambda: not isinstance(app.screen, DevicesScreen))


def lines(app: DeckApp) -> list[str]:
    return screen_text(app).splitlines()


async def profile_of(pilot: Pilot[Any], app: DeckApp, place: Path) -> tuple[dict[str, Any], Path]:
    """A profile of the model below the demo, saved; its settings and its file."""
    (place / "train.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    await pilot.press("home", "down")
    await until(pilot, lambda: app.deck.plan is not None and app.deck.plan.model.name != "demo")
    await pilot.press("p", *"train.jsonl", "enter")
    await until(pilot, lambda: app.current_mode == "profile" and app.screen.form_pane.found.plan is not None)  # type: ignore[attr-defined]
    assert app.deck.form is not None
    path = app.deck.form.path
    app.deck.form.save()
    return tomllib.loads(path.read_text()), path


@pytest.mark.parametrize("size", BOTH)
@pytest.mark.parametrize(
    ("recording", "name", "uuid"),
    [
        ("mixed", "GPU 0", FIRST),
        ("mixed", "GPU 1", SECOND),
        ("mig", "GPU 0 MIG 3g.20gb #0", LARGE),
        ("mig", "GPU 0 MIG 1g.5gb #2", SMALL),
    ],
)
async def test_the_card_chosen_is_the_card_of_the_profile_and_of_the_run(
    recorded: Recorded, place: Path, size: tuple[int, int], recording: str, name: str, uuid: str
) -> None:
    machine = recorded(recording)
    app = deck()
    async with app.run_test(size=size) as pilot:
        await shows(pilot, "> demo", "auto → GPU 0")
        await choose(pilot, app, name)
        await until(pilot, lambda: app.screen.ranker.ranking.plans[0].card == name)  # type: ignore[attr-defined]
        assert f"{name} " in next(text for text in lines(app) if text.startswith(" t task"))
        settings, path = await profile_of(pilot, app, place)
        assert settings["launch"] == {"device": "cuda", "gpu": uuid}
        await shows(pilot, f"free on {name}")
        app.screen.advanced = True  # type: ignore[attr-defined]
        found = app.screen.form_pane.found.provenance["launch.gpu"]  # type: ignore[attr-defined]
        assert found["reason"].startswith(name)
    record = profiles.resolve_profile(load_text(path.read_text(), path), machine).to_run_json()
    assert record["estimate"]["card"] == name
    assert worker_environment(read_record_of(record).launch)["CUDA_VISIBLE_DEVICES"] == uuid


async def test_the_row_of_the_card_says_what_its_uuid_names(recorded: Recorded, place: Path) -> None:
    recorded("mixed")
    app = deck()
    async with app.run_test(size=(120, 40)) as pilot:
        await shows(pilot, "> demo", "auto → GPU 0")
        await choose(pilot, app, "GPU 1")
        await until(pilot, lambda: app.screen.ranker.ranking.plans[0].card == "GPU 1")  # type: ignore[attr-defined]
        await pilot.press("p")
        await until(pilot, lambda: app.current_mode == "profile")
        await until(pilot, lambda: bool(app.screen.form_pane.found.provenance))  # type: ignore[attr-defined]
        assert app.screen.form_pane.go_to("launch.gpu")  # type: ignore[attr-defined]
        await shows(pilot, "edited: GPU 1 Ge")


async def test_the_processor_chosen_is_where_the_profile_runs(recorded: Recorded, place: Path) -> None:
    machine = recorded("mixed")
    app = deck()
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, "> demo", "auto → GPU 0")
        await choose(pilot, app, "CPU")
        await shows(pilot, "device CPU")
        settings, path = await profile_of(pilot, app, place)
        assert settings["launch"] == {"device": "cpu"}
        await shows(pilot, "free on CPU")
    record = profiles.resolve_profile(load_text(path.read_text(), path), machine).to_run_json()
    assert worker_environment(read_record_of(record).launch)["CUDA_VISIBLE_DEVICES"] == ""


async def test_the_demo_keeps_the_chosen_card_too(recorded: Recorded, place: Path) -> None:
    recorded("mixed")
    app = deck()
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, "> demo", "auto → GPU 0")
        await choose(pilot, app, "GPU 1")
        await pilot.press("home", "p")
        await until(pilot, lambda: app.current_mode == "profile")
        assert app.deck.form is not None
        assert app.deck.form.given("launch.gpu") == SECOND
        await shows(pilot, "free on GPU 1")


async def test_auto_leaves_the_device_open(recorded: Recorded, place: Path) -> None:
    recorded("mixed")
    app = deck()
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, "> demo", "auto → GPU 0")
        await choose(pilot, app, "GPU 1")
        await choose(pilot, app, "auto")
        await shows(pilot, "auto → GPU 0")
        settings, _ = await profile_of(pilot, app, place)
        assert "launch" not in settings


async def test_the_list_goes_round_and_shows_free_memory_holders_and_verdicts(recorded: Recorded) -> None:
    recorded("mixed")
    app = deck()
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, "> demo", "auto → GPU 0")
        await pilot.press("d")
        await shows(pilot, "Device for demo", "> · auto", "23.7 of 24.0 GiB free", "17.5 of 24.0 GiB free", "OK")
        await pilot.press("d", "d")
        await shows(pilot, ">   GPU 1", "process 4321 5.5 GiB")
        await pilot.press("d", "d")
        await shows(pilot, "> · auto")
        await pilot.press("escape")
        await shows(pilot, "auto → GPU 0")


async def test_slices_go_round_and_their_card_is_no_choice(recorded: Recorded) -> None:
    machine = recorded("mig")
    assert [one.name for one in devices(machine)] == ["auto", "GPU 0 MIG 3g.20gb #0", "GPU 0 MIG 1g.5gb #2", "CPU"]
    app = deck()
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, "> demo", "d auto → GPU 0 MIG 3g.20gb #0")
        for name in ("GPU 0 MIG 1g.5gb #2", "CPU", "auto", "GPU 0 MIG 3g.20gb #0"):
            await choose(pilot, app, name)
    plan = fit.plan_model(fit.resolve_model("demo"), machine, fit.Requirements())
    assert "on GPU 0 MIG 1g.5gb #2: OK" in plan.alternatives


async def test_keys_typed_ahead_choose_too(recorded: Recorded) -> None:
    recorded("mixed")
    app = deck()
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, "> demo", "auto → GPU 0")
        for key in ("d", "d", "d", "enter"):
            app.post_message(events.Key(key, key if len(key) == 1 else None))
        await shows(pilot, "device GPU 1")
        assert not isinstance(app.screen, DevicesScreen)


@pytest.mark.parametrize("size", BOTH)
async def test_a_card_that_vanishes_says_so_and_comes_back(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    machine = recorded("mixed")
    app = deck()
    async with app.run_test(size=size) as pilot:
        await shows(pilot, "> demo", "auto → GPU 0")
        await choose(pilot, app, "GPU 1")
        await until(pilot, lambda: app.screen.ranker.ranking.plans[0].card == "GPU 1")  # type: ignore[attr-defined]
        use(monkeypatch, replace(machine, gpus=machine.gpus[:1]))
        await pilot.press("r")
        await shows(pilot, "GPU 1 GeForce RTX 4090 is not here any more: d chooses another device")
        assert app.deck.plan is None, "nothing can be made for it"
        use(monkeypatch, machine)
        await pilot.press("r")
        await shows(pilot, "> demo", f" of {len(shipped_catalog()) + 1} fit")
        broken = replace(machine.gpus[1], free_bytes=None, notes=("does not answer any more: restart the machine",))
        use(monkeypatch, replace(machine, gpus=(machine.gpus[0], broken)))
        await pilot.press("r")
        await shows(pilot, "GPU 1 GeForce RTX 4090 cannot be used: does not answer any more")
        await pilot.press("d")
        await shows(pilot, "Device", "auto", "GPU 0", "cannot be used")
        await pilot.press("enter")
        await shows(pilot, "auto → GPU 0", "> demo")


async def test_a_profile_of_a_card_that_vanished_lists_those_that_are_here(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch, place: Path
) -> None:
    machine = recorded("mixed")
    (place / "p.toml").write_text(f'[model]\nname_or_path = "demo"\n[launch]\ngpu = "{SECOND}"\n')
    use(monkeypatch, replace(machine, gpus=machine.gpus[:1]))
    found = profiles.check_profile(profiles.load_profile(place / "p.toml"), fit.probe_machine())
    (problem,) = (one for one in found if one.key == "launch.gpu")
    assert f"no GPU here is called '{SECOND}'" in problem.message
    assert "GPU 0 GeForce RTX 3090 (GPU-2f9e51c7)" in problem.hint


def busy(machine: Machine, count: int) -> Machine:
    """So many cards, the second of them held by anna."""
    gpus = tuple(replace(machine.gpus[index % 4], index=index, uuid=f"GPU-{index}") for index in range(count))
    held = replace(gpus[1], processes=(GpuProcess(4711, 60 * GIB, "python", "anna"),), used_bytes=60 * GIB)
    return replace(machine, gpus=(gpus[0], held, *gpus[2:]))


@pytest.mark.parametrize(("count", "size"), [(4, (80, 24)), (4, (120, 40)), (8, (120, 40)), (8, (200, 50))])
async def test_each_of_many_cards_has_a_line_with_who_holds_it(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch, count: int, size: tuple[int, int]
) -> None:
    use(monkeypatch, busy(recorded("four-h100"), count))
    app = deck()
    async with app.run_test(size=size) as pilot:
        await shows(pilot, "> demo", "auto → GPU 0")
        for index in range(count):
            assert any(text.startswith(f" GPU {index}  H100 80GB HBM3") for text in lines(app))
        first = next(index for index, text in enumerate(lines(app)) if text.startswith(" GPU 1"))
        assert "python 4711 (anna)" in "".join(lines(app)[first : first + 2])
        assert "more" not in "\n".join(lines(app)[:10])


@pytest.mark.parametrize("size", SIZES)
async def test_no_line_of_eight_cards_is_wider_than_the_screen(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    use(monkeypatch, busy(recorded("four-h100"), 8))
    app = deck()
    async with app.run_test(size=size) as pilot:
        await shows(pilot, "> demo", "GPU 1", "60.0 of 79.6")
        assert all(cell_len(text) <= size[0] for text in lines(app))
        assert ("more: engine probe" in screen_text(app)) == (size == (60, 16))
        if size == (80, 24):
            await shows(pilot, "8 × H100 80GB HBM3", "GPU 7", "anna")


@pytest.mark.parametrize("width", [56, 76, 118, 196])
@pytest.mark.parametrize("recording", ["mixed", "mig", "four-h100", "gb10", "lost", "unknown-card"])
@pytest.mark.parametrize("most", [2, 4, 10])
def test_machine_lines_keep_to_their_room(recorded: Recorded, recording: str, width: int, most: int) -> None:
    machine = recorded(recording)
    shown = machine_lines(machine, most, "", width).plain.splitlines()
    assert len(shown) <= most + bool(machine.notes)
    assert all(cell_len(text) <= width for text in shown)


def test_several_imagined_cards_say_that_a_run_uses_one() -> None:
    machine = fit.hypothetical_machine("RTX 4090", 4)
    first = machine_lines(machine, 4, "4 × NVIDIA GeForce RTX 4090", 78).plain.splitlines()[0]
    assert first == "what if: 4 × NVIDIA GeForce RTX 4090, empty; a run uses one (esc leaves)"


@pytest.mark.parametrize("width", [58, 70, 78, 118])
def test_the_device_is_never_cut_and_words_give_way_first(width: int) -> None:
    asked = fit.Requirements(max_length=16384)
    text = task_line(asked, "auto → GPU 0 MIG 3g.20gb #0", "12 of 68 fit", width).plain
    assert cell_len(text) == width
    assert "auto → GPU 0 MIG 3g.20gb #0" in text
    assert "16,384" in text
    assert ("12 of 68 fit" in text) == (width >= 70)


def test_the_shell_command_names_the_device(recorded: Recorded) -> None:
    machine = recorded("mig")
    asked = fit.Requirements(gpu_uuid=SMALL, device="cuda", max_length=512, goal="speed")
    plan = fit.plan_model(fit.resolve_model("demo"), machine, asked)
    assert fit_command(plan, asked, machine, "") == "engine fit demo --device 0:2 --context 512 --goal speed"
    assert fit_command(None, fit.Requirements(device="cpu"), machine, "") == "engine fit --device cpu"
    assert fit_command(None, fit.Requirements(), machine, "4 × NVIDIA H100 PCIe") == (
        "engine fit --gpu 'NVIDIA H100 PCIe' --count 4"
    )


async def test_a_copied_command_is_told_and_reaches_tmux(
    recorded: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tmux").write_text(f"#!/bin/sh\ncat > {tmp_path}/buffer\n")
    (tmp_path / "tmux").chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("TMUX", "socket,1,0")
    recorded("mixed")
    app = deck()
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await shows(pilot, "> demo", "auto → GPU 0")
        await choose(pilot, app, "GPU 1")
        await shows(pilot, " GPU 1 ", f" of {len(shipped_catalog()) + 1} fit")
        await pilot.press("Y")
        await shows(pilot, "copied, to tmux's buffer too: engine fit demo --device 1")
    assert (tmp_path / "buffer").read_text() == "engine fit demo --device 1"


def test_the_run_screen_names_the_card() -> None:
    estimate = {"card": "GPU 1", "device_name": "NVIDIA GeForce RTX 4090", "device_bytes": GIB}
    found = {"schema_version": 1, "settings": {"launch": {"device": "cuda"}}, "estimate": estimate}
    facts = make_facts("run", read_record_of(found))
    snapshot = RunSnapshot(facts, memory={"peak_reserved_bytes": GIB, "device_total_bytes": 24 * GIB})
    assert "GPU 1 GeForce RTX 4090" in job_line(snapshot).plain
    first = memory_lines(snapshot, 36).plain.splitlines()[0]
    assert first == "memory, GPU 1" + " " * 20 + "GiB"
    narrow = RunSnapshot(replace(facts, card="GPU 0 MIG 3g.20gb #0"), memory=snapshot.memory)
    assert all(cell_len(text) <= 28 for text in memory_lines(narrow, 28).plain.splitlines())


def test_a_run_of_before_says_what_it_can() -> None:
    run = make_run()
    facts = make_facts(run.id, runs.load_record(run.path))
    assert (facts.card, facts.device) == ("", "cuda")
