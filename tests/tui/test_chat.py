"""Talking on screen 5: streamed answers, the base, ending an answer, and when the worker ends."""

from __future__ import annotations

import pytest
from textual.widgets import Input

from engine.api import results
from engine.errors import EngineError
from tests.tui.conftest import deck, screen_text, shows, until
from tests.tui.results_of import RUN_ID, FakeTalk, settle, trained
from tui.app import DeckApp
from tui.results.chat import Conversation, changed_settings, chat_command
from tui.results.turns import AnswerSettings


@pytest.fixture
def talk(monkeypatch: pytest.MonkeyPatch) -> type[FakeTalk]:
    """The engine's side is played."""
    monkeypatch.setattr(results, "Talk", FakeTalk)
    monkeypatch.setattr(FakeTalk, "made", [])
    return FakeTalk


def chatting() -> DeckApp:
    """A deck whose fifth screen shows a run that can be talked with."""
    run = settle()
    trained(run)
    app = deck()
    app.deck.chosen = run
    return app


async def test_questions_are_answered_with_what_was_said_before(talk: type[FakeTalk], cpu_machine: object) -> None:
    app = chatting()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("5", "c")
        await shows(pilot, "tuned answers", "  ready", "context 512", f"$ engine chat {RUN_ID}")
        await pilot.press(*"3 May 1999", "enter")
        await shows(pilot, "you    3 May 1999", "tuned  1999-05-03", "10 tokens, 100.0 a second")
        await pilot.press("ctrl+t", *"again", "enter")
        await shows(pilot, "you    again", "base   1999-05-03", "base answers", "  ready")
        await pilot.press(
            *"/system be short", "enter", *"/temperature 0.7", "enter", *"/tuned", "enter", *"more", "enter"
        )
        await shows(pilot, "you    more", "temperature 0.7", "--system 'be short'")
        (one,) = talk.made
        await until(pilot, lambda: len(one.asked) == 3)
        assert [ask["base"] for ask in one.asked] == [False, True, False]
        assert [turn["role"] for turn in one.asked[2]["messages"]] == ["system", *["user", "assistant"] * 2, "user"]
        assert one.asked[2]["temperature"] == 0.7
        await pilot.press(*"/clear", "enter")
        await until(pilot, lambda: "3 May 1999" not in screen_text(app))


