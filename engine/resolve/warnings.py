"""Settings that are allowed and probably not meant: without effect, or far from what works.

None keeps a run from starting. Not here: problems (`cross.py`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from engine.errors import Problem
from engine.hardware.machine import Machine
from engine.memory.needs import needs_of
from engine.memory.stored import stored_bytes
from engine.models.alone import kernels_note
from engine.models.packing import alone_reason, remedy
from engine.models.stored import NAMES
from engine.profile.findings import Finding, finding
from engine.profile.load import LoadedProfile
from engine.profile.pointless import doubts, known_length
from engine.profile.schema import Profile
from engine.profile.tables.train import ONE_ROW
from engine.recommend.plan import Plan
from engine.resolve.cross import Context
from engine.runs.notify import program_of
from engine.text import format_bytes

_USUAL_SCALE = (0.25, 8.0)


def warning_findings(context: Context) -> Iterator[Finding]:
    """Everything that deserves a second look."""
    for check in CHECKS:
        yield from check(context)


def _notify(context: Context) -> Iterator[Finding]:
    """The command that tells of a run's end has to be there when it is needed."""
    words, loaded = context.profile.launch.notify, context.loaded
    if not words or not loaded.is_sound("launch.notify") or program_of(words, loaded.base_dir) is not None:
        return
    is_path = os.sep in words[0]
    way = "give the path of a file that may be executed" if is_path else "install it, or give the path of a file"
    hint = f"{way}; the run goes on without it"
    yield finding(loaded, "launch.notify", f"the program '{words[0]}' was not found", hint, is_warning=True)


def _held_out_twice(given: Callable[[str], bool]) -> list[tuple[str, str]]:
    ways = {
        "data.validation_path": "holds the held-out examples",
        "data.validation_rows": "says how many are held out",
        "data.validation_fraction": "",
    }
    named = [key for key in ways if given(key)]
    return [(key, f"no effect: {named[0]} {ways[named[0]]}") for key in named[1:]]


def _not_masked(profile: Profile, given: Callable[[str], bool]) -> Iterator[tuple[str, str]]:
    """Settings of what is learned, where everything is, or where the mark that they go with is missing."""
    choosing = ("data.learn", "data.response_template", "data.instruction_template")
    if profile.train.objective == "pretrain":
        yield from ((key, "no effect: pre-training learns every token") for key in choosing if given(key))
    elif profile.data.mask == "all":
        yield from ((key, "no effect: data.mask is 'all'") for key in choosing if given(key))
    elif given("data.instruction_template") and profile.data.response_template is None:
        yield "data.instruction_template", "no effect without data.response_template"


def _without_effect(context: Context) -> Iterator[Finding]:
    profile, loaded = context.profile, context.loaded
    train, method = profile.train, profile.quantization.method
    given = loaded.is_given
    idle = [
        (key, f"no effect: tuning.method is '{profile.tuning.method}'")
        for key in sorted(loaded.given)
        if key.startswith("lora.") and profile.tuning.method in ("full", "freeze")
    ]
    if given("train.max_steps") and given("train.num_train_epochs"):
        idle.append(("train.num_train_epochs", "no effect: train.max_steps decides how long it runs"))
    idle += [*_held_out_twice(given), *_not_masked(profile, given)]
    if given("train.warmup_steps") and given("train.warmup_ratio"):
        idle.append(("train.warmup_ratio", "no effect: train.warmup_steps decides"))
    for key, length in (("train.warmup_ratio", train.warmup_ratio), ("train.warmup_steps", train.warmup_steps)):
        if given(key) and train.lr_scheduler_type == "constant" and length:
            idle.append((key, "no effect: use lr_scheduler_type = 'constant_with_warmup'"))
    if given("train.beta") and train.objective in ("sft", "pretrain", "reward"):
        idle.append(("train.beta", f"no effect: train.objective is '{train.objective}'"))
    if given("tuning.trainable_layers") and profile.tuning.method != "freeze":
        idle.append(("tuning.trainable_layers", f"no effect: tuning.method is '{profile.tuning.method}'"))
    if given("quantization.double_quant") and method in ("none", "int8"):
        idle.append(("quantization.double_quant", f"no effect: quantization.method is '{method}'"))
    for key, message in idle:
        yield finding(loaded, key, message, "remove it", is_warning=True)


def _pointless(context: Context) -> Iterator[Finding]:
    """Steps and warm-up that the profile alone decides; what the data decide, the worker tells."""
    loaded, train = context.loaded, context.profile.train
    if not loaded.is_sound("train.max_steps", "train.warmup_steps", "train.warmup_ratio"):
        return
    for doubt in doubts(context.profile, known_length(train)):
        yield finding(loaded, doubt.key, doubt.message, doubt.hint, is_warning=True)


