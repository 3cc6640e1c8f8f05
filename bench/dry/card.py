"""A CUDA card that is not there: its runtime compiled from `card.c`, and the environment in which torch finds it.

Needs a C compiler, and a torch built with CUDA, whose packages bring the headers.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

SOURCE = Path(__file__).with_name("card.c")
LIBRARY = "libcuda.so.1"
"""The driver's name: torch opens it by that, and finds this one loaded already."""
_HEADERS = ("cuda_runtime_api.h", "crt/host_defines.h")


def build(folder: Path) -> Path:
    """The compiled library in `folder`. Raises SystemExit where compiler or headers are missing."""
    includes = [flag for header in _HEADERS for flag in ("-I", str(_folder_of(header)))]
    target = folder / LIBRARY
    command = ["cc", "-shared", "-fPIC", "-w", *includes, str(SOURCE), "-o", str(target), f"-Wl,-soname,{LIBRARY}"]
    try:
        subprocess.run(command, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit(f"the stand-in for a card cannot be compiled: {error}") from None
    return target


def _folder_of(header: str) -> Path:
    """The include folder that has `header`: of torch's CUDA packages, else of Triton."""
    packages = Path(sysconfig.get_paths()["purelib"])
    for pattern in ("nvidia/*/include", "triton/backends/nvidia/include"):
        for folder in sorted(packages.glob(pattern)):
            if (folder / header).exists():
                return folder
    raise SystemExit(f"{sys.executable} has no {header}: run this with a torch built with CUDA (--setup DIR makes one)")


def environment(library: Path, capability: str) -> dict[str, str]:
    """For a process that shall find a card of `capability` ("9.0")."""
    return {
        **os.environ,
        "LD_PRELOAD": str(library),
        "DRY_CARD_CAPABILITY": capability,
        "CUDA_MODULE_LOADING": "LAZY",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
