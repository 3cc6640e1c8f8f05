"""The optimizer: AdamW that keeps fp32 masters of 16-bit weights, or one of bitsandbytes'.

A bf16 weight cannot take an update below 2^-9 of its size, and a bf16 second moment with beta2 = 0.999
never decays. So weights and gradients stay 16-bit for speed and memory, while masters and moments are
fp32: 16 bytes per trained parameter, as fp32 training takes, with 16-bit activations.
"""

from __future__ import annotations

from typing import Any

import torch

from engine.profile.schema import Profile
from engine.worker_job import Warn

Groups = list[dict[str, Any]]
STEP_PORTION_BYTES = 256 * 1024 * 1024
"""fp32 gradients alive at once in a step; the memory model counts on this number."""


class MasterAdamW(torch.optim.AdamW):
    """AdamW over fp32 copies of `groups`' 16-bit parameters, written back after each step.

    `param_groups` hold the masters, so that learning-rate schedules work unchanged.
    """

    def __init__(self, groups: Groups, **options: Any) -> None:
        self._weights: list[torch.Tensor] = [weight for group in groups for weight in group["params"]]
        masters = iter([weight.detach().float().clone() for weight in self._weights])
        super().__init__([{**group, "params": [next(masters) for _ in group["params"]]} for group in groups], **options)
        self._masters: list[torch.Tensor] = [master for group in self.param_groups for master in group["params"]]
        self._portions = _portions(self._weights, self._masters)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One update of masters and weights from the weights' gradients.

        In portions, so that at most `STEP_PORTION_BYTES` of fp32 gradients exist at once: all of them
        together would cost four bytes a parameter. AdamW passes over masters without a gradient.
        """
        result = None
        for weights, masters in self._portions:
            for weight, master in zip(weights, masters, strict=True):
                master.grad = None if weight.grad is None else weight.grad.float()
            result = super().step(closure)
            torch._foreach_copy_(weights, masters)
            for master in masters:
                master.grad = None
        return result

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the weights' gradients."""
        for weight in self._weights:
            weight.grad = None

    def state_dict(self) -> dict[str, Any]:
        """AdamW's state with the masters, without which a resumed run would differ."""
        return {**super().state_dict(), "masters": [master.detach() for master in self._masters]}

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore moments and masters; the weights themselves come with the model."""
        state = dict(state_dict)
        masters = state.pop("masters")
        super().load_state_dict(state)
        for master, saved in zip(self._masters, masters, strict=True):
            master.copy_(saved)


def _portions(
    weights: list[torch.Tensor], masters: list[torch.Tensor]
) -> list[tuple[list[torch.Tensor], list[torch.Tensor]]]:
    """Weights with their masters, split so that each part's masters take at most a portion."""
    parts: list[tuple[list[torch.Tensor], list[torch.Tensor]]] = []
    room = 0
    for weight, master in zip(weights, masters, strict=True):
        size = master.numel() * master.element_size()
        if size > room or not parts:
            parts.append(([], []))
            room = STEP_PORTION_BYTES
        parts[-1][0].append(weight)
        parts[-1][1].append(master)
        room -= size
    return parts


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
    options: dict[str, Any] = {
        "lr": float(train.learning_rate),
        "betas": (train.adam_beta1, train.adam_beta2),
        "eps": train.adam_epsilon,
    }
    ratio = settings.lora.plus_ratio if settings.tuning.method == "lora" else None
    groups = parameter_groups(model, train.weight_decay, None if ratio is None else float(train.learning_rate) * ratio)
    if train.optim in ("adamw_bnb_8bit", "paged_adamw_8bit"):
        eight_bit = _eight_bit(train.optim, groups, options, settings, warn)
        if eight_bit is not None:
            return eight_bit
    options["fused"] = train.optim != "adamw_torch"
    sixteen_bit = any(weight.dtype == torch.bfloat16 for group in groups for weight in group["params"])
    return MasterAdamW(groups, **options) if sixteen_bit else torch.optim.AdamW(groups, **options)


def _eight_bit(name: str, groups: Groups, options: dict[str, Any], settings: Profile, warn: Warn) -> Any:
    if settings.launch.device != "cuda":
        warn("optimizer_fallback", f"{name} needs a GPU: AdamW with fp32 states is used")
        return None
    try:
        import bitsandbytes
    except ImportError as error:
        warn("optimizer_fallback", f"{name} needs bitsandbytes ({error}): AdamW with fp32 states is used")
        return None
    if settings.model.dtype == "bf16":
        warn("no_masters", f"{name} updates bf16 weights in place: updates below 0.4 % of a weight are rounded away")
    kind = bitsandbytes.optim.AdamW8bit if name == "adamw_bnb_8bit" else bitsandbytes.optim.PagedAdamW8bit
    return kind(groups, **options)
