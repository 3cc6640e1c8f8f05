"""Turning a GGUF file into an ordinary model directory, once, in the cache.

Everything after (fit, quantization, merge, evaluation, export) then sees one kind of model. The
weights come out in bf16 from whatever the file stores.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

from engine.errors import EngineError, ExitCode
from engine.files import sync_directory, sync_tree
from engine.modeling.gguf_left_out import left_out
from engine.runs.job import Warn

_SAMPLES, _SAMPLE_BYTES = 33, 64 * 1024
_CONVERSION = b"2"
"""Changes when files are converted otherwise: what lies in the cache is then made anew."""


def cache_home() -> Path:
    """Tunedeck's cache, honouring XDG_CACHE_HOME."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "tunedeck" / "models"


def cache_directory(path: Path) -> Path:
    """Where the conversion of `path` lies: named by its stem, size, and samples from head to end."""
    size = path.stat().st_size
    digest = hashlib.sha256(_CONVERSION + str(size).encode())
    with path.open("rb") as file:
        for sample in range(_SAMPLES):
            file.seek(max(0, size - _SAMPLE_BYTES) * sample // (_SAMPLES - 1))
            digest.update(file.read(_SAMPLE_BYTES))
    return cache_home() / f"{path.stem[:80]}-{digest.hexdigest()[:12]}"


def import_gguf(path: Path, warn: Warn) -> Path:
    """The converted directory of a GGUF file, made now if it is not there.

    Raises EngineError(MODEL) for a file or an architecture that transformers cannot read.
    """
    target = cache_directory(path)
    if (target / "config.json").is_file():
        return target
    beside = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True, mode=0o700)
    try:
        _convert(path, beside)
        sync_tree(beside)
        if not target.exists():
            os.replace(beside, target)
    except (OSError, ValueError, KeyError, NotImplementedError) as error:
        raise EngineError(
            f"the GGUF file cannot be read: {(str(error).splitlines() or [type(error).__name__])[0]}",
            code=ExitCode.MODEL,
            where=str(path),
            hint="use a GGUF of an architecture that transformers reads, or the original safetensors",
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    sync_directory(target.parent)
    warn("gguf_converted", f"{path.name} was converted to bf16 safetensors; its own quantization loss stays in them")
    return target


def _convert(path: Path, target: Path) -> None:
    import torch

    model, tokenizer = load_model(path, torch.bfloat16), load_tokenizer(path)
    _apply_tokens(model, _token_metadata(path))
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


def load_tokenizer(path: Path) -> Any:
    """The tokenizer of a GGUF file. Raises ValueError for one that cannot be made from what the file says."""
    from transformers import AutoTokenizer, GemmaTokenizer, LlamaTokenizer, PreTrainedTokenizerFast

    from engine.modeling import gguf_configs, gguf_splits
    from engine.modeling.gguf_open import reader_of

    reader = reader_of(path)
    architecture = gguf_configs.architecture_of(reader)
    kind: Any = AutoTokenizer
    if str(reader.get_field("tokenizer.ggml.model").contents()) == "gpt2":
        # The class of an architecture's published models may ask for tokens that a byte-level vocabulary has not.
        tokenizer = PreTrainedTokenizerFast.from_pretrained(path.parent, gguf_file=path.name)
        named = reader.get_field("tokenizer.ggml.pre")
        gguf_splits.put_on(tokenizer, "" if named is None else str(named.contents()))
        return tokenizer
    if gguf_configs.reading_of(reader) is not None:
        # The class that a file gets by name asks for an architecture that transformers reads.
        kind = GemmaTokenizer if architecture == "gemma" else LlamaTokenizer
    return kind.from_pretrained(path.parent, gguf_file=path.name)


def load_model(path: Path, dtype: Any) -> Any:
    """The model of a GGUF file with the positions that it says, by transformers or, where that cannot, by this engine.

    Raises what either raises: OSError, ValueError, KeyError or NotImplementedError.
    """
    from transformers import AutoModelForCausalLM, GgufConfig

    from engine.modeling import gguf_positions, gguf_reading, gguf_rope
    from engine.modeling.gguf_open import reader_of

    own = gguf_reading.model_of(path, dtype)
    if own is not None:
        return own
    # transformers 5.2x keeps the blocks packed unless told.
    options = {"quantization_config": GgufConfig(gguf_file=str(path), dequantize=True), **left_out(path)}
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=dtype, **options)
    if getattr(model.config, "quantization_config", None) is not None:
        del model.config.quantization_config
    reader = reader_of(path)
    if gguf_rope.is_scaled(reader):
        model.config.rope_parameters = gguf_positions.parameters_in(reader)
        gguf_rope.put_on(model.get_decoder().rotary_emb, reader)
    return model


def _token_metadata(path: Path) -> dict[str, Any]:
    """Token ids that the file's own metadata gives; transformers leaves the Llama defaults in place."""
    from engine.modeling.gguf_open import reader_of

    reader = reader_of(path)
    found = {}
    for name in ("bos_token_id", "eos_token_id", "padding_token_id"):
        field = reader.get_field(f"tokenizer.ggml.{name}")
        if field is not None:
            found[name.replace("padding", "pad")] = int(field.contents())
    return found


def _apply_tokens(model: Any, tokens: dict[str, Any]) -> None:
    for name, value in tokens.items():
        setattr(model.config, name, value)
        setattr(model.generation_config, name, value)
