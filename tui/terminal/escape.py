"""The escape key and the key right after it, which a slow line or a script sends as one.

A terminal marks alt by escape before the key, so Textual takes escape with what follows within a tenth of a second for
one key: of `esc`, `enter` only `enter` is left, and what a person gave up is taken. The deck has no key with alt of its
own, so here these are two keys, as in vi. And ctrl+j is enter, as in a shell: that is what becomes of an enter that is
typed before the program has the terminal. Not here: sequences that terminals send for keys such as the arrows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import partial

from textual._xterm_parser import XTermParser
from textual.message import Message

ESCAPE = "\x1b"
WITH_ALT = ESCAPE + "[O" + "\x7f\tbf"
"""What makes one key with escape: the begin of a sequence; deleting and moving by words, shift+tab."""
_PARTS = re.compile(f"[^{ESCAPE}]*{ESCAPE}|[^{ESCAPE}]+")


class KeyParser(XTermParser):
    """Textual's parser, with escape as a key of its own. `with_alt`: what a person gave a meaning with alt."""

    def __init__(self, debug: bool = False, *, with_alt: str = "") -> None:
        super().__init__(debug)
        self._kept = WITH_ALT + with_alt
        self._after_escape = self._pasting = False

    def feed(self, data: str) -> Iterable[Message]:
        """What `data` means, as far as it is known by now."""
        if not data:
            yield from super().feed(data)
        for part in _PARTS.findall(data):
            if self._after_escape:
                yield from self._end_escape(part)
            yield from super().feed(part if self._pasting else part.replace("\n", "\r"))
            self._after_escape = part.endswith(ESCAPE)

    def _end_escape(self, rest: str) -> Iterable[Message]:
        """Escape alone when it is no part of what follows."""
        if rest.startswith(("[200~", "[201~")):
            self._pasting = rest.startswith("[200~")
        if getattr(self, "_timeout_time", None) is not None and not self._pasting and rest[0] not in self._kept:
            self._timeout_time = 0.0
            yield from self.tick()


def install(keys: Iterable[str]) -> None:
    """Have Textual's driver read keys by this parser. `keys`: those that a person gave to commands."""
    from textual.drivers import linux_driver

    with_alt = "".join(key[-1] for text in keys for key in text.split(",") if re.fullmatch("alt\\+.", key))
    linux_driver.__dict__["XTermParser"] = partial(KeyParser, with_alt=with_alt)
