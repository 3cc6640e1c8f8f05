"""The wheels for a machine without network that has Python 3.12 and torch for CUDA 13: collected, trimmed, installed.

`project/` holds what this project needs beside torch, transformers, PEFT and accelerate, `peers/` what Unsloth, TRL
and Liger need. Rows and a tokenizer may lie beside them. Standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

PROJECT = (
    *("bitsandbytes==0.50.2", "datasets==5.2.0", "evaluate==0.4.6", "gguf", "optuna==4.*", "alembic", "sqlalchemy"),
    *("colorlog", "Mako", "greenlet", "platformdirs", "pydantic==2.*", "pydantic-core", "annotated-types"),
    *("typing-inspection", "nltk", "textual", "tomli-w", "tomlkit", "torchao==0.18.*", "dill", "multiprocess"),
    *("absl-py", "linkify-it-py", "uc-micro-py", "mdit-py-plugins", "liger-kernel==0.8.5"),
)
FROM_SOURCE = ("rouge-score==0.1.2",)
PEERS = (
    *("trl==1.15.0", "liger-kernel==0.8.5", "unsloth==2026.10.9", "unsloth_zoo==2026.10.9", "datasets<5", "tyro"),
    *("hf_transfer", "diffusers", "cut_cross_entropy", "msgspec", "structlog", "nest-asyncio", "json5"),
    *("docstring-parser", "shtab", "typeguard", "importlib-metadata"),
)
SHARED = ("bitsandbytes", "torchao", "pydantic", "annotated", "typing_insp", "dill", "multiprocess", "platformdirs")
"""Wheels of the project that the peers need too, by how their files begin."""
_GLIBC_MINORS = (39, 35, 34, 31, 28, 27, 24, 17, 5)


def collect(folder: Path, rows: Path | None, tokenizer: Path | None) -> int:
    """Download and trim the wheels, copy rows and tokenizer; returns the bytes of the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".gitignore").write_text("*\n")
    _download(folder / "project", PROJECT)
    _pip("wheel", "--no-deps", "-w", str(folder / "project"), *FROM_SOURCE)
    _download(folder / "peers", PEERS)
    _trim(folder / "project", "bitsandbytes-", _other_libraries)
    _trim(folder / "peers", "unsloth-", lambda name: name.startswith("studio/"))
    if rows is not None:
        shutil.copy(rows, folder / "rows.json")
    if tokenizer is not None:
        shutil.copytree(tokenizer, folder / "tokenizer", dirs_exist_ok=True)
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def install(kit: Path, name: str, target: Path) -> None:
    """Put the wheels of `project` or `peers` into `target`, without network and without what they depend on."""
    wheels = sorted((kit / name).glob("*.whl"))
    if name == "peers":
        wheels += [file for file in sorted((kit / "project").glob("*.whl")) if file.name.startswith(SHARED)]
    if not wheels:
        raise SystemExit(f"{kit / name} holds no wheels: run 'bench/gpu.sh wheels {kit}' on a machine with network")
    options = ("--no-index", "--no-deps", "--no-compile", "--no-cache-dir", "--upgrade", "--target", str(target))
    _pip("install", *options, *map(str, wheels))


def _download(folder: Path, requirements: Sequence[str]) -> None:
    platforms = [f"manylinux_2_{minor}_x86_64" for minor in _GLIBC_MINORS] + ["manylinux2014_x86_64"]
    options = ["--no-deps", "--only-binary=:all:", "--python-version", "3.12", "--implementation", "cp"]
    for platform in [*platforms, "manylinux1_x86_64"]:
        options += ["--platform", platform]
    _pip("download", *options, "-d", str(folder), *requirements)


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", arguments[0], "--quiet", "--disable-pip-version-check", *arguments[1:]]
    environment = {**os.environ, "PIP_ROOT_USER_ACTION": "ignore"}
    subprocess.run(command, check=True, stdout=sys.stderr, env=environment)


def _other_libraries(name: str) -> bool:
    """bitsandbytes has a library for each CUDA; the card's torch needs one of them."""
    return name.endswith(".so") and not name.endswith(("cuda130.so", "cpu.so"))


def _trim(folder: Path, begins: str, drop: Callable[[str], bool]) -> None:
    """Leave files out of a wheel, and their lines out of its RECORD."""
    wheel = next(folder.glob(f"{begins}*.whl"))
    made = wheel.with_suffix(".trimmed")
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as new:
        for item in old.infolist():
            if drop(item.filename):
                continue
            data = old.read(item.filename)
            if item.filename.endswith(".dist-info/RECORD"):
                lines = [line for line in data.decode().splitlines() if not drop(line.partition(",")[0])]
                data = ("\n".join(lines) + "\n").encode()
            new.writestr(item, data)
    os.replace(made, wheel)
