"""The attacks on shadow models as a table on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from simulations.shadows.shadow_pool import ShadowAttack


def print_attacks(attacks: Sequence[ShadowAttack], shadows: int, console: Console) -> None:
    """Print a table, and the numbers it is based on."""
    table = Table(
        "model", "attack", "branch", "AUC [95 %]", "pairs", "KLoM 95 %", "test AUC", "cost", "told best (AUC)"
    )

    for one in attacks:
        if one.auc is None or one.ci95 is None:
            table.add_row(one.model, one.attack, one.branch, one.missing)
            continue

        low, high = one.ci95
        leaks = ", ".join(f"{leak.site} {leak.auc:.2f}" for leak in one.leaks[:3])
        table.add_row(
            one.model,
            one.attack,
            one.branch,
            f"{one.auc:.3f} [{low:.3f}, {high:.3f}]",
            str(one.pairs),
            _number(one.klom95, 2),
            _number(one.test_auc, 3),
            _number(one.cost, 3),
            leaks,
        )

    console.print(table)
    console.print(
        f"{shadows} shadow models. AUC: .5 cannot tell; attacks are scored on shadows that they were not fitted on. "
        "The interval is over patients, and too narrow with few shadows. "
        "KLoM: 95th percentile over patients of the divergence, in nats, from models that never saw them; compare with "
        "that of retrained models. Cost: of a campaign over retraining, without the fold models before any revocation."
    )


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
