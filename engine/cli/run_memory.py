"""Predicted against measured memory of a run, as `engine runs show` tells it.

From the run's `calibration` event; a run that ended before its second step, or that an older engine made, has
none, and its last `memory` event has to do. Not here: taking measurements (`engine.measure.calibrate`).
"""

from __future__ import annotations

import textwrap
from typing import Any

from engine.cli.common import table
from engine.runs.record import Prediction
from engine.runs.view import RunFold, amount
from engine.text import format_bytes

_NAMES = {
    "cuda": {
        "allocated_bytes": "allocated",
        "reserved_bytes": "reserved",
        "context_bytes": "context",
        "device_bytes": "device",
    },
    "cpu": {"context_bytes": "libraries", "device_bytes": "resident"},
}
_PHASES = ("load", "check", "evaluate", "forward", "backward", "optimizer")


def memory_facts(fold: RunFold, predicted: Prediction) -> dict[str, Any]:
    """Bytes promised and taken of the same thing, the widest one; with all of them and the phases where known."""
    told = fold.calibration
    if not told:
        return _from_samples(fold, predicted)
    promised, measured = told["predicted"], told["measured"]
    widest = next(
        (name for name in ("device_bytes", "reserved_bytes") if promised.get(name) and measured.get(name)), ""
    )
    return {
        **_compare(promised.get(widest), measured.get(widest)),
        "stage": told.get("stage"),
        "device": told.get("device"),
        "predicted": promised,
        "measured": measured,
        "error_percent": told.get("error_percent"),
        "phases": told.get("phases"),
    }


def _from_samples(fold: RunFold, predicted: Prediction) -> dict[str, Any]:
    memory = fold.last_memory
    on_card = "peak_reserved_bytes" in memory
    promised = predicted.reserved_bytes if on_card else predicted.device_bytes
    return _compare(promised, memory.get("peak_reserved_bytes" if on_card else "host_rss_bytes"))


def _compare(predicted: Any, measured: Any) -> dict[str, Any]:
    error = (predicted / measured - 1) if predicted and measured else None
    return {"predicted_bytes": predicted, "measured_bytes": measured, "relative_error": error}


def memory_lines(facts: dict[str, Any]) -> list[str]:
    """The comparison as lines: a table where there is a measurement, else one line."""
    if "measured" not in facts:
        measured, predicted = format_bytes(facts["measured_bytes"]), format_bytes(facts["predicted_bytes"])
        error = facts["relative_error"]
        return [f"memory   measured {measured}, predicted {predicted}" + ("" if error is None else f" ({error:+.1%})")]
    names = _NAMES.get(str(facts["device"]), _NAMES["cuda"])
    rows = [_row(label, name, facts) for name, label in names.items()]
    header = ("memory ", "predicted", "measured", "error")
    return [*table(rows, header=header, right=(1, 2, 3)), *_phase_lines(facts)]


def _row(label: str, name: str, facts: dict[str, Any]) -> list[str]:
    predicted, measured = amount(facts["predicted"], name), amount(facts["measured"], name)
    error = f"{(predicted / measured - 1) * 100:+.1f} %" if predicted and measured else "-"
    return [f"  {label}", *("-" if count is None else format_bytes(count) for count in (predicted, measured)), error]


def _phase_lines(facts: dict[str, Any]) -> list[str]:
    phases = facts["phases"] if isinstance(facts["phases"], dict) else {}
    on_cpu = facts["device"] == "cpu"
    sizes = {name: amount(phases.get(name), "resident_bytes" if on_cpu else "allocated_bytes") for name in _PHASES}
    found = ", ".join(f"{name} {format_bytes(size)}" for name, size in sizes.items() if size is not None)
    what = "resident up to" if on_cpu else "allocated in"
    return textwrap.wrap(f"{what}: {found}", 78, initial_indent="  ", subsequent_indent="    ") if found else []
