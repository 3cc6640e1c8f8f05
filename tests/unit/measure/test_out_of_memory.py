"""What a run that does not fit is told to change: settings that fit by prediction, nearest first."""

from __future__ import annotations

import pytest
import torch

from engine.errors import OUT_OF_MEMORY, EngineError, ExitCode
from engine.hardware.probe import hypothetical_machine
from engine.measure.comparison import PredictedRun
from engine.measure.out_of_memory import fitting_changes, out_of_memory_error
from engine.memory.phases import peak
from engine.memory.shape import GIB, TrainingShape
from engine.models.catalog import catalog_index

SPEC = catalog_index()["llama-3.1-8b"]
SHORTAGE = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def subject(**shape: object) -> PredictedRun:
    wanted = TrainingShape(micro_batch=1, max_length=4096, checkpoint_every=0, **shape)  # type: ignore[arg-type]
    return PredictedRun(SPEC, wanted, peak(SPEC, wanted))


@pytest.mark.parametrize("had_gib", [12, 20, 1000])
def test_every_remedy_takes_less_than_what_was_not_enough(had_gib: int) -> None:
    machine = hypothetical_machine("RTX 4090", 1)
    short = subject()
    found = fitting_changes(short, machine, machine.gpus[0], had_gib * GIB)
    assert found
    for text in found:
        assert "GiB" in text
        assert "micro-batch" not in text.partition(",")[0], "it is 1 already"
    joined = "; ".join(found)
    assert "checkpointing on" in joined or "nf4" in joined


def test_the_error_says_what_was_predicted_what_there_was_and_what_to_do() -> None:
    machine = hypothetical_machine("RTX 4090", 1)
    error = out_of_memory_error(SHORTAGE, subject(), machine, machine.gpus[0], 22 * GIB)
    assert error.code is ExitCode.RESOURCES
    assert EngineError.from_dict(error.to_dict()).cause == OUT_OF_MEMORY
    assert "Tried to allocate 2.00 GiB" in error.message
    assert "22.0 GiB to have" in error.message
    assert "checkpointing on" in error.hint


def test_a_run_of_another_engine_still_gets_an_error_with_advice() -> None:
    machine = hypothetical_machine("RTX 4090", 1)
    error = out_of_memory_error(SHORTAGE, None, machine, None, GIB)
    assert error.code is ExitCode.RESOURCES
    assert EngineError.from_dict(error.to_dict()).cause == OUT_OF_MEMORY
    assert "max_length" in error.hint
