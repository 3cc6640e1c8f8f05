"""The only names of the engine that the deck and scripts use.

Importing this loads nothing else: a name's module is imported when the name is first used, so a shell
check never pays for pydantic, and nothing here ever reaches torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.errors import EngineError as EngineError
    from engine.errors import ExitCode as ExitCode
    from engine.errors import Problem as Problem
    from engine.evaluate.page import count_rows as count_rows
    from engine.evaluate.page import score_rows as score_rows
    from engine.files import read_json as read_json
    from engine.files import write_text_atomic as write_text_atomic
    from engine.hardware.cards import card_name as card_name
    from engine.hardware.cards import card_title as card_title
    from engine.hardware.cards import listed_gpus as listed_gpus
    from engine.hardware.cards import model_name as model_name
    from engine.hardware.cards import why_not as why_not
    from engine.hardware.machine import Gpu as Gpu
    from engine.hardware.machine import Machine as Machine
    from engine.hardware.probe import hypothetical_machine as hypothetical_machine
    from engine.hardware.probe import probe_machine as probe_machine
    from engine.memory.shape import GIB as GIB
    from engine.memory.shape import MemoryEstimate as MemoryEstimate
    from engine.memory.shape import TrainingShape as TrainingShape
    from engine.models.catalog import load_catalog as load_catalog
    from engine.models.resolve import resolve_model as resolve_model
    from engine.models.spec import ModelSpec as ModelSpec
    from engine.profile.data_files import data_path as data_path
    from engine.profile.fields import field_at as field_at
    from engine.profile.fields import format_value as format_value
    from engine.profile.fields import parse_value as parse_value
    from engine.profile.fields import profile_fields as profile_fields
    from engine.profile.fieldspec import WHOLE_TABLES as WHOLE_TABLES
    from engine.profile.fieldspec import FieldSpec as FieldSpec
    from engine.profile.load import LoadedProfile as LoadedProfile
    from engine.profile.load import load_profile as load_profile
    from engine.profile.load import load_text as load_text
    from engine.profile.save import edit_profile as edit_profile
    from engine.profile.save import edited_text as edited_text
    from engine.profile.save import profile_text as profile_text
    from engine.profile.save import save_text as save_text
    from engine.profile.save import write_profile as write_profile
    from engine.profile.shipped import find_profile as find_profile
    from engine.profile.shipped import shipped_profile as shipped_profile
    from engine.profile.shipped import shipped_profiles as shipped_profiles
    from engine.profile.tomltext import BadToml as BadToml
    from engine.profile.tomltext import read_text as read_text
    from engine.profile.values import allowed as allowed
    from engine.recommend.device import device_settings as device_settings
    from engine.recommend.plan import Choice as Choice
    from engine.recommend.plan import Plan as Plan
    from engine.recommend.plan import Requirements as Requirements
    from engine.recommend.search import plan_model as plan_model
    from engine.recommend.search import rank_models as rank_models
    from engine.resolve.check import Examination as Examination
    from engine.resolve.check import check_profile as check_profile
    from engine.resolve.check import examine as examine
    from engine.resolve.remedies import Failure as Failure
    from engine.resolve.remedies import Remedy as Remedy
    from engine.resolve.remedies import apply_remedy as apply_remedy
    from engine.resolve.remedies import failure_of as failure_of
    from engine.resolve.remedies import remedies as remedies
    from engine.resolve.resolve import Resolved as Resolved
    from engine.resolve.resolve import as_written as as_written
    from engine.resolve.resolve import plan_to_profile as plan_to_profile
    from engine.resolve.resolve import resolve_profile as resolve_profile
    from engine.runs.control import pending as pending
    from engine.runs.control import request as request
    from engine.runs.events import Event as Event
    from engine.runs.events import read_events as read_events
    from engine.runs.jobs import EVALUATION_FOLDER as EVALUATION_FOLDER
    from engine.runs.jobs import EXPORT_FOLDER as EXPORT_FOLDER
    from engine.runs.jobs import evaluation_job as evaluation_job
    from engine.runs.jobs import export_job as export_job
    from engine.runs.launch import begin_job as begin_job
    from engine.runs.launch import resume_run as resume_run
    from engine.runs.launch import run_job as run_job
    from engine.runs.launch import start_run as start_run
    from engine.runs.launch import stop_job as stop_job
    from engine.runs.launch import wait_started as wait_started
    from engine.runs.lock import holder_pid as holder_pid
    from engine.runs.store import Run as Run
    from engine.runs.store import find_run as find_run
    from engine.runs.store import list_runs as list_runs
    from engine.runs.store import load_run_json as load_run_json
    from engine.runs.store import remove_run as remove_run
    from engine.runs.store import run_state as run_state
    from engine.runs.store import runs_root as runs_root
    from engine.runs.store import state_home as state_home
    from engine.runs.store import worker_pid as worker_pid
    from engine.runs.talk import Talk as Talk
    from engine.runs.view import Curve as Curve
    from engine.runs.view import RunFold as RunFold
    from engine.runs.view import describe as describe
    from engine.sweep.page import bill_lines as bill_lines
    from engine.sweep.prepare import PreparedSweep as PreparedSweep
    from engine.sweep.prepare import prepare_sweep as prepare_sweep
    from engine.sweep.prepare import resume_sweep as resume_sweep
    from engine.sweep.prepare import start_sweep as start_sweep
    from engine.sweep.store import list_sweeps as list_sweeps
    from engine.sweep.store import read_sweep as read_sweep
    from engine.sweep.store import read_trials as read_trials
    from engine.sweep.store import remove_sweep as remove_sweep
    from engine.sweep.table import ranked as ranked

_MODULES = {
    "engine.errors": (
        "EngineError",
        "ExitCode",
        "Problem",
    ),
    "engine.evaluate.page": (
        "count_rows",
        "score_rows",
    ),
    "engine.hardware.cards": (
        "card_name",
        "card_title",
        "listed_gpus",
        "model_name",
        "why_not",
    ),
    "engine.hardware.machine": (
        "Gpu",
        "Machine",
    ),
    "engine.hardware.probe": (
        "hypothetical_machine",
        "probe_machine",
    ),
    "engine.memory.shape": (
        "GIB",
        "MemoryEstimate",
        "TrainingShape",
    ),
    "engine.models.catalog": ("load_catalog",),
    "engine.models.resolve": ("resolve_model",),
    "engine.models.spec": ("ModelSpec",),
    "engine.resolve.check": (
        "Examination",
        "check_profile",
        "examine",
    ),
    "engine.profile.data_files": ("data_path",),
    "engine.profile.fields": (
        "field_at",
        "format_value",
        "parse_value",
        "profile_fields",
    ),
    "engine.profile.fieldspec": (
        "WHOLE_TABLES",
        "FieldSpec",
    ),
    "engine.profile.load": (
        "LoadedProfile",
        "load_profile",
        "load_text",
    ),
    "engine.resolve.remedies": (
        "Failure",
        "Remedy",
        "apply_remedy",
        "failure_of",
        "remedies",
    ),
    "engine.resolve.resolve": (
        "Resolved",
        "as_written",
        "plan_to_profile",
        "resolve_profile",
    ),
    "engine.profile.save": (
        "edit_profile",
        "edited_text",
        "profile_text",
        "save_text",
        "write_profile",
    ),
    "engine.profile.shipped": (
        "find_profile",
        "shipped_profile",
        "shipped_profiles",
    ),
    "engine.profile.tomltext": (
        "BadToml",
        "read_text",
    ),
    "engine.profile.values": ("allowed",),
    "engine.recommend.device": ("device_settings",),
    "engine.recommend.plan": (
        "Choice",
        "Plan",
        "Requirements",
    ),
    "engine.recommend.search": (
        "plan_model",
        "rank_models",
    ),
    "engine.runs.control": (
        "pending",
        "request",
    ),
    "engine.runs.events": (
        "Event",
        "read_events",
    ),
    "engine.files": (
        "read_json",
        "write_text_atomic",
    ),
    "engine.runs.jobs": (
        "EVALUATION_FOLDER",
        "EXPORT_FOLDER",
        "evaluation_job",
        "export_job",
    ),
    "engine.runs.launch": (
        "resume_run",
        "run_job",
        "begin_job",
        "start_run",
        "stop_job",
        "wait_started",
    ),
    "engine.runs.lock": ("holder_pid",),
    "engine.runs.store": (
        "Run",
        "find_run",
        "list_runs",
        "load_run_json",
        "remove_run",
        "run_state",
        "runs_root",
        "state_home",
        "worker_pid",
    ),
    "engine.runs.talk": ("Talk",),
    "engine.runs.view": (
        "Curve",
        "RunFold",
        "describe",
    ),
    "engine.sweep.page": ("bill_lines",),
    "engine.sweep.prepare": (
        "PreparedSweep",
        "prepare_sweep",
        "resume_sweep",
        "start_sweep",
    ),
    "engine.sweep.store": (
        "list_sweeps",
        "read_sweep",
        "read_trials",
        "remove_sweep",
    ),
    "engine.sweep.table": ("ranked",),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    """Import the module that has `name`, once."""
    module = _HOME.get(name)
    if module is None:
        raise AttributeError(f"engine.api has no name {name!r}")
    value = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(_HOME)
