"""What a profile fixes, as the recommender's `Requirements`: `"auto"` becomes None.

Called by `check.py`. Not here: what the recommender makes of it.
"""

from __future__ import annotations

from typing import Any

from engine.memory.recompute import Recompute, recompute_of
from engine.profile.schema import Profile, Train
from engine.recommend.plan import Requirements


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
        lora_bias=lora.bias,
        modules_to_save=_layer_names(lora.modules_to_save),
        use_dora=lora.use_dora,
        gpu_uuid=gpu_uuid,
        device=_asked(profile.launch.device),
    )


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
