"""Evaluating a finished run: base against tuned, what is left out, and what cannot be evaluated."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.errors import EngineError, ExitCode
from engine.evaluate.run import run as evaluate
from engine.export.run import run as export
from engine.runs.launch import run_job
from tests.process.finished_runs import ROWS, job, make_run, told


def plain_loss(run: Path, base: Path) -> tuple[float, int]:
    """Mean loss over the answers of the tuned model, row by row, by transformers and PEFT alone."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(run / "tokenizer")
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), run / "adapter").eval()
    nll, tokens = 0.0, 0
    for ask, reply in ROWS:
        turns = [{"role": "user", "content": ask}, {"role": "assistant", "content": reply}]
        before = tokenizer.apply_chat_template(turns[:1], tokenize=False, add_generation_prompt=True)
        whole = tokenizer.apply_chat_template(turns, tokenize=False).rstrip()
        start = len(tokenizer(before, add_special_tokens=False).input_ids)
        ids = torch.tensor([tokenizer(whole, add_special_tokens=False).input_ids])
        with torch.inference_mode():
            loss = torch.log_softmax(model(input_ids=ids).logits[0, :-1].float(), -1)
        nll -= float(loss.gather(1, ids[0, 1:, None])[start - 1 :].sum())
        tokens += ids.shape[1] - start
    return nll / tokens, tokens


def test_evaluation_compares_base_and_tuned(run: Path, base: Path) -> None:
    report = evaluate(job(run, rows=len(ROWS)))
    loss, tokens = plain_loss(run, base)
    assert report["tuned"]["loss"] == pytest.approx(loss, rel=1e-5)
    assert report["tokens"] == tokens
    assert report["base"]["loss"] != pytest.approx(loss, rel=1e-3)
    assert report["delta"]["loss"] == pytest.approx(report["tuned"]["loss"] - report["base"]["loss"])
    wanted = {"perplexity", "rouge1", "rouge2", "rougeL", "rougeLsum", "bleu", "chrf", "exact_match", "token_f1"}
    assert wanted <= set(report["tuned"])
    assert report["verdict"] in ("better", "no different", "worse")
    assert (report["rows"], report["rows_held_out"], report["rows_answered"]) == (12, 12, 12)
    assert [sample["prompt"] for sample in report["samples"]] == [ask for ask, _ in ROWS[:6]]
    assert report["counts"]["tuned"]["unstopped"] > 0
    stored = json.loads((run / "eval" / "report.json").read_text())
    assert stored["tuned"] == report["tuned"]
    assert "verdict: " in (run / "eval" / "report.txt").read_text()
    assert [(event["model"], event["step"]) for event in told(run, "eval")] == [("base", 0), ("tuned", 6)]
    assert {event["unit"] for event in told(run, "progress")} == {"rows", "passages", "answers"}
    assert len(told(run, "sample")) == 12


def test_evaluation_of_full_tuning_loads_both_models(tmp_path: Path, base: Path) -> None:
    full = make_run(tmp_path / "full", base, method="full", evaluate={"metrics": ["perplexity"], "max_samples": 4})
    report = evaluate(job(full))
    assert set(report["tuned"]) == {"loss", "perplexity"}
    assert report["tuned"]["loss"] != report["base"]["loss"]
    assert len(report["samples"]) == 4


def test_long_rows_are_cut_or_left_out_and_told(run: Path) -> None:
    turns = [{"role": "user", "content": "word " * 400}, {"role": "assistant", "content": "yes"}]
    with (run / "data" / "validation.jsonl").open("a") as file:
        file.write(json.dumps({"messages": turns}) + "\n")
    report = evaluate(job(run, rows=13))
    assert (report["rows"], report["rows_answered"], report["rows_cut"], report["rows_too_long"]) == (13, 12, 1, 1)
    assert {event["code"] for event in told(run, "warning")} == {"rows_cut", "rows_too_long", "retention_cut"}


def test_no_held_out_rows(run: Path) -> None:
    (run / "data" / "validation.jsonl").write_text("")
    with pytest.raises(EngineError, match="held no rows out") as caught:
        evaluate(job(run))
    assert caught.value.code is ExitCode.DATA
    assert "validation_fraction" in caught.value.hint


@pytest.mark.parametrize("work", [evaluate, export])
def test_a_run_without_weights(run: Path, work: Any) -> None:
    shutil.rmtree(run / "adapter")
    with pytest.raises(EngineError, match="left no trained weights") as caught:
        work(job(run))
    assert caught.value.code is ExitCode.MODEL
    assert f"engine runs resume {run.name}" in caught.value.hint


@pytest.mark.parametrize("work", [evaluate, export])
def test_a_damaged_adapter(run: Path, work: Any) -> None:
    path = run / "adapter" / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(EngineError) as caught:
        work(job(run))
    assert caught.value.code is ExitCode.MODEL
    assert not (run / "export").exists()


@pytest.mark.parametrize("work", [evaluate, export])
def test_a_run_that_still_trains(run: Path, work: Any) -> None:
    code = (
        "import sys; from pathlib import Path; from engine.runs.lock import acquire\n"
        "assert acquire(Path(sys.argv[1])) is not None; print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(run / "lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(EngineError, match=f"still training .pid {holder.pid}") as caught:
            work(job(run))
        assert caught.value.code is ExitCode.RESOURCES
    finally:
        holder.communicate()


@pytest.mark.usefixtures("warm_workers")
def test_both_jobs_through_the_worker(run: Path) -> None:
    seen: list[dict[str, Any]] = []
    run_json = json.loads((run / "run.json").read_text())
    params = {"run_dir": str(run), "run_json": run_json}
    report = run_job({"job": "evaluate", **params, "rows": 4}, seen.append, directory=run / "eval")
    assert report["rows"] == 4
    result = run_job({"job": "export", **params, "merged": False}, seen.append, directory=run / "export-job")
    assert Path(result["card"]).is_file()
    assert [event["exit_code"] for event in seen if event["type"] == "finished"] == [0, 0]
    assert "## Evaluation" in Path(result["card"]).read_text()
