"""Exporting a finished run: merged and adapter, proved against the tuned model; disks, memory and foreign files."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.errors import EngineError, ExitCode
from engine.evaluate.run import run as evaluate
from engine.export import merge, place
from engine.export.run import run as export
from tests.process.finished_runs import job, make_run

CANARY = "hf_" + "Canary7" * 5


def logits(model: Any, ids: Any) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model(input_ids=ids).logits
    return found


def entry(result: dict[str, Any], name: str = "merged") -> dict[str, Any]:
    """The entry of a format in the parity report."""
    (found,) = [made for made in result["parity"]["formats"] if made["format"] == name]
    return found


def test_export_is_base_and_adapter(run: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    monkeypatch.setenv("HF_TOKEN", CANARY)
    evaluate(job(run))
    result = export(job(run, quantized=["int8-static"], gguf=["q8_0"]))
    target = run / "export"
    assert (result["adapter"], result["merged"]) == (str(target / "adapter"), str(target / "merged"))
    made = entry(result)
    assert made["relative_rms"] < 1e-5
    assert made["top1_agreement"] == 1.0
    assert made["adapter_effect"]["relative"] > 0.1
    assert made["stored"] == {"fp32": sum(p.numel() for p in AutoModelForCausalLM.from_pretrained(base).parameters())}
    assert made["template_survives"]
    assert made["stops_survive"]
    assert entry(result, "adapter")["relative_rms"] < 1e-5
    assert all(answer["same_as_merged"] for answer in entry(result, "adapter")["answers"])
    ids = torch.arange(5, 45)[None]
    wanted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), run / "adapter").eval()
    merged = AutoModelForCausalLM.from_pretrained(result["merged"], dtype="auto").eval()
    again = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), result["adapter"]).eval()
    torch.testing.assert_close(logits(merged, ids), logits(wanted, ids), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(logits(again, ids), logits(wanted, ids))
    assert not [path for path in run.iterdir() if path.name.startswith(".")]
    _nothing_of_the_machine(target, run, base)


def _nothing_of_the_machine(target: Path, run: Path, base: Path) -> None:
    config = json.loads((target / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "tiny-llama"
    for path in target.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        for hidden in (CANARY, str(run), str(base.parent), "alices-box"):
            assert hidden.encode() not in content, (path.name, hidden)


def code_of(card: Path) -> str:
    found = re.search(r"```python\n(.*?)```", card.read_text(), re.DOTALL)
    assert found is not None
    return found[1]


def test_the_code_of_both_cards_runs(run: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export(job(run))
    for kind in ("merged", "adapter"):
        code = code_of(run / "export" / kind / "README.md").replace("128", "4")
        if kind == "adapter":
            assert "'tiny-llama'" in code
            code = code.replace("'tiny-llama'", repr(str(base)))
        monkeypatch.chdir(run / "export" / kind)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, kind, "exec"), {})
        assert printed.getvalue()


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_export_in_16_bit_in_shards(run: Path, dtype: str) -> None:
    text = (run / "run.json").read_text()
    run_json = json.loads(text)
    run_json["settings"]["export"]["max_shard_gib"] = 1e-4
    (run / "run.json").write_text(json.dumps(run_json))
    result = export(job(run, dtype=dtype, quantized=["int8-dynamic"]))
    assert len(list(Path(result["int8-dynamic"]).glob("model-*.safetensors"))) > 1
    assert list(entry(result)["stored"]) == [dtype]
    assert 0 < entry(result)["relative_rms"] < 0.03
    merged = Path(result["merged"])
    assert len(list(merged.glob("model-*.safetensors"))) > 1
    assert (merged / "model.safetensors.index.json").is_file()


def test_a_quantized_base_is_merged_unquantized(tmp_path: Path, base: Path) -> None:
    quantized = make_run(tmp_path / "nf4", base, quantization="nf4")
    result = export(job(quantized))
    # Against the unquantized base with its adapter: nf4's own error would be a hundred times the tolerance.
    assert entry(result)["relative_rms"] < 1e-5
    assert list(entry(result)["stored"]) == ["fp32"]
    assert "quantization_config" not in json.loads((Path(result["merged"]) / "config.json").read_text())


def test_a_trained_head_is_no_longer_tied(tmp_path: Path, base: Path) -> None:
    from transformers import LlamaForCausalLM

    tied = Path(shutil.copytree(base, tmp_path / "tied"))
    model = LlamaForCausalLM.from_pretrained(base)
    model.config.tie_word_embeddings = True
    model.tie_weights()
    model.save_pretrained(tied)
    own_head = make_run(tmp_path / "own", tied, lora={"modules_to_save": ["lm_head"]})
    config = own_head / "adapter" / "adapter_model.safetensors"
    from safetensors.torch import load_file, save_file

    tensors = load_file(config)
    head = next(name for name in tensors if "lm_head" in name)
    tensors[head] = tensors[head] + 0.2 * torch.randn_like(tensors[head])
    save_file(tensors, config)
    result = export(job(own_head))
    assert entry(result)["relative_rms"] < 1e-5
    assert json.loads((Path(result["merged"]) / "config.json").read_text())["tie_word_embeddings"] is False


def test_full_tuning_exports_its_model(tmp_path: Path, base: Path) -> None:
    full = make_run(tmp_path / "full", base, method="full")
    result = export(job(full))
    assert result["adapter"] is None
    assert entry(result)["relative_rms"] < 1e-6
    with pytest.raises(EngineError, match="no adapter"):
        export(job(full, merged=False))


def test_the_adapter_alone(run: Path, tmp_path: Path) -> None:
    result = export(job(run, merged=False, output=str(tmp_path / "out" / "adapter-only")))
    assert result["merged"] is None
    assert [made["format"] for made in result["parity"]["formats"]] == ["adapter"]
    assert entry(result, "adapter")["relative_rms"] < 1e-5
    assert {path.name for path in (tmp_path / "out" / "adapter-only").iterdir()} == {
        "adapter",
        "export.json",
        "parity.json",
        "parity.txt",
    }
    assert Path(result["card"]).parent.name == "adapter"


def spoiled(kind: str) -> Any:
    """A merge that does not do its work."""
    real = merge.merge

    def forget(adapted: Any) -> Any:
        return adapted.unload()

    def double(adapted: Any) -> Any:
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.data *= 2
        return real(adapted)

    def wrong_layer(adapted: Any) -> Any:
        merged = real(adapted)
        merged.model.layers = torch.nn.ModuleList(reversed(merged.model.layers))
        return merged

    return {"forgotten": forget, "doubled": double, "layers swapped": wrong_layer}[kind]


@pytest.mark.parametrize("kind", ["forgotten", "doubled", "layers swapped"])
def test_a_wrong_merge_is_an_error_and_the_old_export_stands(
    run: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(job(run))
    before = (run / "export" / "merged" / "model.safetensors").read_bytes()
    monkeypatch.setattr(merge, "merge", spoiled(kind))
    with pytest.raises(EngineError, match="not the tuned model") as caught:
        export(job(run))
    assert caught.value.code is ExitCode.MODEL
    assert (run / "export" / "merged" / "model.safetensors").read_bytes() == before


def test_a_full_disk_keeps_the_old_export(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export(job(run))
    before = {path: path.read_bytes() for path in (run / "export").rglob("*") if path.is_file()}

    def full(model: Any, folder: Path, **_: Any) -> None:
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(merge, "save_model", full)
    with pytest.raises(EngineError, match="No space left") as caught:
        export(job(run))
    assert caught.value.code is ExitCode.DISK
    assert {path: path.read_bytes() for path in (run / "export").rglob("*") if path.is_file()} == before
    assert not list(run.glob(".export*"))


def test_a_small_disk_that_fills_up_keeps_the_old_export(run: Path, tmp_path: Path) -> None:
    export(job(run))
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1536k", "tmpfs", str(small)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("may not mount a small disk here")
    try:
        shutil.copytree(run / "export", small / "export")
        before = {path: path.read_bytes() for path in small.rglob("*") if path.is_file()}
        place_check, place.shutil.disk_usage = place.shutil.disk_usage, lambda _: shutil._ntuple_diskusage(9, 0, 2**40)
        try:
            with pytest.raises(EngineError) as caught:
                export(job(run, output=str(small / "export"), gguf=["f16"], quantized=["int8-dynamic"]))
        finally:
            place.shutil.disk_usage = place_check
        assert caught.value.code is ExitCode.DISK
        assert {path: path.read_bytes() for path in small.rglob("*") if path.is_file()} == before
    finally:
        # Lazily: what was read from there may still be mapped.
        subprocess.run(["umount", "-l", str(small)], check=True)


def test_a_format_that_is_broken_is_an_error_and_the_old_export_stands(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.inference import scales
    from engine.modeling import gguf_tensors

    export(job(run))
    before = (run / "export" / "export.json").read_bytes()

    def swapped(tensor: Any, heads: int) -> Any:
        return tensor

    monkeypatch.setattr(gguf_tensors, "_to_neighbors", swapped)
    with pytest.raises(EngineError, match="f16 export is not the tuned model: its logits are off") as caught:
        export(job(run, gguf=["f16"]))
    assert caught.value.code is ExitCode.MODEL
    assert re.search(r"its model.layers.\d.self_attn.[qk]_proj.weight is off by 1", caught.value.message)
    monkeypatch.setattr(scales, "LARGEST", 127 * 50)
    with pytest.raises(EngineError, match="2 problems") as caught:
        export(job(run, quantized=["int8-static"], gguf=["f16"]))
    assert [problem.where for problem in caught.value.problems] == ["int8-static", "f16"]
    assert all("its logits are off" in problem.message for problem in caught.value.problems)
    assert (run / "export" / "export.json").read_bytes() == before
    assert not list(run.glob(".export*"))


def test_a_family_that_gguf_cannot_hold_is_told_before_anything_is_merged(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Path(shutil.copytree(base, tmp_path / "other"))
    config = json.loads((other / "config.json").read_text())
    config["rope_parameters"] = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}
    (other / "config.json").write_text(json.dumps(config))
    made = make_run(tmp_path / "made", other)
    monkeypatch.setattr(merge, "load_unmerged", None)
    with pytest.raises(EngineError, match="scaled by 'dynamic'") as caught:
        export(job(made, gguf=["f16"]))
    assert caught.value.code is ExitCode.MODEL


def test_space_and_memory_are_looked_at_first(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(EngineError, match="is free") as caught:
        export(job(run))
    assert caught.value.code is ExitCode.DISK
    monkeypatch.undo()
    with pytest.raises(EngineError, match="main memory") as caught:
        merge.check_memory(10**13, "bf16")
    assert caught.value.code is ExitCode.RESOURCES


def test_an_adapter_that_is_not_a_number(run: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = run / "adapter" / "adapter_model.safetensors"
    tensors = load_file(path)
    tensors[min(tensors)][0, 0] = torch.nan
    save_file(tensors, path)
    with pytest.raises(EngineError, match="not numbers"):
        export(job(run))


def test_foreign_output_is_refused(run: Path) -> None:
    with pytest.raises(EngineError, match="no export wrote"):
        export(job(run, output=str(run)))
