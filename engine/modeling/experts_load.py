"""Experts packed to 4 bit while a model is loaded, one layer's stack after the other.

transformers' loader for bitsandbytes quantizes linear layers only. With the one here it quantizes the two stacks of
each layer as well, as soon as a stack is put together, so that a single one is there in 16 bit at a time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import lru_cache
from typing import Any
from unittest import mock

from engine.modeling import experts

_METHOD = "bitsandbytes_4bit"


@contextlib.contextmanager
def packing() -> Iterator[None]:
    """What is loaded in 4 bit meanwhile has its experts in 4 bit too."""
    from transformers.quantizers import auto

    with mock.patch.dict(auto.AUTO_QUANTIZER_MAPPING, {_METHOD: _quantizer()}):
        yield


@lru_cache(maxsize=1)
def _quantizer() -> Any:
    """The loader's class; made when first asked for, as transformers is slow to import."""
    from transformers.core_model_loading import ConversionOps
    from transformers.quantizers.quantizer_bnb_4bit import Bnb4BitHfQuantizer

    class Pack(ConversionOps):
        """One stack, quantized where it lies."""

        def __init__(self, quantizer: Any) -> None:
            self.quantizer = quantizer
            self.linear = Bnb4BitHfQuantizer.get_quantize_ops(quantizer)

        def convert(self, input_dict: dict[str, Any], model: Any = None, **kwargs: Any) -> dict[str, Any]:
            """The packed parameters of a loaded tensor, by name."""
            found: dict[str, Any] = {}
            for name, value in input_dict.items():
                if not _is_expert(model, name):
                    found |= self.linear.convert({name: value}, model=model, **kwargs)
                    continue
                found[name] = packed(value[0] if isinstance(value, list) else value, self.quantizer.quantization_config)
            return found

    class Quantizer(Bnb4BitHfQuantizer):
        """transformers' own, that takes experts too."""

        def param_needs_quantization(self, model: Any, param_name: str, **kwargs: Any) -> bool:
            """Whether a parameter is to be packed."""
            return _is_expert(model, param_name) or super().param_needs_quantization(model, param_name, **kwargs)

        def get_quantize_ops(self) -> Any:
            """What packs it."""
            return Pack(self)

        def _process_model_after_weight_loading(self, model: Any, **kwargs: Any) -> Any:
            experts.bind(model)
            return super()._process_model_after_weight_loading(model, **kwargs)

    return Quantizer


def _is_expert(model: Any, name: str) -> bool:
    path, _, last = name.rpartition(".")
    return last in experts.STACKS and experts.is_stack(model.get_submodule(path))


def pack(model: Any, settings: Any) -> None:
    """Pack the experts of a model that is there in full, a stack at a time, as `settings` (BitsAndBytesConfig) say."""
    for _, module in experts.stacks_of(model):
        for name in experts.STACKS:
            module._parameters[name] = packed(module._parameters[name].data, settings)
    experts.bind(model)


def packed(value: Any, settings: Any) -> Any:
    """A stack [experts, out, in] as bitsandbytes' 4-bit parameter, on the device where it is."""
    import bitsandbytes as bnb

    return bnb.nn.Params4bit(
        value,
        requires_grad=False,
        quant_type=settings.bnb_4bit_quant_type,
        compress_statistics=settings.bnb_4bit_use_double_quant,
        quant_storage=settings.bnb_4bit_quant_storage,
    ).to(value.device)
