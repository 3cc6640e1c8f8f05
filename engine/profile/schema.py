"""The profile: every setting a person can make, its type, range and meaning. The one source.

TOML files, `engine profile schema`, `--set`, the deck's form and docs/profile.md all derive from
these classes. Not here: reading files (`load.py`), turning validation errors into problems with
lines (`schema_problems.py`), checks across fields (`check.py`), filling in `"auto"` (`resolve.py`).

A field that may be left to the machine has the type `… | Auto` and the default `"auto"`. Its limits
stand in the `Annotated` number: pydantic would hold limits of the whole field against "auto" itself.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION = 1
Auto = Literal["auto"]

MAX_LENGTH_LIMIT = 1_048_576
PLAIN_TEXT = r"^[^\x00-\x1f\x7f-\x9f]*$"
"""Strings that end up in paths and on terminals: no control characters."""

Name = Annotated[str, Field(min_length=1, max_length=200, pattern=PLAIN_TEXT)]
PathText = Annotated[str, Field(min_length=1, max_length=4096, pattern=PLAIN_TEXT)]
Positive = Annotated[int, Field(ge=1, le=1_000_000_000)]


class Table(BaseModel):
    """A TOML table: unknown keys are errors, types are strict (no `true` for 1), values frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def setting(default: Any, description: str, *, unit: str = "", advanced: bool = False, **limits: Any) -> Any:
    """A field with what the form needs beside its type: meaning, unit, basic or advanced."""
    extra: dict[str, Any] = {"unit": unit, "advanced": advanced}
    return Field(default, description=description, json_schema_extra=extra, **limits)


class Model(Table):
    """Which model, and how much text it sees at once."""

    name_or_path: PathText = setting(..., "Directory, hub id, .gguf file, or 'demo' for the built-in model.")
    revision: Name | None = setting(None, "Hub revision: branch, tag or commit.", advanced=True)
    max_length: Annotated[int, Field(ge=16, le=MAX_LENGTH_LIMIT)] | Auto = setting(
        "auto", "Tokens of one packed sequence; longer examples are cut and counted.", unit="tokens"
    )
    dtype: Literal["auto", "bf16", "fp16", "fp32"] = setting(
        "auto", "Compute precision. bf16 on Ampere and newer, else fp16; on CPU whichever is faster."
    )
    attention: Literal["auto", "packed", "sdpa", "eager"] = setting(
        "auto", "Attention kernel: packed = variable-length over documents.", advanced=True
    )
    initialise: Literal["pretrained", "random"] = setting(
        "pretrained", "random = ignore the weights and start from the configuration alone.", advanced=True
    )
    trust_remote_code: bool = setting(
        False, "Run Python code that the model directory carries. Off unless you know the author.", advanced=True
    )


class Quantization(Table):
    """How the frozen base model is stored."""

    method: Literal["auto", "none", "nf4", "fp4", "int8"] = setting(
        "auto", "Storage of frozen weights; auto = none when bf16 or fp16 LoRA fits."
    )
    double_quant: bool = setting(True, "Quantize the quantization constants too (nf4, fp4).", advanced=True)


class Tuning(Table):
    """Which parameters learn."""

    method: Literal["auto", "lora", "full"] = setting("auto", "lora = adapters on a frozen base; full = every weight.")


class Lora(Table):
    """Low-rank adapters (PEFT)."""

    r: int = setting(16, "Rank of the adapters.", ge=1, le=1024)
    alpha: float = setting(32.0, "Scale: the adapter is multiplied by alpha / r.", gt=0, le=8192)
    dropout: float = setting(0.0, "Dropout on adapter inputs. Above 0 costs memory and time.", ge=0, lt=1)
    target_modules: Literal["all-linear"] | Annotated[list[Name], Field(min_length=1, max_length=512)] = setting(
        "all-linear", "Which linear layers get adapters: all-linear, or a list of module names."
    )
    modules_to_save: list[Name] = setting(
        [], "Modules trained whole beside the adapters.", advanced=True, max_length=512
    )
    bias: Literal["none", "lora_only", "all"] = setting("none", "Which biases train.", advanced=True)
    use_rslora: bool = setting(False, "Scale by alpha / sqrt(r).", advanced=True)
    use_dora: bool = setting(False, "Weight-decomposed adapters: slower, sometimes better.", advanced=True)


class Dataset(Table):
    """One file of training examples."""

    path: PathText = setting(
        ..., "json, jsonl, csv, tsv or parquet file, relative to the profile; 'demo:NAME' for a built-in one."
    )
    format: Literal["auto", "alpaca", "messages", "prompt-completion"] = setting(
        "auto", "Row layout; auto recognises it from the columns and says what it took."
    )
    columns: dict[Name, Name] = setting(
        {}, "Own column names: role = column, e.g. instruction = 'question'.", advanced=True
    )


