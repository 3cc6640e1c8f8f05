"""What speaks against `evaluate.prompts`, and what answering them takes beside a step."""

from __future__ import annotations

from collections.abc import Iterator

from engine.memory.evaluation import answer_bytes
from engine.memory.phases import peak
from engine.memory.resident import compute_width
from engine.profile.findings import Finding, finding
from engine.recommend.plan import Plan
from engine.resolve.cross import Context
from engine.text import format_bytes

KEY = "evaluate.prompts"
_BYTES_PER_TOKEN = 2
"""The fewest of common scripts."""
_TEMPLATE_TOKENS = 64
"""More than templates put around a question and a system message."""


def prompt_findings(context: Context, plan: Plan | None) -> Iterator[Finding]:
    """Prompts that cannot be answered or say nothing; with a plan, those whose answers take more than a step."""
    loaded, profile = context.loaded, context.profile
    prompts = profile.evaluate.prompts
    if not prompts or not loaded.is_sound(KEY):
        return
    if profile.train.objective == "reward" and loaded.is_sound("train.objective"):
        message = "train.objective = 'reward' learns to score answers and writes none: there is nothing to see"
        yield finding(loaded, KEY, message, "remove it, or use another train.objective")
    for number, prompt in enumerate(prompts, 1):
        if not prompt.strip():
            yield finding(loaded, KEY, f"prompt {number} is blank", "write a question there, or remove it")
        elif prompt in prompts[: number - 1]:
            message = f"prompt {number} is the same as prompt {prompts.index(prompt) + 1}"
            yield finding(loaded, KEY, message, "remove one of the two", is_warning=True)
    if plan is not None and plan.verdict != "NO":
        yield from _memory(context, plan)


def _memory(context: Context, plan: Plan) -> Iterator[Finding]:
    """One answer at a time to the longest prompt, whose tokens are known to the worker alone."""
    profile, spec, shape = context.profile, plan.model, plan.shape
    longest = max(len(prompt.encode()) for prompt in profile.evaluate.prompts) + len(profile.data.system.encode())
    asked = longest // _BYTES_PER_TOKEN + _TEMPLATE_TOKENS
    new = profile.evaluate.max_new_tokens
    needed = answer_bytes(spec, min(asked, spec.max_position_embeddings or asked), new, compute_width(shape))
    gpu = None if plan.device_index is None or context.machine is None else context.machine.gpus[plan.device_index]
    step = peak(spec, shape, gpu).moment.total
    if needed > step:
        message = (
            f"an answer takes about {format_bytes(needed)} for a while, a step {format_bytes(step)}:"
            f" the peak may be {format_bytes(needed - step)} above the prediction"
        )
        hint = "lower evaluate.max_new_tokens, or ask shorter questions"
        yield finding(context.loaded, KEY, message, hint, is_warning=True)
