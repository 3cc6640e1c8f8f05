"""What the named templates write, to the character, for a conversation of three turns.

Read beside the slots of LLaMA-Factory's template.py (Apache-2.0). Where it leaves out a blank or a line break that
the models' own templates write (Llama 2, Zephyr, OpenChat), the models' are followed.
"""

from __future__ import annotations

from typing import Any

import pytest

from engine.data.chat import choose_template, render
from engine.data.conversation import Conversation

TALK = [
    {"role": "system", "content": "S"},
    {"role": "user", "content": "U"},
    {"role": "assistant", "content": "A"},
    {"role": "user", "content": "V"},
]
WRITTEN = {
    "chatml": "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n"
    "<|im_start|>user\nV<|im_end|>\n<|im_start|>assistant\n",
    "llama3": "<|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nU"
    "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nA<|eot_id|><|start_header_id|>user<|end_header_id|>"
    "\n\nV<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    "llama2": "[INST] <<SYS>>\nS\n<</SYS>>\n\nU [/INST] A </s><s>[INST] V [/INST]",
    "gemma": "<start_of_turn>user\nS\n\nU<end_of_turn>\n<start_of_turn>model\nA<end_of_turn>\n<start_of_turn>user\nV"
    "<end_of_turn>\n<start_of_turn>model\n",
    "phi4": "<|im_start|>system<|im_sep|>S<|im_end|><|im_start|>user<|im_sep|>U<|im_end|>"
    "<|im_start|>assistant<|im_sep|>A<|im_end|><|im_start|>user<|im_sep|>V<|im_end|><|im_start|>assistant<|im_sep|>",
    "deepseek": "S<｜User｜>U<｜Assistant｜>A</s><｜User｜>V<｜Assistant｜>",
    "granite": "<|start_of_role|>system<|end_of_role|>S<|end_of_text|>\n<|start_of_role|>user<|end_of_role|>U"
    "<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>A<|end_of_text|>\n<|start_of_role|>user<|end_of_role|>V"
    "<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>",
    "openchat": "S<|end_of_turn|>GPT4 Correct User: U<|end_of_turn|>GPT4 Correct Assistant: A<|end_of_turn|>"
    "GPT4 Correct User: V<|end_of_turn|>GPT4 Correct Assistant:",
    "command-r": "<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>S<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|USER_TOKEN|>U"
    "<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>A<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|>"
    "<|USER_TOKEN|>V<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
    "solar": "### System:\nS\n\n### User:\nU\n\n### Assistant:\nA</s>### User:\nV\n\n### Assistant:\n",
    "zephyr": "<|system|>\nS</s>\n<|user|>\nU</s>\n<|assistant|>\nA</s>\n<|user|>\nV</s>\n<|assistant|>\n",
}


@pytest.mark.parametrize("name", WRITTEN)
def test_a_named_template_writes_what_its_models_read(tokenizer: Any, name: str) -> None:
    chosen = choose_template(tokenizer, name)
    assert render(tokenizer, chosen, [Conversation(TALK)], generation=True) == [WRITTEN[name]]


def test_qwen_brings_its_own_system_message_and_takes_another(tokenizer: Any) -> None:
    chosen = choose_template(tokenizer, "qwen")
    (own,) = render(tokenizer, chosen, [Conversation(TALK[1:2])], generation=False)
    assert own.startswith(
        "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
    )
    assert render(tokenizer, chosen, [Conversation(TALK)], generation=True) == [WRITTEN["chatml"]]


def test_hermes_writes_tools_calls_results_and_thoughts(tokenizer: Any) -> None:
    tools = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
    calls = [{"type": "function", "function": {"name": "add", "arguments": {"b": 1, "a": "Ü"}}}] * 2
    turns = [
        TALK[1],
        {"role": "assistant", "content": "", "reasoning_content": "R", "tool_calls": calls},
        {"role": "tool", "content": "1"},
        {"role": "tool", "content": "2"},
        TALK[2],
    ]
    chosen = choose_template(tokenizer, "hermes")
    (plain,) = render(tokenizer, chosen, [Conversation(TALK)], generation=True)
    assert plain == WRITTEN["chatml"]
    (text,) = render(tokenizer, chosen, [Conversation(turns, tools)], generation=False)
    head, rest = text.split("<|im_end|>\n", 1)
    assert (
        '<tools>\n{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}\n</tools>' in head
    )
    call = '<tool_call>\n{"name": "add", "arguments": {"b": 1, "a": "Ü"}}\n</tool_call>'
    assert rest == (
        f"<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n<think>\nR\n</think>\n\n{call}\n{call}<|im_end|>\n"
        "<|im_start|>user\n<tool_response>\n1\n</tool_response>\n<tool_response>\n2\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\nA<|im_end|>\n"
    )
