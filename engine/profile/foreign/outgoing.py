"""A profile on its way to another tool: what is said in that tool's words, and what it has no words for.

Filled by `out_llamafactory.py`, `out_axolotl.py` and `out_trl.py`, closed by `finish`, written by `out_text.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.profile.data_files import TEXT_SUFFIX
from engine.profile.foreign.draft import listed
from engine.profile.schema import Dataset, Profile

TRAINING = ("model", "quantization", "tuning", "lora", "data", "train")
"""Tables that say how a model is trained; the others are listed only where a person gave them."""
AUTO = "auto"
SAME_WHEN_AUTO = frozenset(
    {
        "model.dtype",
        "model.attention",
        "data.template",
        "data.marks",
        "lora.fused",
        "train.kernels",
        "train.eval_steps",
        "train.save_steps",
        "train.total_batch_size",
    }
)
"""Settings that are left to the other tool without a difference worth a line."""
Words = Mapping[Any, Iterable[tuple[str, Any]] | None]
"""A value here -> the other tool's settings for it; None where it has none."""
_COMPUTING = ("lora.fused", "train.kernels")
_SET_KEYS = ("path", "split", "subset", "format", "weight", "max_samples", "columns", "message_keys", "speakers")
_LATER = "of another step than training"


@dataclass(frozen=True, slots=True)
class Rows:
    """What a look at a data set's first rows found, in the words that data are read by."""

    layout: str
    columns: Mapping[str, str] = field(default_factory=dict)
    message_keys: tuple[str, str] = ("role", "content")
    speakers: tuple[str, str] = ("user", "assistant")
    lists: bool = False
    """Whether prompts or conversations are lists of messages."""


@dataclass(frozen=True, slots=True)
class Lost:
    """A setting that the other tool cannot be told, or not quite; `left_open` where the profile itself says auto."""

    key: str
    value: Any
    reason: str

    def __str__(self) -> str:
        return f"{self.key} = {listed(self.value, self.key)}: {self.reason}"


@dataclass(slots=True)
class Outgoing:
    """`values` are all settings by dotted key, `told` the other tool's; `files` are further files by name."""

    tool: str
    profile: Profile
    given: frozenset[str]
    look: Callable[[int], Rows | None]
    values: dict[str, Any] = field(default_factory=dict)
    told: dict[str, Any] = field(default_factory=dict)
    said: set[str] = field(default_factory=set)
    lost: list[Lost] = field(default_factory=list)
    files: dict[str, Any] = field(default_factory=dict)
    head: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for table, value in self.profile.model_dump(mode="json").items():
            inner = value.items() if isinstance(value, dict) else ()
            self.values.update({f"{table}.{name}": item for name, item in inner} if inner else {table: value})

    def say(self, key: str, *names: tuple[str, Any]) -> None:
        """The setting in the other tool's words; no words where its default is the same."""
        self.said.add(key)
        self.told.update(dict(names))

    def lose(self, key: str, reason: str) -> None:
        """A setting that the other tool cannot be told as it is."""
        self.said.add(key)
        self.lost.append(Lost(key, self.values.get(key), reason))

    def same(self, names: Mapping[str, str]) -> None:
        """Settings that have another name there and the same values; unset and auto ones are passed over."""
        for key, theirs in names.items():
            if self.values[key] == AUTO:
                continue
            if self.values[key] is None:
                self.say(key)
            else:
                whole = key == "lora.alpha" and self.values[key] == int(self.values[key])
                self.say(key, (theirs, int(self.values[key]) if whole else self.values[key]))

    def words(self, key: str, known: Words) -> None:
        """A setting by its value: other words for each, None where that tool has none."""
        value = self.values[key]
        if value == AUTO and AUTO not in known:
            return
        found = known.get(value) if value in known else None
        if found is None:
            self.lose(key, f"{self.tool} has no such choice")
        else:
            self.say(key, *found)


def finish(out: Outgoing) -> None:
    """List all that was not said: what is left open, what differs from the default, and what a person gave."""
    defaults = defaults_of()
    for key, value in out.values.items():
        if key == "data.datasets":
            _of_sets(out)
        if key in out.said or key == "schema_version":
            continue
        table = key.partition(".")[0]
        if value == AUTO:
            if table in TRAINING and key not in SAME_WHEN_AUTO:
                out.lose(key, f"left to {out.tool}, which has a default of its own; --resolved writes a value")
        elif key in _COMPUTING:
            if key in out.given:
                out.lose(key, "how a machine computes; what is learned is the same")
        elif table in TRAINING and value != defaults.get(key):
            out.lose(key, f"{out.tool} has no such setting")
        elif table not in TRAINING and key in out.given | _parents(out.given):
            out.lose(key, _LATER if table in ("evaluate", "export") else f"{out.tool} has no such setting")
    out.lost = list({(one.key, one.reason): one for one in out.lost}.values())


