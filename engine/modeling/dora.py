"""What PEFT's weight-decomposed adapters leave undone on bitsandbytes' layers, given back by hooks.

Seen with PEFT 0.21 and bitsandbytes 0.50.
"""

from __future__ import annotations

from typing import Any

import torch


def mend(model: Any) -> None:
    """Every adapted layer of `model` keeps its scales, and gives hidden states as wide as it took them."""
    for module in model.modules():
        _keep_scales(module)
        if getattr(module, "lora_magnitude_vector", None):
            module.register_forward_hook(_keep_width)


def _keep_scales(module: Any) -> None:
    """Give int8 weights back their scales where PEFT's DoRA, on a processor, leaves a copy without them.

    bitsandbytes would take the missing scales over with the next product.
    """
    if type(getattr(module, "weight", None)).__name__ == "Int8Params" and hasattr(module, "state"):
        module.register_forward_pre_hook(_with_scales)


def _with_scales(module: Any, _: Any) -> None:
    weight = module.weight
    if weight.CB is not None and weight.SCB is None:
        weight.SCB = module.state.SCB


def _keep_width(module: Any, given: tuple[Any, ...], made: torch.Tensor) -> torch.Tensor:
    """fp16 trains fp32 adapters under autocast, where PEFT does not narrow the sum on quantized layers again.

    The residual stream would be fp32 from the first layer on, and the loss would copy the output head to fp32. A
    layer's own output is what it would be without an adapter: the norms of some families give fp32.
    """
    narrow = torch.float16 if torch.is_autocast_enabled() and made.dtype == torch.float32 else made.dtype
    return made.to(narrow)
