"""The command table: one key a command and screen, every command carried out, reasons in words."""

from __future__ import annotations

import pytest

from tests.tui.conftest import deck, screen_text
from tui.app import DeckApp
from tui.cards.screen import CardsScreen
from tui.commands import COMMANDS
from tui.fit.screen import FitScreen
from tui.frame.help import help_text
from tui.frame.session import DeckState
from tui.profile.screen import ProfileScreen
from tui.results.commands import ResultsState
from tui.results.screen import ResultsScreen
from tui.run.screen import RunScreen
from tui.runs.compare_screen import CompareScreen
from tui.runs.screen import RunsScreen
from tui.widgets.dialogs import Confirm, Pick

SCREENS = {
    "fit": FitScreen,
    "profile": ProfileScreen,
    "run": RunScreen,
    "runs": RunsScreen,
    "compare": CompareScreen,
    "results": ResultsScreen,
    "cards": CardsScreen,
}


@pytest.mark.parametrize("screen", SCREENS)
def test_no_key_means_two_things_on_one_screen(screen: str) -> None:
    keys = [key for command in COMMANDS.of(screen) for key in command.key.split(",") if key]
    assert len(keys) == len(set(keys))


def test_every_command_is_carried_out_by_its_owner() -> None:
    for command in COMMANDS.rows:
        owner = SCREENS.get(command.screen, DeckApp)
        assert callable(getattr(owner, f"do_{command.id}", None)), command.id
        assert command.help[0].isupper()
        assert len({other.id for other in COMMANDS.rows}) == len(COMMANDS.rows)


@pytest.mark.parametrize("screen", SCREENS)
def test_key_bar_is_short_and_begins_with_help(screen: str) -> None:
    shown = COMMANDS.key_bar(screen)
    assert len(shown) <= 6
    assert shown[0].id == "help"
    assert shown[-1].id == "quit"


@pytest.mark.parametrize("screen", SCREENS)
def test_help_names_every_command_of_the_screen(screen: str) -> None:
    text = help_text(COMMANDS, screen).plain
    assert all(command.help in text for command in COMMANDS.of(screen))


def test_a_fresh_deck_gives_reasons() -> None:
    reasons = {command.id: command.available(DeckState()) for command in COMMANDS.rows}
    impossible = {"open", "save", "start", "undo", "auto", "checkpoint", "stop", "log", "attach", "resume", "delete"}
    assert impossible <= {name for name, reason in reasons.items() if reason}
    assert reasons["help"] is None
    assert all(reason is None or reason[0].islower() for reason in reasons.values())


@pytest.mark.parametrize(
    ("view", "own"),
    [
        ("scores", {"measure", "chat", "export", "enlarge"}),
        ("chat", {"answerer", "both"}),
        ("export", {"toggle", "write"}),
    ],
)
def test_the_key_bar_follows_the_view(view: str, own: set[str]) -> None:
    state = DeckState()
    state.put(ResultsState(view))
    shown = COMMANDS.key_bar("results", state)
    assert {command.id for command in shown if command.screen} == own
    assert len(shown) <= 6


async def test_an_impossible_command_says_why(cpu_machine: object) -> None:
    app = deck()
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await pilot.press("3", "x")
        await pilot.pause()
        notices = [notice.message for notice in app._notifications]
        assert any("no run is attached" in notice for notice in notices)


async def test_help_opens_and_closes_by_key(cpu_machine: object) -> None:
    app = deck()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("question_mark")
        assert "Keys: fit" in screen_text(app)
        await pilot.press("escape")
        assert "Keys: fit" not in screen_text(app)


async def test_palette_offers_the_screen_s_commands(cpu_machine: object) -> None:
    app = deck()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("ctrl+p")
        await pilot.pause(0.3)
        await pilot.press(*"what-if")
        await pilot.pause(0.3)
        assert "what-if card" in screen_text(app)


async def test_keys_faster_than_the_screen_answer_a_question_once(cpu_machine: object) -> None:
    app = deck()
    async with app.run_test(size=(80, 24)) as pilot:
        answers: list[object] = []
        for screen, keys in (
            (Confirm("sure?", "do it"), ["y", "y", "enter"]),
            (Pick("which", []), ["escape", "escape"]),
        ):
            app.push_screen(screen, answers.append)
            await pilot.pause()
            for key in keys:
                app.simulate_key(key)
            await pilot.pause()
        assert answers == [True, None]
        assert app.is_running
