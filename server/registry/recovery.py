"""What the registry found and settled after a crash or a restored database."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Recovery:
    """What was found after a crash or a restored database."""

    adopted: tuple[str, ...]
    """Whole folders without a row; they have one now."""
    removed: tuple[str, ...]
    """Folders that were never finished, or damaged and without a row."""
    missing: tuple[str, ...]
    """Versions whose folder should be there and is not."""
