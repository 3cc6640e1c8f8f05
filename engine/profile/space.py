"""Warnings of a profile whose run or export needs more disk or RAM than this machine has free.

Called by `resolve.py`, when everything that decides the sizes is chosen.
"""

from __future__ import annotations

from collections.abc import Iterator

from engine.errors import Problem
from engine.hardware.machine import Machine
from engine.memory.needs import needs_of
from engine.profile.findings import finding
from engine.profile.load import LoadedProfile
from engine.profile.schema import Profile
from engine.recommend.plan import Plan
from engine.text import format_bytes


def space_warnings(loaded: LoadedProfile, settings: Profile, plan: Plan, machine: Machine) -> Iterator[Problem]:
    """At most three: disk for the run, RAM for offloaded inputs, RAM for merging afterwards."""
    train = settings.train
    needs = needs_of(
        plan.model,
        plan.shape,
        save_total_limit=train.save_total_limit,
        keeps_best=train.load_best_model_at_end,
    )
    if needs.run_disk_bytes > machine.disk_free_bytes:
        message = (
            f"the run takes up to {format_bytes(needs.run_disk_bytes)} of disk"
            f" ({format_bytes(needs.checkpoint_bytes)} a checkpoint),"
            f" {format_bytes(machine.disk_free_bytes)} are free at {machine.disk_path}"
        )
        hint = "free space, keep fewer checkpoints, or point XDG_STATE_HOME at a larger disk"
        yield finding(loaded, "train.save_total_limit", message, hint, is_warning=True).problem
    if needs.pinned_ram_bytes > machine.ram_available_bytes // 2:
        free = format_bytes(machine.ram_available_bytes)
        message = f"offloaded inputs take {format_bytes(needs.pinned_ram_bytes)} of RAM for good, {free} are free"
        hint = "use a smaller micro-batch or another train.activation_checkpointing"
        yield finding(loaded, "train.activation_checkpointing", message, hint, is_warning=True).problem
    if settings.export.merged and needs.merge_ram_bytes > machine.ram_available_bytes:
        free = format_bytes(machine.ram_available_bytes)
        message = f"merging afterwards takes {format_bytes(needs.merge_ram_bytes)} of RAM, {free} are free"
        hint = "export the adapter alone (export.merged = false), or merge on a larger machine"
        yield finding(loaded, "export.merged", message, hint, is_warning=True).problem
