"""The doctor's checks: each states a result and how to fix it. Judging is pure; `processes/probes.py` measures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from rich.table import Table
from rich.text import Text

from common.errors import InputError
from common.files import read_private
from common.printable import printable

Result = Literal["ok", "warn", "fail"]
GIB = 2**30
AHEAD_SECONDS = 5.0
"""Seconds that a node's clock may be ahead: Flower's `SYSTEM_TIME_TOLERANCE`."""
_COLOURS = {"ok": "green", "warn": "yellow", "fail": "bold red"}


@dataclass(frozen=True, slots=True)
class Check:
    """One row of the doctor's table; `remedy` is empty if nothing needs fixing."""

    name: str
    result: Result
    detail: str
    remedy: str = ""


def ok(name: str, detail: str) -> Check:
    """A check that found nothing wrong."""
    return Check(name, "ok", detail)


def validity(name: str, until: datetime, now: datetime, remedy: str, warn_days: int = 30) -> Check:
    """Days until a certificate expires."""
    days = (until - now) / timedelta(days=1)
    if days < 0:
        return Check(name, "fail", f"expired on {until:%Y-%m-%d}", remedy)
    detail = f"{days:.0f} days, until {until:%Y-%m-%d}"

    return Check(name, "warn", detail, remedy) if days < warn_days else ok(name, detail)


def clock(skew_seconds: float, allowed_seconds: float) -> Check:
    """How far this clock is off; positive if it is ahead. More than half of the allowed difference is a warning.

    Flower accepts a node's signatures from the last minutes, but none from the future.
    """
    name = "clock"
    off = abs(skew_seconds)
    if skew_seconds > 0:
        allowed_seconds = min(allowed_seconds, AHEAD_SECONDS)
    detail = f"{off:.0f} s {'ahead of' if skew_seconds > 0 else 'behind'} the coordinator's" if off >= 1 else "agrees"
    remedy = "synchronise this machine's clock (chrony, systemd-timesyncd): signatures are refused when clocks differ"
    if off > allowed_seconds:
        return Check(name, "fail", f"{detail}, {allowed_seconds:.0f} s are allowed", remedy)
    return Check(name, "warn", detail, remedy) if off > allowed_seconds / 2 else ok(name, detail)


def secrets(paths: Sequence[Path]) -> list[Check]:
    """Check that keys and secrets exist and only their owner can read them; one row for each that fails."""
    rows = []

    for path in paths:
        name = f"secret {path.parent.name}/{path.name}"
        try:
            if not read_private(path).strip():
                rows.append(Check(name, "fail", "is empty", "restore the file"))
        except InputError as err:
            rows.append(Check(name, "fail", err.problem, err.remedy))

    return rows or [ok("secrets", f"{len(paths)}, all private")]


def space(name: str, free: int, needed: int, remedy: str) -> Check:
    """Check free bytes against `needed`; fails below half of it."""
    detail = f"{free / GIB:.1f} GiB free"
    if free >= needed:
        return ok(name, detail)
    return Check(name, "fail" if free < needed / 2 else "warn", f"{detail}, {needed / GIB:.0f} GiB advised", remedy)


def up_runs(command: str) -> Check:
    """The row for a folder in which no `up` runs."""
    return Check("up", "warn", "does not run here: nothing is trained, forgotten or announced", f"start it: {command}")


def beat(name: str, age: float | None, limit: float, remedy: str) -> Check:
    """Check that a regular task was done recently."""
    if age is None:
        return Check(name, "fail", "never", remedy)
    detail = f"{age:.0f} s ago"
    return ok(name, detail) if age <= limit else Check(name, "fail", f"{detail}, {limit:.0f} s are allowed", remedy)


def port(name: str, number: int, *, taken: bool, up_runs: bool) -> Check:
    """A port of ours is free, or held while our own `up` runs."""
    name = f"port {number} ({name})"

    if up_runs:
        return (
            ok(name, "held by the running `up`")
            if taken
            else Check(name, "fail", "`up` runs and nothing listens here", "see logs/ for why the process ends")
        )

    if taken:
        return Check(name, "fail", "another process listens here", "stop it, or set another port")
    return ok(name, "free")


def versions(name: str, ours: str, theirs: str) -> Check:
    """Compare FedForget on both sides; a different first or second number is a different wire format."""
    detail = f"{ours} here, {theirs or 'unknown'} there"
    if ours == theirs:
        return ok(name, f"{ours} on both sides")
    if theirs and ours.split(".")[:2] == theirs.split(".")[:2]:
        return Check(name, "warn", detail, "install the same version on both sides")
    return Check(name, "fail" if theirs else "warn", detail, "install the same version on both sides")


def schema(pending: str | None, remedy: str) -> Check:
    """Check the database's schema; `pending` is its revision if it is not the current one."""
    return ok("database", "migrated") if pending is None else Check("database", "fail", f"schema {pending}", remedy)


def log(size: int, problems: Sequence[str], refused: Mapping[str, str], command: str) -> Iterator[Check]:
    """Check the tamper-evident log; `refused` holds the reason for each refused log of others; `command` shows more."""
    if problems:
        remedy = f"{command} verify; keep the folder as it is, and ask the other side for its copy"
        yield Check("log", "fail", problems[0], remedy)
    else:
        yield ok("log", f"{size} leaves hold")

    for origin, reason in refused.items():
        yield Check(f"log of {origin}", "fail", reason, f"{command} show; ask there by telephone before you continue")


def failed(checks: Iterable[Check]) -> bool:
    """Is there one that fails?"""
    return any(check.result == "fail" for check in checks)


def as_rows(checks: Sequence[Check]) -> list[dict[str, Any]]:
    """For programs."""
    return [asdict(check) for check in checks]


def as_table(checks: Sequence[Check]) -> Table:
    """For people."""
    table = Table("check", "result", "found", "how to fix")
    for check in checks:
        result = Text(check.result, style=_COLOURS[check.result])
        table.add_row(Text(printable(check.name)), result, *map(Text, map(printable, (check.detail, check.remedy))))

    return table
