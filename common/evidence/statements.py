"""Signed documents: in-toto Statements (https://github.com/in-toto/attestation, v1) of a revocation or an unlearning.

The predicate types are names: they are compared letter by letter and never fetched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from common.errors import EvidenceError
from common.evidence.canonical import Json, canonical, parse_canonical
from common.evidence.log.log_checkpoint import Checkpoint
from common.evidence.schema import (
    check_digest,
    check_sorted,
    check_text,
    check_time,
    from_json,
    to_json,
)
from common.evidence.statement_parts import (
    Decision,
    FrozenEncoders,
    Method,
    Metric,
    ModelFile,
    Overruled,
    Replay,
    Retention,
    SiteFigures,
)

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
REVOCATION_TYPE = "https://fedforget.org/revocation/v1"
UNLEARNING_TYPE = "https://fedforget.org/unlearning/v1"


@dataclass(frozen=True, slots=True)
class Revocation:
    """A consent was revoked. Nobody is named: the subject is a salted commitment to the consent document.

    Attributes:
        document: commitment to the consent document; document and salt stay in the site's erasable vault.
        request: random id of the request, never derived from the patient.
        site: the hospital that received it.
        source: the channel by which it arrived.
        legal_basis: e.g. `GDPR 7(3)`.
        requester: role of the requester, e.g. `patient` or `guardian`.
        identity_check: how the requester's identity was established.
        modalities: what must no longer be used, sorted: `images`, `reports`.
        policies: codes of the withdrawn consent policies, sorted; empty means all.
        received, effective, due: UTC times.
        kind: the kind of request; `withdrawal` is the default and not written, as all statements before kinds were.
    """

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
    kind: Literal["withdrawal", "objection", "erasure", "opt-out"] = "withdrawal"

    def __post_init__(self) -> None:
        check_digest(self.document, "document")
        for name in ("request", "site", "legal_basis", "requester", "identity_check"):
            check_text(getattr(self, name), name)
        for name in ("received", "effective", "due"):
            check_time(getattr(self, name), name)
        check_sorted(self.modalities, "modalities")
        check_sorted(self.policies, "policies")
        if not self.modalities or not {"images", "reports"}.issuperset(self.modalities):
            raise EvidenceError("modalities must be images, reports or both")
        if self.due <= self.received:
            raise EvidenceError("due is not after received")


@dataclass(frozen=True, slots=True)
class Unlearning:
    """An unlearning: what was done, for which revocations, with what results and limits.

    Attributes:
        campaign: id of the campaign.
        issued: UTC time.
        revocations: SHA-256 of the payloads of the revocation statements, sorted.
        lineage: SHA-256 of earlier models, oldest first; the last is the parent of the new model.
        figures: digests of each site's full report, sorted by site.
        code: SHA-256 of the approved app.
        limits: what the figures do not show; never empty.
        log: checkpoint of the log that holds the revocations and the events of the campaign.
        locked_until: UTC time until which weights of earlier models are kept under lock; empty if there are none or the
            statement does not say.
        replays: the weights each site started from and returned, sorted by site; empty in statements of earlier
            versions, and for a retrained model.
        overruled: that a person published the model against a verdict or a veto; None if nobody did.
        frozen: for exact forgetting, and for nothing else.
    """

    campaign: str
    issued: str
    revocations: tuple[str, ...]
    lineage: tuple[str, ...]
    method: Method
    retention: Retention
    metrics: tuple[Metric, ...]
    figures: tuple[SiteFigures, ...]
    code: str
    decision: Decision
    limits: tuple[str, ...]
    log: Checkpoint
    locked_until: str = ""
    replays: tuple[Replay, ...] = ()
    overruled: Overruled | None = None
    frozen: FrozenEncoders | None = None

    def __post_init__(self) -> None:
        if (self.method.name == "exact") != (self.frozen is not None):
            raise EvidenceError("exact forgetting, and no other method, states which encoders are frozen")
        if self.decision.outcome == "exact" and self.frozen is None:
            raise EvidenceError("the outcome exact rests on frozen encoders, of which the statement says nothing")
        if self.locked_until:
            check_time(self.locked_until, "locked_until")
        check_sorted(tuple(replay.site for replay in self.replays), "replays")
        check_text(self.campaign, "campaign")
        check_time(self.issued, "issued")
        check_digest(self.code, "code")
        for name in ("revocations", "lineage"):
            for index, digest in enumerate(getattr(self, name)):
                check_digest(digest, f"{name}[{index}]")

        check_sorted(self.revocations, "revocations")
        check_sorted(tuple(figures.site for figures in self.figures), "figures")
        for name in ("revocations", "lineage", "metrics", "limits"):
            if not getattr(self, name):
                raise EvidenceError(f"{name} is empty")

    @property
    def parent(self) -> str:
        """Digest of the model that was unlearned."""
        return self.lineage[-1]


def revocation_statement(revocation: Revocation) -> bytes:
    """Payload to sign for a revocation."""
    predicate = to_json(revocation)
    document = predicate.pop("document") if isinstance(predicate, dict) else None
    return _statement([{"name": "consent-document", "digest": {"hmacSha256": document}}], REVOCATION_TYPE, predicate)


def read_revocation(payload: bytes) -> Revocation:
    """The revocation in a payload, or an `EvidenceError`."""
    match _open(payload, REVOCATION_TYPE):
        case [{"digest": {"hmacSha256": document}}], dict(predicate):
            revocation = from_json(Revocation, {**predicate, "document": document}, "predicate")
            # Writing it again must give the same bytes, or something in the payload was signed and not read.
            if revocation_statement(revocation) == payload:
                return revocation

    raise EvidenceError("the subject must be one commitment to a consent document")


def unlearning_statement(models: tuple[ModelFile, ...], unlearning: Unlearning) -> bytes:
    """Payload to sign for an unlearning whose new model is `models`, sorted by name."""
    check_sorted(tuple(model.name for model in models), "subject")
    if not models:
        raise EvidenceError("subject is empty")
    subjects: list[Json] = [{"name": model.name, "digest": {"sha256": model.sha256}} for model in models]

    return _statement(subjects, UNLEARNING_TYPE, to_json(unlearning))


def read_unlearning(payload: bytes) -> tuple[tuple[ModelFile, ...], Unlearning]:
    """Model files and predicate in a payload, or an `EvidenceError`."""
    subjects, predicate = _open(payload, UNLEARNING_TYPE)
    models = []

    for index, subject in enumerate(subjects):
        match subject:
            case {"name": str(name), "digest": {"sha256": str(digest)}}:
                models.append(ModelFile(name, digest))
            case _:
                raise EvidenceError(f"subject[{index}] must be a file name with its SHA-256")

    unlearning = from_json(Unlearning, predicate, "predicate")
    # Writing it again must give the same bytes: whatever was ignored above would be signed and unseen.
    if unlearning_statement(tuple(models), unlearning) != payload:
        raise EvidenceError("subject has unknown fields")
    return tuple(models), unlearning


def _statement(subjects: list[Json], predicate_type: str, predicate: Json) -> bytes:
    return canonical(
        {"_type": STATEMENT_TYPE, "subject": subjects, "predicateType": predicate_type, "predicate": predicate}
    )


def _open(payload: bytes, predicate_type: str) -> tuple[list[Json], Json]:
    match parse_canonical(payload):
        # `rest` must be empty: a fifth field would be signed and unseen.
        case {"_type": kind, "subject": list(subjects), "predicateType": name, "predicate": predicate, **rest} if (
            not rest
        ):
            if kind != STATEMENT_TYPE or name != predicate_type:
                raise EvidenceError(f"not a statement of type {predicate_type}")
            return subjects, predicate

    raise EvidenceError("not an in-toto Statement with exactly its four fields")
