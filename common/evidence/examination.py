"""Check everything that can be checked about an attestation: bytes in, findings in plain words out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from common.errors import EvidenceError
from common.evidence import dsse, statement_parts, statements
from common.evidence.countersignature import claims_of
from common.evidence.findings import Finding, Outcome, fails, holds, not_checked
from common.evidence.key_history import KeyHistory
from common.evidence.keys import PinnedKeys
from common.evidence.log.log_findings import log_findings, timeless
from common.evidence.log.opened_leaf import leaf_finding
from common.evidence.outcomes.acceptance import accepted_by
from common.evidence.outcomes.grounds import unsupported
from common.evidence.outcomes.grounds_text import rests_on

REQUIRED = {"site": 1, "server": 1}
"""The parties that must have signed an attestation, unless the auditor names others."""
STEWARD = "steward"
"""Pinned name of a hospital's data steward, who signs revocation statements but no attestation."""

LIMITS = (
    "Each figure was measured by the party named with it. Site figures are self-reported: no one else can check them.",
    "A signature shows who stated something and that it has not been changed since. It does not show that it is true.",
    "This is evidence of what was done and measured. It is not a proof that no trace of a patient is in the model.",
    "An interval that includes 'cannot tell' does not rule out that a stronger attack could tell.",
    "Times are as stated by the signers. The log shows the order of events, not their time.",
)
"""What no attestation shows, even if every check holds."""


@dataclass(frozen=True, slots=True)
class Examination:
    """All findings, the claims of the attestation (empty unless its signatures hold), its limits, and warnings."""

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
    """Check an attestation. Never raises for a fault in the evidence: the fault becomes a finding.

    Args:
        attestation: the signed file.
        keys: public keys that were not obtained with the evidence; of a key history, the keys that had not ended when
            the attestation was issued.
        required: minimum number of keys that must have signed, by name; `steward` applies to the revocations.
        bundle: the log bundle's file.
        peer_checkpoints: checkpoint files obtained from the peers that hold them, not with the bundle.
        models: SHA-256 of the available model files, by the name to show.
        revocations: signed revocation statements that the auditor has.
        leaves: opened leaves of the hospitals' logs.
    """
    # Signatures first: an attestation that fails them says nothing, and none of its claims are shown.
    try:
        envelope = dsse.decode_envelope(attestation)
        files, unlearning = statements.read_unlearning(envelope.body)
        # The stated time of issue is the earliest at which it can have been signed, so keys may not have ended before.
        valid_keys = keys.signing_after(unlearning.issued) if isinstance(keys, KeyHistory) else keys
        # The steward signs revocations and no attestation.
        of_attestation = {name: least for name, least in required.items() if name != STEWARD}
        signers = dsse.verify(envelope, statements.PAYLOAD_TYPE, valid_keys, of_attestation)
    except EvidenceError as err:
        return Examination(
            (fails("signatures and encoding", err), not_checked("everything else", "see above")), (), LIMITS
        )

    findings = [
        holds("signatures and encoding", f"signed by {', '.join(signers)}; the signatures cover every byte"),
        *_revoked(keys, envelope),
        _evaluator(signers),
        *_grounds(unlearning),
        *_models(files, models or {}),
        *_revocations(unlearning, keys, revocations, required),
        *log_findings(envelope.body, unlearning, keys, bundle, peer_checkpoints),
        *(
            leaf_finding(data, timeless(keys), unlearning.campaign, f"opened leaf {number}")
            for number, data in enumerate(leaves, 1)
        ),
    ]
    acceptance = accepted_by(unlearning)
    warnings = [acceptance.warning] if acceptance is not None and acceptance.warning else []
    if unlearning.overruled is not None:
        warnings.append(unlearning.overruled.text)

    return Examination(tuple(findings), claims_of(unlearning), (*LIMITS, *unlearning.limits), tuple(warnings))


def _revoked(keys: PinnedKeys | KeyHistory, envelope: dsse.Envelope) -> list[Finding]:
    if not isinstance(keys, KeyHistory):
        return []
    ids = {signature.keyid for signature in envelope.signatures}
    return [
        not_checked(
            f"key of {record.name}",
            f"revoked at {record.revoked_at}, after the stated time of issue; whoever stole the key could have written "
            "an earlier time, so rely on this signature only if a log shows that the attestation is older",
        )
        for record in keys.keys
        if record.revoked_at is not None and record.key.keyid in ids
    ]


def _evaluator(signers: tuple[str, ...]) -> Finding:
    if "evaluator" in signers:
        return holds("evaluator", "the holder of the evaluator key has signed as well")
    return not_checked("evaluator", "no evaluator signed: only the parties themselves vouch for the figures")


def _grounds(unlearning: statements.Unlearning) -> list[Finding]:
    """Whether the stated grounds carry the stated outcome, for their truth only the signers vouch.

    Statements of earlier versions name none.
    """
    decision = unlearning.decision
    if decision.grounds is None:
        return []
    fault = unsupported(decision.outcome, decision.grounds, unlearning.issued)
    if fault is not None:
        return [fails("grounds", f"they do not carry the outcome `{decision.outcome}`: {fault}")]
    return [holds("grounds", f"`{decision.outcome}` rests on {rests_on(decision.outcome, decision.grounds)}")]


def _models(files: Sequence[statement_parts.ModelFile], models: Mapping[str, str]) -> list[Finding]:
    if not models:
        return [not_checked("model files", "no file given")]
    name_of = {file.sha256: file.name for file in files}
    return [
        holds(f"model file {name}", f"is identical, bit for bit, to {name_of[digest]!r} in the attestation")
        if digest in name_of
        else fails(f"model file {name}", "is not among the attested files")
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
            not_checked(
                "revocations", f"no statement given; the attestation names {len(unlearning.revocations)} by digest"
            )
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
                raise EvidenceError("is not among the revocations that the attestation answers")
        except EvidenceError as err:
            findings.append(fails(subject, err))
        else:
            reason = f"signed by {', '.join(signers)}, received {revocation.received}, and answered by this attestation"
            findings.append(holds(subject, reason))

    return findings
