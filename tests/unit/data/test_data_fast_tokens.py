"""Tokens located by their bytes are those located by the tokenizer, or the plain way is taken."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import Any

import numpy as np
from tokenizers import AddedToken

from engine.data.fast_tokens import _ByBytes, _byte_lengths, _plain, tokens_of
from engine.data.rendered import Rendered

PIECES = [
    "The answer",
    " is",
    "  two  ",
    "\n",
    "東京",
    "naïve",
    "🙂",
    "<|im_start|>",
    "<|im_end|>",
    "e\u0301",
    "\t",
    "1 2",
]


def texts(count: int, seed: int) -> list[Rendered]:
    chance = random.Random(seed)
    found = []
    for _ in range(count):
        text = "".join(chance.choices(PIECES, k=chance.randint(1, 12)))
        start, end = sorted(chance.choices(range(len(text) + 1), k=2))
        found.append(Rendered(text, ((start, end),)))
    return found


def same(one: Any, other: Any) -> bool:
    return all(
        np.array_equal(a, b) for left, right in zip(one, other, strict=True) for a, b in zip(left, right, strict=True)
    )


def test_random_texts_and_spans_agree(make_tokenizer: Callable[..., Any]) -> None:
    backend = make_tokenizer().backend_tokenizer
    lengths = _byte_lengths(backend)
    assert lengths is not None
    fast = _ByBytes(backend, lengths)
    for seed in range(20):
        documents = texts(100, seed)
        assert same(fast(documents), _plain(backend, documents))
    assert fast.trusted


def test_a_document_that_tokens_do_not_spell_goes_the_plain_way(make_tokenizer: Callable[..., Any]) -> None:
    backend = make_tokenizer().backend_tokenizer
    backend.add_special_tokens([AddedToken("<gap>", lstrip=True, rstrip=True)])
    lengths = _byte_lengths(backend)
    assert lengths is not None
    fast = _ByBytes(backend, lengths)
    fast(texts(3, 0))
    documents = [Rendered("one  <gap>  two", ((3, 15),)), Rendered("plain", ((0, 5),))]
    assert same(fast(documents), _plain(backend, documents))


def test_a_first_batch_that_disagrees_ends_trust(make_tokenizer: Callable[..., Any]) -> None:
    backend = make_tokenizer().backend_tokenizer
    lengths = _byte_lengths(backend)
    assert lengths is not None
    wrong = lengths.copy()
    # Two tokens of swapped lengths, the longer one first: the sum stays right, what follows the first begins too early.
    encoding = backend.encode("The answer is", add_special_tokens=False)
    ids = encoding.ids
    first, second = next(
        (one, other)
        for one, other in itertools.combinations(range(len(ids)), 2)
        if lengths[ids[one]] > lengths[ids[other]] and ids.count(ids[one]) == ids.count(ids[other]) == 1
    )
    wrong[[ids[first], ids[second]]] = wrong[[ids[second], ids[first]]]
    documents = [Rendered("The answer is", ((encoding.offsets[first + 1][0], 13),))]
    fast = _ByBytes(backend, wrong)
    plain = _plain(backend, documents)
    assert same(fast(documents), plain)
    assert fast.trusted is False
    assert same(fast(documents), plain)


def test_tokenizers_that_are_not_byte_level_go_the_plain_way(llama_tokenizer: Callable[[], Any]) -> None:
    backend = llama_tokenizer().backend_tokenizer
    assert _byte_lengths(backend) is None
    documents = texts(20, 3)
    assert same(tokens_of(backend)(documents), _plain(backend, documents))
