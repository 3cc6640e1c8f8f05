"""Every command of the deck, once: keys, key bar, palette and help all come from this table.

A command is carried out by the method `do_<id>` of the screen it belongs to, or of the app when it
belongs to none. `available` gives the reason why it is not possible now, or None. Not here: what the
commands do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from textual.binding import Binding, BindingType

from tui.frame.session import DeckState

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


def _needs_space(state: DeckState) -> str | None:
    varied = state.form is not None and state.form.given("sweep.space")
    return _needs_form(state) or (None if varied else "nothing is varied: give sweep.space values to try")


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
    if state.remedies is None:
        return "still looking for one"
    return None if state.remedies.items else "none is known: mend what the message says"


def _needs_row(state: DeckState) -> str | None:
    if state.row is not None:
        return None
    return "this is a sweep: enter shows its trials" if state.sweep is not None else "there is no run here yet"


def _row_or_sweep(state: DeckState) -> str | None:
    return None if state.sweep is not None else _needs_row(state)


def _row_live(state: DeckState) -> str | None:
    one = state.row or state.sweep
    if one is None or one.state in LIVE_STATES:
        return _row_or_sweep(state)
    return f"this {_kind(state)} is {one.state} already"


def _row_resumable(state: DeckState) -> str | None:
    one = state.row or state.sweep
    if one is None or one.state in ("stopped", "failed", "lost"):
        return _row_or_sweep(state)
    if one.state in LIVE_STATES:
        return f"this {_kind(state)} is {one.state}: enter shows it"
    return f"this {_kind(state)} is complete" if one.state == "completed" else f"this {_kind(state)} is {one.state}"


def _row_dead(state: DeckState) -> str | None:
    one = state.row or state.sweep
    if one is not None and one.state in LIVE_STATES:
        return f"a running {_kind(state)} cannot be deleted: stop it first with x"
    return _row_or_sweep(state)


def _kind(state: DeckState) -> str:
    return "sweep" if state.sweep is not None else "run"


def _row_error(state: DeckState) -> str | None:
    if state.row is None or state.row.error:
        return _needs_row(state)
    return "this run reported no error"


def _two_marked(state: DeckState) -> str | None:
    if len(state.marked) >= 2:
        return None
    return f"{len(state.marked) or 'no'} run{'' if len(state.marked) == 1 else 's'} marked: mark two or more with space"


def _any_marked(state: DeckState) -> str | None:
    return None if state.marked else "no run is marked"


def _can_ask(state: DeckState) -> str | None:
    return state.results.cannot_ask or None


def _can_evaluate(state: DeckState) -> str | None:
    if state.results.evaluating:
        return "an evaluation is under way: x ends it"
    return state.results.cannot_evaluate or None


def _can_write(state: DeckState) -> str | None:
    if state.results.exporting:
        return "an export is under way: x ends it"
    return _can_ask(state) or _in_view("export", "e")(state)


def _under_way(state: DeckState) -> str | None:
    results = state.results
    return None if results.evaluating or results.exporting or results.answering else "nothing is under way"


def _has_samples(state: DeckState) -> str | None:
    return _in_view("scores", "s")(state) or (None if state.results.samples else "there is no sample here")


def _in_view(view: str, key: str) -> Reason:
    def reason(state: DeckState) -> str | None:
        return None if state.results.view == view else f"that belongs to the {view} view: press {key}"

    return reason


@dataclass(frozen=True, slots=True)
class Command:
    """One thing that hands can do. `screen` empty = everywhere; `bar` = place in the key bar, 0 = not in it.

    `rare` = stands in the key bar only while it is possible; `view` = the only view of the screen whose key bar has it;
    `aside` = leaves an open field as it is: every other command first takes what was typed there, or is refused.
    """

    id: str
    key: str
    label: str
    help: str
    screen: str = ""
    available: Reason = _always
    bar: int = 0
    rare: bool = False
    view: str = ""
    aside: bool = False


COMMANDS: tuple[Command, ...] = (
    Command("help", "question_mark,f1", "help", "Show the keys of this screen", bar=1, aside=True),
    Command("fit", "1", "fit", "What this machine can tune"),
    Command("profile", "2", "profile", "The settings of a run"),
    Command("run", "3", "run", "The attached run, live"),
    Command("runs", "4", "runs", "All runs: attach, compare, resume, delete"),
    Command("results", "5", "results", "What a run has come to: scores, samples, chat, export"),
    Command("palette", "ctrl+p", "commands", "Find a command by name", bar=90, aside=True),
    Command("jump", "ctrl+o,f3", "jump", "Go to anything on the screen by a letter"),
    Command("theme", "", "theme", "Choose other colours", aside=True),
    Command("back", "escape", "back", "Leave a field, a filter or a zoom; then the screen before", aside=True),
    Command("quit", "q", "quit", "Close the deck; runs go on without it (ctrl+q and ctrl+c too)", bar=99),
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
    Command("device", "d", "device", "Choose the GPU, MIG slice or processor; a new profile keeps it", "fit"),
    Command("copy_fit", "Y", "copy command", "Copy the shell command that answers the same", "fit"),
    Command("probe", "r", "probe again", "Look at the machine again and rank anew", "fit"),
    # Profile
    Command("save", "ctrl+s", "save", "Write the profile to its file", "profile", _needs_form, bar=10),
    Command("start", "ctrl+r", "run", "Save what was edited and start the run", "profile", _needs_form, bar=11),
    Command(
        "data", "d", "data", "What becomes of the data, and which tokens are trained", "profile", _needs_form, bar=12
    ),
    Command(
        "sweep",
        "w",
        "sweep",
        "Search over the settings of sweep.space; says first what it takes",
        "profile",
        _needs_space,
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
    Command("attach", "enter", "show", "Show this run, or the trials of this sweep", "runs", _row_or_sweep, bar=10),
    Command("mark", "space", "mark", "Mark this run to compare it, or take the mark away", "runs", _needs_row, bar=11),
    Command("compare", "c", "compare", "Compare marked runs: curves, numbers, settings", "runs", _two_marked, bar=12),
    Command("unmark", "U", "unmark all", "Take all marks away", "runs", _any_marked),
    Command("find", "slash", "filter", "Show only runs with these words", "runs", bar=13),
    Command("state_filter", "f", "states", "Show only runs of one state", "runs"),
    Command("sort", "o", "order", "Sort by age, name, state, best evaluation or steps", "runs"),
    Command("fold", "t", "fold sweeps", "Show the trials of sweeps among the runs, or fold them", "runs"),
    Command("evaluation", "v", "results", "What this run, or a sweep's best, has come to", "runs", _row_or_sweep),
    Command("resume", "r", "resume", "Go on where this run or sweep stopped", "runs", _row_resumable),
    Command("reuse", "u", "use settings", "These settings, or a sweep's best, as a new profile", "runs", _row_or_sweep),
    Command("halt", "x", "stop", "Stop this run or sweep after a checkpoint", "runs", _row_live),
    Command("delete", "d", "delete", "Delete this run or sweep and its files", "runs", _row_dead),
    Command("error", "e", "error", "Say why this run failed", "runs", _row_error),
    Command("copy_row", "y", "copy", "Copy the folder of this run or sweep", "runs", _row_or_sweep),
    # Compare
    Command("curve", "m", "curve", "Another curve: loss, evaluation, rate, gradient, speed", "compare", bar=10),
    Command("powers", "l", "log scale", "Show values as powers of ten, or plainly", "compare", bar=11),
    Command("zoom_curve", "z", "zoom", "Give the curves the whole screen", "compare"),
    Command("all_settings", "a", "all settings", "Show all settings, or only those that differ", "compare", bar=12),
    Command("copy_table", "y", "copy", "Copy the tables to the clipboard and to a file", "compare", bar=13),
    # Results
    Command("scores", "s", "scores", "Base against tuned, and samples", "results"),
    Command("chat", "c", "chat", "Talk with this run's model", "results", _can_ask, bar=11, view="scores"),
    Command("export", "e", "export", "Choose what is written, see how it compared", "results", bar=12, view="scores"),
    Command(
        "measure",
        "v",
        "evaluate",
        "Score base and tuned on unseen rows",
        "results",
        _can_evaluate,
        bar=10,
        view="scores",
    ),
    Command("measure_rows", "V", "evaluate n", "Evaluate on another number of rows", "results", _can_evaluate),
    Command(
        "toggle",
        "space",
        "choose",
        "Choose this format or not",
        "results",
        _in_view("export", "e"),
        bar=10,
        view="export",
    ),
    Command("write", "w", "write", "Write the chosen formats", "results", _can_write, bar=11, view="export"),
    Command(
        "answerer",
        "ctrl+t",
        "base/tuned",
        "Let the other model talk",
        "results",
        _in_view("chat", "c"),
        bar=10,
        view="chat",
    ),
    Command("cease", "x", "end job", "End the evaluation, export or answer that is under way", "results", _under_way),
    Command("read", "enter", "read", "Read the whole sample", "results", _has_samples),
    Command("seek", "slash", "filter", "Show only samples with these words", "results", _in_view("scores", "s")),
    Command("which", "f", "which", "All samples, those gained, lost or wrong", "results", _in_view("scores", "s")),
    Command(
        "enlarge", "z", "zoom", "Samples, scores, or both", "results", _in_view("scores", "s"), bar=13, view="scores"
    ),
    Command("copy_results", "y,ctrl+y", "copy", "Copy what is shown to the clipboard and to a file", "results"),
    Command("copy_twin", "Y", "copy command", "Copy the shell command of this view", "results"),
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
    """At most six commands for the last line, `?` first; with a state, what is possible now before what is not.

    Of a screen with views only those of the view it shows.
    """
    shown = sorted((command for command in commands_of(screen) if command.bar), key=lambda command: command.bar)
    own = [command for command in shown if command.screen]
    if state is not None:
        own = [command for command in own if command.available(state) is None or not command.rare]
        own = [command for command in own if command.view in ("", state.results.view)]
        own.sort(key=lambda command: command.available(state) is not None)
    else:
        own = [command for command in own if not command.rare]
    own = own[: 3 if screen == "" else 4]
    everywhere = [command for command in shown if not command.screen]
    ends = [command for command in everywhere if command.bar >= 90]
    kept = ([everywhere[0]] if everywhere else []) + own
    return kept + ends[-(6 - len(kept)) :] if len(kept) < 6 else kept
