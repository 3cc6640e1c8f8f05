"""Loading a tokenizer and a model as a profile says, in the worker: built-in, directory, GGUF or hub.

Only safetensors weights are read (a pickle can run code), remote code only when the profile allows
it, and no file outside the model's directory.
Not here: adapters (`adapters.py`).
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import torch

from engine.errors import EngineError, ExitCode
from engine.files import read_json
from engine.modeling import attention, delta_rule, experts_load, state_spaces, stored_weights, wrappers
from engine.modeling.gguf_import import import_gguf
from engine.profile.schema import Profile
from engine.runs.job import Warn

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
_HUB_FILES = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "merges.txt"]


def model_directory(settings: Profile, base_dir: Path, warn: Warn) -> Path:
    """A directory with the model's files, converting or downloading them once where needed.

    Raises EngineError(MODEL) for what cannot be found or is not a model.
    """
    reference = settings.model.name_or_path
    if reference == "demo":
        from engine.demo.paths import model_dir

        return model_dir()
    path = Path(reference).expanduser()
    path = path if path.is_absolute() else base_dir / path
    if path.suffix == ".gguf" and path.is_file():
        return import_gguf(path, warn)
    if path.is_dir():
        return _checked(path)
    return _checked(_from_hub(settings))


def _from_hub(settings: Profile) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    name = settings.model.name_or_path
    patterns = [*_HUB_FILES, "*.py"] if settings.model.trust_remote_code else _HUB_FILES
    wanted: dict[str, Any] = {"repo_id": name, "revision": settings.model.revision, "allow_patterns": patterns}
    try:
        try:
            found = Path(snapshot_download(**wanted, local_files_only=True))
            if any(found.glob("*.safetensors")):
                return found
        except LocalEntryNotFoundError:
            pass
        return Path(snapshot_download(**wanted))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise EngineError(
            f"model '{name}' is not here and cannot be fetched: {first}",
            code=ExitCode.MODEL,
            where="model.name_or_path",
            hint="give a directory with config.json and safetensors, or log in with 'hf auth login' for a gated model",
        ) from error


def _checked(path: Path) -> Path:
    """`path` after looking at what it holds; raises EngineError(MODEL)."""
    if not (path / "config.json").is_file():
        raise EngineError(
            "no config.json there",
            code=ExitCode.MODEL,
            where=str(path),
            hint="model.name_or_path must be a directory in the Hugging Face layout",
        )
    refuse_outside(path)
    return path


def refuse_outside(home: Path) -> None:
    """A tokenizer that names files elsewhere would read, and later publish, a stranger's files: EngineError(MODEL)."""
    tokenizer_config = home / "tokenizer_config.json"
    if not tokenizer_config.is_file():
        return
    try:
        settings = read_json(tokenizer_config)
    except ValueError as error:
        raise EngineError(f"not valid JSON: {error}", code=ExitCode.MODEL, where=str(tokenizer_config)) from error
    for key, value in settings.items():
        if not key.endswith("_file") or not isinstance(value, str):
            continue
        # By name, not by link: the files of a hub snapshot are links into the cache beside it.
        if not Path(os.path.normpath(home / value)).is_relative_to(os.path.normpath(home)):
            raise EngineError(
                f"'{key}' points outside the model's directory",
                code=ExitCode.MODEL,
                where=str(tokenizer_config),
                hint="do not use this model, or remove the key",
            )


def load_tokenizer(settings: Profile, base_dir: Path, warn: Warn) -> Any:
    """The model's fast tokenizer, with a padding token. Raises EngineError(MODEL)."""
    return tokenizer_at(model_directory(settings, base_dir, warn), settings)


