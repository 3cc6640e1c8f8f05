"""Installed libraries against the ranges of `pyproject.toml`, before one of them fails with a message of its own.

The ranges are those of the installed distribution's metadata, so there is one list. A checkout without metadata
knows none and says nothing. The worker asks before torch is imported; the shell and the deck only after an import
failed, since reading metadata costs more than most commands.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
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
# Compiled where they are used: engine fit imports this, and most commands need none of them.
_NAME = r"[\w.-]*"
_BOUND = r"(>=|<) *(\d+(?:\.\d+)*)"
_NUMBERS = r"\d+(?:\.\d+)*"


@contextmanager
def hidden(names: Iterable[str]) -> Iterator[None]:
    """Let libraries that are imported meanwhile find none of `names`, unless they are loaded already.

    Several import what they find and ask again only seldom: bitsandbytes and torchao are a quarter of a worker's
    start.
    """
    away = [name for name in names if name not in sys.modules]
    # None: an import fails and `find_spec` finds nothing, as where the library is not installed.
    sys.modules.update(dict.fromkeys(away))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in away:
            sys.modules.pop(name, None)


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
        """The command that repairs it."""
        import shlex

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


def report_failed_start(failure: BaseException) -> int | None:
    """Write to stderr what libraries have to do with a failed start; the exit code, or None where all of them fit."""
    error = explain(failure)
    if error is None:
        return None
    for each in error.problems or (error,):
        sys.stderr.write(sanitize(f"error: {each}", single_line=True) + "\n")
    return int(error.code)


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
    texts, versions = _texts(name), _installed(name)
    if not versions or any(all(_plainly_fits(text, version) for text in texts) for version in versions):
        return ""
    try:
        return next((str(found) for requirement in _requirements(texts) for found in _misfit(requirement)), "")
    except ImportError:
        return ""


def required() -> list[Requirement]:
    """What every installation on this kind of machine needs; empty for a checkout without metadata."""
    return [each for each in _requirements(_texts()) if each.marker is None or each.marker.evaluate({"extra": ""})]


def _requirements(texts: list[str]) -> Iterator[Requirement]:
    """Those that can be read."""
    from packaging.requirements import InvalidRequirement, Requirement

    for text in texts:
        with suppress(InvalidRequirement):
            yield Requirement(text)


def _texts(name: str = "") -> list[str]:
    """Requirements of the metadata as they stand there, extras among them; of `name` alone where it is given."""
    folders = _distributions(tuple(sys.path)).get(_DISTRIBUTION, ())
    found = _requires(folders[-1]) if folders else []
    return [text for text in found if not name or _plain(_name(text)) == name]


def _plainly_fits(text: str, version: str) -> bool:
    """Whether plain numbers show already that a version fits; `packaging` takes 20 ms to import, a tenth of `fit`."""
    bounds = text.partition(";")[0][len(_name(text)) :].split(",")
    found = [re.fullmatch(_BOUND, bound.strip()) for bound in bounds]
    numbers = re.fullmatch(_NUMBERS, version.partition("+")[0])
    if numbers is None or not all(found):
        return False
    return all((_numbers(version) < _numbers(each[2])) == (each[1] == "<") for each in found if each)


def _numbers(version: str) -> tuple[int, ...]:
    """`2.10.0` and `2.10` alike."""
    numbers = [int(part) for part in version.partition("+")[0].split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _requires(folder: str) -> list[str]:
    """`Requires-Dist` of a distribution's metadata; nothing where it cannot be read."""
    try:
        with open(os.path.join(folder, "METADATA"), encoding="utf-8", errors="replace") as file:
            head = file.read().partition("\n\n")[0]
    except OSError:
        return []
    return re.findall(r"^Requires-Dist: *(\w.*)$", head, re.MULTILINE)


@lru_cache(maxsize=2)
def _distributions(places: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """`dist-info` folders by name, as the first of `places` has them: `importlib.metadata` takes five times as long.

    Several of one name are what an installation leaves that broke off; those without metadata are no choice then.
    """
    found: dict[str, tuple[str, ...]] = {}
    for place in places:
        here: dict[str, list[str]] = {}
        for entry in _listed(place):
            if entry.endswith(".dist-info") and "-" in entry:
                here.setdefault(_plain(entry.partition("-")[0]), []).append(os.path.join(place, entry))
        for name, folders in here.items():
            whole = [each for each in folders if len(folders) == 1 or os.path.isfile(os.path.join(each, "METADATA"))]
            found.setdefault(name, tuple(whole or folders))
    return found


def _listed(place: str) -> list[str]:
    try:
        return sorted(os.listdir(place or "."))
    except OSError:
        return []


def _name(requirement: str) -> str:
    """The name that a requirement begins with."""
    found = re.match(_NAME, requirement)
    return found[0] if found else ""


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _misfit(requirement: Requirement) -> Iterator[Misfit]:
    """Nothing, or what is wrong with one library. Of several versions that are laid down one that fits is enough."""
    name, wanted = requirement.name, ",".join(sorted(map(str, requirement.specifier), reverse=True))
    versions = _installed(name)
    if not versions:
        if _is_missing(_MODULES.get(name, name.replace("-", "_"))):
            yield Misfit(name, wanted)
        return
    failed = {version: _failed(requirement, version) for version in versions}
    if all(failed.values()):
        version, operators = failed.popitem()
        yield Misfit(name, wanted, version, newer=all(operator.startswith("<") for operator in operators))


def _is_missing(module: str) -> bool:
    """A folder of that name without code, as a user's `datasets`, is no library."""
    found = find_spec(module)
    return found is None or found.origin is None


def _failed(requirement: Requirement, version: str) -> list[str]:
    """Operators of the bounds that a version is outside of; none for a version that nobody can read."""
    from packaging.version import InvalidVersion, Version

    try:
        # Builds of one's own say 2.11.0a0+gitsha and are what will be 2.11.
        base = Version(version).base_version
    except InvalidVersion:
        return []
    return [each.operator for each in requirement.specifier if not each.contains(base)]


def _installed(name: str) -> list[str]:
    """The versions of a distribution, one but for broken installations; none where no folder has it."""
    folders = _distributions(tuple(sys.path)).get(_plain(name), ())
    return [os.path.basename(folder).removesuffix(".dist-info").partition("-")[2] for folder in folders]
