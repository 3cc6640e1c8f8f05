"""`python -m bench.gpu.peer JOB`: Unsloth, or TRL with Liger, on the same checkpoint and rows.

Each goes the way its own documents show: Unsloth's `FastLanguageModel` with TRL's trainer, which it makes
padding-free; TRL with `use_liger_kernel`, rows padded to the longest of a micro-batch. Steps are timed from one
`training_step` to the next with the card idle at each, so what a tool does between steps counts.
"""

from __future__ import annotations

import functools
import itertools
import json
import sys
import tempfile
import time
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench.gpu.job import Job, job_from, told
from bench.gpu.timing import steady

_ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
_FEED_FORWARD = ["gate_proj", "up_proj", "down_proj"]
_PACKAGES = ("unsloth", "unsloth_zoo", "trl", "liger_kernel", "datasets", "bitsandbytes", "transformers", "peft")


@dataclass(slots=True)
class Meter:
    """When each step began, its real tokens, its loss and the shape of its batch."""

    began: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    shape: tuple[int, ...] = ()

    def attach(self, trainer_class: Any) -> None:
        """Wrap `training_step` of the class that the tool uses."""
        inner = trainer_class.training_step

        @functools.wraps(inner)
        def training_step(trainer: Any, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
            self.began.append(idle_at())
            self.tokens.append(real_tokens(inputs))
            self.shape = tuple(inputs["input_ids"].shape)
            loss = inner(trainer, model, inputs, *args, **kwargs)
            self.losses.append(float(loss))
            return loss

        trainer_class.training_step = training_step


def idle_at() -> float:
    """The clock, once the card has done what it was given."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def real_tokens(inputs: dict[str, Any]) -> int:
    """Tokens of a batch that are no padding: by the mask, or all of a padding-free batch."""
    mask = inputs.get("attention_mask")
    return int(mask.sum()) if mask is not None else int(inputs["input_ids"].numel())


def load_unsloth(job: Job) -> tuple[Any, Any, Any]:
    """Model with adapters, tokenizer, and no PEFT settings for the trainer."""
    import torch
    from unsloth import FastLanguageModel  # type: ignore[import-not-found]

    model, tokenizer = FastLanguageModel.from_pretrained(
        job.model_path,
        max_seq_length=job.length,
        load_in_4bit=job.quantization == "nf4",
        dtype=torch.bfloat16,
        local_files_only=True,
    )
    model = FastLanguageModel.get_peft_model(
        model,
        r=16,
        lora_alpha=32,
        lora_dropout=0,
        bias="none",
        target_modules=_ATTENTION + _FEED_FORWARD,
        use_gradient_checkpointing="unsloth" if job.checkpointing else False,
        random_state=0,
    )
    return model, tokenizer, None


def load_trl(job: Job) -> tuple[Any, Any, Any]:
    """Model, tokenizer, and PEFT settings for the trainer."""
    import torch
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    extra: dict[str, Any] = {"device_map": {"": 0}} if torch.cuda.is_available() else {}
    if job.quantization == "nf4":
        extra["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=torch.bfloat16,
            bnb_4bit_use_double_quant=True,
        )
    model = AutoModelForCausalLM.from_pretrained(
        job.model_path, dtype=torch.bfloat16, attn_implementation="sdpa", **extra
    )
    adapters = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
    return model, AutoTokenizer.from_pretrained(job.model_path), adapters


def texts_of(job: Job, tokenizer: Any) -> list[dict[str, str]]:
    """Rows as text in the model's chat template."""
    rows = json.loads(Path(job.rows_path).read_text(encoding="utf-8"))[: job.row_count]

    def turns(row: dict[str, str]) -> list[dict[str, str]]:
        asked = row["instruction"] + ("\n" + row["input"] if row.get("input") else "")
        return [{"role": "user", "content": asked}, {"role": "assistant", "content": row["output"]}]

    return [{"text": tokenizer.apply_chat_template(turns(row), tokenize=False)} for row in rows]


def train(job: Job, meter: Meter, output: str) -> None:
    """Load and train with TRL's trainer, which is Unsloth's too."""
    import torch

    model, tokenizer, adapters = load_unsloth(job) if job.tool == "unsloth" else load_trl(job)
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer  # type: ignore[import-not-found]

    own = {"use_liger_kernel": True, "optim": "adamw_torch_fused"} if job.tool == "trl" else {}
    if not torch.cuda.is_available():
        own = {"use_cpu": True}
    options = SFTConfig(
        output_dir=output,
        max_length=job.length,
        packing=False,
        per_device_train_batch_size=job.micro_batch,
        gradient_accumulation_steps=1,
        max_steps=job.steps,
        learning_rate=2e-4,
        bf16=True,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        dataset_text_field="text",
        gradient_checkpointing=bool(job.checkpointing),
        **own,
    )
    rows = Dataset.from_list(texts_of(job, tokenizer))
    trainer = SFTTrainer(
        model=model, args=options, train_dataset=rows, processing_class=tokenizer, peft_config=adapters
    )
    meter.attach(type(trainer))
    trainer.train()


def main(text: str) -> None:
    """Run the job; Unsloth has to be imported before everything that it changes."""
    job, meter = job_from(text), Meter()
    if job.tool == "unsloth":
        import unsloth  # noqa: F401
    import torch

    with tempfile.TemporaryDirectory() as output:
        train(job, meter, output)
    # The last step has no next one to end at: what follows it is the end of the run.
    seconds = [end - start for start, end in itertools.pairwise(meter.began)]
    on_card = torch.cuda.is_available()
    told(
        {
            **steady(seconds, meter.tokens[:-1], meter.losses),
            "batch_shape": meter.shape,
            "allocated_bytes": torch.cuda.max_memory_allocated() if on_card else None,
            "reserved_bytes": torch.cuda.max_memory_reserved() if on_card else None,
            "versions": installed(),
        }
    )


def installed() -> dict[str, str]:
    """Versions of the packages that the peers are made of."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    main(sys.argv[1])
