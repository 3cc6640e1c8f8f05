"""Checkpoints in MXFP4 and FP8 load as the plain weights they stand for, into 4-bit layers too, and are saved plain."""

from __future__ import annotations

import json
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, Mxfp4Config

from engine.errors import EngineError
from engine.memory.phases import peak
from engine.memory.shape import GIB, TrainingShape
from engine.memory.terms import estimate_memory
from engine.modeling import experts, experts_load, four_bit, load, stored_weights
from engine.models.catalog import catalog_index
from engine.models.resolve import resolve_model
from engine.profile.schema import Profile

SIZES = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}
TOKENS = {"vocab_size": 160, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
GPT_OSS = catalog_index()["gpt-oss-20b"]
BLOCK = 48
"""Does not divide the sizes: the last block of a row or column is cut."""


def write_plain(folder: Path, family: str, **more: Any) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **SIZES, **TOKENS, **more)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.1)
    model.save_pretrained(folder)
    return load_file(folder / "model.safetensors")


def store(folder: Path, tensors: dict[str, torch.Tensor], how: dict[str, Any]) -> Path:
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "quantization_config": how}))
    return folder


def write_mxfp4(folder: Path) -> Path:
    """gpt-oss with random blocks and exponents, named and laid out as it was published."""
    tensors = write_plain(folder, "gpt_oss", intermediate_size=32, num_local_experts=4, num_experts_per_tok=2)
    for name in [name for name in tensors if name.endswith(("gate_up_proj", "down_proj"))]:
        count, n_in, n_out = tensors.pop(name).shape
        shape = (count, n_out, n_in // 32)
        tensors[f"{name}_blocks"] = torch.randint(0, 256, (*shape, 16), dtype=torch.uint8)
        tensors[f"{name}_scales"] = torch.randint(118, 126, shape, dtype=torch.uint8)
    return store(folder, tensors, {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]})


