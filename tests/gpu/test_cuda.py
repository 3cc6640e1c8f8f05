"""What only a GPU can show: the variable-length kernel, every precision, measured against predicted memory."""

from __future__ import annotations

import pytest
import torch

from engine.hardware.probe import probe_machine
from engine.measure.comparison import predicted_run
from engine.memory.calibration_store import load_calibration
from engine.memory.phases import peak
from engine.memory.shape import GIB, MIB
from engine.modeling import attention
from engine.runs.record import read_record
from tests.process.conftest import FAST, Shell

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")]


@pytest.fixture
def shell(tmp_path):
    return Shell(tmp_path)


@pytest.mark.parametrize("key_heads", [2, 6])
@pytest.mark.parametrize("window", [None, 5])
def test_the_varlen_kernel_equals_one_document_at_a_time(key_heads, window):
    torch.manual_seed(0)
    parts = [torch.randn(2, heads, 64, 32, device="cuda") for heads in (6, key_heads, key_heads)]
    offsets = torch.tensor([0, 10, 64, 65, 128], dtype=torch.int32, device="cuda")
    exact, _ = attention.packed_attention(
        None, *parts, None, sliding_window=window, cu_seq_lens_q=offsets, max_length_q=63
    )
    ours, _ = attention.packed_attention(
        None, *(part.bfloat16() for part in parts), None, sliding_window=window, cu_seq_lens_q=offsets, max_length_q=63
    )
    assert (ours.float() - exact).norm() / exact.norm() < 0.01


@pytest.mark.parametrize(
    ("dtype", "quantization", "method"),
    [
        ("bf16", "none", "lora"),
        ("bf16", "nf4", "lora"),
        ("bf16", "int8", "lora"),
        ("fp16", "none", "lora"),
        ("fp16", "nf4", "lora"),
        ("fp32", "none", "lora"),
        ("bf16", "none", "full"),
        ("fp16", "none", "full"),
    ],
)
def test_every_precision_trains_and_is_measured(shell, events, dtype, quantization, method):
    profile = FAST.replace('dtype = "fp32"', f'dtype = "{dtype}"').replace('device = "cpu"', 'device = "cuda"')
    profile = profile.replace('method = "lora"', f'method = "{method}"')
    profile += f'\n[quantization]\nmethod = "{quantization}"\n'
    done = shell.engine("train", shell.write("p.toml", profile), "--set", "train.max_steps=20", "--json")
    assert done.code == 0, done.err
    told = events(shell.runs[0])
    evaluated = [event["loss"] for event in told if event["type"] == "eval"]
    assert evaluated[-1] < evaluated[0]
    memory = [event for event in told if event["type"] == "memory"][-1]
    assert memory["device_used_bytes"] >= memory["peak_reserved_bytes"] >= memory["peak_allocated_bytes"] > 0


@pytest.fixture
def events():
    from engine.runs.events import read_events

    return lambda run: read_events(run / "events.jsonl")[0]


def test_a_run_measures_the_card_and_the_next_prediction_is_what_it_took(shell, events, monkeypatch):
    profile = FAST.replace('dtype = "fp32"', 'dtype = "bf16"').replace('device = "cpu"', 'device = "cuda"')
    done = shell.engine("train", shell.write("p.toml", profile), "--json")
    assert done.code == 0, done.err
    first, last = (event for event in events(shell.runs[0]) if event["type"] == "calibration")
    phases = {name: first["phases"][name]["allocated_bytes"] for name in ("load", "forward", "backward", "optimizer")}
    assert all(0 < peak <= first["measured"]["allocated_bytes"] for peak in phases.values())
    assert 64 * MIB < first["measured"]["context_bytes"] < 2 * GIB
    assert last["kept"]

    monkeypatch.setenv("XDG_STATE_HOME", shell.environment["XDG_STATE_HOME"])
    machine = probe_machine()
    gpu = next(gpu for gpu in machine.gpus if load_calibration(gpu, machine))
    predicted = predicted_run(read_record(shell.runs[0]), gpu)
    found = peak(predicted.spec, predicted.shape, gpu, load_calibration(gpu, machine))
    assert found.device_bytes == last["measured"]["device_bytes"]
    assert found.allocated_bytes == last["measured"]["allocated_bytes"]


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("logging_steps", [1, 100])
def test_no_step_waits_for_the_card(tmp_path, method, logging_steps):
    """torch raises where the host would wait; only the reading of a log line, a step later, may."""
    from transformers import TrainerCallback

    from tests.unit.train.conftest import make_settings, make_trainer

    class Strict(TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            strict = 2 <= state.global_step < state.max_steps - 1
            torch.cuda.set_sync_debug_mode("error" if strict else "default")

    steps = {"max_steps": 12, "eval_steps": 12, "save_steps": 12, "logging_steps": logging_steps}
    trainer = make_trainer(tmp_path / "run", make_settings(dtype="bf16", method=method, device="cuda", **steps))
    trainer.add_callback(Strict())
    try:
        trainer.train()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert trainer.state.global_step == 12


def test_the_fastest_kernels_are_measured_once_and_train(tmp_path):
    from engine.runs.events import read_events
    from engine.train.kernel_choice import Place, choose
    from tests.unit.train.conftest import make_settings, make_trainer

    found = []
    for name in ("first", "second"):
        settings = make_settings(dtype="bf16", device="cuda", every=1)
        settings = settings.model_copy(update={"lora": settings.lora.model_copy(update={"dropout": 0.0})})
        trainer = make_trainer(tmp_path / name, settings)
        state = torch.cuda.get_rng_state()
        choose(trainer, frozenset(), Place(tmp_path / "card.kernels.json", {"model": "tiny"}, always=name == "first"))
        assert torch.equal(state, torch.cuda.get_rng_state())
        trainer.train()
        events = read_events(tmp_path / name / "events.jsonl")[0]
        assert not [event for event in events if event["type"] == "warning"]
        found.append(next(event for event in events if event["type"] == "kernels"))
        assert all(event["loss"] > 0 for event in events if event["type"] == "train_step")
    assert set(found[0]["seconds"]) == {"liger+fused", "liger", "fused", "plain"}
    assert found[0]["source"] == "measured"
    assert found[1]["source"].startswith("known from ")
    assert found[1]["ways"] == found[0]["ways"]
