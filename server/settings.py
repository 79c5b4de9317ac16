"""`server.toml`: what the coordinator runs, and where in its folder everything lies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self, get_args

from pydantic import Field, model_validator

from common.evidence.outcomes.grounds import Rung
from common.learning.config import ExperimentConfig
from common.learning.evaluation.qualification.plan import QualificationPlan
from common.platform.console.settings import ConsoleConfig
from common.platform.notices.settings import NotifyConfig
from common.platform.processes.beats import Beat
from common.settings import Fraction, Positive, Settings, parse, read_toml

SERVER_FILE = "server.toml"
FOLDER_VARIABLE = "FEDFORGET_SERVER"
"""The coordinator's folder, for the ServerApp; set by `fedforget-server up`, never taken from a message."""


CONSOLE_ISSUER = "local:coordinator"
"""The issuer of people with an account of the coordinator's console; no hospital's console uses it."""


class ServerConsoleConfig(ConsoleConfig):
    """The coordinator's console; a hospital's one on the same machine has another port."""

    port: int = Field(default=18097, ge=1, le=65535)


_PUBLIC = r"^$|^[A-Za-z0-9.-]+:[1-9][0-9]{0,4}$"


class PortsConfig(Settings):
    """Where the coordinator listens. Only the gateway and the coordination service are reachable from outside."""

    listen: str = "0.0.0.0"  # noqa: S104 - hospitals dial these two
    gateway: int = Field(default=8443, ge=1, le=65535)
    own_gateway: bool = True
    """False where nginx serves this port instead; see `deploy/nginx.conf`."""
    coordination: int = Field(default=8444, ge=1, le=65535)
    public_gateway: str = Field(default="", pattern=_PUBLIC)
    """`HOST:PORT` that new hospitals dial for the gateway; empty: the first of `hosts`, and `gateway`."""
    public_coordination: str = Field(default="", pattern=_PUBLIC)
    """Likewise for the coordination service; see `deploy/nginx-one-port.conf`."""
    superlink: int = Field(default=18000, ge=1, le=65535)
    """Loopback only."""
    monitor: int = Field(default=18090, ge=1, le=65535)
    """Health and metrics, loopback only."""


class PolicyConfig(Settings):
    """When a campaign starts, which hospitals it waits for, and what happens if it cannot decide."""

    automatic: bool = True
    """Start campaigns automatically."""
    min_batch: int = Field(default=1, ge=1)
    """Number of pending revocations that starts a campaign at once."""
    window_hours: float = Field(default=72.0, ge=0.0, le=8784.0)
    """Hours after which a smaller batch starts a campaign, too."""
    lead_hours: float = Field(default=168.0, ge=0.0, le=8784.0)
    """A campaign starts at the latest this many hours before the first due date."""
    single_writer: Literal["accept", "retain", "retrain"] = "retain"
    """What follows where the unlearned weights are one hospital's alone, and may hide a backdoor in a step of honest
    size: nothing, `single_writer_rounds` retention rounds at all hospitals, or retraining instead."""
    single_writer_rounds: int = Field(default=3, ge=1, le=100)
    """Fewest retention rounds then, if `campaign.retention_rounds` is smaller."""
    ladder: tuple[Rung, ...] = ("exact", "own", "qualified", "retrain")
    """Evidence by which a campaign may end, the strongest first: weights that never saw the patients, its own audit,
    a qualification of the procedure, and retraining. What is left out is not used."""
    undecided: Literal["wait", "retrain", "withdraw"] = "retrain"
    """What happens if the evaluator cannot decide or rejects."""
    retrain_batch: Literal["each", "deadline"] = "each"
    """When such a retraining happens: for each campaign at once, or `lead_hours` before the first due date, for all
    revocations that wait by then."""
    renew_after: float = Field(default=0.0, ge=0.0, le=1e6, allow_inf_nan=False)
    """Retrain instead of unlearning after this number of campaigns since the last training, or, below 1, after this
    share of the training patients was forgotten; 0: never."""
    escalate_hours: float = Field(default=48.0, ge=0.0)
    """Hours before the due date at which a campaign that waits for its forgetting hospital retrains without it."""
    retry_minutes: Positive = 10.0
    """Minutes before the second attempt of a campaign that cannot go on; doubles for each further one, to six hours."""
    max_tries: int = Field(default=10, ge=1)
    """Number of failed attempts in a row, without a finished step, that ends a campaign."""
    unlearn_tries: int = Field(default=3, ge=1)
    """Number of attempts after which a hospital that does not unlearn is set aside; the others' campaign goes on."""
    refuser: Literal["suspend", "set_aside"] = "suspend"
    """What happens to a hospital that answers but does not unlearn; one that is offline is only set aside."""
    aside_hours: Positive = 24.0
    """Hours for which a hospital is set aside the first time; doubles each further time, up to a week."""
    max_failures: int = Field(default=5, ge=1)
    """Number of campaigns in a row that forgot none of a hospital's patients, after which a person must act."""
    undated_days: Positive = 30.0
    """Days after its announcement at which a revocation without a date is due."""
    may_overrule: bool = True
    """Let an operator publish, with a reason, what the utility decision or a veto stopped (`campaign publish`)."""
    quorum: Fraction = 0.5
    """Share of registered studies whose sites must answer in a round."""
    phase_hours: Positive = 6.0
    """Deadline of one exchange, in hours."""
    campaigns_per_day: int = Field(default=4, ge=1)
    """Most campaigns in 24 hours for one forgetting site."""
    attestation_days: Positive = 14.0
    """Days after publication at which an attestation is written without the hospitals that did not answer."""
    hold_hours: Positive = 12.0
    """Hours for which one hospital may hold up all others in one run; then the run goes on without it."""
    quarantine_days: float = Field(default=30.0, ge=0.0)
    """Days after which the weights of quarantined versions are deleted."""

    @model_validator(mode="after")
    def _rungs(self) -> Self:
        order = [rung for rung in get_args(Rung) if rung in self.ladder]
        if list(self.ladder) != order or not set(self.ladder) - {"exact"}:
            raise ValueError("ladder: each rung once, the strongest first, and one besides exact")
        if self.undecided == "retrain" and "retrain" not in self.ladder:
            raise ValueError("ladder leaves retrain out, and undecided asks for it: set undecided to wait or withdraw")
        return self


