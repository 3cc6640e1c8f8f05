"""GGUF files hold the model: transformers reads the same logits and tokens back, family by family."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM as Auto
from transformers import AutoTokenizer, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

from engine.demo.paths import model_dir
from engine.errors import EngineError, ExitCode
from engine.export import gguf_read, parity
from engine.export.formats import OWN_GGUF
from engine.export.gguf_write import write_gguf
from engine.modeling import gguf_rope

SIZES = {
    "vocab_size": 1536,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
CONFIGS = {
    "llama": LlamaConfig(**SIZES),
    "llama tied": LlamaConfig(**SIZES, tie_word_embeddings=True, rope_theta=50_000.0),
    "mistral": MistralConfig(**SIZES, sliding_window=None),
    "qwen2": Qwen2Config(**SIZES),
    "llama with biases": LlamaConfig(**SIZES, attention_bias=True, mlp_bias=True),
    # The width of every published one; transformers reads no other from a GGUF of this family.
    "qwen3": Qwen3Config(**SIZES, head_dim=128),
}
SHORT = {"rope_theta": 10_000.0, "original_max_position_embeddings": 32}
SCALED = {
    "llama3": {**SHORT, "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
    "linear": {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 4.0},
    "yarn": {**SHORT, "rope_type": "yarn", "factor": 8.0, "beta_fast": 16.0},
}


def saved(folder: Path, config: Any) -> Path:
    torch.manual_seed(0)
    model = Auto.from_config(config, dtype=torch.float32)
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(weight, std=0.1)
    model.to(torch.bfloat16).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        if (model_dir() / name).is_file():
            shutil.copy(model_dir() / name, folder / name)
    return folder


def logits(model: Any) -> list[torch.Tensor]:
    return parity.logits_of(model.float().eval(), [list(range(5, 60)), list(range(900, 1000))])


@pytest.mark.parametrize("family", CONFIGS)
def test_each_family_reads_back_with_its_own_logits(tmp_path: Path, family: str) -> None:
    merged = saved(tmp_path / "merged", CONFIGS[family])
    assert write_gguf(merged, tmp_path / "x.gguf", "f16", "x") == []
    again, tokenizer = gguf_read.read(tmp_path / "x.gguf")
    found = parity.distance(logits(Auto.from_pretrained(merged)), logits(again))
    assert found.relative < 2e-3
    text = "What is 19 October 1944?\n  naïve 東京 <|im_end|>"
    own = AutoTokenizer.from_pretrained(merged)
    assert tokenizer(text, add_special_tokens=False).input_ids == own(text, add_special_tokens=False).input_ids
    assert tokenizer.chat_template == own.chat_template


@pytest.mark.parametrize("kind", SCALED)
def test_scaled_positions_turn_as_the_file_says(tmp_path: Path, kind: str) -> None:
    # 260 positions of an original length of 32: without the scaling, a third of all next tokens is another one.
    config = LlamaConfig(**{**SIZES, "max_position_embeddings": 512}, rope_parameters=SCALED[kind])
    merged = saved(tmp_path / "merged", config)
    write_gguf(merged, tmp_path / "x.gguf", "f16", "x")
    own = Auto.from_pretrained(merged)
    again, _ = gguf_read.read(tmp_path / "x.gguf")
    rows = [[5 + 7 * number % 1500 for number in range(260)]]
    wanted = parity.logits_of(own.float().eval(), rows)
    assert parity.distance(wanted, parity.logits_of(again, rows)).relative < 5e-3
    assert not gguf_read.positions_differ(tmp_path / "x.gguf", own.get_decoder().rotary_emb)
    plain = Auto.from_config(LlamaConfig(**SIZES))
    assert gguf_read.positions_differ(tmp_path / "x.gguf", plain.get_decoder().rotary_emb)


def test_llama3_divisors_by_hand() -> None:
    # Meta's numbers: waves of more than 8192 positions are slowed by 8, of less than 2048 not at all.
    rope = {"rope_theta": 500_000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    found = gguf_rope.llama3_divisors({**rope, "original_max_position_embeddings": 8192}, 128)
    waves = 2 * math.pi * 500_000.0 ** (np.arange(0, 128, 2) / 128)
    assert set(found[waves < 2048]) == {1.0}
    assert set(found[waves > 8192]) == {8.0}
    between = found[(waves > 2048) & (waves < 8192)]
    assert len(between) == 6
    assert list(between) == sorted(between)


def test_both_ends_of_an_answer_are_in_the_file(tmp_path: Path) -> None:
    merged = saved(tmp_path / "merged", CONFIGS["llama"])
    (merged / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 4]}))
    write_gguf(merged, tmp_path / "x.gguf", "f16", "x", {4})
    again, _ = gguf_read.read(tmp_path / "x.gguf")
    assert again.generation_config.eos_token_id == [2, 4]


@pytest.fixture
def pieces(tmp_path: Path) -> Path:
    """A model with a sentencepiece tokenizer, made from this file's text."""
    from sentencepiece import SentencePieceTrainer

    # Digits split, bytes for what is unknown: as Llama 2's.
    made = {"vocab_size": 600, "model_type": "bpe", "byte_fallback": True, "split_digits": True, "minloglevel": 2}
    named = {"unk_id": 0, "bos_id": 1, "eos_id": 2, "pad_id": -1, "normalization_rule_name": "identity"}
    prefix = tmp_path / "tokenizer"
    SentencePieceTrainer.train(
        input=__file__, model_prefix=str(prefix), remove_extra_whitespaces=False, **made, **named
    )
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    settings = {"tokenizer_class": "LlamaTokenizer", "chat_template": "{{ messages }}", "add_bos_token": False}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    folder = tmp_path / "merged"
    Auto.from_config(LlamaConfig(**{**SIZES, "vocab_size": 640})).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tmp_path).save_pretrained(folder)
    return folder


