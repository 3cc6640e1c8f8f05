"""Workflows of the forge: least rights, make targets that exist, and every promised Python."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
each_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)


def jobs(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]
    return found


def steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in jobs(path).values() for step in job["steps"]]


@each_workflow
def test_a_workflow_may_only_read_and_is_ended_by_the_next(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    assert "github.ref" in workflow["concurrency"]["group"]
    for name, job in workflow["jobs"].items():
        assert "permissions" not in job, name
        assert 0 < job["timeout-minutes"] <= 180, name


@each_workflow
def test_actions_have_a_major_version_and_leave_no_token(path: Path) -> None:
    for step in steps(path):
        if "uses" in step:
            assert re.fullmatch(r"actions/[a-z-]+@v\d+", step["uses"]), step["uses"]
        if step.get("uses", "").startswith("actions/checkout"):
            assert step["with"]["persist-credentials"] is False


@each_workflow
def test_jobs_call_make_targets_that_exist_and_pull_no_cuda(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    called = {
        name for step in steps(path) for name in re.findall(r"^make ([a-z-]+)", step.get("run", ""), re.MULTILINE)
    }
    assert called
    assert called <= targets
    assert workflow["env"]["PIP_EXTRA_INDEX_URL"].endswith("/cpu")


def test_all_checks_are_called() -> None:
    called = " ".join(step.get("run", "") for path in WORKFLOWS for step in steps(path))
    for target in ("lint", "test", "docs-check", "wheel", "matrix"):
        assert f"make {target}" in called


def test_matrix_package_and_workflow_promise_the_same_pythons() -> None:
    script = (ROOT / ".ci/matrix.py").read_text(encoding="utf-8")
    listed = re.search(r"^PYTHONS = \(([^)]+)\)", script, re.MULTILINE)
    assert listed is not None
    promised = re.findall(r'"([\d.]+)"', listed[1])
    assert jobs(ROOT / ".github/workflows/matrix.yml")["matrix"]["strategy"]["matrix"]["python"] == promised
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = [name.rpartition(" ")[2] for name in project["classifiers"] if re.search(r":: 3\.\d+$", name)]
    assert named == promised
    assert project["requires-python"] == f">={promised[0]}"
