"""Choosing a chat template and writing conversations with it.

`rendering.py` runs templates, `adapt.py` puts conversations into the form that one reads, `mask.py` finds the trained
parts of what is written here. Whoever saves a tokenizer after training stores `ChatTemplate.source` with it, so that
inference writes what training saw.
"""

from __future__ import annotations

import difflib
import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from engine.data.adapt import adapt
from engine.data.conversation import Conversation
from engine.data.examples import RowProblem
from engine.data.reads import Reads, reads_of, shared_of
from engine.data.rendering import run_template, template_error
from engine.data.templates import MARKS, template_source
from engine.data.written import MarksAs
from engine.errors import EngineError, ExitCode
from engine.files import write_text_atomic
from engine.profile.schema import Profile
from engine.profile.template_file import KEPT, is_template_file, read_template

Tokenizer = Any
"""A transformers.PreTrainedTokenizerFast (TokenizersBackend)."""

MAX_TEMPLATE_CHARS = 256 * 1024
"""The longest template of a published model is near 20,000 characters."""


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """How conversations are written: name, Jinja source, why it was taken, and what to tell the person."""

    name: str
    source: str
    why: str
    warnings: tuple[str, ...] = ()
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """What the profile hands to the template; a row's own go first."""
    marks: frozenset[str] = frozenset()
    """Tokens that the profile added: they are tokens wherever text spells them."""
    marks_as: MarksAs = "auto"
    """What other special tokens are that rows spell out."""


def template_of(settings: Profile, tokenizer: Tokenizer, base_dir: Path, run_dir: Path | None = None) -> ChatTemplate:
    """The template that a profile asks for, with its arguments and marks: of training, checks and previews.

    A template from a file is kept in `run_dir`, and read from there when the run goes on.
    """
    name = settings.data.template
    if run_dir is None or not is_template_file(name):
        return _as_asked(tokenizer, choose_template(tokenizer, name, base_dir), settings)
    kept = run_dir / KEPT
    if not kept.is_file():
        write_text_atomic(kept, read_template(name, base_dir))
    return _as_asked(tokenizer, replace(choose_template(tokenizer, KEPT, run_dir), name=name), settings)


def trained_template(settings: Profile, tokenizer: Tokenizer) -> ChatTemplate:
    """The template that a run's tokenizer keeps, with the arguments and marks of its training: of chat and scores."""
    return _as_asked(tokenizer, choose_template(tokenizer), settings)


def _as_asked(tokenizer: Tokenizer, template: ChatTemplate, settings: Profile) -> ChatTemplate:
    marks = frozenset(settings.model.additional_special_tokens)
    asked = replace(template, arguments=settings.data.template_arguments, marks=marks, marks_as=settings.data.marks)
    return with_start(tokenizer, asked)


def with_start(tokenizer: Tokenizer, template: ChatTemplate) -> ChatTemplate:
    """The template with the start of an answer added, where it writes one in training text but not for generation."""
    header = reads_with(tokenizer, template)().header
    if not header:
        return template
    source = template.source.removesuffix("\n")
    source += f"{{{{ {json.dumps(header, ensure_ascii=False)} if add_generation_prompt else '' }}}}"
    warning = f"the template has no generation prompt: {header!r} is added to it, so that answers begin as in training"
    return replace(template, source=source, warnings=(*template.warnings, warning))


def choose_template(tokenizer: Tokenizer, name: str = "auto", base_dir: Path = Path()) -> ChatTemplate:
    """The template that `data.template` names; `auto` = the model's own, else a fall-back with a warning.

    A name that ends in .jinja is a file, relative to `base_dir`.

    The fall-back is chatml where the tokenizer knows its marks as tokens, else alpaca: plain text that
    any base model can read, ended by the end-of-sequence token it already knows. Raises
    EngineError(PROFILE) for an unknown name, EngineError(MODEL) for an unreasonable template.
    """
    if is_template_file(name):
        return ChatTemplate(name, read_template(name, base_dir), "a file that the profile names")
    if name != "auto":
        return _named(tokenizer, name)
    own = _own_source(tokenizer)
    if own:
        if len(own) > MAX_TEMPLATE_CHARS:
            raise template_error(f"the model's chat template is {len(own)} characters long")
        return ChatTemplate("auto", own, "the model's own template")
    fallback = "chatml" if all(_is_token(tokenizer, mark) for mark in MARKS["chatml"]) else "alpaca"
    warning = f"the model has no chat template; '{fallback}' is used - set data.template to choose another"
    chosen = _named(tokenizer, fallback)
    return ChatTemplate(fallback, chosen.source, "the model has no template", (warning, *chosen.warnings))


