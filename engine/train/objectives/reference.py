"""Log-probabilities of every document under the base, once before training: what DPO and KTO compare with.

Fresh adapters change nothing yet, so the model itself is the base at that moment, also when a run is resumed: the
checkpoint is loaded afterwards. It is computed with the operators that train: in 16 bits others round otherwise, and
a run that begins with an adapter would not begin at ln 2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Subset

from engine.data.batch import PackedDataset
from engine.modeling import forward


@torch.no_grad()
def add_reference(
    model: Any,
    dataset: PackedDataset,
    *,
    rows: int,
    most_rows: int | None = None,
    collate: Any,
    prepare: Callable[[Any], Any],
    autocast: Callable[[], Any],
    on_progress: Callable[[int, int], None],
) -> None:
    """Give `dataset` its `reference`: fp32 per document of each row, `rows` sequences at a time.

    `most_rows`: of the first rows alone.
    """
    model.eval()
    dataset.reference = None
    found: list[Any] = []
    todo = dataset if most_rows is None else Subset(dataset, range(min(most_rows, len(dataset))))
    for batch in DataLoader(todo, batch_size=rows, collate_fn=collate):
        with autocast():
            losses, _ = forward.document_losses(model, prepare(batch))
        counts = [
            len(dataset.packed.lengths[number]) for number in range(len(found), len(found) + len(batch["input_ids"]))
        ]
        found += np.split((-losses).float().cpu().numpy(), np.cumsum(counts)[:-1])
        on_progress(len(found), len(todo))
    dataset.reference = found
