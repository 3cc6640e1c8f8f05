"""The first gradients: a run in which something cannot learn says so, and one in which nothing can does not start."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from engine.errors import EngineError, ExitCode
from engine.runs.events import read_events
from engine.train.audit import audit
from engine.train.optimizer import MasterAdamW
from tests.unit.train.conftest import make_settings, make_trainer


class Net(torch.nn.Module):
    """Two layers, of which the second may be left out of the forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.spare = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)


def with_gradients(scale: float = 1.0) -> Net:
    net = Net()
    (net.used(torch.ones(2, 4)).sum() * scale).backward()
    return net


def test_what_gets_no_gradient_is_named() -> None:
    net = with_gradients()
    found = audit(net, torch.optim.AdamW(net.parameters()))
    assert found.untouched == ("spare.weight", "spare.bias")
    assert found.zero == ()
    (warning,) = found.warnings()
    assert "2 of 4" in warning
    assert "spare.weight" in warning


def test_nothing_to_learn_ends_the_run() -> None:
    net = with_gradients(scale=0.0)
    with pytest.raises(EngineError, match="nothing that shall learn") as caught:
        audit(net, torch.optim.AdamW(net.parameters()))
    assert caught.value.code is ExitCode.MODEL


@pytest.mark.parametrize("kind", [torch.optim.AdamW, MasterAdamW])
def test_an_optimizer_that_forgot_a_tensor_ends_the_run(kind: Any) -> None:
    net = with_gradients().to(torch.bfloat16)
    optimizer = kind([{"params": list(net.used.parameters())}], lr=1e-3)
    with pytest.raises(EngineError, match="does not hold 2 of 4"):
        audit(net, optimizer)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_a_run_of_the_engine_passes_and_tells_it(tmp_path: Any, dtype: str) -> None:
    trainer = make_trainer(tmp_path / "run", make_settings(dtype=dtype, max_steps=2, eval_steps=2))
    trainer.train()
    told = [event for event in read_events(tmp_path / "run" / "events.jsonl")[0] if event["type"] == "audit"]
    (event,) = told
    assert event["trained"] == sum(value.requires_grad for value in trainer.model.parameters())
    assert (event["untouched"], event["zero"]) == (0, 0)


def test_an_adapter_that_the_model_never_calls_is_told(tmp_path: Any) -> None:
    trainer = make_trainer(tmp_path / "run", make_settings(max_steps=2, eval_steps=2))
    trainer.model.register_parameter("spare", torch.nn.Parameter(torch.ones(3)))
    trainer.train()
    warnings = [event for event in read_events(tmp_path / "run" / "events.jsonl")[0] if event["type"] == "warning"]
    assert any("spare" in event["message"] and event["code"] == "audit" for event in warnings)
