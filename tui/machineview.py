"""The machine in a few lines: GPUs with their holders, or processor and memory. Pure functions."""

from __future__ import annotations

from rich.cells import cell_len
from textual.content import Content

from engine.api import Gpu, Machine
from engine.text import format_bytes
from tui.text import bar, clip, fit, gib, line, safe


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
    name = clip(safe(gpu.name).removeprefix("NVIDIA "), 24 if width >= 76 else 14)
    label = f"GPU {'–' if gpu.index is None else gpu.index}  {name}  "
    facts = [f"{gpu.temperature_c} °C" if gpu.temperature_c is not None else ""]
    facts += [f"{gpu.power_w:.0f} W" if gpu.power_w is not None else ""]
    facts += [f"{gpu.utilization_percent} %" if gpu.utilization_percent is not None else ""]
    tail = _that_fit([fact for fact in facts if fact], width - cell_len(label) - 6 - 20 - 3)
    if gpu.total_bytes is None:
        return line(label, ("memory n/a", "dim"), "  ", tail)
    used = gpu.used_bytes if gpu.used_bytes is not None else gpu.total_bytes - (gpu.free_bytes or 0)
    amount = f"  {gib(used)} of {gib(gpu.total_bytes)} GiB"
    room = max(6, min(30, width - cell_len(label) - len(amount) - len(tail) - 3))
    return line((label[:6], "bold"), label[6:], *bar(used / gpu.total_bytes, room), amount, ("   " + tail, "dim"))


def _that_fit(facts: list[str], room: int) -> str:
    """As many facts as there is room for, the first ones first."""
    while facts and len("  ".join(facts)) > room:
        facts = facts[:-1]
    return "  ".join(facts)


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
