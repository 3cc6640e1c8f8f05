"""The named chat templates: one Jinja file each, and the marks that a tokenizer should know as one token.

No file writes the begin-of-text token: `chat.py` puts it in front when the tokenizer itself would.
`plain` writes prompt and answer as they stand, with nothing between. `hermes` is chatml with tools, calls, results and
thoughts, for models whose own template has none.
"""

from __future__ import annotations

import importlib.resources

MARKS: dict[str, tuple[str, ...]] = {
    "alpaca": (),
    "chatml": ("<|im_start|>", "<|im_end|>"),
    "command-r": ("<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>"),
    "deepseek": ("<｜User｜>", "<｜Assistant｜>"),
    "gemma": ("<start_of_turn>", "<end_of_turn>"),
    "granite": ("<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>"),
    "hermes": ("<|im_start|>", "<|im_end|>"),
    "llama2": (),
    "llama3": ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    "mistral": (),
    "openchat": ("<|end_of_turn|>",),
    "phi3": ("<|user|>", "<|assistant|>", "<|end|>"),
    "phi4": ("<|im_start|>", "<|im_sep|>", "<|im_end|>"),
    "plain": (),
    "qwen": ("<|im_start|>", "<|im_end|>"),
    "solar": (),
    "vicuna": (),
    "zephyr": (),
}


def template_source(name: str) -> str:
    """The Jinja text of a named template; KeyError for a name that is not in MARKS."""
    if name not in MARKS:
        raise KeyError(name)
    return (importlib.resources.files(__name__) / f"{name}.jinja").read_text(encoding="utf-8").rstrip("\n")
