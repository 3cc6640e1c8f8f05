"""What a run left: its evaluation, exports and conversations. Loads neither pydantic nor torch."""

from __future__ import annotations

from engine.evaluate.page import count_rows as count_rows
from engine.evaluate.page import score_rows as score_rows
from engine.export.formats import DTYPES as DTYPES
from engine.export.formats import FORMATS as FORMATS
from engine.export.formats import GGUF as GGUF
from engine.export.formats import QUANTIZED as QUANTIZED
from engine.export.sizes import estimated_bytes as estimated_bytes
from engine.runs.jobs import EVALUATION_FOLDER as EVALUATION_FOLDER
from engine.runs.jobs import EXPORT_FOLDER as EXPORT_FOLDER
from engine.runs.jobs import evaluation_job as evaluation_job
from engine.runs.jobs import export_job as export_job
from engine.runs.talk import Talk as Talk
