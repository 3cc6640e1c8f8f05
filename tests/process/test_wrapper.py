"""A model that also sees, through the commands: its text side is tuned, and what is exported still sees."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.process.conftest import FAST
from tests.unit.modeling.wrapper_models import make_wrapper

pytestmark = pytest.mark.usefixtures("warm_workers")


def tensors(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return {name: value for file in folder.glob("*.safetensors") for name, value in load_file(file).items()}


def test_the_text_side_is_tuned_and_the_export_still_sees(shell, events):
    base = make_wrapper("qwen3_vl", shell.folder / "seeing")
    fit = shell.engine("fit", "seeing", "--json")
    assert fit.code == 0, fit.err
    done = shell.engine("train", shell.write("p.toml", FAST.replace('"demo"', '"seeing"')), "--json")
    assert done.code == 0, done.err
    (run,) = shell.runs
    (started,) = [event for event in events(run) if event["type"] == "started"]
    before = tensors(base)
    sizes = {name: value.numel() for name, value in before.items()}
    tower = sum(size for name, size in sizes.items() if "visual" in name)
    assert (started["towers"], started["tower_parameters"]) == (["model.visual"], tower)
    assert started["total_parameters"] == sum(sizes.values()) + started["trainable_parameters"]
    # r = 4 on seven matrices of two layers.
    assert started["trainable_parameters"] == 2 * 4 * (64 + 48 + 48 + 64 + 3 * 96)
    assert not [event for event in events(run) if event["type"] == "warning" and event["code"] == "audit"]

    done = shell.engine("export", "last", "--output", "out", "--quantize", "nf4", "--quantize", "int8-static", "--json")
    assert done.code == 0, done.err
    entries = {made["format"]: made for made in done.json["parity"]["formats"]}
    assert max(entries[name]["relative_rms"] for name in ("adapter", "merged")) < 1e-5
    # The tower has linear layers of its own.
    assert entries["int8-static"]["layers"] == 14
    out = shell.folder / "out"
    adapter = json.loads((out / "adapter" / "adapter_config.json").read_text())
    assert "visual" in adapter["exclude_modules"]
    assert all(".model.language_model.layers." in name for name in tensors(out / "adapter"))
    for kind in ("merged", "nf4"):
        after = tensors(out / kind)
        assert all(after[name].equal(value) for name, value in before.items() if "visual" in name)
        assert json.loads((out / kind / "preprocessor_config.json").read_text()) == {"image_mean": [0.5, 0.5, 0.5]}
        card = (out / kind / "README.md").read_text()
        assert "AutoModelForImageTextToText.from_pretrained" in card
        assert "what sees or hears is the base model's, unchanged" in card
    assert after.keys() > before.keys()

    told = shell.engine("evaluate", "last", "--json")
    assert told.code == 0, told.err
    assert told.json["tuned"]["perplexity"] < told.json["base"]["perplexity"]
