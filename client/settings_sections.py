"""Sections of `site.toml`: bounds, ports, the ways in, linkage and letters."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from client.consent.kinds import Kind as RevocationKind
from common.platform.console.settings import Language
from common.settings import Positive, Settings

Kind = Literal["query.status", "query.adopt", "train", "train.unlearn", "train.retain", "train.rehearse", "evaluate"]


class BoundsConfig(Settings):
    """Limits on what a signed instruction may ask for."""

    kinds: tuple[Kind, ...] = (
        "query.status",
        "query.adopt",
        "train",
        "train.unlearn",
        "train.retain",
        "train.rehearse",
        "evaluate",
    )
    max_epochs: int = Field(default=20, ge=1)
    """Of one training or retention request."""
    max_passes: int = Field(default=60, ge=1)
    """Of one unlearning request."""
    max_learning_rate: Positive = 0.1
    max_clip: Positive = 10.0
    """Of the norm of a gradient that a step is taken along."""
    max_weight_decay: float = Field(default=1.0, ge=0.0)
    """Each step shrinks all weights by this factor times the learning rate."""
    max_reset_layers: int = Field(default=3, ge=0)
    """Number of last layers that `eu_k` may reinitialize."""
    max_fold_models: int = Field(default=16, ge=0)
    """Number of fold models in one request; 0 refuses all fold models."""
    max_rehearsals: int = Field(default=20, ge=0, le=100)
    """Number of rehearsals in one request; 0 refuses all. A rehearsal unlearns patients who have not revoked, on a copy
    of the model that is scored and thrown away."""
    max_rehearsed_patients: int = Field(default=20, ge=0)
    """Number of patients of one rehearsal."""
    max_bootstrap: int = Field(default=10_000, ge=50)
    """Bootstrap resamples of one audit, for its intervals."""
    methods: tuple[str, ...] = ("forget_mi_calibrated", "forget_mi_paper")
    """Unlearning methods that may run here."""
    max_lifetime_hours: Positive = 24.0
    """An instruction that expires later than this is refused."""
    clock_skew_seconds: float = Field(default=300.0, ge=0.0)


class SitePortsConfig(Settings):
    """Loopback only."""

    supernode: int = Field(default=19094, ge=1, le=65535)
    """Port where the launcher gets the SuperNode's tasks."""
    monitor: int = Field(default=19090, ge=1, le=65535)
    """Health and metrics."""


class FhirConfig(Settings):
    """Consents by HL7 FHIR. See `docs/how-to/fhir.md`; files are relative to the site's folder."""

    enabled: bool = False
    host: str = "127.0.0.1"
    """Address to listen on: in the hospital's own network, never on the internet."""
    port: int = Field(default=19095, ge=1, le=65535)
    certificate: str = ""
    """TLS certificate (PEM) of the endpoint; needed unless `host` is loopback."""
    key: str = ""
    client_ca: str = ""
    """Authority (PEM) of client certificates; empty: a bearer token is required; with `token_file`: both."""
    token_file: str = "fhir/token"  # noqa: S105 - a path
    """File with the bearer token; empty: client certificates only."""
    server: str = ""
    """Base address of the hospital's FHIR server to pull from; empty: consents are only received."""
    server_aliases: tuple[str, ...] = ()
    """Addresses that the server uses in links and references if it is behind a proxy; nothing is sent there."""
    server_ca: str = ""
    client_id: str = ""
    """Client id of this site for SMART Backend Services; empty: no sign-in."""
    token_url: str = ""
    """Address for signing in; empty: from the server's `smart-configuration`."""
    scope: str = "system/Consent.rs"
    patient_map: str = ""
    """CSV `fhir_patient,patient_id`; empty: both ids are the same."""
    policy_system: str = ""
    """System of the policy code that needs consent; empty: use for research by the MII broad consent."""
    policy_code: str = ""
    purpose: str = ""
    """Code of `v3-ActReason` for the purpose of use; empty: none is claimed."""
    pull_seconds: Positive = 300.0
    overlap_seconds: float = Field(default=600.0, ge=0.0)
    """Overlap of a pull with the previous one, for versions that the server wrote late."""
    connections_per_address: int = Field(default=32, ge=1)
    """Largest number of simultaneous connections from one address."""
    reconcile_hour: int = Field(default=2, ge=0, le=23)
    """Local hour after which everything is read, once per night."""


Role = Literal["steward", "ehr", "auditor"]


_ROLES: dict[str, Role] = {
    "urn:fedforget:role:steward": "steward",
    "urn:fedforget:role:ehr": "ehr",
    "urn:fedforget:role:auditor": "auditor",
}


class ConsentServiceConfig(Settings):
    """The gRPC consent service. See `docs/how-to/revocations.md`; files are relative to the site's folder."""

    enabled: bool = False
    host: str = "127.0.0.1"
    """Address to listen on: in the hospital's own network, never on the internet."""
    port: int = Field(default=19096, ge=1, le=65535)
    certificate: str = "consent-service/server.crt"
    """TLS certificate (PEM); `consent-client init` makes it."""
    key: str = "consent-service/server.key"
    client_ca: str = "consent-service/ca.crt"
    """Authority (PEM) of client certificates."""
    roles: dict[str, Role] = _ROLES
    """Role by an alternative name (URI, DNS) of the client certificate, or by `CN=` and its common name."""
    calls_per_second: Positive = 100.0
    """Sustained calls per second of one client."""
    burst: Positive = 200.0
    """Calls that one client may make at once after a pause."""
    connections_per_address: int = Field(default=32, ge=1)
    """Largest number of simultaneous connections from one address."""
    commit_together: int = Field(default=64, ge=1, le=512)
    """Largest number of revocations that share one write to the disk when they arrive together; 1: each has its own."""
    unknown_per_hour: Positive = 60.0
    """Sustained number of unknown people per hour that one client may ask about."""
    unknown_burst: Positive = 200.0
    """Unknown people that one client may ask about at once after a pause."""


class InboxConfig(Settings):
    """The watched folder. See `docs/how-to/fhir.md`."""

    enabled: bool = False
    keys: tuple[str, ...] = ()
    """Public keys (PEM) whose signed lists are accepted; relative to the site's folder."""
    kind: RevocationKind = "opt-out"
    """Kind of lists that state none."""
    legal_basis: str = ""
    """Legal basis of lists that state none; empty: the usual one for the kind (for an opt-out: not stated)."""


class OptOutConfig(Settings):
    """Opt-outs of secondary use (Regulation (EU) 2025/327, Art. 71): they stop use at once and can be taken back."""

    unlearn: bool = False
    """Whether the model must also forget patients who opt out. This cannot be undone."""


class LinkageConfig(Settings):
    """Informing other hospitals of a revocation. See `docs/explanation/consent.md`; paths are in the folder."""

    keys: dict[str, str] = Field(default_factory=dict)
    """Files with at least 32 random bytes, by version, shared only among the hospitals; keep old ones."""
    identifiers: str = ""
    """CSV `patient_id,identifier` with the identifiers that the hospitals share; empty: the ids of the cohort."""


class LetterConfig(Settings):
    """Texts in letters to patients; for an empty one the letter has a line to fill in."""

    sender: str = ""
    """Name and address of the hospital, on separate lines."""
    contact: str = ""
    """Contact for patients: a name, a telephone number."""
    language: Language = "en"
