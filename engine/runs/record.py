"""What a run directory says of itself: run.json, summary.json and job.json as values.

Each kind has a reader that answers with an `Unreadable` (`load_…`, for lists that go on without it) and one that
raises EngineError(PROFILE) (`read_…`). Settings stay plain values here, because the shell and the deck do not load
pydantic; `engine.profile.runjson` validates them for a worker. Not here: events (`events.py`), the state of a run
(`state.py`), the report of an evaluation (`engine.evaluate.report`) and of an export (`engine.export.report`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from engine.jsonvalues import (
    Table,
    Unreadable,
    flag_in,
    load_any_object,
    load_object,
    number_in,
    table_in,
    tables_in,
    text_in,
    version_problem,
    whole_in,
)
from engine.runs.start import Start, start_of

SCHEMA_VERSION = 1
"""Of a profile and of run.json, which keeps a profile's settings."""
JOB_VERSION = 1
RUN_FILE, SUMMARY_FILE, JOB_FILE, DATA_FILE = "run.json", "summary.json", "job.json", "data/report.json"
RESULT_FILE = "result.json"
"""What a job leaves beside its events: an object of the job's own."""
PROFILE_TEXT = "profile_text"
"""Key of run.json: the profile as it was when the run began, whatever becomes of its profile.toml."""
_PACKAGES = ("tunedeck", "torch", "transformers", "peft", "bitsandbytes", "torchao", "accelerate", "datasets")


@dataclass(frozen=True, slots=True)
class Origin:
    """A setting's value and where it came from: `profile`, `override`, `default`, `auto` …"""

    value: Any = None
    source: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What was predicted for the run before it began; None = not kept."""

    device_bytes: int | None = None
    reserved_bytes: int | None = None
    allocated_bytes: int | None = None
    context_bytes: int | None = None
    available_bytes: int | None = None
    trainable_parameters: int | None = None
    tokens_per_second: float | None = None
    device_name: str = ""
    card: str = ""
    """`GPU 1`, `GPU 0 MIG 1g.5gb #2`; empty = the processor."""
    shape: Mapping[str, Any] = field(default_factory=dict)
    """The training shape as it was written; `engine.memory.calibration_store` makes one of it."""


@dataclass(frozen=True, slots=True)
class BaseModel:
    """Numbers of the model that the run began with; None = not kept."""

    parameters: int | None = None
    vocab_size: int | None = None
    hidden_size: int | None = None
    max_position_embeddings: int | None = None
    tie_word_embeddings: bool = False
    licence: str = ""


@dataclass(frozen=True, slots=True)
class SweepTrial:
    """A run's place in a sweep."""

    sweep: str
    number: int | None
    params: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class LaunchSettings:
    """What a worker's environment depends on. `own_threads`: a person has set their number."""

    device: str = ""
    gpu: str = ""
    threads: str = ""
    own_threads: bool = False


@dataclass(frozen=True, slots=True)
class RunRecord:
    """run.json. `raw` is the whole object, as a worker takes it with its job."""

    raw: Mapping[str, Any]
    settings: Mapping[str, Any]
    provenance: Mapping[str, Origin] = field(default_factory=dict)
    prediction: Prediction = Prediction()
    model: BaseModel = BaseModel()
    spec: Mapping[str, Any] = field(default_factory=dict)
    """The model's description as it was written: all fields of the engine that wrote it."""
    processor: str = ""
    versions: Mapping[str, str | None] = field(default_factory=dict)
    profile_path: Path | None = None
    base_dir: Path | None = None
    """The folder that relative paths of the settings start from."""
    trial: SweepTrial | None = None
    start: Start | None = None
    """What it began with beside the base."""

    def setting(self, key: str) -> Any:
        """A setting by its dotted key; None where it is not set."""
        found: Any = self.settings
        for part in key.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
        return found

    def text(self, key: str) -> str:
        """A setting as text; empty where it is not set."""
        found = self.setting(key)
        return "" if found is None else str(found)

    @property
    def launch(self) -> LaunchSettings:
        """Where and with how many threads it runs."""
        device, gpu, threads = (self.text(f"launch.{key}") for key in ("device", "gpu", "threads"))
        return LaunchSettings(device, gpu, threads, "launch.threads" in self.given)

    @property
    def notify(self) -> tuple[str, ...]:
        """The command to start when the run ends or something goes wrong; empty for none."""
        found = self.setting("launch.notify")
        return tuple(str(word) for word in found) if isinstance(found, list) else ()

    @property
    def given(self) -> frozenset[str]:
        """Keys whose value is a person's own, not a default or a plan's."""
        return frozenset(key for key, origin in self.provenance.items() if origin.source in ("profile", "override"))

    @property
    def overridden(self) -> dict[str, Any]:
        """Values that the command line or a sweep put in place of the profile's, by key."""
        return {key: origin.value for key, origin in self.provenance.items() if origin.source == "override"}


