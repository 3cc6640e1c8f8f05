"""Text metrics as `evaluate.Metric` subclasses over the reference libraries, for every language, offline.

`evaluate.load` is never called: it runs code from the working directory and needs the network. Data stay
in memory, and no cache directory or lock file is made. ROUGE, BLEU and chrF run from 0 to 100, exact
match and token F1 from 0 to 1. Not here: a model's loss
(`engine.inference.losses`), from which `perplexity_of` gives the perplexity.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
from rouge_score import rouge_scorer
from sacrebleu.metrics import BLEU, CHRF

from engine.evaluate.scripts import bleu_tokenizer_name, bleu_units, normalise, word_units

ROUGE_TYPES = ("rouge1", "rouge2", "rougeL", "rougeLsum")
BLEU_ORDER = 4
Scores = dict[str, Any]


class OfflineMetric(evaluate.Metric):
    """A metric over pairs of strings that touches neither disk nor network."""

    def __init__(self) -> None:
        super().__init__(keep_in_memory=True, experiment_id=type(self).__name__, cache_dir="", seed=0)

    def _build_data_dir(self) -> str:
        # The parent would make a directory under ~/.cache; nothing is ever written there.
        return ""

    def _info(self) -> Any:
        return evaluate.MetricInfo(
            description=type(self).__doc__ or "",
            citation="",
            inputs_description="predictions and references: lists of strings of equal length",
            features=datasets.Features(
                {"predictions": datasets.Value("string"), "references": datasets.Value("string")}
            ),
        )


class Units:
    """The tokenizer that `rouge_score` is given."""

    def tokenize(self, text: str) -> list[str]:
        """See `word_units`."""
        return word_units(text)


class Rouge(OfflineMetric):
    """ROUGE-1, -2, -L and -Lsum, F measure, 0 to 100 (Lin 2004, rouge_score)."""

    def _compute(self, *, predictions: Sequence[str], references: Sequence[str], use_aggregator: bool = True) -> Scores:
        scorer = rouge_scorer.RougeScorer(list(ROUGE_TYPES), tokenizer=Units())
        rows = [scorer.score(ref, text) for text, ref in zip(predictions, references, strict=True)]
        found = {kind: [100 * row[kind].fmeasure for row in rows] for kind in ROUGE_TYPES}
        return {kind: mean(values) for kind, values in found.items()} if use_aggregator else found


class Bleu(OfflineMetric):
    """Corpus BLEU-4 and chrF, 0 to 100 (sacrebleu); each row is cut by the script of its reference."""

    def _compute(self, *, predictions: Sequence[str], references: Sequence[str]) -> Scores:
        names = [bleu_tokenizer_name(ref) for ref in references]
        texts = [bleu_units(text, name) for text, name in zip(predictions, names, strict=True)]
        truths = [bleu_units(ref, name) for ref, name in zip(references, names, strict=True)]
        longest = max((len(truth.split()) for truth in truths), default=0)
        # A corpus of answers shorter than four tokens has no 4-grams: BLEU is then taken to the order it has.
        bleu = BLEU(tokenize="none", force=True, effective_order=longest < BLEU_ORDER)
        return {
            "bleu": bleu.corpus_score(texts, [truths]).score,
            "chrf": CHRF().corpus_score(list(predictions), [list(references)]).score,
            "tokenizers": dict(Counter(names)),
        }


class ExactMatch(OfflineMetric):
    """Share of answers equal to the reference: after normalization, and to the letter."""

    def _compute(self, *, predictions: Sequence[str], references: Sequence[str], use_aggregator: bool = True) -> Scores:
        pairs = list(zip(predictions, references, strict=True))
        found = {
            "exact_match": [float(normalise(text) == normalise(ref)) for text, ref in pairs],
            "exact_match_strict": [float(text.strip() == ref.strip()) for text, ref in pairs],
        }
        return {name: mean(values) for name, values in found.items()} if use_aggregator else found


class TokenF1(OfflineMetric):
    """Harmonic mean of precision and recall over shared units, order ignored, 0 to 1 (as SQuAD's F1)."""

    def _compute(self, *, predictions: Sequence[str], references: Sequence[str], use_aggregator: bool = True) -> Scores:
        rows = [token_f1(text, ref) for text, ref in zip(predictions, references, strict=True)]
        return {"token_f1": mean(rows) if use_aggregator else rows}


def token_f1(text: str, reference: str) -> float:
    """F1 of two bags of units; two empty texts are equal."""
    found, wanted = Counter(word_units(text)), Counter(word_units(reference))
    shared = (found & wanted).total()
    if not shared:
        return float(not found and not wanted)
    precision, recall = shared / found.total(), shared / wanted.total()
    return 2 * precision * recall / (precision + recall)


def perplexity_of(nll: float, tokens: int) -> float:
    """exp of the mean negative log likelihood in nats; infinite beyond what a float holds or for no tokens."""
    if tokens <= 0 or nll / tokens > 709:
        return math.inf
    return math.exp(nll / tokens)


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean, 0 for nothing."""
    return math.fsum(values) / len(values) if values else 0.0
