"""Sweeps: start, list, read, resume, remove. Loads neither pydantic nor Optuna."""

from __future__ import annotations

from engine.sweep.launch import resume_sweep as resume_sweep
from engine.sweep.launch import start_sweep as start_sweep
from engine.sweep.page import cost_lines as cost_lines
from engine.sweep.page import value_text as value_text
from engine.sweep.picture import Dot as Dot
from engine.sweep.picture import SettingChart as SettingChart
from engine.sweep.picture import SweepPicture as SweepPicture
from engine.sweep.picture import sweep_picture as sweep_picture
from engine.sweep.store import list_sweeps as list_sweeps
from engine.sweep.store import read_sweep as read_sweep
from engine.sweep.store import remove_sweep as remove_sweep
from engine.sweep.table import TrialRow as TrialRow
from engine.sweep.table import ranked as ranked
from engine.sweep.table import read_rows as read_rows
