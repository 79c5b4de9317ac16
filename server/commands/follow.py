"""Following a campaign: a live table on a terminal, a line for each change elsewhere, events as JSON for programs."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from common.errors import UnavailableError
from common.platform.processes.up_lock import is_up, start_command
from common.platform.terminal.console import Terminal, fields_table, rows_table, show
from common.printable import printable
from server.campaign.description import details, doing
from server.campaign.progress_text import headline
from server.rounds.exchanges.progress import Progress, read_progress
from server.rounds.states import CampaignState
from server.settings import Terms

if TYPE_CHECKING:
    from server.campaign.context import CoordinatorContext
    from server.database import CampaignRow

POLL_SECONDS = 1.0
AGAIN_SECONDS = 30.0
"""A line is repeated after this, with the time that has passed, where nothing has changed."""
UP_SECONDS = 30.0
"""So long nobody has to run `up` before following ends: it may be starting, or be restarted."""


class Follower:
    """Prints what a campaign does until it has ended.

    Args:
        house: the coordinator's folder.
        as_json: print events as JSON lines on standard error, and the result on standard output.
        pause: waits so many seconds.
        console: of people; standard error.
    """

    def __init__(
        self,
        house: CoordinatorContext,
        *,
        as_json: bool,
        pause: Callable[[float], None] = time.sleep,
        console: Console | None = None,
    ) -> None:
        self._house = house
        self._as_json = as_json
        self._pause = pause
        self._console = console or Terminal(stderr=True, markup=False)
        self._key: tuple[object, ...] = ()
        self._last: tuple[object, ...] = ()
        self._said_at: datetime | None = None
        self._down_since: datetime | None = None

    def follow(self, number: int) -> None:
        """Print until campaign `number` has ended, and then all about it.

        Raises:
            UnavailableError: it ended without a version, or no `up` runs here that could carry it on.
        """
        live = self._console.is_terminal and not self._as_json

        if live:
            with Live(console=self._console, refresh_per_second=4, transient=True) as screen:
                facts = self._until_ended(
                    number, lambda row: screen.update(Group(drawn(row), Text(printable(row["now"]))))
                )
        else:
            facts = self._until_ended(number, self._print_change)

        facts.pop("now")
        show(facts, drawn(facts), as_json=self._as_json)
        if facts["state"] != CampaignState.PUBLISHED:
            raise UnavailableError(f"campaign {number} is {facts['state']}: {facts['reason']}")

    def next_campaign(self) -> int:
        """The number of the campaign after the last one, once it is planned.

        Raises:
            UnavailableError: no `up` runs here that could plan it.
        """
        store = self._house.store
        last = max((row.number for row in store.all()), default=0)

        while (row := store.open()) is None or row.number <= last:
            text = self._up_or_fail("no campaign is planned yet") or "waiting for a campaign to be planned"
            self._say((text,), {"campaign": None, "state": None, "text": text})
            self._pause(POLL_SECONDS)

        return row.number

    def _until_ended(self, number: int, tell: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        while True:
            row = self._house.store.get(number)
            facts = details(self._house, number)
            is_ended = CampaignState(row.state).ended
            trouble = None if is_ended else self._up_or_fail(f"campaign {number} is {row.state}")
            progress = read_progress(self._house.store.work, number, row.attempt)
            facts["now"] = trouble or ("ended" if is_ended else doing(row, progress, self._house.store.clock()))
            self._key = (row.state, row.reason, row.attempt, trouble, progress and _without_times(progress, row))
            tell(facts)
            if is_ended:
                return facts
            self._pause(POLL_SECONDS)

    def _print_change(self, facts: dict[str, Any]) -> None:
        number = facts["number"]
        state = facts["state"]
        text = facts["now"]
        self._say(self._key, {"campaign": number, "state": state, "text": text, "progress": facts["progress"]})

    def _say(self, key: tuple[object, ...], event: dict[str, Any]) -> None:
        now = self._house.store.clock()
        waiting_seconds = 0.0 if self._said_at is None else (now - self._said_at).total_seconds()
        if key == self._last and waiting_seconds < AGAIN_SECONDS:
            return
        self._last = key
        self._said_at = now

        if self._as_json:
            line = json.dumps({"at": now.isoformat(), **event})
        else:
            of = "" if event["campaign"] is None else f"campaign {event['campaign']} {event['state']}: "
            line = printable(f"{now:%H:%M:%S} {of}{event['text']}")

        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()

    def _up_or_fail(self, what: str) -> str | None:
        """What keeps the campaign from going on, if it is the coordinator itself."""
        now = self._house.store.clock()
        root = self._house.folder.root

        if is_up(root):
            self._down_since = None
            # A coordinator that hangs still holds the lock of `up`: only its tick shows it.
            tick = self._house.folder.tick
            age = tick.age()
            if age is not None and age > tick.limit:
                return f"the coordinator has done nothing for {age:.0f} s: see {root / 'logs' / 'coordinator.jsonl'}"
            return None

        self._down_since = self._down_since or now
        advice = f"no `up` runs here, and nothing goes on without it: {start_command('server', root)}"
        if (now - self._down_since).total_seconds() >= UP_SECONDS:
            raise UnavailableError(f"{what}, and {advice}")
        return advice


def _without_times(progress: Progress, row: CampaignRow) -> tuple[object, ...]:
    # With the seconds, which differ at each poll, every poll would print a line.
    return headline(progress, Terms.model_validate(row.settings)), progress.waiting, progress.left_out


def drawn(facts: dict[str, Any]) -> Group:
    """`details` for people."""
    empty = {name for name in ("overruled", "warning", "acceptance", "decision") if not facts[name]}
    # The decision names the outcome, the acceptance the grounds.
    hidden = {"steps", "events", "progress", "now", "grounds", "outcome", *empty}
    fields = {name: value for name, value in facts.items() if name not in hidden}
    if facts["acceptance"]:
        fields["acceptance"] = facts["acceptance"]
    events = rows_table(("at", "what", "site", "detail"), (event.values() for event in facts["events"]))
    steps = ", ".join(step["step"] for step in facts["steps"]) or "none yet"

    return Group(fields_table(fields), f"finished steps: {steps}", events)
