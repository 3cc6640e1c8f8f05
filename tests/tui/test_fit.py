"""Screen 1 at every size: machine, ranked models, reasons, what-if, filter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len

from engine.api import fit
from engine.hardware.machine import Machine
from tests.tui.conftest import GIB, GPU_MACHINE, SIZES, deck, screen_text, shows, until
from tui.fit.estimate import EstimateScreen
from tui.fit.filter import matches, parse_filter
from tui.fit.machine import machine_lines
from tui.fit.ranking import devices, imagine, rank
from tui.fit.screen import FitScreen
from tui.fit.view import columns, fit_command, heading, model_row
from tui.widgets.dialogs import Ask


@pytest.mark.parametrize("size", SIZES)
async def test_machine_and_models_are_shown(size: tuple[int, int], gpu_machine: Machine) -> None:
    app = deck()
    async with app.run_test(size=size) as pilot:
        await shows(pilot, "1 Fit", "A100-SXM4-80GB", "demo (built in", "Qwen", "OK", "? help")
        text = screen_text(app)
        assert all(cell_len(line) <= size[0] for line in text.splitlines())
        assert len(text.splitlines()) == size[1]
        if size[1] >= 24:
            assert "22.0 of 80.0 GiB" in text
            assert "python 4711 (anna) 20.0 GiB" in text
            assert "gpu-box-7 · driver 580.95" in text
            assert "38 °C" in text
        if size[0] >= 120:
            await shows(pilot, "what else would work")


async def test_without_gpu_processor_and_memory_are_shown(cpu_machine: Machine) -> None:
    app = deck()
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, "Some CPU", "16.0 of 64.0 GiB", "no NVIDIA driver", "LoRA bf16")


async def test_a_tiny_terminal_says_so_and_recovers(cpu_machine: Machine) -> None:
    app = deck()
    async with app.run_test(size=(59, 15)) as pilot:
        await shows(pilot, "too small: 59x15", "needs 60x16")
        await pilot.resize_terminal(80, 24)
        await shows(pilot, "demo (built in")
        assert "too small" not in screen_text(app)


async def test_cursor_moves_the_details(gpu_machine: Machine) -> None:
    app = deck()
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, "> demo", "trains 286,720")
        await pilot.press("down")
        await until(pilot, lambda: app.deck.plan is not None and app.deck.plan.model.name != "demo")
        assert app.deck.plan is not None
        await shows(pilot, f"{app.deck.plan.model.licence} · trains")
        await until(pilot, lambda: "else  –" not in screen_text(app))


async def test_filter_shows_only_matches_and_escape_clears(gpu_machine: Machine) -> None:
    app = deck()
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, "> demo")
        await pilot.press("slash", *"smollm2 135")
        await shows(pilot, "> SmolLM2-135M-Instruct")
        assert "> demo" not in screen_text(app)
        await pilot.press("enter", "escape")
        await shows(pilot, "> SmolLM2-135M-Instruct", "gemma-3-270m-it")
        await pilot.press("home")
        await shows(pilot, "> demo")
        await pilot.press("slash", *"zzz")
        await shows(pilot, "no model has these words")


async def test_context_and_goal_rank_anew(gpu_machine: Machine) -> None:
    app = deck()
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, "context auto", "goal quality")
        await pilot.press("c", "o")
        await shows(pilot, "context 512", "goal speed", "sequences of 512")
        order = [plan.model.name for plan in app.screen.ranker.ranking.plans]  # type: ignore[attr-defined]
        await pilot.press("t")
        await shows(pilot, "task simple")
        await until(pilot, lambda: [plan.model.name for plan in app.screen.ranker.ranking.plans] != order)  # type: ignore[attr-defined]


async def test_plans_that_keep_their_order_are_the_new_ones(
    gpu_machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing moves in a list of two when something else is asked."""
    real, model = fit.rank_models, fit.resolve_model("Qwen/Qwen3-8B")
    monkeypatch.setattr(fit, "rank_models", lambda machine, asked: real(machine, asked, [model]))
    app = deck()
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, "> demo", "2 of 2 fit")
        await pilot.press("down")
        await until(pilot, lambda: app.deck.plan is not None and app.deck.plan.model.name == model.name)
        await pilot.press("c")
        await until(pilot, lambda: app.deck.plan is not None and app.deck.plan.shape.max_length == 512)


