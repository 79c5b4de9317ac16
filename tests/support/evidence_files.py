"""Freshly made evidence: a site's log, a signed revocation, an attestation and its bundles."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Literal, TypedDict, Unpack

from common.evidence import dsse, statement_parts, statements
from common.evidence.commitment import commitment
from common.evidence.keys import PinnedKeys, SigningKey
from common.evidence.log.log_bundle import LeavesBundle, ProofBundle, make_proof_bundle
from common.evidence.log.log_checkpoint import Checkpoint, cosign, sign_checkpoint
from common.evidence.log.tree_log import Entry, Log, append
from common.evidence.schema import decode, encode

MODEL = b"weights of the new model"
SALT = bytes(range(32))


class RevocationFields(TypedDict, total=False):
    """The fields of a revocation that a test may change."""

    document: str
    request: str
    site: str
    source: Literal["fhir", "form", "opt-out-list", "other-hospital", "tombstone"]
    legal_basis: str
    requester: str
    identity_check: str
    modalities: tuple[str, ...]
    policies: tuple[str, ...]
    received: str
    effective: str
    due: str
    kind: Literal["withdrawal", "objection", "erasure", "opt-out"]


class UnlearningFields(TypedDict, total=False):
    """The fields of an unlearning that a test may change."""

    campaign: str
    issued: str
    revocations: tuple[str, ...]
    lineage: tuple[str, ...]
    metrics: tuple[statement_parts.Metric, ...]
    code: str
    limits: tuple[str, ...]
    log: Checkpoint
    overruled: statement_parts.Overruled | None


@dataclass(frozen=True)
class Evidence:
    """All files of one campaign and the keys that made them."""

    site: SigningKey
    server: SigningKey
    pinned: PinnedKeys
    revocation: bytes
    attestation: bytes
    statement: bytes
    leaves: tuple[bytes, ...]
    checkpoint: dsse.Envelope
    since: Checkpoint
    proofs: ProofBundle

    @property
    def bundle(self) -> bytes:
        return encode(self.proofs)

    @property
    def whole_log(self) -> bytes:
        entries = tuple(decode(Entry, leaf) for leaf in self.leaves)
        return encode(LeavesBundle(self.checkpoint, SALT.hex(), entries))


def a_revocation(**changes: Unpack[RevocationFields]) -> statements.Revocation:
    usual = statements.Revocation(
        document=commitment(b'{"resourceType":"Consent"}', SALT),
        request="7c1c4b1e-8e0b-4d37-9a57-0f2f4d6d3c11",
        site="site-1",
        source="fhir",
        legal_basis="GDPR 7(3)",
        requester="patient",
        identity_check="in person",
        modalities=("images", "reports"),
        policies=(),
        received="2026-11-02T08:14:00Z",
        effective="2026-11-02T08:14:00Z",
        due="2026-12-02T08:14:00Z",
    )
    return replace(usual, **changes)


def an_unlearning(**changes: Unpack[UnlearningFields]) -> statements.Unlearning:
    usual = statements.Unlearning(
        campaign="c-7",
        issued="2026-11-20T10:00:00Z",
        revocations=(hashlib.sha256(b"revocation").hexdigest(),),
        lineage=(hashlib.sha256(b"grandparent").hexdigest(), hashlib.sha256(b"parent").hexdigest()),
        method=statement_parts.Method("forget_mi_calibrated", hashlib.sha256(b"config").hexdigest(), 3),
        retention=statement_parts.Retention(1, ("site-1", "site-2")),
        metrics=(statement_parts.Metric("mia.fused.auc", "0.51", "0.43", "0.59", "0.90", 20, "site"),),
        figures=(statement_parts.SiteFigures("site-1", hashlib.sha256(b"figures").hexdigest()),),
        code=hashlib.sha256(b"code").hexdigest(),
        decision=statement_parts.Decision("accepted", ("the interval lies within the margin",)),
        limits=("loss-based attacks only",),
        log=Checkpoint("site-1", 5, hashlib.sha256(b"root").hexdigest()),
    )
    return replace(usual, **changes)


def make_evidence(site: SigningKey, server: SigningKey, more_leaves: int = 4) -> Evidence:
    pinned = PinnedKeys.of([("site", site.public), ("server", server.public)])
    revocation = statements.revocation_statement(a_revocation())
    log = Log("site-1")
    leaves = []

    def add(document: bytes, kind: str) -> None:
        nonlocal log
        log, leaf = append(log, Entry(commitment(document, SALT), kind, "2026-11-20T09:00:00Z"))
        leaves.append(leaf)

    add(revocation, "revocation")
    for number in range(4):
        add(b"%d" % number, "campaign")
    since = log.checkpoint
    unlearning = an_unlearning(revocations=(hashlib.sha256(revocation).hexdigest(),), log=since)
    files = (statement_parts.ModelFile("model.safetensors", hashlib.sha256(MODEL).hexdigest()),)
    statement = statements.unlearning_statement(files, unlearning)
    add(statement, "attestation")
    for number in range(more_leaves):
        add(b"later %d" % number, "revocation")
    checkpoint = cosign(sign_checkpoint(log.checkpoint, site), server, pinned, "site", None, ())

    return Evidence(
        site,
        server,
        pinned,
        dsse.encode_envelope(dsse.sign(statements.PAYLOAD_TYPE, revocation, site)),
        dsse.encode_envelope(dsse.sign(statements.PAYLOAD_TYPE, statement, site, server)),
        statement,
        tuple(leaves),
        checkpoint,
        since,
        make_proof_bundle(checkpoint, leaves, 5, SALT, since),
    )
