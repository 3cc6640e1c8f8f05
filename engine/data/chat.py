"""Choosing a chat template and rendering conversations with it, inside transformers' sandbox.

`mask.py` finds the trained parts of what is rendered here. Whoever saves a tokenizer after training
stores `ChatTemplate.source` with it, so that inference writes what training saw.
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from engine.data.conversation import Conversation
from engine.data.examples import RowProblem
from engine.data.guard import RenderTimeout, limits
from engine.data.templates import MARKS, template_source
from engine.errors import EngineError, ExitCode

Tokenizer = Any
"""A transformers.PreTrainedTokenizerFast (TokenizersBackend)."""

MAX_TEMPLATE_CHARS = 256 * 1024
"""The longest template of a published model is near 20,000 characters."""
RENDER_S = 10.0
RENDER_S_PER_ROW = 0.02
RENDER_EXTRA_BYTES = 1024**3
MAX_ADDED_CHARS = 1024 * 1024
"""What a template may add to the messages of one conversation."""
_FIXED_DATE = datetime(2025, 1, 1)
_NOW = re.compile(r"""strftime_now\(\s*(['"])([^'"]*)\1\s*\)""")


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """The template in use: its name, Jinja source, why it was taken, and what to tell the person."""

    name: str
    source: str
    why: str
    warnings: tuple[str, ...] = ()


def choose_template(tokenizer: Tokenizer, name: str = "auto") -> ChatTemplate:
    """The template that `data.template` names; `auto` = the model's own, else a fall-back with a warning.

    The fall-back is chatml where the tokenizer knows its marks as tokens, else alpaca: plain text that
    any base model can read, ended by the end-of-sequence token it already knows. Raises
    EngineError(PROFILE) for an unknown name, EngineError(MODEL) for an unreasonable template.
    """
    if name != "auto":
        return _named(tokenizer, name)
    own = _own_source(tokenizer)
    if own:
        if len(own) > MAX_TEMPLATE_CHARS:
            raise _template_error(f"the model's chat template is {len(own)} characters long")
        return ChatTemplate("auto", own, "the model's own template")
    fallback = "chatml" if all(_is_token(tokenizer, mark) for mark in MARKS["chatml"]) else "alpaca"
    warning = f"the model has no chat template; '{fallback}' is used - set data.template to choose another"
    chosen = _named(tokenizer, fallback)
    return ChatTemplate(fallback, chosen.source, "the model has no template", (warning, *chosen.warnings))


def _own_source(tokenizer: Tokenizer) -> str:
    own = tokenizer.chat_template
    if isinstance(own, dict):
        own = own.get("default") or next(iter(own.values()), "")
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
    """Each conversation as text; a RowProblem where the template refuses it.

    `generation` appends the start of an answer. A date of today that the template writes is fixed here,
    so that a run resumed tomorrow sees the same tokens. Raises EngineError(MODEL) for a template that is broken, takes
    too long, or writes far more than the messages hold.
    """
    try:
        with limits(RENDER_S + RENDER_S_PER_ROW * len(conversations), RENDER_EXTRA_BYTES):
            texts = _render_all(tokenizer, template, conversations, generation)
    except RenderTimeout as error:
        raise _template_error(f"rendering {len(conversations)} conversations did not end in time") from error
    except MemoryError as error:
        raise _template_error("rendering needs more memory than any conversation could") from error
    for text, conversation in zip(texts, conversations, strict=True):
        if isinstance(text, str) and len(text) > MAX_ADDED_CHARS + 4 * conversation.characters:
            raise _template_error(f"one conversation became {len(text)} characters of text")
    return texts


def _render_all(
    tokenizer: Tokenizer, template: ChatTemplate, conversations: Sequence[Conversation], generation: bool
) -> list[str | RowProblem]:
    source = _NOW.sub(lambda found: repr(_FIXED_DATE.strftime(found[2])), template.source)
    texts: list[str | RowProblem] = []
    for _, alike in itertools.groupby(conversations, lambda one: (one.tools, one.arguments)):
        texts += _render_alike(tokenizer, source, list(alike), generation)
    return texts


def _render_alike(
    tokenizer: Tokenizer, source: str, conversations: Sequence[Conversation], generation: bool
) -> list[str | RowProblem]:
    """Conversations with the same tools and arguments; one by one when they cannot be rendered together."""
    import jinja2

    first = conversations[0]

    def apply(some: Sequence[Conversation]) -> list[str | RowProblem]:
        return list(
            tokenizer.apply_chat_template(
                [list(one.turns) for one in some],
                tools=list(first.tools) or None,
                chat_template=source,
                add_generation_prompt=generation,
                tokenize=False,
                **first.arguments,
            )
        )

    def apply_one(conversation: Conversation) -> str | RowProblem:
        try:
            return apply([conversation])[0]
        except (RenderTimeout, MemoryError):
            raise
        except (jinja2.TemplateSyntaxError, jinja2.exceptions.SecurityError) as error:
            raise _template_error(f"the chat template is broken: {error}") from error
        except Exception as error:
            return RowProblem("refused by the chat template", str(error)[:200] or type(error).__name__)

    try:
        return apply(conversations)
    except (RenderTimeout, MemoryError):
        raise
    except Exception:
        return [apply_one(one) for one in conversations]


def _template_error(message: str) -> EngineError:
    hint = "choose one with data.template, e.g. 'chatml' or 'alpaca'"
    return EngineError(message, code=ExitCode.MODEL, where="chat template", hint=hint)
