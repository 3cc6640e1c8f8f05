"""The simulated answer: one training step on the meta device, run by `python -m engine.oracle` in a process of its own.

Takes ten seconds or so and needs torch in the environment, so only an explicit question asks for it. Imports no torch.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from typing import Any

from engine.errors import EngineError, ExitCode
from engine.hardware.machine import Gpu
from engine.memory.shape import TrainingShape
from engine.models.spec import ModelSpec

_TIME_LIMIT_S = 600.0
_FIXED_FIELDS = frozenset({"device", "loss_chunk_tokens"})
_PREFIX = "error: "


@dataclass(frozen=True, slots=True)
class ExactMemory:
    """Simulated peaks of one step in bytes, and what the simulation takes for granted."""

    allocated_bytes: int
    reserved_bytes: int
    device_bytes: int
    assumptions: tuple[str, ...]


def exact_memory(spec: ModelSpec, shape: TrainingShape, gpu: Gpu | None) -> ExactMemory:
    """Simulate one step of training `spec` with `shape` on `gpu`, layer by layer.

    Raises EngineError(RESOURCES) for what the simulation does not cover (processors) and
    EngineError(MODEL) for an architecture that this transformers cannot build.
    """
    _refuse_uncovered(shape)
    command = [sys.executable, "-P", "-m", "engine.oracle", "--json", *_shape_arguments(shape)]
    if gpu and gpu.compute_capability:
        command += ["--capability", "{}.{}".format(*gpu.compute_capability)]
    answer = _run([*command, "--", spec.path or spec.name], spec)
    return ExactMemory(
        allocated_bytes=int(answer["allocated_bytes"]),
        reserved_bytes=int(answer["reserved_bytes"]),
        device_bytes=int(answer["device_bytes"]),
        assumptions=tuple(answer["assumptions"]),
    )


def _refuse_uncovered(shape: TrainingShape) -> None:
    if shape.device != "cuda":
        raise EngineError(
            "the simulation covers GPUs only",
            code=ExitCode.RESOURCES,
            where="--exact",
            hint="ask without it, or with --gpu NAME",
        )


def _shape_arguments(shape: TrainingShape) -> list[str]:
    """Options of `engine.oracle` for what differs from its defaults."""
    arguments: list[str] = []
    for field in dataclasses.fields(TrainingShape):
        value = getattr(shape, field.name)
        if value == field.default or field.name in _FIXED_FIELDS:
            continue
        name = field.name.replace("_", "-")
        if isinstance(value, bool):
            arguments.append(f"--{name}" if value else f"--no-{name}")
        elif isinstance(value, tuple):
            arguments += [f"--{name}", *value]
        else:
            arguments += [f"--{name}", str(value)]
    return arguments


def _run(command: list[str], spec: ModelSpec) -> dict[str, Any]:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryFile() as messages:
        try:
            done = subprocess.run(
                command, stdout=subprocess.PIPE, stderr=messages, env=environment, timeout=_TIME_LIMIT_S, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise EngineError(f"the simulation of {spec.name} took over {_TIME_LIMIT_S:.0f} s") from error
        messages.seek(0)
        words = messages.read().decode("utf-8", "replace")
    if done.returncode:
        raise _failure(done.returncode, words, spec)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _failure(code: int, words: str, spec: ModelSpec) -> EngineError:
    """What the simulation said last, under the exit code it left with."""
    said = [text.removeprefix(_PREFIX) for text in words.splitlines() if text.startswith(_PREFIX)]
    tail = said or [text for text in words.splitlines() if text.strip()] or ["no message"]
    known = code in set(ExitCode)
    return EngineError(
        f"{spec.name} could not be simulated: {tail[-1]}",
        code=ExitCode(code) if known else ExitCode.INTERNAL,
        hint="" if said else "ask without --exact for the closed form",
    )
