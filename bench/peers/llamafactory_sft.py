"""LLaMA-Factory's own training entry with its defaults: `python llamafactory_sft.py '{"dtype": "bf16", …}'`."""

from __future__ import annotations

import importlib.util
import json
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

from meter import Meter, tell


def without_audio() -> None:
    """LLaMA-Factory imports torchaudio even for text; its wheels want CUDA, so an empty module stands in."""
    if importlib.util.find_spec("torchaudio") is None:
        sys.modules["torchaudio"] = types.ModuleType("torchaudio")


def main(job: dict[str, Any]) -> dict[str, Any]:
    """Train `job["steps"]` optimizer steps; the rows stand in a `dataset_info.json` as the tool wants it."""
    without_audio()
    from llamafactory.train.sft.trainer import CustomSeq2SeqTrainer
    from llamafactory.train.tuner import run_exp

    meter = Meter(job["accumulation"])
    meter.attach(CustomSeq2SeqTrainer)
    with tempfile.TemporaryDirectory() as folder:
        info = {"rows": {"file_name": job["data"]}}
        (Path(folder) / "dataset_info.json").write_text(json.dumps(info))
        run_exp(
            {
                "stage": "sft",
                "do_train": True,
                "model_name_or_path": job["model"],
                "finetuning_type": "lora",
                "lora_rank": 16,
                "lora_alpha": 32,
                "lora_target": "all",
                "dataset": "rows",
                "dataset_dir": folder,
                "template": "smollm2",
                "cutoff_len": job["max_length"],
                "max_samples": job["rows"],
                "output_dir": f"{folder}/out",
                "per_device_train_batch_size": job["micro_batch"],
                "gradient_accumulation_steps": job["accumulation"],
                "learning_rate": 2e-4,
                "max_steps": job["steps"],
                "save_steps": 1_000_000,
                "logging_steps": 1,
                "bf16": job["dtype"] == "bf16",
                "use_cpu": True,
                "report_to": "none",
            }
        )
    return meter.result()


if __name__ == "__main__":
    tell(main(json.loads(sys.argv[1])))
