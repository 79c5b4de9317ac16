"""What a site keeps on its own disk: its cohort, who is in which set, and its revocations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from common.errors import CohortError
from common.files import write_text
from common.model.checkpoint import ModelCard
from common.records import Cohort, Split, Study, Subset

SITE_FILE, REVOCATIONS_FILE = "site.json", "revocations.json"


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    patient: str
    study: str
    image: str
    report: str
    label: int
    view: str = ""


class SiteFile(BaseModel):
    """`site.json`: never leaves the site."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    card: ModelCard
    studies: tuple[_Row, ...]
    subsets: dict[str, Subset]
    seed: int
    device: str = "auto"
    cache: str = "cache"

    @property
    def cohort(self) -> Cohort:
        """The site's studies."""
        rows = (
            Study(r.patient, r.study, Path(r.image), r.report, r.label, site=self.name, view=r.view)
            for r in self.studies
        )
        return Cohort(tuple(rows), self.card.classes)


class Revocations(BaseModel):
    """`revocations.json`: a patient stays here for ever; `pending` ones are still to be unlearned."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    states: dict[str, Literal["pending", "unlearned"]] = {}

    @property
    def tombstones(self) -> frozenset[str]:
        """All revoked patients: no training or retention ever reads them again."""
        return frozenset(self.states)

    @property
    def pending(self) -> frozenset[str]:
        """Those whom the model has still to forget."""
        return frozenset(p for p, state in self.states.items() if state == "pending")


def write_site(
    folder: Path, cohort: Cohort, split: Split, card: ModelCard, *, name: str, seed: int, device: str, cache: Path
) -> None:
    """Register a cohort at a site; earlier revocations stay in force."""
    rows = tuple(
        _Row(patient=s.patient, study=s.study, image=str(s.image), report=s.report, label=s.label, view=s.view)
        for s in cohort.studies
    )
    file = SiteFile(
        name=name, card=card, studies=rows, subsets=dict(split.subset_of), seed=seed, device=device, cache=str(cache)
    )
    write_text(folder / SITE_FILE, file.model_dump_json())


def read_site(folder: Path) -> SiteFile:
    """Read `site.json`.

    Raises:
        CohortError: missing or damaged.
    """
    try:
        return SiteFile.model_validate_json((folder / SITE_FILE).read_bytes())
    except (OSError, ValidationError) as err:
        raise CohortError("no readable site here", where=str(folder), remedy="prepare the site again") from err


def read_revocations(folder: Path) -> Revocations:
    """Read `revocations.json`; a damaged file is an error, never an empty list.

    Raises:
        CohortError: damaged.
    """
    path = folder / REVOCATIONS_FILE
    try:
        return Revocations.model_validate_json(path.read_bytes()) if path.exists() else Revocations()
    except (OSError, ValidationError) as err:
        raise CohortError("damaged", where=str(path), remedy="restore it from a backup; nothing runs before") from err


def write_revocations(folder: Path, revocations: Revocations) -> None:
    """Write `revocations.json` whole."""
    write_text(folder / REVOCATIONS_FILE, json.dumps(revocations.model_dump(), sort_keys=True))
