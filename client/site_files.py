"""`site.json`: a site's cohort and who is in which set. It holds reports and identities, and never leaves the site."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from common.errors import CohortError
from common.files import write_durable
from common.model.checkpoint import ModelCard
from common.records import Cohort, Split, Study, Subset

SITE_FILE = "site.json"


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
    write_durable(folder / SITE_FILE, file.model_dump_json().encode())


def read_site(folder: Path) -> SiteFile:
    """Read `site.json`.

    Raises:
        CohortError: missing or damaged.
    """
    try:
        return SiteFile.model_validate_json((folder / SITE_FILE).read_bytes())
    except (OSError, ValidationError):  # its text could quote a report
        raise CohortError("no readable site here", where=str(folder), remedy="import its data again") from None
