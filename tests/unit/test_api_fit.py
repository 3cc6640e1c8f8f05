"""The door `engine.api.fit` loads what plans when it is first asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

from engine.api import fit


def test_the_fit_screen_is_there_before_anything_plans() -> None:
    code = "import tui.fit.screen, sys; print([name for name in sys.modules if name.startswith('engine.models')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", sorted(fit._HOMES))
def test_what_is_loaded_late_is_there(name: str) -> None:
    assert getattr(fit, name).__name__ == name


def test_a_name_that_is_not_there_is_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'rank_models_'"):
        _ = fit.rank_models_
