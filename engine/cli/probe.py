"""`engine probe`: print this machine as text or JSON, and measure its devices. `engine.hardware` probes it."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Iterator, Sequence

import click

from engine.cli.common import json_option, line, note, print_json, width
from engine.hardware.capabilities import best_dtype, usable_gpus
from engine.hardware.cards import card_name, card_title, model_name
from engine.hardware.machine import Gpu, GpuProcess, Machine
from engine.hardware.probe import probe_machine
from engine.speed.measured import DtypeRates, MeasuredRates, load_rates
from engine.text import format_bytes, sanitize

_BAR_CELLS = 20
_LABEL_COLUMNS = 13
_PROCESSES_SHOWN = 5


@click.command()
@click.option("--measure", is_flag=True, help="Measure the speed of each device: some seconds each, needs torch.")
@json_option
def probe(measure: bool, as_json: bool) -> None:
    """Show this machine: GPUs, processor, memory, disk, and why a device cannot be used.

    --measure times matrix products of training sizes on each usable device; 'engine fit' and the deck use these
    figures from then on.
    """
    machine = probe_machine()
    if measure:
        measure_all(machine)
    devices = measured_devices(machine)
    if as_json:
        measured = [{"device": name, **dataclasses.asdict(rates)} for name, rates in devices]
        print_json({**dataclasses.asdict(machine), "measured": measured})
        return
    for text in machine_lines(machine, width()):
        line(text)
    for text in measured_lines(devices, width()):
        line(text)


def machine_lines(machine: Machine, columns: int) -> Iterator[str]:
    """The whole report, no line longer than `columns` (at least 40)."""
    columns = max(40, min(columns, 100))
    yield from _wrapped("Machine", _versions(machine), columns)
    for gpu in machine.gpus:
        yield from _gpu_lines(machine, gpu, columns)
    if not machine.gpus:
        yield from _wrapped("GPU", "none usable: training runs on the processor", columns)
    elif not usable_gpus(machine):
        yield from _wrapped("GPU", "none reports its free memory: training runs on the processor", columns)
    yield from _host_lines(machine, columns)
    for remark in machine.notes:
        yield from _wrapped("Note", remark, columns)


def _versions(machine: Machine) -> str:
    parts = [machine.hostname]
    if machine.driver_version:
        cuda = machine.cuda_driver_version
        parts.append(f"driver {machine.driver_version}" + (f" (CUDA {cuda[0]}.{cuda[1]})" if cuda else ""))
    parts.append(f"torch {machine.torch_version}" if machine.torch_version else "no torch")
    return ", ".join(parts)


def _gpu_lines(machine: Machine, gpu: Gpu, columns: int) -> Iterator[str]:
    label = "GPU" if gpu.index is None else f"GPU {gpu.index}"
    yield from _wrapped(label, _what(gpu), columns)
    yield from _wrapped("  memory", _gpu_memory(gpu), columns)
    if gpu.compute_capability is not None and gpu.mig != "parent":
        yield from _wrapped("  precision", best_dtype(machine, gpu)[1], columns)
    for label, text in (("  peak", _rates(gpu)), ("  now", _sensors(gpu)), ("  uuid", gpu.uuid or "")):
        if text:
            yield from _wrapped(label, text, columns)
    yield from _holder_lines(gpu.processes, columns)
    for remark in gpu.notes:
        yield from _wrapped("  note", remark, columns)


def _what(gpu: Gpu) -> str:
    """The card's name; for a slice, label and text together are the name that other commands use."""
    if gpu.mig == "slice":
        return f"{card_name(gpu).removeprefix(f'GPU {gpu.index} ')} of {model_name(gpu.name)}"
    return gpu.name + (" (split into MIG slices)" if gpu.mig == "parent" else "")


def _gpu_memory(gpu: Gpu) -> str:
    if gpu.total_bytes is None or gpu.free_bytes is None:
        return "unknown"
    taken = gpu.total_bytes - gpu.free_bytes
    reserved = f", driver {format_bytes(gpu.reserved_bytes)}" if gpu.reserved_bytes else ""
    shared = " (shared with the processor)" if gpu.unified_memory else ""
    free = f"{format_bytes(gpu.free_bytes)} free of {format_bytes(gpu.total_bytes)}{shared}"
    return f"{_bar(taken, gpu.total_bytes)} {free}, {format_bytes(gpu.used_bytes)} used{reserved}"


def _rates(gpu: Gpu) -> str:
    parts = []
    if gpu.tensor_flops:
        parts.append(f"{gpu.tensor_flops / 1e12:.0f} TFLOPS in 16 bit")
    if gpu.memory_bandwidth_bytes_s:
        parts.append(f"{gpu.memory_bandwidth_bytes_s / 1e9:.0f} GB/s")
    if gpu.multiprocessors:
        parts.append(f"{gpu.multiprocessors} multiprocessors")
    return ", ".join(parts)


