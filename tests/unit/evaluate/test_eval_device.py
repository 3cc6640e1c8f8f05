"""A processor in place of a GPU is never taken without a word, and the word names the card."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from engine.errors import EngineError, ExitCode
from engine.hardware import absent
from engine.hardware.machine import Cpu, Gpu, Machine
from engine.inference import run
from engine.profile.schema import Profile
from engine.train.assembly import load_model

BARE = Machine("box", Cpu("Test CPU", 2, 2), 2**34, 2**33, "/", 2**40)
CARD = replace(BARE, gpus=(Gpu("NVIDIA GeForce RTX 4090", "GPU-aaaa1111", 1, free_bytes=2**34),))


def settings(device: str, gpu: str | None = None) -> Profile:
    launch = {"device": device} | ({"gpu": gpu} if gpu else {})
    data = {"datasets": [{"path": "x"}]}
    return Profile.model_validate({"model": {"name_or_path": "demo"}, "data": data, "launch": launch})


@pytest.fixture
def torch_without_cuda(monkeypatch: pytest.MonkeyPatch) -> Any:
    """torch finds nothing; the driver lists what is given."""

    def here(machine: Machine) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(absent, "read_machine", lambda *_, **__: machine)
        monkeypatch.setattr(run, "probe_machine", lambda **_: machine)

    return here


def told(choose: Any, asked: Profile) -> tuple[str, list[str]]:
    messages: list[str] = []
    return choose(asked, lambda _, message: messages.append(message)), messages


@pytest.mark.parametrize(
    ("machine", "gpu", "words"),
    [
        (CARD, "GPU-aaaa1111", "torch finds no CUDA device; asked for: GPU 1 GeForce RTX 4090 (GPU-aaaa1111)"),
        (CARD, "GPU-bbbb2222", "GPU-bbbb2222 is not in this machine, which has GPU 1 GeForce RTX 4090"),
        (BARE, "GPU-bbbb2222", "GPU-bbbb2222 is not in this machine, which has no GPU"),
        (CARD, None, "torch finds no CUDA device, though there is GPU 1 GeForce RTX 4090"),
        (BARE, None, "torch finds no CUDA device"),
    ],
)
def test_a_run_of_a_gpu_that_is_read_back_on_a_processor_says_which_gpu(
    torch_without_cuda: Any, machine: Machine, gpu: str | None, words: str
) -> None:
    torch_without_cuda(machine)
    for choose in (run.device_of, run.device_of_path):
        assert told(choose, settings("cuda", gpu)) == ("cpu", [f"{words}: the processor is used"])


@pytest.mark.parametrize(("device", "machine", "warnings"), [("auto", CARD, 1), ("auto", BARE, 0), ("cpu", CARD, 0)])
def test_a_model_alone_warns_where_a_gpu_stays_unused(
    torch_without_cuda: Any, device: str, machine: Machine, warnings: int
) -> None:
    torch_without_cuda(machine)
    chosen, messages = told(run.device_of_path, settings(device))
    assert (chosen, len(messages)) == ("cpu", warnings)


def test_a_gpu_that_torch_finds_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert told(run.device_of_path, settings("auto")) == ("cuda", [])
    assert told(run.device_of, settings("cuda")) == ("cuda", [])


def test_training_without_its_gpu_names_it(torch_without_cuda: Any) -> None:
    torch_without_cuda(CARD)
    job: Any = SimpleNamespace(phase=lambda *_: None, warn=lambda *_: None)
    with pytest.raises(EngineError) as raised:
        load_model(job, settings("cuda", "GPU-aaaa1111"), Path())
    error = raised.value
    assert (error.code, error.where) == (ExitCode.ENVIRONMENT, "launch.gpu")
    assert "GPU 1 GeForce RTX 4090" in error.message
