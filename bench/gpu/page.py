"""`python -m bench.gpu.page`: the tables of docs/benchmarks.md, made of the JSON documents in bench/results.

What stands between the marks of that page is replaced; the prose around it is written by hand. Standard library and
the engine's formulas only.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bench.gpu.floor import ceiling_flops, floor_of
from engine.memory.shape import GIB, TrainingShape

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "bench/results"
PAGE = ROOT / "docs/benchmarks.md"
BEGIN, END = "<!-- tables of bench/gpu/page.py -->", "<!-- end of the tables -->"
_TOOLS = {"tunedeck": "tunedeck", "unsloth": "Unsloth", "trl": "TRL + Liger"}
_KINDS = {
    "full": "every row fills its sequence",
    "short": "short rows (Alpaca)",
    "mixed": "rows of 64 to 8,192 tokens",
}
_CHECKPOINTING = {
    True: "checkpointing",
    False: "no checkpointing",
    "offload": "checkpointing with inputs in host memory",
    "attention": "checkpointing with attention kept",
    "auto": "memory settings auto",
}
_PEERS = ("unsloth", "unsloth_zoo", "trl")
_PROCESSOR_TOOLS = {
    "engine": "tunedeck",
    "llamafactory": "LLaMA-Factory, its defaults",
    "trl-packed": "TRL, packing",
    "trl": "TRL, no packing",
    "plain": "plain transformers + PEFT loop",
}
Row = dict[str, Any]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def gib(size_bytes: float | None) -> str:
    """GiB with one decimal, empty where not known."""
    return f"{size_bytes / GIB:.1f}" if size_bytes else ""


def percent(share: float | None) -> str:
    """A share as percent, empty where not known."""
    return f"{100 * share:.0f} %" if share is not None else ""


def card_lines(record: Row) -> list[str]:
    """What was measured with, and the ceilings."""
    own = record["versions"]
    others = {name: text for row in record.get("speed", []) for name, text in row.get("versions", {}).items()}
    versions = [f"{name} {text}" for name, text in {**others, **own}.items() if name in own or name in _PEERS]
    parts = [record["date"], *([f"driver {record['driver']}"] if record.get("driver") else []), *versions]
    found = record["ceilings"]
    products = ", ".join(f"{rate / 1e12:.0f} at {width}³" for width, rate in found["product_flops"].items())
    line = f"Measured ceilings: bf16 products {products} TFLOP/s, "
    line += f"copy on the card {found['copy_bytes_s'] / 1e12:.2f} TB/s"
    if "to_host_bytes_s" in found:
        sides = (found["to_host_bytes_s"] / 1e9, found["to_device_bytes_s"] / 1e9)
        line += ", to and from pinned memory {:.0f} and {:.0f} GB/s".format(*sides)
    made = {None: [], "made": ["rows made of this repository's prose"]}
    rows = made.get(record.get("rows"), ["rows of a given file"])
    return [", ".join([*parts, *rows]) + ".", line + "."]


def speed_lines(rows: list[Row]) -> list[str]:
    """One table for each kind of step, trainers side by side."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["model"], row["rows"], row["quantization"]), []).append(row)
    lines: list[str] = []
    for (model, kind, quantization), found in groups.items():
        stored = "bf16 base" if quantization == "none" else f"{quantization} base"
        lines += ["", f"**{model}, {stored}, {_KINDS[kind]}**", "", *speed_table(found)]
    return lines


def speed_table(rows: list[Row]) -> list[str]:
    """Trainers of one kind of step; ratios are to the first row of this project."""
    ours = next((row["tokens_per_second"] for row in rows if row["tool"] == "tunedeck"), None)
    first = next((row for row in rows if "floor_s" in row), None)
    made: list[Sequence[str]] = [
        (
            trainer(row),
            f"{row['median_step_s']:.3f}",
            f"{row['tokens_per_second']:,.0f}",
            f"{ours / row['tokens_per_second']:.2f} x" if ours else "",
            percent(row.get("floor_share")),
            gib(row.get("allocated_bytes")),
            gib(row.get("reserved_bytes")),
            ", ".join(f"{loss:.2f}" for loss in row["losses"][:4]),
        )
        for row in rows
    ]
    if first:
        rate = first["tokens_per_step"] / first["floor_s"]
        full = [f"{first['floor_s']:.3f}"] if first["rows"] == "full" else [""]
        made.append(("*floor*", *full, f"{rate:,.0f}", "", "100 %", gib(first["floor_bytes"]), "", ""))
    head = ("", "s a step", "tokens/s", "tunedeck is", "of the floor", "allocated GiB", "reserved GiB", "first losses")
    return table(head, made)