def load_record(run_dir: Path) -> RunRecord | Unreadable:
    """run.json of a run directory, or why it cannot be used."""
    hint = "the run cannot be used"
    found = load_object(
        run_dir / RUN_FILE, name=RUN_FILE, version_key="schema_version", newest=SCHEMA_VERSION, hint=hint
    )
    return found if isinstance(found, Unreadable) else record_of(found, str(run_dir))


def read_record(run_dir: Path) -> RunRecord:
    """run.json of a run directory. Raises EngineError(PROFILE)."""
    return _or_raise(load_record(run_dir))


def record_of(found: Mapping[str, Any], where: str = "") -> RunRecord | Unreadable:
    """The record that an object is; a worker gets one with its job."""
    problem = version_problem(found, "schema_version", SCHEMA_VERSION)
    if problem:
        return Unreadable(RUN_FILE, problem, "use the engine that wrote it", where)
    settings = found.get("settings")
    if not isinstance(settings, Mapping):
        return Unreadable(RUN_FILE, "is not whole: it holds no settings", "start a new run", where)
    return RunRecord(
        raw=found,
        settings=settings,
        provenance={key: _origin(entry) for key, entry in table_in(found, "provenance").items()},
        prediction=_prediction(table_in(found, "estimate")),
        model=_model(table_in(found, "model")),
        spec=table_in(found, "model"),
        processor=text_in(table_in(table_in(found, "machine"), "cpu"), "name"),
        versions=table_in(found, "versions"),
        profile_path=_path(found, "profile_path"),
        base_dir=_path(found, "base_dir"),
        trial=_trial(table_in(found, "sweep")),
        start=start_of(found),
    )


def read_record_of(found: Mapping[str, Any], where: str = "") -> RunRecord:
    """As `record_of`. Raises EngineError(PROFILE)."""
    return _or_raise(record_of(found, where))


def _origin(entry: Any) -> Origin:
    if not isinstance(entry, Mapping):
        return Origin()
    return Origin(entry.get("value"), text_in(entry, "source"), text_in(entry, "reason"))


def _prediction(found: Table) -> Prediction:
    context = (term for term in tables_in(found, "terms") if text_in(term, "name") == "context")
    return Prediction(
        device_bytes=whole_in(found, "device_bytes"),
        reserved_bytes=whole_in(found, "reserved_bytes"),
        allocated_bytes=whole_in(found, "allocated_bytes"),
        context_bytes=whole_in(next(context, None), "bytes"),
        available_bytes=whole_in(found, "available_bytes"),
        trainable_parameters=whole_in(found, "trainable_parameters"),
        tokens_per_second=number_in(found, "tokens_per_second"),
        device_name=text_in(found, "device_name"),
        card=text_in(found, "card"),
        shape=table_in(found, "shape"),
    )


def _model(found: Table) -> BaseModel:
    return BaseModel(
        parameters=whole_in(found, "parameters"),
        vocab_size=whole_in(found, "vocab_size"),
        hidden_size=whole_in(found, "hidden_size"),
        max_position_embeddings=whole_in(found, "max_position_embeddings"),
        tie_word_embeddings=flag_in(found, "tie_word_embeddings"),
        licence=text_in(found, "licence"),
    )


def _trial(found: Table) -> SweepTrial | None:
    number = found.get("trial")
    if not found.get("id"):
        return None
    return SweepTrial(str(found["id"]), number if isinstance(number, int) else None, table_in(found, "params"))


def _path(found: Table, key: str) -> Path | None:
    text = text_in(found, key)
    return Path(text) if text else None


# summary.json


@dataclass(frozen=True, slots=True)
class Summary:
    """summary.json: what the trainer wrote at the end of a run. Whatever an older engine left out is None."""

    outcome: str = ""
    reason: str = ""
    step: int | None = None
    steps_total: int | None = None
    epochs: float | None = None
    best_step: int | None = None
    best_eval_loss: float | None = None
    weights: str = ""
    """`adapter` or `model`."""
    weights_step: int | None = None
    tokens: int | None = None
    seconds: float | None = None
    trainable_parameters: int | None = None
    total_parameters: int | None = None
    device: str = ""
    peak_allocated_bytes: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The content of summary.json."""
        return asdict(self)


def load_summary(run_dir: Path) -> Summary | Unreadable:
    """summary.json of a run, or why it cannot be used: a run that has not ended has none."""
    found = load_any_object(run_dir / SUMMARY_FILE, name=SUMMARY_FILE, hint="the run's events say the same")
    if isinstance(found, Unreadable):
        return found
    return Summary(
        outcome=text_in(found, "outcome"),
        reason=text_in(found, "reason"),
        step=whole_in(found, "step"),
        steps_total=whole_in(found, "steps_total"),
        epochs=number_in(found, "epochs"),
        best_step=whole_in(found, "best_step"),
        best_eval_loss=number_in(found, "best_eval_loss"),
        weights=text_in(found, "weights"),
        weights_step=whole_in(found, "weights_step"),
        tokens=whole_in(found, "tokens"),
        seconds=number_in(found, "seconds"),
        trainable_parameters=whole_in(found, "trainable_parameters"),
        total_parameters=whole_in(found, "total_parameters"),
        device=text_in(found, "device"),
        peak_allocated_bytes=whole_in(found, "peak_allocated_bytes"),
    )


def summary_or_empty(run_dir: Path) -> Summary:
    """summary.json of a run; a summary without figures where it cannot be used: for what is shown."""
    found = load_summary(run_dir)
    return Summary() if isinstance(found, Unreadable) else found


def read_summary(run_dir: Path) -> Summary:
    """summary.json of a run. Raises EngineError(PROFILE)."""
    return _or_raise(load_summary(run_dir))


# job.json


@dataclass(frozen=True, slots=True)
class JobRequest:
    """job.json: what a worker is to do. `params` is the whole object: each job knows its own keys."""

    job: str = ""
    resume: bool = False
    asked_at: float | None = None
    """Unix time at which a worker was asked for again; None for the first."""
    params: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The content of job.json."""
        asked = {} if self.asked_at is None else {"asked_at": self.asked_at}
        return {"v": JOB_VERSION, "job": self.job, "resume": self.resume, **asked, **self.params}


