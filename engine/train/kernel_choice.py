"""Which of the faster paths a run takes: those that are right and, where a run is long enough, the fastest measured.

Every path that is allowed is compared with the plain one first. Then, on a GPU, one micro-batch goes through each
combination of the paths that were left open, and the fastest stays on; the device's file keeps it for the next run of
the same model and shape. What a person set is never overridden, and a resumed run takes the paths it began with.
Not here: the trials (`kernel_trials.py`), and which paths are allowed (`allowed.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.files import read_json, write_json_atomic
from engine.hardware.machine import Gpu, Machine
from engine.modeling.adapters import base_of
from engine.runs.kernel_records import KernelRecord, find_record, keep_record, records_path, versions
from engine.train.acceleration import Acceleration
from engine.train.allowed import Allowed, allowed, may_compile
from engine.train.compiled import COMPILED
from engine.train.kernel_trials import Ways, candidates, fastest, is_right, pays, switch, with_compiled, word
from engine.train.trainer import EngineTrainer

KERNELS_JSON = "kernels.json"
_SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
_TRAIN = ("objective", "per_device_train_batch_size", "activation_checkpointing", "neftune_noise_alpha")


@dataclass(frozen=True, slots=True)
class Place:
    """Where measurements are found and kept."""

    path: Path | None = None
    """The file of the run's card; None where nothing is measured."""
    subject: dict[str, Any] = field(default_factory=dict)
    """What is measured: versions, model and shape."""
    always: bool = False
    """Measure however short the run is."""


def place_of(trainer: EngineTrainer, gpu: Gpu | None, machine: Machine) -> Place:
    """The file of the run's card, and this run's model and shape. A processor has only one way that pays."""
    settings = trainer.settings
    if settings.launch.device != "cuda" or gpu is None:
        return Place()
    config, train = base_of(trainer.model).config.get_text_config(), settings.train.model_dump(mode="json")
    shape = {name: getattr(config, name, None) for name in _SIZES} | {name: train[name] for name in _TRAIN}
    shape |= {"dtype": settings.model.dtype, "max_length": settings.model.max_length, "vocab_size": config.vocab_size}
    tables = {name: getattr(settings, name).model_dump(mode="json") for name in ("tuning", "lora", "quantization")}
    del tables["lora"]["fused"]
    subject = {"versions": versions(machine), "family": config.model_type, "shape": shape, **tables}
    return Place(records_path(gpu, machine), subject)


def choose(trainer: EngineTrainer, given: frozenset[str], place: Place) -> Ways:
    """Switch the run's paths on and tell which they are. `given`: keys whose value is a person's own."""
    job = trainer.job
    paths = [
        each
        for each in allowed(trainer.settings, given, trainer.model, job.warn)
        if is_right(trainer, each.path, job.warn)
    ]
    before = _began_with(job.directory / KERNELS_JSON) if job.params.get("resume") else None
    if before is not None:
        ways = _as_before(trainer, [each.path for each in paths], before)
    else:
        ways = _by_measure(trainer, paths, given, place)
    write_json_atomic(job.directory / KERNELS_JSON, {"v": 1, "ways": word(ways)})
    return ways


def _began_with(path: Path) -> str | None:
    try:
        return str(read_json(path)["ways"])
    except (OSError, ValueError, KeyError):
        return None


def _as_before(trainer: EngineTrainer, paths: list[Acceleration], before: str) -> Ways:
    """The ways a run began with, so that its numbers go on as they were."""
    ways = _named(trainer, paths, before)
    if word(ways) != before:
        trainer.job.warn(
            "kernels_changed",
            f"the run began with {before} operators and goes on with {word(ways)}: its numbers are no longer exactly"
            " those of an uninterrupted run",
        )
    _tell(trainer, ways, "as the run began")
    return ways


def _named(trainer: EngineTrainer, paths: list[Acceleration], name: str) -> Ways:
    """Leave on what `name` says, as far as it can be had now; all of `paths` are on."""
    wanted = name.split("+")
    ways = tuple(path for path in paths if path.key in wanted)
    if ways != tuple(paths):
        switch(trainer, paths, ways)
    if COMPILED.key in wanted and COMPILED not in paths and is_right(trainer, COMPILED, trainer.job.warn):
        ways = (*ways, COMPILED)
    return ways


def _by_measure(trainer: EngineTrainer, right: list[Allowed], given: frozenset[str], place: Place) -> Ways:
    """From the card's file, or measured where that pays, or all that are right, which are on."""
    paths, found = [each.path for each in right], candidates(right)
    compiles = place.path is not None and may_compile(trainer.settings, given, trainer.model)
    known = _known(trainer, paths, place)
    if known is not None:
        (ways, record), source = known, f"known from {known[1].date}"
    elif place.always or (place.path is not None and (len(found) > 1 or compiles) and pays(trainer, len(found))):
        (ways, record), source = fastest(trainer, found), "measured"
        switch(trainer, paths, ways)
        _keep(trainer, place, record)
    else:
        _tell(trainer, tuple(paths), "")
        return tuple(paths)
    if compiles and not any(COMPILED.key in name.split("+") for name in (*record.seconds, *record.unfit)):
        before = record
        ways, record = with_compiled(trainer, ways, record)
        if record != before:
            source = "measured"
            _keep(trainer, place, record)
    _tell(trainer, ways, source, record)
    return ways


def _known(trainer: EngineTrainer, paths: list[Acceleration], place: Place) -> tuple[Ways, KernelRecord] | None:
    """What the card's file says, where all of it can be had now."""
    record = find_record(place.path, place.subject) if place.path is not None else None
    if record is None:
        return None
    ways = _named(trainer, paths, record.chosen)
    if word(ways) == record.chosen:
        return ways, record
    switch(trainer, [*paths, *ways], tuple(paths))
    return None


def _keep(trainer: EngineTrainer, place: Place, record: KernelRecord) -> None:
    if place.path is None or not record.seconds:
        return
    try:
        keep_record(place.path, place.subject, record)
    except OSError as error:
        trainer.job.warn("kernels_not_kept", f"the next run measures its kernels again: {error}")


def _tell(
    trainer: EngineTrainer, ways: Sequence[Acceleration], source: str, record: KernelRecord | None = None
) -> None:
    """The `kernels` event, and a line such as "Liger, fused adapters: 1.26 x, measured"."""
    gain = _gain(record)
    known: dict[str, Any] = {} if record is None else {"seconds": record.seconds, "unfit": list(record.unfit)}
    trainer.job.events.write("kernels", ways=word(ways), source=source, gain=gain, **known)
    title = ", ".join(each.title for each in ways) or "plain operators"
    said = ", ".join(part for part in (f"{gain:.2f} x" if gain else "", source) if part)
    if said or ways:
        trainer.job.phase("check", f"{title}: {said}" if said else title)


def _gain(record: KernelRecord | None) -> float | None:
    """How many times as fast the chosen way is as the plainest one that was measured."""
    if record is None or len(record.seconds) < 2:
        return None
    plainest = min(record.seconds, key=lambda name: 0 if name == "plain" else 1 + name.count("+"))
    return round(record.seconds[plainest] / record.seconds[record.chosen], 3)
