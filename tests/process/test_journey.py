"""From a profile to an exported model, by shell commands only, for adapters and for full fine-tuning."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.process.conftest import FAST

pytestmark = pytest.mark.usefixtures("warm_workers")


@pytest.mark.slow
def test_full_fine_tuning_is_trained_scored_and_exported(shell):
    profile = FAST.replace('method = "lora"', 'method = "full"').replace('dtype = "fp32"', 'dtype = "bf16"')
    trained = shell.engine("train", shell.write("p.toml", profile), "--json")
    assert trained.code == 0, trained.err
    assert trained.json["weights"] == "model"
    assert trained.json["trainable_parameters"] == trained.json["total_parameters"]
    report = shell.engine("evaluate", "last", "--json")
    assert report.code == 0, report.err
    assert report.json["tuned"]["loss"] < report.json["base"]["loss"]
    exported = shell.engine("export", "last", "--json")
    assert exported.code == 0, exported.err
    assert (Path(exported.json["merged"]) / "model.safetensors").exists()


@pytest.mark.slow
def test_the_demo_teaches_what_the_model_could_not_do(shell):
    fewer = ("train.num_train_epochs=1", "train.eval_steps=42", "train.save_steps=42", "evaluate.max_samples=50")
    done = shell.engine("demo", "--json", *[word for change in fewer for word in ("--set", change)], timeout=400)
    assert done.code == 0, done.err
    result = done.json
    assert result["base"]["exact_match"] <= 0.2
    assert result["tuned"]["exact_match"] >= 0.8
    assert result["verdict"] == "better"
    card = Path(result["export"]["card"]).read_text()
    assert str(shell.folder) not in card
    config = json.loads((Path(result["export"]["merged"]) / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert any(entry["reason"] for entry in result["chosen"].values())


def test_data_check_and_preview_show_what_is_trained(shell):
    profile = shell.write("p.toml", FAST)
    checked = shell.engine("data", "check", profile, "--json")
    assert checked.code == 0, checked.err
    previewed = shell.engine("data", "preview", profile, "--rows", "1", "--json")
    assert previewed.code == 0, previewed.err
    (document,) = previewed.json["documents"]
    trained = "".join(token["text"] for token in document["tokens"] if token["trained"])
    row = json.loads((Path(__file__).parents[2] / "engine/demo/data/dates.train.jsonl").read_text().splitlines()[0])
    assert trained.startswith(row["completion"])
    assert row["prompt"] not in trained
