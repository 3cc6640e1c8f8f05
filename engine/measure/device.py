"""Measure a device, in a process of its own or inside the worker, and keep the figures beside the device's runs.

The first run on a device measures it, once for each torch and driver. `microbench.py` does the measuring;
`engine.speed.measured` knows what the file holds. torch loads only inside the worker.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile

from engine.errors import EngineError, ExitCode
from engine.files import write_json_atomic
from engine.hardware.machine import Gpu, Machine
from engine.memory.calibration_store import FILE_VERSION, read_records
from engine.runs.job import Job
from engine.runs.launch import worker_environment
from engine.runs.record import LaunchSettings
from engine.speed.measured import (
    MOST_RECORDS,
    MeasuredRates,
    decode_rates,
    encode_rates,
    load_rates,
    rates_path,
    rates_software,
)

_TIME_LIMIT_S = 120.0


def measure_device(gpu: Gpu | None, machine: Machine) -> MeasuredRates:
    """Measure `gpu` (the processor for `None`) and keep the figures. Takes the second that torch's import takes.

    Raises EngineError(ENVIRONMENT) when the measuring fails: no torch, no memory left on the card.
    """
    launch = LaunchSettings("cpu") if gpu is None else LaunchSettings("cuda", gpu.uuid or "")
    environment = worker_environment(launch)
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
    command = [sys.executable, "-P", "-m", "engine.measure.microbench", device]
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


def measured_rates(job: Job, device: str, gpu: Gpu | None, machine: Machine) -> MeasuredRates | None:
    """Rates of this run's device, taken now if nobody did; None for a device that keeps none or that has no room."""
    if rates_path(gpu, machine) is None or (gpu is None) != (device == "cpu"):
        return None
    import torch

    from engine.measure import microbench

    if device == "cuda" and not torch.cuda.is_available():
        return None  # the run ends over it in a moment, with its own words
    known = load_rates(gpu, machine)
    if known is not None:
        return known
    job.phase("measure", "what this device does: once, under a second")
    try:
        rates = microbench.measure(device, microbench.measured_dtypes(device))
        keep_rates(rates, gpu, machine)
        return rates
    except (OSError, RuntimeError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        job.warn("device_not_measured", f"predictions of speed go on without measured rates: {first}")
        return None
    finally:
        if device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
