"""`make bench-consent`: what a hospital's consent service does in a second, and what its ledger costs the loader.

Every figure is taken through the service as it runs at a hospital: its own process, mutual TLS, SQLite on the disk.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import insert

from client.intake.fhir.resources import read_incoming
from client.intake.fhir.store.tables import ConsentRow
from client.intake.grpc.service import MOST_CHECKED
from client.intake.grpc_api import consent_pb2 as messages
from client.intake.grpc_client import ConsentClient
from client.revocations.opening import open_ledger
from client.revocations.tombstones.pseudonyms import Pseudonyms
from common.files import write_text
from common.platform.sql import transaction
from simulations.bench.hospital.consent_hospital import ConsentHospital
from simulations.bench.hospital.loader_bench import bench_loader

CLIENTS = 8
EPOCHS = 2000
_PREFIX = "bench"
_ROWS_AT_ONCE = 20_000
_NO_LIMIT = "calls_per_second = 1e6\nburst = 1e6"
_FORM = b"a signed form of two pages" * 2000


@dataclass(frozen=True, slots=True)
class Rate:
    """Calls of several clients at once: how many a second, and how long one took, in milliseconds.

    Attributes:
        cpu: milliseconds of a core that the service spent on one, which other work on the machine changes least.
    """

    clients: int
    calls: int
    per_second: float
    median: float
    p99: float
    cpu: float

    def row(self, what: str) -> str:
        """A row of the table."""
        rate = f"{self.per_second:.0f}" if self.per_second >= 10 else f"{self.per_second:.1f}"
        return f"| {what} | {self.clients} | {rate} | {self.median:.1f} ms | {self.p99:.1f} ms | {self.cpu:.1f} ms |"


def timed(hospital: ConsentHospital, call: Callable[[ConsentClient, int], object], clients: int, calls: int) -> Rate:
    """Let `clients` make `calls` calls in all, each over a connection of its own."""
    numbers = iter(range(calls))
    lock = threading.Lock()
    took = list[float]()
    ready = threading.Barrier(clients + 1)

    def work() -> None:
        own = []
        with hospital.client("desk") as client:
            # The connection stands before the clock starts.
            client.check("nobody")
            ready.wait()

            while True:
                # Clients take the next number from one list, so that a slow one does not hold up the end.
                with lock:
                    number = next(numbers, None)
                if number is None:
                    break
                begin = time.perf_counter()
                call(client, number)
                own.append(time.perf_counter() - begin)

        with lock:
            took.extend(own)

    threads = [threading.Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    ready.wait()
    begin = time.perf_counter()
    cpu = _cpu_seconds(hospital.pid)
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - begin
    cpu_per_call = (_cpu_seconds(hospital.pid) - cpu) / len(took)
    cuts = statistics.quantiles(took, n=100)

    return Rate(
        clients, len(took), len(took) / seconds, 1000 * statistics.median(took), 1000 * cuts[98], 1000 * cpu_per_call
    )


def _cpu_seconds(pid: int) -> float:
    """User and system time of a process, see proc(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def bench_revocations(folder: Path, calls: int, before: Path | None) -> list[str]:
    """Durable revocations by one client and by eight, without and with a form of 52 kB.

    Args:
        before: checkout of an earlier release, whose service is measured in turns with this one's.
    """
    services: list[tuple[str, str, Path | None]] = [
        ("each commit by itself", f"{_NO_LIMIT}\ncommit_together = 1", None),
        ("commits together", _NO_LIMIT, None),
    ]
    if before is not None:
        services.insert(0, ("the earlier release", _NO_LIMIT, before))
    rows = []

    for clients, form in ((1, b""), (CLIENTS, b""), (CLIENTS, _FORM)):
        for number, (how, service, code) in enumerate(services):
            place = folder / f"{clients}-{len(form)}-{number}"
            hospital = ConsentHospital(place, prefix=_PREFIX, patients=calls, service=service, code=code)
            hospital.start()

            def revoke(client: ConsentClient, number: int, form: bytes = form) -> None:
                client.revoke(f"{_PREFIX}-{number}", source_id=f"form-{number}", document=form)

            rate = timed(hospital, revoke, clients, calls)
            hospital.stop()
            rows.append(rate.row(f"RevokeConsent, {'with a form of 52 kB' if form else 'without a form'}, {how}"))

    return rows


def bench_permissions(folder: Path, consents: int, calls: int) -> list[str]:
    """CheckPermission with `consents` consents on file, each of another patient of the cohort."""
    hospital = ConsentHospital(folder, prefix=_PREFIX, patients=consents, service=_NO_LIMIT)
    begin = time.monotonic()

    with open_ledger(hospital.folder) as ledger:
        rows = _consents(consents, ledger.pseudonyms)
        # Into the database directly: a million calls of the service would take hours.
        while some := [row for row, _ in zip(rows, range(_ROWS_AT_ONCE), strict=False)]:
            with transaction(ledger.engine) as session:
                session.execute(insert(ConsentRow), some)

    sys.stderr.write(f"{consents} consents on file after {time.monotonic() - begin:.0f} s\n")
    hospital.start()
    rng = random.Random(0)  # noqa: S311 - keeps no secret
    patients = [f"{_PREFIX}-{rng.randrange(consents)}" for _ in range(calls)]
    permission = messages.CheckPermissionReply.PERMISSION_PERMITTED

    def check(client: ConsentClient, number: int) -> None:
        if client.check(patients[number]).permission != permission:
            raise ValueError("a patient who consented is not permitted")

    def check_many(client: ConsentClient, number: int) -> None:
        some = [patients[(number + place) % len(patients)] for place in range(MOST_CHECKED)]
        if any(reply.permission != permission for reply in client.check_all(some)):
            raise ValueError("a patient who consented is not permitted")

    rates = [timed(hospital, check, clients, calls).row("CheckPermission") for clients in (1, CLIENTS)]
    batches = max(calls // 100, 8)
    rates += [
        timed(hospital, check_many, clients, batches).row(f"CheckPermissions, {MOST_CHECKED} patients a call")
        for clients in (1, CLIENTS)
    ]
    hospital.stop()

    return rates


def _consents(number: int, pseudonyms: Pseudonyms) -> Iterator[dict[str, object]]:
    now = datetime.now(UTC)
    for each in range(number):
        patient = f"{_PREFIX}-{each}"
        incoming = read_incoming(_consent(each, patient))
        yield {
            "resource": incoming.resource,
            "version": incoming.version,
            "digest": incoming.digest,
            "patient": pseudonyms.of(patient),
            "status": incoming.status,
            "updated": incoming.updated,
            "received": now,
            "receipt": f"{each:016x}",
            "document": incoming.document,
            "weighed": now,
        }


def _consent(number: int, patient: str) -> dict[str, object]:
    permit = {"system": "urn:oid:2.16.840.1.113883.3.1937.777.24.5.3", "code": "2.16.840.1.113883.3.1937.777.24.5.3.8"}
    return {
        "resourceType": "Consent",
        "id": f"c-{number}",
        "meta": {"versionId": "1", "lastUpdated": "2026-01-05T10:00:00Z"},
        "status": "active",
        "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "research"}]},
        "category": [{"coding": [{"system": "http://loinc.org", "code": "57016-8"}]}],
        "patient": {"reference": f"Patient/{patient}"},
        "dateTime": "2026-01-05T10:00:00Z",
        "policy": [{"uri": "https://hospital.example/research-consent"}],
        "provision": {"type": "permit", "code": [{"coding": [permit]}]},
    }


def _machine() -> str:
    cores = os.cpu_count() or 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = os.getloadavg()[0]
    return (
        f"{cores} cores with a load of {load:.0f}, {memory:.0f} GiB, Python {platform.python_version()}, "
        "SQLite on the machine's own disk"
    )


def report(rows: Sequence[str], loader: str, consents: int) -> str:
    """Format the page as Markdown."""
    head = f"""# The consent service in figures

Command: `make bench-consent`. {_machine()};
service and clients share the machine. A revocation counts when its answer came: the tombstone and the ledger are on the
disk by then, each with a call of `fsync`. {consents:,} consents are on file for CheckPermission, and the rule weighs
those of the patient who is asked about at each call.

The last column is the time of a core that the service itself spent on a call.

| call | clients | a second | median | 99th percentile | CPU |
|---|---|---|---|---|---|
"""
    return head + "\n".join(rows) + "\n\n" + loader


def main() -> None:
    """Run the benchmarks and print a page in Markdown."""
    parser = argparse.ArgumentParser(prog="python -m simulations.bench.hospital.consent_bench")
    parser.add_argument("--write", type=Path, help="Markdown file")
    parser.add_argument("--consents", type=int, default=1_000_000)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of the loader; 0 leaves it out")
    parser.add_argument("--before", type=Path, help="checkout of an earlier release, measured in the same run")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        rows = bench_revocations(Path(folder), arguments.calls, arguments.before)
        loader = bench_loader(Path(folder) / "loader", arguments.epochs) if arguments.epochs else ""
        rows += bench_permissions(Path(folder) / "consents", arguments.consents, 2 * arguments.calls)

    text = report(rows, loader, arguments.consents)
    if arguments.write:
        write_text(arguments.write, text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
