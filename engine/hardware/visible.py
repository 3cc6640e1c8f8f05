"""Which devices `CUDA_VISIBLE_DEVICES` leaves to this process, and in which order.

Follows the CUDA programming guide: entries are ordinals or UUID prefixes (`GPU-…`, `MIG-…`), the first one that
names no device hides itself and all after it, and one device named twice leaves none.
"""

from __future__ import annotations

from collections.abc import Mapping

from engine.hardware.machine import Gpu


def visible_gpus(gpus: tuple[Gpu, ...], environ: Mapping[str, str]) -> tuple[tuple[Gpu, ...], tuple[str, ...]]:
    """The devices that CUDA would show, in its order, and notes about hidden or doubtful ones.

    An ordinal or UUID of a MIG parent stands for its first slice, as in CUDA.
    """
    setting = environ.get("CUDA_VISIBLE_DEVICES")
    if setting is None or not gpus:
        return gpus, ()
    entries = [entry.strip() for entry in setting.split(",")]
    ordered, notes = _in_cuda_order(gpus, environ, any(_ordinal(entry) is not None for entry in entries))
    chosen: list[Gpu] = []
    for position, entry in enumerate(entries):
        gpu = _pick(entry, ordered)
        if gpu is None:
            notes += _stopped(entry, entries[position + 1 :])
            break
        if gpu in chosen:
            return (), (*notes, f"CUDA_VISIBLE_DEVICES='{setting}' names a device twice, which hides every GPU")
        chosen.append(gpu)
    return tuple(chosen), (*notes, *_hidden(setting, gpus, chosen), *_several_slices(chosen))


def _pick(entry: str, ordered: list[Gpu]) -> Gpu | None:
    ordinal = _ordinal(entry)
    if ordinal is not None:
        whole = [gpu for gpu in ordered if gpu.mig != "slice"]
        return _or_first_slice(whole[ordinal], ordered) if 0 <= ordinal < len(whole) else None
    if not entry.startswith(("GPU-", "MIG-")):
        return None
    matching = [gpu for gpu in ordered if (gpu.uuid or "").startswith(entry)]
    return _or_first_slice(matching[0], ordered) if len(matching) == 1 else None


def _or_first_slice(gpu: Gpu, ordered: list[Gpu]) -> Gpu:
    if gpu.mig != "parent":
        return gpu
    return next((part for part in ordered if part.mig == "slice" and part.index == gpu.index), gpu)


def _ordinal(entry: str) -> int | None:
    """Digits at the start, as CUDA's strtol reads them; -1 and the like are ordinals that no device has."""
    digits = entry.lstrip("+-")
    length = len(digits) - len(digits.lstrip("0123456789"))
    if not length:
        return None
    return -1 if entry.startswith("-") else int(digits[:length])


def _in_cuda_order(
    gpus: tuple[Gpu, ...], environ: Mapping[str, str], ordinals: bool
) -> tuple[list[Gpu], tuple[str, ...]]:
    """PCI order where it is asked for or all cards are alike, else fastest first, which CUDA only describes."""
    whole = [gpu for gpu in gpus if gpu.mig != "slice"]
    alike = len({gpu.name for gpu in whole}) < 2
    if alike or not ordinals or environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID":
        return list(gpus), ()
    ranks = {gpu.index: rank for rank, gpu in enumerate(sorted(whole, key=lambda gpu: -(gpu.tensor_flops or 0)))}
    note = (
        "numbers in CUDA_VISIBLE_DEVICES count from the fastest card, which is a guess here: "
        "set CUDA_DEVICE_ORDER=PCI_BUS_ID, or name the cards by UUID"
    )
    return sorted(gpus, key=lambda gpu: ranks.get(gpu.index, 0)), (note,)


def _stopped(entry: str, later: list[str]) -> tuple[str, ...]:
    """A note for an entry that is likely a mistake; empty and -1 hide GPUs on purpose."""
    if not entry or entry.startswith("-"):
        return ()
    after = f", which also hides what follows ({', '.join(later)})" if later else ""
    return (f"CUDA_VISIBLE_DEVICES names no device with '{entry}'{after}",)


def _hidden(setting: str, gpus: tuple[Gpu, ...], chosen: list[Gpu]) -> tuple[str, ...]:
    usable = [gpu for gpu in gpus if gpu.mig != "parent"]
    count = len([gpu for gpu in usable if gpu not in chosen])
    if not count:
        return ()
    which = (
        "the only GPU" if len(usable) == 1 else f"all {count} GPUs" if not chosen else f"{count} of {len(usable)} GPUs"
    )
    return (f"CUDA_VISIBLE_DEVICES='{setting}' hides {which}",)


def _several_slices(chosen: list[Gpu]) -> tuple[str, ...]:
    if sum(gpu.mig == "slice" for gpu in chosen) < 2:
        return ()
    return ("CUDA gives a process one MIG slice only: the first of them is used",)
