"""Progress of a worker on stderr: one line that updates in place on a terminal, plain lines elsewhere.

Warnings, checkpoints, evaluations and other lasting events get a line of their own.
"""

from __future__ import annotations

import sys
import time

from engine.cli.common import tell, width
from engine.runs.events import Event
from engine.runs.health import HealthFold
from engine.runs.view import RunFold, describe
from engine.text import format_duration, sanitize

_LINE_EVERY_S = 10.0
_DRAW_EVERY_S = 0.1
_LASTING = frozenset({"warning", "eval", "checkpoint", "started", "control", "finished", "error", "trial"})


class Progress:
    """Shows events as they arrive; call `close` to clear the live line."""

    def __init__(self, *, quiet: bool = False, known: frozenset[str] = frozenset()) -> None:
        """`known`: warnings that were told before the worker began."""
        self._known = known
        self.warnings: list[str] = []
        """What the worker has warned of."""
        self.fold = RunFold()
        self.health = HealthFold()
        self._told: set[str] = set()
        """Codes of the concerns that stand and were told."""
        self._quiet = quiet
        self._live = sys.stderr.isatty()
        self._drawn = 0.0
        self._shown = ""

    def __call__(self, event: Event) -> None:
        """Show one event."""
        self.fold.apply(event)
        self.health.apply(event)
        kind = str(event["type"])
        if kind == "warning":
            self.warnings.append(str(event.get("message", "")))
        if self._quiet:
            return
        self.tell_concerns()
        if kind == "warning" and event.get("message") in self._known:
            return
        is_answer = kind == "sample" and "index" in event  # those of an evaluation afterwards stand in its report
        if is_answer or (kind in _LASTING and kind != "error"):
            self._lasting(describe(event))
        elif kind == "phase":
            self._draw(force=True)
        else:
            self._draw(force=False)

    def tell_concerns(self) -> None:
        """A line for each thing that begins to go wrong, silence too; again when it went and comes back."""
        found = {one.code: one for one in self.health.concerns(time.time(), live=True)}
        for code in found.keys() - self._told:
            self._lasting(f"health: {found[code].text} - {found[code].hint}")
        self._told = set(found)

    def _lasting(self, text: str) -> None:
        self._wipe()
        tell(sanitize(text, single_line=True))

    def _draw(self, *, force: bool) -> None:
        now = time.monotonic()
        every = _DRAW_EVERY_S if self._live else _LINE_EVERY_S
        if not force and now - self._drawn < every:
            return
        self._drawn = now
        text = sanitize(status_line(self.fold), single_line=True)
        if not text or text == self._shown:
            return
        if self._live:
            self._wipe()
            tell(text[: width() - 1], ends_line=False)
        else:
            tell(text)
        self._shown = text

    def _wipe(self) -> None:
        if self._live and self._shown:
            tell("\r" + " " * min(len(self._shown), width() - 1) + "\r", ends_line=False)
        self._shown = ""

    def close(self) -> None:
        """Wipe the live line."""
        self._wipe()


def status_line(fold: RunFold) -> str:
    """The state of a run in one line: its step and numbers, or the progress of its phase."""
    if fold.phase == "train" and fold.last_step and not fold.progress:
        numbers = fold.last_step
        speed, left = numbers.get("tokens_per_second"), numbers.get("eta_s")
        loss, rate = numbers.get("loss"), numbers.get("learning_rate")
        parts = [
            f"step {fold.step}/{fold.steps_total}",
            f"loss {loss:.4f}" if isinstance(loss, (int, float)) else "loss n/a",
            f"lr {rate:.2e}" if isinstance(rate, (int, float)) else "",
            f"{speed:,.0f} tok/s" if isinstance(speed, (int, float)) else "",
            f"eta {format_duration(left)}" if isinstance(left, (int, float)) else "",
        ]
        return "  ".join(part for part in parts if part)
    done, total = fold.progress.get("done"), fold.progress.get("total")
    counted = f"  {done} of {total} {fold.progress.get('unit', '')}" if fold.progress else ""
    what = str(fold.progress.get("phase") or fold.phase)
    return f"{what} {fold.phase_detail}{counted}".strip()
