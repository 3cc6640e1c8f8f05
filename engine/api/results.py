"""What a run left: its evaluation, exports and conversations. Loads neither pydantic nor torch."""

from __future__ import annotations

from engine.evaluate.page import bound_texts as bound_texts
from engine.evaluate.page import change_text as change_text
from engine.evaluate.page import count_rows as count_rows
from engine.evaluate.page import number_text as number_text
from engine.evaluate.report import FEWEST_ROWS as FEWEST_ROWS
from engine.evaluate.report import KINDS as KINDS
from engine.evaluate.report import Effect as Effect
from engine.evaluate.report import EvaluationReport as EvaluationReport
from engine.evaluate.report import Sample as Sample
from engine.evaluate.report import Score as Score
from engine.evaluate.report import ScoreKind as ScoreKind
from engine.evaluate.report import load_report as load_report
from engine.evaluate.report import report_of as report_of
from engine.evaluate.report import tuned_scores as tuned_scores
from engine.export.formats import DTYPES as DTYPES
from engine.export.formats import FORMATS as FORMATS
from engine.export.formats import GGUF as GGUF
from engine.export.formats import QUANTIZED as QUANTIZED
from engine.export.report import ExportReport as ExportReport
from engine.export.report import ExportResult as ExportResult
from engine.export.report import FormatReport as FormatReport
from engine.export.report import load_export as load_export
from engine.export.report import result_of as result_of
from engine.export.sizes import estimated_bytes as estimated_bytes
from engine.runs.jobs import EVALUATION_FOLDER as EVALUATION_FOLDER
from engine.runs.jobs import EXPORT_FOLDER as EXPORT_FOLDER
from engine.runs.jobs import evaluation_job as evaluation_job
from engine.runs.jobs import export_job as export_job
from engine.runs.talk import Talk as Talk
