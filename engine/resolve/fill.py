"""Open settings of a profile filled in from a plan, each with its source and reason.

Not here: the choice of any value that a plan carries.

Some settings keep the word "auto" because what decides them is not known before the data is read:
those in `DECIDED_BY_DATA`; the worker settles them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import Problem
from engine.hardware.cards import card_title
from engine.hardware.machine import Gpu, Machine
from engine.memory.recompute import Recompute, recompute_of
from engine.profile.fields import canonical
from engine.profile.fieldspec import DECIDED_BY_DATA, leaves
from engine.profile.findings import finding
from engine.profile.load import LoadedProfile
from engine.profile.schema import Profile, Train
from engine.profile.tables.train import COMPARING
from engine.recommend.plan import Plan, Requirements

Provenance = dict[str, dict[str, Any]]
Choices = dict[str, tuple[Any, str]]
"""Key -> (value, reason)."""


_CORRECTED = ("model.dtype", "train.total_batch_size")
"""Keys where the plan's word stands against the profile's, aloud."""
_COMPLETED = ("launch.gpu", "model.name_or_path")
"""Keys that a person may abbreviate."""


@dataclass(frozen=True, slots=True)
class Filled:
    """Settings with nothing left open. `provenance`: key -> {"value", "source", "reason"}."""

    settings: Profile
    provenance: Provenance
    warnings: tuple[Problem, ...]


def fill(
    loaded: LoadedProfile, profile: Profile, plan: Plan, machine: Machine, decided: Choices | None = None
) -> Filled:
    """Explicit settings stay; open ones take the plan's values and what follows from it.

    `decided`: what is settled by what the run begins with.
    """
    choices: Choices = {choice.key: (choice.value, choice.reason) for choice in plan.choices}
    choices |= _consequences(profile, plan, machine, choices) | (decided or {})
    tree = profile.model_dump()
    warnings: list[Problem] = []
    changed = _put_choices(tree, choices, loaded, warnings)
    settings = Profile.model_validate(tree)
    return Filled(settings, provenance_of(settings, loaded, choices, changed), tuple(warnings))


def _consequences(profile: Profile, plan: Plan, machine: Machine, planned: Choices) -> Choices:
    """What is no part of a plan and follows from it, from the model's name or from the machine."""
    dtype, spec = planned["model.dtype"][0], plan.model
    own: Choices = {
        "model.attention": ("packed", "documents in one sequence never see each other"),
        "export.dtype": (dtype, "as it was trained"),
        "launch.threads": (max(1, machine.cpu.physical_cores), "physical cores"),
    }
    on_cpu = planned["launch.device"][0] == "cpu"
    faster = f"on {'processors' if on_cpu else 'GPUs'} it was measured faster than PEFT's own way"
    half = dtype == "fp16"
    own["lora.fused"] = (
        not half,
        "under fp16 weights are cast in each layer, which is PEFT's own way" if half else faster,
    )
    if profile.train.objective in COMPARING:
        rate = planned["train.learning_rate"][0] / 10
        own["train.learning_rate"] = (rate, "a tenth of the usual: comparing answers moves a model quickly")
    if plan.device_index is not None:
        own["launch.gpu"] = _card(machine.gpus[plan.device_index], profile, planned["launch.device"][1])
    if spec.source in ("catalogue", "cache") and spec.name != profile.model.name_or_path:
        own["model.name_or_path"] = (spec.name, f"the model that '{profile.model.name_or_path}' names")
    elif spec.source in ("directory", "gguf") and spec.path and not Path(spec.name).expanduser().exists():
        own["model.name_or_path"] = (spec.path, f"where '{spec.name}' of your list is")
    if profile.model.initialise == "random":
        own["quantization.method"] = ("none", "random weights have to learn, which quantized ones cannot")
    if not profile.data.holds_out:
        own["train.load_best_model_at_end"] = (False, "no held-out examples")
    return own


def _card(gpu: Gpu, profile: Profile, why: str) -> tuple[str | None, str]:
    """The card in full, and its name with the reason for it where nobody named it."""
    return gpu.uuid, card_title(gpu) if profile.launch.gpu else why


