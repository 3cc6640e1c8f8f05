"""Whether a model's folder holds weights that are opened here: pickles run the code of whoever made them."""

from __future__ import annotations

from pathlib import Path

from engine.errors import ExitCode
from engine.models.spec import ModelSpec
from engine.profile.findings import Finding, finding
from engine.profile.load import LoadedProfile

_PICKLES = (".bin", ".pt", ".pth", ".ckpt")


def weight_findings(loaded: LoadedProfile, key: str, spec: ModelSpec) -> list[Finding]:
    """A folder whose weights are pickles alone, unless the profile begins with random weights."""
    folder = Path(spec.path) if spec.path else None
    is_read = loaded.partial is not None and loaded.partial.model.initialise == "pretrained"
    if folder is None or not folder.is_dir() or not is_read or any(folder.glob("*.safetensors")):
        return []
    names = [file.name for file in folder.iterdir() if file.suffix in _PICKLES]
    pickles = sorted(name for name in names if name != "training_args.bin")
    if not pickles:
        return []
    hint = (
        "save it as safetensors where you trust it: AutoModelForCausalLM.from_pretrained(FOLDER)"
        ".save_pretrained(NEW), with its tokenizer"
    )
    message = f"its weights are a pickle, {pickles[0]}, which can run code when it is opened: it is not loaded"
    return [finding(loaded, key, message, hint, code=ExitCode.MODEL)]
