"""Whatever a check does to its process, it is a finding in words, the rest still runs, and nothing is left behind."""

from __future__ import annotations

import os
import time
from pathlib import Path

import psutil
import pytest

from engine.selftest.checks import FAILED, PASSED, Item
from engine.selftest.children import Workplace, run_items

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def workplace(tmp_path):
    return Workplace({**os.environ, "PYTHONPATH": str(ROOT)}, tmp_path)


def item(act, limit_s=20.0, **params):
    return Item(act, "", f"tests.unit.selftest.acts:{act}", 0.1, params, limit_s)


def run(items, workplace, *, alone=False, begins=lambda number: True):
    return list(run_items(items, workplace, alone=alone, begins=begins))


def is_gone(pid):
    """An orphan that was ended may wait for a while to be reaped by somebody else."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize(
    ("act", "words"),
    [
        ("crashes", "its process ended with signal SIGSEGV"),
        ("is_killed", "killed from outside, most likely for want of memory"),
        ("refuses", "there is no room - make some"),
        ("not_there", "AttributeError"),
        ("loses_the_card", "illegal memory access"),
    ],
)
def test_a_check_that_fails_in_any_way_is_told_and_the_rest_runs(workplace, act, words):
    found = run([item("passes"), item(act), item("passes")], workplace)
    assert [finding.status for finding in found] == [PASSED, FAILED, PASSED]
    assert words in found[1].text
    same = found[0].text == found[2].text
    assert same == (act in ("refuses", "not_there")), "a lost process or card begins anew, others go on"


def test_a_check_that_hangs_is_ended_at_its_limit_with_all_that_it_started(workplace):
    began = time.monotonic()
    found = run([item("hangs", limit_s=1.0), item("passes")], workplace)
    assert time.monotonic() - began < 15
    assert [finding.status for finding in found] == [FAILED, PASSED]
    assert found[0].text == "it was ended after its limit of 1 s"
    assert is_gone(int((workplace.folder / "grandchild").read_text()))


def test_each_alone_has_a_process_of_its_own(workplace):
    together = {finding.text for finding in run([item("passes")] * 3, workplace)}
    alone = {finding.text for finding in run([item("passes")] * 3, workplace, alone=True)}
    assert (len(together), len(alone)) == (1, 3)


@pytest.mark.parametrize("alone", [False, True])
def test_nothing_begins_after_a_no(workplace, alone):
    assert len(run([item("passes")] * 5, workplace, alone=alone, begins=lambda number: number < 2)) == 2


def test_leaving_half_way_ends_the_process(workplace):
    findings = run_items([item("passes"), item("hangs")], workplace, alone=False, begins=lambda number: True)
    pid = int(next(findings).text.removeprefix("in "))
    findings.close()
    assert is_gone(pid)
