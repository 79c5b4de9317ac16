"""The coordinator's side of signed instructions: one signature a site, one digest a message."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from flwr.app import RecordDict

from common.errors import EvidenceError
from common.evidence.keys import PublicKey, SigningKey
from common.instructions import Content, Context, Instruction, content_of, new_nonce, sign_request, verify_reply


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
    """SHA-256 of the CA certificate."""
    sites: Mapping[str, PublicKey]
    now: Callable[[], datetime] = _utc
    nonce: Callable[[], str] = new_nonce

    def sign(
        self, requests: Mapping[str, RecordDict], kind: str, scope: Scope, lifetime: timedelta
    ) -> dict[str, tuple[RecordDict, Instruction]]:
        """Signed messages and their instructions, by site; records that several sites share are read once."""
        contents: dict[int, Content] = {}
        signed = {}
        for site, records in requests.items():
            if id(records) not in contents:
                contents[id(records)] = content_of(records)
            context = Context(self.federation, scope.campaign, scope.step, scope.round, kind, site)
            signed[site] = sign_request(
                records,
                contents[id(records)],
                context,
                self.key,
                issued=self.now(),
                lifetime=lifetime,
                nonce=self.nonce(),
            )
        return signed

    def verify(self, records: RecordDict, instruction: Instruction) -> None:
        """Raise an `EvidenceError` unless `records` are what the site that was asked answered to `instruction`."""
        key = self.sites.get(instruction.context.site)
        if key is None:
            raise EvidenceError("a reply of a site whose key is not pinned")
        verify_reply(records, instruction, key)
