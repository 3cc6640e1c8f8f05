"""Before the first update: does everything that shall learn get a gradient, and does the optimizer know it?

A run in which nothing can learn ends here, not after a night.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from engine.errors import EngineError, ExitCode
from engine.runs.job import Job

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Audit:
    """Names of trained tensors: all, those without any gradient, and those whose gradient is all zero."""

    trained: tuple[str, ...]
    untouched: tuple[str, ...]
    zero: tuple[str, ...]

    def warnings(self) -> list[str]:
        """What is odd and no reason to stop: an expert may have met no token, say."""
        told = ((self.untouched, "no gradient"), (self.zero, "a gradient of zeros"))
        whole = len(self.trained)
        return [f"{len(names)} of {whole} trained tensors get {what}{_some(names)}" for names, what in told if names]


def write_audit(job: Job, model: torch.nn.Module, optimizer: Any, step: int) -> None:
    """Audit the first `step`, as an event and warnings. Raises as `audit`."""
    found = audit(model, optimizer)
    counts = {name: len(getattr(found, name)) for name in ("trained", "untouched", "zero")}
    job.events.write("audit", step=step, **counts)
    for message in found.warnings():
        job.warn("audit", message)


def audit(model: torch.nn.Module, optimizer: Any) -> Audit:
    """Look at the gradients of the first step. Raises EngineError(MODEL) when nothing could learn.

    An adapter's A has no gradient at first, as its B is zero; it is not counted among the zero ones.
    """
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    known = {id(value) for value in _weights(optimizer)}
    unknown = tuple(name for name, value in trained.items() if id(value) not in known)
    if unknown:
        raise EngineError(
            f"the optimizer does not hold {len(unknown)} of {len(trained)} trained tensors{_some(unknown)}",
            code=ExitCode.MODEL,
            hint="this is a fault of the engine; please report it with the run's worker.log",
        )
    untouched = tuple(name for name, value in trained.items() if value.grad is None)
    zero = tuple(
        name
        for name, value in trained.items()
        if value.grad is not None and not _starts_at_rest(name) and not bool(value.grad.any())
    )
    if len(untouched) + len(zero) >= sum(not _starts_at_rest(name) for name in trained):
        raise EngineError(
            "nothing that shall learn gets a gradient",
            code=ExitCode.MODEL,
            where="lora.target_modules",
            hint="choose modules that this model's forward pass uses, and data with answers to learn",
        )
    return Audit(tuple(trained), untouched, zero)


def _weights(optimizer: Any) -> list[torch.Tensor]:
    """The model's tensors that an optimizer updates; behind fp32 masters stand 16-bit weights."""
    own: list[torch.Tensor] | None = getattr(optimizer, "_weights", None)
    return own if own is not None else [value for group in optimizer.param_groups for value in group["params"]]


def _starts_at_rest(name: str) -> bool:
    return ".lora_A." in name or ".lora_embedding_A" in name


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f": {', '.join(names[:_SHOWN])}{more}"
