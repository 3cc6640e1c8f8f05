"""What was typed before, as a shell has it: earlier and later lines, and the line that was half typed.

Pure. A line that is changed while one looks at it keeps the change until something is entered.
"""

from __future__ import annotations

from dataclasses import dataclass, field

MOST_LINES = 500


@dataclass(slots=True)
class History:
    """Lines that were entered, oldest first, and where one looks; at the end stands what is being typed."""

    lines: list[str] = field(default_factory=list)
    _at: int = 0
    _changed: dict[int, str] = field(default_factory=dict)

    def enter(self, line: str) -> None:
        """Keep a line, unless it is the one before again; from now on one looks at the end."""
        if not self.lines or self.lines[-1] != line:
            self.lines = [*self.lines, line][-MOST_LINES:]
        self._at = len(self.lines)
        self._changed.clear()

    def earlier(self, typed: str) -> str:
        """The line before; the first one stays. `typed` is what stands in the field now."""
        return self._go(-1, typed)

    def later(self, typed: str) -> str:
        """The line behind; behind the last one comes what was half typed."""
        return self._go(1, typed)

    def _go(self, by: int, typed: str) -> str:
        self._changed[self._at] = typed
        self._at = min(max(0, self._at + by), len(self.lines))
        kept = self.lines[self._at] if self._at < len(self.lines) else ""
        return self._changed.get(self._at, kept)