async def test_what_if_card_replaces_the_machine_until_escape(cpu_machine: Machine) -> None:
    app = deck()
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, "> demo")
        await pilot.press("w", *"no such card", "enter")
        await shows(pilot, "no card named 'no such card' is known")
        await pilot.press("escape", "w", *"2 x RTX 4090", "enter")
        await shows(pilot, "what if: 2 × ", "4090", "nf4")
        await pilot.press("escape")
        await shows(pilot, "Some CPU")
        assert "what if" not in screen_text(app)


async def test_the_memory_that_is_planned_for_is_told_in_a_small_window(cpu_machine: Machine) -> None:
    app = deck()
    async with app.run_test(size=(60, 16), notifications=True) as pilot:
        await shows(pilot, "> demo")
        await pilot.press("w", *"2 x RTX 5060 Ti", "enter")
        await shows(pilot, "comes with 8 and 16 GB")


async def test_enter_asks_for_data_and_makes_a_profile(gpu_machine: Machine, place: Path) -> None:
    (place / "train.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    app = deck()
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, "> demo")
        await pilot.press("down", "p")
        assert isinstance(app.screen, Ask)
        await pilot.press(*"nothing.jsonl", "enter")
        await shows(pilot, "there is no file")
        await pilot.press("ctrl+u", *"train.jsonl", "enter")
        await until(pilot, lambda: app.deck.form is not None)
        form = app.deck.form
        assert form is not None
        assert form.dirty
        assert form.given("data.datasets.0.path") == "train.jsonl"
        await shows(pilot, ".toml *")


async def test_rows_follow_what_a_run_measured(cpu_machine: Machine, tmp_path: Path) -> None:
    app = deck()
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, "> demo", "OK")
        screen = app.screen
        assert isinstance(screen, FitScreen)
        before = screen.ranker.ranking
        screen._look()
        await pilot.pause(0.1)
        assert screen.ranker.ranking is before
        measured = tmp_path / "state" / "tunedeck" / "calibration" / "cpu.json"
        measured.parent.mkdir(parents=True)
        measured.write_text("{}")
        screen._look()
        await until(pilot, lambda: screen.ranker.ranking is not before)


@pytest.mark.parametrize("width", [56, 64, 76, 120])
def test_rows_and_headings_line_up(width: int) -> None:
    ranking = rank(GPU_MACHINE, fit.Requirements())
    lines = [model_row(plan, width, index == 0) for index, plan in enumerate(ranking.plans)]
    assert {line.cell_length for line in lines} == {width}
    at = columns(width)
    how = 2 + at.model
    assert heading("rank", width).plain[how : how + 3] == "how"
    assert all(line.plain[how : how + 4] in ("LoRA", "QLoR", "full") for line in lines)


def test_a_refusal_says_how_far_off_it_is() -> None:
    machine, name = imagine("T4")
    assert name.startswith("1 × ")
    refused = next(plan for plan in rank(machine, fit.Requirements()).plans if plan.verdict == "NO")
    text = model_row(refused, 80, False).plain
    assert "NO" in text
    assert "+" in text
    for missing, words in ((11.04, "+11.0 GiB"), (129.8, "+130 GiB"), (5557.1, "+5557 GiB")):
        far = replace(refused, available_bytes=refused.estimate.device_bytes - round(missing * GIB))
        assert words in model_row(far, 80, False).plain


@pytest.mark.parametrize("text", ["2 x RTX 4090", "2xRTX 4090", "RTX 4090 x2", "2 RTX 4090"])
def test_imagined_cards_are_as_many_in_the_title_and_the_command(text: str) -> None:
    machine, name = imagine(text)
    assert len(machine.gpus) == 2
    assert name == "2 × NVIDIA GeForce RTX 4090"
    assert fit_command(None, fit.Requirements(), machine, name).endswith("--count 2")


