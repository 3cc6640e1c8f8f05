"""Checkpoints are whole or not there; damage is found and named; rotation goes by step."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.runs.checkpoint import MANIFEST, flaw, list_checkpoints, newest_whole, rotate, write_checkpoint


def fill(folder: Path) -> None:
    (folder / "trainable.safetensors").write_bytes(b"w" * 4096)
    (folder / "optimizer.json").write_text("{}")


def remove(path: Path) -> None:
    path.unlink()


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("name", ["trainable.safetensors", "optimizer.json", MANIFEST])
@pytest.mark.parametrize("damage", [remove, truncate, empty, flip_a_bit])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_used(tmp_path, name, damage):
    write_checkpoint(tmp_path, 10, fill)
    write_checkpoint(tmp_path, 20, fill)
    damage(tmp_path / "step-20" / name)
    told: list[tuple[int, str]] = []

    chosen = newest_whole(tmp_path, lambda bad, wrong: told.append((bad.step, wrong)))

    assert chosen is not None
    assert chosen.step == 10
    assert told[0][0] == 20
    assert name in told[0][1] or name == MANIFEST  # a bit of the manifest may be one of a file's sum


def test_an_extra_file_is_a_flaw(tmp_path):
    written = write_checkpoint(tmp_path, 1, fill)
    (written.path / "training_args.bin").write_bytes(b"pickle")
    assert "training_args.bin does not belong" in flaw(written.path)


def test_a_failed_write_leaves_nothing_and_keeps_the_old_one(tmp_path):
    write_checkpoint(tmp_path, 5, fill)

    def fill_and_fail(folder: Path) -> None:
        fill(folder)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_checkpoint(tmp_path, 6, fill_and_fail)
    assert [item.step for item in list_checkpoints(tmp_path)] == [5]
    assert sorted(os.listdir(tmp_path)) == ["step-5"]


def test_rotation_goes_by_step_not_by_clock_and_spares_the_best(tmp_path):
    for age, step in enumerate([9, 12, 3, 6]):
        written = write_checkpoint(tmp_path, step, fill)
        os.utime(written.path, (1_000_000 + age, 1_000_000 + age))
    assert rotate(tmp_path, 2, best_step=3) == [6]
    assert [item.step for item in list_checkpoints(tmp_path)] == [3, 9, 12]


def test_bytes_are_those_of_the_files(tmp_path):
    assert write_checkpoint(tmp_path, 1, fill).bytes == 4096 + 2
