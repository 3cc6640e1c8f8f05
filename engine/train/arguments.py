"""transformers' TrainingArguments for a resolved profile; what the engine does itself is off there."""

from __future__ import annotations

from pathlib import Path

from transformers import TrainingArguments

from engine.profile.schedule import Schedule
from engine.profile.schema import Profile


def training_arguments(
    settings: Profile, schedule: Schedule, run_dir: Path, *, feeders: int | None = None
) -> TrainingArguments:
    """Arguments of the loop: batch, schedule, precision. Saving, evaluating and reporting (`reporters.py`) are ours.

    `feeders`: processes that feed batches; None = as the profile says.
    """
    train = settings.train
    on_gpu = settings.launch.device == "cuda"
    return TrainingArguments(
        output_dir=str(run_dir),
        per_device_train_batch_size=int(train.per_device_train_batch_size),
        gradient_accumulation_steps=int(train.gradient_accumulation_steps),
        num_train_epochs=train.num_train_epochs,
        max_steps=schedule.steps_total,
        learning_rate=float(train.learning_rate),
        lr_scheduler_type=train.lr_scheduler_type,
        warmup_steps=schedule.warmup_steps,
        weight_decay=train.weight_decay,
        neftune_noise_alpha=train.neftune_noise_alpha,
        max_grad_norm=train.max_grad_norm,
        seed=train.seed,
        data_seed=train.seed,
        fp16=settings.model.dtype == "fp16",
        bf16=False,
        use_cpu=not on_gpu,
        logging_strategy="steps",
        logging_steps=train.logging_steps,
        logging_first_step=True,
        logging_nan_inf_filter=False,
        eval_strategy="no",
        save_strategy="no",
        report_to=[],
        run_name=run_dir.name,
        project="tunedeck",
        disable_tqdm=True,
        remove_unused_columns=False,
        average_tokens_across_devices=False,
        dataloader_num_workers=train.dataloader_num_workers if feeders is None else feeders,
        dataloader_pin_memory=on_gpu,
        # The next batch is on its way while this one is at work; the host waits for neither.
        accelerator_config={"non_blocking": on_gpu},
    )
