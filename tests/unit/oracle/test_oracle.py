"""The oracle's own parts: what the tracker counts, what kernels take, what is refused, and the process interface."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from engine.errors import EngineError
from engine.hardware.machine import Gpu
from engine.memory.allocator import replay
from engine.memory.resident import matrix_bytes
from engine.memory.shape import MIB, TrainingShape
from engine.models.catalog import catalog_index
from engine.oracle.extend import extended, portion_bytes, trained_at_depth
from engine.oracle.kernels import varlen_backward
from engine.oracle.quantized import four_bit_linear, int8_linear
from engine.oracle.simulate import depths_for, simulate
from engine.oracle.tracker import StorageTracker, model_tensors

TINY = replace(
    catalog_index()["llama-3.2-1b-instruct"],
    hidden_size=256,
    intermediate_size=512,
    num_hidden_layers=6,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=64,
    vocab_size=1024,
    parameters=None,
)


def test_the_tracker_counts_storages_once_and_until_they_die() -> None:
    tracker = StorageTracker()
    with tracker:
        one = torch.empty((MIB,), dtype=torch.uint8, device="meta")
        view = one.view(2, -1)
        two = one + 1
        tracker.section("later")
        del two
        three = torch.empty((100,), dtype=torch.uint8, device="meta")
    tracker.section("end")
    assert view.numel() == one.numel()
    assert three.numel() == 100
    assert tracker.peaks == {"load": 2 * MIB, "later": 2 * MIB}
    assert tracker.live_bytes == MIB + 512
    assert replay(tracker.trace).allocated_bytes == tracker.live_bytes


def test_scratch_is_there_only_while_its_kernel_runs() -> None:
    tracker = StorageTracker({"aten::logsumexp": lambda x, *_: [3 * MIB]})
    with tracker:
        x = torch.empty((1024, 256), device="meta")
        torch.logsumexp(x, dim=-1)
    assert tracker.peak_bytes == MIB + 4096 + 3 * MIB
    assert tracker.live_bytes == MIB


def test_flash_attentions_backward_scratch() -> None:
    query, key = torch.empty((1000, 8, 80), dtype=torch.bfloat16), torch.empty((1000, 2, 80), dtype=torch.bfloat16)
    borders = torch.tensor([0, 400, 1000], dtype=torch.int32)
    sizes = varlen_backward(query, query, key, key, query, query, borders, borders, 600, 600)
    assert sizes == [4 * 8 * 1256, 4 * 1256 * 8 * 96, 1000 * 8 * 80 * 2, 1000 * 8 * 80 * 2]


@pytest.mark.parametrize(("method", "double"), [("nf4", True), ("fp4", False), ("int8", False)])
def test_quantized_layers_have_the_closed_forms_bytes(method: str, double: bool) -> None:
    layer = torch.nn.Linear(512, 768, bias=False, device="meta", dtype=torch.bfloat16)
    made = int8_linear(layer) if method == "int8" else four_bit_linear(layer, method, double)
    tracker = StorageTracker()
    for name, tensor in model_tensors(made):
        tracker.add(tensor, name)
    assert tracker.live_bytes == matrix_bytes(512 * 768, 768, method, double)


def test_depths_keep_the_pattern_of_checkpoints() -> None:
    assert depths_for(32, 1) == (2, 3)
    assert depths_for(32, 2) == (2, 4)
    assert depths_for(33, 2) == (3, 5)
    assert depths_for(3, 1) == (3,)
    assert extended([{"a": 10}, {"a": 14}], (2, 4), 10) == {"a": 26}


def test_the_optimizers_portion_is_that_of_all_layers() -> None:
    trained = [(f"m.layers.{layer}.w", (4096, 4096)) for layer in range(2)]
    assert portion_bytes(trained) == 128 * MIB
    assert portion_bytes(trained_at_depth(trained, 32)) == 256 * MIB


@pytest.mark.parametrize(
    "shape",
    [
        TrainingShape(max_length=256, lora_r=8),
        TrainingShape(max_length=256, checkpoint_every=2, gradient_accumulation_steps=3, quantization="nf4"),
        TrainingShape(max_length=256, checkpoint_every=0, lora_dropout=0.1),
        TrainingShape(max_length=256, method="full", compute_dtype="fp32"),
    ],
)
def test_extending_from_two_depths_is_exact(shape: TrainingShape) -> None:
    few, whole = (simulate(TINY, shape, whole=whole) for whole in (False, True))
    assert len(few.layers_run) == 2
    assert few.load_bytes == whole.load_bytes
    assert few.allocated_bytes == whole.allocated_bytes
    assert few.optimizer_bytes == whole.optimizer_bytes


def test_older_cards_and_hopper_differ() -> None:
    shape = TrainingShape(max_length=256)
    ampere, hopper = (simulate(TINY, shape, gpu=Gpu("g", compute_capability=(major, 0))) for major in (8, 9))
    assert hopper.allocated_bytes - ampere.allocated_bytes == 2 * (32 * MIB - int(8.125 * MIB))


def test_processors_are_refused() -> None:
    with pytest.raises(EngineError, match="GPU"):
        simulate(TINY, TrainingShape(device="cpu"))


@pytest.mark.usefixtures("warm_workers")
def test_the_process_answers_in_json(tmp_path) -> None:
    config = {
        "model_type": "llama",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 512,
        "max_position_embeddings": 512,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    command = [sys.executable, "-m", "engine.oracle", str(tmp_path), "--json", "--max-length", "128", "--extend"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout)
    assert answer["device_bytes"] > answer["reserved_bytes"] >= answer["allocated_bytes"] > answer["load_bytes"] > 0
    assert answer["layers_run"] == [2, 3]
    assert answer["assumptions"]
    bad = subprocess.run([*command[:3], str(tmp_path / "none.json")], capture_output=True, text=True, check=False)
    assert bad.returncode == 4
    assert "none.json" in bad.stderr
    assert "Traceback" not in bad.stderr
