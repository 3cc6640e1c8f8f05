"""Checked access to a model configuration, which is untrusted: whole numbers, switches and lists of them.

Every refusal names file and key. Not here: which keys a family reads (`layouts.py`), which are refused (`config.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from engine.errors import EngineError, ExitCode
from engine.text import sanitize

_LIMIT = 10**9
_MAX_LAYERS = 10_000
_NAMES = {
    "hidden_size": ("hidden_size", "n_embd", "d_model"),
    "intermediate_size": ("intermediate_size", "ffn_dim", "n_inner"),
    "num_hidden_layers": ("num_hidden_layers", "n_layer"),
    "num_attention_heads": ("num_attention_heads", "n_head"),
}
_FAMILIES_WORDS = "use a Llama-like decoder model (Llama, Qwen, Mistral, Gemma, Phi-3 …)"


def refuse(problem: str, where: str, hint: str) -> EngineError:
    """The error for a model configuration that has or says `problem`."""
    return EngineError(f"the model configuration {problem}", code=ExitCode.MODEL, where=where, hint=hint)


@dataclass(frozen=True, slots=True)
class Numbers:
    """The text part of a config.json."""

    text: dict[str, Any]
    where: str

    def whole(self, key: str) -> int:
        """A number above 0 under one of the key's names; EngineError without one."""
        for name in _NAMES.get(key, (key,)):
            found = self.optional(name)
            if found is not None:
                return found
        raise refuse(f"has no '{key}'", self.where, _FAMILIES_WORDS)

    def optional(self, key: str) -> int | None:
        """A number above 0, or None where the key is missing or null."""
        value = self.text.get(key)
        return None if value is None else self._checked(key, value, 1)

    def count(self, key: str, default: int = 0) -> int:
        """A number that may be 0."""
        value = self.text.get(key)
        return default if value is None else self._checked(key, value, 0)

    def wholes(self, key: str, length: int) -> list[int]:
        """One number a layer: as listed, or `length` times a single one."""
        value = self.text.get(key)
        if not isinstance(value, list):
            return [self.whole(key)] * length
        if len(value) != length:
            raise refuse(f"lists {len(value)} times {key} for {length} layers", self.where, "correct the file")
        return [self._checked(key, item, 1) for item in value]

    def kinds(self, key: str, length: int, default: list[str]) -> list[str]:
        """One word a layer."""
        value = self.text.get(key)
        if value is None:
            return default
        if not isinstance(value, list) or len(value) != length or not all(isinstance(item, str) for item in value):
            raise refuse(f"does not list {key} of all {length} layers", self.where, "correct the file")
        return value

    def listed(self, key: str) -> set[int]:
        """Places of layers in a list; none where the key is missing."""
        value = self.text.get(key) or []
        if not isinstance(value, list):
            raise refuse(f"has a {key} that is no list", self.where, "correct the file")
        return {self._checked(key, item, 0) for item in value}

    def flag(self, key: str, default: bool = False) -> bool:
        """A switch."""
        value = self.text.get(key)
        return default if value is None else bool(value)

    @property
    def layers(self) -> int:
        """How many layers there are; no model has ten thousand."""
        found = self.whole("num_hidden_layers")
        if found > _MAX_LAYERS:
            raise refuse(f"has num_hidden_layers = {found}, which no model has", self.where, "correct the file")
        return found

    @property
    def experts(self) -> int:
        """Routed experts of a layer; 0 in a dense model."""
        return next((found for key in EXPERT_KEYS if (found := self.count(key))), 0)

    def _checked(self, key: str, value: Any, least: int) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value < _LIMIT:
            shown = sanitize(repr(value), max_chars=40, single_line=True)
            wanted = f"a whole number above {least - 1} belongs there" if least else "a whole number belongs there"
            hint = "this family has one size for all layers here" if isinstance(value, list) else "correct the file"
            raise refuse(f"has {key} = {shown}; {wanted}", self.where, hint)
        return value


EXPERT_KEYS = ("num_experts", "num_local_experts", "n_routed_experts")
"""Names of the number of routed experts."""
