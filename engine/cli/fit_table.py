"""The table of `engine fit`: the machine, and a line with a memory bar for each ranked model, in 80 columns.

Not here: one model in detail (`fit_detail.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

import click

from engine.cli.common import line, table, width
from engine.hardware.cards import card_name, listed_gpus, model_name
from engine.hardware.machine import Gpu, Machine
from engine.memory.shape import method_words
from engine.recommend.plan import Plan
from engine.text import format_bytes, format_duration

_NAME_WIDTH = 31
_SLICE_MODEL = 12
_LATE = " late"
_HEADER = ("Model", "How", "Memory", "Fits", "Needs", "tok/s")


def show_table(plans: Sequence[Plan], tokens: int | None = None) -> None:
    """Print a line per model; with `tokens` the last column is the time to train on them."""
    header = (*_HEADER[:-1], "time") if tokens else _HEADER
    width = _NAME_WIDTH - len(_LATE) * any(_is_late(plan) for plan in plans)
    for text in table([_row(plan, tokens, width) for plan in plans], header=header, right=(4, 5)):
        line(text)
    if any(plan.speed_rough and plan.verdict != "NO" for plan in plans):
        line("~ rough: nobody measured or published this speed; try 'engine probe --measure'")


def _is_late(plan: Plan) -> bool:
    return plan.verdict != "NO" and not plan.answers_in_time


def _row(plan: Plan, tokens: int | None, width: int) -> list[str]:
    short = plan.model.name.rstrip("/").rpartition("/")[2]
    name = short if len(short) <= width else short[: width - 1] + "…"
    missing = plan.headroom_bytes < 0
    needs = f"+{format_bytes(-plan.headroom_bytes)}" if missing else format_bytes(plan.estimate.device_bytes)
    last = duration(plan, tokens) if tokens else speed(plan)
    return [name, method_words(plan.shape), bar(plan, 8), plan.verdict + _LATE * _is_late(plan), needs, last]


def speed(plan: Plan) -> str:
    """Tokens per second, with `~` if rough; a dash if it does not fit or the speed is unknown."""
    rate = plan.tokens_per_second
    return "–" if rate is None or plan.verdict == "NO" else f"{'~' * plan.speed_rough}{rate:,.0f}"


def duration(plan: Plan, tokens: int) -> str:
    """Time to train on `tokens`, marked like `speed`."""
    seconds = plan.training_time_s(tokens)
    return "–" if seconds is None or plan.verdict == "NO" else f"{'~' * plan.speed_rough}{format_duration(seconds)}"


def bar(plan: Plan, cells: int) -> str:
    """Share of the usable memory that a plan takes, as a bar; a shade of its own if it does not fit."""
    if plan.headroom_bytes < 0 or plan.available_bytes <= 0:
        return "▓" * cells
    filled = max(1, round(cells * plan.estimate.device_bytes / plan.available_bytes))
    return "█" * filled + "░" * (cells - filled)


def machine_lines(machine: Machine, plans: Sequence[Plan]) -> list[str]:
    """Devices, free memory, the processes that hold the rest, and the device of the plans."""
    from engine.recommend.budget import available_bytes, holders

    lines = []
    for gpu in listed_gpus(machine):
        memory = _free_memory(gpu.free_bytes, gpu.total_bytes, available_bytes(machine, gpu))
        named = " (named)" if gpu.hypothetical else ""
        lines.append(f"{card_name(gpu)}  {_model(gpu)}{named}  {memory}")
        if gpu.hypothetical and gpu.notes and gpu == listed_gpus(machine)[0]:
            lines += [f"       {text}" for text in click.wrap_text(gpu.notes[0], width() - 8).split("\n")]
        if gpu.processes:
            lines.append(f"       held by {holders(gpu.processes)}")
    if not plans or plans[0].device_index is None:
        usable = available_bytes(machine, None)
        if not machine.gpus:
            lines.append("GPU  none usable ('engine probe' says why)")
        lines.append(f"CPU  {machine.cpu.name}, {machine.cpu.physical_cores} cores")
        lines.append(f"RAM  {_free_memory(machine.ram_available_bytes, machine.ram_total_bytes, usable)}")
        lines.append("     practical for small models only; TIGHT here also means under 30 tokens/s")
    if len(listed_gpus(machine)) > 1:
        card = plans[0].card if plans else ""
        lines.append("a run uses one GPU" + (f": {card} here" if card else ""))
    return lines


def _model(gpu: Gpu) -> str:
    """The card's model; shortened for a slice, whose name is long."""
    model = model_name(gpu.name)
    return model if gpu.mig != "slice" or len(model) <= _SLICE_MODEL else model[: _SLICE_MODEL - 1] + "…"


def _free_memory(free: int | None, total: int | None, usable: int) -> str:
    return f"{format_bytes(free)} of {format_bytes(total)} free, {format_bytes(usable)} to use"
