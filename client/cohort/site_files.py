"""`site.json`: a site's cohort and its sets. It contains reports and identities, and never leaves the site."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from common.errors import CohortError
from common.files import write_durable
from common.learning.model.card import ModelCard
from common.learning.records import Cohort, Split, Study, Subset

SITE_FILE = "site.json"


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    patient: str
    study: str
    image: str
    report: str
    label: int
    view: str = ""
    digest: str = ""
    """SHA-256 of the image file, which finds its pixels in the cache even without the file."""


class SiteFile(BaseModel):
    """`site.json`: never leaves the site."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    card: ModelCard
    studies: tuple[_Row, ...]
    subsets: dict[str, Subset]
    seed: int
    """Seed of the split; later imports keep it."""
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
    folder: Path,
    cohort: Cohort,
    split: Split,
    card: ModelCard,
    *,
    name: str,
    seed: int,
    device: str,
    cache: Path,
    digests: Mapping[Path, str] | None = None,
) -> None:
    """Register a cohort at a site; earlier revocations remain valid.

    Raises:
        OutputError: the folder cannot be written.
    """
    rows = tuple(
        _Row(
            patient=s.patient,
            study=s.study,
            image=str(s.image),
            report=s.report,
            label=s.label,
            view=s.view,
            digest=(digests or {}).get(s.image, ""),
        )
        for s in cohort.studies
    )
    _write(
        folder,
        SiteFile(
            name=name,
            card=card,
            studies=rows,
            subsets=dict(split.subset_of),
            seed=seed,
            device=device,
            cache=str(cache),
        ),
    )


def drop_studies(folder: Path, patients: Collection[str]) -> int:
    """Remove the studies of patients from `site.json`; the patients stay known. Returns the number of studies.

    Raises:
        CohortError: missing or damaged.
        OutputError: the folder cannot be written.
    """
    file = read_site(folder)
    remaining = tuple(row for row in file.studies if row.patient not in patients)
    if len(remaining) < len(file.studies):
        _write(folder, file.model_copy(update={"studies": remaining}))
    return len(file.studies) - len(remaining)


def read_site(folder: Path) -> SiteFile:
    """Read `site.json`.

    Raises:
        CohortError: missing or damaged.
    """
    try:
        return SiteFile.model_validate_json((folder / SITE_FILE).read_bytes())
    except (OSError, ValidationError):  # do not chain: its text could quote a report
        raise CohortError("no readable site here", where=str(folder), remedy="import its data again") from None


def _write(folder: Path, file: SiteFile) -> None:
    write_durable(folder / SITE_FILE, file.model_dump_json().encode())
