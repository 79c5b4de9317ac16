"""From a matplotlib figure to an inline SVG that follows the page's colours, or to a PNG; the same bytes every time."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simulations.reporting.palette import COLOURS

Line = Literal["-"] | tuple[float, tuple[float, ...]]
"""A line style of matplotlib: solid, or dashes with their offset."""
LIGHT = {name: colour.light for name, colour in COLOURS.items()}

_STYLE: dict[str, Any] = {
    # Text stays text, so that it can be selected, read aloud and set in the page's font.
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.labelsize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.linewidth": 0.6,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "legend.borderaxespad": 0.9,
    "lines.linewidth": 1.6,
    "text.color": LIGHT["ink"],
    "axes.titlecolor": LIGHT["ink"],
    "axes.labelcolor": LIGHT["quiet"],
    "axes.edgecolor": LIGHT["quiet"],
    "xtick.color": LIGHT["quiet"],
    "ytick.color": LIGHT["quiet"],
    "grid.color": LIGHT["rule"],
    "axes.facecolor": "none",
    "figure.facecolor": "none",
}


@contextmanager
def style(salt: str = "report") -> Iterator[None]:
    """The look of every chart; `salt` keeps the ids of two charts in one page apart."""
    with mpl.rc_context(_STYLE | {"svg.hashsalt": salt}):  # type: ignore[arg-type]  # rc keys are literals there
        yield


def to_svg(figure: Figure, label: str) -> str:
    """`figure` as an `<svg>` element with `label` for those who cannot see it; colours become variables of the page."""
    buffer = io.StringIO()
    # No dates and versions: the same result must give the same bytes.
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)
    # Ids of groups are not unique over the charts of a page, and nothing refers to them.
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r"font: (bold )?([\d.]+)px [^;\"]*", r"font: \1\2px var(--sans)", text)
    for name, value in LIGHT.items():
        text = text.replace(value, f"var(--{name.replace('_', '-')})")
    box = re.search(r'viewBox="[^"]*"', text)
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" {box[0] if box else ""} role="img" aria-label="{_quoted(label)}">'
    )
    text = re.sub(r"<svg[^>]*>", lambda _: opening, text, count=1)

    return text.replace("xlink:href", "href")


def to_png(figure: Figure) -> bytes:
    """`figure` as a PNG on the light page's colour, 200 dots per inch."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=200, facecolor=LIGHT["page"], metadata={"Software": None})
    return buffer.getvalue()


def name_axes(axes: Axes, title: str, x: str, y: str = "") -> None:
    """Set a title and the names of both axes."""
    axes.set_title(title)
    axes.set_xlabel(x)
    axes.set_ylabel(y)


def _quoted(text: str) -> str:
    # The ampersand first, or it would be replaced in the other entities again.
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
