"""Scores of reference models, which earlier versions kept for the audit of one campaign."""

from __future__ import annotations

import shutil
from pathlib import Path


def purge_references(folder: Path) -> dict[str, int]:
    """Delete the scores in a site's folder; returns their number, or nothing where there are none."""
    references = folder / "references"
    files = len([*references.glob("[0-9]*.npz")])
    shutil.rmtree(references, ignore_errors=True)

    return {"references": files} if files else {}
