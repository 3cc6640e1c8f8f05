"""How text is split before merging, by llama.cpp's names that transformers' reader does not have.

Patterns are those of the published tokenizers; llama.cpp writes the same ones for its own expressions.
"""

from __future__ import annotations

from typing import Any

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_DIGITS = r"\p{N}"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
PATTERNS: dict[str, tuple[str, ...]] = {
    "command-r": (_DIGITS, _GPT2),
    "refact": (_DIGITS, _GPT2),
    "smollm": (_DIGITS, _GPT2),
    "seed-coder": (
        _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
    "hunyuan-dense": (
        r"\p{N}{1,3}",
        r"[一-龥぀-ゟ゠-ヿ]+",
        r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
        r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
}


def put_on(tokenizer: Any, name: str) -> None:
    """Let a byte-level tokenizer split text as the file's name says, where transformers leaves gpt-2's way in place."""
    from tokenizers import Regex, pre_tokenizers

    patterns = PATTERNS.get(name)
    if patterns is not None:
        splits = [pre_tokenizers.Split(Regex(pattern), behavior="isolated") for pattern in patterns]
        last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*splits, last])
