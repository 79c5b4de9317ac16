"""The coordinator's side of signed instructions: one signature a site, one digest a message."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from flwr.app import RecordDict
from sqlalchemy import select
from sqlalchemy.orm import Session

from common.errors import EvidenceError, InputError
from common.evidence.keys import PublicKey, SigningKey
from common.platform.keys.certificates import certificate_fingerprint, read_certificate
from common.platform.keys.private_keys import load_signing_key
from common.protocol.instructions import (
    Content,
    Context,
    Instruction,
    content_of,
    new_nonce,
    sign_request,
    verify_reply,
)
from server.database import SiteRow
from server.settings import ServerFolder


@dataclass(frozen=True, slots=True)
class Scope:
    """What an exchange belongs to; campaign 0 is outside of any."""

    campaign: int = 0
    step: str = ""
    round: int = 0


def _utc() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs requests for sites, and checks their replies against the keys pinned when they enrolled."""

    key: SigningKey
    federation: str
    """Fingerprint of its CA, as `common.platform.keys.certificates.certificate_fingerprint` writes it."""
    sites: Mapping[str, PublicKey]
    now: Callable[[], datetime] = _utc
    nonce: Callable[[], str] = new_nonce

    def sign(
        self, requests: Mapping[str, RecordDict], kind: str, scope: Scope, lifetime: timedelta
    ) -> dict[str, tuple[RecordDict, Instruction]]:
        """Signed messages and their instructions, by site; records that several sites share are read once."""
        contents: dict[int, Content] = {}
        messages = {}

        for site, records in requests.items():
            # By identity: Downlink gives sites with the same base the same records, and digesting a model takes about a
            # second.
            if id(records) not in contents:
                contents[id(records)] = content_of(records)
            context = Context(self.federation, scope.campaign, scope.step, scope.round, kind, site)
            messages[site] = sign_request(
                records,
                contents[id(records)],
                context,
                self.key,
                issued=self.now(),
                lifetime=lifetime,
                nonce=self.nonce(),
            )

        return messages

    def verify(self, records: RecordDict, instruction: Instruction) -> None:
        """Raise an `EvidenceError` unless `records` are what the site that was asked answered to `instruction`."""
        key = self.sites.get(instruction.context.site)
        if key is None:
            raise EvidenceError("a reply of a site whose key is not pinned")
        verify_reply(records, instruction, key)


def open_signer(folder: ServerFolder, session: Session) -> Signer:
    """The coordinator's key, and the keys of the hospitals that may take part.

    Raises:
        InputError: a file is missing or damaged, or others can read a secret.
    """
    try:
        ca = read_certificate(folder.ca_certificate.read_bytes(), str(folder.ca_certificate))
    except OSError:
        raise InputError("cannot read", where=str(folder.ca_certificate), remedy="restore the file") from None

    # Suspended and pending hospitals have no key here, so that nothing they sign is taken.
    rows = session.scalars(select(SiteRow).where(SiteRow.state == "active"))

    return Signer(
        load_signing_key(folder.signing_key, folder.passphrase),
        certificate_fingerprint(ca),
        {row.name: PublicKey.from_pem(row.signing_key.encode()) for row in rows},
    )
