"""K-quants by llama.cpp's own `llama-quantize`, a program that is looked for and never fetched.

This only runs it; `gguf_files.py` checks what it wrote.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from engine.errors import EngineError, ExitCode
from engine.text import sanitize

PROGRAM = "llama-quantize"
VARIABLE = "TUNEDECK_LLAMA_QUANTIZE"


def find(named: str | None) -> Path:
    """The program: as named (`--llama-quantize`), by the environment, or on PATH.

    Raises EngineError(ENVIRONMENT) where it is not there or cannot be run. A profile cannot name it: profiles
    are passed on, and this is run.
    """
    told = named or os.environ.get(VARIABLE)
    where = "--llama-quantize" if named else VARIABLE if told else "--gguf"
    found = shutil.which(str(Path(told).expanduser()) if told else PROGRAM)
    if found is None:
        raise EngineError(
            f"'{told}' is no program that can be run" if told else f"K-quants need llama.cpp's {PROGRAM}: not on PATH",
            code=ExitCode.ENVIRONMENT,
            where=where,
            hint=f"build or unpack llama.cpp and name it with --llama-quantize PATH or {VARIABLE},"
            " or take q8_0, q5_1, q5_0 or q4_0, which need no program",
        )
    return Path(found).absolute()


def run(program: Path, source: Path, target: Path, kind: str, threads: int) -> None:
    """Quantize `source` to `target`. Raises EngineError(ENVIRONMENT) with the program's last words when it fails."""
    command = [str(program), str(source), str(target), kind.upper(), str(threads)]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    except OSError as error:
        raise failed(program, f"cannot be run: {error.strerror or error}") from error
    told = (done.stdout + b"\n" + done.stderr).decode("utf-8", "replace").strip().splitlines()
    if done.returncode != 0:
        if any("No space left" in text for text in told):
            # Told as every full disk is.
            raise OSError(28, "No space left on device")
        last = sanitize(told[-1], max_chars=200, single_line=True) if told else "it said nothing"
        raise failed(program, f"ended with {done.returncode}: {last}")
    if not target.is_file():
        raise failed(program, "ended well but wrote no file")


def failed(program: Path, reason: str) -> EngineError:
    """The error for a program that did not do its work."""
    return EngineError(
        f"{program.name} {reason}",
        code=ExitCode.ENVIRONMENT,
        where="--gguf",
        hint=f"try '{program}' by itself; an earlier export stands as it was",
    )
