"""Keys typed ahead: each one is carried out when the one before it has had its whole effect.

Textual hands a key to what has the keyboard at that moment and does not wait for what it does there. Of keys that
come in one chunk (a slow line, a held key, a script) the second would act on what stood there before the first: a
letter meant for a field becomes a command, a step of the cursor is lost. So the app takes keys, pastes and clicks from
here, one at a time: the next one goes on when nothing is being worked on any more and the screen is ready. Not here:
what a screen still waits for (`DeckScreen.ready`).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from textual import events
from textual.message_pump import MessagePump
from textual.widgets import Input

if TYPE_CHECKING:
    from textual.app import App
    from textual.dom import DOMNode

LIMIT_S = 10.0
"""Keys that wait longer than this are thrown away: what they were meant for did not come."""
URGENT_S = 1.0
URGENT = ("ctrl+c", "ctrl+q")
"""Keys that throw away what waits before them once it has waited for `URGENT_S`, as ctrl+c does in a shell."""
EAGER_TURNS, POLL_S = 200, 0.002


class TypeAhead:
    """Events that wait for the deck to settle, and the task that lets them through one by one."""

    def __init__(self, app: App[Any]) -> None:
        self._app = app
        self._held: deque[events.Event] = deque()
        self._passing: events.Event | None = None
        self._task: asyncio.Task[None] | None = None
        self._given_up = False
        self._last_s = 0.0

    @property
    def idle_s(self) -> float:
        """Seconds since the last key, paste or click."""
        return time.monotonic() - self._last_s

    def admits(self, event: events.Event) -> bool:
        """Whether the app may act on `event` now. If not, the event is kept and comes again."""
        if event is self._passing:
            self._passing = None
            return True
        if not _waits(event) or event.is_forwarded:
            return True
        self._last_s = time.monotonic()
        if self._task is None and (self._given_up or _nothing_queued(self._app)) and self._settled(event, of_app=False):
            return True
        if self._given_up:
            return True
        self._held.append(event)
        if self._task is None:
            self._task = asyncio.create_task(self._let_through(), name="keys typed ahead")
        return False

    async def _let_through(self) -> None:
        try:
            while self._held and self._app.is_running:
                await self._until_settled()
                if self._held:
                    self._passing = self._next()
                    self._app.post_message(self._passing)
        finally:
            self._task = None

    async def _until_settled(self) -> None:
        began, turns = time.monotonic(), 0
        while not self._settled(self._held[0]) and self._app.is_running:
            waited = time.monotonic() - began
            if waited > URGENT_S and self._drop_before_urgent():
                return
            if waited > LIMIT_S:
                self._give_up()
                return
            turns += 1
            await asyncio.sleep(0 if turns < EAGER_TURNS else POLL_S)

    def _settled(self, event: events.Event, of_app: bool = True) -> bool:
        """Whether nothing that `event` can act on is being worked on, or is still to come."""
        app = self._app
        if (of_app and not _rests(app)) or not app.screen_stack:
            return False
        settled = all(_rests(node) for node in _nodes(app)) and _ready(app, event)
        settled = settled and (not isinstance(event, events.MouseEvent) or _laid_out(app))
        self._given_up = self._given_up and not settled
        return settled

    def _next(self) -> events.Event:
        """The next event; letters for a field come as one text, so that a long paste takes no time."""
        letters: list[str] = []
        if _takes_text(self._app.focused):
            for event in self._held:
                if not isinstance(event, events.Key) or not event.is_printable:
                    break
                letters.append(event.character or "")
        if len(letters) < 2:
            return self._held.popleft()
        for _ in letters:
            self._held.popleft()
        return events.Paste("".join(letters))

    def _drop_before_urgent(self) -> bool:
        """Throw away what waits before a key that cannot wait; False when there is none."""
        places = [at for at, event in enumerate(self._held) if isinstance(event, events.Key) and event.key in URGENT]
        for _ in range(places[0] if places else 0):
            self._held.popleft()
        return bool(places)

    def _give_up(self) -> None:
        """Throw away what waits, and hold nothing back until the deck has come to rest."""
        count = len(self._held)
        self._held.clear()
        self._given_up = True
        self._app.notify(
            f"{count} key{'s' if count > 1 else ''} typed ahead dropped: the deck was busy for {LIMIT_S:.0f} s",
            severity="warning",
            timeout=6,
            markup=False,
        )


def _waits(event: events.Event) -> bool:
    return isinstance(event, (events.InputEvent, events.Paste)) and not isinstance(event, events.MouseMove)


def _takes_text(widget: object) -> bool:
    return isinstance(widget, Input) and widget.type == "text" and not (widget.restrict or widget.max_length)


def _nodes(app: App[Any]) -> Iterator[DOMNode]:
    waiting: list[DOMNode] = [*app.screen_stack]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += node.children


def _rests(pump: MessagePump) -> bool:
    """Whether a pump waits for its next message: its task stands in `Queue.get`, which nothing public tells."""
    queue: asyncio.Queue[Any] = pump._message_queue
    arrival: asyncio.Event | None = getattr(queue, "ready_event", None)
    if arrival is None:  # a Textual with another queue: that it is empty is all that can be known
        return queue.empty()
    return not arrival.is_set() and bool(getattr(arrival, "_waiters", True))


def _nothing_queued(app: App[Any]) -> bool:
    """Whether no message waits behind the one that the app handles now."""
    return app._message_queue.empty() and getattr(app, "_pending_message", None) is None


def _laid_out(app: App[Any]) -> bool:
    """Whether everything on the screen stands where a click will find it."""
    return not any(getattr(app.screen, f"_{what}_required", False) for what in ("layout", "scroll"))


def _ready(app: App[Any], event: events.Event) -> bool:
    """Whether the screen has what `event` acts on, and the palette its list."""
    screen = app.screen
    ready_for = getattr(screen, "ready_for", None)
    if ready_for is not None and not ready_for(event):
        return False
    return all(worker.is_finished or worker.node is not screen for worker in app.workers)
