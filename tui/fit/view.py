"""What the fit screen says: rows, machine lines and details as text; pure functions of plans and machine.

Drawn by `screens/fit.py`. Not here: probing and ranking.
"""

from __future__ import annotations

import shlex
import textwrap
from dataclasses import dataclass

from rich.cells import cell_len
from textual.content import Content

from engine.api.fit import GIB, Machine, Plan, Requirements, method_words
from engine.text import format_bytes
from tui.fit.order import ORDERS
from tui.fit.ranking import AUTO, Ranking, chosen_key, devices
from tui.text import VERDICT_STYLES, Part, clip, fit, fit_right, line, plan_device, rate, safe, spread, thin_bar
from tui.widgets.lines import does

_LIMIT_WORDS = {"speed": "slow", "context": "over context", "main memory": "RAM too small"}
"""In a table, where a verdict comes from something else than the device's memory."""
TASKS = (None, "simple", "medium", "high", "extreme")
"""Complexity of what the model shall learn; None = not said."""
_AMOUNT = 9
"""Columns of an amount of memory."""
TASK_COMMANDS = ("task", "context", "goal", "device")
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
        how, bar_width, tokens = 10, 5, 8
    else:
        how, bar_width, tokens = 11, 10 if width < 100 else 20, 9
    predicted = 19
    return Columns(max(12, width - 2 - how - bar_width - predicted - tokens - 1), how, bar_width, predicted, tokens)


def heading(order: str, width: int) -> Content:
    """The names of the columns; an arrow marks the one that orders them, and a click orders by another."""
    at = columns(width)

    def head(name: str, cells: int, *, right: bool = False) -> Part:
        marked = name == order
        text = name + ("▼" if name == "tokens/s" else "▲") * marked
        again = 0 if marked else ORDERS.index(name)
        shown = fit_right(text, cells) if right else fit(text, cells)
        return shown, f"{'bold $accent' if marked else 'dim'} {does('order_models', again)}"

    parts = ["  ", head("model", at.model), (fit("how", at.how), "dim")]
    parts.append(head("predicted", at.bar + 1 + at.predicted))
    parts += [head("tokens/s", at.rate, right=True)] if at.rate else []
    return line(*parts).truncate(width, ellipsis=True)


def short_model(name: str) -> str:
    """The model without its owner; the demo says what it is."""
    return "demo (built in, no download)" if name == "demo" else safe(name.rpartition("/")[2] or name)


def verdict_text(plan: Plan) -> str:
    """`OK         38.0 GiB`, `TIGHT slow  8.5 GiB`, `NO        +11.0 GiB`, `NO     over context`."""
    missing = -plan.headroom_bytes
    if plan.verdict == "NO" and missing <= 0:
        return f"{plan.verdict} {fit_right(_LIMIT_WORDS.get(plan.limit, ''), 16)}"
    word, amount = f"{plan.verdict} {_LIMIT_WORDS.get(plan.limit, '')}", format_bytes(plan.estimate.device_bytes)
    if plan.verdict == "NO":
        amount = f"+{format_bytes(missing)}"
        amount = amount if len(amount) <= _AMOUNT else f"+{missing / GIB:.0f} GiB"
    return f"{fit(word, 10)}{fit_right(amount, _AMOUNT)}"


def model_row(plan: Plan, width: int, current: bool) -> Content:
    """One line of the models table."""
    at = columns(width)
    style = VERDICT_STYLES[plan.verdict]
    share = plan.estimate.device_bytes / max(1, plan.available_bytes)
    cells: list[Part] = [
        ("> " if current else "  ", "bold"),
        fit(short_model(plan.model.name), at.model - 1) + " ",
        fit(method_words(plan.shape), at.how),
        *thin_bar(min(share, 1.0) if plan.verdict != "NO" else 1.0, at.bar, style),
        " ",
        (fit_right(verdict_text(plan), at.predicted), style),
        fit_right(rate(plan.tokens_per_second), at.rate),
    ]
    shown = line(*cells)
    return Content(shown.plain) if current else shown


def device_words(requirements: Requirements, machine: Machine | None, ranking: Ranking | None) -> str:
    """The device that plans are for; of `auto` also which one that is."""
    chosen = chosen_key(requirements)
    if chosen == AUTO:
        plan = ranking.plans[0] if ranking and ranking.plans and ranking.machine.gpus else None
        return f"auto → {plan_device(plan)}" if plan else AUTO
    found = [one.name for one in devices(machine) if one.key == chosen] if machine else []
    return found[0] if found else "not here"


def task_line(requirements: Requirements, device: str, count: str, width: int) -> Content:
    """What is asked for, with the key that changes each, and how many models fit; words give way first."""
    tries = [(named, right) for right in (count, "") for named in (4, 3, 2, 1, 0)]
    for named, right in tries:
        parts = _task_parts(requirements, device, named)
        if line(*parts).cell_length + cell_len(right) < width:
            return spread(parts, [(right, "dim")], width)
    return spread(parts, [], width)


def _task_parts(requirements: Requirements, device: str, named: int) -> list[Part]:
    """The first `named` of the four with their names."""
    parts: list[Part] = []
    context = "auto" if requirements.max_length is None else f"{requirements.max_length:,}"
    task = requirements.complexity or "any"
    asked = (("t", "task", task), ("c", "context", context), ("o", "goal", requirements.goal), ("d", "device", device))
    for index, (key, name, shown) in enumerate(asked):
        words = f" {name} " if index < named else " "
        click = does(TASK_COMMANDS[index])
        parts += [("  " if parts else "", ""), (key, f"bold $accent {click}"), (words, f"dim {click}"), (shown, click)]
    return parts


def fit_command(plan: Plan | None, requirements: Requirements, machine: Machine | None, what_if: str) -> str:
    """The shell command that answers the same."""
    words = ["engine fit", shlex.quote(plan.model.name) if plan else ""]
    count, _, card = what_if.partition(" × ")
    if what_if:
        words += [f"--gpu {shlex.quote(card)}", f"--count {count}" if count != "1" else ""]
    words += [_device_option(requirements, machine)]
    words += [f"--context {requirements.max_length}" if requirements.max_length else ""]
    words += [f"--complexity {requirements.complexity}" if requirements.complexity else ""]
    words += [f"--goal {requirements.goal}" if requirements.goal != Requirements().goal else ""]
    return " ".join(word for word in words if word)


def _device_option(requirements: Requirements, machine: Machine | None) -> str:
    chosen = chosen_key(requirements)
    gpu = next((one.gpu for one in devices(machine) if one.key == chosen), None) if machine else None
    if gpu is None or gpu.index is None:
        return "" if chosen == AUTO else f"--device {chosen}"
    return f"--device {gpu.index}" + ("" if gpu.mig_index is None else f":{gpu.mig_index}")


def looking_line(width: int) -> Content:
    """Before the machine is known."""
    return Content.styled("looking at the machine …", "dim")


def none_found_line(width: int) -> Content:
    """In place of the heading: a filter that nothing meets."""
    return Content.styled("  no model has these words", "dim")


def told_line(problem: str, width: int) -> Content:
    """What is wrong, in a line."""
    return Content.styled(clip(safe(problem), width), "$warning")


def told_whole_line(problem: str, width: int) -> Content:
    """What is wrong, in as many lines as it takes."""
    return Content("\n").join([Content.styled(text, "$warning") for text in textwrap.wrap(safe(problem, 600), width)])


def nothing_line(width: int) -> Content:
    """No model is highlighted."""
    return Content("")
