"""A finished run opened for evaluation or export: settings, tokenizer, trained weights, models.

Raises what a person can act on when the run still trains or left nothing.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from engine.errors import EngineError, ExitCode
from engine.hardware.absent import no_cuda
from engine.hardware.probe import probe_machine
from engine.modeling import adapters, load
from engine.profile.runjson import settings_of
from engine.profile.schema import Profile
from engine.runs.job import Job, Warn
from engine.runs.lock import holder_pid
from engine.runs.record import DataRecord, RunRecord, Summary, load_data_record, read_record, summary_or_empty


@dataclass(frozen=True, slots=True)
class OpenedRun:
    """A run with weights. `weights` is `adapter/` or, after full tuning, `model/`."""

    run_dir: Path
    record: RunRecord
    settings: Profile
    base_dir: Path
    weights: Path

    @property
    def is_adapter(self) -> bool:
        """Whether the weights stand on a base model."""
        return self.weights.name == "adapter"

    def summary(self) -> Summary:
        """What training wrote of its end; empty when it wrote nothing that can be read."""
        return summary_or_empty(self.run_dir)

    def data(self) -> DataRecord:
        """What became of the data; empty when nothing can be read of it."""
        return load_data_record(self.run_dir)


def open_run(job: Job) -> OpenedRun:
    """The run named in the job.

    Raises EngineError: RESOURCES while it trains, MODEL when it left no weights, PROFILE when run.json is
    damaged.
    """
    run_dir = Path(str(job.params["run_dir"]))
    pid = holder_pid(run_dir / "lock")
    if pid is not None:
        raise EngineError(
            f"run {run_dir.name} is still training (pid {pid})",
            code=ExitCode.RESOURCES,
            hint="wait for its end, or stop it: 'engine runs stop' saves what it has learnt",
        )
    record = read_record(run_dir)
    settings, base_dir = settings_of(record)
    return OpenedRun(run_dir, record, settings, base_dir, _weights(run_dir, settings))


def refuse_scores(trained: OpenedRun, asked: str) -> None:
    """Raise EngineError(PROFILE) for a reward model, which answers nothing."""
    if trained.settings.train.objective == "reward":
        raise EngineError(
            f"a reward model scores answers and writes none: nothing to {asked}",
            code=ExitCode.PROFILE,
            where=trained.run_dir.name,
            hint=f"accuracy on held-out pairs is in its evaluations: 'engine runs show {trained.run_dir.name}';"
            f" its weights load with AutoModelForSequenceClassification from {trained.weights}",
        )


def _weights(run_dir: Path, settings: Profile) -> Path:
    lora = settings.tuning.method == "lora"
    path = run_dir / ("adapter" if lora else "model")
    found = (path / "adapter_model.safetensors").is_file() if lora else any(path.glob("*.safetensors"))
    if not found:
        raise EngineError(
            "the run left no trained weights",
            code=ExitCode.MODEL,
            where=str(path),
            hint=f"it ended before it saved any: go on with 'engine runs resume {run_dir.name}'",
        )
    return path


def load_tokenizer(trained: OpenedRun, warn: Warn) -> Any:
    """The tokenizer as it was trained with; the base model's, told as a warning, when that is missing."""
    from transformers import AutoTokenizer

    path = trained.run_dir / "tokenizer"
    if not (path / "tokenizer.json").is_file():
        warn("tokenizer", "the run has no tokenizer of its own: the base model's is used")
        return load.load_tokenizer(trained.settings, trained.base_dir, warn)
    try:
        return AutoTokenizer.from_pretrained(path, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise EngineError(
            f"the run's tokenizer cannot be loaded: {first}", code=ExitCode.MODEL, where=str(path)
        ) from error


def device_of(settings: Profile, warn: Warn) -> str:
    """Where the run trained; the CPU, told as a warning, when this machine has no such device."""
    if settings.launch.device != "cuda":
        return "cpu"
    return _cuda_or_told(settings, warn)


def device_of_path(settings: Profile, warn: Warn) -> str:
    """A GPU where there is one, for a model without a run; the CPU, told as a warning, when torch cannot use it."""
    if settings.launch.device == "cpu":
        return "cpu"
    if settings.launch.device == "auto" and not torch.cuda.is_available() and not probe_machine(processes=False).gpus:
        return "cpu"
    return _cuda_or_told(settings, warn)


def _cuda_or_told(settings: Profile, warn: Warn) -> str:
    if torch.cuda.is_available():
        return "cuda"
    warn("device", f"{no_cuda(settings.launch.gpu)}: the processor is used")
    return "cpu"


def models(trained: OpenedRun, device: str, warn: Warn, *, alone: bool = False) -> Iterator[tuple[str, Any]]:
    """(`base`, model), unless `alone`, and then (`tuned`, model), loaded as in training; the first is unusable after.

    The base is measured before the adapter is put on: switching an adapter off again would leave trained
    biases behind. After full tuning the two are loaded one after the other.
    """
    settings = trained.settings
    if alone and not trained.is_adapter:
        yield "tuned", load_full(trained, device, warn).eval()
        return
    quantized = settings.quantization.method != "none"
    model = load.load_base(settings, trained.base_dir, quantized=quantized, device=device, warn=warn)
    if not alone:
        yield "base", model.eval()
    if trained.is_adapter:
        yield "tuned", load_adapter(model, trained).eval()
        return
    del model
    gc.collect()
    yield "tuned", load_full(trained, device, warn).eval()


def load_adapter(model: Any, trained: OpenedRun) -> Any:
    """`model` with the run's adapter. Raises EngineError(MODEL) for one that is damaged or does not fit."""
    hint = f"resume the run from a checkpoint: 'engine runs resume {trained.run_dir.name}'"
    return adapter_on(model, trained.weights, hint)


def adapter_on(model: Any, weights: Path, hint: str) -> Any:
    """`model` with the adapter in `weights`; `hint` says what to do about a damaged one (EngineError MODEL)."""
    try:
        return adapters.load_adapter(model, weights)
    except Exception as error:
        # safetensors raises an exception type of its own for damaged files.
        if type(error).__name__ != "SafetensorError":
            raise
        raise EngineError(f"damaged adapter: {error}", code=ExitCode.MODEL, where=str(weights), hint=hint) from error


def load_full(trained: OpenedRun, device: str, warn: Warn) -> Any:
    """The model that full tuning saved, in `model.dtype`."""
    own = trained.settings.model.model_copy(
        update={"name_or_path": str(trained.weights.resolve()), "initialise": "pretrained", "revision": None}
    )
    settings = trained.settings.model_copy(update={"model": own})
    return load.load_base(settings, trained.base_dir, quantized=False, device=device, warn=warn)
