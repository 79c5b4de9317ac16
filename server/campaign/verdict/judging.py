"""Whether a candidate may be published: what its evaluation says, and what sites refuse. Values in, values out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pydantic import BaseModel

from common.evidence.outcomes.grounds import PUBLISHED, Descent, Grounds, Outcome
from common.learning.config import DecisionConfig
from common.learning.evaluation.auc_variance import hanley_mcneil
from common.learning.evaluation.decision import Z95, Decision, decide
from common.learning.evaluation.figures import FederationFigures, Utility
from common.learning.evaluation.sample_size.power import least_half_width
from server.rounds.checks.utility_test import certainly_worse, pooled_shares
from server.rounds.checks.veto import veto
from server.rounds.membership_by_site import refused_at
from server.rounds.unlearning.base import Collected

WORTH_SHOWING = 0.70
"""Test AUC of a first model that is worth something; none is asked of too few test patients to tell it from chance."""


class Verdict(BaseModel):
    """The evaluator's outcome and the vetoes of other sites."""

    outcome: Outcome
    reasons: tuple[str, ...]
    vetoes: tuple[str, ...]
    grounds: Grounds | None = None
    """What the outcome rests on; None in journals of earlier versions."""

    @property
    def text(self) -> str:
        """In one line."""
        return "; ".join((*(f"veto: {v}" for v in self.vetoes), *self.reasons))

    @property
    def publishes(self) -> bool:
        """Whether the candidate may become a version."""
        return self.outcome in PUBLISHED and not self.vetoes


def judge_candidate(
    before: FederationFigures, after: FederationFigures, collected: Collected, config: DecisionConfig
) -> Verdict:
    """Of a model that unlearned: what it remembers, of all and of each hospital's patients, and what it still does."""
    decision = decide(before, after, config)
    vetoes = veto(before, after, collected.forgetting, config)
    verdict = Verdict(
        outcome=decision.outcome, reasons=decision.reasons, vetoes=tuple(vetoes), grounds=decision.grounds
    )
    # Hospitals by themselves can only worsen the outcome: what pooled figures reject stays rejected.
    objections = tuple(refused_at(after, collected, config))
    if not objections:
        return verdict

    reasons = decision.reasons if decision.outcome == "rejected" else ()
    return verdict.model_copy(update={"outcome": "rejected", "reasons": (*objections, *reasons)})


def judge_training(
    before: FederationFigures | None,
    after: FederationFigures,
    config: DecisionConfig,
    descents: tuple[Descent, ...] = (),
) -> Verdict:
    """Of a model trained from new weights: it must not be certainly worse than the version `before` it.

    A first model has none before it. It is rejected where it is not shown to be better than chance and its AUC is
    certainly below `WORTH_SHOWING`; so far as the test patients are too few to tell, that stands in the record.
    `descents` are the rungs of the ladder above retraining, with the reasons why they did not carry the campaign.
    """
    verdict = _better_than_chance(after) if before is None else _not_worse(before, after, config)
    return verdict.model_copy(update={"grounds": Grounds("retrain", descents=descents)})


def trained_parts(names: Iterable[str]) -> tuple[str, ...]:
    """Parts of a model by the names of its tensors, which frozen encoders are not among."""
    # Of a frozen encoder only its projection is left.
    heads = (name.partition(".")[0] for name in names)
    return tuple(sorted({head.replace("_encoder", "_projection").replace("_", " ") for head in heads}))


def decide_exact(
    before: FederationFigures | None, after: FederationFigures, config: DecisionConfig, parts: tuple[str, ...]
) -> Decision:
    """Of a model whose trained part is new: only its utility is judged, as that of any trained model.

    Membership figures stand in the record and decide nothing: weights that were never computed from a patient cannot
    remember them.
    """
    members = [member for member in after.membership.values() if member.forget_patients]
    grounds = Grounds(
        "exact",
        patients=min((member.forget_patients for member in members), default=0),
        controls=min((member.control_patients for member in members), default=0),
        trained_again=parts,
    )
    utility = judge_training(before, after, config)
    if utility.outcome != "accepted":
        return Decision(utility.outcome, (*(f"veto: {veto}" for veto in utility.vetoes), *utility.reasons), grounds)
    reason = "all that had learned from the patients was trained again without them, from the first initial weights"

    return Decision("exact", (reason, *utility.reasons), grounds)


def odd_audit(before: FederationFigures, after: FederationFigures, config: DecisionConfig) -> str:
    """What a person should look at although it decides nothing; empty where no branch seems to remember anybody."""
    return "; ".join(reason for reason in decide(before, after, config).reasons if "still remembers" in reason)


