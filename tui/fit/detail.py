"""A plan in words: six lines for a small screen, everything for a wide one. Pure functions.

Drawn by `screens/fit.py` for the model under the cursor.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from textual.content import Content

from engine.api import fit as fit_api
from engine.api.fit import Choice, Plan, TrainingShape
from engine.text import format_count
from tui.charts.bars import Segment
from tui.charts.memory import FREE, MARGIN, OTHERS, memory_bar, memory_legend, room_segments, verdict_parts
from tui.text import Part, clip, fit, fit_right, gib, line, plan_device, safe


def _choice(plan: Plan, key: str) -> str:
    for choice in plan.choices:
        if choice.key == key:
            return safe(choice.reason)
    return ""


def checkpointing(shape: TrainingShape) -> str:
    """Activation checkpointing in words."""
    if shape.checkpoint_every == 0:
        return "checkpointing off"
    if shape.checkpoint_every > 1:
        return f"checkpointing every {shape.checkpoint_every} layers"
    kept = " with inputs in main memory" if shape.offload_inputs else " but attention" if shape.keep_attention else ""
    return f"checkpointing on{kept}"


def parameters(plan: Plan) -> str:
    """What is loaded, and how much of it is the text model where there is more."""
    loaded, towers = plan.estimate.total_parameters, plan.estimate.tower_parameters
    return f"{format_count(loaded)}, {format_count(loaded - towers)} of it text" if towers else format_count(loaded)


def short_detail(plan: Plan, width: int) -> Content:
    """Seven lines about a plan; those that say most about whether it fits come first."""
    shape, model, room = plan.shape, plan.model, fit_api.room_of(plan)
    facts = [parameters(plan), safe(model.licence), "gated" if model.gated else ""]
    facts += [f"trains {format_count(plan.estimate.trainable_parameters)}", "on this disk" if model.path else ""]
    storage = shape.quantization if shape.quantization != "none" else "not quantized"
    batch = f"{shape.micro_batch} × {shape.gradient_accumulation_steps} sequences of {shape.max_length:,}"
    verdict = [*verdict_parts(plan), "  "]
    lines = [
        line((safe(model.name), "bold"), ("  " + " · ".join(fact for fact in facts if fact), "dim")),
        line(*verdict, *memory_bar(room, max(0, min(_BAR_CELLS, width - line(*verdict).cell_length)))),
        line(*memory_legend(room, width)),
        line(f"{shape.compute_dtype}, {storage}: ", (_choice(plan, "quantization.method"), "dim")),
        line(f"{batch}: ", (_choice(plan, "train.per_device_train_batch_size"), "dim")),
        line(f"{checkpointing(shape)}: ", (_choice(plan, "train.activation_checkpointing"), "dim")),
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
_NAME_CELLS, _VALUE_CELLS, _TERM_CELLS = 14, 9, 23
_BAR_CELLS, _DETAIL_FROM = 100, 40


def _value(choice: Choice) -> str:
    if isinstance(choice.value, bool):
        return "on" if choice.value else "off"
    return safe(choice.value).removeprefix("adamw_")


def long_detail(plan: Plan, width: int) -> Content:
    """A plan in full: every term, what else would work, every choice with its reason."""
    facts = [
        parameters(plan),
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
    """The verdict, the memory bar, and a line for each of its parts."""
    room = fit_api.room_of(plan)
    lines = [line(("predicted  ", "bold"), *verdict_parts(plan)), line(*memory_bar(room, min(width, _BAR_CELLS)))]
    details = {safe(term.name): safe(term.detail) for term in room.terms} | _ends(plan)
    for one in room_segments(room):
        if one.amount:
            lines += _segment_lines(one, details.get(one.name, ""), width)
    return lines


def _ends(plan: Plan) -> dict[str, str]:
    """What the parts are that no term of the run names."""
    return {
        OTHERS: f"not free now on {plan_device(plan)}",
        MARGIN: "left for what others may take until the run starts",
        FREE: "stays free at the peak",
    }


def _segment_lines(one: Segment, words: str, width: int) -> list[Content]:
    head: list[Part] = [
        (one.glyph, one.style),
        (fit(f" {one.name}", _NAME_CELLS - 1), "dim"),
        fit_right(gib(one.amount, 2), 7),
    ]
    detail = textwrap.wrap(words, max(8, width - _TERM_CELLS)) if width >= _DETAIL_FROM else []
    below = [Content.styled(" " * _TERM_CELLS + more, "dim") for more in detail[1:]]
    return [line(*head, (f"  {detail[0]}" if detail else "", "dim")), *below]


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
