"""BERTScore: answers compared by the meaning of their words, with an encoder of the person's choice.

Each token's hidden state is matched with the most similar one of the other text (cosine); precision is the mean over
the answer's tokens, recall over the reference's, F1 their harmonic mean; the marks that begin and end a text do not
count (Zhang et al. 2020, arXiv 1904.09675, without idf and rescaling). The tests compare it with torchmetrics.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from engine.errors import EngineError, ExitCode
from engine.evaluate.metrics import OfflineMetric, Scores, mean

BATCH_ROWS = 32
_LONGEST = 512
KINDS = ("bertscore_precision", "bertscore_recall", "bertscore_f1")


class BertScore(OfflineMetric):
    """BERTScore precision, recall and F1, 0 to 100."""

    def __init__(self, encoder: str, base_dir: Path, layer: int | None = None) -> None:
        """`layer`: whose hidden states are compared, 0 = the embeddings; None = the last one.

        Raises EngineError(MODEL) for an encoder that is not there.
        """
        super().__init__()
        self._tokenizer, self._model = _load(encoder, base_dir)
        layers = int(self._model.config.num_hidden_layers)
        self._layer = layers if layer is None else layer
        if not 0 <= self._layer <= layers:
            raise EngineError(
                f"the encoder has layers 0 to {layers}, not {self._layer}",
                code=ExitCode.PROFILE,
                where="evaluate.bertscore_layer",
                hint="leave it out for the last one",
            )

    def _compute(self, *, predictions: Sequence[str], references: Sequence[str], use_aggregator: bool = True) -> Scores:
        rows: list[tuple[float, float, float]] = []
        for start in range(0, len(predictions), BATCH_ROWS):
            stop = start + BATCH_ROWS
            rows += _compared(self._states(predictions[start:stop]), self._states(references[start:stop]))
        found = {kind: [100 * row[place] for row in rows] for place, kind in enumerate(KINDS)}
        return {kind: mean(values) for kind, values in found.items()} if use_aggregator else found

    @torch.inference_mode()
    def _states(self, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Unit vectors [B, S, h] and which of them count [B, S]."""
        longest = min(self._tokenizer.model_max_length, _LONGEST)
        batch = self._tokenizer(
            list(texts),
            padding=True,
            truncation=True,
            max_length=longest,
            return_tensors="pt",
            return_special_tokens_mask=True,
        )
        counted = (batch.pop("special_tokens_mask") == 0) & (batch["attention_mask"] == 1)
        states = self._model(**batch, output_hidden_states=True).hidden_states[self._layer]
        return torch.nn.functional.normalize(states.float(), dim=-1), counted


def _compared(
    one: tuple[torch.Tensor, torch.Tensor], other: tuple[torch.Tensor, torch.Tensor]
) -> list[tuple[float, float, float]]:
    """(precision, recall, F1) of each pair; a text without words scores 0."""
    both = one[1][:, :, None] & other[1][:, None, :]
    similar = torch.where(both, one[0] @ other[0].transpose(1, 2), -1.0)
    precision = _average(similar.amax(dim=2), one[1])
    recall = _average(similar.amax(dim=1), other[1])
    empty = ~one[1].any(dim=1) | ~other[1].any(dim=1)
    f1 = 2 * precision * recall / (precision + recall)
    return [
        (0.0, 0.0, 0.0) if nothing else (float(p), float(r), float(f))
        for p, r, f, nothing in zip(precision, recall, f1, empty, strict=True)
    ]


def _average(values: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    return (values * counted).sum(dim=1) / counted.sum(dim=1).clamp(min=1)


def _load(encoder: str, base_dir: Path) -> tuple[Any, Any]:
    """Tokenizer and model of a directory, or of a hub name whose files are here. Nothing is fetched."""
    from transformers import AutoModel, AutoTokenizer

    path = base_dir / Path(encoder).expanduser()
    place = str(path) if path.is_dir() else encoder
    options = {"local_files_only": True, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, **options)
        model = AutoModel.from_pretrained(place, dtype=torch.float32, use_safetensors=True, **options)
    except (OSError, ValueError, KeyError, TypeError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0][:300]
        raise EngineError(
            f"the BERTScore encoder '{encoder}' cannot be loaded: {first}",
            code=ExitCode.MODEL,
            where="evaluate.bertscore_encoder",
            hint=f"give a directory with its files, or fetch it before: hf download {encoder}",
        ) from error
    return tokenizer, model.eval()
