"""A plan with the simulation of it that was asked for, and both as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.hardware.machine import Gpu, Machine
from engine.memory.evaluation import Evaluation, evaluation_of
from engine.memory.needs import needs_of
from engine.memory.several import Outlook, outlook
from engine.models.families import known_family
from engine.recommend.candidates import verdict_of
from engine.recommend.plan import Plan

if TYPE_CHECKING:
    from engine.memory.exact import ExactMemory


@dataclass(frozen=True, slots=True)
class FitReport:
    """What `engine fit` shows of one model."""

    plan: Plan
    exact: ExactMemory | None = None
    tokens: int | None = None
    """Tokens of the training data, where a person gave some."""
    epochs: float = 1.0
    gpu: Gpu | None = None
    """The plan's card; None = a processor."""
    cards: tuple[Gpu, ...] = ()
    """All cards of the machine, where there are several."""

    @property
    def outlook(self) -> Outlook | None:
        """Each card's share if all cards trained together; None without several cards."""
        together = self.gpu is not None and len(self.cards) > 1
        return outlook(self.plan.model, self.plan.shape, len(self.cards), self.gpu) if together else None

    @property
    def evaluation(self) -> Evaluation:
        """What evaluating takes afterwards."""
        return evaluation_of(self.plan.model, self.plan.shape, self.gpu)

    @property
    def tokens_seen(self) -> int | None:
        """Tokens that the whole training passes."""
        return None if self.tokens is None else round(self.tokens * self.epochs)

    @property
    def verdict(self) -> str:
        """The plan's, or by the simulated figure where there is one: only a `NO` for another reason stays."""
        if self.exact is None or (self.plan.verdict == "NO" and self.plan.headroom_bytes >= 0):
            return self.plan.verdict
        return verdict_of(self.exact.device_bytes, self.plan.available_bytes)


def document(machine: Machine, answers: Sequence[FitReport], total: int) -> dict[str, Any]:
    """The machine, how many models were looked at, and the answers."""
    gpus = [
        {"name": gpu.name, "uuid": gpu.uuid, "free_bytes": gpu.free_bytes, "total_bytes": gpu.total_bytes}
        | ({"notes": list(gpu.notes)} if gpu.hypothetical else {})
        for gpu in machine.gpus
    ]
    ram = {"ram_available_bytes": machine.ram_available_bytes, "ram_total_bytes": machine.ram_total_bytes}
    return {
        "machine": {"hostname": machine.hostname, "gpus": gpus, "cpu": machine.cpu.name, **ram},
        "total": total,
        "models": [_report_document(answer) for answer in answers],
    }


def _report_document(answer: FitReport) -> dict[str, Any]:
    found = _plan_document(answer.plan)
    beside = answer.evaluation
    found["evaluation"] = {**dataclasses.asdict(beside), "device_bytes": beside.device_bytes}
    found["outlook"] = dataclasses.asdict(answer.outlook) if answer.outlook else None
    if answer.tokens_seen:
        data = {"tokens": answer.tokens, "epochs": answer.epochs}
        found |= {**data, "training_time_s": answer.plan.training_time_s(answer.tokens_seen)}
    if answer.exact:
        found |= {"verdict": answer.verdict, "exact": dataclasses.asdict(answer.exact)}
    return found if answer.plan.model.counted else {**found, **_simulated_alone(answer)}


def uncounted_note(answer: FitReport) -> str:
    """Why nothing but the simulation is shown of a model."""
    spec = answer.plan.model
    known = spec.wrapper and known_family(spec.family) is not None
    what = f"what lies beside the text model of '{spec.wrapper}'" if known else f"family '{spec.family}'"
    return f"{what} is not known to the memory model: only --exact says what it takes"


def _simulated_alone(answer: FitReport) -> dict[str, Any]:
    """What replaces the closed form's figures where they would be those of another architecture."""
    nothing = ("peak_phase", "tokens_per_second", "needs", "latency", "evaluation", "outlook", "training_time_s")
    exact = answer.exact
    sizes = {name: getattr(exact, name, None) for name in ("device_bytes", "reserved_bytes", "allocated_bytes")}
    spare = answer.plan.available_bytes - exact.device_bytes if exact else None
    unknown = {"parameters": {"total": None, "towers": None, "trainable": None}, "terms": {}, "alternatives": []}
    return {**dict.fromkeys(nothing), **sizes, **unknown, "headroom_bytes": spare, "notes": [uncounted_note(answer)]}


def _plan_document(plan: Plan) -> dict[str, Any]:
    shape, estimate = plan.shape, plan.estimate
    return {
        "model": plan.model.name,
        "licence": plan.model.licence,
        "gated": plan.model.gated,
        "quality": plan.model.quality,
        "verdict": plan.verdict,
        "limit": plan.limit,
        "device": plan.device_name,
        "device_index": plan.device_index,
        "card": plan.card,
        "available_bytes": plan.available_bytes,
        "device_bytes": estimate.device_bytes,
        "reserved_bytes": estimate.reserved_bytes,
        "allocated_bytes": estimate.allocated_bytes,
        "headroom_bytes": plan.headroom_bytes,
        "peak_phase": estimate.peak_phase,
        "tokens_per_second": plan.tokens_per_second,
        "speed_measured": plan.speed_measured,
        "speed_rough": plan.speed_rough,
        "speed_source": plan.speed_source,
        "needs": dataclasses.asdict(needs_of(plan.model, plan.shape)),
        "latency": dataclasses.asdict(plan.latency) if plan.latency else None,
        "answers_in_time": plan.answers_in_time,
        "parameters": {
            "total": estimate.total_parameters,
            "towers": estimate.tower_parameters,
            "trainable": estimate.trainable_parameters,
        },
        "method": shape.method,
        "quantization": shape.quantization,
        "dtype": shape.compute_dtype,
        "terms": {term.name: {"bytes": term.bytes, "detail": term.detail} for term in estimate.terms},
        "choices": {choice.key: {"value": choice.value, "reason": choice.reason} for choice in plan.choices},
        "alternatives": list(plan.alternatives),
        "notes": list(estimate.notes),
    }
