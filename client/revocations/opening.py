"""Opens a site's ledger: loads the secret, migrates the schema, reconciles database and tombstones."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from secrets import token_bytes

from sqlalchemy import Engine, select

from client.consent.kinds import KINDS, read_kind
from client.database import PatientRow, migrate, opened, pending_migration
from client.revocations.ledger import Ledger, Writing
from client.revocations.ledger_queries import Clock, now_utc
from client.revocations.look_alikes.alike import DOUBTFUL, MAY_BE_MEANT, request_of
from client.revocations.revocation import (
    LIFTED,
    Request,
    RevocationStatus,
    Scope,
    Source,
    alike_receipt,
    is_alike,
    is_doubt,
)
from client.revocations.rows.covered import keep_covered, noted_requests
from client.revocations.rows.ledger_rows import of_patients, standing_of
from client.revocations.rows.ledger_rules import covers
from client.revocations.tombstones.earlier_records import take_over
from client.revocations.tombstones.file import TombstoneFile
from client.revocations.tombstones.pseudonyms import Pseudonyms
from client.revocations.tombstones.tombstone import Tombstone, said_in, said_of, stop
from client.revocations.vault import Vault
from client.settings import SiteFolder
from common.errors import CohortError, InputError
from common.learning.records import Subset
from common.platform.keys.private_keys import new_secret
from common.platform.sql import transaction

_log = logging.getLogger("fedforget.ledger")


@contextmanager
def open_ledger(folder: SiteFolder, clock: Clock = now_utc, *, checked: bool = False) -> Iterator[Ledger]:
    """The ledger of a site, with its database migrated and reconciled with the tombstones.

    `checked` says that this process has reconciled them before.

    Raises:
        InputError: the settings, the secret or a file of the site is wrong.
        CohortError: the tombstones are damaged or missing.
        UnavailableError: the database does not answer.
    """
    # A simulated site has no settings.
    settings = folder.settings() if folder.settings_file.exists() else None

    with opened(folder.ledger_url) as engine:
        if not checked and pending_migration(engine) is not None:
            migrate(engine)
        ledger = Ledger(
            folder,
            engine,
            _pseudonyms(folder, engine),
            clock,
            days_to_answer=settings.days_to_answer if settings else None,
            two_person=settings is not None and settings.two_person_approval,
            unlearn_opt_outs=settings is not None and settings.opt_out.unlearn,
            shared_accounts=settings.shared_accounts if settings else (),
            links=settings is not None and bool(settings.linkage.keys),
        )
        if not checked:
            # First the records from before the ledger: they bring tombstones, which are compared next.
            take_over(ledger)
            reconcile(ledger)

        yield ledger


def reconcile(ledger: Ledger) -> None:
    """Reconcile tombstones and database after either was restored, or a process was killed between the two.

    Forms that a killed process left in the vault are removed, unless their revocation was recorded.

    Raises:
        CohortError: the tombstones are damaged, or gone although the database has revocations.
    """
    with ledger.writing() as writing:
        stones = ledger.stones.read()
        statuses = standing_of(writing.session)
        requests_noted = noted_requests(writing.session)
        receipts_here = {s.receipt for s in statuses} | {key[1] for key in stones or () if key not in requests_noted}
        # Under the lock, as a form is in the vault before its revocation is recorded.
        swept = Vault(ledger.folder.vault, token_bytes).sweep(receipts_here)
        if swept:
            _log.warning("%d form(s) of revocations that were never recorded were removed from the vault", swept)
        if stones is None:
            # A missing file looks like a site where nobody has revoked; the database tells the two apart.
            if statuses or requests_noted:
                raise CohortError(
                    "gone, and the ledger holds revocations",
                    where=str(ledger.stones.path),
                    remedy="restore it; or, if it is lost, make an empty file of this name, which is filled again",
                )

            return

        status_of = {(s.pseudonym, s.receipt): s for s in statuses}
        lacking = sorted(stones.keys() - status_of.keys() - requests_noted.keys())
        missing_requests: dict[Request, dict[str, Subset | None]] = defaultdict(dict)
        subsets = ledger.subsets() if lacking else {}
        for pseudonym, receipt in lacking:
            request = _restored(stones[pseudonym, receipt], _hold_of(receipt, pseudonym, receipts_here))
            missing_requests[request][pseudonym] = subsets.get(pseudonym)

        for request, patients in missing_requests.items():
            _take_back(ledger, writing, request, patients)
        # A crash between commit and lift leaves a tombstone too many; a file from an older backup has one too few.
        for key, standing in status_of.items():
            if standing.state in LIFTED and key in stones:
                writing.lifts.append(Tombstone("lift", *key, standing.received))
            elif standing.state not in LIFTED and key not in stones:
                writing.stops.append(Tombstone("stop", *key, standing.received, said_of(request_of(standing))))
        # An earlier release wrote none for them.
        writing.stops += [stop(request, key[0]) for key, request in requests_noted.items() if key not in stones]

    if lacking:
        _log.warning("%d revocation(s) that the database lacked were restored from the tombstones", len(lacking))
    if writing.stops:
        _log.warning("%d tombstone(s) that their file lacked were written again", len(writing.stops))


def _take_back(ledger: Ledger, writing: Writing, request: Request, patients: Mapping[str, Subset | None]) -> None:
    """Record a request that only the tombstones have kept; where another revocation covers it, note it behind that."""
    covered_statuses: dict[str, list[RevocationStatus]] = defaultdict(list)
    if not request.hold or is_doubt(request.receipt):
        for standing in of_patients(writing.session, patients):
            if standing.state not in LIFTED and covers(standing, request):
                covered_statuses[standing.pseudonym].append(standing)

    keep_covered(writing.session, request, covered_statuses)
    ledger.insert(writing, request, {p: subset for p, subset in patients.items() if p not in covered_statuses})


def _hold_of(receipt: str, pseudonym: str, receipts: Container[str]) -> str:
    """Why a restored revocation is on hold, if it is: unlearning cannot be undone, and a doubt stays a doubt."""
    if is_doubt(receipt):
        return "restored: a consent that nobody could judge"
    if is_alike(receipt):
        return MAY_BE_MEANT
    return DOUBTFUL if alike_receipt(receipt, pseudonym) in receipts else ""


def _restored(stone: Tombstone, hold: str) -> Request:
    """The request behind a tombstone, with its original kind, legal basis and recording person."""
    statement = said_in(stone)
    kind = statement.get("kind", "withdrawal")
    scopes = dict[str, Scope](images="images", reports="reports")

    return Request(
        Source("restored", stone.receipt),
        stone.receipt,
        stone.received,
        scope=scopes.get(statement.get("scope", "all"), "all"),
        kind=read_kind(kind, "tombstones") if kind in KINDS else "withdrawal",
        legal_basis=statement.get("basis", ""),
        steward=statement.get("steward", ""),
        identity=statement.get("identity", ""),
        hold=hold,
    )


def _pseudonyms(folder: SiteFolder, engine: Engine) -> Pseudonyms:
    """Pseudonyms from the site's secret, which is created unless something was made with another secret."""
    if not Pseudonyms.has_secret(folder.pseudonym_secret):
        # Under the lock: two processes that start at once must not create two secrets.
        with TombstoneFile(folder.tombstones, "").locked():
            if not folder.pseudonym_secret.exists():
                with transaction(engine) as session:
                    used = session.scalar(select(PatientRow.patient).limit(1)) is not None
                # With another secret, nobody who has revoked would be recognized any more.
                if used or folder.tombstones.exists():
                    raise InputError(
                        "the secret that encrypted the patients' ids is missing",
                        where=str(folder.pseudonym_secret),
                        remedy="restore it from its backup",
                    )

                new_secret(folder.pseudonym_secret)

    return Pseudonyms.of_site(folder.pseudonym_secret)
