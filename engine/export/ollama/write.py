"""Writes the Modelfile of an export and says what its TEMPLATE was proved on, and what it lacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.data.chat import bos_text, render, trained_template
from engine.data.conversation import Conversation, conversation_of
from engine.data.examples import RowProblem
from engine.errors import EngineError
from engine.export.ollama.go_write import escaped
from engine.export.ollama.modelfile import Modelfile, Unwritable, quoted
from engine.export.ollama.prove import Derived, conversation_text, derive, told
from engine.export.ollama.values import kept, values_of
from engine.export.report import OllamaReport
from engine.inference.rows import HeldOut, choose, read_held_out
from engine.inference.run import OpenedRun
from engine.runs.job import Job

OWN_ROWS = 50
"""Held-out conversations of the run that are compared beside the random ones."""
OWN_CHARACTERS = 20_000
"""Of the longest held-out conversation that is compared."""
REMEDY = (
    "serve the GGUF with llama.cpp (llama-server --jinja), which runs the chat template itself, or train with another"
    " data.template"
)
PART_REMEDY = "for these, serve the GGUF with llama.cpp (llama-server --jinja), which runs the chat template itself"


MOST_SHOWN = 2000
"""Characters of a conversation in a warning."""
USUAL_CONTEXT = 4096
"""Tokens that Ollama gives a model of its own accord: a shorter context is not asked for."""


def write_modelfile(job: Job, trained: OpenedRun, tokenizer: Any, folder: Path, file: str) -> OllamaReport:
    """`folder`/Modelfile for the GGUF `file`; what was found about its TEMPLATE, and warnings for what it lacks."""
    job.phase("export", "Modelfile")
    settings = trained.settings
    derived = _derived(trained, tokenizer) if tokenizer.chat_template else _plain(tokenizer)
    length = int(settings.model.max_length)
    made = Modelfile(
        file,
        derived.text,
        settings.data.system if settings.data.system.strip() else None,
        trained.data().ends,
        length if length > USUAL_CONTEXT else None,
        _remarks(derived),
    )
    writable, problems = _writable(made)
    warned = [*_warnings(derived), *problems]
    for warning in warned:
        job.warn("ollama_template", warning)
    (folder / "Modelfile").write_text(writable.text(), encoding="utf-8")
    proof = derived.proof
    return OllamaReport(
        derived.text is not None, proof.compared, proof.equal, derived.covers, derived.lost, tuple(warned)
    )


def _derived(trained: OpenedRun, tokenizer: Any) -> Derived:
    template = trained_template(trained.settings, tokenizer)

    def ask(conversations: Sequence[Conversation], generation: bool) -> list[str | RowProblem]:
        return render(tokenizer, template, conversations, generation=generation)

    try:
        return derive(ask, template.arguments, _own(trained))
    except EngineError as error:
        return Derived(None, why=error.message)
    except Exception as error:
        # The export is good without a TEMPLATE: nothing in one may take it away.
        return Derived(None, why=f"looking for one failed: {type(error).__name__}: {error}"[:200])


def _plain(tokenizer: Any) -> Derived:
    """Of a model that goes on with a text."""
    return Derived(escaped(bos_text(tokenizer)) + "{{ .Prompt }}")


def _own(trained: OpenedRun) -> list[Conversation]:
    """Held-out conversations up to their last answer, as Ollama would be given them."""
    try:
        rows = [row for row in read_held_out(trained.run_dir) if row.has_prompt]
    except EngineError:
        return []
    return [sent for row in choose(rows, OWN_ROWS) if (sent := _sent(row)) is not None]


def _sent(row: HeldOut) -> Conversation | None:
    """What Ollama hands on of a row.

    None where it refuses it or spells its numbers otherwise than training did, and for a row that takes too long.
    """
    try:
        made = kept(conversation_of(row.example, row.example.messages[:-1]))
        values_of(made)
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError, RecursionError):
        return None
    return made if made.characters <= OWN_CHARACTERS else None


def _warnings(derived: Derived) -> list[str]:
    shown = ""
    if derived.shown:
        asked = conversation_text(derived.shown.conversation)
        cut = f"{asked[:MOST_SHOWN]}... ({len(asked)} characters)" if len(asked) > MOST_SHOWN else asked
        shown = f". For example: {told(derived.shown)}, in {cut}"
    if derived.text is None:
        return [
            f"Ollama's templates cannot write what this chat template writes ({derived.why}). The Modelfile has"
            f" no TEMPLATE, and Ollama may guess a wrong one: {REMEDY}{shown}"
        ]
    if not derived.reads_calls:
        calls = ["Ollama finds calls in answers as JSON alone: those of this chat template come back as text"]
        return [*calls, *_warnings(replace(derived, reads_calls=True))]
    if derived.lost:
        lost = " and no ".join(derived.lost)
        return [f"the Modelfile's TEMPLATE writes no {lost} ({derived.why}). {PART_REMEDY}{shown}"]
    return []


def _remarks(derived: Derived) -> list[str]:
    proof = derived.proof
    if derived.text is None:
        return [f"No TEMPLATE: Ollama's cannot write this chat template ({derived.why}).", f"Better: {REMEDY}."]
    if not proof.compared:
        return ["Trained on plain text: the model goes on with what it is given."]
    said = [f"TEMPLATE writes {proof.equal} of {proof.compared} conversations as the chat template of training does."]
    return said + ([f"It writes no {' and no '.join(derived.lost)}: {PART_REMEDY}."] if derived.lost else [])


def _writable(made: Modelfile) -> tuple[Modelfile, list[str]]:
    """Without the texts that no Modelfile can hold, and which these are."""
    problems, stops = [], []
    for stop in made.stops:
        try:
            quoted(stop)
            stops.append(stop)
        except Unwritable as error:
            problems.append(f"the Modelfile does not name {stop!r}, which ends an answer: {error}")
    try:
        quoted(made.system or "")
        return replace(made, stops=tuple(stops)), problems
    except Unwritable as error:
        problems.append(
            f"the Modelfile has no SYSTEM: {error}. Give data.system with each request, or spell it plainer"
        )
        return replace(made, stops=tuple(stops), system=None), problems
