"""Every command of the deck, once: keys, key bar, palette and help all come from this table.

A command is carried out by the method `do_<id>` of the screen it belongs to, or of the app when it
belongs to none. `available` gives the reason why it is not possible now, or None. Not here: what the
commands do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from textual.binding import Binding, BindingType

from tui.state import DeckState

Reason = Callable[[DeckState], str | None]
LIVE_STATES = ("running", "starting", "stopping")


def _always(state: DeckState) -> str | None:
    return None


def _needs_plan(state: DeckState) -> str | None:
    return None if state.plan is not None else "no model is highlighted"


def _needs_form(state: DeckState) -> str | None:
    return None if state.form is not None else "no profile is open: press o, or enter on a model of screen 1"


def _needs_undo(state: DeckState) -> str | None:
    return _needs_form(state) or (None if state.form and state.form.can_undo else "there is nothing to undo")


def _needs_redo(state: DeckState) -> str | None:
    return _needs_form(state) or (None if state.form and state.form.can_redo else "nothing was taken back")


def _needs_news(state: DeckState) -> str | None:
    return _needs_form(state) or (None if state.form and state.form.stale else "the file on disk is as it was read")


def _needs_run(state: DeckState) -> str | None:
    return None if state.run is not None else "no run is attached: choose one on screen 4"


def _needs_live(state: DeckState) -> str | None:
    if state.snapshot is None:
        return _needs_run(state) or "the run has not been read yet"
    if state.snapshot.state in LIVE_STATES:
        return None
    return f"this run is {state.snapshot.state}: no worker is there to ask"


def _needs_training(state: DeckState) -> str | None:
    reason = _needs_live(state)
    if reason is None and state.snapshot is not None and not state.snapshot.step:
        return "training has not begun yet"
    return reason


def _needs_remedy(state: DeckState) -> str | None:
    if state.snapshot is None or state.snapshot.state not in ("failed", "lost"):
        return _needs_run(state) or "only a run that failed needs one"
    if state.mending is None:
        return "still looking for one"
    return None if state.mending.found else "none is known: mend what the message says"


def _needs_row(state: DeckState) -> str | None:
    return None if state.row is not None else "there is no run here yet"


def _row_live(state: DeckState) -> str | None:
    if state.row is None or state.row.state in LIVE_STATES:
        return _needs_row(state)
    return f"this run is {state.row.state} already"


def _row_resumable(state: DeckState) -> str | None:
    if state.row is None:
        return _needs_row(state)
    if state.row.state in LIVE_STATES:
        return f"this run is {state.row.state}: attach to it with enter"
    return "this run is complete" if state.row.state == "completed" else None


def _row_dead(state: DeckState) -> str | None:
    if state.row is not None and state.row.state in LIVE_STATES:
        return "a running run cannot be deleted: stop it first with x"
    return _needs_row(state)


def _row_error(state: DeckState) -> str | None:
    if state.row is None or state.row.error:
        return _needs_row(state)
    return "this run reported no error"


@dataclass(frozen=True, slots=True)
class Command:
    """One thing that hands can do. `screen` empty = everywhere; `bar` = place in the key bar, 0 = not in it.

    `rare` = stands in the key bar only while it is possible.
    """

    id: str
    key: str
    label: str
    help: str
    screen: str = ""
    available: Reason = _always
    bar: int = 0
    rare: bool = False


COMMANDS: tuple[Command, ...] = (
    Command("help", "question_mark,f1", "help", "Show the keys of this screen", bar=1),
    Command("fit", "1", "fit", "What this machine can tune"),
    Command("profile", "2", "profile", "The settings of a run"),
    Command("run", "3", "run", "The attached run, live"),
    Command("runs", "4", "runs", "All runs: attach, resume, delete"),
    Command("palette", "ctrl+p", "commands", "Find a command by name", bar=90),
    Command("jump", "ctrl+o,f3", "jump", "Go to anything on the screen by a letter"),
    Command("theme", "", "theme", "Choose other colours"),
    Command("back", "escape", "back", "Leave a field, a filter or a zoom; then the screen before"),
    Command("quit", "q", "quit", "Close the deck; runs go on without it", bar=99),
    # Fit
    Command(
        "open", "enter", "estimate", "The estimate term by term; enter again makes a profile", "fit", _needs_plan, 10
    ),
    Command("make", "p", "profile", "Make a profile from the highlighted plan", "fit", _needs_plan, bar=11),
    Command("what_if", "w", "what-if card", "Show what another card could tune", "fit", bar=13),
    Command("filter", "slash", "filter", "Show only models with some words or requirements", "fit", bar=12),
    Command("context", "c", "context", "Change the tokens of one sequence", "fit"),
    Command("task", "t", "task", "Say how hard the task is: simple, medium, high, extreme", "fit"),
    Command("goal", "g", "goal", "Prefer quality or speed", "fit"),
    Command("device", "d", "device", "Plan for another device of this machine", "fit"),
    Command("probe", "r", "probe again", "Look at the machine again and rank anew", "fit"),
    # Profile
    Command("save", "ctrl+s", "save", "Write the profile to its file", "profile", _needs_form, bar=10),
    Command("start", "ctrl+r", "run", "Save what was edited and start the run", "profile", _needs_form, bar=11),
    Command(
        "data", "d", "data", "What becomes of the data, and which tokens are trained", "profile", _needs_form, bar=12
    ),
    Command("undo", "u", "undo", "Take the last edit back", "profile", _needs_undo),
    Command("redo", "U,ctrl+y", "redo", "Make the edit again that was taken back", "profile", _needs_redo),
    Command("auto", "a", "auto", "Leave this setting to the machine", "profile", _needs_form),
    Command("diff", "equals_sign", "diff", "Compare with the file, or with a shipped profile", "profile", _needs_form),
    Command("save_as", "S", "save as", "Write the profile to another file", "profile", _needs_form),
    Command("reload", "R", "take over", "Take over what the file says now", "profile", _needs_news, bar=9, rare=True),
    Command("advanced", "v", "advanced", "Show or hide advanced settings", "profile", _needs_form),
    Command("problem", "n", "next problem", "Go to the field of the next problem", "profile", _needs_form),
    Command("load", "o", "open", "Open another profile", "profile", bar=13),
    Command("new", "N", "new", "New profile for the built-in demo model", "profile"),
    # Run
    Command("checkpoint", "c", "checkpoint", "Save a checkpoint now", "run", _needs_training, bar=10),
    Command("evaluate", "v", "evaluate", "Evaluate now", "run", _needs_training, bar=11),
    Command("stop", "x", "stop", "Stop the run after a checkpoint", "run", _needs_live, bar=12),
    Command("remedy", "m", "remedy", "Do the first remedy of a failed run", "run", _needs_remedy, bar=9, rare=True),
    Command("remedies", "M", "remedies", "Choose among the remedies of a failed run", "run", _needs_remedy),
    Command("log", "l", "log", "Give the log the whole screen", "run", _needs_run, bar=13),
    Command("search", "slash", "find", "Show only lines of the log with some words", "run", _needs_run),
    Command("worker_log", "w", "worker's log", "Read the end of what the worker printed", "run", _needs_run),
    Command("chart", "t", "next curve", "Loss, learning rate, gradient norm, tokens/s, memory", "run", _needs_run),
    Command("smooth", "s", "smoothing", "None, light, normal, strong", "run", _needs_run),
    Command("zoom_in", "plus,equals_sign", "closer", "Half as much of the curve", "run", _needs_run),
    Command("zoom_out", "minus", "wider", "Twice as much of the curve", "run", _needs_run),
    Command("whole", "0", "whole curve", "All of the curve, without crosshair", "run", _needs_run),
    Command("left", "left", "left", "Crosshair: values at a step; further left", "run", _needs_run),
    Command("right", "right", "right", "Crosshair: values at a step; further right", "run", _needs_run),
    Command("far_left", "comma,shift+left", "far left", "Crosshair ten columns left", "run", _needs_run),
    Command("far_right", "full_stop,shift+right", "far right", "Crosshair ten columns right", "run", _needs_run),
    Command("zoom", "z", "zoom", "Give the curve the whole screen", "run", _needs_run),
    Command("pause", "p", "pause view", "Hold this picture still; the run goes on", "run", _needs_run),
    Command("copy", "y", "copy log", "Copy the log to the clipboard and to a file", "run", _needs_run),
    Command("follow", "G,end", "follow log", "Go to the end of the log and follow it", "run", _needs_run),
    # Runs
    Command("attach", "enter", "attach", "Show this run", "runs", _needs_row, bar=10),
    Command("resume", "r", "resume", "Go on from the newest checkpoint", "runs", _row_resumable, bar=11),
    Command("halt", "x", "stop", "Stop this run after a checkpoint", "runs", _row_live, bar=12),
    Command("delete", "d", "delete", "Delete this run and its files", "runs", _row_dead, bar=13),
    Command("error", "e", "error", "Say why this run failed", "runs", _row_error),
)

BY_ID = {command.id: command for command in COMMANDS}
SCREENS = tuple(dict.fromkeys(command.screen for command in COMMANDS if command.screen))

_KEY_NAMES = {
    "question_mark": "?", "slash": "/", "equals_sign": "=", "escape": "esc", "plus": "+", "minus": "-", "comma": ",",
    "full_stop": ".", "semicolon": ";", "colon": ":", "exclamation_mark": "!", "number_sign": "#", "ampersand": "&",
    "underscore": "_", "asterisk": "*", "at": "@", "backslash": "\\", "tilde": "~",
}  # fmt: skip
NO_KEYS: Mapping[str, str] = {}


def key_label(command: Command, keys: Mapping[str, str] = NO_KEYS) -> str:
    """The first key as a person reads it: `?`, `^s`, `enter`. `keys`: other ones that a person chose, by command."""
    key = keys.get(command.id, command.key).split(",")[0]
    *modifiers, last = key.split("+")
    shown = "+".join([*modifiers, _KEY_NAMES.get(last, last)])
    return shown.replace("ctrl+", "^")


def bindings(screen: str) -> list[BindingType]:
    """Textual bindings of one screen (empty = of the app); ids allow remapping through a keymap."""
    return [
        Binding(command.key, f"app.command('{command.id}')", command.label, show=False, id=f"deck.{command.id}")
        for command in COMMANDS
        if command.screen == screen and command.key
    ]


def commands_of(screen: str) -> list[Command]:
    """Commands that a screen offers: its own first, then those of every screen."""
    own = [command for command in COMMANDS if command.screen == screen]
    return own + [command for command in COMMANDS if not command.screen]


def key_bar(screen: str, state: DeckState | None = None) -> list[Command]:
    """At most six commands for the last line, `?` first; with a state, what is possible now before what is not."""
    shown = sorted((command for command in commands_of(screen) if command.bar), key=lambda command: command.bar)
    own = [command for command in shown if command.screen]
    if state is not None:
        own = [command for command in own if command.available(state) is None or not command.rare]
        own.sort(key=lambda command: command.available(state) is not None)
    else:
        own = [command for command in own if not command.rare]
    own = own[: 3 if screen == "" else 4]
    everywhere = [command for command in shown if not command.screen]
    ends = [command for command in everywhere if command.bar >= 90]
    kept = ([everywhere[0]] if everywhere else []) + own
    return kept + ends[-(6 - len(kept)) :] if len(kept) < 6 else kept
