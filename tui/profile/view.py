"""What the profile screen says: the state of each row, the prediction, findings as lines. Pure functions."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from textual.content import Content

from engine.api import fit as fit_api
from engine.api.fit import Plan, method_words
from engine.api.profiles import RunTime, time_words
from engine.errors import Problem
from tui.charts.memory import glyph_of, memory_bar, memory_legend, verdict_parts
from tui.documents import document
from tui.text import Part, clip, fit, gib, line, plan_device, rate, safe, spread

if TYPE_CHECKING:
    from engine.api.profiles import FieldSpec
    from tui.documents.form import Form, Preview

INDENT_CELLS, LABEL_CELLS, VALUE_CELLS = 2, 25, 23
MESSAGE_LINES, MOST_MESSAGE_LINES = 2, 8
"""Lines of what is wrong below a row; more where the keyboard is, with what to do."""
_NORMAL = 76
_NAME_CELLS = 24
"""Columns that the name of the profile keeps in the first line."""
GROUPS = {
    "": "profile",
    "quantization": "storage",
    "lora": "LoRA",
    "train": "training",
}
LABELS = {
    "quantization.method": "quantization",
    "tuning.method": "tuning method",
    "sweep.method": "search method",
    "sweep.seed": "search seed",
    "export.dtype": "export dtype",
    "data.max_samples": "data max samples",
    "data.datasets.0.max_samples": "file max samples",
    "evaluate.max_samples": "evaluate max samples",
    "evaluate.batch_size": "evaluate batch size",
    "train.per_device_train_batch_size": "micro-batch",
    "train.gradient_accumulation_steps": "accumulation steps",
    "train.activation_checkpointing": "checkpointing",
    "train.early_stopping_patience": "early stopping",
    "train.load_best_model_at_end": "keep the best",
    "train.dataloader_num_workers": "loader processes",
    "train.lr_scheduler_type": "schedule",
    "train.num_train_epochs": "epochs",
}
SOURCE_STYLES = {"edited": "$warning", "override": "$warning"}


@dataclass(frozen=True, slots=True)
class RowState:
    """What one row shows."""

    label: str
    value: str
    source: str
    """`auto: reason`, `profile`, `default` or `edited`."""
    style: str = "dim"
    message: str = ""
    """What is wrong, below the row."""
    severity: str = "$error"
    remedy: str = ""
    """What to do about it: shown where the keyboard is."""


def label_of(spec: FieldSpec) -> str:
    """The short name of a setting; no two settings share one."""
    parts = spec.key.split(".")
    if parts[:2] != ["data", "datasets"] or parts[2] == "0":
        return safe(LABELS.get(spec.key, spec.label))
    first = LABELS.get(".".join(["data", "datasets", "0", *parts[3:]]))
    return safe(f"{first} {int(parts[2]) + 1}" if first else spec.label)


def group_of(spec: FieldSpec) -> str:
    """The name of a setting's table."""
    return GROUPS.get(spec.table, spec.table)


def row_state(spec: FieldSpec, form: Form, found: Preview) -> RowState:
    """Value and provenance of a setting, from edits, file and what it resolved to."""
    resolved: Mapping[str, Any] = found.provenance.get(spec.key, {})
    given = form.given(spec.key)
    edited = spec.key in form.edits
    if given is not None and given != "auto":
        value, source = given, _given_source(resolved, edited)
    else:
        value = resolved.get("value", spec.default)
        source = _source(spec, resolved, edited)
    style = SOURCE_STYLES.get(source.partition(":")[0], "dim")
    shown = safe(document.value_text(value)) or "–"
    return RowState(label_of(spec), shown, source, style, *_finding(spec.key, found))


def _given_source(resolved: Mapping[str, Any], edited: bool) -> str:
    """Who gave the value, and what it names."""
    reason = "" if resolved.get("source") == "auto" else safe(resolved.get("reason") or "")
    return ("edited" if edited else "profile") + (f": {reason}" if reason else "")


