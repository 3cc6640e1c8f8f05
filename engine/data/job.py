"""The data jobs of a worker: check a profile's data, or show the tokens and mask of its first rows.

`engine data check` and `engine data preview` ask for them through `engine.runs.launch.run_job`; the
results are plain values that go into result.json.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.data.chat import Tokenizer, reads_with, template_of
from engine.data.examples import RowProblem
from engine.data.find import find_examples, first_examples
from engine.data.hermes import for_template
from engine.data.lengths import length_choices
from engine.data.mask import masker_of
from engine.data.preference import NEEDED, flat
from engine.data.prepare import prepare
from engine.data.rendered import Rendered
from engine.data.tokens import IGNORED, backend_of, tokenize
from engine.errors import EngineError
from engine.models.packing import alone_reason
from engine.models.resolve import resolve_model
from engine.profile.runjson import settings_of
from engine.profile.schedule import doubts_of
from engine.profile.schema import Profile
from engine.runs.job import Job
from engine.runs.record import read_record_of

PREVIEW_ROWS = 2


def run_check(job: Job) -> dict[str, Any]:
    """Prepare the data as training would; returns the report, and what other lengths would do, as plain values.

    With `params["rows"]` the first rows come earlier, in a `preview` event, because all of them may take long.
    """
    settings, tokenizer, base_dir = _open(job)
    if job.params.get("rows"):
        job.events.write("preview", **preview(settings, tokenizer, base_dir, int(job.params["rows"])))
    job.phase("data", "reading and packing")
    done = prepare(settings, tokenizer, base_dir, lambda done, total: job.progress("data", done, total, "rows"))
    report = done.report.to_dict()
    report["warnings"] = [*report["warnings"], *map(str, doubts_of(settings, _rows(settings, base_dir, report)))]
    return {"report": report, "lengths": length_choices(done.documents, settings).to_dict()}


def _rows(settings: Profile, base_dir: Path, report: dict[str, Any]) -> int:
    """Rows that training goes through: packed sequences, or documents where each needs a row of its own."""
    try:
        spec = resolve_model(settings.model.name_or_path, settings.model.revision, base_dir)
    except EngineError:
        return int(report["train"]["sequences"])
    return int(report["train"]["documents" if alone_reason(spec, settings.launch.device) else "sequences"])


def run_preview(job: Job) -> dict[str, Any]:
    """The first rows (`params["rows"]`) as tokens, each marked as trained on or not.

    `params["first_row"]` and `params["words"]`: those from that row on, those that have these words.
    """
    settings, tokenizer, base_dir = _open(job)
    dataset = int(job.params.get("dataset", 0))
    first_row, words = int(job.params.get("first_row", 1)), str(job.params.get("words", ""))
    rows = int(job.params.get("rows", PREVIEW_ROWS))
    return preview(settings, tokenizer, base_dir, rows, first_row, words, dataset)


def _open(job: Job) -> tuple[Profile, Tokenizer, Path]:
    from engine.modeling.load import load_tokenizer

    settings, base_dir = settings_of(read_record_of(job.params["run_json"]))
    return settings, load_tokenizer(settings, base_dir, job.warn), base_dir


def preview(
    settings: Profile,
    tokenizer: Tokenizer,
    base_dir: Path,
    rows: int,
    first_row: int = 1,
    words: str = "",
    dataset: int = 0,
) -> dict[str, Any]:
    """Template, and per document of the first `rows` usable rows its text and tokens.

    `dataset` counts from 1: only its rows; 0 = of each data set a share.

    A token is {"id", "text", "trained", "part", "kept"}; part = thoughts, calls, results or text, where a row has more
    than text; not kept = beyond max_length. `first_row` and `words`: of the rows
    from there on that have these words. Raises EngineError(DATA) when no row can be used.
    """
    left: list[str] = []
    if first_row > 1 or words:
        examples, paths = find_examples(settings, base_dir, rows, first_row, words, dataset)
    else:
        examples, paths, left = first_examples(settings, base_dir, rows, dataset)
    template = template_of(settings, tokenizer, base_dir)
    masker = masker_of(settings, tokenizer, template)
    examples = for_template(examples, reads_with(tokenizer, template), masker.notes.counts)
    shown, problems = [], []
    if settings.train.objective in NEEDED:
        examples = flat(examples)
    for example, found in zip(examples, masker.render_examples(examples), strict=True):
        place = {"path": paths[example.dataset], "row": example.row}
        if isinstance(found, RowProblem):
            problems.append({**place, "cause": found.cause, "detail": found.detail})
            continue
        limit = int(settings.model.max_length)
        shown += [{**place, **_document(tokenizer, document, limit)} for document in found]
    notes = [f"{count} {note}" for note, count in masker.notes.counts.items() if count]
    return {
        "template": {"name": template.name, "why": template.why, "source": template.source},
        "max_length": int(settings.model.max_length),
        "documents": shown,
        "problems": problems,
        "warnings": [*template.warnings, *left, *notes],
    }


def _document(tokenizer: Tokenizer, document: Rendered, max_length: int) -> dict[str, Any]:
    ids, labels, begins = tokenize(backend_of(tokenizer), [document])[0]
    ends = [*begins[1:], len(document.text)]
    tokens = [
        {
            "id": int(token),
            "text": document.text[begin:end],
            "trained": bool(label != IGNORED),
            "part": next((one.kind for one in document.parts if one.start <= begin < one.end), ""),
            "kept": position < max_length,
        }
        for position, (token, label, begin, end) in enumerate(zip(ids, labels, begins, ends, strict=True))
    ]
    trained = int((labels[:max_length] != IGNORED).sum())
    return {"text": document.text, "length": len(tokens), "trained_tokens": trained, "tokens": tokens}
