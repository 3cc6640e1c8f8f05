"""Settings that are fine alone and impossible together, and settings that would do nothing.

Each check yields findings about settings that validated; `check.py` calls them all. Machine and
model may be unknown (None): checks that need them are then silent. Not here: files, and the fit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec

from engine.errors import EngineError, ExitCode
from engine.hardware.cards import find_card
from engine.hardware.machine import Gpu, Machine
from engine.memory.experts import stacks
from engine.memory.recompute import ATTENTION, OFFLOAD
from engine.models.alone import STATES, mixing_layers
from engine.models.packing import alone_reason, remedy
from engine.models.spec import ModelSpec
from engine.models.wrapper_rows import no_class, scores_texts
from engine.profile.findings import Finding, finding
from engine.profile.load import LoadedProfile
from engine.profile.schema import Profile
from engine.profile.tables.train import ONE_ROW
from engine.recommend.kernels import INSTALL, obstacle

_RESERVED_NAMES = frozenset({"con", "prn", "aux", "nul"} | {f"{port}{n}" for port in ("com", "lpt") for n in range(10)})


@dataclass(frozen=True, slots=True)
class Context:
    """What the checks look at."""

    loaded: LoadedProfile
    profile: Profile
    machine: Machine | None
    spec: ModelSpec | None

    def runs_on_cpu(self) -> bool:
        """Whether it is certain that no GPU will be used."""
        if not self.loaded.is_sound("launch.device"):
            return False
        device = self.profile.launch.device
        return device == "cpu" or (device == "auto" and self.machine is not None and not gpus(self.machine))

    @property
    def device(self) -> str:
        """`cpu` where it is certain that no GPU will be used, else `cuda`."""
        return "cpu" if self.runs_on_cpu() else "cuda"

    def holds_out(self) -> bool:
        """Whether there will be examples to evaluate on."""
        data = self.profile.data
        sound = self.loaded.is_sound("data.validation_fraction", "data.validation_rows", "data.validation_path")
        return not sound or data.holds_out


def gpus(machine: Machine) -> tuple[Gpu, ...]:
    """GPUs that a run can use."""
    from engine.hardware.capabilities import usable_gpus

    return tuple(usable_gpus(machine))


def chosen_gpu(machine: Machine, wanted: str | None) -> Gpu | None:
    """The GPU that `launch.gpu` names; None where it names none that can be used."""
    try:
        return find_card(machine, wanted) if wanted else None
    except EngineError:
        return None


def cross_findings(context: Context) -> Iterator[Finding]:
    """Everything that does not go together."""
    for check in CHECKS:
        yield from check(context)


def _quantized_full(context: Context) -> Iterator[Finding]:
    quantization, tuning = context.profile.quantization.method, context.profile.tuning.method
    given = context.loaded.is_given("quantization.method") and context.loaded.is_given("tuning.method")
    if given and tuning in ("full", "freeze") and quantization not in ("none", "auto"):
        message = f"'{quantization}' does not go with tuning.method = '{tuning}': quantized weights cannot be trained"
        hint = "set tuning.method = 'lora', or quantization.method = 'none'"
        yield finding(context.loaded, "quantization.method", message, hint, value=quantization)


def _pissa(context: Context) -> Iterator[Finding]:
    loaded, profile = context.loaded, context.profile
    if not loaded.is_given("lora.init") or profile.lora.init != "pissa":
        return
    rivals = {
        "quantization.method": profile.quantization.method not in ("none", "auto"),
        "lora.use_dora": profile.lora.use_dora,
        "lora.modules_to_save": bool(profile.lora.modules_to_save),
        "lora.bias": profile.lora.bias != "none",
        "train.objective": profile.train.objective == "reward",
    }
    for key, is_on in rivals.items():
        if is_on and loaded.is_sound(key):
            message = f"'pissa' changes the base and cannot be saved as a plain adapter together with {key}"
            yield finding(loaded, "lora.init", message, f"remove {key}, or leave lora.init out", value="pissa")


def _quantized_random(context: Context) -> Iterator[Finding]:
    method = context.profile.quantization.method
    sound = context.loaded.is_given("model.initialise") and context.loaded.is_given("quantization.method")
    if sound and context.profile.model.initialise == "random" and method not in ("none", "auto"):
        message = f"'{method}' does not go with model.initialise = 'random'"
        yield finding(context.loaded, "quantization.method", message, "set it to 'none'", value=method)


def _batch(context: Context) -> Iterator[Finding]:
    train, loaded = context.profile.train, context.loaded
    names = ("per_device_train_batch_size", "gradient_accumulation_steps")
    total = train.total_batch_size
    if total == "auto" or not loaded.is_sound("train.total_batch_size"):
        return
    parts = [getattr(train, name) for name in names if loaded.is_sound(f"train.{name}")]
    factors = [part for part in parts if part != "auto"]
    if len(factors) == 2 and factors[0] * factors[1] != total:
        message = f"{total} is not {factors[0]} sequences x {factors[1]} accumulation steps = {factors[0] * factors[1]}"
        hint = "leave one of the three out; it follows from the other two"
        yield finding(loaded, "train.total_batch_size", message, hint, value=total)
    elif len(factors) == 1 and total % factors[0]:
        name = next(name for name in names if getattr(train, name) == factors[0])
        message = f"{total} cannot be divided by {name} = {factors[0]}"
        yield finding(loaded, "train.total_batch_size", message, f"use a multiple of {factors[0]}", value=total)


def _device(context: Context) -> Iterator[Finding]:
    launch, loaded = context.profile.launch, context.loaded
    if context.machine is None or not loaded.is_sound("launch.device", "launch.gpu"):
        return
    if launch.device == "cuda" and not gpus(context.machine):
        hint = "use 'auto' or 'cpu'; see 'engine probe' for what was found"
        yield finding(loaded, "launch.device", "this machine has no usable CUDA GPU", hint, value="cuda")
    elif launch.gpu is not None and launch.device == "cpu":
        yield finding(loaded, "launch.gpu", "names a GPU while launch.device is 'cpu'", "remove one of the two")
    elif launch.gpu is not None:
        yield from _named_gpu(context.machine, launch.gpu, loaded)


def _named_gpu(machine: Machine, wanted: str, loaded: LoadedProfile) -> Iterator[Finding]:
    try:
        find_card(machine, wanted)
    except EngineError as error:
        yield finding(loaded, "launch.gpu", error.message, error.hint, value=wanted)


def _cpu_only(context: Context) -> Iterator[Finding]:
    loaded, profile = context.loaded, context.profile
    if not context.runs_on_cpu():
        return
    if loaded.is_given("model.dtype") and profile.model.dtype == "fp16":
        message = "'fp16' cannot be trained on a CPU"
        yield finding(loaded, "model.dtype", message, "use 'bf16', 'fp32' or 'auto'", value="fp16")
    checkpointing = profile.train.activation_checkpointing
    if loaded.is_given("train.activation_checkpointing") and checkpointing in (OFFLOAD, ATTENTION):
        message = f"'{checkpointing}' needs a GPU"
        hint = "use true, false, a number or 'auto'"
        yield finding(loaded, "train.activation_checkpointing", message, hint, value=checkpointing)
    if loaded.is_given("train.optim") and "8bit" in profile.train.optim:
        message = f"'{profile.train.optim}' needs a GPU"
        yield finding(loaded, "train.optim", message, "use 'adamw_torch' or 'auto'", value=profile.train.optim)


def _kernels(context: Context) -> Iterator[Finding]:
    """Triton kernels that were asked for and cannot be used."""
    loaded, profile, spec, machine = context.loaded, context.profile, context.spec, context.machine
    asked = loaded.is_given("train.kernels") and profile.train.kernels == "liger"
    if not asked or spec is None or machine is None or not loaded.is_sound("launch.device", "launch.gpu"):
        return
    usable = gpus(machine)
    gpu = chosen_gpu(machine, profile.launch.gpu) if profile.launch.gpu else usable[0] if usable else None
    against = obstacle(spec, "cpu" if context.runs_on_cpu() else "cuda", gpu)
    if against:
        hint = f"{INSTALL}, or use 'auto'" if INSTALL in against else "use 'auto' or 'plain'"
        yield finding(loaded, "train.kernels", against.removesuffix(f": {INSTALL}"), hint, value="liger")


def _held_out(context: Context) -> Iterator[Finding]:
    loaded, train = context.loaded, context.profile.train
    if context.holds_out():
        return
    asks = bool(context.profile.evaluate.prompts) and loaded.is_sound("evaluate.prompts")
    needs = {
        "train.load_best_model_at_end": train.load_best_model_at_end,
        "train.early_stopping_patience": train.early_stopping_patience,
        "train.eval_steps": train.eval_steps != "auto" and not asks,
    }
    for key, is_on in needs.items():
        if is_on and loaded.is_given(key):
            hint = "set data.validation_fraction = 0.05 or data.validation_path, or leave this out"
            yield finding(loaded, key, "needs held-out examples, and data.validation_fraction is 0", hint)


def _context_length(context: Context) -> Iterator[Finding]:
    spec, length = context.spec, context.profile.model.max_length
    if spec is None or length == "auto" or not context.loaded.is_sound("model.max_length", "model.name_or_path"):
        return
    if length > spec.max_position_embeddings:
        message = f"{length:,} is longer than the model's context of {spec.max_position_embeddings:,} tokens"
        hint = f"use at most {spec.max_position_embeddings}"
        yield finding(context.loaded, "model.max_length", message, hint, value=length)


def _side_by_side(context: Context) -> Iterator[Finding]:
    """Answers that are compared lie in one row, which not every model can keep apart."""
    objective = context.profile.train.objective
    if context.spec is None or objective not in ONE_ROW or not context.loaded.is_sound("train.objective"):
        return
    reason = alone_reason(context.spec, context.device)
    if reason:
        message = f"'{objective}' compares answers side by side in one row: {reason}"
        others = "use 'sft' with the chosen answers, or another model"
        hint = ", or ".join(filter(None, (remedy(context.spec, context.device), others)))
        yield finding(context.loaded, "train.objective", message, hint, value=objective, code=ExitCode.MODEL)


def _experts(context: Context) -> Iterator[Finding]:
    lora, spec, loaded = context.profile.lora, context.spec, context.loaded
    if not lora.experts or not loaded.is_given("lora.experts"):
        return
    key = "lora.experts"
    if context.profile.tuning.method in ("full", "freeze"):
        message = f"does nothing: tuning.method = '{context.profile.tuning.method}' has no adapters"
        yield finding(loaded, key, message, "remove it, or set tuning.method to 'lora'", value=True)
        return
    if spec is not None and loaded.is_sound("model.name_or_path") and not stacks(spec):
        yield finding(loaded, key, f"{spec.name} has no stacked experts", "remove it", value=True)
    impossible = {
        "lora.dropout": lora.dropout > 0,
        "lora.use_dora": lora.use_dora,
        "lora.init = 'pissa'": lora.init == "pissa",
    }
    for other in (name for name, asked in impossible.items() if asked):
        yield finding(loaded, key, f"cannot be together with {other}", f"remove {other}, or lora.experts", value=True)


def _module_names(context: Context) -> Iterator[Finding]:

    wanted, spec = context.profile.lora.target_modules, context.spec
    sound = context.loaded.is_sound("lora.target_modules", "model.name_or_path", "tuning.method")
    if spec is None or isinstance(wanted, str) or not sound or context.profile.tuning.method in ("full", "freeze"):
        return
    known = (*spec.sizes.linear_shapes, *(() if spec.tie_word_embeddings else ("embed_tokens", "lm_head")))
    for name in wanted:
        if name.rpartition(".")[2] not in known:
            message = f"{spec.name} has no linear layer '{name}'"
            if name.rpartition(".")[2] == "out_proj" and mixing_layers(spec) == STATES:
                message = f"kernels of {STATES} read '{name}' themselves, past any adapter"
            yield finding(context.loaded, "lora.target_modules", message, f"it has {', '.join(known)}", value=name)


def _reward(context: Context) -> Iterator[Finding]:
    """A reward model needs a class with a head for scores, which few checkpoints that also see have."""
    spec, loaded = context.spec, context.loaded
    if spec is None or context.profile.train.objective != "reward" or context.profile.model.trust_remote_code:
        return
    if loaded.is_sound("train.objective") and not scores_texts(spec.wrapper):
        error = no_class(spec.wrapper, "scores texts")
        yield finding(loaded, "model.name_or_path", error.message, error.hint, code=error.code)


def _frozen_layers(context: Context) -> Iterator[Finding]:
    tuning, spec = context.profile.tuning, context.spec
    if spec is None or tuning.method != "freeze" or not context.loaded.is_given("tuning.trainable_layers"):
        return
    if tuning.trainable_layers > spec.num_hidden_layers:
        message = f"{spec.name} has {spec.num_hidden_layers} layers"
        hint = "name fewer, or let every weight learn with tuning.method = 'full'"
        yield finding(context.loaded, "tuning.trainable_layers", message, hint, value=tuning.trainable_layers)


def _encoder(context: Context) -> Iterator[Finding]:
    evaluate, loaded = context.profile.evaluate, context.loaded
    if "bertscore" in evaluate.metrics and loaded.is_given("evaluate.metrics") and evaluate.bertscore_encoder is None:
        hint = "set evaluate.bertscore_encoder to the directory of an encoder such as roberta-large"
        yield finding(loaded, "evaluate.metrics", "'bertscore' needs an encoder", hint, value="bertscore")


def _remote_code(context: Context) -> Iterator[Finding]:
    model, spec = context.profile.model, context.spec
    if (
        model.trust_remote_code
        and model.revision is None
        and spec is not None
        and spec.source in ("cache", "catalogue")
    ):
        hint = "set model.revision to the commit whose code you have read"
        yield finding(context.loaded, "model.trust_remote_code", "would run code that can change at any time", hint)


def _run_name(context: Context) -> Iterator[Finding]:
    name = context.profile.name
    if name is not None and name.lower().partition(".")[0] in _RESERVED_NAMES:
        hint = "choose another; some systems cannot have such a file"
        yield finding(context.loaded, "name", f"'{name}' is a reserved name", hint, value=name)


CHECKS = (
    _quantized_full,
    _pissa,
    _quantized_random,
    _batch,
    _device,
    _cpu_only,
    _kernels,
    _held_out,
    _context_length,
    _module_names,
    _side_by_side,
    _experts,
    _reward,
    _frozen_layers,
    _encoder,
    _remote_code,
    _run_name,
)


def reporter_findings(context: Context) -> Iterator[Finding]:
    """A problem for each reporter without its package."""
    if not context.loaded.is_given("train.report_to"):
        return
    for name in context.profile.train.report_to:
        if find_spec(name) is None:
            message, hint = f"'{name}' is not installed", f"pip install {name}, or leave it out"
            yield finding(context.loaded, "train.report_to", message, hint, value=name, code=ExitCode.ENVIRONMENT)
