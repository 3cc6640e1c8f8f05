"""A model of random weights on the device, quantized, wrapped and checkpointed as a run's.

Weights are made where they are used: no file is read, and main memory never holds them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from engine.modeling import attention
from engine.modeling.load import DTYPES, keep_plain_layout
from engine.models.spec import ModelSpec
from engine.oracle.build import config_of_spec, transformers_config
from engine.profile.schema import Profile
from engine.runs.job import Warn
from engine.train.assembly import wrap


def random_model(spec: ModelSpec, settings: Profile, device: str, *, keep_last: bool, warn: Warn) -> Any:
    """`spec` as `settings` say: storage, adapters, dtype of what learns, checkpointing (`keep_last`: but the last)."""
    model = random_base(spec, str(settings.model.dtype), device)
    model.config.use_cache = False
    if settings.tuning.method == "lora" and settings.quantization.method != "none":
        quantize(model, str(settings.quantization.method), double_quant=settings.quantization.double_quant)
    return wrap(model, settings, keep_last=keep_last, warn=warn)


def random_base(spec: ModelSpec, dtype: str, device: str) -> Any:
    """The bare model with packed attention, made on `device`."""
    from transformers import AutoModelForCausalLM

    attention.register()
    torch.manual_seed(0)
    with torch.device(device):
        return AutoModelForCausalLM.from_config(
            transformers_config(config_of_spec(spec)), dtype=DTYPES[dtype], attn_implementation=attention.NAME
        )


def quantize(model: Any, method: str, *, double_quant: bool = True) -> None:
    """Pack the linear layers but the head, one by one, on the device where they are."""
    head = model.get_output_embeddings()
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear and child is not head:
                setattr(parent, name, _packed(child, method, double_quant))
    setattr(model, "is_loaded_in_8bit" if method == "int8" else "is_loaded_in_4bit", True)
    keep_plain_layout(model)


def _packed(child: nn.Linear, method: str, double_quant: bool) -> nn.Module:
    """A bitsandbytes layer of `child`'s weights; `child` loses them."""
    import bitsandbytes as bnb

    device, exact = child.weight.device, child.weight.data.cpu()
    sizes = (child.in_features, child.out_features, child.bias is not None)
    if method == "int8":
        made = bnb.nn.Linear8bitLt(*sizes, has_fp16_weights=False, threshold=6.0, device="meta")
        weight = bnb.nn.Int8Params(exact, requires_grad=False, has_fp16_weights=False)
    else:
        made = bnb.nn.Linear4bit(*sizes, exact.dtype, quant_type=method, device="meta")
        weight = bnb.nn.Params4bit(exact, requires_grad=False, compress_statistics=double_quant, quant_type=method)
    child.weight = None  # type: ignore[assignment]
    made.weight, made.bias = weight.to(device), child.bias
    packed: nn.Module = made
    return packed
