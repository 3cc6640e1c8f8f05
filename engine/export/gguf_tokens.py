"""A tokenizer's part of a GGUF file: vocabulary, merges or scores, special ids and the chat template.

Byte-level BPE (Llama 3, Qwen, SmolLM) and sentencepiece BPE (Llama 2, Mistral 7B), out of `tokenizer.json`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import gguf

from engine.errors import EngineError, ExitCode
from engine.files import read_json
from engine.models.families import Gguf

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_BLANK = "\u2581"
"""How sentencepiece's tokens write a blank."""
_HINT = "convert the merged model with llama.cpp's convert_hf_to_gguf.py"


def refused(message: str) -> EngineError:
    """The error for what a GGUF file written here cannot hold."""
    return EngineError(message, code=ExitCode.MODEL, where="export.gguf", hint=_HINT)


def add_tokens(writer: Any, merged: Path, config: dict[str, Any], covered: Gguf, otherwise: list[str]) -> None:
    """The vocabulary, its merges, special ids and the chat template."""
    parts = json.loads((merged / "tokenizer.json").read_text(encoding="utf-8"))
    decoder = json.dumps(parts.get("decoder"))
    if parts["model"].get("type") != "BPE" or not ("ByteLevel" in decoder or "ByteFallback" in decoder):
        raise refused("only byte-level and sentencepiece BPE tokenizers are written as GGUF")
    size = int(config["vocab_size"])
    tokens = [f"[PAD{number}]" for number in range(size)]
    kinds = [int(gguf.TokenType.UNUSED)] * size
    for token, number in parts["model"]["vocab"].items():
        tokens[number], kinds[number] = token, int(gguf.TokenType.NORMAL)
    for added in parts.get("added_tokens", []):
        if added["id"] >= size:
            # Gemma 3 names a token for pictures that its text models have no row for.
            continue
        kind = gguf.TokenType.CONTROL if added["special"] else gguf.TokenType.USER_DEFINED
        tokens[added["id"]], kinds[added["id"]] = added["content"], int(kind)
    pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in parts["model"]["merges"]]
    if "ByteLevel" in decoder:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(covered.splitter or _splitter(parts, otherwise))
        writer.add_token_merges([" ".join(pair) for pair in pairs])
    else:
        _add_pieces(writer, parts, tokens, kinds, pairs, otherwise)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    # The template writes every special token itself.
    writer.add_add_bos_token(False)
    template = _template(merged)
    if template:
        writer.add_chat_template(template)


def _add_pieces(
    writer: Any, parts: dict[str, Any], tokens: list[str], kinds: list[int], pairs: list[Any], otherwise: list[str]
) -> None:
    """What sentencepiece's tokens need beside their text: scores, kinds, the unknown token, the blank before a text.

    llama.cpp joins the pair whose token has the highest score, tokenizers the pair that comes first in the list of
    merges: a token's score is the place of its first merge, with a minus.
    """
    writer.add_tokenizer_model("llama")
    # llama.cpp looks for these in the text as it was written.
    tokens[:] = [
        token.replace(_BLANK, " ") if kind == gguf.TokenType.USER_DEFINED else token
        for token, kind in zip(tokens, kinds, strict=True)
    ]
    ranks: dict[str, int] = {}
    for rank, pair in enumerate(pairs):
        ranks.setdefault("".join(pair), rank)
    spelled = [token.replace(" ", _BLANK) for token in tokens]
    writer.add_token_scores([-float(ranks.get(token, len(ranks) + number)) for number, token in enumerate(spelled)])
    for number, token in enumerate(tokens):
        if _BYTE.fullmatch(token):
            kinds[number] = int(gguf.TokenType.BYTE)
    unknown = parts["model"].get("unk_token") or ("<unk>" if "<unk>" in parts["model"]["vocab"] else None)
    if unknown is not None:
        number = parts["model"]["vocab"][unknown]
        kinds[number] = int(gguf.TokenType.UNKNOWN)
        writer.add_unk_token_id(number)
    blanks = json.dumps([parts.get("normalizer"), parts.get("pre_tokenizer")])
    writer.add_add_space_prefix("Prepend" in blanks or ("Metaspace" in blanks and '"never"' not in blanks))
    if "Metaspace" in blanks:
        otherwise.append(
            "llama.cpp puts a blank before every text, also behind special tokens; this tokenizer does it in fewer"
            " places: prompts may be cut a little otherwise there"
        )


def add_special(writer: Any, merged: Path, config: dict[str, Any], ends: set[int]) -> None:
    """Ids of special tokens. llama.cpp stops at the end of a text and of a turn: two ids where they differ."""
    generation = merged / "generation_config.json"
    stops = _ids(read_json(generation).get("eos_token_id")) if generation.is_file() else []
    known = [*_ids(config.get("eos_token_id")), *stops]
    eos = next(iter(known), None)
    turn = next((number for number in (*sorted(ends), *known) if number != eos), None)
    for add, number in (
        (writer.add_bos_token_id, next(iter(_ids(config.get("bos_token_id"))), None)),
        (writer.add_eos_token_id, eos),
        (writer.add_eot_token_id, turn),
        (writer.add_pad_token_id, next(iter(_ids(config.get("pad_token_id"))), None)),
    ):
        if number is not None:
            add(number)


def _ids(value: Any) -> list[int]:
    return [number for number in (value if isinstance(value, list) else [value]) if isinstance(number, int)]


def _template(merged: Path) -> str:
    """The chat template, from its own file or the tokenizer's configuration; empty without one."""
    own = merged / "chat_template.jinja"
    if own.is_file():
        return own.read_text(encoding="utf-8")
    config = merged / "tokenizer_config.json"
    found = read_json(config).get("chat_template") if config.is_file() else None
    return found if isinstance(found, str) else ""


def _splitter(parts: dict[str, Any], otherwise: list[str]) -> str:
    """llama.cpp's name for how text is split before merging: that of the pattern, else by what it does with digits."""
    text = json.dumps(parts.get("pre_tokenizer"), ensure_ascii=False)
    for name, marks in _SPLITTERS.items():
        if all(mark in text for mark in marks):
            return name
    if "Digits" in text:
        return "smollm"
    if "Split" in text:
        otherwise.append(
            "the tokenizer splits text in a way without a name here: llama.cpp is told gpt-2's, which may differ"
        )
    return "gpt-2"


_SPLITTERS: dict[str, tuple[str, ...]] = {
    "hunyuan-dense": ("[一-龥", "{1,3}"),
    "gpt-4o": ("Lu}", "{1,3}", "'ll"),
    "tekken": ("Lu}", "[\\\\r\\\\n/]*"),
    "seed-coder": (r"{N}{1}",),
    "llama-bpe": ("{1,3}",),
    "qwen35": (r"[\\p{L}\\p{M}]+|\\p{N}|",),
    "qwen2": (r"]?\\p{L}+|\\p{N}| ?[^",),
}
"""Names by what only their pattern has, the special ones first."""