def _source(spec: FieldSpec, resolved: Mapping[str, Any], edited: bool) -> str:
    reason = safe(resolved.get("reason") or "")
    if resolved.get("source") == "auto" or (not resolved and spec.auto):
        return f"auto: {reason}" if reason else "auto"
    return "edited: left out" if edited else "default"


def _finding(key: str, found: Preview) -> tuple[str, str, str]:
    """What is wrong with a setting, how much, and what to do about it."""
    for problems, severity in ((found.problems, "$error"), (found.warnings, "$warning")):
        for problem in problems:
            if problem.key == key:
                nearest = f"{problem.hint} " if problem.hint.startswith("did you mean") else ""
                message = safe(nearest + problem.message.removeprefix(f"{key}: "), 600)
                return message, severity, "" if nearest else safe(problem.hint, 600)
    return "", "$error", ""


def row_content(state: RowState, width: int, focused: bool = False) -> Content:
    """A row: mark, label, value, source; a message below when there is one."""
    width -= 1
    left = width - INDENT_CELLS - LABEL_CELLS
    source = clip(state.source, max(8, left - 10))
    room = max(VALUE_CELLS, left - len(source) - 2)
    value = clip(state.value, room - 2)
    cells = max(VALUE_CELLS if width >= 76 else 14, len(value) + 2)
    rest = clip(state.source, max(0, left - cells))
    shown = line(
        (">" if focused else " ", "bold $accent"),
        " " * INDENT_CELLS,
        (fit(state.label, LABEL_CELLS), "bold" if focused else "dim"),
        fit(value, cells),
        (rest, state.style),
    )
    indent = INDENT_CELLS + 3
    room = max(20, width - indent)
    lines = _some_lines(state.message, room, MOST_MESSAGE_LINES if focused else MESSAGE_LINES)
    if focused and state.remedy:
        lines += _some_lines(f"→ {state.remedy}", room, MOST_MESSAGE_LINES)
    below = [Content.styled(" " * indent + text, state.severity) for text in lines]
    return Content("\n").join([shown, *below])


def _some_lines(text: str, width: int, most: int) -> list[str]:
    """A text on at most `most` lines, with a sign where there is more of it."""
    return textwrap.wrap(text, width, max_lines=most, placeholder=" …")


def answer_parts(plan: Plan | None, problems: int, checking: bool, width: int = 80) -> list[Part]:
    """Does it fit, and on what? The right end of the first line."""
    if plan is None:
        return [("checking …" if checking else f"{problems} to settle before it can be predicted", "dim")]
    whole = verdict_parts(plan, f" on {plan_device(plan)}")
    return whole if line(*whole).cell_length + _NAME_CELLS < width else verdict_parts(plan)


