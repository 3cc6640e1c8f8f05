"""The deck's commands in Textual's command palette; one that is not possible says why."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from textual.command import DiscoveryHit, Hit, Hits, Provider

from tui.frame.commands import Command, key_label
from tui.frame.deck import deck_of


class DeckCommands(Provider):
    """Offers the commands of the screen that the palette was opened on."""

    def _offers(self) -> Iterator[tuple[Command, str]]:
        deck = deck_of(self.screen)
        for command in deck.commands.of(self.app.current_mode):
            if command.id != "palette":
                reason = command.available(deck.deck)
                text = f"not now: {reason}" if reason else command.help
                yield command, f"{key_label(command, deck.deck.keys)}  {text}" if command.key else text

    async def discover(self) -> Hits:
        """All commands, before anything was typed."""
        deck = deck_of(self.screen)
        for command, text in self._offers():
            yield DiscoveryHit(command.label, partial(deck.action_command, command.id), help=text)

    async def search(self, query: str) -> Hits:
        """Commands whose label or help matches."""
        deck = deck_of(self.screen)
        matcher = self.matcher(query)
        for command, text in self._offers():
            score = max(matcher.match(command.label), 0.8 * matcher.match(command.help))
            if score > 0:
                run = partial(deck.action_command, command.id)
                yield Hit(score, matcher.highlight(command.label), run, help=text)
