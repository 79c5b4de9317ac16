"""Which file of a dossier answers which legal duty. docs/compliance.md shows the same table."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Side = Literal["coordinator", "site"]


@dataclass(frozen=True, slots=True)
class Duty:
    """A duty of the law, and the files of each side's dossier that answer it."""

    law: str
    duty: str
    coordinator: tuple[str, ...]
    site: tuple[str, ...]

    def files(self, side: Side) -> tuple[str, ...]:
        """The files of one side."""
        return self.coordinator if side == "coordinator" else self.site


DUTIES: Sequence[Duty] = (
    Duty(
        "GDPR Art. 7(3)",
        "a withdrawal of consent takes effect, and is as easy as consenting",
        ("attestation.json", "events.json"),
        ("record.json", "leaf-revocation.json", "leaf-tombstone.json"),
    ),
    Duty(
        "GDPR Art. 12(3)",
        "an answer within one month; an extension with its reason within that month",
        ("events.json",),
        ("record.json",),
    ),
    Duty(
        "GDPR Art. 17",
        "erasure without undue delay; a refusal under Art. 17(3) as a decision with its reason",
        ("attestation.json", "deletions.json", "version.json"),
        ("record.json", "attestation.json", "deletions.json", "leaf-access-closed.json"),
    ),
    Duty(
        "GDPR Art. 19",
        "each recipient is told of the erasure; the patient learns who they are on request",
        ("recipients.json",),
        ("recipients.json",),
    ),
    Duty(
        "AI Act Art. 12",
        "events are recorded automatically over the lifetime of the system",
        ("events.json", "leaves.jsonl", "checkpoint.json", "bundle.json"),
        ("record.json", "leaf-revocation.json", "leaf-ended.json"),
    ),
    Duty(
        "AI Act Art. 19",
        "these logs are kept, at least six months, and can be shown",
        ("leaves.jsonl", "keys.json", "bundle.json"),
        ("leaf-revocation.json", "keys.json"),
    ),
    Duty(
        "EDPB Opinion 28/2024",
        "a claim that a model is anonymous is documented, with the attacks that it was tested against",
        ("attacks.json", "limits.json", "training.json"),
        ("attacks.json", "limits.json", "training.json"),
    ),
)


def duties_of(side: Side, present: Collection[str], missing: Mapping[str, str]) -> list[dict[str, object]]:
    """The table of one dossier: files that are in it, and why the others are not."""
    return [
        {
            "law": duty.law,
            "duty": duty.duty,
            "files": [name for name in duty.files(side) if name in present],
            "absent": {
                name: missing.get(name, "the log has no such entry, or nobody has co-signed it yet")
                for name in duty.files(side)
                if name not in present
            },
        }
        for duty in DUTIES
    ]