def _of_sets(out: Outgoing) -> None:
    for number, entry in enumerate(out.profile.data.datasets):
        place, is_text = f"data.datasets.{number}", entry.path.endswith(TEXT_SUFFIX)
        if any(mark in entry.path for mark in "*?["):
            out.lost.append(Lost(f"{place}.path", entry.path, "a pattern: name its files there"))
        if is_text and entry.documents != "line":
            out.lost.append(Lost(f"{place}.documents", entry.documents, "each line is an example there"))
        for name, value in entry.model_dump(mode="json", exclude_defaults=True).items():
            if name not in _SET_KEYS and not (is_text and name == "documents"):
                out.lost.append(Lost(f"{place}.{name}", value, f"{out.tool} has no such setting"))


def _parents(given: frozenset[str]) -> frozenset[str]:
    return frozenset(".".join(key.split(".")[:2]) for key in given)


def defaults_of() -> dict[str, Any]:
    """Default of every setting but the data sets."""
    from engine.profile.fields import profile_fields

    return {item.key: item.default for item in profile_fields() if not item.key.startswith("data.datasets.")}


def held_out(out: Outgoing) -> bool:
    """Whether some rows are kept for evaluation."""
    return out.profile.data.holds_out


def share(out: Outgoing, name: str) -> None:
    """Rows held out by number, else by share; both have one name there."""
    rows, size = out.values["data.validation_rows"], out.values["data.validation_fraction"]
    out.say("data.validation_rows", *([(name, rows)] if rows else []))
    out.say("data.validation_fraction", *([] if rows else [(name, size)]))