def _put_choices(tree: dict[str, Any], choices: Choices, loaded: LoadedProfile, warnings: list[Problem]) -> set[str]:
    """Put the choices into `tree`; answers the keys whose value is not the person's own."""
    changed: set[str] = set()
    for key, (value, reason) in choices.items():
        table, _, name = key.rpartition(".")
        asked = tree[table][name]
        is_open = asked == "auto" or key not in loaded.given
        if not is_open and asked != value and key in _CORRECTED:
            warnings.append(finding(loaded, key, f"'{asked}' became '{value}'", reason, is_warning=True).problem)
        elif not is_open and key not in _COMPLETED:
            continue
        changed.add(key)
        tree[table][name] = value
    return changed


def provenance_of(settings: Profile, loaded: LoadedProfile, choices: Choices, changed: set[str]) -> Provenance:
    """Value, source and reason of every setting; `changed` holds the keys that `choices` filled."""
    found: Provenance = {}
    for key, value in leaves(settings.model_dump(mode="json")):
        source, reason = _source(key, value, loaded), ""
        if key in changed:
            source, reason = source if _is_named(key, loaded) else "auto", choices[key][1]
        elif source == "auto":
            reason = DECIDED_BY_DATA.get(canonical(key), "chosen for the machine when a run starts")
        found[key] = {"value": value, "source": source, "reason": reason}
    return found


def _is_named(key: str, loaded: LoadedProfile) -> bool:
    """Whether a person named what was only spelled out in full."""
    return key == "launch.gpu" and key in loaded.given


def _source(key: str, value: Any, loaded: LoadedProfile) -> str:
    if value == "auto":
        return "auto"
    if any(key == name or key.startswith(f"{name}.") for name in loaded.overridden):
        return "override"
    return "profile" if key in loaded.given else "default"


def requirements_of(profile: Profile, gpu_uuid: str | None = None) -> Requirements:
    """Explicit settings of `profile`; `gpu_uuid` is the full UUID behind `launch.gpu`."""
    lora, train = profile.lora, profile.train
    targets = lora.target_modules
    quantization = _asked(profile.quantization.method)
    if profile.model.initialise == "random" or lora.init == "pissa":
        quantization = quantization or "none"
    return Requirements(
        max_length=_asked(profile.model.max_length),
        total_batch=_total(train),
        method=_asked(profile.tuning.method),
        rewards=train.objective == "reward",
        trainable_layers=profile.tuning.trainable_layers,
        compute_dtype=_asked(profile.model.dtype),
        quantization=quantization,
        micro_batch=_asked(train.per_device_train_batch_size),
        gradient_accumulation_steps=_asked(train.gradient_accumulation_steps),
        recompute=_recompute(train),
        kernels=_asked(train.kernels),
        optimizer=_asked(train.optim),
        lora_r=lora.r,
        lora_targets=None if isinstance(targets, str) else _layer_names(targets),
        lora_dropout=lora.dropout,
        lora_experts=lora.experts,
        lora_bias=lora.bias,
        modules_to_save=_layer_names(lora.modules_to_save),
        use_dora=lora.use_dora,
        document_tokens=Requirements().document_tokens if _shares_rows(profile) else 0,
        gpu_uuid=gpu_uuid,
        device=_asked(profile.launch.device),
    )


def _shares_rows(profile: Profile) -> bool:
    """Whether several documents stand in a row: packed ones, and answers that are compared."""
    return profile.data.packing or profile.train.objective in ("dpo", "orpo", "kto", "reward")


def _asked(value: Any) -> Any:
    return None if value == "auto" else value


def _recompute(train: Train) -> Recompute | None:
    value = train.activation_checkpointing
    return None if value == "auto" else recompute_of(value)


def _total(train: Train) -> int:
    """The asked total; else what micro-batch and accumulation give; else the recommender's own."""
    if train.total_batch_size != "auto":
        return train.total_batch_size
    micro, steps = train.per_device_train_batch_size, train.gradient_accumulation_steps
    if micro != "auto" and steps != "auto":
        return micro * steps
    # A micro-batch above the usual total means one of them a step, not an odd multiple.
    return max(Requirements().total_batch, *(part for part in (micro, steps, 1) if part != "auto"))


def _layer_names(targets: list[str]) -> tuple[str, ...]:
    """Last parts, once each: `layers.3.self_attn.q_proj` counts as every `q_proj`, which is never too little."""
    return tuple(dict.fromkeys(name.rpartition(".")[2] for name in targets))
