"""`make matrix`: the promised Pythons and library versions, tried one by one, with a table at the end.

For every Python from 3.11 to 3.14 that is found, three environments: `pinned` (the versions of constraints.txt),
`newest` (the newest that pyproject.toml allows) and `lowest` (its lower bounds). In each: install a wheel of this tree,
run `engine demo` in an empty folder, start the deck in a pseudo-terminal and leave it with q, run the unit tests, or
with --full every test. Environments, logs and the versions that were installed stay in `build/matrix`.

uv installs; its own variables (UV_FIND_LINKS, UV_TORCH_BACKEND=cpu, UV_CACHE_DIR and the like) are passed on.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "build" / "matrix"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
SETS = ("pinned", "newest", "lowest")
DECK_TESTS = "tests/tui/test_ends.py"


@dataclass(frozen=True)
class Cell:
    """One environment: an interpreter and a way to choose versions."""

    python: str
    interpreter: str
    versions: str

    @property
    def name(self) -> str:
        """As it stands in the table and names the folder."""
        return f"{self.python}-{self.versions}"

    @property
    def folder(self) -> Path:
        """Where its environment and logs are."""
        return WORK / self.name

    @property
    def executables(self) -> Path:
        """Where its commands are."""
        return self.folder / "venv" / "bin"


@dataclass(frozen=True)
class Step:
    """A command of a cell, with its time limit."""

    name: str
    command: Sequence[str]
    limit_s: float
    in_empty_folder: bool = False


@dataclass(frozen=True)
class Outcome:
    """How a step ended."""

    passed: bool
    seconds: float
    last_line: str


class StepFailedError(Exception):
    """A step of the installation failed; the rest of its cell is left out."""


def found_pythons(wanted: Sequence[str]) -> dict[str, str]:
    """Interpreters on this machine, by version: those of the PATH, of uv and of pyenv."""
    found = {}
    for version in wanted:
        usable = (path for path in _candidates(version) if _is_python(path, version))
        if (path := next(usable, None)) is not None:
            found[version] = path
    return found


def _candidates(version: str) -> Iterator[str]:
    # From the root folder, or uv answers with the environment of this checkout.
    command = ["uv", "python", "find", "--system", "--no-project", "--no-python-downloads", version]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    yield answer.stdout.strip()
    yield shutil.which(f"python{version}") or ""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from (str(path) for path in sorted(pyenv.glob(f"versions/{version}.*/bin/python"), reverse=True))


def _is_python(path: str, version: str) -> bool:
    """Whether it starts and is that version; a shim of pyenv may be neither."""
    if not path:
        return False
    command = [path, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return False
    return answer.returncode == 0 and answer.stdout.strip() == version


def chosen_cells(wanted: Sequence[str], pythons: Mapping[str, str]) -> list[Cell]:
    """Those that `wanted` names, or all. Raises SystemExit(2) for a word that names none that can be made."""
    cells = [Cell(version, where, versions) for version, where in pythons.items() for versions in SETS]
    names = {word for cell in cells for word in (cell.name, cell.python, cell.versions)}
    unknown = [word for word in wanted if word not in names]
    if unknown or not cells:
        found = f"found: Python {', '.join(pythons)}" if pythons else f"none of Python {', '.join(PYTHONS)} is here"
        print(f"no such environment: {' '.join(unknown)}; {found}" if unknown else found, file=sys.stderr)
        raise SystemExit(2)
    return [cell for cell in cells if not wanted or {cell.name, cell.python, cell.versions} & set(wanted)]


def install_steps(cell: Cell) -> Iterator[Step]:
    """Resolve, make the environment exactly that, add a wheel of this tree."""
    requirements = str(cell.folder / "requirements.txt")
    resolve = ["uv", "pip", "compile", "--quiet", "--python", cell.interpreter, "--no-header", "--no-annotate"]
    bounds: list[str] = []
    if cell.versions == "pinned":
        bounds = ["--constraints", "constraints.txt"]
    elif cell.versions == "lowest":
        # Without the extras: the lower bounds of test tools promise nothing to users.
        lowest = str(cell.folder / "lowest.txt")
        yield Step("resolve", [*resolve, "--resolution", "lowest-direct", "pyproject.toml", "-o", lowest], 300)
        bounds = ["--constraints", lowest]
    yield Step("resolve", [*resolve, "--extra", "dev", *bounds, "pyproject.toml", "-o", requirements], 300)
    environment = str(cell.folder / "venv")
    python = str(cell.executables / "python")
    yield Step("install", ["uv", "venv", "--quiet", "--allow-existing", "--python", cell.interpreter, environment], 60)
    yield Step("install", ["uv", "pip", "sync", "--quiet", "--python", python, requirements], 3600)
    yield Step("install", ["uv", "pip", "install", "--quiet", "--no-deps", "--reinstall", "--python", python, "."], 600)


def trial_steps(cell: Cell, *, full: bool) -> Iterator[Step]:
    """What a user does first, then the tests."""
    pytest = [str(cell.executables / "python"), "-m", "pytest", "-n", "2", "--dist", "loadfile"]
    yield Step("demo", [str(cell.executables / "engine"), "demo"], 1800, in_empty_folder=True)
    yield Step("deck", [*pytest[:3], DECK_TESTS], 300)
    yield Step("tests", pytest if full else [*pytest, "tests/unit"], 7200)


def run_step(cell: Cell, step: Step) -> Outcome:
    """Run a step with its output in a log; on a time limit or Ctrl-C its whole session ends."""
    place = ROOT
    if step.in_empty_folder:
        place = cell.folder / "empty"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
    homes = {f"XDG_{kind}_HOME": str(cell.folder / "home" / kind.lower()) for kind in ("STATE", "CACHE", "CONFIG")}
    log = cell.folder / f"{step.name}.log"
    began = time.monotonic()
    with log.open("ab") as output:
        process = subprocess.Popen(
            step.command, cwd=place, env={**os.environ, **homes}, stdout=output, stderr=output, start_new_session=True
        )
        try:
            code: int | None = process.wait(step.limit_s)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    last = _last_line(log) if code is not None else f"not done after {step.limit_s:.0f} s"
    return Outcome(code == 0, time.monotonic() - began, last)


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:120] if lines else ""


def try_cell(cell: Cell, *, full: bool) -> dict[str, Outcome]:
    """Every step of a cell; nothing after an installation that failed."""
    shutil.rmtree(cell.folder / "home", ignore_errors=True)
    cell.folder.mkdir(parents=True, exist_ok=True)
    for old in cell.folder.glob("*.log"):
        old.unlink()
    # setuptools builds there and never cleans up: a module that was removed would stay in the wheel.
    shutil.rmtree(ROOT / "build" / "lib", ignore_errors=True)
    outcomes: dict[str, Outcome] = {}
    for step in install_steps(cell):
        outcome = run_step(cell, step)
        before = outcomes.get("install", Outcome(True, 0.0, "")).seconds
        outcomes["install"] = Outcome(outcome.passed, before + outcome.seconds, outcome.last_line)
        if not outcome.passed:
            return outcomes
    for step in trial_steps(cell, full=full):
        print(f"{cell.name}: {step.name} …", file=sys.stderr, flush=True)
        outcomes[step.name] = run_step(cell, step)
    return outcomes


def table(results: dict[str, dict[str, Outcome]], missing: Sequence[str]) -> str:
    """The outcomes as a Markdown table; what failed with its last line below."""
    names = ("install", "demo", "deck", "tests")
    rows = ["| | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    notes = []
    for cell, outcomes in results.items():
        rows.append(f"| {cell} | " + " | ".join(_words(outcomes.get(name)) for name in names) + " |")
        notes += [
            f"{cell} {name}: {one.last_line}" for name, one in outcomes.items() if name == "tests" or not one.passed
        ]
    notes += [f"{version}: not found on this machine" for version in missing]
    return "\n".join([*rows, "", *notes])


def _words(outcome: Outcome | None) -> str:
    if outcome is None:
        return "–"
    return f"{'passed' if outcome.passed else 'FAILED'}, {outcome.seconds:.0f} s"


def main() -> int:
    """0 when everything passed in every environment that could be made."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="the whole suite in place of the unit tests")
    parser.add_argument("cells", nargs="*", help="only these, as 3.13, newest or 3.13-newest")
    options = parser.parse_args()
    if shutil.which("uv") is None:
        print("uv is not installed: pip install uv", file=sys.stderr)
        return 2
    pythons = found_pythons(PYTHONS)
    cells = chosen_cells(options.cells, pythons)
    missing = [version for version in PYTHONS if version not in pythons]
    results: dict[str, dict[str, Outcome]] = {}
    try:
        for cell in cells:
            results[cell.name] = try_cell(cell, full=options.full)
            (WORK / "table.md").write_text(table(results, missing) + "\n")
    except KeyboardInterrupt:
        print(f"{table(results, missing)}\nended by Ctrl-C during {cell.name}")
        return 130
    print(table(results, missing))
    return 0 if all(one.passed for outcomes in results.values() for one in outcomes.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