def trainer(row: Row) -> str:
    """Name of the tool, with how activations are kept and how many sequences make a step."""
    kept = _CHECKPOINTING[row["checkpointing"]]
    if row["tool"] == "unsloth" and row["checkpointing"] is True:
        kept = "its default"
    return f"{_TOOLS[row['tool']]}, {kept}, {row['micro_batch']} x {row['length']:,}"


def variant_lines(rows: list[Row], ceilings: Row) -> list[str]:
    """The ways of one step beside its floor."""
    shape = TrainingShape(micro_batch=rows[0]["micro_batch"], max_length=rows[0]["length"])
    floor = floor_of(rows[0]["model"], shape, full_rows=True)
    floor_s = floor.useful_flops / ceiling_flops(ceilings) if floor else None
    made: list[Sequence[str]] = []
    for row in rows:
        if "error" in row:
            made.append((row["way"], "", "", "", "", row["error"].replace("|", "/")))
            continue
        share = floor_s / row["median_step_s"] if floor_s else None
        rate, peak = f"{row['tokens_per_second']:,.0f}", gib(row.get("allocated_bytes"))
        made.append((row["way"], f"{row['median_step_s']:.3f}", rate, percent(share), peak, f"{row['loss']:.4f}"))
    title = f"**One step of {rows[0]['model']}, {shape.micro_batch} x {shape.max_length:,}, in several ways**"
    return ["", title, "", *table(("", "s a step", "tokens/s", "of the floor", "allocated GiB", "loss"), made)]


def memory_lines(rows: list[Row]) -> list[str]:
    """Predicted against measured peaks; errors under zero promised too little."""
    made = []
    for row in rows:
        if "measured_bytes" in row:
            cells = [row["case"]]
            for name in ("allocated", "reserved"):
                predicted, measured = row["predicted_bytes"][name], row["measured_bytes"][name]
                cells += [f"{measured / GIB:.2f}", f"{100 * (predicted / measured - 1):+.2f} %"]
            made.append(cells)
    head = ("memory case", "allocated GiB", "predicted", "reserved GiB", "predicted")
    failed = [line for row in rows if "error" in row for line in ("", f"`{row['case']}` failed: {row['error']}")]
    return ["", *table(head, made), *failed]


def profile_lines(found: Row) -> list[str]:
    """One step under the profiler."""
    line = f"**One step of {found['model']} under the profiler** ({found['micro_batch']} x {found['length']:,}): "
    line += f"{found['median_step_s']:.3f} s, {found['tokens_per_second']:,.0f} tokens/s"
    if "useful_flops" in found:
        line += f", useful {found['useful_flops'] / 1e12:.0f} TFLOP/s = {percent(found['useful_share'])} of the ceiling"
    if "device_ms" in found:
        line += f"; the card works {found['device_ms']:.0f} ms of {found['wall_ms']:.0f} ms"
    lines = ["", line + "."]
    if "kinds_ms" in found:
        kinds = ((kind, f"{time:.1f}") for kind, time in found["kinds_ms"].items() if time >= 0.05)
        lines += ["", *table(("device time", "ms"), kinds)]
    return lines


def big_names(rows: list[Row]) -> list[str]:
    """Model, method, storage, shape, how activations are kept, a note; the row's own name where these are alike."""
    made = []
    for row in rows:
        parts = [row["model"], row["method"], row["quantization"], f"{row['micro_batch']} x {row['length']:,}"]
        parts += [_CHECKPOINTING[row["checkpointing"]], *([row["note"]] if row.get("note") else [])]
        made.append(", ".join(parts).replace("|", "/"))
    alike = {name for name in made if made.count(name) > 1}
    return [f"{name} (`{row['name']}`)" if name in alike else name for name, row in zip(made, rows, strict=True)]


