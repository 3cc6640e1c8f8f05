"""What the fit screen says: rows, machine lines and details as text; pure functions of plans and machine.

Drawn by `screens/fit.py`. Not here: probing and ranking.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from textual.content import Content

from engine.hardware.machine import Gpu, Machine
from engine.memory.shape import GIB, TrainingShape
from engine.recommend.plan import Choice, Plan, Requirements
from engine.text import format_bytes, format_count
from tui.text import VERDICT_STYLES, Part, bar, clip, fit, fit_right, gib, line, rate, safe, thin_bar

CONTEXTS = (None, 512, 1024, 2048, 4096, 8192, 16384, 32768)


@dataclass(frozen=True, slots=True)
class Columns:
    """Widths of the models table; 0 = the column is left out."""

    model: int
    how: int
    bar: int
    predicted: int
    rate: int


def columns(width: int) -> Columns:
    """Columns for a row of `width` characters (two go to the cursor's mark)."""
    if width < 62:
        how, bar_width, tokens = 10, 6, 0
    elif width < 74:
        how, bar_width, tokens = 10, 7, 8
    else:
        how, bar_width, tokens = 11, 12 if width < 100 else 20, 9
    predicted = 17
    return Columns(max(12, width - 2 - how - bar_width - predicted - tokens - 1), how, bar_width, predicted, tokens)


def heading(width: int) -> Content:
    """The names of the columns."""
    at = columns(width)
    text = fit("  model", at.model + 2) + fit("how", at.how) + fit("predicted", at.bar + 1 + at.predicted)
    text += fit_right("tokens/s", at.rate) if at.rate else ""
    return Content.styled(clip(text, width), "dim")


def how(shape: TrainingShape) -> str:
    """`LoRA bf16`, `QLoRA nf4`, `full fp32`."""
    if shape.method != "lora":
        return f"{shape.method} {shape.compute_dtype}"
    return f"LoRA {shape.compute_dtype}" if shape.quantization == "none" else f"QLoRA {shape.quantization}"


def short_model(name: str) -> str:
    """The model without its owner; the demo says what it is."""
    return "demo (built in, no download)" if name == "demo" else safe(name.rpartition("/")[2] or name)


def verdict_text(plan: Plan) -> str:
    """`OK     38.0 GiB`, `NO    +11.0 GiB`."""
    missing = -plan.headroom_bytes
    amount = (
        f"+{format_bytes(missing)}"
        if plan.verdict == "NO" and missing > 0
        else format_bytes(plan.estimate.device_bytes)
    )
    return f"{fit(plan.verdict, 6)}{fit_right(amount, 9)}"


def model_row(plan: Plan, width: int, current: bool) -> Content:
    """One line of the models table."""
    at = columns(width)
    style = VERDICT_STYLES[plan.verdict]
    share = plan.estimate.device_bytes / max(1, plan.available_bytes)
    cells: list[Part] = [
        ("> " if current else "  ", "bold"),
        fit(short_model(plan.model.name), at.model - 1) + " ",
        fit(how(plan.shape), at.how),
        *thin_bar(min(share, 1.0) if plan.verdict != "NO" else 1.0, at.bar, style),
        " ",
        (fit_right(verdict_text(plan), at.predicted), style),
        fit_right(rate(plan.tokens_per_second), at.rate),
    ]
    shown = line(*cells)
    return Content(shown.plain) if current else shown


def machine_height(machine: Machine, most: int, what_if: str) -> int:
    """Lines that `machine_lines` takes."""
    return machine_lines(machine, most, what_if, 80).plain.count("\n") + 1


def machine_lines(machine: Machine, most: int, what_if: str, width: int) -> Content:
    """The machine in at most `most` lines: one or two per GPU, or processor and memory."""
    lines = _gpu_lines(machine, width, most) if machine.gpus else _cpu_lines(machine, width)
    if what_if:
        text = f"what if: {what_if}, empty, not this machine (esc leaves)"
        lines.insert(0, Content.styled(clip(text, width), "$warning"))
    if len(lines) > most:
        lines = [*lines[: most - 1], Content.styled(f"… {len(lines) - most + 1} more: engine probe", "dim")]
    return Content("\n").join(lines)


def _gpu_lines(machine: Machine, width: int, most: int) -> list[Content]:
    lines: list[Content] = []
    for gpu in machine.gpus:
        lines.append(_gpu_line(gpu, width))
        if 2 * len(machine.gpus) <= most:
            lines.append(_holders_line(gpu, width))
    return lines


def _gpu_line(gpu: Gpu, width: int) -> Content:
    name = clip(safe(gpu.name).removeprefix("NVIDIA "), 24 if width >= 76 else 16)
    label = f"GPU {'–' if gpu.index is None else gpu.index}  {name}  "
    facts = [f"{gpu.temperature_c} °C" if gpu.temperature_c is not None else ""]
    facts += [f"{gpu.power_w:.0f} W" if gpu.power_w is not None else ""]
    facts += [f"{gpu.utilization_percent} %" if gpu.utilization_percent is not None else ""]
    tail = "  ".join(fact for fact in facts if fact)
    if gpu.total_bytes is None:
        return line(label, ("memory n/a", "dim"), "  ", tail)
    used = gpu.used_bytes if gpu.used_bytes is not None else gpu.total_bytes - (gpu.free_bytes or 0)
    amount = f"  {gib(used)} of {gib(gpu.total_bytes)} GiB"
    room = max(6, min(30, width - cell_len(label) - len(amount) - len(tail) - 3))
    return line((label[:6], "bold"), label[6:], *bar(used / gpu.total_bytes, room), amount, ("   " + tail, "dim"))


def _holders_line(gpu: Gpu, width: int) -> Content:
    held = sorted(gpu.processes, key=lambda process: -(process.used_bytes or 0))
    names = [
        f"{safe(process.name or 'process', 20)} {process.pid}"
        + (f" ({safe(process.user, 16)})" if process.user else "")
        + (f" {format_bytes(process.used_bytes)}" if process.used_bytes is not None else "")
        for process in held[:3]
    ]
    text = " · ".join(names) or ("; ".join(safe(note) for note in gpu.notes) if gpu.notes else "held by nobody")
    free = f"{gib(gpu.free_bytes)} GiB free"
    return line((fit(f"       {text}", width - len(free) - 1) + " " + free, "dim"))


def _cpu_lines(machine: Machine, width: int) -> list[Content]:
    cpu = machine.cpu
    used = machine.ram_total_bytes - machine.ram_available_bytes
    bf16 = "bf16 in hardware" if cpu.bf16_native else "no bf16 instructions"
    facts = f"{cpu.physical_cores} cores · {bf16}"
    amount = f"  {gib(used)} of {gib(machine.ram_total_bytes)} GiB   {gib(machine.ram_available_bytes)} GiB free"
    room = max(6, min(30, width - len(amount) - 6))
    lines = [
        line(("CPU   ", "bold"), clip(safe(cpu.name), max(8, width - len(facts) - 8)), ("  " + facts, "dim")),
        line(("RAM   ", "bold"), *bar(used / max(1, machine.ram_total_bytes), room), amount),
    ]
    notes = [note for note in machine.notes if note]
    return [*lines, Content.styled(clip(safe(notes[0]), width), "dim")] if notes else lines


def task_parts(requirements: Requirements, device: str) -> list[Part]:
    """What is asked for, with the key that changes each."""
    parts: list[Part] = []
    context = "auto" if requirements.max_length is None else f"{requirements.max_length:,}"
    for key, name, shown in (("c", "context", context), ("g", "goal", requirements.goal), ("d", "device", device)):
        parts += [(key, "bold $accent"), (f" {name} ", "dim"), shown, "   "]
    return parts


def _choice(plan: Plan, key: str) -> str:
    for choice in plan.choices:
        if choice.key == key:
            return safe(choice.reason)
    return ""


def checkpointing(shape: TrainingShape) -> str:
    """Activation checkpointing in words."""
    if shape.checkpoint_every == 0:
        return "checkpointing off"
    return "checkpointing on" if shape.checkpoint_every == 1 else f"checkpointing every {shape.checkpoint_every} layers"


def terms_parts(plan: Plan) -> list[Part]:
    """The terms of the estimate from the largest, in GiB."""
    parts: list[Part] = []
    for term in sorted(plan.estimate.terms, key=lambda term: -term.bytes):
        if term.bytes >= 0.005 * GIB or term.bytes * 100 > plan.estimate.device_bytes:
            parts += [(safe(term.name) + " ", "dim"), gib(term.bytes, 1), "  "]
    return parts


def short_detail(plan: Plan, width: int) -> Content:
    """Six lines about a plan."""
    shape, model = plan.shape, plan.model
    facts = [format_count(plan.estimate.total_parameters), safe(model.licence), "gated" if model.gated else ""]
    facts += [f"trains {format_count(plan.estimate.trainable_parameters)}", "on this disk" if model.path else ""]
    storage = shape.quantization if shape.quantization != "none" else "not quantized"
    batch = f"{shape.micro_batch} × {shape.gradient_accumulation_steps} sequences of {shape.max_length:,}"
    lines = [
        line((safe(model.name), "bold"), ("  " + " · ".join(fact for fact in facts if fact), "dim")),
        line(f"{shape.compute_dtype}, {storage}: ", (_choice(plan, "quantization.method"), "dim")),
        line(f"{batch}: ", (_choice(plan, "train.per_device_train_batch_size"), "dim")),
        line(f"{checkpointing(shape)}: ", (_choice(plan, "train.activation_checkpointing"), "dim")),
        line(f"{gib(plan.estimate.device_bytes)} of {gib(plan.available_bytes)} GiB free:  ", *terms_parts(plan)),
        line(("else  ", "dim"), " · ".join(safe(item) for item in plan.alternatives) or "–"),
    ]
    return Content("\n").join([item.truncate(width, ellipsis=True) for item in lines])


_NAMES = {
    "model.max_length": "context",
    "model.dtype": "precision",
    "quantization.method": "storage",
    "tuning.method": "method",
    "train.per_device_train_batch_size": "micro-batch",
    "train.gradient_accumulation_steps": "accumulate",
    "train.total_batch_size": "total batch",
    "train.activation_checkpointing": "checkpointing",
    "train.optim": "optimizer",
    "train.learning_rate": "rate",
    "launch.device": "device",
}
_NAME_CELLS, _VALUE_CELLS = 14, 9


def _value(choice: Choice) -> str:
    if isinstance(choice.value, bool):
        return "on" if choice.value else "off"
    return safe(choice.value).removeprefix("adamw_")


def long_detail(plan: Plan, width: int) -> Content:
    """A plan in full: every term, what else would work, every choice with its reason."""
    facts = [
        format_count(plan.estimate.total_parameters),
        safe(plan.model.licence),
        "gated" if plan.model.gated else "",
    ]
    shown = [
        Content.styled(clip(safe(plan.model.name), width), "bold"),
        Content.styled(" · ".join(fact for fact in facts if fact), "dim"),
        Content(""),
        *_prediction(plan, width),
        *_section("what else would work", plan.alternatives, width),
        Content(""),
        *(text for choice in plan.choices for text in _choice_lines(choice, width)),
        *_section("notes", plan.estimate.notes, width),
    ]
    return Content("\n").join([item.truncate(width, ellipsis=True) for item in shown])


def _prediction(plan: Plan, width: int) -> list[Content]:
    amount = f"{gib(plan.estimate.device_bytes)} of {gib(plan.available_bytes)} GiB free  "
    style = f"bold {VERDICT_STYLES[plan.verdict]}"
    lines = [line(("predicted  ", "bold"), amount, (plan.verdict, style))]
    for term in sorted(plan.estimate.terms, key=lambda term: -term.bytes):
        cells = round(term.bytes / max(1, plan.estimate.device_bytes) * 16)
        name, size = (fit(safe(term.name), 13), "dim"), fit_right(gib(term.bytes, 2), 6)
        detail = safe(term.detail) if width >= 56 else ""
        lines.append(line(name, size, " ", (fit("█" * cells, 17), "$accent"), (detail, "dim")))
    return lines


def _choice_lines(choice: Choice, width: int) -> list[Content]:
    name = fit(_NAMES.get(choice.key, choice.key.rpartition(".")[2]), _NAME_CELLS)
    indent = _NAME_CELLS + _VALUE_CELLS
    reason = textwrap.wrap(safe(choice.reason), max(16, width - indent)) or [""]
    first = line((name, "dim"), fit(_value(choice), _VALUE_CELLS), (reason[0], "dim"))
    return [first, *(Content.styled(" " * indent + more, "dim") for more in reason[1:])]


def _section(title: str, items: Sequence[str], width: int) -> list[Content]:
    lines = [more for item in items for more in textwrap.wrap(safe(item), max(20, width - 2), subsequent_indent="  ")]
    if not lines:
        return []
    return [Content(""), Content.styled(title, "bold"), *(Content.styled(text, "dim") for text in lines)]


def matches(plan: Plan, words: str) -> bool:
    """Whether every word is found in the model's name, how, verdict, family or uses."""
    model = plan.model
    text = " ".join((model.name, how(plan.shape), plan.verdict, model.family, model.licence, *model.use_cases)).lower()
    return all(word in text for word in words.lower().split())
