"""`site.toml`: the settings of a hospital, and the paths in its folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from client.settings_sections import (
    BoundsConfig,
    ConsentServiceConfig,
    FhirConfig,
    InboxConfig,
    LetterConfig,
    LinkageConfig,
    OptOutConfig,
    SitePortsConfig,
)
from common.platform.console.settings import ConsoleConfig
from common.platform.notices.settings import NotifyConfig
from common.platform.processes.beats import Beat
from common.settings import Positive, Settings, parse, read_toml

CONFIG_FILE = "site.toml"
FOLDER_VARIABLE = "FEDFORGET_SITE"
"""The site's folder, for the ClientApp; set by `fedforget-site up`, never by a message."""


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
