"""Plans: the best configuration of a model on a machine, and models in the order worth trying.

Torch-free and quick: a plan takes a millisecond, its alternatives a few, and models of the same numbers share one. Not
here: profiles.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import groupby

from engine.hardware.cards import card_name
from engine.hardware.machine import Machine
from engine.memory.shape import MemoryEstimate
from engine.memory.terms import estimate_memory
from engine.models.catalog import load_catalog
from engine.models.spec import ModelSpec
from engine.recommend.alternatives import alternatives
from engine.recommend.budget import Target, choose_target
from engine.recommend.candidates import DEFAULT_LENGTH, Candidate, find_best, outlook
from engine.recommend.explain import choices, choose_dtype
from engine.recommend.plan import Plan, Requirements
from engine.speed.decode import PROMPT_TOKENS, Latency, latency
from engine.speed.linear_attention import is_plain
from engine.speed.roofline import device_rates

_VERDICTS = {"OK": 0, "TIGHT": 1, "NO": 2}
_ENOUGH = {"simple": 45, "medium": 60, "high": 75, "extreme": 100}
"""Capability that a task of this complexity needs; more earns no higher place, speed does."""
_FLOOR = {"simple": 20, "medium": 40, "high": 55, "extreme": 70}
"""Capability below which speed does not make up for it."""


def plan_model(spec: ModelSpec, machine: Machine, requirements: Requirements | None = None) -> Plan:
    """The best configuration of `spec` on `machine`, with reasons and alternatives.

    Fields set in `requirements` are kept as they are, even when the verdict is then `NO`; a dtype
    the device cannot do is replaced, and the choice's reason says so. Raises EngineError(RESOURCES)
    for a device that is not there.
    """
    asked = requirements or Requirements()
    return _plan(spec, machine, choose_target(machine, asked), asked, explain=True)


def rank_models(
    machine: Machine,
    requirements: Requirements | None = None,
    models: Sequence[ModelSpec] | None = None,
    *,
    most: int | None = None,
) -> list[Plan]:
    """A plan for every model (default: the catalogue), or for the `most` best ones; best first, without alternatives.

    OK before TIGHT before NO; then those that answer within the asked latency; then by capability up
    to what the complexity needs and speed (goal `quality`), or by speed among models above the
    complexity's floor (goal `speed`).
    """
    asked = requirements or Requirements()
    target = choose_target(machine, asked)
    specs = list(models or load_catalog())
    # By speed any model may turn out best; by quality those of most use come first, and the rest may not matter.
    enough = most if most is not None and asked.goal == "quality" else len(specs)
    made: _Made = {}
    if enough >= len(specs):
        return sorted(_plans(specs, machine, target, asked, made), key=lambda plan: _rank(plan, asked))[:most]
    specs.sort(key=lambda spec: -_useful(spec, asked))
    plans, hopeless = _best_plans(specs, machine, target, asked, made, enough)
    if sum(plan.verdict != "NO" for plan in plans) < enough:
        plans += _plans(hopeless, machine, target, asked, made)
    return sorted(plans, key=lambda plan: _rank(plan, asked))[:most]


_Made = dict[ModelSpec, Plan]
"""Plans by what they depend on."""


def _plans(
    specs: Iterable[ModelSpec], machine: Machine, target: Target, asked: Requirements, made: _Made
) -> list[Plan]:
    """A plan for each model; those of equal numbers share one, also with those `made` before."""
    found = []
    for spec in specs:
        numbers = _numbers(spec, asked)
        if numbers not in made:
            made[numbers] = _plan(spec, machine, target, asked, explain=False)
        found.append(replace(made[numbers], model=spec))
    return found


def _best_plans(
    specs: Sequence[ModelSpec], machine: Machine, target: Target, asked: Requirements, made: _Made, enough: int
) -> tuple[list[Plan], list[ModelSpec]]:
    """Plans of models that are of most use first, until `enough` pass the rest for sure; and models that never fit.

    Every OK stands before any TIGHT, so that what can only be TIGHT is planned where too few are OK.
    """
    plans: list[Plan] = []
    tight: list[ModelSpec] = []
    hopeless: list[ModelSpec] = []
    for useful, group in groupby(specs, key=lambda spec: _useful(spec, asked)):
        if _ahead(plans, useful, asked, ("OK",)) >= enough:
            return plans, hopeless
        outlooks = [(spec, _outlook(spec, machine, target, asked)) for spec in group]
        plans += _plans([spec for spec, best in outlooks if best == "OK"], machine, target, asked, made)
        tight += [spec for spec, best in outlooks if best == "TIGHT"]
        hopeless += [spec for spec, best in outlooks if best == "NO"]
    if _ahead(plans, -1, asked, ("OK",)) >= enough:
        return plans, hopeless
    for useful, group in groupby(tight, key=lambda spec: _useful(spec, asked)):
        if _ahead(plans, useful, asked, ("OK", "TIGHT")) >= enough:
            break
        plans += _plans(group, machine, target, asked, made)
    return plans, hopeless


def _outlook(spec: ModelSpec, machine: Machine, target: Target, asked: Requirements) -> str:
    return outlook(spec, target, machine.cpu, choose_dtype(spec, machine, target, asked.compute_dtype)[0], asked)


def _ahead(plans: Sequence[Plan], useful: int, asked: Requirements, verdicts: tuple[str, ...]) -> int:
    """How many plans with one of `verdicts` no such plan of a model of that use can pass: they are of more use."""
    good = (plan for plan in plans if plan.verdict in verdicts and plan.answers_in_time)
    return sum(_useful(plan.model, asked) > useful for plan in good)


def _useful(spec: ModelSpec, asked: Requirements) -> int:
    """Capability, as far as the complexity needs it."""
    return min(spec.quality, _ENOUGH.get(asked.complexity or "extreme", 100))


def _numbers(spec: ModelSpec, asked: Requirements) -> ModelSpec:
    """`spec` without what no plan depends on: a base model and what was tuned from it come to the same."""
    reach = 1 + max(asked.max_length or 0, DEFAULT_LENGTH, PROMPT_TOKENS)
    return replace(
        spec,
        name="",
        max_position_embeddings=min(spec.max_position_embeddings, reach),
        licence="",
        gated=False,
        use_cases=(),
        quality=0,
        source="",
        path=None,
    )


def _plan(spec: ModelSpec, machine: Machine, target: Target, asked: Requirements, *, explain: bool) -> Plan:
    dtype, reason = choose_dtype(spec, machine, target, asked.compute_dtype)
    best = find_best(spec, target, machine.cpu, dtype, asked)
    estimate: MemoryEstimate = estimate_memory(spec, best.shape, gpu=target.gpu, calibration=target.calibration)
    rates = device_rates(best.shape, target.gpu, machine.cpu, target.measured)
    speed, measured = _speed_here(spec, best, target, rates_measured=rates is not None and rates.measured)
    answers = latency(spec, best.shape, rates) if rates else None
    return Plan(
        model=spec,
        shape=best.shape,
        device_name=target.name,
        device_index=target.index,
        card=card_name(target.gpu) if target.gpu else "",
        available_bytes=target.available_bytes,
        estimate=estimate,
        tokens_per_second=speed,
        speed_measured=measured,
        speed_source=rates.source if rates else "",
        speed_rough=rates is not None and (rates.low_confidence or is_plain(spec, best.shape)) and not measured,
        latency=answers,
        answers_in_time=_in_time(answers, asked.latency_ms),
        verdict=best.verdict,
        limit=best.limit,
        free_bytes=target.free_bytes,
        total_bytes=target.total_bytes,
        choices=choices(spec, target, replace(best, tokens_per_second=speed), reason, asked, rates),
        alternatives=alternatives(spec, machine, target, best, asked) if explain else (),
    )


def _speed_here(spec: ModelSpec, best: Candidate, target: Target, *, rates_measured: bool) -> tuple[float | None, bool]:
    """Tokens per second, by what runs on this device made of earlier predictions where there were any."""
    known = target.calibration
    ratio = known.speed_ratio(spec, best.shape, rates_measured=rates_measured) if known else None
    if ratio is None or best.tokens_per_second is None:
        return best.tokens_per_second, False
    return best.tokens_per_second * ratio, True


def _in_time(answers: Latency | None, latency_ms: float | None) -> bool:
    return latency_ms is None or (answers is not None and answers.first_token_s * 1000 <= latency_ms)


def _rank(plan: Plan, asked: Requirements) -> tuple[float, ...]:
    verdict, speed, quality = _VERDICTS[plan.verdict], plan.tokens_per_second or 0.0, plan.model.quality
    if plan.verdict == "NO":
        return (verdict, plan.estimate.device_bytes, -quality)
    late = not plan.answers_in_time
    if asked.goal == "speed":
        below = quality < _FLOOR.get(asked.complexity or "", 0)
        return (verdict, late, below, -speed, -quality)
    return (verdict, late, -_useful(plan.model, asked), -speed, -quality)
