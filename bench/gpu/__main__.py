"""Speed and memory of this project on one CUDA card, beside other trainers.

    bench/gpu.sh wheels KIT [--rows ALPACA.json] [--tokenizer FOLDER]     collect wheels, on a machine with network
    bench/gpu.sh truth|peers|short|variants|big [--kit KIT] [--out DIR]   one part, at most nine minutes
    bench/gpu.sh show DIR                                                 tables beside the floor
    bench/gpu.sh keep DIR [--suffix=-NAME]                                into bench/results and docs/benchmarks.md

A part skips the steps that DIR has a result of, so one that was cut goes on where it was. `--tiny` runs small shapes
without a card: the steps that need one fail, and say so.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from bench.gpu import kit, page, record
from bench.gpu.parts import PART_S, Group, groups_of
from bench.gpu.steps import ROOT, Place, Step, is_done, run_group, run_step, say

PARTS = ("truth", "peers", "short", "variants", "big")
_MODELS_S, _ROWS_S = 150, 90


def main() -> int:
    """Run a command; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("wheels", *PARTS, "show", "keep"))
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--kit", type=Path, default=Path(os.environ.get("TUNEDECK_GPU_KIT", ROOT / ".gpu-kit")))
    parser.add_argument("--out", type=Path, default=Path("gpu-results"))
    parser.add_argument("--work", type=Path, default=Path("/tmp/tunedeck-gpu"))
    parser.add_argument("--rows", type=Path, help="alpaca rows in place of made ones")
    parser.add_argument("--tokenizer", type=Path, help="folder of a tokenizer in place of one learned from the rows")
    parser.add_argument("--seconds", type=int, default=PART_S, help="longest time of a part")
    parser.add_argument("--suffix", default="")
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    if options.command in PARTS:
        return run_part(options)
    if options.folder is None:
        parser.error(f"{options.command} needs a folder")
    if options.command == "wheels":
        size = kit.collect(options.folder, options.rows, options.tokenizer)
        print(f"{options.folder}: {size / 2**20:.1f} MiB")
    elif options.command == "show":
        print(page.tables(record.record_of(options.folder)))
    else:
        keep(options.folder, options.suffix)
    return 0


def run_part(options: argparse.Namespace) -> int:
    """Prepare what the part's open steps need, run them, write the record; 1 where a step has no result."""
    place = Place(
        options.kit.resolve(), options.work.resolve(), options.out.resolve(), time.monotonic() + options.seconds
    )
    for folder in (place.work, place.out):
        folder.mkdir(parents=True, exist_ok=True)
    record.write(place.out / "settings.json", {"tiny": options.tiny})
    groups = groups_of(options.command, str(place.work), tiny=options.tiny)
    open_steps = [step for group in groups for step in group if not is_done(step, place.out)]
    prepare(open_steps, place)
    run_groups(groups, place)
    if (place.out / "card.json").exists():
        found = record.record_of(place.out)
        record.write(place.out / record.file_name(found["card"]), found)
        print(page.tables(found))
    missing = [step.name for group in groups for step in group if not is_done(step, place.out)]
    if missing:
        say(f"without a whole result: {', '.join(missing)}")
    return 1 if missing else 0


def run_groups(groups: list[Group], place: Place) -> None:
    """In order, until the time is over."""
    for group in groups:
        run_group(group, place)


def prepare(steps: list[Step], place: Place) -> None:
    """Install the wheels, make rows and checkpoints that are not there yet."""
    for site in sorted({step.site for step in steps} | ({"project"} if steps else set())):
        if not (place.work / site).is_dir():
            kit.install(place.kit, site, place.work / site)
            say(f"installed the wheels of {site}")
    models = sorted({model for step in steps for model in step.models})
    if models and not (place.work / "rows").is_dir():
        run_step(Step("rows", ("-m", "bench.gpu.rows", str(place.work), str(place.kit)), _ROWS_S), place)
    if any(not (place.work / "models" / model).is_dir() for model in models):
        command = ("-m", "bench.gpu.checkpoints", str(place.work), *models)
        run_step(Step("checkpoints", command, _MODELS_S), place)


def keep(folder: Path, suffix: str) -> None:
    """The record into bench/results, and the page made anew."""
    found = record.record_of(folder)
    path = record.RESULTS / record.file_name(found["card"], suffix)
    record.write(path, found)
    page.write()
    print(f"wrote {path} and {page.PAGE}")


if __name__ == "__main__":
    sys.exit(main())
