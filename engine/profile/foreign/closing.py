"""The last look at a draft: whatever its files hold and no rule spoke of is listed as not carried over.

So a setting cannot be lost in silence, whoever forgets a rule for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from engine.profile.foreign.draft import CARRIED, NOBODY, Draft, Rules, leaves, listed

_BESIDE = "the other keys leave nothing for it to say"


def close(draft: Draft, rules: Rules) -> None:
    """List what is left. Roots and opened places are looked into; all others speak for what is inside them."""
    for place, value in _silent(draft):
        draft.note("left out", place, f"{listed(value, place)}: {_BESIDE if place in rules else NOBODY}")


def accounts(draft: Draft) -> dict[str, str]:
    """Each leaf of the files -> `carried`, `changed`, `left out` or `not needed`; '' where nothing was said."""
    return {place: kind for place, _, kind in _leaves(draft)}


def _silent(draft: Draft) -> Iterator[tuple[str, Any]]:
    yield from [(place, value) for place, value, kind in _leaves(draft) if not kind]


def _leaves(draft: Draft) -> Iterator[tuple[str, Any, str]]:
    for root, told in draft.told.items():
        for path, value in leaves(told).items():
            place = f"{root}.{path}" if path else root
            yield place, value, _kind(draft, root, path)


def _kind(draft: Draft, root: str, path: str) -> str:
    """What the nearest place around a leaf became; an opened one speaks for nothing below it."""
    parts = path.split(".") if path else []
    for length in range(len(parts), -1, -1):
        place = ".".join([root, *parts[:length]])
        if place in draft.opened:
            return CARRIED if length == len(parts) else ""
        if place in draft.became:
            return draft.became[place]
    return ""
