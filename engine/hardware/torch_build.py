"""Which torch is installed and whether it can run on the GPUs here, without importing it.

torch takes seconds to import; `torch/version.py` is three assignments that can be read as text.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass

from engine.hardware.files import read_text
from engine.hardware.machine import Gpu

_MINIMUM_DRIVER = {11: 450, 12: 525, 13: 580}
"""CUDA major version -> driver branch it needs on Linux (CUDA compatibility guide)."""


@dataclass(frozen=True, slots=True)
class TorchBuild:
    """`cuda_version` is `13.0` and the like; `None` for a build without CUDA."""

    version: str
    cuda_version: str | None = None


def find_torch(search: list[str] | None = None) -> TorchBuild | None:
    """The torch that `import torch` would load; `None` where there is none."""
    for folder in sys.path if search is None else search:
        text = read_text(folder or os.getcwd(), "torch/version.py", 8192)
        version = re.search(r"^__version__\s*(?::[^=]*)?=\s*['\"]([^'\"]+)['\"]", text, re.MULTILINE)
        if version:
            cuda = re.search(r"^cuda\s*(?::[^=]*)?=\s*['\"]([^'\"]+)['\"]", text, re.MULTILINE)
            return TorchBuild(version.group(1), cuda.group(1) if cuda else None)
    return None


def mismatch_notes(
    torch: TorchBuild | None, driver: str | None, cuda_driver: tuple[int, int] | None, gpus: tuple[Gpu, ...]
) -> list[str]:
    """What would keep this torch from using these GPUs, each with what to do. Empty without GPUs."""
    if torch is None:
        return ["torch is not installed in this environment: nothing can be trained until it is (pip install torch)"]
    if not gpus:
        return []
    if torch.cuda_version is None:
        return [
            f"torch {torch.version} is a build without CUDA, so training would run on the processor: install a CUDA "
            "build (https://pytorch.org/get-started/locally)"
        ]
    found = _driver_note(torch, driver, cuda_driver)
    return ([found] if found else []) + _capability_notes(torch, gpus)


def _driver_note(torch: TorchBuild, driver: str | None, cuda_driver: tuple[int, int] | None) -> str | None:
    wanted = _cuda(torch)[0]
    least = _MINIMUM_DRIVER.get(wanted)
    if _driver_fits(wanted, least, driver, cuda_driver):
        return None
    needs = f"driver {least} or newer" if least else "a newer driver"
    return (
        f"torch {torch.version} is built for CUDA {torch.cuda_version} and needs {needs}, this is driver "
        f"{driver or 'unknown'}: update the driver, or install a torch build for an older CUDA"
    )


def _driver_fits(wanted: int, least: int | None, driver: str | None, cuda_driver: tuple[int, int] | None) -> bool:
    """The driver's CUDA version decides where it is known (compatibility packages raise it), else its number."""
    if cuda_driver is not None:
        return cuda_driver[0] >= wanted
    branch = re.match(r"\d+", driver or "")
    return least is None or branch is None or int(branch.group()) >= least


def _capability_notes(torch: TorchBuild, gpus: tuple[Gpu, ...]) -> list[str]:
    cuda, found = _cuda(torch), []
    for gpu in gpus:
        capability = gpu.compute_capability
        if capability is None:
            continue
        label = f"{gpu.name} (capability {capability[0]}.{capability[1]})"
        if cuda >= (13, 0) and capability < (7, 5):
            found.append(f"torch builds for CUDA {torch.cuda_version} leave out {label}: install one for CUDA 12.6")
        elif cuda < (12, 8) and capability >= (10, 0):
            found.append(
                f"torch for CUDA {torch.cuda_version} is too old for {label}: install one for CUDA 12.8 or later"
            )
    return list(dict.fromkeys(found))


def _cuda(torch: TorchBuild) -> tuple[int, int]:
    numbers = [int(part) for part in re.findall(r"\d+", torch.cuda_version or "")[:2]]
    return (numbers[0], numbers[1]) if len(numbers) == 2 else (numbers[0] if numbers else 0, 0)
