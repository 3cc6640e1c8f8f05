"""Tokenizers made on the spot: byte-level with special tokens, with and without a template, and one
that adds a begin-of-text token and blanks like the Llama 2 family."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from engine.profile.schema import Profile

MARKS = [
    "<s>", "</s>", "<pad>", "<|im_start|>", "<|im_end|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>",
    "<|user|>", "<|assistant|>", "<|system|>", "<|end|>", "<start_of_turn>", "<end_of_turn>", "<|im_sep|>",
    "<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>", "<|end_of_turn|>", "<|START_OF_TURN_TOKEN|>",
    "<|END_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>", "<｜User｜>", "<｜Assistant｜>",
]  # fmt: skip
TEXT = [
    "The answer to the question is a short sentence about the weather in the mountains.",
    "user assistant system Instruction Response Below is an instruction that describes a task.",
    "Write a response that appropriately completes the request. USER: ASSISTANT: [INST] [/INST]",
    "Zürich, naïve café, 東京, 你好吗, emoji 🙂 and numbers 1 2 3 4 5 6 7 8 9 0.",
] * 4


def wrap(backend: Tokenizer, **options: Any) -> Any:
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_object=backend, **options)


def byte_level(marks: list[str]) -> Tokenizer:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400 + len(marks), special_tokens=marks, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(TEXT, trainer)
    return backend


@pytest.fixture(scope="session")
def make_tokenizer() -> Callable[..., Any]:
    """A fresh wrapper each call: tests set templates on it."""
    saved = byte_level(MARKS).to_str()

    def make(**options: Any) -> Any:
        options = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", **options}
        return wrap(Tokenizer.from_str(saved), **{key: value for key, value in options.items() if value is not None})

    return make


@pytest.fixture
def tokenizer(make_tokenizer: Callable[..., Any]) -> Any:
    return make_tokenizer()


@pytest.fixture(scope="session")
def bare_tokenizer() -> Callable[[], Any]:
    """A base model's tokenizer: an end-of-sequence token and nothing else."""
    saved = byte_level(["<|endoftext|>"]).to_str()
    return lambda: wrap(Tokenizer.from_str(saved), eos_token="<|endoftext|>")


@pytest.fixture(scope="session")
def llama_tokenizer() -> Callable[[], Any]:
    """Adds <s> by itself, and writes a blank before whatever begins a text."""
    backend = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=["<unk>", "<s>", "</s>"] + [f"<0x{n:02X}>" for n in range(256)],
        show_progress=False, initial_alphabet=["\n", "<", ">", "|", "_"],
    )  # fmt: skip
    backend.train_from_iterator([f"▁{text.replace(' ', '▁')}" for text in TEXT], trainer)
    backend.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in ("<s>", "</s>")])
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    saved = backend.to_str()
    return lambda: wrap(Tokenizer.from_str(saved), bos_token="<s>", eos_token="</s>", unk_token="<unk>")


@pytest.fixture
def write_rows(tmp_path: Path) -> Callable[..., str]:
    """Write rows as JSON lines below tmp_path; answers the name."""

    def write(rows: list[Any], name: str = "rows.jsonl") -> str:
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return name

    return write


@pytest.fixture
def make_settings() -> Callable[..., Profile]:
    """A resolved profile around data files; keywords go into [data], `max_length` and `seed` to their place."""

    def make(*paths: str, max_length: int = 128, seed: int = 42, **data: Any) -> Profile:
        tree = {
            "model": {"name_or_path": "model", "max_length": max_length},
            "data": {"datasets": [{"path": path} for path in paths], **data},
            "train": {"seed": seed},
        }
        return Profile.model_validate(tree)

    return make
