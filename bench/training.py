"""Real tokens per second of `engine train` beside other trainers, in one run.

    python bench/training.py MODEL_DIR DATA.json [--peers plain trl trl-packed llamafactory] [--output FILE.json]

Same model, rows, adapters (LoRA r 16 on all linear layers), length and threads; about the same number of
real tokens in an optimizer step: a packed sequence holds several rows. Each peer runs its own training
entry in a process (`bench/peers/`), TRL and LLaMA-Factory in environments of their own, which are made
once in `--environments`. All take turns, `--rounds` times, because a shared machine drifts; medians are
compared. DATA holds alpaca rows.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

PEERS_FOLDER = Path(__file__).with_name("peers")
MAX_LENGTH = 512
PROFILE = """
[model]
name_or_path = {model}
max_length = {max_length}
dtype = {dtype}
[quantization]
method = "none"
[tuning]
method = "lora"
[lora]
r = 16
[data]
validation_fraction = 0.0
max_samples = {rows}
datasets = [{{ path = {data}, format = "alpaca" }}]
[train]
per_device_train_batch_size = {micro}
gradient_accumulation_steps = {accumulation}
max_steps = {steps}
save_steps = 100000
load_best_model_at_end = false
activation_checkpointing = false
learning_rate = 2e-4
[launch]
device = "cpu"
"""


def environment(threads: int, state: str) -> dict[str, str]:
    """Both parts run with the same threads and without the network."""
    return {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "HF_HUB_OFFLINE": "1",
        "XDG_STATE_HOME": state,
    }


def run_engine(options: argparse.Namespace, dtype: str) -> dict[str, Any]:
    """`engine train` in a state directory of its own; speed over all steps but the first, from its events."""
    with tempfile.TemporaryDirectory() as state:
        profile = Path(state) / "bench.toml"
        values = {"model": options.model, "data": options.data, "dtype": dtype}
        profile.write_text(
            PROFILE.format(
                **{key: json.dumps(value) for key, value in values.items()},
                max_length=MAX_LENGTH,
                rows=options.rows,
                micro=options.engine_micro_batch,
                accumulation=options.engine_accumulation,
                steps=options.steps,
            )
        )
        command = [sys.executable, "-m", "engine", "train", str(profile), "--json"]
        done = subprocess.run(
            command, env=environment(options.threads, state), capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"engine train failed:\n{done.stdout}{done.stderr}")
        events = [json.loads(text) for text in next(Path(state).rglob("events.jsonl")).read_text().splitlines()]
    steps = [event for event in events if event["type"] == "train_step"][1:]
    tokens, seconds = sum(step["step_tokens"] for step in steps), sum(step["step_s"] for step in steps)
    return {
        "tokens_per_second": tokens / seconds,
        "tokens": tokens,
        "seconds": seconds,
        "losses": [event["loss"] for event in events if event["type"] == "train_step"],
        "peak_resident_bytes": max(event.get("host_rss_bytes") or 0 for event in events if event["type"] == "memory"),
    }


@dataclass(frozen=True)
class Peer:
    """A trainer to compare with: its script, the packages of its environment, and whether it packs."""

    script: str
    packages: tuple[str, ...] = ()
    unwanted: tuple[str, ...] = ()
    packing: bool = False


_TRL = ("trl==1.16.*", "peft", "datasets")
PEERS = {
    "plain": Peer("plain.py"),
    "trl": Peer("trl_sft.py", _TRL),
    "trl-packed": Peer("trl_sft.py", _TRL, packing=True),
    # Its image and audio libraries come for CUDA only and break the import beside a processor's torch.
    "llamafactory": Peer("llamafactory_sft.py", ("llamafactory==0.9.5",), unwanted=("torchvision", "torchaudio")),
}


def interpreter(peer: Peer, environments: Path) -> str:
    """The Python of a peer's own environment, made on first use; this one for a peer without packages."""
    if not peer.packages:
        return sys.executable
    folder = environments / peer.packages[0].partition("==")[0]
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        torch = f"torch=={version('torch').partition('+')[0]}"
        subprocess.run([python, "-m", "pip", "install", "--quiet", torch, *peer.packages], check=True)
        if peer.unwanted:
            subprocess.run([python, "-m", "pip", "uninstall", "--quiet", "--yes", *peer.unwanted], check=True)
    return str(python)


def run_peer(name: str, options: argparse.Namespace, dtype: str) -> dict[str, Any]:
    """One peer in a process of its own; packed sequences hold several rows, so fewer make a step."""
    peer = PEERS[name]
    job = {
        "model": options.model,
        "data": options.data,
        "rows": options.rows,
        "steps": options.steps,
        "micro_batch": options.engine_micro_batch if peer.packing else options.peer_micro_batch,
        "accumulation": options.engine_accumulation if peer.packing else options.peer_accumulation,
        "max_length": MAX_LENGTH,
        "packing": peer.packing,
        "dtype": dtype,
    }
    command = [interpreter(peer, options.environments), str(PEERS_FOLDER / peer.script), json.dumps(job)]
    done = subprocess.run(
        command, env=environment(options.threads, "/nonexistent"), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-4000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    """Take turns, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--engine-micro-batch", type=int, default=4)
    parser.add_argument("--engine-accumulation", type=int, default=2)
    parser.add_argument("--peer-micro-batch", type=int, default=4)
    parser.add_argument("--peer-accumulation", type=int, default=8)
    parser.add_argument("--peers", nargs="+", choices=sorted(PEERS), default=["plain"])
    parser.add_argument("--environments", type=Path, default=Path.home() / ".cache" / "tunedeck" / "bench")
    parser.add_argument("--dtypes", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    options.model, options.data = str(Path(options.model).resolve()), str(Path(options.data).resolve())
    runs: dict[str, list[dict[str, Any]]] = {}
    for _ in range(options.rounds):
        for dtype in options.dtypes:
            runs.setdefault(f"engine {dtype}", []).append(run_engine(options, dtype))
            for peer in options.peers:
                runs.setdefault(f"{peer} {dtype}", []).append(run_peer(peer, options, dtype))
    report(runs, options)


def report(runs: dict[str, list[dict[str, Any]]], options: argparse.Namespace) -> None:
    """Medians, and how many times as fast the engine is in the same dtype."""
    speeds = {name: statistics.median(run["tokens_per_second"] for run in found) for name, found in runs.items()}
    for name, speed in speeds.items():
        ratio = speeds[f"engine {name.rpartition(' ')[2]}"] / speed
        resident = statistics.median(run["peak_resident_bytes"] for run in runs[name]) / 2**30
        print(f"{name:20s} {speed:8.1f} real tok/s   engine {ratio:5.2f} x   {resident:5.1f} GiB")
    if options.output is None:
        return
    record = {
        "machine": {"processor": platform.processor() or platform.machine(), "threads": options.threads},
        "versions": {name: version(name) for name in ("torch", "transformers", "peft", "tunedeck")},
        "options": {
            **vars(options),
            "model": Path(options.model).name,
            "data": Path(options.data).name,
            "output": None,
            "environments": None,
        },
        "median_tokens_per_second": speeds,
        "runs": runs,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
