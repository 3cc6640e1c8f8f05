"""LoRA adapters on a base model, and which of its modules they may go on.

Adapters live in the compute dtype (fp32 only for fp16, whose gradients need it); the optimizer keeps
fp32 masters of what is 16-bit. `prepare_model_for_kbit_training` is never called: it would cast
embeddings, head and residual stream to fp32.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from engine.errors import EngineError, ExitCode, Problem, problems_error
from engine.modeling import adapter_files, dora, experts, state_spaces, wrappers
from engine.models.families import family_of
from engine.profile.schema import Profile

PISSA_ITERATIONS = 16
"""Of the fast decomposition; PEFT's documentation finds the error of 16 negligible."""


def base_of(model: Any) -> Any:
    """The transformers model inside a PEFT wrapper, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def attach(model: Any, settings: Profile, begun: Path | None = None) -> Any:
    """`model` wrapped with fresh adapters as `lora` says; everything else is frozen.

    With `begun`, the folder of an adapter, they have its form. Raises EngineError(PROFILE) for names that are no module
    of this model, EngineError(MODEL) for an adapter on layers that take none.
    """
    from peft import get_peft_model

    torch.manual_seed(settings.train.seed)
    config = _fresh_config(model, settings) if begun is None else _config_of(begun, settings)
    if begun is not None:
        _refuse_spared(model, config)
    with experts.as_peft_sees_them(model):
        wrapped = get_peft_model(model, config, autocast_adapter_dtype=False)
    # lora.bias = "all" lets every bias learn, a tower's too.
    wrappers.freeze_outside_text(model)
    if settings.lora.use_dora:
        dora.mend(wrapped)
    set_trainable_dtype(wrapped, settings)
    return wrapped


def _config_of(folder: Path, settings: Profile) -> Any:
    """The form of an adapter that is there; what concerns training alone is the profile's."""
    from peft import LoraConfig

    config = LoraConfig.from_pretrained(str(folder))
    config.inference_mode = False
    config.init_lora_weights = True
    config.lora_dropout = settings.lora.dropout
    config.task_type = _task(settings)
    return config


def _refuse_spared(model: Any, config: Any) -> None:
    """Raise EngineError(MODEL) for an adapter on layers that a merged model or a kernel would pass by."""
    named = () if isinstance(config.target_modules, str) else sorted(config.target_modules or ())
    asked = [("lora.target_modules", name) for name in named]
    key, hint = "tuning.adapter", "name an adapter that leaves it out"
    found = [*_tied_problem(model, asked), *_spared_problem(model, asked)]
    problems = [replace(problem, where=key, key=key, hint=hint) for problem in found]
    if problems:
        raise problems_error(problems, ExitCode.MODEL, "the adapter's targets")


def _task(settings: Profile) -> str:
    return "SEQ_CLS" if settings.train.objective == "reward" else "CAUSAL_LM"


def _fresh_config(model: Any, settings: Profile) -> Any:
    from peft import LoraConfig

    lora = settings.lora
    check_names(model, settings)
    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=_target_modules(model, settings),
        exclude_modules=wrappers.excluded_pattern(model),
        modules_to_save=wrappers.only_in_text(model, lora.modules_to_save) or None,
        bias=lora.bias,
        use_rslora=lora.use_rslora,
        use_dora=lora.use_dora,
        init_lora_weights=f"pissa_niter_{PISSA_ITERATIONS}" if lora.init == "pissa" else True,
        target_parameters=experts.target_names(model) if lora.experts else None,
        task_type=_task(settings),
    )


def _target_modules(model: Any, settings: Profile) -> str | list[str]:
    """`lora.target_modules` as PEFT takes it.

    All linear layers are named where PEFT's own word for them takes in more: experts and router, towers, or what
    kernels read past an adapter; without those whose names PEFT would misread when it loads the adapter.
    """
    targets: str | list[str] = settings.lora.target_modules
    misread = family_of(model.config.get_text_config().model_type).misread
    others = experts.stacks_of(model) or wrappers.outside_text(model) or any(state_spaces.read_by_kernels(model))
    if targets != "all-linear" or not others:
        return targets
    return [name for name in linear_names(model) if name != "score" and name not in misread]


def set_trainable_dtype(model: Any, settings: Profile) -> None:
    """Cast what learns: to the compute dtype, but fp32 for fp16 (the scaler cannot unscale fp16)."""
    dtype = torch.bfloat16 if settings.model.dtype == "bf16" else torch.float32
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)


def freeze_below(model: Any, layers: int) -> None:
    """Let nothing learn but the last `layers` decoder layers. Raises EngineError(MODEL) where there is no such list."""
    stack = getattr(model.get_decoder(), "layers", None)
    if not isinstance(stack, torch.nn.ModuleList):
        raise EngineError(
            "this model has no list of decoder layers to freeze",
            code=ExitCode.MODEL,
            where="tuning.method",
            hint="use 'lora' or 'full'",
        )
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for layer in stack[-layers:]:
        layer.requires_grad_(True)


