"""The key that helps against what goes wrong now, as it stands beside the status line."""

from __future__ import annotations

from collections.abc import Mapping

from tui.frame.commands import CommandTable, key_label
from tui.reading.snapshot import RunSnapshot
from tui.text import Part

CURES = {
    "loss_rises": "stop",
    "evaluation_rises": "stop",
    "slow": "cards",
    "card_slowed": "cards",
    "silent": "worker_log",
}
"""Commands by the code of a concern; what is not here needs more than a key."""


def cure(snapshot: RunSnapshot, table: CommandTable, keys: Mapping[str, str]) -> str:
    """`x stop`; empty while nothing goes wrong that a key would help against. `keys`: a person's own, by command."""
    worst = snapshot.concerns[0].code if snapshot.is_live and snapshot.concerns else ""
    helps = CURES.get(worst, "")
    if helps == "cards" and not snapshot.facts.card:
        return ""  # a run on a processor: the cards' screen says nothing of it
    command = table.by_id.get(helps)
    return f"{key_label(command, keys)} {command.label}" if command is not None else ""


def with_cure(
    ends: tuple[list[Part], list[Part]], snapshot: RunSnapshot, table: CommandTable, keys: Mapping[str, str]
) -> tuple[list[Part], list[Part]]:
    """The two ends of the status line, with the key at the right: that end is never cut."""
    left, right = ends
    key = cure(snapshot, table, keys)
    return (left, [*right, (f"  {key}", "bold $accent")]) if key else ends
