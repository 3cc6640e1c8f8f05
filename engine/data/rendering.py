"""A chat template run over conversations, inside transformers' sandbox and within bounds of time, memory and numbers.

What comes out is what `apply_chat_template` of plain transformers gives. Not here: which template, and whether it reads
what the conversations hold (`chat.py`, `reads.py`).
"""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from engine.data.conversation import Conversation
from engine.data.examples import RowProblem
from engine.data.guard import RenderTimeout, limits
from engine.errors import EngineError, ExitCode

RENDER_S = 10.0
RENDER_S_PER_ROW = 0.02
RENDER_EXTRA_BYTES = 1024**3
MAX_ADDED_CHARS = 1024 * 1024
"""What a template may add to the messages of one conversation."""
MAX_BITS = 4096
"""Of a whole number that a template works out."""
_FIXED_DATE = datetime(2025, 1, 1)
_NOW = re.compile(r"""strftime_now\(\s*(['"])([^'"]*)\1\s*\)""")
_WIDTH = re.compile(r"%[^a-zA-Z%]*?(\d{5,}|\*)")


def run_template(
    source: str,
    conversations: Sequence[Conversation],
    shared: Mapping[str, Any],
    *,
    generation: bool,
) -> list[str | RowProblem]:
    """Each conversation as text; a RowProblem where the template refuses it. `shared`: what every one is rendered with.

    A date of today that the template writes is fixed here, so that a run resumed tomorrow sees the same tokens. Raises
    EngineError(MODEL) for a template that is broken, takes too long, or writes far more than the messages hold.
    """
    count = len(conversations)
    _import_renderer()
    try:
        with limits(RENDER_S + RENDER_S_PER_ROW * count, RENDER_EXTRA_BYTES):
            write = _writer(source, shared, generation)
            texts = [write(one) for one in conversations]
    except RenderTimeout as error:
        raise template_error(f"rendering {count} conversations did not end in time") from error
    except MemoryError as error:
        raise template_error("rendering needs more memory than any conversation could") from error
    for text, conversation in zip(texts, conversations, strict=True):
        if isinstance(text, str) and len(text) > MAX_ADDED_CHARS + 4 * conversation.characters:
            raise template_error(f"one conversation became {len(text)} characters of text")
    return texts


@functools.cache
def _import_renderer() -> None:
    """Outside of the bounds: what a first import takes is no template's doing."""
    import jinja2  # noqa: F401
    import transformers.utils.chat_template_utils  # noqa: F401


def _writer(source: str, shared: Mapping[str, Any], generation: bool) -> Callable[[Conversation], str | RowProblem]:
    import jinja2

    def write(conversation: Conversation) -> str | RowProblem:
        given = {**shared, **conversation.arguments}
        try:
            text: str = compiled.render(
                messages=list(conversation.turns),
                tools=list(conversation.tools) or None,
                documents=given.pop("documents", None),
                add_generation_prompt=generation,
                **given,
            )
        except (RenderTimeout, MemoryError):
            raise
        except jinja2.exceptions.SecurityError as error:
            raise template_error(f"the chat template is broken: {error}") from error
        except Exception as error:
            return RowProblem("refused by the chat template", str(error)[:200] or type(error).__name__)
        return text

    try:
        compiled = _compiled(source)
    except (RenderTimeout, MemoryError):
        raise
    except Exception as error:
        raise template_error(f"the chat template is broken: {str(error)[:200]}") from error
    return write


@functools.lru_cache(maxsize=16)
def _compiled(source: str) -> Any:
    """The template as transformers compiles it, with arithmetic that cannot grow without end."""
    from transformers.utils.chat_template_utils import _compile_jinja_template

    # The environment of a template that no cache shares: transformers' own must stay as it is.
    maker = getattr(_compile_jinja_template, "__wrapped__", _compile_jinja_template)
    environment = maker("{# bounded #}").environment.overlay()
    environment.intercepted_binops = frozenset(_BOUNDED)
    environment.call_binop = _bounded
    fixed = _NOW.sub(lambda found: repr(_FIXED_DATE.strftime(found[2])), source)
    return environment.from_string(fixed)


def _bounded(_context: Any, sign: str, left: Any, right: Any) -> Any:
    """`left sign right`, unless the result would be a number that takes for ever or a text that fills the memory."""
    if sign == "**" and _bits(left) * abs(_number(right)) > MAX_BITS:
        raise MemoryError
    if (
        sign == "*"
        and _length(left) * max(1, _number(right)) + _length(right) * max(1, _number(left)) > MAX_ADDED_CHARS
    ):
        raise MemoryError
    if sign == "%" and isinstance(left, str) and _WIDTH.search(left):
        raise MemoryError
    found = _BOUNDED[sign](left, right)
    if _bits(found) > MAX_BITS:
        raise MemoryError
    return found


_BOUNDED: dict[str, Callable[[Any, Any], Any]] = {"**": operator.pow, "*": operator.mul, "%": operator.mod}


def _bits(value: Any) -> int:
    return value.bit_length() if isinstance(value, int) else 0


def _number(value: Any) -> int:
    return int(min(abs(value), 1 << 62)) if isinstance(value, (int, float)) and value == value else 0


def _length(value: Any) -> int:
    return len(value) if isinstance(value, (str, list, tuple)) else 0


def template_error(message: str) -> EngineError:
    """A template that cannot be used, with what to do."""
    hint = "choose one with data.template, e.g. 'chatml' or 'alpaca'"
    return EngineError(message, code=ExitCode.MODEL, where="chat template", hint=hint)