class GateConfig(Settings):
    """What a reply and an aggregate must satisfy; see `rounds/update_gate.py` and `membership/registration.py`."""

    max_share: float = Field(default=0.6, gt=0.0, le=1.0)
    """Largest share of one hospital in an average, whatever it registered; among n hospitals at least 1/n."""
    count_drift: Fraction = 0.10
    """How far a registered number of studies may grow beyond the approved one without a person."""
    count_drift_studies: int = Field(default=5, ge=0)
    """The same in studies, for small numbers: the larger of both counts."""

    train_norm: Positive = 10.0
    """Largest L2 norm of a training or retention step, as a multiple of the other sites' upper median.

    Honest sites of one size differ by up to 1.13; one with ten times the studies takes a step 5.3 times as long.
    """
    train_weights: Positive = 0.5
    """Largest L2 norm of a training or retention step relative to the norm of the weights it changes; 0.061 at most
    in `python -m simulations.bench.power.delta_norms --set train.lr=1e-3`, 0.171 with three times the learning rate."""
    unlearn_norm: Positive = 0.25
    """The same for an unlearning step; 0.047 at most in the same runs, 0.126 with three times the learning rate."""
    candidate_norm: Positive = 0.5
    """The same for all steps of a candidate together, from the version that it descends from."""
    unlearn_least: float = Field(default=1.0, ge=0.0, le=1e6, allow_inf_nan=False)
    """Smallest L2 norm of an unlearning step relative to the weights it changes, in learning rates: a model that was
    hardly touched has forgotten nobody. One pass over one patient moves them by 7 learning rates at least."""
    bad_replies: int = Field(default=3, ge=1)
    """Number of bad replies in a row that suspends a site."""


