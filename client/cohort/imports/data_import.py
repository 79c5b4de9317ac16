"""A hospital's own data: read, checked, divided into the five sets, decoded, and written to `site.json`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from client.cohort.imports.import_source import without_patients
from client.cohort.imports.set_counts import count_sets
from client.cohort.site_files import SITE_FILE, SiteFile, read_site, write_site
from client.revocations.ledger import Ledger
from client.revocations.linkage.tokens import match, read_linkage
from client.revocations.look_alikes.doubtful import hold_unheard, unheard
from client.revocations.opening import open_ledger
from client.revocations.tombstones.overview import Overview, overview
from client.settings import SiteFolder
from common.errors import ConfigError
from common.learning.config import SplitConfig
from common.learning.data.embedding_cache import embeddings_beside
from common.learning.data.imaging.duplicates import DuplicateReport, find_duplicates, patient_groups
from common.learning.data.imaging.image_cache import ImageCache
from common.learning.data.splits import Groups, extend_split, split_cohort
from common.learning.data.tables.manifest import Manifest
from common.learning.data.tokenizer import load_tokenizer
from common.learning.model.checkpoint import ModelCard
from common.learning.model.pinned_encoders import check_encoders
from common.learning.records import Cohort, Split, Subset

OnImage = Callable[[int, int], None]
"""Called with the number of decoded images and the total."""

CACHE = Path("cache")
"""The image cache in a site's folder."""


@dataclass(frozen=True, slots=True)
class SiteOptions:
    """The site's options for an import.

    Attributes:
        name: of the site.
        seed: of the first split.
        distinct_ids: different ids mean different patients, however similar their images are.
    """

    name: str
    seed: int
    distinct_ids: bool = False


@dataclass(frozen=True, slots=True)
class SetAssignment:
    """The patients' sets after an import.

    Attributes:
        split: sets of all participating patients of the cohort, and of all patients known before.
        held_back: new patients who are left out because their image is that of a patient who has revoked.
        straddling: groups of similar images in several sets, required by the earlier sets or the manifest.
    """

    split: Split
    held_back: frozenset[str]
    straddling: int


@dataclass(frozen=True, slots=True)
class ImportReport:
    """The result of an import: numbers only.

    Attributes:
        studies: registered now.
        patients: registered now.
        new: of these, unknown before.
        absent: known before, but no longer in the data.
        revoked: patients in the data who have revoked.
        held_back: patients left out because their image is that of a patient who has revoked.
        doubtful: patients whose identifier resembles a revoked one: not used until a person says who is meant.
        straddling: groups of similar images in several sets.
        exact: pairs of image files with the same content.
        near: pairs of images that look the same.
        two_ids: pairs of both kinds between different patient ids.
        sets: studies by set and label.
    """

    studies: int
    patients: int
    new: int
    absent: int
    revoked: int
    held_back: int
    doubtful: int
    straddling: int
    exact: int
    near: int
    two_ids: int
    sets: dict[str, dict[str, int]]


def import_data(
    folder: Path, manifest: Manifest, card: ModelCard, options: SiteOptions, on_image: OnImage
) -> ImportReport:
    """Register a manifest's patients at the site in `folder`; a later import keeps every known patient's set.

    Only decoded images are written before everything is checked. Unlearned patients are not even read. Patients who
    must still be unlearned stay registered, even if the manifest no longer contains them.

    Raises:
        InputError: the manifest, an image, the card or the folder is wrong.
    """
    # Before hours of decoding: a wrong tokenizer or encoder would only show at the first training.
    check_card(card)
    with open_ledger(SiteFolder(folder)) as ledger:
        return _import(ledger, manifest, card, options, on_image)


