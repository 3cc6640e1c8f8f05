"""Sections of a file of arguments, such as SFTConfig and LoraConfig: their keys become those of the file."""

from __future__ import annotations

import re
from collections.abc import Mapping

from engine.profile.foreign.yamltext import Entry

_PLAIN_SECTIONS = (
    "trainingarguments",
    "unslothtrainingarguments",
    "trainingargs",
    "training",
    "train",
    "args",
    "trainer",
    "unslothtrainer",
    "loraconfig",
    "peftconfig",
    "peft",
    "lora",
    "getpeftmodel",
    "fastlanguagemodelgetpeftmodel",
    "fastmodelgetpeftmodel",
    "model",
    "modelconfig",
    "modelargs",
    "frompretrained",
    "fastlanguagemodelfrompretrained",
    "fastmodelfrompretrained",
    "fastlanguagemodel",
    "fastmodel",
    "scriptarguments",
    "scriptargs",
    "data",
    "dataset",
    "dataargs",
    "bitsandbytesconfig",
    "bnbconfig",
    "quantizationconfig",
    "quantization",
    "trainonresponsesonly",
    "logging",
)
_SECTIONS = {
    "sftconfig": "sft",
    "sfttrainer": "sft",
    "dpoconfig": "dpo",
    "dpotrainer": "dpo",
    "ktoconfig": "kto",
    "ktotrainer": "kto",
    "orpoconfig": "orpo",
    "orpotrainer": "orpo",
    "rewardconfig": "reward",
    "rewardtrainer": "reward",
    **dict.fromkeys(_PLAIN_SECTIONS, ""),
}
"""Names of sections, in small letters alone -> the objective that they say."""


def section_objective(name: str) -> str | None:
    """The objective that a section's name says, '' for none, and None where no section is called so."""
    return _SECTIONS.get(re.sub(r"[^a-z]", "", name.lower()))


def flat(entries: Mapping[str, Entry]) -> tuple[dict[str, Entry], dict[str, Entry], str]:
    """Sections' keys as keys of the file; those that stand twice with two values; and the objective that they say."""
    found: dict[str, Entry] = {}
    twice: dict[str, Entry] = {}
    objective = ""
    for entry in entries.values():
        said = section_objective(entry.key) if isinstance(entry.value, dict) and entry.value else None
        if said is None:
            inner: list[tuple[str, Entry]] = [(entry.key, entry)]
        else:
            objective = objective or said
            below = {name: Entry(name, value, entry.where) for name, value in entry.value.items()}
            nested, more, deeper = flat(below)
            objective = objective or deeper
            twice |= {f"{entry.key}.{place}": item for place, item in more.items()}
            inner = [(f"{entry.key}.{name}", item) for name, item in nested.items()]
        for place, item in inner:
            if item.key not in found:
                found[item.key] = item
            elif found[item.key].value != item.value:
                twice[place] = item
    return found, twice, objective
