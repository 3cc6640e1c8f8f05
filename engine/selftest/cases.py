"""Training steps of real shapes that are measured: for memory, for speed, and around the recommended setting.

Shapes come from the catalog, weights are random. Only what the prediction says fits is offered. Torch-free; the
measuring is `engine.selftest.device.trial`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from engine.memory.recompute import ATTENTION, OFFLOAD, recompute_in, recompute_of
from engine.memory.shape import TrainingShape
from engine.models.resolve import resolve_model
from engine.models.spec import ModelSpec
from engine.recommend.budget import Target
from engine.recommend.candidates import recomputes
from engine.recommend.plan import Plan, Requirements
from engine.recommend.search import plan_model
from engine.selftest.checks import Item, Place
from engine.text import format_bytes

STEPS = 5
"""Optimizer steps of a trial: two that also load kernels, and as many again that count."""
_TRIAL = "engine.selftest.device.trial:"
_UNKNOWN_SPEED = 2000.0
_WEIGHTS_S_PER_BILLION = {"cpu": 12.0, "cuda": 2.0}
_QUANTIZE_S_PER_BILLION = 4.0
_QUICK_S = 45.0
"""What the one step that is timed may take."""
_LONGEST_S = 120.0
"""A trial that is expected to take longer is not offered."""
_FLASH_FROM = (8, 0)
"""Only flash attention keeps its output apart."""
_MAKING = 1.1
"""Of the unquantized weights: they are made on the device, then packed one by one."""


_GROUPS = {
    "memory": "training steps of real shapes, measured beside the prediction",
    "speed": "a training step of a real shape beside its predicted speed",
    "setting": "the recommended setting and its neighbors",
}
_WORDS: dict[bool | int | str, str] = {
    False: "nothing recomputed",
    True: "every layer recomputed",
    OFFLOAD: "every layer recomputed, inputs in main memory",
    ATTENTION: "every layer recomputed, attention kept",
}
_ORDINALS: dict[int | str, str] = {2: "2nd", 3: "3rd"}


@dataclass(frozen=True, slots=True)
class Trial:
    """One model with the settings that are fixed; everything else is chosen as for a run."""

    model: str
    method: str
    dtype: str
    quantization: str
    micro_batch: int
    max_length: int
    checkpointing: bool | int | str
    """As `train.activation_checkpointing` has it."""
    accumulation: int = 1

    def requirements(self, device: str) -> Requirements:
        """For the recommender."""
        return Requirements(
            max_length=self.max_length,
            method=self.method,
            compute_dtype=self.dtype,
            quantization=self.quantization,
            micro_batch=self.micro_batch,
            gradient_accumulation_steps=self.accumulation,
            recompute=recompute_of(self.checkpointing),
            total_batch=self.micro_batch * self.accumulation,
            device=device,
        )

    @property
    def name(self) -> str:
        """`llama-3.2-1b lora nf4 bf16, 4 x 1024, every layer recomputed`."""
        stored = "" if self.quantization == "none" else f" {self.quantization}"
        batch = f"{self.micro_batch} x {self.max_length}"
        if self.accumulation > 1:
            batch += f", accumulated over {self.accumulation}"
        nth = _ORDINALS.get(self.checkpointing, f"{self.checkpointing}th")
        layers = _WORDS.get(self.checkpointing, f"every {nth} layer recomputed")
        return f"{self.model.rpartition('/')[2]} {self.method}{stored} {self.dtype}, {batch}, {layers}"


# memory ----------------------------------------------------------------------------------------------


def memory_items(place: Place) -> tuple[Item, ...]:
    """Trials whose memory is compared with its prediction, those that fit, most telling first."""
    found = _card_trials(place) if place.device == "cuda" else _processor_trials(place)
    items = [item for trial in found if (item := trial_item(place, trial, "memory")) is not None]
    return tuple(items)


def _card_trials(place: Place) -> Iterator[Trial]:
    best = place.dtypes[0]
    rows = (
        ("llama-3.2-1b-instruct", "lora", "none", 4, 1024, True),
        ("llama-3.1-8b", "lora", "nf4", 2, 2048, True),
        ("qwen2.5-0.5b-instruct", "lora", "none", 4, 1024, False),
        ("qwen3-0.6b", "full", "none", 1, 1024, True),
        ("smollm2-1.7b-instruct", "lora", "int8", 2, 1024, True),
        ("llama-3.1-8b", "lora", "none", 1, 2048, True),
        ("gemma-3-1b-it", "lora", "none", 2, 1024, 2),
        ("qwen3-4b", "lora", "nf4", 2, 1024, False),
        ("llama-3.2-1b-instruct", "lora", "none", 4, 2048, False),
        ("qwen2.5-14b-instruct", "lora", "nf4", 1, 4096, True),
        ("qwen3-8b", "lora", "none", 1, 4096, False),
        ("llama-3.2-1b-instruct", "full", "none", 4, 1024, False),
        ("qwen2.5-0.5b-instruct", "lora", "int8", 4, 1024, False),
        ("smollm2-1.7b-instruct", "lora", "none", 4, 2048, OFFLOAD),
        ("llama-3.2-1b-instruct", "lora", "none", 4, 2048, ATTENTION),
        ("smollm2-135m-instruct", "lora", "none", 4, 512, False),
    )
    for model, method, quantization, micro_batch, length, layers in rows:
        if layers == ATTENTION and place.capability < _FLASH_FROM:
            continue
        # The recommender takes fp32 there, too.
        dtype = "fp32" if best == "fp16" and resolve_model(model).traits.overflows_fp16 else best
        yield Trial(model, method, dtype, quantization, micro_batch, length, layers)


def _processor_trials(place: Place) -> Iterator[Trial]:
    best = place.dtypes[0]
    yield Trial("demo", "lora", best, "none", 32, 128, False)
    yield Trial("demo", "full", "fp32", "none", 16, 128, False)
    yield Trial("smollm2-135m-instruct", "lora", best, "none", 1, 256, True)


# speed -----------------------------------------------------------------------------------------------


def speed_items(place: Place) -> tuple[Item, ...]:
    """The device's own rates, then a training step against its predicted speed."""
    about = "products and copies; 'engine fit' goes by them from now on"
    rates = Item(
        "products and copies", about, "engine.selftest.device.rates:rates", place.start_s + 3, {"device": place.device}
    )
    best = place.dtypes[0]
    if place.device == "cpu":
        trials = [
            Trial("smollm2-135m-instruct", "lora", best, "none", 2, 256, False),
            Trial("smollm2-135m-instruct", "lora", best, "none", 1, 128, False),
            Trial("demo", "lora", best, "none", 8, 128, False),
        ]
    else:
        shapes = ((4, 2048, False), (2, 2048, True), (1, 1024, True))
        trials = [Trial("llama-3.2-1b-instruct", "lora", best, "none", *shape) for shape in shapes]
    steps = [item for trial in trials if (item := trial_item(place, trial, "speed")) is not None]
    quick = [item for item in steps if item.expected_s <= _QUICK_S] or steps[-1:]
    return (rates, *quick[:1])


