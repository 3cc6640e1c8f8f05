"""What the tables of a profile share: their base class, the `setting` of a field, and common types."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Auto = Literal["auto"]
PLAIN_TEXT = r"^[^\x00-\x1f\x7f-\x9f]*$"
"""Strings that end up in paths and on terminals: no control characters."""

Name = Annotated[str, Field(min_length=1, max_length=200, pattern=PLAIN_TEXT)]
PathText = Annotated[str, Field(min_length=1, max_length=4096, pattern=PLAIN_TEXT)]
Positive = Annotated[int, Field(ge=1, le=1_000_000_000)]


class Table(BaseModel):
    """A TOML table: unknown keys are errors, types are strict (no `true` for 1), values frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def setting(
    default: Any, description: str, *, unit: str = "", advanced: bool = False, items: str = "", **limits: Any
) -> Any:
    """A field with what the form needs beside its type: meaning, unit, basic or advanced, and what a list holds."""
    extra: dict[str, Any] = {"unit": unit, "advanced": advanced} | ({"holds": items} if items else {})
    return Field(default, description=description, json_schema_extra=extra, **limits)
