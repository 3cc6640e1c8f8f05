"""A language model as numbers: what its configuration says, and the sizes that follow from it.

Read by `engine.memory`, `engine.speed` and `engine.recommend`. Sizes are computed once for a spec and travel with it.
Not here: what all models of a family share (`families.py`), finding a model (`resolve.py`), the shipped list
(`catalog.py`), bytes (`engine.memory`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

from engine.models.families import family_of
from engine.models.family import Family
from engine.models.layers import LayerGroup, parameters_in

Shapes = Mapping[str, tuple[int, int]]
"""(in, out) of linear layers by name."""


@dataclass(frozen=True)
class ModelSpec:
    """Architecture numbers of a decoder-only transformer, with the facts a person chooses by."""

    name: str
    """Hub id, `demo`, or the path that was given."""
    family: str
    """transformers' `model_type`: llama, qwen2, qwen3, mistral, gemma2, phi3 …"""
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    max_position_embeddings: int
    tie_word_embeddings: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    gated_mlp: bool = True
    fused_projections: bool = False
    """True where qkv and gate_up are single matrices (phi3)."""
    sliding_window: int | None = None
    caps_logits: bool | None = None
    """Whether logits pass a soft cap; `None` = as its family does."""
    num_experts: int = 0
    num_experts_per_token: int = 0
    shared_intermediate_size: int = 0
    """Width of an expert, or of a dense part beside the experts, that every token meets."""
    layer_groups: tuple[LayerGroup, ...] = ()
    """Layers by kind, where not all are alike; empty = as the numbers above say."""
    other_parameters: int = 0
    """Outside of layers, embedding, output head and the last norm's weight: per-layer embeddings."""
    wrapper: str = ""
    """`model_type` of the whole checkpoint where the text model is a part of it; empty for a model of text alone."""
    tower_groups: tuple[LayerGroup, ...] = ()
    """What is loaded beside the text model, frozen: towers for images or sound and their projectors."""
    counted: bool = True
    """False for an architecture that the numbers do not describe: it can be simulated, and no number from here is
    shown."""
    weights_dtype: str = "bfloat16"
    """dtype of the published weights; what the files hold."""
    stored: str = ""
    """`mxfp4` or `fp8` where the files hold weights that are dequantized while loading; empty = as `weights_dtype`."""
    parameters: int | None = None
    """Published or counted from the files; `None` = computed from the numbers above."""
    licence: str = ""
    gated: bool = False
    use_cases: tuple[str, ...] = ()
    quality: int = 0
    """Relative capability, 0 to 100, used only to order recommendations. 0 = not known."""
    source: str = "catalogue"
    """`catalogue`, `directory`, `gguf`, `cache` or `built-in`."""
    path: str | None = None
    """Where its files are on this machine, when they are."""

    def __hash__(self) -> int:
        # Models are keys of many caches, and hashing all fields at each call would cost more than it tells apart.
        return hash((self.name, self.family, self.hidden_size, self.num_hidden_layers, self.parameters))

    @cached_property
    def traits(self) -> Family:
        """What its family does otherwise than Llama."""
        return family_of(self.family)

    @property
    def fuses_gate(self) -> bool:
        """Whether gate and up are one matrix."""
        return self.fused_projections or self.traits.fused_gate

    @property
    def has_capped_logits(self) -> bool:
        """Whether logits pass a soft cap."""
        return self.traits.caps_logits if self.caps_logits is None else self.caps_logits

    @property
    def all_linear(self) -> tuple[str, ...]:
        """What `all-linear` means: names of the layers that carry adapters."""
        misread = self.traits.misread
        return tuple(name for name in self.sizes.linear_shapes if name not in misread)

    @cached_property
    def sizes(self) -> ModelSizes:
        """Shapes and parameter counts, computed at the first use."""
        return _sizes(self)


@dataclass(frozen=True, slots=True)
class ModelSizes:
    """Shapes and parameter counts of one model: whole numbers from its `ModelSpec`."""

    query_width: int
    """Features of all query heads; differs from the hidden size where head_dim is set apart."""
    key_width: int
    """Features of all key (or value) heads."""
    groups: tuple[LayerGroup, ...]
    """All layers by kind."""
    linear_shapes: Shapes
    """The linear layers of one block that can be quantized or carry an adapter; the widest where blocks differ.

    Experts are not among them: transformers 5 keeps them as one stacked parameter, which neither bitsandbytes nor
    PEFT's `all-linear` touches.
    """
    linear_parameters: int
    """Weights of `linear_shapes` in all layers, without biases."""
    expert_parameters: int
    """Weights of all experts and routers; 0 for a dense model."""
    embedding_parameters: int
    """Input embedding and output head: one matrix when tied."""
    small_parameters: int
    """Norm weights and biases."""
    bias_parameters: int
    """Of those, the biases of all layers."""
    computed_parameters: int
    """All parameters from the architecture's numbers alone."""
    total_parameters: int
    """Counted or published where known, else computed."""
    active_parameters: int
    """Weights a token is multiplied with, with the output head and without the embedding lookup."""
    tower_parameters: int = 0
    """Loaded beside the text model, in none of the counts above."""

    @property
    def loaded_parameters(self) -> int:
        """Text model and towers."""
        return self.total_parameters + self.tower_parameters


