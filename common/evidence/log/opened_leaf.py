"""One leaf of a log together with the document it commits to, for an auditor, described in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from common.errors import EvidenceError
from common.evidence.canonical import Json, parse_canonical
from common.evidence.dsse import Envelope
from common.evidence.findings import Finding, fails, holds
from common.evidence.keys import PinnedKeys
from common.evidence.log import merkle
from common.evidence.log.log_bundle import ProofBundle, check_bundle, make_proof_bundle
from common.evidence.log.log_checkpoint import Checkpoint, read_checkpoint
from common.evidence.schema import decode

# Counts in a closing record, in the order in which they are named.
_DELETED = {
    "pixels": "decoded images",
    "embeddings": "embeddings of frozen encoders",
    "studies": "studies with their reports and tokens",
    "references": "files of scores of reference models",
    "fold_scores": "scores by fold models",
    "working": "sets of weights between two steps",
}


@dataclass(frozen=True, slots=True)
class OpenedLeaf:
    """A document of the log in canonical JSON, and the proof that a leaf commits to it."""

    document: str
    proof: ProofBundle


def open_leaf(checkpoint: Envelope, leaves: Sequence[bytes], index: int, document: bytes, salt: bytes) -> OpenedLeaf:
    """The leaf at `index` of exactly the `leaves` that `checkpoint` covers; `salt` opens its commitment."""
    origin = decode(Checkpoint, checkpoint.body).origin
    # The leaf is shown by itself: its growth is proved from the empty log, which everybody knows.
    return OpenedLeaf(document.decode(), make_proof_bundle(checkpoint, leaves, index, salt, _empty(origin)))


def leaf_finding(data: bytes, keys: PinnedKeys, campaign: str, subject: str) -> Finding:
    """Check that an opened leaf is in a log that two parties signed, and say what it records.

    Args:
        data: the file.
        keys: public keys that were not obtained with the evidence.
        campaign: campaign of the attestation; a leaf about another campaign fails.
        subject: name of the file in the finding.
    """
    try:
        evidence = decode(OpenedLeaf, data)
        checkpoint, signers = read_checkpoint(evidence.proof.checkpoint, keys, {})
        document = evidence.document.encode()
        since = _empty(checkpoint.origin)
        index = check_bundle(evidence.proof, checkpoint, document, since)
        value = parse_canonical(document)
        if len(set(signers)) == 1:
            raise EvidenceError(
                f"its checkpoint is signed by {signers[0]} alone, who could show a different log to others"
            )
        if isinstance(value, dict) and str(value.get("campaign", campaign)) != campaign:
            raise EvidenceError(f"is about campaign {value['campaign']}, but the attestation is about {campaign}")
    except EvidenceError as err:
        return fails(subject, err)

    leaf = evidence.proof.leaf
    where = f"leaf {index} of log {checkpoint.origin!r}, written {leaf.time}, signed by {', '.join(signers)}"

    return holds(subject, f"{where}: {in_words(leaf.kind, value)}")


def in_words(kind: str, value: Json) -> str:
    """What a leaf of this kind records, from its document."""
    if not isinstance(value, dict) or kind not in ("access-opened", "access-closed"):
        return kind
    campaign = value.get("campaign")
    if kind == "access-opened":
        return (
            f"campaign {campaign} may read {value.get('patients')} patient(s) who have revoked, in order to forget them"
        )
    return f"campaign {campaign} may no longer read patients who have revoked; {_deleted(value.get('purged'))}"


def _deleted(purged: Json) -> str:
    if not isinstance(purged, dict):
        return "deletions are not recorded, as in logs of earlier releases"
    parts = [f"{purged[name]} {words}" for name, words in _DELETED.items() if name in purged]
    others = [f"{count} {name}" for name, count in sorted(purged.items()) if name not in _DELETED]
    return f"deleted: {', '.join([*parts, *others]) or 'nothing'}"


def _empty(origin: str) -> Checkpoint:
    return Checkpoint(origin, 0, merkle.EMPTY_ROOT.hex())
