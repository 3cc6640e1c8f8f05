"""What earlier runs measured on a device, and how it corrects the closed form's answer.

`phases.peak` asks `correct`, the time model `Calibration.speed_ratio`. Where measurements are kept and
which of them hold here: `calibration_store.py`. Taking them: `engine.measure.calibrate`.

Three rules. The same model and shape, measured: the measured peaks replace the prediction, up or down.
Another shape: its prediction is never lowered; where runs on this device took more than was predicted,
it is raised by the largest such excess, in proportion to its size. A shape that ran out of memory needs
more than it could get then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache

from engine.memory.shape import USUAL_DOCUMENT_TOKENS, TrainingShape
from engine.models.spec import ModelSpec

_FACTS = frozenset(
    {"name", "max_position_embeddings", "weights_dtype", "parameters", "licence", "gated", "use_cases", "quality"}
    | {"source", "path", "stored"}
)
"""What a spec says of a model that no tensor's size depends on: the same architecture has the same key."""
_SIZE_REACH = 4.0
"""An excess grows with the prediction up to this factor: a small run says little of one a hundred times its size."""
_OTHER_MODEL_SHARE = 0.15
"""Most that the excess of another model adds to a prediction."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One configuration as a run met it. Bytes; `predicted_*` is what the closed form said without calibration."""

    model_key: str
    shape: TrainingShape
    date: str
    """Day of the run, `2026-11-24`."""
    reserved_bytes: int
    """Peak of what the allocator held; on a processor all that was resident, libraries with it."""
    predicted_reserved_bytes: int
    allocated_bytes: int | None = None
    """Peak of what the allocator handed out; `None` on a processor, where nothing counts it."""
    context_bytes: int | None = None
    """What the process took from a card beside `reserved_bytes`, `None` where no driver tells; on a processor what
    was resident before the model."""
    tokens_per_second: float | None = None
    """Positions per second, padding included, at the median step after the first ones."""
    predicted_tokens_per_second: float | None = None
    rates_measured: bool = False
    """Whether `predicted_tokens_per_second` came from measured rates of the device, not from a table."""
    out_of_memory: bool = False
    """The run died for want of memory: `reserved_bytes` is what it could have had, and needs more than that."""
    model: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """What is known of one device with the software that is installed now."""

    measurements: Mapping[tuple[str, TrainingShape], Measurement] = field(default_factory=dict)
    models: frozenset[str] = frozenset()
    """Keys of the models that were measured, whatever the shape."""
    context_bytes: int | None = None
    """The largest context measured: it depends on the kernels that a run loads."""
    too_low: tuple[Measurement, ...] = ()
    """Runs that took more than was predicted."""
    notes: tuple[str, ...] = ()
    """What a person should know of it, such as a damaged file."""

    def find(self, spec: ModelSpec, shape: TrainingShape) -> Measurement | None:
        """The measurement of this very model and shape."""
        return self.measurements.get((model_key(spec), measured_shape(shape))) if self.measurements else None

    def knows(self, spec: ModelSpec) -> bool:
        """Whether a run of this model was measured, whatever its shape."""
        return bool(self.models) and model_key(spec) in self.models

    def speed_ratio(self, spec: ModelSpec, shape: TrainingShape, *, rates_measured: bool = False) -> float | None:
        """Measured over predicted tokens per second; `None` when nothing like it ran here.

        The same model and shape by itself, else the median of the same model, else of the same method, dtype and
        quantization on any model. The median, not the worst: time has no unsafe side. Only runs whose prediction
        came from the same kind of rates count.
        """
        same = self.find(spec, shape)
        if same is not None and same.rates_measured == rates_measured and (ratio := _speed_ratio(same)) is not None:
            return ratio
        if not self.measurements:
            return None
        key, how = model_key(spec), _how(shape)
        usable = [found for found in self.measurements.values() if found.rates_measured == rates_measured]
        alike = [found for found in usable if _how(found.shape) == how]
        for group in ([found for found in alike if found.model_key == key], alike):
            ratios = [ratio for found in group if (ratio := _speed_ratio(found)) is not None]
            if ratios:
                return _median(ratios)
        return None


@dataclass(frozen=True, slots=True)
class Correction:
    """What replaces parts of a closed-form peak. Bytes."""

    allocated_change: int = 0
    """Added to the allocated peak; negative where less was measured."""
    reserve: int | None = None
    context: int | None = None
    detail: str = ""
    """Where the change comes from, in words."""


