"""Everything that can be checked about an attestation, as findings in plain words. Bytes in, findings out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from common.errors import EvidenceError
from common.evidence import dsse, statements
from common.evidence.acceptance import accepted_by
from common.evidence.countersignature import claims_of
from common.evidence.findings import Finding, Outcome, fails, holds, not_checked
from common.evidence.key_history import KeyHistory
from common.evidence.keys import PinnedKeys
from common.evidence.log.log_findings import log_findings, timeless
from common.evidence.log.opened_leaf import leaf_finding

REQUIRED = {"site": 1, "server": 1}
"""Who must have signed an attestation, unless the auditor asks for others."""
STEWARD = "steward"
"""Pinned name of a hospital's data steward, who signs statements about revocations and no attestation."""

LIMITS = (
    "Each figure was measured by who is named with it. Site figures are self-reported: nobody else can recompute them.",
    "A signature shows who said something and that nobody changed it since. It does not show that it is true.",
    "This is evidence of what was done and measured. It is not a proof that nothing of a patient is left in the model.",
    "An interval that includes 'cannot tell' does not exclude that a stronger attack could tell.",
    "Times are those the signers wrote. The log shows order, not the hour.",
)
"""What no attestation shows, whatever holds."""


@dataclass(frozen=True, slots=True)
class Examination:
    """All findings; what the attestation says, empty unless it is signed; what it does not show; and warnings."""

    findings: tuple[Finding, ...]
    claims: tuple[str, ...]
    limits: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether nothing failed."""
        return all(finding.outcome is not Outcome.FAILS for finding in self.findings)


def examine(
    attestation: bytes,
    keys: PinnedKeys | KeyHistory,
    required: Mapping[str, int] = REQUIRED,
    bundle: bytes | None = None,
    peer_checkpoints: Sequence[bytes] = (),
    models: Mapping[str, str] | None = None,
    revocations: Sequence[bytes] = (),
    leaves: Sequence[bytes] = (),
) -> Examination:
    """Check an attestation; never raises for what is wrong with the evidence.

    Args:
        attestation: the signed file.
        keys: public keys from outside of what is checked; of a history those that had not ended when it was issued.
        required: least number of keys that must have signed, by name; `steward` must have signed the revocations.
        bundle: the log bundle's file.
        peer_checkpoints: checkpoint files that peers hold, got from them and not with the bundle.
        models: SHA-256 of model files at hand, by the name to show.
        revocations: signed revocation statements that the auditor knows of.
        leaves: opened leaves of hospitals' logs.
    """
    try:
        envelope = dsse.decode_envelope(attestation)
        files, unlearning = statements.read_unlearning(envelope.body)
        valid_keys = keys.signing_after(unlearning.issued) if isinstance(keys, KeyHistory) else keys
        of_attestation = {name: least for name, least in required.items() if name != STEWARD}
        signers = dsse.verify(envelope, statements.PAYLOAD_TYPE, valid_keys, of_attestation)
    except EvidenceError as err:
        return Examination(
            (fails("signatures and encoding", err), not_checked("everything else", "see above")), (), LIMITS
        )

    findings = [
        holds("signatures and encoding", f"signed by {', '.join(signers)}; every byte is covered"),
        *_revoked(keys, envelope),
        _evaluator(signers),
        *_models(files, models or {}),
        *_revocations(unlearning, keys, revocations, required),
        *log_findings(envelope.body, unlearning, keys, bundle, peer_checkpoints),
        *(
            leaf_finding(data, timeless(keys), unlearning.campaign, f"opened leaf {number}")
            for number, data in enumerate(leaves, 1)
        ),
    ]
    acceptance = accepted_by(unlearning)
    warnings = (acceptance.warning,) if acceptance is not None and acceptance.warning else ()

    return Examination(tuple(findings), claims_of(unlearning), (*LIMITS, *unlearning.limits), warnings)


def _revoked(keys: PinnedKeys | KeyHistory, envelope: dsse.Envelope) -> list[Finding]:
    if not isinstance(keys, KeyHistory):
        return []
    ids = {signature.keyid for signature in envelope.signatures}
    return [
        not_checked(
            f"key of {record.name}",
            f"revoked at {record.revoked_at}, after the time of issue; whoever took the key could have written an "
            "earlier time, so rely on this signature only if a log shows that the attestation is older",
        )
        for record in keys.keys
        if record.revoked_at is not None and record.key.keyid in ids
    ]


def _evaluator(signers: tuple[str, ...]) -> Finding:
    if "evaluator" in signers:
        return holds("evaluator", "the holder of the evaluator key signed too")
    return not_checked("evaluator", "no evaluator signed: nobody but the parties themselves vouches for the figures")


def _models(files: Sequence[statements.ModelFile], models: Mapping[str, str]) -> list[Finding]:
    if not models:
        return [not_checked("model files", "none given")]
    name_of = {file.sha256: file.name for file in files}
    return [
        holds(f"model file {name}", f"is {name_of[digest]!r} of the attestation, bit by bit")
        if digest in name_of
        else fails(f"model file {name}", "is not among the files that were attested")
        for name, digest in models.items()
    ]


def _revocations(
    unlearning: statements.Unlearning,
    keys: PinnedKeys | KeyHistory,
    revocations: Sequence[bytes],
    required: Mapping[str, int],
) -> list[Finding]:
    if not revocations:
        return [
            not_checked("revocations", f"none given; the attestation names {len(unlearning.revocations)} by digest")
        ]

    findings = []
    for number, data in enumerate(revocations, 1):
        subject = f"revocation {number}"
        try:
            envelope = dsse.decode_envelope(data)
            revocation = statements.read_revocation(envelope.body)
            valid_keys = keys.signing_after(revocation.received) if isinstance(keys, KeyHistory) else keys
            of_revocation = {name: least for name, least in required.items() if name == STEWARD}
            signers = dsse.verify(envelope, statements.PAYLOAD_TYPE, valid_keys, {"site": 1, **of_revocation})
            if hashlib.sha256(envelope.body).hexdigest() not in unlearning.revocations:
                raise EvidenceError("is not among those that the attestation answers")
        except EvidenceError as err:
            findings.append(fails(subject, err))
        else:
            reason = f"signed by {', '.join(signers)}, received {revocation.received}, and answered here"
            findings.append(holds(subject, reason))

    return findings
