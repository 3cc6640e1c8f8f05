"""The Modelfile of an export, for `ollama create`: file, TEMPLATE, SYSTEM and parameters.

Ollama's reader knows no escapes: a value runs from its quotes to a line that ends with them, and characters that Go
does not print are dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

QUOTES = ('"""', '"')


class Unwritable(ValueError):
    """A text that no Modelfile can hold; the message says why."""


@dataclass(frozen=True, slots=True)
class Modelfile:
    """What a Modelfile says. `template` and `system` None = nothing; `remarks` become comments."""

    file: str
    template: str | None = None
    system: str | None = None
    stops: Sequence[str] = ()
    context: int | None = None
    remarks: Sequence[str] = ()

    def text(self) -> str:
        """Its text. Raises Unwritable."""
        lines = [f"# {' '.join(remark.split())}" for remark in self.remarks]
        lines.append(f"FROM ./{self.file}")
        if self.template is not None:
            lines.append(f"TEMPLATE {quoted(self.template)}")
        if self.system:
            lines.append(f"SYSTEM {quoted(self.system)}")
        lines += [f"PARAMETER stop {quoted(stop)}" for stop in self.stops]
        if self.context:
            lines.append(f"PARAMETER num_ctx {self.context}")
        return "\n".join(lines) + "\n"


def quoted(text: str) -> str:
    """A value in quotes that Ollama reads back as it is. Raises Unwritable."""
    lost = sorted({char for char in text if char not in "\n\t\r" and not char.isprintable()})
    if lost:
        raise Unwritable(f"Ollama drops {', '.join(f'U+{ord(char):04X}' for char in lost)} from a Modelfile")
    plain = "\n" not in text and "\r" not in text
    for quotes in (QUOTES[1], QUOTES[0]) if plain and '"' not in text else QUOTES:
        if _ends_early(text, quotes):
            continue
        return f"{quotes}{text}{quotes}"
    raise Unwritable("a line of it ends with quotes, at which a Modelfile's value ends")


def _ends_early(text: str, quotes: str) -> bool:
    """Whether a line before the last one already closes the value, or the text opens longer quotes."""
    lines = text.replace("\r", "\n").split("\n")
    begun = quotes
    for line in lines[:-1]:
        begun += line + "\n"
        value = begun.strip()
        if value.endswith(quotes) and len(value) >= 2 * len(quotes):
            return True
    return len(quotes) == 1 and text.startswith('""')
