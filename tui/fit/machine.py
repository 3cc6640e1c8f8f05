"""The machine in a few lines: GPUs with their holders, or processor and memory. Pure functions."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from rich.cells import cell_len
from textual.content import Content

from engine.api import fit as fit_api
from engine.api.fit import Gpu, Machine
from engine.text import format_bytes
from tui.text import Part, bar, clip, fit, gib, line, safe, thin_bar

_CELL = 26
"""Columns that a card takes at least where several share a line."""
_BAR_AND_WORDS = 14
NOTE_CHARACTERS = 600
_LINES_WITH_TITLE = 3
"""Lines from which on a further one may say what all the cards are."""


def machine_height(machine: Machine, most: int, what_if: str, width: int) -> int:
    """Lines that `machine_lines` takes."""
    return machine_lines(machine, most, what_if, width).plain.count("\n") + 1


def machine_lines(machine: Machine, most: int, what_if: str, width: int) -> Content:
    """The machine in `most` lines: its GPUs, or processor and memory; what is wrong with it may take one more."""
    above = [Content.styled(clip(_what_if_text(what_if, len(machine.gpus)), width), "$warning")] if what_if else []
    room = most - len(above)
    if not machine.gpus:
        notes = _note_lines(machine, width, 1 if most < _LINES_WITH_TITLE else 2)
        return Content("\n").join([*above, *_cpu_lines(machine, width), *notes])
    notes = [] if what_if or most < _LINES_WITH_TITLE else _note_lines(machine, width, 1)
    # The note takes the place of a card's second line, never that of a card.
    room -= len(notes) if len(fit_api.listed_gpus(machine)) < room else 0
    return Content("\n").join([*above, *_gpu_lines(machine, width, room, bool(what_if)), *notes])


def _note_lines(machine: Machine, width: int, most: int) -> list[Content]:
    """The first of the machine's notes on `most` lines; when it is cut or there are more, the key that reads them."""
    notes = [safe(note, NOTE_CHARACTERS) for note in machine.notes if note]
    if not notes:
        return []
    lines = textwrap.wrap(notes[0], max(20, width))
    if len(lines) > most or len(notes) > 1:
        words = f" (? reads {'it' if len(notes) == 1 else f'all {len(notes)}'})"
        last = " ".join(lines[most - 1 :])
        lines = [*lines[: most - 1], clip(last, width - len(words)) + words]
    return [Content.styled(text, "$warning" if machine.gpus else "dim") for text in lines]


def notes_content(machine: Machine) -> Content:
    """All that the machine's driver and system said that a run may stumble over, whole."""
    notes = [safe(note, NOTE_CHARACTERS) for note in machine.notes if note]
    notes += [f"{fit_api.card_name(gpu)}: {safe(note, NOTE_CHARACTERS)}" for gpu in machine.gpus for note in gpu.notes]
    return line(("this machine\n", "bold"), *(f"  {note}\n" for note in notes)) if notes else Content("")


def _what_if_text(what_if: str, cards: int) -> str:
    place = "empty; a run uses one" if cards > 1 else "empty, not this machine"
    return f"what if: {what_if}, {place} (esc leaves)"


def _gpu_lines(machine: Machine, width: int, most: int, named: bool) -> list[Content]:
    """Two lines a card where there is room, else one with who holds most of it, else several cards a line.

    `named`: what the cards are is told already.
    """
    cards = fit_api.listed_gpus(machine)
    if 2 * len(cards) <= most:
        return [text for gpu in cards for text in (_gpu_line(gpu, width), _holders_line(gpu, width))]
    if len(cards) <= most:
        return [_gpu_line(gpu, width, held=True) for gpu in cards]
    return [*_grid_title(cards, width, most, named), *_grid(cards, width, most)]


def _gpu_line(gpu: Gpu, width: int, *, held: bool = False) -> Content:
    name, model = safe(fit_api.card_name(gpu)), safe(fit_api.model_name(gpu.name))
    model = clip(model, 24 if width >= 76 and gpu.mig != "slice" else 14 if width >= 76 or gpu.mig != "slice" else 0)
    label = f"{name}  {model}  " if model else f"{name}  "
    room = width - cell_len(label) - 6 - 20 - 3
    facts = [next((text for text in _holder(gpu) if held and cell_len(text) <= room), "")]
    facts += [f"{gpu.temperature_c} °C" if gpu.temperature_c is not None else ""]
    facts += [f"{gpu.power_w:.0f} W" if gpu.power_w is not None else ""]
    facts += [f"{gpu.utilization_percent} %" if gpu.utilization_percent is not None else ""]
    tail = _that_fit([fact for fact in facts if fact], room)
    if gpu.total_bytes is None:
        return line((name, "bold"), label[len(name) :], ("memory n/a", "dim"), "  ", tail)
    used = _used(gpu)
    amount = f"  {gib(used)} of {gib(gpu.total_bytes)} GiB"
    room = max(6, min(30, width - cell_len(label) - len(amount) - cell_len(tail) - 3))
    shown = ("   " + tail, "dim") if tail else ""
    text = line((name, "bold"), label[len(name) :], *bar(used / gpu.total_bytes, room), amount, shown)
    return text.truncate(width, ellipsis=True)


