"""The shipped model's files: configuration, weights' header, tokenizer and template agree with each other."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from typing import Any

import pytest
from safetensors import safe_open
from transformers import AutoConfig, AutoTokenizer

from engine.demo.paths import model_dir
from engine.demo.tokenizer import END, PAD, START


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(model_dir(), local_files_only=True)


@pytest.mark.parametrize(
    "text", ["Write 3 March 2021 as 2021-03-03.", "  spaces\n\nand\ttabs  ", "Grüße, 日本語 👍🏽", "a\r\nb", "1999"]
)
def test_tokenizer_gives_back_every_text(tokenizer: Any, text: str) -> None:
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False).input_ids) == text


def test_each_digit_is_a_token_and_special_tokens_are_single(tokenizer: Any) -> None:
    assert len(tokenizer("20210303", add_special_tokens=False).input_ids) == 8
    assert tokenizer(PAD + START + END, add_special_tokens=False).input_ids == [0, 1, 2]
    assert (tokenizer.pad_token, tokenizer.bos_token, tokenizer.eos_token) == (PAD, START, END)


def test_template_renders_chatml_and_the_prefix_of_an_answer(tokenizer: Any) -> None:
    conversation = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    whole = tokenizer.apply_chat_template(conversation, tokenize=False)
    prompt = tokenizer.apply_chat_template(conversation[:1], tokenize=False, add_generation_prompt=True)
    assert whole == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n"
    assert whole.startswith(prompt)


def test_configuration_tokenizer_and_weights_agree(tokenizer: Any) -> None:
    config = AutoConfig.from_pretrained(model_dir(), local_files_only=True)
    ids = (config.pad_token_id, config.bos_token_id, config.eos_token_id)
    assert ids == (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id)
    with safe_open(model_dir() / "model.safetensors", "pt") as weights:
        shapes = {name: weights.get_slice(name).get_shape() for name in weights.keys()}  # noqa: SIM118
        dtypes = {weights.get_slice(name).get_dtype() for name in shapes}
    assert dtypes == {"BF16"}
    assert shapes["model.embed_tokens.weight"] == [len(tokenizer), config.hidden_size]
    assert "lm_head.weight" not in shapes


def test_generation_stops_at_the_end_of_an_answer() -> None:
    settings = json.loads((model_dir() / "generation_config.json").read_text())
    assert settings["eos_token_id"] == 2
    assert settings["do_sample"] is False


def test_files_can_be_read_by_every_user() -> None:
    for path in model_dir().iterdir():
        assert stat.S_IMODE(path.stat().st_mode) & 0o044 == 0o044, path


def test_naming_the_demo_imports_no_library() -> None:
    code = "import sys, engine.demo.paths; print(*(set(sys.modules) & {'torch','transformers','pydantic'}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ})
    assert done.stdout.strip() == ""
