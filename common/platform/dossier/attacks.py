"""Attacks that were run on a version, attacks that were not, and the limits of both."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from common.evidence.outcomes.acceptance import MEMBERSHIP

_SHADOWS = "needs many models trained with and without the patients; measured in simulations only, not on this version"
NOT_RUN = {
    "likelihood-ratio membership inference (LiRA, U-LiRA)": _SHADOWS,
    "distance to retrained models (KLoM, forgetting epsilon)": _SHADOWS,
    "attribute inference": "not implemented",
    "model inversion and reconstruction of images or reports": "not implemented",
    "extraction or regurgitation of training data": "not implemented; the model classifies and generates no text",
    "exfiltration of the weights": "an attack on an installation, not on the weights; see the threat model",
}
"""Attacks that EDPB Opinion 28/2024 or the literature names and that no campaign runs, with the reason."""

LIMITS = (
    "This dossier does not claim that the model is anonymous. By EDPB Opinion 28/2024 a model trained on personal data "
    "is not anonymous in every case; that is assessed case by case.",
    "The opinion asks that it be insignificantly likely to extract personal data of those trained on, or to obtain "
    "them by queries, with all means reasonably likely to be used. Only the attacks listed as run were measured.",
    "Hospitals report their own figures and their own deletions; the coordinator does not see their disks.",
    "Copies outside the federation (exports that were handed on, backups) are not covered.",
    "Whether the training itself was lawful is not assessed here.",
    "The mapping to legal duties helps to find a file. It is not legal advice.",
)


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of an audit: decimal texts, empty where it was not measured, with the reason in `missing`."""

    name: str
    value: str = ""
    low: str = ""
    high: str = ""
    patients: int | None = None
    missing: str = ""


def attacks_of(figures: Iterable[Figure]) -> dict[str, object]:
    """Attacks run, with their figures, and attacks not run, with the reason."""
    attacks = [figure for figure in figures if figure.name.startswith(MEMBERSHIP)]
    run = [
        {
            "attack": "membership inference by the loss, against matched never-seen patients",
            "figure": one.name,
            "value": one.value,
            "interval95": [one.low, one.high],
            "patients": one.patients,
            "reported_by": "site",
        }
        for one in attacks
        if one.value
    ]
    not_run = [{"attack": one.name, "why": one.missing} for one in attacks if not one.value]
    if not attacks:
        not_run.append({"attack": "membership inference by the loss", "why": "no audit of forgotten patients is here"})

    return {"run": run, "not_run": [*not_run, *({"attack": name, "why": why} for name, why in NOT_RUN.items())]}


def limits_of(attested: Sequence[str]) -> dict[str, object]:
    """Limits that the attestation states, and those of every dossier."""
    return {"stated_in_the_attestation": list(attested), "of_every_dossier": list(LIMITS)}