def _own_source(tokenizer: Tokenizer) -> str:
    own = tokenizer.chat_template
    if isinstance(own, dict):
        own = own.get("default") or next(iter(own.values()), "")
    if own is not None and not isinstance(own, str):
        raise template_error(f"the model's chat template is no text but {type(own).__name__}: {str(own)[:60]}")
    return own or ""


def _named(tokenizer: Tokenizer, name: str) -> ChatTemplate:
    if name not in MARKS:
        near = difflib.get_close_matches(name, MARKS, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known: auto, {', '.join(MARKS)}"
        raise EngineError(f"no chat template '{name}'", code=ExitCode.PROFILE, where="data.template", hint=hint)
    source = template_source(name)
    if _adds_bos(tokenizer):
        source = "{{- bos_token -}}" + source
    split = [mark for mark in MARKS[name] if not _is_token(tokenizer, mark)]
    warnings = []
    if split:
        warnings.append(
            f"template '{name}': this model does not know {', '.join(split)} as tokens; they are written as plain text"
        )
    return ChatTemplate(name, source, "named in the profile", tuple(warnings))


def _is_token(tokenizer: Tokenizer, text: str) -> bool:
    return any(token.content == text for token in tokenizer.added_tokens_decoder.values())


def _adds_bos(tokenizer: Tokenizer) -> bool:
    """Whether the tokenizer puts the begin-of-text token before plain text by itself."""
    if tokenizer.bos_token_id is None:
        return False
    with_special = tokenizer("a").input_ids
    bare = tokenizer("a", add_special_tokens=False).input_ids
    return len(with_special) > len(bare) and with_special[0] == tokenizer.bos_token_id


def bos_text(tokenizer: Tokenizer) -> str:
    """What to put before a text that no template renders: the begin-of-text token, or nothing."""
    return str(tokenizer.bos_token) if _adds_bos(tokenizer) else ""


def render(
    tokenizer: Tokenizer, template: ChatTemplate, conversations: Sequence[Conversation], *, generation: bool
) -> list[str | RowProblem]:
    """Each conversation as text; a RowProblem where the template refuses it or would drop a part of it.

    `generation` appends the start of an answer. A date of today that the template writes is fixed, so that a run
    resumed tomorrow sees the same tokens. Raises EngineError(MODEL) for a template that is broken, takes too long, or
    writes far more than the messages hold.
    """
    reads = reads_with(tokenizer, template)
    found: list[str | RowProblem] = []
    asked: list[Conversation] = []
    for conversation in conversations:
        try:
            asked.append(adapt(conversation, reads))
            found.append("")
        except RowProblem as problem:
            found.append(problem)
    shared = shared_of(tokenizer, template.arguments)
    texts = iter(run_template(template.source, asked, shared, generation=generation))
    return [one if isinstance(one, RowProblem) else next(texts) for one in found]


def reads_with(tokenizer: Tokenizer, template: ChatTemplate) -> functools.partial[Reads]:
    """Finds out, when called, what the template reads."""
    shared = json.dumps(shared_of(tokenizer, template.arguments), sort_keys=True, default=str)
    return functools.partial(reads_of, template.source, shared)


def adapted(tokenizer: Tokenizer, template: ChatTemplate, conversation: Conversation) -> Conversation:
    """The conversation as this template reads it, with the profile's arguments: for plain transformers.

    Raises RowProblem for what the template would drop.
    """
    made = adapt(conversation, reads_with(tokenizer, template))
    return replace(made, arguments={**template.arguments, **made.arguments})
