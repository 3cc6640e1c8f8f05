"""Reading held-out rows, and the page that shows what came of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.errors import EngineError, ExitCode
from engine.evaluate.page import page as page_of
from engine.evaluate.report import read_report_of
from engine.inference.rows import choose, read_held_out
from engine.text import columns_of, wrap


def write(run: Path, *lines: str) -> Path:
    (run / "data").mkdir()
    (run / "data" / "validation.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return run


def row(*turns: str, **more: Any) -> str:
    roles = ("user", "assistant")
    messages = [{"role": roles[place % 2], "content": text} for place, text in enumerate(turns)]
    return json.dumps({"messages": messages, **more}, ensure_ascii=False)


def test_reads_conversations(tmp_path: Path) -> None:
    # U+2028 and U+0085 stand unescaped in a JSON string; both are line ends for str.splitlines.
    rows = read_held_out(write(tmp_path, row("one\u2028two", "a\x85b"), "", row("q", "a", "q2", "a2")))
    assert [(one.prompt, one.reference, one.has_prompt) for one in rows] == [
        ("one\u2028two", "a\x85b", True),
        ("q2", "a2", True),
    ]
    assert [message.train for message in rows[1].example.messages] == [False, True, False, True]


def test_plain_text_cannot_be_answered(tmp_path: Path) -> None:
    text = json.dumps({"kind": "text", "messages": [{"role": "assistant", "content": "Once"}]})
    assert not read_held_out(write(tmp_path, text))[0].has_prompt


def test_half_a_surrogate_pair_is_replaced(tmp_path: Path) -> None:
    text = '{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a\\ud800"}]}'
    assert read_held_out(write(tmp_path, text))[0].reference == "a?"


@pytest.mark.parametrize(
    "text",
    ["{", '{"messages": []}', row("only a question"), '{"messages": [{"role": "tool", "content": "x"}]}', "[1]", "7"],
)
def test_a_damaged_line_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(EngineError) as caught:
        read_held_out(write(tmp_path, row("q", "a"), text))
    assert caught.value.code is ExitCode.DATA
    assert caught.value.where.endswith("validation.jsonl:2")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="held-out rows cannot be read"):
        read_held_out(tmp_path)


def test_choice_is_spread_over_all_rows(tmp_path: Path) -> None:
    rows = read_held_out(write(tmp_path, *(row(str(number), "a") for number in range(10))))
    assert [one.prompt for one in choose(rows, 5)] == ["0", "2", "4", "6", "8"]
    assert len(choose(rows, 10)) == len(choose(rows, 99)) == 10
    assert [one.prompt for one in choose(rows, 3)] == ["0", "3", "6"]


def page(found: dict[str, Any]) -> str:
    return page_of(read_report_of(found))


def report(**more: Any) -> dict[str, Any]:
    counts = {"empty": 0, "degenerate": 0, "unstopped": 0}
    return {
        "run": "r",
        "base": {"loss": 9.0, "perplexity": None, "exact_match": 0.125},
        "tuned": {"loss": 1.0, "perplexity": 2.7, "exact_match": 1.0},
        "delta": {"loss": -8.0, "perplexity": None, "exact_match": 0.875},
        "intervals": {"nll": [-9.0, -7.0], "exact_match": [0.75, 1.0]},
        "verdict": "better",
        "verdict_reason": "because",
        "counts": {"base": counts, "tuned": counts},
        "samples": [],
        "rows": 8,
        "rows_held_out": 80,
        "dtype": "bf16",
        "quantization": "none",
        "device": "cpu",
        "seconds": 3.0,
    } | more


def test_page_shows_scores_with_intervals() -> None:
    lines = page(report()).splitlines()
    assert "8 of 80 held-out rows" in lines[0]
    assert next(line for line in lines if line.startswith("perplexity")).split() == [
        "perplexity",
        "n/a",
        "2.700",
        "n/a",
    ]
    exact = next(line for line in lines if line.startswith("exact match"))
    assert exact.split() == ["exact", "match", "%", "12.5", "100.0", "+87.5", "[+75.0,", "+100.0]"]
    assert not any("repeating" in line for line in lines)


def test_page_counts_what_went_wrong_and_is_safe_to_print() -> None:
    bad = {"empty": 2, "degenerate": 1, "unstopped": 3}
    good = {"empty": 0, "degenerate": 0, "unstopped": 0}
    samples = [{"prompt": "a\x1b]52;c;x\x07\nb", "reference": "r", "base": "\u202eb", "tuned": "t" * 5000}]
    text = page(report(counts={"base": bad, "tuned": good}, samples=samples))
    assert "repeating answers" in text
    assert "-3" in text
    assert not {"\x1b", "\x07", "\u202e"} & set(text)
    assert max(len(line) for line in text.splitlines()) <= 80


RETENTION = {
    "source": "built-in texts",
    "passages": 46,
    "counted": 36,
    "found": 46,
    "tokens": 2864,
    "base": 2.9,
    "tuned": 3.1,
    "rise": 0.2,
    "interval": [0.1, 0.3],
    "bound": 0.1,
    "forgetting": True,
    "groups": {
        "English": {"passages": 24, "counted": 24, "base": 3.4, "tuned": 3.7},
        "code": {"passages": 8, "counted": 8, "base": 1.3, "tuned": 1.5},
        "other languages": {"passages": 14, "counted": 0, "base": None, "tuned": None},
    },
}


def test_page_of_any_text_fits_80_columns() -> None:
    samples = [
        {
            "prompt": "这座城市的老街两旁种满了梧桐树。" * 9,
            "reference": "a" * 300,
            "base": "word " * 90,
            "tuned": "ж" * 200,
        }
    ]
    name = "20261125-143447-a-name-that-somebody-gave-to-a-run-of-theirs-dec1"
    reason = "perplexity, ROUGE-L, token F1 better beyond chance (95 % of resamples), nothing worse; " * 3
    scores = {"retention": 2.9, "loss": 1.0, "relevance": 0.5, "bertscore_precision": 88.123}
    found = report(run=name, verdict="better, but forgetting", verdict_reason=reason, samples=samples)
    found |= {"retention": RETENTION, "base": scores, "tuned": scores, "delta": dict.fromkeys(scores, -12.3456)}
    found["intervals"] = {"retention": [-12.3456, 12.3456], "nll": [-1.5, 1.5]}
    text = page(found)
    assert max(columns_of(line) for line in text.splitlines()) <= 80
    assert "verdict: better, but forgetting - perplexity" in text
    assert "36 of 46 passages count, 2864 tokens" in text
    assert next(line for line in text.splitlines() if line.startswith("  English")).split() == [
        "English", "24", "of", "24", "3.4000", "3.7000", "+0.3000",
    ]  # fmt: skip
    assert "other languages" not in text
    assert "".join(text.split()).count("a" * 66) >= 3


def test_page_where_the_base_knew_too_little() -> None:
    nothing = RETENTION | {"counted": 0, "base": None, "tuned": None, "rise": None, "forgetting": None, "groups": {}}
    assert "0 of 46 passages count: the base knows too little of them" in " ".join(
        page(report(retention=nothing)).split()
    )


def test_page_of_one_model_alone() -> None:
    counts = {"tuned": {"empty": 2, "degenerate": 0, "unstopped": 1}}
    found = report(base={}, delta={}, verdict=None, verdict_reason="one model alone", counts=counts, path="/m")
    text = page(found | {"intervals": {"nll": [0.5, 1.5]}, "rows_from": "rows.jsonl"})
    assert "alone on 8 of 80 rows of rows.jsonl" in " ".join(text.split())
    assert next(line for line in text.splitlines() if line.startswith("loss")).split() == [
        "loss", "per", "token", "1.0000", "[0.5000,", "1.5000]",
    ]  # fmt: skip
    assert "answers: 2 empty, 0 repeating, 1 cut at the limit" in text
    assert "verdict: none - one model alone" in text


def test_wide_letters_and_long_words_are_wrapped() -> None:
    assert wrap("one two three", first="> ", rest="  ", width=9) == ["> one two", "  three"]
    assert wrap("汉字汉字", width=5) == ["汉字", "汉字"]
    assert wrap("abcdefgh", first="1 ", rest="  ", width=6) == ["1 abcd", "  efgh"]
    assert wrap("", first="empty ") == ["empty"]
    assert columns_of("e\u0301汉") == 3
