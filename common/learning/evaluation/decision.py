"""Accept or reject a candidate, or find it inconclusive: an equivalence test with margins set before the campaign."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from common.evidence.outcomes.grounds import Grounds, Outcome
from common.learning.config import DecisionConfig
from common.learning.evaluation.figures import FederationFigures, Membership, Utility
from common.learning.evaluation.merge import UNMEASURED, interval
from common.learning.evaluation.scores import BRANCHES

Z95 = 1.960
"""Two-sided 95 % quantile of the normal distribution."""
_Z90 = 1.645


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome, its reasons in plain words, and what it rests on."""

    outcome: Outcome
    reasons: tuple[str, ...]
    grounds: Grounds


def decide(before: FederationFigures, after: FederationFigures, config: DecisionConfig) -> Decision:
    """Compare a candidate with the band around .5 and with the utility of the previous model.

    Accepted if, in every branch, the 90 % interval of the matched AUC lies in .5 +- `auc_margin`, KS does not reject,
    the accuracy on forget does not exceed never-seen by more than `accuracy_margin` beyond its interval, and test AUC
    dropped by at most `utility_tolerance` at every site and class. Rejected if a 95 % interval lies outside the
    band, or a drop exceeds the tolerance beyond its interval. Otherwise inconclusive. A branch on which no patient is
    to be forgotten is not judged.
    """
    failures: list[str] = []
    doubts: list[str] = []
    by_branch = {name: after.membership[name] for name in BRANCHES}

    for name, member in by_branch.items():
        # A branch on which nobody's consent was withdrawn has nothing to forget.
        if member.forget_patients or not any(m.forget_patients for m in by_branch.values()):
            _judge_membership(name, member, config, failures, doubts)

    _judge_utility(before, after, config, failures, doubts)
    grounds = _own_grounds(after)
    # Evidence against the model outweighs figures that are missing elsewhere.
    if failures:
        return Decision("rejected", tuple(failures + doubts), grounds)
    if doubts:
        return Decision("inconclusive", tuple(doubts), grounds)
    band = f"{0.5 - config.auc_margin:.2f} to {0.5 + config.auc_margin:.2f}"

    reason = f"every branch within {band} with 90 % confidence, utility kept at every site"

    return Decision("accepted", (reason,), grounds)


def _own_grounds(after: FederationFigures) -> Grounds:
    """The campaign's own audit, by the smallest branch in which somebody is to be forgotten."""
    members = [member for member in after.membership.values() if member.forget_patients]
    return Grounds(
        "own",
        patients=min((member.forget_patients for member in members), default=0),
        controls=min((member.control_patients for member in members), default=0),
    )


def _judge_membership(
    name: str, member: Membership, config: DecisionConfig, failures: list[str], doubts: list[str]
) -> None:
    if member.auc is not None and UNMEASURED in member.missing:
        doubts.append(f"{name}: {member.missing[UNMEASURED]}")
    if "matching" in member.missing:
        doubts.append(f"{name}: {member.missing['matching']}")
    # Equivalence is two one-sided tests at 5 %, which is the 90 % interval; a rejection needs 95 %.
    wide = interval(member, 0.95)
    narrow = interval(member, 0.90)

    if wide is None or narrow is None or member.auc is None:
        why = "; ".join(dict.fromkeys(member.missing.values())) or "no data"
        doubts.append(f"{name}: membership could not be measured ({why})")
        return

    low = 0.5 - config.auc_margin
    high = 0.5 + config.auc_margin
    text = f"{name}: membership AUC {member.auc:.2f}"

    if wide[0] > high or wide[1] < low:
        kind = "still remembers" if wide[0] > high else "over-forgot"
        failures.append(f"{text}, 95 % interval {wide[0]:.2f} to {wide[1]:.2f}, {kind}")
    elif narrow[0] < low or narrow[1] > high:
        few = f" with {member.forget_patients} against {member.control_patients} patients"
        how = "is wider than" if narrow[1] - narrow[0] > high - low else "reaches out of"
        doubts.append(f"{text}, 90 % interval {narrow[0]:.2f} to {narrow[1]:.2f} {how} the band{few}")

    # An AUC of .5 can hide a few huge losses among many small ones.
    if member.ks_p is not None and member.ks_p < config.ks_alpha:
        doubts.append(f"{name}: losses are distributed otherwise than never-seen ones (KS p = {member.ks_p:.3f})")
    if member.accuracy_forget is not None and member.accuracy_control is not None:
        excess = member.accuracy_forget - member.accuracy_control
        # One-sided: a model that is worse on forget than on never-seen patients is judged by its AUC.
        if excess - _Z90 * (member.accuracy_variance or 0.0) ** 0.5 > config.accuracy_margin:
            doubts.append(f"{name}: accuracy on forget exceeds never-seen by {excess:.2f}")


def _judge_utility(
    before: FederationFigures, after: FederationFigures, config: DecisionConfig, failures: list[str], doubts: list[str]
) -> None:
    # A site that reports only before or only after could hide a loss.
    for site in sorted(before.test_by_site.keys() ^ after.test_by_site.keys()):
        doubts.append(f"{site}: no test figures from {'after' if site in before.test_by_site else 'before'}")
    all_drops = drops(before.test_by_site, after.test_by_site)
    for fall in all_drops:
        text = f"{fall.site}: test AUC of class {fall.label} dropped by {fall.drop:.2f}"
        if fall.certain(config.utility_tolerance):
            failures.append(text)
        elif fall.drop > config.utility_tolerance:
            doubts.append(f"{text} (its standard error is {fall.spread:.2f})")

    if not all_drops:
        doubts.append("utility could not be measured: no site has test patients of a class and of another")


@dataclass(frozen=True, slots=True)
class Drop:
    """By how much the test AUC of one class fell at one site, and the standard error of the later AUC."""

    site: str
    label: int
    drop: float
    spread: float

    def certain(self, tolerance: float) -> bool:
        """Whether the 95 % interval of the drop lies beyond the tolerance."""
        return self.drop - Z95 * self.spread > tolerance


def drops(before: Mapping[str, Utility], after: Mapping[str, Utility]) -> list[Drop]:
    """Every site and class that both models were measured on, in order of sites.

    With two classes, both have the same one-vs-rest AUC: their drop is reported once.
    """
    return [
        Drop(site, label, old.auc - new.auc, (new.variance or 0.0) ** 0.5)
        for site in sorted(before.keys() & after.keys())
        for label, (old, new) in enumerate(zip(before[site].auc, after[site].auc, strict=True))
        if old.auc is not None and new.auc is not None and (label, len(after[site].auc)) != (0, 2)
    ]
