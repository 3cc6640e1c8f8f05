"""What is evaluated: a run, or a model at a path beside a run, beside a base, or alone; with its rows.

The job names `run_dir`, `path`, `base`, `data`, `settings` where they differ from the run's, and `alone` for a run
that is to be measured without its base and leaves no report. Whoever measures sees models by name and knows nothing of
where they come from.
"""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from engine.data.chat import choose_template
from engine.errors import EngineError, ExitCode
from engine.inference.folder import OpenedFolder, adapter_base, load_folder, open_folder, tokenizer_of
from engine.inference.rows import HeldOut, read_data, read_held_out
from engine.inference.run import (
    OpenedRun,
    adapter_on,
    device_of,
    device_of_path,
    load_tokenizer,
    models,
    open_run,
    refuse_scores,
)
from engine.modeling import load
from engine.profile.runjson import settings_of
from engine.profile.schema import Profile
from engine.runs.job import Job, Warn
from engine.runs.record import SCHEMA_VERSION, read_record_of
from engine.runs.store import slug

Models = Iterator[tuple[str, Any]]
RESERVED = ("report.json", "report.txt", "harness")
"""Names in a run's `eval/` that are no set's."""
MAX_LENGTH = 2048
"""Tokens of a row that are scored where neither a run nor a setting says."""


