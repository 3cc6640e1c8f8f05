"""How a worker ends: every failure has its exit code, and nothing keeps a request to stop."""

from __future__ import annotations

import pytest

from engine.errors import EngineError, ExitCode
from engine.worker import Stopped, _as_engine_error


def raised(error):
    try:
        raise error
    except type(error) as caught:
        return _as_engine_error(caught)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (EngineError("bad rows", code=ExitCode.DATA), ExitCode.DATA),
        (OSError(28, "No space left on device"), ExitCode.DISK),
        (RuntimeError("I/O error: No space left on device (os error 28)"), ExitCode.DISK),
        (OSError(122, "Disk quota exceeded"), ExitCode.DISK),
        (MemoryError(), ExitCode.RESOURCES),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), ExitCode.RESOURCES),
        (KeyError("surprise"), ExitCode.INTERNAL),
    ],
    ids=str,
)
def test_exit_codes(error, code):
    found = raised(error)
    assert found.code is code
    assert found.message


def test_an_internal_error_says_where_it_happened():
    assert "test_worker.py:" in raised(ValueError("odd")).hint


def test_no_except_exception_keeps_a_stop():
    assert not issubclass(Stopped, Exception)
