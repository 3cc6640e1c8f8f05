"""From what a person wrote to a `ModelSpec`: directory, .gguf, `demo`, hub cache or catalogue.

Torch-free and offline: nothing is downloaded and no code of a model is run. Not here: loading weights
(`engine.modeling`).
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.errors import EngineError, ExitCode
from engine.models.catalog import catalog_index
from engine.models.config import read_config, spec_from_config
from engine.models.safetensors import count_parameters
from engine.models.spec import ModelSpec
from engine.models.wrapper_rows import says_untied, text_part
from engine.nearby import did_you_mean
from engine.text import sanitize

_HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def resolve_model(
    ref: str, revision: str | None = None, base_dir: Path | None = None, *, simulated: bool = False
) -> ModelSpec:
    """The model that `ref` names; `path` is set where its files are on this machine.

    In this order: `demo`; a .gguf file or directory (relative to `base_dir`, else the working
    directory); a catalogue name, with or without its owner; a hub id in the local cache.
    Raises EngineError(MODEL) with the nearest known name. `simulated`: as in `config.spec_from_config`.
    """
    shown = sanitize(ref, max_chars=200, single_line=True)
    if not ref.strip() or "\x00" in ref:
        raise _error("no model was named", "", "give a directory, a hub id, a .gguf file or 'demo'")
    if ref == "demo":
        return _demo()
    local = local_path(ref, base_dir)
    if local.suffix == ".gguf" or local.is_file():
        return _file(local, shown)
    if local.is_dir():
        return read_directory(local, name=ref, source="directory", simulated=simulated)
    if _looks_like_path(ref):
        hint = did_you_mean(local) or "check the path; it is relative to the profile"
        raise _error("no such model directory", shown, hint)
    return _hub(ref, revision, shown, simulated)


def local_path(ref: str, base_dir: Path | None = None) -> Path:
    """Where a model's name would lie on this disk. Raises EngineError(MODEL) for a path that no disk can have."""
    try:
        path = Path(base_dir or Path.cwd(), Path(ref).expanduser())
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: `~name` of somebody who is not here
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        shown = sanitize(ref, max_chars=200, single_line=True)
        hint = "give a directory that can be read, a hub id, a .gguf file or 'demo'"
        raise _error(f"no model can be found there: {why.lower().rstrip('.')}", shown, hint) from None
    return path


def _depth(config: dict[str, Any]) -> int | None:
    """Layers of the text model as the configuration says; None where it does not by this name."""
    found = text_part(config).get("num_hidden_layers")
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def read_directory(directory: Path, *, name: str, source: str, simulated: bool = False) -> ModelSpec:
    """Spec of a directory with config.json; parameters counted where safetensors files are there."""
    if not (directory / "config.json").is_file():
        where = sanitize(str(directory), single_line=True)
        raise _error("the directory holds no config.json", where, "give the directory with config.json and weights")
    config_path = directory / "config.json"
    path = str(directory.resolve())
    where = sanitize(str(config_path), single_line=True)
    config = read_config(config_path)
    counted = count_parameters(directory, _depth(config))
    stored = counted.towers if counted else None
    spec = spec_from_config(config, name, where, source=source, path=path, simulated=simulated, stored_towers=stored)
    if counted is None:
        return spec
    if spec.stored:
        # Packed values and scales are no parameters: the count is that of the configuration.
        return replace(spec, weights_dtype=spec.stored)
    parameters = counted.parameters
    if spec.tie_word_embeddings and counted.has_output_head:
        if says_untied(config):
            # transformers compares both matrices and keeps them apart where they differ.
            return replace(spec, parameters=parameters, weights_dtype=counted.dtype, tie_word_embeddings=False)
        parameters -= spec.sizes.embedding_parameters
    return replace(spec, parameters=parameters, weights_dtype=counted.dtype)


def cached_snapshot(hub_id: str, revision: str | None = None) -> Path | None:
    """Directory of `hub_id` in the local hub cache, or None. Never leaves the cache directory."""
    if not _HUB_ID.fullmatch(hub_id) or ".." in hub_id:
        return None
    root = hub_cache() / ("models--" + hub_id.replace("/", "--"))
    wanted = revision or "main"
    commit = wanted if _COMMIT.fullmatch(wanted) else _reference(root, wanted)
    snapshot = root / "snapshots" / commit if commit else None
    return snapshot if snapshot and (snapshot / "config.json").is_file() else None


def _hub(ref: str, revision: str | None, shown: str, simulated: bool) -> ModelSpec:
    known = catalog_index().get(ref.lower())
    hub_id = known.name if known else ref
    snapshot = cached_snapshot(hub_id, revision)
    if known:
        return replace(known, path=str(snapshot)) if snapshot and known.path is None else known
    if snapshot:
        return read_directory(snapshot, name=hub_id, source="cache", simulated=simulated)
    raise _unknown(ref, shown)


def _unknown(ref: str, shown: str) -> EngineError:
    from engine.models.nearest import instead_of, nearest_models, why_refused

    if lacks := why_refused(ref):
        instead = " or ".join(instead_of(ref))
        message = f"'{shown}' cannot be trained here: it has {lacks}, which this trainer does not know"
        return _error(message, "", f"train {instead} instead" if instead else "see 'engine models list' for others")
    near = nearest_models(ref)
    hint = f"did you mean {' or '.join(near)}?" if near else "see 'engine models list'"
    if _HUB_ID.fullmatch(ref):
        hint += f" - or fetch it first: hf download {shown}"
    return _error(f"no model '{shown}' in the catalogue, the hub cache or on disk", "", hint)


def _demo() -> ModelSpec:
    from importlib.resources import files

    directory = Path(str(files("engine.demo") / "model"))
    if not (directory / "config.json").is_file():
        raise _error("the built-in demo model is not installed", str(directory), "install the tunedeck wheel again")
    return read_directory(directory, name="demo", source="built-in")


def _file(path: Path, shown: str) -> ModelSpec:
    if path.suffix != ".gguf":
        raise _error("the model is a file, and not a .gguf", shown, "give the directory that holds config.json")
    if not path.is_file():
        raise _error("no such .gguf file", shown, did_you_mean(path) or "check the path; it is relative to the profile")
    from engine.models.gguf import spec_from_gguf

    return spec_from_gguf(path)


def _looks_like_path(ref: str) -> bool:
    return ref.startswith((".", "/", "~")) or ref.count("/") > 1 or "\\" in ref


def hub_cache() -> Path:
    """Where huggingface_hub keeps what it fetched."""
    for variable, below in (("HF_HUB_CACHE", ""), ("HUGGINGFACE_HUB_CACHE", ""), ("HF_HOME", "hub")):
        if os.environ.get(variable):
            return Path(os.environ[variable]).expanduser() / below
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "huggingface" / "hub"


def _reference(root: Path, revision: str) -> str | None:
    if not _REVISION.fullmatch(revision) or ".." in revision:
        return None
    try:
        commit = (root / "refs" / revision).read_text(encoding="ascii")[:64].strip()
    except (OSError, ValueError):
        return None
    return commit if _COMMIT.fullmatch(commit) else None


def _error(message: str, where: str, hint: str) -> EngineError:
    return EngineError(message, code=ExitCode.MODEL, where=where, hint=hint)


def describe_parameters(spec: ModelSpec) -> str:
    """`computed from config.json` or `counted in its files`: where the parameter count comes from."""
    if spec.parameters is None:
        return "computed from its configuration"
    return "exact" if spec.source == "catalogue" else "counted in its files"
