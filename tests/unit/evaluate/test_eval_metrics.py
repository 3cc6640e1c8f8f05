"""Metrics against their reference libraries, and in writing systems that the references' defaults miss."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from rouge_score import rouge_scorer
from sacrebleu.metrics import BLEU, CHRF

from engine.evaluate.metrics import ROUGE_TYPES, Bleu, ExactMatch, Rouge, TokenF1, perplexity_of
from engine.evaluate.scripts import bleu_tokenizer_name, word_units

ENGLISH = [
    ("the cat sat on the mat", "a cat sat on the mat and slept"),
    ("It's 3.5 km to Paris, isn't it?", "It is 3.5 km to Paris."),
    ("Paris\nis the capital.\nIt is big.", "Paris is the capital\nof France.\nIt is very big."),
    ("def add(a, b):\n    return a + b", "def add(x, y):\n    return x + y"),
    ("", "an answer was wanted here"),
    ("nothing in common", "totally different words"),
    ("The U.S. economy grew 2.1% in Q3 -- faster than expected.", "U.S. economy grew by 2.1% in Q3."),
    ("repeat repeat repeat repeat", "repeat once"),
]
LANGUAGES = {
    "zh": ("猫坐在垫子上睡着了。", "那只猫在垫子上睡觉。", "今天股票上涨"),
    "ja": ("猫はマットの上で眠っています。", "猫がマットで寝ています。", "株価上昇"),
    "ar": ("القطة تجلس على الحصيرة وتنام.", "جلست القطة على الحصيرة.", "ارتفعت أسعار الأسهم اليوم"),
    "ru": ("кошка сидит на коврике и спит", "кошка спит на коврике весь день", "акции выросли"),
    "th": ("แมวนั่งอยู่บนเสื่อและหลับ", "แมวนอนหลับอยู่บนเสื่อ", "123"),
    "hi": ("बिल्ली चटाई पर बैठी है और सो रही है", "बिल्ली चटाई पर सो रही है", "शेयर बाज़ार"),
    "ko": ("고양이가 매트 위에 앉아 잔다", "고양이가 매트 위에서 잔다 오늘", "주가 상승"),
    "de": ("Die Kätzchen schlafen über den Dächern", "Die Kätzchen schlafen über dem Dach", "Börsenkurse"),
}


def columns(pairs: list[tuple[str, str]]) -> dict[str, list[str]]:
    return {"predictions": [text for text, _ in pairs], "references": [ref for _, ref in pairs]}


@pytest.mark.parametrize("pair", ENGLISH)
def test_rouge_of_english_is_rouge_score(pair: tuple[str, str]) -> None:
    expected = rouge_scorer.RougeScorer(list(ROUGE_TYPES)).score(pair[1], pair[0])
    found = Rouge().compute(**columns([pair]))
    assert found == pytest.approx({kind: 100 * expected[kind].fmeasure for kind in ROUGE_TYPES}, abs=1e-9)


def test_bleu_and_chrf_of_english_are_sacrebleu() -> None:
    found = Bleu().compute(**columns(ENGLISH))
    texts, truths = columns(ENGLISH).values()
    assert found["bleu"] == pytest.approx(BLEU().corpus_score(texts, [truths]).score, abs=1e-9)
    assert found["chrf"] == pytest.approx(CHRF().corpus_score(texts, [truths]).score, abs=1e-9)
    assert found["tokenizers"] == {"13a": len(ENGLISH)}


@pytest.mark.parametrize(("language", "tokenizer"), [("zh", "zh"), ("ru", "intl"), ("ar", "intl"), ("ja", "char")])
def test_bleu_takes_the_tokenizer_of_the_script(language: str, tokenizer: str) -> None:
    text, truth, _ = LANGUAGES[language]
    assert bleu_tokenizer_name(truth) == tokenizer
    expected = BLEU(tokenize=tokenizer).corpus_score([text], [[truth]]).score
    assert Bleu().compute(**columns([(text, truth)]))["bleu"] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_scores(language: str) -> None:
    text, truth, other = LANGUAGES[language]
    same = Rouge().compute(**columns([(truth, truth)])) | Bleu().compute(**columns([(truth, truth)]))
    near = Rouge().compute(**columns([(text, truth)])) | Bleu().compute(**columns([(text, truth)]))
    far = Rouge().compute(**columns([(other, truth)]))
    for kind in (*ROUGE_TYPES, "bleu", "chrf"):
        assert same[kind] == pytest.approx(100), kind
    for kind in ("rouge1", "rougeL", "bleu", "chrf"):
        assert 5 < near[kind] < 100, kind
    assert far["rouge1"] < near["rouge1"]


def test_fixed_values_of_chinese() -> None:
    # 9 characters against 9, 6 of them shared; bigrams 4 of 8.
    text, truth, _ = LANGUAGES["zh"]
    found = Rouge().compute(**columns([(text, truth)]))
    assert found["rouge1"] == pytest.approx(100 * 2 / 3)
    assert found["rouge2"] == pytest.approx(50)


def test_a_mixed_corpus_is_cut_row_by_row() -> None:
    pairs = [(truth, truth) for _, truth, _ in LANGUAGES.values()]
    found = Bleu().compute(**columns(pairs))
    assert found["bleu"] == pytest.approx(100)
    assert set(found["tokenizers"]) == {"13a", "zh", "char", "intl"}


def test_marks_stay_with_their_letters() -> None:
    assert word_units("Größe café हिन्दी") == ["größe", "café", "हिन्दी"]
    assert word_units("{ } ;") == ["{", "}", ";"]
    assert word_units("GPT4 was_here") == ["gpt4", "was", "here"]


def test_short_answers_can_reach_a_full_bleu() -> None:
    assert Bleu().compute(**columns([("Paris", "Paris"), ("42", "42")]))["bleu"] == pytest.approx(100)
    # As soon as the references have four tokens, sacrebleu's own rule holds again.
    assert Bleu().compute(**columns([("Paris", "the city of Paris")]))["bleu"] == pytest.approx(
        BLEU().corpus_score(["Paris"], [["the city of Paris"]]).score
    )


def test_exact_match_strict_and_normalised() -> None:
    pairs = [("Paris", "Paris"), ("paris.", "Paris"), (" Paris ", "Paris"), ("ＰＡＲＩＳ", "paris"), ("35", "3.5")]
    rows = ExactMatch().compute(**columns(pairs), use_aggregator=False)
    assert rows["exact_match"] == [1, 1, 1, 1, 0]
    assert rows["exact_match_strict"] == [1, 0, 1, 0, 0]
    assert ExactMatch().compute(**columns(pairs)) == {"exact_match": 0.8, "exact_match_strict": 0.4}


def test_token_f1() -> None:
    pairs = [("a b c d", "a b"), ("", ""), ("x", ""), ("b a", "a b"), ("a a a", "a")]
    rows = TokenF1().compute(**columns(pairs), use_aggregator=False)["token_f1"]
    assert rows == pytest.approx([2 / 3, 1, 0, 1, 0.5])


def test_perplexity_is_weighted_by_tokens() -> None:
    assert perplexity_of(3 * math.log(10), 3) == pytest.approx(10)
    assert perplexity_of(1e9, 1) == math.inf
    assert perplexity_of(0, 0) == math.inf


def test_code_in_the_working_directory_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(tmp_path)
    for name in ("rouge", "bleu", "exact_match"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.py").write_text("open('canary', 'w').close()")
    for metric in (Rouge, Bleu, ExactMatch, TokenF1):
        metric().compute(predictions=["a"], references=["a"])
    assert not (tmp_path / "canary").exists()
    assert not list(home.iterdir())
