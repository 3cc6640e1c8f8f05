"""TRL's SFTTrainer on the rows, with packing or without: `python trl_sft.py '{"packing": true, …}'`."""

from __future__ import annotations

import json
import sys
import tempfile
from typing import Any

import torch
from datasets import Dataset
from meter import Meter, tell
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer


def conversations(job: dict[str, Any]) -> Dataset:
    """The alpaca rows as prompt and completion, so that TRL trains on the answers only."""
    with open(job["data"], encoding="utf-8") as file:
        rows = json.load(file)[: job["rows"]]
    return Dataset.from_list(
        [
            {
                "prompt": [
                    {
                        "role": "user",
                        "content": row["instruction"] + ("\n" + row["input"] if row.get("input") else ""),
                    }
                ],
                "completion": [{"role": "assistant", "content": row["output"]}],
            }
            for row in rows
        ]
    )


def main(job: dict[str, Any]) -> dict[str, Any]:
    """Train `job["steps"]` optimizer steps."""
    torch.manual_seed(0)
    bf16 = job["dtype"] == "bf16"
    model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.bfloat16 if bf16 else torch.float32)
    meter = Meter(job["accumulation"])
    with tempfile.TemporaryDirectory() as folder:
        config = SFTConfig(
            output_dir=folder,
            max_length=job["max_length"],
            packing=job["packing"],
            per_device_train_batch_size=job["micro_batch"],
            gradient_accumulation_steps=job["accumulation"],
            max_steps=job["steps"],
            learning_rate=2e-4,
            bf16=bf16,
            use_cpu=True,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
        )
        trainer = SFTTrainer(
            model=model,
            args=config,
            train_dataset=conversations(job),
            processing_class=AutoTokenizer.from_pretrained(job["model"]),
            peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
        )
        meter.attach(SFTTrainer)
        trainer.train()
    return meter.result()


if __name__ == "__main__":
    tell(main(json.loads(sys.argv[1])))
