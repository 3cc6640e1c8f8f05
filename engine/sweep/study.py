"""The study behind a sweep: which settings come next, what was reported, what is hopeless. Optuna's own storage.

Several machines may share one storage: each marks its trials with its sweep's id and leaves the others' alone.
Not here: runs (`trial.py`), what a shell shows (`trials.json`, which the worker writes).
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from engine.errors import EngineError, ExitCode
from engine.profile.values import inline_toml
from engine.resolve.search_space import Choices, Dimension
from engine.sweep.document import Params

_FIRST_WHOLE = (2, 5)
"""Trials that end undisturbed before the median prunes: two of a small sweep, five of one with more than ten."""
MISSED = "missed"
"""Mark of drawn settings that cannot run: they are not one of the trials that were asked for."""
_STATES = {
    TrialState.WAITING: "waiting",
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "completed",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


@dataclass(frozen=True, slots=True)
class Search:
    """What a study searches, and how."""

    name: str
    dimensions: tuple[Dimension, ...]
    method: str
    trials: int
    metric: str
    pruner: str
    seed: int


@dataclass(frozen=True, slots=True)
class Trial:
    """A trial as the storage has it. `owner`: the sweep that runs it; `marks`: what that sweep noted."""

    number: int
    params: Params
    state: str
    value: float | None
    owner: str
    marks: Mapping[str, Any]
    reported: Mapping[int, float]


class Study:
    """An open study. Every answer comes from the storage, so nothing is lost with this process."""

    def __init__(self, search: Search, storage: str, owner: str, *, shared: bool = False) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.search, self.owner = search, owner
        self._space = {dimension.name: _distribution(dimension) for dimension in search.dimensions}
        self._rows = {one.name: _labels(one) for one in search.dimensions if isinstance(one, Choices)}
        self._study = optuna.create_study(
            storage=_open(storage),
            study_name=search.name,
            direction=direction(search.metric),
            load_if_exists=True,
            pruner=_pruner(search),
        )
        # Going on with the same seed would draw the first settings again, and so would another machine.
        offset = len(self._study.get_trials(deepcopy=False)) + (zlib.crc32(owner.encode()) if shared else 0)
        self._study.sampler = _sampler(search.method, (search.seed + offset) % 2**32)
        self._check_same()

    def _check_same(self) -> None:
        """Trials of another space or metric cannot be ranked with ours."""
        searches = {"metric": self.search.metric, "space": {key: repr(one) for key, one in self._space.items()}}
        before = self._study.user_attrs.get("searches")
        if before is None:
            self._study.set_user_attr("searches", searches)
        elif before != searches:
            raise EngineError(
                f"the study '{self.search.name}' searches something else",
                code=ExitCode.PROFILE,
                where="--study",
                hint="give the same [sweep] space and metric as the machine that began it, or another --study name",
            )

    def enqueue(self, combinations: Iterable[Params]) -> None:
        """Put a grid's combinations in line, each once, whoever else has done so."""
        for params in combinations:
            self._study.enqueue_trial(self._encode(params), user_attrs={"cell": True}, skip_if_exists=True)

    def ask(self) -> Trial | None:
        """The next settings to try, noted as running and ours; None when there are none left."""
        trials = self._study.get_trials(deepcopy=False)
        waiting = any(one.state == TrialState.WAITING for one in trials)
        if self.search.method == "grid" and not waiting:
            return None
        begun = sum(1 for one in trials if counts(one) and MISSED not in one.user_attrs)
        if self.search.method != "grid" and begun >= self.search.trials:
            return None
        trial = self._study.ask(self._space)
        if self.search.method == "grid" and "cell" not in trial.user_attrs:
            # Another machine took the last combination between the two lines above.
            self._study.tell(trial, state=TrialState.FAIL)
            return None
        trial.set_user_attr("owner", self.owner)
        return self.of(trial.number)

    def of(self, number: int) -> Trial:
        """The trial of a number."""
        return self._trial_of(self._study.get_trials(deepcopy=False)[number])

    def all(self) -> list[Trial]:
        """Every trial that has an owner or waits for one, by number."""
        return [self._trial_of(one) for one in self._study.get_trials(deepcopy=False) if counts(one)]

    def ours(self) -> list[Trial]:
        """Trials that this sweep began and has not ended."""
        return [one for one in self.all() if one.owner == self.owner and one.state == "running"]

    def report(self, number: int, step: int, loss: float) -> None:
        """Note an evaluation loss; one that is no number counts as infinite."""
        sign = 1.0 if direction(self.search.metric) == "minimize" else -1.0
        value = sign * loss if loss == loss else sign * float("inf")
        if step not in self.of(number).reported:
            self._open_trial(number).report(value, step)

    def is_hopeless(self, number: int) -> bool:
        """Whether the pruner would end the trial after what was reported."""
        return bool(self._open_trial(number).should_prune())

    def mark(self, number: int, key: str, value: Any) -> None:
        """Note something about a trial for whoever goes on with it."""
        self._open_trial(number).set_user_attr(key, value)

    def complete(self, number: int, value: float) -> None:
        """End a trial with its value."""
        self._study.tell(number, value, skip_if_finished=True)

    def prune(self, number: int, why: str) -> None:
        """End a trial that led nowhere; the search learns from how far it came."""
        self.mark(number, "why", why)
        self._study.tell(number, state=TrialState.PRUNED, skip_if_finished=True)

    def fail(self, number: int, why: str) -> None:
        """End a trial that tells nothing about its settings."""
        self.mark(number, "why", why)
        self._study.tell(number, state=TrialState.FAIL, skip_if_finished=True)

    def _open_trial(self, number: int) -> optuna.trial.Trial:
        frozen = self._study.get_trials(deepcopy=False)[number]
        return optuna.trial.Trial(self._study, frozen._trial_id)

    def _encode(self, params: Params) -> dict[str, Any]:
        return {
            one.name: _label(tuple(params[key] for key in one.keys)) if isinstance(one, Choices) else params[one.key]
            for one in self.search.dimensions
            if all(key in params for key in one.keys)
        }

    def _trial_of(self, frozen: FrozenTrial) -> Trial:
        attributes = frozen.user_attrs
        # A trial that waits has its settings as fixed ones only.
        stored = frozen.params or frozen.system_attrs.get("fixed_params", {})
        params: Params = {}
        for dimension in self.search.dimensions:
            if dimension.name not in stored:
                continue
            value = stored[dimension.name]
            row = self._rows[dimension.name][value] if isinstance(dimension, Choices) else (value,)
            params |= dict(zip(dimension.keys, row, strict=True))
        done = frozen.state == TrialState.COMPLETE
        return Trial(
            number=frozen.number,
            params=params,
            state=_STATES[frozen.state],
            value=frozen.value if done else None,
            owner=str(attributes.get("owner", "")),
            marks=attributes,
            reported=frozen.intermediate_values,
        )


