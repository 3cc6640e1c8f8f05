"""Every trial and every short run of a plan is a profile that its card accepts, and means what its name says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.memory.recompute import recompute_in, recompute_of
from engine.profile.load import load_text
from engine.resolve.resolve import resolve_profile
from engine.selftest.checks import place_of
from engine.selftest.device import training, trial
from engine.selftest.plan import plan_selftest
from tests.unit.hardware.conftest import host, replay  # noqa: F401


@pytest.mark.parametrize("card", ["t4", "rtx4090", "a100-80", "h100", "no-gpu"])
def test_trials_resolve_to_the_shapes_that_were_planned(replay, tmp_path, card):  # noqa: F811
    # Trials keep nothing and merge nothing: what this machine has free is no matter.
    machine = replace(replay(card), disk_free_bytes=2**44, ram_available_bytes=2**36)
    plan = plan_selftest(place_of(machine, None), 60)
    items = [item for step in plan.steps for item in step.items if ".trial:" in item.run]
    assert len(items) >= 5
    for item in items:
        resolved = trial._resolved({**item.params, "folder": str(tmp_path)}, machine)
        shape, params = resolved.plan.shape, item.params
        assert resolved.plan.verdict != "NO", item.name
        assert (shape.micro_batch, shape.max_length) == (params["micro_batch"], params["max_length"])
        assert (shape.method, shape.quantization) == (params["method"], params["quantization"])
        assert (shape.compute_dtype, shape.device) == (params["dtype"], params["device"])
        assert recompute_in(shape) == recompute_of(params["checkpointing"])
        assert resolved.settings.launch.gpu == (plan.place.gpu.uuid if plan.place.gpu else None)
        # Weights are random: nobody needs the files.
        others = [found.message for found in resolved.warnings if "not on this machine" not in found.message]
        assert others == [], item.name


@pytest.mark.parametrize("card", ["t4", "rtx4090", "no-gpu"])
def test_short_runs_resolve_to_their_precision_and_method(replay, tmp_path, card):  # noqa: F811
    machine = replay(card)
    (step,) = (step for step in plan_selftest(place_of(machine, None), 60).steps if step.name == "training")
    for item in step.items:
        text = training.profile_of(item.params)
        resolved = resolve_profile(load_text(text, tmp_path / "p.toml"), machine)
        settings = resolved.settings
        found = (settings.model.dtype, settings.quantization.method, settings.tuning.method, settings.launch.device)
        assert found == tuple(item.params[key] for key in ("dtype", "quantization", "method", "device"))
