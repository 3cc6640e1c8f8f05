"""Evaluating what was exported: the run's own rows and base, or any rows, alone or beside a base; and bad files."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from engine.errors import EngineError, ExitCode
from engine.evaluate.run import run as evaluate
from engine.export.run import run as export
from engine.profile.schema import Profile
from engine.runs.events import EventWriter
from engine.runs.job import Job
from tests.process.conftest import Shell
from tests.process.finished_runs import ROWS, job, make_base, make_run, told

pytestmark = pytest.mark.usefixtures("warm_workers")

SCORES = ("loss", "rougeL", "chrf", "exact_match", "retention")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with every kind of export in it."""
    base = make_base(tmp_path_factory.mktemp("models") / "tiny-llama")
    run = make_run(tmp_path_factory.mktemp("runs") / "finished", base)
    # The random model knows no language: texts of the person's own count all the same.
    (base.parent / "other.txt").write_text(
        "\n\n".join(f"The {number} cats sleep on the mat. " * 14 for number in range(8))
    )
    run_json = json.loads((run / "run.json").read_text())
    run_json["settings"]["evaluate"]["retention_path"] = "other.txt"
    (run / "run.json").write_text(json.dumps(run_json))
    export(job(run, quantized=["nf4", "int8-static"], gguf=["f16"]))
    return run


def rows_file(folder: Path) -> Path:
    path = folder / "rows.jsonl"
    lines = [json.dumps({"question": ask, "answer": reply}) for ask, reply in ROWS]
    path.write_text("\n".join([*lines, '{"question": "no answer"}']))
    return path


def alone(folder: Path, path: Path, **params: Any) -> Job:
    """A job without a run."""
    tables = {"model": {"name_or_path": "?"}, "data": {"datasets": [{"path": "?"}]}}
    tables["evaluate"] = {"max_new_tokens": 8, "metrics": ["perplexity", "rouge", "retention"]}
    settings = Profile.model_validate(tables).model_dump(mode="json")
    work = folder / "job"
    work.mkdir()
    wanted = {"path": str(path), "settings": settings, "base_dir": str(folder), **params}
    return Job(work, wanted, EventWriter(work / "events.jsonl"))


def test_each_export_is_measured_on_the_rows_of_its_run(exported: Path) -> None:
    own = evaluate(job(exported))
    (gguf,) = (exported / "export" / "gguf").glob("*.gguf")
    for path, stored, near in (
        (exported / "export" / "merged", "fp32", 1e-4),
        (exported / "export" / "adapter", "adapter", 1e-4),
        (gguf, "GGUF read as bf16", 0.02),
        (exported / "export" / "nf4", "bitsandbytes", 0.5),
        (exported / "export" / "int8-static", "torchao with fixed scales", 0.1),
    ):
        found = evaluate(job(exported, path=str(path)))
        assert found["quantization"] == stored
        assert found["base"] == pytest.approx(own["base"], rel=1e-5)
        for name in SCORES[:1] if near > 0.01 else SCORES:
            assert found["tuned"][name] == pytest.approx(own["tuned"][name], rel=near), (path.name, name)
        assert found["verdict"]
        assert found["retention"]["counted"] == found["retention"]["passages"] > 4
        folder = Path(found["report"]).parent
        assert folder.parent == exported / "eval"
        assert json.loads((folder / "report.json").read_text())["tuned"] == found["tuned"]
    assert json.loads((exported / "eval" / "report.json").read_text())["run"] == exported.name
    assert not {event["code"] for event in told(exported, "warning")} & {"tokens_differ", "tokenizer", "template"}


def test_scaled_positions_of_a_gguf_count(exported: Path, tmp_path: Path) -> None:
    base = Path(
        shutil.copytree(
            json.loads((exported / "run.json").read_text())["settings"]["model"]["name_or_path"],
            tmp_path / "tiny-llama",
        )
    )
    config = json.loads((base / "config.json").read_text())
    config["rope_parameters"] = {"rope_type": "linear", "factor": 8.0, "rope_theta": 10000.0}
    (base / "config.json").write_text(json.dumps(config))
    run = make_run(tmp_path / "run", base, evaluate={"metrics": ["perplexity"], "max_samples": 12})
    export(job(run, gguf=["f16"]))
    (gguf,) = (run / "export" / "gguf").glob("*.gguf")
    own, found = evaluate(job(run)), evaluate(job(run, path=str(gguf)))
    # bf16 rounds; positions that are not scaled shift the loss by more.
    assert found["tuned"]["loss"] == pytest.approx(own["tuned"]["loss"], abs=0.02)
    assert evaluate(job(exported, rows=12))["tuned"]["loss"] != pytest.approx(own["tuned"]["loss"], abs=0.03)


