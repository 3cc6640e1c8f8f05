"""What a run answered to its prompts: strips, keys between prompts and steps, new answers as they come."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from engine.runs.events import EventWriter
from engine.runs.samples import Sample, Samples
from engine.runs.store import Run
from tests.tui.conftest import attached, deck, make_run, record, screen_text, shows, until
from tests.tui.results_of import SETTINGS, settle, trained
from tui.answers.view import Place, shown_answers, strips_text
from tui.commands import COMMANDS
from tui.reading.strips import Strip, make_strips

ASKED = ["Who are you?", "Write a loop\nin Python."]


def told(run: Run, step: int) -> None:
    """The answers of one step, as the worker writes them."""
    writer = EventWriter(run.events_path)
    texts = (f"I am {'nobody' if not step else f'Ada, {step} steps old'}.", f"for i in range({step}):\n    print(i)")
    for index, (prompt, text) in enumerate(zip(ASKED, texts, strict=True)):
        writer.write(
            "sample", step=step, index=index, prompt=prompt, output=text, tokens=9, seconds=0.1, ended=step < 100
        )
    writer.close()


def strips(steps: int, text: str = "one two three " * 30) -> tuple[Strip, ...]:
    samples = Samples()
    for index in range(2):
        for step in range(0, steps * 10, 10):
            samples.add(Sample(step, index, f"prompt {index}", f"{step}: {text}", 5, 0.1, True))
    return make_strips(samples)


@pytest.mark.parametrize("width", [58, 78, 100, 198])
def test_answers_fill_the_width_and_no_more(width: int) -> None:
    lines = strips_text(strips(5), Place(1, 2), width).plain.split("\n")
    assert max(cell_len(text) for text in lines) <= width
    words = " ".join(" ".join(lines).split())
    assert ("prompt 0" in words) == (width >= 100)  # all prompts, or the one that is looked at
    shown = [step for step in range(0, 50, 10) if f"{step}: one two" in words]
    assert shown == ([0, 20, 30, 40] if width == 198 else [0, 20])


@pytest.mark.parametrize(
    ("count", "chosen", "most", "found"),
    [
        (3, None, 4, [0, 1, 2]),
        (11, None, 3, [0, 5, 10]),
        (11, 4, 3, [0, 4, 10]),
        (11, 4, 2, [0, 4]),
        (11, 10, 2, [0, 10]),
    ],
)
def test_the_base_the_newest_and_the_chosen_answer_stand_beside_each_other(
    count: int, chosen: int | None, most: int, found: list[int]
) -> None:
    assert shown_answers(strips(count)[0], chosen, most) == found


async def test_keys_go_between_prompts_and_steps_while_answers_come() -> None:
    run = make_run()
    record(run, steps=60)
    told(run, 0)
    told(run, 50)
    app = attached(run)
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, "a answers", 'sample step 50: "Who are you?"')
        await pilot.press("a")
        await shows(pilot, "prompt 1 of 2   step 50, 2 of 2", "base → 50", "I am nobody.", "I am Ada, 50 steps old.")
        told(run, 100)
        await shows(pilot, "step 100, 3 of 3", "base → 50 → 100", "9 tokens, cut")
        await pilot.press("left", "left")
        await shows(pilot, "base, 1 of 3")
        await until(pilot, lambda: "Ada" not in screen_text(app))
        await pilot.press("down", "right")
        await shows(pilot, "prompt 2 of 2   step 50, 2 of 3", "Write a loop", "     print(i)")
        await pilot.resize_terminal(200, 50)
        await shows(pilot, "▸ Write a loop", "Who are you?", "I am nobody.", "50 steps old", "100 steps old")
        names = next(text for text in screen_text(app).splitlines() if text.count("tokens") == 3)
        assert [names.index(name) for name in ("base", "step 50", "step 100")] == [3, 68, 133]
        await pilot.resize_terminal(60, 16)
        await shows(pilot, "prompt 2 of 2   step 50", "for i in range(50):")
        await pilot.press("escape")
        await shows(pilot, "step 60 of 400")


async def test_results_show_them_too_and_say_why_there_are_none(cpu_machine: object) -> None:
    run = settle(settings={**SETTINGS, "evaluate": {"prompts": ASKED}})
    trained(run)
    told(run, 0)
    told(run, 100)
    app = deck()
    app.deck.chosen = run
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("5")
        await shows(pilot, "a answers")
        await pilot.press("a")
        await shows(pilot, "prompt 1 of 2   step 100, 2 of 2", "I am nobody.")
        app.deck.chosen = settle("20260302-101112-other-2b4c")
        await pilot.press("escape", "1", "5")
        await shows(pilot, "other-2b4c")
        await until(pilot, lambda: "a answers" not in screen_text(app))
        reason = COMMANDS.by_id["answers_then"].available(app.deck)
        assert reason == "it answered nothing: evaluate.prompts of a profile asks"


def test_prompts_may_have_different_numbers_of_answers() -> None:
    many, few = strips(6)[0], strips(3)[1]
    for width in (78, 100, 198):
        for place in (Place(0, 5), Place(0, 4), Place(0, None)):
            assert strips_text((many, few), place, width).plain
