"""Which processes a launcher started as one of several; Slurm's variables are as Slurm 22.05 sets them."""

from __future__ import annotations

import pytest

from engine.errors import EngineError, ExitCode
from engine.runs import launch
from engine.runs.ranks import forget_rank, refuse_ranks, without_rank
from engine.runs.record import LaunchSettings

TASK = {"SLURM_NTASKS": "2", "SLURM_PROCID": "1", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2"}
RANKS = {
    "torchrun": ("WORLD_SIZE", {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}),
    "mpirun of Open MPI": ("OMPI_COMM_WORLD_SIZE", {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"}),
    "mpirun of MPICH": ("PMI_SIZE", {"PMI_SIZE": "2", "PMI_RANK": "0"}),
    "mpirun of MVAPICH": ("MV2_COMM_WORLD_SIZE", {"MV2_COMM_WORLD_SIZE": "2"}),
    "a size with a space": ("WORLD_SIZE", {"WORLD_SIZE": " 2"}),
    "srun -n2": ("SLURM_STEP_NUM_TASKS", TASK),
    "srun -n2, its first task": ("SLURM_STEP_NUM_TASKS", {**TASK, "SLURM_PROCID": "0"}),
    "srun -n2 --pty, a task without the terminal": ("SLURM_STEP_NUM_TASKS", {**TASK, "SLURM_PTY_PORT": "33509"}),
}
SINGLE = {
    "a plain shell": {},
    "torchrun with one process": {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"},
    "salloc -n3": {"SLURM_NTASKS": "3", "SLURM_NPROCS": "3"},
    "a script of sbatch -n3": {"SLURM_NTASKS": "3", "SLURM_NPROCS": "3", "SLURM_PROCID": "0"},
    "srun -n1": {**TASK, "SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"},
    "the shell of srun -n3 --pty": {**TASK, "SLURM_PROCID": "0", "SLURM_PTY_PORT": "33509", "PMI_SIZE": "3"},
    "no number": {"WORLD_SIZE": "many", "PMI_SIZE": "", "OMPI_COMM_WORLD_SIZE": "-2"},
}


@pytest.mark.parametrize("case", RANKS)
def test_one_of_several_is_refused_with_what_was_found_and_what_to_do(case: str) -> None:
    name, environment = RANKS[case]
    with pytest.raises(EngineError) as raised:
        refuse_ranks(environment)
    error = raised.value
    assert error.code is ExitCode.ENVIRONMENT
    assert f"{name}=2" in error.message
    assert "one device" in error.message
    assert "launch.gpu" in error.hint
    assert ("srun --ntasks=1" in error.hint) == (name == "SLURM_STEP_NUM_TASKS")


@pytest.mark.parametrize("case", SINGLE)
def test_a_process_of_its_own_is_let_through(case: str) -> None:
    refuse_ranks(SINGLE[case])


def test_nothing_of_a_launcher_reaches_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    left_by = {"WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "ACCELERATE_USE_FSDP": "true"}
    for name, value in {**left_by, "TORCHELASTIC_RUN_ID": "none", "SLURM_JOB_ID": "7"}.items():
        monkeypatch.setenv(name, value)
    found = launch.worker_environment(LaunchSettings())
    assert not {*left_by, "TORCHELASTIC_RUN_ID"} & set(found)
    assert found["SLURM_JOB_ID"] == "7"


def test_a_process_forgets_its_rank() -> None:
    environment = {"RANK": "0", "PMI_FD": "11", "PATH": "/bin", "MASTERS": "x"}
    assert without_rank(environment) == {"PATH": "/bin", "MASTERS": "x"}
    forget_rank(environment)
    assert environment == {"PATH": "/bin", "MASTERS": "x"}