def memory_lines(plan: Plan | None, time: RunTime | None, width: int) -> Content:
    """The prediction as a bar of its terms against the device, the terms by name, and how long the run would take."""
    if plan is None:
        return Content("\n")
    room = fit_api.room_of(plan)
    facts = [f"{method_words(plan.shape)} on {safe(plan.device_title, 40)}", f"{rate(plan.tokens_per_second)} tokens/s"]
    told = [*facts, time_words(time)]
    least = cell_len(_longest(told[-1:], width // 2)) + 2 if width >= _NORMAL else 0
    legend = memory_legend(room, width - least)
    tail = _longest(told, width - line(*legend).cell_length - 1)
    return Content("\n").join([line(*memory_bar(room, width)), spread(legend, [(tail, "dim")], width)])


def _longest(facts: list[str], room: int) -> str:
    """As many of `facts` as there is room for, the last ones first; the last also without what is in brackets."""
    known = [fact for fact in facts if fact]
    tries = [" · ".join(known[index:]) for index in range(len(known))]
    tries += [known[-1].partition(" (")[0]] if known else []
    return next((text for text in tries if len(text) < room), "")


def diff_content(lines: list[str]) -> Content:
    """A difference, lines added and taken away marked by their first character and a colour."""
    styles = {"+": "$success", "-": "$error", "@": "$accent"}
    shown = [Content.styled(safe(text, 400), styles.get(text[:1], "")) for text in lines]
    return Content("\n").join(shown) if shown else Content.styled("nothing differs", "dim")


def hint(spec: FieldSpec, completes: bool = False) -> Content:
    """What a setting is, and what it takes; whether `tab` completes what is typed there now."""
    default = document.value_text(spec.default)
    words = "" if spec.kind == "text" else safe(document.allowed(spec), 200)
    words += f", in {safe(spec.unit)}" if spec.unit else ""
    words += f"; default {safe(default)}" if default and default != "auto" else ""
    tab: list[Part] = [("tab", "bold $accent"), " completes  "] if completes else []
    return line((f"{spec.key}  ", "bold"), *tab, safe(spec.description, 400), (f"  {words}", "dim"))


def section_hint(title: str, labels: Sequence[str]) -> Content:
    """What a section holds."""
    return line((f"{safe(title)}  ", "bold"), "enter opens or folds it  ", (", ".join(labels), "dim"))


def field_help(spec: FieldSpec, form: Form, found: Preview) -> Content:
    """A setting in full: what it is, what it takes, what it is now and why."""
    state = row_state(spec, form, found)
    default = document.value_text(spec.default)
    rows = [("is", state.value), ("from", state.source), ("takes", safe(document.allowed(spec), 300))]
    rows += [("unit", safe(spec.unit))] if spec.unit else []
    rows += [("default", safe(default))] if default else []
    rows += [("needed", "it has to be given")] if spec.required else []
    rows += [("problem", state.message)] if state.message else []
    rows += [("to do", state.remedy)] if state.remedy else []
    lines = [Content(safe(spec.description, 600))]
    return Content("\n").join([*lines, *(line((fit(f"  {name}", 11), "dim"), text) for name, text in rows)])


def finding_line(problem: Problem, warning: bool, width: int, current: bool) -> Content:
    """A line of the problems list."""
    where = problem.key or problem.where
    message = problem.message.removeprefix(f"{where}: ")
    text = f"{message} - {problem.hint}" if problem.hint else message
    word, style = ("warning", "$warning") if warning else ("problem", "$error")
    shown = line((f"{word}  ", style), (f"{safe(where, 60)}  ", "bold"), safe(text, 500)).truncate(width, ellipsis=True)
    return Content(shown.plain) if current else shown


def finding_text(problem: Problem) -> Content:
    """A finding in full: what, where, what to do."""
    rows = [("problem", problem.message), ("where", problem.key or ""), ("in", problem.where or "")]
    rows.append(("to do", problem.hint or ""))
    return Content("\n").join(line((fit(name, 9), "dim"), safe(text, 2000)) for name, text in rows if text)


def side_content(plan: Plan | None, found: Preview, width: int) -> Content:
    """The right column of a wide screen: terms, findings in full."""
    parts: list[Part] = []
    if plan is not None:
        parts.append(("predicted, GiB\n", "bold"))
        for term in sorted(plan.estimate.terms, key=lambda term: -term.bytes):
            parts += [glyph_of(term.name), (fit(f" {safe(term.name)}", 14), "dim"), f"{gib(term.bytes, 2):>6}\n"]
            parts += [(f"  {text}\n", "dim") for text in textwrap.wrap(safe(term.detail), max(10, width - 2))]
        parts.append("\n")
    for problem in found.findings:
        style = "$error" if problem in found.problems else "$warning"
        parts += [(safe(problem.key or problem.where) + "\n", f"bold {style}")]
        for text in (problem.message, problem.hint):
            parts += [f"  {wrapped}\n" for wrapped in textwrap.wrap(safe(text, 600), max(10, width - 2))]
    return line(*parts)
