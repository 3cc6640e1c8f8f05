"""Rendered documents to token ids and labels, with character offsets from the tokenizer or from the tokens' bytes.

One document = `ids` and `labels` of equal length; labels are -100 where the loss does not look.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.data.chat import Tokenizer
from engine.data.rendered import Rendered
from engine.errors import EngineError, ExitCode

IGNORED = -100
"""Label that the loss skips."""
Ids = NDArray[np.int32]


def backend_of(tokenizer: Tokenizer) -> Any:
    """The tokenizers.Tokenizer inside, without truncation and padding of its own."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        hint = "save it with a tokenizer.json (a 'fast' tokenizer)"
        message = "the tokenizer gives no character offsets, so answers cannot be told from prompts"
        raise EngineError(message, code=ExitCode.MODEL, hint=hint)
    backend.no_truncation()
    backend.no_padding()
    return backend


def tokenize(backend: Any, documents: Sequence[Rendered]) -> list[tuple[Ids, Ids, list[int]]]:
    """(ids, labels, first character of each token) of each document.

    Templates write every special token, so none is added here.
    """
    whole = [document.text for document in documents if not document.plain]
    encodings = iter(backend.encode_batch(whole, add_special_tokens=False))
    found = []
    for document in documents:
        if document.plain:
            ids, offsets = _encode_pieces(backend, document)
        else:
            encoding = next(encodings)
            ids, offsets = encoding.ids, encoding.offsets
        array, begins = np.array(ids, dtype=np.int32), [offset[0] for offset in offsets]
        found.append((array, _labels(array, begins, offsets, document), begins))
    return found


def _labels(ids: Ids, begins: list[int], offsets: Sequence[tuple[int, int]], document: Rendered) -> Ids:
    """Tokens that begin within a span keep their id. The first token is never predicted from anything."""
    labels = np.full_like(ids, IGNORED)
    for start, end in document.spans:
        first, last = bisect_left(begins, start), bisect_left(begins, end)
        if first > 0 and start < offsets[first - 1][1] and document.text[begins[first - 1] : start].isspace():
            # A token such as " word" across the border holds nothing of the prompt but its last blank.
            first -= 1
        labels[first:last] = ids[first:last]
    labels[:1] = IGNORED
    return labels


def _encode_pieces(backend: Any, document: Rendered) -> tuple[list[int], list[tuple[int, int]]]:
    """Encode around what must stay plain text; special tokens split text anyway, so nothing else changes."""
    ids: list[int] = []
    offsets: list[tuple[int, int]] = []
    position = 0
    for start, end in (*document.plain, (len(document.text), len(document.text))):
        for left, right, plain in ((position, start, False), (start, end, True)):
            if left < right:
                piece = _encode_piece(backend, document.text[left:right], plain, inner=left > 0)
                ids += [token for token, _ in piece]
                offsets += [(begin + left, stop + left) for _, (begin, stop) in piece]
        position = end
    return ids, offsets


def _encode_piece(backend: Any, text: str, plain: bool, *, inner: bool) -> list[tuple[int, tuple[int, int]]]:
    """Tokens and offsets of a piece. Inside a document it is encoded behind a newline that is removed
    again: some tokenizers put a blank before whatever begins a text."""
    backend.encode_special_tokens = plain
    try:
        if inner:
            encoding = backend.encode("\n" + text, add_special_tokens=False)
            tokens = list(zip(encoding.ids, encoding.offsets, strict=True))
            rest = [(token, (begin - 1, stop - 1)) for token, (begin, stop) in tokens if stop > 1]
            if len(rest) < len(tokens) and all(begin >= 0 for _, (begin, _) in rest):
                return rest
        encoding = backend.encode(text, add_special_tokens=False)
        return list(zip(encoding.ids, encoding.offsets, strict=True))
    finally:
        backend.encode_special_tokens = False
