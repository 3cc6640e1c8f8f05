"""What a field has to say about what is typed into it, to whoever shows it."""

from __future__ import annotations

from textual.message import Message


class FieldSaid(Message):
    """A line about what is typed; an empty one takes back what was said."""

    def __init__(self, text: str, is_problem: bool) -> None:
        super().__init__()
        self.text, self.is_problem = text, is_problem
