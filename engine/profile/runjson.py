"""The settings in a run's record, validated: what a worker starts from.

Here and not in `engine.runs.record`, because validating loads pydantic.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from engine.errors import EngineError, ExitCode
from engine.profile.schema import Profile
from engine.runs.record import RunRecord
from engine.text import sanitize


def settings_of(record: RunRecord) -> tuple[Profile, Path]:
    """Settings and the folder that their relative paths start from.

    Raises EngineError(PROFILE) for settings that do not validate and for a record that is not whole.
    """
    if record.base_dir is None or "provenance" not in record.raw:
        missing = "base_dir" if record.base_dir is None else "provenance"
        raise _error(f"is not whole: it holds no {missing}")
    try:
        return Profile.model_validate(record.settings), record.base_dir
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        key = sanitize(".".join(str(part) for part in first["loc"]), single_line=True)
        raise _error(f"holds a setting that does not validate: {key}: {first['msg']}") from None


def _error(message: str) -> EngineError:
    return EngineError(f"run.json {message}", code=ExitCode.PROFILE, where="run.json", hint="start a new run")
