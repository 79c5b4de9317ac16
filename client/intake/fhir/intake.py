"""Where every FHIR way in ends: the version is kept, and then weighed by `settling`."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from client.consent.documents import REVOKED, Coding, read_consent
from client.consent.fields import UnreadableConsentError
from client.consent.provisions import Question
from client.consent.statement import state
from client.consent.verdicts import Silent, Verdict
from client.intake.fhir.addressing import Addressing, dated
from client.intake.fhir.decisions.doubts import Counts, counts_of
from client.intake.fhir.decisions.settling import Settling
from client.intake.fhir.decisions.unclear import steward_list
from client.intake.fhir.patients import PatientMap
from client.intake.fhir.pull.set_aside import set_aside, stripped
from client.intake.fhir.resources import IncomingConsent, Interaction, Resource, RevokeRequest, read_incoming
from client.intake.fhir.store.consents import ConsentStore
from client.intake.fhir.store.values import Kept, StewardItem
from client.intake.fhir.strict_json import UnusableResourceError
from client.revocations.ledger import Ledger
from common.errors import InputError

_REVOKED = "revoked"
# Leaves room for what is added to a date before the calendar of Python ends.
_LATEST = datetime(9000, 1, 1, tzinfo=UTC)
_DISAGREE = "the reference and the identifier of the patient are two patients of the cohort"

_log = logging.getLogger("fedforget.fhir")


_HELD = "it is kept, and where the patient takes part here use of their data is on hold until a person has read it"


class OtherPatientError(InputError):
    """A revocation names another patient than the consent."""


class TwoPatientsError(UnusableResourceError):
    """A consent or a request names two patients of the cohort, who are both on hold.

    Attributes:
        version: the one that names both, once it is on the disk.
    """

    version: Kept | None = None


@dataclass(frozen=True, slots=True)
class Intake:
    """Takes Consents at one site.

    Attributes:
        ledger: of the site; its database holds the versions as well.
        store: of the versions.
        patients: the map as it stands now.
        policy: what the data are used for, as the rule asks it.
        purpose: the purpose claimed.
        base: of the hospital's FHIR server, empty if none is known.
        aliases: other addresses by which that server calls itself.
    """

    ledger: Ledger
    store: ConsentStore
    patients: Callable[[], PatientMap]
    policy: Coding
    purpose: Coding | None
    clock: Callable[[], datetime]
    base: str = ""
    aliases: tuple[str, ...] = ()
    settling: Settling = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Weigh with the same parts."""
        settling = Settling(self.ledger, self.store, self.patients, self.policy, self.purpose, self.clock)
        object.__setattr__(self, "settling", settling)

    @property
    def bases(self) -> tuple[str, ...]:
        """All addresses of the hospital's FHIR server."""
        return (self.base, *self.aliases)

    def take(self, resource: Resource, interaction: Interaction = "") -> Kept:
        """Keep one version and act on it; it is on the disk when this returns.

        Raises:
            UnusableResourceError: it cannot be read, or names no patient or two. Whoever can be meant is on hold.
            InputError: the patient map, or a file of the site.
        """
        try:
            incoming = read_incoming(resource, *self.bases)
            self._check_readable(resource, incoming)
        except UnusableResourceError as err:
            raise self.set_aside(resource, err) from None

        (version,) = self.keep([dataclasses.replace(incoming, interaction=interaction)])
        self._act_on([version])

        return version

    def set_aside(
        self, resource: Resource, problem: UnusableResourceError, *, is_clear: bool = True
    ) -> UnusableResourceError:
        """Keep what a sender gets a refusal for, as a pull keeps it; returns the refusal, which says so.

        A refusal alone could be lost in the log of the sender, and with it a withdrawal.

        Args:
            is_clear: whether every reader reads the same in it, so that the rule may.
        """
        if resource.get("resourceType") != "Consent":
            return problem
        version = self._readable(resource) if is_clear else None
        version = version or set_aside(resource, *self.bases)
        if not version.patients:
            return problem

        versions = self.keep_each([version])
        self._act_on(versions)
        if isinstance(self._verdict(version.document), Silent):
            return problem
        if isinstance(problem, TwoPatientsError):
            return _two_patients(versions)

        return UnusableResourceError(f"{problem.problem}; {_HELD}")

    def _readable(self, resource: Resource) -> IncomingConsent | None:
        try:
            return read_incoming(resource, *self.bases)
        except UnusableResourceError:
            return None

    def counts(self, kept: Kept) -> Counts | None:
        """Who is meant by a version that withdrew, in numbers; None of any other, which tells the sender nothing."""
        return counts_of(self.ledger, kept.receipt) if self.store.has_withdrawn(kept) else None

    def _check_readable(self, resource: Resource, incoming: IncomingConsent) -> None:
        try:
            read_consent(resource)
        except UnreadableConsentError as err:
            # About another matter it may be unreadable: it says nothing of this use, and holds nobody.
            if not isinstance(self._verdict(resource), Silent):
                raise UnusableResourceError(f"a Consent that cannot be read: {err.problem}") from None

        if not incoming.patients:
            raise UnusableResourceError("a Consent without a reference to a patient of this server, or an identifier")
        if len(self._addressing().named(incoming.patients)) > 1:
            raise TwoPatientsError(_DISAGREE)

    def notice(self, resources: Sequence[Resource]) -> tuple[Kept, ...]:
        """Keep what a hook carried and act on it; what has no id is left to the pull, what cannot be read to a steward.

        Raises:
            InputError: the patient map, or a file of the site.
        """
        consents = []
        for resource in resources:
            with contextlib.suppress(UnusableResourceError):
                consents.append(read_incoming(resource, *self.bases))

        versions = self.keep_each(consents)
        self._act_on(versions)

        return versions

    def keep(self, incoming: Sequence[IncomingConsent]) -> tuple[Kept, ...]:
        """Keep versions, all or none, without acting on them yet."""
        now = self.clock()
        addressing = self._addressing()

        return self.store.keep(
            [each for version in incoming for each in addressing.addressed(dated(version, now))], now
        )

    def keep_each(self, incoming: Sequence[IncomingConsent]) -> tuple[Kept, ...]:
        """Keep versions, each by itself if they cannot be kept together; of what cannot be kept, its stand-in."""
        now = self.clock()

        try:
            return self.keep(incoming)
        except Exception as error:  # noqa: BLE001 - whatever one version provokes must not cost the others
            _log.error("consents cannot be kept together (%s): one by one", type(error).__name__)

        versions: list[Kept] = []
        for version in incoming:
            try:
                versions += self.keep([version])
            except Exception:  # noqa: BLE001 - as above; a database that takes nothing refuses the stand-in too
                versions += self.store.keep(self._addressing().addressed(dated(stripped(version), now)), now)

        return tuple(versions)

    def revoke(self, request: RevokeRequest) -> Kept:
        """Take a version of the consent that is revoked, made of the newest one that is known; once, however often.

        Use stops whatever the consent is about: where it is about another matter, until a person says what is meant.

        Raises:
            OtherPatientError: the consent is another patient's; nothing is kept.
            UnusableResourceError: the patient is named as two, who are both on hold.
            InputError: see `take`.
        """
        newest_version = self.store.newest(request.consent)
        now = self.clock()
        number = ""
        own_names: tuple[str, ...] = ()
        # Of a consent that is not known here: the least that the rule reads as a withdrawal.
        document: dict[str, Any] = {
            "resourceType": "Consent",
            "id": request.consent,
            "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "research"}]},
            "patient": None,
        }

        if newest_version is not None:
            own_names = self._own_names(request)
            if not own_names:
                raise OtherPatientError("the consent is not this patient's")
            if REVOKED in newest_version.document:
                # The request was sent again: what the first one left undone is done now.
                self.settling.settle_these({newest_version.kept.patient})
                return newest_version.kept

            document = newest_version.document
            number = f"{newest_version.kept.version}." if newest_version.kept.version else ""
            # Later than what it replaces, also where the FHIR server's clock is ahead of this one.
            now = max(now, min(newest_version.last_update, _LATEST) + timedelta(seconds=1))

        changed_document = {
            **document,
            "meta": {"versionId": f"{number}{_REVOKED}", "lastUpdated": now.isoformat(timespec="milliseconds")},
            "status": "inactive",
            REVOKED: True,
        }
        incoming = dataclasses.replace(read_incoming(changed_document), patients=(*own_names, *request.patients))
        new_versions = self.keep([incoming])
        self._act_on(new_versions)
        if len(new_versions) > 1:
            raise _two_patients(new_versions)

        return new_versions[0]

    def _addressing(self) -> Addressing:
        def looks_alike(key: str) -> bool:
            return self.ledger.is_near(key) and not self.ledger.knows(key)

        return Addressing(self.patients(), self.ledger.knows, looks_alike, self.store.pseudonyms)

    def _verdict(self, resource: Resource) -> Verdict:
        return state(resource, Question(self.policy, self.purpose, self.clock())).verdict

    def _own_names(self, request: RevokeRequest) -> tuple[str, ...]:
        """The names under which the patient of the request lies, of all whom the consent names; empty: another one."""
        addressing = self._addressing()
        normal_keys = [addressing.patients.normal(key) for key in request.patients]
        own = [
            patient
            for patient in sorted(self.store.patients_of(request.consent))
            if addressing.is_of(patient, request.patients) or self.store.is_also(patient, normal_keys)
        ]
        names = [self.store.key_of(patient) for patient in own]

        return tuple(name for name in names if name is not None)

    def _act_on(self, kept: Sequence[Kept]) -> None:
        self.settling.settle_these({version.patient for version in kept})

    def settle(self) -> int:
        """Weigh all that was not weighed; see `Settling.settle`."""
        return self.settling.settle()

    def weigh_again(self) -> int:
        """Weigh again what a date may have changed; see `Settling.weigh_again`."""
        return self.settling.weigh_again()

    def steward_list(self) -> tuple[StewardItem, ...]:
        """What a person must look at; see `unclear.steward_list`."""
        return steward_list(self.ledger, self.store, self.patients())


def _two_patients(kept: Sequence[Kept]) -> TwoPatientsError:
    error = TwoPatientsError(f"{_DISAGREE}; {_HELD}")
    error.version = kept[0]
    return error
