"""A run's memory and speed against what was promised: told in `calibration` events, kept for the next prediction.

Nothing is run for it: packed batches have one shape, so the first optimizer steps are the worst ones already.
`train.run` makes a `Calibrator` before the model is loaded, the trainer's `PhasePeaks` calls it after the first
steps, and it tells again at the end. Not here: rules of the next prediction (`engine.memory.calibration`).
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import replace
from pathlib import Path

import psutil
import torch

from engine.errors import EngineError
from engine.files import write_json_atomic
from engine.hardware.machine import Gpu, Machine
from engine.hardware.probe import probe_machine
from engine.measure.comparison import (
    JUDGED,
    Figures,
    PredictedRun,
    error_percent,
    is_worst,
    phase_figures,
    predicted_run,
    promised_figures,
)
from engine.measure.device import measured_rates
from engine.measure.meter import Meter
from engine.measure.out_of_memory import out_of_memory_error
from engine.measure.peaks import PhasePeaks
from engine.measure.telemetry import driver_view
from engine.memory.calibration import Measurement, measured_shape, model_key
from engine.memory.calibration_store import (
    FILE_VERSION,
    MOST_RECORDS,
    Record,
    calibration_path,
    decode,
    device_key,
    encode,
    read_records,
    software,
)
from engine.memory.phases import keeps_last_layer, peak
from engine.memory.shape import GIB, MIB
from engine.profile.schema import Profile
from engine.runs.job import Job, Warn
from engine.runs.lock import Held, acquire
from engine.runs.record import RunRecord
from engine.speed.roofline import tokens_per_second
from engine.text import format_bytes

TOLERATED_PERCENT = {"cuda": 2.0, "cpu": 5.0}
"""A prediction that is lower than the measurement by more is a warning."""
_MORE_SHARE = 0.01
"""Of a prediction, that short documents may add without a word."""
_CONTEXT_BOUNDS = (16 * MIB, 8 * GIB)
"""A context of another size was not measured: somebody else took or freed memory at that moment."""


class Calibrator:
    """One run's comparison, from before its model is loaded to its end."""

    def __init__(self, job: Job, settings: Profile, record: RunRecord) -> None:
        self._job = job
        self._device = str(settings.launch.device)
        self._promised = promised_figures(record.prediction)
        self.machine = probe_machine(processes=False)
        self.gpu = _gpu_of(self.machine) if self._device == "cuda" else None
        self._predicted = predicted_run(record, self.gpu) if settings.model.attention == "packed" else None
        # Before the CUDA context and the model: what the libraries take, and what others hold on the card.
        self._libraries_bytes = psutil.Process().memory_info().rss
        self._rates = measured_rates(job, self._device, self.gpu, self.machine)
        self._worst_percent = 0.0
        self._shortage_written = False

    def keeps_last_layer(self) -> bool:
        """Whether the prediction counts on the last layer's activations being kept."""
        predicted = self._predicted
        return predicted is not None and keeps_last_layer(predicted.spec, predicted.shape, self.gpu)

    def step_bytes(self) -> int | None:
        """What the prediction has for a step, on top of what lies there between two; None where nothing is predicted.

        What answers to prompts may take: gradients and activations are not there then.
        """
        return None if self._predicted is None else self._predicted.closed_form.moment.total

    def runs_with(self, kernels: str) -> None:
        """What is measured from here on is a step with `kernels` (`liger`, `plain`), whatever was planned."""
        predicted = self._predicted
        if predicted is not None and predicted.shape.kernels != kernels:
            shape = replace(predicted.shape, kernels=kernels)
            self._predicted = PredictedRun(predicted.spec, shape, peak(predicted.spec, shape, self.gpu))

    def meets(self, document_tokens: int) -> None:
        """The data are there: what documents of that length take is predicted anew, and said where it is more."""
        predicted = self._predicted
        if predicted is None or predicted.shape.document_tokens in (0, document_tokens):
            return
        shape = replace(predicted.shape, document_tokens=document_tokens)
        self._predicted = PredictedRun(predicted.spec, shape, peak(predicted.spec, shape, self.gpu))
        more = self._predicted.closed_form.device_bytes - predicted.closed_form.device_bytes
        if more > _MORE_SHARE * predicted.closed_form.device_bytes:
            self._job.warn(
                "short_documents",
                f"documents of {document_tokens} tokens take {format_bytes(more)} more than was planned: attention "
                "pads each. The next plan for these data counts with it; a smaller "
                "train.per_device_train_batch_size takes less",
            )

    def runs_otherwise(self) -> None:
        """Batches have other shapes than planned: what is measured tells nothing of the prediction."""
        self._predicted = None

    def tell(self, stage: str, peaks: PhasePeaks, meter: Meter) -> None:
        """Write the `calibration` event, warn of a promise that was too low, keep the measurement."""
        measured, promised = self._measured(peaks), self._promised
        errors = {name: error_percent(promised[name], measured[name]) for name in measured if promised.get(name)}
        kept = self._keep(peaks, meter, measured)
        self._job.events.write(
            "calibration",
            stage=stage,
            device=self._device,
            phases=phase_figures(peaks.phases),
            predicted=promised,
            measured=measured,
            error_percent=errors,
            kept=kept,
        )
        self._warn(promised, measured, errors)

    def tell_smaller(self, peaks: PhasePeaks, error: BaseException, rows: int, step: int) -> None:
        """Say that memory ran out and that the step begins again with `rows` sequences at a time."""
        promised, reached = self._promised.get("device_bytes"), peaks.whole().reserved
        self._job.warn(
            "out_of_memory",
            f"memory ran out in step {step + 1}: {format_bytes(reached)} were reached, {format_bytes(promised)} "
            f"predicted. It is done again with {rows} sequence{'s' * (rows > 1)} at a time; the batch stays the same",
        )
        self.tell_out_of_memory(peaks, error)

    def no_way_on(self, peaks: PhasePeaks, error: BaseException) -> EngineError:
        """What the run ends with when one sequence at a time does not fit: remedies with their memory."""
        try:
            had = self._could_have_had(peaks, error)
        except RuntimeError:
            had = peaks.whole().reserved
        return out_of_memory_error(error, self._predicted, self.machine, self.gpu, had)

    def tell_out_of_memory(self, peaks: PhasePeaks, error: BaseException) -> None:
        """Keep that this shape did not fit into what it could have had."""
        if self._predicted is None or self._shortage_written:
            return
        try:
            had = self._could_have_had(peaks, error)
        except RuntimeError:  # a card in disorder says nothing any more; the error itself is told by the worker
            return
        self._shortage_written = True
        # Less than was predicted: others held the rest, or a limit did, and the prediction stands.
        news = had >= self._predicted_bytes(self._predicted)
        is_kept = news and self._write(self._predicted, reserved=had, out_of_memory=True)
        measured = {"limit_bytes": had}
        event = {"stage": "out_of_memory", "device": self._device, "measured": measured, "kept": is_kept}
        self._job.events.write("calibration", **event)

    def _predicted_bytes(self, predicted: PredictedRun) -> int:
        """The closed form's word for what `Measurement.reserved_bytes` is on this device."""
        closed = predicted.closed_form
        return closed.reserved_bytes if self._device == "cuda" else closed.device_bytes

    def _could_have_had(self, peaks: PhasePeaks, error: BaseException) -> int:
        """Bytes beside the context: free and held ones on a card; what was resident and what was asked for in RAM."""
        if self._device == "cuda":
            return int(torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved())
        asked = re.search(r"allocate (\d+) bytes", str(error))
        return peaks.whole().reserved + (int(asked.group(1)) if asked else 0)

    def _measured(self, peaks: PhasePeaks) -> Figures:
        whole, found = peaks.whole(), Figures()
        if self._device == "cpu":
            return {"context_bytes": self._libraries_bytes, "device_bytes": whole.reserved}
        found["allocated_bytes"], found["reserved_bytes"] = whole.allocated or 0, whole.reserved
        context = self._context_bytes()
        if context is not None:
            found |= {"context_bytes": context, "device_bytes": whole.reserved + context}
        return found

    def _context_bytes(self) -> int | None:
        """What this process takes from the card beside the allocator's, as the driver counts it."""
        mine, free = driver_view()
        before = self.gpu.free_bytes if self.gpu else None
        if mine is None and free is not None and before is not None:
            # Containers hide processes. What is free, not what is used: NVML's versions differ in what counts as used.
            mine = before - free
        context = None if mine is None else mine - torch.cuda.memory_reserved()
        return context if context is not None and _CONTEXT_BOUNDS[0] <= context <= _CONTEXT_BOUNDS[1] else None

    def _keep(self, peaks: PhasePeaks, meter: Meter, measured: Figures) -> bool:
        predicted = self._predicted
        if predicted is None or not is_worst(peaks, predicted.shape):
            return False
        shape, step_s = predicted.shape, meter.median_step_s()
        positions = shape.micro_batch * shape.max_length * shape.gradient_accumulation_steps
        return self._write(
            predicted,
            reserved=measured["reserved_bytes"] if self._device == "cuda" else measured["device_bytes"],
            allocated=measured.get("allocated_bytes"),
            context=measured.get("context_bytes"),
            speed=positions / step_s if step_s else None,
        )

    def _write(
        self,
        predicted: PredictedRun,
        *,
        reserved: int,
        allocated: int | None = None,
        context: int | None = None,
        speed: float | None = None,
        out_of_memory: bool = False,
    ) -> bool:
        device = device_key(self.gpu, self.machine) if (self.gpu is None) == (self._device == "cpu") else None
        if device is None:
            return False
        cpu = self.machine.cpu
        measurement = Measurement(
            model_key=model_key(predicted.spec),
            shape=measured_shape(predicted.shape),
            date=time.strftime("%Y-%m-%d", time.gmtime()),
            reserved_bytes=reserved,
            predicted_reserved_bytes=self._predicted_bytes(predicted),
            allocated_bytes=allocated,
            context_bytes=context,
            tokens_per_second=speed,
            predicted_tokens_per_second=tokens_per_second(predicted.spec, predicted.shape, self.gpu, cpu, self._rates),
            rates_measured=self._rates is not None and predicted.shape.compute_dtype in self._rates.dtypes,
            out_of_memory=out_of_memory,
            model=predicted.spec.name[:300],
        )
        try:
            keep(calibration_path(device), measurement, software(self.gpu, self.machine), self._job.warn)
        except OSError as error:
            self._job.warn("calibration_not_kept", f"the next prediction cannot use this run: {error}")
            return False
        return True

    def _warn(self, promised: Figures, measured: Figures, errors: dict[str, float]) -> None:
        worst = min((name for name in JUDGED if name in errors), key=lambda name: errors[name], default=None)
        # A later figure of the same run is told again only when it is worse by a point.
        if worst is None or errors[worst] >= min(-TOLERATED_PERCENT[self._device], self._worst_percent - 1.0):
            return
        self._worst_percent = errors[worst]
        over = measured[worst] / promised[worst] - 1
        kind = "resident memory" if self._device == "cpu" else worst.removesuffix("_bytes") + " memory"
        self._job.warn(
            "memory_underpredicted",
            f"{kind} reached {format_bytes(measured[worst])}, {over:.1%} more than the "
            f"{format_bytes(promised[worst])} predicted: the next prediction on this device goes by what was measured",
        )


