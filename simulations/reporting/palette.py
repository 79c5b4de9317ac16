"""Names, colours and markers of the report, the same in every chart and table.

The hues are those of Okabe and Ito (https://jfly.uni-koeln.de/color/), which the colour-blind can tell apart. On white
some are darkened and on a dark page some lightened, so that each keeps a contrast of 3:1 with the page (WCAG 1.4.11).
No series is told by its colour alone: models also differ by marker, groups by line style.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from simulations.result import Branch, GroupName, ModelName, Result


@dataclass(frozen=True, slots=True)
class Colour:
    """One colour of the page on a light and on a dark background."""

    light: str
    dark: str


COLOURS: Mapping[str, Colour] = {
    "page": Colour("#fdfdfc", "#10151c"),
    "card": Colour("#f4f5f3", "#18202a"),
    "rule": Colour("#d9dcd8", "#2e3947"),
    "ink": Colour("#17202b", "#e6eaf0"),
    "quiet": Colour("#566272", "#a3b0bf"),
    "band": Colour("#dfe9e4", "#1f3a35"),
    "original": Colour("#d55e00", "#ee7b30"),
    "retrained": Colour("#00916a", "#2bbd93"),
    "naive": Colour("#b45a8d", "#d98bb8"),
    "unlearned": Colour("#0072b2", "#57b3ea"),
    "forget": Colour("#b87901", "#e69f00"),
    "never_seen": Colour("#18212c", "#e7ebf1"),
    "retain": Colour("#2f8bc2", "#56b4e9"),
    "accepted": Colour("#00704f", "#3ccba0"),
    "exact": Colour("#00634a", "#45d1a6"),
    "accepted_qualified": Colour("#1f6a54", "#63c9a9"),
    "rejected": Colour("#a93c00", "#ff9558"),
    "inconclusive": Colour("#79500a", "#f0b429"),
}
"""Every light value is used once, so that a chart drawn in light values can be repainted by name."""

MODELS: Mapping[ModelName, str] = {
    "original": "Original",
    "retrained": "Retrained",
    "naive": "Naive",
    "unlearned": "Unlearned",
}
MEANING: Mapping[ModelName, str] = {
    "original": "trained with the patients who later withdrew",
    "retrained": "trained from scratch without them: the aim",
    "naive": "unlearned at the hospital, then plainly averaged with the others: the control",
    "unlearned": "unlearned with Forget-MI and brought into the federation: the answer",
}
BRANCHES: Mapping[Branch, str] = {"image": "Image", "text": "Report text", "fused": "Fused"}
GROUPS: Mapping[GroupName, str] = {
    "forget": "Forget",
    "never_seen": "Never seen",
    "retain": "Retain",
    "test": "Test",
}
MARKERS: Mapping[ModelName, str] = {"original": "o", "retrained": "D", "naive": "s", "unlearned": "^"}


def models_of(result: Result) -> list[ModelName]:
    """Names of the models of this run, in the order in which they are shown."""
    return [name for name in MODELS if name in result.models]