class ServerSettings(Settings):
    """The whole file."""

    hosts: tuple[str, ...] = Field(min_length=1)
    """Names and addresses that hospitals dial; the certificate names them."""
    database: str = ""
    """SQLAlchemy URL; empty for SQLite in this folder."""
    evaluator_key: str = ""
    """Public key (PEM) of who signs attestations beside the parties, relative to the folder; empty: nobody does."""
    renew_certificates: bool = True
    """Renew the coordinator's and hospitals' certificates 30 days before they end, for the same names and keys; needs
    `pki/ca.key`."""
    linkage: bool = False
    """Hand on tokens of linkage among the hospitals; also on where tokens were handed on before this setting."""
    classes: tuple[str, ...] = ()
    """Labels, in the order of the model's outputs."""
    ports: PortsConfig = PortsConfig()
    policy: PolicyConfig = PolicyConfig()
    gate: GateConfig = GateConfig()
    experiment: ExperimentConfig = ExperimentConfig()
    console: ServerConsoleConfig = ServerConsoleConfig()
    notify: NotifyConfig = NotifyConfig()
    qualification: QualificationPlan = QualificationPlan()
    """What `fedforget-server qualify` registers."""

    @model_validator(mode="after")
    def _public_addresses(self) -> Self:
        addresses = [one for one in (self.ports.public_gateway, self.ports.public_coordination) if one]
        for address in addresses:
            if address.rpartition(":")[0] not in self.hosts:
                raise ValueError(f"ports: {address}: its name is missing in `hosts`, which the certificate names")
        if len(addresses) == 2 and addresses[0] == addresses[1]:
            raise ValueError("ports: behind one port the two services are told apart by two names")
        return self

    @property
    def gateway_address(self) -> str:
        """`host:port` of the gateway, as hospitals dial it."""
        return self.ports.public_gateway or f"{self._host}:{self.ports.gateway}"

    @property
    def coordination_address(self) -> str:
        """`host:port` of the coordination service, as hospitals dial it."""
        return self.ports.public_coordination or f"{self._host}:{self.ports.coordination}"

    @property
    def _host(self) -> str:
        return f"[{self.hosts[0]}]" if ":" in self.hosts[0] else self.hosts[0]


class Terms(Settings):
    """What holds for a campaign from its plan to its end, whatever `server.toml` says by then."""

    experiment: ExperimentConfig
    policy: PolicyConfig
    gate: GateConfig


@dataclass(frozen=True, slots=True)
class ServerFolder:
    """Paths in the coordinator's folder."""

    root: Path

    @property
    def settings_file(self) -> Path:
        """`server.toml`."""
        return self.root / SERVER_FILE

    @property
    def ca_certificate(self) -> Path:
        """Certificate of the federation's own authority."""
        return self.root / "pki" / "ca.crt"

    @property
    def ca_key(self) -> Path:
        """Its private key; may be kept elsewhere between enrolments."""
        return self.root / "pki" / "ca.key"

    @property
    def certificate(self) -> Path:
        """TLS certificate of the gateway, the SuperLink and the coordination service."""
        return self.root / "pki" / "server.crt"

    @property
    def key(self) -> Path:
        """Its private key."""
        return self.root / "pki" / "server.key"

    @property
    def signing_key(self) -> Path:
        """Ed25519 key of instructions and attestations, encrypted with `passphrase`."""
        return self.root / "pki" / "signing.pem"

    @property
    def passphrase(self) -> Path:
        """Opens the signing key; may be a credential of the service manager instead."""
        return self.root / "secrets" / "passphrase"

    @property
    def superexec_secret(self) -> Path:
        """Without it nobody takes tasks from the SuperLink."""
        return self.root / "secrets" / "superexec"

    @property
    def flower_database(self) -> Path:
        """The SuperLink's own state."""
        return self.root / "flower" / "state.db"

    @property
    def models(self) -> Path:
        """Model versions, one folder each."""
        return self.root / "models"

    @property
    def qualifications(self) -> Path:
        """Registers, journals and results of qualifications, one folder each."""
        return self.root / "qualifications"

    @property
    def work(self) -> Path:
        """Weights between two phases of a campaign, by its number; emptied when it ends."""
        return self.root / "work"

    @property
    def tick(self) -> Beat:
        """Touched after each look of the coordinator at everything, every two seconds."""
        return Beat("coordinator's last tick", self.root / "tick", 60.0)

    @property
    def logs(self) -> Path:
        """Structured logs, one file a process."""
        return self.root / "logs"

    @property
    def console(self) -> Path:
        """Accounts of the console itself."""
        return self.root / "console"

    def settings(self) -> ServerSettings:
        """Read `server.toml`, or raise a `ConfigError`."""
        return parse(ServerSettings, read_toml(self.settings_file), str(self.settings_file))

    def database_url(self, settings: ServerSettings) -> str:
        """The configured URL, or SQLite in this folder."""
        return settings.database or f"sqlite:///{(self.root / 'server.db').resolve()}"