def _sensors(gpu: Gpu) -> str:
    parts = []
    if gpu.power_w is not None:
        parts.append(f"{gpu.power_w:.0f}" + (f" of {gpu.power_limit_w:.0f} W" if gpu.power_limit_w else " W"))
    if gpu.temperature_c is not None:
        parts.append(f"{gpu.temperature_c} °C")
    if gpu.utilization_percent is not None:
        parts.append(f"{gpu.utilization_percent} % busy")
    return ", ".join(parts)


def _holder_lines(processes: tuple[GpuProcess, ...], columns: int) -> Iterator[str]:
    for process in processes[:_PROCESSES_SHOWN]:
        who = f" of {process.user}" if process.user else ""
        held = format_bytes(process.used_bytes) if process.used_bytes else "an unknown amount"
        yield from _wrapped("  held by", f"{process.name or 'process'} ({process.pid}){who}: {held}", columns)
    more = len(processes) - _PROCESSES_SHOWN
    if more > 0:
        yield from _wrapped("  held by", f"{more} more", columns)


def _host_lines(machine: Machine, columns: int) -> Iterator[str]:
    cpu = machine.cpu
    cores = "core" if cpu.physical_cores == 1 else "cores"
    threads = "thread" if cpu.logical_cores == 1 else "threads"
    text = f"{cpu.name}, {cpu.physical_cores} {cores}, {cpu.logical_cores} {threads}; {best_dtype(machine, None)[1]}"
    yield from _wrapped("Processor", text, columns)
    used = machine.ram_total_bytes - machine.ram_available_bytes
    free = f"{format_bytes(machine.ram_available_bytes)} free of {format_bytes(machine.ram_total_bytes)}"
    yield from _wrapped("Memory", f"{_bar(used, machine.ram_total_bytes)} {free}", columns)
    yield from _wrapped("Disk", f"{format_bytes(machine.disk_free_bytes)} free at {machine.disk_path}", columns)


def _bar(used_bytes: int, total_bytes: int) -> str:
    """`[####......]`: any use fills at least one cell; only full memory fills all."""
    share = used_bytes / total_bytes if total_bytes else 0.0
    cells = min(_BAR_CELLS, max(int(share * _BAR_CELLS), 1 if used_bytes else 0))
    return f"[{'#' * cells}{'.' * (_BAR_CELLS - cells)}]"


def _wrapped(label: str, text: str, columns: int) -> list[str]:
    return textwrap.wrap(
        sanitize(text, single_line=True),
        columns,
        initial_indent=label.ljust(_LABEL_COLUMNS),
        subsequent_indent=" " * _LABEL_COLUMNS,
        break_long_words=False,
        break_on_hyphens=False,
    ) or [label]


_INDENT = " " * 13
Measured = Sequence[tuple[str, MeasuredRates]]


def measure_all(machine: Machine) -> None:
    """Measure every usable GPU and the processor, one after the other. Raises EngineError(ENVIRONMENT)."""
    from engine.measure.device import measure_device

    for gpu in (*usable_gpus(machine), None):
        note(f"measuring {card_title(gpu) if gpu else machine.cpu.name} …")
        measure_device(gpu, machine)


def measured_devices(machine: Machine) -> Measured:
    """Names and rates of devices measured with the software that is installed now."""
    devices = [
        (card_title(gpu) if gpu else machine.cpu.name, load_rates(gpu, machine)) for gpu in (*machine.gpus, None)
    ]
    return [(name, rates) for name, rates in devices if rates is not None]


def measured_lines(devices: Measured, columns: int) -> Iterator[str]:
    """A paragraph for each device."""
    for name, rates in devices:
        parts = [_dtype_text(dtype, known) for dtype, known in rates.dtypes.items()]
        parts.append(f"memory {rates.bandwidth_bytes_s / 1e9:.0f} GB/s")
        threads = f" ({rates.threads} thread{'s' if rates.threads > 1 else ''})" if _on_processor(rates) else ""
        yield from textwrap.wrap(
            f"{sanitize(name, single_line=True)}{threads} on {rates.date}: {', '.join(parts)}",
            max(40, min(columns, 100)),
            initial_indent="Measured".ljust(len(_INDENT)),
            subsequent_indent=_INDENT,
        )


def _dtype_text(dtype: str, known: DtypeRates) -> str:
    rates = sorted({f"{rate / 1e12:.2g}" for _, rate in known.products}, key=float)
    return f"{dtype} {' to '.join(dict.fromkeys((rates[0], rates[-1])))} TFLOPS"


def _on_processor(rates: MeasuredRates) -> bool:
    return any(known.value_s for known in rates.dtypes.values())
