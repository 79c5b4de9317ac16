"""Check that the figures of one site are possible: their shapes, sums and counts, before they are used.

The types in `figures` bound each field. These checks hold for the reply of a single site only; merged figures need not
satisfy them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from common.errors import WireError
from common.learning.evaluation.figures import Branch, Group, Membership, SelectionFigures, SiteFigures, Utility
from common.learning.evaluation.histograms import EDGES, SMALLEST_CELL, LossHistogram
from common.learning.evaluation.membership import MIN_PATIENTS
from common.learning.evaluation.scores import BRANCHES

AUDITED: tuple[Group, ...] = ("forget", "retain", "never_seen", "test")
# The registered set that corresponds to each group.
_SETS: dict[Group, str] = {
    "retain": "train",
    "validation": "validation",
    "calibration": "never_seen_calibration",
    "never_seen": "never_seen_audit",
    "test": "test",
}
# More than any hospital has. The sum over a thousand hospitals stays within the bounds of merged figures.
MOST_PATIENTS = 10**6
# Nats. No model that scores finite logits comes near it.
_LARGEST_LOSS = 1e6
_GROWTH = 1.1
# Tolerance, as a hospital may import patients during a campaign.
_SPARE = 5
# All reasons that a site's code gives for a missing figure. Free text of a site is never shown.
_REASON = re.compile(
    r"no patients to forget here|needs \d{1,9} patients in each group"
    r"|\d{1,9} patients have a label \([\d, ]{1,100}\) that no control has"
    r"|no reference models|no fold models|\d{1,9} patients without a score by a fold model"
    r"|needs retained and calibration patients|retained and calibration losses are all equal"
    r"|needs \d{1,9} never-seen patients of the forget patients' labels, \d{1,9} are here",
    re.ASCII,
)
# Largest variance of a difference of two shares, by the Agresti-Coull rule that sites follow.
_LARGEST_SPREAD = 0.125
_MISSING = {*Membership.model_fields, "matching"}


class ImpossibleError(WireError):
    """Figures that honest scoring cannot produce."""


@dataclass(frozen=True, slots=True)
class Known:
    """What the receiver knows about a site before it reads its figures.

    Attributes:
        classes: number of the model's classes; None if unknown.
        registered: number of patients per set, as registered by the site; empty if it has not registered.
    """

    classes: int | None = None
    registered: Mapping[str, int] = field(default_factory=dict)

    def most(self, group: Group) -> int | None:
        """Maximum number of patients in a group; None for no limit.

        Patients who revoke move from the training set to the forget set, so both together bound the latter.
        """
        if not self.registered:
            return None
        train = self.registered.get("train", 0)
        count = train + self.registered.get("forget", 0) if group == "forget" else self.registered.get(_SETS[group], 0)

        return int(count * _GROWTH) + _SPARE


def check_selection(figures: SelectionFigures, known: Known) -> None:
    """Raise an `ImpossibleError` unless these can be the selection figures of a site."""
    problems = [*_of_branches("validation", figures.validation)]
    for branch, utility in figures.validation.items():
        problems += [f"validation, {branch}: {why}" for why in _of_utility(utility, known, "validation")]
    _refuse(problems or [*_of_memberships(figures.membership, known, "calibration")])


def check_audit(figures: SiteFigures, known: Known) -> None:
    """Raise an `ImpossibleError` unless these can be the audit of a site."""
    if figures.groups.keys() != {*AUDITED}:
        raise ImpossibleError(f"the groups are not {', '.join(AUDITED)}")
    problems: list[str] = []
    for group, branches in figures.groups.items():
        problems += _of_branches(group, branches)
        for branch, utility in branches.items():
            problems += [f"{group}, {branch}: {why}" for why in _of_utility(utility, known, group)]

    _refuse(problems or [*_of_memberships(figures.membership, known, "never_seen")])


def _refuse(problems: list[str]) -> None:
    if problems:
        raise ImpossibleError(problems[0])


def _of_branches(what: str, branches: Mapping[Branch, object]) -> Iterator[str]:
    if branches.keys() != {*BRANCHES}:
        yield f"the branches of {what} are not {', '.join(BRANCHES)}"


def _of_utility(utility: Utility, known: Known, group: Group) -> Iterator[str]:
    classes = known.classes
    most = known.most(group)
    rows = [sum(row) for row in utility.confusion]
    units = sum(rows)
    if classes is not None and len(rows) != classes:
        yield f"{len(rows)} classes, the model has {classes}"
    if any(len(row) != len(rows) for row in utility.confusion) or len(utility.auc) != len(rows):
        yield "confusion matrix and AUC differ in their classes"
        # What follows compares row by row.
        return

    if utility.patients > (MOST_PATIENTS if most is None else min(most, MOST_PATIENTS)):
        yield f"{utility.patients} patients, more than are registered"
    if utility.loss_sum > utility.patients * _LARGEST_LOSS:
        yield f"a loss of over {_LARGEST_LOSS:.0f} nats a patient"
    if not utility.patients <= units <= utility.patients * max(1, len(rows)):
        yield f"{units} cases of {utility.patients} patients"
    for label, auc in enumerate(utility.auc):
        pairs = auc.positives * auc.negatives
        if (auc.positives, auc.negatives, auc.pairs) != (rows[label], units - rows[label], pairs):
            yield f"AUC of class {label} counts others than the confusion matrix"
        # Each pair is a win, half a win or none.
        elif auc.wins > pairs or not (2 * auc.wins).is_integer():
            yield f"AUC of class {label} has {auc.wins:g} wins of {pairs} pairs"

    if (utility.loss_median is None) != (not utility.patients) or utility.median_is != "exact":
        yield "no exact median of the loss"
    if not utility.patients and utility.loss_sum:
        yield "a loss of nobody"
    yield from _of_histogram(utility.losses, utility.patients)


def _of_histogram(losses: LossHistogram, patients: int) -> Iterator[str]:
    edges = losses.edges
    counts = losses.counts

    if patients < SMALLEST_CELL:
        if edges or counts:
            yield f"a histogram of {patients} patients"
        return

    on_grid = len(edges) == len(counts) + 1 and {*edges} <= {*EDGES} and all(a < b for a, b in pairwise(edges))
    if not on_grid or (edges[0], edges[-1]) != (EDGES[0], EDGES[-1]):
        yield "a histogram on other edges than agreed"
    elif min(counts) < SMALLEST_CELL or sum(counts) != patients:
        yield f"a histogram with a cell under {SMALLEST_CELL}, or of others than the {patients} patients"


def _of_memberships(members: Mapping[Branch, Membership], known: Known, control: Group) -> Iterator[str]:
    yield from _of_branches("membership", members)
    for branch, member in members.items():
        for why in _of_membership(member, known.most("forget"), known.most(control)):
            yield f"membership, {branch}: {why}"


def _of_membership(member: Membership, most: int | None, most_control: int | None) -> Iterator[str]:
    if max(member.forget_patients, member.control_patients) > MOST_PATIENTS:
        yield f"more than {MOST_PATIENTS} patients"
    if most is not None and member.forget_patients > most:
        yield f"{member.forget_patients} patients to forget, more than are registered"
    if most_control is not None and member.control_patients > most_control:
        yield f"{member.control_patients} never-seen patients, more than are registered"
    # One computation gives them all, so they are there or missing together.
    together = {value is None for value in (member.auc, member.variance, member.ks, member.ks_p)}
    accuracies = {v is None for v in (member.accuracy_forget, member.accuracy_control, member.accuracy_variance)}

    if len(together | accuracies) > 1:
        yield "some of the figures that go together are missing"
    elif member.auc is not None and min(member.forget_patients, member.control_patients) < MIN_PATIENTS:
        yield f"measured on fewer than {MIN_PATIENTS} patients"
    elif member.auc is None and any(v is not None for v in (member.calibrated, member.svc, member.tpr_at_1pct_fpr)):
        yield "attacks on nobody"

    rank_bounds = (
        member.calibrated is None,
        member.calibrated_variance is None,
        member.calibrated_patients < MIN_PATIENTS,
    )
    if len(set(rank_bounds)) > 1 or member.calibrated_patients > member.forget_patients:
        yield "a calibrated rank of other patients than it says"
    # The observed labelling is one of the permutations, so an honest p is never 0.
    if member.ks_p == 0.0 or (member.accuracy_variance or 0.0) > _LARGEST_SPREAD:
        yield "a p-value of 0, or accuracies with more spread than two patients give"
    if not member.missing.keys() <= _MISSING or not all(map(_REASON.fullmatch, member.missing.values())):
        yield "unknown reasons for what is missing"
