"""The traits of a run, from what its files say: what lists filter, order and group by."""

from __future__ import annotations

from collections.abc import Mapping

from engine.jsonvalues import Unreadable
from engine.runs.notes import RunNotes
from engine.runs.record import RunRecord
from engine.runs.store import Run
from engine.runs.traits import RunTraits, flat

NO_SCORES: Mapping[str, float] = {}


def method_text(record: RunRecord) -> str:
    """`LoRA bf16`, `QLoRA nf4 bf16`, `full fp32`."""
    tuning, method = record.text("tuning.method"), record.text("quantization.method") or "none"
    words = {"lora": "LoRA" if method == "none" else f"QLoRA {method}"}.get(tuning, tuning)
    return f"{words} {record.text('model.dtype')}".strip()


def settled_traits(
    run: Run, found: RunRecord | Unreadable, notes: RunNotes, scores: Mapping[str, float] = NO_SCORES
) -> RunTraits:
    """What does not change while a run trains; of a run.json that cannot be read only the id."""
    if isinstance(found, Unreadable):
        return RunTraits(run.id, notes=notes, scores=scores)
    return RunTraits(
        run.id,
        name=found.text("name"),
        model=found.text("model.name_or_path"),
        how=method_text(found),
        notes=notes,
        scores=scores,
        settings=flat(found.settings),
    )
