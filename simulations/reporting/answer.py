"""The result in plain words: the answer, what stands behind it, and what it does not say."""

from __future__ import annotations

from common.evidence.outcomes.grounds import Outcome
from common.evidence.outcomes.grounds_text import ONE_PATIENT, grounds_lines, label
from simulations.reporting.charts.cost import ratio, yardstick
from simulations.reporting.charts.models import margin
from simulations.reporting.palette import BRANCHES
from simulations.result import Result

QUESTION = "Can the model still tell that these patients were in it?"


_HEADLINES: dict[Outcome, str] = {
    "exact": "No. All that had learned from them was trained again without them.",
    "accepted": "No. To the attacks of this audit, they look like patients the model has never seen.",
    "accepted_qualified": "No, by qualification. Other patients, forgotten in rehearsals by the same procedure, looked "
    "like patients the model has never seen, and this campaign conforms.",
    "inconclusive": "It cannot be said yet. What was measured neither shows nor rules out that it remembers them.",
}


def headline(result: Result) -> str:
    """One sentence that answers `QUESTION`."""
    outcome = result.decision.outcome
    if outcome != "rejected":
        return _HEADLINES[outcome]
    half = margin(result)
    mia = result.models["unlearned"].mia if "unlearned" in result.models else {}
    # The 95 % interval, as the rule that rejects uses it.
    intervals = {branch: m.ci95 for branch, m in mia.items() if m.ci95}
    remembers = [BRANCHES[b].lower() for b, (low, _) in intervals.items() if low > 0.5 + half]
    overdone = [BRANCHES[b].lower() for b, (_, high) in intervals.items() if high < 0.5 - half]
    # Remembering first: it is what the patients asked about.
    if remembers:
        return f"Yes. On the {_listed(remembers)} branch it still knows them better than patients it has never seen."
    if overdone:
        return (
            f"Yes, by overdoing it. On the {_listed(overdone)} branch it does worse on them than on patients it has "
            "never seen, and that gives them away too."
        )

    return "The unlearned model was turned down, for the reasons below."


def outcome_label(result: Result) -> str:
    """The outcome for people."""
    return label(result.decision.outcome, result.decision.grounds)


def grounds(result: Result) -> tuple[str, ...]:
    """What the outcome rests on, line by line; empty in results of earlier versions."""
    grounds_of_decision = result.decision.grounds
    return () if grounds_of_decision is None else grounds_lines(result.decision.outcome, grounds_of_decision)


def measured(result: Result) -> bool:
    """Whether an attack on the forgotten patients could be measured at all; one patient is too few."""
    model = result.models.get("unlearned")
    return model is not None and any(attack.auc is not None for attack in model.mia.values())


def explanation(result: Result) -> str:
    """Who withdrew where, and by what rule the outcome was reached."""
    forgotten = {site: counts["forget"] for site, counts in result.data.items() if counts.get("forget")}
    patients = sum(forgotten.values())
    who = f"{patients} {'patient' if patients == 1 else 'patients'} at {_listed(list(forgotten)) or 'no hospital'}"

    if result.decision.outcome == "accepted_qualified":
        return f"{who} withdrew consent. {ONE_PATIENT[0].upper()}{ONE_PATIENT[1:]}."
    if result.decision.outcome == "exact":
        return f"{who} withdrew consent. Nothing of the model that was trained on them is left."
    return (
        f"{who} withdrew consent. The unlearned model was audited against held-out patients of the same hospitals. "
        f"The rule was set beforehand: on every branch, the 90\u00a0% interval of the attack’s AUC must lie within "
        f"0.5 ± {margin(result):.2f}, and the model must stay useful."
    )


def cost_sentence(result: Result) -> str:
    """What forgetting cost, as a share of training again."""
    share = ratio(result)
    name = yardstick(result)[0].lower()
    if share is None:
        return "The run recorded no cost to compare with."
    return f"Forgetting took {percent(share)} of the work of {name}."


def percent(share: float) -> str:
    """A share as a percentage, with one decimal below ten."""
    return f"{share * 100:.1f}\u00a0%" if share < 0.1 else f"{share * 100:.0f}\u00a0%"


def worth(result: Result) -> str | None:
    """Whether the model beats the simple classifiers that hospitals could train together instead; None without any."""
    original = result.models["original"].test.auc if "original" in result.models else None
    together = [one for one in result.baselines if one.training == "federated" and one.auc is not None]
    if original is None or not together:
        return None

    best = max(together, key=lambda one: one.auc or 0.0)
    figures = f"{best.name} reaches a test AUC of {best.auc:.2f} on the same patients, this model {original:.2f}"
    if (best.auc or 0.0) > original:
        return f"{figures}: on these patients the simple classifier is the better choice."
    return f"{figures}."


def limits(result: Result) -> list[str]:
    """What this report does not show."""
    forgotten = sum(counts.get("forget", 0) for counts in result.data.values())
    sentences = [
        "An audit is a test, not a proof. It shows that these attacks cannot tell; a stronger one, or one with other "
        "knowledge, might.",
        f"The intervals rest on {forgotten} forgotten patients. Few patients mean wide intervals: that an interval "
        "covers 0.5 says nothing by itself."
        if measured(result)
        else "Nothing was measured on the forgotten patients themselves: the rehearsals were of others.",
        f"This is one run with one seed ({result.seed}). Another split of the patients gives other figures.",
        "Hospitals were simulated on one machine: times and traffic are those of the simulation, work in forward units "
        "carries over.",
        "Histograms and the curves drawn from them are binned, small bins merged, and pool all hospitals; the AUC in "
        "the tables compares patients within each hospital. The area under a drawn curve can differ from it.",
        "Forgetting changes this model. Copies of earlier versions that were passed on still remember.",
        "Test figures compare models with each other. They say nothing about fitness for use with patients.",
    ]

    if "retrained" not in result.models:
        sentences.insert(
            1,
            "Retraining was left out of this run, so the gold standard that the unlearned model should come "
            "near is missing; only never-seen patients serve as the aim.",
        )

    return sentences


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + f" and {names[-1]}" if names else ""
