"""One speed run: which trainer, which model shape, which rows, how long; passed to the trainers' processes as JSON."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

BIG, SMALL, TINY = "llama-3.1-8b", "llama-3.2-1b-instruct", "tiny"


@dataclass(frozen=True, slots=True)
class Job:
    """LoRA r 16 on all linear layers, bf16, one micro-batch a step, the loss on every token."""

    tool: str
    """`tunedeck`, `unsloth` or `trl` (with Liger)."""
    model: str
    """An entry of the catalog, or `tiny`: random weights of its shape."""
    rows: str
    """`full` (every row fills `length`), `short` or `mixed` (up to 8,192 tokens)."""
    row_count: int
    steps: int
    micro_batch: int
    """Sequences of a step: packed ones of this project, rows of a peer."""
    length: int
    """Longest sequence, in tokens."""
    quantization: str = "none"
    checkpointing: bool | str = True
    """Of this project also `offload`, `attention` and `auto`. With Unsloth, true means its default: its own way with
    inputs in host memory."""
    folder: str = ""
    """Where models and rows lie; filled in before the run."""

    @property
    def model_path(self) -> str:
        """The checkpoint."""
        return f"{self.folder}/models/{self.model}"

    @property
    def rows_path(self) -> str:
        """The alpaca rows."""
        return f"{self.folder}/rows/{self.rows}.json"

    def to_json(self) -> str:
        """For a command line."""
        return json.dumps(dataclasses.asdict(self))

    def setting(self) -> dict[str, Any]:
        """What a table says about the run."""
        return {key: value for key, value in dataclasses.asdict(self).items() if key != "folder"}


def job_from(text: str) -> Job:
    """The inverse of `to_json`."""
    return Job(**json.loads(text))


def told(result: dict[str, Any]) -> None:
    """Print a result as one line of JSON; the last line on stdout is what a step found."""
    print(json.dumps(result), flush=True)
