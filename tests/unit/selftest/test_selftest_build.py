"""A trial's model is wrapped by the same function as a run's, with what is packed packed before."""

from __future__ import annotations

import pytest

from engine.models.resolve import resolve_model
from engine.profile.load import load_text
from engine.resolve.resolve import resolve_profile
from engine.selftest.device import build
from engine.train import assembly

PROFILE = """
[model]
name_or_path = "demo"
dtype = "fp32"
max_length = 64
[tuning]
method = "{method}"
trainable_layers = 1
[quantization]
method = "{quantization}"
[lora]
target_modules = ["q_proj"]
[[data.datasets]]
path = "demo:dates.train.jsonl"
[train]
activation_checkpointing = true
"""


@pytest.mark.parametrize(("method", "quantization"), [("lora", "none"), ("lora", "nf4"), ("freeze", "none")])
def test_trials_and_runs_share_one_way_to_wrap(machine, tmp_path, monkeypatch, method, quantization):
    profile = load_text(PROFILE.format(method=method, quantization=quantization), tmp_path / "p.toml")
    settings, seen = resolve_profile(profile, machine).settings, []

    def wrap(model, settings, *, keep_last, warn):
        seen.append((keep_last, getattr(model, "is_loaded_in_4bit", False)))
        return assembly.wrap(model, settings, keep_last=keep_last, warn=warn)

    monkeypatch.setattr(build, "wrap", wrap)
    model = build.random_model(resolve_model("demo"), settings, "cpu", keep_last=True, warn=lambda *_: None)
    assert seen == [(True, quantization == "nf4")]
    learning = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert learning
    assert all("lora_" in name for name in learning) == (method == "lora")
    layers = [layer.gradient_checkpointing for layer in model.modules() if hasattr(layer, "gradient_checkpointing")]
    assert any(layers)
    assert not layers[-1], "the last layer is kept"
