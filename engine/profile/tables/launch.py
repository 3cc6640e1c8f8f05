"""Settings of where a run happens."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from engine.profile.tables.base import Auto, Name, PathText, Table, setting


def _as_text(value: Any) -> Any:
    """A number is written without quotes as often as with them."""
    return str(value) if type(value) is int and value >= 0 else value


class Launch(Table):
    """Where the run happens."""

    device: Literal["auto", "cuda", "cpu"] = setting("auto", "auto = the GPU with the most free memory, else the CPU.")
    gpu: Annotated[Name | None, BeforeValidator(_as_text)] = setting(
        None,
        "The GPU to use: its number, its UUID or the start of it; of a MIG slice card:number, such as 0:2.",
        advanced=True,
    )
    threads: Annotated[int, Field(ge=1, le=1024)] | Auto = setting(
        "auto", "CPU threads; auto = physical cores.", advanced=True
    )
    notify: list[PathText] = setting(
        [],
        "A program and its arguments, started when the run ends or something begins to go wrong; it finds what"
        " happened in TUNEDECK_TEXT, TUNEDECK_STATE and others, and as JSON on its standard input.",
        advanced=True,
        max_length=32,
    )
