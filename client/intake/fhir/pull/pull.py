"""Reading what changed at the hospital's FHIR server, and now and then everything: hooks may be lost, consents not."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy.exc import SQLAlchemyError

from client.intake.fhir.intake import Intake
from client.intake.fhir.pull.page import Page
from client.intake.fhir.pull.set_aside import set_aside
from client.intake.fhir.resources import IncomingConsent, read_incoming
from client.intake.fhir.server import FhirServer
from client.intake.fhir.store.listings import note_gone, note_listed
from client.intake.fhir.store.values import Progress
from client.intake.fhir.strict_json import UnusableResourceError
from common.errors import FedForgetError, WireError

PAGE = 200
"""Resources that are asked for at a time."""
_MOST_PASSES = 5
_SKEW = timedelta(minutes=5)
_MOST_SKEW = timedelta(days=1)
"""By which a server's clock may be ahead; a date beyond that is a slip of somebody's pen."""

_log = logging.getLogger("fedforget.fhir")


@dataclass(frozen=True, slots=True)
class Pulled:
    """What a pull found: numbers only.

    Attributes:
        read: versions that the server gave.
        new: of these, not known before.
        unusable: consents that cannot be handled, such as without a proper id; their patients are on hold.
        revoked: withdrawals that became revocations.
        others: entries of another kind, which a search for consents does not ask for.
    """

    read: int
    new: int
    unusable: int
    revoked: int
    others: int = 0


@dataclass(frozen=True, slots=True)
class Differences:
    """What a reconciliation found: numbers only.

    Attributes:
        pulled: as of a pull; its `new` versions are those that hooks and pulls had missed.
        gone: consents that are known here and that the server lists no more.
    """

    pulled: Pulled
    gone: int


def pull(server: FhirServer, intake: Intake, overlap: timedelta) -> Pulled:
    """Read what changed since the last pull, less an overlap; the cursor moves when all of it is on the disk.

    The first pull reads everything and takes it as it stands. Later ones fetch the versions in between too, so that a
    withdrawal that was taken back is still seen.

    Raises:
        UnavailableError: the server does not answer; what was read till then is kept, and counts but in a first pull.
        RefusedError: it refuses us.
        WireError: its answer is not what FHIR says.
        InputError: the patient map, or a file of the site.
    """
    before = intake.store.progress(server.base)
    # Before the first page: what changes while pages are read belongs to the next pull.
    start = intake.clock()
    since = {} if before.cursor is None else {"_lastUpdated": f"ge{_instant(before.cursor - overlap)}"}
    reading = _Reading(server, intake, before.baseline)

    try:
        reading.whole(since)
    except (FedForgetError, SQLAlchemyError):
        # A first pull that breaks off judges nobody: half of the consents may say what all of them do not.
        if before.baseline is not None:
            intake.settle()
        raise

    # Not beyond now: one version with a date in the future would hide all that follow.
    now = min(start, reading.date or start)
    moments = [min(moment, start) for moment in (before.cursor, reading.latest) if moment is not None]
    baseline = before.baseline or reading.latest or now
    reconciled_at = before.reconciled if since else start
    intake.store.set_progress(server.base, Progress(max(moments, default=None), baseline, start, reconciled_at))
    note_listed(intake.store.engine, reading.resources)

    # After the baseline: in a first pull nobody is judged by what one consent said before another was written.
    return reading.found(intake.settle())


def reconcile(server: FhirServer, intake: Intake, overlap: timedelta) -> Differences:
    """Pull, then read everything: what was missed is taken in, what is gone is noted. Raises as `pull`."""
    pull(server, intake, overlap)
    # Before the walk: a consent that a hook brings meanwhile is not missing.
    versions_here = intake.store.resources()
    start = intake.clock()
    progress = intake.store.progress(server.base)
    reading = _Reading(server, intake, progress.baseline)

    try:
        reading.whole({})
    finally:
        revocation_count = intake.settle()

    intake.store.set_progress(server.base, dataclasses.replace(progress, reconciled=start))
    note_listed(intake.store.engine, reading.resources)
    note_gone(intake.store.engine, reading.resources, start)

    return Differences(reading.found(revocation_count), len(versions_here - reading.resources))


class _Reading:
    """One walk through a server's pages, and what it found."""

    def __init__(self, server: FhirServer, intake: Intake, baseline: datetime | None) -> None:
        self._server = server
        self._intake = intake
        self._baseline = baseline
        self.read = self.new = self.unusable = self.others = 0
        self.latest: datetime | None = None
        self.date: datetime | None = None
        """The server's clock at the first page."""
        self.resources: set[str] = set()

    def found(self, revoked: int) -> Pulled:
        """The numbers."""
        return Pulled(self.read, self.new, self.unusable, revoked, self.others)

    def whole(self, parameters: dict[str, str]) -> None:
        """Keep all that a search finds, also where it changes meanwhile.

        A consent that changes while pages are turned moves to the end, and another slips to a page that was read
        already: several pages are read again until nothing new is among them.

        Raises:
            WireError: the server says that it gave less than all; what it gave is kept.
        """
        for _ in range(_MOST_PASSES):
            new = self.new
            if self._all_pages(parameters) < 2 or self.new == new:
                break

    def _all_pages(self, parameters: dict[str, str]) -> int:
        """Returns how many pages there were."""
        pages = problems = self.unusable = self.others = 0

        for page in self._server.search({"_sort": "_lastUpdated", "_count": str(PAGE), **parameters}):
            self._look_at_clock(page.date)
            self._keep(page)
            problems += page.problems
            self.others += page.others
            pages += 1

        if problems:
            raise WireError(f"{self._server.base}: says that its answer is incomplete; see its log")
        return pages

    def _look_at_clock(self, date: datetime | None) -> None:
        if self.date is None and date is not None:
            self.date = date
            skew = (date - self._intake.clock()).total_seconds()
            if abs(skew) > _SKEW.total_seconds():
                _log.warning("the FHIR server's clock is off by %.0f s against this one", skew)

    def _keep(self, page: Page) -> None:
        readable, aside = self._sorted(page)
        self.unusable += len(aside)
        earlier = [version for last in readable if self._has_gap(last) for version in self._history(last.resource)]
        # Together: a version on the disk without those before it would look as if they had been read.
        versions = self._intake.keep_each([*earlier, *readable])
        self._intake.keep_each(aside)
        self.read += len(versions)
        self.new += sum(version.is_new for version in versions)
        self.resources |= {version.resource for version in (*readable, *aside)}
        end = self._intake.clock() + _MOST_SKEW
        moments = [version.updated for version in readable if version.updated is not None and version.updated < end]
        self.latest = max([*moments, *([self.latest] if self.latest else [])], default=None)

    def _sorted(self, page: Page) -> tuple[list[IncomingConsent], list[IncomingConsent]]:
        """What can be read, and stand-ins for what cannot: one consent must not cost the others."""
        readable = []
        aside = [set_aside(resource, *self._server.bases) for resource in page.unclear]
        bases = self._server.bases

        for resource in page.consents:
            try:
                readable.append(read_incoming(resource, *bases))
            except UnusableResourceError:
                aside.append(set_aside(resource, *bases))
            except Exception as error:  # noqa: BLE001 - whatever one of them provokes
                _log.error("a consent of the server cannot be read (%s): set aside", type(error).__name__)
                aside.append(set_aside(resource, *bases))

        return readable, aside

    def _has_gap(self, last: IncomingConsent) -> bool:
        """May a version since the first pull be unknown, also below one that a hook carried?"""
        if self._baseline is None or (last.updated is not None and last.updated < self._baseline):
            return False
        # Versions without numbers cannot be counted: only the history tells.
        if not last.version.isdecimal():
            return True
        versions_here = self._intake.store.known_versions(last.resource)
        for number in range(int(last.version) - 1, 0, -1):
            if (stored_time := versions_here.get(str(number))) is None:
                return True
            if stored_time <= self._baseline:
                return False

        return False

    def _history(self, consent: str) -> list[IncomingConsent]:
        versions = [version for page in self._server.history(consent) for version in self._sorted(page)[0]]
        return [version for version in versions if version.resource == consent]


def _instant(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
