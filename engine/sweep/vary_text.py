"""`--vary lora.r=8,16,32` and `--vary train.learning_rate=1e-5..1e-3:log`: a space written in a shell."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from typing import Any

from engine.errors import EngineError, ExitCode
from engine.profile.overrides import override_value
from engine.text import sanitize

_NUMBER = r"[+-]?(?:\d[\d_]*)?\.?\d+(?:[eE][+-]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})(:log|:step=({_NUMBER}))?")


def space_of(texts: Iterable[str]) -> dict[str, Any]:
    """The space that several `--vary` give. Raises EngineError(PROFILE) for one that is not `key=values`."""
    return dict(_entry(text) for text in texts)


def _entry(text: str) -> tuple[str, Any]:
    key, sign, written = (part.strip() for part in text.partition("="))
    if not sign or not key or not written:
        shown = sanitize(text, max_chars=80, single_line=True)
        raise EngineError(
            f"'{shown}' is not key=values",
            code=ExitCode.PROFILE,
            where="--vary",
            hint="write lora.r=8,16,32 or train.learning_rate=1e-5..1e-3:log",
        )
    return key, _values(key, written)


def _values(key: str, written: str) -> Any:
    found = _RANGE.fullmatch(written)
    if found:
        low, high, how, step = found.groups()
        told: dict[str, Any] = {"low": _number(low), "high": _number(high)}
        return told | ({"log": True} if how == ":log" else {"step": _number(step)} if step else {})
    if written[0] in "[{":
        try:
            return tomllib.loads(f"value = {written}")["value"]
        except (ValueError, RecursionError):
            return written
    return [override_value(key, part.strip()) for part in written.split(",") if part.strip()]


def _number(text: str) -> float | int:
    return int(text.replace("_", "")) if re.fullmatch(r"[+-]?\d[\d_]*", text) else float(text.replace("_", ""))
