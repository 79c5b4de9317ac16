"""What a patient asks for by a revocation, and the law that it rests on. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, get_args

from common.errors import InputError

Kind = Literal["withdrawal", "objection", "erasure", "opt-out"]
"""`withdrawal` of a consent (GDPR Art. 7(3)), `objection` to the processing (Art. 21), request for `erasure` (Art. 17),
or `opt-out` of secondary use (EHDS, Regulation (EU) 2025/327, Art. 71), which needs no reason and is reversible."""
KINDS: tuple[Kind, ...] = get_args(Kind)

NOT_STATED = "not stated"
_USUAL: Mapping[Kind, str] = MappingProxyType(
    {"withdrawal": "GDPR 7(3)", "objection": "GDPR 21", "erasure": "GDPR 17", "opt-out": NOT_STATED}
)


def usual_basis(kind: Kind) -> str:
    """The legal basis of a kind where nobody states one; of an opt-out nothing is assumed, as national law decides."""
    return _USUAL[kind]


def read_kind(text: str, where: str) -> Kind:
    """A kind by its name.

    Raises:
        InputError: there is no such kind.
    """
    for kind in KINDS:
        if text == kind:
            return kind

    raise InputError("not a kind of revocation", where=where, remedy=f"one of {', '.join(KINDS)}")
