"""Measuring what a device does: in a process of its own, and keeping the figures beside the device's runs.

Used by `engine probe --measure`; the worker measures inside itself and only keeps. Not here: the measuring
(`engine.train.microbench`), what a file holds (`engine.speed.measured`).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile

from engine.errors import EngineError, ExitCode
from engine.hardware.machine import Gpu, Machine
from engine.memory.calibration_store import FILE_VERSION, read_records
from engine.runs.files import write_json_atomic
from engine.runs.launch import worker_environment
from engine.speed.measured import (
    MOST_RECORDS,
    MeasuredRates,
    decode_rates,
    encode_rates,
    rates_path,
    rates_software,
)

_TIME_LIMIT_S = 120.0


def measure_device(gpu: Gpu | None, machine: Machine) -> MeasuredRates:
    """Measure `gpu` (the processor for `None`) and keep the figures. Takes the second that torch's import takes.

    Raises EngineError(ENVIRONMENT) when the measuring fails: no torch, no memory left on the card.
    """
    launch = {"device": "cpu"} if gpu is None else {"device": "cuda", "gpu": gpu.uuid}
    environment = worker_environment({"settings": {"launch": launch}})
    rates = _run("cpu" if gpu is None else "cuda", environment, machine.cpu.name if gpu is None else gpu.name)
    keep_rates(rates, gpu, machine)
    return rates


def keep_rates(rates: MeasuredRates, gpu: Gpu | None, machine: Machine) -> bool:
    """Put `rates` into the device's file in place of what it says of this software; False for a card without a UUID.

    Raises OSError when it cannot be written. A damaged file begins anew: it holds nothing that a second cannot bring.
    """
    path = rates_path(gpu, machine)
    if path is None:
        return False
    fresh = encode_rates(rates, rates_software(gpu, machine))
    try:
        others = [record for record in read_records(path) if record.get("software") != fresh["software"]]
    except (ValueError, RecursionError):
        others = []
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_json_atomic(path, {"v": FILE_VERSION, "records": [*others[1 - MOST_RECORDS :], fresh]})
    return True


def _run(device: str, environment: dict[str, str], name: str) -> MeasuredRates:
    command = [sys.executable, "-P", "-m", "engine.train.microbench", device]
    with tempfile.TemporaryFile() as messages:
        try:
            done = subprocess.run(
                command, stdout=subprocess.PIPE, stderr=messages, env=environment, timeout=_TIME_LIMIT_S, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise _failure(name, f"it took over {_TIME_LIMIT_S:.0f} s") from error
        messages.seek(0)
        words = messages.read().decode("utf-8", "replace").strip().splitlines()
    try:
        if done.returncode:
            raise ValueError(words[-1] if words else f"exit code {done.returncode}")
        return decode_rates(json.loads(done.stdout))
    except (ValueError, KeyError, TypeError) as error:
        raise _failure(name, str(error)) from error


def _failure(name: str, reason: str) -> EngineError:
    return EngineError(
        f"{name} could not be measured: {reason}",
        code=ExitCode.ENVIRONMENT,
        where="probe --measure",
        hint="see 'engine probe' for what stands in the way; without it the speed comes from a table",
    )
