"""`site.toml`: the settings of a hospital, and the paths in its folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from client.consent.kinds import Kind as RevocationKind
from common.platform.console.settings import ConsoleConfig, Language
from common.platform.notices.settings import NotifyConfig
from common.platform.processes.beats import Beat
from common.settings import Positive, Settings, parse, read_toml

CONFIG_FILE = "site.toml"
FOLDER_VARIABLE = "FEDFORGET_SITE"
"""The site's folder, for the ClientApp; set by `fedforget-site up`, never by a message."""

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


class SiteSettings(Settings):
    """The whole file."""

    name: str = Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$")
    gateway: str
    """`host:port` of the coordinator's gateway."""
    coordination: str
    """`host:port` of its coordination service."""
    ca_fingerprint: str
    """SHA-256 of the federation's CA certificate, compared by telephone when the site was created."""
    approved_bundles: tuple[str, ...] = ()
    """SHA-256 of app bundles that may run here, in addition to the installed FedForget's own."""
    device: str = "auto"
    ports: SitePortsConfig = SitePortsConfig()
    bounds: BoundsConfig = BoundsConfig()
    database: str = ""
    """SQLAlchemy URL (`postgresql+pg8000://...`); empty for SQLite in this folder."""
    tombstones: str = ""
    """File of patients who must not be used again, preferably on another disk; empty: in this folder."""
    days_to_answer: float | None = Field(default=None, gt=0.0)
    """Days from receipt of a revocation to its due date, if fewer than one month (GDPR Art. 12(3))."""
    two_person_approval: bool = False
    """Whether unlearning waits until a second person has approved the revocation."""
    steward_key: str = ""
    """Public key (PEM) of the data steward, who also signs statements about revocations; relative to the folder."""
    steward_keys: tuple[str, ...] = ()
    """Further public keys (PEM) of people who may approve revocations; relative to the folder."""
    shared_accounts: tuple[str, ...] = ()
    """Names or numbers of accounts that several people use, besides those of the operating system itself: approving a
    revocation from one of them requires a steward's key."""
    heartbeat_seconds: Positive = 60.0
    proxy: str = Field(default="", repr=False)
    """HTTP proxy for outbound connections, `http://HOST:PORT`; `env`: from HTTPS_PROXY; empty: none."""
    no_proxy: tuple[str, ...] = ()
    """Destinations without proxy: names with their subdomains, addresses, networks."""
    fhir: FhirConfig = FhirConfig()
    inbox: InboxConfig = InboxConfig()
    opt_out: OptOutConfig = OptOutConfig()
    letter: LetterConfig = LetterConfig()
    linkage: LinkageConfig = LinkageConfig()
    consent_service: ConsentServiceConfig = ConsentServiceConfig()
    console: ConsoleConfig = ConsoleConfig()
    notify: NotifyConfig = NotifyConfig()


