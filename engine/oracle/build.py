"""A model on the meta device as the worker would load and wrap it, from a configuration or a ModelSpec.

The engine's own `modeling.adapters` and `modeling.forward` do the wrapping; only what reads weights is
replaced.
"""

from __future__ import annotations

import copy
from typing import Any

import torch

from engine.errors import EngineError, ExitCode
from engine.memory.resident import adapted_outside, targeted_shapes
from engine.memory.shape import TrainingShape, uses_kernels
from engine.modeling import adapters, attention, checkpointing, fused_lora, liger, wrappers
from engine.modeling.load import DTYPES
from engine.models.spec import ModelSpec
from engine.oracle.latent import latent_values
from engine.oracle.quantized import quantize_linears
from engine.profile.schema import Profile

_QUIET_KEYS = ("architectures", "auto_map", "quantization_config", "torch_dtype", "dtype", "transformers_version")


def transformers_config(values: dict[str, Any]) -> Any:
    """transformers' configuration object for the contents of a config.json. Raises EngineError(MODEL)."""
    from transformers import AutoConfig

    kind = str(values.get("model_type") or "")
    plain = {key: value for key, value in values.items() if key not in _QUIET_KEYS and key != "model_type"}
    try:
        return AutoConfig.for_model(kind, **plain)
    except (ValueError, TypeError, AttributeError) as error:
        raise EngineError(
            f"this transformers cannot read the configuration: {(str(error).splitlines() or [''])[0][:200]}",
            code=ExitCode.MODEL,
            where="config.json",
            hint="update transformers, or ask without --exact",
        ) from error


def config_of_spec(spec: ModelSpec) -> dict[str, Any]:
    """A config.json's contents for a spec that has no files here (a catalog entry)."""
    values: dict[str, Any] = {
        "model_type": spec.family,
        "hidden_size": spec.hidden_size,
        "intermediate_size": spec.intermediate_size,
        "num_hidden_layers": spec.num_hidden_layers,
        "num_attention_heads": spec.num_attention_heads,
        "num_key_value_heads": spec.num_key_value_heads,
        "head_dim": spec.head_dim,
        "vocab_size": spec.vocab_size,
        "max_position_embeddings": spec.max_position_embeddings,
        "tie_word_embeddings": spec.tie_word_embeddings,
        "sliding_window": spec.sliding_window,
        "attention_bias": spec.attention_bias,
        "mlp_bias": spec.mlp_bias,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    if spec.caps_logits is not None:
        values["final_logit_softcapping"] = 30.0 if spec.caps_logits else None
    if spec.num_experts:
        values |= {
            "num_experts": spec.num_experts,
            "num_local_experts": spec.num_experts,
            "num_experts_per_tok": spec.num_experts_per_token,
            "moe_intermediate_size": spec.intermediate_size,
        }
    return values | latent_values(spec)


def with_layers(config: Any, layers: int) -> Any:
    """A copy of `config` with `layers` layers of text; lists that name each layer are cut or repeated."""
    found = copy.deepcopy(config)
    text = found.get_text_config()
    before = text.num_hidden_layers
    for key, value in list(vars(text).items()):
        if isinstance(value, list) and len(value) == before and before > 1:
            setattr(text, key, (value * (-(-layers // before)))[:layers])
    text.num_hidden_layers = layers
    return found


def dense_first(config: Any) -> int:
    """How many layers come before the first one with experts; 0 where all have them, or none."""
    text = config.get_text_config()
    kinds = getattr(text, "mlp_layer_types", None)
    if isinstance(kinds, list) and "sparse" in kinds:
        return kinds.index("sparse")
    return int(getattr(text, "first_k_dense_replace", None) or 0)


def settings_for(spec: ModelSpec, shape: TrainingShape) -> Profile:
    """The part of a resolved profile that model building and optimizer read."""
    targets = [name for name, _, _ in targeted_shapes(spec, shape.lora_targets)] + sorted(adapted_outside(shape))
    return Profile.model_validate(
        {
            "model": {"name_or_path": spec.name or "model", "dtype": shape.compute_dtype},
            "quantization": {"method": shape.quantization, "double_quant": shape.double_quant},
            "lora": {
                "r": shape.lora_r,
                "dropout": shape.lora_dropout,
                "target_modules": targets or ["none"],
                "bias": shape.lora_bias,
                "experts": shape.lora_experts,
                "modules_to_save": list(shape.modules_to_save),
                "use_dora": shape.use_dora,
            },
            "data": {"datasets": [{"path": "-"}]},
            "train": {"optim": shape.optimizer, "learning_rate": 1e-4},
            "launch": {"device": "cuda"},
        }
    )


def _unheard(code: str, message: str) -> None:
    """Warnings of a step that only is simulated."""


def build_model(config: Any, settings: Profile, shape: TrainingShape, *, keeps_last: bool) -> Any:
    """The model in training mode, wrapped, checkpointed and bound to kernels like `train.run` does it on a GPU.

    `keeps_last`: whether the last layer keeps its activations (`engine.memory.phases.keeps_last_layer`).
    """
    attention.register()
    kernels = wrappers.kernels_by_part(config, attention.NAME)
    with torch.device("meta"):
        model = wrappers.generating_class(config).from_config(
            config, dtype=DTYPES[shape.compute_dtype], attn_implementation=kernels
        )
        model.config.get_text_config().use_cache = False
        if shape.method == "lora":
            for parameter in model.parameters():
                parameter.requires_grad_(False)
            if shape.quantization != "none":
                quantize_linears(model, shape.quantization, shape.double_quant)
            model = adapters.attach(model, settings)
        else:
            if shape.method == "freeze":
                adapters.freeze_below(model, shape.trainable_layers)
            wrappers.freeze_outside_text(model)
            adapters.set_trainable_dtype(model, settings)
    checkpointing.enable(
        model,
        shape.checkpoint_every,
        keep_last=keeps_last,
        offload=shape.offload_inputs,
        keep_attention=shape.keep_attention,
        reentrant=shape.method == "lora" and shape.quantization == "int8",
    )
    attention.use_flex(model, _unheard)
    if uses_kernels(shape):
        liger.bind(model)
    if shape.method == "lora":
        fused_lora.fuse(model)
    return model.train()
