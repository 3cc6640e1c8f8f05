"""The mounted rows of the form, section by section: which of them are seen, and the way from one to the next.

Not here: who has the keyboard and what is edited (`form_pane.py`), which rows shall be seen (`outline.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from textual.widget import Widget

from tui.documents.form import Form, Preview
from tui.profile.field import FieldRow
from tui.profile.outline import Outline, Section, sections_of, seen
from tui.profile.section_row import SectionRow, heading_state
from tui.profile.view import row_state

if TYPE_CHECKING:
    from engine.api.profiles import FieldSpec

Stop = FieldRow | SectionRow
"""What the arrows go to."""


@dataclass(slots=True)
class Block:
    """A section's heading and rows; those most used have no heading."""

    section: Section
    heading: SectionRow | None
    rows: list[FieldRow]

    def stops(self) -> Iterator[Stop]:
        """What is seen of it, from top to bottom."""
        if self.heading is not None and self.heading.display:
            yield self.heading
        yield from (row for row in self.rows if row.display)


@dataclass(slots=True)
class Blocks:
    """All rows of a form."""

    blocks: list[Block] = field(default_factory=list)

    @classmethod
    def of(cls, fields: Sequence[FieldSpec], base: Path) -> Blocks:
        """New rows for these settings, to be mounted; their relative paths start at `base`."""
        return cls([_block(section, base) for section in sections_of(fields)])

    @property
    def titles(self) -> set[str]:
        """Names of the sections that fold."""
        return {block.section.title for block in self.blocks if block.heading is not None}

    def widgets(self) -> Iterator[Widget]:
        """Everything, in order."""
        for block in self.blocks:
            yield from [block.heading] if block.heading is not None else []
            yield from block.rows

    def rows(self) -> Iterator[FieldRow]:
        """Every row, seen or not."""
        return (row for block in self.blocks for row in block.rows)

    def stops(self) -> list[Stop]:
        """What is seen, from top to bottom."""
        return [stop for block in self.blocks for stop in block.stops()]

    def starts(self) -> list[Stop]:
        """What is seen first of each section."""
        firsts = (next(block.stops(), None) for block in self.blocks)
        return [stop for stop in firsts if stop is not None]

    def block_of(self, row: FieldRow) -> Block:
        """The section that a row is in."""
        return next(block for block in self.blocks if row in block.rows)

    def show(self, form: Form, found: Preview) -> None:
        """Show in each row what the form and its prediction say."""
        for row in self.rows():
            row.show(row_state(row.spec, form, found))
        for block in self.blocks:
            _head(block)

    def arrange(self, outline: Outline, form: Form) -> None:
        """Show the rows that are wanted and hide the others."""
        given = {row.spec.key for row in self.rows() if form.given(row.spec.key) is not None}
        for block in self.blocks:
            states = {row.spec.key: row.state for row in block.rows}
            wanted = seen(block.section, outline, states, given)
            for row in block.rows:
                row.display = row.spec.key in wanted.keys or row.editing
            if block.heading is not None:
                block.heading.display = wanted.heading
                block.heading.show(heading_state(block.section.title, [*states.values()], wanted.open, wanted.words))


def _block(section: Section, base: Path) -> Block:
    heading = SectionRow(section.title) if section.title else None
    return Block(section, heading, [FieldRow(spec, base) for spec in section.specs])


def _head(block: Block) -> None:
    """Show in a heading what its rows say now."""
    if block.heading is not None:
        before, states = block.heading.state, [row.state for row in block.rows]
        block.heading.show(heading_state(block.section.title, states, before.open, before.words))
