"""What is loaded beside a text model: counted as transformers builds it, from published configurations and files."""

from __future__ import annotations

import json
import struct
from collections import Counter
from math import prod
from pathlib import Path
from typing import Any

import pytest

from engine.errors import EngineError, ExitCode
from engine.memory.resident import tower_bytes, weight_bytes
from engine.memory.shape import TrainingShape
from engine.memory.terms import estimate_memory
from engine.models.config import spec_from_config
from engine.models.families import known_family
from engine.models.resolve import read_directory
from engine.models.spec import ModelSpec
from engine.models.wrapper_rows import SCORING, WITHOUT_CLASS, WRAPPERS, check_class, is_tied, towers_of

TEXT: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 61,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
MORE: dict[str, dict[str, Any]] = {
    "gemma4_text": {"hidden_size_per_layer_input": 0, "num_kv_shared_layers": 0, "layer_types": ["full_attention"] * 2},
    "gemma4_unified_text": {"layer_types": ["full_attention"] * 2},
    "qwen3_vl_moe_text": EXPERTS,
    "qwen3_5_moe_text": {**EXPERTS, "shared_expert_intermediate_size": 24},
    "gemma3_text": {"sliding_window": 8},
}
FEW = {"num_hidden_layers": 2, "depth": 2, "encoder_layers": 2}
VARIANTS: tuple[tuple[str, dict[str, Any]], ...] = (
    *((name, {}) for name in WRAPPERS),
    ("gemma3", {"vision_config": {"vision_use_head": False, "image_size": 56, "patch_size": 14}}),
    ("gemma4", {"vision_config": {"num_key_value_heads": 6}, "audio_config": {"subsampling_conv_channels": [16, 8]}}),
    ("gemma4", {"vision_config": {"attention_bias": True}}),
    ("gemma4_unified", {"vision_config": {"mm_embed_dim": 64, "output_proj_dims": 64}, "audio_config": {}}),
    ("mistral3", {"vision_feature_layer": [-1, -2], "multimodal_projector_bias": True}),
    ("llava", {"vision_config": {"model_type": "pixtral"}}),
    ("qwen3_vl", {"vision_config": {"deepstack_visual_indexes": [0], "out_hidden_size": 32}}),
    (
        "internvl",
        {
            "vision_config": {
                "use_mean_pooling": False,
                "use_qk_norm": True,
                "norm_type": "rms_norm",
                "attention_bias": True,
                "use_absolute_position_embeddings": False,
                "use_mask_token": True,
            }
        },
    ),
)


def configured(name: str, more: dict[str, Any]) -> Any:
    """transformers' configuration of a shallow wrapper."""
    transformers = pytest.importorskip("transformers")
    kind = WRAPPERS[name].text
    text = {"model_type": kind, **TEXT, **MORE.get(kind, {})}
    config = transformers.AutoConfig.for_model(name, text_config=text, **more)
    for part in (config.get_text_config(), *(getattr(config, key, None) for key in ("vision_config", "audio_config"))):
        for key, value in FEW.items() if part is not None else ():
            if isinstance(getattr(part, key, None), int):
                setattr(part, key, value)
    return config


