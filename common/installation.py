"""Are the four top-level packages ours? Their names are general enough to collide with another distribution's."""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from common.errors import FedForgetError

PACKAGES = ("common", "client", "server", "simulations")


def own_version() -> str:
    """Version of the installed FedForget."""
    return version("fedforget")


def check() -> None:
    """Raise a `FedForgetError` unless all four come from one place."""
    here = Path(__file__).resolve().parent.parent
    for name in PACKAGES:
        spec = find_spec(name)
        origin = Path(spec.origin).resolve() if spec and spec.origin else None
        if origin is None or origin.parent.parent != here:
            raise FedForgetError(
                f"another package named {name!r} stands in front of FedForget's: "
                "install FedForget in an environment of its own"
            )
