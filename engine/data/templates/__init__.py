"""The named chat templates: one Jinja file each, and the marks that a tokenizer should know as one token.

No file writes the begin-of-text token: `chat.py` puts it in front when the tokenizer itself would.
`plain` writes prompt and answer as they stand, with nothing between.
"""

from __future__ import annotations

import importlib.resources

MARKS: dict[str, tuple[str, ...]] = {
    "alpaca": (),
    "chatml": ("<|im_start|>", "<|im_end|>"),
    "gemma": ("<start_of_turn>", "<end_of_turn>"),
    "llama3": ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    "mistral": (),
    "phi3": ("<|user|>", "<|assistant|>", "<|end|>"),
    "plain": (),
    "vicuna": (),
    "zephyr": (),
}


def template_source(name: str) -> str:
    """The Jinja text of a named template; KeyError for a name that is not in MARKS."""
    if name not in MARKS:
        raise KeyError(name)
    return (importlib.resources.files(__name__) / f"{name}.jinja").read_text(encoding="utf-8").rstrip("\n")
