"""Qualifications in the coordinator's folder: the signed register of each, how far it is, and what it found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ValidationError

from common.errors import InputError, RefusedError
from common.evidence import dsse
from common.evidence.keys import SigningKey
from common.files import write_text
from common.learning.evaluation.qualification.plan import QualificationPlan
from server.campaign.qualification.folder_journal import FolderJournal
from server.campaign.qualification.register import Register
from server.campaign.qualification.result import Result

REGISTER_TYPE = "application/vnd.fedforget.qualification+json"
_ENVELOPE = "register.dsse.json"
_STANDING = "standing.json"


class Requested(BaseModel):
    """What a person asked for; the register is made of it once the sites have said how many patients they have."""

    plan: QualificationPlan
    lineage: str
    """First version of the line of campaigns."""
    at: AwareDatetime


class Standing(BaseModel):
    """How far a qualification is; one that was stopped is never gone on with."""

    run: int | None = None
    """Flower's run id, as the signed number of the same bits."""
    series: int | None = None
    stopped: str = ""
    tries: int = 0
    retry_at: AwareDatetime | None = None
    waves: int = 0
    of: int = 0
    seconds_left: float | None = None
    waits: str = ""
    """Why it does not go on at the moment."""


@dataclass(frozen=True, slots=True)
class QualificationStore:
    """A folder for each, named by its number."""

    root: Path
    clock: Callable[[], datetime]

    def numbers(self) -> list[int]:
        """All that were asked for, the oldest first; failed ones too."""
        if not self.root.is_dir():
            return []
        numbers = sorted(int(path.name) for path in self.root.iterdir() if path.name.isdigit())
        # A folder without a request was being made when its process ended.
        return [number for number in numbers if self.journal(number).body("request", Requested) is not None]

    def last_result(self) -> Result | None:
        """Of the last qualification that was judged, also one that failed."""
        results = (self.result(number) for number in reversed(self.numbers()))
        return next((result for result in results if result is not None), None)

    def request(self, plan: QualificationPlan, lineage: str) -> int:
        """Ask for a qualification; its number.

        Raises:
            RefusedError: another one is open, or all attempts of this lineage are spent.
        """
        if (running := self.open()) is not None:
            raise RefusedError(f"qualification {running} is open: wait for its end, or stop it")
        if self.attempts(lineage) >= plan.attempts:
            raise RefusedError(
                f"{plan.attempts} attempt(s) for the models that descend from {lineage} were made, and no more were "
                "registered: qualification.attempts allows two at most, and a retraining begins anew"
            )
        number = max(self.numbers(), default=0) + 1
        self.journal(number).put("request", Requested(plan=plan, lineage=lineage, at=self.clock()))

        return number

    def register(self, number: int, register: Register, key: SigningKey) -> None:
        """Write and sign what is fixed before the first rehearsal."""
        envelope = dsse.encode_envelope(dsse.sign(REGISTER_TYPE, register.document, key)).decode()
        write_text(self.root / str(number) / _ENVELOPE, envelope)
        # After the signature: once this step is there, the rehearsals may begin.
        self.journal(number).put("register", register)

    def journal(self, number: int) -> FolderJournal:
        """Finished steps of one."""
        return FolderJournal(self.root / str(number))

    def requested(self, number: int) -> Requested:
        """What was asked for.

        Raises:
            InputError: there is no such qualification.
        """
        request = self.journal(number).body("request", Requested)
        if request is None:
            raise InputError(f"there is no qualification {number}", remedy="see `fedforget-server qualify show`")
        return request

    def registered(self, number: int) -> Register | None:
        """What was fixed beforehand; None until the sites have said how many patients they have."""
        return self.journal(number).body("register", Register)

    def result(self, number: int) -> Result | None:
        """What it found; None before its end."""
        return self.journal(number).body("result", Result)

    def standing(self, number: int) -> Standing:
        """How far it is."""
        try:
            return Standing.model_validate_json((self.root / str(number) / _STANDING).read_bytes())
        except (OSError, ValidationError):
            return Standing()

    def stand(self, number: int, **changes: object) -> None:
        """Change how far it is."""
        standing = self.standing(number).model_copy(update=changes)
        write_text(self.root / str(number) / _STANDING, standing.model_dump_json())

    def open(self) -> int | None:
        """The one that is neither finished nor stopped."""
        for number in reversed(self.numbers()):
            if self.result(number) is None and not self.standing(number).stopped:
                return number
        return None

    def stop(self, number: int, reason: str) -> None:
        """End it; it stays on record, and counts as an attempt once it was registered."""
        self.stand(number, stopped=reason, waits="")
        self.clean(number)

    def clean(self, number: int) -> None:
        """Delete the candidates' weights that a wave left."""
        self.journal(number).drop_weights("wave-")

    def attempts(self, lineage: str) -> int:
        """Qualifications of a lineage that were registered, however they ended."""
        return sum(
            self.requested(number).lineage == lineage and self.registered(number) is not None
            for number in self.numbers()
        )

    def latest(self) -> tuple[int, Result] | None:
        """The newest finished one, whatever it found: an earlier success does not outlive a failure."""
        for number in reversed(self.numbers()):
            if (result := self.result(number)) is not None:
                return number, result
        return None
