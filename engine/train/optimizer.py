"""The optimizer that a profile names, over what learns. `masters.py` keeps fp32 copies of 16-bit weights."""

from __future__ import annotations

from typing import Any

import torch
from transformers.optimization import Adafactor

from engine.profile.schema import Profile
from engine.runs.job import Warn
from engine.train.flat import MasterAdamW
from engine.train.lion import Lion
from engine.train.masters import Groups, Masters


class MasterAdafactor(Masters, Adafactor):
    """Adafactor over fp32 masters."""


class MasterLion(Masters, Lion):
    """Lion over fp32 masters."""


def parameter_groups(model: torch.nn.Module, weight_decay: float, lora_b_lr: float | None = None) -> Groups:
    """Trainable parameters in groups: matrices decay, vectors (norms, biases, magnitudes) do not.

    `lora_b_lr`: learning rate of adapters' B matrices, where it is another (LoRA+, arXiv 2402.12354).
    """
    trainable = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    own = [parameter for name, parameter in trainable if lora_b_lr is not None and _is_b(name)]
    known = {id(parameter) for parameter in own}
    others = [parameter for _, parameter in trainable if id(parameter) not in known]
    groups: Groups = [
        {"params": [parameter for parameter in others if parameter.ndim >= 2], "weight_decay": weight_decay},
        {"params": [parameter for parameter in others if parameter.ndim < 2], "weight_decay": 0.0},
        {"params": own, "weight_decay": weight_decay, "lr": lora_b_lr},
    ]
    return [group for group in groups if group["params"]]


def _is_b(name: str) -> bool:
    return ".lora_B." in name or ".lora_embedding_B" in name


def build_optimizer(model: torch.nn.Module, settings: Profile, warn: Warn) -> torch.optim.Optimizer:
    """The optimizer that `train.optim` names; a fall-back is told through `warn`."""
    train = settings.train
    rate, betas = float(train.learning_rate), (train.adam_beta1, train.adam_beta2)
    ratio = settings.lora.plus_ratio if settings.tuning.method == "lora" else None
    groups = parameter_groups(model, train.weight_decay, None if ratio is None else rate * ratio)
    if train.optim in _EIGHT_BIT:
        eight_bit = _eight_bit(groups, rate, betas, settings, warn)
        if eight_bit is not None:
            return eight_bit
    sixteen_bit = any(weight.dtype == torch.bfloat16 for group in groups for weight in group["params"])
    if train.optim == "adafactor":
        # Absolute rates, as the Trainer of transformers sets it: relative ones start adapters from zero far too slowly.
        options: dict[str, Any] = {"lr": rate, "scale_parameter": False, "relative_step": False}
        return (MasterAdafactor if sixteen_bit else Adafactor)(groups, **options)
    if train.optim.startswith("lion"):
        return (MasterLion if sixteen_bit else Lion)(groups, lr=rate, betas=betas)
    options = {"lr": rate, "betas": betas, "eps": train.adam_epsilon, "fused": train.optim != "adamw_torch"}
    return (MasterAdamW if sixteen_bit else torch.optim.AdamW)(groups, **options)


_EIGHT_BIT = {"adamw_bnb_8bit": "AdamW8bit", "paged_adamw_8bit": "PagedAdamW8bit", "lion_8bit": "Lion8bit"}
"""Name -> class of bitsandbytes."""


def _eight_bit(groups: Groups, rate: float, betas: tuple[float, float], settings: Profile, warn: Warn) -> Any:
    name = settings.train.optim
    instead = f"{'Lion' if name == 'lion_8bit' else 'AdamW'} with fp32 states is used"
    if settings.launch.device != "cuda":
        warn("optimizer_fallback", f"{name} needs a GPU: {instead}")
        return None
    try:
        import bitsandbytes
    except ImportError as error:
        warn("optimizer_fallback", f"{name} needs bitsandbytes ({error}): {instead}")
        return None
    if settings.model.dtype == "bf16":
        warn("no_masters", f"{name} updates bf16 weights in place: updates below 0.4 % of a weight are rounded away")
    kind = getattr(bitsandbytes.optim, _EIGHT_BIT[name])
    options = {} if name == "lion_8bit" else {"eps": settings.train.adam_epsilon}
    return kind(groups, lr=rate, betas=betas, **options)
