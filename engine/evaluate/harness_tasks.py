"""lm-evaluation-harness before it runs: is it installed, and does a folder of tasks carry code. No torch here.

Checked before a worker starts, and again in the worker before it reads the tasks.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from engine.errors import EngineError, ExitCode, Problem, problems_error

MAX_TASK_BYTES = 4 * 1024 * 1024
_PLAIN_TAG = "!"
"""What the parser reports for quoted text; every other tag was written by somebody."""


def require_harness() -> None:
    """Raise EngineError(ENVIRONMENT) where lm_eval is not installed."""
    if find_spec("lm_eval") is None:
        raise EngineError(
            "lm-evaluation-harness is not installed",
            code=ExitCode.ENVIRONMENT,
            where="--harness",
            hint="install it beside Tunedeck: pip install 'tunedeck[harness]'",
        )


def check_tasks(folder: Path, *, allow_code: bool) -> None:
    """Refuse a folder whose task files run code, unless it is allowed; EngineError(PROFILE) lists every place.

    `!function` imports a Python file beside the task, an `include` outside the folder may do so unseen.
    """
    if not folder.is_dir():
        raise EngineError("there is no such folder of tasks", code=ExitCode.PROFILE, where=str(folder))
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".yaml", ".yml") and path.is_file())
    if not files:
        raise EngineError(
            "the folder holds no task: no .yaml file", code=ExitCode.PROFILE, where=str(folder), hint="name another"
        )
    problems = [problem for path in files for problem in _problems(path, folder)]
    if problems and not allow_code:
        raise problems_error(problems, ExitCode.PROFILE, f"tasks in {folder}")


def _problems(path: Path, folder: Path) -> Iterator[Problem]:
    hint = "read it, then allow it with --allow-task-code, or remove it"
    where = str(path)
    if path.stat().st_size > MAX_TASK_BYTES:
        yield Problem("the task file is larger than 4 MiB", "data belong into a file of their own", where)
        return
    try:
        text = path.read_text(encoding="utf-8")
        for line, tag in _tags(text):
            yield Problem(f"{tag} runs code of the folder", hint, f"{where}:{line}", line=line)
        for name in _includes(yaml.compose(text)):
            if not Path(os.path.normpath(path.parent / name)).is_relative_to(os.path.normpath(folder)):
                yield Problem(f"it includes '{name[:80]}' from outside the folder", hint, where)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        first = " ".join(str(error).split())[:200]
        yield Problem(f"the task file cannot be read: {first}", "correct or remove it", where)


def _tags(text: str) -> Iterator[tuple[int, str]]:
    """(line, tag) of every value with a tag, as YAML resolves it: a spelling in disguise is found too."""
    for event in yaml.parse(text):
        tag = getattr(event, "tag", None)
        if tag not in (None, _PLAIN_TAG):
            yield (event.start_mark.line + 1 if event.start_mark else 1), str(tag)[:60]


def _includes(node: Any) -> Iterator[str]:
    """What the top level of a task file includes."""
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        if getattr(key, "value", None) == "include":
            parts = value.value if isinstance(value, yaml.SequenceNode) else [value]
            yield from (str(part.value) for part in parts)
