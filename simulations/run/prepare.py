"""From a manifest to site folders: checks, sites, splits, decoded images, and who will revoke."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from client.cohort.imports.data_import import assign_sets, check_images
from client.cohort.site_files import write_site
from common.errors import CohortError, ConfigError, OutputError
from common.learning.config import ExperimentConfig
from common.learning.data.imaging.duplicates import patient_groups
from common.learning.data.imaging.image_cache import ImageCache
from common.learning.data.splits import Groups, choose_forget, partition
from common.learning.data.tables.manifest import Manifest, read_manifest
from common.learning.data.tables.mimic_cxr import read_mimic_cxr
from common.learning.data.tables.patient_list import read_patient_list
from common.learning.data.tokenizer import load_tokenizer
from common.learning.model.checkpoint import ModelCard
from common.learning.records import Cohort, Split, Subset
from simulations.run.settings import SimulationConfig
from simulations.synthetic.federation import write_federation

FOLDS_FILE = "folds.csv"
REPORTS_FOLDER = "reports"
"""Paths in a folder of MIMIC-CXR. Reports are in a folder of their own, or beside the images."""

Among = Callable[[Cohort, Groups], Cohort]


@dataclass(frozen=True, slots=True)
class Prepared:
    """Sites on disk, and which patients will revoke at each."""

    folder: Path
    card: ModelCard
    sites: tuple[str, ...]
    forget: dict[str, tuple[str, ...]]
    findings: str
    cache: Path
    """Folder of the decoded images, and in it that of embeddings."""

    def site_folder(self, name: str) -> Path:
        """Folder of one site."""
        return self.folder / "sites" / name


def prepare(
    config: SimulationConfig,
    out: Path,
    on_image: Callable[[int, int], None],
    among: Among | None = None,
    always_trained: frozenset[str] = frozenset(),
    cache_folder: Path | None = None,
) -> Prepared:
    """Write `out/sites/<name>/site.json` and fill the image cache; everything is checked before anything is written.

    `among` leaves patients out; it receives the groups of patients who must stay together. Patients in
    `always_trained`, and those listed in a forget file, are in the training set. Runs on the same data may share a
    `cache_folder`.

    Raises:
        InputError: the manifest, an image, the forget list or the folder.
    """
    require_writable(out)
    manifest = _manifest(config, out)
    experiment = config.experiment
    card = _card(experiment, manifest.cohort.classes)
    cache_folder = out / "cache" if cache_folder is None else cache_folder
    cache = ImageCache(cache_folder, card.data.image_size, card.data.cache_bytes)
    duplicates = check_images(manifest, cache, on_image)
    # Made-up radiographs resemble one another more than real ones do, and who is who is known by construction.
    groups = patient_groups(manifest.cohort, duplicates) if config.manifest else {}
    cohort = manifest.cohort if among is None else among(manifest.cohort, groups)

    # Groups are dealt whole, so that no patient or picture lies at two sites.
    if config.sites != "natural":
        cohort = partition(cohort, config.sites, experiment.seed, groups)
    elif not all(s.site for s in cohort.studies):
        raise CohortError(
            "the manifest names no sites", where=str(manifest.source), remedy="add a column site, or use --sites N"
        )

    if len(cohort.sites) < 2:
        raise CohortError("a federation needs two sites", where=str(manifest.source), remedy="use --sites 2 or more")
    per_site = {name: cohort.where(lambda s, name=name: s.site == name) for name in cohort.sites}  # type: ignore[misc]
    splits = {
        name: assign_sets(
            part, manifest.split, experiment.data.split, experiment.seed, groups, known={}, revoked=()
        ).split
        for name, part in per_site.items()
    }
    # Before the choice below, which takes training patients only; listed patients follow after it.
    if config.forget_shared:
        at_several_sites = _shared(per_site)
        splits = {name: _in_training(split, at_several_sites) for name, split in splits.items()}

    forget = _forget(config, per_site, splits)
    if isinstance(config.forget, str):
        always_trained |= {patient for patients in forget.values() for patient in patients}
    splits = {name: _in_training(split, always_trained) for name, split in splits.items()}
    for name, part in per_site.items():
        write_site(
            out / "sites" / name,
            part,
            splits[name],
            card,
            name=name,
            seed=experiment.seed,
            device=experiment.device,
            cache=cache_folder.resolve(),
        )

    return Prepared(out, card, cohort.sites, forget, duplicates.summary, cache_folder)


def _card(experiment: ExperimentConfig, classes: tuple[str, ...]) -> ModelCard:
    tokenizer = load_tokenizer(experiment.data.tokenizer, experiment.data.max_tokens)
    return ModelCard(
        model=experiment.model, data=experiment.data, classes=classes, vocab_size=tokenizer.vocab_size
    ).pinned()


def require_writable(out: Path) -> None:
    """Create the folder.

    Raises:
        OutputError: it cannot be created or written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".probe"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as err:
        raise OutputError(
            f"cannot write here: {err.strerror}", where=str(out), remedy="choose another folder with --out"
        ) from None


