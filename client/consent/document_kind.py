"""Whether a document consents, adds, withdraws or refuses: by the form it names, or its TemplateType."""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum, auto

from client.consent.broad_consent import Form, form_of, names_only_the_broad_consent


class Kind(Enum):
    """What a document does. NAMED_WITHDRAWAL and NAMED_REFUSAL are told by TemplateType, which knows no parts."""

    NONE = auto()
    CONSENT = auto()
    OPT_OUT = auto()
    ADD_ON = auto()
    PARTIAL_WITHDRAWAL = auto()
    FULL_WITHDRAWAL = auto()
    REFUSAL = auto()
    NAMED_WITHDRAWAL = auto()
    NAMED_REFUSAL = auto()
    UNKNOWN = auto()

    @property
    def names_an_end(self) -> bool:
        """Whether it speaks of everything, whatever its provisions name."""
        return self not in (Kind.NONE, Kind.CONSENT, Kind.ADD_ON, Kind.PARTIAL_WITHDRAWAL)


_OF_TEMPLATE = {
    "CONSENT": Kind.CONSENT,
    "CONSENT-OPT-IN": Kind.CONSENT,
    "CONSENT-OPT-OUT": Kind.OPT_OUT,
    "WITHDRAWAL": Kind.NAMED_WITHDRAWAL,
    "REVOCATION": Kind.NAMED_WITHDRAWAL,
    "REFUSAL": Kind.NAMED_REFUSAL,
    "OBJECTION": Kind.NAMED_REFUSAL,
}
# Pairs in which form and TemplateType agree; any other pair contradicts itself.
_SAME = {
    (Form.FULL_WITHDRAWAL, Kind.NAMED_WITHDRAWAL): Kind.FULL_WITHDRAWAL,
    (Form.PARTIAL_WITHDRAWAL, Kind.NAMED_WITHDRAWAL): Kind.PARTIAL_WITHDRAWAL,
    (Form.REFUSAL, Kind.NAMED_REFUSAL): Kind.REFUSAL,
    (Form.ADD_ON, Kind.CONSENT): Kind.ADD_ON,
    (Form.ADD_ON, Kind.NAMED_WITHDRAWAL): Kind.PARTIAL_WITHDRAWAL,
    (Form.ADD_ON, Kind.NAMED_REFUSAL): Kind.PARTIAL_WITHDRAWAL,
}


def kind_of(policies: Collection[str], template_types: Collection[str]) -> Kind:
    """The kind of a document; UNKNOWN where what names it is not known or contradicts itself."""
    form = form_of(policies)
    kinds = {_OF_TEMPLATE.get(code, Kind.UNKNOWN) for code in template_types}
    if len(kinds) > 1:
        return Kind.UNKNOWN
    if not kinds:
        return Kind.NONE if form is None else Kind[form.name]
    kind = kinds.pop()
    if form is None or form is Form.CONSENT or names_only_the_broad_consent(policies):
        return kind
    return _SAME.get((form, kind), Kind.UNKNOWN)
