"""What all screens over screens share: they close once, however fast the keys come."""

from __future__ import annotations

from textual.await_complete import AwaitComplete
from textual.screen import ModalScreen, ScreenResultType


class Modal(ModalScreen[ScreenResultType]):
    """A screen over another. A second key that arrives while it closes is not an answer to what lies below."""

    _answered = False

    def dismiss(self, result: ScreenResultType | None = None) -> AwaitComplete:
        """Close with a result, the first time that this is asked."""
        if self._answered:
            return AwaitComplete()
        self._answered = True
        return super().dismiss(result)
