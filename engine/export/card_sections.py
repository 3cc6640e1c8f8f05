"""The sections of a model card as markdown. Pure text; every value from outside is escaped and redacted."""

from __future__ import annotations

from typing import Any

from engine.evaluate.page import score_rows
from engine.export.clean import DEMO_NAME, cell, plain
from engine.export.facts import TEXT_LOADER, Facts
from engine.export.parity_page import ollama_told
from engine.runs.record import Origin
from engine.text import format_bytes, format_count, format_duration

_HIDDEN = ("data.datasets", "data.validation_path", "data.columns", "model.name_or_path", "data.system")
"""Settings that name files of this machine, or that have a line of their own."""
_TABLES = ("model", "quantization", "tuning", "lora", "data", "train")

MERGED_CODE = """from transformers import {loader}, AutoTokenizer

path = "."  # this directory, or the model's name on the hub
tokenizer = AutoTokenizer.from_pretrained(path)
model = {loader}.from_pretrained(path, dtype="auto")

{inputs}
output = model.generate(**inputs, max_new_tokens=128)
print(tokenizer.decode(output[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True))"""

_CHAT = """messages = [{"role": "user", "content": "Hello!"}]
inputs = tokenizer.apply_chat_template(
    messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"
)"""
_TEXT = """# It has no chat template: it goes on with a text.
inputs = tokenizer("Once upon a time", return_tensors="pt")"""

_ADAPTER_HEAD = """from peft import PeftModel
from transformers import {loader}, AutoTokenizer

path = "."  # this directory, or the adapter's name on the hub
base = {base}
tokenizer = AutoTokenizer.from_pretrained(path)
model = {loader}.from_pretrained(base, dtype="auto")
model = PeftModel.from_pretrained(model, path)"""

_NAMES_CODE = """
from peft.utils import transformers_weight_conversion as conversion

# PEFT renames parts of this architecture while it loads adapters. The names in this one are the model's own already.
conversion.convert_peft_config_for_transformers = lambda *_, **__: None
conversion.convert_peft_adapter_state_dict_for_transformers = (
    lambda model, peft_config, adapter_state_dict, adapter_name="default": adapter_state_dict
)
"""

_SCALES_CODE = """
from dataclasses import replace

from safetensors.torch import load_file
from torchao.quantization import PerTensor
from transformers.utils import cached_file

# Without these lines the model still answers, but measures every token instead: it is int8-dynamic then.
for name, scale in load_file(cached_file(path, "activation_scales.safetensors")).items():
    weight = model.get_submodule(name).weight
    weight.act_quant_kwargs = replace(weight.act_quant_kwargs, granularity=PerTensor())
    weight.act_quant_scale = scale
"""


def summary(facts: Facts) -> str:
    """What this is, in two sentences, and what one must know of its base."""
    tuning = facts.trained.settings.tuning
    whole = (
        f"training the last {tuning.trainable_layers} layers of" if tuning.method == "freeze" else "full fine-tuning of"
    )
    how = "LoRA adapters on" if facts.trained.is_adapter else whole
    if facts.trained.settings.quantization.method != "none" and facts.trained.is_adapter:
        how = f"LoRA adapters on a {facts.trained.settings.quantization.method}-quantized"
    what = "The adapter alone" if facts.kind == "adapter" else "The whole model, adapter merged in"
    if not facts.trained.is_adapter:
        what = "The whole model"
    where = f"[{plain(facts.base)}](https://huggingface.co/{facts.base})" if facts.base_on_hub else cell(facts.base)
    lines = [f"Made by {how} {where}. {what}: {facts.dtype}, {format_bytes(facts.size_bytes)} of safetensors."]
    if not facts.base_on_hub:
        origin = "comes with Tunedeck" if facts.base == DEMO_NAME else "was a local directory"
        load = " To load the adapter, give the directory of that model." if facts.kind == "adapter" else ""
        lines.append(f"The base model {cell(facts.base)} {origin}.{load}")
    if facts.loader != TEXT_LOADER:
        lines.append("Only its text side was trained: what sees or hears is the base model's, unchanged.")
    lines.append(_licence(facts))
    return "\n\n".join(line.strip() for line in lines)


