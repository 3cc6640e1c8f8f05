"""BERTScore against torchmetrics, with a small encoder made on the spot."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from engine.errors import EngineError, ExitCode
from engine.evaluate.bertscore import KINDS, BertScore

PAIRS = [
    ("the cat sat on the mat", "a cat sat on the mat and slept"),
    ("Paris is the capital", "the capital of France is Paris"),
    ("nothing in common", "totally different words here"),
    ("猫坐在垫子上", "那只猫在垫子上睡觉"),
    ("кошка спит", "кошка сидит и спит"),
    ("one two three four five six seven eight nine ten", "ten"),
]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    texts = " ".join(text for pair in PAIRS for text in pair)
    # A learned vocabulary differs from process to process.
    words, letters = sorted(set(texts.split())), sorted(set(texts) - {" "})
    entries = dict.fromkeys([*marks, *letters, *words, *(f"##{letter}" for letter in letters)])
    backend = Tokenizer(models.WordPiece({entry: number for number, entry in enumerate(entries)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=300, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
    )
    BertModel(config).save_pretrained(folder)
    return folder


def columns(pairs: list[tuple[str, str]]) -> dict[str, list[str]]:
    return {"predictions": [text for text, _ in pairs], "references": [ref for _, ref in pairs]}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("layer", [None, 1])
def test_scores_are_those_of_torchmetrics(encoder: Path, layer: int | None) -> None:
    from torchmetrics.functional.text import bert_score

    found = BertScore(str(encoder), Path(), layer).compute(**columns(PAIRS), use_aggregator=False)
    options = {"model_name_or_path": str(encoder), "num_layers": layer, "num_threads": 0, "max_length": 64}
    # One by one: torchmetrics 1.9 sorts answers and references by length and puts neither back in its order.
    expected = [bert_score([text], [truth], **options) for text, truth in PAIRS]
    for kind, name in zip(KINDS, ("precision", "recall", "f1"), strict=True):
        assert found[kind] == pytest.approx([100 * float(one[name]) for one in expected], abs=1e-3)


def test_identical_text_scores_100_and_empty_text_0(encoder: Path) -> None:
    same = BertScore(str(encoder), Path()).compute(**columns([(truth, truth) for _, truth in PAIRS]))
    assert same == pytest.approx(dict.fromkeys(KINDS, 100.0), abs=1e-3)
    none = BertScore(str(encoder), Path()).compute(**columns([("", "a cat"), ("a cat", "")]))
    assert none == dict.fromkeys(KINDS, 0.0)


def test_rows_do_not_depend_on_who_stands_beside(encoder: Path) -> None:
    metric = BertScore("encoder", encoder.parent) if encoder.name == "encoder" else BertScore(str(encoder), Path())
    together = metric.compute(**columns(PAIRS), use_aggregator=False)["bertscore_f1"]
    alone = [metric.compute(**columns([pair]))["bertscore_f1"] for pair in PAIRS]
    assert together == pytest.approx(alone, abs=1e-3)


def test_what_is_missing_is_named(encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="encoder 'roberta-large' cannot be loaded") as caught:
        BertScore("roberta-large", tmp_path)
    assert caught.value.code is ExitCode.MODEL
    assert "hf download roberta-large" in caught.value.hint
    with pytest.raises(EngineError, match="layers 0 to 2, not 9"):
        BertScore(str(encoder), tmp_path, 9)


@pytest.mark.filterwarnings("ignore")
def test_two_hundred_pairs_in_five_languages_score_as_in_torchmetrics(
    encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchmetrics.functional.text import bert

    from tests.unit.evaluate.test_eval_references import ALL

    # It would load the encoder for every pair.
    for name in ("AutoModel", "AutoTokenizer"):
        monkeypatch.setattr(bert, name, SimpleNamespace(from_pretrained=cache(getattr(bert, name).from_pretrained)))
    options = {"model_name_or_path": str(encoder), "num_threads": 0, "max_length": 128}
    expected = [bert.bert_score([text], [truth], **options) for text, truth in ALL]
    found = BertScore(str(encoder), Path()).compute(**columns(ALL), use_aggregator=False)
    for kind, name in zip(KINDS, ("precision", "recall", "f1"), strict=True):
        assert found[kind] == pytest.approx([100 * float(one[name]) for one in expected], abs=1e-3)
    same = BertScore(str(encoder), Path()).compute(**columns([(truth, truth) for _, truth in ALL]))
    assert same == pytest.approx(dict.fromkeys(KINDS, 100.0), abs=1e-3)