def _not_worse(before: FederationFigures, after: FederationFigures, config: DecisionConfig) -> Verdict:
    # A hospital that is away now keeps nobody from being forgotten; what all others measured decides.
    if not before.test_by_site.keys() & after.test_by_site.keys():
        return Verdict(outcome="inconclusive", reasons=("no site measured both versions",), vetoes=())
    vetoes = certainly_worse(before.test_by_site, after.test_by_site, config.utility_tolerance)
    if vetoes:
        reasons = ("certainly worse than the version before it",)
        return Verdict(outcome="rejected", reasons=reasons, vetoes=tuple(vetoes))

    return Verdict(outcome="accepted", reasons=("not certainly worse than the version before it",), vetoes=())


def _better_than_chance(after: FederationFigures) -> Verdict:
    vetoes = []
    for site, group in after.test_by_site.items():
        macro = _macro(group)
        # A site counts only if its patients could tell a good model from chance.
        enough = macro is not None and WORTH_SHOWING - Z95 * macro[2] > 0.5
        if macro is not None and enough and macro[0] + Z95 * macro[1] < 0.5:
            vetoes.append(f"{site}: test AUC {macro[0]:.2f} is certainly below chance")

    macro = _pooled_macro(after.test_by_site)
    if vetoes:
        return Verdict(outcome="rejected", reasons=("a first model that is worse than chance",), vetoes=tuple(vetoes))
    if macro is None:
        return Verdict(outcome="accepted", reasons=("no test patients to judge it by",), vetoes=())
    auc, error, error_if_good = macro
    auc_text = f"test AUC {auc:.2f}, standard error {error:.2f}"
    if auc - Z95 * error > 0.5:
        return Verdict(outcome="accepted", reasons=(f"better than chance: {auc_text}",), vetoes=())
    if WORTH_SHOWING - Z95 * error_if_good <= 0.5:
        reason = f"too few test patients to tell a model of AUC {WORTH_SHOWING:.2f} from chance: {auc_text}"
    elif auc + Z95 * error < WORTH_SHOWING:
        return Verdict(outcome="rejected", reasons=(f"not better than chance: {auc_text}",), vetoes=())
    else:
        reason = f"not yet shown to be better than chance: {auc_text}"

    return Verdict(outcome="accepted", reasons=(reason,), vetoes=())


def _pooled_macro(by_site: Mapping[str, Utility]) -> tuple[float, float, float] | None:
    """As `_macro`, over all sites: how many test patients one has is its own word, so its share is bounded."""
    auc_by_site = {site: macro for site, group in by_site.items() if (macro := _macro(group)) is not None}
    if not auc_by_site:
        return None
    weights = pooled_shares({site: by_site[site].patients for site in auc_by_site})

    return (
        sum(weights[site] * auc for site, (auc, _, _) in auc_by_site.items()),
        sum((weights[site] * error) ** 2 for site, (_, error, _) in auc_by_site.items()) ** 0.5,
        sum((weights[site] * good) ** 2 for site, (_, _, good) in auc_by_site.items()) ** 0.5,
    )


def _macro(group: Utility) -> tuple[float, float, float] | None:
    """Mean AUC of the classes, its standard error, and the one that an AUC of `WORTH_SHOWING` would have.

    The classes' errors are taken as one: they share their patients.
    """
    figures = [figure for figure in group.auc if figure.auc is not None and figure.variance is not None]
    if not figures:
        return None
    aucs = [figure.auc or 0.0 for figure in figures]
    errors = [(figure.variance or 0.0) ** 0.5 for figure in figures]
    good = [
        hanley_mcneil(WORTH_SHOWING, max(figure.positives, 1), max(figure.negatives, 1)) ** 0.5 for figure in figures
    ]
    count = len(figures)

    return sum(aucs) / count, sum(errors) / count, sum(good) / count


def why_undecidable(collected: Collected, config: DecisionConfig) -> str | None:
    """Why no audit of these patients could be accepted, however well they are forgotten; None where one could."""
    groups = [collected.group(name) for name in collected.forgetting]
    # An interval is cut to [0, 1]: a band that is all of it holds any.
    if any(group is None for group in groups) or config.auc_margin >= 0.5:
        return None
    sizes = [group for group in groups if group is not None]
    half_width = least_half_width(sizes)
    if half_width is not None and half_width <= config.auc_margin:
        return None
    auc_text = ", ".join(f"{forget} against {control}" for forget, control in sizes)
    if half_width is None:
        return f"too few patients to measure ({auc_text} never-seen ones at each hospital)"
    return (
        f"too few patients to decide ({auc_text} never-seen ones): half of the interval is {half_width:.2f} at least, "
        f"the margin {config.auc_margin:.2f}"
    )
