"""The site's log: a leaf for each record of revocations, use and versions, which identifies nobody.

It follows the records, which are written first and durably: the ledger, the uses, and the ends of campaigns.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from client.database import LOG
from client.evidence.console_events import SOURCE, console_records
from client.evidence.log_records import (
    access_records,
    all_in_doubt,
    exemption_records,
    hold_records,
    holding_records,
    receipts_of,
    sources_about,
    statement_of,
)
from client.revocations.revocation import OPEN, State
from client.revocations.vault import Vault
from client.settings import SiteFolder
from common.errors import EvidenceError, InputError
from common.evidence import dsse
from common.evidence.canonical import Json, canonical, parse_canonical
from common.evidence.commitment import commitment
from common.evidence.keys import PublicKey, SigningKey
from common.evidence.log.log_checkpoint import Checkpoint
from common.evidence.log.opened_leaf import open_leaf
from common.evidence.schema import decode, encode, time_text
from common.evidence.statements import (
    PAYLOAD_TYPE,
    Unlearning,
    read_revocation,
    read_unlearning,
)
from common.platform.event_log.store import Clock, EventLog, Record, only, origin_of, signed_by
from common.platform.keys.private_keys import load_signing_key, read_public_key
from common.platform.sql import drop_erased, reading, transaction

_ATTESTED = "attested:"


@dataclass(frozen=True, slots=True)
class SiteLog:
    """The log of the site in `folder`; opened for each use."""

    folder: SiteFolder
    engine: Engine
    clock: Clock

    @property
    def name(self) -> str:
        """Name of the site."""
        return self.folder.settings().name

    @property
    def log(self) -> EventLog:
        """The log itself."""
        return EventLog(LOG, origin_of(self.name), self.clock)

    def key(self) -> SigningKey:
        """The site's signing key; raises like `load_signing_key`."""
        return load_signing_key(self.folder.signing_key, self.folder.passphrase)

    def coordinator(self) -> PublicKey:
        """The coordinator's public key, from the join bundle.

        Raises:
            InputError: the site has not joined.
        """
        return read_public_key(self.folder.coordinator_key, "join the federation first: fedforget-site join")

    def session(self) -> AbstractContextManager[Session]:
        """A transaction."""
        return transaction(self.engine)

    def reading(self) -> AbstractContextManager[Session]:
        """A read-only session: whatever it takes long for keeps nobody from writing."""
        return reading(self.engine)

    def follow(self) -> bool:
        """Log records that the log does not have yet; returns whether there were any.

        Raises:
            InputError: the key cannot be read.
        """
        with self.session() as session:
            # A revocation comes before everything that follows from it; the rest in chronological order.
            at_console = console_records(session, self._last_console_event(session))
            new_records = [*access_records(session), *holding_records(session), *at_console]
            new_records += exemption_records(session)
            later = sorted(new_records, key=lambda record: record[0])
            records = [*self._revocations(session), *hold_records(session), *(record for _, record in later)]
            return self.log.append(session, records, self.key())

    def _last_console_event(self, session: Session) -> int:
        """Number of the newest event of the console that is in the log."""
        numbers = (source.removeprefix(SOURCE) for source in self.log.sources(session, SOURCE))
        return max(map(int, numbers), default=0)

    def audited(self, campaign: int, digest: str, *, read_patients: bool) -> None:
        """Log the digest of the figures reported about a candidate, after the access that they come from.

        Raises:
            EvidenceError: they are about patients to whom no access was opened.
        """
        # The access is a record as well, and comes before what was done with it.
        self.follow()
        document = canonical({"campaign": campaign, "figures": digest})

        with self.session() as session:
            if read_patients and self.log.opened(session, f"access-opened:{campaign}") is None:
                raise EvidenceError(f"campaign {campaign} audits patients to be forgotten without an access on record")
            self.log.append(session, [Record(f"audited:{campaign}:{digest}", "audited", document)], self.key())

    def rehearsed(self, qualification: str, step: str, rehearsals: int, patients: int) -> None:
        """Log that patients who have not revoked are read for rehearsals of a qualification: how many, never who."""
        self.follow()
        at = time_text(self.clock())
        document: dict[str, Json] = {"at": at, "patients": patients, "qualification": qualification}
        document |= {"rehearsals": rehearsals, "step": step}
        # The time is in the document: the same step, done again, is another record.
        source = f"rehearsed:{qualification}:{step}:{hashlib.sha256(canonical(document)).hexdigest()[:16]}"

        with self.session() as session:
            self.log.append(session, [Record(source, "rehearsed", canonical(document))], self.key())

    def reported(self, session: Session, campaign: int, digest: str) -> bool:
        """Whether these figures were reported in that campaign."""
        return self.log.opened(session, f"audited:{campaign}:{digest}") is not None

    def adopted(self, campaign: int, version: str, weights: str, how: str, settled: frozenset[str]) -> None:
        """Log that a campaign's version became the base, and which revocations it answers; the first call counts."""
        self.follow()

        with self.session() as session:
            digests = sorted(self._answered(session, settled))
            document: dict[str, Json] = {"campaign": campaign, "how": how, "version": version, "weights": weights}
            document["revocations"] = [*digests]
            # Where no revocation is answered, a version has only been handed out.
            record = Record(f"ended:{campaign}", how if digests else "adopted", canonical(document))
            self.log.append(session, [record], self.key())

    def attested(self, session: Session, statement: bytes) -> None:
        """Log a signed attestation in full: it is all that this site keeps of a campaign's figures."""
        _, unlearning = read_unlearning(statement)
        source = f"{_ATTESTED}{unlearning.campaign}:{hashlib.sha256(statement).hexdigest()}"
        self.log.append(session, [Record(source, "attested", statement)], self.key())

    def attestations(self, session: Session) -> dict[int, tuple[str, Unlearning]]:
        """Signed attestations by campaign: SHA-256 and content of the statement; the newest counts."""
        records = self.log.vault(session, _ATTESTED)
        statements = [(item.digest, read_unlearning(item.document)[1]) for item in records]
        return {int(unlearning.campaign): (digest, unlearning) for digest, unlearning in statements}

    def statement(self, receipt: str) -> bytes:
        """The signed statement about the revocations under a receipt, to which attestations refer by digest.

        It includes the steward's signature once they have signed.

        Raises:
            InputError: the log cannot open anything about it.
        """
        with self.session() as session:
            record = self.log.opened(session, f"revocation:{receipt}")
            by_steward = self.log.opened(session, steward_source(receipt))

        if record is None:
            raise _not_open()
        envelope = dsse.sign(PAYLOAD_TYPE, record.document, self.key())
        value = None if by_steward is None else parse_canonical(by_steward.document)

        if isinstance(value, dict):
            steward_signature = dsse.Signature(str(value["keyid"]), str(value["sig"]))
            # DSSE envelopes here have their signatures in the order of their keyids (ADR 3).
            both = sorted((*envelope.signatures, steward_signature), key=lambda signature: signature.keyid)
            envelope = dsse.Envelope(envelope.payload, envelope.payload_type, tuple(both))

        return dsse.encode_envelope(envelope)

    def open_leaf(self, position: int) -> bytes:
        """The file of a leaf with its record, under the newest checkpoint that the coordinator co-signed.

        Raises:
            InputError: no such leaf, its record was erased, or the coordinator does not know it yet.
        """
        ours = self.key().public
        coordinator = self.coordinator()

        with self.session() as session:
            record = next((item for item in self.log.vault(session) if item.position == position), None)
            if record is None:
                raise InputError("no such leaf, or its record was erased", remedy="see fedforget-site log show")
            for envelope in self.log.checkpoints(session):
                size = decode(Checkpoint, envelope.body).size
                if size > position and signed_by(envelope, ours) and signed_by(envelope, coordinator):
                    leaves = self.log.leaves(session)[:size]
                    co_signed = only(envelope, ours, coordinator)
                    return encode(open_leaf(co_signed, leaves, position, record.document, record.salt))

        raise InputError("the coordinator has not co-signed this leaf yet", remedy="try again in a minute of `up`")

    def erase(self, receipt: str) -> None:
        """Permanently erase the records behind a receipt's leaves, and the form that came with it.

        The leaves stay, but can no longer be opened.

        Raises:
            InputError: the log holds nothing about it.
        """
        with self.session() as session:
            # A list, so that every kind is erased, whichever of them the receipt has.
            sources = sources_about(self.log, session, receipt)
            erasures = [self.log.erase(session, source) for source in sources]
        if self._forms.find(receipt) is not None:
            erasures.append(self._forms.erase(receipt))
        if not any(erasures):
            raise _not_open()
        drop_erased(self.engine)

    def settled_before(self, moment: datetime) -> tuple[str, ...]:
        """Settled receipts from before `moment` that were not erased."""
        with self.session() as session:
            pending = {
                receipt
                for receipt, entries in receipts_of(session).items()
                if any(entry.state in OPEN for entry in entries.values())
            }
            statements = [item for item in self.log.vault(session) if item.source.startswith("revocation:")]

        revocations = [read_revocation(item.document) for item in statements]
        return tuple(r.request for r in revocations if r.received < time_text(moment) and r.request not in pending)

    def ended(self, session: Session, campaign: int) -> dict[str, Json] | None:
        """The record logged when a campaign's version was adopted."""
        record = self.log.opened(session, f"ended:{campaign}")
        value = None if record is None else parse_canonical(record.document)
        return value if isinstance(value, dict) else None

    def _answered(self, session: Session, pseudonyms: frozenset[str]) -> Iterator[str]:
        """Digests of the statements about the receipts of these patients' revocations."""
        for receipt, entries in receipts_of(session).items():
            if not pseudonyms.isdisjoint(entries):
                record = self.log.opened(session, f"revocation:{receipt}")
                if record is not None:
                    yield record.digest

    def _revocations(self, session: Session) -> Iterator[Record]:
        receipts = {name: entries for name, entries in receipts_of(session).items() if not all_in_doubt(entries)}
        logged_sources = self.log.known(session, (f"revocation:{receipt}" for receipt in receipts))

        for receipt, entries in receipts.items():
            if f"revocation:{receipt}" in logged_sources:
                continue
            document = self._committed(session, receipt, entries)
            yield Record(f"revocation:{receipt}", "revocation", statement_of(self.name, receipt, entries, document))
            stop_body = canonical({"receipt": receipt, "use": "stopped"})
            yield Record(f"tombstone:{receipt}", "tombstone", stop_body)

        for receipt, entries in receipts.items():
            if any(standing.state is State.READMITTED for standing in entries.values()):
                yield Record(
                    f"readmitted:{receipt}", "readmitted", canonical({"receipt": receipt, "use": "may begin anew"})
                )

    def _committed(self, session: Session, receipt: str, pseudonyms: Iterable[str]) -> str:
        """Commitment to the form of a revocation or, without a form, to its patients' pseudonyms."""
        form = self._forms.find(receipt)
        if form is not None:
            return form.commitment
        # This salt has a name of its own in the vault: a proof about the leaf reveals a different salt.
        salt = self.log.salt_of(session, f"consent:{receipt}")

        return commitment(canonical({"patients": [*sorted(pseudonyms)], "receipt": receipt}), salt)

    @property
    def _forms(self) -> Vault:
        return Vault(self.folder.vault, self.log.random)


def steward_source(receipt: str) -> str:
    """Name in the log of the steward's signature on the statement about a receipt."""
    return f"steward:{receipt}"


def _not_open() -> InputError:
    return InputError("the log cannot open anything about this receipt", remedy="see fedforget-site revocations list")
