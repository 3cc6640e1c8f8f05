"""Logits of a GGUF file by llama.cpp itself, in an interpreter that has it.

    pip install llama-cpp-py-sync==0.11548 xllamacpp==2026.10.11549 numpy
    PYTHON bench/llama_cpp_logits.py FILE.gguf ROWS.json OUTPUT.npz

The first package has the bindings, the second llama.cpp itself, of the same days and built for older systems too.
Stands alone: that interpreter needs neither torch nor this engine. `gguf_families.py` calls it.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np


def logits_of(path: str, rows: list[list[int]]) -> list[Any]:
    """fp32 [positions, vocabulary] of each row, computed with keys and values in fp32."""
    import xllamacpp  # type: ignore[import-not-found]
    from llama_cpp_py_sync import Llama, _cffi_bindings  # type: ignore[import-not-found]

    _cffi_bindings._lib = _cffi_bindings.ffi.dlopen(xllamacpp.xllamacpp.__file__)
    longest = max(map(len, rows))
    model = Llama(path, n_ctx=longest + 8, n_batch=longest + 8, n_threads=1, type_k="f32", type_v="f32")
    return [_row(model, row) for row in rows]


def _row(model: Any, row: list[int]) -> Any:
    library, ffi = model._lib, model._ffi
    model._clear_context_state()
    batch = library.llama_batch_init(len(row), 0, 1)
    batch.n_tokens = len(row)
    for place, token in enumerate(row):
        batch.token[place], batch.pos[place], batch.logits[place] = token, place, 1
        batch.n_seq_id[place], batch.seq_id[place][0] = 1, 0
    if library.llama_decode(model._ctx, batch):
        raise RuntimeError("llama_decode failed")
    size = len(row) * model.n_vocab
    found = np.frombuffer(ffi.buffer(library.llama_get_logits(model._ctx), 4 * size), np.float32).copy()
    library.llama_batch_free(batch)
    return found.reshape(len(row), model.n_vocab)


if __name__ == "__main__":
    with open(sys.argv[2], encoding="utf-8") as file:
        np.savez(sys.argv[3], *logits_of(sys.argv[1], json.load(file)))
