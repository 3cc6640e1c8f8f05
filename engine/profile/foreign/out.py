"""A profile in the words of another tool, with every setting that it cannot be told."""

from __future__ import annotations

from collections.abc import Callable

from engine.profile.foreign import out_axolotl, out_llamafactory, out_trl
from engine.profile.foreign.outgoing import Outgoing, Rows, finish
from engine.profile.schema import Profile

TOOLS: dict[str, tuple[str, Callable[[Outgoing], None]]] = {
    "llamafactory": ("LLaMA-Factory", out_llamafactory.export),
    "axolotl": ("Axolotl", out_axolotl.export),
    "trl": ("TRL", out_trl.export),
}


def outgoing(tool: str, profile: Profile, given: frozenset[str], look: Callable[[int], Rows | None]) -> Outgoing:
    """`profile` for `tool`. `given` are the keys that a person wrote; `look` knows what rows are."""
    name, export = TOOLS[tool]
    out = Outgoing(name, profile, given, look)
    export(out)
    finish(out)
    return out
