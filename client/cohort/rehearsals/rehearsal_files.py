"""What a site keeps of rehearsals until their end: who was drawn, by pseudonym, and scores by each candidate."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import CohortError, OutputError
from common.files import write_text
from common.learning.evaluation.qualification.figures import SiteRehearsals

ORIGINAL = "original"
REPORT = "report.json"


def original_of(version: str) -> str:
    """Name of the scores by a model in use, given its digest."""
    return f"{ORIGINAL}-{version[:16]}"


@dataclass(frozen=True, slots=True)
class RehearsalFiles:
    """The folder of one qualification, named by the digest of its register."""

    folder: Path

    @classmethod
    def at(cls, site: Path, qualification: str) -> RehearsalFiles:
        """The folder in a site's own."""
        return cls(site / "rehearsals" / qualification)

    def drawn(self) -> dict[int, list[str]]:
        """Pseudonyms of the patients of each rehearsal, in order."""
        path = self.folder / "drawn.json"
        if not path.exists():
            return {}
        return {int(number): names for number, names in json.loads(path.read_text(encoding="utf-8")).items()}

    def keep_drawn(self, number: int, names: list[str]) -> None:
        """Keep who was drawn, before anything is done with them."""
        write_text(self.folder / "drawn.json", json.dumps({**self.drawn(), number: names}))

    def put(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Keep scores under a name; what was there is replaced.

        Raises:
            OutputError: the disk is full.
        """
        part = self.folder / f".{name}.{os.getpid()}.npz"
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            np.savez(part, allow_pickle=False, **arrays)
            os.replace(part, self.folder / f"{name}.npz")
        except OSError as err:
            part.unlink(missing_ok=True)
            raise OutputError(f"scores cannot be kept: {err.strerror}", where=str(self.folder)) from None

    def get(self, name: str) -> dict[str, np.ndarray] | None:
        """Scores by their name; None if there are none.

        Raises:
            CohortError: the file is damaged.
        """
        path = self.folder / f"{name}.npz"
        if not path.exists():
            return None
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return {key: arrays[key] for key in arrays.files}
        except (OSError, ValueError) as err:
            raise CohortError("scores of rehearsals are damaged", where=str(path)) from err

    def reported(self) -> SiteRehearsals | None:
        """The report that took the place of the scores, if the qualification has ended here."""
        path = self.folder / REPORT
        return SiteRehearsals.model_validate_json(path.read_bytes()) if path.exists() else None

    def replace_by(self, report: SiteRehearsals) -> None:
        """Keep the report, which holds sums alone, and delete everything else."""
        # The report first: it can be given again after a crash.
        write_text(self.folder / REPORT, report.model_dump_json())
        for path in self.folder.iterdir():
            if path.name != REPORT:
                path.unlink()
