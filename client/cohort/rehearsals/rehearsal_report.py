"""A site's report on its rehearsals: from the scores that it kept to sums over all of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from client.cohort.rehearsals.rehearsal_files import ORIGINAL, RehearsalFiles, original_of
from client.cohort.site_data import SiteData
from common.learning.evaluation.qualification.comparison import Comparison, Margins, compare, distance
from common.learning.evaluation.qualification.figures import ClassLoss, SiteRehearsals
from common.learning.evaluation.qualification.tally import Rehearsals, tally
from common.learning.evaluation.qualification.utility import class_loss
from common.learning.records import Subset
from common.protocol.rehearsals import RehearseRequest

Floats = NDArray[np.float64]
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Kept:
    """What a site kept of a qualification's rehearsals, and the request that ends it."""

    files: RehearsalFiles
    data: SiteData
    request: RehearseRequest


def report(kept: Kept) -> SiteRehearsals:
    """Compare each rehearsal whose patients have not revoked since.

    Raises:
        CohortError: there are rehearsals, and too few to report.
    """
    by_number = {
        number: scores
        for number, round_number in sorted(kept.request.chosen.items())
        if (scores := kept.files.get(f"{number}-{round_number}")) is not None
    }
    originals = {
        str(scores["version"]): kept.files.get(original_of(str(scores["version"]))) or {}
        for scores in by_number.values()
    }
    controls = _never_seen(kept, list(originals.values()))
    by_size: dict[int, list[Comparison]] = defaultdict(list)

    for number, scores in by_number.items():
        comparison = _compared(kept, number, scores, originals[str(scores["version"])], controls)
        if comparison is not None:
            by_size[len(kept.files.drawn()[number])].append(comparison)

    groups = [Rehearsals(size, _stacked(comparisons)) for size, comparisons in sorted(by_size.items())]
    labels = _labels(next(iter(originals.values()), {}), controls)
    losses = [*_utility(kept, originals, list(by_number.values()))]

    return tally(kept.data.file.name, groups, labels, losses, kept.request.plan)


def distances_of(kept: Kept) -> dict[int, float]:
    """Distance of each rehearsal of this site by its number, for studies of one machine: it never leaves a hospital."""
    distance_of = {}
    for number, round_number in kept.request.chosen.items():
        scores = kept.files.get(f"{number}-{round_number}")
        if scores is None:
            continue
        original = kept.files.get(original_of(str(scores["version"]))) or {}
        comparison = _compared(kept, number, scores, original, _never_seen(kept, [original]))
        if comparison is not None:
            distance_of[number] = distance(comparison.residual, len(kept.files.drawn()[number]))

    return distance_of


def _compared(kept: Kept, number: int, after: Arrays, original: Arrays, controls: list[str]) -> Comparison | None:
    """One rehearsal of this site; None if it has none, or somebody in it has revoked."""
    patients_drawn = kept.files.drawn().get(number)
    before = kept.files.get(f"{number}-{ORIGINAL}")
    patient_of_name = kept.data.by_name(Subset.TRAIN)
    if (
        patients_drawn is None
        or before is None
        or "patient_margins" not in after
        or any(name not in patient_of_name for name in patients_drawn)
    ):
        return None

    patients = [patient_of_name[name] for name in patients_drawn]
    never_seen = kept.data.by_name(Subset.AUDIT)
    floor = kept.data.fold_scores.read("audit", patients, [never_seen[name] for name in controls])
    if floor is None or not floor.known().all():
        return None

    def of(scores: Arrays, who: str, names: list[str]) -> Floats:
        return np.asarray(_columns(scores, who, names))

    return compare(
        Margins(of(after, "patient", patients_drawn), of(after, "control", controls)),
        Margins(of(before, "patient", patients_drawn), of(original, "control", controls)),
        Margins(floor.margins, floor.controls[floor.fold].transpose(1, 0, 2)),
        _labels_of(before, "patient", patients_drawn),
        _labels(original, controls),
        kept.request.plan.share_level,
    )


def _never_seen(kept: Kept, originals: list[Arrays]) -> list[str]:
    """Never-seen patients whom all models in use scored, who have not revoked and have scores by all fold models."""
    patient_of_name = kept.data.by_name(Subset.AUDIT)
    names = [{str(name) for name in scores.get("control_names", ())} for scores in originals]
    there = sorted(set.intersection(*names) & patient_of_name.keys()) if names else []
    floor = kept.data.fold_scores.read("audit", [], [patient_of_name[name] for name in there])
    if floor is None:
        return []
    complete = np.asarray(np.isfinite(floor.controls).all(axis=(0, 1)))

    return [name for name, is_scored in zip(there, complete, strict=True) if is_scored]


def _columns(scores: Arrays, who: str, names: list[str]) -> np.ndarray:
    at = {str(name): position for position, name in enumerate(scores[f"{who}_names"])}
    return np.asarray(scores[f"{who}_margins"][:, [at[name] for name in names]])


def _labels_of(scores: Arrays, who: str, names: list[str]) -> np.ndarray:
    at = {str(name): position for position, name in enumerate(scores[f"{who}_names"])}
    return np.asarray(scores[f"{who}_own_labels"][[at[name] for name in names]])


def _labels(original: Arrays, controls: list[str]) -> np.ndarray:
    return _labels_of(original, "control", controls) if controls else np.zeros(0, dtype=np.int64)


def _stacked(compared: list[Comparison]) -> Comparison:
    return Comparison(
        **{field.name: np.stack([getattr(one, field.name) for one in compared]) for field in fields(Comparison)}
    )


def _utility(kept: Kept, originals: dict[str, Arrays], after: list[Arrays]) -> Iterator[ClassLoss]:
    """Loss of test AUC of each class through all rehearsals; of two classes the second one says it all."""
    with_test_scores = [scores for scores in after if "test" in scores and "test" in originals[str(scores["version"])]]
    if not with_test_scores:
        return
    all_scores = [*with_test_scores, *(originals[str(scores["version"])] for scores in with_test_scores)]
    # The same patients for all models, and nobody who has revoked since.
    names = sorted(
        set.intersection(*({*map(str, s["test_names"])} for s in all_scores)) & kept.data.by_name(Subset.TEST).keys()
    )
    before = np.stack([_probabilities(originals[str(scores["version"])], names) for scores in with_test_scores])
    candidates = np.stack([_probabilities(scores, names) for scores in with_test_scores])
    at = {str(name): position for position, name in enumerate(with_test_scores[0]["test_names"])}
    labels = with_test_scores[0]["test_labels"][[at[name] for name in names]]
    classes = before.shape[1]

    for label in range(1 if classes == 2 else 0, classes):
        yield class_loss(before[:, label], candidates[:, label], labels == label)


def _probabilities(scores: Arrays, names: list[str]) -> np.ndarray:
    at = {str(name): position for position, name in enumerate(scores["test_names"])}
    return np.asarray(scores["test"][:, [at[name] for name in names]])
