"""Settings of where a run happens."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from engine.profile.tables.base import Auto, Name, Table, setting


class Launch(Table):
    """Where the run happens."""

    device: Literal["auto", "cuda", "cpu"] = setting("auto", "auto = the GPU with the most free memory, else the CPU.")
    gpu: Name | None = setting(None, "UUID (or its start) of the GPU to use.", advanced=True)
    threads: Annotated[int, Field(ge=1, le=1024)] | Auto = setting(
        "auto", "CPU threads; auto = physical cores.", advanced=True
    )
