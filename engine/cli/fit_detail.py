"""One model as `engine fit MODEL` and `engine recommend` print it: facts, terms, choices, alternatives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from engine.cli.common import line, width
from engine.cli.fit_table import bar, duration, machine_lines, speed
from engine.hardware.machine import Machine
from engine.memory.evaluation import BATCH_SIZE, NEW_TOKENS
from engine.memory.needs import needs_of
from engine.memory.shape import method_words
from engine.recommend.fit_report import FitReport, uncounted_note
from engine.recommend.plan import MEMORY, Plan
from engine.recommend.room import limit_words
from engine.speed.decode import PROMPT_TOKENS
from engine.text import format_bytes, format_count, format_duration, wrap

_PHASES = {"load": "loading", "layer": "backward pass of a layer", "loss": "loss", "optimizer": "optimizer step"}


def show_detail(answer: FitReport) -> None:
    """Facts, verdict, terms, settings and alternatives of one model."""
    from engine.models.resolve import describe_parameters

    plan = answer.plan
    spec, estimate = plan.model, plan.estimate
    if not spec.counted:
        _show_simulated(answer)
        return
    facts = [f"{format_count(estimate.total_parameters)} parameters ({describe_parameters(spec)})"]
    if estimate.tower_parameters:
        facts.append(f"{format_count(estimate.total_parameters - estimate.tower_parameters)} of them text")
    facts += [f"context {spec.max_position_embeddings:,}", spec.licence, "gated" if spec.gated else ""]
    line(spec.name)
    line("  " + " · ".join(fact for fact in facts if fact))
    _show_verdict(plan)
    if plan.verdict != "NO":
        _show_times(answer)
    _show_terms(plan)
    if plan.verdict != "NO":
        _show_evaluation(answer)
    _show_outlook(answer)
    if answer.exact:
        _show_exact(answer)
    line("chosen")
    _show_settings(plan)
    if plan.alternatives:
        line("nearest changes that fit" if plan.verdict == "NO" else "alternatives")
        for text in plan.alternatives:
            line(f"  {text}")
    line()


def _show_verdict(plan: Plan) -> None:
    """Print the verdict with its memory; where not memory speaks against the plan, what does comes first."""
    of_all = f"{format_bytes(plan.estimate.device_bytes)} of {format_bytes(plan.available_bytes)}"
    if plan.verdict == "NO" and plan.headroom_bytes >= 0:
        _show_wrapped(f"  NO  {limit_words(plan)}", f"of the device's memory {of_all} would do")
        return
    spare = f"{format_bytes(plan.headroom_bytes)} {'spare' if plan.headroom_bytes >= 0 else 'short'}".lstrip("-")
    line(f"  {plan.verdict}  {bar(plan, 20)}  {of_all}, {spare}")
    if plan.limit not in ("", MEMORY):
        line(f"  {plan.verdict}: {limit_words(plan)}")


def _show_simulated(answer: FitReport) -> None:
    """Print a model that the closed form does not describe: the simulated step and its settings."""
    exact, plan = answer.exact, answer.plan
    assert exact is not None
    line(plan.model.name)
    line(f"  {answer.verdict}  {format_bytes(exact.device_bytes)} of {format_bytes(plan.available_bytes)}, simulated")
    line(f"  allocated {format_bytes(exact.allocated_bytes)}, reserved {format_bytes(exact.reserved_bytes)}")
    _show_wrapped("  note", uncounted_note(answer))
    line(f"with {method_words(plan.shape)}, {plan.shape.micro_batch} x {plan.shape.max_length} tokens")
    line()


def _data(answer: FitReport) -> str:
    """`12 M tokens` or `3 epochs of 12 M tokens`; one million tokens without --tokens."""
    tokens = f"{format_count(answer.tokens or 1_000_000)} tokens"
    return tokens if answer.epochs == 1 or not answer.tokens else f"{answer.epochs:g} epochs of {tokens}"


def _show_times(answer: FitReport) -> None:
    """Print the speed and time of training, and how fast the model answers."""
    plan = answer.plan
    if plan.tokens_per_second:
        known = plan.speed_source + (", may be off by half" if plan.speed_rough else "")
        how_known = "by runs on this device" if plan.speed_measured else known
        time = format_duration(plan.training_time_s(answer.tokens_seen or 1_000_000))
        _show_wrapped(f"  about {plan.tokens_per_second:,.0f} tokens/s, {time} for {_data(answer)}", how_known)
    if plan.latency:
        first, each = plan.latency.first_token_s * 1000, plan.latency.per_token_s * 1000
        late = "" if plan.answers_in_time else ": later than --latency-ms"
        prompt = f"  answers a prompt of {PROMPT_TOKENS} tokens"
        line(f"{prompt} after about {first:,.0f} ms, then {each:,.0f} ms a token{late}")


def _show_terms(plan: Plan) -> None:
    estimate = plan.estimate
    line(f"memory at its peak ({_PHASES[estimate.peak_phase]})")
    _show_pairs([(term.name, format_bytes(term.bytes), term.detail) for term in estimate.terms])
    parts = (("allocated", estimate.allocated_bytes), ("reserved", estimate.reserved_bytes))
    memory = ", ".join(f"{name} {format_bytes(count)}" for name, count in parts)
    share = estimate.trainable_parameters / max(1, estimate.total_parameters)
    line(f"  {memory}, on the device {format_bytes(estimate.device_bytes)}")
    line(f"  {format_count(estimate.trainable_parameters)} parameters learn ({share:.2%})")
    _show_needs(plan)
    for text in estimate.notes:
        for part in wrap(text, first="  note: ", rest=" " * 8):
            line(part)


def _show_evaluation(answer: FitReport) -> None:
    """Print the memory of the evaluation after training, and whether it is the peak."""
    plan, evaluation = answer.plan, answer.evaluation
    wide = format_bytes(evaluation.device_bytes)
    batch = f"{BATCH_SIZE} answers of {NEW_TOKENS} tokens to prompts of {plan.shape.max_length}"
    cache = f"cache {format_bytes(evaluation.cache_bytes)}"
    words = f"{wide} ({batch}, {cache})"
    if evaluation.device_bytes <= plan.estimate.device_bytes:
        words += ", less than training"
    elif evaluation.device_bytes <= plan.available_bytes:
        words += ": more than training, so evaluation is the peak"
    elif evaluation.scoring_bytes <= plan.available_bytes:
        words += ", more than is free: evaluation then answers fewer prompts at once"
    else:
        words += f"; even scoring rows of {plan.shape.max_length} tokens needs more than is free"
    _show_wrapped("  evaluating", words)


def _show_outlook(answer: FitReport) -> None:
    """Print what each of several cards would hold; a run uses one."""
    outlook, plan = answer.outlook, answer.plan
    if outlook is None:
        return
    fits = "fits" if outlook.replicated_bytes <= plan.available_bytes else "does not fit"
    words = [f"replicated (DDP) {format_bytes(outlook.replicated_bytes)} each, {fits}"]
    if outlook.sharded_bytes is None:
        words.append("int8 weights cannot be sharded")
    else:
        fits = "fits" if outlook.sharded_bytes <= plan.available_bytes else "does not fit"
        words.append(f"sharded (FSDP2) {format_bytes(outlook.sharded_bytes)} each, {fits}")
    if len({(gpu.name, gpu.total_bytes) for gpu in answer.cards}) > 1:
        words.append("the cards differ: the smallest free memory and the slowest card set the limits")
    _show_wrapped(f"  {outlook.cards} cards, an outlook", "; ".join(words))
    line("      this trainer runs on one GPU: these are estimates, not measurements")


def _show_needs(plan: Plan) -> None:
    """Print the disk space and RAM that a run needs."""
    needs = needs_of(plan.model, plan.shape)
    disk, one = format_bytes(needs.run_disk_bytes), format_bytes(needs.checkpoint_bytes)
    merged = f", RAM {format_bytes(needs.merge_ram_bytes)} to merge" if needs.merge_ram_bytes else ""
    pinned = f", RAM {format_bytes(needs.pinned_ram_bytes)} for inputs" if needs.pinned_ram_bytes else ""
    line(f"  disk up to {disk} a run ({one} a checkpoint){pinned}{merged}")
    parts = [f"download {format_bytes(needs.download_bytes)}"] if needs.download_bytes else []
    if plan.shape.device == "cuda":
        parts.append(
            f"RAM about {format_bytes(needs.load_ram_bytes)} to load, {format_bytes(needs.train_ram_bytes)} to train"
        )
    if parts:
        line("  " + ", ".join(parts))


def _show_exact(answer: FitReport) -> None:
    """Print the simulated step beside the closed form."""
    exact, estimate = answer.exact, answer.plan.estimate
    assert exact is not None
    line(f"simulated step, every layer: {answer.verdict}")
    for part in ("allocated", "reserved", "device"):
        simulated, formula = getattr(exact, f"{part}_bytes"), getattr(estimate, f"{part}_bytes")
        line(f"  {part:<10} {format_bytes(simulated):>9}  closed form {formula / simulated - 1:+.2%}")


def _show_pairs(rows: Sequence[tuple[str, str, str]]) -> None:
    """Print name, value and text in columns; the text wraps within its column."""
    first, second = max(len(row[0]) for row in rows), max(len(row[1]) for row in rows)
    for name, value, words in rows:
        head = f"  {name.ljust(first)}  {value.rjust(second)}  "
        room = max(24, width() - len(head))
        wrapped = click.wrap_text(words, room).split("\n") if words else [""]
        line((head + wrapped[0]).rstrip())
        for text in wrapped[1:]:
            line(" " * len(head) + text)


def _show_settings(plan: Plan) -> None:
    """Print `key = value  reason`; long reasons wrap below."""
    for choice in plan.choices:
        _show_wrapped(f"  {choice.key} = {_value(choice.value)}", choice.reason)


def _show_wrapped(head: str, words: str) -> None:
    if len(head) + 3 + len(words) <= width():
        line(f"{head} · {words}")
        return
    line(head)
    for text in click.wrap_text(words, width() - 6).split("\n"):
        line(f"      {text}")


def _value(value: str | int | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def show_choices(machine: Machine, answer: FitReport, target: Path | None) -> None:
    """Print a recommendation: one line of result, the settings with reasons, the file written."""
    plan = answer.plan
    for text in machine_lines(machine, [plan]):
        line(text)
    line()
    needed, usable = format_bytes(plan.estimate.device_bytes), format_bytes(plan.available_bytes)
    line(f"{plan.model.name}  {method_words(plan.shape)}  {plan.verdict}  {needed} of {usable}  {speed(plan)} tokens/s")
    if answer.tokens_seen and plan.verdict != "NO":
        line(f"  {duration(plan, answer.tokens_seen)} for {_data(answer)}")
    _show_settings(plan)
    for text in plan.alternatives:
        line(f"  or {text}")
    if target is not None and plan.verdict != "NO":
        line(f"written: {target}")