def _sizes(spec: ModelSpec) -> ModelSizes:
    groups = spec.layer_groups or (_layers(spec),)
    linear = sum(group.layers * group.linear_parameters for group in groups)
    stacked = sum(group.layers * group.stacked for group in groups)
    met = sum(group.layers * group.met for group in groups)
    embedding = spec.vocab_size * spec.hidden_size
    embeddings = embedding * (1 if spec.tie_word_embeddings else 2)
    last_norm = spec.hidden_size * (1 if spec.layer_groups else _numbers_per_norm(spec))
    small = sum(group.layers * group.small for group in groups) + last_norm
    computed = linear + stacked + embeddings + small + spec.other_parameters
    return ModelSizes(
        query_width=_query_width(spec),
        key_width=_key_width(spec),
        groups=groups,
        linear_shapes=MappingProxyType(_widest(groups)),
        linear_parameters=linear,
        expert_parameters=stacked,
        embedding_parameters=embeddings,
        small_parameters=small,
        bias_parameters=sum(group.layers * group.biases for group in groups),
        computed_parameters=computed,
        total_parameters=spec.parameters or computed,
        active_parameters=linear + met + embedding,
        tower_parameters=parameters_in(spec.tower_groups),
    )


def _layers(spec: ModelSpec) -> LayerGroup:
    """All layers, from the numbers of one."""
    attention, mlp, biases = _attention_shapes(spec), _mlp_shapes(spec), _layer_biases(spec)
    shapes = attention if spec.num_experts else {**attention, **mlp}
    expert, router = _weights(mlp), spec.num_experts * spec.hidden_size
    return LayerGroup(
        spec.num_hidden_layers,
        tuple((name, *sides) for name, sides in shapes.items()),
        stacked=spec.num_experts * expert + router if spec.num_experts else 0,
        met=spec.num_experts_per_token * expert + router if spec.num_experts else 0,
        small=_layer_norms(spec) + biases + spec.traits.single_weights,
        biases=biases,
    )


def _widest(groups: tuple[LayerGroup, ...]) -> dict[str, tuple[int, int]]:
    """The largest matrix of each name."""
    found: dict[str, tuple[int, int]] = {}
    for group in groups:
        for name, n_in, n_out in group.linear:
            n_known, m_known = found.get(name, (0, 0))
            if n_in * n_out > n_known * m_known:
                found[name] = (n_in, n_out)
    return found


def _query_width(spec: ModelSpec) -> int:
    return spec.num_attention_heads * spec.head_dim


def _key_width(spec: ModelSpec) -> int:
    return spec.num_key_value_heads * spec.head_dim


def _weights(shapes: Shapes) -> int:
    return sum(n_in * n_out for n_in, n_out in shapes.values())


def _attention_shapes(spec: ModelSpec) -> dict[str, tuple[int, int]]:
    hidden, query, key = spec.hidden_size, _query_width(spec), _key_width(spec)
    if spec.fused_projections:
        return {"qkv_proj": (hidden, query + 2 * key), "o_proj": (query, hidden)}
    return {"q_proj": (hidden, query), "k_proj": (hidden, key), "v_proj": (hidden, key), "o_proj": (query, hidden)}


def _mlp_shapes(spec: ModelSpec) -> dict[str, tuple[int, int]]:
    """Of one feed-forward block; of one expert where there are experts."""
    hidden, inner = spec.hidden_size, spec.intermediate_size
    if not spec.gated_mlp:
        return {"up_proj": (hidden, inner), "down_proj": (inner, hidden)}
    if spec.fuses_gate:
        return {"gate_up_proj": (hidden, 2 * inner), "down_proj": (inner, hidden)}
    return {"gate_proj": (hidden, inner), "up_proj": (hidden, inner), "down_proj": (inner, hidden)}


def _layer_norms(spec: ModelSpec) -> int:
    of_heads = {"": 0, "head": 2 * spec.head_dim, "width": _query_width(spec) + _key_width(spec)}
    width = spec.hidden_size * _numbers_per_norm(spec)
    return spec.traits.norms_per_layer * width + of_heads[spec.traits.query_key_norm]


def _numbers_per_norm(spec: ModelSpec) -> int:
    """Trained numbers of a norm for each feature."""
    return 0 if spec.traits.bare_norms else 2 if spec.traits.biased_norms else 1


def _layer_biases(spec: ModelSpec) -> int:
    inner = spec.intermediate_size * (2 if spec.gated_mlp else 1)
    count = inner + spec.hidden_size if spec.mlp_bias else 0
    if spec.attention_bias:
        count += _query_width(spec) + 2 * _key_width(spec)
        count += spec.hidden_size if spec.traits.output_bias else 0
    return count
