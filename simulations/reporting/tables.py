"""The tables of the report."""

from __future__ import annotations

from collections.abc import Callable

from common.platform.terminal.natural_order import natural
from simulations.baseline_result import TRAINED
from simulations.reporting.cells import DASH, Cell, Lookup, Row, Section, Table, count, p_value, score, seconds, size
from simulations.reporting.palette import BRANCHES, GROUPS, MODELS, models_of
from simulations.result import Branch, GroupName, Result

_PHASES = {
    "train": "Training the original",
    "retrain": "Retraining without the patients",
    "unlearn": "Unlearning",
    "retain": "Retention rounds",
    "folds": "Fold models, once a lineage",
    "references": "Reference models of the attacks",
}
_MIA = (
    ("ks", "KS distance", "0 is the aim: the losses of both groups have one distribution"),
    ("calibrated", "Calibrated rank", "0 is the aim: the rank above what models say that never saw the patients"),
    ("svc", "SVC, share called members", "the aim is the retrained value"),
    ("tpr_at_1pct_fpr", "TPR at 1 % FPR", "0.01 is the aim; needs 100 never-seen patients"),
)
_UTILITY = (
    ("auc", "AUC"),
    ("f1", "F1, macro"),
    ("accuracy", "Accuracy"),
    ("ce_mean", "Cross-entropy, mean (nats)"),
    ("ce_median", "Cross-entropy, median (nats)"),
)
_BETTER = "higher is better, for cross-entropy lower"
_GROUP_HINTS: dict[GroupName, str] = {
    "forget": "the aim is the never-seen or the retrained value, neither better nor worse",
    "never_seen": "held out of training: what a stranger gets",
    "retain": _BETTER,
    "test": _BETTER,
}
_AUC_HINT = "0.5 is the aim · above: remembers · below: over-forgot"


def overview(lookup: Lookup, *, measured: bool) -> Table:
    """The models side by side: membership inference with cross-entropy and test AUC beside it.

    Where the patients were too few to be `measured`, utility alone.
    """
    names = models_of(lookup.result)
    order: tuple[Branch, ...] = ("fused", "image", "text")
    membership = [
        Row(
            f"MIA AUC, {BRANCHES[branch].lower()}",
            "with its 90\u00a0% interval",
            tuple(lookup.with_interval("models", n, "mia", branch, "auc", interval="ci90") for n in names),
            strong=True,
        )
        for branch in order
    ]
    membership.append(_row(lookup, "KS distance, fused", _MIA[0][2], "mia", "fused", "ks"))
    same = "the aim is the never-seen value, neither better nor worse"
    forgetting = [
        _row(lookup, "Accuracy on forget", same, "forget", "accuracy"),
        _row(lookup, "Accuracy on never-seen", "what a stranger gets", "never_seen", "accuracy"),
        _row(
            lookup,
            "Cross-entropy on forget (nats)",
            same,
            "forget",
            "ce_mean",
        ),
        _row(lookup, "Cross-entropy on never-seen (nats)", "what a stranger gets", "never_seen", "ce_mean"),
    ]
    worth = [
        _row(lookup, "Test AUC", "higher is better", "test", "auc", strong=True),
        _row(lookup, "Test cross-entropy (nats)", "lower is better", "test", "ce_mean"),
        _row(lookup, "Test F1, macro", "higher is better", "test", "f1"),
    ]

    if any(model.distance_to_retrained is not None for model in lookup.result.models.values()):
        worth.append(
            _row(
                lookup,
                "Distance to retrained",
                "1 − cosine of logits on retain; 0 is the same",
                "distance_to_retrained",
            )
        )

    of_patients = (
        Section("Can membership be told?", tuple(membership), _AUC_HINT),
        Section("Are the forgotten patients treated as strangers?", tuple(forgetting)),
    )

    return Table(
        "The models side by side. Each figure is read by its own direction, given under its name.",
        "Figure",
        _heads(lookup.result),
        (*(of_patients if measured else ()), Section("Is the model still worth something?", tuple(worth))),
    )


def branch_table(lookup: Lookup, branch: Branch) -> Table:
    """One branch: membership inference with both intervals, and utility on every group."""
    mia = [
        _row(lookup, "MIA AUC", _AUC_HINT, "mia", branch, "auc", strong=True),
        _intervals(lookup, "90\u00a0% interval", branch, "ci90"),
        _intervals(lookup, "95\u00a0% interval", branch, "ci95"),
        *(_row(lookup, name, hint, "mia", branch, key) for key, name, hint in _MIA[:1]),
        _row(lookup, "KS p-value", "small: the distributions differ", "mia", branch, "ks_p", form=p_value),
        *(_row(lookup, name, hint, "mia", branch, key) for key, name, hint in _MIA[1:]),
    ]
    sections = [Section("Membership inference, forget against never seen", tuple(mia))]

    for group, label in GROUPS.items():
        base = ("branches", branch, "groups", group)
        rows = [_row(lookup, name, "", *base, key) for key, name in _UTILITY]
        rows.append(_row(lookup, "Patients", "", *base, "patients", form=count))
        sections.append(Section(f"{label} patients", tuple(rows), _GROUP_HINTS[group]))

    return Table(f"{BRANCHES[branch]} branch", "Figure", _heads(lookup.result), tuple(sections))


