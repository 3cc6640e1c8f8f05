"""The devices of a machine to choose from, each with its free memory, its holders and what a model comes to there."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import OptionList

from tui.fit.device_view import DeviceLine, device_detail, device_row
from tui.text import line
from tui.widgets.dialogs import Modal
from tui.widgets.lines import Drawn, Line, hint
from tui.widgets.rows import Row, Rows


class DevicesScreen(Modal[str | None]):
    """A list of devices. Closes with the key of one, or None. Keys count before the list is drawn."""

    BINDINGS: ClassVar = [
        ("d,j", "move(1)", "next"),
        ("k", "move(-1)", "previous"),
        ("enter", "take", "take"),
        ("escape,q", "give_up", "cancel"),
    ]

    def __init__(self, title: str, lines: tuple[DeviceLine, ...], left_out: list[str]) -> None:
        super().__init__()
        self._title, self._lines, self._left_out = title, lines, left_out
        self._index = next((index for index, one in enumerate(lines) if one.chosen), 0)

    def compose(self) -> ComposeResult:
        """Title, list, the device under the cursor, and what cannot be chosen."""
        with Vertical(classes="box"):
            yield Line(Content.styled(self._title, "bold"))
            yield Rows(id="devices")
            yield Drawn(id="device")
            for text in self._left_out:
                yield Line(Content.styled(text, "$warning"))
            keys = (*hint("enter"), " take   ", *hint("d"), " next   ", *hint("esc", "escape"))
            yield Line(line(*keys, " cancel"), classes="keys")

    def on_mount(self) -> None:
        """Start on the device that is chosen now, or where the keys have got to."""
        rows = self.query_one(Rows)
        rows.set_rows([Row(one.device.key, partial(device_row, one)) for one in self._lines])
        rows.styles.height = len(self._lines)
        rows.highlighted = self._index
        self.set_focus(rows)
        self._show()

    def _show(self) -> None:
        self.query_one("#device", Drawn).show(device_detail, self._lines[self._index])

    @on(OptionList.OptionHighlighted)
    def _moved(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        index = self.query_one(Rows).highlighted
        if index is not None:
            self._index = index
            self._show()

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.dismiss(self._lines[event.option_index].device.key)

    def action_move(self, step: int) -> None:
        """On to another device, round and round."""
        self._index = (self._index + step) % len(self._lines)
        for rows in self.query(Rows):
            rows.highlighted = self._index

    def action_take(self) -> None:
        """Close with the device that is marked."""
        self.dismiss(self._lines[self._index].device.key)

    def action_give_up(self) -> None:
        """Close and leave everything as it is."""
        self.dismiss(None)
