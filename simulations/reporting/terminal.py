"""The table of the four models in the terminal."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from common.evidence.outcomes.grounds import Outcome
from simulations.reporting.answer import cost_sentence, grounds, headline, measured, outcome_label, worth
from simulations.reporting.cells import DASH
from simulations.reporting.palette import BRANCHES, MODELS, models_of
from simulations.result import BranchMia, Result

_STYLES: dict[Outcome, str] = {
    "exact": "bold green",
    "accepted": "bold green",
    "accepted_qualified": "bold green",
    "rejected": "bold red",
    "inconclusive": "bold yellow",
}


def print_table(result: Result, console: Console) -> None:
    """Print the models side by side, the decision with its reasons, and the cost; fits 80 columns."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), collapse_padding=True)
    table.add_column("model", no_wrap=True, min_width=9)
    of_patients = (
        "MIA\nimage",
        "MIA\ntext",
        "MIA\nfused",
        "KS\nfused",
        "acc\nforget",
        "acc\nnever\nseen",
        "CE\nforget",
    )
    for name in (*(of_patients if measured(result) else ()), "AUC\ntest", "CE\ntest"):
        table.add_column(name, justify="right")
    for name in models_of(result):
        model = result.models[name]
        attacks = [_attack(model.mia.get(branch)) for branch in BRANCHES]
        attack = model.mia.get("fused")
        of_forgotten = (
            attack.ks if attack else None,
            model.forget.accuracy,
            model.never_seen.accuracy,
            model.forget.ce_mean,
        )
        cells = (*attacks, *map(_number, of_forgotten)) if measured(result) else ()
        table.add_row(MODELS[name], *cells, _number(model.test.auc), _number(model.test.ce_mean))

    console.print(table)
    if measured(result):
        console.print(
            "MIA: AUC of the attack with its 90 % interval; .50 is the aim, above remembers, below over-forgot. "
            "Forget: the aim is never seen, not the lowest. CE in nats.",
            style="dim",
        )
    console.print(f"\n[{_STYLES[result.decision.outcome]}]{outcome_label(result)}[/]  {headline(result)}")
    for line in grounds(result):
        console.print(f"  {escape(line)}", highlight=False)
    grounds_text = " ".join(grounds(result))
    # Reasons that the grounds already say are not repeated.
    for reason in (one for one in result.decision.reasons if one not in grounds_text):
        console.print(f"  · {escape(reason)}", highlight=False)
    console.print(cost_sentence(result))
    if (beside := worth(result)) is not None:
        console.print(escape(beside), highlight=False)


def _attack(mia: BranchMia | None) -> str:
    if mia is None or mia.auc is None:
        return DASH
    return _number(mia.auc) + (f"\n{_number(mia.ci90[0])}–{_number(mia.ci90[1])}" if mia.ci90 else "")


def _number(value: float | None) -> str:
    if value is None:
        return DASH
    text = f"{value:.2f}"
    return "1.0" if text == "1.00" else text.removeprefix("0")