def _gpu_of(machine: Machine) -> Gpu | None:
    """The card of this process: the only one that it sees, or the one with the UUID that CUDA tells."""
    if len(machine.gpus) == 1:
        return machine.gpus[0]
    if not torch.cuda.is_available():
        return None
    uuid = str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid)
    return next((gpu for gpu in machine.gpus if gpu.uuid and gpu.uuid.endswith(uuid)), None)


_PATIENCE_S = 60.0
"""A writer holds the lock for two syncs of the disk, which can take seconds each on a network home."""


def keep(path: Path, measurement: Measurement, installed: dict[str, str], warn: Warn) -> None:
    """Put `measurement` among the newest records of `path`. Raises OSError when it cannot be written."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = _lock(path.with_suffix(".lock"))
    try:
        records = _records(path, warn)
        merged = with_measurement(records, measurement, installed)
        write_json_atomic(path, {"v": FILE_VERSION, "records": merged[-MOST_RECORDS:]})
    finally:
        lock.release()


def with_measurement(records: list[Record], measurement: Measurement, installed: dict[str, str]) -> list[Record]:
    """`records` with `measurement` as the newest, joined with what was known of the same configuration."""
    fresh = encode(measurement, installed)
    same = [record for record in records if _same(record, fresh)]
    for record in same:
        try:
            measurement = join(decode(record), measurement)
        except (KeyError, TypeError, ValueError):
            continue
    return [record for record in records if not _same(record, fresh)] + [encode(measurement, installed)]


def _same(one: Record, other: Record) -> bool:
    return all(one.get(key) == other[key] for key in ("software", "model_key", "shape"))


def join(old: Measurement, new: Measurement) -> Measurement:
    """Both runs of one configuration in one record: the higher peaks, the newer speed.

    A run that ended well says more than one that ran out of memory; one that had less than a good run took says
    nothing new.
    """
    if new.out_of_memory:
        return old if not old.out_of_memory and new.reserved_bytes <= old.reserved_bytes else new
    if old.out_of_memory:
        return new
    newer = new if new.tokens_per_second else old
    return replace(
        new,
        reserved_bytes=max(old.reserved_bytes, new.reserved_bytes),
        allocated_bytes=_higher(old.allocated_bytes, new.allocated_bytes),
        context_bytes=_higher(old.context_bytes, new.context_bytes),
        tokens_per_second=newer.tokens_per_second,
        predicted_tokens_per_second=newer.predicted_tokens_per_second,
        rates_measured=newer.rates_measured,
    )


def _higher(one: int | None, other: int | None) -> int | None:
    return max((value for value in (one, other) if value is not None), default=None)


def _records(path: Path, warn: Warn) -> list[Record]:
    try:
        return read_records(path)
    except (ValueError, RecursionError) as error:
        aside = path.with_suffix(".damaged")
        warn("calibration_damaged", f"{path} cannot be read ({error}): it is now {aside.name}, and a new one begins")
        os.replace(path, aside)
        return []


def _lock(path: Path) -> Held:
    deadline = time.monotonic() + _PATIENCE_S
    while (held := acquire(path)) is None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{path} is held by another run")
        time.sleep(0.05)
    return held
