"""A profile as text, as fields and as a prepared run or sweep. Loads pydantic: the deck waits until one is opened."""

from __future__ import annotations

from engine.data.choices import AtLength as AtLength
from engine.data.choices import LengthChoices as LengthChoices
from engine.data.choices import choices_of as choices_of
from engine.profile.data_files import SUFFIXES as SUFFIXES
from engine.profile.data_files import TEXT_SUFFIX as TEXT_SUFFIX
from engine.profile.data_files import data_path as data_path
from engine.profile.data_files import data_trouble as data_trouble
from engine.profile.fields import field_at as field_at
from engine.profile.fields import format_value as format_value
from engine.profile.fields import parse_value as parse_value
from engine.profile.fields import profile_fields as profile_fields
from engine.profile.fieldspec import FieldSpec as FieldSpec
from engine.profile.fieldspec import leaves as leaves
from engine.profile.load import LoadedProfile as LoadedProfile
from engine.profile.load import load_profile as load_profile
from engine.profile.load import load_text as load_text
from engine.profile.save import edited_text as edited_text
from engine.profile.save import profile_text as profile_text
from engine.profile.save import save_text as save_text
from engine.profile.tomltext import BadToml as BadToml
from engine.profile.tomltext import read_text as read_text
from engine.profile.values import allowed as allowed
from engine.resolve.check import Examination as Examination
from engine.resolve.check import check_profile as check_profile
from engine.resolve.check import examine as examine
from engine.resolve.remedies import Failure as Failure
from engine.resolve.remedies import Remedy as Remedy
from engine.resolve.remedies import apply_remedy as apply_remedy
from engine.resolve.remedies import failure_of as failure_of
from engine.resolve.remedies import remedies as remedies
from engine.resolve.resolve import plan_to_profile as plan_to_profile
from engine.resolve.resolve import resolve_profile as resolve_profile
from engine.resolve.run_time import RunTime as RunTime
from engine.resolve.run_time import run_time as run_time
from engine.resolve.run_time import time_words as time_words
from engine.resolve.typed import typed_value as typed_value
from engine.sweep.prepare import PreparedSweep as PreparedSweep
from engine.sweep.prepare import prepare_sweep as prepare_sweep
