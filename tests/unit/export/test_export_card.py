"""The model card: metadata that reads back, numbers of the run, nothing of the machine."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from engine.evaluate.report import EvaluationReport, read_report_of
from engine.export.card import card_text
from engine.export.facts import Facts
from engine.export.report import FormatReport, format_of
from engine.inference.run import OpenedRun
from engine.profile.schema import Profile
from engine.runs.record import read_record_of

TOKEN = "hf_" + "Canary0" * 5


def facts(
    tmp_path: Path, *, kind: str = "merged", base: str = "meta-llama/Llama-3.1-8B", hub: bool = True, **more: Any
) -> Facts:
    profile = {
        "name": more.get("name", "my-run"),
        "model": {"name_or_path": base, "max_length": 512, "dtype": "bf16"},
        "quantization": {"method": "nf4"},
        "tuning": {"method": more.get("method", "lora")},
        "data": {"datasets": [{"path": "/home/alice/secret.jsonl"}], "system": more.get("system", "")}
        | more.get("data", {}),
        "launch": {"device": "cuda", "gpu": "GPU-1234-uuid"},
    }
    run_json = {
        "schema_version": 1,
        "settings": profile,
        "provenance": {
            "train.learning_rate": {"value": 2e-4, "source": "auto", "reason": "LoRA | see /home/alice/notes.txt"},
            "lora.r": {"value": 16, "source": "profile", "reason": ""},
        },
        "machine": {"hostname": "alices-box", "cpu": {"name": "Xeon"}, "gpus": [{"uuid": "GPU-1234-uuid"}]},
        "model": {"licence": more.get("licence", "llama3.1"), "path": "/home/alice/llama"},
        "versions": {"torch": "2.13.0", "tunedeck": "0.1.0", "bitsandbytes": None},
        "profile_path": "/home/alice/p.toml",
        "base_dir": "/home/alice",
    }
    (tmp_path / "data").mkdir(exist_ok=True)
    summary = {"step": 60, "tokens": 123456, "seconds": 754.0, "device": "NVIDIA RTX 4090", "best_eval_loss": 1.25}
    summary |= {"best_step": 50, "trainable_parameters": 4_000_000, "total_parameters": 8_000_000_000}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    part = {"path": "/home/alice/secret.jsonl", "format": "alpaca", "rows_read": 1000, "kept": 990, "cut": 3}
    part["dropped"] = [{"cause": "empty answer", "rows": 10}]
    numbers = {"rows": 940, "tokens": 90000, "trained_tokens": 50000}
    (tmp_path / "data" / "report.json").write_text(json.dumps({"datasets": [part], "train": numbers}))
    weights = tmp_path / ("model" if more.get("method") in ("full", "freeze") else "adapter")
    trained = OpenedRun(tmp_path, read_record_of(run_json), Profile.model_validate(profile), tmp_path, weights)
    return Facts(
        kind,
        trained,
        base,
        hub,
        "bf16",
        2**31,
        _entry(more.get("parity")),
        _report(more.get("report")),
        format_of(PARITY),
    )


def _entry(found: dict[str, Any] | None) -> FormatReport | None:
    return None if found is None else format_of(found)


def _report(found: dict[str, Any] | None) -> EvaluationReport | None:
    return None if found is None else read_report_of({"counts": {}, "samples": [], "seconds": 3.0, **found})


ANSWER = {"text": "hi", "tokens": 2, "stopped": True, "same_as_merged": True}
PARITY: dict[str, Any] = {
    "against": "base + adapter in bf16",
    "positions": 158,
    "rows": [{}] * 4,
    "max_abs_diff": 0.125,
    "mean_abs_diff": 0.005,
    "relative_rms": 0.0035,
    "tolerance": 0.06,
    "top1_agreement": 1.0,
    "perplexity": 2.5,
    "size_bytes": 6 * 2**20,
    "memory_bytes": 6 * 2**20,
    "stored": {"bf16": 10},
    "answers": [ANSWER, ANSWER | {"stopped": False}],
}
STATIC = {"calibration_rows": 64, "fixed_layers": 26, "layers": 28}
REPORT = {
    "base": {"perplexity": 9.0, "rougeL": 20.0, "exact_match": 0.1},
    "tuned": {"perplexity": 4.5, "rougeL": 40.0, "exact_match": 0.9},
    "delta": {"perplexity": -4.5, "rougeL": 20.0, "exact_match": 0.8},
    "intervals": {"rougeL": [15.0, 25.0]},
    "rows": 64,
    "rows_held_out": 200,
    "verdict": "better",
    "verdict_reason": "ROUGE-L better",
}


def head(text: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(text.split("---\n")[1])
    return found


def test_metadata_of_a_hub_base(tmp_path: Path) -> None:
    text = card_text(facts(tmp_path, parity=PARITY, report=REPORT))
    found = head(text)
    assert found["base_model"] == "meta-llama/Llama-3.1-8B"
    assert found["base_model_relation"] == "finetune"
    assert found["license"] == "llama3.1"
    assert found["library_name"] == "transformers"
    assert found["pipeline_tag"] == "text-generation"
    assert {"tunedeck", "lora", "qlora"} <= set(found["tags"])
    assert "datasets" not in found
    metrics = {item["type"]: item["value"] for item in found["model-index"][0]["results"][0]["metrics"]}
    assert metrics == {"perplexity": 4.5, "rouge": 40.0, "exact_match": 0.9}
    assert ModelCard(text).data.eval_results is not None


def test_the_text_holds_the_numbers(tmp_path: Path) -> None:
    text = card_text(facts(tmp_path, parity=PARITY, report=REPORT))
    for wanted in (
        "| ROUGE-L | 20.0 | 40.0 | +20.0  \\[+15.0, +25.0\\] |",
        "largest difference of a logit: 0.125",
        "1 of 2 answers ended by themselves",
        "| `lora.r` | `16` | profile |",
        "1000 rows read, 990 kept, 3 cut; left out: 10 empty answer",
        "60 steps, 123,456 tokens",
        "Trained on NVIDIA RTX 4090 in 12 min. torch 2.13.0, tunedeck 0.1.0.",
        "nf4-quantized",
    ):
        assert wanted in text, wanted


@pytest.mark.parametrize("kind", ["merged", "adapter"])
def test_nothing_of_the_machine_is_in_it(tmp_path: Path, kind: str) -> None:
    made = facts(tmp_path, kind=kind, parity=PARITY, report=REPORT, system=f"key {TOKEN} in /home/alice/x")
    text = card_text(made)
    for hidden in ("alice", "GPU-1234", "secret.jsonl", TOKEN, str(tmp_path), "launch."):
        assert hidden not in text, hidden
    assert "[secret]" in text.replace("\\", "")


def test_names_cannot_break_out_of_the_card(tmp_path: Path) -> None:
    made = facts(tmp_path, base="local", hub=False, licence="custom: |\n---\nx: y", name=None)
    made = dataclasses.replace(made, base="evil: <b>`x`</b> --- \x1b[2J")
    text = card_text(made)
    assert head(text)["license"] == "other"
    assert text.count("\n---\n") == 1
    assert "\x1b" not in text
    assert "<b>" not in text.split("---\n", 2)[2].replace("\\<b\\>", "")


def test_local_bases_are_not_given_as_hub_models(tmp_path: Path) -> None:
    text = card_text(facts(tmp_path, kind="adapter", base="my-base", hub=False, licence=""))
    found = head(text)
    assert "base_model" not in found
    assert "license" not in found
    assert found["library_name"] == "peft"
    assert "give the directory of that model" in text
    assert "base = 'my-base'" in text
    assert "licence of the base model is not known" in text


def test_unknown_licences_go_out_by_name(tmp_path: Path) -> None:
    found = head(card_text(facts(tmp_path, licence="qwen-research")))
    assert (found["license"], found["license_name"]) == ("other", "qwen-research")


def test_full_tuning_names_no_adapter(tmp_path: Path) -> None:
    text = card_text(facts(tmp_path, method="full", parity=PARITY))
    assert "full-fine-tuning" in head(text)["tags"]
    assert "lora.r" not in text


def test_the_last_layers_are_called_what_they_are(tmp_path: Path) -> None:
    text = card_text(facts(tmp_path, method="freeze", parity=PARITY))
    assert "last-layers" in head(text)["tags"]
    assert "Made by training the last 2 layers of" in text
    assert "lora.r" not in text


def test_a_quantized_card_says_what_it_costs_and_saves(tmp_path: Path) -> None:
    cost = PARITY | {"against": "the merged model in bf16", "size_bytes": 3 * 2**20, "perplexity": 2.75}
    text = card_text(facts(tmp_path, kind="int8-dynamic", parity=cost))
    for wanted in (
        "compared with the merged model in bf16",
        "weights on disk: 6 MiB before, 3 MiB after",
        "perplexity of the answers in these texts: 2.750 (merged: 2.500)",
        "2 are the merged model's to the letter",
        "pip install torchao",
        "AutoModelForCausalLM.from_pretrained(path",
    ):
        assert wanted in text, wanted
    assert "activation_scales" not in text


def test_fixed_scales_and_ends_of_answers_are_in_the_code(tmp_path: Path) -> None:
    fixed = card_text(facts(tmp_path, kind="int8-static", parity=PARITY | STATIC))
    assert "activation_scales.safetensors" in fixed
    assert "fixed scales of activations in 26 of 28 layers, from 64 texts; the others have outliers" in fixed
    adapter = card_text(facts(tmp_path, kind="adapter", parity=PARITY | {"stops": [2, 4]}))
    assert "max_new_tokens=128, eos_token_id=[2, 4])" in adapter
    assert "compared with base + adapter in bf16" in adapter


def test_an_adapter_that_peft_misplaces_comes_with_the_lines_that_put_it_right(tmp_path: Path) -> None:
    usual = card_text(facts(tmp_path, kind="adapter", parity=PARITY))
    assert "transformers_weight_conversion" not in usual
    code = card_text(facts(tmp_path, kind="adapter", parity=PARITY | {"misplaced": 12})).split("```python")[1]
    lines = code.split("```")[0].splitlines()
    compile("\n".join(lines), "card", "exec")
    patched = [number for number, line in enumerate(lines) if line.startswith("conversion.")]
    loading = next(number for number, line in enumerate(lines) if "PeftModel.from_pretrained" in line)
    assert len(patched) == 2
    assert max(patched) < loading


def test_a_model_of_plain_text_is_shown_with_plain_text(tmp_path: Path) -> None:
    text = card_text(dataclasses.replace(facts(tmp_path, parity=PARITY), chats=False))
    assert "apply_chat_template" not in text
    assert 'inputs = tokenizer("Once upon a time"' in text


def test_the_code_hands_the_template_what_training_handed_it(tmp_path: Path) -> None:
    arguments = {"enable_thinking": False, "city": "a\n```\nb"}
    text = card_text(facts(tmp_path, data={"template_arguments": arguments}))
    assert "**{'enable_thinking': False, 'city': 'a\\n```\\nb'}" in text
    code = text.partition("```python\n")[2].partition("\n```\n")[0]
    compile(code, "card", "exec")


def test_an_infinite_score_stays_out_of_the_metadata(tmp_path: Path) -> None:
    report = REPORT | {"tuned": {"perplexity": None, "rougeL": 40.0}, "delta": {"perplexity": None, "rougeL": 20.0}}
    metrics = head(card_text(facts(tmp_path, report=report)))["model-index"][0]["results"][0]["metrics"]
    assert [item["type"] for item in metrics] == ["rouge"]
