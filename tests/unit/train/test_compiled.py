"""Compiled layers give the loss and gradients of the plain ones, or are left out aloud."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.modeling import attention, forward
from engine.modeling.adapters import base_of
from engine.train import acceleration
from engine.train.compiled import COMPILED
from tests.unit.train.conftest import make_settings, make_trainer


@pytest.fixture(autouse=True)
def attention_as_before() -> Any:
    yield
    attention.register()


@pytest.fixture
def parts(tmp_path: Path) -> tuple[Any, Any]:
    trainer = make_trainer(tmp_path / "run", make_settings())
    trainer.job.events.close()
    return trainer.model, trainer._prepare_inputs(trainer.collator([trainer.train_dataset[0]]))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a processor")
def test_compiled_layers_train_as_plain_ones(parts: tuple[Any, Any]) -> None:
    model, batch = parts
    plain = acceleration.loss_and_gradients(model.eval(), batch, forward.loss_sum)
    assert acceleration.take(COMPILED, model, batch, forward.loss_sum, lambda *told: pytest.fail(str(told)))
    assert all(layer._compiled_call_impl is not None for layer in base_of(model).get_decoder().layers)
    found = acceleration.loss_and_gradients(model, batch, forward.loss_sum)
    assert found[0] == pytest.approx(plain[0], rel=1e-5)
    for one, other in zip(plain[1], found[1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def break_loss(model: Any, batch: Any) -> torch.Tensor:
    """Another loss once the layers are compiled."""
    layers = base_of(model).get_decoder().layers
    layers[0]._compiled_call_impl, was = None, layers[0]._compiled_call_impl
    for layer in layers:
        layer._compiled_call_impl = None
    return forward.loss_sum(model, batch) * (1.0 if was is None else 1.5)


def break_down(model: Any, batch: Any) -> torch.Tensor:
    """No compiler."""
    if base_of(model).get_decoder().layers[0]._compiled_call_impl is not None:
        raise RuntimeError("no compiler\nat all")
    return forward.loss_sum(model, batch)


@pytest.mark.parametrize(("loss", "said"), [(break_loss, "the loss is"), (break_down, "RuntimeError: no compiler")])
def test_what_compiles_wrong_or_not_at_all_is_left_out_aloud(parts: tuple[Any, Any], loss: Any, said: str) -> None:
    model, batch = parts
    told: list[str] = []
    assert not acceleration.take(COMPILED, model, batch, loss, lambda code, message: told.append(f"{code}: {message}"))
    assert len(told) == 1
    assert told[0].startswith("compile_fallback: the layers are not compiled: ")
    assert said in told[0]
    assert all(layer._compiled_call_impl is None for layer in base_of(model).get_decoder().layers)


def test_a_gradient_that_is_off_is_seen() -> None:
    one = (10.0, [torch.tensor([3.0, 4.0])])
    assert acceleration.difference(one, (10.0, [torch.tensor([3.0, 4.001])])) == ""
    assert acceleration.difference(one, (10.0, [torch.tensor([3.0, 4.5])])) == "the gradient is off by 10.0%"
    assert "the loss is nan" in acceleration.difference(one, (float("nan"), one[1]))