def _used(gpu: Gpu) -> int:
    return gpu.used_bytes if gpu.used_bytes is not None else (gpu.total_bytes or 0) - (gpu.free_bytes or 0)


def _holder(gpu: Gpu) -> tuple[str, ...]:
    """Who holds most of a card, in full and in short; nothing for a free one."""
    top = max(gpu.processes, key=lambda process: process.used_bytes or 0, default=None)
    if top is None:
        return ()
    name, user = safe(top.name or "process", 20), safe(top.user or "", 16)
    return f"{name} {top.pid}" + (f" ({user})" if user else ""), user or name


def _is_alike(cards: Sequence[Gpu]) -> bool:
    return len({gpu.name for gpu in cards}) == 1


def _grid_title(cards: Sequence[Gpu], width: int, most: int, named: bool) -> list[Content]:
    """What the cards all are, unless that is told already or there is no room for it."""
    if named or most < _LINES_WITH_TITLE or not _is_alike(cards):
        return []
    title = f"{len(cards)} × {safe(fit_api.model_name(cards[0].name))}, GiB in use; a run uses one"
    return [Content.styled(clip(title, width), "dim")]


def _grid(cards: Sequence[Gpu], width: int, most: int) -> list[Content]:
    """Several cards a line; how many are left out in place of the last."""
    columns = min(max(1, width // _CELL), -(-len(cards) // max(1, most)))
    cells = width // columns
    shown = [_cell(gpu, cells - 2, named=not _is_alike(cards)) for gpu in cards[: columns * most]]
    if len(shown) < len(cards):
        shown[-1] = Content.styled(fit(f"… {len(cards) - len(shown) + 1} more: engine probe", cells - 2), "dim")
    rows = [shown[start : start + columns] for start in range(0, len(shown), columns)]
    return [Content("  ").join(row) for row in rows]


def _cell(gpu: Gpu, cells: int, *, named: bool) -> Content:
    """A card in exactly `cells` columns."""
    name = safe(fit_api.card_name(gpu))
    about = safe(fit_api.model_name(gpu.name)).removeprefix("GeForce ") if named and gpu.mig != "slice" else ""
    about = about or next(iter(_holder(gpu)[1:]), "")
    amount = f" {gib(_used(gpu))} of {gib(gpu.total_bytes)}" if gpu.total_bytes else " n/a"
    room = cells - cell_len(name) - len(amount) - 1
    words = f" {clip(about, room - 7)}" if about and room >= _BAR_AND_WORDS else ""
    room = max(0, room - cell_len(words))
    share = _used(gpu) / gpu.total_bytes if gpu.total_bytes else 0.0
    parts: list[Part] = [(name, "bold"), " ", *thin_bar(share, room, "$accent"), amount, (words, "dim")]
    text = line(*parts)
    return text.truncate(cells, ellipsis=True) if text.cell_length > cells else text.pad_right(cells - text.cell_length)


def _that_fit(facts: list[str], room: int) -> str:
    """As many facts as there is room for, the first ones first."""
    while facts and cell_len("  ".join(facts)) > room:
        facts = facts[:-1]
    return "  ".join(facts)


def _holders_line(gpu: Gpu, width: int) -> Content:
    free = f"{gib(gpu.free_bytes)} GiB free"
    return line((fit(f"       {holders_text(gpu)}", width - len(free) - 1) + " " + free, "dim"))


def holders_text(gpu: Gpu) -> str:
    """Who holds a card, the largest first; without anybody what there is to say about it."""
    held = sorted(gpu.processes, key=lambda process: -(process.used_bytes or 0))
    names = [
        f"{safe(process.name or 'process', 20)} {process.pid}"
        + (f" ({safe(process.user, 16)})" if process.user else "")
        + (f" {format_bytes(process.used_bytes)}" if process.used_bytes is not None else "")
        for process in held[:3]
    ]
    return " · ".join(names) or ("; ".join(safe(note) for note in gpu.notes) if gpu.notes else "held by nobody")


def _cpu_lines(machine: Machine, width: int) -> list[Content]:
    cpu = machine.cpu
    used = machine.ram_total_bytes - machine.ram_available_bytes
    bf16 = "bf16 in hardware" if cpu.bf16_native else "no bf16 instructions"
    facts = f"{cpu.physical_cores} cores · {bf16}"
    amount = f"  {gib(used)} of {gib(machine.ram_total_bytes)} GiB   {gib(machine.ram_available_bytes)} GiB free"
    room = max(6, min(30, width - len(amount) - 6))
    return [
        line(("CPU   ", "bold"), clip(safe(cpu.name), max(8, width - len(facts) - 8)), ("  " + facts, "dim")),
        line(("RAM   ", "bold"), *bar(used / max(1, machine.ram_total_bytes), room), amount),
    ]
