"""Everything that would keep a profile from running on a machine, found at once.

Schema, combinations, data files, model, fit. Not here: reading the file (`load.py`), content of data (`engine.data`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from engine.errors import EngineError, ExitCode, Problem
from engine.hardware.machine import Machine
from engine.models.spec import ModelSpec
from engine.profile.data_files import check_data_files
from engine.profile.findings import Finding, error_of, finding
from engine.profile.load import LoadedProfile
from engine.recommend.plan import CONTEXT, Plan
from engine.recommend.room import limit_words
from engine.resolve.adapter import KEY, Adapter, adapter_findings, find_adapter, with_adapter
from engine.resolve.cross import Context, chosen_gpu, cross_findings, reporter_findings
from engine.resolve.document_lengths import remembered
from engine.resolve.fill import requirements_of
from engine.resolve.prompts import prompt_findings
from engine.resolve.search_space import sweep_findings
from engine.resolve.warnings import warning_findings
from engine.resolve.weights import weight_findings
from engine.text import format_bytes


@dataclass(frozen=True, slots=True)
class Examination:
    """What was found, with the model and plan that came up on the way."""

    findings: tuple[Finding, ...]
    spec: ModelSpec | None
    plan: Plan | None
    loaded: LoadedProfile | None = None
    """The profile with what its adapter decides; as it was without one."""
    adapter: Adapter | None = None

    @property
    def problems(self) -> tuple[Finding, ...]:
        """Findings that keep a run from starting."""
        return tuple(item for item in self.findings if not item.is_warning)

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """Findings that do not."""
        return tuple(item for item in self.findings if item.is_warning)


def check_profile(loaded: LoadedProfile, machine: Machine | None) -> list[Problem]:
    """All problems; empty when a run could start. Without a machine, what depends on one is not checked."""
    return [item.problem for item in examine(loaded, machine).problems]


def check_error(loaded: LoadedProfile, machine: Machine | None) -> EngineError | None:
    """The same as one error: PROFILE, or DATA, MODEL or RESOURCES where all problems are of that kind."""
    return error_of(examine(loaded, machine).problems, loaded)


def examine(loaded: LoadedProfile, machine: Machine | None) -> Examination:
    """All findings, problems before warnings, in the order of the file."""
    found = [Finding(problem) for problem in loaded.problems]
    profile = loaded.partial
    if profile is None:
        return Examination(tuple(found), None, None)
    spec = _resolve_model(loaded, found)
    loaded, adapter = _take_adapter(loaded, spec, found)
    profile = loaded.partial or profile
    context = Context(loaded, profile, machine, spec)
    found += cross_findings(context)
    found += reporter_findings(context)
    found += sweep_findings(context)
    found += check_data_files(loaded)
    plan = _plan(context, found)
    found += prompt_findings(context, plan)
    found += warning_findings(context)
    found.sort(key=lambda item: (item.is_warning, item.problem.line or 0))
    return Examination(tuple(found), spec, plan, loaded, adapter)


def _take_adapter(
    loaded: LoadedProfile, spec: ModelSpec | None, found: list[Finding]
) -> tuple[LoadedProfile, Adapter | None]:
    """The profile with what `tuning.adapter` decides, and that adapter."""
    reference = loaded.partial.tuning.adapter if loaded.partial is not None else None
    if reference is None or not loaded.is_sound(KEY):
        return loaded, None
    try:
        adapter = find_adapter(reference, loaded.base_dir)
    except EngineError as error:
        found.append(_from_error(loaded, KEY, error))
        return loaded, None
    against = list(adapter_findings(loaded, adapter, spec))
    found += against
    return (loaded if _refused(against) else with_adapter(loaded, adapter, spec)), adapter


def _refused(findings: list[Finding]) -> bool:
    """Whether one of them keeps a run from starting."""
    return any(not item.is_warning for item in findings)


def _resolve_model(loaded: LoadedProfile, found: list[Finding]) -> ModelSpec | None:
    from engine.models.resolve import resolve_model

    key = "model.name_or_path"
    if loaded.partial is None or not loaded.is_sound(key, "model.revision"):
        return None
    model = loaded.partial.model
    try:
        spec = resolve_model(model.name_or_path, model.revision, loaded.base_dir)
        found.extend(weight_findings(loaded, key, spec))
        return spec
    except EngineError as error:
        found.append(_from_error(loaded, key, error))
        return None


def _plan(context: Context, found: list[Finding]) -> Plan | None:
    """The plan that fills `"auto"`, unless a finding makes it pointless; adds one where nothing fits."""
    from engine.recommend.search import plan_model

    spec, machine, profile = context.spec, context.machine, context.profile
    if spec is None or machine is None or any(item.code is ExitCode.PROFILE and not item.is_warning for item in found):
        return None
    named = chosen_gpu(machine, profile.launch.gpu)
    try:
        asked = requirements_of(profile, named.uuid if named else None)
        known = remembered(profile, context.loaded.base_dir) if asked.document_tokens else None
        plan = plan_model(spec, machine, asked if known is None else replace(asked, document_tokens=known))
    except EngineError as error:
        found.append(_from_error(context.loaded, "launch.device", error))
        return None
    if plan.verdict == "NO":
        found.append(_no_fit(context.loaded, plan))
    return plan


def _no_fit(loaded: LoadedProfile, plan: Plan) -> Finding:
    needed, there = format_bytes(plan.estimate.device_bytes), format_bytes(plan.available_bytes)
    if plan.headroom_bytes >= 0:
        return _out_of_reach(loaded, plan)
    message = f"{plan.model.name} needs {needed} with these settings; {there} are free on {plan.device_title}"
    near = "; or ".join(plan.alternatives[:3])
    hint = f"this would fit: {near}" if near else "choose a smaller model, see 'engine fit'"
    return finding(loaded, "model.name_or_path", message, hint, code=ExitCode.RESOURCES)


def _out_of_reach(loaded: LoadedProfile, plan: Plan) -> Finding:
    """Where the device's memory would do, and something else does not."""
    key = "model.max_length" if plan.limit == CONTEXT else "train.activation_checkpointing"
    near = "; or ".join(plan.alternatives[:3])
    hint = f"this would fit: {near}" if near else "choose another model, see 'engine fit'"
    return finding(loaded, key, f"{plan.model.name}: {limit_words(plan)}", hint, code=ExitCode.RESOURCES)


def _from_error(loaded: LoadedProfile, key: str, error: EngineError) -> Finding:
    where = f" ({error.where})" if error.where and error.where != key else ""
    return finding(loaded, key, f"{error.message}{where}", error.hint, code=error.code)
