"""Models that also see or hear: the class that loads them whole, and what of them lies outside the text model.

Such a wrapper holds a text decoder with its head, and beside it towers for images or sound with their projectors. Only
the text side is trained: towers are loaded, frozen, and written as they came.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from engine.files import read_json
from engine.models.wrapper_rows import no_class

PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")
"""How images, sound and videos become inputs. The chat template travels with the tokenizer."""


def is_wrapper(config: Any) -> bool:
    """Whether a configuration holds that of its text model as a part."""
    return config.get_text_config() is not config


def generating_class(config: Any) -> Any:
    """transformers' auto class of a model that writes text; a wrapper's is the one that keeps its towers.

    Names of weights and adapters are then those of the published files, which vLLM and others look for.
    Raises EngineError(MODEL) for a wrapper that no class loads.
    """
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoModelForMultimodalLM

    if not is_wrapper(config):
        return AutoModelForCausalLM
    own_code = getattr(config, "auto_map", None) or {}
    for kind in (AutoModelForImageTextToText, AutoModelForMultimodalLM, AutoModelForCausalLM):
        if type(config) in kind._model_mapping or kind.__name__ in own_code:
            return kind
    raise no_class(config.model_type, "writes text")


def scoring_class(config: Any) -> Any:
    """The auto class of a model with a head for scores. Raises EngineError(MODEL) for a wrapper without one."""
    from transformers import AutoModelForSequenceClassification

    known = type(config) in AutoModelForSequenceClassification._model_mapping
    if is_wrapper(config) and not known and not getattr(config, "auto_map", None):
        raise no_class(config.model_type, "scores texts")
    return AutoModelForSequenceClassification


def kernels_by_part(config: Any, kernel: str) -> str | dict[str, str]:
    """`kernel` as transformers takes it: for the text model alone, so that towers keep their own attention."""
    if not is_wrapper(config):
        return kernel
    text = config.get_text_config()
    return {"": kernel} | {name: kernel for name in config.sub_configs if getattr(config, name, None) is text}


def outside_text(model: Any) -> tuple[str, ...]:
    """Names of the outermost modules beside the text model and its head; none for a model of text alone."""
    if not is_wrapper(model.config):
        return ()
    return tuple(_outside(model, "", {id(part) for part in _text_side(model)}))


def _text_side(model: Any) -> list[torch.nn.Module]:
    parts = (model.get_decoder(), model.get_output_embeddings(), getattr(model, "score", None))
    return [part for part in parts if part is not None]


def _outside(module: torch.nn.Module, prefix: str, kept: set[int]) -> Iterator[str]:
    for name, child in module.named_children():
        if id(child) in kept:
            continue
        if any(id(inner) in kept for inner in child.modules()):
            yield from _outside(child, f"{prefix}{name}.", kept)
        else:
            yield prefix + name


def text_modules(model: Any) -> Iterator[tuple[str, torch.nn.Module]]:
    """(name, module) of the whole model, without those outside the text model."""
    others = outside_text(model)
    for name, module in model.named_modules():
        if not any(name == other or name.startswith(f"{other}.") for other in others):
            yield name, module


def excluded_pattern(model: Any) -> str | None:
    """What PEFT leaves without adapters, as a pattern of names; None for a model of text alone."""
    others = outside_text(model)
    return rf"({'|'.join(map(re.escape, others))})(\..*)?" if others else None


def only_in_text(model: Any, names: Iterable[str]) -> list[str]:
    """`names` of modules as PEFT takes them; one that ends names of a tower too becomes its full names in the text."""
    inside = {name for name, _ in text_modules(model)}
    others = {name for name, _ in model.named_modules()} - inside
    found: list[str] = []
    for name in names:
        whole = sorted(full for full in inside if full == name or full.endswith(f".{name}"))
        # PEFT takes any name with this end, also in the middle of a word.
        found += whole if any(other.endswith(name) for other in others) else [name]
    return found


def freeze_outside_text(model: Any) -> None:
    """Let nothing learn outside the text model of a wrapper."""
    for parameter in parameters_outside_text(model):
        parameter.requires_grad_(False)


def parameters_outside_text(model: Any) -> list[torch.nn.Parameter]:
    """Parameters of towers and projectors; none for a model of text alone."""
    if not is_wrapper(model.config):
        return []
    text = {id(parameter) for part in _text_side(model) for parameter in part.parameters()}
    return [parameter for parameter in model.parameters() if id(parameter) not in text]


def copy_processor(source: Path, folder: Path) -> None:
    """The files beside a wrapper's weights that say how to read images and sound, where there are any."""
    for name in PROCESSOR_FILES:
        try:
            read_json(source / name)
        except (OSError, ValueError):
            continue
        shutil.copyfile(source / name, folder / name)