@pytest.mark.parametrize(
    ("name", "more"), [pytest.param(*each, id=f"{each[0]}-{'-'.join(each[1])}") for each in VARIANTS]
)
def test_towers_are_counted_as_transformers_builds_them(name: str, more: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    from engine.modeling import wrappers

    config = configured(name, more)
    with torch.device("meta"):
        model = wrappers.generating_class(config).from_config(config)
    groups = towers_of(config.to_dict(), "config.json")
    assert groups is not None
    outside = wrappers.outside_text(model)
    linear = [
        each for path, each in model.named_modules() if type(each) is torch.nn.Linear and path.startswith(outside)
    ]
    counted: Counter[tuple[int, int]] = Counter()
    for group in groups:
        for _, n_in, n_out in group.linear:
            counted[n_in, n_out] += group.layers
    assert counted == Counter((each.in_features, each.out_features) for each in linear)
    in_groups = sum(group.layers * (group.linear_parameters + group.stacked + group.small) for group in groups)
    assert in_groups == sum(each.numel() for each in wrappers.parameters_outside_text(model))
    tied = model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert is_tied(config.to_dict(), default=False) == tied
    row = known_family(WRAPPERS[name].text)
    if row is not None and not row.refused:
        sizes = spec_from_config(config.to_dict(), name, "config.json", source="directory", path=None).sizes
        assert sizes.loaded_parameters == sum(each.numel() for each in model.parameters())


@pytest.mark.parametrize("name", WRAPPERS)
def test_what_a_configuration_leaves_out_is_that_of_its_class(name: str) -> None:
    transformers = pytest.importorskip("transformers")
    text = {"model_type": WRAPPERS[name].text, **TEXT, **MORE.get(WRAPPERS[name].text, {})}
    whole = transformers.AutoConfig.for_model(name, text_config=text)
    sparse = {"model_type": name, "text_config": text}
    assert towers_of(sparse, "config.json") == towers_of(whole.to_dict(), "config.json")
    assert is_tied(sparse, default=False) == is_tied(whole.to_dict(), default=False)


def test_a_head_of_its_own_is_tied_where_transformers_ties_it() -> None:
    for wrapper in (True, False, None):
        for text in (True, False):
            config: dict[str, Any] = {"model_type": "mistral3", "text_config": {**TEXT, "tie_word_embeddings": text}}
            config |= {} if wrapper is None else {"tie_word_embeddings": wrapper}
            assert is_tied(config, default=False) == (wrapper is not False), "the whole decides, not its text model"
            config["model_type"] = "qwen2_5_vl"
            assert is_tied(config, default=False) == (bool(wrapper) or text)


def test_the_classes_that_write_and_score_are_transformers_own() -> None:
    transformers = pytest.importorskip("transformers")
    from engine.modeling import wrappers

    for name in (*WRAPPERS, *WITHOUT_CLASS):
        config = transformers.CONFIG_MAPPING[name]()
        refused = name in WITHOUT_CLASS
        assert (
            _words(wrappers.generating_class, config)
            == _words(check_class, {"model_type": name}, "")
            == (f"transformers has no class for '{name}' that writes text" if refused else "")
        )
        assert (_words(wrappers.scoring_class, config) == "") == (name in SCORING)


def _words(ask: Any, *parts: Any) -> str:
    try:
        ask(*parts)
    except EngineError as error:
        return error.message if error.code is ExitCode.MODEL else repr(error)
    return ""


def gemma3(hidden: int, inner: int, layers: int, **more: int) -> dict[str, Any]:
    text = {"hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": layers, "sliding_window": 1024}
    eyes = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "image_size": 896}
    seen = {**eyes, "model_type": "siglip_vision_model", "patch_size": 14, "vision_use_head": False}
    return {"model_type": "gemma3", "text_config": {"model_type": "gemma3_text", **text, **more}, "vision_config": seen}


QWEN = {
    "model_type": "qwen2_5_vl",
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152_064,
    "tie_word_embeddings": False,
    "vision_config": {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "out_hidden_size": 3584},
}
MISTRAL = {
    "model_type": "mistral3",
    "text_config": {
        "model_type": "mistral",
        "hidden_size": 5120,
        "intermediate_size": 32768,
        "num_hidden_layers": 40,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 131_072,
    },
    "vision_config": {"model_type": "pixtral", "hidden_size": 1024, "intermediate_size": 4096, "patch_size": 14},
}


def read(config: dict[str, Any], **more: Any) -> ModelSpec:
    return spec_from_config(config, "seeing", "config.json", source="directory", path=None, **more)


