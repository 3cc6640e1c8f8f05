"""The profile: every setting a person can make, its type, range and meaning. The one source.

TOML files, `engine profile schema`, `--set`, the deck's form and docs/profile.md all derive from
the classes in `tables/`. Not here: reading files (`load.py`), turning validation errors into problems
with lines (`schema_problems.py`), checks across fields (`check.py`), filling in `"auto"` (`resolve.py`).

A field that may be left to the machine has the type `… | Auto` and the default `"auto"`. Its limits
stand in the `Annotated` number: pydantic would hold limits of the whole field against "auto" itself.
"""

from __future__ import annotations

from pydantic import Field

from engine.profile.tables.base import Table, setting
from engine.profile.tables.data import Data, Dataset
from engine.profile.tables.launch import Launch
from engine.profile.tables.model import Model, Quantization
from engine.profile.tables.outcome import Evaluate, Export
from engine.profile.tables.sweep import Sweep
from engine.profile.tables.train import Train
from engine.profile.tables.tuning import Lora, Tuning
from engine.runs.record import SCHEMA_VERSION

__all__ = ["Data", "Dataset", "Profile", "Train"]


class Profile(Table):
    """A whole profile. Sparse: what is left out takes its default or is chosen for the machine."""

    schema_version: int = setting(1, "Version of this format.", ge=SCHEMA_VERSION, le=SCHEMA_VERSION, advanced=True)
    name: str | None = setting(
        None,
        "Short name of runs made from this profile: letters, digits, . _ -",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
    )
    description: str | None = setting(None, "What this profile is for.", max_length=2000)
    model: Model
    quantization: Quantization = Field(default_factory=Quantization)
    tuning: Tuning = Field(default_factory=Tuning)
    lora: Lora = Field(default_factory=Lora)
    data: Data
    train: Train = Field(default_factory=Train)
    evaluate: Evaluate = Field(default_factory=Evaluate)
    export: Export = Field(default_factory=Export)
    sweep: Sweep = Field(default_factory=Sweep)
    launch: Launch = Field(default_factory=Launch)