def test_a_model_alone_has_scores_and_no_verdict(exported: Path, tmp_path: Path) -> None:
    merged = Path(shutil.copytree(exported / "export" / "merged", tmp_path / "merged"))
    found = evaluate(alone(tmp_path, merged, data=str(rows_file(tmp_path)), rows=99))
    assert (found["rows"], found["base"], found["verdict"], found["report"]) == (12, {}, None, None)
    assert found["tuned"]["loss"] == pytest.approx(evaluate(job(exported, rows=12))["tuned"]["loss"], rel=1e-4)
    low, high = found["intervals"]["nll"]
    assert low < found["tuned"]["loss"] < high
    assert "rows_unusable" in {event["code"] for event in told(tmp_path, "warning")}


def test_a_model_beside_a_base_is_compared(exported: Path, tmp_path: Path) -> None:
    base = json.loads((exported / "run.json").read_text())["settings"]["model"]["name_or_path"]
    merged, data = exported / "export" / "merged", str(rows_file(tmp_path))
    found = evaluate(alone(tmp_path, merged, data=data, base=base))
    assert set(found["base"]) == set(found["tuned"]) | {"relevance"} & set(found["base"])
    assert found["verdict"] in ("better", "worse", "no different")
    shutil.rmtree(tmp_path / "job")
    again = evaluate(alone(tmp_path, exported / "export" / "adapter", data=data, base=base))
    assert again["tuned"]["loss"] == pytest.approx(found["tuned"]["loss"], rel=1e-4)


def test_other_tokens_are_not_compared_by_token(exported: Path, tmp_path: Path) -> None:
    other = make_base(tmp_path / "other")
    config = json.loads((other / "tokenizer_config.json").read_text())
    config["chat_template"] = "{% for m in messages %}[{{ m.role }}] {{ m.content }}{{ eos_token }}{% endfor %}"
    (other / "tokenizer_config.json").write_text(json.dumps(config))
    for name in ("chat_template.jinja",):
        (other / name).unlink(missing_ok=True)
    data = str(rows_file(tmp_path))
    found = evaluate(alone(tmp_path, exported / "export" / "merged", data=data, base=str(other)))
    assert "loss" in found["tuned"]
    assert "loss" not in found["delta"]
    assert "nll" not in found["intervals"]
    assert "rougeL" in found["delta"]
    assert "tokens_differ" in {event["code"] for event in told(tmp_path, "warning")}


def only_pickles(model: Path) -> None:
    weights = next(model.glob("*.safetensors"))
    weights.unlink()
    (model / "pytorch_model.bin").write_bytes(pickle.dumps({"a": 1}))


def outside_tokenizer(model: Path) -> None:
    config = json.loads((model / "tokenizer_config.json").read_text())
    (model / "tokenizer_config.json").write_text(json.dumps({**config, "vocab_file": "../../secret"}))


def own_code(model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    config |= {"model_type": "never_heard_of", "auto_map": {"AutoModelForCausalLM": "model.Evil"}}
    (model / "config.json").write_text(json.dumps(config))
    (model / "model.py").write_text(f"open({str(model / 'canary')!r}, 'w').close()")


def damaged(model: Path) -> None:
    weights = next(model.glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1000])


def strange_scales(model: Path) -> None:
    save_file({"model.layers.9.mlp": torch.ones(1)}, model / "activation_scales.safetensors")


def no_weights(model: Path) -> None:
    next(model.glob("*.safetensors")).unlink()


