"""The cards in lines: memory by owner, who holds what. Pure functions.

Not here: which reading is shown (`screen.py`), reading it (`engine.hardware.loads`), gauges (`tui.charts.gauges`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from textual.content import Content

from engine.api import fit as fit_api
from engine.api.cards import CardLoad, GpuProcess, Loads, place_of
from engine.api.fit import Gpu
from tui.charts.bars import joined
from tui.charts.card_history import Place, used_bytes
from tui.text import Part, clip, fit, fit_right, gib, line, safe
from tui.widgets.lines import does

_BAR_CELLS = 8
"""Fewest that still show who holds what."""
_NORMAL, _WIDE = 76, 100
_AMOUNT_CELLS = 13
ORDERS = ("memory", "use", "card", "user")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a model or profile would take, to be drawn on top of what is taken now."""

    name: str
    device_bytes: int


@dataclass(frozen=True, slots=True)
class Holder:
    """A process on a card; `run` names the run of this user that it works on."""

    card: str
    place: Place
    process: GpuProcess
    busy_percent: int | None = None
    run: str = ""
    predicted_bytes: int | None = None

    @property
    def key(self) -> str:
        """The same for the same process at every look."""
        return f"{self.place} {self.process.pid}"


def card_row(load: CardLoad, wanted: Wanted | None, me: str, name_cells: int, width: int, current: bool) -> Content:
    """One card: name, memory by owner, figures; what slows it down last."""
    gpu, mark = load.gpu, ("> " if current else "  ")
    about = _about(gpu, width)
    parts: list[Part] = [
        (mark, "bold"),
        (fit(safe(fit_api.card_name(gpu)), name_cells), "dim" if load.hidden else "bold"),
    ]
    parts += [(about, "dim"), " "]
    room = width - line(*parts).cell_length
    if gpu.total_bytes is None or gpu.mig == "parent":
        words = "split into the slices below" if gpu.mig == "parent" else "; ".join(gpu.notes) or "memory n/a"
        text = line(*parts, (clip(safe(words, 400), room), "$warning"))
    else:
        figures, remark = _figures(load, width), _remark(load, width)
        cells = room - 2 - _AMOUNT_CELLS - cell_len(figures + remark)
        bar = owner_bar(gpu, wanted, me, max(_BAR_CELLS, min(40, cells)))
        amount = fit_right(f"{gib(used_bytes(gpu))} of {gib(gpu.total_bytes)}", _AMOUNT_CELLS)
        text = line(*parts, *bar, " ", amount, (figures, "dim"), (remark, "$warning"))
    text = text.truncate(width, ellipsis=True)
    return Content(text.plain) if current else text


def _about(gpu: Gpu, width: int) -> str:
    if width < _NORMAL or gpu.mig == "slice":
        return ""
    model = safe(fit_api.model_name(gpu.name)).removeprefix("GeForce ")
    return " " + fit(model, 11 if width < _WIDE else 22)


def _figures(load: CardLoad, width: int) -> str:
    """Use, heat and, where there is width, power: as wide on every line."""
    gpu = load.gpu
    facts = [(gpu.utilization_percent, "%", 6), (gpu.temperature_c, "°C", 7), (gpu.power_w, "W", 7)]
    told = facts if width >= _NORMAL else facts[:2]
    return "".join(fit_right("" if value is None else f"{value:.0f} {unit}", cells) for value, unit, cells in told)


def _remark(load: CardLoad, width: int) -> str:
    room = 26 if width >= _WIDE else 12 if width >= _NORMAL else 0
    return fit("  " + clip(why_slow(load), room - 2), room) if room else ""


def why_slow(load: CardLoad) -> str:
    """What keeps a card below its best, in a word or two; empty for nothing."""
    return ", ".join(load.slowed_by) or ("hidden (CUDA)" if load.hidden else "")


def owner_bar(gpu: Gpu, wanted: Wanted | None, me: str, cells: int) -> list[Part]:
    """Memory by owner: yours, others', what nobody is known to hold, free; a mark where `wanted` would end."""
    total = gpu.total_bytes or 1
    used = used_bytes(gpu) or 0
    mine = sum(process.used_bytes or 0 for process in gpu.processes if process.user == me)
    known = sum(process.used_bytes or 0 for process in gpu.processes)
    ends = [min(cells, round(cells * amount / total)) for amount in (mine, min(known, used), used)]
    if used and not ends[2]:
        ends[2] = 1
    styles = [("█", "$accent")] * ends[0] + [("▓", "$warning")] * (ends[1] - ends[0])
    styles += [("▒", "dim")] * (ends[2] - max(ends[:2])) + [("░", "dim")] * (cells - max(ends))
    if wanted is not None:
        at = (used + wanted.device_bytes) / total
        place = min(cells - 1, max(0, round(cells * at) - 1))
        styles[place] = ("┃", "$success" if at <= 1 else "$error")
    return list(joined(styles[:cells]))


