"""A list so long that the database makes its rows is recorded like a short one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import pytest

from client.revocations import ledger as ledger_module
from client.revocations.ledger import Ledger
from client.revocations.revocation import Request, Source
from client.revocations.tombstones import file as tombstone_file
from client.revocations.tombstones.file import TombstoneFile

Asked = Callable[..., Request]
Opening = Callable[[], AbstractContextManager[Ledger]]
LISTED = ["p-0", "P-1", "p-2", *(f"stranger-{number}" for number in range(30))]


def everything(ledger: Ledger) -> list[Any]:
    """Every row and step, but for numbers."""
    rows = [replace(standing, number=0) for standing in ledger.standing()]
    return [rows, [replace(event, revocation=0) for event in ledger.history("r-1")]]


@pytest.mark.parametrize("more", [{}, {"kind": "opt-out", "scope": "images", "policies": ("b", "a")}])
def test_the_database_makes_the_same_rows_as_the_program(
    ledger: Ledger, opening: Opening, asked: Asked, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any]
) -> None:
    ledger.record(asked("r-0"), ["p-2"])
    ledger.record(asked("r-1", source=Source("list", "r-1"), **more), LISTED, also_unknown=True)
    by_program = everything(ledger)
    monkeypatch.setattr(ledger_module, "MANY", 2)
    ledger.record(asked("r-2", source=Source("list", "r-2"), **more), [f"x{one}" for one in LISTED], also_unknown=True)
    by_program[0] += [row for row in everything(ledger)[0] if row.receipt == "r-2"]
    assert everything(ledger)[0] == by_program[0]
    of_program = {s.pseudonym: s for s in ledger.standing("r-1")}
    for patient in ("stranger-3",):
        made = ledger.of_patient(f"x{patient}")[0]
        like = of_program[ledger.pseudonyms.of(patient)]
        of_another = replace(like, number=made.number, receipt=made.receipt, pseudonym=made.pseudonym)
        assert made == replace(of_another, source=made.source)
    steps = [(event.seq, event.state, event.actor, event.due, event.remediation) for event in ledger.history("r-2")]
    assert len(steps) == 2 * len(ledger.standing("r-2"))
    assert {step[:3] for step in steps} >= {(1, "received", "fedforget"), (2, "excluded-before-training", "fedforget")}
    with opening() as again:
        assert everything(again) == everything(ledger)


@pytest.mark.parametrize("size", [1, 64, 2**20])
def test_tombstones_are_read_block_by_block_as_they_are_at_once(
    ledger: Ledger, asked: Asked, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(tombstone_file, "_LINES_AT_ONCE", 7)
    ledger.record(asked("r-1"), LISTED, also_unknown=True)
    whole = ledger.stones.read()
    monkeypatch.setattr(tombstone_file, "_BLOCK_BYTES", size)
    assert ledger.stones.read() == whole
    with ledger.stones.path.open("ab") as file:
        file.write(b"stop 00")
    assert TombstoneFile(ledger.stones.path, ledger.pseudonyms.check).read() == whole