# around the recommended setting ------------------------------------------------------------------------


def setting_items(place: Place) -> tuple[Item, ...]:
    """The recommended setting of a model that suits the device first, then its neighbors that fit."""
    plan = suiting_plan(place)
    if plan is None:
        return ()
    trials = [_trial_of(plan), *_neighbors(plan, place.target)]
    items = [trial_item(place, trial, "setting") for trial in trials]
    if items[0] is None:
        return ()
    head = replace(items[0], about="the recommended setting, measured")
    others = [replace(item, about="a neighbor of the recommended setting") for item in items[1:] if item is not None]
    return (head, *(others[:2] if place.device == "cpu" else others))


def suiting_plan(place: Place) -> Plan | None:
    """The plan of the largest model that fits well with its weights as published."""
    names = ("llama-3.1-8b", "qwen3-4b", "smollm2-1.7b-instruct", "llama-3.2-1b-instruct", "qwen2.5-0.5b-instruct")
    for name in names if place.device == "cuda" else ("demo",):
        asked = Requirements(device=place.device, quantization="none", max_length=1024 if name != "demo" else 128)
        plan = plan_model(resolve_model(name), place.machine, asked)
        if plan.verdict == "OK" or name == "demo":
            return plan
    return None


def _trial_of(plan: Plan) -> Trial:
    shape = plan.shape
    return Trial(
        plan.model.name,
        shape.method,
        shape.compute_dtype,
        shape.quantization,
        shape.micro_batch,
        shape.max_length,
        recompute_in(shape).setting(),
        min(2, shape.gradient_accumulation_steps),
    )


def _neighbors(plan: Plan, target: Target) -> Iterator[Trial]:
    """One level of checkpointing less and more, half and twice the micro-batch."""
    own, way = _trial_of(plan), recompute_in(plan.shape)
    ways = recomputes(plan.model, plan.shape, target, Requirements())
    if way in ways:
        number = ways.index(way)
        for other in (number - 1, number + 1):
            if 0 <= other < len(ways):
                yield replace(own, checkpointing=ways[other].setting())
    total = own.micro_batch * own.accumulation
    for micro_batch in (own.micro_batch * 2, own.micro_batch // 2):
        if micro_batch:
            yield replace(own, micro_batch=micro_batch, accumulation=max(1, min(2, total // micro_batch)))


# items -------------------------------------------------------------------------------------------------


def trial_item(place: Place, trial: Trial, judged: str) -> Item | None:
    """A trial as a check; None where it does not fit, its weights cannot be made here, or it takes too long."""
    spec = resolve_model(trial.model)
    plan = plan_model(spec, place.machine, trial.requirements(place.device))
    if plan.verdict == "NO" or not _weights_fit(place, spec, plan.shape):
        return None
    seconds = _expected_s(place, spec, plan)
    if seconds > _LONGEST_S:
        return None
    about = f"{format_bytes(plan.estimate.device_bytes)} predicted"
    if judged == "speed":
        about = f"{plan.tokens_per_second:,.0f} tokens/s predicted" if plan.tokens_per_second else "not predicted"
    params: dict[str, Any] = {"device": place.device, "gpu": place.gpu.uuid if place.gpu else None}
    fields = {name: getattr(trial, name) for name in trial.__slots__}
    limit_s = max(90.0, 4 * seconds)
    return Item(trial.name, about, _TRIAL + judged, seconds, params | fields, limit_s, _GROUPS[judged])


def _weights_fit(place: Place, spec: ModelSpec, shape: TrainingShape) -> bool:
    """Whether there is room to make the weights, which are unquantized at first."""
    width = 4 if shape.compute_dtype == "fp32" or shape.method == "full" else 2
    return spec.sizes.total_parameters * width * _MAKING < place.target.available_bytes


def _expected_s(place: Place, spec: ModelSpec, plan: Plan) -> float:
    shape, billions = plan.shape, spec.sizes.total_parameters / 1e9
    tokens = STEPS * shape.micro_batch * shape.gradient_accumulation_steps * shape.max_length
    made_s = billions * _WEIGHTS_S_PER_BILLION[place.device]
    packed_s = billions * _QUANTIZE_S_PER_BILLION * (shape.quantization != "none")
    return place.start_s + made_s + packed_s + tokens / (plan.tokens_per_second or _UNKNOWN_SPEED)