def batch(out: Outgoing) -> None:
    """`train.total_batch_size` is the micro-batch times the accumulation there, which may follow from the others."""
    total, micro = out.values["train.total_batch_size"], out.values["train.per_device_train_batch_size"]
    if total == AUTO:
        return
    if micro == AUTO:
        out.lose("train.total_batch_size", "there it is the micro-batch times the accumulation; --resolved writes both")
        return
    if out.values["train.gradient_accumulation_steps"] == AUTO:
        out.values["train.gradient_accumulation_steps"] = max(1, total // micro)
    if micro * out.values["train.gradient_accumulation_steps"] == total:
        out.said.add("train.total_batch_size")
    else:
        out.lose("train.total_batch_size", "there it is the micro-batch times the accumulation")


def part_of(out: Outgoing, entry: Dataset) -> dict[str, str]:
    """`split` of a set with the number of its first rows; a number of all rows is sayable of a single set."""
    whole, alone = out.values["data.max_samples"], len(out.profile.data.datasets) == 1
    if whole is not None and alone:
        out.said.add("data.max_samples")
    counts = [count for count in (entry.max_samples, whole if alone else None) if count]
    first = f"[:{min(counts)}]" if counts else ""
    return {"split": entry.split + first} if first or entry.split != "train" else {}


def schedule(out: Outgoing, *, steps_key: str = "eval_steps") -> None:
    """When to evaluate and save: transformers wants both in step where the best weights are kept."""
    steps, saves = out.values["train.eval_steps"], out.values["train.save_steps"]
    if not held_out(out):
        out.said |= {"train.eval_steps", "train.load_best_model_at_end", "train.early_stopping_patience"}
        if out.values["train.early_stopping_patience"]:
            out.lose("train.early_stopping_patience", "nothing is held out")
        out.same({"train.save_steps": "save_steps"})
        return
    if steps == AUTO:
        out.say("train.eval_steps", ("eval_strategy", "epoch"))
        if saves == AUTO:
            out.say("train.save_steps", ("save_strategy", "epoch"))
    else:
        out.say("train.eval_steps", ("eval_strategy", "steps"), (steps_key, steps))
        if saves == AUTO:
            out.say("train.save_steps", ("save_steps", steps))
    out.same({"train.save_steps": "save_steps"} if saves != AUTO else {})
    in_step = saves == AUTO or (steps != AUTO and saves % steps == 0)
    if out.values["train.load_best_model_at_end"] and not in_step:
        out.lose("train.load_best_model_at_end", f"{out.tool} keeps the best weights only of saves after evaluations")
    else:
        out.same({"train.load_best_model_at_end": "load_best_model_at_end"})


def starting(out: Outgoing, name: str) -> None:
    """The adapter that training starts from; one named by its run is only known here."""
    adapter = out.values["tuning.adapter"]
    if adapter and "/" not in adapter:
        out.lose("tuning.adapter", "the name of a run is only known here: name its folder")
    else:
        out.say("tuning.adapter", *([(name, adapter)] if adapter else []))


def warm_up(out: Outgoing, ratio: str = "warmup_ratio") -> None:
    """Steps where they are given, else their share."""
    steps = out.values["train.warmup_steps"]
    if steps is not None:
        out.say("train.warmup_steps", ("warmup_steps", steps))
        out.said.add("train.warmup_ratio")
        return
    out.say("train.warmup_steps")
    if ratio == "warmup_steps" and out.values["train.warmup_ratio"] == 0:
        out.say("train.warmup_ratio")
    else:
        out.same({"train.warmup_ratio": ratio})


def not_elsewhere(out: Outgoing) -> None:
    """The built-in model and data, which other tools do not know."""
    if out.values["model.name_or_path"] == "demo" or str(out.values["model.name_or_path"]).endswith(".gguf"):
        out.lost.append(Lost("model.name_or_path", out.values["model.name_or_path"], f"{out.tool} cannot load it"))
    paths = {f"data.datasets.{number}.path": entry.path for number, entry in enumerate(out.profile.data.datasets)}
    for key, path in {**paths, "data.validation_path": out.profile.data.validation_path or ""}.items():
        if path.startswith("demo:"):
            out.lost.append(Lost(key, path, f"built in; {out.tool} cannot load it"))


_NO_COLUMNS = "which columns its rows have is not known: name them there"
_BY_OBJECTIVE = {
    "pretrain": "text",
    "kto": "judged",
    "dpo": "preference",
    "orpo": "preference",
    "reward": "preference",
}
_BY_ROLE = {"messages": "messages", "alpaca": "instruction", "prompt-completion": "prompt", "text": "text"}


def told_rows(out: Outgoing, number: int, entry: Dataset, *, quiet: bool = False) -> Rows | None:
    """The rows as the profile alone describes them."""
    objective, columns = out.values["train.objective"], dict(entry.columns)

    layout = _BY_OBJECTIVE.get(objective) or (entry.format if entry.format != AUTO else "")
    layout = layout or next((name for name, role in _BY_ROLE.items() if role in columns), "")
    layout = layout or ("messages" if entry.message_keys or entry.speakers else "")
    if not layout:
        if not quiet:
            out.lost.append(Lost(f"data.datasets.{number}.format", entry.format, _NO_COLUMNS))
        return None
    if objective in ("sft", "pretrain") and entry.format not in (AUTO, layout):
        layout = entry.format
    keys = entry.message_keys
    speakers = (own_word(entry, "user"), own_word(entry, "assistant"))
    lists = layout == "messages" or "messages" in columns or bool(entry.message_keys or entry.speakers)
    return Rows(layout, columns, (keys.get("role", "role"), keys.get("content", "content")), speakers, lists)


def own_word(entry: Dataset, role: str, usual: str = "") -> str:
    """What the rows of a set call a role: the first word that the profile names, else the usual one."""
    return next((word for word, ours in entry.speakers.items() if ours == role), usual or role)


def lose_words(out: Outgoing, number: int, entry: Dataset, reason: str) -> None:
    """Own keys and speakers of messages that the other tool cannot be told."""
    for name in ("message_keys", "speakers"):
        if getattr(entry, name):
            out.lost.append(Lost(f"data.datasets.{number}.{name}", getattr(entry, name), reason))


HUGGING_FACE = {
    "train.learning_rate": "learning_rate",
    "train.weight_decay": "weight_decay",
    "train.max_grad_norm": "max_grad_norm",
    "train.adam_beta1": "adam_beta1",
    "train.adam_beta2": "adam_beta2",
    "train.adam_epsilon": "adam_epsilon",
    "train.num_train_epochs": "num_train_epochs",
    "train.max_steps": "max_steps",
    "train.lr_scheduler_type": "lr_scheduler_type",
    "train.optim": "optim",
    "train.seed": "seed",
    "train.logging_steps": "logging_steps",
    "train.save_total_limit": "save_total_limit",
    "train.neftune_noise_alpha": "neftune_noise_alpha",
    "train.torch_compile": "torch_compile",
    "train.dataloader_num_workers": "dataloader_num_workers",
    "train.per_device_train_batch_size": "per_device_train_batch_size",
    "train.gradient_accumulation_steps": "gradient_accumulation_steps",
    "model.trust_remote_code": "trust_remote_code",
    "name": "run_name",
}
"""Names of transformers' TrainingArguments."""
