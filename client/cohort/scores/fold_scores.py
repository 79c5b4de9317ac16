"""Scores of patients by fold models, kept at the site as rows of the patient and purged with them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine, delete, insert, select, update
from sqlalchemy.orm import Session

from client.database import FoldScoreRow, opened
from client.settings import SiteFolder
from common.learning.folds.margins import NO_FOLD, OutOfFold
from common.learning.folds.settings import Family
from common.platform.sql import drop_erased, reading, transaction

Floats = NDArray[np.float64]
_CHUNK = 400


@dataclass(frozen=True, slots=True)
class FoldScores:
    """The rows of the site in `folder`; `name_of` gives the name of a patient in them.

    A site with a database keeps them there under pseudonyms. A simulated site has a file for them.
    """

    folder: SiteFolder
    name_of: Callable[[str], str]

    def folds(self, lineage: str, family: Family, deal: Callable[[], Mapping[str, int]]) -> dict[str, int]:
        """The fold of each training patient in a lineage, by the name in the rows; dealt by `deal` at the first call.

        Later calls repeat the same folds: patients who joined since are in none, so that no model learns them that
        is to score them.
        """
        of_family = (FoldScoreRow.lineage == lineage, FoldScoreRow.family == family, FoldScoreRow.member.is_(True))

        with self._opened() as engine, transaction(engine) as session:
            score_rows = session.execute(select(FoldScoreRow.patient, FoldScoreRow.fold).where(*of_family)).all()
            if score_rows:
                return {row.patient: row.fold for row in score_rows}
            dealt = {self.name_of(patient): fold for patient, fold in deal().items()}
            _insert(session, (_row(lineage, family, name, fold, member=True) for name, fold in sorted(dealt.items())))

        return dealt

    def keep(
        self,
        lineage: str,
        family: Family,
        fold: int,
        members: Mapping[str, Sequence[float]],
        controls: Mapping[str, Sequence[float]],
    ) -> None:
        """Keep the margins `[3]` of patients under one model; scores of earlier lineages of the family are deleted.

        Args:
            lineage: of the model.
            family: of the model.
            fold: its number.
            members: training patients of this fold, whom the model never saw.
            controls: calibration and audit patients.
        """
        here = (FoldScoreRow.lineage == lineage, FoldScoreRow.family == family, FoldScoreRow.fold == fold)

        with self._opened() as engine:
            with transaction(engine) as session:
                # Scores by models of an earlier training are data about patients that nobody needs.
                session.execute(
                    delete(FoldScoreRow).where(FoldScoreRow.family == family, FoldScoreRow.lineage != lineage)
                )
                # Controls are written anew. Members keep the row in which their fold was dealt.
                session.execute(delete(FoldScoreRow).where(*here, FoldScoreRow.member.is_(False)))
                for patient, margins in sorted(members.items()):
                    image, text, fusion = map(float, margins)
                    row = (*here, FoldScoreRow.member.is_(True), FoldScoreRow.patient == self.name_of(patient))
                    session.execute(update(FoldScoreRow).where(*row).values(image=image, text=text, fused=fusion))
                _insert(
                    session,
                    (
                        _row(lineage, family, self.name_of(patient), fold, member=False, margins=margins)
                        for patient, margins in sorted(controls.items())
                    ),
                )

            # The journal of SQLite still has the rows that were deleted.
            drop_erased(engine)

    def read(self, family: Family, patients: Sequence[str], controls: Sequence[str]) -> OutOfFold | None:
        """Margins of training `patients` out of fold, and those of never-seen `controls` under each model, in order.

        None if the site has no scores of this family.
        """
        if not self._exists:
            return None
        has_margins = (FoldScoreRow.family == family, FoldScoreRow.fused.is_not(None))
        names = [self.name_of(patient) for patient in patients]
        control_names = [self.name_of(patient) for patient in controls]
        columns = (FoldScoreRow.patient, FoldScoreRow.fold, FoldScoreRow.member)
        query = select(*columns, FoldScoreRow.image, FoldScoreRow.text, FoldScoreRow.fused).where(*has_margins)

        with self._opened() as engine, reading(engine) as session:
            folds = session.scalars(select(FoldScoreRow.fold).distinct().where(*has_margins)).all()
            if not folds:
                return None
            rows = [
                row
                for some in _chunks({*names, *control_names})
                for row in session.execute(query.where(FoldScoreRow.patient.in_(some)))
            ]

        of_member = {row.patient: (row.fold, (row.image, row.text, row.fused)) for row in rows if row.member}
        of_control = {(row.patient, row.fold): (row.image, row.text, row.fused) for row in rows if not row.member}
        # Who has no score is NaN, so that rows keep the order of the patients.
        none = (np.nan, np.nan, np.nan)
        members = [of_member.get(name, (NO_FOLD, none)) for name in names]
        each = [[of_control.get((name, fold), none) for name in control_names] for fold in range(max(folds) + 1)]

        return OutOfFold(
            np.array([fold for fold, _ in members], dtype=np.int64),
            np.array([margins for _, margins in members], dtype=float).reshape(len(names), 3).T,
            np.array(each, dtype=float).reshape(len(each), len(control_names), 3).transpose(0, 2, 1),
        )

    def purge(self, patients: Collection[str]) -> int:
        """Delete all rows of patients; returns how many there were. Nothing of them stays in the file."""
        if not patients or not self._exists:
            return 0
        names = {self.name_of(patient) for patient in patients}
        count = 0

        with self._opened() as engine:
            with transaction(engine) as session:
                for some in _chunks(names):
                    of_some = FoldScoreRow.patient.in_(some)
                    count += len(session.scalars(select(FoldScoreRow.fold).where(of_some)).all())
                    session.execute(delete(FoldScoreRow).where(of_some))

            if count:
                drop_erased(engine)
        return count

    @property
    def _exists(self) -> bool:
        return self.folder.has_database or self.folder.simulated_fold_scores.exists()

    @contextmanager
    def _opened(self) -> Iterator[Engine]:
        with opened(self.folder.fold_scores_url) as engine:
            if not self.folder.has_database:
                FoldScoreRow.metadata.create_all(engine, [FoldScoreRow.metadata.tables[FoldScoreRow.__tablename__]])
            yield engine


def _row(
    lineage: str, family: Family, name: str, fold: int, *, member: bool, margins: Sequence[float] | None = None
) -> dict[str, object]:
    image, text, fusion = (None, None, None) if margins is None else map(float, margins)
    return {
        "lineage": lineage,
        "family": family,
        "patient": name,
        "fold": fold,
        "member": member,
        "image": image,
        "text": text,
        "fused": fusion,
    }


def _insert(session: Session, rows: Iterable[dict[str, object]]) -> None:
    values = list(rows)
    if values:
        session.execute(insert(FoldScoreRow), values)


def _chunks(names: Collection[str]) -> Iterator[Sequence[str]]:
    """Split names into chunks that fit in a statement of SQLite."""
    in_order = sorted(names)
    return (in_order[start : start + _CHUNK] for start in range(0, len(in_order), _CHUNK))
