"""The merged model in 4 and 8 bits: smaller, the same when it is loaded again, and usable as its card says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.process.conftest import FAST


@pytest.fixture
def trained(shell):
    done = shell.engine("train", shell.write("p.toml", FAST), "--json")
    assert done.code == 0, done.err
    return shell


def test_each_kind_is_written_compared_and_runs_as_its_card_says(trained):
    done = trained.engine("export", "last", "--output", "out", "--quantize", "nf4", "--quantize", "int8", "--json")
    assert done.code == 0, done.err
    result = done.json
    assert result["nf4_bytes"] < result["int8_bytes"] < result["merged_bytes"]
    for method, stored in (("nf4", "U8"), ("int8", "I8")):
        found = result["quantized"][method]
        assert found["reloaded_max_abs_diff"] <= 1e-3
        assert found["top1_agreement"] > 0.5
        assert found["stored"][stored] > 0
        card = (Path(result[method]) / "README.md").read_text()
        assert f"{method} by bitsandbytes" in card
        assert "compared with the merged model in" in card
        (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
        ran = subprocess.run(
            [sys.executable, "-c", code.replace("max_new_tokens=128", "max_new_tokens=4")],
            cwd=result[method],
            env=trained.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr


def test_an_adapter_alone_is_not_quantized(trained):
    done = trained.engine("export", "last", "--no-merged", "--quantize", "nf4", "--json")
    assert done.code == 2
    assert "only a merged model is quantized" in done.json["error"]["message"]


def test_gguf_files_are_compared_and_come_with_a_modelfile(trained):
    kinds = ("f16", "q8_0", "q4_0")
    done = trained.engine("export", "last", "--output", "out", *(f"--gguf={kind}" for kind in kinds), "--json")
    assert done.code == 0, done.err
    result = done.json
    assert tuple(result["ggufs"]) == kinds
    sizes = [found["bytes"] for found in result["ggufs"].values()]
    assert sizes == sorted(sizes, reverse=True)
    assert result["ggufs"]["f16"]["relative_rms"] < 1e-3
    assert {path.name for path in Path(result["gguf"]).iterdir()} == {
        "Modelfile",
        *(found["file"] for found in result["ggufs"].values()),
    }
    modelfile = (Path(result["gguf"]) / "Modelfile").read_text().splitlines()
    assert modelfile == [f"FROM ./{result['ggufs']['f16']['file']}", 'PARAMETER stop "<|im_end|>"']
    again = trained.write(
        "again.toml", FAST.replace('"demo"', f'"{result["gguf"]}/{result["ggufs"]["f16"]["file"]}"', 1)
    )
    checked = trained.engine("profile", "check", again, "--json")
    assert checked.code == 0, checked.out


def test_files_that_are_not_what_was_quantized_are_an_error():
    from engine.export.parity import Distance
    from engine.export.quantized import _problems

    same, off = (Distance(0.0, 0.0, share, 0.0, 1.0, 9) for share in (0.0, 0.2))
    assert _problems("nf4", same, {"U8": 5, "bf16": 1}, True) == []
    assert _problems("int8", off, {"bf16": 5}, False) == [
        "loaded again, its int8 logits are off by 0.2 of their spread",
        "it is stored as bf16, not int8",
        "its chat template is not the one it was trained with",
    ]
