"""Fills a template of a page."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

from simulations.reporting.palette import COLOURS


def fill(template: str, **values: object) -> str:
    """A template of this package with `values` and the colours; the same values give the same text."""
    environment = Environment(
        loader=PackageLoader("simulations.reporting"),
        # Names of hospitals and reasons come from files, and the page is opened in a browser.
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(values, colours=COLOURS)
