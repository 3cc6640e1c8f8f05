"""Settings of the optimization."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from engine.profile.tables.base import Auto, Positive, Table, setting

COMPARING = ("dpo", "orpo", "kto")
"""Objectives that compare or judge answers and go on answering; a reward model only scores."""
ONE_ROW = (*COMPARING, "reward")
"""Objectives that take several documents of one row at a time."""


class Train(Table):
    """The optimization."""

    objective: Literal["sft", "pretrain", "dpo", "orpo", "kto", "reward"] = setting(
        "sft",
        "sft = learn the answers; pretrain = learn every token, long texts go on in the next sequence;"
        " dpo, orpo = prefer the chosen of two answers; kto = learn from answers judged good or bad;"
        " reward = learn to score answers, from two each.",
    )
    beta: float = setting(
        0.1, "Strength of the preference (dpo, kto: how near to the base; orpo: weight).", gt=0, le=100, advanced=True
    )
    per_device_train_batch_size: Annotated[int, Field(ge=1, le=4096)] | Auto = setting(
        "auto", "Sequences per micro-batch.", unit="sequences"
    )
    gradient_accumulation_steps: Annotated[int, Field(ge=1, le=65536)] | Auto = setting(
        "auto", "Micro-batches per optimizer step."
    )
    total_batch_size: Annotated[int, Field(ge=1, le=1_048_576)] | Auto = setting(
        "auto", "Sequences per optimizer step = micro-batch x accumulation.", unit="sequences"
    )
    learning_rate: Annotated[float, Field(gt=0, le=1)] | Auto = setting(
        "auto", "Peak learning rate; auto goes by method and model size."
    )
    lr_scheduler_type: Literal[
        "cosine",
        "linear",
        "constant",
        "constant_with_warmup",
        "cosine_with_restarts",
        "polynomial",
        "inverse_sqrt",
    ] = setting("cosine", "Shape of the learning rate over the run.")
    warmup_ratio: float = setting(
        0.03, "Share of steps that warm up; step k of n has k / n of the peak rate.", ge=0, le=1
    )
    warmup_steps: Annotated[int, Field(ge=0, le=1_000_000_000)] | None = setting(
        None, "Steps that warm up; replaces warmup_ratio.", unit="steps", advanced=True
    )
    neftune_noise_alpha: Annotated[float, Field(gt=0, le=1000)] | None = setting(
        None, "Noise on input embeddings while training (NEFTune); usual values are 5 to 15.", advanced=True
    )
    num_train_epochs: float = setting(3.0, "Passes over the data.", gt=0, le=1000)
    max_steps: Positive | None = setting(None, "Stop after this many optimizer steps; overrides epochs.", unit="steps")
    weight_decay: float = setting(0.0, "Weight decay of matrices.", ge=0, le=1)
    max_grad_norm: float = setting(1.0, "Clip the gradient to this norm; 0 = off.", ge=0, le=1e6)
    optim: Literal[
        "auto",
        "adamw_torch",
        "adamw_torch_fused",
        "adamw_bnb_8bit",
        "paged_adamw_8bit",
        "adafactor",
        "lion_32bit",
        "lion_8bit",
    ] = setting("auto", "Optimizer; Adafactor and Lion keep fewer states than AdamW.", advanced=True)
    adam_beta1: float = setting(0.9, "First-moment decay of AdamW and Lion.", ge=0, lt=1, advanced=True)
    adam_beta2: float = setting(
        0.999, "Second-moment decay of AdamW, slower decay of Lion (usual there: 0.99).", ge=0, lt=1, advanced=True
    )
    adam_epsilon: float = setting(1e-8, "AdamW denominator guard.", gt=0, le=1, advanced=True)
    activation_checkpointing: bool | Annotated[int, Field(ge=1, le=1000)] | Literal["offload", "attention"] | Auto = (
        setting(
            "auto",
            "Recompute activations: false, true (every layer) or n (every n-th layer); on a GPU also offload (every"
            " layer, its input waits in main memory) or attention (every layer, attention's output is kept).",
        )
    )
    kernels: Literal["auto", "liger", "plain"] = setting(
        "auto",
        "Operators of norms, rotation, gate and loss: liger = Triton kernels; auto = those where they are installed"
        " and known for the model.",
        advanced=True,
    )
    seed: int = setting(42, "Seed of data order, adapters and dropout.", ge=0, le=2**31 - 1, advanced=True)
    logging_steps: Positive = setting(1, "Write a train_step event every n steps.", unit="steps", advanced=True)
    eval_steps: Positive | Auto = setting(
        "auto", "Evaluate every n steps; auto = ten times a run, once its length is known.", unit="steps"
    )
    save_steps: Positive | Auto = setting(
        "auto", "Checkpoint every n steps; auto = with each evaluation.", unit="steps"
    )
    save_total_limit: int = setting(
        3, "Checkpoints kept, newest by step; the best is kept too.", ge=1, le=1000, advanced=True
    )
    load_best_model_at_end: bool = setting(True, "Export the weights of the best evaluation.")
    early_stopping_patience: Annotated[int, Field(ge=1, le=1000)] | None = setting(
        None, "Stop after n evaluations without gain."
    )
    torch_compile: bool = setting(
        False, "Compile the layers first, checked against the plain ones; pays in long runs on a GPU.", advanced=True
    )
    report_to: list[Literal["tensorboard", "wandb", "mlflow", "trackio"]] = setting(
        [], "Also send the curves there; each needs its package.", advanced=True, max_length=4
    )
    dataloader_num_workers: int = setting(0, "Processes that feed batches.", ge=0, le=64, advanced=True)