def write_fp8(folder: Path, family: str, **more: Any) -> tuple[Path, dict[str, torch.Tensor]]:
    """Linear layers and experts in FP8 with a scale a block; returns what they stand for, too."""
    tensors, meant = write_plain(folder, family, intermediate_size=96, **more), {}
    for name, value in list(tensors.items()):
        if not name.endswith("_proj.weight"):
            continue
        rows, columns = (-(-size // BLOCK) for size in value.shape)
        scales = torch.rand(rows, columns) + 0.5
        wide = scales.repeat_interleave(BLOCK, 0).repeat_interleave(BLOCK, 1)[: value.shape[0], : value.shape[1]]
        tensors[name] = (value.float() / wide).to(torch.float8_e4m3fn)
        tensors[f"{name}_scale_inv"] = scales
        tensors[name.replace("weight", "activation_scale")] = torch.ones(())
        meant[name] = (tensors[name].float() * wide).bfloat16()
    how = {"quant_method": "fp8", "weight_block_size": [BLOCK, BLOCK], "activation_scheme": "static"}
    return store(folder, tensors, how), meant


def loaded(folder: Path, method: str = "none") -> Any:
    settings = Profile.model_validate(
        {
            "model": {"name_or_path": str(folder), "dtype": "bf16"},
            "quantization": {"method": method},
            "data": {"datasets": [{"path": "none.jsonl"}]},
        }
    )
    quantized = method != "none"
    return load.load_base(settings, Path(), quantized=quantized, device="cpu", warn=lambda *words: None, packed=True)


@pytest.fixture(scope="module")
def gpt_oss(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mxfp4(tmp_path_factory.mktemp("mxfp4"))


def test_mxfp4_loads_as_transformers_dequantizes_it(gpt_oss: Path, tmp_path: Path) -> None:
    ours = loaded(gpt_oss)
    config = Mxfp4Config(dequantize=True)
    theirs = AutoModelForCausalLM.from_pretrained(gpt_oss, dtype=torch.bfloat16, quantization_config=config)
    expected = theirs.state_dict()
    assert ours.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in ours.state_dict().items())
    assert stored_weights.in_words(ours) == "weights stored in MXFP4 were dequantized"
    ours.save_pretrained(tmp_path)
    assert "quantization_config" not in json.loads((tmp_path / "config.json").read_text())
    again = AutoModelForCausalLM.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in again.items())


def test_mxfp4_experts_become_4_bit_one_stack_at_a_time(gpt_oss: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[weakref.ref[Any]] = []
    most = 0
    plain = stored_weights.from_mxfp4

    def watched(*given: Any) -> torch.Tensor:
        nonlocal most
        dense = plain(*given)
        alive.append(weakref.ref(dense.untyped_storage()))
        most = max(most, sum(each() is not None for each in alive))
        return dense

    monkeypatch.setattr(stored_weights, "from_mxfp4", watched)
    found = loaded(gpt_oss, "nf4")
    assert (len(alive), most) == (4, 1)
    whole = loaded(gpt_oss)
    settings = found.config.quantization_config
    experts_load.pack(whole, settings)
    for (_, here), (_, there) in zip(experts.stacks_of(found), experts.stacks_of(whole), strict=True):
        for name in experts.STACKS:
            assert torch.equal(here._parameters[name], there._parameters[name])


@pytest.mark.parametrize(
    ("family", "more"),
    [
        ("llama", {}),
        ("qwen3_moe", {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}),
    ],
)
def test_fp8_loads_as_what_its_scales_say(tmp_path: Path, family: str, more: dict[str, Any]) -> None:
    folder, meant = write_fp8(tmp_path / "fp8", family, **more)
    model, packed = loaded(folder), loaded(folder, "nf4")
    model.save_pretrained(tmp_path / "plain")
    saved = load_file(tmp_path / "plain" / "model.safetensors")
    assert not [name for name in saved if "scale" in name]
    assert all(torch.equal(saved[name], value) for name, value in meant.items())
    weight = packed.model.layers[0].self_attn.o_proj.weight
    here, there = (four_bit.dequantized(each, torch.bfloat16) for each in (weight, _packed(meant, weight)))
    assert torch.equal(here, there)
    assert all(experts.is_packed(module) for _, module in experts.stacks_of(packed))


def _packed(meant: dict[str, torch.Tensor], like: Any) -> Any:
    import bitsandbytes as bnb

    value = meant["model.layers.0.self_attn.o_proj.weight"]
    return bnb.nn.Params4bit(value, requires_grad=False, quant_type=like.quant_type, compress_statistics=True).to("cpu")


@pytest.mark.parametrize(
    ("values", "scales"),
    [((6, 8), ()), ((6, 8), (1,)), ((6, 8), (6, 1)), ((2, 6, 8), (2, 1, 1)), ((2, 6, 8), (2, 3, 2)), ((6, 8), (2, 3))],
)
def test_every_grid_of_scales(values: tuple[int, ...], scales: tuple[int, ...]) -> None:
    stored = torch.randn(values).to(torch.float8_e4m3fn)
    exponents = torch.randint(120, 130, scales, dtype=torch.uint8)
    block = (3, 3) if scales == (2, 3) else None
    wide = (exponents.float() - 127).exp2()
    if wide.dim() >= 2:
        rows, columns = (-(-size // count) for size, count in zip(values[-2:], scales[-2:], strict=True))
        wide = wide.repeat_interleave(rows, -2).repeat_interleave(columns, -1)[..., : values[-2], : values[-1]]
    found = stored_weights.from_fp8(stored, exponents, block, torch.float32)
    assert torch.equal(found, stored.float() * wide)


def test_fp8_without_its_scale_is_an_error_that_names_the_tensor(tmp_path: Path) -> None:
    folder, _ = write_fp8(tmp_path, "llama")
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.down_proj.weight_scale_inv"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EngineError, match=r"layers\.1\.mlp\.down_proj\.weight' is stored in 8 bit and has no scale"):
        loaded(folder)


def test_the_verdict_counts_the_dequantized_model_and_says_so(gpt_oss: Path) -> None:
    spec = resolve_model(str(gpt_oss))
    assert (spec.stored, spec.weights_dtype) == ("mxfp4", "mxfp4")
    assert spec.sizes.total_parameters == sum(value.numel() for value in loaded(gpt_oss).state_dict().values())
    whole, packed = (peak(GPT_OSS, TrainingShape(quantization=method)).load_bytes for method in ("none", "nf4"))
    assert whole / GIB == pytest.approx(40.3, abs=0.1)
    assert packed / GIB == pytest.approx(13.0, abs=0.1)
    notes = " ".join(estimate_memory(spec, TrainingShape(quantization="nf4")).notes)
    assert "the files hold MXFP4: weights are dequantized to bf16 and quantized to nf4 while loading" in notes