def calibration_of(measurements: Iterable[Measurement], notes: tuple[str, ...] = ()) -> Calibration:
    """`Calibration` of a device's measurements, oldest first: a later one of the same shape counts."""
    by_shape = {(found.model_key, found.shape): found for found in measurements}
    contexts = [found.context_bytes for found in by_shape.values() if found.context_bytes is not None]
    return Calibration(
        measurements=by_shape,
        models=frozenset(key for key, _ in by_shape),
        context_bytes=max(contexts, default=None),
        too_low=tuple(
            found for found in by_shape.values() if found.reserved_bytes > found.predicted_reserved_bytes > 0
        ),
        notes=notes,
    )


def correct(
    calibration: Calibration, spec: ModelSpec, shape: TrainingShape, allocated: int, reserve: int, context: int
) -> Correction:
    """How `calibration` changes a closed form of `allocated`, above it `reserve`, and beside them `context` bytes."""
    measured = calibration.find(spec, shape)
    if measured is not None and not measured.out_of_memory:
        return _replaced(measured, allocated, calibration.context_bytes)
    predicted = allocated + reserve + (context if shape.device == "cpu" else 0)
    raised, words = _raise(calibration, spec, predicted)
    if measured is not None and measured.reserved_bytes >= predicted + raised:
        raised = measured.reserved_bytes + 1 - predicted
        words = f"this shape ran out of memory here on {measured.date}"
    # A processor's libraries are loaded bit by bit: what was there before the model is not all of them.
    return Correction(raised, None, calibration.context_bytes if shape.device == "cuda" else None, words)


def _replaced(measured: Measurement, allocated: int, context: int | None) -> Correction:
    """The measured peaks. Nothing counts live tensors on a processor: the closed form's share of them stands."""
    held, live = measured.reserved_bytes, measured.allocated_bytes
    own = measured.context_bytes if measured.context_bytes is not None else context
    if measured.shape.device == "cpu":
        held -= own or 0
    live = min(allocated, held) if live is None else live
    words = f"measured on this device on {measured.date}, in place of the closed form"
    return Correction(live - allocated, held - live, own, words)


def _raise(calibration: Calibration, spec: ModelSpec, predicted: int) -> tuple[int, str]:
    key, most, words = model_key(spec), 0, ""
    for found in calibration.too_low:
        excess = found.reserved_bytes - found.predicted_reserved_bytes
        grown = int(excess * min(predicted / found.predicted_reserved_bytes, _SIZE_REACH))
        if found.model_key != key:
            grown = min(grown, int(predicted * _OTHER_MODEL_SHARE))
        if grown > most:
            share = excess / found.predicted_reserved_bytes
            most, words = grown, f"a run on this device took {share:.1%} more than predicted ({found.date})"
    return most, words


@lru_cache(maxsize=512)
def model_key(spec: ModelSpec) -> str:
    """The numbers that tensors' sizes follow from, as one string: equal for the same architecture."""
    return " ".join(f"{item.name}={getattr(spec, item.name)}" for item in fields(spec) if item.name not in _FACTS)


def measured_shape(shape: TrainingShape) -> TrainingShape:
    """`shape` as what takes the same memory: two accumulation steps for any number above one, and documents of usual
    length for any above it; shorter ones go by powers of two."""
    steps, tokens = min(shape.gradient_accumulation_steps, 2), shape.document_tokens
    alike = 0 if tokens >= USUAL_DOCUMENT_TOKENS else 1 << tokens.bit_length() >> 1
    if (steps, alike) == (shape.gradient_accumulation_steps, tokens):
        return shape
    return replace(shape, gradient_accumulation_steps=steps, document_tokens=alike)


def _how(shape: TrainingShape) -> tuple[str, str, str]:
    return shape.method, shape.compute_dtype, shape.quantization


def _speed_ratio(found: Measurement) -> float | None:
    if not found.tokens_per_second or not found.predicted_tokens_per_second:
        return None
    return found.tokens_per_second / found.predicted_tokens_per_second


def _median(values: list[float]) -> float:
    """Of at least one; `statistics` takes 10 ms to import."""
    ordered, half = sorted(values), len(values) // 2
    return ordered[half] if len(values) % 2 else (ordered[half - 1] + ordered[half]) / 2
