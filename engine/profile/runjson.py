"""run.json, read back: what the worker starts from.

Written from `Resolved.to_run_json`. Not here: resolving.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from engine.errors import EngineError, ExitCode
from engine.profile.schema import Profile
from engine.text import sanitize

SCHEMA_VERSION = 1
_PACKAGES = ("tunedeck", "torch", "transformers", "peft", "bitsandbytes", "torchao", "accelerate", "datasets")


def from_run_json(found: dict[str, Any]) -> tuple[Profile, dict[str, dict[str, Any]], Path]:
    """Settings, provenance and the folder that relative paths start from.

    Raises EngineError(PROFILE) for a run.json of another version or with settings that do not validate.
    """
    seen = found.get("schema_version")
    if seen != SCHEMA_VERSION:
        shown = sanitize(str(seen), max_chars=40, single_line=True)
        raise _error(f"has version {shown}, this engine reads {SCHEMA_VERSION}", "use the engine that wrote it")
    try:
        settings = Profile.model_validate(found["settings"])
        return settings, dict(found["provenance"]), Path(found["base_dir"])
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        key = sanitize(".".join(str(part) for part in first["loc"]), single_line=True)
        raise _error(f"holds a setting that does not validate: {key}: {first['msg']}", "start a new run") from None
    except (KeyError, TypeError, ValueError) as error:
        raise _error(f"is not whole: {sanitize(str(error), max_chars=80)}", "start a new run") from None


def package_versions() -> dict[str, str | None]:
    """Installed versions of what decides a run's numbers; None = not installed. Imports nothing."""
    found: dict[str, str | None] = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def _error(message: str, hint: str) -> EngineError:
    return EngineError(message, code=ExitCode.PROFILE, where="run.json", hint=hint)
