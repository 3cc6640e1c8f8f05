"""`engine fit` and `engine recommend` as a person and a script meet them."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from engine.cli.fit import fit, recommend
from engine.errors import EngineError, ExitCode
from engine.hardware import probe
from engine.hardware.machine import Cpu, Gpu, Machine
from engine.memory.shape import GIB


def run(*arguments: str, command: Any = fit) -> Result:
    return CliRunner().invoke(command, list(arguments), env={"COLUMNS": "80"})


def test_the_table_stays_within_80_columns_and_says_what_is_left_out() -> None:
    result = run("--gpu", "RTX 4090")
    lines = result.output.splitlines()
    assert result.exit_code == 0
    assert max(len(text) for text in lines) <= 80
    assert "RTX 4090 (named)" in lines[0]
    assert "more: --limit 0 shows all" in lines[-1]
    assert "more:" not in run("--gpu", "RTX 4090", "--limit", "0").output


def test_one_model_shows_terms_that_add_up_reasons_and_alternatives() -> None:
    result = run("qwen3-8b", "--gpu", "RTX 4090")
    assert result.exit_code == 0
    assert max(len(text) for text in result.output.splitlines()) <= 80
    for word in ("weights", "reserve", "model.dtype = bf16", "alternatives", "tokens/s"):
        assert word in result.output
    document = json.loads(run("qwen3-8b", "--gpu", "RTX 4090", "--json").output)
    model = document["models"][0]
    assert sum(term["bytes"] for term in model["terms"].values()) == model["device_bytes"]
    assert model["choices"]["train.total_batch_size"]["value"] == 16


def test_an_asked_model_that_does_not_fit_exits_with_5() -> None:
    result = run("Llama-3.3-70B-Instruct", "--gpu", "T4")
    assert result.exit_code == 5
    assert "NO" in result.output
    assert "nearest changes that fit" in result.output
    assert run("Llama-3.3-70B-Instruct", "qwen3-0.6b", "--gpu", "T4").exit_code == 5


def test_filters_reach_the_plan() -> None:
    arguments = ("qwen3-8b", "--gpu", "A100-SXM4-80GB", "--context", "4096", "--batch", "8", "--quantization", "nf4")
    model = json.loads(run(*arguments, "--json").output)["models"][0]
    assert model["choices"]["model.max_length"] == {"value": 4096, "reason": "asked for"}
    assert model["choices"]["train.total_batch_size"]["value"] == 8
    assert model["quantization"] == "nf4"


TWO = Machine(
    "box",
    Cpu("Test CPU", physical_cores=8, logical_cores=16),
    64 * GIB,
    60 * GIB,
    "/",
    100 * GIB,
    gpus=tuple(
        Gpu("NVIDIA A100-SXM4-80GB", f"GPU-{letter * 8}", number, total_bytes=80 * GIB, free_bytes=free * GIB)
        for number, (letter, free) in enumerate((("a", 70), ("b", 20)))
    ),
)


@pytest.mark.parametrize(("gpus", "hint"), [(TWO.gpus, "GPU 1 A100-SXM4-80GB"), ((), "or use --device cpu")])
def test_a_device_that_is_not_here_is_told_as_the_option_that_names_it(
    monkeypatch: pytest.MonkeyPatch, gpus: tuple[Gpu, ...], hint: str
) -> None:
    monkeypatch.setattr(probe, "probe_machine", lambda: replace(TWO, gpus=gpus))
    error = run("demo", "--device", "7").exception
    assert isinstance(error, EngineError)
    assert error.where == "--device"
    assert hint in error.hint


@pytest.mark.parametrize(("device", "card"), [("auto", "GPU 0"), ("1", "GPU 1"), ("GPU-bbbb", "GPU 1"), ("cpu", "")])
def test_a_device_of_this_machine_is_planned_for_and_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, device: str, card: str
) -> None:
    monkeypatch.setattr(probe, "probe_machine", lambda **_: TWO)
    document = json.loads(run("qwen3-0.6b", "--device", device, "--json").output)
    assert document["models"][0]["card"] == card
    shown = run("qwen3-0.6b", "--device", device).output
    assert ("a run uses one GPU" + (f": {card} here" if card else "")) in shown
    assert "GPU 1  A100-SXM4-80GB" in shown
    target = tmp_path / "p.toml"
    run("qwen3-0.6b", "--device", device, "--write", str(target), command=recommend)
    launch = tomllib.loads(target.read_text()).get("launch", {})
    named = {"device": "cuda", "gpu": "GPU-bbbbbbbb"}
    assert launch == ({} if device == "auto" else {"device": "cpu"} if device == "cpu" else named)


def test_a_device_that_is_not_here_lists_those_that_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "probe_machine", lambda **_: TWO)
    error = run("--device", "2").exception
    assert isinstance(error, EngineError)
    assert "no GPU here is called '2'" in error.message
    assert "GPU 1 A100-SXM4-80GB (GPU-bbbbbbbb)" in error.hint
    assert run("--device", "1", "--gpu", "T4").exit_code == 2


def test_a_limit_on_memory_is_kept_and_named() -> None:
    free = json.loads(run("llama-3.1-8b", "--gpu", "A100-SXM4-80GB", "--json").output)["models"][0]
    model = json.loads(run("llama-3.1-8b", "--gpu", "A100-SXM4-80GB", "--memory", "12", "--json").output)["models"][0]
    assert model["device_bytes"] <= model["available_bytes"] == 12 * 1024**3 < free["available_bytes"]
    assert model["quantization"] == "nf4"
    assert "12.0 GiB of it, as asked for" in model["choices"]["launch.device"]["reason"]


def test_json_ranks_everything_unless_limited() -> None:
    assert len(json.loads(run("--gpu", "H200", "--json").output)["models"]) >= 40
    limited = json.loads(run("--gpu", "H200", "--json", "--limit", "3").output)
    assert len(limited["models"]) == 3
    assert limited["total"] >= 40


def test_evaluation_is_told_when_it_is_the_widest_moment() -> None:
    narrow = run("llama-3.1-8b", "--gpu", "RTX 4090", "--micro-batch", "1")
    assert "more than training, so evaluation is the peak" in " ".join(narrow.output.split())
    model = json.loads(run("llama-3.1-8b", "--gpu", "RTX 4090", "--micro-batch", "1", "--json").output)["models"][0]
    assert model["evaluation"]["device_bytes"] > model["device_bytes"]
    full = run("llama-3.1-8b", "--gpu", "A100-SXM4-80GB", "--method", "full")
    assert "less than training" in " ".join(full.output.split())


def test_several_cards_get_an_outlook_that_says_what_runs_today() -> None:
    result = run("llama-3.1-8b", "--gpu", "A100-SXM4-80GB", "--count", "4", "--method", "full")
    words = " ".join(result.output.split())
    assert "replicated (DDP)" in words
    assert "sharded (FSDP2)" in words
    assert "this trainer runs on one GPU: these are estimates, not measurements" in words
    assert max(len(text) for text in result.output.splitlines()) <= 80
    arguments = ("llama-3.1-8b", "--gpu", "A100-SXM4-80GB", "--json")
    several, one = (json.loads(run(*arguments, *more).output)["models"][0] for more in (("--count", "4"), ()))
    assert several["outlook"]["cards"] == 4
    assert one["outlook"] is None
    assert one["device_bytes"] == several["device_bytes"], "the plan itself is for one card"


def test_count_without_gpu_is_a_usage_error() -> None:
    assert run("--count", "2").exit_code == 2


def test_unknown_names_are_errors_with_hints() -> None:
    result = run("qwen3-8", "--gpu", "T4")
    assert isinstance(result.exception, EngineError)
    assert result.exception.code is ExitCode.MODEL
    assert isinstance(run("--gpu", "RTX 9999").exception, EngineError)


def test_recommend_prints_choices() -> None:
    result = run("qwen3-8b", "--gpu", "RTX 4090", command=recommend)
    assert result.exit_code == 0
    assert "train.learning_rate = 0.0002" in result.output


def test_recommend_never_overwrites(tmp_path: Path) -> None:
    target = tmp_path / "p.toml"
    target.write_text("mine")
    result = run("qwen3-8b", "--gpu", "RTX 4090", "--write", str(target), command=recommend)
    assert isinstance(result.exception, EngineError)
    assert target.read_text() == "mine"


def test_recommend_writes_nothing_for_what_does_not_fit(tmp_path: Path) -> None:
    target = tmp_path / "p.toml"
    result = run("Llama-3.3-70B-Instruct", "--gpu", "T4", "--write", str(target), command=recommend)
    assert isinstance(result.exception, EngineError)
    assert result.exception.code is ExitCode.RESOURCES
    assert not target.exists()


def test_recommend_refuses_missing_data(tmp_path: Path) -> None:
    arguments = ("qwen3-8b", "--gpu", "RTX 4090", "--write", str(tmp_path / "p.toml"), "--data", str(tmp_path / "no"))
    result = run(*arguments, command=recommend)
    assert isinstance(result.exception, EngineError)
    assert result.exception.code is ExitCode.DATA


def test_a_written_profile_is_loaded_back(tmp_path: Path) -> None:
    load = pytest.importorskip("engine.profile.load")
    data, target = tmp_path / "data" / "rows.jsonl", tmp_path / "profiles" / "p.toml"
    data.parent.mkdir()
    target.parent.mkdir()
    data.write_text('{"instruction": "a", "input": "", "output": "b"}\n')
    result = run("demo", "--gpu", "RTX 4090", "--write", str(target), "--data", str(data), command=recommend)
    assert result.exit_code == 0, result.exception
    loaded = load.load_profile(target)
    assert loaded.problems == ()
    assert loaded.profile.data.datasets[0].path == "../data/rows.jsonl"


def test_fit_imports_no_heavy_library() -> None:
    code = (
        "import sys; sys.argv = ['engine', 'fit', '--gpu', 'RTX 4090', '--json', '--why', '--limit', '5']\n"
        "from engine.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'transformers', 'pydantic', 'datasets', 'textual', 'rich'} & set(sys.modules)\n"
        "print(sorted(heavy), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr.strip() == "[]"
    assert len(json.loads(done.stdout)["models"]) == 5


def test_models_that_answer_too_late_are_named_and_rank_below_those_that_do_not() -> None:
    asked = ("--gpu", "RTX 4090", "--latency-ms", "60", "--limit", "0")
    models = [model for model in json.loads(run(*asked, "--json").output)["models"] if model["verdict"] == "OK"]
    in_time = [model["answers_in_time"] for model in models]
    assert True in in_time
    assert False in in_time
    assert in_time == sorted(in_time, reverse=True)
    for model in models:
        assert model["answers_in_time"] == (model["latency"]["first_token_s"] <= 0.060)
    table = run(*asked)
    assert "OK late" in table.output
    assert max(len(text) for text in table.output.splitlines()) <= 80
    assert "later than --latency-ms" in run("llama-3.1-8b", *asked).output


def test_tokens_to_train_on_become_a_time() -> None:
    asked = ("llama-3.1-8b", "--gpu", "RTX 4090", "--tokens", "12000000")
    model = json.loads(run(*asked, "--json").output)["models"][0]
    assert model["training_time_s"] == pytest.approx(12e6 / model["tokens_per_second"])
    assert "for 12 M tokens" in run(*asked).output
    (thrice,) = json.loads(run(*asked, "--epochs", "3", "--json").output)["models"]
    assert thrice["training_time_s"] == pytest.approx(3 * model["training_time_s"])
    assert "for 3 epochs of 12 M tokens" in run(*asked, "--epochs", "3").output
    assert "time" in run("--gpu", "RTX 4090", "--tokens", "12000000").output.splitlines()[2]


def test_a_card_without_published_runs_is_called_rough() -> None:
    table = run("--gpu", "RTX 5090", "--limit", "1").output.splitlines()
    assert "~" in table[3]
    assert "may be off" in run("llama-3.1-8b", "--gpu", "RTX 5090").output
    assert "~" not in run("qwen3-8b", "llama-3.1-8b", "--gpu", "A100-SXM4-80GB").output
    assert "~" in run("qwen3.5-4b", "llama-3.1-8b", "--gpu", "A100-SXM4-80GB").output


def test_a_context_that_is_too_long_leads_the_verdict() -> None:
    result = run("qwen2.5-0.5b-instruct", "--gpu", "RTX 4090", "--context", "65536")
    assert result.exit_code == ExitCode.RESOURCES
    assert "NO  the model reads 32,768 tokens, not 65,536" in result.output
    assert "spare" not in result.output
    asked = run("qwen2.5-0.5b-instruct", "--gpu", "RTX 4090", "--context", "65536", command=recommend)
    assert isinstance(asked.exception, EngineError)
    assert "the model reads 32,768 tokens" in asked.exception.message


def test_what_is_fetched_and_held_in_main_memory_is_told() -> None:
    result = run("Llama-3.1-8B", "--gpu", "RTX 4090")
    assert "download 15.0 GiB, RAM about" in result.output
    needs = json.loads(run("Llama-3.1-8B", "--gpu", "RTX 4090", "--json").output)["models"][0]["needs"]
    assert needs["download_bytes"] == 2 * 8_030_261_248
    assert 0 < needs["train_ram_bytes"] < needs["load_ram_bytes"] < needs["merge_ram_bytes"]
    demo = json.loads(run("demo", "--gpu", "RTX 4090", "--json").output)["models"][0]["needs"]
    assert demo["download_bytes"] == 0


def test_a_memory_that_was_chosen_of_several_is_told_with_the_number_of_cards() -> None:
    result = run("qwen3-0.6b", "--gpu", "2 x RTX 4060 Ti")
    assert "planned for 8 GB" in result.output
    assert "GPU 1" in result.output
    gpus = json.loads(run("qwen3-0.6b", "--gpu", "2 x RTX 4060 Ti", "--json").output)["machine"]["gpus"]
    assert len(gpus) == 2
    assert "planned for 8 GB" in gpus[0]["notes"][0]