@pytest.mark.parametrize(
    ("spoil", "words", "hint"),
    [
        (only_pickles, "pickle files .pytorch_model.bin., which can run code", "safetensors"),
        (outside_tokenizer, "points outside the model's directory", "do not use"),
        (own_code, "cannot be loaded", ""),
        (damaged, "damaged weights", ""),
        (strange_scales, "activation_scales.safetensors does not fit", "export it again"),
        (no_weights, "no weights there", "safetensors"),
    ],
)
def test_directories_that_are_not_trusted(exported: Path, tmp_path: Path, spoil: Any, words: str, hint: str) -> None:
    model = Path(shutil.copytree(exported / "export" / "merged", tmp_path / "model"))
    spoil(model)
    with pytest.raises(EngineError, match=words) as caught:
        evaluate(alone(tmp_path, model, data=str(rows_file(tmp_path))))
    assert caught.value.code is ExitCode.MODEL
    assert hint in caught.value.hint
    assert not (model / "canary").exists()


def test_adapters_that_are_not_read(exported: Path, tmp_path: Path) -> None:
    adapter = Path(shutil.copytree(exported / "export" / "adapter", tmp_path / "adapter"))
    data = str(rows_file(tmp_path))
    with pytest.raises(EngineError, match="stands on a base, and none is named") as caught:
        evaluate(alone(tmp_path, adapter, data=data))
    assert "--base MODEL; its configuration names 'tiny-llama'" in caught.value.hint
    config = json.loads((adapter / "adapter_config.json").read_text())
    for change in ({"peft_type": "IA3"}, {"megatron_config": {}, "megatron_core": "antigravity"}):
        (adapter / "adapter_config.json").write_text(json.dumps(config | change))
        shutil.rmtree(tmp_path / "job")
        with pytest.raises(EngineError, match="the adapter is"):
            evaluate(alone(tmp_path, adapter, data=data, base="demo"))
    tensors = adapter / "adapter_model.safetensors"
    tensors.rename(adapter / "adapter_model.bin")
    shutil.rmtree(tmp_path / "job")
    with pytest.raises(EngineError, match="pickle"):
        evaluate(alone(tmp_path, adapter, data=data, base="demo"))


def test_from_the_shell(exported: Path, tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    merged = exported / "export" / "merged"
    done = shell.engine("evaluate", str(merged), "--rows", "4", "--set", 'evaluate.metrics=["rouge"]')
    assert done.code == 0, done.err
    assert "merged: base against tuned on 4 of 12 held-out rows" in " ".join(done.out.split())
    assert "ROUGE-L" in done.out
    assert "perplexity" not in done.out.partition("verdict")[0]
    assert max(map(len, done.out.splitlines())) <= 80
    assert str(exported / "eval" / "merged" / "report.txt") in done.err


def test_what_cannot_be_measured_is_said(exported: Path, tmp_path: Path) -> None:
    merged = exported / "export" / "merged"
    bertscore = alone(tmp_path, merged).params["settings"]
    bertscore["evaluate"]["metrics"] = ["bertscore"]
    unnamed = json.loads(json.dumps(bertscore))
    bertscore["evaluate"]["bertscore_encoder"] = "no-such-encoder"
    data = str(rows_file(tmp_path))
    for path, more, code, words in (
        (merged, {"data": data, "settings": unnamed}, ExitCode.PROFILE, "bertscore needs an encoder"),
        (merged, {"data": data, "settings": bertscore}, ExitCode.MODEL, "hf download no-such-encoder"),
        (merged, {"data": data, "base": str(exported / "export" / "adapter")}, ExitCode.MODEL, "is an adapter itself"),
        (exported / "export", {"data": "x"}, ExitCode.MODEL, "it holds adapter, int8-static, merged, nf4, gguf/"),
        (merged, {"data": str(tmp_path / "missing.jsonl")}, ExitCode.DATA, "file not found"),
        (tmp_path, {"data": "x"}, ExitCode.MODEL, "name a folder with config.json"),
    ):
        shutil.rmtree(tmp_path / "job", ignore_errors=True)
        with pytest.raises(EngineError) as caught:
            evaluate(alone(tmp_path, path, **more))
        assert caught.value.code is code
        assert words in f"{caught.value.message} {caught.value.hint}"
        assert caught.value.hint
