"""The deck as a Textual app: screens as modes, one command table, clean ends.

Reached from `main.py`, `shots.py` and tests. Screens are made on their first visit, or by `tui.warm` when nobody types,
so that the first frame waits for nothing that it does not show. How commands are carried out is in
`tui.frame.carrying_out`, what a screen does beside the screen.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Sequence
from functools import partial, partialmethod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from rich.segment import Segments
from rich.text import Text
from textual import events
from textual.app import App, ScreenStackError
from textual.binding import Binding
from textual.filter import LineFilter
from textual.notifications import Notify
from textual.screen import Screen

from engine.errors import EngineError
from tui.commands import COMMANDS as DECK_TABLE
from tui.commands import SOURCES
from tui.frame.carrying_out import carry_out, open_palette
from tui.frame.commands import DECK_COMMANDS, bindings
from tui.frame.notices import Notices
from tui.frame.options import Options
from tui.frame.rules import refresh_rules, use_colors
from tui.frame.screen import DeckScreen
from tui.frame.session import DeckState
from tui.frame.settings import problems_text, read_settings
from tui.frame.themes import THEMES, default_theme, plain_variables
from tui.frame.unsaved import drop_edits
from tui.run.commands import RemediesState
from tui.runs.commands import Selection
from tui.terminal import hangup
from tui.terminal.ascii import AsciiFilter
from tui.terminal.colorless import ColorlessFilter
from tui.terminal.opening import Attributes, restore_when_closed
from tui.terminal.selection import copy_selected
from tui.terminal.suspending import can_come_back, suspend_job
from tui.terminal.typeahead import TypeAhead
from tui.text import trouble
from tui.warm import warm_up
from tui.widgets.dialogs import Confirm, Reader
from tui.widgets.moving import MOVING, move
from tui.widgets.notice import Told, notices_text
from tui.widgets.panes import notify

if TYPE_CHECKING:
    from engine.api.runs import Run
    from tui.documents.form import Form
    from tui.frame.deck import Deck


def _fit() -> Screen[None]:
    from tui.fit.screen import FitScreen

    return FitScreen()


def _profile() -> Screen[None]:
    from tui.profile.screen import ProfileScreen

    return ProfileScreen()


def _run() -> Screen[None]:
    from tui.run.screen import RunScreen

    return RunScreen()


def _runs() -> Screen[None]:
    from tui.runs.screen import RunsScreen

    return RunsScreen()


def _results() -> Screen[None]:
    from tui.results.screen import ResultsScreen

    return ResultsScreen()


def _cards() -> Screen[None]:
    from tui.cards.screen import CardsScreen

    return CardsScreen()


def _compare() -> Screen[None]:
    from tui.runs.compare_screen import CompareScreen

    return CompareScreen()


IDLE_S = 0.5
"""Nobody types after so long without a key."""
SWITCH_S = 0.01
"""A screen that is made ahead is laid out by then; one that is not is drawn once it is, in one piece."""


class DeckApp(App[None]):
    """`tunedeck`."""

    TITLE = "tunedeck"
    CSS_PATH = [Path(__file__).parent / "styles" / name for name in ("deck.tcss", "no_color.tcss")]  # noqa: RUF012
    MODES = {  # noqa: RUF012 - Textual's own declaration
        "fit": _fit, "profile": _profile, "run": _run, "runs": _runs, "results": _results, "cards": _cards,
        "compare": _compare,
    }  # fmt: skip
    DEFAULT_MODE = "fit"
    BINDINGS: ClassVar = [
        *bindings(DECK_COMMANDS),
        *MOVING,
        Binding("ctrl+c", "copy_or_quit", show=False, priority=True),
    ]
    COMMAND_PALETTE_BINDING = "ctrl+p"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (80, "-normal"), (120, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-short"), (24, "-mid"), (34, "-tall")]  # noqa: RUF012

    def __init__(self, options: Options | None = None) -> None:
        super().__init__()
        self.options = options or Options()
        self.deck = DeckState()
        self.commands = DECK_TABLE
        self._typed_ahead = TypeAhead(self)
        self._quit_question: Confirm | None = None
        self.notices = Notices(self)
        self.ending = hangup.Ending()
        self.terminal: Attributes | None = None
        """What the terminal was like before the deck took it; None: Textual knows."""
        self._ascii = AsciiFilter() if self.options.ascii_only else None
        self._colorless = ColorlessFilter() if self.no_color else None
        for theme in THEMES:
            self.register_theme(theme)
        self.settings = read_settings(self.commands, frozenset(self.available_themes))
        self.deck.keys = self.settings.keys
        self.set_keymap({f"deck.{name}": keys for name, keys in self.settings.keys.items()})
        self.theme = default_theme(os.environ, self.available_themes, self.settings.theme)
        use_colors(self)

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Textual's filters or, where colors are not wanted, ours in their place; and ours for ASCII."""
        filters = [self._colorless] if self._colorless else super().get_line_filters()
        return [self._ascii, *filters] if self._ascii else filters  # before dim becomes a color

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Colours of rules and of the focused row, for themes that are not ours."""
        return plain_variables(self.current_theme)

    def refresh_css(self, animate: bool = True) -> None:
        """Textual asks for it when colors change, and for each new screen."""
        refresh_rules(self, super().refresh_css, animate)

    def delay_update(self, delay: float = SWITCH_S) -> None:
        """Draw another screen soon after it is asked for; Textual waits for five times as long."""
        super().delay_update(min(delay, SWITCH_S))

    def clear_selection(self) -> None:
        """Nothing is selected before the first screen is there.

        From Python 3.12 on Textual composes that screen before it is on the stack, and its inputs call this.
        """
        with contextlib.suppress(ScreenStackError):
            super().clear_selection()

    def on_mount(self) -> None:
        """Leave cleanly when the terminal hangs up or someone asks us to end."""
        # Not on the main thread, as in some tests: there are no signals to answer.
        with contextlib.suppress(ValueError, NotImplementedError, RuntimeError):
            self.ending = hangup.install(partial(self.exit, None))
        if self.terminal is not None:
            restore_when_closed(self._driver, self.terminal)
        warm_up(self, self._is_quiet)
        self.app_resume_signal.subscribe(self, lambda _: self.refresh(layout=True))
        self._tell_settings()

    def _tell_settings(self) -> None:
        """What of a person's own settings could not be done."""
        text = problems_text(self.settings)
        if text:
            self.notify(text, title=self.settings.path.name, severity="warning", timeout=10, markup=False)

    def _on_notify(self, event: Notify) -> None:
        """Show it on one line. Textual keeps it in a handler of its own."""
        if not self._disable_notifications and self.screen_stack:  # without a screen the deck closes
            self.notices.tell(event.notification)

    def _refresh_notifications(self) -> None:
        """Textual's place for its toasts, which it also fills whenever a screen comes to the front."""
        self.notices.draw()

    def do_notices(self) -> None:
        """Read what was told, newest first."""
        self.push_screen(Reader("Notices", notices_text(self.deck.of(Told).notices)))

    def _is_quiet(self) -> bool:
        """Whether nobody types, and the screen shows what it had to look for; not while the deck opens or closes."""
        screen = next(iter(self.screen_stack), None)
        ready = screen is not None and (not isinstance(screen, DeckScreen) or screen.ready)
        return ready and self.is_running and not self._exit and self._typed_ahead.idle_s > IDLE_S

    async def on_event(self, event: events.Event) -> None:
        """Act on a key when the one before it has had its effect."""
        if isinstance(event, events.InputEvent) and not self.screen_stack:
            return  # the deck closes
        if self._typed_ahead.admits(event):
            if isinstance(event, events.Key):
                self.notices.key_pressed()
            await super().on_event(event)

    def action_command(self, command_id: str, *arguments: object) -> None:
        """Carry out a command of the table, or say why not. What was typed into an open field is taken first.

        `arguments`: what a click on the screen adds, such as the column that was clicked.
        """
        carry_out(self, self.commands.by_id[command_id], *arguments)

    def action_command_palette(self) -> None:
        """The palette, but not over a question: its commands would act on what lies below."""
        open_palette(self, SOURCES)

    def go_to(self, mode: str, name: str) -> None:
        """Show a screen, and the setting or the model of that name on it."""
        self.switch_mode(mode)
        screen = self.screen_stack[0]
        if isinstance(screen, DeckScreen):
            screen.seek(name)

    def say(self, text: str, *, error: bool = False) -> None:
        """A short notice that goes by itself."""
        notify(self, text, error=error)

    @property
    def _asks_to_quit(self) -> bool:
        """Whether the question is open that `q` asks when edits would be lost: it is asked once."""
        return self.screen is self._quit_question

    async def action_quit(self) -> None:
        """`ctrl+q` asks as `q` does; while that question is open it changes nothing."""
        if not self._asks_to_quit:
            self.action_command("quit")

    async def action_copy_or_quit(self) -> None:
        """`ctrl+c` copies what is selected; else it asks as `q` does, and takes that question back."""
        if copy_selected(self):
            self.notify("copied what is selected; ctrl+q quits", timeout=3, markup=False)
        elif self._asks_to_quit:
            self.screen.dismiss(False)
        else:
            self.action_command("quit")

    def action_move(self, where: str) -> None:
        """Move in the list or text that has the keyboard, by vim's keys."""
        move(self.screen, where)

    def attach(self, run: Run, process: subprocess.Popen[bytes] | None = None, offset: int = 0) -> None:
        """Show `run` on the run screen; `offset` = where a resumed worker's events begin."""
        self.deck.process_offset = offset
        self.deck.run, self.deck.process, self.deck.snapshot = run, process, None
        self.deck.put(RemediesState())
        self.switch_mode("run")

    def open_form(self, form: Form) -> None:
        """Show `form` on the profile screen, asking first when edits of another would be lost."""

        def take() -> None:
            self.deck.form = form
            self.switch_mode("profile")

        drop_edits(self, "drop them", take)

    do_fit = partialmethod(App.switch_mode, "fit")
    do_profile = partialmethod(App.switch_mode, "profile")
    do_run = partialmethod(App.switch_mode, "run")
    do_runs = partialmethod(App.switch_mode, "runs")
    do_cards = partialmethod(App.switch_mode, "cards")

    def do_results(self) -> None:
        """Go to the results of the run under the cursor, or of the attached one, or of the last one shown."""
        here = {"runs": self.deck.of(Selection).best_run, "run": self.deck.run}.get(self.current_mode)
        self.deck.chosen = here or self.deck.chosen or self.deck.run or self._newest_run()
        self.switch_mode("results")

    def _newest_run(self) -> Run | None:
        from engine.api import runs

        try:
            return next(iter(runs.list_runs()), None)
        except EngineError as error:
            self.notify(trouble(error), severity="error", timeout=6, markup=False)
            return None

    def do_palette(self) -> None:
        """Open the command palette."""
        self.action_command_palette()

    def do_theme(self) -> None:
        """Choose a theme."""
        if self.no_color:
            self.notify("NO_COLOR is set: a theme would change nothing", timeout=4, markup=False)
            return
        self.search_themes()

    def do_help(self) -> None:
        """Show the keys of this screen."""
        from tui.frame.help import help_screen

        screen = self.screen_stack[0]
        here = screen.help_here() if isinstance(screen, DeckScreen) else None
        self.push_screen(help_screen(self.commands, self.current_mode, here, self.settings))

    def do_jump(self) -> None:
        """Letters over everything that can be gone to."""
        from tui.frame.jump import JumpScreen

        screen = self.screen_stack[0]
        targets = screen.jump_targets() if isinstance(screen, DeckScreen) else []
        if targets:
            self.push_screen(JumpScreen(targets), lambda go: go() if go is not None else None)

    def do_back(self) -> None:
        """Let the screen step back, or go to the fit screen."""
        step = getattr(self.screen_stack[0], "step_back", None)
        if step is None or not step():
            self.switch_mode("fit")

    def do_suspend(self) -> None:
        """Leave the terminal to the shell until `fg`."""
        if self._driver is None or not self._driver.can_suspend or not can_come_back():
            self.notify("no shell is here that could bring the deck back", severity="warning", timeout=4, markup=False)
            return
        suspend_job()

    def do_quit(self) -> None:
        """Close the deck, asking first when edits would be lost."""
        self._quit_question = drop_edits(self, "quit without saving", self.exit)

    def _handle_exception(self, error: Exception) -> None:
        """Report without local variables, restore the terminal, end with code 1."""
        from tui.terminal.crash import crash_line, write_report

        self._return_code = 1
        if self._exception is None:
            self._exception = error
            self._exception_event.set()
            text = crash_line(error, write_report(error))
            rendered = self.error_console.render(Text(text), self.error_console.options)
            self._exit_renderables.append(Segments(list(rendered)))
        self._close_messages_no_wait()


if TYPE_CHECKING:

    def _as_deck(app: DeckApp) -> Deck:
        return app  # what screens may ask for is all there


class AttachedDeckApp(DeckApp):
    """`tunedeck RUN`: the same deck, opened on its run."""

    DEFAULT_MODE = "run"

    def __init__(self, options: Options, run: Run) -> None:
        super().__init__(options)
        self.deck.run = run
