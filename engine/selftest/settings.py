"""Was the recommended setting the fastest that fits? Judged from the speeds of it and its neighbors. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence

from engine.selftest.checks import FAILED, PASSED, SKIPPED, Finding

NAME = "the recommended setting is the fastest of these"
TOLERATED = {"cuda": 1.08, "cpu": 1.25}
"""A neighbor may be faster by as much: less is noise, more on a processor that others use."""


def speed_of(finding: Finding) -> float:
    """Tokens per second; 0 for a setting that did not run."""
    return float(finding.figures.get("tokens_per_second") or 0.0) if finding.status == PASSED else 0.0


def faster(findings: Sequence[Finding], device: str) -> Finding | None:
    """The neighbor that is surely faster than the first; None where there is none."""
    if len(findings) < 2 or not speed_of(findings[0]):
        return None
    best = max(findings[1:], key=speed_of)
    return best if speed_of(best) > TOLERATED[device] * speed_of(findings[0]) else None


def better(one: Finding, again: Finding) -> Finding:
    """The faster of two runs of one setting: other people's work only ever makes it slower."""
    return again if speed_of(again) > speed_of(one) else one


def conclude(findings: Sequence[Finding], device: str) -> Finding:
    """One finding about all of them; the first is the recommended setting."""
    measured = [finding for finding in findings if speed_of(finding)]
    if len(findings) < 2 or len(measured) < 2 or measured[0] is not findings[0]:
        return Finding(NAME, SKIPPED, "fewer than two settings were measured")
    best = faster(findings, device)
    if best is None:
        count = len(measured) - 1
        return Finding(NAME, PASSED, f"{count} neighbor{'s' * (count > 1)} measured, none surely faster")
    gain = speed_of(best) / speed_of(findings[0])
    return Finding(NAME, FAILED, f"{best.name} is {gain:.2f} times as fast", {"times_as_fast": gain})
