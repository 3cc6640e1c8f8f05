"""Installed libraries against the ranges of `pyproject.toml`, before one of them fails in words of its own.

The ranges are those of the installed distribution's metadata, so there is one list. A checkout without metadata
knows none and says nothing. The worker asks before torch is imported; the shell and the deck only after an import
failed, since reading metadata costs more than most commands.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

from engine.errors import EngineError, ExitCode, Problem, problems_error
from engine.text import sanitize

if TYPE_CHECKING:
    from packaging.requirements import Requirement

_DISTRIBUTION = "tunedeck"
_SCREEN = frozenset({"textual"})
"""What no worker imports."""
_MODULES = {"nvidia-ml-py": "pynvml", "pyyaml": "yaml"}
"""Modules with another name than their distribution."""


@dataclass(frozen=True, slots=True)
class Misfit:
    """A library outside the range; `version` is empty for one that is not installed."""

    name: str
    wanted: str
    version: str = ""
    newer: bool = False

    def __str__(self) -> str:
        if not self.version:
            return f"{self.name} is not installed; tunedeck needs {self.name}{self.wanted}"
        if self.newer:
            return f"{self.name} {self.version} is newer than tunedeck was tested with ({self.wanted})"
        return f"{self.name} {self.version} is too old; tunedeck needs {self.wanted}"

    @property
    def command(self) -> str:
        """What mends it."""
        return f"{shlex.quote(sys.executable)} -m pip install '{self.name}{self.wanted}'"


def check_libraries(warn: Callable[[str, str], None]) -> None:
    """Warn of each library that is newer than tested. Raises EngineError(ENVIRONMENT) for old and missing ones."""
    found = [misfit for misfit in misfits() if misfit.name not in _SCREEN]
    for misfit in found:
        if misfit.newer:
            warn("untested_version", f"{misfit}: it may fail or compute otherwise; {misfit.command}")
    error = _error_of(found)
    if error is not None:
        raise error


def explain(failure: BaseException) -> EngineError | None:
    """What libraries have to do with a failed import or call; None where all of them fit."""
    if not isinstance(failure, (ImportError, AttributeError, TypeError)):
        return None
    try:
        found = misfits()
    except ImportError as missing:  # packaging itself, which reads the ranges
        found = [Misfit("packaging", "")] if missing.name == "packaging" else []
    unfit, newer = _error_of(found), "; ".join(f"{misfit}: {misfit.command}" for misfit in found if misfit.newer)
    if unfit is not None or not newer:
        return unfit
    return EngineError(f"{type(failure).__name__}: {failure}", code=ExitCode.ENVIRONMENT, hint=newer)


def error_lines(error: EngineError) -> str:
    """An error as lines of stderr, where nothing but the standard library is sure to be there."""
    return "".join(sanitize(f"error: {each}", single_line=True) + "\n" for each in error.problems or (error,))


def _error_of(found: list[Misfit]) -> EngineError | None:
    """Old and missing libraries as one error; None for none."""
    problems = [Problem(str(misfit), hint=misfit.command) for misfit in found if not misfit.newer]
    return problems_error(problems, ExitCode.ENVIRONMENT, "installed libraries") if problems else None


def misfits() -> list[Misfit]:
    """Libraries that every installation needs and that are missing or outside their range."""
    return [found for requirement in required() for found in _misfit(requirement)]


@lru_cache(maxsize=8)
def optional_misfit(name: str) -> str:
    """Why the installed library `name` of an extra is not used; empty where it fits or nothing is known."""
    try:
        ranges = [found for requirement in _declared(name) for found in _misfit(requirement)]
        return next((str(found) for found in ranges if found.version), "")
    except ImportError:
        return ""


def required() -> list[Requirement]:
    """What every installation on this kind of machine needs; empty for a checkout without metadata."""
    return [each for each in _declared() if each.marker is None or each.marker.evaluate({"extra": ""})]


def _declared(start: str = "") -> list[Requirement]:
    """Requirements of the metadata whose text begins with `start`, extras among them."""
    from packaging.requirements import Requirement

    folder = _distributions(tuple(sys.path)).get(_DISTRIBUTION)
    return [Requirement(text) for text in _requires(folder) if text.startswith(start)] if folder else []


def _requires(folder: str) -> list[str]:
    """`Requires-Dist` of a distribution's metadata; nothing where it cannot be read."""
    try:
        with open(os.path.join(folder, "METADATA"), encoding="utf-8", errors="replace") as file:
            head = file.read().partition("\n\n")[0]
    except OSError:
        return []
    return re.findall(r"^Requires-Dist: *(.+)$", head, re.MULTILINE)


@lru_cache(maxsize=2)
def _distributions(places: tuple[str, ...]) -> dict[str, str]:
    """`dist-info` folders by name, as the first of `places` has them: `importlib.metadata` takes five times as long."""
    found: dict[str, str] = {}
    for place in places:
        try:
            names = sorted(os.listdir(place or "."))
        except OSError:
            continue
        for name in names:
            if name.endswith(".dist-info") and "-" in name:
                found.setdefault(_plain(name.partition("-")[0]), os.path.join(place, name))
    return found


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _misfit(requirement: Requirement) -> Iterator[Misfit]:
    """Nothing, or what is wrong with one library."""
    from packaging.version import InvalidVersion, Version

    name, wanted = requirement.name, ",".join(sorted(map(str, requirement.specifier), reverse=True))
    version = _installed(name)
    if version is None:
        if find_spec(_MODULES.get(name, name.replace("-", "_"))) is None:
            yield Misfit(name, wanted)
        return
    try:
        # Builds of one's own say 2.11.0a0+gitsha and are what will be 2.11.
        base = Version(version).base_version
    except InvalidVersion:
        return
    failed = [each.operator for each in requirement.specifier if not each.contains(base)]
    if failed:
        yield Misfit(name, wanted, version, newer=all(operator.startswith("<") for operator in failed))


def _installed(name: str) -> str | None:
    """The version of a distribution; None where no folder tells."""
    folder = _distributions(tuple(sys.path)).get(_plain(name))
    return os.path.basename(folder).removesuffix(".dist-info").partition("-")[2] if folder else None
