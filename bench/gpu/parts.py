"""The five parts, each a list of steps in order of worth, so that a cut run leaves the most it could.

`tiny` makes the same steps small enough for a processor: what fails there would fail on the card.
"""

from __future__ import annotations

from dataclasses import replace

from bench.gpu.job import BIG, SMALL, TINY, Job
from bench.gpu.steps import Step

Group = tuple[Step, ...]
PART_S = 540
_STEPS = 12
_WORKERS = 6
_LIMITS_S = {"tunedeck": 90, "unsloth": 130, "trl": 90}
"""Unsloth compiles its layers in the first steps."""

CARD = Step("card", ("-m", "bench.gpu.card"), 45)

_FULL = Job("tunedeck", BIG, "full", row_count=200, steps=_STEPS, micro_batch=4, length=2048)
_NF4 = replace(_FULL, quantization="nf4")
_SHORT = Job("tunedeck", SMALL, "short", row_count=990, steps=_STEPS, micro_batch=4, length=2048, checkpointing=False)
_MIXED = Job("tunedeck", SMALL, "mixed", row_count=400, steps=_STEPS, micro_batch=2, length=8192)
_SHORT_ROWS, _MIXED_ROWS = 40, 10
"""Rows of a peer's step: about the real tokens of a packed one."""

PEERS = {
    "8b-full-tunedeck": _FULL,
    "8b-full-unsloth": replace(_FULL, tool="unsloth"),
    "8b-full-tunedeck-offload": replace(_FULL, checkpointing="offload"),
    "8b-full-tunedeck-auto": replace(_FULL, checkpointing="auto"),
    "8b-full-trl": replace(_FULL, tool="trl"),
    "8b-full-nf4-tunedeck": _NF4,
    "8b-full-nf4-unsloth": replace(_NF4, tool="unsloth"),
    "8b-full-nf4-tunedeck-offload": replace(_NF4, checkpointing="offload"),
    "8b-full-nf4-tunedeck-auto": replace(_NF4, checkpointing="auto"),
    "8b-full-nf4-trl": replace(_NF4, tool="trl"),
}
SHORT = {
    "1b-short-tunedeck": _SHORT,
    "1b-short-unsloth": replace(_SHORT, tool="unsloth", micro_batch=_SHORT_ROWS),
    "1b-short-trl": replace(_SHORT, tool="trl", micro_batch=_SHORT_ROWS),
    "1b-mixed-tunedeck": _MIXED,
    "1b-mixed-unsloth": replace(_MIXED, tool="unsloth", micro_batch=_MIXED_ROWS),
    "1b-mixed-trl": replace(_MIXED, tool="trl", micro_batch=_MIXED_ROWS),
    "1b-mixed-tunedeck-auto": replace(_MIXED, checkpointing="auto"),
}


def job_step(name: str, job: Job, folder: str) -> Step:
    """A speed run as a step."""
    script = "bench.gpu.ours" if job.tool == "tunedeck" else "bench.gpu.peer"
    command = ("-m", script, replace(job, folder=folder).to_json())
    site = "project" if job.tool == "tunedeck" else "peers"
    return Step(name, command, _LIMITS_S[job.tool], site, models=(job.model,))


def small(job: Job) -> Job:
    """The same run for a processor, which has no other memory to put inputs into."""
    checkpointing = True if job.checkpointing == "offload" else job.checkpointing
    return replace(job, model=TINY, steps=4, micro_batch=2, length=128, row_count=60, checkpointing=checkpointing)


def jobs_of(part: str, *, tiny: bool) -> dict[str, Job]:
    """The speed runs of `peers` or `short`."""
    found = PEERS if part == "peers" else SHORT
    return {name: small(job) if tiny else job for name, job in found.items()}


def groups_of(part: str, folder: str, *, tiny: bool) -> list[Group]:
    """The steps of a part; those of a group run at once."""
    if part in ("peers", "short"):
        found: list[Group] = [(job_step(name, job, folder),) for name, job in jobs_of(part, tiny=tiny).items()]
    else:
        found = {"truth": _truth, "variants": _variants, "big": _big}[part](tiny)
    return [(CARD,), *found]


def _truth(tiny: bool) -> list[Group]:
    profile = ("smollm2-135m-instruct", "none", "1", "64") if tiny else (BIG, "none", "4", "2048")
    tests = Step("tests", ("-m", "bench.gpu.checks", "tests"), 200)
    memory = Step("memory", ("-m", "bench.gpu.memory_cases", str(_WORKERS)), 230)
    alone = [
        Step("profile", ("-m", "bench.gpu.step_profile", *profile), 80),
        Step("calibration", ("-m", "bench.gpu.checks", "calibration"), 80),
        Step("probe", ("-m", "bench.gpu.checks", "probe"), 60),
        Step("demo", ("-m", "bench.gpu.checks", "demo"), 110),
    ]
    return [(tests, memory), *((step,) for step in alone)]


def _variants(tiny: bool) -> list[Group]:
    setting = ("smollm2-135m-instruct", "1", "64") if tiny else (BIG, "4", "2048")
    plain = Step("variants", ("-m", "bench.gpu.variants", *setting, "plain"), 240)
    return [(plain,), (Step("compiled", ("-m", "bench.gpu.variants", *setting, "compiled"), 150),)]


def _big(tiny: bool) -> list[Group]:
    names = ("tiny",) if tiny else ("8b-int8", "1b-full", "moe-nf4", "moe-bf16")
    return [(Step(f"big-{name}", ("-m", "bench.gpu.big", name), 150),) for name in names]