def legend(wanted: Wanted | None, gpu: Gpu | None, width: int) -> Content:
    """What the marks of the bars mean, and whether what is wanted has room on the card under the cursor."""
    parts: list[Part] = [("█", "$accent"), " yours  ", ("▓", "$warning"), " others'  ", ("░", "dim"), " free"]
    if wanted is not None:
        free = gpu.free_bytes if gpu is not None else None
        name = clip(safe(wanted.name), max(8, width - 62))
        words = f" with {name}: {gib(wanted.device_bytes)} GiB"
        if free is not None:
            short = wanted.device_bytes - free
            words += f", {gib(short)} short" if short > 0 else ", has room"
        parts += ["  ", ("┃", "$success" if free is None or wanted.device_bytes <= free else "$error"), words]
    return line(*parts).truncate(width, ellipsis=True)


# Processes


def holders_of(loads: Loads, runs: dict[int, tuple[str, int | None]]) -> list[Holder]:
    """Every process on every card; `runs`: name and predicted bytes of the runs that processes work on."""
    found = []
    for load in loads.cards:
        name = safe(fit_api.card_name(load.gpu))
        for process in load.gpu.processes:
            run, predicted = runs.get(process.pid, ("", None))
            busy = load.busy_percent_of.get(process.pid)
            found.append(Holder(name, place_of(load.gpu), process, busy, run, predicted))
    return found


def ordered(holders: Sequence[Holder], order: str) -> list[Holder]:
    """By one of `ORDERS`; the largest first among equals."""

    def rank(one: Holder) -> tuple[object, ...]:
        memory = -(one.process.used_bytes or 0)
        first: dict[str, tuple[object, ...]] = {
            "use": (-(one.busy_percent or 0),),
            "card": (tuple(number if number is not None else -1 for number in one.place),),
            "user": (one.process.user or "~",),
        }
        return (*first.get(order, ()), memory, one.process.pid)

    return sorted(holders, key=rank)


def _card_cells(width: int) -> int:
    return 7 if width < _NORMAL else 10 if width < _WIDE else 22


def holders_heading(order: str, width: int) -> Content:
    """Heads of the columns; the one they are ordered by is marked, and a click orders by another."""
    heads = {"card": fit("card", _card_cells(width)), "user": fit("user", 11), "memory": fit_right("GiB", 7)}
    heads["use"] = fit_right("SM %", 6)

    def head(name: str) -> tuple[str, str]:
        style = "bold underline" if name == order else "dim"
        return heads[name], f"{style} {does('order_holders', ORDERS.index(name))}"

    return line(
        "  ", head("card"), " ", (fit("pid", 9), "dim"), head("user"), head("memory"), head("use"), ("  program", "dim")
    )


def holder_row(one: Holder, me: str, width: int, current: bool) -> Content:
    """A process: card, pid, user, memory, use, and the run it works on or its program."""
    process, mark = one.process, ("> " if current else "  ")
    own = process.user == me
    busy = "" if one.busy_percent is None else str(one.busy_percent)
    parts: list[Part] = [
        (mark, "bold"),
        (fit(one.card, _card_cells(width)), "dim"),
        " ",
        fit(str(process.pid), 9),
        (fit(safe(process.user or "?", 40), 11), "$accent" if own else ""),
        fit_right(gib(process.used_bytes), 7),
        fit_right(busy, 6),
        "  ",
    ]
    room = max(0, width - line(*parts).cell_length)
    predicted = f" of {gib(one.predicted_bytes)} GiB predicted" if one.predicted_bytes else ""
    what = f"run {one.run}{predicted}" if one.run else safe(process.name or "not visible from here", 80)
    text = line(*parts, (clip(what, room), "bold" if one.run else ""))
    return Content(text.plain) if current else text


def nothing_text(loads: Loads | None) -> Content:
    """In place of cards: why there are none."""
    if loads is None:
        return Content.styled("asking the driver …", "dim")
    notes = [safe(note, 400) for note in loads.notes] or ["the driver lists no GPU"]
    return Content("\n".join(notes))