def big_lines(rows: list[Row]) -> list[str]:
    """Larger models, quantized ones and whole training."""
    made: list[Sequence[str]] = []
    for name, row in zip(big_names(rows), rows, strict=True):
        if "error" in row:
            made.append((name, "", "", "", "", "", row["error"].replace("|", "/")))
            continue
        speed = (f"{row['median_step_s']:.3f}", f"{row['tokens_per_second']:,.0f}", percent(row.get("floor_share")))
        predicted = (row.get("predicted_bytes") or {}).get("allocated")
        made.append((name, *speed, gib(row.get("allocated_bytes")), gib(predicted), gib(row.get("floor_bytes"))))
    head = ("", "s a step", "tokens/s", "of the floor", "allocated GiB", "predicted GiB", "weights GiB (floor)")
    return ["", *table(head, made)]


def check_lines(found: Row) -> list[str]:
    """Tests, calibration, demo."""
    parts = []
    for name in ("tests", "calibration"):
        if name in found:
            one = found[name]
            parts.append(f"{name}: {one.get('passed', 0)} passed, {one.get('failed', 0) + one.get('error', 0)} failed")
    if "demo" in found:
        parts.append(f"demo: exit code {found['demo']['exit']}")
    return ["", "; ".join(parts) + "."] if parts else []


def tables(record: Row) -> str:
    """Everything of one document as Markdown."""
    lines = card_lines(record)
    if record.get("tiny"):
        lines += ["", "**Tiny shapes: these figures say only that the steps run.**"]
    if "speed" in record:
        lines += speed_lines(record["speed"])
    if "variants" in record:
        lines += variant_lines(record["variants"], record["ceilings"])
    if "profile" in record:
        lines += profile_lines(record["profile"])
    if "big" in record:
        lines += big_lines(record["big"])
    if "memory" in record:
        lines += memory_lines(record["memory"])
    lines += check_lines(record.get("checks", {}))
    lines += [line for name, reason in record.get("failed", {}).items() for line in ("", f"`{name}` failed: {reason}")]
    return "\n".join(lines)


def processor_lines() -> list[str]:
    """Medians of bench/results/training-cpu.json."""
    found = json.loads((RESULTS / "training-cpu.json").read_text(encoding="utf-8"))
    rates, runs = found["median_tokens_per_second"], found["runs"]
    ours = max(rate for name, rate in rates.items() if name.startswith("engine"))
    rows = [
        (
            processor_name(name),
            f"{rate:,.0f}",
            f"{ours / rate:.1f} x",
            gib(max(run["peak_resident_bytes"] for run in runs[name])),
        )
        for name, rate in sorted(rates.items(), key=lambda pair: -pair[1])
    ]
    return table(("", "real tokens/s", "tunedeck is", "resident GiB"), rows)


def processor_name(name: str) -> str:
    """A trainer and its precision, as people call them."""
    tool, _, dtype = name.partition(" ")
    return f"{_PROCESSOR_TOOLS[tool]}, {dtype}"


def generated() -> str:
    """What stands between the marks."""
    parts = []
    for path in sorted(RESULTS.glob("gpu-*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        title = record["card"] + (f" ({record['title']})" if "title" in record else "")
        link = f"[bench/results/{path.name}](../bench/results/{path.name})"
        parts.append(f"## {title}\n\n{link}\n\n{tables(record)}")
    link = "[bench/results/training-cpu.json](../bench/results/training-cpu.json)"
    parts.append("## A processor\n\n" + link + "\n\n" + "\n".join(processor_lines()))
    return "\n\n".join(parts)


def page_text(page: str) -> str:
    """The page with its tables made anew. Raises ValueError where a mark is missing."""
    return between_marks(page, generated())


def training_text(page: str) -> str:
    """docs/training.md with its table of a processor made anew. Raises ValueError where a mark is missing."""
    return between_marks(page, "\n".join(processor_lines()))


def between_marks(page: str, made: str, begin: str = BEGIN) -> str:
    """The page with `made` between its marks. Raises ValueError where a mark is missing."""
    before, _, rest = page.partition(begin)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError("the page has no marks for its tables")
    return f"{before}{begin}\n\n{made}\n\n{END}{after}"


def write() -> None:
    """Make the page's tables anew."""
    PAGE.write_text(page_text(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    write()
