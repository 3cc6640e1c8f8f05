"""Settings of the base model: which one, and how it is stored."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from engine.profile.tables.base import Auto, Name, PathText, Table, setting

MAX_LENGTH_LIMIT = 1_048_576


class Model(Table):
    """Which model, and how much text it sees at once."""

    name_or_path: PathText = setting(..., "Directory, hub id, .gguf file, or 'demo' for the built-in model.")
    revision: Name | None = setting(None, "Hub revision: branch, tag or commit.", advanced=True)
    max_length: Annotated[int, Field(ge=16, le=MAX_LENGTH_LIMIT)] | Auto = setting(
        "auto", "Tokens of one packed sequence; longer examples are cut and counted.", unit="tokens"
    )
    dtype: Literal["auto", "bf16", "fp16", "fp32"] = setting(
        "auto", "Compute precision. bf16 on Ampere and newer, else fp16; on CPU whichever is faster."
    )
    attention: Literal["auto", "packed", "sdpa", "eager"] = setting(
        "auto", "Attention kernel: packed = variable-length over documents.", advanced=True
    )
    initialise: Literal["pretrained", "random"] = setting(
        "pretrained", "random = ignore the weights and start from the configuration alone.", advanced=True
    )
    additional_special_tokens: list[Name] = setting(
        [], "Marks that become one token each; the vocabulary grows.", advanced=True, max_length=1000
    )
    padding_side: Literal["left", "right"] | None = setting(
        None, "Side on which the saved tokenizer pads; training has no padding within examples.", advanced=True
    )
    truncation_side: Literal["left", "right"] = setting(
        "right", "Side on which examples longer than max_length lose tokens.", advanced=True
    )
    trust_remote_code: bool = setting(
        False, "Run Python code that the model directory carries. Off unless you know the author.", advanced=True
    )


class Quantization(Table):
    """How the frozen base model is stored."""

    method: Literal["auto", "none", "nf4", "fp4", "int8"] = setting(
        "auto", "Storage of frozen weights; auto = none when bf16 or fp16 LoRA fits."
    )
    double_quant: bool = setting(True, "Quantize the quantization constants too (nf4, fp4).", advanced=True)
