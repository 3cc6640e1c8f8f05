"""The commands of screen 5, and why one is not possible now."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tui.frame.commands import Command, Reason, Shown

if TYPE_CHECKING:
    from engine.api.runs import Run
    from tui.frame.session import DeckState
    from tui.results.reader import Results


@dataclass(frozen=True, slots=True)
class ResultsState:
    """What the commands of the results screen must know of it."""

    view: str = "scores"
    """`scores`, `chat` or `export`."""
    cannot_ask: str = "no run is chosen: pick one on screen 4"
    """Why the run's model can be neither talked with nor exported; empty when it can."""
    cannot_evaluate: str = "no run is chosen: pick one on screen 4"
    evaluating: bool = False
    exporting: bool = False
    answering: bool = False
    scored: bool = False
    """Whether there are scores."""
    samples: bool = False
    """Whether a sample is under the cursor."""
    prompts: int = 0
    """Prompts that the run answered while it learned."""


UNREAD = "the run is being read"


def results_state(
    run: Run | None, results: Results | None, view: str, answering: bool, has_sample: bool
) -> ResultsState:
    """What the commands must know: of the chosen run, of what was read of it, and of the view that is shown."""
    if results is None:
        state = ResultsState(view, answering=answering, samples=has_sample)
        return replace(state, cannot_ask=UNREAD) if run is not None else state
    return ResultsState(
        view,
        cannot_ask=results.reason,
        cannot_evaluate=results.no_evaluation,
        evaluating=results.evaluation.state == "running",
        exporting=results.export.state == "running",
        answering=answering,
        scored=results.report is not None,
        samples=has_sample,
        prompts=results.prompts,
    )


def _can_ask(state: DeckState) -> str | None:
    return state.of(ResultsState).cannot_ask or None


def _can_evaluate(state: DeckState) -> str | None:
    if state.of(ResultsState).evaluating:
        return "an evaluation is under way: x ends it"
    return state.of(ResultsState).cannot_evaluate or None


def _can_write(state: DeckState) -> str | None:
    if state.of(ResultsState).exporting:
        return "an export is under way: x ends it"
    return _can_ask(state) or _in_view("export", "e")(state)


def _under_way(state: DeckState) -> str | None:
    results = state.of(ResultsState)
    return None if results.evaluating or results.exporting or results.answering else "nothing is under way"


def _needs_run(state: DeckState) -> str | None:
    return None if state.chosen is not None else "no run is chosen: pick one on screen 4"


def _has_samples(state: DeckState) -> str | None:
    return _in_view("scores", "s")(state) or (None if state.of(ResultsState).samples else "there is no sample here")


def _has_scores(state: DeckState) -> str | None:
    unscored = None if state.of(ResultsState).scored else "nothing is scored yet: press v"
    return _in_view("scores", "s")(state) or unscored


def _has_answers(state: DeckState) -> str | None:
    if reason := _needs_run(state):
        return reason
    return None if state.of(ResultsState).prompts else "it answered nothing: evaluate.prompts of a profile asks"


def _in_view(view: str, key: str) -> Reason:
    def reason(state: DeckState) -> str | None:
        return None if state.of(ResultsState).view == view else f"that belongs to the {view} view: press {key}"

    return reason


def _shows(view: str) -> Shown:
    return lambda state: state.of(ResultsState).view == view


RESULTS_COMMANDS: tuple[Command, ...] = (
    Command("scores", "s", "scores", "Base against tuned, and samples", "results"),
    Command("chat", "c", "chat", "Talk with this run's model", "results", _can_ask, bar=11, in_bar=_shows("scores")),
    Command(
        "export",
        "e",
        "export",
        "Choose what is written, see how it compared",
        "results",
        bar=12,
        in_bar=_shows("scores"),
    ),
    Command(
        "measure",
        "v",
        "evaluate",
        "Score base and tuned on unseen rows",
        "results",
        _can_evaluate,
        bar=10,
        in_bar=_shows("scores"),
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
        in_bar=_shows("export"),
    ),
    Command("write", "w", "write", "Write the chosen formats", "results", _can_write, bar=11, in_bar=_shows("export")),
    Command(
        "answerer",
        "ctrl+t",
        "base/tuned",
        "Let the other model talk",
        "results",
        _in_view("chat", "c"),
        bar=10,
        in_bar=_shows("chat"),
    ),
    Command(
        "both",
        "ctrl+b,f2",
        "both",
        "Let base and tuned answer each question, beside each other",
        "results",
        _in_view("chat", "c"),
        bar=11,
        in_bar=_shows("chat"),
    ),
    Command(
        "cease",
        "x",
        "end it",
        "End the evaluation, export or answer that is under way",
        "results",
        _under_way,
        bar=9,
        rare=True,
    ),
    Command("overview_result", "i", "overview", "Everything about this run on one page", "results", _needs_run),
    Command("read", "enter", "read", "Read the whole sample", "results", _has_samples),
    Command("seek", "slash", "filter", "Show only samples with these words", "results", _in_view("scores", "s")),
    Command("which", "f", "which", "All samples, those gained, lost or wrong", "results", _in_view("scores", "s")),
    Command(
        "answers_then",
        "a",
        "answers",
        "Read what it answered to your prompts, step by step",
        "results",
        _has_answers,
        bar=13,
        rare=True,
        in_bar=_shows("scores"),
    ),
    Command(
        "enlarge",
        "z",
        "zoom",
        "Samples, scores, or both",
        "results",
        _has_scores,
        bar=13,
        in_bar=_shows("scores"),
    ),
    Command("copy_results", "y,ctrl+y", "copy", "Copy what is shown to the clipboard and to a file", "results"),
    Command("copy_twin", "Y", "copy command", "Copy the shell command of this view", "results"),
)
