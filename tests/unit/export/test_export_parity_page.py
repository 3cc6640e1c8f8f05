"""The parity report as a table of 80 columns and a page."""

from __future__ import annotations

from typing import Any

from engine.export.parity_page import page, table_lines
from engine.export.report import report_of


def made(name: str, **more: Any) -> dict[str, Any]:
    answer = {"text": "Paris", "tokens": 2, "stopped": True, "same_as_merged": None if name == "merged" else False}
    figures = {"positions": 150, "max_abs_diff": 1.5, "mean_abs_diff": 0.25, "relative_rms": 0.184}
    figures |= {"top1_agreement": 0.875, "perplexity": 3.25}
    return {
        "format": name,
        "against": "base + adapter in bf16",
        "size_bytes": 16 * 2**30,
        "memory_bytes": 140 * 2**30,
        "stored": {"bf16": 8_000_000_000},
        "tolerance": 0.3,
        "rows": [{**figures, "perplexity": None}, figures],
        "answers": [answer, answer | {"text": "a\x1b[2Jb", "stopped": False}],
        "template_survives": True,
        "stops_survive": False,
        **figures,
        **more,
    }


REPORT = {
    "transformers": "5.23.0",
    "source": "held-out rows",
    "prompts": ["What is the capital of France?", "\x1b[31mred"],
    "formats": [
        made("merged"),
        made("int8-dynamic", reloaded_max_abs_diff=0.0),
        made("q4_0", perplexity=8e6, relative_rms=0.0004),
    ],
}


def test_the_table_fits_80_columns() -> None:
    lines = table_lines(report_of(REPORT))
    assert [line.split()[0] for line in lines] == ["format", "merged", "int8-dynamic", "q4_0"]
    assert len({len(line) for line in lines}) == 1
    assert len(lines[0]) <= 80
    assert lines[1].split()[-2:] == ["1/2", "ended"]
    assert "18.4%" in lines[2]
    assert lines[2].split()[-2:] == ["0/2", "equal"]
    assert "0.04%" in lines[3]


def test_the_page_holds_rows_and_answers_and_no_controls() -> None:
    text = page(report_of(REPORT))
    for wanted in (
        "int8-dynamic  against base + adapter in bf16: largest difference 1.5, mean 0.25; off by 18.4%, 0.3 allowed",
        "stored as bf16 (8,000,000,000 values)",
        "chat template kept, stop token LOST",
        "text 1: 150 positions, off by 18.4%, same token 87.5%, perplexity n/a",
        "loaded again it differs from what was saved by 0",
        "'Paris' (2 tokens, ended by itself, unlike merged)",
    ):
        assert wanted in text, wanted
    assert "\x1b" not in text
