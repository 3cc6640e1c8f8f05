"""The parts of a training run put together: data, model, trainer."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch

from engine.data.preference import NEEDED
from engine.data.prepare import Prepared, prepare
from engine.errors import EngineError, ExitCode
from engine.hardware.absent import no_cuda
from engine.hardware.machine import Gpu, Machine
from engine.memory.recompute import recompute_of
from engine.modeling import adapters, attention, checkpointing, experts, load, stored_weights, wrappers
from engine.modeling.adapters import base_of
from engine.modeling.forward import loss_sum
from engine.profile.schedule import doubts_of, plan_schedule
from engine.profile.schema import Profile
from engine.runs.job import Job, Warn
from engine.train import outputs
from engine.train.arguments import training_arguments
from engine.train.feeding import feeders
from engine.train.kernel_choice import Place, choose, place_of
from engine.train.layouts import Arranged, arrange
from engine.train.objectives.objective import REFERENCED
from engine.train.objectives.reference import add_reference
from engine.train.selfcheck import check_rewards, choose_loss
from engine.train.trainer import EngineTrainer

_DIGEST_ROWS = 256
"""At once: the tokens lie in files that may be larger than memory."""


def load_data(job: Job, settings: Profile, base_dir: Path) -> tuple[Any, Prepared]:
    """Tokenizer and packed data, with the account of every row kept in the run."""
    job.phase("data", "reading and packing")
    tokenizer = load.load_tokenizer(settings, base_dir, job.warn)
    prepared = prepare(
        settings,
        tokenizer,
        base_dir,
        lambda done, total: job.progress("data", done, total, "rows"),
        run_dir=job.directory,
    )
    for warning in prepared.report.warnings:
        job.warn("data", warning)
    outputs.write_data_record(job.directory, prepared.report.to_dict(), prepared.conversations)
    return tokenizer, prepared


def load_model(
    job: Job, settings: Profile, base_dir: Path, *, keep_last: bool = False, begun: Path | None = None
) -> Any:
    """The base with what learns on it, as the settings say; where given, like the adapter in `begun`.

    Raises EngineError(MODEL or ENVIRONMENT).

    `keep_last`: the last layer is not recomputed, because that costs no memory.
    """
    job.phase("load", settings.model.name_or_path)
    device = settings.launch.device
    if device == "cuda" and not torch.cuda.is_available():
        raise EngineError(
            no_cuda(settings.launch.gpu),
            code=ExitCode.ENVIRONMENT,
            where="launch.gpu" if settings.launch.gpu else "launch.device",
            hint="check the driver against torch with 'engine probe'",
        )
    quantized = settings.quantization.method != "none"
    model = load.load_base(settings, base_dir, quantized=quantized, device=device, warn=job.warn, packed=True)
    if stored_weights.in_words(model):
        job.phase("load", stored_weights.in_words(model))
    model.config.get_text_config().use_cache = False
    if device == "cuda":
        torch.cuda.empty_cache()
    model = wrap(model, settings, keep_last=keep_last, warn=job.warn, begun=begun)
    if settings.tuning.method == "lora" and experts.in_words(model):
        job.phase("load", experts.in_words(model))
    if settings.tuning.method == "lora" and settings.lora.init == "pissa":
        outputs.replace_directory(
            job.directory / outputs.INITIAL_ADAPTER, lambda folder: adapters.keep_initial(model, folder)
        )
    return model


def wrap(model: Any, settings: Profile, *, keep_last: bool, warn: Warn, begun: Path | None = None) -> Any:
    """A loaded base with what learns on it: adapters or freed weights, their dtype, attention, checkpointing."""
    if settings.tuning.method == "lora":
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        model = adapters.attach(model, settings, begun)
    else:
        if settings.tuning.method == "freeze":
            adapters.freeze_below(model, settings.tuning.trainable_layers)
        wrappers.freeze_outside_text(model)
        adapters.set_trainable_dtype(model, settings)
    attention.use_flex(base_of(model), warn)
    _recompute(settings, model, keep_last, warn)
    return model


def _recompute(settings: Profile, model: Any, keep_last: bool, warn: Warn) -> None:
    """Activation checkpointing as the profile says."""
    way = recompute_of(settings.train.activation_checkpointing)
    # What int8 layers keep on their graph nodes, only the reentrant kind frees.
    hidden = settings.tuning.method == "lora" and settings.quantization.method == "int8"
    checkpointing.enable(
        model,
        way.every,
        keep_last=keep_last,
        offload=way.offload_inputs,
        keep_attention=way.keep_attention,
        reentrant=hidden,
        warn=warn,
    )


def build_trainer(
    job: Job,
    settings: Profile,
    model: Any,
    prepared: Prepared,
    *,
    given: frozenset[str] = frozenset(),
    machine: Machine | None = None,
    gpu: Gpu | None = None,
) -> EngineTrainer:
    """The trainer, after its faster paths were compared with the plain ones and the base was asked where needed.

    `given`: keys of the profile whose value is a person's own. With `machine` and `gpu` faster paths are also measured.
    """
    job.phase("check", "documents apart; packed and chunked against plain")
    found = arrange(model, settings, prepared, job.warn)
    schedule = plan_schedule(settings, len(found.train), has_validation=found.validation is not None)
    for doubt in doubts_of(settings, len(found.train)):
        job.warn("pointless", str(doubt))
    trainer = EngineTrainer(
        job=job,
        settings=settings,
        schedule=schedule,
        arguments=training_arguments(
            settings, schedule, job.directory, feeders=feeders(settings.train.dataloader_num_workers, job.warn)
        ),
        model=model,
        train_dataset=found.train,
        eval_dataset=found.validation,
        collator=found.collate,
        data_digest=_digest(prepared, found),
    )
    trainer.as_predicted = found.as_predicted
    batch = trainer._prepare_inputs(found.collate([found.train[0]]))
    with trainer.autocast():
        if settings.train.objective == "reward":
            check_rewards(trainer.model, batch)
        else:
            _take_loss(trainer, choose_loss(trainer.model, batch, job.warn))
    # Of the first rows, on which faster paths are tried; all of them are computed by the paths that will train.
    _add_reference(job, trainer, most_rows=trainer.args.per_device_train_batch_size)
    # Times are kept by the longest rows: those of other shapes would be taken for them.
    place = Place() if machine is None or not found.as_predicted else place_of(trainer, gpu, machine)
    trainer.ways = tuple(each.key for each in choose(trainer, given, place))
    _add_reference(job, trainer)
    if settings.launch.device == "cuda":
        torch.cuda.empty_cache()
    return trainer


def _take_loss(trainer: EngineTrainer, chosen: Any) -> None:
    """The loss that the check found right; comparing answers has no other than the chunked one."""
    if chosen is not loss_sum and trainer.settings.train.objective in NEEDED:
        raise EngineError(
            "the loss in chunks is not this model's own, and comparing answers needs it",
            code=ExitCode.MODEL,
            where="train.objective",
            hint="use 'sft' with the chosen answers, or another model",
        )
    trainer.objective.loss_sum = chosen


def _add_reference(job: Job, trainer: EngineTrainer, most_rows: int | None = None) -> None:
    if trainer.settings.train.objective not in REFERENCED:
        return
    job.phase("reference", "log-probabilities of the model as the run begins")
    held_out = trainer.validation.dataset if trainer.validation is not None and most_rows is None else None
    for dataset in (trainer.train_dataset, held_out):
        if dataset is not None:
            add_reference(
                trainer.model,
                dataset,
                most_rows=most_rows,
                rows=trainer.args.per_device_train_batch_size,
                collate=trainer.collator,
                prepare=trainer._prepare_inputs,
                autocast=trainer.autocast,
                on_progress=lambda done, total: job.progress("reference", done, total, "sequences"),
            )


def _digest(prepared: Prepared, arranged: Arranged) -> str:
    """What the training rows are, token by token, and how they are arranged: a resumed run must see the same."""
    digest = hashlib.sha256(b"" if arranged.as_predicted else b"one document a row")
    for array in (prepared.train.input_ids, prepared.train.labels):
        for start in range(0, len(array), _DIGEST_ROWS):
            digest.update(array[start : start + _DIGEST_ROWS].tobytes())
    return digest.hexdigest()
