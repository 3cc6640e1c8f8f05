"""One run on a page: settings, data, machine, timeline, warnings, files. Loads neither pydantic nor torch."""

from __future__ import annotations

from engine.runs.overview import Overview as Overview
from engine.runs.overview import OverviewReader as OverviewReader
from engine.runs.overview_page import Row as Row
from engine.runs.overview_page import Section as Section
from engine.runs.overview_page import filtered as filtered
from engine.runs.overview_page import laid_out as laid_out
from engine.runs.overview_page import sections as sections
