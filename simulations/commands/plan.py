"""`plan`: which rung of the ladder a federation should use."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from common.platform.terminal.console import AsJson, Terminal
from simulations.commands.options import errors


def plan(
    patients: Annotated[int, typer.Option(help="Training patients of the federation.")],
    never_seen: Annotated[int, typer.Option(help="Never-seen audit patients of the federation.")],
    revocations: Annotated[float, typer.Option(help="Revocations per month, over all hospitals.")],
    training_hours: Annotated[float, typer.Option(help="Hours that one training of the federation's model takes.")],
    deadline: Annotated[float, typer.Option(help="Days from a revocation to its due date.")] = 30.0,
    hospitals: Annotated[int, typer.Option(help="Number of hospitals.")] = 4,
    lead: Annotated[float, typer.Option(help="Days before the first due date at which a batch is retrained.")] = 7.0,
    window: Annotated[float, typer.Option(help="Days within which revocations share a campaign.")] = 3.0,
    folds: Annotated[int, typer.Option(help="Fold models for targets.")] = 4,
    audit_folds: Annotated[int, typer.Option(help="Fold models for the audit.")] = 2,
    rehearsals: Annotated[int, typer.Option(help="Rehearsals of a qualification.")] = 48,
    campaign_cost: Annotated[float, typer.Option(help="Cost of a campaign, as a share of a training.")] = 0.05,
    as_json: AsJson = False,
) -> None:
    """Compare the cost and the waiting time of each rung of the ladder, and show which rungs are out of reach."""
    with errors():
        values = {
            "patients": patients,
            "never_seen": never_seen,
            "revocations_a_month": revocations,
            "training_hours": training_hours,
            "deadline_days": deadline,
            "hospitals": hospitals,
            "lead_days": lead,
            "window_days": window,
            "folds": folds,
            "audit_folds": audit_folds,
            "rehearsals": rehearsals,
            "campaign_cost": campaign_cost,
        }
        _plan(values, as_json=as_json)


def _plan(values: dict[str, Any], *, as_json: bool) -> None:
    from common.settings import parse
    from simulations.planning.economics import plan as plan_of
    from simulations.planning.numbers import FederationNumbers
    from simulations.planning.text import to_text

    federation_plan = plan_of(parse(FederationNumbers, values, "the command line"))
    if as_json:
        sys.stdout.write(federation_plan.model_dump_json(indent=2) + "\n")
        return
    Terminal().print(to_text(federation_plan), markup=False, highlight=False, soft_wrap=True)
