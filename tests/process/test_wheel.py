"""The wheel carries what users need: profiles, tables, styles, types and the built-in model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The wheel, built from a copy of the tree, and the folder it is installed to."""
    folder = tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout: what belongs in the wheel is not known")
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file() and not name.startswith(("tests/", "docs/")):
            (folder / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "tree" / name).write_bytes((ROOT / name).read_bytes())
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(folder / "tree")]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    target = folder / "site"
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        str(target),
        str(wheel),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return wheel, target


def run(target, tmp_path, *arguments):
    path = os.pathsep.join([str(target), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "XDG_STATE_HOME": str(tmp_path), "NO_COLOR": "1"}
    return subprocess.run(
        [sys.executable, "-m", "engine", *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_it_holds_code_and_data_and_no_tests(installed):
    members = {info.filename: info.file_size for info in zipfile.ZipFile(installed[0]).infolist()}
    names = list(members)
    for needed in (
        "engine/models/catalog.json",
        "engine/models/catalog.toml",
        "engine/hardware/gpus.toml",
        "engine/demo/model/model.safetensors",
        "engine/demo/model/tokenizer.json",
        "engine/demo/data/dates.train.jsonl",
        "profiles/demo.toml",
        "engine/py.typed",
        "tui/py.typed",
    ):
        assert needed in names
    assert [name for name in names if name.endswith(".tcss")]
    assert [name for name in names if name.endswith(".jinja")]
    assert not [name for name in names if name.startswith(("tests/", "bench/"))]
    model = [
        info.file_size for info in zipfile.ZipFile(installed[0]).infolist() if info.filename.startswith("engine/demo/")
    ]
    assert sum(model) < 8 * 2**20


def test_a_type_checker_reads_the_types_of_the_installed_packages(installed, tmp_path):
    venv.create(tmp_path / "venv", with_pip=False)
    (site,) = (tmp_path / "venv" / "lib").glob("python3*/site-packages")
    (site / "tunedeck.pth").write_text(f"{installed[1]}\n")
    (tmp_path / "user.py").write_text("from engine.errors import EngineError\n\nreveal_type(EngineError('no').hint)\n")
    python = str(tmp_path / "venv" / "bin" / "python")
    command = [sys.executable, "-m", "mypy", "--config-file=", "--python-executable", python, "user.py"]
    environment = {name: text for name, text in os.environ.items() if name not in ("PYTHONPATH", "MYPYPATH")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert 'Revealed type is "str"' in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0


def test_fit_answers_from_another_folder(installed, tmp_path):
    where = subprocess.run(
        [sys.executable, "-c", "import engine; print(engine.__file__)"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed[1])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(installed[1]) in where.stdout
    done = run(installed[1], tmp_path, "fit", "--gpu", "RTX 4090", "--json")
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)) > 0


@pytest.mark.usefixtures("warm_workers")
def test_the_demo_runs_from_another_folder(installed, tmp_path):
    few = ["train.max_steps=4", "train.eval_steps=4", "evaluate.max_samples=6", "data.max_samples=80"]
    done = run(installed[1], tmp_path, "demo", "--json", *[word for change in few for word in ("--set", change)])
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert result["base"]["exact_match"] <= 0.2
    for name in ("adapter", "merged", "card"):
        assert Path(result["export"][name]).exists()