class Data(Table):
    """Where examples come from and how they become tokens."""

    datasets: list[Dataset] = setting(..., "Files of examples.", min_length=1, max_length=1000)
    template: Name = setting(
        "auto", "Chat template: auto = the model's own, else a named one such as chatml, alpaca, llama3."
    )
    system: str = setting(
        "", "System message put before each conversation that has none.", advanced=True, max_length=8192
    )
    packing: bool = setting(True, "Put several short examples into one sequence, kept apart in attention.")
    validation_fraction: float = setting(0.05, "Share of examples held out for evaluation.", ge=0, lt=0.9)
    validation_path: PathText | None = setting(None, "File of held-out examples; replaces validation_fraction.")
    max_samples: Positive | None = setting(None, "Use only the first n examples.", unit="rows")
    max_bad_fraction: float = setting(
        0.01, "Refuse to start when more than this share of rows is unusable.", ge=0, le=1, advanced=True
    )
    overlong: Literal["cut", "drop"] = setting("cut", "What to do with examples longer than max_length.", advanced=True)


class Train(Table):
    """The optimization."""

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
    lr_scheduler_type: Literal["cosine", "linear", "constant", "constant_with_warmup"] = setting(
        "cosine", "Shape of the learning rate over the run."
    )
    warmup_ratio: float = setting(0.03, "Share of steps that warm up.", ge=0, le=1)
    num_train_epochs: float = setting(3.0, "Passes over the data.", gt=0, le=1000)
    max_steps: Positive | None = setting(None, "Stop after this many optimizer steps; overrides epochs.", unit="steps")
    weight_decay: float = setting(0.0, "AdamW weight decay.", ge=0, le=1)
    max_grad_norm: float = setting(1.0, "Clip the gradient to this norm; 0 = off.", ge=0, le=1e6)
    optim: Literal["auto", "adamw_torch", "adamw_torch_fused", "adamw_bnb_8bit", "paged_adamw_8bit"] = setting(
        "auto", "Optimizer.", advanced=True
    )
    adam_beta1: float = setting(0.9, "AdamW first-moment decay.", ge=0, lt=1, advanced=True)
    adam_beta2: float = setting(0.999, "AdamW second-moment decay.", ge=0, lt=1, advanced=True)
    adam_epsilon: float = setting(1e-8, "AdamW denominator guard.", gt=0, le=1, advanced=True)
    activation_checkpointing: bool | Annotated[int, Field(ge=1, le=1000)] | Auto = setting(
        "auto", "Recompute activations: false, true (every layer) or n (every n-th layer)."
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
    dataloader_num_workers: int = setting(0, "Processes that feed batches.", ge=0, le=64, advanced=True)


class Evaluate(Table):
    """What `engine evaluate` measures, base against tuned."""

    metrics: list[Literal["perplexity", "rouge", "bleu", "exact_match"]] = setting(
        ["perplexity", "rouge", "bleu", "exact_match"], "Metrics of the report.", min_length=1
    )
    max_samples: int = setting(64, "Held-out rows that are generated and scored.", unit="rows", ge=1, le=100_000)
    max_new_tokens: int = setting(128, "Longest generated answer.", unit="tokens", ge=1, le=32_768)
    batch_size: int = setting(8, "Prompts generated at once.", ge=1, le=1024, advanced=True)


class Export(Table):
    """What `engine export` writes."""

    merged: bool = setting(True, "Write base and adapter merged into one model.")
    dtype: Literal["auto", "bf16", "fp16", "fp32"] = setting("auto", "dtype of the merged weights.", advanced=True)
    max_shard_gib: float = setting(5.0, "Largest safetensors file.", unit="GiB", gt=0, le=1000, advanced=True)


class Launch(Table):
    """Where the run happens."""

    device: Literal["auto", "cuda", "cpu"] = setting("auto", "auto = the GPU with the most free memory, else the CPU.")
    gpu: Name | None = setting(None, "UUID (or its start) of the GPU to use.", advanced=True)
    threads: Annotated[int, Field(ge=1, le=1024)] | Auto = setting(
        "auto", "CPU threads; auto = physical cores.", advanced=True
    )


class Profile(Table):
    """A whole profile. Sparse: what is left out takes its default or is chosen for the machine."""

    schema_version: int = setting(1, "Version of this format.", ge=SCHEMA_VERSION, le=SCHEMA_VERSION, advanced=True)
    name: str | None = setting(
        None,
        "Short name of runs made from this profile: letters, digits, . _ -",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
    )
    description: str | None = setting(None, "What this profile is for.", max_length=2000)
    model: Model
    quantization: Quantization = Field(default_factory=Quantization)
    tuning: Tuning = Field(default_factory=Tuning)
    lora: Lora = Field(default_factory=Lora)
    data: Data
    train: Train = Field(default_factory=Train)
    evaluate: Evaluate = Field(default_factory=Evaluate)
    export: Export = Field(default_factory=Export)
    launch: Launch = Field(default_factory=Launch)
