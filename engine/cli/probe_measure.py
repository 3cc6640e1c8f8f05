"""`engine probe --measure`, and what was measured before, in lines. The measuring is `engine.measure.device`'s."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from engine.cli.common import note
from engine.hardware.capabilities import usable_gpus
from engine.hardware.cards import card_title
from engine.hardware.machine import Machine
from engine.speed.measured import DtypeRates, MeasuredRates, load_rates
from engine.text import sanitize

_INDENT = " " * 13
Measured = Sequence[tuple[str, MeasuredRates]]


def measure_all(machine: Machine) -> None:
    """Measure every usable GPU and the processor, one after the other. Raises EngineError(ENVIRONMENT)."""
    from engine.measure.device import measure_device

    for gpu in (*usable_gpus(machine), None):
        note(f"measuring {card_title(gpu) if gpu else machine.cpu.name} …")
        measure_device(gpu, machine)


def measured_devices(machine: Machine) -> Measured:
    """Devices that were measured with the software installed now, by name."""
    devices = [
        (card_title(gpu) if gpu else machine.cpu.name, load_rates(gpu, machine)) for gpu in (*machine.gpus, None)
    ]
    return [(name, rates) for name, rates in devices if rates is not None]


def measured_lines(found: Measured, columns: int) -> Iterator[str]:
    """A paragraph for each device."""
    for name, rates in found:
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
