"""Cutting text into scoring units by its writing system, so that no language scores zero by accident.

ROUGE's own tokenizer keeps ASCII letters only, and BLEU's default splits on spaces: both give Chinese,
Japanese and Thai nothing to count. Not here: the model's tokenizer.
"""

from __future__ import annotations

import unicodedata
from functools import cache, lru_cache
from typing import Any

import regex  # type: ignore[import-untyped]

_LETTER = r"[\p{L}\p{N}\p{M}]"
_UNSPACED = (
    r"\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\p{Yi}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}\p{Javanese}"
)
"""Scripts written without spaces between words: each letter with its marks is a unit."""

_UNITS = regex.compile(rf"(?V1)[{_UNSPACED}]\p{{M}}*|[{_LETTER}--[{_UNSPACED}]]+")
_KANA = regex.compile(r"[\p{Hiragana}\p{Katakana}]")
_HAN = regex.compile(r"\p{Han}")
_OTHER_UNSPACED = regex.compile(rf"(?V1)[[{_UNSPACED}]--[\p{{Han}}\p{{Hiragana}}\p{{Katakana}}]]")
_LATIN = regex.compile(r"\p{Latin}")
_LETTERS = regex.compile(r"\p{L}")


def normalise(text: str) -> str:
    """NFKC and casefolded, white space collapsed, one final full stop removed: for comparing answers."""
    plain = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return plain[:-1].rstrip() if plain.endswith((".", "。")) and not plain.endswith("..") else plain


def word_units(text: str) -> list[str]:
    """Lower-case words, or single letters where a script has no spaces; for plain English what ROUGE takes.

    Text without any letter or digit gives its symbols, so that `{}` or an emoji still equals itself.
    """
    lowered = unicodedata.normalize("NFKC", text.lower())
    units: list[str] = _UNITS.findall(lowered)
    return units or [symbol for symbol in lowered if not symbol.isspace()]


def count_letters(text: str) -> int:
    """Characters of `text`, those of Chinese and Japanese as three: each is a syllable or a word."""
    return len(text) + 2 * (len(_HAN.findall(text)) + len(_KANA.findall(text)))


@lru_cache(maxsize=4096)
def bleu_tokenizer_name(text: str) -> str:
    """sacrebleu's tokenizer for the writing system of `text`: `13a`, `zh`, `char` or `intl`.

    Japanese and the unspaced scripts of South-East Asia take `char`: sacrebleu's `zh` leaves kana in one
    piece, and its MeCab tokenizers need dictionaries that are not part of this distribution.
    """
    letters = len(_LETTERS.findall(text))
    kana, han = len(_KANA.findall(text)), len(_HAN.findall(text))
    if kana and (kana + han) * 2 >= letters:
        return "char"
    if han * 2 >= letters > 0:
        return "zh"
    if len(_OTHER_UNSPACED.findall(text)) * 2 >= letters > 0:
        return "char"
    return "13a" if len(_LATIN.findall(text)) * 2 >= letters else "intl"


def bleu_units(text: str, tokenizer: str) -> str:
    """`text` as sacrebleu's `tokenizer` cuts it, units separated by single spaces."""
    units: str = _tokenizer(tokenizer)(text.rstrip())
    return units


@cache
def _tokenizer(name: str) -> Any:
    from sacrebleu.metrics import BLEU

    return BLEU(tokenize=name).tokenizer
