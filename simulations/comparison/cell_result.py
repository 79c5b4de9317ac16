"""The schema of a cell's `result.json`, from which everything is drawn."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from common.errors import ResultError
from common.files import write_text
from simulations.comparison.plan import Cell
from simulations.result import Cost, DecisionResult, ModelResult

RESULT_FILE = "result.json"


class Roc(BaseModel):
    """Of "confident in the true class means a member", fused, one score a patient, at the forgetting hospitals.

    `tpr[i]` is the share of forget patients found at the threshold that takes `fpr[i]` of never-seen ones for members;
    it starts at (0, 0) and ends at (1, 1).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    fpr: tuple[float, ...]
    tpr: tuple[float, ...]


class CellResult(BaseModel):
    """One model after one method: utility, attacks and cost. Null figures have their reason in `model.missing`."""

    model_config = ConfigDict(extra="forbid")
    schema_version: Literal[1] = 1
    cell: Cell
    digest: str
    """Digest of the cell's settings; with other settings, the cell runs again."""
    settings: dict[str, Any]
    """`unlearn` and `campaign`, after tuning."""
    forget_sites: tuple[str, ...]
    model: ModelResult
    test_auc_by_class: dict[str, float | None]
    roc: Roc
    cost: Cost
    """Cost of unlearning and retention; for original and retrained, of the training. Audits are not counted."""
    folds_cost: Cost | None = None
    """Cost of the fold models that the method's targets rest on, once for all campaigns; None without them."""
    decision: DecisionResult
    versions: dict[str, str]
    seconds: float = 0.0


def cell_path(out: Path, cell: Cell, size_name: str) -> Path:
    """Path of a cell's result."""
    return out / "cells" / f"seed-{cell.seed}" / f"forget-{size_name}" / cell.name / RESULT_FILE


def write_cell(path: Path, result: CellResult) -> None:
    """Write a result atomically.

    Raises:
        OutputError: the folder cannot be written.
    """
    write_text(path, result.model_dump_json(indent=2) + "\n")


def read_cell(path: Path) -> CellResult:
    """Read a result.

    Raises:
        ResultError: the file is missing, not JSON, or of another version.
    """
    try:
        return CellResult.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except OSError as err:
        raise ResultError(f"cannot be read: {err.strerror}", where=str(path)) from None
    except (ValueError, ValidationError):
        raise ResultError(
            "not a cell result of this version", where=str(path), remedy="delete it and run compare again"
        ) from None


def finished(path: Path, digest: str) -> bool:
    """Whether a cell has a result with these settings."""
    return path.exists() and read_cell(path).digest == digest


def load_cells(out: Path) -> list[CellResult]:
    """All results in the folder of a comparison.

    Raises:
        ResultError: there are none, or one is damaged.
    """
    # Sorted: tables and charts must not depend on the order of a folder's listing.
    paths: Iterable[Path] = sorted((out / "cells").glob(f"seed-*/forget-*/*/{RESULT_FILE}"))
    results = [read_cell(path) for path in paths]
    if not results:
        raise ResultError("no results of a comparison here", where=str(out), remedy="run fedforget-sim compare")
    return results
