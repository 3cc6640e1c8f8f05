"""Where the built-in model and its data lie inside the installed package.

Profiles name them as `demo` and `demo:NAME`. No library is imported here, so that
naming the demo costs nothing.
"""

from __future__ import annotations

from pathlib import Path

from engine.errors import EngineError, ExitCode

_HERE = Path(__file__).resolve().parent


def model_dir() -> Path:
    """The built-in model: config.json, model.safetensors and its tokenizer."""
    return _HERE / "model"


def data_names() -> tuple[str, ...]:
    """File names that `data_file` knows, sorted."""
    return tuple(sorted(path.name for path in (_HERE / "data").glob("*.jsonl")))


def data_file(name: str) -> Path:
    """The built-in data file called `name`, e.g. `dates.train.jsonl`; the suffix may be left out.

    Only plain names of files that ship are accepted: `name` comes from a profile, and a profile from
    somebody else must not reach other files by way of `..` or an absolute path.
    """
    known = data_names()
    for candidate in (name, f"{name}.jsonl"):
        if candidate in known:
            return _HERE / "data" / candidate
    raise EngineError(
        f"there is no built-in data file '{name}'", code=ExitCode.DATA, hint=f"use one of: {', '.join(known)}"
    )
