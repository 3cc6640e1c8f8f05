"""Between log lines the host never waits for the device, and a line that comes late says the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, TrainerCallback, masking_utils

from engine.data.batch import PackedDataset, collate
from engine.modeling import attention, forward
from engine.profile.schema import Profile
from engine.runs.events import read_events
from engine.train.lines import Lines
from engine.train.trainer import EngineTrainer
from tests.unit.train.conftest import make_packed, make_settings, make_trainer, weights
from tests.unit.train.devicewatch import DeviceWatch
from tests.unit.train.test_objectives import trainer_for

STEPS = 8


def events_of(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [event for event in read_events(folder / "events.jsonl")[0] if event["type"] == kind]


def masked(query: Any, key: Any, value: Any, offsets: Any, how: attention.Scores, sinks: None = None) -> torch.Tensor:
    """Attention that needs no document's length on the host, as the kernels of a GPU."""
    assert sinks is None
    batch, _, length, _ = query.shape
    place = torch.arange(batch * length)
    owner = torch.searchsorted(offsets[1:].long(), place, right=True)
    seen = (owner[:, None] == owner[None, :]) & (place[:, None] >= place[None, :])
    bias = torch.zeros(seen.shape, dtype=query.dtype).masked_fill(~seen, float("-inf"))
    parts = [attention._flat(each).transpose(0, 1)[None] for each in (query, key, value)]
    out = torch.nn.functional.scaled_dot_product_attention(
        *parts, attn_mask=bias[None, None], scale=how.scale, enable_gqa=True
    )
    return out[0].transpose(0, 1).unflatten(0, (batch, length))


class Between(TrainerCallback):
    """Watches from the end of the second step to the one before the last."""

    def __init__(self, watch: DeviceWatch) -> None:
        self.watch, self.steps = watch, 0

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.watch.watching = 2 <= state.global_step < STEPS - 1
        self.steps += self.watch.watching


def watched(trainer: EngineTrainer, monkeypatch: pytest.MonkeyPatch) -> DeviceWatch:
    """Train with parameters and batches on the stand-in device."""
    watch = DeviceWatch()
    seen = Between(watch)
    monkeypatch.setattr(attention, "_by_document", masked)
    trainer.add_callback(seen)
    prepare = trainer._prepare_inputs

    def on_device(inputs: dict[str, Any]) -> dict[str, Any]:
        moved = {
            name: each.clone() if isinstance(each, torch.Tensor) else each for name, each in prepare(inputs).items()
        }
        watch.mark(*(each for each in moved.values() if isinstance(each, torch.Tensor)))
        return moved

    monkeypatch.setattr(trainer, "_prepare_inputs", on_device)
    guarding = trainer._guarding

    def decides_on_device() -> Any:
        guard = guarding()
        guard._on_device = True
        return guard

    monkeypatch.setattr(trainer, "_guarding", decides_on_device)
    with watch:
        watch.mark(*trainer.model.parameters())
        trainer.train()
    assert seen.steps == STEPS - 3
    return watch


def rare_lines(**train: Any) -> Profile:
    return make_settings(logging_steps=100, max_steps=STEPS, eval_steps=STEPS, save_steps=STEPS, **train)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("parts", [1, 2])
def test_no_step_between_log_lines_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, parts: int
) -> None:
    trainer = make_trainer(tmp_path / "run", rare_lines(dtype=dtype))
    trainer.micro_batches.parts = parts
    watch = watched(trainer, monkeypatch)
    assert watch.found == []
    assert [event["step"] for event in events_of(tmp_path / "run", "train_step")] == [1]


@pytest.mark.parametrize("objective", ["dpo", "orpo", "kto"])
def test_no_comparison_between_log_lines_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, objective: str) -> None:
    settings = {"logging_steps": 100, "max_steps": STEPS, "eval_steps": STEPS, "save_steps": STEPS}
    trainer = trainer_for(tmp_path / "run", objective, **settings)
    trainer.micro_batches.parts = 2
    assert watched(trainer, monkeypatch).found == []


def test_the_stand_in_sees_what_waits() -> None:
    watch = DeviceWatch()
    on_device, host = torch.ones(4, requires_grad=True), torch.ones(4)
    with watch:
        watch.mark(on_device)
        watch.watching = True
        host.sum().item()
        assert watch.found == []
        (on_device * 2).sum().backward()
        gradient = on_device.grad
        assert gradient is not None
        gradient[gradient > 1]
        gradient.norm().item()
        (gradient > 1).nonzero()
        bool((gradient > 1).all())
    assert len(watch.found) == 4


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma2", "gemma3_text", "olmo3", "smollm3"])
def test_packed_attention_asks_transformers_for_no_mask(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also per layer type; the documents stay apart without it."""
    attention.register()
    sizes = {
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "pad_token_id": 0,
    }
    windowed = {"sliding_window": 64, "layer_types": ["sliding_attention", "full_attention"]}
    config = AutoConfig.for_model(family, **sizes, **(windowed if family in ("gemma2", "gemma3_text", "olmo3") else {}))
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention.NAME).eval()
    monkeypatch.setattr(masking_utils, "find_packed_sequence_indices", lambda _: pytest.fail("bounds were searched"))
    dataset = PackedDataset(make_packed(2, 3))
    batch = collate([dataset[row] for row in range(2)])
    with torch.no_grad():
        together = float(forward.loss_sum(model, batch))
        model.set_attn_implementation("eager")
        monkeypatch.undo()
        plain = float(forward.loss_sum(model, batch))
    assert together == pytest.approx(plain, rel=1e-4)


def test_a_late_line_says_the_same(tmp_path: Path) -> None:
    told = []
    for late in (False, True):
        trainer = make_trainer(tmp_path / str(late), make_settings(eval_steps=3, save_steps=100))
        trainer.step_log.lines = Lines(trainer.step_log.write, late=late)
        trainer.train()
        events = [
            {name: value for name, value in event.items() if name in ("type", "step", "epoch", "loss", "grad_norm")}
            for event in read_events(tmp_path / str(late) / "events.jsonl")[0]
            if event["type"] in ("train_step", "eval", "checkpoint")
        ]
        told.append((json.dumps(events), weights(trainer)))
    assert told[0][0] == told[1][0]
    assert all(torch.equal(told[0][1][name], told[1][1][name]) for name in told[0][1])


def test_a_late_line_is_told_when_the_next_step_fails(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path / "run", make_settings(eval_steps=100, save_steps=100))
    trainer.step_log.lines = Lines(trainer.step_log.write, late=True)
    plain = trainer.objective.loss_sum

    def failing(model: Any, batch: Any) -> torch.Tensor:
        if trainer.state.global_step == 3:
            raise ValueError("broken")
        return plain(model, batch)

    trainer.objective.loss_sum = failing
    with pytest.raises(ValueError, match="broken"):
        trainer.train()
    assert [event["step"] for event in events_of(tmp_path / "run", "train_step")] == [1, 2, 3]


def test_lines_keep_their_order() -> None:
    written: list[tuple[int, list[float]]] = []
    lines = Lines(lambda known, figures: written.append((known["step"], figures)), late=True)
    lines.put({"step": 1}, torch.tensor([1.0, 2.0]))
    assert written == []
    lines.put({"step": 2}, torch.tensor([3.0, 4.0]))
    assert written == [(1, [1.0, 2.0])]
    lines.flush()
    lines.flush()
    assert written == [(1, [1.0, 2.0]), (2, [3.0, 4.0])]
