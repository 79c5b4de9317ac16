"""A table whose first column is named."""

from __future__ import annotations

from dataclasses import dataclass

from simulations.comparison.results.tables import Table


@dataclass(frozen=True, slots=True)
class Named(Table):
    """A table with a heading for its column of names."""

    first: str