@pytest.mark.parametrize(
    ("config", "loaded", "text"),
    [
        (gemma3(2560, 10240, 34), 4_300_079_472, 3_880_263_168),
        (gemma3(5376, 21504, 62, num_attention_heads=32, num_key_value_heads=16, head_dim=128), 27_432_406_640, None),
        (QWEN, 8_292_166_656, 7_615_616_512),
        ({**MISTRAL, "tie_word_embeddings": False}, 24_011_361_280, 23_572_403_200),
    ],
)
def test_published_configurations_have_the_published_counts(
    config: dict[str, Any], loaded: int, text: int | None
) -> None:
    sizes = read(config).sizes
    assert sizes.loaded_parameters == loaded
    assert text in (None, sizes.total_parameters)


@pytest.mark.parametrize(
    "part", [{"patch_size": 0}, {"image_size": "large"}, {"hidden_size": -1}, {"num_hidden_layers": 10**12}]
)
def test_a_tower_of_no_size_is_refused_or_counted_and_never_a_traceback(part: dict[str, Any]) -> None:
    config = gemma3(64, 96, 2)
    config["vision_config"] |= part
    told = _words(read, config)
    assert told == "" or next(iter(part)) in told


def test_towers_take_memory_and_do_not_learn() -> None:
    spec = read(QWEN)
    towers = spec.sizes.tower_parameters
    assert tower_bytes(spec, "none", True, 2) == 2 * towers
    assert towers // 2 < tower_bytes(spec, "nf4", True, 2) < towers < tower_bytes(spec, "int8", True, 2) < 2 * towers
    for shape in (TrainingShape(), TrainingShape(method="full"), TrainingShape(quantization="nf4")):
        found = estimate_memory(spec, shape)
        stored = (shape.quantization, shape.double_quant, 2)
        weights = next(term for term in found.terms if term.name == "weights")
        assert weights.bytes == weight_bytes(spec, *stored) + tower_bytes(spec, *stored)
        assert weights.detail.startswith("8.292 B with towers of 676.6 M")
        assert (found.total_parameters, found.tower_parameters) == (8_292_166_656, towers)
        assert found.trainable_parameters <= found.total_parameters - towers


def write(folder: Path, config: dict[str, Any], tensors: dict[str, list[int]]) -> Path:
    """A directory whose weight file has the header of `tensors` and nothing behind it but room."""
    ends, header = 0, {}
    for name, shape in tensors.items():
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [ends, ends + 2 * prod(shape)]}
        ends += 2 * prod(shape)
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + ends)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_towers_that_no_configuration_tells_are_counted_in_files_or_refused_in_words(tmp_path: Path) -> None:
    config = {"model_type": "sees_from_tomorrow", "text_config": {**TEXT, "model_type": "llama"}}
    with pytest.raises(EngineError, match="towers of 'sees_from_tomorrow'") as caught:
        read(config)
    assert "--exact" in caught.value.hint
    assert not read(config, simulated=True).counted
    tensors = {"model.layers.0.mlp.up_proj.weight": [48, 32], "vision_tower.a.fc1.weight": [64, 16]}
    tensors |= {"vision_tower.a.fc1.bias": [64], "vision_tower.position_embedding.weight": [9, 16]}
    spec = read_directory(write(tmp_path, config, tensors), name="m", source="directory")
    assert spec.sizes.total_parameters == 48 * 32
    assert spec.sizes.tower_parameters == 64 * 16 + 64 + 9 * 16
    assert sum(group.linear_parameters for group in spec.tower_groups) == 64 * 16


def test_a_head_that_is_stored_beside_an_untied_text_model_is_its_own(tmp_path: Path) -> None:
    config = json.loads(json.dumps(MISTRAL))
    config["text_config"] |= TEXT
    tensors = {"language_model.model.embed_tokens.weight": [61, 32], "language_model.lm_head.weight": [61, 32]}
    spec = read_directory(write(tmp_path, config, tensors), name="m", source="directory")
    assert not spec.tie_word_embeddings
    assert spec.sizes.total_parameters == 2 * 61 * 32
    assert read(config).tie_word_embeddings, "without files the whole decides"
