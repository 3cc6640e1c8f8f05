"""`python -m engine.oracle MODEL_DIR_OR_CONFIG [--json]`: exact memory of one model with one shape, in a process.

`engine fit --exact` runs this; the answer goes to stdout, everything libraries say to stderr. Shape options carry the
names of `TrainingShape`. Exit codes are the engine's.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any, get_args

from engine.errors import EngineError, ExitCode
from engine.hardware.machine import Gpu
from engine.libraries import check_libraries
from engine.memory.shape import TrainingShape
from engine.models.spec import ModelSpec
from engine.profile.tables.train import Train
from engine.text import format_bytes

_PARTS = ("load", "forward", "loss", "backward", "optimizer", "allocated", "reserved", "device")
_CHOICES = {
    "method": ("lora", "freeze", "full"),
    "compute_dtype": ("bf16", "fp16", "fp32"),
    "quantization": ("none", "nf4", "fp4", "int8"),
    "lora_bias": ("none", "all", "lora_only"),
    "kernels": ("plain", "liger"),
    "optimizer": tuple(name for name in get_args(Train.model_fields["optim"].annotation) if name != "auto"),
}

_COUNTS = ("micro_batch", "max_length", "gradient_accumulation_steps", "lora_r")


def main(arguments: list[str] | None = None) -> int:
    """Parse, simulate, print; returns the exit code."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    options = _parser().parse_args(arguments)
    try:
        check_libraries(lambda code, message: print(f"warning: {message}", file=sys.stderr))
        with contextlib.redirect_stdout(sys.stderr):
            answer = _answer(options)
    except EngineError as error:
        print(f"error: {error}", file=sys.stderr)
        return int(error.code)
    except Exception as error:
        if options.debug:
            raise
        print(f"error: {_unforeseen(options, error)}", file=sys.stderr)
        return int(ExitCode.INTERNAL)
    if options.json:
        print(json.dumps(answer, indent=1))
        return 0
    for part in _PARTS:
        print(f"{part:<10} {format_bytes(answer[f'{part}_bytes'])}")
    return 0


def _count(text: str) -> int:
    """A number of at least one."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no number above 0")
    return int(text)


def _unforeseen(options: argparse.Namespace, error: Exception) -> str:
    """A failure in a library, or in this module, in one line."""
    words = (str(error).strip().splitlines() or [""])[0][:200]
    what = f"{type(error).__name__}: {words}" if words else type(error).__name__
    return f"{options.model}: the simulation stopped with {what} - ask again with --debug, or for the closed form alone"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m engine.oracle", description="Simulated memory of one training step."
    )
    parser.add_argument("model", help="model directory, config.json, or a name of the catalogue")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--debug", action="store_true", help="let an error that nobody foresaw show its traceback")
    parser.add_argument("--extend", action="store_true", help="simulate two shallow models and extend (1 s, not 10)")
    parser.add_argument("--capability", default="8.0", help="compute capability of the GPU, such as 8.9")
    for field in dataclasses.fields(TrainingShape):
        if field.name in ("device", "loss_chunk_tokens"):
            continue
        name = "--" + field.name.replace("_", "-")
        if field.name in _CHOICES:
            parser.add_argument(name, choices=_CHOICES[field.name], default=field.default)
        elif isinstance(field.default, bool):
            parser.add_argument(name, action=argparse.BooleanOptionalAction, default=field.default)
        elif isinstance(field.default, tuple):
            parser.add_argument(name, nargs="+", default=field.default)
        else:
            kind = _count if field.name in _COUNTS else type(field.default)
            parser.add_argument(name, type=kind, default=field.default)
    return parser


def _answer(options: argparse.Namespace) -> dict[str, Any]:
    from engine.memory.device import context_bytes
    from engine.oracle.kernels import ASSUMPTIONS
    from engine.oracle.simulate import simulate

    spec, config = model_of(options.model)
    gpu = Gpu("GPU", compute_capability=_capability(options.capability))
    found = simulate(spec, shape_of(options), config=config, gpu=gpu, whole=not options.extend)
    answer = dataclasses.asdict(found)
    answer["device_bytes"] = found.reserved_bytes + context_bytes(gpu, "cuda")
    return {"model": spec.name, **answer, "assumptions": list(ASSUMPTIONS)}


def shape_of(options: argparse.Namespace) -> TrainingShape:
    """The shape that the options name."""
    known = {field.name for field in dataclasses.fields(TrainingShape)}
    given = {name: value for name, value in vars(options).items() if name in known}
    for name in ("lora_targets", "modules_to_save"):
        given[name] = tuple(given[name])
    return TrainingShape(**given)


def model_of(reference: str) -> tuple[ModelSpec, dict[str, Any] | None]:
    """A spec and, where there are files, the contents of its config.json. Raises EngineError(MODEL)."""
    from engine.models.catalog import shipped_config
    from engine.models.config import read_config, spec_from_config
    from engine.models.resolve import read_directory, resolve_model

    path = Path(reference).expanduser()
    if path.is_dir() and (path / "config.json").is_file():
        spec = read_directory(path, name=path.name or "model", source="directory", simulated=True)
        return spec, _as_loaded(spec, read_config(path / "config.json"))
    if path.suffix == ".json":
        config = read_config(path)
        name = path.parent.name or "model"
        place = str(path.parent)
        return spec_from_config(config, name, str(path), source="directory", path=place, simulated=True), config
    spec = resolve_model(reference, simulated=True)
    if spec.path and Path(spec.path, "config.json").is_file():
        return spec, _as_loaded(spec, read_config(Path(spec.path, "config.json")))
    return spec, shipped_config(spec) if spec.wrapper else None


def _as_loaded(spec: ModelSpec, config: dict[str, Any]) -> dict[str, Any]:
    """`config` as its weight files make it: a stored head of its own is not tied, whatever the whole says."""
    return {**config, "tie_word_embeddings": spec.tie_word_embeddings} if spec.wrapper else config


def _capability(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    if not (major.isdigit() and (minor or "0").isdigit()):
        raise EngineError(f"'{text}' is no compute capability", code=ExitCode.PROFILE, hint="give one such as 8.9")
    return int(major), int(minor or 0)


if __name__ == "__main__":
    sys.exit(main())