async def test_base_and_tuned_answer_beside_each_other_and_read_what_each_said(
    talk: type[FakeTalk], cpu_machine: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(talk, "base_answer", "May 3, 1999")
    app = chatting()
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("5", "c", "ctrl+b")
        await shows(pilot, "tuned and base answer", "  ready", "^b both")
        await pilot.press(*"one", "enter", *"two", "enter")
        await until(pilot, lambda: sum(len(each.asked) for each in talk.made) == 4)
        await shows(pilot, "you    two", "  ready")
        rows = [text for text in screen_text(app).splitlines() if "1999-05-03" in text]
        assert len(rows) == 2
        assert all(text.index("base   May 3, 1999") >= 58 for text in rows)
        asked = talk.made[0].asked
        assert [ask["base"] for ask in asked] == [False, True] * 2
        assert [ask["messages"][1]["content"] for ask in asked[2:]] == ["1999-05-03", "May 3, 1999"]
        await pilot.resize_terminal(80, 24)
        await shows(pilot, "tuned  1999-05-03", " base   May 3, 1999")
        assert not [text for text in screen_text(app).splitlines() if "1999-05-03" in text and "May" in text]
        await pilot.press(*"/tuned", "enter", *"three", "enter")
        await shows(pilot, "tuned answers", "you    three", "  ready")
        assert len(asked) == 5


async def test_up_and_down_go_through_what_was_entered_and_keep_what_is_typed(
    talk: type[FakeTalk], cpu_machine: object
) -> None:
    app = chatting()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("5", "c")
        await shows(pilot, "ready")
        await pilot.press(*"one", "enter", *"/seed 7", "enter", *"ha", "up", "up", "up", "!", "up", "down", "down")
        field = app.screen.query_one("#question", Input)
        assert field.value == "ha"
        await pilot.press("up", "up")
        assert field.value == "one!"
        await pilot.press("enter", "up", "up", "up")
        assert field.value == "one"
        await shows(pilot, "you    one!")


async def test_calls_of_tools_wait_for_results_and_the_model_goes_on(
    talk: type[FakeTalk], cpu_machine: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = [{"type": "function", "function": {"name": name}} for name in ("weather", "clock")]
    monkeypatch.setattr(talk, "brings", {"tools": tools, "system": "Be [b]short."})
    monkeypatch.setattr(talk, "calls", [("weather", {"city": "Köln"}), ("clock", {})])
    app = chatting()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("5", "c")
        await shows(pilot, "system: Be [b]short.", "tools: weather, clock", "ready")
        await pilot.press(*"rain", "enter")
        await shows(pilot, 'calls weather {"city": "Köln"}', "calls clock {}", "the result of weather")
        await pilot.press(*"12 C", "enter")
        await shows(pilot, "result 12 C", "the result of clock")
        await pilot.press(*"noon", "enter")
        await shows(pilot, "result noon", "ask something", "  ready")
        await until(pilot, lambda: len(talk.made[0].asked) == 2)
        asked = talk.made[0].asked[1]
        assert [turn["role"] for turn in asked["messages"]] == ["system", "user", "assistant", "tool", "tool"]
        assert [turn["name"] for turn in asked["messages"][3:]] == ["weather", "clock"]
        assert [call["function"]["name"] for call in asked["messages"][2]["tool_calls"]] == ["weather", "clock"]
        assert list(asked["tools"]) == tools
        await pilot.press(*"more", "enter")
        await shows(pilot, "you    more", "the result of weather")
        await pilot.press(*"/drop", "enter")
        await shows(pilot, "ask something")
        assert "more" not in screen_text(app)


async def test_an_answer_is_ended_by_key_and_kept(
    talk: type[FakeTalk], cpu_machine: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(talk, "waits", True)
    app = chatting()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("5", "c")
        await shows(pilot, "ready")
        await pilot.press("h", "i", "enter")
        await shows(pilot, "tuned  1999-", "answering: esc ends it")
        await pilot.press("escape")
        await shows(pilot, "(ended by you)", "  ready")
        await pilot.press("ctrl+b", "h", "o", "enter")
        await shows(pilot, "answering: esc ends it")
        await pilot.press("escape")
        await shows(pilot, "base   (nothing)", "ended before it began", "  ready")  # one key ends both
        assert len(talk.made[0].asked) == 2
        assert app.screen.query_one("#question", Input).has_focus
        await pilot.press("escape")
        await shows(pilot, "not evaluated yet")


async def test_refusals_and_failures_are_told_and_can_be_tried_again(
    talk: type[FakeTalk], cpu_machine: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(talk, "error", EngineError("damaged adapter", hint="resume the run"))
    app = chatting()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("5", "c")
        await shows(pilot, "damaged adapter", "resume the run", "the worker failed: ask again")
        monkeypatch.setattr(talk, "error", None)
        await pilot.press(*"refuse", "enter")
        await shows(pilot, "the conversation fills all 512 tokens", "ready")
        assert len(talk.made) == 2
        assert "damaged" not in screen_text(app)


async def test_the_worker_ends_with_the_screen_and_the_words_stay(talk: type[FakeTalk], cpu_machine: object) -> None:
    app = chatting()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("5", "c")
        await shows(pilot, "ready")
        await pilot.press("h", "i", "enter")
        await shows(pilot, "10 tokens")
        await pilot.press("f1")
        await shows(pilot, ": results", "╰")
        await pilot.press("escape")
        assert not talk.made[0].left  # only help lay above it
        await pilot.press("escape", "1")
        await until(pilot, lambda: talk.made[0].left)
        await pilot.press("5", "c")
        await shows(pilot, "you    hi", "ready")
        assert len(talk.made) == 2
    assert talk.made[1].left


async def test_another_run_has_a_conversation_of_its_own(talk: type[FakeTalk], cpu_machine: object) -> None:
    app = chatting()
    other = settle("20260302-101112-other-2b4c")
    trained(other)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("5", "c")
        await shows(pilot, "ready")
        await pilot.press("h", "i", "enter")
        await shows(pilot, "you    hi", "10 tokens")
        await pilot.press("escape", "escape")
        app.deck.chosen = other
        app.switch_mode("results")
        await shows(pilot, "other-2b4c")
        await pilot.press("c")
        await shows(pilot, "ready", "each line is a question")
        assert "you    hi" not in screen_text(app)


async def test_a_question_typed_while_the_model_loads_waits(talk: type[FakeTalk], place: object) -> None:
    said: list[int] = []
    conversation = Conversation(settle(), lambda: said.append(1))
    conversation.ask("one")
    conversation.ask("two")
    for _ in range(200):
        if all(turn.over for turn in conversation.chat.turns) and conversation.chat.state == "ready":
            break
        await_s(0.02)
    assert [reply.text for turn in conversation.chat.turns for reply in turn.replies] == ["1999-05-03"] * 2
    conversation.end(2.0)
    assert talk.made[0].left
    again = conversation.unloaded()
    assert (again.chat.state, len(again.chat.turns)) == ("off", 2)


def await_s(seconds: float) -> None:
    """Let the thread work."""
    import time

    time.sleep(seconds)


@pytest.mark.parametrize("wrong", ["/temperature x", "/temperature 6", "/tokens 0", "/seed -1", "/what", "/"])
def test_wrong_commands_are_answered_with_those_there_are(wrong: str, place: object) -> None:
    conversation = Conversation(settle(), lambda: None)
    assert "/temperature N" in conversation.run_command(wrong)
    assert conversation.chat.settings == AnswerSettings()


def test_the_settings_of_answers_have_their_shell_command() -> None:
    settings = changed_settings(AnswerSettings(), "/tokens", "64")
    assert settings is not None
    settings = changed_settings(settings, "/seed", "7")
    assert settings is not None
    assert chat_command("run", settings) == "engine chat run --max-new-tokens 64 --seed 7"
