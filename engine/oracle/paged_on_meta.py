"""Paged optimizers on the meta device: their states lie in CUDA's managed memory, which torch's allocator never sees.

bitsandbytes 0.50 asks a driver for that memory (optimizer.py get_state_buffer, functional.py get_paged).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from torch.utils._python_dispatch import _disable_current_modes


@contextlib.contextmanager
def paged_on_meta() -> Iterator[None]:
    """Give paged states tensors that no tracker counts, and let nothing wait for a card."""
    try:
        import bitsandbytes.functional as functional
    except ImportError:
        yield
        return
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(functional, "get_paged", _uncounted))
        for owner, name in ((functional, "fill"), (torch.cuda, "synchronize")):
            stack.enter_context(mock.patch.object(owner, name, _nothing))
        yield


def _uncounted(*shape: int, dtype: torch.dtype = torch.float32, device: Any = None) -> torch.Tensor:
    with _disable_current_modes():
        return torch.empty(shape, dtype=dtype, device="meta")


def _nothing(*_: Any, **__: Any) -> None:
    return None
