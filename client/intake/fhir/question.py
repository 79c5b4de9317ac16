"""What consent is asked for at a site, as `site.toml` says it."""

from __future__ import annotations

from client.consent.broad_consent import USE_FOR_RESEARCH
from client.consent.documents import Coding
from client.settings_sections import FhirConfig
from common.errors import ConfigError

_PURPOSES = "http://terminology.hl7.org/CodeSystem/v3-ActReason"


def policy_of(config: FhirConfig) -> Coding:
    """What is done with the data.

    Raises:
        ConfigError: half of a code.
    """
    if bool(config.policy_system) != bool(config.policy_code):
        raise ConfigError("a policy needs both policy_system and policy_code", where="site.toml [fhir]")
    return Coding(config.policy_system, config.policy_code) if config.policy_code else USE_FOR_RESEARCH


def purpose_of(config: FhirConfig) -> Coding | None:
    """What for; None where no purpose is claimed."""
    return Coding(_PURPOSES, config.purpose) if config.purpose else None
