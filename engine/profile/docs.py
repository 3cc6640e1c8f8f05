"""docs/profile.md: every setting, generated from the schema (`python -m engine.profile.docs`).

A test holds the file against this module. Not here: prose about profiles that no field carries.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from engine.profile.fields import json_schema, profile_fields
from engine.profile.fieldspec import DECIDED_BY_DATA, FieldSpec
from engine.profile.values import allowed, format_value

_HEAD = """\
# Profile reference

Made from `engine/profile/schema.py` by `python -m engine.profile.docs`; do not edit.

A profile is a TOML file. Only `model.name_or_path` and the path of one data set are required; what is left out takes
its default, and `auto` is chosen for the machine at hand, with a reason that `engine profile show FILE --resolved`
prints. Relative paths start from the profile's own folder. Unknown keys are errors.

```toml
[model]
name_or_path = "meta-llama/Llama-3.1-8B-Instruct"

[[data.datasets]]
path = "train.jsonl"
```

`engine profile new FILE --from NAME` starts from a shipped profile, `engine profile check FILE` lists everything that
would keep it from running, `--set key=value` overrides one setting of one command.
"""


def reference() -> str:
    """The whole page as Markdown."""
    parts = [_HEAD]
    for table, fields in groupby(profile_fields(), key=_table):
        rows = list(fields)
        parts.append(
            f"\n## {_heading(table)}\n\n{_meaning(table)}\n\n| key | accepts | default | meaning |\n|---|---|---|---|"
        )
        parts += [_row(field) for field in rows]
    parts.append("\n## Decided when the data is read\n\nThese stay `auto` until then:\n")
    parts += [f"- `{_shown(key)}`: {reason}" for key, reason in DECIDED_BY_DATA.items()]
    return "\n".join(parts) + "\n"


def _table(field: FieldSpec) -> str:
    return field.key.rpartition(".")[0]


def _heading(table: str) -> str:
    if not table:
        return "Top level"
    return "`[[data.datasets]]`" if table.endswith(".0") else f"`[{table}]`"


def _meaning(table: str) -> str:
    definitions: dict[str, Any] = json_schema()["$defs"]
    name = {"": "", "data.datasets.0": "Dataset"}.get(table, table.capitalize())
    return str(definitions[name]["description"]) if name else str(json_schema()["description"])


def _row(field: FieldSpec) -> str:
    default = "required" if field.required else format_value(field.default) or ("unset" if field.optional else "empty")
    unit = f", in {field.unit}" if field.unit else ""
    cells = (f"`{field.name}`", allowed(field) + unit, default, field.description)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _shown(key: str) -> str:
    return key.replace(".0.", "[].")


def main(target: Path = Path("docs/profile.md")) -> None:
    """Write the page below the working directory."""
    target.parent.mkdir(exist_ok=True)
    target.write_text(reference(), encoding="utf-8")
    sys.stdout.write(f"{target}\n")


def _command(arguments: Sequence[str]) -> None:
    """`main`, with help for who asks for it."""
    about = "Write docs/profile.md below the working directory: every setting, generated from the schema."
    argparse.ArgumentParser(prog="python -m engine.profile.docs", description=about).parse_args(arguments)
    main()


if __name__ == "__main__":
    _command(sys.argv[1:])