def test_sentencepiece_tokens_read_back_with_their_order_of_merges(tmp_path: Path, pieces: Path) -> None:
    (told,) = write_gguf(pieces, tmp_path / "x.gguf", "f16", "x")
    assert "puts a blank before every text" in told
    assert gguf_read.is_sentencepiece(tmp_path / "x.gguf")
    _, tokenizer = gguf_read.read(tmp_path / "x.gguf")
    own = AutoTokenizer.from_pretrained(pieces)
    for text in ("the tokenizer reads 1944 texts of naïve 東京\n    assert x", Path(__file__).read_text()[:4000]):
        assert tokenizer(text, add_special_tokens=False).input_ids == own(text, add_special_tokens=False).input_ids
    assert tokenizer.chat_template == own.chat_template
    fields = gguf.GGUFReader(tmp_path / "x.gguf")
    kinds = fields.get_field("tokenizer.ggml.token_type").contents()
    assert kinds.count(gguf.TokenType.BYTE) == 256
    assert kinds[0] == gguf.TokenType.UNKNOWN


def test_a_sliding_window_is_told(tmp_path: Path) -> None:
    merged = saved(tmp_path / "merged", MistralConfig(**SIZES, sliding_window=64))
    (told,) = write_gguf(merged, tmp_path / "x.gguf", "f16", "x")
    assert "texts of more than 64 tokens" in told


@pytest.mark.parametrize("kind", OWN_GGUF)
def test_each_type_is_stored_as_it_says(tmp_path: Path, kind: str) -> None:
    merged = saved(tmp_path / "merged", CONFIGS["llama"])
    write_gguf(merged, tmp_path / "x.gguf", kind, "x")
    stored = gguf_read.stored(tmp_path / "x.gguf")
    assert stored["f32"] == 5 * 64
    assert stored[kind] >= 14 * 64 * 64 / 2
    assert set(stored) <= {"f32", kind, "q8_0"}


def test_rows_that_fill_no_block_are_told(tmp_path: Path) -> None:
    config = LlamaConfig(**{**SIZES, "intermediate_size": 80})
    told = write_gguf(saved(tmp_path / "merged", config), tmp_path / "x.gguf", "q4_0", "x")
    assert told == [
        f"blk.{layer}.ffn_down.weight has rows of 80 values, no multiple of 32: kept in f16" for layer in (0, 1)
    ]


def test_a_splitting_of_text_that_is_only_guessed_is_told(tmp_path: Path) -> None:
    merged = saved(tmp_path / "merged", CONFIGS["llama"])
    tokens = json.loads((merged / "tokenizer.json").read_text())
    split = {"type": "Split", "pattern": {"Regex": "x+"}, "behavior": "Isolated", "invert": False}
    own = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    tokens["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, own]}
    (merged / "tokenizer.json").write_text(json.dumps(tokens))
    (told,) = write_gguf(merged, tmp_path / "x.gguf", "f16", "x")
    assert "splits text in a way without a name" in told


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_what_is_not_covered_is_refused_with_the_way_round(tmp_path: Path) -> None:
    merged = saved(tmp_path / "merged", CONFIGS["llama"])

    def refused(said: str) -> None:
        with pytest.raises(EngineError, match=said) as caught:
            write_gguf(merged, tmp_path / "x.gguf", "f16", "x")
        assert caught.value.code is ExitCode.MODEL
        assert "convert_hf_to_gguf" in caught.value.hint

    before = (merged / "config.json").read_text()
    change(merged / "config.json", model_type="minimax_m2")
    refused("family 'minimax_m2'")
    (merged / "config.json").write_text(before)
    change(merged / "config.json", rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0})
    refused("positions scaled by 'dynamic'")
    change(merged / "config.json", rope_parameters={**SCALED["yarn"], "attention_factor": 1.3})
    refused("YaRN with attention_factor")
    (merged / "config.json").write_text(before)
    tokens = json.loads((merged / "tokenizer.json").read_text())
    tokens["decoder"] = {"type": "Fuse"}
    (merged / "tokenizer.json").write_text(json.dumps(tokens))
    refused("only byte-level and sentencepiece BPE")
