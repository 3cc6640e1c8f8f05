"""Two hundred pairs in five languages: every metric against its reference library, and identical texts at 100."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

import pytest
from rouge_score import rouge_scorer
from sacrebleu.metrics import BLEU, CHRF

from engine.evaluate.metrics import ROUGE_TYPES, Bleu, ExactMatch, Rouge, TokenF1, Units

PARTS = {
    "en": (["The old captain", "A young engineer", "My sister"], ["never reads", "often writes", "sold"],
           ["long letters about the sea.", "books of 3.5 kg!", "the red boat, didn't she?"], " "),
    "de": (["Der alte Kapitän", "Eine junge Ärztin", "Meine Schwester"], ["liest selten", "schreibt oft", "verkauft"],
           ["lange Briefe über das Meer.", "Bücher für 3,50 €.", "das größte Boot, nicht wahr?"], " "),
    "zh": (["老船长", "年轻的工程师", "我的姐姐"], ["从来不读", "经常写", "卖掉了"],
           ["关于大海的长信。", "三点五公斤的书！", "那条红色的船，对吗？"], ""),
    "ru": (["Старый капитан", "Молодой инженер", "Моя сестра"], ["редко читает", "часто пишет", "продала"],
           ["длинные письма о море.", "книги весом 3,5 кг!", "красную лодку, не так ли?"], " "),
    "ar": (["القبطان العجوز", "المهندسة الشابة", "أختي"], ["لا يقرأ", "تكتب كثيرا", "باعت"],
           ["رسائل طويلة عن البحر.", "كتبا وزنها ٣٫٥ كغ!", "القارب الأحمر، أليس كذلك؟"], " "),
}  # fmt: skip
SACREBLEU = {"en": "13a", "de": "13a", "zh": "zh", "ru": "intl", "ar": "intl"}
PER_LANGUAGE = 40


def sentences(language: str) -> list[str]:
    first, second, third, blank = PARTS[language]
    return [blank.join(parts) for parts in itertools.product(first, second, third)]


def pairs_of(language: str) -> list[tuple[str, str]]:
    """(answer, reference): one or two sentences against others that share some of their parts."""
    chance, known = random.Random(language), sentences(language)
    blank = PARTS[language][3] or "\n"
    return [
        (blank.join(chance.sample(known, chance.randint(1, 2))), blank.join(chance.sample(known, chance.randint(1, 2))))
        for _ in range(PER_LANGUAGE)
    ]


def columns(pairs: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    return {"predictions": [text for text, _ in pairs], "references": [ref for _, ref in pairs]}


ALL = [pair for language in PARTS for pair in pairs_of(language)]


def test_there_are_two_hundred_pairs_and_no_two_languages_alike() -> None:
    assert len(ALL) == 200
    assert len({text for pair in ALL for text in pair}) > 150


@pytest.mark.parametrize("language", PARTS)
def test_bleu_is_sacrebleus_with_the_tokenizer_of_the_language(language: str) -> None:
    texts, truths = columns(pairs_of(language)).values()
    found = Bleu().compute(predictions=texts, references=truths)
    assert found["tokenizers"] == {SACREBLEU[language]: PER_LANGUAGE}
    assert found["bleu"] == pytest.approx(
        BLEU(tokenize=SACREBLEU[language]).corpus_score(texts, [truths]).score, abs=1e-9
    )


def test_chrf_of_all_is_sacrebleus() -> None:
    texts, truths = columns(ALL).values()
    found = Bleu().compute(predictions=texts, references=truths)["chrf"]
    assert found == pytest.approx(CHRF().corpus_score(texts, [truths]).score, abs=1e-9)


def test_rouge_is_that_of_rouge_score() -> None:
    """With its own tokenizer for English, and with ours, which it takes as an argument, for the others."""
    for language in PARTS:
        theirs = rouge_scorer.RougeScorer(list(ROUGE_TYPES), tokenizer=None if language == "en" else Units())
        for text, truth in pairs_of(language):
            expected = theirs.score(truth, text)
            found = Rouge().compute(predictions=[text], references=[truth])
            assert found == pytest.approx({kind: 100 * expected[kind].fmeasure for kind in ROUGE_TYPES}, abs=1e-9)


def test_token_f1_is_the_f_measure_of_rouge_1() -> None:
    texts, truths = columns(ALL).values()
    found = TokenF1().compute(predictions=texts, references=truths, use_aggregator=False)["token_f1"]
    theirs = rouge_scorer.RougeScorer(["rouge1"], tokenizer=Units())
    expected = [theirs.score(truth, text)["rouge1"].fmeasure for text, truth in ALL]
    assert found == pytest.approx(expected, abs=1e-12)


def test_identical_texts_score_100_in_each() -> None:
    same = columns([(truth, truth) for _, truth in ALL])
    found = Rouge().compute(**same) | Bleu().compute(**same) | ExactMatch().compute(**same) | TokenF1().compute(**same)
    for name in (*ROUGE_TYPES, "bleu", "chrf"):
        assert found[name] == pytest.approx(100, abs=1e-9), name
    assert (found["exact_match"], found["exact_match_strict"], found["token_f1"]) == (1, 1, 1)
    for language in PARTS:
        pairs = [(truth, truth) for _, truth in pairs_of(language)]
        assert Bleu().compute(**columns(pairs))["bleu"] == pytest.approx(100, abs=1e-9)
