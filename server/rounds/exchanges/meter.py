"""What exchanges cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass
class Meter:
    """Adds up what a phase cost. Bytes are counted as the sites see them."""

    forward_units: float = 0.0
    seconds: float = 0.0
    bytes_up: int = 0
    bytes_down: int = 0

    @classmethod
    def of(cls, values: Mapping[str, float]) -> Meter:
        """From what `dataclasses.asdict` gave."""
        whole = {name: int(values.get(name, 0)) for name in ("bytes_up", "bytes_down")}
        return cls(values.get("forward_units", 0.0), values.get("seconds", 0.0), **whole)

    def add(self, other: Meter) -> None:
        """Add what another meter counted."""
        self.forward_units += other.forward_units
        self.seconds += other.seconds
        self.bytes_up += other.bytes_up
        self.bytes_down += other.bytes_down
