"""Kills a consent service at random moments while eight clients send revocations, and counts what is there afterwards.

    python -m simulations.bench.hospital.consent_kills --kills 200 --write docs/results/kill-consent.md

A client sends a revocation again until it is acknowledged, as `ConsentClient` asks its callers to. The hospital's log
is kept by another process's code meanwhile, as `fedforget-site up` has it.
"""

from __future__ import annotations

import argparse
import contextlib
import platform
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import text

from client.evidence.event_log import SiteLog
from client.intake.grpc_client import ConsentClient
from client.revocations.ledger import Ledger
from client.revocations.opening import open_ledger
from client.revocations.revocation import RevocationStatus
from client.revocations.vault import Vault
from common.errors import EvidenceError, FedForgetError, UnavailableError
from common.evidence.commitment import check_commitment
from common.files import write_text
from common.platform.event_log.check import problems
from simulations.bench.hospital.consent_hospital import ConsentHospital

CLIENTS = 8
_PREFIX = "killed"
_LONGEST_LIFE = 1.0
"""Seconds for which a service that has come up lives at most."""
_DOCUMENT_EVERY = 4


@dataclass(slots=True)
class Sent:
    """What the clients know: receipts by number of the patient, and how often they sent."""

    receipts: dict[int, str] = field(default_factory=dict)
    numbers: set[int] = field(default_factory=set)
    tries: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was counted; `problems` is empty when all held."""

    kills: int
    acknowledgements: int
    retries: int
    leaves: int
    seconds: float
    problems: tuple[str, ...]


def run(root: Path, kills: int, rng: random.Random) -> Outcome:
    """Kill the service `kills` times in a new folder `root`, and look at everything that it left.

    Args:
        rng: draws when each service is killed.
    """
    begin = time.monotonic()
    hospital = ConsentHospital(
        root, prefix=_PREFIX, patients=200 * (kills + 1), service="calls_per_second = 1e6\nburst = 1e6"
    )
    log = Sent()
    stop = threading.Event()
    lock = threading.Lock()
    numbers = iter(range(200 * (kills + 1)))

    def next_number() -> int:
        with lock:
            number = next(numbers)
            # Noted before it is sent: one that was killed on the way may be in the ledger, and must not count as
            # nobody's.
            log.numbers.add(number)
            return number

    def send() -> None:
        number = next_number()
        while not stop.is_set():
            # A channel that has failed waits before it connects again; a new one does not.
            with contextlib.suppress(UnavailableError), hospital.client("ehr-1") as client:
                while not stop.is_set():
                    with lock:
                        log.tries += 1
                    receipt = _send(client, number)
                    with lock:
                        log.receipts[number] = receipt
                    number = next_number()

    hospital.start()
    threads = [threading.Thread(target=send, name=f"client-{number}") for number in range(CLIENTS)]
    threads.append(threading.Thread(target=_follow, args=(hospital, stop), name="log"))
    for thread in threads:
        thread.start()
    try:
        for _ in range(kills):
            hospital.prepare()
            time.sleep(rng.uniform(0.0, _LONGEST_LIFE))
            hospital.kill()
            hospital.start()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        hospital.stop()

    problem_texts, leaves = _examined(hospital, log)
    count = len(log.receipts)

    return Outcome(kills, count, log.tries - count, leaves, time.monotonic() - begin, tuple(problem_texts))


def _send(client: ConsentClient, number: int) -> str:
    answer = client.revoke(f"{_PREFIX}-{number}", source_id=f"form-{number}", document=_document(number))
    return answer.revocation.receipt


def _follow(hospital: ConsentHospital, end: threading.Event) -> None:
    """Keep the hospital's log, as its coordination process does."""
    while not end.wait(0.3):
        with open_ledger(hospital.folder) as ledger:
            _log_of(hospital, ledger).follow()


def _examined(hospital: ConsentHospital, sending: Sent) -> tuple[list[str], int]:
    with open_ledger(hospital.folder) as ledger:
        log = _log_of(hospital, ledger)
        log.follow()
        with log.session() as session:
            problem_texts = problems(log.log, session, log.key().public)
            leaves = len(log.log.leaves(session))

        with ledger.engine.connect() as connection:
            sound = connection.execute(text("pragma integrity_check")).scalar()
        problem_texts += [] if sound == "ok" else [f"the database: {sound}"]
        standing = ledger.standing()
        problem_texts += _recorded_once(ledger, standing, sending)
        problem_texts += _whole(hospital, ledger, standing)

    return problem_texts, leaves


def _log_of(hospital: ConsentHospital, ledger: Ledger) -> SiteLog:
    return SiteLog(hospital.folder, ledger.engine, lambda: datetime.now(UTC))


