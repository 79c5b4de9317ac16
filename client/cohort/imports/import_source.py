"""Reads what an import starts from: a manifest or a MIMIC-CXR folder, and the federation's model card."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from common.errors import CohortError, ConfigError
from common.learning.data.tables.manifest import Manifest, read_manifest
from common.learning.data.tables.mimic_cxr import SEVERITIES, read_mimic_cxr
from common.learning.model.checkpoint import ModelCard
from common.learning.records import Cohort


def read_source(
    source: Path,
    card: ModelCard,
    *,
    split: Path | None = None,
    reports: Path | None = None,
    only_site: str | None = None,
) -> Manifest:
    """Read a manifest, or a MIMIC-CXR folder with its `split` file.

    Raises:
        InputError: a file or row is wrong, or the labels are not the federation's classes.
    """
    if source.is_dir():
        if split is None:
            raise ConfigError(
                "a MIMIC-CXR folder needs a file with its folds", where=str(source), remedy="give --split"
            )

        if card.classes != SEVERITIES:
            raise ConfigError(
                f"the federation's classes are {', '.join(card.classes)}, those of MIMIC-CXR {', '.join(SEVERITIES)}",
                where=str(source),
                remedy="import a manifest with the federation's classes",
            )

        # Absolute, as the site's processes work in other folders.
        return read_mimic_cxr(source.resolve(), split.resolve(), reports=reports.resolve() if reports else None)

    manifest = read_manifest(source.resolve(), card.classes)
    if only_site is not None:
        manifest = select_rows(manifest, [study.site == only_site for study in manifest.cohort.studies])
    sites = manifest.cohort.sites
    if not sites:
        raise CohortError("no rows of this site", where=str(source), remedy="check --only-site")
    if len(sites) > 1:
        raise CohortError("the rows belong to several sites", where=str(source), remedy="choose one with --only-site")
    return manifest


def read_card(path: Path) -> ModelCard:
    """Read a `ModelCard`: the federation's model, data settings and classes.

    Raises:
        ConfigError: missing, or not a card.
    """
    try:
        return ModelCard.model_validate_json(path.read_bytes())
    except OSError as err:
        raise ConfigError(
            f"cannot be read: {err.strerror}", where=str(path), remedy="join the federation first, or give --card"
        ) from None
    except ValidationError as err:
        first = err.errors()[0]
        raise ConfigError(
            f"{'.'.join(map(str, first['loc']))}: {first['msg']}", where=str(path), remedy="ask the coordinator for it"
        ) from None


def without_patients(manifest: Manifest, patients: Collection[str]) -> Manifest:
    """A manifest without some patients."""
    return select_rows(manifest, [study.patient not in patients for study in manifest.cohort.studies])


def select_rows(manifest: Manifest, keep: list[bool]) -> Manifest:
    """Some rows of a manifest."""
    rows = [row for row, is_kept in enumerate(keep) if is_kept]
    cohort = Cohort(tuple(manifest.cohort.studies[row] for row in rows), manifest.cohort.classes)
    return replace(manifest, cohort=cohort, lines=tuple(manifest.lines[row] for row in rows))
