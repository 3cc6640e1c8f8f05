"""Names to models: directories, caches, catalogue, and refusals that say what to do."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from engine.errors import EngineError, ExitCode
from engine.models.resolve import resolve_model

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 320,
    "max_position_embeddings": 512,
}


def write_model(directory: Path, config: object, tensors: dict[str, list[int]] | None = None, cut: int = 0) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    text = config if isinstance(config, str) else json.dumps(config)
    (directory / "config.json").write_text(text)
    if tensors is not None:
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        offset = 0
        for name, shape in tensors.items():
            size = 2
            for extent in shape:
                size *= extent
            header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size]}
            offset += size
        raw = json.dumps(header).encode()
        (directory / "model.safetensors").write_bytes(struct.pack("<Q", len(raw)) + raw + bytes(offset - cut))
    return directory


def refusal(ref: str, **options: Any) -> EngineError:
    with pytest.raises(EngineError) as raised:
        resolve_model(ref, **options)
    assert raised.value.code is ExitCode.MODEL
    assert raised.value.hint
    return raised.value


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_a_directory_is_read_and_its_parameters_counted(tmp_path: Path) -> None:
    write_model(tmp_path / "m", LLAMA, {"a.weight": [10, 20], "b.weight": [5]})
    spec = resolve_model("m", base_dir=tmp_path)
    assert spec.parameters == 205
    assert spec.head_dim == 16
    assert spec.weights_dtype == "bfloat16"
    assert spec.source == "directory"
    assert spec.path == str(tmp_path / "m")


def test_a_stored_head_of_a_tied_model_is_not_counted_twice(tmp_path: Path) -> None:
    tensors = {"model.embed_tokens.weight": [320, 64], "lm_head.weight": [320, 64]}
    write_model(tmp_path, {**LLAMA, "tie_word_embeddings": True}, tensors)
    assert resolve_model(str(tmp_path)).parameters == 320 * 64


def test_layers_that_transformers_does_not_load_are_not_counted(tmp_path: Path) -> None:
    """Those that predict several tokens at once lie behind the last one in the files."""
    tensors = {"model.layers.1.a.weight": [10, 20], "model.layers.2.a.weight": [10, 20], "model.norm.weight": [5]}
    write_model(tmp_path, LLAMA, tensors)
    assert resolve_model(str(tmp_path)).parameters == 205


def test_without_weights_the_numbers_are_computed(tmp_path: Path) -> None:
    spec = resolve_model(str(write_model(tmp_path, LLAMA)))
    assert spec.parameters is None
    assert spec.sizes.computed_parameters == 2 * (64 * 64 * 2 + 2 * 64 * 32 + 3 * 64 * 128 + 2 * 64) + 64 + 2 * 320 * 64


def test_nested_text_config_of_a_vision_model(tmp_path: Path) -> None:
    write_model(tmp_path, {"model_type": "gemma3", "text_config": {**LLAMA, "model_type": "gemma3_text"}})
    spec = resolve_model(str(tmp_path))
    assert (spec.family, spec.hidden_size, spec.tie_word_embeddings) == ("gemma3_text", 64, True)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("{not json", "is not JSON"),
        ("[1]", "no JSON object"),
        ({**LLAMA, "is_encoder_decoder": True, "model_type": "t5"}, "encoder-decoder"),
        ({"model_type": "bert", "hidden_size": 8}, "generates no text"),
        ({**LLAMA, "hidden_size": "64"}, "hidden_size = '64'"),
        ({**LLAMA, "num_hidden_layers": 0}, "num_hidden_layers = 0"),
        ({**LLAMA, "vocab_size": True}, "vocab_size = True"),
        ({key: value for key, value in LLAMA.items() if key != "vocab_size"}, "no 'vocab_size'"),
        ({**LLAMA, "quantization_config": {"quant_method": "gptq"}}, "already quantized (gptq)"),
        ({**LLAMA, "layer_types": ["linear_attention", "full_attention"]}, "linear_attention"),
        ({**LLAMA, "kv_lora_rank": 512}, "latent attention"),
    ],
)
def test_a_configuration_that_cannot_be_tuned_is_refused(tmp_path: Path, config: object, words: str) -> None:
    error = refusal(str(write_model(tmp_path, config)))
    assert words in error.message
    assert error.where.endswith("config.json")


def test_a_directory_without_configuration(tmp_path: Path) -> None:
    assert "no config.json" in refusal(str(tmp_path)).message


@pytest.mark.parametrize("raw", [b"", b"\x02", struct.pack("<Q", 10**15) + b"{}", struct.pack("<Q", 4) + b"abcd"])
def test_damaged_weight_files(tmp_path: Path, raw: bytes) -> None:
    write_model(tmp_path, LLAMA)
    (tmp_path / "model.safetensors").write_bytes(raw)
    error = refusal(str(tmp_path))
    assert "damaged" in error.message
    assert error.where.endswith("model.safetensors")


def test_a_weight_file_cut_short(tmp_path: Path) -> None:
    write_model(tmp_path, LLAMA, {"a.weight": [10, 20]}, cut=7)
    assert "cut short: 393 of 400 bytes" in refusal(str(tmp_path)).message


def test_catalogue_names_with_and_without_owner(cache: Path) -> None:
    assert resolve_model("Qwen/Qwen3-8B") == resolve_model("qwen3-8b")
    assert resolve_model("qwen3-8b").path is None


def test_an_unknown_name_gets_the_nearest(cache: Path) -> None:
    assert "Qwen/Qwen3-8B" in refusal("Qwen/Qwen3-8").hint
    assert "hf download someone/new-model" in refusal("someone/new-model").hint


def test_a_cached_snapshot_is_found_by_reference_and_by_commit(cache: Path) -> None:
    commit = "a" * 40
    root = cache / "models--someone--tiny"
    write_model(root / "snapshots" / commit, LLAMA)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(commit)
    assert resolve_model("someone/tiny").path == str(root / "snapshots" / commit)
    assert resolve_model("someone/tiny", revision=commit).source == "cache"
    refusal("someone/tiny", revision="other")


@pytest.mark.parametrize("reference", ["../../../evil", "main", "/etc", "a" * 39 + "/"])
def test_a_reference_cannot_lead_out_of_the_cache(cache: Path, tmp_path: Path, reference: str) -> None:
    write_model(tmp_path / "evil", LLAMA)
    root = cache / "models--someone--tiny"
    (root / "snapshots").mkdir(parents=True)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(reference)
    refusal("someone/tiny")
    refusal("someone/tiny", revision="../../../evil")


@pytest.mark.parametrize("ref", ["", "  ", "a\x00b", "./nowhere", "/no/such/dir", "nowhere.gguf", "~/no-such-model"])
def test_paths_that_are_not_there(tmp_path: Path, ref: str) -> None:
    refusal(ref, base_dir=tmp_path)


@pytest.mark.parametrize(
    "ref", ["a" * 300, "./" + "a" * 300, "/" + "b/" * 3000, "a" * 300 + ".gguf", "~nobody-of-that-name/x"]
)
def test_a_path_that_no_disk_can_have_is_refused_in_a_sentence(tmp_path: Path, ref: str) -> None:
    error = refusal(ref, base_dir=tmp_path)
    assert error.message.startswith("no model can be found there: ")
    assert len(str(error)) < 500


def test_a_path_below_a_file_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "no such model directory" in str(refusal("./file/model", base_dir=tmp_path))


def test_escape_sequences_do_not_reach_messages(cache: Path) -> None:
    assert "\x1b" not in str(refusal("evil/\x1b[31mname"))


def test_the_built_in_model_is_small_and_local() -> None:
    spec = resolve_model("demo")
    assert spec.source == "built-in"
    assert spec.path is not None
    assert spec.parameters == spec.sizes.computed_parameters
