"""Of what kind a withdrawal by FHIR is: of a consent, unless the document itself says that it is an opt-out. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from client.consent.consent_topic import template_types
from client.consent.kinds import Kind

_OPT_OUT = frozenset({"CONSENT-OPT-OUT"})
"""HL7 Germany's TemplateType of a document that opts out of a use which needs no consent."""


def kind_of(document: Mapping[str, Any]) -> Kind:
    """The kind of a Consent that withdraws.

    `OPTOUT` as a policy rule (HL7 v3-ActCode) does not make it one: it stands on refusals of every kind.
    """
    return "opt-out" if template_types(document) == _OPT_OUT else "withdrawal"
