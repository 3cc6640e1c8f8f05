"""A command of the deck, the table that holds them all, and the commands that every screen has.

A command is carried out by the method `do_<id>` of the screen it belongs to, or of the app when it belongs to none.
`available` gives the reason why it is not possible now, or None. Each screen brings its own rows (`commands.py` beside
it); `tui.commands` joins them. Not here: what the commands do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from textual.binding import Binding, BindingType

from tui.widgets.notice import Told

if TYPE_CHECKING:
    from tui.frame.session import DeckState

Reason = Callable[["DeckState"], str | None]
Shown = Callable[["DeckState"], bool]


def _always(state: DeckState) -> str | None:
    return None


def _needs_notice(state: DeckState) -> str | None:
    return None if state.of(Told).notices else "nothing was told yet"


def _on_a_run_that_is_over(state: DeckState) -> bool:
    return state.snapshot is not None and not state.snapshot.is_live


def _in_every_view(state: DeckState) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Command:
    """One thing that hands can do. `screen` empty = everywhere; `bar` = place in the key bar, 0 = not in it.

    `rare` = stands in the key bar only while it is possible; `in_bar` = whether the view that the screen shows now has
    it in its key bar; `borrowed` = the one screen whose key bar has this command of every screen; `aside` = leaves an
    open field as it is: every other command first takes what was typed there, or is refused.
    """

    id: str
    key: str
    label: str
    help: str
    screen: str = ""
    available: Reason = _always
    bar: int = 0
    rare: bool = False
    in_bar: Shown = _in_every_view
    aside: bool = False
    borrowed: str = ""


DECK_COMMANDS: tuple[Command, ...] = (
    Command("help", "question_mark,f1", "help", "Show the keys of this screen", bar=1, aside=True),
    Command("fit", "1", "fit", "What this machine can tune"),
    Command("profile", "2", "profile", "The settings of a run"),
    Command("run", "3", "run", "The attached run, live"),
    Command("runs", "4", "runs", "All runs: attach, compare, resume, delete"),
    Command(
        "results",
        "5",
        "results",
        "What a run has come to: scores, samples, chat, export",
        bar=11,
        in_bar=_on_a_run_that_is_over,
        borrowed="run",
    ),
    Command("cards", "6", "GPUs", "The GPUs, live: whose memory, how busy, what slows them"),
    Command("palette", "ctrl+p", "commands", "Find a command, setting, run, model or profile", bar=90, aside=True),
    Command("jump", "ctrl+o,f3", "jump", "Go to anything on the screen by a letter"),
    Command(
        "notices",
        "exclamation_mark,f4",
        "notices",
        "Read the last notice and those before",
        available=_needs_notice,
        aside=True,
    ),
    Command("theme", "", "theme", "Choose other colours", aside=True),
    Command("back", "escape", "back", "Leave a field, a filter or a zoom; then the screen before", aside=True),
    Command("suspend", "ctrl+z", "suspend", "Leave the terminal to the shell; fg brings the deck back", aside=True),
    Command("quit", "q", "quit", "Close the deck; runs go on without it (ctrl+q and ctrl+c too)", bar=99),
)

_KEY_NAMES = {
    "question_mark": "?", "slash": "/", "equals_sign": "=", "escape": "esc", "plus": "+", "minus": "-", "comma": ",",
    "full_stop": ".", "semicolon": ";", "colon": ":", "exclamation_mark": "!", "number_sign": "#", "ampersand": "&",
    "underscore": "_", "asterisk": "*", "at": "@", "backslash": "\\", "tilde": "~",
    "left_square_bracket": "[", "right_square_bracket": "]",
}  # fmt: skip
NO_KEYS: Mapping[str, str] = {}
_TYPED = frozenset(_KEY_NAMES) - {"escape"} | {"space"}
"""Named keys that a field takes as text."""
_MOVES = frozenset(("enter", "escape", "tab", "up", "down", "left", "right", "home", "end", "pageup", "pagedown"))
"""Keys that mean something else while a field has the keyboard."""


def key_label(command: Command, keys: Mapping[str, str] = NO_KEYS) -> str:
    """The first key as a person reads it: `?`, `^s`, `enter`. `keys`: other ones that a person chose, by command."""
    return _shown_key(keys.get(command.id, command.key).split(",")[0])


def field_key_label(command: Command, keys: Mapping[str, str] = NO_KEYS) -> str:
    """Its first key that works while a field takes what is typed: `^s`, `f1`; empty without one."""
    for key in keys.get(command.id, command.key).split(","):
        *modifiers, last = key.split("+")
        typed = not modifiers and (len(last) == 1 or last in _TYPED)
        if key and not typed and last not in _MOVES:
            return _shown_key(key)
    return ""


def _shown_key(key: str) -> str:
    *modifiers, last = key.split("+")
    shown = "+".join([*modifiers, _KEY_NAMES.get(last, last)])
    return shown.replace("ctrl+", "^")


def bindings(commands: Iterable[Command]) -> list[BindingType]:
    """Textual bindings of the commands of one screen, or of the app; ids allow remapping through a keymap."""
    return [
        Binding(command.key, f"app.command('{command.id}')", command.label, show=False, id=f"deck.{command.id}")
        for command in commands
        if command.key
    ]


@dataclass(frozen=True)
class CommandTable:
    """All commands in their order: those of every screen first, then screen by screen."""

    rows: tuple[Command, ...]

    @cached_property
    def by_id(self) -> Mapping[str, Command]:
        """Each command by the name that `deck.toml` uses."""
        return {command.id: command for command in self.rows}

    @cached_property
    def screens(self) -> tuple[str, ...]:
        """The screens that have commands of their own."""
        return tuple(dict.fromkeys(command.screen for command in self.rows if command.screen))

    def of(self, screen: str) -> list[Command]:
        """Commands that a screen offers: its own first, then those of every screen."""
        own = [command for command in self.rows if command.screen == screen]
        return own + [command for command in self.rows if not command.screen]

    def keys_of(self, screen: str, keys: Mapping[str, str] = NO_KEYS) -> frozenset[str]:
        """Every key of a screen's own commands, or of those of every screen; `keys`: other ones that a person chose."""
        rows = (command for command in self.rows if command.screen == screen)
        return frozenset(key for row in rows for key in keys.get(row.id, row.key).split(",") if key)

    def key_bar(self, screen: str, state: DeckState | None = None) -> list[Command]:
        """At most six commands for the last line, `?` first; with a state, what is possible now before what is not.

        Of a screen with views only those of the view it shows.
        """
        shown = sorted((command for command in self.of(screen) if command.bar), key=lambda command: command.bar)
        own = [command for command in shown if command.screen or (command.borrowed == screen and state is not None)]
        if state is not None:
            own = [command for command in own if command.available(state) is None or not command.rare]
            own = [command for command in own if command.in_bar(state)]
            own.sort(key=lambda command: command.available(state) is not None)
        else:
            own = [command for command in own if not command.rare]
        own = own[: 3 if screen == "" else 4]
        everywhere = [command for command in shown if not command.screen and not command.borrowed]
        ends = [command for command in everywhere if command.bar >= 90]
        kept = ([everywhere[0]] if everywhere else []) + own
        return kept + ends[-(6 - len(kept)) :] if len(kept) < 6 else kept

    def field_bar(self, screen: str, state: DeckState) -> list[Command]:
        """The commands for the last line while a field has the keyboard: help, those of the screen, the palette."""
        shown = sorted((command for command in self.of(screen) if command.bar), key=lambda command: command.bar)
        return [command for command in shown if field_key_label(command, state.keys)]
