"""The page of the sabotage study."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
from scipy.stats import fisher_exact

from server.campaign.qualification.result import Result

WHAT: dict[str, str] = {
    "honest": "honest",
    "unchanged": "model returned unchanged",
    "noise": "random step of an honest length, honest gaps and passes claimed",
    "half": "half the passes",
    "floor": "pushed to the floor (over-forgetting)",
    "naive": "only the hospital's share of the step is taken (`naive`)",
    "other": "another patient is forgotten than the one who revoked",
    "figures": "random step, process and figures fabricated",
}
LEVEL = 0.05
Rows = dict[tuple[str, int], Counter[str]]
"""Counts by sabotage and number of patients."""


def document(result: Result, rows: Rows, campaigns: int, preset: str, settings: list[str]) -> str:
    """The page."""
    qualification = result.qualification
    state = "qualifies" if qualification.qualified else "does not qualify"
    why = "" if qualification.qualified else " (" + "; ".join(one.text for one in qualification.findings) + ")"
    original = ", ".join(f"{name} {branch.original:+.2f}" for name, branch in qualification.branches.items())
    sizes = ",".join(map(str, sorted({size for _, size in rows})))
    extra = ", ".join(f"`--set {text}`" for text in settings)
    lines = [
        "# Sabotage\n",
        f"Command: `python -m simulations.bench.power.sabotage --preset {preset} --campaigns {campaigns}",
        f"--sizes {sizes}`, with {extra or 'nothing else'}.\n",
        f"{campaigns} campaigns a line, judged for conformity beside {qualification.rehearsals} honest rehearsals.",
        f"The procedure {state}{why}.",
        f"AUC of the original model, less that of fold models: {original}.",
        f"With {campaigns} campaigns a share is known to about ±{100 / campaigns**0.5:.0f} points.\n",
        "| what | patients | conforms | refused by the gate | by the process | by the margins |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for (how, size), counts in sorted(rows.items(), key=lambda item: (item[0][1], list(WHAT).index(item[0][0]))):
        total = counts["all"]
        cells = [counts[name] for name in ("accepted", "gate", "process", "margins")]
        lines.append(f"| {WHAT[how]} | {size} | " + " | ".join(f"{count} of {total}" for count in cells) + " |")
    lines += ["", _told_apart(rows), _NOTES]

    return "\n".join(lines)


def _told_apart(rows: Rows) -> str:
    """Which sabotages are refused more often than honest campaigns of the same size."""
    refused: dict[str, list[str]] = {}
    unnoticed: dict[str, list[str]] = {}
    for (how, size), counts in sorted(rows.items(), key=lambda item: (list(WHAT).index(item[0][0]), item[0][1])):
        honest = rows.get(("honest", size))
        if how == "honest" or honest is None:
            continue
        table = np.array([[one["accepted"], one["all"] - one["accepted"]] for one in (counts, honest)])
        p = float(fisher_exact(table, alternative="less").pvalue)
        (refused if p < LEVEL else unnoticed).setdefault(WHAT[how], []).append(str(size))

    return (
        f"Refused more often than honest campaigns of the same size (Fisher's exact test, one-sided, p < {LEVEL}), "
        f"with the numbers of patients:\n{_listed(refused)}\n\nNot shown to be:\n{_listed(unnoticed)}"
    )


def _listed(sizes: Mapping[str, list[str]]) -> str:
    return "\n".join(f"- {what}: {', '.join(numbers)}" for what, numbers in sizes.items()) or "- none"


_NOTES = """
"Conforms" is acceptance where the procedure qualifies; where it does not, no campaign is accepted by qualification, and
the table shows what conformity alone sees. A campaign may be refused by several checks.

What stops each sabotage at a real coordinator: a model returned unchanged fails the update gate. `naive` is an
aggregation that was not rehearsed, which ends the validity of a qualification before conformity is asked. Passes, push
and patients are chosen by the hospital's own code: the digest of the bundle that ran is in its signed attestation, its
log and a replay on site show what it did, and conformity sees only what goes beyond the spread of honest rehearsals. A
hospital that fabricates both its process and its figures, with a step of an honest length, is accepted: nobody else can
measure its patients, and other hospitals' vetoes see only what their own test patients lose. Acceptance rests on the
qualification and on the hospital's honesty.
"""
