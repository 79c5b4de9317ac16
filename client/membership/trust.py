"""What a real site trusts, and how it signs: the coordinator's pinned key, its bounds, the nonces it has seen."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from flwr.app import RecordDict
from sqlalchemy import delete
from sqlalchemy.exc import IntegrityError

from client.database import SeenRow, opened
from client.membership.bounds import check_bounds
from client.settings import CONFIG_FILE, SiteFolder, SiteSettings
from common.errors import RefusedError
from common.evidence.keys import PublicKey, SigningKey
from common.platform.keys.certificates import parse_fingerprint
from common.platform.keys.private_keys import load_signing_key, read_public_key
from common.platform.sql import transaction
from common.protocol.instructions import Instruction, check_instruction, read_instruction, sign_reply


@dataclass(frozen=True, slots=True)
class Trust:
    """Opened for each message, only from the site's own files."""

    settings: SiteSettings
    coordinator: PublicKey
    key: SigningKey
    database: str
    """Its URL."""

    @classmethod
    def open(cls, folder: SiteFolder) -> Trust:
        """Read settings and keys.

        Raises:
            InputError: a file is missing or damaged, or others can read a secret.
        """
        settings = folder.settings()
        coordinator = read_public_key(folder.coordinator_key, "join the federation first: fedforget-site join")
        return cls(settings, coordinator, load_signing_key(folder.signing_key, folder.passphrase), folder.database_url)

    def read(self, records: RecordDict) -> Instruction:
        """The coordinator's instruction in a message, see `read_instruction`."""
        return read_instruction(records, self.coordinator)

    def admit(self, instruction: Instruction, records: RecordDict, kind: str, now: datetime) -> None:
        """Raise unless the instruction may be carried out now; each may be carried out only once, even after a restart.

        Raises:
            RefusedError: for another site or time, beyond the bounds, or seen before.
            EvidenceError: the message holds other bytes than were signed.
        """
        bounds = self.settings.bounds
        max_lifetime = timedelta(hours=bounds.max_lifetime_hours)
        skew = timedelta(seconds=bounds.clock_skew_seconds)
        check_instruction(
            instruction,
            records,
            federation=parse_fingerprint(self.settings.ca_fingerprint, CONFIG_FILE),
            site=self.settings.name,
            kind=kind,
            now=now,
            max_lifetime=max_lifetime,
            skew=skew,
        )
        check_bounds(kind, records, bounds)
        # Last, and before the work: a request that is refused uses up no nonce, and one that is cut short is not
        # repeated (ADR 4).
        # Kept for twice its lifetime: setting back a clock must not make a nonce fresh again.
        self._remember(instruction.nonce, instruction.end + skew + max_lifetime, now)

    def sign(self, records: RecordDict, instruction: Instruction) -> RecordDict:
        """The reply to `instruction`, signed by this site."""
        return sign_reply(records, instruction, self.key)

    def _remember(self, nonce: str, until: datetime, now: datetime) -> None:
        try:
            with opened(self.database) as engine, transaction(engine) as session:
                # Here, so that the table does not grow for ever.
                session.execute(delete(SeenRow).where(SeenRow.expires < now))
                session.add(SeenRow(nonce=nonce, expires=until))
        # The primary key decides, as two processes may have got the same message.
        except IntegrityError:
            raise RefusedError("this instruction was already carried out") from None
