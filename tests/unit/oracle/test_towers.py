"""The simulation of a model that also sees holds its tower, which takes memory and never runs."""

from __future__ import annotations

import torch

from engine.memory.shape import TrainingShape
from engine.models.config import spec_from_config
from engine.oracle.build import build_model, settings_for, transformers_config, with_layers
from engine.oracle.simulate import simulate
from tests.unit.modeling.wrapper_models import CONFIGS


def test_a_tower_is_loaded_and_nothing_else_changes_with_depth():
    config = CONFIGS["qwen3_vl"]().to_dict()
    spec = spec_from_config(config, "seeing", "config.json", source="directory", path=None)
    shape = TrainingShape(micro_batch=1, max_length=64, device="cuda")
    whole = build_model(with_layers(transformers_config(config), 3), settings_for(spec, shape), shape, keeps_last=True)
    tower = [value for name, value in whole.named_parameters() if ".visual." in name]
    assert tower
    assert not any(value.requires_grad for value in tower)
    assert {value.device for value in tower} == {torch.device("meta")}
    assert len(whole.get_base_model().get_decoder().layers) == 3

    config["vision_config"]["depth"] = 8
    deeper = simulate(spec, shape, config=config)
    shallow = simulate(spec, shape, config=CONFIGS["qwen3_vl"]().to_dict())
    assert deeper.load_bytes > shallow.load_bytes
    assert deeper.load_bytes - shallow.load_bytes == deeper.allocated_bytes - shallow.allocated_bytes
