"""`engine completion`: what the shells themselves offer after they have read the script."""

from __future__ import annotations

import os
import pty
import select
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.process.conftest import Shell

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
ROOT = Path(__file__).parents[2]
RUN = "20260101-000000-dates-a1b2"


@pytest.fixture
def home(shell: Shell) -> Shell:
    """A folder with a profile and a run, and `engine` on the PATH."""
    (shell.folder / "mine.toml").touch()
    (shell.folder / "state" / "tunedeck" / "runs" / RUN).mkdir(parents=True)
    (shell.folder / "state" / "tunedeck" / "sweeps" / RUN.replace("dates", "search")).mkdir(parents=True)
    command = shell.folder / "bin" / "engine"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m engine "$@"\n')
    command.chmod(0o755)
    return shell


def environment(home: Shell) -> dict[str, str]:
    path = f"{home.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return {**home.environment, "PATH": path, "PYTHONPATH": str(ROOT), "TERM": "dumb", "PS1": "ready$ "}


def offered(home: Shell, words: str) -> list[str]:
    """What bash has to offer for the last word of a line."""
    parts = words.split(" ")
    script = (
        "source <(engine completion bash)\n"
        f"COMP_WORDS=({' '.join(shlex.quote(part) for part in parts)}); COMP_CWORD={len(parts) - 1}\n"
        '$(complete -p engine | sed "s/.*-F \\([^ ]*\\).*/\\1/") engine\n'
        "printf '%s\\n' \"${COMPREPLY[@]}\"\n"
    )
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=home.folder,
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("engine tra", ["train"]),
        ("engine runs wa", ["watch"]),
        ("engine runs watch --js", ["--json"]),
        ("engine --de", ["--debug"]),
        ("engine fit --go", ["--goal"]),
        ("engine fit --goal sp", ["speed"]),
        ("engine train qlora-8", ["qlora-8b-24gb"]),
        ("engine data check mi", ["mine.toml"]),
        ("engine profile new x.toml --from full", ["full-1b-24gb"]),
        ("engine runs show 2026", [RUN]),
        ("engine chat dates", [RUN]),
        ("engine evaluate la", ["last"]),
        ("engine sweeps watch search", [RUN.replace("dates", "search")]),
        ("engine fit qwen3-0", ["Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B-Base"]),
        ("engine completion f", ["fish"]),
        ("engine nothing x", []),
    ],
)
def test_bash_offers_commands_options_and_names(home: Shell, words: str, wanted: list[str]) -> None:
    assert offered(home, words) == wanted


def test_tab_completes_in_a_bash_that_a_person_types_in(home: Shell) -> None:
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(home.folder)
        os.execvpe("bash", ["bash", "--norc", "--noprofile", "-i"], environment(home))
    try:
        os.write(terminal, b"source <(engine completion bash); echo so''urced\n")
        said_after(terminal, "sourced\r\n")
        os.write(terminal, b"echo engine; engine run\t")
        said_after(terminal, "engine runs ")
        os.write(terminal, b"list --js\t")
        said_after(terminal, "list --json ")
        os.write(terminal, b"\n")
        assert RUN in said_after(terminal, "}\r\n")
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
        os.close(terminal)


def said_after(terminal: int, wanted: str, seconds: float = 60) -> str:
    """What the terminal shows until `wanted` stands there."""
    shown, deadline = "", time.monotonic() + seconds
    while wanted not in shown:
        left = deadline - time.monotonic()
        assert left > 0, shown
        if select.select([terminal], [], [], min(left, 0.5))[0]:
            shown += os.read(terminal, 4096).decode("utf-8", "replace")
    return shown


def test_completing_a_command_imports_none(home: Shell) -> None:
    code = (
        "import sys\nfrom engine.cli import main\ntry: main()\nexcept SystemExit: pass\n"
        "print(*[name for name in sys.modules if name.startswith('engine.cli.')], file=sys.stderr)"
    )
    asked = {"_ENGINE_COMPLETE": "bash_complete", "COMP_WORDS": "engine t", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**environment(home), **asked}, capture_output=True, text=True, check=True
    )
    assert done.stdout == "plain,train\n"
    assert sorted(done.stderr.split()) == ["engine.cli.flags", "engine.cli.printable"]


@pytest.mark.parametrize(
    ("kind", "answer"), [("zsh", "plain\ntrain\nTrain from a profile.\n"), ("fish", "plain,train\t")]
)
def test_the_other_shells_ask_in_their_own_way(home: Shell, kind: str, answer: str) -> None:
    words = {"COMP_WORDS": "engine tra", "COMP_CWORD": "tra" if kind == "fish" else "1"}
    asked = {**environment(home), **words, "_ENGINE_COMPLETE": f"{kind}_complete"}
    done = subprocess.run(["engine"], env=asked, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(answer)
    script = home.engine("completion", kind)
    assert script.code == 0
    assert f"_ENGINE_COMPLETE={kind}_complete" in script.out
    assert home.engine("completion", kind, "--json").json == {"shell": kind, "script": script.out}


@pytest.mark.parametrize(("kind", "check"), [("zsh", "-n"), ("fish", "--no-execute")])
def test_their_scripts_are_read_by_them(home: Shell, kind: str, check: str) -> None:
    if shutil.which(kind) is None:
        pytest.skip(f"no {kind}")
    path = home.folder / "script"
    path.write_text(home.engine("completion", kind).out)
    subprocess.run([kind, check, str(path)], check=True)
