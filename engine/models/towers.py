"""What is loaded beside the text model of a checkpoint that also sees or hears: towers and their projectors, counted.

Each function follows transformers' class of that name, with its defaults, and takes the part of the configuration that
describes the tower. The tests hold every one against transformers' own model. Not here: which checkpoint has which
(`wrapper_rows.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from engine.models.layers import LayerGroup
from engine.models.layouts import Linear, gated
from engine.models.numbers import Numbers


@dataclass(frozen=True, slots=True)
class Whole:
    """A checkpoint's configuration by parts."""

    root: Numbers
    text: Numbers
    seen: Numbers | None
    """Of images; None where there is no such tower."""
    heard: Numbers | None

    @property
    def width(self) -> int:
        """Features of the text model."""
        return self.text.whole("hidden_size")


def vision(whole: Whole) -> Numbers:
    """The part about images, empty where the configuration leaves all to the class."""
    return whole.seen or Numbers({}, whole.root.where)


def with_bias(layers: int, linear: Linear, small: int = 0, stacked: int = 0) -> LayerGroup:
    """Layers whose matrices all have biases."""
    bias = sum(n_out for _, _, n_out in linear)
    return LayerGroup(layers, linear, stacked=stacked, small=small + bias, biases=bias)


def _squares(hidden: int) -> Linear:
    return tuple((name, hidden, hidden) for name in ("q_proj", "k_proj", "v_proj", "out_proj"))


def _encoder(layers: int, hidden: int, inner: int) -> LayerGroup:
    """A plain transformer: biases everywhere, two norms with biases."""
    linear = (*_squares(hidden), ("fc1", hidden, inner), ("fc2", inner, hidden))
    return with_bias(layers, linear, small=4 * hidden)


