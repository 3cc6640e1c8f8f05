"""Whether a launcher started this process as one of several, and a worker's environment without that.

A run of this version has one process and one device. A rank that went ahead would wait for the others for ever
(`torch.distributed`), or train alone what all of them train. The command line and `launch.py` call this; the
worker removes what reaches it all the same.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping

from engine.errors import EngineError, ExitCode

_SIZES = ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
"""How many processes there are, as torchrun and accelerate, Open MPI, MPICH and Intel MPI, and MVAPICH say it."""
_STEP_SIZE = "SLURM_STEP_NUM_TASKS"
"""Tasks of this process's own step. `SLURM_NTASKS` is what a job may start, and stands in batch scripts too."""
_SET_BY_SRUN = ("PMI_SIZE", _STEP_SIZE)

_RANK_NAMES = {
    "WORLD_SIZE",
    "RANK",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "GROUP_RANK",
    "GROUP_WORLD_SIZE",
    "ROLE_RANK",
    "ROLE_NAME",
    "ROLE_WORLD_SIZE",
    "NODE_RANK",
    "MASTER_ADDR",
    "MASTER_PORT",
}
# accelerate's own switch FSDP, DeepSpeed, device and precision, which are the profile's to choose.
_RANK_PREFIXES = ("TORCHELASTIC_", "ACCELERATE_", "FSDP_", "OMPI_COMM_WORLD_", "PMI_", "PMIX_", "MV2_COMM_WORLD_")


def refuse_ranks(environment: Mapping[str, str] = os.environ) -> None:
    """Raise EngineError(ENVIRONMENT) when a launcher started this process as one of several."""
    found = _size(environment)
    if found is None:
        return
    name, size = found
    once = "without torchrun, accelerate launch or mpirun" if name != _STEP_SIZE else "with srun --ntasks=1"
    raise EngineError(
        f"{name}={size}: this is one of {size} processes, and this version trains on one device in one process",
        code=ExitCode.ENVIRONMENT,
        hint=f"start it once, {once} (or unset {name}); launch.gpu in the profile chooses the card",
    )


def without_rank(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` without what makes torch and accelerate look for other processes."""
    return {name: value for name, value in environment.items() if not _is_rank_name(name)}


def forget_rank(environment: MutableMapping[str, str] = os.environ) -> None:
    """Remove the same from this process's own environment."""
    for name in [name for name in environment if _is_rank_name(name)]:
        del environment[name]


def _is_rank_name(name: str) -> bool:
    return name in _RANK_NAMES or name.startswith(_RANK_PREFIXES)


def _size(environment: Mapping[str, str]) -> tuple[str, int] | None:
    """The variable that tells of several processes, and how many."""
    others = _SET_BY_SRUN if _is_at_terminal_of_step(environment) else ()
    names = [name for name in (*_SIZES, _STEP_SIZE) if name not in others]
    sizes = ((name, _number(environment.get(name, ""))) for name in names)
    return next(((name, size) for name, size in sizes if size > 1), None)


def _is_at_terminal_of_step(environment: Mapping[str, str]) -> bool:
    """Whether this is the shell that `srun --ntasks=4 --pty bash` opens: task 0 alone has the terminal."""
    return "SLURM_PTY_PORT" in environment and environment.get("SLURM_PROCID") == "0"


def _number(text: str) -> int:
    text = text.strip()
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0
