"""The page about a run, opened with `i` from three screens: whole at every size, searched, its paths copied."""

from __future__ import annotations

from rich.cells import cell_len

from engine.runs.events import EventWriter
from tests.tui.conftest import SIZES, attached, screen_text, shows, until
from tests.tui.test_older_run import settle_older
from tui.overview.screen import OverviewScreen
from tui.widgets.lines import Line

LONG = "the adapters go another way than planned because " + "one thing led to another " * 6 + "until the last word"


async def test_it_is_whole_at_every_size() -> None:
    run = settle_older()
    EventWriter(run.events_path).write("warning", code="kernel_fallback", message=LONG)
    app = attached(run)
    async with app.run_test(size=SIZES[-1]) as pilot:
        await shows(pilot, "completed")
        await pilot.press("i")
        await shows(pilot, "252 of 252", "esc back")
        for width, height in reversed(SIZES):
            await pilot.resize_terminal(width, height)
            await pilot.pause()
            rows = screen_text(app).splitlines()
            assert "esc back" in rows[-1]
            columns = [app.screen.query_one(name, Line) for name in ("#overview-left", "#overview-right")]
            assert columns[1].display == (width >= 140)
            shown = [column for column in columns if column.display]
            for column in shown:
                lines = column.shown.plain.splitlines()
                assert max(map(cell_len, lines)) <= column.size.width
                assert column.size.height == len(lines)
            words = "".join("".join(column.shown.plain for column in shown).split())
            for text in ("untilthelastword", "train.learning_rate", "21.9GiBfree", "loss8.1146", "2.13.0+cpu"):
                assert text in words, (width, text)


async def test_it_is_searched_goes_by_sections_copies_paths_and_closes() -> None:
    run = settle_older()
    app = attached(run)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await shows(pilot, "completed")
        await pilot.press("i")
        await shows(pilot, "252 of 252", "esc back")
        body = app.screen.query_one("#overview-body")
        await pilot.press("right_square_bracket", "right_square_bracket")
        await shows(pilot, "train.num_train_epochs")
        assert screen_text(app).splitlines()[2].strip().startswith("settings of your own")
        await pilot.press("left_square_bracket", "left_square_bracket")
        await until(pilot, lambda: body.scroll_y == 0)
        await pilot.press("slash", *"accum", "enter")
        await shows(pilot, "train.gradient_accumulation_steps", "8 x 1 sequences make a step")
        assert "252 of 252" not in screen_text(app)
        await pilot.press("escape")
        await shows(pilot, "252 of 252")
        await pilot.press("y", "down", "down", "enter")
        await until(pilot, lambda: app.clipboard == str(run.path / "run.json"))
        await pilot.press("q")
        await until(pilot, lambda: not isinstance(app.screen, OverviewScreen))
        for screen in ("4", "5"):
            await pilot.press(screen)
            await shows(pilot, "demo-c9f6")
            await pilot.press("i")
            await shows(pilot, "252 of 252", "esc back")
            await pilot.press("escape")
            await until(pilot, lambda: not isinstance(app.screen, OverviewScreen))
