"""Runs: start, find, follow, ask, resume, remove. Loads neither pydantic nor torch."""

from __future__ import annotations

from engine.runs.control import pending as pending
from engine.runs.control import request as request
from engine.runs.events import Event as Event
from engine.runs.events import EventReader as EventReader
from engine.runs.events import parse_event as parse_event
from engine.runs.events import read_events as read_events
from engine.runs.health import Concern as Concern
from engine.runs.health import HealthFold as HealthFold
from engine.runs.launch import begin_job as begin_job
from engine.runs.launch import resume_run as resume_run
from engine.runs.launch import run_job as run_job
from engine.runs.launch import start_run as start_run
from engine.runs.launch import stop_job as stop_job
from engine.runs.launch import wait_started as wait_started
from engine.runs.lock import holder_pid as holder_pid
from engine.runs.record import RunRecord as RunRecord
from engine.runs.record import Summary as Summary
from engine.runs.record import SweepTrial as SweepTrial
from engine.runs.record import load_data_record as load_data_record
from engine.runs.record import load_record as load_record
from engine.runs.record import read_record as read_record
from engine.runs.record import record_of as record_of
from engine.runs.record import summary_or_empty as summary_or_empty
from engine.runs.samples import Sample as Sample
from engine.runs.samples import Samples as Samples
from engine.runs.samples import read_samples as read_samples
from engine.runs.state import LIVE_STATES as LIVE_STATES
from engine.runs.state import Marks as Marks
from engine.runs.state import fold_marks as fold_marks
from engine.runs.state import run_state as run_state
from engine.runs.store import Run as Run
from engine.runs.store import find_run as find_run
from engine.runs.store import list_runs as list_runs
from engine.runs.store import remove_run as remove_run
from engine.runs.store import runs_root as runs_root
from engine.runs.store import state_home as state_home
from engine.runs.store import worker_pid as worker_pid
from engine.runs.view import Curve as Curve
from engine.runs.view import RunFold as RunFold
from engine.runs.view import describe as describe
