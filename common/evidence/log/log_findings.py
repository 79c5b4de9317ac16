"""Findings about the log: is the attestation in it, did it only grow, do the peers know the same one."""

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
    """Whether the attestation stands in the log that it names, and whether the peers know the same log.

    Args:
        document: payload of the attestation, as committed to in the log.
        unlearning: what the attestation says.
        keys: public keys from outside.
        data: the log bundle's file, or None.
        peer_checkpoints: checkpoint files of peers.
    """
    if data is None:
        return [not_checked("log", "no log bundle given")]
    try:
        bundle = decode_bundle(data)
        checkpoint, signers = read_checkpoint(bundle.checkpoint, timeless(keys), {})
        index = check_bundle(bundle, checkpoint, document, unlearning.log)
    except EvidenceError as err:
        return [fails("log", err)]

    where = f"leaf {index} of the {checkpoint.size} in log {checkpoint.origin!r}, which grew from the one attested"
    findings = [holds("log", where)]

    if len(set(signers)) > 1:
        findings.append(holds("log checkpoint", f"signed by {', '.join(signers)}"))
    else:
        findings.append(fails("log checkpoint", f"signed by {signers[0]} alone, who could show others another log"))

    return [*findings, *_peer_findings(bundle, checkpoint, unlearning.log, keys, peer_checkpoints)]


def _peer_findings(
    bundle: ProofBundle | LeavesBundle,
    shown: Checkpoint,
    attested: Checkpoint,
    keys: PinnedKeys | KeyHistory,
    peer_checkpoints: Sequence[bytes],
) -> list[Finding]:
    if not peer_checkpoints:
        return [not_checked("peers' checkpoints", "none given: ask another site for the checkpoint it last co-signed")]
    findings = []
    for number, data in enumerate(peer_checkpoints, 1):
        subject = f"peer's checkpoint {number}"
        try:
            peer, signers = read_checkpoint(dsse.decode_envelope(data), timeless(keys), {})
            if set(signers) <= {owner_of(peer.origin)}:
                # Made for the occasion, maybe: it shows nothing that the bundle does not.
                raise EvidenceError(f"signed by {signers[0]} alone, whose own log it is: that is no peer")

            if isinstance(bundle, LeavesBundle):
                check_leaves(shown.origin, bundle.encoded, peer)
            elif peer.size > shown.size and peer.origin == shown.origin:
                raise EvidenceError(
                    f"the log shown ends at {shown.size} leaves, a peer signed {peer.size}: it was cut short, or the "
                    "bundle is old; ask for one of today"
                )
            elif peer.size == shown.size or peer.origin != shown.origin:
                check_consistency(peer, shown, ())
            elif peer.size != attested.size:
                findings.append(
                    not_checked(subject, f"of {peer.size} leaves: to compare it, ask for the bundle with all leaves")
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
    """The pinned name of a log's owner: a hospital's log is named `site:...`, any other is the server's."""
    return "site" if origin.startswith("site") else "server"


def timeless(keys: PinnedKeys | KeyHistory) -> PinnedKeys:
    """Keys for a checkpoint, which carries no time: of a history, those never revoked."""
    return keys.unrevoked() if isinstance(keys, KeyHistory) else keys