def _licence(facts: Facts) -> str:
    known = facts.trained.record.model.licence
    if known:
        return f"Licence of the base model: {plain(known)}. It governs this model too."
    return "The licence of the base model is not known here: look it up before you pass this model on."


def _chat(facts: Facts) -> str:
    """A conversation as tokens, with what the template was handed in training."""
    arguments = facts.trained.settings.data.template_arguments
    ending = 'return_tensors="pt"'
    return _CHAT.replace(ending, f"{ending}, **{arguments!r}") if arguments else _CHAT


def usage(facts: Facts) -> str:
    """Code that runs as it stands, from inside the directory."""
    code = MERGED_CODE.replace("{loader}", facts.loader).replace("{inputs}", _chat(facts) if facts.chats else _TEXT)
    head, loading, rest = code.partition('dtype="auto")')
    if facts.kind == "int8-static":
        code = head + loading + "\n" + _SCALES_CODE + rest.removeprefix("\n")
    if facts.kind == "adapter":
        base = repr(facts.base) if facts.base_on_hub else f"{facts.base!r}  # directory of the base model"
        code = _ADAPTER_HEAD.format(base=base, loader=facts.loader) + rest
        if facts.parity is not None and facts.parity.misplaced:
            code = code.replace("\npath = ", f"{_NAMES_CODE}\npath = ", 1)
        if facts.parity is not None and facts.parity.stops:
            stops = list(facts.parity.stops)
            code = code.replace("max_new_tokens=128", f"max_new_tokens=128, eos_token_id={stops}")
    needs = {"nf4": "bitsandbytes", "int8": "bitsandbytes"}.get(facts.kind, "torchao" if "int8-" in facts.kind else "")
    lines = [f"Needs `pip install {needs}` beside transformers.\n\n" if needs else "", f"```python\n{code}\n```"]
    system = facts.trained.settings.data.system
    note = f"\n\nIt was trained with the system message {plain(system, 1000)}" if system.strip() else ""
    return f"## Use\n\n{''.join(lines)}{note}"


def evaluation(facts: Facts) -> str:
    """Base against tuned, when the run was evaluated."""
    report = facts.report
    if not report:
        return ""
    rows = [
        f"| {name} | {base} | {tuned} | {plain(change)} |"
        for name, base, tuned, change in _finite_rows(score_rows(report))
    ]
    head = f"On {report.rows} of {report.rows_held_out} rows held out from training, greedy answers."
    verdict = f"Verdict: {plain(report.verdict)} ({plain(report.verdict_reason)})."
    table = ["| score | base | tuned | change (95 % interval) |", "|---|---:|---:|---:|", *rows]
    return "\n".join(["## Evaluation", "", head, "", *table, "", verdict])


def _finite_rows(rows: list[tuple[str, str, str, str]]) -> list[tuple[str, str, str, str]]:
    return [(plain(name), plain(base), plain(tuned), change) for name, base, tuned, change in rows]


def check(facts: Facts) -> str:
    """How the written files compared when they were loaded again, and what they take on disk and in memory."""
    found = facts.parity
    if found is None:
        return ""
    figures, merged = found.figures, facts.merged
    ended = sum(answer.stopped for answer in found.answers)
    lines = [
        f"- largest difference of a logit: {figures.max_abs_diff:.3g}, mean {figures.mean_abs_diff:.3g} "
        f"({figures.relative_rms:.2g} of their spread; {found.tolerance or 0.0:.2g} is allowed)",
        f"- same next token in {figures.top1_agreement:.1%} of places",
        f"- stored as {plain(', '.join(found.stored))}",
        f"- {ended} of {len(found.answers)} answers ended by themselves",
    ]
    if merged is not None and facts.kind not in ("adapter", "merged"):
        same = sum(bool(answer.same_as_merged) for answer in found.answers)
        lines[-1] += f", {same} are the merged model's to the letter"
        lines.append(_smaller("on disk", merged.size_bytes, found.size_bytes))
        lines.append(_smaller("in memory", merged.memory_bytes, found.memory_bytes))
    if found.perplexity is not None:
        other = merged.perplexity if merged is not None and facts.kind != "merged" else None
        before = "" if other is None else f" (merged: {other:.3f})"
        lines.append(f"- perplexity of the answers in these texts: {found.perplexity:.3f}{before}")
    if found.calibration_rows and found.fixed_layers is not None and found.layers is not None:
        layers = f"{found.fixed_layers} of {found.layers} layers"
        others = "; the others have outliers and measure each token" * (found.fixed_layers < found.layers)
        lines.append(f"- fixed scales of activations in {layers}, from {found.calibration_rows} texts{others}")
    told = (
        f"Loaded again by plain {'PEFT' if facts.kind == 'adapter' else 'transformers'} and compared with "
        f"{plain(found.against)} over {figures.positions} positions of {len(found.rows)} texts:"
    )
    if facts.ollama is not None:
        lines.append(f"- GGUF for Ollama: {plain(ollama_told(facts.ollama), 400)}")
    return "\n".join(["## Check of the files", "", told, "", *lines])


