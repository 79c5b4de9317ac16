"""What an attestation says, put together from the record of its campaign and version. Reads only."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from common.evidence import statement_parts, statements
from common.evidence.log.log_checkpoint import Checkpoint
from common.evidence.schema import decimal_text, time_text
from common.learning.evaluation.figures import FederationFigures, reported_digest
from common.protocol.bundle import bundle_of
from server.attestation.overruling import overruled
from server.attestation.withheld import limits_of
from server.database import AttestationRow, CampaignRow, PhaseRow, VersionRow
from server.registry.manifest import MANIFEST_FILE, Manifest, Metric
from server.settings import Terms

WEIGHTS = "weights"
"""Subject whose SHA-256 is over names, types, shapes and bytes of all tensors: a site computes it without the file."""
_UNLEARN = "unlearn:"
_MODEL_FILE = "model.safetensors"


def compose(session: Session, row: AttestationRow, log: Checkpoint, issued: datetime) -> bytes:
    """The statement to sign, as canonical JSON.

    Args:
        session: of the coordinator's database.
        row: with the answer of every site.
        log: newest checkpoint of the coordinator's log, in which the campaign stands.
        issued: now.
    """
    campaign = session.get_one(CampaignRow, row.campaign)
    version = session.get_one(VersionRow, row.version)
    manifest = Manifest.model_validate(version.manifest)
    terms = Terms.model_validate(campaign.settings)
    how = str(_body(session, campaign.number, "published")["how"])
    is_retrained = how in {"retrained", "exact"}
    revocations = sorted({digest for digests in row.sites.values() for digest in digests or ()})
    files = {**manifest.files, MANIFEST_FILE: version.manifest_digest, WEIGHTS: manifest.weights}
    unlearning = statements.Unlearning(
        campaign=str(campaign.number),
        issued=time_text(issued),
        revocations=tuple(revocations),
        lineage=_lineage(session, campaign.parent),
        method=statement_parts.Method(
            how if is_retrained else terms.experiment.unlearn.method,
            manifest.provenance.config,
            terms.experiment.seed,
        ),
        retention=_retention(session, campaign.number, 0 if is_retrained else manifest.provenance.round),
        metrics=(_answered(len(revocations)), *_metrics(manifest)),
        figures=_figures(session, campaign.number, f"audit:{how}" if is_retrained else "audit"),
        code=bundle_of(manifest.provenance.code).digest,
        decision=_exact_decision(session, campaign.number, manifest, terms)
        if how == "exact"
        else _decision(session, campaign, manifest, terms, retrained=is_retrained),
        limits=(
            *_limits(manifest, retrained=is_retrained),
            *(() if is_retrained else _unreplayable(session, campaign.number)),
            *limits_of(session, row),
        ),
        log=log,
        locked_until=_locked_until(session, campaign.parent, terms.policy.quarantine_days),
        replays=() if is_retrained else _replays(session, campaign, terms.experiment.seed),
        overruled=overruled(session, campaign.number),
        frozen=_frozen(session, campaign.number) if how == "exact" else None,
    )

    return statements.unlearning_statement(
        tuple(statement_parts.ModelFile(name, files[name]) for name in sorted(files)), unlearning
    )


def _body(session: Session, campaign: int, step: str) -> dict[str, object]:
    row = session.scalars(select(PhaseRow).where(PhaseRow.campaign == campaign, PhaseRow.step == step)).first()
    return {} if row is None else row.body


def _lineage(session: Session, name: str | None) -> tuple[str, ...]:
    digests: list[str] = []
    while name is not None:
        row = session.get_one(VersionRow, name)
        manifest = Manifest.model_validate(row.manifest)
        digests.insert(0, manifest.files.get(_MODEL_FILE, manifest.weights))
        name = row.parent

    return tuple(digests)


def _locked_until(session: Session, name: str | None, days: float) -> str:
    """When the last weights go that are kept in quarantine, of this version and of those before it."""
    since: list[datetime] = []

    while name is not None:
        row = session.get_one(VersionRow, name)
        if row.state == "quarantined" and row.weights_deleted is None:
            since.append(row.state_since)
        name = row.parent

    return time_text(max(since) + timedelta(days=days)) if since else ""


def _retention(session: Session, campaign: int, rounds: int) -> statement_parts.Retention:
    retain_studies = _body(session, campaign, "collect").get("retain_studies", {})
    sites = sorted(retain_studies) if isinstance(retain_studies, dict) else []
    return statement_parts.Retention(rounds, tuple(sites)) if rounds and sites else statement_parts.Retention(0, ())


def _replays(session: Session, campaign: CampaignRow, seed: int) -> tuple[statement_parts.Replay, ...]:
    """Of the sites that committed to their cohort; those of an earlier version did not."""
    from server.rounds.unlearning.at_sites import Unlearned  # noqa: PLC0415 - torch, which listings do not need

    if campaign.parent is None:
        return ()
    parent = Manifest.model_validate(session.get_one(VersionRow, campaign.parent).manifest).weights
    rows = session.scalars(
        select(PhaseRow).where(PhaseRow.campaign == campaign.number, PhaseRow.step.startswith(_UNLEARN))
    ).all()
    unlearning_of = {row.step.removeprefix(_UNLEARN): Unlearned.model_validate(row.body) for row in rows}

    return tuple(
        statement_parts.Replay(
            site, parent, one.received, seed, one.reply.cohort, one.unlearned, decimal_text(one.norm)
        )
        for site, one in sorted(unlearning_of.items())
        if one.received and one.reply.cohort
    )


def _unreplayable(session: Session, campaign: int) -> Iterator[str]:
    """Sites whose step nobody can repeat: they did not commit to their patients, as earlier versions do not."""
    rows = session.scalars(select(PhaseRow).where(PhaseRow.campaign == campaign, PhaseRow.step.startswith(_UNLEARN)))
    for row in sorted(rows, key=lambda row: row.step):
        if not (row.body.get("received") and row.body.get("reply", {}).get("cohort")):
            site = row.step.removeprefix(_UNLEARN)
            yield f"{site} did not commit to the patients it forgot: its unlearning step cannot be replayed."


def _answered(number: int) -> statement_parts.Metric:
    """A count, so its interval is itself."""
    text = str(number)
    return statement_parts.Metric("revocations answered", text, text, text, "0.95", number, "site")


def _metrics(manifest: Manifest) -> Iterator[statement_parts.Metric]:
    for metric in manifest.provenance.metrics:
        if _measured(metric):
            value, low, high = (decimal_text(number or 0.0) for number in (metric.value, metric.low, metric.high))
            yield statement_parts.Metric(metric.name, value, low, high, "0.95", metric.patients or 0, "site")


def _measured(metric: Metric) -> bool:
    return None not in (metric.value, metric.low, metric.high) and bool(metric.patients)


def _figures(session: Session, campaign: int, step: str) -> tuple[statement_parts.SiteFigures, ...]:
    body = _body(session, campaign, step)
    if not body:
        return ()
    figures = FederationFigures.model_validate(body)

    return tuple(
        statement_parts.SiteFigures(
            site, reported_digest(figures.membership_by_site.get(site, {}), figures.test_by_site[site])
        )
        for site in sorted(figures.test_by_site)
    )


def _decision(
    session: Session, campaign: CampaignRow, manifest: Manifest, terms: Terms, *, retrained: bool
) -> statement_parts.Decision:
    verdict = _body(session, campaign.number, "verdict")
    outcome = verdict.get("outcome")
    reasons = verdict.get("reasons")
    why = [str(reason) for reason in reasons] if isinstance(reasons, list | tuple) else []
    facts = manifest.provenance
    if not retrained:
        margin = decimal_text(terms.experiment.decision.auc_margin)
        return statement_parts.Decision(facts.outcome or "accepted", tuple(why), margin, facts.grounds)
    sites = ", ".join(manifest.provenance.sites)
    first = f"trained from new weights by {sites}, on patients who had not revoked"
    attempts = [f"unlearning was {outcome}, policy {terms.policy.undecided}", *why] if outcome else [campaign.reason]

    verdict_body = _body(session, campaign.number, "verdict:retrained")
    causes = verdict_body.get("reasons")
    # Published all the same, a rejected model is not called accepted.
    is_rejected = verdict_body.get("outcome") == "rejected"
    causes_of_rejection = [str(cause) for cause in causes] if is_rejected and isinstance(causes, list | tuple) else []
    outcome_text: Literal["accepted", "rejected"] = "rejected" if causes_of_rejection else "accepted"

    reasons_in_order = tuple(reason for reason in (first, *causes_of_rejection, *attempts) if reason)
    return statement_parts.Decision(outcome_text, reasons_in_order, grounds=facts.grounds)


def _frozen(session: Session, campaign: int) -> statement_parts.FrozenEncoders:
    origin = _body(session, campaign, "exact")
    facts = {name: str(origin[name]) for name in ("image_encoder", "text_encoder", "initial", "declared_by")}
    return statement_parts.FrozenEncoders(since=str(origin["campaign"]), **facts)


def _exact_decision(session: Session, campaign: int, manifest: Manifest, terms: Terms) -> statement_parts.Decision:
    reasons = _body(session, campaign, "verdict:exact").get("reasons")
    why = tuple(str(reason) for reason in reasons) if isinstance(reasons, list | tuple) else ()
    margin = decimal_text(terms.experiment.decision.auc_margin)
    facts = manifest.provenance

    return statement_parts.Decision(facts.outcome or "exact", why, margin, facts.grounds)


def _limits(manifest: Manifest, *, retrained: bool) -> Iterator[str]:
    yield "Membership was measured by attacks on the model's losses and scores; a stronger attack may tell more."
    yield f"{WEIGHTS} is SHA-256 over names, types, shapes and bytes of the tensors, not over a file."
    if manifest.provenance.grounds is not None and manifest.provenance.grounds.rung == "exact":
        yield "What the frozen encoders were pretrained on is declared, not measured."
    if retrained:
        yield "The model does not descend from its parent; it replaces it."
    for metric in manifest.provenance.metrics:
        if not _measured(metric):
            yield f"Not measured: {metric.name}: {metric.missing or 'no interval'}."
