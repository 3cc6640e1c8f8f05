"""Fit, profile and run screens as plain text at four sizes, on a fixed machine, fixed plans and a recorded run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from engine.errors import Problem
from engine.hardware.machine import Machine
from engine.memory.shape import MemoryEstimate, Term, TrainingShape
from engine.models.spec import ModelSpec
from engine.recommend.plan import Choice, Plan
from tests.tui.conftest import CPU_MACHINE, GIB, SIZES, attached, deck, make_run, record, screen_text, shows, until
from tests.tui.golden import same_as
from tui.documents.form import Form, Preview
from tui.fit import ranker
from tui.fit.ranking import Ranking
from tui.profile import form_pane, prediction
from tui.run.commands import RemediesState

TIMES = re.compile(r"\d\d:\d\d:\d\d")


def plan(name: str, gib: float, verdict: str, quantization: str = "none", tokens: float | None = 4100.0) -> Plan:
    """A plan made by hand: no engine's figures can move it."""
    spec = ModelSpec(name, "qwen3", 4096, 12288, 36, 32, 8, 128, 151936, 40960, licence="apache-2.0")
    shape = TrainingShape(micro_batch=2, max_length=4096, gradient_accumulation_steps=8, quantization=quantization)
    parts = (("weights", 0.45, "8.19 B in bf16"), ("activations", 0.4, "2 x 4,096 tokens"), ("loss", 0.15, "chunks"))
    terms = tuple(Term(part, int(gib * GIB * share), detail) for part, share, detail in parts)
    size = int(gib * GIB)
    estimate = MemoryEstimate(terms, size, size, size, "layer", 43_646_976, 8_190_735_360)
    choices = (
        Choice("model.dtype", "bf16", "the card is Ampere"),
        Choice("quantization.method", quantization, "bf16 LoRA fits and is 1.3 x faster"),
        Choice("train.per_device_train_batch_size", 2, "fastest that fits 79.0 GiB"),
        Choice("train.activation_checkpointing", False, "activations fit"),
    )
    others = ("checkpointing on: 20.0 GiB OK, 0.72 x the speed",) if verdict != "NO" else ("nf4: 24.0 GiB OK",)
    fixed = spec, shape, "A100-SXM4-80GB", 1, 79 * GIB, estimate, tokens, verdict, choices
    return Plan(*fixed, card="GPU 1", alternatives=others, free_bytes=int(79.5 * GIB), total_bytes=80 * GIB)


PLANS = (
    plan("Qwen/Qwen3-8B", 38.0, "OK"),
    plan("Qwen/Qwen3-14B", 62.0, "OK"),
    plan("Qwen/Qwen3-32B", 74.0, "TIGHT", "nf4", 1500.0),
    plan("meta-llama/Llama-3.3-70B-Instruct", 90.0, "NO", "nf4", None),
)
TEXT = '[model]\nname_or_path = "Qwen/Qwen3-8B"\n\n[lora]\nr = 32\n\n[[data.datasets]]\npath = "rows.jsonl"\n'


def compare(name: str, size: tuple[int, int], text: str) -> None:
    """Hold a screen against its picture, times left out."""
    same_as(f"{name}-{size[0]}x{size[1]}", TIMES.sub("hh:mm:ss", text))


@pytest.mark.parametrize("size", SIZES)
async def test_fit(size: tuple[int, int], gpu_machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranker, "rank", lambda machine, asked, name="": Ranking(machine, PLANS, name))
    monkeypatch.setattr(ranker, "explain", lambda one, machine, asked: one)
    app = deck()
    async with app.run_test(size=size) as pilot:
        await shows(pilot, "> Qwen3-8B", "3 of 4 fit")
        await pilot.press("down", "down")
        await shows(pilot, "> Qwen3-32B")
        await pilot.pause(0.2)
        compare("fit", size, screen_text(app))


@pytest.mark.parametrize("size", SIZES)
async def test_profile(size: tuple[int, int], place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    warning = Problem("64 halves the adapter's weight", "usual is r or 2 r", key="lora.alpha")
    known = {"model.dtype": {"value": "bf16", "source": "auto", "reason": "the card is Ampere"}}
    known["train.max_steps"] = {"value": 400, "source": "profile"}
    found = Preview((), (warning,), known, PLANS[0])
    monkeypatch.setattr(prediction, "_preview", lambda text, form, machine: found)
    kept = ("model", "quantization", "lora", "data", "train")
    fields = [spec for spec in form_pane.form_fields(Form(place / "x.toml", TEXT)) if spec.table in kept]
    monkeypatch.setattr(form_pane, "form_fields", lambda form: _some(fields))
    app = deck()
    app.deck.form, app.deck.machine = Form(place / "support-bot.toml", TEXT, on_disk=True), CPU_MACHINE
    async with app.run_test(size=size) as pilot:
        await pilot.press("2")
        await shows(pilot, "support-bot.toml", "OK", "max length")
        await pilot.press("f", "down", "down")
        await pilot.pause(0.2)
        compare("profile", size, screen_text(app))


def _some(fields: list[Any]) -> list[Any]:
    """Settings that will stay, so that new ones do not change the picture."""
    keys = "model.name_or_path model.max_length model.dtype quantization.method lora.r lora.alpha lora.dropout "
    keys += "data.datasets.0.path train.learning_rate train.num_train_epochs train.max_steps"
    return [spec for spec in fields if spec.key in keys.split()]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("state", ["run", "failed"])
async def test_run(state: str, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.runs.events import EventWriter

    run = make_run()
    record(run, 200, 400, "" if state == "failed" else "completed")
    if state == "failed":
        writer = EventWriter(run.events_path)
        writer.write("error", code="data", message="rows.jsonl: 2 problems", hint="mend them")
        writer.write("finished", outcome="failed", step=200, exit_code=3, seconds=4400)
    monkeypatch.setattr("tui.run.remedy_pane.short_path", lambda path: f"RUN/{path.name}")
    app = attached(run)
    async with app.run_test(size=size) as pilot:
        await shows(pilot, "step 200 of 400", "failed" if state == "failed" else "┤")
        await until(pilot, lambda: state == "run" or app.deck.of(RemediesState).remedies is not None)
        await pilot.pause(0.2)
        compare(state, size, screen_text(app))