def test_many_gpus_are_cut_with_a_word() -> None:
    machine, _ = imagine("8 x H100")
    text = machine_lines(machine, 2, "", 58).plain
    assert len(text.splitlines()) == 2
    assert "5 more" in text


def test_unknown_fields_of_a_gpu_show_as_not_known() -> None:
    from dataclasses import replace

    bare = replace(GPU_MACHINE.gpus[0], total_bytes=None, used_bytes=None, temperature_c=None, power_w=None)
    text = machine_lines(replace(GPU_MACHINE, gpus=(bare,)), 4, "", 80).plain
    assert "n/a" in text


def test_devices_offer_each_gpu_and_the_processor() -> None:
    assert [one.name for one in devices(GPU_MACHINE)] == ["auto", "GPU 0", "GPU 1", "CPU"]
    assert GIB == 2**30


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("mem<24", lambda plan: plan.estimate.device_bytes < 24 * GIB),
        ("size>=7b", lambda plan: plan.estimate.total_parameters >= 7e9),
        ("ctx>=32k", lambda plan: plan.model.max_position_embeddings >= 32 * 1024),
        ("tok>2000", lambda plan: (plan.tokens_per_second or 0) > 2000),
        ("first<0.5", lambda plan: plan.latency is not None and plan.latency.first_token_s < 0.5),
        ("qwen ok", lambda plan: "qwen" in plan.model.name.lower() and plan.verdict == "OK"),
        ("-gated -no", lambda plan: not plan.model.gated and "no" not in plan.verdict.lower()),
        ("size<2b mem>8", lambda plan: plan.estimate.total_parameters < 2e9 and plan.estimate.device_bytes > 8 * GIB),
    ],
)
def test_a_filter_keeps_what_meets_the_requirement(text: str, holds: Callable[[fit.Plan], bool]) -> None:
    plans = rank(GPU_MACHINE, fit.Requirements()).plans
    kept = [plan for plan in plans if matches(plan, parse_filter(text))]
    assert kept
    assert all(holds(plan) for plan in kept)
    if not text.startswith(("qwen", "-")):
        assert kept == [plan for plan in plans if holds(plan)]


@pytest.mark.parametrize("wrong", ["vram<24", "mem<", "mem<x", "size>7q", "=3"])
def test_a_requirement_that_is_none_is_told(wrong: str) -> None:
    assert "mem, size, ctx, tok or first" in parse_filter(wrong).problem


async def test_a_filter_says_how_many_are_shown_and_what_is_wrong(gpu_machine: Machine) -> None:
    app = deck()
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, "> demo")
        await pilot.press("slash", *"mem<1 ")
        await shows(pilot, "1 shown")
        await pilot.press(*"vram<3")
        await shows(pilot, "'vram<3' is no requirement")


async def test_enter_shows_the_estimate_term_by_term(gpu_machine: Machine, place: Path) -> None:
    app = deck()
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, "> demo")
        await pilot.press("slash", *"llama-3.1-8b-ins")
        await shows(pilot, "> Llama-3.1-8B-Instruct")
        await pilot.press("enter", "enter")
        await shows(pilot, "predicted", "weights", "activations", "enter make a profile   esc back")
        await pilot.press("end")
        await shows(pilot, "checkpointing")
        await pilot.press("escape")
        await shows(pilot, "> Llama-3.1-8B-Instruct")
        await pilot.press("escape")
        await shows(pilot, "Qwen")
        await pilot.press("home", "enter", "enter")
        await until(pilot, lambda: app.current_mode == "profile")


async def test_an_answer_that_comes_before_the_estimate_is_shown_breaks_nothing(cpu_machine: Machine) -> None:
    app = deck()
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.deck.plan is not None)
        plan = app.deck.plan
        assert plan is not None
        screen = EstimateScreen(plan)
        screen.explained(plan)
        app.push_screen(screen)
        screen.explained(plan)
        await shows(pilot, "make a profile", plan.model.name)
