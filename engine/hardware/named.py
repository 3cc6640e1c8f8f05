"""The cards that a person names for a plan: how many, which memory where one name has several, and why not others.

Not here: the table and the search in it (`gpus.py`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from engine.errors import EngineError, ExitCode
from engine.hardware.gpus import GpuSpec, find_gpu, memory_gb, nearest_names, siblings

MOST_CARDS = 64
"""As the shell takes with `--count`."""
_TIMES = r"[x×*]"
_BEFORE = rf"\s*(\d{{1,3}})(?:\s*{_TIMES}\s*|\s+(?=[a-z]+\s*-?\d))(.*\S)\s*"
_BEHIND = rf"\s*(.*\S)(?:\s+|(?<=\d)|(?<=gb)){_TIMES}\s*(\d{{1,2}})\s*"
"""Texts: most commands name no card."""
_SIZE = r"\d\s*g(i?b)?\b"
_EXAMPLES = "'RTX 4090', 'A100 80GB' or 'H100'"
_OTHER_MAKERS = (
    (
        "AMD",
        r"\bamd\b|\bradeon\b|\binstinct\b|\brx\s*-?\d{3,4}|\bmi\d{2,3}[a-z]?\b|\b[79]\d{3}\s*xtx?\b|\bw[67]\d00\b|\bvega\b",
    ),
    ("Intel", r"\bintel\b|\barc\b|\bgaudi\s*\d*\b|\biris\b|\bmax\s*1\d{3}\b|\buhd\b|\bb5[78]0\b|\ba7[57]0\b"),
    ("Apple", r"\bapple\b|\bmac\w*\b|\bm[1-9]\s*(pro|max|ultra)?\s*$"),
    ("Google", r"\btpu\b"),
    ("Huawei", r"\bascend\b"),
)
_NO_KERNELS = "PyTorch's builds for today's CUDA have no kernels for it; plans begin with Volta (V100)"
_NO_TENSOR_CORES = "it has no tensor cores, and no speed of fp16 training is known for it"
_OLD = (
    ("Kepler", r"\bk\d{1,2}0[a-z]?\b|\b(gtx\s*)?[67][5-9]0\b|\bgt\s*[67]\d0\b|\bquadro\s*k\d", _NO_KERNELS),
    ("Maxwell", r"\bm(4|6|10|40|60)\b|\b(gtx\s*)?9[5-8]0\b|\btitan\s*x\b(?!p)|\bquadro\s*m\d", _NO_KERNELS),
    (
        "Pascal",
        r"\bp(4|6|40|100|10[0-9])\b|\b(gtx\s*)?10[3-8]0\b|\bgt\s*10\d0\b|\btitan\s*xp\b|\bquadro\s*p\d|\bmx[123]\d0\b",
        _NO_KERNELS,
    ),
    ("Turing", r"\b(gtx\s*)?16[356]0\b|\bmx4\d0\b|\bt(4|5|6|10)00\b", _NO_TENSOR_CORES),
)


@dataclass(frozen=True, slots=True)
class NamedCards:
    """A row of the table, how often, and what a person should know of the choice."""

    spec: GpuSpec
    count: int = 1
    note: str = ""


def named_cards(text: str, count: int = 1) -> NamedCards:
    """What `RTX 4090`, `2 x RTX 4090` and `A100 80GB` mean. Raises EngineError(PROFILE) that says why a name is none.

    `count`: what was asked for beside the name; above 1 a number in the name must be the same.
    """
    name, number = _counted(text)
    if not 1 <= number <= MOST_CARDS:
        raise _unknown(f"{number} GPUs cannot be planned for", f"name 1 to {MOST_CARDS}")
    if number != 1 and count not in (1, number):
        raise _unknown(f"'{text}' names {number} cards, --count {count}", "say the number once")
    spec = find_gpu(name)
    if spec is None:
        raise _why_not(name)
    alike = (spec, *_others(name, spec))
    chosen = spec if spec.name == name else min(alike, key=lambda row: row.total_bytes)
    return NamedCards(chosen, max(number, count), _memory_note(name, chosen, alike))


def _counted(text: str) -> tuple[str, int]:
    """`2 x RTX 4090`, `2xH100` and `RTX 4090 x2` as a name and a number."""
    before, behind = re.fullmatch(_BEFORE, text, re.IGNORECASE), re.fullmatch(_BEHIND, text, re.IGNORECASE)
    if before is not None:
        return before.group(2), int(before.group(1))
    return (behind.group(1), int(behind.group(2))) if behind is not None else (text.strip(), 1)


def _others(name: str, spec: GpuSpec) -> tuple[GpuSpec, ...]:
    """Cards of the same name with another memory; none where the name says which."""
    return () if re.search(_SIZE, name, re.IGNORECASE) else siblings(spec)


def _memory_note(name: str, chosen: GpuSpec, alike: tuple[GpuSpec, ...]) -> str:
    """Which memory is planned for, where several are sold under one name."""
    sizes = sorted({memory_gb(row) for row in alike})
    if len(sizes) < 2:
        return ""
    listed = " and ".join(", ".join(f"{size}" for size in sizes).rsplit(", ", 1))
    other = next(size for size in reversed(sizes) if size != memory_gb(chosen))
    return f"'{name}' comes with {listed} GB: planned for {memory_gb(chosen)} GB; for the other say '{name} {other}GB'"


def _why_not(name: str) -> EngineError:
    low = " ".join(name.lower().replace("-", " ").split())
    maker = next((maker for maker, pattern in _OTHER_MAKERS if re.search(pattern, low)), None)
    if maker is not None and "nvidia" not in low:
        hint = f"name an NVIDIA card such as {_EXAMPLES}, or plan for the processor with --device cpu"
        return _unknown(f"'{name}' is not NVIDIA's but {maker}'s: on a GPU this engine trains with CUDA alone", hint)
    old = next(((family, reason) for family, pattern, reason in _OLD if re.search(pattern, low)), None)
    if old is not None:
        family, reason = old
        return _unknown(f"'{name}' is too old ({family}): {reason}", f"name a newer card such as {_EXAMPLES}")
    known = find_gpu(re.sub(rf"\d*{_SIZE}", "", name, flags=re.IGNORECASE))
    if known is not None:
        sizes = " or ".join(f"{size} GB" for size in sorted({memory_gb(row) for row in (known, *siblings(known))}))
        hint = f"{known.name} comes with {sizes}; leave the size out"
        return _unknown(f"'{name}' is not known with that memory", hint)
    near = nearest_names(name)
    hint = f"did you mean {', '.join(near)}?" if near else f"use a name such as {_EXAMPLES}"
    return _unknown(f"no card named '{name}' is known", hint)


def _unknown(message: str, hint: str) -> EngineError:
    return EngineError(message, code=ExitCode.PROFILE, hint=hint, where="gpu")
