"""The doctor's checks of the notices: settings, secrets, and what became of the last ones."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from common.errors import FedForgetError
from common.platform.checks import Check, ok
from common.platform.notices.channels import Channels
from common.platform.notices.diary import Entry, read_diary
from common.platform.notices.notifier import DAILY

_LATE = timedelta(hours=36)


def examine_notices(channels: Channels, now: datetime, *, up_runs: bool, opens_secrets: bool) -> Iterator[Check]:
    """A row for each kind of notice on each channel; nothing is sent.

    Args:
        opens_secrets: False where the process cannot read them, as in the console.
    """
    if not channels.config.enabled:
        return
    targets = [(kind, name) for kind in DAILY for name in channels.of(kind)]
    if not any(kind == "digest" for kind, _ in targets):
        remedy = "set [notify.smtp] host and to, or a webhook's url_file"
        yield Check("notices", "fail", "enabled, but the digest goes to nobody", remedy)
    if not any(kind == "escalation" for kind, _ in targets):
        remedy = "set [notify.smtp] deputy, or a webhook's deputy_url_file"
        yield Check("notices to the deputy", "warn", "nobody is told before a due date passes", remedy)

    entries = read_diary(channels.root).entries
    for kind, name in targets:
        title = f"notices: {kind} by {name}"
        try:
            if opens_secrets:
                channels.check(name, kind)
        except FedForgetError as err:
            yield Check(title, "fail", f"{getattr(err, 'where', '')}: {getattr(err, 'problem', err)}", str(err))
            continue
        yield _last(title, entries.get(f"{kind}/{name}"), now, up_runs=up_runs, is_daily=kind == "digest")


def _last(title: str, entry: Entry | None, now: datetime, *, up_runs: bool, is_daily: bool) -> Check:
    if entry is None:
        return ok(title, "set up; none was sent yet")
    if entry.outcome == "failed":
        since = f"; the last one went out on {entry.succeeded:%Y-%m-%d}" if entry.succeeded else ""
        detail = f"failed on {entry.at:%Y-%m-%d %H:%M} UTC, try {entry.tries}: {entry.problem}{since}"
        return Check(title, "warn", detail, "`notify test` tries it at once; it is tried again within the hour")
    if entry.outcome in ("unknown", "sending"):
        detail = f"not known whether that of {entry.day} arrived: {entry.problem or 'it was interrupted'}"
        return Check(title, "warn", detail, "`notify test` tries it; the next one goes out tomorrow")
    if is_daily and up_runs and now - entry.at > _LATE:
        return Check(title, "warn", f"the last one is of {entry.day}", "see logs/notices.jsonl")
    outcome = "sent" if entry.outcome == "sent" else "nothing to say"

    return ok(title, f"{outcome} on {entry.day}")