@dataclass(frozen=True, slots=True)
class EvaluatedModels:
    """One or two models to measure. `tokenizers` and `load()` go by `base` and `tuned`, in that order.

    A model that was yielded cannot be used after the next one. `folder`: where the report goes, None = nowhere.
    """

    title: str
    settings: Profile
    base_dir: Path
    tokenizers: dict[str, Any]
    load: Callable[[], Models]
    context: int
    max_length: int
    folder: Path | None
    step: int | None = None
    about: dict[str, Any] = field(default_factory=dict)
    """Facts for the report."""
    run_dir: Path | None = None
    data: tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    """Of the rows in `data`: role = column."""

    def rows(self, warn: Warn) -> list[RowSet]:
        """The sets of rows to score: those of `--data`, or what the run held out and the profile's `evaluate.sets`.

        Raises EngineError(DATA).
        """
        if self.data:
            named = list(zip(_short_names(self.data), self.data, strict=True))
            return self._sets(named, Path.cwd(), warn)
        assert self.run_dir is not None
        more = self.settings.evaluate.sets
        rows = read_held_out(self.run_dir)
        if not rows and not more:
            raise EngineError(
                "the run held no rows out",
                code=ExitCode.DATA,
                where=str(self.run_dir / "data"),
                hint="name some with --data, or train with data.validation_fraction above 0 or a data.validation_path",
            )
        own = [RowSet("", rows, self.folder)] if rows else []
        return [*own, *self._sets(list(more.items()), self.base_dir, warn)]

    def _sets(self, named: Sequence[tuple[str, str]], base_dir: Path, warn: Warn) -> list[RowSet]:
        folders = _folders([name for name, _ in named], self.folder)
        return [
            RowSet(name, read_data(path, self.settings, self.columns, base_dir, warn), folder)
            for (name, path), folder in zip(named, folders, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class RowSet:
    """Rows to score. `name` is empty for what the run held out; `folder`: where the report goes, None = nowhere."""

    name: str
    rows: list[HeldOut]
    folder: Path | None


def _short_names(paths: Sequence[str]) -> list[str]:
    """The last part of each path; the whole path where two have the same."""
    short = [Path(path).name or path for path in paths]
    return [path if short.count(name) > 1 else name for name, path in zip(short, paths, strict=True)]


def _folders(names: Sequence[str], parent: Path | None) -> list[Path | None]:
    """A folder for each set's report: numbered where two names would share one, or a file is in the way."""
    if parent is None:
        return [None] * len(names)
    taken, found = set(RESERVED), list[Path | None]()
    for name in names:
        choices = (f"{slug(name)}{f'-{number}' if number > 1 else ''}" for number in itertools.count(1))
        free = next(one for one in choices if one.casefold() not in taken and not (parent / one).is_file())
        taken.add(free.casefold())
        found.append(parent / free)
    return found


def open_models(job: Job) -> EvaluatedModels:
    """What the job names. Raises EngineError: MODEL, RESOURCES or PROFILE as `open_run`, MODEL for bad files."""
    if not job.params.get("run_dir"):
        return _of_path(job, None)
    trained = open_run(job)
    refuse_scores(trained, "evaluate")
    if job.params.get("settings"):
        trained = replace(trained, settings=Profile.model_validate(job.params["settings"]))
    return _of_path(job, trained) if job.params.get("path") else _of_run(job, trained)


def _of_run(job: Job, trained: OpenedRun) -> EvaluatedModels:
    settings = trained.settings
    device = device_of(settings, job.warn)
    tokenizer = load_tokenizer(trained, job.warn)
    max_length = int(settings.model.max_length)
    alone = bool(job.params.get("alone"))
    folder = trained.run_dir / "eval"
    return EvaluatedModels(
        title=trained.run_dir.name,
        settings=settings,
        base_dir=trained.base_dir,
        tokenizers={name: tokenizer for name in (("tuned",) if alone else ("base", "tuned"))},
        load=partial(models, trained, device, job.warn, alone=alone),
        context=trained.record.model.max_position_embeddings or max_length,
        max_length=max_length,
        folder=None if alone else folder,
        step=trained.summary().weights_step,
        about={"dtype": settings.model.dtype, "quantization": settings.quantization.method, "device": device},
        run_dir=trained.run_dir,
        data=_data(job),
        columns=dict(job.params.get("columns") or {}),
    )


def _of_path(job: Job, trained: OpenedRun | None) -> EvaluatedModels:
    """A model at a path. Its base is the one that is named, else the run's; without either it stands alone."""
    if trained is not None:
        settings, base_dir = trained.settings, trained.base_dir
    else:
        settings, base_dir = settings_of(read_record_of(_as_run_json(job)))
    device = device_of(settings, job.warn) if trained is not None else device_of_path(settings, job.warn)
    folder = open_folder(str(job.params["path"]), settings, base_dir, job.warn)
    base_path = job.params.get("base")
    base_folder = open_folder(str(base_path), settings, base_dir, job.warn) if base_path else None
    _check_base(folder, base_folder, trained)
    tokenizers = _tokenizers(job, folder, base_folder, trained, base_dir)
    context = _context(folder, base_folder, trained)
    max_length = settings.model.max_length
    name = folder.path.name
    dtype = (base_folder if folder.is_adapter and base_folder is not None else folder).settings.model.dtype
    about: dict[str, Any] = {"dtype": dtype, "quantization": folder.stored, "device": device}
    return EvaluatedModels(
        title=name,
        settings=settings,
        base_dir=base_dir,
        tokenizers=tokenizers,
        load=partial(_models, folder, base_folder, trained, base_dir, device, job),
        context=context,
        max_length=min(context, MAX_LENGTH) if max_length == "auto" else int(max_length),
        folder=None if trained is None else trained.run_dir / "eval" / slug(name),
        about={**about, "path": str(folder.path), "run_of_rows": None if trained is None else trained.run_dir.name},
        run_dir=None if trained is None else trained.run_dir,
        data=_data(job),
        columns=dict(job.params.get("columns") or {}),
    )


def _data(job: Job) -> tuple[str, ...]:
    """The paths of `--data`; one alone may be given as text."""
    given = job.params.get("data") or ()
    return (given,) if isinstance(given, str) else tuple(str(path) for path in given)


def _check_base(folder: OpenedFolder, base_folder: OpenedFolder | None, trained: OpenedRun | None) -> None:
    """Raise EngineError(MODEL) for an adapter without a base, and for a base that is one itself."""
    if base_folder is not None and base_folder.is_adapter:
        raise EngineError(
            "the base is an adapter itself",
            code=ExitCode.MODEL,
            where=str(base_folder.path),
            hint="give --base a whole model; a merged export is one",
        )
    if folder.is_adapter and base_folder is None and trained is None:
        named = adapter_base(folder.path)
        raise EngineError(
            "an adapter stands on a base, and none is named",
            code=ExitCode.MODEL,
            where=str(folder.path),
            hint=f"add --base MODEL{f'; its configuration names {named!r}' if named else ''}",
        )


def _as_run_json(job: Job) -> dict[str, Any]:
    """A job without a run carries its settings itself."""
    return {
        "schema_version": SCHEMA_VERSION,
        "settings": job.params["settings"],
        "provenance": {},
        "base_dir": job.params["base_dir"],
    }


def _context(folder: OpenedFolder, base_folder: OpenedFolder | None, trained: OpenedRun | None) -> int:
    """The shorter of what the models can see."""
    known = [one.context for one in (folder, base_folder) if one is not None and one.context]
    if trained is not None and base_folder is None:
        known.append(trained.record.model.max_position_embeddings or 0)
    return min((one for one in known if one), default=MAX_LENGTH)


def _tokenizers(
    job: Job, folder: OpenedFolder, base_folder: OpenedFolder | None, trained: OpenedRun | None, base_dir: Path
) -> dict[str, Any]:
    """Each model's own; an adapter without one takes its base's."""
    base = None
    if base_folder is not None:
        base = tokenizer_of(base_folder, base_dir, job.warn)
    elif trained is not None:
        base = load_tokenizer(trained, job.warn)
    own = tokenizer_of(folder, base_dir, job.warn)
    if own is None:
        job.warn("tokenizer", "the adapter has no tokenizer of its own: the base's is used")
        own = base
    for tokenizer in (own, base):
        for warning in [] if tokenizer is None else choose_template(tokenizer).warnings:
            job.warn("template", warning)
    return {"tuned": own} if base is None else {"base": base, "tuned": own}


def _models(
    folder: OpenedFolder,
    base_folder: OpenedFolder | None,
    trained: OpenedRun | None,
    base_dir: Path,
    device: str,
    job: Job,
) -> Models:
    """The base, where there is one, and then the model; never both in memory."""
    model = None
    if base_folder is not None:
        model = load_folder(base_folder, base_dir, device, job.warn)
    elif trained is not None:
        quantized = trained.settings.quantization.method != "none"
        model = load.load_base(trained.settings, base_dir, quantized=quantized, device=device, warn=job.warn).eval()
    if model is not None:
        yield "base", model
    if folder.is_adapter:
        yield "tuned", adapter_on(model, folder.path, "download or export it again").eval()
        return
    del model
    gc.collect()
    yield "tuned", load_folder(folder, base_dir, device, job.warn)
