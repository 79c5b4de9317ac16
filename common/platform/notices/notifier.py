"""Sends the notices of a day: each at most once on each channel; a failure is logged and tried again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta, tzinfo
from pathlib import Path
from typing import Literal

from common.errors import FedForgetError
from common.platform.notices.channels import ChannelName, Channels
from common.platform.notices.diary import Diary, Entry, Outcome, read_diary, write_diary, writing_alone
from common.platform.notices.notice import Message, Notice, UnansweredError, written

Daily = Literal["digest", "escalation"]
DAILY: tuple[Daily, ...] = ("digest", "escalation")

_LOOK_AGAIN = timedelta(hours=1)

_log = logging.getLogger("fedforget.notices")


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a notice on a channel."""

    kind: str
    channel: ChannelName
    outcome: Outcome
    problem: str = ""


@dataclass(slots=True)
class Notifier:
    """The notices of one house.

    Args:
        root: folder with the diary.
        notice: composes a notice of a kind at a time.
        zone: of the days and of `at`; None: the machine's.
    """

    channels: Channels
    root: Path
    notice: Callable[[Daily, datetime], Notice]
    zone: tzinfo | None = None
    _nothing_before: dict[Daily, datetime] = field(init=False, default_factory=dict)

    def step(self, now: datetime) -> list[Result]:
        """Send what is due.

        Raises:
            FedForgetError: the house's record, a setting or the diary cannot be read or written.
        """
        local = now.astimezone(self.zone)
        if local.time() < time.fromisoformat(self.channels.config.at):
            return []
        return [result for kind in DAILY for result in self._step(kind, now)]

    def send_now(self, now: datetime) -> list[Result]:
        """Send what has not gone out today, whatever the time is; raises like `step`."""
        self._nothing_before.clear()
        return [result for kind in DAILY for result in self._step(kind, now, is_asked=True)]

    def test(self, now: datetime) -> list[Result]:
        """Send a test to everybody who gets notices; it is not in the diary."""
        results = []
        for kind in DAILY:
            for channel in self.channels.of(kind):
                message = written(Notice("test", self.notice(kind, now).house, now), self.channels.config.language)
                results.append(self._sent(kind, channel, message))
        return results

    def preview(self, now: datetime) -> dict[Daily, Message]:
        """What would go out now."""
        return {kind: written(self.notice(kind, now), self.channels.config.language) for kind in DAILY}

    def _step(self, kind: Daily, now: datetime, *, is_asked: bool = False) -> list[Result]:
        if now < self._nothing_before.get(kind, now):
            return []
        day = now.astimezone(self.zone).date()
        channels = self.channels.of(kind)
        diary = read_diary(self.root)

        def due(diary: Diary) -> list[ChannelName]:
            entries = [(name, diary.entries.get(f"{kind}/{name}")) for name in channels]
            return [
                name
                for name, entry in entries
                if entry is None or entry.is_due(day, now) or (is_asked and entry.outcome in ("failed", "nothing"))
            ]

        if not due(diary):
            return []
        notice = self.notice(kind, now)
        has_something = not notice.is_empty or (kind == "digest" and self.channels.config.when_empty)
        if not has_something and kind == "escalation":
            # Later that day an answer may have come near its date.
            self._nothing_before[kind] = now + _LOOK_AGAIN
        message = written(notice, self.channels.config.language)
        results = []

        # Read again under the lock: another process may have sent it since.
        with writing_alone(self.root):
            diary = read_diary(self.root)
            for channel in due(diary):
                if not has_something:
                    results.append(Result(kind, channel, "nothing"))
                    if kind == "digest":
                        self._note(diary, results[-1], now)
                    continue
                # Noted before it is sent: after a kill in between, it is not sent twice.
                self._note(diary, Result(kind, channel, "sending"), now)
                results.append(self._sent(kind, channel, message))
                self._note(diary, results[-1], now)

        return results

    def _sent(self, kind: Daily, channel: ChannelName, message: Message) -> Result:
        try:
            problem = self.channels.send(channel, kind, message)
        except UnansweredError as err:
            _log.error("whether the %s was sent by %s is not known, it is not repeated: %s", message.kind, channel, err)
            return Result(kind, channel, "unknown", str(err))
        except FedForgetError as err:
            _log.error("the %s was not sent by %s: %s", message.kind, channel, err)
            return Result(kind, channel, "failed", str(err))

        _log.log(
            logging.WARNING if problem else logging.INFO, "the %s was sent by %s %s", message.kind, channel, problem
        )
        return Result(kind, channel, "sent", problem)

    def _note(self, diary: Diary, result: Result, now: datetime) -> None:
        key = f"{result.kind}/{result.channel}"
        day = now.astimezone(self.zone).date()
        before = diary.entries.get(key)
        is_same_day = before is not None and before.day == day
        is_over = result.outcome in ("sent", "nothing")
        diary.entries[key] = Entry(
            day=day,
            outcome=result.outcome,
            at=now,
            tries=(before.tries if before and is_same_day else 0) + (result.outcome == "sending"),
            problem=result.problem,
            succeeded=now if is_over else (before.succeeded if before else None),
        )
        write_diary(self.root, diary)
