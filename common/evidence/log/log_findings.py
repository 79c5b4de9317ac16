"""Findings about the log: does it hold the attestation, did it only grow, do the peers know the same log?"""

from __future__ import annotations

from collections.abc import Sequence

from common.errors import EvidenceError
from common.evidence import dsse
from common.evidence.findings import Finding, fails, holds, not_checked
from common.evidence.key_history import KeyHistory
from common.evidence.keys import PinnedKeys
from common.evidence.log.log_bundle import LeavesBundle, ProofBundle, check_bundle, decode_bundle
from common.evidence.log.log_checkpoint import Checkpoint, check_consistency, read_checkpoint
from common.evidence.log.tree_log import check_leaves
from common.evidence.statements import Unlearning


def log_findings(
    document: bytes,
    unlearning: Unlearning,
    keys: PinnedKeys | KeyHistory,
    data: bytes | None,
    peer_checkpoints: Sequence[bytes],
) -> list[Finding]:
    """Check that the log named by the attestation holds it, and that the peers know the same log.

    Args:
        document: payload of the attestation, to which the log commits.
        unlearning: the statement in the attestation.
        keys: public keys that were not obtained with the evidence.
        data: the log bundle's file, or None.
        peer_checkpoints: checkpoint files of peers.
    """
    if data is None:
        return [not_checked("log", "no log bundle given")]
    try:
        bundle = decode_bundle(data)
        # Whoever signed is named below; here it only matters that each signature holds.
        checkpoint, signers = read_checkpoint(bundle.checkpoint, timeless(keys), {})
        index = check_bundle(bundle, checkpoint, document, unlearning.log)
    except EvidenceError as err:
        return [fails("log", err)]

    place = f"leaf {index} of {checkpoint.size} in log {checkpoint.origin!r}"
    findings = [holds("log", f"{place}, which extends the checkpoint in the attestation")]

    # The owner alone can sign two logs, one for each reader.
    if len(set(signers)) > 1:
        findings.append(holds("log checkpoint", f"signed by {', '.join(signers)}"))
    else:
        findings.append(
            fails("log checkpoint", f"signed by {signers[0]} alone, who could show a different log to others")
        )

    return [*findings, *_peer_findings(bundle, checkpoint, unlearning.log, keys, peer_checkpoints)]


def _peer_findings(
    bundle: ProofBundle | LeavesBundle,
    shown: Checkpoint,
    attested: Checkpoint,
    keys: PinnedKeys | KeyHistory,
    peer_checkpoints: Sequence[bytes],
) -> list[Finding]:
    if not peer_checkpoints:
        return [not_checked("peers' checkpoints", "none given: ask another site for the last checkpoint it co-signed")]
    findings = []
    for number, data in enumerate(peer_checkpoints, 1):
        subject = f"peer's checkpoint {number}"
        try:
            peer, signers = read_checkpoint(dsse.decode_envelope(data), timeless(keys), {})
            if set(signers) <= {owner_of(peer.origin)}:
                # The owner may have signed it for this check: it adds nothing to the bundle.
                raise EvidenceError(f"signed only by {signers[0]}, the owner of the log, who is not a peer")

            if peer.size > shown.size and peer.origin == shown.origin:
                # The files alone do not tell a log that was cut from a bundle made before the peer signed.
                raise EvidenceError(
                    f"the log shown ends at {shown.size} leaves, but a peer signed {peer.size}: it was cut short, "
                    "or the bundle is old; ask for a current one"
                )
            # With all leaves any size can be compared; with proofs only the two sizes that the bundle proves.
            if isinstance(bundle, LeavesBundle):
                check_leaves(shown.origin, bundle.encoded, peer)
            elif peer.size == shown.size or peer.origin != shown.origin:
                check_consistency(peer, shown, ())
            elif peer.size != attested.size:
                findings.append(
                    not_checked(
                        subject, f"it has {peer.size} leaves; to compare it, ask for the bundle with all leaves"
                    )
                )
                continue
            elif peer != attested:
                raise EvidenceError(f"the log was forked: two signed roots at {peer.size} leaves")
        except EvidenceError as err:
            findings.append(fails(subject, err))
        else:
            findings.append(
                holds(subject, f"signed by {', '.join(signers)}; the log shown agrees at {peer.size} leaves")
            )

    return findings


def owner_of(origin: str) -> str:
    """Pinned name of a log's owner: a hospital's log is named `site:...`, any other log is the server's."""
    return "site" if origin.startswith("site") else "server"


def timeless(keys: PinnedKeys | KeyHistory) -> PinnedKeys:
    """Keys for a checkpoint, which carries no time: in a key history, those that were never revoked."""
    return keys.unrevoked() if isinstance(keys, KeyHistory) else keys
