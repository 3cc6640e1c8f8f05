"""What a sweep will take, before it starts: time, memory and disk, from the same models as `engine fit`.

A grid is priced combination by combination; of ranges a sample is drawn. Not here: choosing settings.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from engine.hardware.machine import Machine
from engine.jsonvalues import number_in
from engine.memory.needs import needs_of
from engine.profile.schedule import plan_schedule
from engine.profile.schema import Profile
from engine.resolve.resolve import Resolved
from engine.resolve.search_space import Range
from engine.runs import store
from engine.runs.events import EventReader
from engine.runs.record import summary_or_empty
from engine.sweep.combinations import Combination, Plan, grid_params, resolve_combination
from engine.sweep.document import Params

SAMPLE = 24
"""Settings drawn to price a search that is not a grid."""
START_S = 20.0
"""Loading libraries, data and model, until a run of this machine has shown it."""
_LOOKED_AT = 8
_FORWARD_SHARE = {"full": 1 / 3, "freeze": 0.5, "lora": 0.5}
"""Of a training step's products, what an evaluation does of a sequence: 2P of 6P, or of 4P (see engine.speed.flops)."""

CountRows = Callable[[Resolved], tuple[int, int]]
"""Packed sequences (train, held out) of a resolved profile's data."""


@dataclass(frozen=True, slots=True)
class Price:
    """One trial. `seconds` is None where the speed of the device is not known."""

    steps: int
    seconds: float | None
    device_bytes: int
    disk_bytes: int


@dataclass(frozen=True, slots=True)
class CostEstimate:
    """A whole sweep. `seconds`: of all trials, none pruned, `parallel` at once; bytes of the widest trial."""

    trials: int
    parallel: int
    seconds: float | None
    device_bytes: int
    available_bytes: int
    device_name: str
    trial_disk_bytes: int
    disk_bytes: int
    disk_free_bytes: int
    start_s: float
    sampled: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def price(resolved: Resolved, sequences: tuple[int, int], start_s: float) -> Price:
    """Steps, time, memory and disk of one trial."""
    settings, plan = resolved.settings, resolved.plan
    schedule = plan_schedule(settings, sequences[0], has_validation=sequences[1] > 0)
    needs = needs_of(
        plan.model,
        plan.shape,
        save_total_limit=settings.train.save_total_limit,
        keeps_best=settings.train.load_best_model_at_end,
    )
    a_step = int(settings.train.total_batch_size) * int(settings.model.max_length)
    evaluations = 1 + schedule.steps_total // schedule.eval_steps if schedule.eval_steps else 0
    held_out = evaluations * sequences[1] * int(settings.model.max_length)
    tokens = schedule.steps_total * a_step + held_out * _FORWARD_SHARE[settings.tuning.method]
    seconds = plan.training_time_s(tokens)
    if seconds is not None:
        seconds += start_s + evaluations * _prompts_s(settings, resolved) + _answers_s(settings, resolved, start_s)
    return Price(schedule.steps_total, seconds, plan.estimate.device_bytes, needs.run_disk_bytes)


def _prompts_s(settings: Profile, resolved: Resolved) -> float:
    """Answers to the prompts of the profile at one evaluation, as long as they may be, in one batch."""
    latency, prompts = resolved.plan.latency, len(settings.evaluate.prompts)
    if not prompts or latency is None:
        return 0.0
    return prompts * latency.first_token_s + settings.evaluate.max_new_tokens * latency.per_token_s


def _answers_s(settings: Profile, resolved: Resolved, start_s: float) -> float:
    """Answers to held-out rows where they rank the trials, as long as they may be, and the start of their worker."""
    latency = resolved.plan.latency
    if settings.sweep.metric == "eval_loss" or latency is None:
        return 0.0
    batches = -(-settings.evaluate.max_samples // settings.evaluate.batch_size)
    return start_s + batches * (latency.first_token_s + settings.evaluate.max_new_tokens * latency.per_token_s)


def sample_params(plan: Plan) -> list[Params]:
    """What to price: every combination of a grid, or a few draws from lists and ranges."""
    if plan.method == "grid":
        return list(grid_params(plan.dimensions))
    draw = random.Random(plan.sweep.seed)
    return [_drawn(plan, draw) for _ in range(min(SAMPLE, plan.sweep.trials))]


def _drawn(plan: Plan, draw: random.Random) -> Params:
    params: Params = {}
    for dimension in plan.dimensions:
        if isinstance(dimension, Range):
            value = dimension.low + draw.random() * (dimension.high - dimension.low)
            params[dimension.key] = round(value) if dimension.whole else value
        else:
            params |= dict(zip(dimension.keys, draw.choice(dimension.rows), strict=True))
    return params


def examine_combinations(plan: Plan, machine: Machine) -> tuple[list[Combination], list[Combination]]:
    """(combinations that can run here, combinations that cannot) of what `sample_params` gives."""
    examined = [resolve_combination(plan, params, machine) for params in sample_params(plan)]
    return [one for one in examined if one.resolved is not None], [one for one in examined if one.resolved is None]


def estimate_cost(
    plan: Plan, combinations: Sequence[Combination], count_rows: CountRows, machine: Machine, parallel: int
) -> CostEstimate:
    """The cost of the `combinations` that can run (a sample, where the search is no grid); at least one."""
    start_s = usual_start_s()
    resolved = [combination.resolved for combination in combinations if combination.resolved is not None]
    prices = [price(one, count_rows(one), start_s) for one in resolved]
    trials = len(prices) if plan.method == "grid" else plan.sweep.trials
    times = [one.seconds for one in prices if one.seconds is not None]
    widest = max(prices, key=lambda one: one.device_bytes)
    disk = max(one.disk_bytes for one in prices)
    with_weights = min(trials, (plan.sweep.keep_weights or trials) + parallel)
    return CostEstimate(
        trials=trials,
        parallel=parallel,
        seconds=statistics.fmean(times) * trials / parallel if len(times) == len(prices) else None,
        device_bytes=widest.device_bytes,
        available_bytes=resolved[0].plan.available_bytes,
        device_name=resolved[0].plan.device_title,
        trial_disk_bytes=disk,
        disk_bytes=disk * with_weights,
        disk_free_bytes=machine.disk_free_bytes,
        start_s=start_s,
        sampled=plan.method != "grid",
    )


def usual_start_s() -> float:
    """What runs of this machine took beside training (their worker's time less their steps'); START_S without any."""
    measured_s = [start_s for run in store.list_runs()[:_LOOKED_AT] for start_s in _start_s(run)]
    return statistics.median(measured_s) if measured_s else START_S


_TAIL_BYTES = 64 * 1024


def _start_s(run: store.Run) -> Iterator[float]:
    trained_s = summary_or_empty(run.path).seconds
    events = EventReader.at_tail(run.events_path, _TAIL_BYTES).read()
    whole_s = next((number_in(event, "seconds") for event in reversed(events) if event["type"] == "finished"), None)
    if trained_s is not None and whole_s is not None and whole_s >= trained_s:
        yield whole_s - trained_s
