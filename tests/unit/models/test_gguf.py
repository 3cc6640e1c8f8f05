"""The bounded GGUF metadata reader."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from engine.errors import EngineError, ExitCode
from engine.models.resolve import resolve_model


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def number(key: str, value: int) -> bytes:
    return text(key) + struct.pack("<II", 4, value)


def gguf(
    version: int = 3, pairs: list[bytes] | None = None, tensors: dict[str, tuple[int, ...]] | None = None
) -> bytes:
    pairs = default_pairs() if pairs is None else pairs
    tensors = {"token_embd.weight": (64, 3), "blk.0.attn_q.bias": (64,)} if tensors is None else tensors
    raw = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(pairs)) + b"".join(pairs)
    for name, shape in tensors.items():
        raw += text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape)
        raw += struct.pack("<IQ", 30, 0)
    return raw


def default_pairs() -> list[bytes]:
    tokens = text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 3) + text("a") + text("bb") + text("c")
    scores = text("tokenizer.ggml.scores") + struct.pack("<IIQ", 9, 6, 3) + bytes(12)
    sizes = {"embedding_length": 64, "feed_forward_length": 128, "block_count": 2, "attention.head_count": 4}
    return [
        text("general.architecture") + struct.pack("<I", 8) + text("qwen2"),
        tokens,
        scores,
        number("qwen2.context_length", 4096),
        number("qwen2.attention.head_count_kv", 2),
        *(number(f"qwen2.{key}", value) for key, value in sizes.items()),
    ]


def test_numbers_vocabulary_and_tying(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf())
    spec = resolve_model(str(path))
    assert (spec.family, spec.hidden_size, spec.num_key_value_heads, spec.head_dim) == ("qwen2", 64, 2, 16)
    assert (spec.vocab_size, spec.max_position_embeddings) == (3, 4096)
    assert spec.tie_word_embeddings
    assert spec.attention_bias
    assert spec.parameters == 64 * 3 + 64
    assert (spec.weights_dtype, spec.source, spec.path) == ("bfloat16", "gguf", str(path))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"GGUF",
        b"ZIPF" + bytes(40),
        gguf(version=1),
        gguf()[:-30],
        b"GGUF" + struct.pack("<IQQ", 3, 2**60, 1),
        b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 2**62),
        gguf(pairs=[text("x") + struct.pack("<IIQ", 9, 4, 2**50)]),
        gguf(pairs=[text("x") + struct.pack("<I", 77)]),
        gguf(pairs=[]),
        gguf(pairs=default_pairs()[:-1]),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(raw)
    with pytest.raises(EngineError) as raised:
        resolve_model(str(path))
    assert raised.value.code is ExitCode.MODEL
    assert raised.value.where == str(path)


def test_a_file_of_the_gguf_package_is_read(tmp_path: Path) -> None:
    writer_class = pytest.importorskip("gguf").GGUFWriter
    import numpy

    path = tmp_path / "real.gguf"
    writer = writer_class(str(path), "llama")
    writer.add_context_length(1024)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(96)
    writer.add_block_count(1)
    writer.add_head_count(4)
    writer.add_token_list(["a", "b", "c", "d"])
    writer.add_tensor("token_embd.weight", numpy.zeros((4, 32), dtype=numpy.float32))
    writer.add_tensor("output.weight", numpy.zeros((4, 32), dtype=numpy.float32))
    writer.add_tensor("blk.0.ffn_gate.weight", numpy.zeros((96, 32), dtype=numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    spec = resolve_model(str(path))
    assert (spec.vocab_size, spec.tie_word_embeddings, spec.gated_mlp) == (4, False, True)
    assert spec.parameters == 2 * 4 * 32 + 96 * 32
    assert spec.weights_dtype == "float32"
