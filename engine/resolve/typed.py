"""What a person types into the form as the value of a setting; a search space also in the spelling of `--vary`."""

from __future__ import annotations

from typing import Any

from engine.errors import EngineError
from engine.profile.fields import parse_value
from engine.profile.fieldspec import FieldSpec
from engine.resolve.search_space import space_of

_SPACE = "sweep.space"


def typed_value(spec: FieldSpec, text: str) -> Any:
    """The value; `lora.r=8,16 train.learning_rate=1e-5..1e-3:log` for a space too. Raises ValueError with words."""
    written = text.strip()
    if spec.key != _SPACE or not written or written.startswith("{"):
        return parse_value(spec, text)
    try:
        return space_of(written.split())
    except EngineError as error:
        raise ValueError(f"{error.message}: {error.hint}") from None