def load_job(directory: Path) -> JobRequest | Unreadable:
    """job.json of a run or job directory, or why it cannot be used."""
    found = load_object(
        directory / JOB_FILE, name=JOB_FILE, version_key="v", newest=JOB_VERSION, hint="start the job again"
    )
    if isinstance(found, Unreadable):
        return found
    return JobRequest(text_in(found, "job"), flag_in(found, "resume"), number_in(found, "asked_at"), found)


def read_job(directory: Path) -> JobRequest:
    """job.json of a run or job directory. Raises EngineError(PROFILE)."""
    return _or_raise(load_job(directory))


def load_result(directory: Path) -> Mapping[str, Any] | Unreadable:
    """result.json of a job: an object whose keys the job's own readers know."""
    return load_any_object(directory / RESULT_FILE, name=RESULT_FILE, hint="start the job again")


def read_result(directory: Path) -> Mapping[str, Any]:
    """result.json of a job. Raises EngineError(PROFILE)."""
    return _or_raise(load_result(directory))


# data/report.json


@dataclass(frozen=True, slots=True)
class DataPart:
    """Rows and tokens of the training or the held-out part."""

    rows: int | None = None
    tokens: int | None = None
    trained_tokens: int | None = None
    sequences: int | None = None


@dataclass(frozen=True, slots=True)
class DataFile:
    """What became of the rows of one file. `dropped`: (rows, cause)."""

    format: str = ""
    rows_read: int | None = None
    kept: int | None = None
    cut: int | None = None
    dropped: tuple[tuple[int, str], ...] = ()
    path: str = ""


@dataclass(frozen=True, slots=True)
class DataRecord:
    """data/report.json as far as a finished run is judged by it. `ends`: the tokens that end answers."""

    train: DataPart | None = None
    validation: DataPart | None = None
    files: tuple[DataFile, ...] = ()
    ends: tuple[str, ...] = ()
    validation_source: str = ""
    """A file, or the share of the rows that was held out."""
    duplicates: int | None = None
    template: str = ""


def load_data_record(run_dir: Path) -> DataRecord:
    """What the data report says; an empty record where it is missing or damaged: it is shown, never decides."""
    found = load_any_object(run_dir / DATA_FILE, name=DATA_FILE, hint="train again to have it")
    if isinstance(found, Unreadable):
        return DataRecord()
    ends = found.get("ends")
    return DataRecord(
        _part(table_in(found, "train")),
        _part(table_in(found, "validation")),
        tuple(map(_file, tables_in(found, "datasets"))),
        tuple(str(end) for end in ends) if isinstance(ends, list) else (),
        text_in(found, "validation_source"),
        whole_in(found, "duplicates"),
        text_in(found, "template_why") or text_in(found, "template"),
    )


def _part(found: Table) -> DataPart | None:
    if not found:
        return None
    keys = ("rows", "tokens", "trained_tokens", "sequences")
    return DataPart(*(whole_in(found, key) for key in keys))


def _file(found: Table) -> DataFile:
    dropped = tuple((whole_in(item, "rows") or 0, text_in(item, "cause")) for item in tables_in(found, "dropped"))
    return DataFile(
        text_in(found, "format"),
        whole_in(found, "rows_read"),
        whole_in(found, "kept"),
        whole_in(found, "cut"),
        dropped,
        text_in(found, "path"),
    )


def package_versions() -> dict[str, str | None]:
    """Installed versions of what decides a run's numbers; None = not installed. Imports nothing."""
    from importlib.metadata import PackageNotFoundError, version

    found: dict[str, str | None] = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


Kind = TypeVar("Kind")


def _or_raise(found: Kind | Unreadable) -> Kind:
    if isinstance(found, Unreadable):
        raise found.error()
    return found
