"""Run directories as training leaves them: a tiny random Llama with an adapter, made in a moment."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from engine.demo.paths import model_dir
from engine.models.resolve import resolve_model
from engine.profile.schema import Profile
from engine.runs.events import EventWriter, read_events
from engine.runs.job import Job
from engine.runs.record import SCHEMA_VERSION

ROWS = [(f"What comes after {number}?", str(number + 1)) for number in range(12)]


def make_base(folder: Path, dtype: torch.dtype = torch.float32) -> Path:
    """A Llama that knows nothing, with the demo's tokenizer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    known = json.loads((model_dir() / "config.json").read_text())
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    tokens = {key: known[key] for key in ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id")}
    torch.manual_seed(0)
    config = LlamaConfig(**sizes, **tokens, num_key_value_heads=2, max_position_embeddings=256, initializer_range=0.2)
    LlamaForCausalLM(config).to(dtype).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(model_dir() / name, folder / name)
    return folder


def make_run(folder: Path, base: Path, *, method: str = "lora", dtype: str = "fp32", **tables: Any) -> Path:
    """A run directory as training leaves it; the adapter is random, so it changes every answer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    for name in ("data", "control", "checkpoints"):
        (folder / name).mkdir(parents=True)
    settings = Profile.model_validate(
        {
            "model": {"name_or_path": str(base), "max_length": 128, "dtype": dtype, "attention": "sdpa"},
            "tuning": {"method": method},
            "quantization": {"method": tables.pop("quantization", "none")},
            "data": {"datasets": [{"path": "rows.jsonl"}]},
            "evaluate": {"max_samples": 8, "max_new_tokens": 8, "batch_size": 3},
            "launch": {"device": "cpu", "threads": 1},
            **tables,
        }
    )
    run_json = {
        "schema_version": SCHEMA_VERSION,
        "settings": settings.model_dump(mode="json"),
        "provenance": {"lora.r": {"value": 16, "source": "profile", "reason": f"see {base}"}},
        "model": asdict(resolve_model(str(base))),
        "machine": {"hostname": "alices-box", "cpu": {"name": "Test CPU"}},
        "base_dir": str(base.parent),
        "versions": {"torch": torch.__version__},
    }
    (folder / "run.json").write_text(json.dumps(run_json))
    turns = [[{"role": "user", "content": ask}, {"role": "assistant", "content": reply}] for ask, reply in ROWS]
    (folder / "data" / "validation.jsonl").write_text("".join(json.dumps({"messages": one}) + "\n" for one in turns))
    (folder / "data" / "report.json").write_text("{}")
    (folder / "summary.json").write_text(json.dumps({"step": 7, "weights_step": 6, "device": "CPU", "seconds": 1.0}))
    AutoTokenizer.from_pretrained(base).save_pretrained(folder / "tokenizer")
    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    torch.manual_seed(1)
    if method == "full":
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
        model.save_pretrained(folder / "model")
    else:
        _save_adapter(model, settings, folder / "adapter")
    return folder


def _save_adapter(model: Any, settings: Profile, folder: Path) -> None:
    from engine.modeling import adapters

    adapted = adapters.attach(model, settings)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.1)
    adapted.save_pretrained(folder)


def job(run: Path, **params: Any) -> Job:
    """A job as the worker hands it over."""
    folder = run / "job"
    folder.mkdir(exist_ok=True)
    return Job(folder, {"run_dir": str(run), **params}, EventWriter(folder / "events.jsonl"))


def told(run: Path, kind: str) -> list[dict[str, Any]]:
    return [event for event in read_events(run / "job" / "events.jsonl")[0] if event["type"] == kind]
