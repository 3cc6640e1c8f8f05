"""What the help says about a line of the list of runs: its state, and what can be done then."""

from __future__ import annotations

from textual.content import Content

from tui.reading.snapshot import short_name
from tui.runs.listing import RunRow, SweepRow
from tui.text import line

STATE_HELP = {
    "starting": "The worker begins: it loads the model and reads the data. enter shows how far it is.",
    "running": "It trains in a process of its own. enter shows it, x stops it after a checkpoint.",
    "stopping": "It saves a checkpoint and ends.",
    "completed": "It went to its end. v shows what it has come to: scores, samples, chat, export.",
    "stopped": "It was stopped and saved a checkpoint first. r goes on from there, to the bit.",
    "failed": "It ended with an error: e tells it. r goes on from the newest checkpoint that is whole.",
    "lost": "Its worker was killed, or the machine went down. r goes on from the newest checkpoint.",
    "damaged": "Its settings cannot be read: it can only be deleted.",
    "removed": "The sweep's own folder is gone; its trials are runs as any other.",
}
SWEEP_HELP = """\
A sweep tries settings in runs of their own. enter shows them, ranked by the value that decides.
u opens the best settings so far as a profile. x stops the search with its trials saved, r goes on."""


def line_help(entry: RunRow | SweepRow | None) -> tuple[str, Content] | None:
    """A title and a text about the run or the sweep; None without one."""
    if entry is None:
        return None
    sweep_help = [("\n\n" + SWEEP_HELP, "")] if isinstance(entry, SweepRow) else []
    name = entry.name if isinstance(entry, RunRow) else short_name(entry.id)
    return f"{name}: {entry.state}", line(STATE_HELP.get(entry.state, ""), *sweep_help)