def _smaller(name: str, before: int | None, after: int | None) -> str:
    return f"- weights {name}: {format_bytes(before)} before, {format_bytes(after)} after"


def training(facts: Facts) -> str:
    """Every setting with where its value came from."""
    provenance = facts.trained.record.provenance
    rows = [
        f"| {cell(key)} | {cell(value)} | {_source(provenance.get(key, Origin()))} |"
        for key, value in _settings(facts)
        if key not in _HIDDEN
    ]
    end = facts.trained.summary()
    told = []
    if end.step:
        told.append(f"{end.step} steps, {format_count(end.tokens)} tokens")
    if end.best_eval_loss is not None:
        told.append(f"best evaluation loss {end.best_eval_loss:.4f} at step {end.best_step}")
    if end.trainable_parameters:
        told.append(
            f"{format_count(end.trainable_parameters)} of {format_count(end.total_parameters)} parameters trained"
        )
    line = [f"{'; '.join(told)}.", ""] if told else []
    return "\n".join(["## Training", "", *line, "| setting | value | from |", "|---|---|---|", *rows])


def _settings(facts: Facts) -> list[tuple[str, Any]]:
    tables = [name for name in _TABLES if name != "lora" or facts.trained.is_adapter]
    dumped = facts.trained.settings.model_dump(mode="json")
    return [
        (f"{name}.{key}", value)
        for name in tables
        for key, value in dumped[name].items()
        if value is not None and value != []
    ]


def _source(origin: Origin) -> str:
    source, reason = origin.source, origin.reason
    return plain(f"{source}: {reason}" if reason and reason not in source else source)


def data(facts: Facts) -> str:
    """Numbers of the data report; never the files' names."""
    record = facts.trained.data()
    lines = []
    for number, file in enumerate(record.files, 1):
        dropped = "; ".join(f"{rows} {cause}" for rows, cause in file.dropped)
        lines.append(
            f"- file {number} ({plain(file.format)}): {file.rows_read} rows read, "
            f"{file.kept} kept, {file.cut} cut" + (f"; left out: {plain(dropped)}" if dropped else "")
        )
    for name, part in (("train", record.train), ("validation", record.validation)):
        if part is not None:
            lines.append(
                f"- {name}: {part.rows} rows, {format_count(part.tokens)} tokens, "
                f"{format_count(part.trained_tokens)} of them in answers"
            )
    if not lines:
        return ""
    return "\n".join(["## Data", "", *lines, "", "Loss on the answers only, end of turn included."])


def environment(facts: Facts) -> str:
    """Processor or GPU by model, time, versions."""
    record, end = facts.trained.record, facts.trained.summary()
    device = end.device or str(facts.trained.settings.launch.device)
    if device.upper() == "CPU":
        device = record.processor or "CPU"
    took = "" if end.seconds is None else f" in {format_duration(end.seconds)}"
    versions = [f"{plain(name)} {plain(value)}" for name, value in record.versions.items() if value]
    return f"## Hardware and software\n\nTrained on {plain(device)}{took}. {', '.join(versions)}."
