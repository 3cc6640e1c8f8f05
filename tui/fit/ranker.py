"""What the fit screen asks and the newest answer: machine, requirements, ranked plans, and why there are none.

Ranking and explaining run off the screen's loop; what they find comes back on it. Not here: the work itself
(`ranking.py`), showing any of it (`screen.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from textual.message_pump import MessagePump

from engine.api import fit
from engine.api.fit import Machine, Plan, Requirements
from engine.errors import EngineError
from tui.background import Lane
from tui.fit.ranking import Device, Ranking, device_trouble, explain, free_changed, imagine, rank
from tui.text import safe


class Ranker:
    """Ranks models for this machine or an imagined one, again whenever the question or the machine changes."""

    def __init__(
        self,
        owner: MessagePump,
        *,
        on_ranking: Callable[[], None],
        on_explained: Callable[[Plan], None],
        on_failed: Callable[[Exception], None],
    ) -> None:
        self.requirements = Requirements()
        self.ranking: Ranking | None = None
        self.trouble = ""
        """Why the chosen card cannot be planned for."""
        self.imagined = ""
        """The name of the imagined machine; empty for this one."""
        self._machine: Machine | None = None
        self._other: Machine | None = None
        self._measured_s = 0.0
        """When a run last measured what these plans rest on."""
        self._card = ""
        """What the chosen card was called: it may vanish."""
        self._explained: dict[str, Plan] = {}
        self._on_ranking, self._on_explained, self._on_failed = on_ranking, on_explained, on_failed
        self._rank, self._explain = Lane(owner, "rank"), Lane(owner, "explain")

    @property
    def machine(self) -> Machine | None:
        """The machine that is ranked for; None until this one was looked at."""
        return self._other or self._machine

    def saw(self, machine: Machine, measured_s: float = 0.0) -> None:
        """This machine as it is now; ranks again where enough is free or a run measured something since."""
        before, self._machine = self._machine, machine
        news = measured_s != self._measured_s
        self._measured_s = measured_s
        if self._other is None and (before is None or news or free_changed(before, machine)):
            self.rank_again()

    def ask(self, requirements: Requirements) -> None:
        """Rank for other requirements."""
        self.requirements = requirements
        self.rank_again()

    def use(self, device: Device) -> None:
        """Rank for another device of the machine."""
        self._card = safe(fit.card_title(device.gpu)) if device.gpu else ""
        self.ask(device.asked(self.requirements))

    def imagine(self, text: str) -> None:
        """Rank for a machine with the cards in `text`; empty = this one. Raises EngineError for an unknown card."""
        self._other, self.imagined = imagine(text) if text else (None, "")
        self.ask(replace(self.requirements, gpu_uuid=None, device=None))

    def rank_again(self) -> None:
        """Rank with what is free now."""
        machine = self.machine
        if machine is None:
            return
        before, self.trouble = self.trouble, device_trouble(machine, self.requirements, self._card)
        if self.trouble:
            self._take(None)
            if self.trouble != before:
                self._on_failed(EngineError(self.trouble))
        else:
            self._rank.submit(partial(rank, machine, self.requirements, self.imagined), self._ranked, self._on_failed)

    def _ranked(self, ranking: Ranking) -> None:
        if not self.trouble:
            self._take(ranking)

    def _take(self, ranking: Ranking | None) -> None:
        self.ranking = ranking
        self._explained.clear()
        self._on_ranking()

    def known(self, plan: Plan) -> Plan:
        """The plan with its alternatives, where they are worked out."""
        return self._explained.get(plan.model.name, plan)

    def explain(self, plan: Plan) -> None:
        """Work out the alternatives of a plan, unless they are known."""
        if self.ranking is not None and plan.model.name not in self._explained:
            work = partial(explain, plan, self.ranking.machine, self.requirements)
            self._explain.submit(work, self._keep, self._on_failed)

    def _keep(self, plan: Plan) -> None:
        self._explained[plan.model.name] = plan
        self._on_explained(plan)