def load_adapter(model: Any, adapter_dir: Path) -> Any:
    """`model` with the trained adapter of `adapter_dir`. Raises EngineError(MODEL)."""
    from peft import PeftModel

    if not (adapter_dir / "adapter_model.safetensors").is_file():
        raise EngineError(
            "no adapter there", code=ExitCode.MODEL, where=str(adapter_dir), hint="the run has not saved one; resume it"
        )
    try:
        with experts.as_peft_sees_them(model):
            loaded = PeftModel.from_pretrained(model, str(adapter_dir), autocast_adapter_dtype=False)
        adapter_files.put_in_place(loaded, adapter_dir / "adapter_model.safetensors")
        dora.mend(loaded)
        return loaded
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise EngineError(
            f"the adapter does not fit the model: {(str(error).splitlines() or [''])[0]}",
            code=ExitCode.MODEL,
            where=str(adapter_dir),
        ) from error


def save_adapter(model: Any, folder: Path, settings: Profile, initial_dir: Path) -> None:
    """Write the adapter so that it stands on the original base.

    PiSSA takes the adapter's first values out of the base: what is saved is the trained adapter less the first one
    (`initial_dir`, written by `keep_initial`), with twice the rank.
    """
    # PEFT would add the whole embedding to an adapter on it; only a grown one has to travel along.
    embeddings = "auto" if settings.model.additional_special_tokens else False
    start = str(initial_dir) if settings.lora.init == "pissa" else None
    model.save_pretrained(
        folder,
        safe_serialization=True,
        save_embedding_layers=embeddings,
        path_initial_model_for_weight_conversion=start,
    )


def keep_initial(model: Any, folder: Path) -> None:
    """Write the adapter as it starts, in a form that PEFT loads without decomposing the base again."""
    config = model.peft_config["default"]
    named, config.init_lora_weights = config.init_lora_weights, True
    try:
        model.save_pretrained(folder, safe_serialization=True)
    finally:
        config.init_lora_weights = named


def linear_names(model: Any) -> list[str]:
    """Last parts of the names of linear layers inside the blocks, as `lora.target_modules` takes them."""
    head = model.get_output_embeddings()
    spared = {id(module) for _, module in state_spaces.read_by_kernels(model)} | {id(head)}
    names = {
        name.rpartition(".")[2]
        for name, module in wrappers.text_modules(model)
        # A router gives more than a product (Phi-3.5-MoE): its outputs cannot be added to.
        if isinstance(module, torch.nn.Linear) and id(module) not in spared and not name.endswith(".router")
    }
    return sorted(names)


def check_names(model: Any, settings: Profile) -> None:
    """Raise EngineError(PROFILE) that lists every name which matches no module of the model."""
    everything = {name for name, _ in wrappers.text_modules(model) if name}
    targets = settings.lora.target_modules
    asked = [] if targets == "all-linear" else [("lora.target_modules", name) for name in targets]
    asked += [("lora.modules_to_save", name) for name in settings.lora.modules_to_save]
    problems = []
    for key, name in asked:
        if any(full == name or full.endswith(f".{name}") for full in everything):
            continue
        known = sorted({full.rpartition(".")[2] for full in everything if not full.rpartition(".")[2].isdigit()})
        near = difflib.get_close_matches(name, known, n=1)
        guess = f"did you mean '{near[0]}'? " if near else ""
        problems.append(
            Problem(
                f"the model has no module '{name}'",
                hint=f"{guess}its linear layers are: {', '.join(linear_names(model))}",
                where=key,
                key=key,
                value=name,
            )
        )
    problems += _tied_problem(model, asked)
    problems += _spared_problem(model, asked)
    if problems:
        raise problems_error(problems, ExitCode.PROFILE, "module names")


def _tied_problem(model: Any, asked: list[tuple[str, str]]) -> list[Problem]:
    """An adapter on a tied embedding would reach the output head only when it is merged."""
    if not getattr(model.config, "tie_word_embeddings", False):
        return []
    embeddings = [name for name, module in model.named_modules() if module is model.get_input_embeddings()]
    return [
        Problem(
            f"'{name}' is tied to the output head: an adapter on it cannot be merged",
            hint="put it into lora.modules_to_save, or leave it out",
            where=key,
            key=key,
            value=name,
        )
        for key, name in asked
        if key == "lora.target_modules" and any(full == name or full.endswith(f".{name}") for full in embeddings)
    ]


def _spared_problem(model: Any, asked: list[tuple[str, str]]) -> list[Problem]:
    """An adapter that the kernels of a state space would pass by."""
    spared = [name for name, _ in state_spaces.read_by_kernels(model)]
    return [
        Problem(
            f"kernels of state-space layers read '{name}' themselves, past any adapter",
            hint="leave it out: in_proj can carry one",
            where=key,
            key=key,
            value=name,
        )
        for key, name in asked
        if key == "lora.target_modules" and any(full == name or full.endswith(f".{name}") for full in spared)
    ]


def parameter_counts(model: Any) -> tuple[int, int]:
    """(trainable, total) parameters."""
    return count(each for each in model.parameters() if each.requires_grad), count(model.parameters())


def count(parameters: Iterable[Any]) -> int:
    """Values that `parameters` hold; packed 4-bit weights count by the values they stand for."""
    states = ((parameter, getattr(parameter, "quant_state", None)) for parameter in parameters)
    return sum(int(torch.Size(state.shape).numel()) if state is not None else each.numel() for each, state in states)
