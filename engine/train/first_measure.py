"""The first run on a device measures it, once for each torch and driver: the next prediction goes by that.

Called by `train.run` before the model is there. Not here: the measuring (`microbench.py`), keeping it
(`engine.runs.measure`).
"""

from __future__ import annotations

import torch

from engine.hardware.machine import Gpu, Machine
from engine.runs.measure import keep_rates
from engine.speed.measured import MeasuredRates, load_rates, rates_path
from engine.train.microbench import measure, measured_dtypes
from engine.worker_job import Job


def measured_rates(job: Job, device: str, gpu: Gpu | None, machine: Machine) -> MeasuredRates | None:
    """Rates of this run's device, taken now if nobody did; None for a device that keeps none or that has no room."""
    if rates_path(gpu, machine) is None or (gpu is None) != (device == "cpu"):
        return None
    if device == "cuda" and not torch.cuda.is_available():
        return None  # the run ends over it in a moment, with its own words
    known = load_rates(gpu, machine)
    if known is not None:
        return known
    job.phase("measure", "what this device does: once, under a second")
    try:
        rates = measure(device, measured_dtypes(device))
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
