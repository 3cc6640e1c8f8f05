"""A GGUF file read back: as a model with its tokenizer, and by gguf-py for what it stores."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import gguf
import torch

from engine.export.gguf_write import tensors_of
from engine.export.reload import readable
from engine.modeling import gguf_rope
from engine.modeling.gguf_import import load_model, load_tokenizer
from engine.modeling.gguf_open import reader_of
from engine.modeling.gguf_tensors import text_key

WEIGHT_LIMIT = 0.5
"""Largest error of a tensor as a share of its size. Two bits cost a third; rows in another order, or those of another
tensor, are off by 1.4, where the logits of a coarse file may not tell the two apart."""
BLOCK = 256
"""Values that share scales in K-quants: rows of other lengths fall back to blocks of 32."""
_FALL_BACKS = frozenset({"q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "iq4_nl"})
_BITS = {"q2_k": 2, "q3_k": 3, "q4_k": 4, "q5_k": 5, "q6_k": 6}


def read(path: Path) -> tuple[Any, Any]:
    """(model in fp32, tokenizer) with the positions and stop tokens that the file gives."""
    with readable("the GGUF cannot be read back", path):
        tokenizer, model = load_tokenizer(path), load_model(path, torch.float32)
    reader = reader_of(path)
    model.generation_config.eos_token_id = stop_tokens(reader)
    model.generation_config.pad_token_id = _number(reader, "padding")
    return model.eval(), tokenizer


def positions_differ(path: Path, rotary: Any) -> bool:
    """Whether the file's positions turn otherwise than those of the model whose `rotary_emb` is given."""
    return gguf_rope.differ(rotary, reader_of(path))


def stop_tokens(reader: gguf.GGUFReader) -> list[int]:
    """Ids at which llama.cpp ends an answer, as far as the file names them."""
    found = (_number(reader, name) for name in ("eos", "eot"))
    return sorted({number for number in found if number is not None})


def _number(reader: gguf.GGUFReader, name: str) -> int | None:
    field = reader.get_field(f"tokenizer.ggml.{name}_token_id")
    return None if field is None else int(field.contents())


@torch.inference_mode()
def worst_weight(model: Any, merged: Path) -> tuple[str, float]:
    """The tensor of the read `model` that is furthest from its original, and how far, as a share of its size."""
    found = model.state_dict()
    errors = {}
    for key, own in tensors_of(merged):
        read = _tensor(found, key) if key in found else _tensor(found, text_key(key) or key)
        if read is not None:
            errors[key] = float((read.float() - own.float()).norm() / own.float().norm().clamp_min(1e-12))
    return max(errors.items(), key=lambda pair: pair[1])


_EXPERT = re.compile(r"(.+\.)(?:mlp|block_sparse_moe)\.experts\.(\d+)\.(gate_proj|up_proj|down_proj|w1|w2|w3)\.weight")


def _tensor(found: dict[str, torch.Tensor], key: str) -> torch.Tensor | None:
    """A saved tensor in a model, which keeps its experts stacked, gate and up in one."""
    expert = _EXPERT.fullmatch(key)
    if expert is None:
        return found.get(key)
    stem, number, kind = f"{expert[1]}mlp.experts", int(expert[2]), expert[3]
    if kind in ("down_proj", "w2"):
        return found[f"{stem}.down_proj"][number]
    return found[f"{stem}.gate_up_proj"][number].chunk(2)[kind in ("up_proj", "w3")]


def is_sentencepiece(path: Path) -> bool:
    """Whether the file's tokens are sentencepiece's."""
    return str(reader_of(path).get_field("tokenizer.ggml.model").contents()) == "llama"


def stored(path: Path) -> dict[str, int]:
    """Values by stored type, read from the file."""
    found: Counter[str] = Counter()
    for tensor in reader_of(path).tensors:
        found[tensor.tensor_type.name.lower()] += int(tensor.n_elements)
    return dict(found)


def tensor_bytes(path: Path) -> int:
    """Bytes of all tensors: what llama.cpp maps into memory."""
    return sum(int(tensor.n_bytes) for tensor in reader_of(path).tensors)


def judge_k_quant(path: Path, kind: str) -> tuple[list[str], list[str]]:
    """(problems, what is stored otherwise than asked) of a file that should hold the K-quant `kind`."""
    bits = int(kind[1])
    # Each kind mixes in wider types, two bits at most: a small model's few whole rows may all be of those.
    allowed = {name for name, size in _BITS.items() if bits <= size <= bits + 2} | {"q6_k"}
    reader = reader_of(path)
    problems, otherwise = [], Counter[str]()
    for tensor in reader.tensors:
        name, row = tensor.tensor_type.name.lower(), int(tensor.shape[0])
        # The router of experts stays in fp32.
        if len(tensor.shape) < 2 or name in allowed or ".ffn_gate_inp." in tensor.name:
            continue
        if row % BLOCK and (name in _FALL_BACKS or row % 32):
            otherwise[f"{{}} matrices with rows of {row} values, no multiple of {BLOCK}, are stored as {name}"] += 1
        else:
            problems.append(f"{tensor.name} is stored as {name}, not {kind}")
    told = reader.get_field("general.file_type")
    if told is None or int(told.contents()) != gguf.LlamaFileType[f"MOSTLY_{kind.upper()}"]:
        problems.append(f"its metadata names another type than {kind}")
    if len(problems) > 3:
        problems = [*problems[:3], f"and {len(problems) - 3} more"]
    return problems, [text.format(count) for text, count in otherwise.items()]