def _recorded_once(ledger: Ledger, standing: Sequence[RevocationStatus], sending: Sent) -> Iterator[str]:
    """Every acknowledged one once and under its receipt; of those without an answer none twice; and no others."""
    # A tombstone whose commit was lost comes back as a record of its own kind, without a source.
    whole = [s for s in standing if s.source.kind != "restored"]
    times = Counter(s.source.id for s in whole)
    receipts = {s.source.id: s.receipt for s in whole}
    if len({s.pseudonym for s in standing}) != len(standing):
        yield "a patient with two records"
    for number, receipt in sending.receipts.items():
        source = f"ehr-1/form-{number}"
        if times[source] != 1 or receipts.get(source) != receipt:
            yield f"an acknowledged revocation is there {times[source]} times"
        if not ledger.is_stopped(f"{_PREFIX}-{number}"):
            yield "an acknowledged revocation has no tombstone"

    sources = {f"ehr-1/form-{number}" for number in sending.numbers}
    yield from (f"{count} times one that was not acknowledged" for count in times.values() if count > 1)
    yield from ("one that nobody sent" for source in times if source not in sources)


def _whole(hospital: ConsentHospital, ledger: Ledger, standing: Sequence[RevocationStatus]) -> Iterator[str]:
    """No record is torn: its patient opens, its steps are all there, its document opens its commitment."""
    names = ledger.identifiers()
    vault = Vault(hospital.folder.vault, random.randbytes)
    if {path.name for path in vault.folder.iterdir()} - {s.receipt for s in standing}:
        yield "a document without a record"
    patients = ledger.stopped()
    for s in standing:
        if s.source.kind == "restored":
            continue  # killed between tombstone and commit, and not sent again before the end: it has no details
        number = int(s.source.id.rpartition("-")[2])
        if names.get(s.pseudonym) != f"{_PREFIX}-{number}" or s.pseudonym not in patients:
            yield "a record whose patient does not open, or has no tombstone"
        if [event.seq for event in ledger.history(s.receipt) if event.revocation == s.number] != [1, 2]:
            yield "a record without its steps"
        stored_form = vault.opened(s.receipt)
        document = _document(number)

        try:
            if document and stored_form is not None:
                check_commitment(document, stored_form.salt, s.source.digest)
            elif document or stored_form is not None or s.source.digest:
                yield "a record without its document"
        except EvidenceError:
            yield "a document that does not open its commitment"


def _document(number: int) -> bytes:
    return f"form {number}, signed".encode() * 50 if number % _DOCUMENT_EVERY == 0 else b""


def report(outcome: Outcome) -> str:
    """As Markdown."""
    verdict = "none" if not outcome.problems else f"{len(outcome.problems)}: {outcome.problems[0]}"
    return f"""# A consent service that is killed

Command:
`python -m simulations.bench.hospital.consent_kills --kills {outcome.kills} --write docs/results/kill-consent.md`,
which is part of `make soak`. Python {platform.python_version()}, SQLite, one machine. {CLIENTS} clients send
revocations over gRPC, a quarter of them with a document; the service gets SIGKILL at a random moment within a second of
coming up, and is started again.

| what | number |
|---|---|
| kills | {outcome.kills} |
| revocations acknowledged | {outcome.acknowledgements} |
| sent without an answer, and sent again | {outcome.retries} |
| leaves of the log | {outcome.leaves} |
| seconds | {outcome.seconds:.0f} |
| **problems** | **{verdict}** |

A problem would be: an acknowledged revocation that is not there exactly once and under its receipt, or has no
tombstone; one that is there twice; a record without its steps, whose patient's sealed identifier does not open, or
whose document does not open its commitment; a database that SQLite finds damaged; a log in which a leaf, a checkpoint
or a signature does not hold. SIGKILL ends a process, not the machine: what a disk has not written at a power failure
is for `fsync`, which both the tombstones and SQLite (`synchronous = full`) call before an answer goes out.
"""


def main() -> None:
    """Run, print, and end with 1 if anything did not hold."""
    parser = argparse.ArgumentParser(prog="python -m simulations.bench.hospital.consent_kills")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", type=Path, help="Markdown file")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        try:
            outcome = run(Path(folder) / "north", arguments.kills, random.Random(arguments.seed))  # noqa: S311 - no secret
        except FedForgetError as err:
            sys.exit(str(err))

    text = report(outcome)
    if arguments.write:
        write_text(arguments.write, text)
    sys.stdout.write(text)
    sys.exit(bool(outcome.problems))


if __name__ == "__main__":
    main()