def tokenizer_at(path: Path, settings: Profile) -> Any:
    """The fast tokenizer in a directory, made ready as `settings` say. Raises EngineError(MODEL)."""
    from transformers import AutoTokenizer

    refuse_outside(path)
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            path, trust_remote_code=settings.model.trust_remote_code, local_files_only=True
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EngineError(
            f"the tokenizer cannot be loaded: {(str(error).splitlines() or [''])[0]}",
            code=ExitCode.MODEL,
            where=str(path),
            hint="the directory needs tokenizer.json and tokenizer_config.json",
        ) from error
    if not tokenizer.is_fast:
        raise EngineError(
            "the model has no fast tokenizer", code=ExitCode.MODEL, where=str(path), hint="convert it to tokenizer.json"
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    if settings.model.additional_special_tokens:
        tokenizer.add_special_tokens({"additional_special_tokens": settings.model.additional_special_tokens})
    if settings.model.padding_side is not None:
        tokenizer.padding_side = settings.model.padding_side
    tokenizer.truncation_side = settings.model.truncation_side
    return tokenizer


@torch.no_grad()
def grow_vocabulary(model: Any, size: int) -> None:
    """Rows for tokens that the model has none for, each the mean of those it has: the same at every loading."""
    old = model.get_input_embeddings().num_embeddings
    if size <= old:
        return
    model.resize_token_embeddings(size, mean_resizing=False)
    for module in filter(None, (model.get_input_embeddings(), model.get_output_embeddings())):
        module.weight[old:] = module.weight[:old].float().mean(dim=0).to(module.weight.dtype)


def load_base(
    settings: Profile, base_dir: Path, *, quantized: bool, device: str, warn: Warn, packed: bool = False
) -> Any:
    """The base model on `device` in `model.dtype`, frozen layers quantized when `quantized`.

    `packed` picks the attention over packed documents (training); otherwise transformers' sdpa
    (generation). Raises EngineError(MODEL).
    """
    from transformers import AutoConfig

    attention.register()
    path = model_directory(settings, base_dir, warn)
    dtype = DTYPES[settings.model.dtype]
    trust = settings.model.trust_remote_code
    extra = {"num_labels": 1} if settings.train.objective == "reward" else {}
    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=trust, local_files_only=True, **extra)
        kind = wrappers.scoring_class(config) if extra else wrappers.generating_class(config)
        name = _known_kernel(config, kind, attention_name(settings, packed), warn)
        kernel = wrappers.kernels_by_part(config, name)
        if settings.model.initialise == "random":
            torch.manual_seed(settings.train.seed)
            model = kind.from_config(config, dtype=dtype, attn_implementation=kernel, trust_remote_code=trust)
            return _grown(model.to(device), settings, base_dir, warn)
        # A head for scores is new and random, the same one each time.
        torch.manual_seed(settings.train.seed)
        stored = stored_weights.stored_in(config)
        with experts_load.packing(), stored_weights.as_plain(config, stored, device) as files:
            model = kind.from_pretrained(
                path,
                **(files or extra),
                dtype=dtype,
                attn_implementation=kernel,
                trust_remote_code=trust,
                local_files_only=True,
                use_safetensors=True,
                **_storage(settings, quantized, state_spaces.kept_plain(config)),
                device_map={"": device},
            )
        stored_weights.mark(model, stored)
        if packed:
            keep_plain_layout(model)
        return _grown(model, settings, base_dir, warn)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise _not_loaded(error, path) from error
    except Exception as error:
        # safetensors raises an exception type of its own for damaged files.
        if type(error).__name__ != "SafetensorError":
            raise
        raise EngineError(
            f"damaged weights: {error}", code=ExitCode.MODEL, where=str(path), hint="download the model again"
        ) from error


def _not_loaded(error: Exception, path: Path) -> EngineError:
    """The error for a model that transformers does not load; what a library is missing is named in its first line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    missing = isinstance(error, ImportError)
    return EngineError(
        f"the model cannot be loaded: {lines[0] if lines else type(error).__name__}",
        code=ExitCode.MODEL,
        where=str(path),
        hint="install the library that is named there, in the environment of the engine"
        if missing
        else "it must be a language model with safetensors weights that this transformers knows",
    )


def _storage(settings: Profile, quantized: bool, spared: list[str]) -> dict[str, Any]:
    """How the weights are to be stored; left out where they stay as their files have them, quantized or not.

    `spared`: ends of names of linear layers that are not quantized; none = transformers' own.
    """
    chosen = quantization_config(settings) if quantized else None
    if chosen is not None and spared:
        chosen.llm_int8_skip_modules = spared
    return {} if chosen is None else {"quantization_config": chosen}


def _grown(model: Any, settings: Profile, base_dir: Path, warn: Warn) -> Any:
    delta_rule.use_plain_operators(model)
    if settings.model.additional_special_tokens:
        grow_vocabulary(model, len(load_tokenizer(settings, base_dir, warn)))
    return model


def keep_plain_layout(model: Any) -> None:
    """Stop bitsandbytes from repacking 4-bit weights for the processor at the first evaluation.

    The repacked layout is read right in the forward pass and wrong in the backward pass (seen with
    0.50.2): after one evaluation the gradients of everything below were those of other weights.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def attention_name(settings: Profile, packed: bool) -> str:
    """transformers' name of the attention to use."""
    if settings.model.attention in ("sdpa", "eager"):
        return str(settings.model.attention)
    return attention.NAME if packed else "sdpa"


def _known_kernel(config: Any, kind: Any, kernel: str, warn: Warn) -> str:
    """`kernel`, or eager for a model without sdpa (Gemma 2 caps its scores), with a warning."""
    if kernel != "sdpa":
        return kernel
    known = kind._model_mapping.get(type(config), None)
    if known is None or getattr(known, "_supports_sdpa", True):
        return kernel
    warn("attention_fallback", f"{config.model_type} has no sdpa attention: the slower eager one is used")
    return "eager"


def quantization_config(settings: Profile) -> Any:
    """bitsandbytes settings for the frozen base, None when it is not quantized."""
    method = settings.quantization.method
    if method == "none":
        return None
    from transformers import BitsAndBytesConfig

    if method == "int8":
        # It would say with every product that its input becomes fp16.
        logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=method,
        bnb_4bit_use_double_quant=settings.quantization.double_quant,
        bnb_4bit_compute_dtype=DTYPES[settings.model.dtype],
    )
