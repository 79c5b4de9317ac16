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

import numpy as np
import torch
from scipy.stats import binom
from sqlalchemy import insert

from client.cohort.site import Site
from client.cohort.site_consent import SiteConsent
from client.intake.fhir.resources import read_incoming
from client.intake.fhir.store.tables import ConsentRow
from client.intake.grpc.service import MOST_CHECKED
from client.intake.grpc_api import consent_pb2 as messages
from client.intake.grpc_client import ConsentClient
from client.revocations.opening import open_ledger
from client.revocations.revocation import Request, Source
from client.revocations.tombstones.pseudonyms import Pseudonyms
from client.settings import SiteFolder
from common.files import write_text
from common.learning.data.tensors import StudyTensors
from common.learning.micro_batches import forward
from common.learning.model.image_text import ImageTextModel
from common.learning.records import Subset
from common.platform.sql import transaction
from simulations.bench.hospital.consent_hospital import ConsentHospital
from simulations.run.prepare import prepare
from simulations.run.settings import load_settings

CLIENTS = 8
EPOCHS = 2000
WARM_UP = 20
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
            client.check("nobody")
            ready.wait()

            while True:
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


@dataclass(frozen=True, slots=True)
class Paired:
    """The median of paired differences, in seconds, with an interval of at least 95 %."""

    median: float
    low: float
    high: float

    def share(self, whole: float) -> str:
        """In per cent of `whole`."""
        low, middle, high = (100 * each / whole for each in (self.low, self.median, self.high))
        return f"{middle:.2f} % ({low:.2f} to {high:.2f})"


def paired(before: Sequence[float], after: Sequence[float]) -> Paired:
    """`after` less `before`, pair by pair.

    The interval lies between two of the ordered differences, by the sign test, which assumes no distribution:
    https://en.wikipedia.org/wiki/Sign_test
    """
    differences = sorted(b - a for a, b in zip(before, after, strict=True))
    outside = max(int(binom.ppf(0.025, len(differences), 0.5)) - 1, 0)
    return Paired(statistics.median(differences), differences[outside], differences[-1 - outside])


def bench_loader(folder: Path, epochs: int) -> str:
    """Compare an epoch of the training loader with and without a look at the ledger before every batch.

    Three loaders read the same studies in the same order: with the ledger, without, and without again, which shows the
    error of the measurement. Their order rotates, so that other load on the machine affects all of them. CPU time is
    measured, because waiting for other processes takes much longer than the difference.
    """
    torch.set_num_threads(1)
    settings = ["data.image_size=224"]
    hospitals = {"sites": 2, "patients": 96, "image_size": 256}
    config = load_settings(None, settings, {"forget": 6, "hospitals": hospitals})
    preparation = prepare(config, folder, lambda *_: None)
    place = preparation.site_folder(preparation.sites[0])
    site = Site(place)

    with open_ledger(SiteFolder(place)) as ledger:
        request = Request(Source("list", "many"), "many", ledger.clock())
        # One patient is in the cohort, so that every batch is compared with the stopped patients.
        patients = [min(site.patients(Subset.VALIDATION)), *(f"stranger-{number}" for number in range(1000))]
        ledger.record(request, patients, also_unknown=True)

    studies = site.cohort.of(site.patients(Subset.TRAIN)).studies
    asks = (None, SiteConsent(SiteFolder(place), site.cohort.patients).stopped, None)
    without, with_ledger, again = _in_turns(
        [StudyTensors(studies, site.cache, site.tokenizer, each) for each in asks], epochs
    )
    training = _training_epoch(preparation.card.build(), StudyTensors(studies, site.cache, site.tokenizer))
    overhead = paired(without, with_ledger)
    itself = paired(without, again)
    whole = statistics.median(without)

    return f"""The ledger is asked before every batch that weights learn from, a thousand tombstones on the disk. The
same epoch of {len(studies)} studies of 224 x 224 in batches of 16, {epochs} times with the ledger and {epochs} times
without, in turns; time of one core, medians of the paired differences with intervals of 95 %. The aim is under 2 %.

| what the ledger adds | |
|---|---|
| to an epoch | {1e6 * overhead.median:.0f} us ({1e6 * overhead.low:.0f} to {1e6 * overhead.high:.0f}) |
| of what the loader alone takes to copy it from the image cache ({1000 * whole:.1f} ms) | {overhead.share(whole)} |
| of an epoch of training the smallest model ({training:.1f} s) | {overhead.share(training)} |
| the measure itself: the loader without the ledger, against the same once more | {itself.share(whole)} |
"""


def _in_turns(loaders: Sequence[StudyTensors], epochs: int) -> list[list[float]]:
    """CPU seconds of every epoch of each loader; their order rotates."""
    took: list[list[float]] = [[] for _ in loaders]

    for epoch in range(-WARM_UP, epochs):
        for turn in range(len(loaders)):
            which = (epoch + turn) % len(loaders)
            rng = np.random.default_rng(abs(epoch))
            begin = time.thread_time()
            for _batch in loaders[which].shuffled(16, torch.device("cpu"), rng):
                pass
            if epoch >= 0:
                took[which].append(time.thread_time() - begin)

    return took


def _training_epoch(model: ImageTextModel, studies: StudyTensors) -> float:
    """CPU seconds of one epoch of forward and backward passes."""
    begin = time.thread_time()
    for batch in studies.shuffled(16, torch.device("cpu"), np.random.default_rng(0)):
        torch.autograd.backward(forward(model, batch).logits.sum())
    return time.thread_time() - begin


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
