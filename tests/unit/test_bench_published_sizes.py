"""The table of models at their published size."""

from __future__ import annotations

import pytest

from bench.published_sizes import MARK, PUBLISHED, page_text, representatives, table
from engine.models.catalog import catalog_index, shipped_catalog


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_count_is_that_of_the_published_files(name: str) -> None:
    assert catalog_index()[name.lower()].sizes.computed_parameters == PUBLISHED[name]


def test_every_type_of_the_list_has_a_model_and_one_of_known_size_goes_first() -> None:
    chosen = representatives()
    assert set(chosen) == {spec.family for spec in shipped_catalog()}
    assert chosen["phi"].name == "microsoft/phi-2"
    assert chosen["ministral3"].name.startswith("mistralai/Ministral-3-8B")


def test_a_refused_type_keeps_its_reason_in_the_table() -> None:
    row = {"model": "a/b", "counted": 10**9, "published": 2 * 10**9, "verdict": "no", "method": "", "gib": 0.0}
    assert table({"types": {"new": {**row, "seconds": 0.3}}})[2:] == [
        "| new | a/b | 1 B | -50.00% | – | – | no | 0.3 |"
    ]
    with pytest.raises(ValueError, match="marks"):
        page_text(f"{MARK} without an end")