def siglip(numbers: Numbers, head: bool = True) -> tuple[LayerGroup, ...]:
    """SigLIP, and with other names Idefics 3's and SmolVLM's, which have no pooling head."""
    hidden, inner = numbers.count("hidden_size", 768), numbers.count("intermediate_size", 3072)
    patch, image = max(1, numbers.count("patch_size", 16)), numbers.count("image_size", 224)
    embedded = hidden * (numbers.count("num_channels", 3) * patch**2 + 1 + (image // patch) ** 2)
    found = [_encoder(numbers.count("num_hidden_layers", 12), hidden, inner)]
    found += [LayerGroup(1, (), stacked=embedded, small=2 * hidden)]
    if numbers.flag("vision_use_head", head):
        # Its attention holds its matrices in one, out of reach of quantization.
        matrices = with_bias(1, (("fc1", hidden, inner), ("fc2", inner, hidden)), small=2 * hidden)
        found += [matrices, LayerGroup(1, (), stacked=4 * hidden**2, small=5 * hidden)]
    return tuple(found)


def clip(numbers: Numbers) -> tuple[LayerGroup, ...]:
    """CLIP's image tower."""
    hidden, patch = numbers.count("hidden_size", 768), max(1, numbers.count("patch_size", 32))
    places = (numbers.count("image_size", 224) // patch) ** 2 + 1
    embedded = hidden * (numbers.count("num_channels", 3) * patch**2 + 1 + places)
    layers = _encoder(numbers.count("num_hidden_layers", 12), hidden, numbers.count("intermediate_size", 3072))
    return layers, LayerGroup(1, (), stacked=embedded, small=4 * hidden)


def pixtral(numbers: Numbers) -> tuple[LayerGroup, ...]:
    """Pixtral: gated, without biases and without learned positions."""
    hidden, inner = numbers.count("hidden_size", 1024), numbers.count("intermediate_size", 4096)
    embedded = hidden * numbers.count("num_channels", 3) * numbers.count("patch_size", 16) ** 2
    linear = (*_squares(hidden), *gated(hidden, inner))
    layers = LayerGroup(numbers.count("num_hidden_layers", 24), linear, small=2 * hidden)
    return layers, LayerGroup(1, (), stacked=embedded, small=hidden)


def intern(numbers: Numbers) -> tuple[LayerGroup, ...]:
    """InternViT as InternVL has it."""
    hidden, inner = numbers.count("hidden_size", 1024), numbers.count("intermediate_size", 4096)
    patch, image = max(1, _side(numbers, "patch_size", 14)), _side(numbers, "image_size", 448)
    places = (image // patch) ** 2 + 1 if numbers.flag("use_absolute_position_embeddings", True) else 0
    embedded = hidden * (numbers.count("num_channels", 3) * patch**2 + 2 + places + numbers.flag("use_mask_token"))
    linear = (*_squares(hidden), ("fc1", hidden, inner), ("fc2", inner, hidden))
    biases = hidden * (5 if numbers.flag("attention_bias") else 2) + inner
    norms = 4 * hidden if numbers.text.get("norm_type", "layer_norm") == "layer_norm" else 2 * hidden
    norms += 2 * hidden * numbers.flag("use_qk_norm")
    layers = LayerGroup(
        numbers.count("num_hidden_layers", 24), linear, small=2 * hidden + norms + biases, biases=biases
    )
    last = 0 if numbers.flag("use_mean_pooling", True) else 2 * hidden
    return layers, LayerGroup(1, (), stacked=embedded, small=last)


def _side(numbers: Numbers, key: str, default: int) -> int:
    """One side of a square, which may be written as two."""
    value = numbers.text.get(key)
    single = value[0] if isinstance(value, list | tuple) and value else value
    return Numbers({key: single}, numbers.where).count(key, default)


def qwen2(numbers: Numbers) -> tuple[LayerGroup, ...]:
    """Qwen2-VL: its `hidden_size` is the text model's."""
    width, merged = numbers.count("embed_dim", 1280), numbers.count("spatial_merge_size", 2) ** 2
    inner, out = width * numbers.count("mlp_ratio", 4), numbers.count("hidden_size", 3584)
    linear = (*_joined(width), ("fc1", width, inner), ("fc2", inner, width))
    blocks = with_bias(numbers.count("depth", 32), linear, small=4 * width)
    return blocks, _qwen_patches(numbers, width, 14), _merger(merged * width, out, 2 * width)


def qwen2_5(numbers: Numbers) -> tuple[LayerGroup, ...]:
    """Qwen2.5-VL: gated, norms without biases."""
    width, merged = numbers.count("hidden_size", 3584), numbers.count("spatial_merge_size", 2) ** 2
    linear = (*_joined(width), *gated(width, numbers.count("intermediate_size", 3420)))
    blocks = with_bias(numbers.count("depth", 32), linear, small=2 * width)
    merger = _merger(merged * width, numbers.count("out_hidden_size", 3584), width)
    return blocks, _qwen_patches(numbers, width, 14), merger


def qwen3(numbers: Numbers, deepstack: bool = True) -> tuple[LayerGroup, ...]:
    """Qwen3-VL, and Qwen3.5 without its mergers for single layers."""
    width, inner = numbers.count("hidden_size", 1152), numbers.count("intermediate_size", 4304)
    merged, out = numbers.count("spatial_merge_size", 2) ** 2 * width, numbers.count("out_hidden_size", 3584)
    linear = (*_joined(width), ("linear_fc1", width, inner), ("linear_fc2", inner, width))
    blocks = with_bias(numbers.count("depth", 27), linear, small=4 * width)
    patches = _qwen_patches(numbers, width, 16)
    places = width * (numbers.count("num_position_embeddings", 2304) + 1)
    found = (blocks, patches._replace(stacked=patches.stacked + places), _merger(merged, out, 2 * width))
    # Its own default are three.
    deep = len(numbers.listed("deepstack_visual_indexes")) if "deepstack_visual_indexes" in numbers.text else 3
    return (*found, _merger(merged, out, 2 * merged)._replace(layers=deep)) if deepstack and deep else found


def _joined(width: int) -> Linear:
    return (("qkv", width, 3 * width), ("proj", width, width))


def _qwen_patches(numbers: Numbers, width: int, patch: int) -> LayerGroup:
    # Published files call the channels `in_chans` too, which no class reads.
    volume = numbers.count("in_channels", 3) * numbers.count("temporal_patch_size", 2)
    return LayerGroup(1, (), stacked=width * volume * numbers.count("patch_size", patch) ** 2)


def _merger(merged: int, out: int, norm: int) -> LayerGroup:
    return with_bias(1, (("fc1", merged, merged), ("fc2", merged, out)), small=norm)


def whisper(numbers: Numbers) -> tuple[LayerGroup, ...]:
    """Whisper's encoder, as Voxtral and Qwen2-Audio name its keys; keys have no biases."""
    width = numbers.optional("d_model") or numbers.count("hidden_size", 1280)
    inner = numbers.optional("encoder_ffn_dim") or numbers.count("intermediate_size", 5120)
    layers = numbers.optional("encoder_layers") or numbers.count("num_hidden_layers", 32)
    taps = 3 * width * (numbers.count("num_mel_bins", 128) + width)
    embedded = taps + width * numbers.count("max_source_positions", 1500)
    blocks = _encoder(layers, width, inner)
    blocks = blocks._replace(small=blocks.small - width, biases=blocks.biases - width)
    return blocks, LayerGroup(1, (), stacked=embedded, small=4 * width)


def gemma4_eyes(numbers: Numbers) -> tuple[LayerGroup, ...]:
    """Gemma 4's image tower: a small Gemma."""
    hidden, inner = numbers.count("hidden_size", 768), numbers.count("intermediate_size", 3072)
    head = numbers.count("head_dim", 64)
    query = numbers.count("num_attention_heads", 12) * head
    key = numbers.count("num_key_value_heads", 12) * head
    linear: Linear = (("q_proj", hidden, query), ("k_proj", hidden, key), ("v_proj", hidden, key))
    linear = (*linear, ("o_proj", query, hidden), *gated(hidden, inner))
    layers = LayerGroup(numbers.count("num_hidden_layers", 16), linear, small=4 * hidden + 2 * head)
    places = 2 * numbers.count("position_embedding_size", 10_240) * hidden
    patches = (("input_proj", 3 * numbers.count("patch_size", 16) ** 2, hidden),)
    return layers, LayerGroup(1, patches, stacked=places)


def gemma4_ears(numbers: Numbers) -> tuple[LayerGroup, ...]:
    """Gemma 4's sound tower: layers with two feed-forward parts around attention and a convolution."""
    width, out = numbers.count("hidden_size", 1024), numbers.count("output_proj_dims", 1536)
    twice = [(f"ffw_layer_{place}", *sides) for place, sides in ((1, (width, 4 * width)), (2, (4 * width, width)))]
    square = [(name, width, width) for name in ("q_proj", "k_proj", "v_proj", "post", "relative_k_proj", "linear_end")]
    linear: Linear = (*twice, *twice, *square, ("linear_start", width, 2 * width))
    head = width // max(1, numbers.count("num_attention_heads", 8))
    taps = width * numbers.count("conv_kernel_size", 5)
    layers = LayerGroup(numbers.count("num_hidden_layers", 12), linear, stacked=taps, small=9 * width + head)
    first, second = _channels(numbers)
    projection = (("input_proj_linear", first // 4 * second, width), ("output_proj", width, out))
    convolved = LayerGroup(
        1, projection, stacked=9 * first + 9 * first * second, small=first + second + out, biases=out
    )
    return layers, convolved


def _channels(numbers: Numbers) -> tuple[int, int]:
    value = numbers.text.get("subsampling_conv_channels", [128, 32])
    if not isinstance(value, list | tuple) or len(value) != 2:
        return 128, 32
    first, second = (Numbers({"channels": item}, numbers.where).whole("channels") for item in value)
    return first, second


def projector(*sizes: int, bias: bool = False, norm: int = 0) -> LayerGroup:
    """Linear layers one after another: `sizes` are the features between them."""
    linear = tuple((f"linear_{place}", *pair) for place, pair in enumerate(pairwise(sizes), 1))
    found = with_bias(1, linear, small=norm)
    return found if bias else found._replace(small=norm, biases=0)


def frozen(count: int) -> LayerGroup:
    """`count` parameters that lie in no linear layer, or in one that stays as it is."""
    return LayerGroup(1, (), stacked=count)