def _lora_scale(context: Context) -> Iterator[Finding]:
    lora = context.profile.lora
    if not context.loaded.is_sound("lora.r", "lora.alpha") or lora.use_rslora:
        return
    scale = lora.alpha / lora.r
    if not _USUAL_SCALE[0] <= scale <= _USUAL_SCALE[1]:
        message = f"alpha / r is {scale:g}, far from the usual 1 to 2"
        key = "lora.alpha" if "lora.alpha" in context.loaded.given else "lora.r"
        yield finding(context.loaded, key, message, f"try alpha = {2 * lora.r}", value=lora.alpha, is_warning=True)


def _dora(context: Context) -> Iterator[Finding]:
    if context.profile.lora.use_dora and context.profile.tuning.method in ("auto", "lora"):
        message = "DoRA is slower than the predicted speed, which does not count it; predicted memory does"
        yield finding(context.loaded, "lora.use_dora", message, "expect a longer run", is_warning=True)


def _untrained_tokens(context: Context) -> Iterator[Finding]:
    profile, key = context.profile, "model.additional_special_tokens"
    if not context.loaded.is_given(key) or profile.tuning.method == "full":
        return
    kept = () if profile.tuning.method == "freeze" else profile.lora.modules_to_save
    lacking = [name for name in ("embed_tokens", "lm_head") if name not in kept]
    if lacking:
        message = f"the new tokens keep their first embedding: {' and '.join(lacking)} do not learn"
        hint = 'set lora.modules_to_save = ["embed_tokens", "lm_head"], or use marks that the model knows'
        yield finding(context.loaded, key, message, hint, is_warning=True)


def _alone(context: Context) -> Iterator[Finding]:
    """Documents that cannot share rows: known before the run, and what it costs."""
    spec, device = context.spec, context.device
    reason = alone_reason(spec, device) if spec is not None else ""
    if spec is None or not reason or context.profile.train.objective in ONE_ROW:
        return
    message = f"{reason}: it trains on one document a row, padded; a step is slower and learns fewer documents"
    hint = remedy(spec, device) or "raise train.gradient_accumulation_steps to learn as many documents a step"
    yield finding(context.loaded, "data.packing", message, hint, is_warning=True)
    if device == "cuda" and kernels_note(spec):
        yield finding(context.loaded, "model.name_or_path", kernels_note(spec), "", is_warning=True)


def _not_here(context: Context) -> Iterator[Finding]:
    spec = context.spec
    if spec is not None and spec.path is None:
        message = f"the files of {spec.name} are not on this machine"
        hint = f"training fetches them from the hub; to do it before: hf download {spec.name}"
        yield finding(context.loaded, "model.name_or_path", message, hint, value=spec.name, is_warning=True)


def _stored(context: Context) -> Iterator[Finding]:
    spec = context.spec
    if spec is not None and spec.stored:
        held, whole = format_bytes(stored_bytes(spec)), format_bytes(2 * spec.sizes.total_parameters)
        message = f"the files hold {NAMES[spec.stored]} ({held}): weights are dequantized while loading, to {whole}"
        method = context.profile.quantization.method
        again = method if method in ("nf4", "fp4", "int8") else "nf4"
        hint = f"quantization.method = '{again}' quantizes each anew as soon as it is there"
        yield finding(context.loaded, "model.name_or_path", message, hint, value=spec.name, is_warning=True)


CHECKS = (
    _without_effect,
    _pointless,
    _lora_scale,
    _dora,
    _untrained_tokens,
    _alone,
    _not_here,
    _stored,
    _notify,
)


def space_warnings(loaded: LoadedProfile, settings: Profile, plan: Plan, machine: Machine) -> Iterator[Problem]:
    """At most three: disk for the run, RAM for offloaded inputs, RAM for merging afterwards."""
    train = settings.train
    needs = needs_of(
        plan.model,
        plan.shape,
        save_total_limit=train.save_total_limit,
        keeps_best=train.load_best_model_at_end,
    )
    if needs.run_disk_bytes > machine.disk_free_bytes:
        message = (
            f"the run takes up to {format_bytes(needs.run_disk_bytes)} of disk"
            f" ({format_bytes(needs.checkpoint_bytes)} a checkpoint),"
            f" {format_bytes(machine.disk_free_bytes)} are free at {machine.disk_path}"
        )
        hint = "free space, keep fewer checkpoints, or point XDG_STATE_HOME at a larger disk"
        yield finding(loaded, "train.save_total_limit", message, hint, is_warning=True).problem
    if needs.pinned_ram_bytes > machine.ram_available_bytes // 2:
        free = format_bytes(machine.ram_available_bytes)
        message = f"offloaded inputs take {format_bytes(needs.pinned_ram_bytes)} of RAM for good, {free} are free"
        hint = "use a smaller micro-batch or another train.activation_checkpointing"
        yield finding(loaded, "train.activation_checkpointing", message, hint, is_warning=True).problem
    if settings.export.merged and needs.merge_ram_bytes > machine.ram_available_bytes:
        free = format_bytes(machine.ram_available_bytes)
        message = f"merging afterwards takes {format_bytes(needs.merge_ram_bytes)} of RAM, {free} are free"
        hint = "export the adapter alone (export.merged = false), or merge on a larger machine"
        yield finding(loaded, "export.merged", message, hint, is_warning=True).problem
