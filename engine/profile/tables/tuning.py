"""Settings of what learns: every weight, or adapters."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from engine.profile.tables.base import Auto, Name, PathText, Table, setting


class Tuning(Table):
    """Which parameters learn."""

    method: Literal["auto", "lora", "freeze", "full"] = setting(
        "auto", "lora = adapters on a frozen base; freeze = the last layers whole; full = every weight."
    )
    adapter: PathText | None = setting(
        None,
        "Adapter that training starts from: a folder with one of ours or PEFT's, or the name of a finished run;"
        " rank, scale and targets come from it.",
    )
    trainable_layers: int = setting(2, "With freeze: how many of the last layers learn.", unit="layers", ge=1, le=1000)


class Lora(Table):
    """Low-rank adapters (PEFT)."""

    r: int = setting(16, "Rank of the adapters.", ge=1, le=1024)
    alpha: float = setting(32.0, "Scale: the adapter is multiplied by alpha / r.", gt=0, le=8192)
    dropout: float = setting(0.0, "Dropout on adapter inputs. Above 0 costs memory and time.", ge=0, lt=1)
    target_modules: Literal["all-linear"] | Annotated[list[Name], Field(min_length=1, max_length=512)] = setting(
        "all-linear", "Which linear layers get adapters: all-linear, or a list of module names."
    )
    experts: bool = setting(
        False, "Adapters on the experts of a mixture too; otherwise they stay frozen. Takes no dropout.", advanced=True
    )
    modules_to_save: list[Name] = setting(
        [], "Modules trained whole beside the adapters.", advanced=True, max_length=512
    )
    bias: Literal["none", "lora_only", "all"] = setting("none", "Which biases train.", advanced=True)
    init: Literal["default", "pissa"] = setting(
        "default",
        "pissa = start from the base's principal parts; the saved adapter then has twice the rank.",
        advanced=True,
    )
    plus_ratio: Annotated[float, Field(gt=0, le=1000)] | None = setting(
        None, "Learning rate of B over that of A (LoRA+); usual is 16.", advanced=True
    )
    fused: bool | Auto = setting(
        "auto",
        "Add adapters into their layer's output: less memory traffic; auto = yes, except in fp16.",
        advanced=True,
    )
    use_rslora: bool = setting(False, "Scale by alpha / sqrt(r).", advanced=True)
    use_dora: bool = setting(False, "Weight-decomposed adapters: slower, sometimes better.", advanced=True)
