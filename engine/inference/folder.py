"""A model that is no run: an exported directory, an adapter folder or a GGUF file, opened without trusting it.

Weights come from safetensors or GGUF alone, no code of the directory runs, and the checks are those of training's
models (`engine.modeling.load`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import EngineError, ExitCode
from engine.files import read_json
from engine.inference import scales
from engine.modeling import load
from engine.models.config import read_config
from engine.profile.schema import Profile
from engine.runs.job import Warn

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_DTYPES = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}
_ADAPTER_CONFIG = "adapter_config.json"


@dataclass(frozen=True, slots=True)
class OpenedFolder:
    """What lies at a path. `settings` load it as training would load a base; an adapter needs one."""

    path: Path
    settings: Profile
    is_adapter: bool
    context: int
    """Tokens that the model can see; 0 where its configuration does not say."""
    stored: str
    """How its weights are stored, for the report."""


def open_folder(reference: str, settings: Profile, base_dir: Path, warn: Warn) -> OpenedFolder:
    """The model at a path, or of a name that a profile may give. Raises EngineError(MODEL) for what is none."""
    path = base_dir / Path(reference).expanduser()
    if path.is_dir():
        _refuse_other_folders(path)
        _refuse_pickles(path)
        if not (path / "config.json").is_file():
            _refuse_other_adapters(path)
            return OpenedFolder(path, settings, is_adapter=True, context=0, stored="adapter")
    elif not path.is_file() and path.suffix == ".gguf":
        raise _error("there is no file", path, "check the path")
    own = _settings(settings, str(path) if path.exists() else reference, "fp32")
    folder = load.model_directory(own, base_dir, warn)
    config = read_config(folder / "config.json")
    nested = config.get("text_config")
    text = nested if isinstance(nested, dict) else config
    dtype = _DTYPES.get(str(config.get("dtype") or config.get("torch_dtype") or text.get("dtype")), "fp32")
    quantized = config.get("quantization_config")
    how = str(quantized.get("quant_method", "quantized"))[:40] if isinstance(quantized, dict) else dtype
    how += " with fixed scales" if (path / scales.SCALES_FILE).is_file() else ""
    stored = f"GGUF read as {dtype}" if path.suffix == ".gguf" else how
    context = text.get("max_position_embeddings")
    known = context if isinstance(context, int) and 0 < context < 2**31 else 0
    return OpenedFolder(
        path, _settings(own, own.model.name_or_path, dtype), is_adapter=False, context=known, stored=stored
    )


def _settings(settings: Profile, reference: str, dtype: str) -> Profile:
    """`settings` with the model at `reference`, none of the run's own marks, and no code of its directory."""
    plain: dict[str, Any] = {
        "name_or_path": reference,
        "revision": None,
        "dtype": dtype,
        "initialise": "pretrained",
        "additional_special_tokens": [],
        "trust_remote_code": False,
    }
    return settings.model_copy(update={"model": settings.model.model_copy(update=plain)})


def load_folder(found: OpenedFolder, base_dir: Path, device: str, warn: Warn) -> Any:
    """The model, as its files store it; 4-bit weights in the layout that the export was checked in."""
    model = load.load_base(found.settings, base_dir, quantized=False, device=device, warn=warn)
    load.keep_plain_layout(model)
    if found.path.suffix == ".gguf":
        return model.eval()
    try:
        scales.put_on_from(model, found.path)
    except Exception as error:
        # safetensors raises an exception type of its own for damaged files.
        if not isinstance(error, (AttributeError, ValueError)) and type(error).__name__ != "SafetensorError":
            raise
        first = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise _error(
            f"{scales.SCALES_FILE} does not fit the model: {first}",
            found.path,
            "export it again; without the file it is a model that measures each token",
        ) from error
    return model.eval()


def tokenizer_of(found: OpenedFolder, base_dir: Path, warn: Warn) -> Any | None:
    """The tokenizer of the same files; None for an adapter without one."""
    if not found.is_adapter:
        return load.load_tokenizer(found.settings, base_dir, warn)
    if not (found.path / "tokenizer.json").is_file():
        return None
    return load.tokenizer_at(found.path, found.settings)


def _refuse_other_folders(path: Path) -> None:
    if (path / "config.json").is_file() or (path / _ADAPTER_CONFIG).is_file():
        return
    inside = sorted(
        child.name
        for child in path.iterdir()
        if child.is_dir() and ((child / "config.json").is_file() or (child / _ADAPTER_CONFIG).is_file())
    )
    inside += sorted(f"gguf/{file.name}" for file in (path / "gguf").glob("*.gguf"))
    hint = f"it holds {', '.join(inside)}: name one of them" if inside else "name a folder with config.json"
    raise _error("no model lies in this folder itself", path, hint)


def _refuse_pickles(path: Path) -> None:
    if any(path.glob("*.safetensors")):
        return
    found = sorted(file.name for pattern in PICKLES for file in path.glob(pattern))
    if found:
        raise _error(
            f"its weights are pickle files ({', '.join(found[:3])}), which can run code when they are read",
            path,
            "get the model as safetensors, or convert it where you trust it: model.save_pretrained(folder)",
        )
    raise _error("no weights there", path, "it needs *.safetensors files beside its configuration")


def _refuse_other_adapters(path: Path) -> None:
    """PEFT imports what `megatron_core` names; other methods than LoRA are not this trainer's."""
    try:
        config = read_json(path / _ADAPTER_CONFIG)
    except ValueError as error:
        raise _error(f"{_ADAPTER_CONFIG} is not valid JSON: {error}", path, "download the adapter again") from error
    if config.get("peft_type") != "LORA" or config.get("megatron_config") is not None:
        raise _error(f"the adapter is {str(config.get('peft_type'))[:40]!r}", path, "only plain LoRA adapters are read")


def adapter_base(path: Path) -> str:
    """The base that an adapter says it stands on, for a hint; never loaded from there."""
    try:
        return str(read_json(path / _ADAPTER_CONFIG).get("base_model_name_or_path") or "")[:200]
    except (OSError, ValueError):
        return ""


def _error(message: str, path: Path, hint: str) -> EngineError:
    return EngineError(message, code=ExitCode.MODEL, where=str(path), hint=hint)