def _import(
    ledger: Ledger, manifest: Manifest, card: ModelCard, options: SiteOptions, on_image: OnImage
) -> ImportReport:
    folder = ledger.folder.root
    of_manifest = frozenset(manifest.cohort.patients)
    # Before any image is read: some may have revoked at another hospital, or be meant by a doubtful identifier.
    if (linkage := read_linkage(ledger.folder)) is not None:
        match(ledger, linkage, of_manifest)
    doubtful = hold_unheard(ledger, of_manifest)
    so_far = overview(ledger, of_manifest)
    settled_patients = so_far.tombstones - so_far.open
    manifest = without_patients(manifest, settled_patients)
    cache = ImageCache(folder / CACHE, card.data.image_size, card.data.cache_bytes)
    duplicates = check_images(manifest, cache, on_image)
    groups = {} if options.distinct_ids else patient_groups(manifest.cohort, duplicates)

    # Only from here on: decoding takes long, and a revocation must not wait for it.
    with ledger.stones.locked():
        before = read_site(folder) if (folder / SITE_FILE).exists() else None
        sets_before: Mapping[str, Subset] = before.subsets if before else {}
        # Read under the lock: patients may have revoked while the images were decoded.
        revocations = overview(ledger, of_manifest)
        unheard_since = frozenset[str]().union(*(patients for _, patients in unheard(ledger, of_manifest).values()))
        cohort = Cohort(tuple(replace(s, site=options.name) for s in manifest.cohort.studies), card.classes)
        seed = before.seed if before else options.seed
        subsets = assign_sets(
            cohort, manifest.split, card.data.split, seed, groups, known=sets_before, revoked=revocations.tombstones
        )
        # A campaign may have ended while the images were decoded.
        out = subsets.held_back | unheard_since | (revocations.tombstones - revocations.open)
        here = cohort.where(lambda s: s.patient not in out)
        site_file = _with_pending(here, before, card, revocations)
        digests = {s.image: cache.digest(s.image) for s in site_file.studies}
        write_site(
            folder,
            site_file,
            subsets.split,
            card,
            name=options.name,
            seed=seed,
            device="auto",  # `site.toml` says which
            cache=CACHE,
            digests=digests,
        )

    # Only once the new file is on the disk: before that, a crash would leave registered studies without pixels.
    if before is not None:
        digests_gone = {row.digest for row in before.studies} - set(digests.values())
        cache.discard_digests(digests_gone)
        if card.model.frozen != "none":
            reports = {row.report for row in before.studies} - {study.report for study in site_file.studies}
            embeddings_beside(cache.root, card.data.embedding_bytes).discard_studies(digests_gone, reports)
    return ImportReport(
        studies=len(site_file),
        patients=len(site_file.patients),
        new=sum(p not in sets_before for p in site_file.patients),
        absent=len(sets_before.keys() - of_manifest),
        revoked=len(of_manifest & revocations.tombstones),
        held_back=len(subsets.held_back),
        doubtful=doubtful + len(unheard_since),
        straddling=subsets.straddling,
        exact=len(duplicates.exact),
        near=len(duplicates.near),
        two_ids=len(duplicates.two_ids),
        sets=count_sets(site_file, subsets.split.subset_of, revocations.tombstones),
    )


def check_card(card: ModelCard) -> None:
    """Check that this site's encoders and tokenizer are those of the model.

    Raises:
        ConfigError: the tokenizer has another vocabulary, or a folder holds no encoder that is known.
        CheckpointError: a folder holds another encoder than the federation's.
    """
    check_encoders(card)
    vocab_size = load_tokenizer(card.data.tokenizer, card.data.max_tokens).vocab_size

    if vocab_size != card.vocab_size:
        raise ConfigError(
            f"the tokenizer has {vocab_size} tokens, the federation's model {card.vocab_size}",
            where="data.tokenizer",
            remedy="use the federation's tokenizer",
        )


def check_images(manifest: Manifest, cache: ImageCache, on_image: OnImage) -> DuplicateReport:
    """Decode all images into the cache and compare them with each other.

    Raises:
        ImageError: an image cannot be read.
        OutputError: the cache cannot be written.
    """
    studies = manifest.cohort.studies
    cache.warm([s.image for s in studies], lambda done: on_image(done, len(studies)), place=manifest.place)
    return find_duplicates(manifest.cohort, cache)


def assign_sets(
    cohort: Cohort,
    given: Split | None,
    config: SplitConfig,
    seed: int,
    groups: Groups,
    *,
    known: Mapping[str, Subset],
    revoked: Collection[str],
) -> SetAssignment:
    """Divide the patients of one site into the five sets; `known` patients keep their set.

    Args:
        cohort: all patients of the site.
        given: the sets that the data specify, used for new patients.
        config: shares of the sets, without `given`.
        seed: of the draw.
        groups: patients with similar images, who must stay together.
        known: sets of patients registered before.
        revoked: patients who must not return under another id.

    Raises:
        CohortError: too few patients, or patients of several sites.
    """
    groups_of_revoked = {groups[p] for p in revoked if p in groups}
    held_back = frozenset(
        p for p in cohort.patients if p not in known and p not in revoked and groups.get(p) in groups_of_revoked
    )
    cohort = cohort.where(lambda s: s.patient not in held_back)

    if given is not None:
        new_sets: Mapping[str, Subset] = given.subset_of
    elif known:
        new_sets = extend_split(cohort, known, config, seed, groups).subset_of
    else:
        new_sets = split_cohort(cohort, config, seed, groups).subset_of

    # Known patients keep their set: figures of patients who were trained on before would be too good.
    subset_of = {p: new_sets[p] for p in cohort.patients if p not in known}
    split = Split({**known, **subset_of})
    group_sets = {(group, split.subset_of[p]) for p, group in groups.items() if p in split.subset_of}
    straddling = sum(count > 1 for count in Counter(group for group, _ in group_sets).values())

    return SetAssignment(split, held_back, straddling)


def _with_pending(cohort: Cohort, before: SiteFile | None, card: ModelCard, revocations: Overview) -> Cohort:
    """The cohort, plus the existing studies of patients who must still be unlearned and are no longer in it."""
    missing = revocations.open - frozenset(cohort.patients)
    if before is None or not missing:
        return cohort
    if before.card.classes != card.classes:
        raise ConfigError(
            "the classes differ from those with which revoked patients were trained",
            where="classes",
            remedy="import again after the waiting revocations have been unlearned",
        )

    earlier = before.cohort.of(missing).where(lambda s: s.image.is_file())

    return Cohort((*cohort.studies, *earlier.studies), cohort.classes)