@dataclass(frozen=True, slots=True)
class SiteFolder:
    """Paths in a site's folder. No key in it ever leaves it."""

    root: Path

    @property
    def settings_file(self) -> Path:
        """`site.toml`."""
        return self.root / CONFIG_FILE

    @property
    def tls_key(self) -> Path:
        """Private key of the client certificate."""
        return self.root / "keys" / "tls.key"

    @property
    def certificate(self) -> Path:
        """Client certificate, from the join bundle."""
        return self.root / "keys" / "site.crt"

    @property
    def node_key(self) -> Path:
        """OpenSSH private key of the SuperNode (EC P-384); its public half lies beside it as `.pub`."""
        return self.root / "keys" / "node"

    @property
    def signing_key(self) -> Path:
        """Ed25519 key that signs replies, encrypted with `passphrase`."""
        return self.root / "keys" / "signing.pem"

    @property
    def passphrase(self) -> Path:
        """Opens the signing key; may be a credential of the service manager instead."""
        return self.root / "secrets" / "passphrase"

    @property
    def supernode_secret(self) -> Path:
        """Secret that is required to get tasks from the SuperNode."""
        return self.root / "secrets" / "supernode"

    @property
    def ca_certificate(self) -> Path:
        """The federation's CA, from the join bundle."""
        return self.root / "federation" / "ca.crt"

    @property
    def coordinator_key(self) -> Path:
        """PEM of the public key that signs instructions, from the join bundle."""
        return self.root / "federation" / "coordinator.pem"

    @property
    def join_file(self) -> Path:
        """The join bundle as it was verified."""
        return self.root / "federation" / "join.json"

    @property
    def experiment_file(self) -> Path:
        """The federation's model, data settings and classes (a `ModelCard`), from the join bundle."""
        return self.root / "federation" / "experiment.json"

    @property
    def request_file(self) -> Path:
        """The enrolment request, to be sent to the coordinator."""
        return self.root / "enrolment-request.json"

    @property
    def heard(self) -> Path:
        """Touched whenever the coordinator answers a heartbeat."""
        return self.root / "heard"

    @property
    def flower_home(self) -> Path:
        """`FLWR_HOME` of the SuperNode."""
        return self.root / "flower"

    @property
    def fhir_key(self) -> Path:
        """P-384 key, encrypted with `passphrase`, that signs in at the hospital's FHIR server; made by `fhir init`."""
        return self.root / "fhir" / "smart.pem"

    @property
    def fhir_jwks(self) -> Path:
        """Its public half, to be registered there."""
        return self.root / "fhir" / "jwks.json"

    @property
    def fhir_enumeration(self) -> Path:
        """When somebody last tried out names at the FHIR endpoint."""
        return self.root / "fhir" / "enumeration.json"

    @property
    def pseudonym_secret(self) -> Path:
        """Secret for patients' pseudonyms and encrypted identifiers. Without it, consents here belong to nobody."""
        return self.root / "secrets" / "pseudonyms"

    @property
    def consent_service(self) -> Path:
        """Authority, certificate and clients of the consent service; made by `consent-client`."""
        return self.root / "consent-service"

    @property
    def vault(self) -> Path:
        """Signed forms of revocations and the salts of their commitments; each can be erased when its time is over."""
        return self.root / "vault"

    @property
    def console(self) -> Path:
        """Accounts of the console itself."""
        return self.root / "console"

    @property
    def attestations(self) -> Path:
        """Attestations that this site has signed."""
        return self.root / "attestations"

    @property
    def inbox(self) -> Path:
        """Folder for signed opt-out lists."""
        return self.root / "inbox"

    @property
    def logs(self) -> Path:
        """Structured logs, one file per process."""
        return self.root / "logs"

    @property
    def database(self) -> Path:
        """SQLite database of revocations, held versions, participation in rounds and seen instructions.

        Not used if `site.toml` names another database.
        """
        return self.root / "site.db"

    @property
    def database_url(self) -> str:
        """The configured URL, or SQLite in this folder; raises a `ConfigError` like `settings`."""
        configured_path = self.settings().database if self.settings_file.exists() else ""
        return configured_path or f"sqlite:///{self.database.resolve()}"

    @property
    def has_database(self) -> bool:
        """Whether records are kept here; a simulated site only has a database of its revocations."""
        return self.database.exists() or (self.settings_file.exists() and bool(self.settings().database))

    @property
    def ledger_url(self) -> str:
        """URL of the revocations: the site's database, or a separate file if there is none."""
        real = self.settings_file.exists() or self.database.exists()
        return self.database_url if real else f"sqlite:///{self.simulated_ledger.resolve()}"

    @property
    def simulated_ledger(self) -> Path:
        """Database of the revocations of a simulated site, which has no other records."""
        return self.root / "revocations.db"

    @property
    def fold_scores_url(self) -> str:
        """URL of the scores by fold models: the site's database, or a file of their own at a simulated site."""
        return self.database_url if self.has_database else f"sqlite:///{self.simulated_fold_scores.resolve()}"

    @property
    def simulated_fold_scores(self) -> Path:
        """Scores by fold models at a simulated site."""
        return self.root / "folds.db"

    @property
    def tombstones(self) -> Path:
        """Patients who must not be used again, by pseudonym; kept apart from the database."""
        configured_path = self.settings().tombstones if self.settings_file.exists() else ""
        return self.root / (configured_path or "tombstones.log")

    def settings(self) -> SiteSettings:
        """Read `site.toml`, or raise a `ConfigError`."""
        return parse(SiteSettings, read_toml(self.settings_file), str(self.settings_file))


def heartbeat(folder: SiteFolder, settings: SiteSettings) -> Beat:
    """The last heartbeat that the coordinator answered; three missed ones are a failure."""
    limit = max(180.0, 3 * settings.heartbeat_seconds)
    return Beat("last heartbeat that the coordinator answered", folder.heard, limit)
