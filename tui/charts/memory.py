"""A run's memory against its device as one bar: what others hold, each term, what stays free. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from engine.api import fit as fit_api
from engine.api.fit import GIB, MEMORY, Plan, Term
from tui.charts.bars import Segment, legend, marked, stacked
from tui.text import VERDICT_STYLES, Part, gib, safe

if TYPE_CHECKING:
    from engine.api.fit import Room

_GLYPHS = {
    "weights": ("█", "$accent"),
    "adapters": ("▙", "$success"),
    "gradients": ("▚", "$secondary"),
    "optimizer": ("▞", "$success"),
    "activations": ("▓", "$secondary"),
    "loss": ("▒", "$accent"),
    "workspace": ("▄", "$secondary"),
    "context": ("▌", "$accent"),
    "reserve": ("▖", "$secondary"),
    "calibration": ("▗", "$accent"),
}
_OTHER = ("◆", "$accent")
_END = ("┃", "bold $error")
OTHERS, MARGIN, FREE, SHORT = "others", "margin", "free", "short"
_MUCH = 0.1
_SMALLEST_BYTES = 0.005 * GIB


def glyph_of(name: str) -> tuple[str, str]:
    """How a term is drawn, everywhere."""
    return _GLYPHS.get(name, _OTHER)


def term_segments(terms: Iterable[Term]) -> list[Segment]:
    """The terms as parts of a bar, in their order."""
    return [Segment(safe(term.name), term.bytes, *glyph_of(term.name)) for term in terms]


def room_segments(room: Room) -> list[Segment]:
    """Every part of the device's memory: others, the run, what is kept aside, free."""
    ends = [(FREE, room.free_bytes, "░", "dim")]
    if not room.short_bytes:
        ends.insert(0, (MARGIN, room.margin_bytes, "·", "dim"))
    others = Segment(OTHERS, room.taken_bytes, "╳", "$warning")
    return [others, *term_segments(room.terms), *(Segment(*end) for end in ends)]


def memory_bar(room: Room, cells: int) -> list[Part]:
    """The bar; where the run does not fit, a mark stands where its memory ends."""
    parts = stacked(room_segments(room), cells)
    if not room.short_bytes:
        return parts
    usable = room.total_bytes - room.margin_bytes
    return marked(parts, min(cells - 1, int(usable / (usable + room.short_bytes) * cells)), *_END)


def memory_legend(room: Room, width: int) -> list[Part]:
    """The parts in GiB; what others hold and what is free or short stays where there is little room."""
    segments = [one for one in room_segments(room) if one.amount >= _SMALLEST_BYTES]
    if room.short_bytes:
        segments.append(Segment(SHORT, room.short_bytes, *_END))
    keep = [FREE, SHORT] + [OTHERS] * (room.taken_bytes > _MUCH * room.total_bytes)
    return legend(segments, width, gib, keep)


def verdict_parts(plan: Plan, where: str = "") -> list[Part]:
    """`OK  38.0 of 79.0 GiB free`, `NO  11.0 GiB short: 90.0 needed, 79.0 free`; a reason behind any other verdict."""
    needed, available = gib(plan.estimate.device_bytes), gib(plan.available_bytes)
    reason = fit_api.limit_words(plan)
    if plan.headroom_bytes < 0:
        words = f"{reason}: {needed} needed, {available} free{where}"
    else:
        told = f" · {reason}" if reason and plan.limit != MEMORY else ""
        words = f"{needed} of {available} GiB free{where}{told}"
    return [(plan.verdict, f"bold {VERDICT_STYLES[plan.verdict]}"), f"  {words}"]