def _manifest(config: SimulationConfig, out: Path) -> Manifest:
    if config.manifest:
        return _given(Path(config.manifest))
    hospitals = config.hospitals
    path = out / "hospitals" / "manifest.csv"

    # A continued run keeps the hospitals that it trained on.
    if not path.exists():
        path = write_federation(
            out / "hospitals",
            sites=hospitals.sites,
            patients=hospitals.patients,
            seed=config.experiment.seed,
            image_size=hospitals.image_size,
        )

    return read_manifest(path)


def _given(path: Path) -> Manifest:
    if not path.is_dir():
        return read_manifest(path)
    reports = path / REPORTS_FOLDER
    return read_mimic_cxr(path, path / FOLDS_FILE, reports=reports if reports.is_dir() else None)


def _forget(
    config: SimulationConfig, cohorts: dict[str, Cohort], splits: dict[str, Split]
) -> dict[str, tuple[str, ...]]:
    """Patients who revoke at each site. Patients known at several sites revoke at all of them."""
    if isinstance(config.forget, str):
        return listed_patients(Path(config.forget), cohorts)
    sites = config.forget_sites or (sorted(cohorts)[0],)
    unknown = sorted(set(sites) - set(cohorts))

    if unknown:
        raise ConfigError(
            f"no site {unknown[0]!r}", where="forget_sites", remedy=f"use one of {', '.join(sorted(cohorts))}"
        )

    training_patients = sum(len(split.patients(Subset.TRAIN)) for split in splits.values())
    total = round(config.forget * training_patients) if config.forget < 1 else int(config.forget)
    # The first sites take one patient more each where the total does not divide.
    counts = [total // len(sites) + (at < total % len(sites)) for at in range(len(sites))]
    if not min(counts):
        raise CohortError(f"{total} patients cannot revoke at {len(sites)} sites", remedy="raise --forget")
    at_several_sites = _shared(cohorts) if config.forget_shared else frozenset()
    forget = set(at_several_sites)

    for name, count in zip(sites, counts, strict=True):
        alone = cohorts[name].where(lambda s: s.patient not in at_several_sites)
        # Patients known at several sites already count towards the number of each.
        more = count - (len(cohorts[name].patients) - len(alone.patients))
        if more > 0:
            forget |= {*choose_forget(alone, splits[name], more, config.experiment.seed)}

    # Whoever is drawn at one site revokes wherever the patient is known.
    everywhere = {name: tuple(p for p in part.patients if p in forget) for name, part in cohorts.items()}

    return {name: patients for name, patients in everywhere.items() if patients}


def _shared(cohorts: dict[str, Cohort]) -> frozenset[str]:
    """Patients known at several sites.

    Raises:
        CohortError: there are none.
    """
    site_counts = Counter(p for part in cohorts.values() for p in part.patients)
    patients = frozenset(p for p, sites in site_counts.items() if sites > 1)
    if not patients:
        raise CohortError("no patient is known at several sites", where="forget_shared", remedy="leave it out")
    return patients


def _in_training(split: Split, patients: frozenset[str]) -> Split:
    return Split({p: Subset.TRAIN if p in patients else subset for p, subset in split.subset_of.items()})


def listed_patients(path: Path, cohorts: dict[str, Cohort]) -> dict[str, tuple[str, ...]]:
    """Patients listed in a file, by site.

    Raises:
        ManifestError: the file cannot be read.
        CohortError: a patient is at no site.
    """
    identifiers = read_patient_list(path)
    all_patients = {p for part in cohorts.values() for p in part.patients}
    unknown = sum(p not in all_patients for p in identifiers)

    if unknown:
        raise CohortError(
            f"{unknown} of {len(identifiers)} patients are in no site",
            where=str(path),
            remedy="correct the forget list",
        )

    on_list = frozenset(identifiers)
    forget = {name: tuple(p for p in part.patients if p in on_list) for name, part in cohorts.items()}

    return {name: patients for name, patients in forget.items() if patients}
