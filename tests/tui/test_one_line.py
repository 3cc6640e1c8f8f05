"""At 80 columns and less: screens are named, keys are those that work, and what is cut can be read whole."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from rich.cells import cell_len
from textual.widgets import Input

from engine.errors import Problem
from engine.runs.events import EventWriter
from tests.tui.conftest import CPU_MACHINE, GPU_MACHINE, attached, deck, make_run, record, screen_text, shows, until
from tui.app import DeckApp
from tui.fit.machine import machine_lines, notes_content
from tui.frame import notices
from tui.frame.commands import field_key_label
from tui.frame.keybar import KeyBar
from tui.frame.screen import TABS, tab_line
from tui.profile.view import RowState, finding_text, row_content
from tui.run.log_lines import INDENT, wrapped
from tui.text import spread
from tui.widgets.notice import Notice, NoticeLine, notice_line, notices_text

LONG = "314 rows are cut to max_length = 256 tokens and lose the end of their answers, so raise model.max_length to 512"


def bar_below(app: DeckApp) -> str:
    """The key bar of the screen under a question."""
    return app.screen_stack[0].query_one(KeyBar).render().plain


def lines(app: DeckApp) -> list[str]:
    return screen_text(app).splitlines()


@pytest.mark.parametrize("width", [58, 78, 118])
@pytest.mark.parametrize(
    "facts", [(), ("gpu-box-7", "driver 580.95"), (("a-run-with-a-very-long-name-1f3a" * 2, "bold"),)]
)
def test_the_names_of_the_screens_are_never_cut(width: int, facts: tuple[str, ...]) -> None:
    shown = spread(*tab_line("run", facts, width), width).plain
    assert all(label in shown for _, label in TABS)
    assert cell_len(shown) <= width
    assert width < 78 or not facts or str(facts[0])[:9] in shown or facts[0][0][:9] in shown


@pytest.mark.parametrize("size", [(60, 16), (80, 24)])
async def test_every_screen_names_all_screens_in_its_first_line(size: tuple[int, int], cpu_machine: object) -> None:
    run = make_run("a-run-with-a-very-long-name")
    record(run, 80)
    app = attached(run)
    async with app.run_test(size=size) as pilot:
        await shows(pilot, "step 80")
        for key, name in zip("312456", ("Run", "Fit", "Profile", "Runs", "Results", "GPUs"), strict=True):
            await pilot.press(key)
            await until(pilot, lambda name=name: name in lines(app)[0])  # type: ignore[misc]
            assert all(label in lines(app)[0] for _, label in TABS), lines(app)[0]


def test_a_cut_notice_names_the_key_that_reads_it() -> None:
    short = notice_line(Notice("saved mine.toml"), "!", 78).plain
    assert short == "· saved mine.toml"
    for width in (58, 78):
        cut = notice_line(Notice(LONG, "error"), "!", width).plain
        assert cell_len(cut) <= width
        assert cut.startswith("✗ 314 rows are cut")
        assert cut.endswith("…  ! reads it")
    assert LONG in notices_text((Notice("first"), Notice(LONG, "error"))).plain
    assert notice_line(Notice("deck.toml\nkeys.x is no command\nthe rest"), "!", 78).plain.count(" · ") == 2


async def test_a_notice_takes_one_line_and_goes(monkeypatch: pytest.MonkeyPatch, cpu_machine: object) -> None:
    monkeypatch.setattr(notices, "UNREAD_S", 0.0)
    app = deck()
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await shows(pilot, "> demo", "OK")
        above = lines(app)[:-2]
        app.notify("the first", markup=False)
        app.notify(LONG, severity="error", markup=False)
        await shows(pilot, "✗ 314 rows are cut")
        assert "the first" not in screen_text(app)
        assert lines(app)[-1].lstrip().startswith("? help")
        assert "314" in lines(app)[-2]
        assert sum("314" in text for text in lines(app)) == 1
        assert lines(app)[:8] == above[:8]
        await pilot.press("down")
        await until(pilot, lambda: "314" not in screen_text(app))
        await pilot.press("exclamation_mark")
        await shows(pilot, "Notices", "model.max_length to 512", "the first")
        app.notify("over a window", markup=False)
        await until(pilot, lambda: "over a window" in lines(app)[-1])
        await pilot.press("escape")
        await until(pilot, lambda: "over a window" not in screen_text(app))
        app.notify("of this screen", markup=False)
        await shows(pilot, "of this screen")
        app.switch_mode("runs")
        await shows(pilot, "0 alive")
        assert "of this screen" not in screen_text(app)
        await pilot.press("1")
        await shows(pilot, "tokens/s")
        assert "of this screen" not in screen_text(app)


async def test_a_notice_goes_by_itself(monkeypatch: pytest.MonkeyPatch, cpu_machine: object) -> None:
    monkeypatch.setattr(notices, "SHORTEST_S", 0.5)
    monkeypatch.setattr(notices, "CHARACTERS_PER_S", 1000.0)
    app = deck()
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        app.notify("soon gone", timeout=0.05, markup=False)
        await until(pilot, lambda: app.screen.query(NoticeLine))
        await until(pilot, lambda: not app.screen.query_one(NoticeLine).display)
        assert "soon gone" not in screen_text(app)


async def test_the_key_bar_is_true_in_a_field_and_under_a_question(cpu_machine: object) -> None:
    app = deck()
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, "> demo", "OK", "q quit")
        await pilot.press("slash")
        await until(pilot, lambda: lines(app)[-1].split("  ")[0] == " enter list")
        assert lines(app)[-1].strip() == "enter list  esc clear  f1 help  ^p commands  ^q quit"
        await pilot.press(*"?q!")
        assert app.screen.query_one("#filter", Input).value == "?q!"
        await pilot.click(offset=(13, 23))
        await until(pilot, lambda: "? help" in lines(app)[-1])
        await pilot.press("w")
        await until(pilot, lambda: bar_below(app) == "esc close  ^q quit")
        await pilot.press(*"rtx 5099", "enter")
        await shows(pilot, "did you mean")
        hint = " ".join(text.strip(" │") for text in lines(app))
        assert "RTX 5090" in hint.partition("did you mean")[2]
        await pilot.press("escape")
        await until(pilot, lambda: "? help" in lines(app)[-1])


def test_only_keys_that_no_field_takes_stand_in_its_bar() -> None:
    labels = {command.id: field_key_label(command) for command in deck().commands.rows}
    assert {"save": "^s", "help": "f1", "palette": "^p", "redo": "^y", "notices": "f4"}.items() <= labels.items()
    assert not any(
        labels[name] for name in ("quit", "open", "mark", "filter", "zoom_in", "far_right", "back", "follow")
    )


@pytest.mark.parametrize("text", [f"12:42:58 warning: {LONG}", "12:42:58 " + "回答" * 60, "12:42:58 " + "x" * 200])
def test_a_wrapped_line_loses_nothing(text: str) -> None:
    parts = wrapped(text, 58)
    assert all(cell_len(part) <= 58 for part in parts)
    assert all(part.startswith(INDENT) for part in parts[1:])
    assert "".join("".join(parts).split()) == "".join(text.split())


async def test_log_lines_can_be_read_whole() -> None:
    run = make_run()
    record(run, 20)
    writer = EventWriter(run.events_path)
    writer.write("warning", code="truncated", message=LONG)
    writer.close()
    app = attached(run)
    async with app.run_test(size=(60, 16)) as pilot:
        await until(pilot, lambda: any("314 rows" in text and "…" in text for text in lines(app)))
        await pilot.press("enter")
        await shows(pilot, "log: the lines in sight", "max_length to 512")
        await pilot.press("escape", "l")
        await shows(pilot, "max_length to 512")
        assert not any("…" in text for text in lines(app)[:-2])
        await pilot.resize_terminal(100, 16)
        await until(pilot, lambda: any("256 tokens and lose the end" in text for text in lines(app)))
        await pilot.press("l")
        await until(pilot, lambda: any("314 rows" in text and "…" in text for text in lines(app)))


def test_what_is_wrong_is_told_whole_where_the_keyboard_is() -> None:
    problem = Problem("demo has no linear layer 'v_porj'", "it has q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj")
    state = RowState("LoRA", "target modules", "v_porj", "profile", message=problem.message, remedy=problem.hint)
    there = " ".join(row_content(state, 58, focused=True).plain.split())
    assert "→ it has q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj" in there
    away = row_content(RowState("", "x", "1", "profile", message=LONG), 58).plain
    assert away.count("\n") == 2
    assert away.endswith("…")
    assert problem.hint in finding_text(problem).plain


def test_notes_of_the_driver_wrap_or_name_the_key_that_reads_them() -> None:
    note = "no NVIDIA driver was found (libnvidia-ml.so.1): if this machine has a GPU, install the driver"
    one, two = (replace(CPU_MACHINE, notes=(note, *more)) for more in ((), ("a container limit leaves 16.0 GiB",)))
    assert note in " ".join(machine_lines(one, 4, "", 78).plain.split())
    assert machine_lines(one, 2, "", 58).plain.endswith("… (? reads it)")
    assert machine_lines(two, 4, "", 78).plain.endswith("(? reads all 2)")
    assert all(cell_len(text) <= 58 for text in machine_lines(two, 2, "", 58).plain.splitlines())
    assert all(note in notes_content(two).plain for note in two.notes)
    cards = replace(GPU_MACHINE, notes=("torch is built for CUDA 13, the driver knows CUDA 12.2: update the driver",))
    shown = machine_lines(cards, 4, "", 78).plain.splitlines()
    assert len(shown) <= 4
    assert shown[-1].startswith("torch is built")


def test_a_key_typed_before_a_notice_could_be_seen_leaves_it(monkeypatch: pytest.MonkeyPatch) -> None:
    told = notices.Notices(deck())
    told._place, told._since = object(), time.monotonic()  # type: ignore[assignment]
    told.clear = lambda: pytest.fail("taken away unread")  # type: ignore[method-assign]
    told.key_pressed()