def direction(metric: str) -> Literal["minimize", "maximize"]:
    """A loss is to fall; every other metric is a score."""
    return "minimize" if metric == "eval_loss" else "maximize"


def counts(trial: FrozenTrial) -> bool:
    """Whether a trial is one of the sweep's, not the shadow of a lost race for the last combination."""
    return "owner" in trial.user_attrs or trial.state in (TrialState.WAITING, TrialState.RUNNING)


def _distribution(dimension: Dimension) -> BaseDistribution:
    if isinstance(dimension, Choices):
        return CategoricalDistribution(list(_labels(dimension)))
    if dimension.whole:
        step = int(dimension.step or 1)
        return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log, step=step)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log, step=dimension.step)


def _labels(dimension: Choices) -> dict[str, tuple[Any, ...]]:
    """What the storage calls each row: text, as Optuna's choices cannot be lists."""
    return {_label(row): row for row in dimension.rows}


def _label(row: Sequence[Any]) -> str:
    return ", ".join(inline_toml(value) for value in row)


def _sampler(method: str, seed: int) -> optuna.samplers.BaseSampler:
    if method == "tpe":
        # constant_liar: what other cards are trying now is not tried once more.
        return optuna.samplers.TPESampler(seed=seed, constant_liar=True)
    return optuna.samplers.RandomSampler(seed=seed)


def _pruner(search: Search) -> optuna.pruners.BasePruner:
    if search.pruner == "median":
        few, many = _FIRST_WHOLE
        return optuna.pruners.MedianPruner(n_startup_trials=many if search.trials > 2 * many else few)
    if search.pruner == "halving":
        return optuna.pruners.SuccessiveHalvingPruner(reduction_factor=2)
    return optuna.pruners.NopPruner()


def _open(storage: str) -> optuna.storages.BaseStorage:
    """A journal file, or what SQLAlchemy opens. Raises EngineError(ENVIRONMENT) for a database that does not answer."""
    from optuna.storages.journal import JournalFileBackend

    if "://" not in storage:
        return optuna.storages.JournalStorage(JournalFileBackend(storage))
    try:
        return optuna.storages.RDBStorage(storage)
    except Exception as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise EngineError(
            f"the storage cannot be opened: {first}",
            code=ExitCode.ENVIRONMENT,
            where="--storage",
            hint="give a file on a shared disk, or a database URL whose driver is installed",
        ) from error


def cut_torn_line(path: Path) -> None:
    """A power cut may leave half a line, behind which Optuna reads nothing more. Only for a file that nobody shares."""
    if path.is_file():
        data = path.read_bytes()
        os.truncate(path, data.rfind(b"\n") + 1)
