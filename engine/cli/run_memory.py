"""Predicted and measured memory of a run, for `engine runs show`.

It reads the run's `calibration` event. A run that ended before its second step, or that an older engine made,
has none; then it reads the last `memory` event. Not here: measuring (`engine.measure.calibrate`).
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
_PHASES = ("load", "check", "evaluate", "answers", "forward", "backward", "optimizer")


def memory_facts(fold: RunFold, prediction: Prediction) -> dict[str, Any]:
    """Predicted and measured bytes of the widest figure that has both; all figures and phases where known."""
    calibration = fold.calibration
    if not calibration:
        return _from_samples(fold, prediction)
    predicted, measured = calibration["predicted"], calibration["measured"]
    widest = next(
        (name for name in ("device_bytes", "reserved_bytes") if predicted.get(name) and measured.get(name)), ""
    )
    return {
        **_compare(predicted.get(widest), measured.get(widest)),
        "stage": calibration.get("stage"),
        "device": calibration.get("device"),
        "predicted": predicted,
        "measured": measured,
        "error_percent": calibration.get("error_percent"),
        "phases": calibration.get("phases"),
    }


def _from_samples(fold: RunFold, prediction: Prediction) -> dict[str, Any]:
    memory = fold.last_memory
    on_card = "peak_reserved_bytes" in memory
    predicted = prediction.reserved_bytes if on_card else prediction.device_bytes
    return _compare(predicted, memory.get("peak_reserved_bytes" if on_card else "host_rss_bytes"))


def _compare(predicted: Any, measured: Any) -> dict[str, Any]:
    error = (predicted / measured - 1) if predicted and measured else None
    return {"predicted_bytes": predicted, "measured_bytes": measured, "relative_error": error}


def memory_lines(facts: dict[str, Any]) -> list[str]:
    """The comparison as lines: a table if there is a calibration, else one line."""
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
    listed = ", ".join(f"{name} {format_bytes(size)}" for name, size in sizes.items() if size is not None)
    what = "resident up to" if on_cpu else "allocated in"
    return textwrap.wrap(f"{what}: {listed}", 78, initial_indent="  ", subsequent_indent="    ") if listed else []
