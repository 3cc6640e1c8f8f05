"""The loop people write by hand: transformers + PEFT, padded batches, full logits. A process of its own.

`python plain.py '{"model": …, "rows": …, "dtype": "fp32", …}'` trains LoRA on all linear
layers and prints one JSON object with real (not padding) tokens per second. `bench/training.py` calls it.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer


def encode(tokenizer: Any, rows: list[dict[str, str]], max_length: int) -> list[tuple[list[int], list[int]]]:
    """Token ids and labels of each row: chat template, loss on the answer only, cut at `max_length`."""
    encoded = []
    for row in rows:
        question = row["instruction"] + ("\n" + row["input"] if row.get("input") else "")
        messages = [{"role": "user", "content": question}, {"role": "assistant", "content": row["output"]}]
        whole = tokenizer.apply_chat_template(messages, tokenize=False)
        prompt = tokenizer.apply_chat_template(messages[:1], tokenize=False, add_generation_prompt=True)
        ids = tokenizer(whole, add_special_tokens=False)["input_ids"][:max_length]
        cut = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
        encoded.append((ids, [-100] * min(cut, len(ids)) + ids[cut:]))
    return encoded


def batch_of(rows: list[tuple[list[int], list[int]]], pad: int) -> dict[str, torch.Tensor]:
    """Rows padded to the longest of them."""
    longest = max(len(ids) for ids, _ in rows)
    return {
        "input_ids": torch.tensor([ids + [pad] * (longest - len(ids)) for ids, _ in rows]),
        "labels": torch.tensor([labels + [-100] * (longest - len(labels)) for _, labels in rows]),
        "attention_mask": torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids, _ in rows]),
    }


def main(job: dict[str, Any]) -> dict[str, Any]:
    """Train `job["steps"]` steps and measure all but the first."""
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[job["dtype"]]
    model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=dtype)
    model = get_peft_model(
        model, LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    model.train()
    with open(job["data"], encoding="utf-8") as file:
        rows = encode(tokenizer, json.load(file)[: job["rows"]], job["max_length"])
    order = torch.randperm(len(rows)).tolist()
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=2e-4)
    per_step = job["micro_batch"] * job["accumulation"]
    tokens, losses, began = 0, [], 0.0
    for step in range(job["steps"]):
        if step == 1:
            tokens, began = 0, time.perf_counter()
        chosen = [rows[order[(step * per_step + index) % len(order)]] for index in range(per_step)]
        total = 0.0
        for start in range(0, per_step, job["micro_batch"]):
            part = chosen[start : start + job["micro_batch"]]
            loss = model(**batch_of(part, tokenizer.pad_token_id or 0)).loss / job["accumulation"]
            loss.backward()
            total += loss.item()
            tokens += sum(len(ids) for ids, _ in part)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(total)
    seconds = time.perf_counter() - began
    return {
        "tokens_per_second": tokens / seconds,
        "tokens": tokens,
        "seconds": seconds,
        "losses": losses,
        "peak_resident_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
