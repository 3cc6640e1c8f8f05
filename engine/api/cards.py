"""What each card does now and which runs are at work there. Loads neither pydantic nor torch."""

from __future__ import annotations

from engine.hardware.loads import CardLoad as CardLoad
from engine.hardware.loads import CardWatch as CardWatch
from engine.hardware.loads import Loads as Loads
from engine.hardware.loads import place_of as place_of
from engine.hardware.machine import GpuProcess as GpuProcess
from engine.runs.workers import run_of_process as run_of_process