def baseline_table(lookup: Lookup) -> Table | None:
    """Simple classifiers on the patients of the original model, with the original as the last row; None without any."""
    baselines = lookup.result.baselines
    if not baselines:
        return None

    rows = [
        Row(
            one.name,
            TRAINED[one.training],
            (lookup.cell("baselines", number, "auc"), lookup.cell("baselines", number, "auc_across")),
        )
        for number, one in enumerate(baselines)
    ]
    rows.append(
        Row(
            "This model, before anybody was forgotten", "federated", (_original_auc(lookup), Cell((DASH,))), strong=True
        )
    )

    return Table(
        "Test AUC of simple classifiers that were trained and tested on the same patients.",
        "Classifier",
        ("Within hospitals", "Across hospitals"),
        (Section("", tuple(rows), "higher is better"),),
    )


def _original_auc(lookup: Lookup) -> Cell:
    return lookup.cell("models", "original", "test", "auc")


def site_table(lookup: Lookup) -> Table | None:
    """Membership inference at each hospital that forgot, and test AUC at each hospital; None where nothing is known."""
    models = lookup.result.models
    forgetting = sorted({site for model in models.values() for site in model.mia_by_site}, key=natural)
    sites = sorted({site for model in models.values() for site in model.test_auc_by_site}, key=natural)
    sections = []

    for site in forgetting:
        rows = [
            Row(
                f"MIA AUC, {label.lower()}",
                "with its 90\u00a0% interval",
                tuple(
                    lookup.with_interval("models", n, "mia_by_site", site, branch, "auc", interval="ci90")
                    for n in models_of(lookup.result)
                ),
                strong=True,
            )
            for branch, label in BRANCHES.items()
        ]
        rows.append(_row(lookup, "Test AUC here", "higher is better", "test_auc_by_site", site))
        # MIA never stands without utility: a destroyed model has not forgotten.
        rows.append(_row(lookup, "Cross-entropy on forget (nats)", "over all hospitals", "forget", "ce_mean"))
        sections.append(Section(f"{site}, where patients were forgotten", tuple(rows), _AUC_HINT))

    others = [site for site in sites if site not in forgetting]
    if others:
        rows = [_row(lookup, f"Test AUC, {site}", "", "test_auc_by_site", site) for site in others]
        sections.append(Section("The other hospitals", tuple(rows), "higher is better"))

    return Table("By hospital", "Figure", _heads(lookup.result), tuple(sections)) if sections else None


def data_table(lookup: Lookup) -> Table:
    """Patients per hospital and group, with the sum."""
    data = lookup.result.data
    order = ["train", "retain", "forget", "validation", "never_seen_calibration", "never_seen_audit", "test"]
    group_names = {group for counts in data.values() for group in counts}
    # Training patients are retain and forget together: no patient is to be counted twice.
    if "retain" in group_names:
        group_names.discard("train")
    groups = [g for g in order if g in group_names] + sorted(group_names - set(order))
    rows = [
        Row(site, "", tuple(lookup.cell("data", site, g, form=count) if g in counts else Cell(("0",)) for g in groups))
        for site, counts in data.items()
    ]
    sums = tuple(Cell((count(sum(counts.get(g, 0) for counts in data.values())),)) for g in groups)
    rows.append(Row("All hospitals", "", sums, strong=True))
    heads = tuple(g.replace("_", " ").replace("never seen", "never seen,") for g in groups)

    return Table(
        "Patients by hospital and group; no patient is in two groups.", "Hospital", heads, (Section("", tuple(rows)),)
    )


def cost_table(lookup: Lookup) -> Table:
    """Work, time and traffic of each phase."""
    forms = {"forward_units": count, "seconds": seconds, "bytes_up": size, "bytes_down": size}
    rows = tuple(
        Row(label, "", tuple(lookup.cell("cost", phase, key, form=form) for key, form in forms.items()))
        for phase, label in _PHASES.items()
        if phase in lookup.result.cost
    )

    return Table(
        "Cost of each phase. A forward of one study is 1 unit, a backward 2; bytes are seen from the hospitals.",
        "Phase",
        ("Forward units", "Time", "Sent up", "Sent down"),
        (Section("", rows),),
    )


def missing_table(result: Result) -> list[tuple[str, str, str]]:
    """Model, figure and reason of everything that the run says it could not compute."""
    return [(MODELS[name], m.path, m.reason) for name in models_of(result) for m in result.models[name].missing]


def _heads(result: Result) -> tuple[str, ...]:
    return tuple(MODELS[name] for name in models_of(result))


def _row(
    lookup: Lookup, name: str, hint: str, *path: str, strong: bool = False, form: Callable[[float], str] = score
) -> Row:
    cells = tuple(lookup.cell("models", model, *path, form=form) for model in models_of(lookup.result))
    return Row(name, hint, cells, strong)


def _intervals(lookup: Lookup, name: str, branch: str, key: str) -> Row:
    return Row(name, "", tuple(lookup.interval("models", m, "mia", branch, key) for m in models_of(lookup.result)))
