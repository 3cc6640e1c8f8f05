"""Bars as text: as long as they should be, and each part told apart without color and in ASCII."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from engine.api.fit import GIB, Room, Term
from engine.memory.terms import TERM_NAMES
from tests.tui.test_golden import PLANS, plan
from tui.charts.bars import Segment, around_zero, legend, stacked
from tui.charts.memory import memory_bar, memory_legend, room_segments, verdict_parts
from tui.fit.view import verdict_text
from tui.terminal.ascii import TABLE
from tui.text import line

ROOM = Room(6 * GIB, tuple(Term(name, GIB) for name in (*TERM_NAMES, "calibration")), GIB, 6 * GIB, 0, 23 * GIB)

OVER = "the model reads 40,960 tokens, not 4,096"


def test_a_bar_is_as_long_as_its_amounts() -> None:
    dice = random.Random(1)
    for _ in range(50):
        segments = [Segment(f"{at}", dice.random() ** 6, "ab"[at % 2], "") for at in range(12)]
        cells = dice.randrange(1, 200)
        bar = line(*stacked(segments, cells))
        assert bar.cell_length == cells
        assert " " not in bar.plain
    half = line(*stacked([Segment("a", 3.0, "a", "")], 10, whole=6.0)).plain
    assert half == "aaaaa     "


def test_every_part_of_memory_has_a_glyph_of_its_own() -> None:
    glyphs = [one.glyph for one in room_segments(ROOM)]
    for seen in (glyphs, [glyph.translate(TABLE) for glyph in glyphs]):
        assert len(set(seen)) == len(seen)
    assert all(glyph.translate(TABLE).isascii() for glyph in glyphs)
    bar = line(*memory_bar(ROOM, 23)).plain
    assert [bar.count(glyph) for glyph in glyphs] == [6, *[1] * 10, 1, 6]


def test_what_does_not_fit_is_marked_where_memory_ends() -> None:
    short = Room(0, (Term("weights", 80 * GIB), Term("loss", 20 * GIB)), 10 * GIB, 0, 50 * GIB, 60 * GIB)
    bar = line(*memory_bar(short, 100)).plain
    assert bar.index("┃") == 50
    assert bar.count("█") == 79
    assert "┃ short 50.0" in line(*memory_legend(short, 60)).plain


def test_a_legend_sums_up_what_has_no_room() -> None:
    segments = [Segment(name, amount, "x", "") for name, amount in (("a", 5.0), ("b", 1.0), ("c", 2.0), ("d", 0.1))]
    words = "{:.1f}".format
    assert line(*legend(segments, 80, words)).plain == "x a 5.0  x b 1.0  x c 2.0  x d 0.1"
    assert line(*legend(segments, 24, words)).plain == "x a 5.0  rest 3.1"
    assert line(*legend(segments, 20, words, keep=("b",))).plain == "x b 1.0  rest 7.1"
    assert line(*legend(segments, 3, words)).plain == ""


@pytest.mark.parametrize(
    ("limit", "verdict", "size", "told", "row"),
    [
        ("memory", "TIGHT", 74, "TIGHT  74.0 of 79.0 GiB free", "TIGHT      74.0 GiB"),
        ("speed", "TIGHT", 8, "TIGHT  8.0 of 79.0 GiB free · slow: under 30 tokens/s", "TIGHT slow  8.0 GiB"),
        ("memory", "NO", 90, "NO  11.0 GiB short: 90.0 needed, 79.0 free", "NO        +11.0 GiB"),
        ("context", "NO", 8, f"NO  8.0 of 79.0 GiB free · {OVER}", "NO     over context"),
    ],
)
def test_a_verdict_says_why(limit: str, verdict: str, size: float, told: str, row: str) -> None:
    one = replace(plan("a/b", size, verdict), limit=limit)
    assert line(*verdict_parts(one)).plain == told
    assert verdict_text(one) == row


def test_all_verdicts_are_as_wide() -> None:
    assert {len(verdict_text(one)) for one in PLANS} == {19}


@pytest.mark.parametrize(
    ("interval", "drawn"),
    [
        ((0.95, 0.97, 1.0), "─────│────●"),
        ((0.01, 0.02, 1.0), "─────│●━━━━"),
        ((-0.1, 0.6, 1.0), "─────┃━━●━━"),
        ((-1.0, -0.6, -0.02), "━━●━━│─────"),
        ((-1.0, 0.0, 0.5), "━━━━━●━━───"),
    ],
)
def test_an_interval_touches_zero_only_when_it_holds_it(interval: tuple[float, float, float], drawn: str) -> None:
    assert line(*around_zero(*interval, 11, "")).plain == drawn
