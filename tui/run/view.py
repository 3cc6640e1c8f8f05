"""What the run screen says: headline, numbers, memory pane, preparation, status. Pure functions of a snapshot."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len
from textual.content import Content

from engine.api.runs import PHASE_WORDS
from engine.text import format_bytes, format_count, format_duration
from tui.reading.snapshot import LogLine, RunSnapshot, value
from tui.text import STATE_STYLES, Part, age, bar, clip, fit, fit_right, gib, line, number, rate, safe, thin_bar

if TYPE_CHECKING:
    from engine.api.profiles import Remedy
    from tui.run.remedies import Remedies

MEMORY_STYLES = {
    "device": "dim",
    "process": "$accent",
    "reserved": "$deck-evaluation",
    "allocated": "$success",
    "predicted": "$secondary",
}
STALE_S = 60.0
GRAVE = frozenset({"silent", "loss_rises", "disk_full"})
"""Concerns after which a night is lost if nobody does anything."""


def awaits_worker(snapshot: RunSnapshot) -> bool:
    """Whether a worker was asked for that has said nothing yet."""
    if snapshot.state != "starting":
        return False
    resumed = snapshot.finished is not None and snapshot.asked_at > snapshot.last_time
    return resumed or not snapshot.phases


def prepares(snapshot: RunSnapshot) -> bool:
    """Whether the run is on its way to its first step, or does something else than to train: a clock tells it lives."""
    return snapshot.is_live and (awaits_worker(snapshot) or snapshot.phase not in ("train", ""))


def _ends(snapshot: RunSnapshot) -> bool:
    """Whether the worker has told its end and is on its way out."""
    told = value(snapshot.finished, "t")
    return snapshot.is_live and not snapshot.phase and told is not None and told == snapshot.last_time


def _clock(since: float, now: float) -> str:
    """`, 12 s` since then; empty where that is not known or just now."""
    return f", {age(now - since)}" if since and now - since >= 1 else ""


def doing(snapshot: RunSnapshot, now: float) -> tuple[str, str]:
    """What the run does now, in a word or two, and its style."""
    style = STATE_STYLES.get(snapshot.state, "dim")
    if awaits_worker(snapshot):
        return f"starting the worker{_clock(snapshot.asked_at, now)}", style
    if snapshot.state not in ("running", "starting"):
        return snapshot.state, style
    if _ends(snapshot):
        return "ending", style
    progress = snapshot.progress
    if progress is not None and progress.phase == "evaluate" and progress.total:
        return f"evaluating {progress.done:,.0f} of {progress.total:,.0f}", style
    if progress is not None and progress.phase == "answers":
        return "answering your prompts", style
    words = PHASE_WORDS.get(snapshot.phase, snapshot.phase or snapshot.state)
    return words + (_clock(snapshot.phase_since, now) if prepares(snapshot) else ""), style


def headline(snapshot: RunSnapshot, now: float, width: int) -> tuple[list[Part], list[Part]]:
    """Which run, what it does, how far it is; and when it will be done."""
    name = clip(snapshot.facts.name, max(12, width // 3))
    left: list[Part] = [(name, "bold"), "   ", doing(snapshot, now)]
    if snapshot.steps_total:
        left.append(f"   step {snapshot.step:,} of {snapshot.steps_total:,}")
    epoch = value(snapshot.last_step, "epoch")
    if epoch is not None and width >= 76:
        left.append(f"   epoch {epoch:.2f}")
    seconds = value(snapshot.finished, "seconds")
    if seconds is not None and (not snapshot.is_live or _ends(snapshot)):
        return left, [("took ", "dim"), format_duration(seconds)]
    eta = value(snapshot.last_step, "eta_s")
    if eta is not None and snapshot.is_live and not awaits_worker(snapshot):
        return left, [("eta ", "dim"), format_duration(eta)]
    return left, []


TREND_STYLES = {"▼": "$success", "▲": "bold $warning"}


def trend(snapshot: RunSnapshot) -> str:
    """Whether the smoothed loss falls or rises over the last tenth."""
    points = snapshot.curves.smooth
    if len(points) < 10:
        return " "
    before, now = points[-1 - len(points) // 10].mean, points[-1].mean
    if abs(now - before) < 0.002 * abs(before):
        return "→"
    return "▼" if now < before else "▲"


def numbers(snapshot: RunSnapshot, width: int) -> Content:
    """Loss, evaluation, learning rate, gradient norm, throughput; what does not fit is left out, last first."""
    step, seen = snapshot.last_step, snapshot.last_eval
    if step is None and seen is None:
        return job_line(snapshot)
    sign = trend(snapshot)
    shown = (f" {sign}", TREND_STYLES.get(sign, "dim"))
    items = [line(("loss ", "dim"), number(value(step, "loss"), ".4f"), shown)]
    if seen is not None:
        note = (_eval_note(snapshot), "$success" if seen.get("best") else "dim")
        items.append(line(("eval ", "dim"), number(value(seen, "loss"), ".4f"), note))
    items.append(line(("rate ", "dim"), number(value(step, "learning_rate"), ".2e")))
    items.append(line(("grad ", "dim"), number(value(step, "grad_norm"), ".2f")))
    pace = None if awaits_worker(snapshot) else value(step, "tokens_per_second")
    tail = line(rate(pace), (" tok/s", "dim"))
    head = items[0]
    for item in items[1:]:
        longer = Content.assemble(head, "  ", item)
        if longer.cell_length + tail.cell_length < width:
            head = longer
    return Content.assemble(head, " " * max(1, width - head.cell_length - tail.cell_length), tail)


def _eval_note(snapshot: RunSnapshot) -> str:
    seen = snapshot.last_eval or {}
    at = value(seen, "step")
    best = value(snapshot.best_eval, "loss")
    words = [f"step {at:,.0f}"] if at is not None else []
    words += ["best"] if seen.get("best") else [f"best {best:.4f}"] if best is not None else []
    return f" ({', '.join(words)})" if words else ""


def memory_lines(snapshot: RunSnapshot, width: int) -> Content:
    """Measured memory beside the prediction and the limit, as bars on one scale."""
    memory, facts = snapshot.memory, snapshot.facts
    predicted = facts.predicted_bytes or value(memory, "predicted_bytes")
    on_card = value(memory, "peak_reserved_bytes") is not None
    total = value(memory, "device_total_bytes") or value(memory, "limit_bytes")
    rows: list[tuple[str, float | None]]
    if on_card:
        rows = [
            ("device", value(memory, "device_used_bytes")),
            ("process", value(memory, "process_bytes")),
            ("reserved", value(memory, "peak_reserved_bytes")),
            ("allocated", value(memory, "peak_allocated_bytes")),
        ]
        measured = rows[1][1] or rows[2][1]
    else:
        measured = value(memory, "host_rss_bytes")
        rows = [("process", measured)]
    rows.append(("predicted", predicted))
    limit = facts.available_bytes or total
    scale = max([amount for _, amount in rows if amount] + [limit or 0.0, 1.0])
    title = fit(f"memory, {facts.card or 'GPU' if on_card else 'RAM'}", max(0, width - 4))
    shown = [line((title, "bold"), (" GiB", "dim"))]
    room = max(4, width - 18)
    for name, amount in rows:
        cells = thin_bar((amount or 0.0) / scale, room, MEMORY_STYLES[name])
        shown.append(line((fit(name, 10), "dim"), *cells, fit_right(gib(amount), 8)))
    shown.append(line((fit("free before", 10 + room), "dim"), fit_right(gib(facts.available_bytes), 8)))
    if total:
        shown.append(line((fit("in all", 10 + room), "dim"), fit_right(gib(total), 8)))
    if measured and predicted:
        off = f"{(measured - predicted) / predicted * 100:+.1f} %".replace("-", "−")
        shown.append(line((fit("against the prediction", 10 + room), "dim"), fit_right(off, 8)))
    facts_line = _card_facts(snapshot)
    return Content("\n").join([*shown, Content.styled(clip(facts_line, width), "dim")] if facts_line else shown)


def _card_facts(snapshot: RunSnapshot) -> str:
    memory = snapshot.memory
    parts = (("utilization_percent", "util {:.0f} %"), ("temperature_c", "{:.0f} °C"), ("power_w", "{:.0f} W"))
    found = ((value(memory, key), text) for key, text in parts)
    return "  ".join(text.format(amount) for amount, text in found if amount is not None)


def job_line(snapshot: RunSnapshot) -> Content:
    """The model and how it is tuned."""
    facts = snapshot.facts
    return line((f"{facts.model}  {facts.how}  {facts.device}".strip(), "dim"))


def preparation(snapshot: RunSnapshot, now: float, width: int) -> Content:
    """What goes on before the first step: phases gone through, and time and progress of the present one."""
    shown: list[Content] = [Content.styled("before the first step", "dim"), Content("")]
    if awaits_worker(snapshot):
        text = f"starting the worker{_clock(snapshot.asked_at, now)}"
        return Content("\n").join([*shown, line(("→ ", "$accent"), text)])
    for name in snapshot.phases:
        present = name == snapshot.phase
        words = PHASE_WORDS.get(name, name) + (_clock(snapshot.phase_since, now) if present else "")
        shown.append(line(("→ " if present else "✓ ", "$accent" if present else "$success"), words))
        if present:
            shown += _progress_lines(snapshot, width)
    return Content("\n").join(shown)


def _progress_lines(snapshot: RunSnapshot, width: int) -> list[Content]:
    shown = [line("  ", (clip(snapshot.phase_detail, width - 2), "dim"))] if snapshot.phase_detail else []
    progress = snapshot.progress
    if progress is None:
        return shown
    amount = format_bytes if progress.unit == "bytes" else format_count
    unit = "" if progress.unit == "bytes" else f" {progress.unit}"
    if progress.total > 0:
        cells = bar(progress.done / progress.total, max(8, min(30, width - 40)))
        return [*shown, line("  ", *cells, f"  {amount(progress.done)} of {amount(progress.total)}{unit}")]
    return [*shown, line(f"  {amount(progress.done)}{unit}")]


def failure(snapshot: RunSnapshot, remedies: Remedies | None, log_path: str, width: int) -> Content:
    """Why the run failed, what would let it go on, and where to read more."""
    words = {"failed": "the run failed", "not started": "the run could not start; nothing of it was kept"}
    lines = [Content.styled(words.get(snapshot.state, "the run could not go on"), "bold $error"), Content("")]
    lines += [Content(text) for text in snapshot.error]
    if remedies is not None and snapshot.state in ("failed", "lost"):
        lines += [Content(""), *remedy_lines(remedies, width)]
    if snapshot.state != "not started":
        lines += [Content(""), Content.styled(f"worker's log: {log_path}", "dim")]
    return Content("\n").join(lines)


def remedy_lines(remedies: Remedies, width: int) -> list[Content]:
    """Remedies under each other: what changes, predicted memory, speed, and how it goes on."""
    if not remedies.items:
        return []
    head = line(("remedies", "bold"), ("   m does the first, M lets you choose", "dim"))
    marks: list[Part] = [("m ", "bold $accent"), *["  "] * (len(remedies.items) - 1)]
    return [head, *map(_marked, marks, remedy_choices(remedies.items, width - 2))]


def _marked(mark: Part, shown: Content) -> Content:
    """`shown` behind a mark of two cells, its second line below the first."""
    first, *rest = shown.split("\n")
    return Content("\n").join([Content.assemble(mark, first), *(Content.assemble("  ", more) for more in rest)])


def remedy_choices(items: Sequence[Remedy], width: int) -> list[Content]:
    """A line each; two where there is no room for all that one changes beside what that costs."""
    longest = max((cell_len(safe(item.label)) for item in items), default=0)
    room = min(max(longest, 24), width - _COST_CELLS)
    if longest <= room:
        return [line(fit(safe(item.label), room), _remedy_cost(item)) for item in items]
    return [line(f"{safe(item.label)}\n", _remedy_cost(item)) for item in items]


_COST_CELLS = 32


def _remedy_cost(remedy: Remedy) -> Part:
    """Memory, speed and how it goes on, in as many cells for each."""
    size = format_bytes(remedy.device_bytes) if remedy.device_bytes is not None else ""
    speed = f"{remedy.speed:.2f} × speed" if remedy.speed is not None else ""
    how = "goes on" if remedy.resumes else "new run"
    return f"{fit_right(size, 9)}{fit_right(speed, 14)}  {how}", "dim"


def log_text(item: LogLine) -> str:
    """A line of the log pane."""
    return f"{time.strftime('%H:%M:%S', time.localtime(item.time))} {item.text}"


def stop_question(snapshot: RunSnapshot) -> str:
    """What stopping the run now would do."""
    if snapshot.orphan_pid:
        return f"Kill the worker of {snapshot.facts.name}? The run was deleted: nothing of it is kept."
    begun = snapshot.step or snapshot.phase in ("train", "evaluate")
    when = f"saves a checkpoint at step {snapshot.step + 1}, then ends" if begun else "ends before training begins"
    return f"Stop {snapshot.facts.name}? It {when}. What it learned is kept; it can be resumed."


def status_notes(snapshot: RunSnapshot, paused: bool, following: bool, search: str) -> list[str]:
    """What differs from the plain live view, for the right end of the status line; an empty note is left out there."""
    notes = ["view held still (p)" if paused else "", "" if following else "log not following (G)"]
    if snapshot.reading is not None:
        notes.append(f"reading the history: {snapshot.reading:.0%}")
    notes.append(search)
    if snapshot.warnings:
        notes.append(f"{snapshot.warnings} warning{'s' if snapshot.warnings > 1 else ''} (i)")
    return notes


def concerns_text(snapshot: RunSnapshot) -> Content:
    """All that goes wrong in a live run, whole: the last line has room for one of them, and cuts it."""
    if not snapshot.is_live:
        return Content("")
    parts: list[Part] = []
    for one in snapshot.concerns:
        style = "$error" if one.code in GRAVE else "$warning"
        parts += [(f"{safe(one.text, 600)}\n", style), f"  {safe(one.hint, 600)}\n"]
    return line(*parts)


def status(snapshot: RunSnapshot, now: float, notes: list[str]) -> tuple[list[Part], list[Part]]:
    """Is it alive, and does it need this window?"""
    right: list[Part] = [(" · ".join(note for note in notes if note), "$warning")]
    if snapshot.is_live and snapshot.concerns:
        worst, more = snapshot.concerns[0], len(snapshot.concerns) - 1
        text = worst.text + (f" (+{more})" if more else "")
        return [(f"{safe(text, 300)}: {safe(worst.hint, 300)}", "$error" if worst.code in GRAVE else "$warning")], right
    if snapshot.is_live:
        quiet = max(0.0, now - snapshot.last_time) if snapshot.last_time else 0.0
        style = "$warning" if quiet > STALE_S else "dim"
        heard = f"last event {age(quiet)} ago" if snapshot.last_time else "no event yet"
        return [("runs on without this window · ", "dim"), (heard, style)], right
    return [(ending(snapshot), "dim")], right


def ending(snapshot: RunSnapshot) -> str:
    """What became of a run that is over, and the keys that go on from there."""
    saved, orphan = snapshot.checkpoint_step, snapshot.orphan_pid
    again = f"r goes on from step {saved:,}" if saved is not None else "nothing was saved: r starts it anew"
    ends = {
        "completed": "done: 5 shows results, chat, export",
        "stopped": f"stopped; {again}",
        "failed": f"failed; {again}, the same way",
        "not started": "mend it on screen 2, then ^r again",
        "lost": f"the worker ended without saying why; {again}",
        "removed": "this run was deleted" + (f"; its worker {orphan} lives on, x kills it" if orphan else ""),
    }
    return ends.get(snapshot.state, snapshot.state)
