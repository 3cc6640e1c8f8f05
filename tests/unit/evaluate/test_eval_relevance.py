"""A model whose answers no longer depend on their prompts is not called better, whatever its other scores say."""

from __future__ import annotations

import pytest

from engine.data.examples import Example, Message
from engine.evaluate.compare import Measured, add_gains, add_losses, compare
from engine.evaluate.relevance import askable, gains, mismatched
from engine.inference.losses import RowLoss
from engine.inference.rows import HeldOut

ROWS = 40


def row(*turns: tuple[str, str, bool], kind: str = "chat") -> HeldOut:
    return HeldOut(Example(tuple(Message(*turn) for turn in turns), 1, kind))  # type: ignore[arg-type]


def plain(number: int) -> HeldOut:
    return row(("user", f"Question {number}?", False), ("assistant", f"Answer {number}.", True))


def measured(own: float, other: float) -> Measured:
    """Losses a token behind the own and another prompt, ten tokens a row, with a little spread."""
    found = Measured()
    losses = [RowLoss(10 * own + 0.1 * (number % 5), 10) for number in range(ROWS)]
    add_losses(found, losses)
    add_gains(found, losses, [RowLoss(10 * other + 0.1 * (number % 7), 10) for number in range(ROWS)])
    return found


@pytest.mark.parametrize(
    ("base", "tuned", "word"),
    [
        ((3.0, 5.0), (1.5, 4.0), "better"),
        ((3.0, 5.0), (2.5, 4.4), "better"),
        ((3.0, 5.0), (2.2, 2.3), "no different"),
        ((3.0, 5.0), (3.0, 3.2), "worse"),
        ((3.0, 3.0), (2.0, 2.0), "better"),
    ],
)
def test_what_is_lost_of_the_prompt_counts(base: tuple[float, float], tuned: tuple[float, float], word: str) -> None:
    report = compare(measured(*base), measured(*tuned))
    assert report.verdict == word, report.verdict_reason
    lost = base[1] - base[0] - (tuned[1] - tuned[0])
    assert report.delta["relevance"] == pytest.approx(-lost, abs=1e-6)
    assert ("dependence on the prompt" in report.verdict_reason) == (lost > 0.1 * (base[1] - base[0]) + 0.01)


def test_prompts_move_by_one_and_answers_stay() -> None:
    rows = [plain(number) for number in range(6)]
    found = mismatched([*rows[:3], row(("assistant", "a text", True), kind="text"), *rows[3:]])
    assert [one.prompt for one in found] == [f"Question {number}?" for number in (1, 2, 3, 4, 5, 0)]
    assert [one.reference for one in found] == [f"Answer {number}." for number in range(6)]


def test_rows_with_several_answers_or_few_rows_say_nothing() -> None:
    several = row(("user", "a", False), ("assistant", "b", True), ("user", "c", False), ("assistant", "d", True))
    assert askable([several, plain(1)]) == [1]
    assert mismatched([plain(number) for number in range(4)]) == []
    assert gains([RowLoss(3.0, 4)], [RowLoss(5.0, 3)])[0].tokens == 0
